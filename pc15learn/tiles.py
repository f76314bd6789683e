"""Pictures -> tiles.jsonl: where the tiles lie, which split their picture belongs to, and simple statistics.

The split follows from the hash of a picture's bytes, so that no picture is on both sides, whatever its name.  Rows
come picture by picture in the order of sorted paths.  A run that was stopped goes on where it was, and ends with the
same bytes as one that was not; pictures added later are appended.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import io
import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.errors import ConfigError, ImageError, MissingExtraError, SchemaError
from pc15.grids import TileGridCfg, axis_starts
from pc15.images import IMAGE_SUFFIXES, find_images, load_luma
from pc15.locks import sole_writer
from pc15.paths import any_place, read_bounded, ready_to_write
from pc15.runtime.notices import bars_hidden
from pc15learn.schema import SCHEMA_VERSION, Split, TileRow, dump, mend, read_rows

__all__ = ["TilesMade", "by_picture", "cut_tiles", "load_tile_pixels", "make_tiles", "resolve_image", "split_of"]

MAX_PICTURE_BYTES = 1 << 29
"""Most bytes that are read of a picture's file, whatever names it."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TilesMade:
    """Account of `make_tiles`: rows in the file, pictures newly cut, pictures that were there, pictures left out."""

    rows: int
    cut: int
    kept: int
    skipped: int


def make_tiles(
    images: str | Path,
    out: str | Path,
    *,
    tile: int = 32,
    overlap: int = 8,
    limit: int | None = None,
    stride: int | None = None,
    val_percent: int = 10,
    test_percent: int = 10,
) -> TilesMade:
    """Cut all pictures of a folder into tiles and append their rows to `out`.

    Args:
        images: folder, picture, or fsspec URL of a folder.
        out: the tiles.jsonl; an existing one is continued.
        tile, overlap: px.
        limit: most tiles per picture, chosen by hash, so always the same ones; None for all.
        stride: px between tiles; None for tile - overlap.
        val_percent, test_percent: shares of pictures held back.
    Raises:
        ConfigError: an option out of range.
        ImageError: no picture found.
        SchemaError: `out` was made with other options.
        BusyError: another process is writing `out`.
    """
    cfg = TileGridCfg(tile, overlap)
    if stride is not None and stride < 1:
        raise ConfigError(f"stride is {stride} px; give at least 1")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit} tiles per picture; give at least 1, or leave it out")
    if min(val_percent, test_percent) < 0 or val_percent + test_percent >= 100:
        raise ConfigError(f"val and test are {val_percent} and {test_percent} percent; together they stay below 100")
    out = ready_to_write(out)
    paths = list_images(images)
    with sole_writer(out):
        return _make_tiles(paths, out, cfg, limit, stride, val_percent, test_percent)


def _make_tiles(
    paths: list[str],
    out: Path,
    cfg: TileGridCfg,
    limit: int | None,
    stride: int | None,
    val_percent: int,
    test_percent: int,
) -> TilesMade:
    """Cut pictures into tiles and append their rows; nobody else writes the file meanwhile."""
    state = _Existing.read(out, cfg)
    cut = kept = skipped = 0
    for name in tqdm(
        state.unfinished_first(paths), desc="cutting tiles", unit="picture", disable=bars_hidden(), leave=False
    ):
        try:
            data = read_bytes(name)
            digest = hashlib.sha256(data).hexdigest()
            if digest in state.done:
                kept += 1
                continue
            luma = open_luma(data, name)
            where = _stored_name(name, out.parent)
        except ImageError as error:
            _log.warning("left out: %s", error)
            skipped += 1
            continue
        if state.of_picture.get(where, digest) != digest:
            _log.warning(
                "%s has changed since %s was made: rows of what it was stay, and labelling refuses them; "
                "cut all tiles into another file", name, out,
            )  # fmt: skip
        split = split_of(digest, val_percent, test_percent)
        if state.append(out, digest, _rows_of(luma, where, digest, split, cfg, limit, stride)):
            cut += 1
        else:
            kept += 1
    if not state.rows:
        raise ImageError(f"none of {len(paths)} pictures could be read, {paths[0]} the first; see the warnings above")
    return TilesMade(state.rows, cut, kept, skipped)


