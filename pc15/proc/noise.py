"""Value, gradient (Perlin) and cellular (Worley) noise over the integer hash, on an unbounded lattice.

Positions are Q14 lattice coordinates (`Grid.lattice`): the integer part names the cell, the rest lies inside it.
Columns and rows are hashed apart, and a cell's randomness is the high half of the product of the two: on a lattice
that is not rotated the hashing then costs one row and one column of pixels, and every further random number of a
cell is one product.  The patterns draw on unrotated lattices for that reason.
Sources: K. Perlin, "An image synthesizer", SIGGRAPH 1985, and "Improving noise", SIGGRAPH 2002; S. Worley, "A
cellular texture basis function", SIGGRAPH 1996.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pc15.fixed import (
    FRAC,
    ONE,
    const,
    fade,
    floor_div,
    hash32,
    isqrt,
    isqrt64,
    mul,
    shift,
    smoothstep,
    unit,
    wrap32,
)
from pc15.proc.coords import Grid
from pc15.proc.spec import CELL_FRAC
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

_COLUMN, _ROW = 0x27D4EB2D, wrap32(0x9E3779B1)
_FRACTION = ONE - 1
_SHADE_BITS = 8
REACH = ONE * 5 // 8


# ---------------------------------------------------------------- the lattice and its randomness


def positions(at: Grid, cells: Tensor, seed: Tensor, stretch: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Lattice positions of a grid, Q14, [B,1,w] and [B,h,1], moved by a random share of a cell.

    Without that share every seed would have a lattice point, where gradient noise is 0, at the tile's centre.

    Args:
        cells: kind "cells", lattice cells across the tile.
        stretch: Q14 ratio of a cell's width to its height, which leaves its area alone; squares if None.
    """
    across = down = cells
    if stretch is not None:
        root = isqrt64(stretch.to(torch.int64) << FRAC).to(torch.int32)
        across, down = floor_div(cells << FRAC, root), (cells * root) >> FRAC
    px, py = at.lattice(at.x, across), at.lattice(at.y, down)
    return px + unit(hash32(seed ^ 0x165667B1)), py + unit(hash32(seed ^ 0x4CF5AD43))


def cells_per_pixel(at: Grid, cells: Tensor) -> Tensor:
    """Width of one pixel in lattice cells, [B,1,1] Q14; what `width` and `step` arguments are measured against."""
    return (cells * at.pixel) >> CELL_FRAC


@functools.cache
def _ahead(offsets: tuple[int, ...], dims: int, device: torch.device) -> Tensor:
    return torch.tensor(offsets, dtype=torch.int32, device=device).view(-1, *[1] * dims)


def _hashes(i: Tensor, seed: Tensor, salt: int | Tensor, offsets: tuple[int, ...], factor: int) -> Tensor:
    mixed = seed ^ (const(wrap32(salt * 0x2545F491)) if isinstance(salt, int) else salt * const(0x2545F491))
    cells = (i + _ahead(offsets, i.dim(), i.device)).mul_(const(factor))
    return hash32(cells ^ mixed).bitwise_or_(const(1))


def column_hashes(ix: Tensor, seed: Tensor, salt: int | Tensor, offsets: tuple[int, ...] = (0, 1)) -> Tensor:
    """Hash of columns ix + offset, [offsets, *shape of ix]; odd, so that products with row hashes lose nothing.

    Args:
        salt: a number, or several in an int32 tensor that broadcasts with ix.
    """
    return _hashes(ix, seed, 2 * salt + 1, offsets, _COLUMN)


def row_hashes(iy: Tensor, seed: Tensor, salt: int | Tensor, offsets: tuple[int, ...] = (0, 1)) -> Tensor:
    """Hash of rows iy + offset; `column * row` is a cell's hash, whose high bits are uniform."""
    return _hashes(iy, seed, 2 * salt + 2, offsets, _ROW)


@functools.cache
def _salts(first: int, count: int, dims: int, device: torch.device) -> Tensor:
    """first, first + 1 and so on, along a new first dimension."""
    return torch.arange(first, first + count, dtype=torch.int32, device=device).view(-1, *[1] * dims)


# ---------------------------------------------------------------- value and gradient noise


