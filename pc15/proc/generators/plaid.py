"""Plaid: broad bands with fine stripes, crossed with the same bands at a right angle.

    v(x, y) = (S(u) + S(w)) / 2,    S = (1 - fine) * square(freq) + fine * square(3 freq)

Draws well: tartan, tablecloths, flannel, window fronts.
Source: the tartan sett, the same sequence of threads in warp and weft, mixed where they cross.
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import ONE, QUARTER_TURN, mul
from pc15.proc.coords import Grid
from pc15.proc.lattice import pixel_share, square
from pc15.proc.spec import Generator, Param


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor, fine: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    width = pixel_share(at, freq)
    u = at.phase(freq, angle_deg) + phase_x
    w = at.phase(freq, angle_deg + QUARTER_TURN) + phase_y
    bands = square(u, width) + square(w, width)
    stripes = square(3 * u, 3 * width) + square(3 * w, 3 * width)
    return (mul(bands, ONE - fine) + mul(stripes, fine)) >> 1


PLAID = Generator(
    name="PLAID",
    draw=draw,
    params=(
        Param(
            name="freq",
            lo=0.5,
            hi=5.0,
            levels=32,
            coarse=4,
            coarse_share=0.8,
            log=True,
            kind="cycles",
            unit="bands per tile",
            default=2,
            wide=(0.25, 32.0),
        ),
        Param(
            name="angle_deg",
            lo=0,
            hi=90,
            levels=32,
            coarse=2,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=0,
        ),
        Param(
            name="phase_x",
            lo=0,
            hi=1,
            levels=24,
            coarse=6,
            periodic=True,
            kind="turns",
            unit="turns",
            default=0,
        ),
        Param(
            name="phase_y",
            lo=0,
            hi=1,
            levels=24,
            coarse=3,
            coarse_share=0.5,
            periodic=True,
            kind="turns",
            unit="turns",
            default=0,
        ),
        Param(name="fine", lo=0.0, hi=0.8, levels=5, coarse=1, unit="share of the fine stripes", default=0.4),
    ),
)
