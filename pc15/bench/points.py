"""The CSV of a benchmark: one row per picture, codec and setting, written as it is measured.

There are four kinds of rows: of luma or of colour, each also with qualities as eyes are modelled to see them.

A row is flushed as soon as there is one, so a run that was cut off goes on where it stopped.  What the cut left of a
last line is dropped, with a notice.
"""

from __future__ import annotations

import csv
import io
import logging
import math
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from pc15.errors import SchemaError
from pc15.paths import write_atomic

__all__ = [
    "COLUMNS",
    "ColorPoint",
    "Key",
    "PerceptualColorPoint",
    "PerceptualPoint",
    "Point",
    "PointFile",
    "kind_of",
    "read_points",
    "write_points",
]

_LOG = logging.getLogger(__name__)


class Key(NamedTuple):
    """The columns that identify a row."""

    image: str
    width: int
    height: int
    codec: str
    setting: str


@dataclass(frozen=True)
class Point:
    """One picture at one setting of one codec; sizes in px, times in s."""

    image: str
    width: int
    height: int
    codec: str
    setting: str
    bytes: int
    bpp: float
    psnr_y: float
    ssim: float
    enc_s: float
    dec_s: float

    @property
    def key(self) -> Key:
        return Key(self.image, self.width, self.height, self.codec, self.setting)

    @property
    def picture(self) -> tuple[str, int, int]:
        return self.image, self.width, self.height

    def cells(self) -> list[str]:
        """The row, as text."""
        return [format(getattr(self, field.name), _FORMATS.get(field.name, "")) for field in fields(self)]


@dataclass(frozen=True)
class ColorPoint(Point):
    """One colour picture at one setting of one codec; psnr_y and ssim are of its luma.

    psnr_rgb: over the three channels.   psnr_cb, psnr_cr: of the planes at 4:2:0.   psnr_611: (6 Y + Cb + Cr) / 8, dB.
    ciede2000: mean colour difference.
    """

    psnr_rgb: float
    psnr_cb: float
    psnr_cr: float
    psnr_611: float
    ciede2000: float


@dataclass(frozen=True)
class PerceptualPoint(Point):
    """A point that also has MS-SSIM and visual information fidelity of luma."""

    ms_ssim: float
    vif: float


@dataclass(frozen=True)
class PerceptualColorPoint(ColorPoint):
    """A point of colour that also has MS-SSIM and visual information fidelity of luma."""

    ms_ssim: float
    vif: float


_KINDS: dict[tuple[bool, bool], type[Point]] = {
    (False, False): Point,
    (True, False): ColorPoint,
    (False, True): PerceptualPoint,
    (True, True): PerceptualColorPoint,
}
"""By (in colour, perceptual)."""


def kind_of(color: bool, perceptual: bool) -> type[Point]:
    """Rows of luma or of colour, with or without perceptual qualities."""
    return _KINDS[color, perceptual]


