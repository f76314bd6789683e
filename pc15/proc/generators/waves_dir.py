"""Plane wave: one pure cosine over the whole tile.

    v(x, y) = cos(2 pi (freq * u + phase)),    u along angle_deg

Draws well: at half a wave per tile shading and soft steps; above that folds, furrows, fabric, water.
Source: J. Fourier, "Théorie analytique de la chaleur" (1822).
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import cos_turns
from pc15.proc.coords import Grid
from pc15.proc.spec import Generator, Param


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    return cos_turns(at.phase(freq, angle_deg) + phase)


WAVES_DIR = Generator(
    name="WAVES_DIR",
    draw=draw,
    params=(
        Param(
            name="freq",
            lo=0.55,
            hi=12.0,
            levels=80,
            coarse=9,
            coarse_share=0.85,
            log=True,
            kind="cycles",
            unit="waves per tile",
            default=2.5,
            wide=(0.25, 64.0),
        ),
        Param(
            name="angle_deg",
            lo=0,
            hi=180,
            levels=128,
            coarse=16,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=20.0,
        ),
        Param(
            name="phase",
            lo=0,
            hi=1,
            levels=32,
            coarse=4,
            coarse_share=0.5,
            periodic=True,
            kind="turns",
            unit="turns",
        ),
    ),
)
