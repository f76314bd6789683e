"""Brick noise: a wall whose bricks each have their own random brightness.

    v(x, y) = joint or shade(brick),    shade uniform in [-0.5, 1] by hash of the brick's row and column

Draws well: old brickwork, dry stone, parquet, city facades from afar.
Source: running bond (see BRICK), with a hash per brick as lattice noise has one per cell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import FRAC, HALF, ONE, hash_cell, mul, unit
from pc15.proc.coords import Grid
from pc15.proc.generators.brick import JOINT
from pc15.proc.lattice import per_cell, pixel_share, ramp
from pc15.proc.params import angle, cells, phase_y, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor


def draw(at: Grid, courses: Tensor, aspect: Tensor, angle_deg: Tensor, phase_y: Tensor, seed: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    u, w = at.rotated(angle_deg)
    course = at.lattice(w, courses) + ((phase_y >> (32 - FRAC)) & (ONE - 1))
    length = torch.div(courses.to(torch.int64) << FRAC, aspect, rounding_mode="floor").to(torch.int32)
    brick = at.lattice(u, length) + (((course >> FRAC) & 1) << (FRAC - 1))
    shade = unit(hash_cell(brick >> FRAC, course >> FRAC, seed))  # [0, ONE)
    bed = ONE - ((course & (ONE - 1)) * 2 - ONE).abs()  # in half courses
    head = mul(ONE - ((brick & (ONE - 1)) * 2 - ONE).abs(), aspect)
    cover = (ramp(torch.minimum(bed, head) - JOINT, pixel_share(at, per_cell(courses))) + ONE) >> 1
    return mul(cover, HALF + shade + (shade >> 1)) - ONE


PARAMS = (
    cells(2.0, 12.0, "courses per tile", levels=24, coarse=3, coarse_share=0.85, default=6, name="courses"),
    ratio("aspect", 1.0, 4.0, "length of a brick over its height", levels=13, default=2.5),
    angle(180, levels=32, coarse=2, default=0),
    phase_y("courses", levels=8, coarse=2),
)

BRICK_NOISE = Generator(name="BRICK_NOISE", draw=draw, seeds=16, params=PARAMS)
