"""Spot: one round Gaussian light.

    v(x, y) = 2 exp(-(r / radius)^2) - 1,    r from (cx, cy)

Draws well: highlights, pebbles, eyes, bokeh, soft shading towards one side of the tile.
Source: blob model of T. Lindeberg, "Feature detection with automatic scale selection", IJCV 30 (1998).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE
from pc15.proc.coords import Grid
from pc15.proc.params import centre, radius
from pc15.proc.shape import around, round_bell
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, cx: Tensor, cy: Tensor, radius: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return 2 * round_bell(around(at, cx, cy), radius.clamp(min=at.pixel)) - ONE


PARAMS = (
    *centre(1.1, levels=54, coarse=9),
    radius(0.1, 1.2, "half tiles, centre to 1/e", levels=24, coarse=4, wide=(0.03, 3.0)),
)

SPOT = Generator(name="SPOT", draw=draw, params=PARAMS)
