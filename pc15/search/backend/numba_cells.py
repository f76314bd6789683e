"""Loops of the nets that choose cells and of the best rows in them, compiled for the CPU; see `numba_scores`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc15.runtime.jit import jit_entry, jit_inner
from pc15.search.backend.dots import dot, total_of
from pc15.search.backend.numba_scores import AHEAD, LAST_ROW, STRIP, gather_best, insertion_sort
from pc15.search.backend.prefetch import prefetch
from pc15.search.backend.sort_keys import INDEX_BITS, MAGNITUDE

FACTOR_BITS = 20  # as in `protocol`, which loads what a compiled loop does without

Array = NDArray[Any]

_SHARING = 256  # tiles that read what they have chosen together


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
    tiles, cells = min(stop - start, _SHARING), len(first) - 1
    ends, members = np.empty(cells + 1, np.int64), np.empty(tiles * chosen.shape[1], np.int64)
    listed, cell_of = np.empty(len(rows), np.int64), np.empty(len(rows), np.int64)
    keys, used = np.empty((tiles, 2 * best.shape[1]), np.int64), np.empty(tiles, np.int64)
    totals, least, numbers = np.empty((tiles, 2), np.int32), np.empty(tiles, np.float32), np.empty(2, np.float32)
    raw = numbers.view(np.int32)
    for begin in range(start, stop, _SHARING):
        end = min(stop, begin + _SHARING)
        count = _list_rows(begin, end, chosen, first, ends, members, listed, cell_of)
        _rank_rows(
            begin, end, count, listed, cell_of, ends, members, rows, pixels, energies, scale, bits, packed, weights,
            place, price, keys, used, totals, least, numbers, raw,
        )  # fmt: skip
        for i in range(begin, end):
            _best_of_keys(keys[i - begin], used[i - begin], best[i])


@jit_inner(allocates=False)
def _list_rows(
    begin: int, end: int, chosen: Array, first: Array, ends: Array, members: Array, listed: Array, cell_of: Array
) -> Any:
    """List the rows of all cells that tiles begin..end have chosen, cell by cell; returns how many.

    Args:
        ends: [C+1], filled: the tiles of cell c, counted from `begin`, are members[ends[c]:ends[c+1]].
        listed, cell_of: [K], the first are filled: places of rows, and their cells.
    """
    ends[:] = 0
    for i in range(begin, end):
        for c in range(chosen.shape[1]):
            if chosen[i, c] >= 0:
                ends[chosen[i, c]] += 1
    total = 0
    for c in range(len(ends)):  # the last one has no rows, and none
        total += ends[c]
        ends[c] = total
    for i in range(end - 1, begin - 1, -1):
        for c in range(chosen.shape[1]):
            if chosen[i, c] >= 0:
                ends[chosen[i, c]] -= 1
                members[ends[chosen[i, c]]] = i - begin
    count = 0
    for c in range(len(first) - 1):
        if ends[c + 1] > ends[c]:
            for at in range(first[c], first[c + 1]):
                listed[count], cell_of[count] = at, c
                count += 1
    return count


@jit_inner(allocates=False)
def _rank_rows(
    begin: int,
    end: int,
    count: int,
    listed: Array,
    cell_of: Array,
    ends: Array,
    members: Array,
    rows: Array,
    pixels: Array,
    energies: Array,
    scale: Array,
    bits: Array,
    packed: Array,
    weights: Array,
    place: Array,
    price: Array,
    keys: Array,
    used: Array,
    totals: Array,
    least: Array,
    numbers: Array,
    raw: Array,
) -> None:
    """Let each row compete in the tiles that have chosen its cell: memory is what takes time, so it is read once.

    Args:
        listed, cell_of, ends, members: see `_list_rows`.   keys, used: filled, as `keep_best` has them, of [n] tiles.
        totals: [n,2], least: [n], room.   numbers: [2] float32, the same memory as `raw`, room.
    """
    half, room = weights.shape[1] // 2, keys.shape[1]
    for i in range(begin, end):
        totals[i - begin, 0] = total_of(packed[i])
        totals[i - begin, 1] = total_of(weights[i, half * place[i] : half * (place[i] + 1)])
        used[i - begin], least[i - begin] = 0, -np.float32(np.inf)
    for j in range(count):
        if j + AHEAD < count:
            prefetch(pixels, listed[j + AHEAD])
            prefetch(energies, listed[j + AHEAD])
        at = listed[j]
        row, pattern, cost = rows[at], pixels[at], bits[rows[at]]
        for m in range(ends[cell_of[j]], ends[cell_of[j] + 1]):
            k = members[m]
            i = begin + k
            case = place[i]
            span = slice(half * case, half * (case + 1))
            value = np.float32(dot(pattern, packed[i], totals[k, 0]))
            curve = np.float32(dot(energies[at, span], weights[i, span], totals[k, 1]))
            numbers[0] = ((value * value) * scale[case, at]) / curve - price[i] * cost
            if numbers[0] >= least[k]:  # rows of other cells may be lower ones: an equal score may come first
                ordered = np.int64(raw[0] if raw[0] >= 0 else raw[0] ^ MAGNITUDE)
                n = used[k]
                keys[k, n] = (ordered << INDEX_BITS) + (LAST_ROW - row)
                n += 1
                if n == room:
                    n = room >> 1
                    ordered = gather_best(keys[k], n, room) >> INDEX_BITS
                    raw[1] = ordered if ordered >= 0 else ordered ^ MAGNITUDE
                    least[k] = numbers[1]
                used[k] = n


@jit_inner(allocates=False)
def _best_of_keys(keys: Array, n: int, best: Array) -> None:
    """Rows [keep] of the largest of the first n keys, best first; -1 where there are fewer."""
    if n > len(best):
        gather_best(keys, len(best), n)
        n = len(best)
    insertion_sort(keys, n)
    for k in range(n):
        best[k] = LAST_ROW - (keys[k] & LAST_ROW)
    best[n:] = -1


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
    scores, keys = np.empty(cells, np.float32), np.empty(2 * keep + STRIP, np.int64)
    raw = scores.view(np.int32)
    for i in range(start, stop):
        if answers[i, cells] < least:
            best[i, :] = -1
            continue
        _score_cells(product[i], curve[i], scale[place[i]], scores)
        _likeliest(answers[i], raw, gain, log_floor, keys, best[i])


@jit_inner(allocates=False)
def _score_cells(product: Array, curve: Array, scale: Array, scores: Array) -> None:
    for c in range(len(scores)):
        value = np.float32(product[c])
        scores[c] = ((value * value) * scale[c]) / np.float32(curve[c])


@jit_inner(allocates=False)
def _likeliest(answers: Array, raw: Array, gain: Array, log_floor: int, keys: Array, best: Array) -> None:
    """`likeliest_cells` of one tile; raw: [C] int32, scores as they lie in memory.   keys: room for twice the best."""
    cells, keep, top = len(raw), len(best), np.int32(0)
    for c in range(cells):
        top = max(top, raw[c])
    against, n = np.int32(top >> 15), 0
    bar: Any = np.int64(-(2**63))
    for begin in range(0, cells, STRIP):
        last = min(begin + STRIP, cells)
        answer, scored, share = answers[begin:last], raw[begin:last], gain[begin:last]
        some, better = keys[n : n + len(scored)], np.int64(0)
        for k in range(len(scored)):
            like = max(np.int32(scored[k] >> 15) - against, np.int32(log_floor))
            value = np.int64(answer[k]) + ((np.int64(share[k]) * np.int64(like)) >> 4)
            some[k] = value * cells + (cells - 1 - begin - k)
        for k in range(len(some)):
            better += np.int64(some[k] > bar)
        if not better:
            continue
        at: Any = n
        for k in range(len(some)):
            key = some[k]
            keys[at] = key
            at += np.int64(key > bar)
        n = at
        if n >= 2 * keep:
            bar = gather_best(keys, keep, n)
            n = keep
    if n > keep:
        gather_best(keys, keep, n)
    insertion_sort(keys, keep)
    for k in range(keep):
        best[k] = cells - 1 - keys[k] % cells