def lattice_values(px: Tensor, py: Tensor, seed: Tensor, tx: Tensor, ty: Tensor, salt: int = 0) -> Tensor:
    """Random values at lattice points, Q14 in [-ONE, ONE], blended with weights tx, ty in [0, ONE] of the next one."""
    columns = column_hashes(px >> const(FRAC), seed, salt)
    total = None
    for row, wy in zip(row_hashes(py >> const(FRAC), seed, salt), (const(ONE) - ty, ty), strict=True):
        corners = shift(columns * row, 31 - FRAC).mul_(torch.stack((const(ONE) - tx, tx)))
        across = shift(corners[0].add_(corners[1]), FRAC).mul_(wy)
        total = across if total is None else total.add_(across)
    assert total is not None, "there are two rows"
    return shift(total, FRAC)


def value_noise(px: Tensor, py: Tensor, seed: Tensor, salt: int = 0) -> Tensor:
    """Smooth random values at lattice points, interpolated; Q14 in [-ONE, ONE], shape of px and py broadcast."""
    return lattice_values(px, py, seed, smoothstep(px & _FRACTION), smoothstep(py & _FRACTION), salt)


def perlin_noise(px: Tensor, py: Tensor, seed: Tensor, salt: int | Tensor = 0) -> Tensor:
    """Gradient noise, zero at lattice points; Q14 in [-ONE, ONE], beyond 0.7 once in a thousand pixels.

        n = sum over the four corners of wx wy (gx dx + gy dy) = sum wy (gx (wx dx)) + (wy dy) (gy wx)

    w are fading weights, d distances to the corner, g gradients, uniform in a square of half width 5/4.  The brackets
    are per column and per row, so that few products are left for each pixel.
    """
    columns, wx, wx_dx = column_hashes(px >> const(FRAC), seed, salt), *_fading(px & const(_FRACTION))
    rows, wy, wy_dy = row_hashes(py >> const(FRAC), seed, salt), *_fading(py & const(_FRACTION))
    total = None
    for row in range(2):
        h = columns * rows[row]  # bits 17..31 are gx, bits 6..20 are gy
        gx = (h >> const(17)).mul_(wx_dx)
        gy = shift(h.bitwise_left_shift_(const(11)), 17).mul_(wx)
        across = shift(gx[0].add_(gx[1]), FRAC).mul_(wy[row])
        across += shift(gy[0].add_(gy[1]), FRAC).mul_(wy_dy[row])
        total = across if total is None else total.add_(across)
    assert total is not None, "there are two rows"
    return shift(total, FRAC).clamp_(-ONE, ONE)


def _fading(f: Tensor) -> tuple[Tensor, Tensor]:
    """[2,..] each: weights of the lattice points before and after, and the same times 5/4 of the distance from them."""
    t = fade(f)
    weights = torch.stack((const(ONE) - t, t))
    return weights, mul(weights, shift(torch.stack((f, f - const(ONE))).mul_(const(5)), 2))


def octaves(
    px: Tensor,
    py: Tensor,
    seed: Tensor,
    count: int,
    *,
    ridged: bool = False,
    folded: bool = False,
    roughness: Tensor | None = None,
    step: Tensor | None = None,
) -> Tensor:
    """Sum of `count` Perlin octaves, each at twice the frequency of the one before; Q14 in [-ONE, ONE].

    `folded` sums absolute values, which crease where the noise is 0 (turbulence); `ridged` makes those lines crests
    and lets an octave speak only near the crests of the one before.  All are stretched to about the full range.

    Args:
        roughness: [B,1,1] Q14, height of an octave over that of the one before; a half if None.
        step: `cells_per_pixel` of the first octave; given, octaves with under two pixels per cell fade out.
    """
    ratio = torch.full_like(seed, ONE >> 1) if roughness is None else roughness
    heights = [torch.full_like(ratio, ONE)]
    for _ in range(count - 1):
        heights.append(mul(heights[-1], ratio))
    whole = functools.reduce(torch.add, heights)
    total, near_crest = torch.zeros_like(ratio), None
    salt = 16 if ridged else 0  # else ridges would be turbulence turned over
    number = _salts(0, count, px.dim(), px.device)
    ox, oy = (px << number).add_(number * const(5741)), (py << number).add_(number * const(9127))
    layers = perlin_noise(ox, oy, seed, salt=_salts(salt, count, px.dim(), px.device))
    for octave, (height, layer) in enumerate(zip(heights, layers, strict=True)):
        share = floor_div(height << FRAC, whole)
        if step is not None:
            share = mul(share, (2 * ONE - (step << (octave + 1))).clamp(0, ONE))
        if ridged:
            crest = layer.abs().mul_(const(-2)).add_(const(ONE)).clamp_(min=0)
            crest = mul(crest, crest)
            layer = (crest if near_crest is None else mul(crest, near_crest)) * const(2) - const(ONE)
            near_crest = (crest * const(2)).clamp_(max=ONE)
        elif folded:
            layer = layer.abs().mul_(const(5)).sub_(const(ONE))
        else:
            layer = layer + (layer >> const(1))
        total = total + mul(layer, share)
    return total.clamp(-ONE, ONE)


