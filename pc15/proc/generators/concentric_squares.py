"""Concentric squares: square rings around a centre.

    v(x, y) = trapezoid(freq * max(|u|, |w|) + phase),    u, w turned by angle_deg around (cx, cy)

Draws well: frames, picture mouldings, nested windows, corners of panelling.
Source: distance in the maximum norm, the classical square tunnel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import QUARTER_TURN
from pc15.proc.coords import Grid
from pc15.proc.lattice import pixel_share, square
from pc15.proc.spec import Generator, Param


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, cx: Tensor, cy: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    u, w = at.rotated(angle_deg, at.x - cx, at.y - cy)
    rings = torch.maximum(u.abs(), w.abs()) * freq + phase
    return square(rings + QUARTER_TURN, pixel_share(at, freq).clamp(min=SLOPE))


SLOPE = 4096
"""A ring's edge reaches this far either way, Q14 of half a period: a trapezoid, between sine and square."""

CONCENTRIC_SQUARES = Generator(
    name="CONCENTRIC_SQUARES",
    draw=draw,
    params=(
        Param(
            name="freq",
            lo=0.7,
            hi=10.0,
            levels=40,
            coarse=4,
            coarse_share=0.85,
            log=True,
            kind="cycles",
            unit="rings per tile",
            default=5,
        ),
        Param(
            name="angle_deg",
            lo=0,
            hi=90,
            levels=16,
            coarse=2,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=0,
        ),
        Param(name="cx", lo=-1.2, hi=1.2, levels=25, coarse=3, unit="half tiles from the middle", default=0),
        Param(name="cy", lo=-1.2, hi=1.2, levels=25, coarse=3, unit="half tiles from the middle", default=0),
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
