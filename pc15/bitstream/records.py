"""What the tiles of a plane chose, as records and as tensors, and the order in which a section codes them.

`code_section` is written once and runs in both directions: a `Port` is handed the symbols (encoder, cost counter) or
hands them out (decoder), so the two can't drift apart.  Symbols come in phases over all tiles of the section, each
phase's contexts known from the phases before it, so that a decoder may take a whole phase at once:

    per tile row    DC residual against the neighbours' DC; context: how steep the row above is
    per layer l     more? (context: how many neighbours got this far), merged?, then which neighbour's layer it
                    continues, or generator, qv_id, seed index, refined?, offsets; amplitude

A merged layer continues a neighbour's pattern, drawn as if that tile were larger; see `Merge`.

Sections of one shape and one syntax, of several pictures say, are coded together: each phase of all of them at once,
which costs about as much as of one, and each into or from bytes of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pc15.bitstream.header import MAX_TILE
from pc15.entropy.rans import RansDecoder, encode_streams
from pc15.entropy.tables import FlatTables, TableSet
from pc15.errors import BitstreamError, ConfigError, MissingTableError
from pc15.proc.codebook import FINE_CLASSES, OFFSET_MAX, Codebook
from pc15.proc.generators import NAMES, load
from pc15.proc.spec import FINE_ABOVE, fine_bits
from pc15.quant import RATE_CLASSES, dc_levels, rate_class, tile_class
from pc15.runtime.tiered import tiered_jit

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_Record = TypeVar("_Record", bound=tuple[Any, ...])

MAX_LAYERS = 16
MAX_PARAMS = 6
AMP_DIRECT = 15
"""Amplitude levels up to this have their own symbols; larger ones escape to RAW_BITS."""
DC_DIRECT = 47
"""DC residual codes (zigzag) below this have their own symbols."""
DC_CONTEXTS, MORE_CONTEXTS = 3, 5
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
_ACTIVITY = (2, 3, 5, 9)
"""Where the classes of `activity_contexts` begin, but for the first."""
_ACTIVITY_OF = np.searchsorted(_ACTIVITY, np.arange(_ACTIVITY[-1] + 1), side="right")
_NONE = np.zeros(0, np.int64)
FINE_BITS = range(fine_bits(FINE_ABOVE + 1), fine_bits(MAX_TILE) + 1)
"""What `fine_bits` can be where it is not 0."""


class Merge(NamedTuple):
    """What a layer continues: layer number `layer` of the neighbour `MERGE_FROM[side]`, itself merged or not."""

    side: int
    layer: int


class LayerRec(NamedTuple):
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


class TileRec(NamedTuple):
    """What one tile chose: a DC level and its layers, in order."""

    dc: int
    layers: tuple[LayerRec, ...] = ()


@dataclass(eq=False)
class Programs:
    """The tiles of one plane, or of one section of it, in raster order.

    dc, count: [N].   gen, qv, seed, amp: [N, L].   offsets: [N, L, MAX_PARAMS].   Entries at layers >= count are 0.
    source: [N, L], 0, or 1 + side * MAX_LAYERS + layer of the `Merge`; see `resolve`.
    fine: `fine_bits` of the tiles.   whole, start: if these are views, of what, and from which of its tiles on.
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
    whole: Programs | None = None
    start: int = 0

    @classmethod
    def empty(cls, tiles: int, layers: int = MAX_LAYERS) -> Programs:
        """All zeros, room for `layers`; memory of layers that no tile has is never touched."""
        return cls._made(np.zeros, tiles, layers)

    @classmethod
    def _made(cls, make: Callable[[tuple[int, ...], type], Ints], tiles: int, layers: int) -> Programs:
        """Arrays that lie in memory layer after layer."""
        dc, count = make((2, tiles), np.int64)
        gen, qv, seed, amp, source = make((5, layers, tiles), np.int64).transpose(0, 2, 1)
        return cls(
            dc, count, gen, qv, seed, amp, make((layers, tiles, MAX_PARAMS), np.int64).transpose(1, 0, 2), source
        )

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return len(self.dc)

    def rows(self, start: int, stop: int) -> Programs:
        """Tiles start..stop-1, as views."""
        dc, count, gen, qv, seed, amp, offsets, source = (getattr(self, name)[start:stop] for name in _PARTS)
        whole, first = (self, 0) if self.whole is None else (self.whole, self.start)
        return Programs(dc, count, gen, qv, seed, amp, offsets, source, self.fine, whole, first + start)

    def put(self, start: int, other: Programs) -> None:
        """Copy another set of tiles in, from tile `start` on."""
        stop, self.fine = start + other.tiles, other.fine
        for name in _PARTS:
            getattr(self, name)[start:stop] = getattr(other, name)

    @staticmethod
    def runs(parts: Iterable[Programs]) -> list[Programs]:
        """The same tiles in the same order, but views of neighbouring tiles as one view: nothing is copied."""
        found: list[Programs] = []
        for part in parts:
            if found and part.whole is not None and part.whole is found[-1].whole and part.start == found[-1].stop:
                found[-1] = part.whole.rows(found[-1].start, part.stop)
            else:
                found.append(part)
        return found

    @property
    def stop(self) -> int:
        """The tile of `whole` where these end."""
        return self.start + self.tiles

    @classmethod
    def joined(cls, parts: Sequence[Programs]) -> Programs:
        """Tiles of several, one after the other, of planes with tiles of one size."""
        parts = cls.runs(parts)
        if len(parts) == 1:
            return parts[0]
        dc, count, gen, qv, seed, amp, offsets, source = (
            np.concatenate([getattr(part, name) for part in parts]) for name in _PARTS
        )
        return cls(dc, count, gen, qv, seed, amp, offsets, source, parts[0].fine)

    def split(self, tiles: int) -> list[Programs]:
        """So many tiles each, as views."""
        return [self.rows(start, start + tiles) for start in range(0, self.tiles, tiles)]

    @classmethod
    def packed(cls, parts: Sequence[Programs]) -> Programs:
        """As `joined`, layer after layer in memory and without those that no tile has: coding goes that way."""
        most = max(int(part.count.max(initial=0)) for part in parts)
        packed, start = cls._made(np.empty, sum(part.tiles for part in parts), most), 0
        for part in parts:
            packed.put(start, part.first(most))
            start += part.tiles
        return packed

    def first(self, layers: int) -> Programs:
        """Without further layers, as views."""
        gen, qv, seed, amp, offsets, source = (getattr(self, name)[:, :layers] for name in _PARTS[2:])
        return Programs(self.dc, self.count, gen, qv, seed, amp, offsets, source, self.fine)

    def records(self) -> list[TileRec]:
        """The typed view, one record per tile."""
        there = np.flatnonzero(np.arange(self.gen.shape[1]) < self.count[:, None])
        gen, qv, seed, amp, source = (
            part.reshape(-1).take(there).tolist() for part in (self.gen, self.qv, self.seed, self.amp, self.source)
        )
        lengths = _parameter_counts(bool(self.fine)).tolist()
        offsets = [*map([(0,) * length for length in lengths].__getitem__, gen)]
        steps = self.offsets.reshape(-1, MAX_PARAMS).take(there, axis=0)
        moved = np.flatnonzero(functools.reduce(np.bitwise_or, steps.T))
        for k, own in zip(moved.tolist(), steps[moved].tolist(), strict=True):
            offsets[k] = tuple(own[: lengths[gen[k]]])
        merges = map(_MERGES.__getitem__, source)
        layers = tuple(_records(LayerRec, gen, qv, offsets, seed, amp, merges))
        stops = np.append(0, np.cumsum(self.count)).tolist()
        own_layers = map(layers.__getitem__, map(slice, stops, stops[1:]))
        return [*_records(TileRec, self.dc.tolist(), own_layers)]

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
_MERGES = (None, *(Merge(side, layer) for side in range(len(MERGE_FROM)) for layer in range(MAX_LAYERS)))
"""What each value of `Programs.source` stands for."""


