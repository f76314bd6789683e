"""Rows of tiles.jsonl: one JSON object per line, versioned, with fixed types and the same keys always."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import importlib
import importlib.util
import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pc15.bitstream.header import MAX_DIMENSION
from pc15.errors import MissingExtraError, SchemaError, did_you_mean
from pc15.paths import write_atomic

__all__ = [
    "SCHEMA_VERSION",
    "Split",
    "TileRow",
    "check",
    "dump",
    "hf_datasets",
    "mend",
    "place_of",
    "read_rows",
    "write_rows",
]

SCHEMA_VERSION = 1
_SHA256 = re.compile("[0-9a-f]{64}")
_MAX_NAME = 4096  # characters of a path or an id
_TOGETHER = 4096  # lines
Split = Literal["train", "val", "test"]
_SPLITS = get_args(Split)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TileRow:
    """One tile of one picture.

    tile_id: "<16 hex of sha256>-<tile>-<y>-<x>", the same wherever the picture lies.
    image: path relative to the folder of tiles.jsonl (POSIX), or absolute, or a URL.   sha256: of the file's bytes.
    y, x: top left pixel.   tile, overlap: px.   split: by picture.
    mean, std: of luma in [0,1].   slope: mean absolute difference of neighbours, luma.
    """

    v: int
    tile_id: str
    image: str
    sha256: str
    y: int
    x: int
    tile: int
    overlap: int
    split: str
    mean: float
    std: float
    slope: float


def place_of(tile_id: str) -> tuple[str, int, int]:
    """A tile's picture, as its name in tile ids, and its top left pixel, y and x.

    Raises:
        SchemaError: not the id of a tile.
    """
    try:
        picture, _, y, x = tile_id.split("-")
        return picture, int(y), int(x)
    except ValueError as error:
        raise SchemaError(f"{tile_id!r} is no tile id like 0123456789abcdef-32-0-24; make the tiles anew") from error


# ---------------------------------------------------------------- rows <-> JSON


def dump(row: TileRow) -> str:
    """A row as one line of JSON: keys in the order of the fields, no spaces, no newline."""
    return json.dumps(dataclasses.asdict(row), separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def check(row: TileRow) -> None:
    """Check a row's values beyond their types.

    Raises:
        SchemaError: version, split, tile, place, hash, statistics or the picture's name out of range.
    """
    if len(row.tile_id) > _MAX_NAME:
        raise SchemaError(f"a row's tile_id has {len(row.tile_id)} characters; make it anew")
    if row.v != SCHEMA_VERSION:
        raise SchemaError(
            f"row {row.tile_id[:60]!r} has version {row.v}, this build reads {SCHEMA_VERSION}; make it anew"
        )
    if row.split not in _SPLITS:
        raise SchemaError(f"row {row.tile_id[:60]!r} has split {row.split[:60]!r}; use one of {', '.join(_SPLITS)}")
    if not 4 <= row.tile <= 1024:
        raise SchemaError(f"row {row.tile_id[:60]!r} has tile {row.tile}; tiles are 4 to 1024 px")
    inside = 0 <= row.y < MAX_DIMENSION and 0 <= row.x < MAX_DIMENSION
    if not inside or not 0 <= row.overlap < row.tile or not _SHA256.fullmatch(row.sha256):
        raise SchemaError(f"row {row.tile_id[:60]!r}: y, x, overlap or sha256 is out of range; make the tiles anew")
    if not (0.0 <= row.mean <= 1.0 and 0.0 <= row.std <= 1.0 and 0.0 <= row.slope <= 1.0):
        raise SchemaError(f"row {row.tile_id[:60]!r}: mean, std or slope is not in 0..1; make the tiles anew")
    if not row.image or len(row.image) > _MAX_NAME or "\0" in row.image:
        raise SchemaError(f"row {row.tile_id[:60]!r}: image is {row.image[:60]!r}, no path; make the tiles anew")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_TESTS: dict[str, tuple[Any, str]] = {
    "int": (_whole, "a whole number"),
    "float": (_number, "a number"),
    "str": (lambda value: isinstance(value, str), "text"),
}


def _parse(line: str, where: str) -> TileRow:
    """A row from a line: every key there, none more, every value of its type."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: not JSON ({error}); was the file edited or cut?") from error
    if not isinstance(value, dict):
        raise SchemaError(f"{where}: an object is expected, not {type(value).__name__}")
    if tuple(value) != _NAMES or tuple(map(type, value.values())) != _TYPES:  # not as `dump` writes them
        _check_fields(value, where)
    return TileRow(**value)


