"""Labels as Arrow columns: what a shard holds, straight from the search's arrays, as Parquet or as JSON lines.

A row is one tile at one rate; its layers are a list of structs, and so are each layer's candidates.  Both formats hold
the same rows: Parquet keeps pixels as bytes and is what sets of any size are made of, JSONL (pixels in base64) can be
read by eye.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from pc15.bitstream.programs import MAX_PARAMS
from pc15.errors import MissingExtraError, SchemaError
from pc15.paths import replacing
from pc15.search.label import LAYER_TYPES, TRIED_TYPES, TileLabels
from pc15learn.labels.manifest import Oracle

try:
    import pyarrow as pa
    import pyarrow.json
    import pyarrow.parquet
except ImportError as error:
    raise MissingExtraError("labels need pyarrow; install it with: pip install 'pc15[learn]'") from error

__all__ = [
    "FORMATS",
    "Format",
    "card",
    "card_of",
    "jsonl_lines",
    "read_shard",
    "rows_in",
    "set_name",
    "shard_facts",
    "table_of",
    "write_shard",
]

Format = Literal["parquet", "jsonl"]
FORMATS: tuple[Format, ...] = get_args(Format)

_TRIED = pa.struct([(name, pa.from_numpy_dtype(kind)) for name, kind in TRIED_TYPES.items()])
_LAYER = pa.struct(
    [
        *((name, pa.from_numpy_dtype(kind)) for name, kind in LAYER_TYPES.items()),
        ("offsets", pa.list_(pa.int16(), MAX_PARAMS)),
        ("candidates", pa.list_(_TRIED)),
    ]
)
_AS_TEXT = pa.field("pixels", pa.string())
_CANDIDATES = "layers.list.element.candidates.list.element."  # their columns, as Parquet names them
_PARQUET_BATCH = 1 << 16  # values that its writer takes at a time
_FACTS = b"pc15"  # key of the metadata that a shard says what it is in


def _schema(tile: int) -> pa.Schema:
    """Columns of a shard of tiles of that side."""
    return pa.schema(
        [
            ("tile_id", pa.string()),
            ("split", pa.string()),
            ("lambda_rd", pa.float64()),
            ("pixels", pa.binary(tile * tile)),
            ("dc", pa.int32()),
            ("layers", pa.list_(_LAYER)),
        ]
    )


class Named(Protocol):
    """A tile: its id, and the split that its picture is in."""

    @property
    def tile_id(self) -> str: ...

    @property
    def split(self) -> str: ...


def table_of(rows: Sequence[Named], pixels: npt.NDArray[np.uint8], labels: TileLabels, lambda_rd: float) -> pa.Table:
    """The labels of some tiles at one rate.

    Args:
        rows: n of them.   pixels: [n,T,T] of the same tiles.
    """
    n, tile = len(rows), pixels.shape[1]
    tried = pa.StructArray.from_arrays([pa.array(labels.tried[name]) for name in TRIED_TYPES], fields=list(_TRIED))
    offsets = pa.FixedSizeListArray.from_arrays(pa.array(labels.offsets.reshape(-1)), MAX_PARAMS)
    layers = pa.StructArray.from_arrays(
        [*(pa.array(labels.layer[name]) for name in LAYER_TYPES), offsets, _lists(labels.tried_start, tried)],
        fields=list(_LAYER),
    )
    stored = pa.py_buffer(np.ascontiguousarray(pixels))
    return pa.table(
        [
            pa.array([row.tile_id for row in rows], pa.string()),
            pa.array([row.split for row in rows], pa.string()),
            pa.array(np.full(n, lambda_rd)),
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(tile * tile), n, [None, stored]),
            pa.array(labels.dc),
            _lists(labels.layer_start, layers),
        ],
        schema=_schema(tile),
    )


def _lists(starts: npt.NDArray[np.int64], values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(starts.astype(np.int32)), values)


# ---------------------------------------------------------------- shards


def write_shard(table: pa.Table, path: Path, kind: Format, facts: dict[str, Any]) -> None:
    """Write a shard, all of it or nothing; the same table and facts give the same bytes.

    Args:
        facts: of the shard, as JSON; Parquet carries them, JSONL has no place for them.
    Raises:
        OSError: the disk refuses; a shard that was there is as it was.
    """
    try:
        with replacing(path) as file:
            if kind == "jsonl":
                file.writelines(jsonl_lines(table))
            else:
                _write_parquet(table.replace_schema_metadata({_FACTS: json.dumps(facts, sort_keys=True)}), file)
    except OSError as error:
        why = f"{error.strerror or error}; shards that are done are whole, the same command goes on from them"
        raise OSError(error.errno, why, str(path)) from error


def _write_parquet(table: pa.Table, file: IO[bytes]) -> None:
    # Writing is to take less time than the search.  Candidates are most of it: their whole numbers are packed, which
    # takes no longer than LZ4 and leaves a third less of them, and D and bits yield to nothing.  Columns go to the file
    # as they are made: to hold all of them first costs as much again, for pages of memory that are new.
    names = [name for field in table.schema for name in _leaves(field)]
    packed = [f"{_CANDIDATES}{name}" for name, kind in TRIED_TYPES.items() if np.issubdtype(kind, np.integer)]
    pa.parquet.write_table(
        table, file, row_group_size=max(1, len(table)), use_dictionary=["split"], write_statistics=False,
        compression={name: "none" if name.startswith(_CANDIDATES) else "lz4" for name in names},
        column_encoding=dict.fromkeys(packed, "DELTA_BINARY_PACKED"), write_batch_size=_PARQUET_BATCH,
    )  # fmt: skip


def jsonl_lines(table: pa.Table) -> Iterator[bytes]:
    """The rows as lines of a JSONL shard."""
    for row in table.to_pylist():
        yield json.dumps(_readable(row), separators=(",", ":"), allow_nan=False).encode() + b"\n"


def _leaves(field: pa.Field, prefix: str = "") -> list[str]:
    """Parquet's names of the columns that a field is stored in."""
    name, kind = prefix + field.name, field.type
    while pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        name, kind = f"{name}.list.element", kind.value_type
    if pa.types.is_struct(kind):
        return [leaf for part in kind for leaf in _leaves(part, f"{name}.")]
    return [name]


