"""Composite: a wave multiplied by a slower one that crosses it.

    v(x, y) = cos(2 pi (freq * u + phase)) * cos(2 pi ratio * freq * w),    w at cross_deg to u

Draws well: egg-crate relief, ribbed and quilted cloth, beats; at cross_deg 0, a wave that swells and fades.
Source: contrast-modulated gratings of vision science; the product is a sum of two waves, cos a cos b.
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import cos_turns, mul
from pc15.proc.coords import Grid
from pc15.proc.lattice import scaled
from pc15.proc.spec import Generator, Param


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, cross_deg: Tensor, ratio: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    wave = cos_turns(at.phase(freq, angle_deg) + phase)
    return mul(wave, cos_turns(at.phase(scaled(freq, ratio), angle_deg + cross_deg)))


COMPOSITE = Generator(
    name="COMPOSITE",
    draw=draw,
    params=(
        Param(
            name="freq",
            lo=1.0,
            hi=12.0,
            levels=40,
            coarse=4,
            coarse_share=0.7,
            log=True,
            kind="cycles",
            unit="periods per tile",
        ),
        Param(
            name="angle_deg",
            lo=0,
            hi=180,
            levels=48,
            coarse=6,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=0,
        ),
        Param(
            name="cross_deg",
            lo=0,
            hi=180,
            levels=16,
            coarse=2,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=90,
        ),
        Param(name="ratio", lo=0.2, hi=0.9, levels=8, coarse=2, unit="of freq"),
        Param(
            name="phase",
            lo=0,
            hi=1,
            levels=16,
            coarse=2,
            coarse_share=0.5,
            periodic=True,
            kind="turns",
            unit="turns",
            default=0,
        ),
    ),
)
