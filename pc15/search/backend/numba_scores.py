"""Loops that touch every score once, compiled for the CPU.

`numba_ops` makes operations of `Backend` from them; no option here may reorder or contract floating point.
`parallel_range` splits tiles among as many threads as torch would use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc15.runtime.jit import jit_entry, jit_inner
from pc15.search.backend.prefetch import prefetch
from pc15.search.backend.sort_keys import INDEX_BITS, MAGNITUDE

FACTOR_BITS = 20  # as in `protocol`, which loads what a compiled loop does without

Array = NDArray[Any]

_STRIP = 64  # scores computed before any of them is looked at
_LAST_ROW = (1 << INDEX_BITS) - 1
_NEARLY = np.float32(1.0 - 2.0**-18)
_AHEAD = 3  # candidates whose patterns are on their way, which takes as long as it does to rank as many


@jit_inner()
def _gather_best(keys: Array, keep: int) -> int:
    """Bring the `keep` largest of different keys to the front, in any order; returns the least of them."""
    low, high, last = 0, len(keys) - 1, keep - 1
    while low < high:
        middle = (low + high) >> 1
        pivot = keys[middle]
        keys[middle] = keys[high]
        at = low
        for k in range(low, high):  # without branches: which way one would go is anyone's guess
            key = keys[k]
            keys[k] = keys[at]
            keys[at] = key
            at += int(key > pivot)
        keys[high] = keys[at]
        keys[at] = pivot
        if at < last:
            low = at + 1
        elif at > last:
            high = at - 1
        else:
            break
    return keys[last]


@jit_entry()
def keep_best(
    start: int,
    stop: int,
    product: Array,
    curve: Array,
    scale: Array,
    place: Array,
    price: Array,
    bits: Array,
    tiles: Array,
    first: int,
    keys: Array,
    used: Array,
    bar: Array,
) -> None:
    """Let a block's scores compete for each tile's best, see `sort_keys`; a tie keeps the lower row.

    Args:
        product, curve: [n,B] int32 or float32.   scale: [2,K], bits: [K], float32, of the whole bank.
        place, price: of the n tiles.   tiles: [n], where each tile's results lie in what follows.
        first: bank row of the block's first candidate; blocks come in the order of their rows.
        keys: [N,2*keep] int64, scores and rows of candidates that may be among the best, in any order: a key is
            larger than another where the score is, or where scores are equal and the row is lower.
        used: [N] int64, how many those are.   bar: [N] float32, score that others have to exceed.
    """
    count, room = product.shape[1], keys.shape[1]
    gains, scores = np.empty(_STRIP, np.float32), np.empty(_STRIP, np.float32)
    raw = scores.view(np.int32)
    found = np.empty(1, np.int32)
    for i in range(start, stop):
        pay, tile = price[i], tiles[i]
        own, n, least = keys[tile], used[tile], bar[tile]
        for begin in range(0, count, _STRIP):
            values, curves = product[i, begin : begin + _STRIP], curve[i, begin : begin + _STRIP]
            scales = scale[place[i], first + begin : first + begin + len(values)]
            costs = bits[first + begin : first + begin + len(values)]
            better = np.int32(0)
            for k in range(len(values)):  # products in place of a division; _NEARLY is more than their roundings
                value = np.float32(values[k])
                gains[k] = (value * value) * scales[k]
                better += np.int32(gains[k] > ((least + pay * costs[k]) * np.float32(curves[k])) * _NEARLY)
            if not better:
                continue
            for k in range(len(values)):
                scores[k] = gains[k] / np.float32(curves[k]) - pay * costs[k]
            for k in range(len(values)):
                if scores[k] > least:
                    ordered = np.int64(raw[k] if raw[k] >= 0 else raw[k] ^ MAGNITUDE)
                    own[n] = (ordered << INDEX_BITS) + (_LAST_ROW - (first + begin + k))
                    n += 1
                    if n == room:
                        n = room >> 1
                        ordered = _gather_best(own, n) >> INDEX_BITS
                        found[0] = ordered if ordered >= 0 else ordered ^ MAGNITUDE
                        least = found.view(np.float32)[0]
        used[tile], bar[tile] = n, least


@jit_inner(inline="always")
def _dot(a: Array, b: Array) -> Any:
    """Sum of a * b, exact below 2^31."""
    total = np.int32(0)
    for k in range(len(a)):
        total += np.int32(a[k]) * np.int32(b[k])
    return total


@jit_entry()
def best_in_cells(
    start: int,
    stop: int,
    chosen: Array,
    first: Array,
    rows: Array,
    pixels: Array,
    energies: Array,
    scale: Array,
    bits: Array,
    packed: Array,
    weights: Array,
    place: Array,
    price: Array,
    best: Array,
) -> None:
    """`Backend.best_in_cells` of tiles start..stop.

    Args:
        chosen: [n,k] cells.   first: [C+1], rows: [K], pixels: [K,P], energies: [K,W], scale: [2,K], as `CellRows`.
        bits: [K].   packed: [n,P], weights: [n,W], place, price: [n], as `TileTerms`.
        best: [n,keep] int64, filled.
    """
    keep, half = best.shape[1], weights.shape[1] // 2
    keys = np.empty(2 * keep, np.int64)
    score, found = np.empty(1, np.float32), np.empty(1, np.float32)
    raw, found_raw = score.view(np.int32), found.view(np.int32)
    for i in range(start, stop):
        own, pay, case = packed[i], price[i], place[i]
        weight, scales = weights[i, half * case : half * (case + 1)], scale[case]
        n, least = 0, -np.float32(np.inf)
        for c in range(chosen.shape[1]):
            if chosen[i, c] < 0:
                continue
            for at in range(first[chosen[i, c]], first[chosen[i, c] + 1]):
                row = rows[at]
                value = np.float32(_dot(pixels[at], own))
                curve = np.float32(_dot(energies[at, half * case : half * (case + 1)], weight))
                score[0] = ((value * value) * scales[at]) / curve - pay * bits[row]
                if score[0] >= least:  # rows of other cells may be lower ones: an equal score may come first
                    ordered = np.int64(raw[0] if raw[0] >= 0 else raw[0] ^ MAGNITUDE)
                    keys[n] = (ordered << INDEX_BITS) + (_LAST_ROW - row)
                    n += 1
                    if n == len(keys):
                        n = keep
                        ordered = _gather_best(keys, n) >> INDEX_BITS
                        found_raw[0] = ordered if ordered >= 0 else ordered ^ MAGNITUDE
                        least = found[0]
        if n > keep:
            _gather_best(keys[:n], keep)
            n = keep
        keys[:n].sort()
        for k in range(n):
            best[i, k] = _LAST_ROW - (keys[n - 1 - k] & _LAST_ROW)
        best[i, n:] = -1


@jit_entry()
def activate(
    start: int, stop: int, product: Array, factor: Array, bias: Array, out: Array, kind: int, answer_top: int
) -> None:
    """`Backend.activated` of rows start..stop; kind: 0 |x|, 1 max(x, 0), 2 x itself.

    Args:
        product: [n,B] int32 or float32.   factor, bias: [B] int32.   out: [n,B] int8 or int32, filled.
    """
    half = np.int64(1) << (FACTOR_BITS - 1)
    for i in range(start, stop):
        for k in range(product.shape[1]):
            y = ((np.int64(product[i, k]) * np.int64(factor[k]) + half) >> FACTOR_BITS) + np.int64(bias[k])
            if kind == 2:
                out[i, k] = min(max(y, -answer_top), answer_top)
            else:
                y = abs(y) if kind == 0 else max(y, np.int64(0))
                out[i, k] = min(y, np.int64(127))


@jit_entry()
def likeliest_cells(
    start: int,
    stop: int,
    answers: Array,
    product: Array,
    curve: Array,
    scale: Array,
    place: Array,
    gain: Array,
    least: int,
    log_floor: int,
    best: Array,
) -> None:
    """`Backend.likeliest_cells` of tiles start..stop; scale: [2,C]; place: [n]; best: [n,keep] int64, filled."""
    cells, keep = product.shape[1], best.shape[1]
    scores = np.empty(cells, np.float32)
    raw = scores.view(np.int32)
    keys = np.empty(cells, np.int64)
    for i in range(start, stop):
        if answers[i, cells] < least:
            best[i, :] = -1
            continue
        own, top = scale[place[i]], np.int32(0)
        for c in range(cells):
            value = np.float32(product[i, c])
            scores[c] = ((value * value) * own[c]) / np.float32(curve[i, c])
        for c in range(cells):
            top = max(top, raw[c])
        against = np.int64(top >> 15)
        for c in range(cells):
            like = max(np.int64(raw[c] >> 15) - against, np.int64(log_floor))
            keys[c] = (np.int64(answers[i, c]) + ((np.int64(gain[c]) * like) >> 4)) * cells + (cells - 1 - c)
        _gather_best(keys, keep)
        keys[:keep].sort()
        for k in range(keep):
            best[i, k] = cells - 1 - keys[keep - 1 - k] % cells


@jit_entry()
def best_rows(start: int, stop: int, keys: Array, used: Array, rows: Array) -> None:
    """Bank rows of the best that `keep_best` has left in some lanes.

    Args:
        keys: [lanes,N,2*keep], used: [lanes,N].   rows: [N,keep] int64, filled, best first, -1 where there are fewer.
    """
    lanes, keep = len(keys), rows.shape[1]
    every = np.empty(lanes * keys.shape[2], np.int64)
    for i in range(start, stop):
        n = 0
        for lane in range(lanes):
            for k in range(used[lane, i]):
                every[n] = keys[lane, i, k]
                n += 1
        if n > keep:
            _gather_best(every[:n], keep)
            n = keep
        every[:n].sort()
        for k in range(n):
            rows[i, k] = _LAST_ROW - (every[n - 1 - k] & _LAST_ROW)
        rows[i, n:] = -1


@jit_inner(allocates=False)
def _product(a: Array, b: Array) -> Any:
    """Sum of a * b, exact in 32 bits."""
    product = np.int32(0)
    for k in range(len(a)):
        product = np.int32(product + np.int32(np.int32(a[k]) * np.int32(b[k])))
    return product


@jit_entry()
def rank_again(
    start: int,
    stop: int,
    candidates: Array,
    pixels: Array,
    energies: Array,
    scale: Array,
    bits: Array,
    packed: Array,
    weights: Array,
    place: Array,
    price: Array,
    rows: Array,
) -> None:
    """`Backend.ranked` of tiles start..stop.

    Args:
        candidates: [n,M] int64 bank rows, -1 for none.   pixels: [K,P], energies: [K,W], scale: [2,K], as `BankTerms`.
        bits: [K] float32.   packed: [n,P], weights: [n,W], place, price: [n], as `TileTerms`.
        rows: [n,keep] int64, filled.
    """
    keep, half = rows.shape[1], weights.shape[1] // 2
    best = np.empty(keep, np.float32)
    for i in range(start, stop):
        own, case, found = packed[i], place[i], rows[i]
        weight = weights[i, half * case : half * (case + 1)]
        best[:] = -np.inf
        found[:] = -1
        for j in range(candidates.shape[1]):
            if j + _AHEAD < candidates.shape[1]:
                prefetch(pixels, candidates[i, j + _AHEAD])
            row = candidates[i, j]
            if row < 0 or scale[case, row] == 0.0:
                continue
            value = np.float32(_product(own, pixels[row]))
            curve = np.float32(_dot(energies[row, half * case : half * (case + 1)], weight))
            score = ((value * value) * scale[case, row]) / curve - price[i] * bits[row]
            at = keep - 1
            if score < best[at] or (score == best[at] and row > found[at] >= 0):
                continue
            while at > 0 and (best[at - 1] < score or (best[at - 1] == score and found[at - 1] > row)):
                best[at], found[at] = best[at - 1], found[at - 1]
                at -= 1
            best[at], found[at] = score, row


@jit_entry()
def moments(
    start: int, stop: int, pixels: Array, error: Array, weight: Array, product: Array, share: Array, power: Array
) -> None:
    """Sums of error * p, weight * p and weight * p^2 of each row p, exact.

    Args:
        pixels: [K,P] int8.   error, weight: [P] int32, so small that no sum leaves 32 bits.
        product, share, power: [K] int32, filled.
    """
    for k in range(start, stop):
        a, b, c = np.int32(0), np.int32(0), np.int32(0)
        for i in range(pixels.shape[1]):
            p = np.int32(pixels[k, i])
            q = p * weight[i]
            a += p * error[i]
            b += q
            c += p * q
        product[k], share[k], power[k] = a, b, c
