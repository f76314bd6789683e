"""What a pattern declares about itself: its formula, its parameters, their levels and ranges.

A parameter has `levels` quantized values, the finest that an offset can reach, and `coarse` of them stand in the
first codebook.  Values become integers through `decimal`, so every machine draws from the same numbers.

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
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from torch import Tensor

from pc15.errors import ConfigError
from pc15.fixed import FREQ_ONE, ONE, rounded, wrap32

Kind = Literal["ratio", "degrees", "turns", "cycles", "cells", "count"]

CELL_FRAC = 8

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

    def __post_init__(self) -> None:
        if not (self.levels >= 1 and 1 <= self.coarse <= self.levels and self.lo <= self.hi):
            raise ConfigError(f"parameter {self.name!r}: needs lo <= hi and 1 <= coarse <= levels, got {self}")
        if self.log and self.lo <= 0:
            raise ConfigError(f"parameter {self.name!r}: a logarithmic range starts above 0, got lo={self.lo}")

    def value(self, level: int) -> Decimal:
        """Public value of a level, the same decimal on every machine."""
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
    """

    name: str
    draw: Callable[..., Tensor]
    params: tuple[Param, ...]
    seeds: int = 1

    @property
    def summary(self) -> str:
        """First line of the generator's module docstring: what it looks like."""
        return (self.draw.__globals__.get("__doc__") or self.name).strip().splitlines()[0]
