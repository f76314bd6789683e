"""Plaid: broad bands with fine stripes, crossed with the same bands at a right angle.

    v(x, y) = (S(u) + S(w)) / 2,    S = (1 - fine) * square(freq) + fine * square(3 freq)

Draws well: tartan, tablecloths, flannel, window fronts.
Source: the tartan sett, the same sequence of threads in warp and weft, mixed where they cross.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, QUARTER_TURN, mul
from pc15.proc.coords import Grid
from pc15.proc.lattice import pixel_share, square
from pc15.proc.params import angle, freq, phase_x, phase_y, ratio
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor, fine: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    width = pixel_share(at, freq)
    u = at.phase(freq, angle_deg) + phase_x
    w = at.phase(freq, angle_deg + QUARTER_TURN) + phase_y
    bands = square(u, width) + square(w, width)
    stripes = square(3 * u, 3 * width) + square(3 * w, 3 * width)
    return (mul(bands, ONE - fine) + mul(stripes, fine)) >> 1


PARAMS = (
    freq(0.5, 5.0, "bands per tile", levels=32, coarse=4, coarse_share=0.8, default=2, wide=(0.25, 32.0)),
    angle(90, levels=32, coarse=2, default=0),
    phase_x("turns", levels=24, coarse=6),
    phase_y("turns", levels=24, coarse=3, coarse_share=0.5),
    ratio("fine", 0.0, 0.8, "share of the fine stripes", levels=5, default=0.4),
)

PLAID = Generator(name="PLAID", draw=draw, params=PARAMS)
