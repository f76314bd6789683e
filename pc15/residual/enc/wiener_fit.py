"""Filters for the end of the loop: the encoder's fit of `pc15.residual.wiener` to a picture, by error and bits.

Sums of products of all pairs, by class, say how well any taps would do.  From a filter per class on, the two filters
whose union costs least are joined until one is left; the number with the least J = squared error + lambda * bits is
taken.  Then superblocks that lose are left alone, and the filters are fitted once more to the others.
Sums are integers and are solved in an order that is written down: the same taps everywhere.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import I64, jit_entry, jit_inner
from pc15.residual.reconstruct import SAMPLE_ONE
from pc15.residual.syntax import SUPER, SUPER_LOG2
from pc15.residual.wiener import (
    CLASSES,
    MARGIN,
    MAX_TAP,
    PAIRS,
    TAP_BITS,
    TAPS,
    TURNED,
    Loop,
    class_map,
    continued,
    filter_picture,
    no_loop,
)

Ints = npt.NDArray[Any]
I32: Any = np.int32

_DOWN, _RIGHT = (np.array(part, np.int64) for part in zip(*PAIRS, strict=True))
SUMS = TAPS + 1
"""Pairs of samples that are multiplied, and what is wanted."""
TRIES = 2
"""Rounds in which single taps move by one."""
_TAP_COST = np.array([1.0 + 2.2 * math.log2(1.0 + tap) for tap in range(MAX_TAP + 1)])
"""About what a tap costs, in bits, by its magnitude."""


class Room(NamedTuple):
    """Work space of `_join`."""

    work: Ints  # [TAPS, SUMS] float64
    best: Ints  # [TAPS] float64
    both: Ints  # [SUMS, SUMS] float64
    of_class: Ints  # [CLASSES] int64
    own: Ints  # [CLASSES] float64
    pairs: Ints  # [CLASSES, CLASSES] float64
    alive: Ints  # [CLASSES] int64
    taps: Ints  # [CLASSES + 1, TAPS] int64


def _room() -> Room:
    """Any contents will do."""
    return Room(
        work=np.zeros((TAPS, SUMS)),
        best=np.zeros(TAPS),
        both=np.zeros((SUMS, SUMS)),
        of_class=np.zeros(CLASSES, np.int64),
        own=np.zeros(CLASSES),
        pairs=np.zeros((CLASSES, CLASSES)),
        alive=np.zeros(CLASSES, np.int64),
        taps=np.zeros((CLASSES + 1, TAPS), np.int64),
    )


@jit_entry()
def _add_sums(src: Ints, goal: Ints, classes: Ints, which: Ints, sign: int, line: Ints, sums: Ints) -> None:
    """Add products over the superblocks that `which` names to sums [CLASSES, SUMS, SUMS] int64, or take them off.

    src: a continued picture.   goal: [h,w].   line: [SUMS] int64, work space.
    """
    h, w = goal.shape
    for y in range(h):
        for x0 in range(0, w, 4):
            if not which[y >> SUPER_LOG2, x0 >> SUPER_LOG2]:
                continue
            found = I64(classes[y >> 2, x0 >> 2])
            own, turned = sums[found >> 2], TURNED[found & 3]
            for x in range(x0, min(w, x0 + 4)):
                middle = I64(src[y + MARGIN, x + MARGIN])
                for i in range(TAPS):
                    dy, dx = _DOWN[i], _RIGHT[i]
                    one, other = src[y + MARGIN + dy, x + MARGIN + dx], src[y + MARGIN - dy, x + MARGIN - dx]
                    line[turned[i]] = one + other - 2 * middle
                line[TAPS] = I64(goal[y, x]) - middle
                for i in range(SUMS):
                    a, row = sign * line[i], own[i]
                    for k in range(SUMS):
                        row[k] += a * line[k]


@jit_inner()
def _solve(sums: Ints, work: Ints, best: Ints) -> None:
    """Taps that leave the least squared error, best [TAPS], by elimination of a symmetric system."""
    scale = 0.0
    for i in range(TAPS):
        scale += sums[i, i]
    for i in range(TAPS):
        for k in range(SUMS):
            work[i, k] = sums[i, k]
        work[i, i] += 1e-4 * scale / TAPS + 1.0
    for i in range(TAPS):
        for k in range(i + 1, TAPS):
            share = work[k, i] / work[i, i]
            for j in range(i, SUMS):
                work[k, j] -= share * work[i, j]
    for i in range(TAPS - 1, -1, -1):
        total = work[i, TAPS]
        for k in range(i + 1, TAPS):
            total -= work[i, k] * best[k]
        best[i] = total / work[i, i]


@jit_inner()
def _fit(sums: Ints, lam: float, work: Ints, best: Ints, taps: Ints) -> float:
    """Whole taps, int64, for some sums; returns J relative to no filter, for which bits are paid as well."""
    _solve(sums, work, best)
    one = 1 << TAP_BITS
    for i in range(TAPS):
        taps[i] = max(-MAX_TAP, min(MAX_TAP, I64(np.floor(best[i] * one + 0.5))))
    for _ in range(TRIES):
        for i in range(TAPS):
            slope = -2.0 * sums[i, TAPS]
            for k in range(TAPS):
                slope += 2.0 * sums[i, k] * taps[k] / one
            chosen, least, start = I64(taps[i]), 0.0, _TAP_COST[abs(taps[i])]
            for by in (-1, 1):
                tap = I64(taps[i]) + by
                if abs(tap) <= MAX_TAP:
                    step = by / one
                    j = slope * step + sums[i, i] * step * step + lam * (_TAP_COST[abs(tap)] - start)
                    if j < least:
                        chosen, least = tap, j
            taps[i] = chosen
    j = 0.0
    for i in range(TAPS):
        line = -2.0 * sums[i, TAPS]
        for k in range(TAPS):
            line += sums[i, k] * taps[k] / one
        j += line * taps[i] / one + lam * _TAP_COST[abs(taps[i])]
    if j >= lam * TAPS:
        j = lam * TAPS
        for i in range(TAPS):
            taps[i] = 0
    return j


@jit_inner()
def _add(one: Ints, other: Ints, out: Ints) -> None:
    """Add sums [SUMS, SUMS]; `out` may be one of both."""
    for i in range(SUMS):
        for k in range(SUMS):
            out[i, k] = one[i, k] + other[i, k]


@jit_entry()
def _join(sums: Ints, lam: float, loop: Loop, room: Room) -> float:
    """Filters for sums [CLASSES, SUMS, SUMS] float64, left in loop; returns their J relative to no filter."""
    work, best, both, of_class, own, pairs, alive, best_taps = room
    for a in range(CLASSES):
        of_class[a], alive[a] = a, 1
    scratch = best_taps[CLASSES]
    for a in range(CLASSES):
        own[a] = _fit(sums[a], lam, work, best, best_taps[a])
    for a in range(CLASSES):
        for b in range(a):
            _add(sums[a], sums[b], both)
            pairs[a, b] = _fit(both, lam, work, best, scratch) - own[a] - own[b]
    least, count = 0.0, CLASSES
    loop.filters[0] = 0
    while True:
        total, bits, used = 0.0, 5.0, 0
        for i in range(CLASSES):
            total += own[i] if alive[i] else 0.0
            limit = min(count, used + 1) - 1  # classes name filters in the order in which they are first used
            while limit:
                bits += 1.0
                limit >>= 1
            used += 1 if of_class[i] == i else 0
        total += lam * bits
        if total < least:
            least = total
            loop.filters[0] = count
            name = 0
            for i in range(CLASSES):
                if of_class[i] == i:
                    loop.of_class[i] = name
                    for k in range(TAPS):
                        loop.taps[name, k] = best_taps[i, k]
                    name += 1
                else:
                    loop.of_class[i] = loop.of_class[of_class[i]]
        if count == 1:
            return least
        first, second, cost = 1, 0, 1e300
        for a in range(CLASSES):
            for b in range(a):
                if alive[a] and alive[b] and pairs[a, b] < cost:
                    first, second, cost = a, b, pairs[a, b]
        _add(sums[first], sums[second], sums[second])
        alive[first] = 0
        count -= 1
        own[second] = _fit(sums[second], lam, work, best, best_taps[second])
        for i in range(CLASSES):
            if of_class[i] == first:
                of_class[i] = second
            if alive[i] and i != second:
                _add(sums[i], sums[second], both)
                pairs[max(i, second), min(i, second)] = _fit(both, lam, work, best, scratch) - own[i] - own[second]


@jit_entry()
def _super_errors(picture: Ints, goal: Ints, errors: Ints) -> None:
    """Squared errors of superblocks, int64, of a picture once clamped, over the goal [h,w]."""
    for y in range(goal.shape[0]):
        for x in range(goal.shape[1]):
            error = min(max(I64(picture[y, x]), 0), SAMPLE_ONE) - goal[y, x]
            errors[y >> SUPER_LOG2, x >> SUPER_LOG2] += error * error


def fit_loop(picture: Ints, goal: Ints, lam: float) -> tuple[Loop, Ints]:
    """The filter that suits a picture [H,W] of a goal [h,w], and what it makes of it; or none, and the same picture."""
    src = continued(picture)
    classes = class_map(src)
    supers = -(-picture.shape[0] // SUPER), -(-picture.shape[1] // SUPER)
    loop, before = no_loop(supers), np.zeros(supers, np.int64)
    _super_errors(picture, goal, before)
    sums, line, room = np.zeros((CLASSES, SUMS, SUMS), np.int64), np.zeros(SUMS, np.int64), _room()
    which, sign = np.ones(supers, np.uint8), 1
    for _ in range(2):
        _add_sums(src, goal, classes, which, sign, line, sums)
        if _join(sums.astype(np.float64), lam, loop, room) >= 0.0:
            break
        loop.on[:] = 1
        filtered, after = picture.copy(), np.zeros(supers, np.int64)
        filter_picture(src, classes, loop, filtered)
        _super_errors(filtered, goal, after)
        off = after >= before
        loop.on[off] = 0
        if off.all():
            break
        which, sign = off.astype(np.uint8), -1
        if not off.any():
            break
    gained = float((before - after)[~off].sum()) if loop.filters[0] and loop.on.any() else 0.0
    if gained <= lam * float(_bits(loop)):
        return no_loop(supers), picture
    drawn = picture.copy()
    filter_picture(src, classes, loop, drawn)
    return loop, drawn


def _bits(loop: Loop) -> float:
    """About what a filter costs."""
    taps = np.abs(loop.taps[: loop.filters[0]])
    return float(loop.on.size) + 5.0 * CLASSES + float((1.0 + 2.2 * np.log2(1.0 + taps)).sum())
