"""Which patterns promise most for a square: all entries of its size compared with what a prediction left of it.

A pattern's product with what is left is the product of their transforms, and what matters of it lies in few low
frequencies: so all entries are compared by the FEATURES lowest frequencies that are worth a part of a step, in one
product; the best by squared error and bits are looked at again, with the levels that would still be needed estimated.
Floats are the encoder's alone, and sums have a written order.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import COST_ONE, HALF_CONTEXT, I64, bit_cost, chance, jit_entry, jit_inner
from pc15.residual.contexts import (
    FIRST_PLACE,
    MAX_AMOUNT_FLAGS,
    MAX_LAYERS,
    PLACE,
    RANK_BITS,
    RANK_TREE,
    W_AMOUNT,
    W_MINUS,
    W_RANK,
    W_TREE,
    amount_contexts,
    minus_contexts,
    rank_contexts,
)
from pc15.residual.dct import MID_BITS, forward
from pc15.residual.patterns import DRAWN_SIDES, MAX_ENTRIES, Patterns
from pc15.residual.shapes import SIZES
from pc15.residual.syntax import MAX_AMOUNT, bit_length

Ints = npt.NDArray[Any]
F32: Any = np.float32

FEATURES = 64
"""Lowest frequencies, along the scan, by which patterns are compared."""
WORTH = 0.25
"""Frequencies below this share of a step are left out: they would be quantized to nothing anyway."""
LOOKED_AT = 12
"""Patterns that are looked at again."""
DRAFT_FIRST, DRAFT_MORE = 0.05, 0.45
"""About what a level costs in squared steps, error and bits: the first, plus the second times the root of its size."""


class Finder(NamedTuple):
    """Tables of all patterns, and work space.

    table: float32, per size [FEATURES, count]: transforms of patterns of unit norm, from `start[s]` on.
    units: [patterns, FEATURES] float32, the same by pattern, in the order of `Patterns.scale`.
    outside: float32, per pattern, its squared norm beyond the features; in the order of `Patterns.scale`.
    prices: [SIZES, MAX_ENTRIES + 1] float32, bits of an entry within its class.   classes: [RANK_BITS] bits of classes.
    dots, gains: [MAX_ENTRIES + 1] float32.   ranked, ranked_gains: [LOOKED_AT].
    pick, pick_amount, pick_costs: [tries] what promises most.   entry, amount: [MAX_LAYERS] of the layers so far.
    coef, kept: [32,32] int32, what a layer leaves.   left, work: [FEATURES] float32.
    best_entry, best_amount: [7, MAX_LAYERS] per size.
    """

    table: Ints
    units: Ints
    start: Ints
    outside: Ints
    prices: Ints
    classes: Ints
    dots: Ints
    gains: Ints
    ranked: Ints
    ranked_gains: Ints
    pick: Ints
    pick_amount: Ints
    pick_costs: Ints
    entry: Ints
    amount: Ints
    coef: Ints
    kept: Ints
    left: Ints
    work: Ints
    best_entry: Ints
    best_amount: Ints


@jit_entry()
def _transform_all(pixels: Ints, log2: int, block: Ints, mid: Ints, coef: Ints, out: Ints) -> None:
    """out [count, FEATURES]: the lowest frequencies of patterns [count, n, n]."""
    n, first = 1 << log2, FIRST_PLACE[log2 - 2]
    for e in range(len(pixels)):
        for v in range(n):
            for u in range(n):
                block[v, u] = F32(pixels[e, v, u])
        forward(block, log2, log2, False, mid, coef)
        for f in range(FEATURES):
            out[e, f] = F32(coef[PLACE[first + f, 1], PLACE[first + f, 0]])


def features(pixels: Ints) -> tuple[Ints, Ints]:
    """Transform of patterns [count, n, n] int8, at unit norm, at the features [count, FEATURES], and norm^2 beyond."""
    count, n, _ = pixels.shape
    out = np.zeros((count, FEATURES), np.float32)
    f32 = np.float32
    work = np.zeros((64, 64), f32), np.zeros((32, 64), f32), np.zeros((32, 32), np.int32)
    _transform_all(pixels, n.bit_length() - 1, *work, out)
    norms = np.sqrt(np.maximum(1.0, (pixels.astype(np.float64) ** 2).sum(axis=(1, 2))))
    unit = (out / (norms[:, None] * (1 << MID_BITS))).astype(f32)
    return unit, np.maximum(0.0, 1.0 - (unit.astype(np.float64) ** 2).sum(axis=1)).astype(f32)


def make_finder(patterns: Patterns, tries: int) -> Finder:
    """Tables of a codebook, and work space for that many tries."""
    table, units, start, outside = _tables_of(patterns)
    f32, i64 = np.float32, np.int64
    return Finder(
        table, units, start, outside, prices=np.zeros((SIZES, MAX_ENTRIES + 1), f32), classes=np.zeros(RANK_BITS, f32),
        dots=np.zeros(MAX_ENTRIES + 1, f32), gains=np.zeros(MAX_ENTRIES + 1, f32), ranked=np.zeros(LOOKED_AT, i64),
        ranked_gains=np.zeros(LOOKED_AT), pick=np.zeros(tries, i64), pick_amount=np.zeros(tries, i64),
        pick_costs=np.zeros(tries), entry=np.zeros(MAX_LAYERS, i64), amount=np.zeros(MAX_LAYERS, i64),
        coef=np.zeros((32, 32), np.int32), kept=np.zeros((32, 32), np.int32), left=np.zeros(FEATURES, f32),
        work=np.zeros(FEATURES, f32),
        best_entry=np.zeros((7, MAX_LAYERS), i64), best_amount=np.zeros((7, MAX_LAYERS), i64),
    )  # fmt: skip


_TABLES: dict[int, tuple[Patterns, tuple[Ints, Ints, Ints, Ints]]] = {}


def _tables_of(patterns: Patterns) -> tuple[Ints, Ints, Ints, Ints]:
    known = _TABLES.get(id(patterns))
    if known is not None and known[0] is patterns:
        return known[1]
    tables, units, outside, start = [], [], [], np.zeros(SIZES, np.int64)
    at = 0
    for s, side in enumerate(DRAWN_SIDES, 1):
        first = int(patterns.start[s])
        pixels = patterns.pixels[first : first + int(patterns.counts[s]) * side * side].reshape(-1, side, side)
        unit, beyond = features(pixels)
        tables.append(np.ascontiguousarray(unit.T).reshape(-1))
        units.append(unit)
        outside.append(beyond)
        start[s] = at
        at += unit.size
    none = np.zeros((1, FEATURES), np.float32)
    made = (
        np.concatenate([*tables, none[0]]),
        np.concatenate([*units, none]),
        start,
        np.concatenate([*outside, none[0]]),
    )
    _TABLES.clear()
    _TABLES[id(patterns)] = patterns, made
    return made


# ------------------------------------------------------------------ prices, in bits


@jit_inner()
def price_entries(m: Ints, patterns: Patterns, w: Finder) -> None:
    """w.prices: bits of every entry of every size within its class, as the models stand."""
    h, bit = HALF_CONTEXT, F32(1.0) / F32(COST_ONE)
    for s in range(1, SIZES):
        prices = w.prices[s]
        for k in range(1, RANK_BITS):
            if (1 << k) - 1 >= patterns.counts[s]:
                break
            # prices of nodes stand at the entry that they lead to with zeros below; filled level by level
            base = (1 << k) - 1
            prices[base] = F32(0.0)
            for i in range(k):
                wide = 1 << (k - i)
                for node in range((1 << i) - 1, -1, -1):
                    p = chance(m, RANK_TREE + (s << RANK_BITS) + (1 << k) + (1 << i) + node, h, h, h, W_TREE)
                    at = base + node * wide
                    before = prices[at]
                    prices[at + (wide >> 1)] = before + F32(bit_cost(p, 1)) * bit
                    prices[at] = before + F32(bit_cost(p, 0)) * bit


@jit_inner()
def price_classes(m: Ints, s: int, kind: int, near: int, layer: int, w: Finder) -> None:
    """w.classes: bits of the classes of ranks."""
    before = 0
    for k in range(RANK_BITS):
        if k == RANK_BITS - 1:
            w.classes[k] = F32(before) / F32(COST_ONE)
            return
        c0, c1, c2, c3 = rank_contexts(k, s, kind, near, layer)
        p = chance(m, c0, c1, c2, c3, W_RANK)
        w.classes[k] = F32(before + bit_cost(p, 0)) / F32(COST_ONE)
        before += bit_cost(p, 1)


@jit_inner()
def price_amount(m: Ints, amount: int, s: int, kind: int, near: int, rank: int) -> float:
    """Bits of an amount, sign and all."""
    a, b = minus_contexts(s, kind, rank)
    p = chance(m, a, b, HALF_CONTEXT, HALF_CONTEXT, W_MINUS)
    total = bit_cost(p, 1 if amount < 0 else 0)
    size = abs(amount)
    j = 0
    while j < MAX_AMOUNT_FLAGS:
        c0, c1, c2, c3 = amount_contexts(j, s, kind, near, rank)
        p = chance(m, c0, c1, c2, c3, W_AMOUNT)
        if size <= j + 1:
            return (total + bit_cost(p, 0)) / COST_ONE
        total += bit_cost(p, 1)
        j += 1
    return total / COST_ONE + 2.0 * bit_length(size - MAX_AMOUNT_FLAGS) + 1.0


# ------------------------------------------------------------------ search


@jit_inner()
def _put(which: int, cost: float, rank: Ints, costs: Ints) -> int:
    """Put something among the best so far, the cheapest first, if it is one of them; returns its place, -1 if not."""
    k = len(rank) - 1
    if cost >= costs[k]:
        return -1
    while k > 0 and costs[k - 1] > cost:
        costs[k], rank[k] = costs[k - 1], rank[k - 1]
        k -= 1
    costs[k], rank[k] = cost, which
    return k


@jit_inner()
def multiply(coef: Ints, s: int, step: int, count: int, w: Finder) -> None:
    """w.dots [count] = what is left, in steps, times every pattern."""
    first, start = FIRST_PLACE[s], w.start[s]
    dots, per_step = w.dots[:count], F32(1.0) / F32(step)
    for e in range(count):
        dots[e] = F32(0.0)
    for f in range(FEATURES):
        w.left[f] = F32(coef[PLACE[first + f, 1], PLACE[first + f, 0]]) * per_step
    f = 0
    while f < FEATURES:  # four frequencies at a time, so that sums stay in registers for longer
        at0 = at1 = at2 = at3 = I64(start)
        c0 = c1 = c2 = c3 = F32(0.0)
        found = 0
        while f < FEATURES and found < 4:
            value = w.left[f]
            if abs(value) >= F32(WORTH):
                if found == 0:
                    at0, c0 = start + f * count, value
                elif found == 1:
                    at1, c1 = start + f * count, value
                elif found == 2:
                    at2, c2 = start + f * count, value
                else:
                    at3, c3 = start + f * count, value
                found += 1
            f += 1
        if not found:
            break
        row0, row1 = w.table[at0 : at0 + count], w.table[at1 : at1 + count]
        row2, row3 = w.table[at2 : at2 + count], w.table[at3 : at3 + count]
        for e in range(count):
            dots[e] += (c0 * row0[e] + c1 * row1[e]) + (c2 * row2[e] + c3 * row3[e])


@jit_inner()
def draft_left(left: Ints, unit: Ints, amount: int, work: Ints) -> float:
    """About what is left [FEATURES], in steps, costs less an amount of a pattern, in squared steps."""
    own = F32(amount)
    for f in range(FEATURES):
        x = abs(left[f] - own * unit[f])
        work[f] = min(x * x, F32(DRAFT_FIRST) + F32(DRAFT_MORE) * np.sqrt(x))
    half = FEATURES >> 1
    while half:  # sums in an order that is written down
        for f in range(half):
            work[f] += work[f + half]
        half >>= 1
    return np.float64(work[0])


@jit_inner()
def shortlist(
    coef: Ints, energy: float, limit: float, s: int, step: int, lam: float, m: Ints, kind: int, near: int, layer: int,
    patterns: Patterns, w: Finder,
) -> int:  # fmt: skip
    """w.pick and w.pick_amount: the entries that promise most, best first; returns how many.

    Args:
        coef: [c,c] what is left, MID_BITS.   energy: its squared error.   limit: J that they have to beat, estimated.
        lam: squared error per bit.   kind, near: of the square, see `syntax`.   layer: how many it has already.
    """
    count, tries = patterns.counts[s], len(w.pick)
    if not count:
        return 0
    multiply(coef, s, step, count, w)
    price_classes(m, s, kind, near, layer, w)
    unit = step * step / np.float64(1 << 2 * MID_BITS)  # squared error of a squared step
    per_bit = F32(lam / unit)
    dots, gains, prices = w.dots, w.gains, w.prices[s]
    for k in range(RANK_BITS):
        base, end = (1 << k) - 1, min(count, (2 << k) - 1)
        own = w.classes[k]
        for e in range(base, end):
            gains[e] = dots[e] * dots[e] - per_bit * (own + prices[e])
    for i in range(LOOKED_AT):
        w.ranked[i], w.ranked_gains[i] = -1, 0.0
    # only patterns that save something on their own can be among the best
    worst = F32(0.0)
    for first in range(0, count, 32):
        here = min(count, first + 32)
        top = F32(0.0)
        for e in range(first, here):
            top = max(top, gains[e])
        if top <= worst:
            continue
        for e in range(first, here):
            if gains[e] > worst:
                _put(e, -np.float64(gains[e]), w.ranked, w.ranked_gains)
                worst = F32(-w.ranked_gains[LOOKED_AT - 1])
    for i in range(tries):
        w.pick[i], w.pick_costs[i] = -1, limit / unit
    for i in range(LOOKED_AT):
        e = w.ranked[i]
        if e < 0:
            break
        rank, place = bit_length(e + 1), patterns.first[s] + e
        a = np.float64(dots[e])
        most = min(MAX_AMOUNT, max(1, I64(abs(a) + 0.5)))
        cost, signed = 1e300, I64(0)
        for amount in range(max(1, most - 1), most + 1):
            own = amount if a >= 0 else -amount
            bits = w.classes[rank] + prices[e] + price_amount(m, own, s, kind, near, rank)
            total = draft_left(w.left, w.units[place], own, w.work) + amount * amount * np.float64(w.outside[place])
            alone = energy / unit - (2.0 * abs(a) * amount - amount * amount)
            here = min(total, alone) + np.float64(per_bit) * bits
            if here < cost:
                cost, signed = here, own
        at = _put(e, cost, w.pick, w.pick_costs)
        if at >= 0:
            for j in range(tries - 1, at, -1):
                w.pick_amount[j] = w.pick_amount[j - 1]
            w.pick_amount[at] = signed
    found = 0
    while found < tries and w.pick[found] >= 0:
        found += 1
    return found
