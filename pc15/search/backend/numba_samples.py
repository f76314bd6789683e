"""Loops over the samples of tiles and of the planes they lie in, compiled for the CPU; see `Backend`.

Tiles that are changed together do not overlap, so that threads may share them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc15.proc.registry import coefficient
from pc15.runtime.jit import jit_entry, jit_inner
from pc15.runtime.parallel import parallel_range
from pc15.search.backend.protocol import Places
from pc15.tiling import SAMPLE_MAX

Array = NDArray[Any]

_HALF = 1 << 15  # blend weights have 16 bits
_LEAST = 1 << 18  # samples that are worth another thread


@jit_entry()
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


@jit_inner(inline="always")
def _shown(sample: int, most: int) -> int:
    return min(max(sample, -most), most)


@jit_entry()
def _put(
    start: int, stop: int, tiles: Array, acc: Array, rows: Array, cols: Array, row_of: Array, col_of: Array,
    own: Array, of: Array, samples: Array, new: Array, old: Array, kept: int, changed: int, most: int,
) -> None:  # fmt: skip
    side = new.shape[1]
    change = np.empty(side, np.int32)
    for i in range(start, stop):
        tile = tiles[i]
        down, across, weight = rows[row_of[tile]], cols[col_of[tile]], own[of[tile]]
        width = across[side - 1] - across[0] + 1  # past it, and past the last row, weights are 0
        for r in range(side):
            at = down[r] + across[0]
            total, row, more, less = acc[at : at + width], samples[tile, r], new[i, r], old[i, r]
            for k in range(side):
                before = row[k]
                after = np.int32(kept * before + more[k] - changed * less[k])
                row[k] = after
                change[k] = weight[r, k] * (_shown(after, most) - _shown(before, most))
            for k in range(width):
                total[k] += change[k]


@jit_entry()
def _show(start: int, stop: int, e: Array, cls: Array, own: Array, samples: Array, sign: int) -> None:
    side = e.shape[1]
    for i in range(start, stop):
        weight = own[cls[i]]
        for r in range(side):
            for k in range(side):
                e[i, r, k] += sign * ((weight[r, k] * samples[i, r, k] + _HALF) >> 16)


@jit_entry()
def _contribute(start: int, stop: int, store: Array, at: Array, factor: Array, out: Array) -> None:
    for i in range(start, stop):
        pattern = store[at[i]]
        for k in range(out.shape[1]):
            out[i, k] = (factor[i] * np.int32(pattern[k]) + (1 << 16)) >> 17


def look(tiles: Tensor, above: Tensor, acc: Tensor, places: Places, tile: int) -> Tensor:
    out = torch.empty((len(tiles), tile, tile), dtype=torch.int32)
    _over_tiles(_look, out, *_arrays(tiles, above, acc, *places, out))
    return out


def put(
    tiles: Tensor,
    acc: Tensor,
    places: Places,
    own: Tensor,
    of: Tensor,
    samples: Tensor,
    new: Tensor,
    old: Tensor | None = None,
    *,
    add: bool,
) -> None:
    arrays = _arrays(tiles, acc, *places, own, of, samples, new, new if old is None else old)
    _over_tiles(_put, new, *arrays, int(add), int(old is not None), SAMPLE_MAX)


def show(e: Tensor, cls: Tensor, own: Tensor, samples: Tensor, sign: int) -> None:
    _over_tiles(_show, e, *_arrays(e, cls, own, samples), sign)


def contributions(store: Tensor, rms: Tensor, at: Tensor | None, amp: Tensor, step: int, tile: int) -> Tensor:
    out = torch.empty((len(amp), tile * tile), dtype=torch.int32)
    at = torch.arange(len(amp)) if at is None else at
    factor = coefficient(amp * step, rms[at])
    _over_tiles(_contribute, out, *_arrays(store.flatten(1), at, factor, out))
    return out.view(-1, tile, tile)


def _over_tiles(loop: Callable[..., None], changed: Tensor, *arguments: Any) -> None:
    """`parallel_range` over the tiles [n,..] that a loop changes."""
    parallel_range(loop, len(changed), *arguments, least=max(1, _LEAST // max(1, changed[:1].numel())))


def _arrays(*tensors: Tensor) -> list[Array]:
    return [tensor.contiguous().numpy() for tensor in tensors]


@jit_entry()
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