def _columns(kind: type[Point]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


COLUMNS = _columns(Point)
_BY_COLUMNS = {_columns(kind): kind for kind in _KINDS.values()}
_DB = ("psnr_y", "psnr_rgb", "psnr_cb", "psnr_cr", "psnr_611")
_SHARES = ("ssim", "ms_ssim")
_FORMATS = {
    "bpp": ".6f",
    **dict.fromkeys(_DB, ".4f"),
    **dict.fromkeys(_SHARES, ".6f"),
    **dict.fromkeys(("enc_s", "dec_s", "ciede2000", "vif"), ".5f"),
}
_MOST = sys.float_info.max
_COUNT = (int, 1, _MOST, "a whole number from 1")
_SECONDS = (float, 0.0, _MOST, "a number from 0")
_NUMBERS: dict[str, tuple[Callable[[Any], int | float], float, float, str]] = {
    "width": _COUNT,
    "height": _COUNT,
    "bytes": _COUNT,
    "bpp": (float, sys.float_info.min, _MOST, "a number above 0"),
    **dict.fromkeys(_DB, (float, 0.0, math.inf, "a number from 0, or inf")),
    "ciede2000": (float, 0.0, _MOST, "a number from 0"),
    **dict.fromkeys(("ssim", "ms_ssim"), (float, -1.0, 1.0, "a number from -1 to 1")),
    "vif": (float, 0.0, _MOST, "a number from 0"),  # above 1 where there is more contrast than in the reference
    "enc_s": _SECONDS,
    "dec_s": _SECONDS,
}


def read_points(path: str | Path) -> list[Point]:
    """All rows of a CSV; a torn last line is left out with a notice, and the file stays as it is.

    Raises:
        SchemaError: not such a CSV, or a bad row; the message has its line.
        OSError: there is no such file.
    """
    path = Path(path)
    text, torn = _sound(path.read_bytes(), path)
    if torn:
        try:  # a last line without its newline may still be whole
            return _parsed(text + torn, path)
        except SchemaError:
            _LOG.warning("%s ends in a torn line, %r; it is left out", path, torn[:60])
    return _parsed(text, path)


def write_points(points: Sequence[Point], path: str | Path) -> Path:
    """Write rows of one kind, at least one, to a CSV of their own; returns its path."""
    write_atomic(Path(path), _csv([_columns(type(points[0])), *(point.cells() for point in points)]).encode())
    return Path(path)


class PointFile:
    """A CSV that grows: what it held when opened is in `points`, and `add` appends.

    Args:
        path: the CSV; it is made if there is none.   kind: which rows it holds.
        redo: rows to drop at opening, because they will be measured again.
    Raises:
        SchemaError: the file is something else, or has a bad row; it is left as it is.
    """

    def __init__(self, path: str | Path, redo: Collection[Key] = (), kind: type[Point] = Point) -> None:
        columns = _columns(kind)
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        old = self.path.read_bytes() if self.path.exists() else b""
        text, torn = _sound(old, self.path, columns)
        points = _parsed(text, self.path) if text else []
        if torn:
            _LOG.warning("%s ends in a torn line, %r; it is dropped and measured again", self.path, torn[:60])
        self.points = {point.key: point for point in points}
        for key in redo:
            self.points.pop(key, None)
        if torn or not text or len(self.points) < len(points):
            write_atomic(self.path, _csv([columns, *(point.cells() for point in self.points.values())]).encode())
        self._file = self.path.open("a", encoding="utf-8", newline="")

    def add(self, point: Point) -> None:
        """Append a row; it is in the file when this returns."""
        self._file.write(_csv([point.cells()]))
        self._file.flush()
        self.points[point.key] = point

    def __enter__(self) -> PointFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _csv(rows: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _sound(data: bytes, path: Path, columns: tuple[str, ...] | None = None) -> tuple[str, str]:
    """(whole lines, what follows the last newline) of a file that is empty or begins as our CSV does.

    Args:
        columns: of which kind; any of them if None.
    """
    first = data.split(b"\n", 1)[0].decode("utf-8-sig", errors="replace").strip()
    found = next((names for names in _BY_COLUMNS if first == ",".join(names)), None)
    head = _csv([columns or found or COLUMNS])
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        if found is None or b"\n" in data[error.start :]:
            raise SchemaError(f"{path} is not a CSV of benchmark rows: not UTF-8 at byte {error.start}") from error
        text = data.decode("utf-8", errors="replace").replace("\r\n", "\n")  # a name cut inside a character
    whole, _, torn = text.rpartition("\n")
    whole = whole + "\n" if whole else ""
    if found is not None and whole and columns not in (None, found):
        what, options = _measured_by(found)
        raise SchemaError(f"{path} holds rows of {what}; measure them with {options}, or give another file")
    if not (whole.startswith(head) or (not whole and head.startswith(torn))):
        raise SchemaError(f"{path} begins with {first[:80]!r}; a CSV of benchmark rows begins with {head.strip()!r}")
    return whole, torn


def _measured_by(columns: tuple[str, ...]) -> tuple[str, str]:
    """(what such rows are of, options of `bench rd` that measure them)."""
    color, perceptual = next(asked for asked, kind in _KINDS.items() if kind is _BY_COLUMNS[columns])
    what = ("colour" if color else "luma") + ", with MS-SSIM and VIF" * perceptual
    return what, f"{'' if color else 'no '}--color and {'' if perceptual else 'no '}--perceptual"


def _parsed(text: str, path: Path) -> list[Point]:
    reader = csv.reader(io.StringIO(text))
    columns = tuple(next(reader, COLUMNS))
    return [_point(cells, columns, f"{path}, line {reader.line_num}") for cells in reader if cells]


def _point(cells: list[str], columns: tuple[str, ...], where: str) -> Point:
    if len(cells) != len(columns):
        raise SchemaError(f"{where}: {len(cells)} cells instead of {len(columns)}; repair or delete the line")
    values: dict[str, str | int | float] = dict(zip(columns, cells, strict=True))
    for name, (number_of, low, high, range_text) in _NUMBERS.items():
        if name not in values:
            continue
        cell = values[name]
        try:
            number = number_of(cell)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise SchemaError(f"{where}: {name} is {cell!r}, it must be {range_text}; repair or delete the line")
        values[name] = number
    return _BY_COLUMNS[columns](**values)  # type: ignore[arg-type]
