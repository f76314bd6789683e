"""Composite: a wave multiplied by a slower one that crosses it.

    v(x, y) = cos(2 pi (freq * u + phase)) * cos(2 pi ratio * freq * w),    w at cross_deg to u

Draws well: egg-crate relief, ribbed and quilted cloth, beats; at cross_deg 0, a wave that swells and fades.
Source: contrast-modulated gratings of vision science; the product is a sum of two waves, cos a cos b.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns, mul
from pc15.proc.coords import Grid
from pc15.proc.lattice import scaled
from pc15.proc.params import angle, freq, phase, ratio
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, cross_deg: Tensor, ratio: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    wave = cos_turns(at.phase(freq, angle_deg) + phase)
    return mul(wave, cos_turns(at.phase(scaled(freq, ratio), angle_deg + cross_deg)))


PARAMS = (
    freq(1.0, 12.0, "periods per tile", levels=40, coarse=4, coarse_share=0.7),
    angle(180, levels=48, coarse=6, default=0),
    angle(180, levels=16, coarse=2, default=90, name="cross_deg"),
    ratio("ratio", 0.2, 0.9, "of freq", levels=8, coarse=2),
    phase(levels=16, coarse=2, default=0),
)

COMPOSITE = Generator(name="COMPOSITE", draw=draw, params=PARAMS)
