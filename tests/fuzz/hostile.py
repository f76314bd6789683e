"""Streams of a few bytes that claim much: each with right CRCs, and of a kind that once took minutes or gigabytes.

python -m tests.fuzz.hostile STREAM...    opens streams in every way: seconds, MiB and how it ended, as JSON lines
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from pc15.bitstream import Header, PlaneSpec, Stream, pack_v15, write_container
from pc15.bitstream.alphabets import Syntax
from pc15.bitstream.header import COLOR_YCBCR420, tile_counts
from pc15.bitstream.ports import Writer
from pc15.bitstream.programs import Programs
from pc15.bitstream.sections import code_section
from pc15.entropy.tables import load_table
from pc15.errors import Pc15Error
from pc15.proc.codebook import GRID_ID, load_codebook
from pc15.quant import middle_level

MIB = 1 << 20
FLAT = PlaneSpec(tile=0, overlap=0, window=0, subsample=0, amp_step=0, dc_step=0, residual=20)
FLAT_HALF = PlaneSpec(tile=0, overlap=0, window=0, subsample=1, amp_step=0, dc_step=0, residual=20)


def spec(tile: int, overlap: int) -> PlaneSpec:
    """A plane's tiles."""
    return PlaneSpec(tile=tile, overlap=overlap, window=0, subsample=0, amp_step=24, dc_step=24)


def flat(side: int, color: int) -> bytes:
    """Grey, of any size in some 30 bytes."""
    planes = (FLAT, FLAT_HALF, FLAT_HALF) if color == COLOR_YCBCR420 else (FLAT,)
    return write_container(Stream(Header(side, side, color, planes), [], residuals=[b""] * len(planes)))


def programs(width: int, height: int, own: PlaneSpec, layers: Callable[[int, int], np.ndarray]) -> bytes:
    """A sound stream whose tiles have as many layers as `layers` says of its rows and columns of tiles."""
    header = Header(width, height, 0, (own,))
    (ny, nx), codebook = tile_counts(header, 0), load_codebook(GRID_ID)
    every = Programs.empty(ny * nx)
    every.dc[:] = middle_level(own.dc_step)
    every.count[:] = layers(ny, nx).reshape(-1)
    there = np.arange(every.gen.shape[1]) < every.count[:, None]
    every.gen[there], every.amp[there] = 34, 3
    writer = Writer(load_table(header.table_id))
    code_section(writer, Syntax.of(ny, nx, own.tile, own.amp_step, own.dc_step, False, codebook), every)
    return write_container(Stream(header, [writer.rans_bytes()]))


def headed(header: Header, rest: bytes) -> bytes:
    """A header, and bytes that are not what it announces."""
    return pack_v15(header) + rest


def every(share: int) -> Callable[[int, int], np.ndarray]:
    """One layer in each `share`-th tile."""
    return lambda ny, nx: (np.arange(ny * nx) % share == 0).astype(np.int64)


