"""Shaping patterns: a grid moved to a centre, bells that fade around it, edges that a pixel can carry.

A bell is exp(-t*t) with t = distance / radius, exactly 0 from t = 3.25 on.  Distances are cut there *before*
they are scaled, so nothing overflows however far outside the tile a pattern is continued.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from pc15.fixed import FRAC, FREQ_ONE, ONE, const, exp_neg, mul, shift
from pc15.proc.coords import Grid
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

_TWO_PI_Q14 = 102944


def around(at: Grid, cx: Tensor, cy: Tensor) -> Grid:
    """The same pixels seen from (cx, cy), at most 1.6 * ONE away; x becomes [B,1,w], y [B,h,1]."""
    return dataclasses.replace(at, x=at.x - cx, y=at.y - cy)


def in_radii(distance: Tensor, radius: Tensor) -> Tensor:
    """distance / radius in Q13, cut at 3.25; any int32 distance, radius [B,1,1] Q14 in [2**-8, 4]."""
    limit = shift(radius * const(13), 2)
    inverse = torch.div(1 << (2 * FRAC), radius, rounding_mode="floor")
    return shift(torch.maximum(torch.minimum(distance, limit), -limit) * inverse, FRAC + 1)


def bell(t: Tensor, s: Tensor | None = None) -> Tensor:
    """exp(-t*t), or exp(-t*t - s*s), Q14; both as `in_radii` makes them."""
    square = t * t if s is None else t * t + s * s  # Q26, at most 21.2: below 2**31
    return exp_neg(shift(square, FRAC - 2))


def round_bell(at: Grid, radius: Tensor) -> Tensor:
    """exp(-(r / radius)**2) around the grid's origin, [B,h,w] Q14: the product of two bells, one per axis."""
    across, down = bell(in_radii(at.x, radius)), bell(in_radii(at.y, radius))
    return mul(across, down)


def wave_edge(at: Grid, freq: Tensor, softness: Tensor) -> Tensor:
    """`softness`, or more, up to ONE, where a wave of `freq` climbs faster within a pixel; [B,1,1] Q14."""
    climb = (freq.to(torch.int64) * at.pixel * _TWO_PI_Q14) >> (FRAC + FREQ_ONE.bit_length() - 1)
    return torch.maximum(softness, climb.clamp(max=ONE).to(torch.int32))


def ray_height(at: Grid, arms: Tensor) -> Tensor:
    """ONE where `arms` periods around the origin are wide enough for pixels, falling to 0 at the origin.

    A period is 2 pi r / arms wide; the height is full from four pixels per period on.
    """
    full = (arms.abs() * at.pixel * 163 >> 8).clamp(1, ONE)  # 4 / (2 pi) = 163 / 256
    inverse = torch.div(1 << (2 * FRAC), full, rounding_mode="floor")
    return shift(torch.minimum(at.r, full) * inverse, FRAC)