@functools.cache
def _parameter_counts(large: bool) -> Ints:
    """[G] parameters that have an offset, of each generator, in tiles that have `fine_bits` or not."""
    return np.asarray([len(load(gen).params_at(int(large))) for gen in range(len(NAMES))], np.int64)


def _records(kind: type[_Record], *fields: Iterable[object]) -> Iterator[_Record]:
    """Tuples of a kind from columns, without a call of its constructor for each, which takes twice as long."""
    return map(tuple.__new__, itertools.repeat(kind), zip(*fields, strict=True))  # type: ignore[arg-type]


def _zigzag(value: Ints) -> Ints:
    return (value << 1) ^ (value >> 63)


def _unzigzag(code: Ints) -> Ints:
    return (code >> 1) ^ -(code & 1)


# ---------------------------------------------------------------- ports


class Port(Protocol):
    """One end of `code_section`: numbers of tables and, when encoding, symbols go in; symbols come out.

    sections: how many it codes together.
    """

    decoding: bool

    @property
    def sections(self) -> int: ...

    def code(self, kind: str, numbers: Ints, symbols: Ints | None, ends: Ints | None = None) -> Ints:
        """Code one symbol per table, [n] int64 each; `kind` is only for statistics.

        Args:
            ends: [sections], where the symbols of each end; None if there is only one.
        """
        ...