def streams() -> Iterator[tuple[str, bytes]]:
    """All of them, by what they claim."""
    yield "colour_2p28", flat(1 << 14, COLOR_YCBCR420)
    yield "colour_2p25", flat(5793, COLOR_YCBCR420)
    yield "colour_allowed", flat(4096, COLOR_YCBCR420)
    yield "gray_2p28", flat(1 << 14, 0)
    yield "gray_allowed", flat(4096, 0)
    yield "tiles_2p24_empty", write_container(Stream(Header(1 << 14, 1 << 14, 0, (spec(4, 0),)), [b""]))
    yield "tiles_of_few_pixels", write_container(Stream(Header(2200, 2200, 0, (spec(16, 15),)), [b"\1\2\3\4\5"]))
    under = PlaneSpec(32, 31, 0, 0, 24, 24)
    two = PlaneSpec(16, 15, 0, 0, 24, 24, under=under)
    yield "two_grids", write_container(Stream(Header(2000, 2000, 0, (two,)), [b"\1\2\3\4\5", b"\1\2\3\4\5"]))
    yield "raw_tiles", write_container(Stream(Header(2200, 2200, 0, (spec(16, 15),), payload_fmt=1), [b"\0\0" * 9]))
    yield "sections_2p20", headed(Header(1, 1 << 20, 0, (spec(4, 3),), section_rows=1), b"\5" * 60)
    yield "sections_4000", headed(Header(1, 4000, 0, (spec(4, 3),), section_rows=1), b"\5" * 60)
    residual = PlaneSpec(8, 7, 0, 0, 24, 24, residual=9)
    yield "sections_residual", headed(Header(64, 1 << 17, 0, (residual,), section_rows=1), b"\5" * 60)
    lines = PlaneSpec(4, 3, 0, 0, 24, 24)
    half = PlaneSpec(4, 3, 0, 1, 24, 24)
    yield (
        "sections_4m",
        headed(Header(1, 1 << 20, COLOR_YCBCR420, (lines, half, half), section_rows=1, has_metadata=True), b"\5" * 60),
    )
    sections: list[bytes | None] = [b"\1\2\3\4"] * 1500
    yield "sections_damaged", write_container(Stream(Header(4, 1503, 0, (spec(4, 3),), section_rows=1), sections))
    yield "row_of_busy", programs(1863, 1024, spec(1024, 1023), every(1))
    yield "row_of_few", programs(1863, 1024, spec(1024, 1023), every(200))
    yield "row_of_flat", programs(3000, 1024, spec(1024, 1023), lambda ny, nx: np.zeros((ny, nx), np.int64))
    yield "column_of_busy", programs(1024, 1863, spec(1024, 1023), every(1))
    yield "column_of_few", programs(1024, 1863, spec(1024, 1023), every(200))
    yield "square_of_few", programs(1100, 1100, spec(1024, 1023), every(1500))
    yield "layers_16", programs(1100, 512, spec(512, 508), lambda ny, nx: np.full((ny, nx), 16))
    yield "long_axis", programs(60000, 1, spec(1024, 1020), every(5000))
    yield "small_tiles", programs(300, 300, spec(16, 15), lambda ny, nx: np.zeros((ny, nx), np.int64))


def ways(data: bytes) -> Iterator[tuple[str, Callable[[], object]]]:
    """Every way to open a stream."""
    from PIL import Image

    import pc15
    import pc15.pil
    from pc15.cli import main

    def info() -> None:
        with tempfile.NamedTemporaryFile(suffix=".pc15") as file:
            Path(file.name).write_bytes(data)
            main(["info", file.name, "--json"])

    yield "strict", lambda: pc15.decode(data)
    yield "lenient", lambda: pc15.decode(data, strict=False)
    yield "luma", lambda: pc15.decode_y(data)
    yield "info", info
    yield "pillow", lambda: Image.open(io.BytesIO(data)).load()


def opened(data: bytes) -> Iterator[tuple[str, str, float, float]]:
    """Way, end, seconds of a core and MiB of peak memory so far of all ways to open a stream."""
    from PIL import Image

    for way, work in ways(data):
        began = time.process_time()
        try:
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                work()
        except (Pc15Error, OSError, Image.DecompressionBombError) as error:
            end = type(error).__name__
        else:
            end = "drawn"
        yield way, end, time.process_time() - began, peak_mib()


def peak_mib() -> float:
    """Most memory that this process has had."""
    import resource  # where there is none, streams can still be made

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def main() -> None:
    """Open the files that are named and print what it took; the first line is a small residual, which loads numba."""
    golden = Path(__file__).parents[1] / "golden" / "residual.pc15"
    for path in (golden, golden, *map(Path, sys.argv[1:])):
        data = path.read_bytes()
        for way, end, seconds, peak in opened(data):
            print(json.dumps([path.stem, len(data), way, end, round(seconds, 3), round(peak)]), flush=True)


if __name__ == "__main__":
    main()
