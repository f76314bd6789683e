"""Rows of tiles.jsonl and of the labels: one JSON object per line, versioned, with fixed types.

Rows have the same keys always, numbers of fixed kinds and no key that depends on data, so that Hugging Face
`datasets` reads them with the `Features` that `features_of` gives.  A label row carries its tile's pixels: labels
can be moved and trained on without the pictures.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import importlib
import importlib.util
import json
import logging
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor

from pc15.bitstream.header import MAX_DIMENSION
from pc15.bitstream.programs import MAX_LAYERS
from pc15.errors import MissingExtraError, SchemaError, did_you_mean
from pc15.paths import write_atomic
from pc15.proc.codebook import offset_reach
from pc15.proc.generators import NAMES, load
from pc15.proc.spec import fine_bits

__all__ = [
    "SCHEMA_VERSION",
    "CandidateRow",
    "LabelRow",
    "LayerRow",
    "Split",
    "TileRow",
    "check",
    "dump",
    "features_of",
    "hf_datasets",
    "mend",
    "pixels_from_text",
    "pixels_to_text",
    "place_of",
    "read_rows",
    "write_rows",
]

SCHEMA_VERSION = 1
_SHA256 = re.compile("[0-9a-f]{64}")
_MAX_NAME = 4096  # characters of a path or an id
Split = Literal["train", "val", "test"]
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


@dataclass(frozen=True)
class CandidateRow:
    """Candidates that were scored exactly for a layer, best first, then random ones; lists of one length."""

    gen: list[int]
    qv: list[int]
    seed: list[int]
    amp: list[int]
    d: list[float]
    bits: list[float]


@dataclass(frozen=True)
class LayerRow:
    """One layer that the oracle chose, and what else it could have chosen.

    params: levels after offsets, sub-levels in tiles above 32 px.
    d0: D of the tile before the layer, d after it, per pixel that the tile owns.
    bits: of this layer alone.   rd: d + lambda * bits / (tile - overlap)^2.
    """

    gen: int
    qv: int
    offsets: list[int]
    params: list[int]
    seed: int
    amp: int
    d0: float
    d: float
    bits: float
    rd: float
    candidates: CandidateRow


@dataclass(frozen=True)
class LabelRow:
    """The oracle's program for one tile.

    pixels: base64 of tile*tile luma bytes.   dc: DC level.   layers: in order, none for a flat tile.
    """

    v: int
    tile_id: str
    split: str
    tile: int
    pixels: str
    dc: int
    layers: list[LayerRow]


Row = TypeVar("Row", TileRow, LabelRow)


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


# ---------------------------------------------------------------- pixels


def pixels_to_text(tile: Tensor) -> str:
    """uint8 [T,T] -> base64."""
    return base64.b64encode(tile.contiguous().cpu().numpy().tobytes()).decode("ascii")


def pixels_from_text(text: str, tile: int) -> Tensor:
    """base64 -> uint8 [T,T].

    Raises:
        SchemaError: not base64, or another number of pixels.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise SchemaError(f"pixels are not base64 ({error}); label these tiles again") from error
    if len(raw) != tile * tile:
        raise SchemaError(f"pixels hold {len(raw)} bytes for a tile of {tile}x{tile}; label these tiles again")
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(tile, tile)


# ---------------------------------------------------------------- rows <-> JSON


def dump(row: TileRow | LabelRow) -> str:
    """A row as one line of JSON: keys in the order of the fields, no spaces, no newline."""
    return json.dumps(dataclasses.asdict(row), separators=(",", ":"), allow_nan=False, ensure_ascii=False)


def check(row: TileRow | LabelRow) -> None:
    """Check a row's values beyond their types.

    Raises:
        SchemaError: version, split, tile, generator, level or amplitude out of range.
    """
    if len(row.tile_id) > _MAX_NAME:
        raise SchemaError(f"a row's tile_id has {len(row.tile_id)} characters; make it anew")
    if row.v != SCHEMA_VERSION:
        raise SchemaError(
            f"row {row.tile_id[:60]!r} has version {row.v}, this build reads {SCHEMA_VERSION}; make it anew"
        )
    if row.split not in get_args(Split):
        raise SchemaError(
            f"row {row.tile_id[:60]!r} has split {row.split[:60]!r}; use one of {', '.join(get_args(Split))}"
        )
    if not 4 <= row.tile <= 1024:
        raise SchemaError(f"row {row.tile_id[:60]!r} has tile {row.tile}; tiles are 4 to 1024 px")
    if isinstance(row, TileRow):
        inside = all(0 <= place < MAX_DIMENSION for place in (row.y, row.x))
        if not inside or not 0 <= row.overlap < row.tile or not _SHA256.fullmatch(row.sha256):
            raise SchemaError(f"row {row.tile_id[:60]!r}: y, x, overlap or sha256 is out of range; make the tiles anew")
        if not all(0.0 <= value <= 1.0 for value in (row.mean, row.std, row.slope)):
            raise SchemaError(f"row {row.tile_id[:60]!r}: mean, std or slope is not in 0..1; make the tiles anew")
        if not row.image or len(row.image) > _MAX_NAME or "\0" in row.image:
            raise SchemaError(f"row {row.tile_id[:60]!r}: image is {row.image[:60]!r}, no path; make the tiles anew")
        return
    if len(row.layers) > MAX_LAYERS or row.dc < 0:
        raise SchemaError(f"row {row.tile_id[:60]!r} has {len(row.layers)} layers, dc {row.dc}; label it again")
    for number, layer in enumerate(row.layers):
        _check_layer(layer, fine_bits(row.tile), f"row {row.tile_id[:60]!r}, layer {number}")


