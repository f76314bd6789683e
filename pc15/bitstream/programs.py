"""The programs of a plane's tiles, as typed records and as arrays, and chains of merged layers.

A tile has a DC level and up to MAX_LAYERS layers.  A merged layer continues a neighbour's pattern, drawn as if that
tile were larger (see `Merge`): `Programs.source` says which one, and the other arrays repeat what the chain's first
layer, its root, says of the pattern.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from pc15.errors import BitstreamError, ConfigError
from pc15.proc.generators import NAMES, load

Ints = npt.NDArray[np.int64]
_Record = TypeVar("_Record", bound=tuple[Any, ...])

MAX_LAYERS = 16
MAX_PARAMS = 6
AMP_DIRECT = 15
"""Amplitude levels up to this have their own symbols; larger ones escape to RAW_BITS."""
RAW_BITS = 5
MERGE_FROM = ((0, -1), (-1, 0), (-1, -1), (-1, 1))
"""Rows and columns from a tile to those whose layers it may continue: left, top, top left, top right."""
SIDES = ("left", "top", "top left", "top right")
"""Names of `MERGE_FROM`'s entries."""
MERGE_REACH = 64
"""Rows or columns of tiles that a pattern may be continued over; coordinates keep a factor of 3 to their limit."""
AMP_MAX = AMP_DIRECT + (1 << (2 * RAW_BITS - 1))
"""Largest magnitude of an amplitude level that can be coded."""


class Merge(NamedTuple):
    """Layer that another continues: number `layer` of the neighbour `MERGE_FROM[side]`, itself merged or not."""

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


