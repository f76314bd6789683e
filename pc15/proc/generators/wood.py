"""Wood: long year rings of a sawn plank, slow to darken and quick to lighten.

    v(x, y) = sin(t + 0.6 sin t),    t = 2 pi freq (|(u * 0.3, w - knot)| + warp * noise),  u along, w across angle_deg

Draws well: planks, bark, hair, furrows, sand ripples with a bend.
Source: classical; D. Ebert et al., "Texturing and Modeling: A Procedural Approach".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import ONE, hash32, mul, signed_unit, sin_turns
from pc15.proc.coords import Grid
from pc15.proc.noise import positions, value_noise
from pc15.proc.params import angle, freq, ratio
from pc15.proc.spec import CELL_FRAC, Generator

if TYPE_CHECKING:
    from torch import Tensor

GRAIN = ONE * 3 // 10
SKEW = (1 << 32) * 6 // 63 >> 14
"""0.6 radian in turns, over ONE."""


def draw(at: Grid, freq: Tensor, angle_deg: Tensor, warp: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    u, w = at.rotated(angle_deg)
    noise = value_noise(*positions(at, seed.new_full((1, 1, 1), 5 << (CELL_FRAC - 2)), seed), seed)
    knot = signed_unit(hash32(seed))
    r = at.radius(at.scaled(u, seed.new_full((1, 1, 1), GRAIN)), w - knot)
    t = (r + mul(noise, warp)) * freq
    return sin_turns(t + sin_turns(t) * SKEW)


PARAMS = (
    freq(1.5, 8.0, "rings", levels=24, coarse=3, default=5.0),
    angle(180, levels=32, coarse=4),
    ratio("warp", 0.0, 0.5, "half tiles that noise bends the rings", levels=9, default=0.18),
)

WOOD = Generator(name="WOOD", draw=draw, seeds=16, params=PARAMS)
