"""The order in which the modes of a block are likely, by what is decoded around it: of the tool BORDERS.

Edges go on: the directions of the gradients in the rows above a block and in the columns to its left, a histogram of
the 33 modes that would continue them, say more of its mode than its neighbours' modes do.  A mode's score is a sum of
trained terms, ln p up to a constant: of its share of the histogram, sharp and with the directions beside it, of how it
lies to the neighbours' modes, of its own by the block's size, and of how strong and how united the gradients are.
The modes besides zero are coded by their place in the order of scores: five flags, then a tree; one input of the
mixer of each flag is what the scores themselves say, score against the scores behind it.
Sources: decoder-side intra mode derivation, JVET-O0449; the scores are a multinomial logistic regression.
"""

from __future__ import annotations

import decimal
import functools
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.errors import MissingTableError
from pc15.residual.context_models import ENCODE, FROZEN, HALF_CONTEXT, I64, MODE, STRETCH, U64, code, jit_inner
from pc15.residual.contexts import (
    LIKELY_MODES,
    ORDER_A,
    ORDER_B,
    ORDER_BINS,
    ORDER_C,
    ORDER_TREE,
    SAID,
    W_ORDER,
    W_ORDER_TREE,
)
from pc15.residual.cross import FIRST_CROSS
from pc15.residual.intra import ANGLE, FIRST_ANGLE, HORIZONTAL, I32, MEAN, MODES, PLANAR, VERTICAL, ZERO, is_coded
from pc15.residual.patterns import DAMAGE
from pc15.residual.shapes import ALL_SIZES
from pc15.residual.tools import TRELLIS

Ints = npt.NDArray[Any]

ORDERED = MODES - 1
"""Modes that have a place: all but zero."""
BORDERS_FILE = Path(__file__).with_name("v15_borders.npz")
SHARES, ENERGIES, STRENGTHS = 16, 8, 4
"""Classes of a share, of half an octave each; of the mean gradient, of an octave each; and of these for shares."""
SHARE_BITS = 12
REACH = 3
"""A broad share counts so many directions on either side."""
_terms = {
    "sharp": (STRENGTHS, SHARES),
    "broad": (STRENGTHS, SHARES),
    "beside": (6,),
    "own": (5, MODES),
    "united": (2, SHARES),
    "strong": (2, ENERGIES),
    "same": (2, 3),
}
"""Shapes of the trained terms."""
_at = np.cumsum([0, *(int(np.prod(shape)) for shape in _terms.values())]).tolist()
SHARP, BROAD, BESIDE, OWN, UNITED, STRONG, SAME, TERMS = _at
"""Where each begins in one array of all."""
GRADES, GRADE_SHIFT = 96, 4
"""Modes are told apart by how far their scores, in 1/256, are behind the best, in 1/16 up to 6: of equal ones the lower
number comes first."""
KEY_SHIFT, TAKEN = 6, GRADES << 6
"""A mode's key is its grade << KEY_SHIFT | mode, and so much larger once it has its place."""


def _chances() -> Ints:
    """65536 exp(-i/16) of each grade."""
    with decimal.localcontext(decimal.Context(prec=30)):
        return np.array([int((65536 * (Decimal(-i) / 16).exp()).to_integral_value()) for i in range(GRADES)], np.int64)


CHANCE = _chances()
NEAREST = np.array([min(range(9), key=lambda i: abs(int(ANGLE[VERTICAL + i]) - t)) for t in range(33)], dtype=np.int64)
"""Steps away from horizontal or vertical of the direction that moves t/32 of a pixel per pixel."""


def _share_classes() -> Ints:
    """Class of a share in 1/4096: 0 for none, then half octaves up to all of it."""
    classes = [0]
    for r in range(1, (1 << SHARE_BITS) + 1):
        length = r.bit_length() - 1
        half = r >> length - 1 & 1 if length else 0
        classes.append(max(1, 2 * (length - SHARE_BITS) + half + SHARES - 1))
    return np.array(classes, dtype=np.uint8)


SHARE_CLASS = _share_classes()


class Order(NamedTuple):
    """Work space: the histogram of directions, what it says, the scores of modes, modes in order, and of the flags."""

    hist: Ints  # [MODES + 2 * REACH + 1] int64
    shares: Ints  # [2, MODES] int64, which terms sharp and broad each direction has
    strength: Ints  # [2] int64, classes of the largest broad share and of the mean gradient
    keys: Ints  # [MODES] int32, how far behind the best, and the mode: in order of these
    first: Ints  # [GRADES + 1] int64, places of those of a grade
    modes: Ints  # [ORDERED] int64, at first LIKELY_MODES of them, see `order_rest`
    said: Ints  # [LIKELY_MODES] int64, chance of 1, in 1/65536
    terms: Ints  # [TERMS] int64, trained


