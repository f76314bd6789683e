"""Declaration of a pattern: its formula, its parameters, their levels and ranges.

A parameter has `levels` quantized values, the finest that an offset can reach, and `coarse` of them stand in the
first codebook.  Values become integers through `decimal`, so every machine draws from the same numbers.

A step that is fine enough on 32 px is an edge many pixels off at the rim of a large tile.  So in tiles above
FINE_ABOVE px a level is cut into 2**f sub-levels, f = `fine_bits(tile)`: sub-level l * 2**f is level l, those between
follow the same formula, and some parameters go on beyond their range (`wide`).

| kind    | public value            | integer handed to `draw` ([B,1,1] int32)              |
|---------|-------------------------|-------------------------------------------------------|
| ratio   | tile units or a share   | Q14                                                   |
| degrees | 0..360                  | turns, 2**32 = 360 degrees                            |
| turns   | 0..1                    | turns, 2**32 = 1                                      |
| cycles  | periods across the tile | freq: times a Q14 coordinate it is a phase in turns   |
| cells   | lattice cells across it | Q8 cells per coordinate unit, for `Grid.lattice`      |
| count   | a whole number          | itself                                                |
"""

from __future__ import annotations

import decimal
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Literal

from pc15.errors import ConfigError
from pc15.scales import FREQ_ONE, ONE, rounded, wrap32

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["ratio", "degrees", "turns", "cycles", "cells", "count"]

CELL_FRAC = 8

FINE_ABOVE = 32
"""Tiles up to this side, px, know whole levels only."""


def fine_bits(tile: int) -> int:
    """log2 of the sub-levels per level in tiles of `tile` px: 0 up to 32 px, then 2, and 1 more per doubling.

    At half a sub-level every parameter is within half a pixel, or 1/16 turn, at the far side of its tile.
    """
    return 0 if tile <= FINE_ABOVE else (tile - 1).bit_length() - 4


_SCALE: dict[Kind, Decimal] = {
    "ratio": Decimal(ONE),
    "degrees": Decimal(1 << 32) / 360,
    "turns": Decimal(1 << 32),
    "cycles": Decimal(FREQ_ONE) / 2,  # a tile is two coordinate units wide
    "cells": Decimal(1 << CELL_FRAC) / 2,
    "count": Decimal(1),
}


