"""Blob: one elongated Gaussian light, turned any way.

    v(x, y) = 2 exp(-(u / radius)^2 - (v aspect / radius)^2) - 1,    (u, v) from (cx, cy), u along angle_deg

Draws well: leaves, strokes of light, fingers, short pieces of lines.
Source: anisotropic atoms of R. Figueras i Ventura, P. Vandergheynst, P. Frossard, "Low-rate and flexible
image coding with redundant representations", IEEE Trans. Image Processing 15 (2006).
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import ONE, div
from pc15.proc.coords import Grid
from pc15.proc.shape import around, bell, in_radii
from pc15.proc.spec import Generator, Param


def draw(at: Grid, cx: Tensor, cy: Tensor, angle_deg: Tensor, radius: Tensor, aspect: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    u, v = around(at, cx, cy).rotated(angle_deg)
    across = div(radius, aspect).clamp(min=at.pixel * 3 // 4)
    return 2 * bell(in_radii(u, radius), in_radii(v, across)) - ONE


BLOB = Generator(
    name="BLOB",
    draw=draw,
    params=(
        Param(
            name="cx",
            lo=-1,
            hi=1,
            levels=42,
            coarse=7,
            unit="half tiles from the centre, to the right",
            default=0.0,
        ),
        Param(name="cy", lo=-1, hi=1, levels=42, coarse=7, unit="half tiles from the centre, down", default=0.0),
        Param(
            name="angle_deg",
            lo=0,
            hi=180,
            levels=64,
            coarse=8,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=30.0,
        ),
        Param(
            name="radius",
            lo=0.25,
            hi=1.4,
            levels=16,
            coarse=2,
            log=True,
            unit="half tiles, lengthwise, centre to 1/e",
        ),
        Param(name="aspect", lo=1.5, hi=6.0, levels=12, coarse=2, log=True, unit="length over width"),
    ),
)