# ---------------------------------------------------------------- cellular noise


@dataclass(frozen=True, eq=False)
class Cells:
    """Points that `worley` finds around each position: the nearest and second nearest of one random point per cell.

    A key is the squared distance, Q28, over the `_SHADE_BITS` lowest bits of the point's hash, which say whose it is.
    """

    nearest: Tensor
    next: Tensor

    @functools.cached_property
    def f1(self) -> Tensor:
        """Distance to the nearest point, Q14 in cells."""
        return _distance(self.nearest)

    @functools.cached_property
    def f2(self) -> Tensor:
        """Distance to the second nearest point, Q14 in cells; never below `f1`."""
        return _distance(self.next)

    @property
    def shade(self) -> Tensor:
        """A random value of the nearest point's cell, Q14 in [-ONE, ONE]."""
        return _shade(self.nearest)

    @property
    def next_shade(self) -> Tensor:
        """The same of the second nearest point's cell."""
        return _shade(self.next)


def worley(px: Tensor, py: Tensor, seed: Tensor, jitter: Tensor) -> Cells:
    """Nearest and second nearest of one random point per cell, among the nine cells around each position.

    Args:
        jitter: [B,1,1] Q14, how far a point may leave the middle of its cell: 0 a square lattice, ONE anywhere.  Up
            to 0.6 nothing beyond the nine cells can be nearer; a tear at ONE is rare and small.
    """
    offsets = (-1, 0, 1)
    ix, iy = px >> const(FRAC), py >> const(FRAC)
    middles = _ahead(offsets, px.dim(), px.device) * const(ONE) + const(ONE >> 1)
    middle_x, middle_y = middles - (px & const(_FRACTION)), middles - (py & const(_FRACTION))
    columns_x, columns_y = (column_hashes(ix, seed, salt, offsets) for salt in (0, 1))
    rows_x, rows_y = (row_hashes(iy, seed, salt, offsets) for salt in (0, 1))
    first = second = torch.full((1, 1, 1), (1 << 31) - 1, dtype=torch.int32, device=px.device)
    for row in range(len(offsets)):
        astray_x, astray_y = shift(columns_x * rows_x[row], 20), shift(columns_y * rows_y[row], 20)
        dx = shift(astray_x * jitter, FRAC - 2).add_(middle_x)
        dy = shift(astray_y.mul_(jitter), FRAC - 2).add_(middle_y[row])
        keys = dx.mul_(dx).add_(dy.mul_(dy)).bitwise_and_(const(-(1 << _SHADE_BITS)))
        keys.bitwise_or_(astray_x.bitwise_and_(const((1 << _SHADE_BITS) - 1)))
        for key in keys:
            second = torch.minimum(second, torch.maximum(first, key))
            first = torch.minimum(first, key)
    return Cells(first, second)


def near_points(px: Tensor, py: Tensor, seed: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Points that may lie within `REACH`, 5/8 of a cell, of each position: four of a random lattice.

    Each point strays up to 3/8 of a cell, each way, from its lattice point.

    Yields:
        dx, dy: [B,h,w] Q14, from the position to the point.   hash: [B,h,w] int32, its high bits uniform.
    """
    columns = list(zip((0, ONE), *(column_hashes(px >> const(FRAC), seed, salt) for salt in (0, 1, 2)), strict=True))
    rows = list(zip((0, ONE), *(row_hashes(py >> const(FRAC), seed, salt) for salt in (0, 1, 2)), strict=True))
    before_x, before_y = px & const(_FRACTION), py & const(_FRACTION)
    for ox, column, column_x, column_y in columns:
        for oy, row, row_x, row_y in rows:
            dx = shift(column_x * row_x, 20).mul_(const(3)).add_(const(ox) - before_x)
            dy = shift(column_y * row_y, 20).mul_(const(3)).add_(const(oy) - before_y)
            yield dx, dy, column * row


def _distance(key: Tensor) -> Tensor:
    """Root of a key's squared distance, Q14 in steps of 2."""
    return isqrt(key >> const(2)).mul_(const(2))


def _shade(key: Tensor) -> Tensor:
    return ((key & ((1 << _SHADE_BITS) - 1)) << (FRAC + 1 - _SHADE_BITS)) - (ONE - (ONE >> _SHADE_BITS))
