"""What the tiles of a plane chose, as records and as tensors, and the order in which a section codes them.

`code_section` is written once and runs in both directions: a `Port` is handed the symbols (encoder, cost counter) or
hands them out (decoder), so the two can't drift apart.  Symbols come in phases over all tiles of the section, each
phase's contexts known from the phases before it, so that a decoder may take a whole phase at once:

    per tile row    DC residual against the neighbours' DC; context: how steep the row above is
    per layer l     more? (context: how many neighbours got this far), merged?, then which neighbour's layer it
                    continues, or generator, qv_id, seed index, refined?, offsets; amplitude

A merged layer continues a neighbour's pattern, drawn as if that tile were larger; see `Merge`.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pc15.bitstream.header import MAX_TILE
from pc15.entropy.rans import RansDecoder, rans_encode
from pc15.entropy.tables import TableSet
from pc15.errors import BitstreamError, ConfigError, MissingTableError
from pc15.proc.codebook import FINE_CLASSES, OFFSET_MAX, Codebook
from pc15.proc.generators import NAMES, load
from pc15.proc.spec import FINE_ABOVE, fine_bits
from pc15.quant import RATE_CLASSES, dc_levels, rate_class, tile_class

Ints = npt.NDArray[np.int64]

MAX_LAYERS = 16
MAX_PARAMS = 6
AMP_DIRECT = 15
"""Amplitude levels up to this have their own symbols; larger ones escape to RAW_BITS."""
DC_DIRECT = 47
"""DC residual codes (zigzag) below this have their own symbols."""
RAW_BITS = 5
MERGE_FROM = ((0, -1), (-1, 0), (-1, -1), (-1, 1))
"""Rows and columns from a tile to those whose layers it may continue: left, top, top left, top right."""
SIDES = ("left", "top", "top left", "top right")
"""What `MERGE_FROM`'s entries are called."""
MERGE_MODES = 4
"""How much of a section continues neighbours: nothing, little, about half, nearly all."""
MERGE_REACH = 64
"""Rows or columns of tiles that a pattern may be continued over; coordinates keep a factor of 3 to their limit."""
MERGE_AMP_DIRECT = 16
"""Amplitude changes (zigzag, then whether the sign changes) below this have their own symbols."""
AMP_MAX = AMP_DIRECT + (1 << (2 * RAW_BITS - 1))
"""Largest magnitude of an amplitude level that can be coded."""
FINE_BITS = range(fine_bits(FINE_ABOVE + 1), fine_bits(MAX_TILE) + 1)
"""What `fine_bits` can be where it is not 0."""


@dataclass(frozen=True)
class Merge:
    """What a layer continues: layer number `layer` of the neighbour `MERGE_FROM[side]`, itself merged or not."""

    side: int
    layer: int


@dataclass(frozen=True)
class LayerRec:
    """One layer: generator id, codebook entry, steps around it, seed index, signed amplitude level.

    offsets: in levels, or in sub-levels in tiles above 32 px; one per parameter, `Generator.extra` included.
    merge: what it continues, if anything; all but the amplitude are then those of the pattern continued.
    """

    gen: int
    qv_id: int
    offsets: tuple[int, ...]
    seed_index: int
    amp: int
    merge: Merge | None = None


@dataclass(frozen=True)
class TileRec:
    """What one tile chose: a DC level and its layers, in order."""

    dc: int
    layers: tuple[LayerRec, ...] = ()


