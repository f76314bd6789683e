"""The file of `pc15 encode --stats`: a row of CSV per picture, written as it is done."""

from __future__ import annotations

import csv
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

from pc15.errors import ConfigError

if TYPE_CHECKING:
    from pc15.images import Bytes
    from pc15.plan.write import EncodeResult

__all__ = ["COLUMNS", "Stats"]

COLUMNS = ("source", "stream", "width", "height", "bytes", "bpp", "tiles", "layers", "psnr_y", "ssim_y", "seconds")
"""psnr_y in dB and ssim_y, of the decoded luma; ssim_y is empty below 11x11 pixels."""


class Stats:
    """Context with a CSV to add rows to; without a path, rows go nowhere.

    A file that is there is added to if it has the same columns, as a run with --skip-existing goes on.

    Raises:
        ConfigError: it has others.   OSError: it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: IO[str] | None = None

    def __enter__(self) -> Stats:
        if self._path is not None:
            from pc15.paths import ready_to_write

            ready_to_write(self._path)
            begun = self._path.is_file() and self._path.stat().st_size > 0
            if begun:
                with self._path.open(encoding="utf-8", newline="") as old:
                    found = old.readline(1 << 12).rstrip("\r\n")
                if found != ",".join(COLUMNS):
                    raise ConfigError(f"--stats {self._path} holds something else; give another name, or remove it")
            self._file = self._path.open("a", encoding="utf-8", newline="")
            if not begun:
                self._write(COLUMNS)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._file is not None:
            self._file.close()

    def add(self, source: Path, target: Path, picture: Bytes, coded: EncodeResult, seconds: float) -> None:
        """The row of a picture, uint8 [3,H,W] or [1,H,W], which is decoded for it."""
        if self._file is None:
            return
        from pc15.bitstream import MAX_PIXELS
        from pc15.decoder import decode_y
        from pc15.images import as_luma
        from pc15.metrics import SSIM_WINDOW, psnr, ssim
        from pc15.paths import unicode_name

        height, width = picture.shape[1:]
        y, y_hat = as_luma(picture), decode_y(coded.bitstream, max_pixels=MAX_PIXELS, output="numpy")
        likeness = f"{ssim(y, y_hat):.6f}" if min(height, width) >= SSIM_WINDOW else ""
        stats = coded.stats
        sizes = [width, height, stats["bytes"], f"{coded.bpp:.6f}", stats["tiles"], stats["layers"]]
        quality = [f"{psnr(y, y_hat):.4f}", likeness]
        self._write([unicode_name(source), unicode_name(target), *sizes, *quality, f"{seconds:.4f}"])

    def _write(self, row: object) -> None:
        assert self._file is not None
        csv.writer(self._file, lineterminator="\n").writerow(row)  # type: ignore[arg-type]
        self._file.flush()
