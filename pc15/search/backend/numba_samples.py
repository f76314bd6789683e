"""Loops over the samples of tiles and of the planes they lie in, compiled for the CPU; see `Backend`.

Tiles that are changed together do not overlap, so that threads may share them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc15.fixed import FRAC
from pc15.proc.registry import COEFFICIENT_ONE, RMS_FLOOR
from pc15.runtime import jit
from pc15.runtime.parallel import parallel_range
from pc15.search.backend.prefetch import prefetch
from pc15.search.backend.protocol import BlendedTiles, DrawnLayers, Places
from pc15.tiling import SAMPLE_MAX

Array = NDArray[Any]

_entry = partial(jit.jit_entry, error_model="numpy", allocates=False)
_inner = partial(jit.jit_inner, error_model="numpy", allocates=False)

_HALF = 1 << 15  # blend weights have 16 bits
_LEAST = 1 << 18  # samples that are worth another thread


@_entry()
def _look(
    start: int, stop: int, tiles: Array, above: Array, acc: Array, rows: Array, cols: Array, row_of: Array,
    col_of: Array, out: Array,
) -> None:  # fmt: skip
    side = out.shape[1]
    for i in range(start, stop):
        down, across = rows[row_of[tiles[i]]], cols[col_of[tiles[i]]]
        width = across[side - 1] - across[0] + 1  # past it, the last one is repeated
        for r in range(side):
            at = down[r] + across[0]
            line, total, left = above[at : at + width], acc[at : at + width], out[i, r]
            for k in range(width):
                left[k] = line[k] - ((total[k] + _HALF) >> 16)
            left[width:] = left[width - 1]


@_inner()
def _shown(sample: int, most: int) -> int:
    return min(max(sample, -most), most)


@_entry()
def _put(
    start: int, stop: int, tiles: Array, acc: Array, rows: Array, cols: Array, row_of: Array, col_of: Array,
    own: Array, of: Array, samples: Array, new: Array, old: Array, kept: int, changed: int, most: int,
) -> None:  # fmt: skip
    side = new.shape[1]
    for i in range(start, stop):
        tile = tiles[i]
        down, across, weight = rows[row_of[tile]], cols[col_of[tile]], own[of[tile]]
        width = across[side - 1] - across[0] + 1  # past it, and past the last row, weights are 0
        for r in range(side):
            at = down[r] + across[0]
            total, row, more, less, own_row = acc[at : at + width], samples[tile, r], new[i, r], old[i, r], weight[r]
            for k in range(width):
                before = row[k]
                after = np.int32(kept * before + more[k] - changed * less[k])
                row[k] = after
                total[k] += own_row[k] * (_shown(after, most) - _shown(before, most))
            for k in range(width, side):
                row[k] = kept * row[k] + more[k] - changed * less[k]


@_entry()
def _show(start: int, stop: int, e: Array, cls: Array, own: Array, samples: Array, sign: int) -> None:
    for i in range(start, stop):
        left, weight, drawn = e[i], own[cls[i]], samples[i]
        for k in range(len(left)):
            left[k] += sign * ((weight[k] * drawn[k] + _HALF) >> 16)


@_inner()
def factor_of(amplitude: int, rms: int, flat: int, most: int) -> int:
    """`registry.coefficient` of one amplitude, Q15.

    Args:
        flat: RMS below which a pattern is flat, hence 0.   most: largest factor.
    """
    if rms < flat:
        return 0
    size = min((abs(amplitude) << FRAC) // rms, most)
    return size if amplitude > 0 else -size


@_entry()
def _contribute(
    start: int, stop: int, store: Array, rms: Array, at: Array, amp: Array, step: int, flat: int, most: int, out: Array
) -> None:
    for i in range(start, stop):
        if i + 1 < stop:
            prefetch(store, at[i + 1])
        pattern, drawn = store[at[i]], out[i]
        factor = factor_of(amp[i] * step, rms[at[i]], flat, most)
        for k in range(len(drawn)):
            drawn[k] = (factor * np.int64(pattern[k]) + (1 << 16)) >> 17


@_entry()
def _without(
    start: int, stop: int, e: Array, of: Array, cls: Array, own: Array, store: Array, rms: Array, at: Array,
    amp: Array, step: int, flat: int, most: int, out: Array,
) -> None:  # fmt: skip
    for i in range(start, stop):
        if i + 1 < stop:
            prefetch(store, at[i + 1])
        before, weight, pattern, left = e[of[i]], own[cls[i]], store[at[i]], out[i]
        factor = factor_of(amp[i] * step, rms[at[i]], flat, most)
        for k in range(len(left)):
            sample = np.int32((factor * np.int64(pattern[k]) + (1 << 16)) >> 17)
            left[k] = before[k] - ((weight[k] * np.int64(sample) + _HALF) >> 16)


def look(tiles: Tensor, above: Tensor, acc: Tensor, places: Places, tile: int) -> Tensor:
    out = torch.empty((len(tiles), tile, tile), dtype=torch.int32)
    _over_tiles(_look, out, *_arrays(tiles, above, acc, *places, out))
    return out


def put(tiles: Tensor, canvas: BlendedTiles, new: Tensor, old: Tensor | None = None, *, add: bool) -> None:
    acc, places, own, of, samples = canvas
    arrays = _arrays(tiles, acc, *places, own, of, samples, new, new if old is None else old)
    _over_tiles(_put, new, *arrays, int(add), int(old is not None), SAMPLE_MAX)


def show(e: Tensor, cls: Tensor, own: Tensor, samples: Tensor, sign: int) -> None:
    _over_tiles(_show, e, *_arrays(e.flatten(1), cls, own.flatten(1), samples.flatten(1)), sign)


def contributions(layers: DrawnLayers, tile: int) -> Tensor:
    store, rms, at, amp, step = layers
    out = torch.empty((len(amp), tile * tile), dtype=torch.int32)
    at = torch.arange(len(amp)) if at is None else at
    arrays = _arrays(store.flatten(1), rms, at, amp)
    _over_tiles(_contribute, out, *arrays, step, RMS_FLOOR, COEFFICIENT_ONE, out.numpy())
    return out.view(-1, tile, tile)


def without(e: Tensor, of: Tensor, cls: Tensor, own: Tensor, layers: DrawnLayers) -> Tensor:
    store, rms, at, amp, step = layers
    out = torch.empty((len(of), e.shape[1] * e.shape[2]), dtype=torch.int32)
    at = torch.arange(len(of)) if at is None else at
    arrays = _arrays(e.flatten(1), of, cls, own.flatten(1), store.flatten(1), rms, at, amp)
    _over_tiles(_without, out, *arrays, step, RMS_FLOOR, COEFFICIENT_ONE, out.numpy())
    return out.view(-1, *e.shape[1:])


def _over_tiles(loop: Callable[..., None], changed: Tensor, *arguments: Any) -> None:
    """`parallel_range` over the tiles [n,..] that a loop changes."""
    parallel_range(loop, len(changed), *arguments, least=max(1, _LEAST // max(1, changed[:1].numel())))


def _arrays(*tensors: Tensor) -> list[Array]:
    return [tensor.contiguous().numpy() for tensor in tensors]


@_entry()
def slopes(
    start: int, stop: int, mine: Array, rest: Array, down: Array, across: Array, rows: Array, first_row: Array,
    last_row: Array, cols: Array, first_col: Array, last_col: Array, one: int, gradient: Array, norm: Array,
) -> None:  # fmt: skip
    """`DrawnSurface.slopes` of some knots.

    Args:
        mine: [m] int64, which knots.   rest: [planes*H,W].   down: [planes*H,nx] and across: [planes*H,W], shares of
            the later knot, of `one`.
        rows: [H], cols: [W], knot before each pixel.   first_row, last_row, first_col, last_col: as in `Axis`.
        gradient, norm: [planes*N] int64, filled where mine.
    """
    ny, nx = len(first_row), len(first_col)
    for i in range(start, stop):
        knot = mine[i]
        plane, y, x = knot // (ny * nx), knot // nx % ny, knot % nx
        slope, square = np.int64(0), np.int64(0)
        for r in range(first_row[y], last_row[y]):
            line = plane * len(rows) + r
            share = np.int64(down[line, x])
            if rows[r] == y:
                share = one - share
            along, squares = np.int64(0), np.int64(0)
            for k in range(first_col[x], last_col[x]):
                other = np.int64(across[line, k])
                other = one - other if cols[k] == x else other
                along += rest[line, k] * other
                squares += other * other
            slope += along * share
            square += squares * (share * share)
        gradient[knot], norm[knot] = slope, square


@_entry()
def draw_surface(
    start: int, stop: int, knots: Array, rows: Array, ramp_y: Array, step_y: Array, cols: Array, ramp_x: Array,
    step_x: Array, smooth: int, nx: int, level: Array, rise: Array, sharp: Array, plane: Array, down: Array,
    across: Array,
) -> None:  # fmt: skip
    """Lines start..stop of the surfaces that `dc_surface.surface` draws, of all planes.

    Args:
        knots: [planes,N] int32.   rows, ramp_y, step_y: [H] and cols, ramp_x, step_x: [W], see `Axis`.
        level, rise, sharp: [planes*H,nx] int32, overwritten.
        plane, across: [planes*H,W] and down: [planes*H,nx], written, as in `dc_surface.Surface`.
    """
    height, ny = len(rows), knots.shape[1] // nx
    for line in range(start, stop):
        own, y = knots[line // height], line % height
        above, below = rows[y] * nx, min(rows[y] + 1, ny - 1) * nx
        levels, rises, sharps, shares = level[line], rise[line], sharp[line], down[line]
        for x in range(nx):
            ahead = own[below + x] - own[above + x]
            steep = (min(max(abs(ahead) - smooth, 0), smooth) << 8) // smooth
            share = ((steep * (step_y[y] - ramp_y[y]) + 128) >> 8) + ramp_y[y]
            shares[x] = share
            levels[x] = (own[above + x] * 256 + ahead * share + 128) >> 8
        for x in range(nx):
            ahead = levels[min(x + 1, nx - 1)] - levels[x]
            rises[x] = ahead
            sharps[x] = (min(max(abs(ahead) - smooth, 0), smooth) << 8) // smooth
        out, later = plane[line], across[line]
        for k in range(len(cols)):
            x = cols[k]
            share = ((sharps[x] * (step_x[k] - ramp_x[k]) + 128) >> 8) + ramp_x[k]
            later[k] = share
            out[k] = (levels[x] * 256 + rises[x] * share + 128) >> 8