@dataclass(eq=False)
class Programs:
    """The tiles of one plane, or of one section of it, in raster order.

    dc, count: [N].   gen, qv, seed, amp: [N, L].   offsets: [N, L, MAX_PARAMS].   Entries at layers >= count are 0.
    source: [N, L], 0, or 1 + side * MAX_LAYERS + layer of the `Merge`; see `resolve`.
    fine: `fine_bits` of the tiles.
    """

    dc: Ints
    count: Ints
    gen: Ints
    qv: Ints
    seed: Ints
    amp: Ints
    offsets: Ints
    source: Ints
    fine: int = 0

    @classmethod
    def empty(cls, tiles: int, layers: int = MAX_LAYERS) -> Programs:
        """All zeros, room for `layers`."""

        def zeros(*shape: int) -> Ints:
            return np.zeros(shape, np.int64)

        n, length = tiles, layers
        return cls(
            zeros(n), zeros(n), zeros(n, length), zeros(n, length), zeros(n, length), zeros(n, length),
            zeros(n, length, MAX_PARAMS), zeros(n, length),
        )  # fmt: skip

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self.dc)

    def rows(self, start: int, stop: int) -> Programs:
        """Tiles start..stop-1, as views."""
        dc, count, gen, qv, seed, amp, offsets, source = (getattr(self, name)[start:stop] for name in _PARTS)
        return Programs(dc, count, gen, qv, seed, amp, offsets, source, self.fine)

    def put(self, start: int, other: Programs) -> None:
        """Copy another set of tiles in, from tile `start` on."""
        stop, self.fine = start + other.tiles, other.fine
        for name in _PARTS:
            getattr(self, name)[start:stop] = getattr(other, name)

    @classmethod
    def joined(cls, parts: Sequence[Programs]) -> Programs:
        """Tiles of several, one after the other, of planes with tiles of one size."""
        if len(parts) == 1:
            return parts[0]
        dc, count, gen, qv, seed, amp, offsets, source = (
            np.concatenate([getattr(part, name) for part in parts]) for name in _PARTS
        )
        return cls(dc, count, gen, qv, seed, amp, offsets, source, parts[0].fine)

    def records(self) -> list[TileRec]:
        """The typed view, one record per tile."""
        return [
            TileRec(
                int(self.dc[n]),
                tuple(
                    LayerRec(
                        int(self.gen[n, k]),
                        int(self.qv[n, k]),
                        tuple(
                            int(o) for o in self.offsets[n, k, : len(load(int(self.gen[n, k])).params_at(self.fine))]
                        ),
                        int(self.seed[n, k]),
                        int(self.amp[n, k]),
                        Merge(*divmod(int(self.source[n, k]) - 1, MAX_LAYERS)) if self.source[n, k] else None,
                    )
                    for k in range(self.count[n])
                ),
            )
            for n in range(self.tiles)
        ]

    @classmethod
    def from_records(cls, records: Sequence[TileRec]) -> Programs:
        """The tensor view of typed records."""
        programs = cls.empty(len(records))
        for n, record in enumerate(records):
            programs.dc[n], programs.count[n] = record.dc, len(record.layers)
            for k, layer in enumerate(record.layers):
                programs.gen[n, k], programs.qv[n, k] = layer.gen, layer.qv_id
                programs.seed[n, k], programs.amp[n, k] = layer.seed_index, layer.amp
                programs.offsets[n, k, : len(layer.offsets)] = layer.offsets
                if layer.merge is not None:
                    programs.source[n, k] = 1 + layer.merge.side * MAX_LAYERS + layer.merge.layer
        return programs

    # ------------------------------------------------------------ merged layers

    def parents(self, nx: int) -> tuple[Ints, Ints]:
        """Merged layers [M] and what each continues [M], as tile * L + layer; both in coding order.

        Args:
            nx: tiles per row.
        Raises:
            BitstreamError: a layer continues a tile or a layer that is not there.
        """
        length = self.source.shape[1]
        at = np.flatnonzero(self.source)
        side, layer = np.divmod(self.source.reshape(-1)[at] - 1, MAX_LAYERS)
        row, column = np.divmod(at // length, nx)
        ways = np.asarray(MERGE_FROM, np.int64)
        row, column = row + ways[side, 0], column + ways[side, 1]
        there = (row >= 0) & (column >= 0) & (column < nx)
        tile = np.where(there, row * nx + column, 0)
        there &= layer < self.count[tile]
        if not there.all():
            bad = int(at[np.flatnonzero(~there)[0]])
            raise BitstreamError(f"layer {bad % length} of tile {bad // length} continues a layer that is not there")
        return at, tile * length + layer

    def roots(self, nx: int) -> tuple[Ints, Ints]:
        """Merged layers [M] and the layers where their patterns start [M], as tile * L + layer.

        Raises:
            BitstreamError: as `parents`, or a pattern goes on further than MERGE_REACH.
        """
        at, parent = self.parents(nx)
        return at, self._follow(at, parent, nx, np.zeros(0, np.int64))

    def _follow(self, at: Ints, parent: Ints, nx: int, sums: Ints) -> Ints:
        """Roots [M] of layers `at`; adds up along the way, in place, `sums` [.., N * L], 0 where nothing is merged."""
        to = np.arange(self.source.size)
        to[at] = parent
        while (to[to[at]] != to[at]).any():  # each turn doubles the way
            if sums.size:
                sums[..., at] = sums[..., at] + sums[..., to[at]]
            to[at] = to[to[at]]
        length = self.source.shape[1]
        here, there = np.divmod(at // length, nx), np.divmod(to[at] // length, nx)
        way = np.maximum(np.abs(here[0] - there[0]), np.abs(here[1] - there[1]))
        if way.max(initial=0) > MERGE_REACH:
            raise BitstreamError(
                f"a pattern is continued over {way.max()} tiles, more than {MERGE_REACH}: the section is damaged"
            )
        return np.asarray(to[at], np.int64)

    def resolve(self, nx: int) -> None:
        """Give merged layers the pattern that they continue.

        Raises:
            BitstreamError: as `roots`.
        """
        self._copy(*self.roots(nx))

    def _copy(self, at: Ints, root: Ints) -> None:
        length = self.source.shape[1]
        for part in (self.gen, self.qv, self.seed, self.offsets):
            part[at // length, at % length] = part[root // length, root % length]

    def amp_codes(self, nx: int) -> Ints:
        """[N, L] how the amplitude of each merged layer differs from its parent's, as it is coded.

        Raises:
            ConfigError: a merged layer is not what it continues.
        """
        at, parent = self.parents(nx)
        length = self.source.shape[1]
        for part in (self.gen, self.qv, self.seed, self.offsets):
            if (part[at // length, at % length] != part[parent // length, parent % length]).any():
                raise ConfigError("a merged layer has another pattern than the layer it continues; call resolve")
        self.roots(nx)
        amp, codes = self.amp.reshape(-1), np.zeros(self.source.size, np.int64)
        codes[at] = 2 * _zigzag(np.abs(amp[at]) - np.abs(amp[parent])) + ((amp[at] < 0) != (amp[parent] < 0))
        return codes.reshape(self.source.shape)

    def settle(self, nx: int) -> None:
        """`resolve` what was decoded: amplitudes of merged layers still hold their codes.

        Raises:
            BitstreamError: as `roots`, or an amplitude that cannot be.
        """
        at, parent = self.parents(nx)
        if not at.size:
            return
        amp, length = self.amp.reshape(-1), self.source.shape[1]
        sums = np.zeros((2, amp.size), np.int64)
        sums[:, at] = _unzigzag(amp[at] >> 1), amp[at] & 1
        root = self._follow(at, parent, nx, sums)
        self._copy(at, root)
        level = np.abs(amp[root]) + sums[0, at]
        if level.min() < 1 or level.max() > AMP_MAX:
            raise BitstreamError(f"an amplitude level lies outside 1..{AMP_MAX}: the section is damaged")
        self.amp[at // length, at % length] = np.where((amp[root] < 0) != (sums[1, at] % 2 == 1), -level, level)


_PARTS = ("dc", "count", "gen", "qv", "seed", "amp", "offsets", "source")


def _zigzag(value: Ints) -> Ints:
    return np.where(value >= 0, 2 * value, -2 * value - 1)


def _unzigzag(code: Ints) -> Ints:
    return np.where(code % 2 == 0, code // 2, -(code + 1) // 2)


# ---------------------------------------------------------------- ports


class Port(Protocol):
    """One end of `code_section`: names of tables and, when encoding, symbols go in; symbols come out."""

    decoding: bool

    def code(self, kind: str, names: Sequence[str], symbols: Ints | None) -> Ints:
        """Code one symbol per table name; `kind` is only for statistics."""
        ...


class Writer:
    """Collects symbols; `rans_bytes()` codes them.  Also the source of statistics and of training counts."""

    decoding = False

    def __init__(self, tables: TableSet) -> None:
        self._tables = tables
        self.kinds: list[str] = []
        self.names: list[str] = []
        self.symbols: list[int] = []

    def code(self, kind: str, names: Sequence[str], symbols: Ints | None) -> Ints:
        assert symbols is not None, "a writer is given the symbols"
        self.kinds += [kind] * len(names)
        self.names += names
        self.symbols += symbols.tolist()
        return symbols

    def rans_bytes(self) -> bytes:
        """The rANS bytes of everything collected."""
        return rans_encode(self.symbols, self._tables.of(self.names))

    def raw_bytes(self) -> bytes:
        """The same symbols as 16-bit little-endian numbers, for debugging."""
        return np.asarray(self.symbols, dtype="<u2").tobytes()

    def bits_by_kind(self) -> dict[str, float]:
        """Cost of each kind of symbol, bits, by the tables."""
        total: Counter[str] = Counter()
        for kind, table, symbol in zip(self.kinds, self._tables.of(self.names), self.symbols, strict=True):
            total[kind] += table.cost_q8[symbol]
        return {kind: cost / 256 for kind, cost in total.items()}


class Reader:
    """Hands out the symbols of a section's bytes."""

    decoding = True

    def __init__(self, tables: TableSet, data: bytes) -> None:
        self._tables, self._decoder = tables, RansDecoder(data)

    def code(self, kind: str, names: Sequence[str], symbols: Ints | None) -> Ints:
        return np.asarray(self._decoder.take(self._tables.of(names)), dtype=np.int64)

    def finish(self) -> None:
        """Every byte used, the coder back at its start."""
        self._decoder.finish()


class RawReader:
    """Hands out the symbols of a RAW section."""

    decoding = True

    def __init__(self, tables: TableSet, data: bytes) -> None:
        if len(data) % 2:
            raise BitstreamError(f"a RAW section has {len(data)} bytes, not a whole number of 16-bit symbols")
        self._tables, self._symbols, self._at = tables, np.frombuffer(data, dtype="<u2").astype(np.int64), 0

    def code(self, kind: str, names: Sequence[str], symbols: Ints | None) -> Ints:
        taken = self._symbols[self._at : self._at + len(names)]
        if len(taken) < len(names):
            raise BitstreamError(f"a RAW section ended inside its {kind} symbols")
        self._at += len(names)
        for name, symbol in zip(names, taken.tolist(), strict=True):
            if symbol >= len(self._tables.table(name).freq):
                raise BitstreamError(f"a RAW section has {kind} symbol {symbol}, beyond table {name!r}")
        return taken

    def finish(self) -> None:
        """Every symbol used."""
        if self._at != len(self._symbols):
            raise BitstreamError(f"a RAW section has {len(self._symbols) - self._at} symbols too many")


# ---------------------------------------------------------------- contexts


@dataclass(frozen=True)
class Syntax:
    """What fixes the alphabets and the table names of a plane; encoder and decoder derive it from the header.

    ny, nx: tiles of the section.   dc_top: number of DC levels.   fine: `fine_bits` of the tiles.
    """

    ny: int
    nx: int
    dc_top: int
    family: str
    rate: int
    codebook: Codebook = field(repr=False)
    fine: int = 0

    @classmethod
    def of(cls, ny: int, nx: int, tile: int, amp_step: int, dc_step: int, chroma: bool, codebook: Codebook) -> Syntax:
        """From the header's fields of one plane."""
        family = tile_class(tile, chroma=chroma)
        return cls(ny, nx, dc_levels(dc_step), family, rate_class(amp_step), codebook, fine_bits(tile))

    def dc_names(self, contexts: Ints) -> list[str]:
        return [f"{self.family}{self.rate}.dc.{c}" for c in contexts.tolist()]

    def more_names(self, layer: int, contexts: Ints) -> list[str]:
        return [f"{self.family}{self.rate}.more.{min(layer, 3)}.{c}" for c in contexts.tolist()]

    def gen_name(self, layer: int) -> str:
        return f"{self.family}{self.rate}.gen.{min(layer, 2)}"

    def qv_name(self, gen: int) -> str:
        return f"{self.family}.qv.{NAMES[gen]}"

    def amp_name(self, layer: int) -> str:
        return f"{self.family}{self.rate}.amp.{min(layer, 3)}"

    def refined_name(self) -> str:
        return f"fine{self.fine}.refined" if self.fine else f"{self.family}{self.rate}.refined"

    def offset_name(self) -> str:
        """Table of a parameter's step, or in large tiles of its magnitude class."""
        return f"fine{self.fine}.class" if self.fine else f"{self.family}.offset"


def merge_mode(programs: Programs) -> int:
    """The class 0..MERGE_MODES-1 of how many layers continue neighbours."""
    merged, layers = int(np.count_nonzero(programs.source)), int(programs.count.sum())
    return 0 if not merged else 1 + (4 * merged >= layers) + (4 * merged >= 3 * layers)


def merge_names(mode: int, layer: int) -> tuple[str, str, str, str]:
    """Tables of a section where layers may be merged: merged?, side, layer continued, change of the amplitude."""
    return f"merge.is.{mode}", f"merge.side.{mode}", f"merge.layer.{min(layer, 3)}", f"merge.amp.{mode}"


MERGE_NAME = "merge.mode"


def seed_name(gen: int) -> str:
    """Table of a noise generator's seed indices; they are as good as uniform."""
    return f"seed.{load(gen).seeds}"


RAW_NAME = "raw"


def bits_name(bits: int) -> str:
    """Table of a digit of 1..RAW_BITS bits, all alike."""
    return f"bits.{bits}"


@functools.cache
def alphabets(codebook: Codebook) -> dict[str, int]:
    """Every table that a section may name, and the size of its alphabet."""
    sizes = {RAW_NAME: 1 << RAW_BITS}
    sizes |= {bits_name(bits): 1 << bits for bits in range(1, RAW_BITS + 1)}
    for fine in FINE_BITS:
        sizes |= {f"fine{fine}.refined": 2, f"fine{fine}.class": FINE_CLASSES}
    sizes[MERGE_NAME] = MERGE_MODES
    for mode in range(1, MERGE_MODES):
        sizes |= {
            f"merge.is.{mode}": 2,
            f"merge.side.{mode}": len(MERGE_FROM),
            f"merge.amp.{mode}": MERGE_AMP_DIRECT + 1,
        }
    sizes |= {f"merge.layer.{k}": MAX_LAYERS for k in range(4)}
    sizes |= {seed_name(gen): load(gen).seeds for gen in range(len(NAMES)) if load(gen).seeds > 1}
    for family in "smlc":
        sizes[f"{family}.offset"] = 2 * OFFSET_MAX + 1
        sizes |= {f"{family}.qv.{NAMES[gen]}": max(1, codebook.size(gen)) for gen in range(len(NAMES))}
        for rate in range(RATE_CLASSES):
            prefix = f"{family}{rate}"
            sizes[f"{prefix}.refined"] = 2
            sizes |= {f"{prefix}.dc.{c}": DC_DIRECT + 1 for c in range(3)}
            sizes |= {f"{prefix}.more.{k}.{c}": 2 for k in range(4) for c in range(5)}
            sizes |= {f"{prefix}.gen.{k}": len(NAMES) for k in range(3)}
            sizes |= {f"{prefix}.amp.{k}": 2 * AMP_DIRECT + 1 for k in range(4)}
    return sizes


def check_tables(tables: TableSet, codebook: Codebook) -> None:
    """Check that tables were made for a codebook, before anything is coded with both.

    Raises:
        MissingTableError: a table is missing or has another alphabet.
    """
    for name, size in alphabets(codebook).items():
        found = len(tables.table(name).freq)
        if found != size:
            raise MissingTableError(
                f"rANS tables {tables.id!r} do not fit codebook {codebook.id!r}: table {name!r} has {found} symbols, "
                f"{size} are needed; train tables for this codebook, or choose the pair that belongs together"
            )


def _code_escaped(port: Port, kind: str, names: list[str], codes: Ints | None, direct: int) -> Ints:
    """Codes below `direct` as one symbol, larger ones as an escape and two raw digits."""
    symbols = port.code(kind, names, None if codes is None else np.minimum(codes, direct))
    escaped = np.flatnonzero(symbols == direct)
    if not escaped.size:
        return symbols if codes is None else codes
    rest = None if codes is None else codes[escaped] - direct
    raw = [RAW_NAME] * len(escaped)
    high = port.code(kind, raw, None if rest is None else rest >> RAW_BITS)
    low = port.code(kind, raw, None if rest is None else rest & ((1 << RAW_BITS) - 1))
    out = symbols.copy()
    out[escaped] = direct + (high << RAW_BITS) + low
    return out


def _code_fine(port: Port, name: str, steps: Ints | None, count: int) -> Ints:
    """Sub-level steps: the class of each magnitude, then, digit by digit, sign and magnitude of all that have one.

    Class c says 2**(c-1) <= |step| < 2**c; its c bits are |step| - 2**(c-1), and on top the sign, 1 for minus.
    They are coded as digits of RAW_BITS bits, the highest digit first and shorter where c is no multiple.
    """
    size = None if steps is None else np.abs(steps)
    classes = None if size is None else np.frexp(size)[1].astype(np.int64)  # the bit length
    classes = port.code("offset", [name] * count, classes)
    half = (1 << classes) >> 1
    code = None if steps is None or size is None else size - half + np.where(steps < 0, half, 0)
    value = np.zeros(count, np.int64)
    for digit in range(-(-int(classes.max(initial=0)) // RAW_BITS) - 1, -1, -1):
        at = np.flatnonzero(classes > digit * RAW_BITS)
        bits = np.minimum(classes[at] - digit * RAW_BITS, RAW_BITS)
        names = [bits_name(b) for b in bits.tolist()]
        part = None if code is None else (code[at] >> (digit * RAW_BITS)) & ((1 << bits) - 1)
        value[at] += port.code("offset", names, part) << (digit * RAW_BITS)
    negative = value >= half  # class 0 has no bits: half is 0 there
    return np.where(classes == 0, 0, np.where(negative, -value, value + half))


def predict_dc(above: Ints | None, left: int | None, column: int, middle: int) -> int:
    """DC level expected from the tiles above and to the left, as levels; `middle` for the first tile.

    The plane through the three neighbours, held inside their range (the median predictor of LOCO-I).
    """
    if above is None:
        return middle if left is None else left
    top = int(above[column])
    if left is None:
        return top
    corner = int(above[column - 1])
    low, high = min(top, left), max(top, left)
    plane = max(low, min(high, top + left - corner))
    return (plane + (top + left + 1) // 2 + 1) // 2


def dc_contexts(above: Ints | None, nx: int) -> Ints:
    """How steep the row above is at each column: 0 flat, 1, or 2 (also for the first row)."""
    if above is None:
        return np.full(nx, 2, np.int64)
    step = np.abs(np.diff(above))
    slope = np.maximum(np.concatenate([step[:1], step]) if nx > 1 else np.zeros(1, np.int64),
                       np.concatenate([step, step[-1:]]) if nx > 1 else np.zeros(1, np.int64))  # fmt: skip
    return np.digitize(slope, (2, 5)).astype(np.int64)


def _code_dc(port: Port, syntax: Syntax, given: Ints | None) -> Ints:
    """DC levels of all tiles, row by row; the residual against `predict_dc`."""
    ny, nx, middle = syntax.ny, syntax.nx, syntax.dc_top // 2
    out = np.zeros((ny, nx), np.int64)
    for row in range(ny):
        above = out[row - 1] if row else None
        names = syntax.dc_names(dc_contexts(above, nx))
        if given is not None:
            out[row] = given[row * nx : (row + 1) * nx]
            expected = [predict_dc(above, int(out[row, x - 1]) if x else None, x, middle) for x in range(nx)]
            _code_escaped(port, "dc", names, _zigzag(out[row] - np.asarray(expected, np.int64)), DC_DIRECT)
            continue
        residual = _unzigzag(_code_escaped(port, "dc", names, None, DC_DIRECT)).tolist()
        left: int | None = None
        for x in range(nx):
            left = predict_dc(above, left, x, middle) + residual[x]
            out[row, x] = left
    if out.size and not (out.min() >= 0 and out.max() < syntax.dc_top):
        raise BitstreamError(f"a DC level lies outside 0..{syntax.dc_top - 1}: the section is damaged")
    return out.reshape(-1)


def neighbour_contexts(alive: npt.NDArray[np.bool_]) -> Ints:
    """How many of the four neighbours are alive, 0..4, for a [ny, nx] map; beyond the border counts as dead."""
    padded = np.pad(alive.astype(np.int64), 1)
    total: Ints = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    return total.reshape(-1)


def activity_contexts(dc: Ints, ny: int, nx: int) -> Ints:
    """How much a tile's DC differs from its neighbours', in five classes: tells layers from flat tiles."""
    level = dc.reshape(ny, nx)
    padded = np.pad(level, 1, mode="edge")
    steps = [
        np.abs(padded[1 + oy : 1 + oy + ny, 1 + ox : 1 + ox + nx] - level)
        for oy, ox in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    return np.digitize(np.maximum.reduce(steps), (2, 3, 5, 9)).reshape(-1).astype(np.int64)


def code_section(port: Port, syntax: Syntax, given: Programs | None) -> Programs:
    """Code all tiles of a section through `port`; returns what was given, or what was decoded.

    Raises:
        BitstreamError: decoded symbols that no encoder writes.
    """
    n = syntax.ny * syntax.nx
    out = Programs.empty(n) if given is None else given
    out.fine = syntax.fine
    mode, changes = 0, None
    if n > 1:  # a lone tile has no neighbour
        mode = 0 if given is None else merge_mode(given)
        mode = int(port.code("merge", [MERGE_NAME], None if given is None else np.asarray([mode]))[0])
        changes = given.amp_codes(syntax.nx) if given is not None and mode else None
    dc = _code_dc(port, syntax, None if given is None else given.dc)
    if given is None:
        out.dc[:] = dc
    alive = np.ones(n, bool)
    contexts = activity_contexts(dc, syntax.ny, syntax.nx)
    for layer in range(MAX_LAYERS):
        at = np.flatnonzero(alive)
        if not at.size:
            break
        more = None if given is None else (given.count[at] > layer).astype(np.int64)
        more = port.code("more", syntax.more_names(layer, contexts[at]), more)
        at = at[more == 1]
        alive = np.zeros(n, bool)
        alive[at] = True
        out.count[at] = np.maximum(out.count[at], layer + 1)
        if at.size and mode:
            at = _code_merges(port, out, at, layer, mode, changes)
        if at.size:
            _code_layer(port, syntax, out, at, layer)
        contexts = neighbour_contexts(alive.reshape(syntax.ny, syntax.nx))
    if given is None:
        out.settle(syntax.nx)
    return out


def _code_merges(port: Port, out: Programs, at: Ints, layer: int, mode: int, changes: Ints | None) -> Ints:
    """Which of the tiles `at` continue a neighbour with layer number `layer`, and all of those; returns the others."""

    def given(values: Ints) -> Ints | None:
        return None if port.decoding else values

    flag, side, which, amp = merge_names(mode, layer)
    merged = port.code("merge", [flag] * len(at), given((out.source[at, layer] > 0).astype(np.int64)))
    own, at = at[merged == 0], at[merged == 1]
    if at.size:
        sides, layers = np.divmod(out.source[at, layer] - 1, MAX_LAYERS)
        sides = port.code("merge", [side] * len(at), given(sides))
        layers = port.code("merge", [which] * len(at), given(layers))
        out.source[at, layer] = 1 + sides * MAX_LAYERS + layers
        codes = None if changes is None else changes[at, layer]
        codes = _code_escaped(port, "merge", [amp] * len(at), codes, MERGE_AMP_DIRECT)
        if port.decoding:
            out.amp[at, layer] = codes
    return own


def _code_layer(port: Port, syntax: Syntax, out: Programs, at: Ints, layer: int) -> None:
    """Everything but the end flag of layer number `layer` of the tiles `at`."""
    encoding = not port.decoding

    def given(values: Ints) -> Ints | None:
        return values if encoding else None

    gen = port.code("gen", [syntax.gen_name(layer)] * len(at), given(out.gen[at, layer]))
    out.gen[at, layer] = gen
    gens = gen.tolist()
    qv = port.code("qv", [syntax.qv_name(g) for g in gens], given(out.qv[at, layer]))
    sizes = np.asarray([syntax.codebook.size(g) for g in gens])
    if (qv >= sizes).any():
        bad = int(np.flatnonzero(qv >= sizes)[0])
        raise BitstreamError(f"a layer names entry {qv[bad]} of {NAMES[gens[bad]]}, which codebook "
                             f"{syntax.codebook.id!r} does not have")  # fmt: skip
    out.qv[at, layer] = qv
    seeded = np.flatnonzero(np.asarray([load(g).seeds > 1 for g in gens]))
    if seeded.size:
        rows = at[seeded]
        names = [seed_name(gens[i]) for i in seeded.tolist()]
        out.seed[rows, layer] = port.code("seed", names, given(out.seed[rows, layer]))
    steps = out.offsets[at, layer]
    refined = port.code("refined", [syntax.refined_name()] * len(at), given(steps.any(axis=1).astype(np.int64)))
    if refined.any():
        rows = np.flatnonzero(refined)
        counts = [len(load(gens[i]).params_at(syntax.fine)) for i in rows.tolist()]
        place = np.repeat(rows, counts), np.concatenate([np.arange(c) for c in counts])
        if syntax.fine:
            steps[place] = _code_fine(port, syntax.offset_name(), given(steps[place]), len(place[0]))
        else:
            names = [syntax.offset_name()] * len(place[0])
            steps[place] = port.code("offset", names, given(steps[place] + OFFSET_MAX)) - OFFSET_MAX
        out.offsets[at, layer] = steps
    amp = out.amp[at, layer]
    codes = None if port.decoding else 2 * (np.abs(amp) - 1) + (amp < 0)
    codes = _code_escaped(port, "amp", [syntax.amp_name(layer)] * len(at), codes, 2 * AMP_DIRECT)
    out.amp[at, layer] = np.where(codes % 2 == 0, 1, -1) * (codes // 2 + 1)