def _check_layer(layer: LayerRow, fine: int, where: str) -> None:
    if not 0 <= layer.gen < len(NAMES):
        raise SchemaError(f"{where}: gen is {layer.gen}, this build has {len(NAMES)} generators; label it again")
    params, reach = load(layer.gen).params_at(fine), offset_reach(fine)
    if len(layer.params) != len(params) or len(layer.offsets) != len(params):
        raise SchemaError(f"{where}: {len(layer.params)} params for {NAMES[layer.gen]}, which has {len(params)}")
    for level, param in zip(layer.params, params, strict=True):
        first, last = param.span(fine)
        if not first <= level <= last:
            raise SchemaError(f"{where}: {param.name} has level {level}, not in {first}..{last}")
    if any(abs(step) > reach for step in layer.offsets):
        raise SchemaError(f"{where}: offsets {layer.offsets} go beyond +-{reach}; label it again")
    if not all(math.isfinite(value) for value in (layer.d0, layer.d, layer.bits, layer.rd)):
        raise SchemaError(f"{where}: D, bits or RD is not finite; label it again")
    tried = layer.candidates
    lists = [getattr(tried, field.name) for field in dataclasses.fields(tried)]
    if len({len(values) for values in lists}) != 1:
        raise SchemaError(f"{where}: candidate lists of {[len(values) for values in lists]} items; label it again")
    if any(not 0 <= gen < len(NAMES) for gen in tried.gen):
        raise SchemaError(f"{where}: a candidate names no generator of this build; label it again")


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _list_of(test: Any) -> Any:
    return lambda value: isinstance(value, list) and all(test(item) for item in value)


_TESTS: dict[str, tuple[Any, str]] = {
    "int": (_whole, "a whole number"),
    "float": (_number, "a number"),
    "str": (lambda value: isinstance(value, str), "text"),
    "list[int]": (_list_of(_whole), "a list of whole numbers"),
    "list[float]": (_list_of(_number), "a list of numbers"),
    "list[LayerRow]": (lambda value: isinstance(value, list), "a list of layers"),
    "CandidateRow": (lambda value: isinstance(value, dict), "an object of lists"),
}


def _build(kind: type, value: Any, where: str) -> Any:
    """A dataclass from a JSON object: every key there, none more, every value of its type."""
    if not isinstance(value, dict):
        raise SchemaError(f"{where}: an object is expected, not {type(value).__name__}")
    names = [field.name for field in dataclasses.fields(kind)]
    for key in value:
        if key not in names:
            raise SchemaError(
                f"{where}: unknown key {key[:60]!r}{did_you_mean(key[:60], names)}; made by another version?"
            )
    made: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.name not in value:
            raise SchemaError(f"{where}: key {field.name!r} is missing; was the file edited or cut?")
        item = value[field.name]
        test, wanted = _TESTS[str(field.type)]
        if not test(item):
            raise SchemaError(f"{where}: {field.name} is {repr(item)[:60]}; {wanted} is expected")
        if field.type == "list[LayerRow]":
            item = [_build(LayerRow, part, f"{where}, layer {i}") for i, part in enumerate(item)]
        elif field.type == "CandidateRow":
            item = _build(CandidateRow, item, f"{where}, candidates")
        made[field.name] = item
    return kind(**made)


def _parse(kind: type[Row], line: str, where: str) -> Row:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise SchemaError(f"{where}: not JSON ({error}); was the file edited or cut?") from error
    row: Row = _build(kind, value, where)
    check(row)
    return row


# ---------------------------------------------------------------- files


def read_rows(path: str | Path, kind: type[Row]) -> Iterator[Row]:
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
    for number, line in enumerate(whole.split(b"\n")[:-1], start=1):
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise SchemaError(f"{path}:{number}: not UTF-8 ({error}); was the file damaged?") from error
        yield _parse(kind, text, f"{path}:{number}")


def write_rows(path: str | Path, rows: Iterable[TileRow | LabelRow]) -> None:
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


# ---------------------------------------------------------------- for Hugging Face datasets


def features_of(kind: type) -> Any:
    """`datasets.Features` of a row: the types that a JSON loader must not guess."""
    datasets = hf_datasets()
    value = datasets.Value
    simple = {"int": value("int32"), "float": value("float64"), "str": value("string")}

    def of(inner: type) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for field in dataclasses.fields(inner):
            name = str(field.type)
            if name in simple:
                out[field.name] = simple[name]
            elif name == "CandidateRow":
                out[field.name] = of(CandidateRow)
            elif name == "list[LayerRow]":
                out[field.name] = _list(of(LayerRow))
            else:
                out[field.name] = _list(simple[name.removeprefix("list[").removesuffix("]")])
        return out

    return datasets.Features(of(kind))


def _list(feature: Any) -> Any:
    """A list feature; `datasets` 4 renamed it."""
    datasets = hf_datasets()
    return datasets.List(feature) if hasattr(datasets, "List") else [feature]


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
