"""Moire: two fine gratings, slightly turned against each other, and the broad beats between them.

    v(x, y) = (1 + cos(2 pi (freq * u1 + phase))) (1 + cos(2 pi freq * u2)) / 2 - 1

u1 runs along angle_deg - twist / 2, u2 along angle_deg + twist / 2.
Draws well: layered mesh, curtains, screens shot through a sensor's grid.
Source: I. Amidror, "The Theory of the Moire Phenomenon" (2000).
"""

from __future__ import annotations

from torch import Tensor

from pc15.fixed import ONE, cos_turns, mul
from pc15.proc.coords import Grid
from pc15.proc.spec import Generator, Param


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, twist: Tensor, phase: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    first = ONE + cos_turns(at.phase(freq, angle_deg - (twist >> 1)) + phase)
    second = ONE + cos_turns(at.phase(freq, angle_deg + (twist >> 1)))
    return (mul(first, second) >> 1) - ONE


MOIRE = Generator(
    name="MOIRE",
    draw=draw,
    params=(
        Param(
            name="freq",
            lo=2.5,
            hi=9.0,
            levels=24,
            coarse=4,
            log=True,
            kind="cycles",
            unit="waves per tile",
            default=9.0,
        ),
        Param(
            name="angle_deg",
            lo=0,
            hi=180,
            levels=48,
            coarse=8,
            periodic=True,
            kind="degrees",
            unit="degrees",
            default=10.0,
        ),
        Param(
            name="twist",
            lo=5,
            hi=40,
            levels=15,
            coarse=3,
            kind="degrees",
            unit="degrees between the gratings",
            default=9.0,
        ),
        Param(name="phase", lo=0, hi=1, levels=16, coarse=2, periodic=True, kind="turns", unit="turns"),
    ),
)
