"""Concentric squares: square rings around a centre.

    v(x, y) = trapezoid(freq * max(|u|, |w|) + phase),    u, w turned by angle_deg around (cx, cy)

Draws well: frames, picture mouldings, nested windows, corners of panelling.
Source: distance in the maximum norm, the classical square tunnel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import QUARTER_TURN
from pc15.proc.coords import Grid
from pc15.proc.lattice import pixel_share, square
from pc15.proc.params import angle, centre, freq, phase
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, cx: Tensor, cy: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    u, w = at.rotated(angle_deg, at.x - cx, at.y - cy)
    rings = torch.maximum(u.abs(), w.abs()) * freq + phase
    return square(rings + QUARTER_TURN, pixel_share(at, freq).clamp(min=SLOPE))


SLOPE = 4096
"""A ring's edge reaches this far either way, Q14 of half a period: a trapezoid, between sine and square."""

PARAMS = (
    freq(0.7, 10.0, "rings per tile", levels=40, coarse=4, coarse_share=0.85, default=5),
    angle(90, levels=16, coarse=2, default=0),
    *centre(1.2, levels=25, coarse=3, default=(0, 0), unit="half tiles from the middle"),
    phase(levels=16, coarse=2, default=0),
)

CONCENTRIC_SQUARES = Generator(name="CONCENTRIC_SQUARES", draw=draw, params=PARAMS)