class Writer:
    """Collects symbols; `rans_bytes()` codes them.  Also the source of statistics and of training counts.

    numbers, symbols: of several sections together, phase by phase.
    """

    decoding = False

    def __init__(self, tables: TableSet, sections: int = 1) -> None:
        self.sections = sections
        self._tables = numbered(tables)
        self._kinds: list[str] = []
        self._numbers: list[Ints] = []
        self._symbols: list[Ints] = []
        self._ends: list[Ints] = []

    def code(self, kind: str, numbers: Ints, symbols: Ints | None, ends: Ints | None = None) -> Ints:
        assert symbols is not None, "a writer is given the symbols"
        if symbols.size:
            self._kinds.append(kind)
            self._numbers.append(numbers)
            self._symbols.append(symbols)
            self._ends.append(np.asarray([len(symbols)]) if ends is None else ends)
        return symbols

    @property
    def numbers(self) -> Ints:
        """The numbers of the tables of everything collected, [n]."""
        return np.concatenate([_NONE, *self._numbers])

    @property
    def symbols(self) -> Ints:
        """The symbols collected, [n]."""
        return np.concatenate([_NONE, *self._symbols])

    @property
    def _counts(self) -> Ints:
        """[phases, sections] how many symbols of each section a phase has."""
        ends = np.asarray(self._ends, np.int64).reshape(-1, self.sections)
        return ends - np.pad(ends, ((0, 0), (1, 0)))[:, :-1]

    def payloads(self) -> list[bytes]:
        """The rANS bytes of each section."""
        return encode_streams(self.symbols, self.numbers, self._counts, self._tables)

    def rans_bytes(self) -> bytes:
        """The rANS bytes of everything collected, of one section."""
        (payload,) = self.payloads()
        return payload

    def raw_bytes(self) -> bytes:
        """The same symbols as 16-bit little-endian numbers, for debugging."""
        self.rans_bytes()  # refuses symbols that their tables do not have
        return self.symbols.astype("<u2").tobytes()

    def tallies(self) -> list[dict[str, float]]:
        """Cost of each kind of symbol, bits, by the tables, of each section."""
        costs = self._tables.cost_q8[self._tables.first[self.numbers] + self.symbols]
        counts = self._counts
        sums = np.append(0, np.cumsum(costs, dtype=np.int64))[np.append(0, np.cumsum(counts))]
        kinds = list(dict.fromkeys(self._kinds))
        bits = np.zeros((len(kinds), self.sections))
        np.add.at(bits, [kinds.index(kind) for kind in self._kinds], np.diff(sums).reshape(counts.shape) / 256)
        return [
            {kind: own[kinds.index(kind)] for kind in dict.fromkeys(itertools.compress(self._kinds, there))}
            for own, there in zip(bits.T.tolist(), (counts > 0).T.tolist(), strict=True)
        ]

    def bits_by_kind(self) -> dict[str, float]:
        """Cost of each kind of symbol, bits, by the tables, of one section."""
        (tally,) = self.tallies()
        return tally

    def counts(self) -> dict[str, Ints]:
        """How often each symbol of each table was collected, of the tables that were used at all."""
        tables, numbers = self._tables, self.numbers
        total = np.bincount(tables.first[numbers] + self.symbols, minlength=len(tables.cum))
        return {tables.names[n]: total[tables.first[n] : tables.first[n + 1] - 1] for n in np.unique(numbers).tolist()}


class Reader:
    """Hands out the symbols of a section's bytes, or of several sections'."""

    decoding = True

    def __init__(self, tables: TableSet, *payloads: bytes) -> None:
        self.sections = len(payloads)
        self._tables, self._decoder = numbered(tables), RansDecoder(*payloads)

    def code(self, kind: str, numbers: Ints, symbols: Ints | None, ends: Ints | None = None) -> Ints:
        return self._decoder.take_numbered(numbers, self._tables, ends)

    def finish(self) -> None:
        """Every byte used, the coder back at its start."""
        self._decoder.finish()