class _Existing:
    """A tiles.jsonl as it is: pictures that are in it whole, and the last one, which may not be."""

    def __init__(self) -> None:
        self.done: set[str] = set()
        self.of_picture: dict[str, str] = {}  # sha256 by the name in rows
        self.rows = 0
        self._last: tuple[str, bytes] | None = None  # sha256 of the last picture, its rows

    @classmethod
    def read(cls, out: Path, cfg: TileGridCfg) -> _Existing:
        state = cls()
        if not out.exists():
            return state
        mend(out)
        data = out.read_bytes()
        start, position = 0, 0
        current = ""
        for row, line in zip(read_rows(out), data.splitlines(keepends=True), strict=True):
            if (row.tile, row.overlap) != (cfg.size, cfg.overlap):
                raise SchemaError(
                    f"{out} holds tiles of {row.tile} px with overlap {row.overlap}, not {cfg.size} and {cfg.overlap}; "
                    "use the same options, or another --out"
                )
            if row.sha256 != current:
                if current:
                    state.done.add(current)
                current, start = row.sha256, position
                state.of_picture[row.image] = current
            position += len(line)
            state.rows += 1
        if current:
            state._last = current, data[start:]
        return state

    def unfinished_first(self, paths: list[str]) -> list[str]:
        """The paths, the picture whose rows may have been cut short before all others."""
        if self._last is None:
            return paths
        for name in paths:
            if _hash_of(name) == self._last[0]:
                return [name, *(other for other in paths if other != name)]
        self.done.add(self._last[0])  # not among the pictures any more: its rows stay as they are
        self._last = None
        return paths

    def append(self, out: Path, digest: str, rows: list[TileRow]) -> bool:
        """Add one picture's rows, or those that are missing; returns whether there was anything to add."""
        block = "".join(dump(row) + "\n" for row in rows).encode("utf-8")
        if self._last is not None and self._last[0] == digest:
            there = self._last[1]
            if not block.startswith(there):
                raise SchemaError(
                    f"{out} holds other rows for {rows[0].image} than these options give; "
                    "use the same options and paths, or another --out"
                )
            self.rows -= there.count(b"\n")
            block = block[len(there) :]
        self._last = None
        if block:
            with out.open("ab") as file:
                file.write(block)
                file.flush()
                os.fsync(file.fileno())
        self.done.add(digest)
        self.rows += len(rows)
        return bool(block)


def _hash_of(name: str) -> str | None:
    """SHA-256 of a picture's file, None if it cannot be read."""
    try:
        return hashlib.sha256(read_bytes(name)).hexdigest()
    except ImageError:
        return None


def split_of(sha256: str, val_percent: int = 10, test_percent: int = 10) -> Split:
    """Which split a picture with that hash belongs to."""
    place = int(sha256[:8], 16) % 100
    if place < test_percent:
        return "test"
    return "val" if place < test_percent + val_percent else "train"


def _rows_of(
    luma: Tensor, where: str, digest: str, split: Split, cfg: TileGridCfg, limit: int | None, stride: int | None
) -> list[TileRow]:
    """Rows of one picture, in raster order."""
    H, W = luma.shape
    if min(H, W) < cfg.size:
        _log.warning("%s is %dx%d, smaller than a tile of %d px: its edges are repeated", where, H, W, cfg.size)
    step = TileGridCfg(cfg.size, cfg.size - stride) if stride and stride < cfg.size else cfg
    ys, xs = axis_starts(H, step), axis_starts(W, step)
    if stride and stride >= cfg.size:
        ys, xs = (list(range(0, max(length - cfg.size, 0) + 1, stride)) for length in (H, W))
    places = [(y, x) for y in ys for x in xs]
    if limit is not None and len(places) > limit:
        chosen = sorted(places, key=lambda place: hashlib.sha256(f"{digest}/{place[0]}/{place[1]}".encode()).digest())
        places = sorted(chosen[:limit])
    pixels = cut_tiles(luma, [y for y, _ in places], [x for _, x in places], cfg.size)
    return [
        TileRow(
            v=SCHEMA_VERSION,
            tile_id=f"{digest[:16]}-{cfg.size}-{y}-{x}",
            image=where,
            sha256=digest,
            y=y,
            x=x,
            tile=cfg.size,
            overlap=cfg.overlap,
            split=split,
            mean=mean,
            std=std,
            slope=slope,
        )
        for (y, x), (mean, std, slope) in zip(places, _statistics(pixels), strict=True)
    ]


