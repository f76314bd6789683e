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

import torch
from torch import Tensor

from pc15.fixed import FRAC, ONE, fade, floor_div, hash32, isqrt, isqrt64, mul, smoothstep, unit, wrap32
from pc15.proc.coords import Grid
from pc15.proc.spec import CELL_FRAC

Hashes = tuple[Tensor, ...]

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


def _hashes(i: Tensor, seed: Tensor, salt: int, offsets: tuple[int, ...], factor: int) -> Hashes:
    mixed = seed ^ wrap32(salt * 0x2545F491)
    return tuple(hash32(((i + o) * factor) ^ mixed) | 1 for o in offsets)


def column_hashes(ix: Tensor, seed: Tensor, salt: int, offsets: tuple[int, ...] = (0, 1)) -> Hashes:
    """Hash of columns ix + offset, each of ix's shape; odd, so that products with row hashes lose nothing."""
    return _hashes(ix, seed, 2 * salt + 1, offsets, _COLUMN)


def row_hashes(iy: Tensor, seed: Tensor, salt: int, offsets: tuple[int, ...] = (0, 1)) -> Hashes:
    """Hash of rows iy + offset; `column * row` is a cell's hash, whose high bits are uniform."""
    return _hashes(iy, seed, 2 * salt + 2, offsets, _ROW)


# ---------------------------------------------------------------- value and gradient noise


def lattice_values(px: Tensor, py: Tensor, seed: Tensor, tx: Tensor, ty: Tensor, salt: int = 0) -> Tensor:
    """Random values at lattice points, Q14 in [-ONE, ONE], blended with weights tx, ty in [0, ONE] of the next one."""
    columns = list(zip(column_hashes(px >> FRAC, seed, salt), (ONE - tx, tx), strict=True))
    total = torch.zeros_like(seed)
    for row, wy in zip(row_hashes(py >> FRAC, seed, salt), (ONE - ty, ty), strict=True):
        (left, w0), (right, w1) = columns
        across = ((left * row) >> (31 - FRAC)) * w0 + ((right * row) >> (31 - FRAC)) * w1
        total = total + (across >> FRAC) * wy
    return total >> FRAC


def value_noise(px: Tensor, py: Tensor, seed: Tensor, salt: int = 0) -> Tensor:
    """Smooth random values at lattice points, interpolated; Q14 in [-ONE, ONE], shape of px and py broadcast."""
    return lattice_values(px, py, seed, smoothstep(px & _FRACTION), smoothstep(py & _FRACTION), salt)


def perlin_noise(px: Tensor, py: Tensor, seed: Tensor, salt: int = 0) -> Tensor:
    """Gradient noise, zero at lattice points; Q14 in [-ONE, ONE], beyond 0.7 once in a thousand pixels.

        n = sum over the four corners of wx wy (gx dx + gy dy) = sum wy (gx (wx dx)) + (wy dy) (gy wx)

    w are fading weights, d distances to the corner, g gradients, uniform in a square of half width 5/4.  The brackets
    are per column and per row, so that few products are left for each pixel.
    """
    columns = list(zip(column_hashes(px >> FRAC, seed, salt), *_fading(px & _FRACTION), strict=True))
    total = torch.zeros_like(seed)
    for row, wy, wy_dy in zip(row_hashes(py >> FRAC, seed, salt), *_fading(py & _FRACTION), strict=True):
        (left, w0, w0_dx), (right, w1, w1_dx) = columns
        h, k = left * row, right * row  # bits 17..31 are gx, bits 6..20 are gy
        gx = ((h >> 17) * w0_dx + (k >> 17) * w1_dx) >> FRAC
        gy = (((h << 11) >> 17) * w0 + ((k << 11) >> 17) * w1) >> FRAC
        total = total + (gx * wy + gy * wy_dy)
    return (total >> FRAC).clamp(-ONE, ONE)