class RawReader:
    """Hands out the symbols of a RAW section."""

    decoding = True
    sections = 1

    def __init__(self, tables: TableSet, data: bytes) -> None:
        if len(data) % 2:
            raise BitstreamError(f"a RAW section has {len(data)} bytes, not a whole number of 16-bit symbols")
        self._tables, self._symbols, self._at = numbered(tables), np.frombuffer(data, "<u2").astype(np.int64), 0

    def code(self, kind: str, numbers: Ints, symbols: Ints | None, ends: Ints | None = None) -> Ints:
        taken = self._symbols[self._at : self._at + len(numbers)]
        if len(taken) < len(numbers):
            raise BitstreamError(f"a RAW section ended inside its {kind} symbols")
        self._at += len(numbers)
        beyond = np.flatnonzero(taken >= self._tables.sizes[numbers])
        if beyond.size:
            symbol, name = int(taken[beyond[0]]), self._tables.names[numbers[beyond[0]]]
            raise BitstreamError(f"a RAW section has {kind} symbol {symbol}, beyond table {name!r}")
        return taken

    def finish(self) -> None:
        """Every symbol used."""
        if self._at != len(self._symbols):
            raise BitstreamError(f"a RAW section has {len(self._symbols) - self._at} symbols too many")


# ---------------------------------------------------------------- contexts


@dataclass(frozen=True)
class Syntax:
    """What fixes the alphabets and the tables of a plane; encoder and decoder derive it from the header.

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

    @property
    def numbers(self) -> Numbers:
        """Which tables the symbols use."""
        return _numbers(self.family, self.rate, self.fine)


@dataclass(frozen=True, eq=False)
class Numbers:
    """Numbers of the tables that a plane's symbols use, int64, by what chooses among them.

    dc: [context].   more: [layer, context].   gen, amp: [layer].   qv, seed: [generator], -1 for one seed index only.
    offset: of a parameter's step, or in large tiles of its magnitude class.   raw, bits: digits; [their bits].
    merged, side, merge_amp: [merge mode].   merge_layer: [layer].
    """

    dc: Ints
    more: Ints
    gen: Ints
    amp: Ints
    qv: Ints
    seed: Ints
    refined: int
    offset: int
    raw: int
    bits: Ints
    merge_mode: int
    merged: Ints
    side: Ints
    merge_layer: Ints
    merge_amp: Ints


@functools.cache
def _numbers(family: str, rate: int, fine: int) -> Numbers:
    number = {name: n for n, name in enumerate(table_names())}

    def find(*names: str) -> Ints:
        return np.asarray([number[name] for name in names], np.int64)

    own, layers, gens, modes = f"{family}{rate}", range(MAX_LAYERS), range(len(NAMES)), range(1, MERGE_MODES)
    seeds = [load(gen).seeds for gen in gens]
    return Numbers(
        dc=find(*(f"{own}.dc.{c}" for c in range(DC_CONTEXTS))),
        more=np.stack([find(*(f"{own}.more.{min(l, 3)}.{c}" for c in range(MORE_CONTEXTS))) for l in layers]),
        gen=find(*(f"{own}.gen.{min(l, 2)}" for l in layers)),
        amp=find(*(f"{own}.amp.{min(l, 3)}" for l in layers)),
        qv=find(*(f"{family}.qv.{NAMES[gen]}" for gen in gens)),
        seed=np.asarray([number[f"seed.{count}"] if count > 1 else -1 for count in seeds], np.int64),
        refined=number[f"fine{fine}.refined" if fine else f"{own}.refined"],
        offset=number[f"fine{fine}.class" if fine else f"{family}.offset"],
        raw=number["raw"],
        bits=np.append(-1, find(*(f"bits.{bits}" for bits in range(1, RAW_BITS + 1)))),
        merge_mode=number["merge.mode"],
        merged=np.append(-1, find(*(f"merge.is.{mode}" for mode in modes))),
        side=np.append(-1, find(*(f"merge.side.{mode}" for mode in modes))),
        merge_layer=find(*(f"merge.layer.{min(l, 3)}" for l in layers)),
        merge_amp=np.append(-1, find(*(f"merge.amp.{mode}" for mode in modes))),
    )


def merge_mode(programs: Programs) -> int:
    """The class 0..MERGE_MODES-1 of how many layers continue neighbours."""
    merged, layers = int(np.count_nonzero(programs.source)), int(programs.count.sum())
    return 0 if not merged else 1 + (4 * merged >= layers) + (4 * merged >= 3 * layers)


@functools.cache
def alphabets(codebook: Codebook) -> dict[str, int]:
    """Every table that a section may name, and the size of its alphabet."""
    return _alphabets([max(1, codebook.size(gen)) for gen in range(len(NAMES))])


def _alphabets(entries: Sequence[int]) -> dict[str, int]:
    """As `alphabets`, of a codebook with so many entries of each generator."""
    sizes = {"raw": 1 << RAW_BITS}
    sizes |= {f"bits.{bits}": 1 << bits for bits in range(1, RAW_BITS + 1)}
    for fine in FINE_BITS:
        sizes |= {f"fine{fine}.refined": 2, f"fine{fine}.class": FINE_CLASSES}
    sizes["merge.mode"] = MERGE_MODES
    for mode in range(1, MERGE_MODES):
        sizes |= {
            f"merge.is.{mode}": 2,
            f"merge.side.{mode}": len(MERGE_FROM),
            f"merge.amp.{mode}": MERGE_AMP_DIRECT + 1,
        }
    sizes |= {f"merge.layer.{k}": MAX_LAYERS for k in range(4)}
    sizes |= {f"seed.{load(gen).seeds}": load(gen).seeds for gen in range(len(NAMES)) if load(gen).seeds > 1}
    for family in "smlc":
        sizes[f"{family}.offset"] = 2 * OFFSET_MAX + 1
        sizes |= {f"{family}.qv.{name}": size for name, size in zip(NAMES, entries, strict=True)}
        for rate in range(RATE_CLASSES):
            prefix = f"{family}{rate}"
            sizes[f"{prefix}.refined"] = 2
            sizes |= {f"{prefix}.dc.{c}": DC_DIRECT + 1 for c in range(DC_CONTEXTS)}
            sizes |= {f"{prefix}.more.{k}.{c}": 2 for k in range(4) for c in range(MORE_CONTEXTS)}
            sizes |= {f"{prefix}.gen.{k}": len(NAMES) for k in range(3)}
            sizes |= {f"{prefix}.amp.{k}": 2 * AMP_DIRECT + 1 for k in range(4)}
    return sizes


@functools.cache
def table_names() -> tuple[str, ...]:
    """Names of all tables; a table's place is its number, whatever the codebook."""
    return tuple(_alphabets([1] * len(NAMES)))


