"""Loops that touch every score once, compiled for the CPU.

`numba_ops` makes operations of `Backend` from them; no option here may reorder or contract floating point.
`parallel_range` splits tiles among as many threads as torch would use.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc15.runtime.jit import jit_entry, jit_inner
from pc15.search.backend.dots import dot, total_of
from pc15.search.backend.prefetch import prefetch
from pc15.search.backend.sort_keys import INDEX_BITS, MAGNITUDE

Array = NDArray[Any]

STRIP = 64  # scores computed before any of them is looked at
LAST_ROW = (1 << INDEX_BITS) - 1
_NEARLY = np.float32(1.0 - 2.0**-18)
_TOGETHER = 8  # tiles with one list that a pattern is compared with while it is near
AHEAD = 3  # candidates whose patterns are on their way, which takes as long as it does to rank as many


@jit_inner(allocates=False)
def gather_best(keys: Array, keep: int, count: int) -> Any:
    """Bring the `keep` largest of the first `count` different keys to the front, in any order; returns the least."""
    low, high, last = 0, count - 1, keep - 1
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
    gains, scores = np.empty(STRIP, np.float32), np.empty(STRIP, np.float32)
    raw = scores.view(np.int32)
    found = np.empty(1, np.int32)
    for i in range(start, stop):
        pay, tile = price[i], tiles[i]
        own, n, least = keys[tile], used[tile], bar[tile]
        for begin in range(0, count, STRIP):
            values, curves = product[i, begin : begin + STRIP], curve[i, begin : begin + STRIP]
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
                    own[n] = (ordered << INDEX_BITS) + (LAST_ROW - (first + begin + k))
                    n += 1
                    if n == room:
                        n = room >> 1
                        ordered = gather_best(own, n, room) >> INDEX_BITS
                        found[0] = ordered if ordered >= 0 else ordered ^ MAGNITUDE
                        least = found.view(np.float32)[0]
        used[tile], bar[tile] = n, least


@jit_inner(allocates=False)
def insertion_sort(keys: Array, n: int) -> None:
    """Sort the first n of few keys, the largest first."""
    for k in range(1, n):
        key, at = keys[k], k
        while at > 0 and keys[at - 1] < key:
            keys[at] = keys[at - 1]
            at -= 1
        keys[at] = key


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
            gather_best(every, keep, n)
            n = keep
        every[:n].sort()
        for k in range(n):
            rows[i, k] = LAST_ROW - (every[n - 1 - k] & LAST_ROW)
        rows[i, n:] = -1


@jit_entry()
def rank_again(
    start: int,
    stop: int,
    lists: Array,
    of: Array,
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

    Neighbours that choose from one list, as the hypotheses of a beam do, share the reading of each pattern.

    Args:
        lists: [m,M] int64 bank rows, -1 for none.   of: [n], the list of each tile.
        pixels: [K,P], energies: [K,W], scale: [2,K], as `BankTerms`.   bits: [K] float32.
        packed: [n,P], weights: [n,W], place, price: [n], as `TileTerms`.   rows: [n,keep] int64, filled.
    """
    best, least = np.empty((_TOGETHER, rows.shape[1]), np.float32), np.empty(_TOGETHER, np.float32)
    totals = np.empty((_TOGETHER, 2), np.int32)
    first = start
    while first < stop:
        last = first + 1
        while last < min(stop, first + _TOGETHER) and of[last] == of[first] and place[last] == place[first]:
            last += 1
        _rank_list(
            first, last, lists[of[first]], pixels, energies, scale[place[first]], bits, packed, weights, place[first],
            price, best, least, totals, rows,
        )  # fmt: skip
        first = last


@jit_inner(allocates=False)
def _rank_list(
    first: int,
    last: int,
    candidates: Array,
    pixels: Array,
    energies: Array,
    scale: Array,
    bits: Array,
    packed: Array,
    weights: Array,
    case: int,
    price: Array,
    best: Array,
    least: Array,
    totals: Array,
    rows: Array,
) -> None:
    """`rank_again` of tiles first..last that choose from one list; best: [_TOGETHER,keep], least: [_TOGETHER], totals:
    [_TOGETHER,2], room."""
    half, keep = weights.shape[1] // 2, rows.shape[1]
    for i in range(first, last):
        totals[i - first, 0] = total_of(packed[i])
        totals[i - first, 1] = total_of(weights[i, half * case : half * (case + 1)])
    best[:], least[:] = -np.inf, -np.inf
    rows[first:last] = -1
    for j in range(len(candidates)):
        if j + AHEAD < len(candidates):
            prefetch(pixels, candidates[j + AHEAD])
            prefetch(energies, candidates[j + AHEAD])
        row = candidates[j]
        if row < 0 or scale[row] == 0.0:
            continue
        pattern, energy = pixels[row], energies[row, half * case : half * (case + 1)]
        own, cost = scale[row], bits[row]
        for i in range(first, last):
            k = i - first
            value = np.float32(dot(pattern, packed[i], totals[k, 0]))
            curve = np.float32(dot(energy, weights[i, half * case : half * (case + 1)], totals[k, 1]))
            score = ((value * value) * own) / curve - price[i] * cost
            if score >= least[k]:
                _insert(best[k], rows[i], score, row)
                least[k] = best[k, keep - 1]


@jit_inner(allocates=False)
def _insert(best: Array, found: Array, score: float, row: int) -> None:
    """Put a row where it belongs among those found, best first, of equal ones the lowest."""
    at = len(best) - 1
    if score == best[at] and row > found[at] >= 0:
        return
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