_NAMES = tuple(field.name for field in dataclasses.fields(TileRow))
_TYPES = tuple({"int": int, "float": float, "str": str}[str(field.type)] for field in dataclasses.fields(TileRow))


def _check_fields(value: dict[str, Any], where: str) -> None:
    """Look for keys that are unknown or missing, and for values of other types."""
    for key in value:
        if key not in _NAMES:
            raise SchemaError(
                f"{where}: unknown key {key[:60]!r}{did_you_mean(key[:60], _NAMES)}; made by another version?"
            )
    for field in dataclasses.fields(TileRow):
        if field.name not in value:
            raise SchemaError(f"{where}: key {field.name!r} is missing; was the file edited or cut?")
        test, wanted = _TESTS[str(field.type)]
        if not test(value[field.name]):
            raise SchemaError(f"{where}: {field.name} is {repr(value[field.name])[:60]}; {wanted} is expected")


# ---------------------------------------------------------------- files


def read_rows(path: str | Path) -> Iterator[TileRow]:
    """Rows of a JSONL file, in order.  A torn last line, as a killed writer leaves it, is left out with a warning.

    Raises:
        SchemaError: no such file, or a row that does not follow the schema; the message has the line's number.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SchemaError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    whole, torn = _whole_lines(data)
    if torn:
        _log.warning("%s ends in %d bytes of an unfinished line: left out (a writer was stopped there)", path, torn)
    lines = whole.split(b"\n")[:-1]
    for start in range(0, len(lines), _TOGETHER):
        some = lines[start : start + _TOGETHER]
        with _no_collections():
            rows = _parse_together(some)
        for row in rows or _parse_each(some, path, start + 1):
            check(row)
            yield row


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Context in which nobody looks for cycles: rows have none, and looking took as long as making them."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _parse_each(lines: list[bytes], path: Path, first: int) -> Iterator[TileRow]:
    """Rows of lines, the first of them number `first` of the file, one at a time: whatever is wrong is named."""
    for number, line in enumerate(lines, start=first):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SchemaError(f"{path}:{number}: not UTF-8 ({error}); was the file damaged?") from error
        yield _parse(text, f"{path}:{number}")


def _parse_together(lines: list[bytes]) -> list[TileRow] | None:
    """Rows of lines that are as `dump` writes them, in a third of the time; None if any is not.

    Each line begins and ends an object, objects hold no others, and there are as many as lines: so each is one.
    """
    if not all(line[:1] == b"{" and line[-1:] == b"}" for line in lines):
        return None
    try:
        values = json.loads(b"[%b]" % b",\n".join(lines))
    except (ValueError, RecursionError):
        return None
    if len(values) != len(lines) or set(map(tuple, values)) != {_NAMES}:
        return None
    columns = list(zip(*(value.values() for value in values), strict=True))
    if any(set(map(type, column)) != {kind} for column, kind in zip(columns, _TYPES, strict=True)):
        return None
    for name in ("image", "sha256", "split"):  # each is kept once, not once for every tile of a picture
        place = _NAMES.index(name)
        columns[place] = tuple(map(sys.intern, columns[place]))
    return list(map(TileRow, *columns))


def write_rows(path: str | Path, rows: Iterable[TileRow]) -> None:
    """Write a whole JSONL file, all of it or nothing; rows are checked first."""
    lines = []
    for row in rows:
        check(row)
        lines.append(dump(row) + "\n")
    write_atomic(Path(path), "".join(lines).encode("utf-8"))


def mend(path: str | Path) -> int:
    """Cut an unfinished last line off a JSONL file, and say so; returns the bytes cut, 0 for a sound file."""
    path = Path(path)
    data = path.read_bytes()
    whole, torn = _whole_lines(data)
    if torn:
        write_atomic(path, whole)
        _log.warning("%s ended in %d bytes of an unfinished line: cut off", path, torn)
    return torn


def _whole_lines(data: bytes) -> tuple[bytes, int]:
    """The lines that end in a newline, and how many bytes follow them.

    A last line without newline that is JSON all the same may be cut inside a number: it is not trusted either.
    """
    end = data.rfind(b"\n") + 1
    return data[:end], len(data) - end


# ---------------------------------------------------------------- Hugging Face datasets


def hf_datasets() -> Any:
    """The `datasets` library: in a checkout without it, a bare import would find the folder of that name.

    Raises:
        MissingExtraError: it is not installed.
    """
    library = importlib.import_module("datasets") if importlib.util.find_spec("datasets") else None
    if library is None or not hasattr(library, "load_dataset"):
        raise MissingExtraError(
            "reading labels needs Hugging Face datasets; install it with: pip install 'pc15[learn]'"
        )
    return library