def numbered(tables: TableSet) -> FlatTables:
    """The tables of a set by their numbers.

    Raises:
        MissingTableError: one is not there.
    """
    return tables.flat(table_names())


@functools.cache
def _sizes(codebook: Codebook) -> Ints:
    return np.asarray([*alphabets(codebook).values()], np.int64)


def check_tables(tables: TableSet, codebook: Codebook) -> None:
    """Check that tables were made for a codebook, before anything is coded with both.

    Raises:
        MissingTableError: a table is missing or has another alphabet.
    """
    flat, sizes = numbered(tables), _sizes(codebook)
    wrong = np.flatnonzero(flat.sizes != sizes)
    if wrong.size:
        n = int(wrong[0])
        raise MissingTableError(
            f"rANS tables {tables.id!r} do not fit codebook {codebook.id!r}: table {flat.names[n]!r} has "
            f"{flat.sizes[n]} symbols, {sizes[n]} are needed; train tables for this codebook, or choose the pair that "
            "belongs together"
        )


class _Coding:
    """A port, and the tiles of its sections: those of one after those of the other, all of one syntax."""

    def __init__(self, port: Port, syntax: Syntax) -> None:
        self.port, self.syntax, self.numbers = port, syntax, syntax.numbers
        self.starts = np.arange(port.sections) * (syntax.ny * syntax.nx)
        self._stops = self.starts + syntax.ny * syntax.nx

    def code(self, kind: str, at: Ints, numbers: Ints | int, symbols: Ints | None) -> Ints:
        """Code one symbol of each of the tiles `at`, in order; a tile may have several."""
        if not isinstance(numbers, np.ndarray):
            numbers = np.full(len(at), numbers)
        ends = at.searchsorted(self._stops) if len(self._stops) > 1 else None
        return self.port.code(kind, numbers, symbols, ends)

    def part(self, kind: str, at: Ints, numbers: Ints | int, values: Ints) -> Ints:
        """Code what `values` hold of the tiles `at`, or put it there."""
        if not self.port.decoding:
            return self.code(kind, at, numbers, values[at])
        values[at] = symbols = self.code(kind, at, numbers, None)
        return symbols

    def escaped(self, kind: str, at: Ints, numbers: Ints | int, codes: Ints | None, direct: int) -> Ints:
        """Codes below `direct` as one symbol, larger ones as an escape and two raw digits."""
        symbols = self.code(kind, at, numbers, None if codes is None else np.minimum(codes, direct))
        escaped = np.flatnonzero(symbols == direct)
        if not escaped.size:
            return symbols
        rest, rows = None if codes is None else codes[escaped] - direct, at[escaped]
        high = self.code(kind, rows, self.numbers.raw, None if rest is None else rest >> RAW_BITS)
        low = self.code(kind, rows, self.numbers.raw, None if rest is None else rest & ((1 << RAW_BITS) - 1))
        out = symbols.copy()
        out[escaped] = direct + (high << RAW_BITS) + low
        return out

    def fine(self, at: Ints, steps: Ints | None) -> Ints:
        """Sub-level steps: the class of each magnitude, then, digit by digit, sign and magnitude of all that have one.

        Class c says 2**(c-1) <= |step| < 2**c; its c bits are |step| - 2**(c-1), and on top the sign, 1 for minus.
        They are coded as digits of RAW_BITS bits, the highest digit first and shorter where c is no multiple.
        """
        size = None if steps is None else np.abs(steps)
        classes = None if size is None else np.frexp(size)[1].astype(np.int64)  # the bit length
        classes = self.code("offset", at, self.numbers.offset, classes)
        half = (1 << classes) >> 1
        code = None if steps is None or size is None else size - half + np.where(steps < 0, half, 0)
        value = np.zeros(len(at), np.int64)
        for digit in range(-(-int(classes.max(initial=0)) // RAW_BITS) - 1, -1, -1):
            rows = np.flatnonzero(classes > digit * RAW_BITS)
            bits = np.minimum(classes[rows] - digit * RAW_BITS, RAW_BITS)
            part = None if code is None else (code[rows] >> (digit * RAW_BITS)) & ((1 << bits) - 1)
            value[rows] += self.code("offset", at[rows], self.numbers.bits[bits], part) << (digit * RAW_BITS)
        negative = value >= half  # class 0 has no bits: half is 0 there
        return np.where(classes == 0, 0, np.where(negative, -value, value + half))


def predict_dc(above: Sequence[int] | Ints, left: int, column: int, middle: int, start: int = 0) -> int:
    """DC level expected from the tiles above and to the left, as levels; `middle` for the first tile.

    The plane through the three neighbours, held inside their range (the median predictor of LOCO-I).

    Args:
        above: the row above, from `start` on; empty for the first one.   left: counts for nothing in column 0.
    """
    if not column:
        return above[start] if len(above) else middle
    if not len(above):
        return left
    top, corner = above[start + column], above[start + column - 1]
    low, high = min(top, left), max(top, left)
    plane = max(low, min(high, top + left - corner))
    return (plane + (top + left + 1) // 2 + 1) // 2


@tiered_jit(predict_dc)
def _walk_dc(levels: Ints, residuals: Ints, above: Ints, nx: int, middle: int, decoding: int) -> None:
    """Along rows of several sections, levels from their residuals against `predict_dc`; or residuals from levels."""
    left = middle
    for at in range(len(levels)):
        column = at % nx
        expected = predict_dc(above, left, column, middle, at - column)
        if decoding:
            levels[at] = expected + residuals[at]
        else:
            residuals[at] = levels[at] - expected
        left = levels[at]


@tiered_jit(predict_dc)
def choose_dc(
    levels: Ints, ideal: Floats, price: Floats, above: Ints, contexts: Ints, costs: Floats, middle: int, top: int
) -> None:
    """DC levels of a row of tiles, left to right: the nearest ones, or cheaper ones beside them where that pays.

    Args:
        levels: [nx], filled.   ideal, price: [nx], what suits each tile best, in levels, and what a squared level
            beside it costs.   above: as `predict_dc` wants it.   contexts: [nx], see `dc_contexts`.
        costs: what each code of a residual costs in each of the 3 contexts, one after the other.
        middle, top: the first tile's expected level; how many levels there are.
    """
    left, codes = middle, len(costs) // 3
    for column in range(len(levels)):
        expected = predict_dc(above, left, column, middle)
        near = round(ideal[column])
        best, first = -1.0, contexts[column] * codes
        for level in range(max(near - 2, 0), min(near + 3, top)):
            residual = level - expected
            code = 2 * residual if residual >= 0 else -2 * residual - 1
            beside = level - ideal[column]
            cost = price[column] * (beside * beside) + costs[first + min(code, codes - 1)]
            if best < 0.0 or cost < best:
                best, left = cost, level
        levels[column] = left


def dc_contexts(above: Ints, nx: int) -> Ints:
    """How steep the row above is at each column: 0 flat, 1, or 2 (also for the first row, where `above` is empty).

    Args:
        above: [.., nx] or empty.
    """
    if not above.size:
        return np.full(nx, DC_CONTEXTS - 1)
    step, slope = np.abs(np.diff(above)), np.zeros(above.shape, np.int64)
    slope[..., :-1] = step
    np.maximum(slope[..., 1:], step, out=slope[..., 1:])
    return (slope >= 2).astype(np.int64) + (slope >= 5)


def _code_dc(coding: _Coding, given: Ints | None) -> Ints:
    """DC levels of all tiles, row by row of all sections; the residual against `predict_dc`."""
    syntax, sections = coding.syntax, coding.port.sections
    ny, nx, middle = syntax.ny, syntax.nx, syntax.dc_top // 2
    shape = sections, ny, nx
    rows = np.zeros((ny, sections, nx), np.int64)
    if given is not None:
        rows[:] = given.reshape(shape).swapaxes(0, 1)
    at = np.repeat(coding.starts, nx)  # which section it is matters only
    contexts, above = np.full((sections, nx), DC_CONTEXTS - 1), _NONE
    residual = np.zeros(sections * nx, np.int64)
    for row in rows:
        levels, numbers = row.reshape(-1), coding.numbers.dc.take(contexts.reshape(-1))
        if given is None:
            residual = _unzigzag(coding.escaped("dc", at, numbers, None, DC_DIRECT))
            _walk_dc(levels, residual, above, nx, middle, 1)
        else:
            _walk_dc(levels, residual, above, nx, middle, 0)
            coding.escaped("dc", at, numbers, _zigzag(residual), DC_DIRECT)
        contexts, above = dc_contexts(row, nx), levels
    if rows.size and not (rows.min() >= 0 and rows.max() < syntax.dc_top):
        raise BitstreamError(f"a DC level lies outside 0..{syntax.dc_top - 1}: the section is damaged")
    return rows.swapaxes(0, 1).reshape(-1)


def neighbour_contexts(alive: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """How many of the four neighbours are alive, 0..4, for [.., ny, nx] maps; beyond the border counts as dead."""
    count = alive.view(np.int8)
    total = np.zeros(alive.shape, np.int8)
    total[..., 1:, :] += count[..., :-1, :]
    total[..., :-1, :] += count[..., 1:, :]
    total[..., 1:] += count[..., :-1]
    total[..., :-1] += count[..., 1:]
    return total.reshape(-1)


def activity_contexts(dc: Ints, ny: int, nx: int) -> Ints:
    """How much a tile's DC differs from its neighbours', in five classes: tells layers from flat tiles.

    Args:
        dc: tiles of a section of [ny, nx], or of several.
    """
    level = dc.reshape(-1, ny, nx)
    most = np.zeros(level.shape, np.int64)
    for before, after, step in (
        (most[:, :-1], most[:, 1:], np.abs(np.diff(level, axis=1))),
        (most[:, :, :-1], most[:, :, 1:], np.abs(np.diff(level, axis=2))),
    ):
        np.maximum(before, step, out=before)
        np.maximum(after, step, out=after)
    return _ACTIVITY_OF[np.minimum(most.reshape(-1), _ACTIVITY[-1])]


def code_section(port: Port, syntax: Syntax, given: Programs | None) -> Programs:
    """Code all tiles of a section through `port`; returns what was given, or what was decoded.

    Raises:
        BitstreamError: decoded symbols that no encoder writes.
    """
    (section,) = code_sections(port, syntax, None if given is None else [given])
    return section


def code_sections(port: Port, syntax: Syntax, given: Sequence[Programs] | None) -> list[Programs]:
    """As `code_section`, of all sections of a port together; what is decoded are views of arrays that they share."""
    coding, n, nx = _Coding(port, syntax), syntax.ny * syntax.nx, syntax.nx
    out = Programs.empty(port.sections * n) if given is None else Programs.packed(given)
    for part in (out, *(given or ())):
        part.fine = syntax.fine
    modes, changes = np.zeros(port.sections, np.int64), None
    if n > 1:  # a lone tile has no neighbour
        if given is not None and out.source.any():
            modes[:] = [merge_mode(part) for part in given]
            changes = np.concatenate([part.amp_codes(nx) for part in given])
        modes = coding.code("merge", coding.starts, coding.numbers.merge_mode, None if given is None else modes)
    dc = _code_dc(coding, None if given is None else out.dc)
    if given is None:
        out.dc[:] = dc
    at = np.arange(out.tiles)
    contexts: npt.NDArray[np.integer] = activity_contexts(dc, syntax.ny, nx)
    for layer in range(MAX_LAYERS):
        more = None if given is None else (out.count[at] > layer).astype(np.int64)
        more = coding.code("more", at, coding.numbers.more[layer].take(contexts[at]), more)
        at = at[more == 1]
        if not at.size:
            break
        if given is None:
            out.count[at] = layer + 1
        own = _code_merges(coding, out, at, layer, modes, changes) if modes.any() else at
        if own.size:
            _code_layer(coding, out, own, layer)
        alive = np.zeros(out.tiles, bool)
        alive[at] = True
        contexts = neighbour_contexts(alive.reshape(-1, syntax.ny, nx))
    if given is not None:
        return [*given]
    decoded = out.split(n)
    for part in itertools.compress(decoded, modes.tolist()):
        part.settle(nx)
    return decoded


def _code_merges(coding: _Coding, out: Programs, at: Ints, layer: int, modes: Ints, changes: Ints | None) -> Ints:
    """Which of the tiles `at` continue a neighbour with layer number `layer`, and all of those; returns the others.

    Args:
        modes: [sections], where it is 0 no tile does.   changes: [N, L], see `Programs.amp_codes`.
    """
    numbers, decoding = coding.numbers, coding.port.decoding
    mode = np.repeat(modes, coding.syntax.ny * coding.syntax.nx)

    def code(number: Ints, values: Ints) -> Ints:
        return coding.code("merge", at, number, None if decoding else values)

    at, every = at[mode[at] > 0], at
    merged = code(numbers.merged[mode[at]], (out.source[at, layer] > 0).astype(np.int64))
    at = at[merged == 1]
    if at.size:
        sides, layers = np.divmod(out.source[at, layer] - 1, MAX_LAYERS)
        sides = code(numbers.side[mode[at]], sides)
        layers = code(np.full(len(at), numbers.merge_layer[layer]), layers)
        out.source[at, layer] = 1 + sides * MAX_LAYERS + layers
        codes = None if changes is None else changes[at, layer]
        codes = coding.escaped("merge", at, numbers.merge_amp[mode[at]], codes, MERGE_AMP_DIRECT)
        if decoding:
            out.amp[at, layer] = codes
    return every[out.source[every, layer] == 0]


def _code_layer(coding: _Coding, out: Programs, at: Ints, layer: int) -> None:
    """Everything but the end flag of layer number `layer` of the tiles `at`."""
    syntax, numbers, decoding = coding.syntax, coding.numbers, coding.port.decoding
    gen = coding.part("gen", at, numbers.gen[layer], out.gen[:, layer])
    qv = coding.part("qv", at, numbers.qv.take(gen), out.qv[:, layer])
    beyond = np.flatnonzero(qv >= syntax.codebook.sizes.take(gen))
    if beyond.size:
        bad = int(beyond[0])
        raise BitstreamError(f"a layer names entry {qv[bad]} of {NAMES[gen[bad]]}, which codebook "
                             f"{syntax.codebook.id!r} does not have")  # fmt: skip
    tables = numbers.seed.take(gen)
    seeded = np.flatnonzero(tables >= 0)
    if seeded.size:
        coding.part("seed", at[seeded], tables[seeded], out.seed[:, layer])
    steps = out.offsets[:, layer]
    moved = None if decoding else (functools.reduce(np.bitwise_or, steps[at].T) != 0).astype(np.int64)
    refined = np.flatnonzero(coding.code("refined", at, numbers.refined, moved))
    if refined.size:
        counts = _parameter_counts(bool(syntax.fine)).take(gen[refined])
        which, parameter = np.nonzero(np.arange(MAX_PARAMS) < counts[:, None])
        rows = at[refined[which]]
        own = None if decoding else steps[rows, parameter]
        if syntax.fine:
            own = coding.fine(rows, own)
        else:
            own = coding.code("offset", rows, numbers.offset, None if own is None else own + OFFSET_MAX) - OFFSET_MAX
        if decoding:
            steps[rows, parameter] = own
    amp = out.amp[:, layer]
    codes = None
    if not decoding:
        values = amp[at]
        codes = 2 * (np.abs(values) - 1) + (values < 0)
    codes = coding.escaped("amp", at, numbers.amp[layer], codes, 2 * AMP_DIRECT)
    if decoding:
        amp[at] = ((codes >> 1) + 1) * (1 - 2 * (codes & 1))
