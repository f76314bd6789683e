"""Gabor noise: one wave everywhere, with a random strength and phase in each patch.

    v(x, y) = sum over lattice points k of a_k W(x - x_k) W(y - y_k) cos(2 pi (freq * u + phase_k)),  u along angle_deg
    W(d) = cos(pi/2 smoothstep(|d|)): squares sum to 1, so the strength has no lattice in it

Draws well: water, sand ripples, brushed metal, fur and cloth that keep a direction but not a phase.
Source: A. Lagae, S. Lefebvre, G. Drettakis, P. Dutre, "Procedural noise using sparse Gabor convolution", SIGGRAPH 2009.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, ONE, cos_turns, sin_turns, smoothstep
from pc15.proc.coords import Grid
from pc15.proc.noise import column_hashes, positions, row_hashes
from pc15.proc.params import angle, cells, freq
from pc15.proc.spec import Generator

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, cells: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    px, py = positions(at, cells, seed)
    (left, right), (above, below) = _window(px), _window(py)

    def strengths(salt: int) -> Tensor:  # one of the two quadratures of every kernel, a_k cos and a_k sin
        a, b = column_hashes(px >> FRAC, seed, salt)
        c, d = row_hashes(py >> FRAC, seed, salt)
        top = (((a * c) >> 18) * left + ((b * c) >> 18) * right) >> FRAC
        bottom = (((a * d) >> 18) * left + ((b * d) >> 18) * right) >> FRAC
        return (top * above + bottom * below) >> FRAC

    phase = at.phase(freq, angle_deg)
    wave = strengths(0) * cos_turns(phase) - strengths(1) * sin_turns(phase)
    return (3 * (wave >> (FRAC + 1))).clamp(-ONE, ONE)


def _window(p: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the lattice points before and after each position, Q14."""
    quarter = smoothstep(p & (ONE - 1)) << 16
    return cos_turns(quarter), sin_turns(quarter)


PARAMS = (
    freq(2.0, 10.0, levels=24, coarse=3),
    angle(180, levels=32, coarse=4),
    cells(1.0, 6.0, "patches across the tile", levels=8),
)

GABOR_NOISE = Generator(name="GABOR_NOISE", draw=draw, seeds=16, params=PARAMS)