class TileProgram(NamedTuple):
    """Choice of one tile: a DC level and its layers, in order."""

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

    def pick(self, tiles: Ints) -> Programs:
        """A copy of the tiles of those numbers."""
        dc, count, gen, qv, seed, amp, offsets, source = (getattr(self, name)[tiles] for name in _PARTS)
        return Programs(dc, count, gen, qv, seed, amp, offsets, source, self.fine)

    def put(self, start: int, other: Programs) -> None:
        """Copy another set of tiles in, from tile `start` on."""
        stop, self.fine = start + other.tiles, other.fine
        for name in _PARTS:
            getattr(self, name)[start:stop] = getattr(other, name)

    @staticmethod
    def coalesce(parts: Iterable[Programs]) -> list[Programs]:
        """Join views of neighbouring tiles of one set into single views; nothing is copied."""
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
        parts = cls.coalesce(parts)
        if len(parts) == 1:
            return parts[0]
        dc, count, gen, qv, seed, amp, offsets, source = (
            np.concatenate([getattr(part, name) for part in parts]) for name in _PARTS
        )
        return cls(dc, count, gen, qv, seed, amp, offsets, source, parts[0].fine)

    def split(self, tiles: int) -> list[Programs]:
        """Views of so many tiles each."""
        return [self.rows(start, start + tiles) for start in range(0, self.tiles, tiles)]

    @classmethod
    def packed(cls, parts: Sequence[Programs]) -> Programs:
        """A copy as `joined`, layer after layer in memory, without layers that no tile has: coding goes that way."""
        most = max(int(part.count.max(initial=0)) for part in parts)
        packed, start = cls._made(np.empty, sum(part.tiles for part in parts), most), 0
        for part in parts:
            packed.put(start, part.first(most))
            start += part.tiles
        return packed

    def first(self, layers: int) -> Programs:
        """The first layers alone, as views."""
        gen, qv, seed, amp, offsets, source = (getattr(self, name)[:, :layers] for name in _PARTS[2:])
        return Programs(self.dc, self.count, gen, qv, seed, amp, offsets, source, self.fine)

    def records(self) -> list[TileProgram]:
        """The typed view, one record per tile."""
        if not self.tiles:  # whatever the generators are, which torch is loaded for
            return []
        there = np.flatnonzero(np.arange(self.gen.shape[1]) < self.count[:, None])
        gen, qv, seed, amp, source = (
            part.reshape(-1).take(there).tolist() for part in (self.gen, self.qv, self.seed, self.amp, self.source)
        )
        lengths = parameter_counts(bool(self.fine)).tolist()
        offsets = [*map([(0,) * length for length in lengths].__getitem__, gen)]
        steps = self.offsets.reshape(-1, MAX_PARAMS).take(there, axis=0)
        moved = np.flatnonzero(functools.reduce(np.bitwise_or, steps.T))
        for k, own in zip(moved.tolist(), steps[moved].tolist(), strict=True):
            offsets[k] = tuple(own[: lengths[gen[k]]])
        merges = map(_MERGES.__getitem__, source)
        layers = tuple(_records(LayerRec, gen, qv, offsets, seed, amp, merges))
        stops = np.append(0, np.cumsum(self.count)).tolist()
        own_layers = map(layers.__getitem__, map(slice, stops, stops[1:]))
        return [*_records(TileProgram, self.dc.tolist(), own_layers)]

    @classmethod
    def from_records(cls, records: Sequence[TileProgram]) -> Programs:
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
        codes[at] = 2 * zigzag(np.abs(amp[at]) - np.abs(amp[parent])) + ((amp[at] < 0) != (amp[parent] < 0))
        return codes.reshape(self.source.shape)

    def decode_merged_amps(self, nx: int) -> None:
        """Give decoded merged layers their pattern, as `resolve`, and the amplitudes of which they hold the codes.

        Raises:
            BitstreamError: as `roots`, or an amplitude that cannot be.
        """
        at, parent = self.parents(nx)
        if not at.size:
            return
        amp, length = self.amp.reshape(-1), self.source.shape[1]
        sums = np.zeros((2, amp.size), np.int64)
        sums[:, at] = unzigzag(amp[at] >> 1), amp[at] & 1
        root = self._follow(at, parent, nx, sums)
        self._copy(at, root)
        level = np.abs(amp[root]) + sums[0, at]
        if level.min() < 1 or level.max() > AMP_MAX:
            raise BitstreamError(f"an amplitude level lies outside 1..{AMP_MAX}: the section is damaged")
        self.amp[at // length, at % length] = np.where((amp[root] < 0) != (sums[1, at] % 2 == 1), -level, level)


_PARTS = ("dc", "count", "gen", "qv", "seed", "amp", "offsets", "source")
_MERGES = (None, *(Merge(side, layer) for side in range(len(MERGE_FROM)) for layer in range(MAX_LAYERS)))
"""Meaning of each value of `Programs.source`."""


@functools.cache
def parameter_counts(large: bool) -> Ints:
    """[G] parameters that have an offset, of each generator, in tiles that have `fine_bits` or not."""
    return np.asarray([len(load(gen).params_at(int(large))) for gen in range(len(NAMES))], np.int64)


def _records(kind: type[_Record], *fields: Iterable[object]) -> Iterator[_Record]:
    """Tuples of a kind from columns, without a call of its constructor for each, which takes twice as long."""
    return map(tuple.__new__, itertools.repeat(kind), zip(*fields, strict=True))  # type: ignore[arg-type]


def zigzag(value: Ints) -> Ints:
    """Codes 0, 1, 2, 3, .. of 0, -1, 1, -2, ..."""
    return (value << 1) ^ (value >> 63)


def unzigzag(code: Ints) -> Ints:
    """Inverse of `zigzag`."""
    return (code >> 1) ^ -(code & 1)


def merge_mode(programs: Programs) -> int:
    """The class 0..3 of how many layers continue neighbours; see `alphabets.MERGE_MODES`."""
    merged, layers = int(np.count_nonzero(programs.source)), int(programs.count.sum())
    return 0 if not merged else 1 + (4 * merged >= layers) + (4 * merged >= 3 * layers)