def cut_tiles(luma: Tensor, ys: Sequence[int], xs: Sequence[int], tile: int) -> Tensor:
    """Tiles of a picture [H,W] from their top left pixels [n]; [n,tile,tile], edges repeated past the border."""
    past = [max(max(starts, default=0) + tile - length, 0) for starts, length in zip((ys, xs), luma.shape, strict=True)]
    pixels = luma.numpy()
    if any(past):
        pixels = np.pad(pixels, [(0, count) for count in past], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(pixels, (tile, tile))  # copies rows, where indices copy pixels
    return torch.from_numpy(windows[np.asarray(ys, np.intp), np.asarray(xs, np.intp)])


def _statistics(pixels: Tensor) -> Iterator[tuple[float, float, float]]:
    """(mean, std, slope) of uint8 [n,T,T], from exact integer sums, to four decimals."""
    wide = pixels.to(torch.int64)
    count = wide.shape[1] * wide.shape[2]
    total, square = wide.sum(dim=(1, 2)).tolist(), (wide * wide).sum(dim=(1, 2)).tolist()
    across = (wide[:, :, 1:] - wide[:, :, :-1]).abs().sum(dim=(1, 2)).tolist()
    down = (wide[:, 1:] - wide[:, :-1]).abs().sum(dim=(1, 2)).tolist()
    steps = 2 * pixels.shape[1] * (pixels.shape[1] - 1)
    for s, q, a, d in zip(total, square, across, down, strict=True):
        variance = (q * count - s * s) / (count * count)
        yield round(s / count / 255, 4), round(variance**0.5 / 255, 4), round((a + d) / steps / 255, 4)


# ---------------------------------------------------------------- where pictures are


def is_url(name: str) -> bool:
    """Test whether a name goes through fsspec: `s3://`, `memory://`, ... but no drive letter."""
    return "://" in name


def list_images(images: str | Path) -> list[str]:
    """Pictures of a folder, file or URL, sorted; hidden ones below a folder are left."""
    url = str(images)
    if not is_url(url):
        return [str(path) for path in find_images(images)]
    fs, root = _fsspec_at(url)
    try:
        names = fs.find(root)
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot list {url}: {error}; check the address") from error
    # a name's address is the folder's, longer by what lies below it: only so its host, its archive and whatever else
    # is chained to it stay as they were given
    before, last, after = _chain(url)
    root = root.rstrip("/")
    below = sorted(name[len(root) :].strip("/") for name in names if name.startswith(root))
    found = [
        "::".join([*before, f"{last.rstrip('/')}/{name}" if name else last, *after])
        for name in below
        if _is_picture(name or root) and not any(part.startswith(".") for part in name.split("/"))
    ]
    if not found:
        raise ImageError(f"no picture in {images}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return found


def _chain(url: str) -> tuple[list[str], str, list[str]]:
    """Parts of a chained URL: caches before the part that has the path, that part, and what it lies in."""
    parts = url.split("::")
    place = next(i for i, part in enumerate(parts) if "://" in part)
    return parts[:place], parts[place], parts[place + 1 :]


def _is_picture(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _fsspec_at(url: str):  # type: ignore[no-untyped-def]  # (file system, path), fsspec has no types
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError(f"{url} needs fsspec; install it with: pip install 'pc15[learn]'") from error
    try:
        return fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise MissingExtraError(f"{url} needs a package that is not installed: {error}") from error
    except (OSError, ValueError) as error:
        raise ImageError(f"cannot open {url}: {error}; check the protocol") from error


def read_bytes(name: str) -> bytes:
    """The bytes of a picture's file, local or by URL."""
    try:
        if not is_url(name):
            return read_bounded(name, MAX_PICTURE_BYTES)
        fs, path = _fsspec_at(name)
        with fs.open(path, "rb") as file:
            data = bytes(file.read(MAX_PICTURE_BYTES + 1))
    except _unreadable() as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageError(f"cannot read {name}: {why}; check the path") from error
    if len(data) > MAX_PICTURE_BYTES:
        raise ImageError(f"cannot read {name}: it has more than {MAX_PICTURE_BYTES} bytes")
    return data


def _unreadable() -> tuple[type[Exception], ...]:
    """Errors of reading a file, by fsspec too, which lets errors of the client through that it reads HTTP with."""
    usual = OSError, ValueError, LookupError, TypeError, RuntimeError
    if importlib.util.find_spec("aiohttp") is None:
        return usual
    return (*usual, importlib.import_module("aiohttp").ClientError)


def open_luma(data: bytes, name: str) -> Tensor:
    """A picture file's bytes as luma, uint8 [H,W]; `name` is for messages."""
    file = io.BytesIO(data)
    file.name = name
    return load_luma(file)[0]


def _stored_name(name: str, folder: Path) -> str:
    """Name of a picture in a row: relative to the folder of tiles.jsonl where it can.

    Raises:
        ImageError: a name that is no Unicode, which no row can hold.
    """
    if not is_url(name):
        path = Path(name).resolve()
        try:
            name = Path(os.path.relpath(path, folder.resolve())).as_posix()
        except ValueError:  # another drive
            name = path.as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ImageError(f"{ascii(name)[1:-1]} is no name in UTF-8, as rows hold it; rename it") from error
    return name


def resolve_image(row: TileRow, folder: Path, *, anywhere: bool | None = None) -> str:
    """The path or URL of a row's picture; `folder` is that of its tiles.jsonl.

    Args:
        anywhere: let rows name URLs and absolute paths; None: as PC15_ANY_PLACE says, which is no by default.
    Raises:
        ImageError: the row names one of these all the same.
    """
    elsewhere = is_url(row.image) or PurePosixPath(row.image).is_absolute() or Path(row.image).is_absolute()
    if elsewhere and not (any_place() if anywhere is None else anywhere):
        raise ImageError(
            f"row {row.tile_id[:60]!r} names {row.image[:200]}, a URL or an absolute path, and may come from anybody; "
            "if you trust it, pass --anywhere (anywhere=True), or set PC15_ANY_PLACE=1"
        )
    return row.image if is_url(row.image) else str(folder / row.image)


def by_picture(rows: Iterable[TileRow]) -> Iterator[list[TileRow]]:
    """Runs of rows of one picture."""
    for _, own in itertools.groupby(rows, key=lambda row: row.sha256):
        yield list(own)


def load_tile_pixels(rows: Iterable[TileRow], folder: Path, *, anywhere: bool | None = None) -> Tensor:
    """Pixels of tiles, uint8 [N,T,T]; each picture is read once and its hash compared.

    Args:
        folder: that of their tiles.jsonl.   anywhere: as of `resolve_image`.
    Raises:
        ImageError: a picture is gone, has changed since its tiles were cut, cannot be decoded, lies where rows may not
            reach, is larger than MAX_PICTURE_BYTES, or does not hold a tile.
    """
    parts: list[Tensor] = []
    for own in by_picture(rows):
        name = resolve_image(own[0], folder, anywhere=anywhere)
        data = read_bytes(name)
        if hashlib.sha256(data).hexdigest() != own[0].sha256:  # whose hash it is now is nobody's business
            raise ImageError(
                f"{name} has changed since its tiles were cut (its SHA-256 was {own[0].sha256[:12]}); "
                "cut tiles into another file"
            )
        luma = open_luma(data, name)
        H, W = luma.shape
        for row in own:
            if row.y >= H or row.x >= W:
                raise ImageError(f"row {row.tile_id[:60]!r} lies outside its picture of {W}x{H} pixels")
        parts.append(cut_tiles(luma, [row.y for row in own], [row.x for row in own], own[0].tile))
    return torch.cat(parts) if parts else torch.empty((0, 0, 0), dtype=torch.uint8)