def _fading(f: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Weights of the lattice points before and after, and the same times 5/4 of the distance from them."""
    t = fade(f)
    return (ONE - t, t), (mul(ONE - t, (f * 5) >> 2), mul(t, ((f - ONE) * 5) >> 2))


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
    for octave, height in enumerate(heights):
        layer = perlin_noise((px << octave) + 5741 * octave, (py << octave) + 9127 * octave, seed, salt=octave + salt)
        share = floor_div(height << FRAC, whole)
        if step is not None:
            share = mul(share, (2 * ONE - (step << (octave + 1))).clamp(0, ONE))
        if ridged:
            crest = (ONE - 2 * layer.abs()).clamp(min=0)
            crest = mul(crest, crest)
            layer = 2 * (crest if near_crest is None else mul(crest, near_crest)) - ONE
            near_crest = (2 * crest).clamp(max=ONE)
        elif folded:
            layer = 5 * layer.abs() - ONE
        else:
            layer = layer + (layer >> 1)
        total = total + mul(layer, share)
    return total.clamp(-ONE, ONE)


# ---------------------------------------------------------------- cellular noise


@dataclass(frozen=True, eq=False)
class Cells:
    """What `worley` finds around each position: the nearest and the second nearest of one random point per cell.

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
    ix, iy = px >> FRAC, py >> FRAC
    offsets = (-1, 0, 1)
    middle_x = tuple((ONE >> 1) + (o << FRAC) - (px & _FRACTION) for o in offsets)
    middle_y = tuple((ONE >> 1) + (o << FRAC) - (py & _FRACTION) for o in offsets)
    columns = list(zip(middle_x, column_hashes(ix, seed, 0, offsets), column_hashes(ix, seed, 1, offsets), strict=True))
    rows = list(zip(middle_y, row_hashes(iy, seed, 0, offsets), row_hashes(iy, seed, 1, offsets), strict=True))
    first = second = torch.full((1, 1, 1), (1 << 31) - 1, dtype=torch.int32, device=px.device)
    for my, row_x, row_y in rows:
        for mx, column_x, column_y in columns:
            astray_x, astray_y = (column_x * row_x) >> 20, (column_y * row_y) >> 20
            dx = ((astray_x * jitter) >> (FRAC - 2)) + mx
            dy = ((astray_y * jitter) >> (FRAC - 2)) + my
            key = ((dx * dx + dy * dy) & -(1 << _SHADE_BITS)) | (astray_x & ((1 << _SHADE_BITS) - 1))
            second = torch.minimum(second, torch.maximum(first, key))
            first = torch.minimum(first, key)
    return Cells(first, second)


def near_points(px: Tensor, py: Tensor, seed: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The four of a lattice of random points that may lie within `REACH`, 5/8 of a cell, of each position.

    Each point strays up to 3/8 of a cell, each way, from its lattice point.

    Yields:
        dx, dy: [B,h,w] Q14, from the position to the point.   hash: [B,h,w] int32, its high bits uniform.
    """
    columns = zip((0, ONE), *(column_hashes(px >> FRAC, seed, salt) for salt in (0, 1, 2)), strict=True)
    rows = list(zip((0, ONE), *(row_hashes(py >> FRAC, seed, salt) for salt in (0, 1, 2)), strict=True))
    for ox, column, column_x, column_y in columns:
        for oy, row, row_x, row_y in rows:
            dx = ((column_x * row_x) >> 20) * 3 + (ox - (px & _FRACTION))
            dy = ((column_y * row_y) >> 20) * 3 + (oy - (py & _FRACTION))
            yield dx, dy, column * row


def _distance(key: Tensor) -> Tensor:
    """Root of a key's squared distance, Q14 in steps of 2."""
    return isqrt(key >> 2) << 1


def _shade(key: Tensor) -> Tensor:
    return ((key & ((1 << _SHADE_BITS) - 1)) << (FRAC + 1 - _SHADE_BITS)) - (ONE - (ONE >> _SHADE_BITS))