def order() -> Order:
    """Fresh work space."""
    hist, shares, strength, first, modes, said = (
        np.zeros(shape, np.int64) for shape in (MODES + 2 * REACH + 1, (2, MODES), 2, GRADES + 1, ORDERED, LIKELY_MODES)
    )
    return Order(hist, shares, strength, np.zeros(MODES, np.int32), first, modes, said, trained_terms())


@functools.cache
def trained_terms() -> Ints:
    """Terms of the scores, [TERMS] int64.

    Raises:
        MissingTableError: the packaged table is missing or damaged.
    """
    try:
        with np.load(BORDERS_FILE, allow_pickle=False) as table:
            terms = table["terms"].astype(np.int64)
    except DAMAGE as error:
        raise MissingTableError(f"residual start table {BORDERS_FILE.name} is missing or damaged: {error}") from error
    if terms.shape != (TERMS,):
        raise MissingTableError(f"residual start table {BORDERS_FILE.name} is for another syntax; reinstall pc15")
    return terms


@jit_inner()
def edge_mode(gx: int, gy: int) -> int:
    """The mode along whose direction nothing changes, of a gradient other than 0."""
    a, b = abs(gx), abs(gy)
    least, most = U64(min(a, b)), U64(max(a, b))
    away = NEAREST[(U64(64) * least + most) // (U64(2) * most)]
    away = away if (gx > 0) != (gy > 0) else -away
    return HORIZONTAL + away if b > a else VERTICAL - away


@jit_inner()
def _add_edge(gx: int, gy: int, hist: Ints) -> None:
    """Add a gradient to the histogram, weighed by its size."""
    if gx != 0 or gy != 0:
        hist[U64(REACH + edge_mode(gx, gy))] += abs(gx) + abs(gy)


@jit_inner()
def _look_around(rec: Ints, x0: int, y0: int, w: int, h: int, end: int, hist: Ints) -> int:
    """Fill the histogram with gradients (Sobel) two pixels above and to the left of a block; returns their number.

    Of each line of three pixels what it adds to both parts of a gradient is summed once for the three that it is in.
    """
    H, W = rec.shape
    x, y, count = x0 >> 2, y0 >> 2, I64(0)
    for i in range(len(hist)):
        hist[i] = 0
    if y0 > 0:
        right = x0 + w - 1
        if x0 + w + 4 <= W and x0 + w < end and is_coded(x + (w >> 2), y - 1, x, y):
            right += 4
        first = max(1, x0 - 2)
        above, here, below = rec[y0 - 3], rec[y0 - 2], rec[y0 - 1]
        a, b, c = I64(above[first - 1]), I64(here[first - 1]), I64(below[first - 1])
        sum0, step0 = a + 2 * b + c, c - a
        a, b, c = I64(above[first]), I64(here[first]), I64(below[first])
        sum1, step1 = a + 2 * b + c, c - a
        for px in range(first + 1, right + 1):
            a, b, c = I64(above[U64(px)]), I64(here[U64(px)]), I64(below[U64(px)])
            sum2, step2 = a + 2 * b + c, c - a
            _add_edge(sum2 - sum0, step0 + 2 * step1 + step2, hist)
            sum0, step0, sum1, step1 = sum1, step1, sum2, step2
        count += right - first
    if x0 > 0:
        low = y0 + h - 1
        if y0 + h + 4 <= H and is_coded(x - 1, y + (h >> 2), x, y):
            low += 4
        first = max(1, y0 - 1)
        a, b, c = I64(rec[first - 1, x0 - 3]), I64(rec[first - 1, x0 - 2]), I64(rec[first - 1, x0 - 1])
        sum0, step0 = a + 2 * b + c, c - a
        a, b, c = I64(rec[first, x0 - 3]), I64(rec[first, x0 - 2]), I64(rec[first, x0 - 1])
        sum1, step1 = a + 2 * b + c, c - a
        for py in range(first + 1, low + 1):
            line = rec[py]
            a, b, c = I64(line[U64(x0 - 3)]), I64(line[U64(x0 - 2)]), I64(line[U64(x0 - 1)])
            sum2, step2 = a + 2 * b + c, c - a
            _add_edge(step0 + 2 * step1 + step2, sum2 - sum0, hist)
            sum0, step0, sum1, step1 = sum1, step1, sum2, step2
        count += low - first
    return count


@jit_inner()
def share_class(part: int, per_total: int) -> int:
    """Class of a share, see SHARE_CLASS; per_total: 2^32 over the total, rounded down."""
    return I64(SHARE_CLASS[part * per_total >> 32 - SHARE_BITS])


@jit_inner()
def energy_class(total: int, count: int, half_step: int) -> int:
    """Class of the mean gradient, in octaves of a part of half a quantizer step (Q4)."""
    r = 32 * total // (count * half_step) if count else 0
    length = 0
    while r >> length:
        length += 1
    return min(length, ENERGIES - 1)


@jit_inner()
def _beside(mode: int, left: int, above: int) -> int:
    """Class of how a direction lies to those of its neighbours."""
    if left < FIRST_ANGLE and above < FIRST_ANGLE:
        return 5
    apart = abs(mode - left) if left >= FIRST_ANGLE else 99
    if above >= FIRST_ANGLE:
        if left == above and mode == left:
            return 0
        apart = min(apart, abs(mode - above))
    return 1 if apart == 0 else 2 if apart == 1 else 3 if apart == 2 else 4


@jit_inner()
def _direction(mode: int) -> int:
    """The mode as a neighbour has it: without a direction all but planar are as the mean is."""
    return MEAN if mode == ZERO or mode >= FIRST_CROSS else mode


@jit_inner()
def _own(wide: int, high: int) -> int:
    """Where the terms that modes have of their own begin, of blocks of this size."""
    return OWN + max(0, min(4, (wide + high >> 1) - 2)) * MODES


@jit_inner()
def terms_of(mode: int, left: int, above: int, wide: int, high: int, o: Order) -> tuple[int, int, int, int]:
    """Terms that the score of a mode is the sum of, by what `order_modes` has seen; arguments as there."""
    left, above = _direction(left), _direction(above)
    own = _own(wide, high) + mode
    if mode >= FIRST_ANGLE:
        return o.shares[0, mode], o.shares[1, mode], BESIDE + _beside(mode, left, above), own
    k = mode - PLANAR
    same = (1 if left == mode else 0) + (1 if above == mode else 0)
    return UNITED + k * SHARES + o.strength[0], STRONG + k * ENERGIES + o.strength[1], SAME + k * 3 + same, own


@jit_inner()
def order_modes(
    rec: Ints, x0: int, y0: int, wide: int, high: int, end: int, left: int, above: int, step: int, tools: int, o: Order
) -> None:
    """Fill o.modes, as far as flags ask for them, and o.said for a block of 2^wide x 2^high px at (x0, y0).

    Args:
        rec: [H,W] int32, of which what is decoded before the block is looked at.   end: see `shapes.end_above`.
        left, above: modes of the neighbours.   step: Q4, of what levels are counted in.
    """
    hist, t, shares, score = o.hist, o.terms, o.shares, o.keys
    count = _look_around(rec, x0, y0, 1 << wide, 1 << high, end, hist)
    total = I64(0)
    for i in range(len(hist)):
        total += hist[i]
    energy = energy_class(total, count, step if tools & TRELLIS else max(1, step >> 1))
    sharp, broad = SHARP + (energy >> 1) * SHARES, BROAD + (energy >> 1) * SHARES
    most, around, per_total = I64(0), I64(0), (I64(1) << 32) // max(total, 1)
    for i in range(FIRST_ANGLE, FIRST_ANGLE + 2 * REACH):
        around += hist[i]
    own = _own(wide, high)
    directed = _direction(left) >= FIRST_ANGLE or _direction(above) >= FIRST_ANGLE
    far = t[BESIDE + (4 if directed else 5)]  # of all but those close to a neighbour's direction
    for mode in range(FIRST_ANGLE, MODES):
        around += hist[U64(2 * REACH + mode)]
        most = max(most, around)
        narrow = hist[U64(REACH + mode - 1)] + 2 * hist[U64(REACH + mode)] + hist[U64(REACH + mode + 1)]
        a, b = sharp + share_class(narrow >> 2, per_total), broad + share_class(around, per_total)
        shares[0, U64(mode)], shares[1, U64(mode)] = a, b
        score[U64(mode)] = t[U64(a)] + t[U64(b)] + far + t[U64(own + mode)]
        around -= hist[U64(mode)]
    o.strength[0], o.strength[1] = share_class(most, per_total), energy
    _score(left, above, wide, high, PLANAR, FIRST_ANGLE, o)
    for neighbour in (_direction(left), _direction(above)):
        if neighbour >= FIRST_ANGLE:
            _score(left, above, wide, high, max(FIRST_ANGLE, neighbour - 2), min(MODES, neighbour + 3), o)
    _grade(o)


@jit_inner()
def _score(left: int, above: int, wide: int, high: int, first: int, stop: int, o: Order) -> None:
    """Scores of the modes first..stop, in place of keys; arguments as of `order_modes`."""
    t = o.terms
    for mode in range(first, stop):
        a, b, c, d = terms_of(mode, left, above, wide, high, o)
        o.keys[mode] = t[a] + t[b] + t[c] + t[d]


@jit_inner()
def _next_mode(keys: Ints) -> int:
    """The mode of the least key."""
    best = keys[PLANAR]
    for mode in range(PLANAR + 1, MODES):
        best = min(best, keys[mode])
    return I64(best) & (1 << KEY_SHIFT) - 1


@jit_inner()
def _grade(o: Order) -> None:
    """Keys of scores: by how far modes are behind the best, in GRADES; the first modes, and what scores say of them."""
    keys, modes = o.keys, o.modes
    top, rest = keys[PLANAR], I64(0)
    for mode in range(PLANAR, MODES):
        top = max(top, keys[mode])
    for mode in range(PLANAR, MODES):
        grade = min(I32(GRADES - 1), I32(top - keys[mode]) >> I32(GRADE_SHIFT))
        rest += CHANCE[U64(grade)]
        keys[mode] = grade << KEY_SHIFT | mode
    for i in range(LIKELY_MODES):
        mode = _next_mode(keys)
        own = CHANCE[U64(keys[mode] >> KEY_SHIFT)]
        modes[i], keys[mode] = mode, keys[mode] + TAKEN
        o.said[i] = min(65536 - 16, max(16, (own << 16) // rest))
        rest -= own


@jit_inner()
def order_rest(o: Order) -> None:
    """Fill o.modes to its end, of an order that `order_modes` has begun."""
    keys, first = o.keys, o.first
    for i in range(GRADES + 1):
        first[i] = 0
    for mode in range(PLANAR, MODES):
        if keys[mode] < TAKEN:
            first[(keys[mode] >> KEY_SHIFT) + 1] += 1
    first[0] = LIKELY_MODES
    for i in range(GRADES):
        first[i + 1] += first[i]
    for mode in range(PLANAR, MODES):
        if keys[mode] < TAKEN:
            own = keys[mode] >> KEY_SHIFT
            o.modes[first[own]] = mode
            first[own] += 1


@jit_inner()
def likely_contexts(m: Ints, flag: int, s: int, left: int, above: int, o: Order) -> tuple[int, int, int]:
    """Contexts of "is it the flag-th mode of the order", besides SAID, which is set to what the scores say of it."""
    p, mode = o.said[flag], o.modes[flag]
    stretch = STRETCH[p >> 4]
    m[SAID, 0], m[SAID, 1], m[SAID, 2] = p, FROZEN, stretch
    near = (1 if left == mode else 0) + (1 if above == mode else 0)
    kind = 3 * (1 if mode >= FIRST_ANGLE else 0) + near
    chance_class = (I64(stretch) + 2048) >> 7
    return (
        ORDER_A + flag * ALL_SIZES + s,
        ORDER_B + flag * ORDER_BINS + chance_class,
        ORDER_C + (flag * ALL_SIZES + s) * 6 + kind,
    )


@jit_inner()
def code_place(m: Ints, io: Ints, chosen: int, left: int, above: int, s: int, o: Order) -> int:
    """Mode of a block, other than zero, by its place in the order; what damage names behind the last is the last."""
    for flag in range(LIKELY_MODES):
        a, b, c = likely_contexts(m, flag, s, left, above, o)
        if code(m, io, 1 if chosen == o.modes[flag] else 0, SAID, a, b, c, W_ORDER + flag):
            return I64(o.modes[flag])
    keys, rest, h = o.keys, I64(0), HALF_CONTEXT
    if io[MODE] == ENCODE:
        for mode in range(PLANAR, MODES):
            rest += 1 if keys[mode] < keys[chosen] else 0
    node = 1
    for i in range(4, -1, -1):
        node = node << 1 | code(m, io, rest >> i & 1, ORDER_TREE + node, h, h, h, W_ORDER_TREE)
    if io[MODE] == ENCODE:
        return chosen
    rest, found = min(node - 32, ORDERED - LIKELY_MODES - 1), I64(0)
    for _ in range(rest + 1):  # the least of all keys behind the one before
        found = _next_mode(keys)
        keys[found] += TAKEN
    return found
