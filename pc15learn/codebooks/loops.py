"""The compiled loops of the training of codebooks."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pc15.residual.enc.encode import LAMBDA
from pc15.residual.enc.pattern_search import DRAFT_FIRST, DRAFT_MORE
from pc15.runtime.jit import jit_entry, jit_inner

Array = NDArray[Any]


@jit_entry()
def sift(
    product: Array, inverse: Array, unit: Array, price: Array, share: float, rows: Array, gains: Array, work: Array
) -> None:
    """The candidates of each target that gain at least `share` of what its best one does, price paid, in order.

    Args:
        product: [n,R] float32.   inverse, price: [R] float32.   unit: [n] float32: bits per unit of score.
        rows: [n,M] int32, -1 where there are fewer.   gains: [n,M] float32, price not paid.   Both are written.
        work: [R] float32.
    """
    most = rows.shape[1]
    for i in range(product.shape[0]):
        best = np.float32(0.0)
        for k in range(product.shape[1]):
            value = product[i, k] * product[i, k] * inverse[k] * unit[i] - price[k]
            work[k] = value
            best = max(best, value)
        rows[i] = -1
        if best <= 0:
            continue
        least, count = best * share, most + 1
        while count > most:
            count = 0
            for k in range(len(work)):
                count += work[k] >= least
            if count > most:
                least = least + (best - least) * np.float32(0.1)
                if least >= best:  # more equals than places: the first ones
                    break
        at = 0
        for k in range(len(work)):
            if work[k] >= least and at < most:
                rows[i, at], gains[i, at] = k, work[k] + price[k]
                at += 1


@jit_entry()
def by_entry(rows: Array, net: Array, entry_of: Array, first: Array, target: Array, value: Array) -> None:
    """Turn lists per target into lists per entry.

    Args:
        rows: [n,M] int32, -1 for none.   net: [n,M] float32.   entry_of: [R] int64.
        first: [E] int64, where each entry's list begins; ends as where it stops.   target, value: the lists, written.
    """
    for i in range(rows.shape[0]):
        for j in range(rows.shape[1]):
            if rows[i, j] >= 0:
                own = entry_of[rows[i, j]]
                target[first[own]], value[first[own]] = i, net[i, j]
                first[own] += 1


@jit_inner()
def _sink(key: Array, heap: Array, count: int, at: int) -> None:
    """Restore the heap, largest key on top, after the key at `at` became smaller."""
    while True:
        child = 2 * at + 1
        if child >= count:
            return
        if child + 1 < count and key[heap[child + 1]] > key[heap[child]]:
            child += 1
        if key[heap[child]] <= key[heap[at]]:
            return
        heap[at], heap[child] = heap[child], heap[at]
        at = child


@jit_entry()
def choose_greedily(
    edges: Array, target: Array, value: Array, targets: int, least: float, order: Array, gain: Array
) -> int:
    """Choose entries one by one, each the one that raises the sum over targets of the best chosen value most.

    When none raises it by `least` any more, the next round begins with those left, as if nothing were chosen: what
    would serve best in their absence.  Returns how many were chosen.

    Args:
        edges: [E+1] int64, entry e has the lists' places edges[e]:edges[e+1].   target: int32.   value: float32, > 0.
        order: [K] int64, gain: [K] float64, written.
    """
    entries, wanted, chosen = len(edges) - 1, len(order), 0
    best = np.empty(targets, np.float32)
    key, used, heap = np.zeros(entries), np.zeros(entries, np.bool_), np.arange(entries)
    while chosen < wanted:
        best[:] = 0.0
        begun, count = chosen, 0
        for e in range(entries):
            total = 0.0
            if not used[e]:
                for k in range(edges[e], edges[e + 1]):
                    total += value[k]
            if total > 0.0:
                key[e], heap[count] = total, e
                count += 1
        for at in range(count // 2 - 1, -1, -1):
            _sink(key, heap, count, at)
        while chosen < wanted and count > 0:
            e, total = heap[0], 0.0
            for k in range(edges[e], edges[e + 1]):
                total += max(np.float32(0.0), value[k] - best[target[k]])
            if total >= least and total < key[e]:  # an old key: what was chosen since has taken of it
                key[e] = total
                _sink(key, heap, count, 0)
                continue
            count -= 1
            heap[0] = heap[count]
            _sink(key, heap, count, 0)
            if total < least:
                continue
            order[chosen], gain[chosen], used[e] = e, total, True
            chosen += 1
            for k in range(edges[e], edges[e + 1]):
                best[target[k]] = max(best[target[k]], value[k])
        if chosen == begun:
            break
    return chosen


@jit_entry()
def best_entries(rows: Array, gains: Array, entry_of: Array, bits: Array, best: Array, net: Array) -> None:
    """Entry that gains most after its bits, for each target; -1 if none gains anything.

    Args:
        rows: [n,M] int32, gains: [n,M] float32, as `sift` leaves them.   bits: [E] float32.
        best: [n] int64, net: [n] float32, written.
    """
    for i in range(rows.shape[0]):
        best[i], net[i] = -1, 0.0
        for j in range(rows.shape[1]):
            if rows[i, j] >= 0:
                own = entry_of[rows[i, j]]
                value = gains[i, j] - bits[own]
                if value > net[i]:
                    best[i], net[i] = own, value


@jit_entry()
def best_matches(product: Array, rows: Array) -> None:
    """The patterns whose product with each target is largest, in no order.

    Args:
        product: [n,N] float32.   rows: [n,L] int32, written; -1 where there are fewer.
    """
    most = rows.shape[1]
    best = np.empty(most, np.float32)
    for i in range(product.shape[0]):
        best[:] = 0.0
        rows[i] = -1
        least, place = np.float32(0.0), 0
        for k in range(product.shape[1]):
            value = abs(product[i, k])
            if value > least:
                best[place], rows[i, place] = value, k
                least, place = best[0], 0
                for j in range(1, most):
                    if best[j] < least:
                        least, place = best[j], j


@jit_entry()
def match_gains(
    left: Array, least: Array, whole: Array, units: Array, rows: Array, price: float, gains: Array, signs: Array
) -> None:
    """Bits that patterns save of squares, 0 if none, by the estimate of `pc15.residual.enc.pattern_search`.

    Args:
        left: [n,F] float32, in steps.   least, whole: [n] float32, J in bits.   units: [N,F] float32, of unit norm.
        rows: [n,L] int32 patterns to look at, -1 for none.   price: float32, bits beside the amount.
        gains: [n,L] float32, signs: [n,L] int8, written.
    """
    for i in range(left.shape[0]):
        energy = draft = np.float32(0.0)
        for f in range(left.shape[1]):
            x = abs(left[i, f])
            energy += x * x
            draft += min(x * x, np.float32(DRAFT_FIRST) + np.float32(DRAFT_MORE) * np.sqrt(x))
        usual = min(energy, draft)
        for j in range(rows.shape[1]):
            gains[i, j], signs[i, j] = 0.0, 0
            if rows[i, j] < 0:
                continue
            unit = units[rows[i, j]]
            dot = norm = np.float32(0.0)
            for f in range(len(unit)):
                dot += left[i, f] * unit[f]
                norm += unit[f] * unit[f]
            amount = np.floor(abs(dot) + np.float32(0.5))
            if amount < 1:
                continue
            bits = price + 2 * np.log2(amount) + np.float32(1.5)
            alone = energy - 2 * abs(dot) * amount + amount * amount
            if dot < 0:
                amount = -amount
            rest = amount * amount * max(np.float32(0.0), 1 - norm)
            for f in range(len(unit)):
                x = abs(left[i, f] - amount * unit[f])
                rest += min(x * x, np.float32(DRAFT_FIRST) + np.float32(DRAFT_MORE) * np.sqrt(x))
            j_now = whole[i] + (min(rest, alone) - usual) / np.float32(LAMBDA) + bits
            gains[i, j], signs[i, j] = max(np.float32(0.0), least[i] - j_now), 1 if dot > 0 else -1