@dataclass(frozen=True, kw_only=True)
class Param:
    """One parameter of a generator.

    Args:
        name: the keyword of `draw` and of `render(params=...)`.
        lo, hi: range of the public value; a periodic one leaves out `hi`.
        levels: number of quantized values.
        coarse: how many of them stand in the first codebook, evenly spread.
        coarse_share: the part of the range, from `lo`, that those cover: 0.5 for the phase of a wave, whose other
            half is the negative amplitude.
        log: levels are spaced by a constant factor.
        periodic: the level after the last is the first.
        kind: which integer `draw` gets; see the table above.
        unit: what a person reads in `pc15 generators`.
        default: public value when `render` is not told; the middle level if None.
        wide: range of the public value that sub-levels reach in large tiles, where finer waves and harder edges can
            be seen; `lo` to `hi` if None.
    """

    name: str
    lo: float
    hi: float
    levels: int
    coarse: int = 1
    coarse_share: float = 1.0
    log: bool = False
    periodic: bool = False
    kind: Kind = "ratio"
    unit: str = ""
    default: float | None = None
    wide: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.wide is not None and (self.periodic or not self.wide[0] <= self.lo <= self.hi <= self.wide[1]):
            raise ConfigError(f"parameter {self.name!r}: wide must contain lo and hi of a range with ends, got {self}")
        if not (self.levels >= 1 and 1 <= self.coarse <= self.levels and self.lo <= self.hi):
            raise ConfigError(f"parameter {self.name!r}: needs lo <= hi and 1 <= coarse <= levels, got {self}")
        if self.log and self.lo <= 0:
            raise ConfigError(f"parameter {self.name!r}: a logarithmic range starts above 0, got lo={self.lo}")

    def value(self, level: int | Decimal) -> Decimal:
        """Public value of a level, or between or beyond levels; the same decimal on every machine."""
        lo, hi = Decimal(repr(self.lo)), Decimal(repr(self.hi))
        if self.levels == 1:
            return lo
        with decimal.localcontext(decimal.Context(prec=30)):
            t = Decimal(level) / (self.levels if self.periodic else self.levels - 1)
            return lo * ((hi / lo).ln() * t).exp() if self.log else lo + (hi - lo) * t

    def to_fixed(self, value: float | Decimal) -> int:
        """Integer that stands for a public value."""
        exact = value if isinstance(value, Decimal) else Decimal(repr(float(value)))
        return wrap32(rounded(exact * _SCALE[self.kind]))

    @functools.cached_property
    def fixed(self) -> tuple[int, ...]:
        """The integer of every level."""
        return tuple(self.to_fixed(self.value(level)) for level in range(self.levels))

    def shift(self, fine: int) -> int:
        """log2 of this parameter's sub-levels per level; counts stay whole."""
        return 0 if self.kind == "count" or self.levels == 1 else fine

    def fine_fixed(self, step: int, fine: int) -> int:
        """The integer of sub-level `step`, 2**shift(fine) of them per level."""
        return self.to_fixed(self.value(Decimal(step) / (1 << self.shift(fine))))

    @functools.cache  # noqa: B019 - parameters live as long as the program
    def span(self, fine: int) -> tuple[int, int]:
        """First and last sub-level.  Ends beyond the levels are rounded inwards."""
        one = 1 << self.shift(fine)
        if self.periodic:
            return 0, self.levels * one - 1
        if self.wide is None or self.levels == 1 or not fine:
            return 0, (self.levels - 1) * one
        lo, hi = Decimal(repr(self.lo)), Decimal(repr(self.hi))
        with decimal.localcontext(decimal.Context(prec=30)):
            low, high = (
                ((end / lo).ln() / (hi / lo).ln() if self.log else (end - lo) / (hi - lo)) * ((self.levels - 1) * one)
                for end in (Decimal(repr(value)) for value in self.wide)
            )
            # A whole number stays one whatever the last digits of the logarithms are.
            nudge = Decimal("1e-9")
            first = (low - nudge).to_integral_value(rounding=decimal.ROUND_CEILING)
            last = (high + nudge).to_integral_value(rounding=decimal.ROUND_FLOOR)
        return int(first), int(last)

    def nearest_step(self, value: float, fine: int) -> int:
        """Sub-level whose public value lies nearest to `value`, for searches: found in floating point."""
        first, last = self.span(fine)
        count = (self.levels if self.periodic else max(1, self.levels - 1)) << self.shift(fine)
        if self.log:
            share = math.log(max(value, 1e-9) / self.lo) / math.log(self.hi / self.lo) if self.hi > self.lo else 0.0
        else:
            share = (value - self.lo) / (self.hi - self.lo) if self.hi > self.lo else 0.0
        step = round(share * count)
        return step % count if self.periodic else min(last, max(first, step))

    def nearest_level(self, value: float) -> int:
        """Level whose public value lies nearest to `value`; the lower one on a tie."""
        if self.periodic:
            span = self.hi - self.lo
            return round((value - self.lo) / span * self.levels) % self.levels
        return min(range(self.levels), key=lambda level: (abs(float(self.value(level)) - value), level))

    @functools.cached_property
    def coarse_levels(self) -> tuple[int, ...]:
        """Levels of the first codebook: the middles of `coarse` equal parts, or the starts of a periodic range's."""
        reach = self.levels * self.coarse_share
        shift = 0.0 if self.periodic else 0.5
        return tuple(min(self.levels - 1, int((i + shift) * reach / self.coarse)) for i in range(self.coarse))


@dataclass(frozen=True, kw_only=True)
class Generator:
    """A named pattern.

    `draw(at, **params)` gets a `Grid` and one [B,1,1] int32 tensor per parameter (and `seed` [B,1,1] int32 if
    `seeds` > 1), and returns luma [B,h,w] int32 in [-ONE, ONE], on all of R^2.

    Args:
        seeds: how many seed indices a layer may choose from; 1 for a pattern without randomness.
        extra: parameters that only large tiles have, after `params`; no codebook holds them, their start is their
            coarse level, and `draw` has a default for each.
    """

    name: str
    draw: Callable[..., Tensor]
    params: tuple[Param, ...]
    seeds: int = 1
    extra: tuple[Param, ...] = ()

    def params_at(self, fine: int) -> tuple[Param, ...]:
        """Parameters that a layer has in tiles of that many `fine_bits`."""
        return self.params + self.extra if fine else self.params

    @property
    def summary(self) -> str:
        """First line of the generator's module docstring: what it looks like."""
        return (self.draw.__globals__.get("__doc__") or self.name).strip().splitlines()[0]
