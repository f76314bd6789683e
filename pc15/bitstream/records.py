"""The typed view of one tile's choice, as it is handed out, stored and read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from pc15.bitstream.header import PAYLOAD_RAW
from pc15.bitstream.programs import MAX_LAYERS, MAX_PARAMS, LayerRec, Merge, TileProgram
from pc15.bitstream.varints import read_varint, varint
from pc15.errors import BitstreamError
from pc15.seed import tile_seed

__all__ = ["NO_GENERATOR", "REC_LAYERS", "REC_MERGED", "TileRec"]

NO_GENERATOR = -1
"""gen_id and qv_id of a tile without layers."""
REC_LAYERS, REC_MERGED = 1, 2
"""Bits of `rec_flags`: the tile has layers; one of them continues a neighbour's."""


@dataclass(frozen=True)
class TileRec:
    """Choice of one tile: its first layer in plain numbers, and its whole program as bytes.

    tile_id: number in its grid, in raster order.
    gen_id, qv_id: generator and codebook entry of the first layer; -1 if there is none.
    seed: hash seed of the first layer's noise, see `pc15.tile_seed`; 0 if there is no layer.
    rec_flags: `REC_LAYERS`, `REC_MERGED`.
    payload_fmt: form of the payload: `PAYLOAD_RAW`, the only one that a lone tile has.
    payload: varints: the DC level; the number of layers; and of each layer the generator, entry, seed index, amplitude
        level, what it continues (0, or 1 + side * 16 + layer), the number of offsets, the offsets.  Signed numbers are
        zigzag: 0, -1, 1, -2, ... are 0, 1, 2, 3, ...  Empty: the program is not known.
    """

    tile_id: int
    gen_id: int
    qv_id: int
    seed: int
    rec_flags: int = 0
    payload_fmt: int = PAYLOAD_RAW
    payload: bytes = b""

    @classmethod
    def of(cls, tile_id: int, program: TileProgram, seed: int) -> TileRec:
        """The record of a program; seed: the stream's."""
        layers = program.layers
        flags = REC_LAYERS * bool(layers) | REC_MERGED * any(layer.merge is not None for layer in layers)
        if not layers:
            return cls(tile_id, NO_GENERATOR, NO_GENERATOR, 0, flags, PAYLOAD_RAW, _packed(program))
        first = layers[0]
        own = tile_seed(seed, first.seed_index)
        return cls(tile_id, first.gen, first.qv_id, own, flags, PAYLOAD_RAW, _packed(program))

    @cached_property
    def program(self) -> TileProgram:
        """The DC level and the layers.

        Raises:
            BitstreamError: the payload is empty, of another form, or damaged.
        """
        if self.payload_fmt != PAYLOAD_RAW:
            raise BitstreamError(f"the payload of tile {self.tile_id} is of form {self.payload_fmt}, not {PAYLOAD_RAW}")
        return _unpacked(self.payload)

    @property
    def dc(self) -> int:
        """The DC level; see `program`."""
        return self.program.dc

    @property
    def layers(self) -> tuple[LayerRec, ...]:
        """The layers, in order; see `program`."""
        return self.program.layers

    def to_dict(self) -> dict[str, Any]:
        """All fields by name; `payload` stays bytes."""
        return asdict(self)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> TileRec:
        """The record of `to_dict`; flags and payload may be left out.

        Raises:
            BitstreamError: a field is missing, unknown, or of another type.
        """
        if not isinstance(fields, Mapping):
            raise BitstreamError(f"a tile's record is {type(fields).__name__}, not fields by name")
        numbers = ("tile_id", "gen_id", "qv_id", "seed", "rec_flags", "payload_fmt")
        given = {"rec_flags": 0, "payload_fmt": PAYLOAD_RAW, "payload": b"", **fields}
        if set(given) != {*numbers, "payload"}:
            wrong = sorted(set(given) ^ {*numbers, "payload"})
            raise BitstreamError(f"a tile's record has missing or unknown fields: {', '.join(map(str, wrong))}")
        for name in numbers:
            if isinstance(given[name], bool) or not isinstance(given[name], int) or given[name] < 0:
                raise BitstreamError(f"{name} of a tile's record is {given[name]!r}, not a whole number from 0 up")
        if not isinstance(given["payload"], bytes | bytearray):
            raise BitstreamError(f"payload of a tile's record is {type(given['payload']).__name__}, not bytes")
        return cls(**{**given, "payload": bytes(given["payload"])})


def _packed(program: TileProgram) -> bytes:
    numbers = [program.dc, len(program.layers)]
    for layer in program.layers:
        source = 0 if layer.merge is None else 1 + layer.merge.side * MAX_LAYERS + layer.merge.layer
        numbers += [layer.gen, layer.qv_id, layer.seed_index, _zigzag(layer.amp), source, len(layer.offsets)]
        numbers += map(_zigzag, layer.offsets)
    return b"".join(map(varint, numbers))


def _unpacked(payload: bytes) -> TileProgram:
    numbers, place = [], 0
    while place < len(payload):
        number, place = read_varint(payload, place, "a tile's record")
        numbers.append(number)
    rest = iter(numbers)
    try:
        dc, count = next(rest), next(rest)
        if count > MAX_LAYERS:
            raise BitstreamError(f"a tile's record says {count} layers; there are at most {MAX_LAYERS}")
        layers = []
        for _ in range(count):
            gen, qv_id, seed_index, amp, source, length = (next(rest) for _ in range(6))
            if length > MAX_PARAMS:
                raise BitstreamError(f"a layer of a tile's record has {length} offsets; there are at most {MAX_PARAMS}")
            offsets = tuple(_signed(next(rest)) for _ in range(length))
            merge = Merge(*divmod(source - 1, MAX_LAYERS)) if source else None
            layers.append(LayerRec(gen, qv_id, offsets, seed_index, _signed(amp), merge))
    except (StopIteration, RuntimeError) as error:  # RuntimeError: within a generator
        raise BitstreamError("the payload of a tile's record ends early") from error
    if next(rest, None) is not None:
        raise BitstreamError("the payload of a tile's record goes on after its last layer")
    return TileProgram(dc, tuple(layers))


def _zigzag(number: int) -> int:
    return 2 * number if number >= 0 else -2 * number - 1


def _signed(code: int) -> int:
    return code >> 1 if code % 2 == 0 else -(code >> 1) - 1
