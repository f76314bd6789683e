"""Tables of symbol frequencies that a section names, their alphabets, and what of the header chooses among them."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pc15.bitstream.header import MAX_TILE
from pc15.bitstream.programs import AMP_DIRECT, MAX_LAYERS, MERGE_FROM, RAW_BITS, Ints
from pc15.entropy.tables import PRECISION, FlatTables, TableSet
from pc15.errors import MissingTableError
from pc15.proc.codebook_ids import FINE_CLASSES, OFFSET_MAX
from pc15.proc.generators import NAMES, load
from pc15.proc.spec import FINE_ABOVE, fine_bits
from pc15.quant import RATE_CLASSES, dc_levels, rate_class, tile_class

if TYPE_CHECKING:
    from pc15.proc.codebook import Codebook

DC_DIRECT = 47
"""DC residual codes (zigzag) below this have their own symbols."""
DC_CONTEXTS, MORE_CONTEXTS = 3, 5
MERGE_MODES = 4
"""Share of a section that continues neighbours: nothing, little, about half, nearly all."""
MERGE_AMP_DIRECT = 16
"""Amplitude changes (zigzag, then whether the sign changes) below this have their own symbols."""
FINE_BITS = range(fine_bits(FINE_ABOVE + 1), fine_bits(MAX_TILE) + 1)
"""Values of `fine_bits` other than 0."""
_ROUNDING_BITS = 1 / 256
"""More than log2(1 + 2^14 / 2^23), the largest share of itself by which a rANS state can end up too large."""


@dataclass(frozen=True)
class Syntax:
    """Alphabets and tables of a plane, and the shape of a section; encoder and decoder derive it from the header.

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
        """Numbers of the tables that the symbols use."""
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


@functools.cache
def alphabets(codebook: Codebook) -> dict[str, int]:
    """Every table that a section may name, and the size of its alphabet."""
    return _alphabets([max(1, codebook.size(gen)) for gen in range(len(NAMES))])


def _alphabets(entries: Sequence[int]) -> dict[str, int]:
    """Alphabets with a codebook that has so many entries of each generator."""
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


def least_bits(syntax: Syntax, tables: TableSet) -> float:
    """Fewest bits that a tile can take: its DC residual, and that it has no layer.

    A symbol of frequency f takes 14 - log2(f) bits of the coder's state, less what rounding the state can give back.
    """
    flat, numbers = numbered(tables), syntax.numbers

    def least(choices: Ints) -> float:
        most = max(int(np.diff(flat.cum[flat.first[n] : flat.first[n + 1]]).max()) for n in choices.tolist())
        return max(0.0, PRECISION - math.log2(most) - _ROUNDING_BITS)

    return least(numbers.dc) + least(numbers.more[0])


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