def shard_facts(path: Path) -> dict[str, Any] | None:
    """The facts that a Parquet shard carries; None if it is damaged or none of ours."""
    try:
        with pa.parquet.ParquetFile(path) as file:
            stored = (file.schema_arrow.metadata or {}).get(_FACTS)
    except (OSError, pa.ArrowException):
        return None
    return None if stored is None else dict(json.loads(stored))


def rows_in(path: Path) -> int:
    """Number of rows of a shard of either format, without reading them; 0 if it is damaged."""
    try:
        if path.suffix == ".jsonl":
            return path.read_bytes().count(b"\n")
        with pa.parquet.ParquetFile(path) as file:
            return int(file.metadata.num_rows)
    except (OSError, pa.ArrowException):
        return 0


def read_shard(path: Path, oracle: Oracle) -> pa.Table:
    """The rows of a shard of either format, with the columns of `table_of`.

    Args:
        oracle: that made it.
    Raises:
        SchemaError: it cannot be read, or is not of such tiles.
    """
    tile = int(oracle.facts["options"]["tile"])
    try:
        if path.suffix == ".parquet":
            table = pa.parquet.read_table(pa.BufferReader(path.read_bytes()))
            if not table.schema.equals(_schema(tile)):
                raise SchemaError(f"{path} has other columns than labels of {tile} px have; label again")
            return table.combine_chunks()
        data = path.read_bytes()
        data = data[: data.rfind(b"\n") + 1]  # a torn last line is no row
        if not data:
            return _schema(tile).empty_table()
        return _of_first_schema(data, oracle) if oracle.schema == 1 else _of_jsonl(data, tile)
    except OSError as error:
        raise SchemaError(f"cannot read {path}: {error.strerror or error}; check the path") from error
    except (pa.ArrowException, ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{path} is damaged ({str(error).splitlines()[0]}); delete it and label again") from error


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row for JSON: base64 for bytes, floats of seven decimals, which is finer than any gain that counts."""
    for layer in row["layers"]:
        for item in (layer, *layer["candidates"]):
            for name in ("d0", "d", "bits", "rd"):
                if name in item:
                    item[name] = round(item[name], 7)
    return {**row, "pixels": base64.b64encode(row["pixels"]).decode("ascii")}


def _of_jsonl(data: bytes, tile: int) -> pa.Table:
    """The rows of a JSONL shard."""
    schema = _schema(tile)
    place = schema.get_field_index("pixels")
    loose = pa.schema([(field.name, _loosened(field.type)) for field in schema.set(place, _AS_TEXT)])
    options = pa.json.ParseOptions(explicit_schema=loose, unexpected_field_behavior="error")
    blocks = pa.json.ReadOptions(block_size=max(1 << 20, len(data)))
    table = pa.json.read_json(pa.BufferReader(data), parse_options=options, read_options=blocks)
    empty = [name for name in loose.names if table.column(name).null_count]
    if empty:
        raise ValueError(f"rows without {empty[0]}")
    pixels = [_pixels(text, tile) for text in table.column("pixels").to_pylist()]
    return table.set_column(place, schema.field(place), pa.array(pixels, schema.field(place).type)).cast(schema)


def _of_first_schema(data: bytes, oracle: Oracle) -> pa.Table:
    """The rows of a shard of the first schema: JSONL of one rate, with lists of candidates."""
    tile, rate = int(oracle.facts["options"]["tile"]), oracle.rates[0]
    rows = [json.loads(line) for line in data.splitlines()]
    for row in rows:
        row["pixels"], row["lambda_rd"] = _pixels(row["pixels"], tile), rate.lambda_rd
        for layer in row["layers"]:
            layer["offsets"] = [*layer["offsets"], *[0] * (MAX_PARAMS - len(layer["offsets"]))]
            tried = layer["candidates"]
            values = zip(*(tried[name] for name in TRIED_TYPES), strict=True)
            layer["candidates"] = [dict(zip(TRIED_TYPES, one, strict=True)) for one in values]
    return pa.Table.from_pylist(rows, schema=_schema(tile))


def _pixels(text: str, tile: int) -> bytes:
    """Pixels of a tile from base64."""
    raw = base64.b64decode(text, validate=True)
    if len(raw) != tile * tile:
        raise ValueError(f"{len(raw)} pixels for a tile of {tile}x{tile}")
    return raw


def _loosened(kind: pa.DataType) -> pa.DataType:
    """A type as JSON's reader knows it: lists of any length."""
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(kind.value_type)
    if pa.types.is_list(kind):
        return pa.list_(_loosened(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(field.name, _loosened(field.type)) for field in kind])
    return kind


# ---------------------------------------------------------------- what Hugging Face datasets reads


def card(kind: Format, tile: int, about: str, name: str) -> str:
    """A dataset card: which files `datasets.load_dataset(folder)` reads, and as what; about, name: see `card_of`."""
    schema = _schema(tile)
    if kind == "jsonl":
        schema = schema.set(schema.get_field_index("pixels"), _AS_TEXT)
    return card_of(schema, f"labels-*.{kind}", about, name)


def card_of(schema: pa.Schema, files: str, about: str, name: str) -> str:
    """A dataset card of files with these columns.

    Args:
        files: their pattern.   about: what the set is, in Markdown.   name: of the set; `datasets` takes folders of one
            name for one set, and shows what it has seen first, unless this differs: see `set_name`.
    """
    lines = ["---", "pretty_name: PC15 labels", "configs:", f"- config_name: {name}", "  data_files:"]
    lines += ["  - split: train", f"    path: {files}", "dataset_info:"]
    lines += [f"  config_name: {name}", "  features:"]
    return "\n".join([*lines, *_features(schema, 2), "---", "", about.strip(), ""])


def set_name(what: str, facts: dict[str, Any]) -> str:
    """A name for a set that every other one differs in, by all that its rows depend on, as JSON has it."""
    return f"{what}-{hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]}"


def _features(columns: pa.Schema | pa.StructType, indent: int) -> list[str]:
    """Columns as the YAML of a dataset card lists them."""
    return [line for field in columns for line in _feature(field.name, field.type, indent)]


def _feature(name: str, kind: pa.DataType, indent: int) -> list[str]:
    """A column as the YAML of a dataset card says it."""
    pad = " " * indent
    head = f"{pad}- name: {name}"
    if pa.types.is_struct(kind):
        return [
            head,
            f"{pad}  struct:",
            *(line for part in kind for line in _feature(part.name, part.type, indent + 2)),
        ]
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        if pa.types.is_struct(inner):
            return [head, f"{pad}  list:", *_features(inner, indent + 2)]
        return [head, f"{pad}  list: {_dtype(inner)}"]
    return [head, f"{pad}  dtype: {_dtype(kind)}"]


def _dtype(kind: pa.DataType) -> str:
    """The name that `datasets` gives a type."""
    names = {"float": "float32", "double": "float64"}
    return (
        f"fixed_size_binary[{kind.byte_width}]"
        if pa.types.is_fixed_size_binary(kind)
        else names.get(str(kind), str(kind))
    )
