"""The surface under the tiles, and its slopes."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pc15.search.backend.triton.sizes import LANES
from pc15.search.knot_spans import Axis


@triton.jit
def _between_knots(a, b, ramp, step, smooth):  # type: ignore[no-untyped-def]
    """(Level between two knots, share of the later one) as in `surface.surface`."""
    ahead = b - a
    sharp = tl.minimum(tl.maximum(tl.abs(ahead) - smooth, 0), smooth) * 256 // smooth
    share = ((sharp * (step - ramp) + 128) >> 8) + ramp
    return (a * 256 + ahead * share + 128) >> 8, share


@triton.jit
def _level(  # type: ignore[no-untyped-def]
    knots, row, col, row_mask, col_mask, ramp_y, step_y, ramp_x, step_x, smooth, ny, nx
):  # type: ignore[no-untyped-def]
    """(Level, share of the later column) at pixels after knots of some rows and columns."""
    below, right = tl.minimum(row + 1, ny - 1), tl.minimum(col + 1, nx - 1)
    mask = row_mask & col_mask
    a, b = tl.load(knots + row * nx + col, mask=mask, other=0), tl.load(knots + below * nx + col, mask=mask, other=0)
    before, _below = _between_knots(a, b, ramp_y, step_y, smooth)
    a = tl.load(knots + row * nx + right, mask=mask, other=0)
    b = tl.load(knots + below * nx + right, mask=mask, other=0)
    after, _below = _between_knots(a, b, ramp_y, step_y, smooth)
    return _between_knots(before, after, ramp_x, step_x, smooth)


@triton.jit(do_not_specialize=["height", "width", "ny", "nx", "smooth"])
def _surface(  # type: ignore[no-untyped-def]
    knots, out, before_y, ramps_y, steps_y, before_x, ramps_x, steps_x, height, width, ny, nx, smooth,
    SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    line = tl.program_id(0)
    plane, row = (line // height).to(tl.int64), line % height
    col = tl.program_id(1) * SPAN + tl.arange(0, SPAN)
    mask = col < width
    level, _share = _level(
        knots + plane * (ny * nx), tl.load(before_y + row), tl.load(before_x + col, mask=mask, other=0), True, mask,
        tl.load(ramps_y + row), tl.load(steps_y + row),
        tl.load(ramps_x + col, mask=mask, other=0), tl.load(steps_x + col, mask=mask, other=0), smooth, ny, nx,
    )  # fmt: skip
    tl.store(out + line.to(tl.int64) * width + col, level, mask=mask)


@triton.jit(do_not_specialize=["height", "width", "ny", "nx", "smooth", "norm_at"])
def _slopes(  # type: ignore[no-untyped-def]
    knots, rest, mine, out, norm_at, before_y, ramps_y, steps_y, first_y, last_y,
    before_x, ramps_x, steps_x, first_x, last_x, height, width, ny, nx, smooth,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    number = tl.program_id(0).to(tl.int64)
    if tl.load(mine + number):
        plane = number // (ny * nx)
        knot_y, knot_x = (number % (ny * nx)) // nx, number % nx
        own = knots + plane * (ny * nx)
        gradient, norm = tl.zeros([ROWS, COLS], tl.int64), tl.zeros([ROWS, COLS], tl.int64)
        top, bottom = tl.load(first_y + knot_y), tl.load(last_y + knot_y)
        while top < bottom:
            row = (top + tl.arange(0, ROWS))[:, None]
            real_y = row < bottom
            before = tl.load(before_y + row, mask=real_y, other=0)
            ramp_y, step_y = tl.load(ramps_y + row, mask=real_y, other=0), tl.load(steps_y + row, mask=real_y, other=0)
            a = tl.load(own + before * nx + knot_x, mask=real_y, other=0)
            b = tl.load(own + tl.minimum(before + 1, ny - 1) * nx + knot_x, mask=real_y, other=0)
            _height, below = _between_knots(a, b, ramp_y, step_y, smooth)
            down = tl.where(real_y, tl.where(before == knot_y, 256 - below, below), 0)
            left, right = tl.load(first_x + knot_x), tl.load(last_x + knot_x)
            while left < right:
                col = (left + tl.arange(0, COLS))[None, :]
                real_x = col < right
                ahead = tl.load(before_x + col, mask=real_x, other=0)
                ramp_x = tl.load(ramps_x + col, mask=real_x, other=0)
                step_x = tl.load(steps_x + col, mask=real_x, other=0)
                _depth, after = _level(
                    own, before, ahead, real_y, real_x, ramp_y, step_y, ramp_x, step_x, smooth, ny, nx
                )
                across = tl.where(real_x, tl.where(ahead == knot_x, 256 - after, after), 0)
                at = (plane * height + row) * width + col
                value = tl.load(rest + at, mask=real_y & real_x, other=0)
                gradient += value.to(tl.int64) * (down * across).to(tl.int64)
                norm += (down * down).to(tl.int64) * (across * across).to(tl.int64)
                left += COLS
            top += ROWS
        tl.store(out + number, tl.sum(tl.sum(gradient, axis=1), axis=0))
        tl.store(out + norm_at + number, tl.sum(tl.sum(norm, axis=1), axis=0))


def draw_surfaces(knots: Tensor, out: Tensor, axes: tuple[Axis, Axis], smooth: int) -> None:
    """Write `Backend.draw_surface` into out [planes*H*W] int32; smooth: `dc_surface.least_sharp`."""
    down, across = axes
    height, width = len(down.before), len(across.before)
    grid = (len(out) // width, triton.cdiv(width, LANES))
    _surface[grid](
        knots, out, down.before, down.ramp, down.step, across.before, across.ramp, across.step, height, width,
        len(down.first), len(across.first), smooth, SPAN=LANES,
    )  # fmt: skip


def surface_slopes(
    knots: Tensor, rest: Tensor, mine: Tensor, out: Tensor, axes: tuple[Axis, Axis], smooth: int
) -> None:
    """Write `DrawnSurface.slopes` of the knots that `mine` has into out [2,planes*N] int64."""
    down, across = axes
    sides = [part for axis in axes for part in (axis.before, axis.ramp, axis.step, axis.first, axis.last)]
    _slopes[(len(knots),)](
        knots, rest.contiguous(), mine.to(torch.uint8), out, out.stride(0), *sides, len(down.before),
        len(across.before), len(down.first), len(across.first), smooth, ROWS=16, COLS=32,
    )  # fmt: skip
