"""Bricks: light bricks in dark joints, every other course shifted by half a brick.

    v(x, y) = edge(min(distance to the bed joint, distance to the head joint) - joint / 2)

Draws well: brickwork, stone walls, subway tiles, laid paving.
Source: running (stretcher) bond; as a procedure, D. Ebert et al., "Texturing and Modeling" (1994), ch. 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pc15.fixed import QUARTER_TURN, mul
from pc15.proc.coords import Grid
from pc15.proc.lattice import from_line, per_cell, pixel_share, ramp, stretched
from pc15.proc.params import angle, cells, phase_x, phase_y, ratio
from pc15.proc.spec import Generator
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

JOINT = 2300
"""Thickness of a joint, Q14 of a course's height: 10 mm in 71 mm."""


def draw(at: Grid, courses: Tensor, aspect: Tensor, angle_deg: Tensor, phase_x: Tensor, phase_y: Tensor) -> Tensor:
    """Parameters [B,1,1] on a [1,h,w] grid, fixed point -> luma [B,h,w] int32 in [-ONE, ONE]."""
    freq = per_cell(courses)
    pair = at.phase(freq >> 1, angle_deg + QUARTER_TURN) + ((phase_y >> 1) & 0x7FFFFFFF)  # a turn is two courses
    along = at.phase(stretched(freq, aspect), angle_deg) + phase_x + (pair & -(1 << 31))  # half a brick in every other
    bed, head = from_line(pair << 1).abs(), mul(from_line(along).abs(), aspect)  # in half courses
    return ramp(torch.minimum(bed, head) - JOINT, pixel_share(at, freq))


PARAMS = (
    cells(1.5, 12.0, "courses per tile", levels=32, coarse=4, coarse_share=0.85, default=6, name="courses"),
    ratio("aspect", 1.0, 4.0, "length of a brick over its height", levels=13, coarse=2, default=3),
    angle(180, levels=32, coarse=2, default=0),
    phase_x("bricks", levels=16, coarse=3),
    phase_y("courses", levels=16, coarse=3),
)

BRICK = Generator(name="BRICK", draw=draw, params=PARAMS)
