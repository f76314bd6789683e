"""Plane wave: one pure cosine over the whole tile.

    v(x, y) = cos(2 pi (freq * u + phase)),    u along angle_deg

Draws well: at half a wave per tile shading and soft steps; above that folds, furrows, fabric, water.
Source: J. Fourier, "Théorie analytique de la chaleur" (1822).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import cos_turns
from pc15.proc.coords import Grid
from pc15.proc.params import angle, freq, phase
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return cos_turns(at.phase(freq, angle_deg) + phase)


PARAMS = (
    freq(0.55, 12.0, levels=80, coarse=9, coarse_share=0.85, default=2.5, wide=(0.25, 64.0)),
    angle(180, levels=128, coarse=16, default=20.0),
    phase(levels=32, coarse=4),
)

WAVES_DIR = Generator(name="WAVES_DIR", draw=draw, params=PARAMS)
