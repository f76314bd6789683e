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
from pc15.residual.context_models import FROZEN, HALF_CONTEXT, I64, STRETCH, code, jit_inner
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
from pc15.residual.intra import ANGLE, FIRST_ANGLE, HORIZONTAL, MEAN, MODES, PLANAR, VERTICAL, ZERO, is_coded
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
    """Work space: the histogram of directions, the score of each mode, modes in order, and what scores say of flags."""

    hist: Ints  # [MODES + 2 * REACH + 1] int64
    used: Ints  # [MODES,4] which terms a mode's score is the sum of
    score: Ints  # [MODES]
    grade: Ints  # [MODES] how far behind the best
    first: Ints  # [GRADES + 1] places of those of a grade
    modes: Ints  # [ORDERED]
    said: Ints  # [LIKELY_MODES] chance of 1, in 1/65536
    terms: Ints  # [TERMS] int64, trained


def order() -> Order:
    """Fresh work space."""
    i64 = np.int64
    hist, score = np.zeros(MODES + 2 * REACH + 1, i64), np.zeros(MODES, i64)
    used = np.zeros((MODES, 4), i64)
    return Order(
        hist,
        used,
        score,
        score.copy(),
        np.zeros(GRADES + 1, i64),
        np.zeros(ORDERED, i64),
        np.zeros(LIKELY_MODES, i64),
        trained_terms(),
    )


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
    same = (gx > 0) == (gy > 0)
    if b > a:
        away = NEAREST[(64 * a + b) // (2 * b)]
        return HORIZONTAL - away if same else HORIZONTAL + away
    away = NEAREST[(64 * b + a) // (2 * a)]
    return VERTICAL + away if same else VERTICAL - away


@jit_inner()
def _add_edge(rec: Ints, x: int, y: int, hist: Ints) -> None:
    """Add the gradient (Sobel) at a pixel to the histogram, weighed by its size."""
    above, here, below = rec[y - 1], rec[y], rec[y + 1]
    a, b, c, d = I64(above[x - 1]), I64(above[x + 1]), I64(below[x - 1]), I64(below[x + 1])
    gx = b + d - a - c + 2 * (I64(here[x + 1]) - here[x - 1])
    gy = c + d - a - b + 2 * (I64(below[x]) - above[x])
    if gx != 0 or gy != 0:
        hist[REACH + edge_mode(gx, gy)] += abs(gx) + abs(gy)


@jit_inner()
def _look_around(rec: Ints, x0: int, y0: int, w: int, h: int, end: int, hist: Ints) -> int:
    """Fill the histogram from two pixels above and to the left of a block; returns the number of gradients."""
    H, W = rec.shape
    x, y, count = x0 >> 2, y0 >> 2, I64(0)
    for i in range(len(hist)):
        hist[i] = 0
    if y0 > 0:
        right = x0 + w - 1
        if x0 + w + 4 <= W and x0 + w < end and is_coded(x + (w >> 2), y - 1, x, y):
            right += 4
        for px in range(max(1, x0 - 2), right):
            _add_edge(rec, px, y0 - 2, hist)
            count += 1
    if x0 > 0:
        low = y0 + h - 1
        if y0 + h + 4 <= H and is_coded(x - 1, y + (h >> 2), x, y):
            low += 4
        for py in range(max(1, y0 - 1), low):
            _add_edge(rec, x0 - 2, py, hist)
            count += 1
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
def order_modes(
    rec: Ints, x0: int, y0: int, wide: int, high: int, end: int, left: int, above: int, step: int, tools: int, o: Order
) -> None:
    """Fill o.modes and o.said for a block of 2^wide x 2^high px at (x0, y0).

    Args:
        rec: [H,W] int32, of which what is decoded before the block is looked at.   end: see `shapes.end_above`.
        left, above: modes of the neighbours.   step: Q4, of what levels are counted in.
    """
    hist, t, used = o.hist, o.terms, o.used
    count = _look_around(rec, x0, y0, 1 << wide, 1 << high, end, hist)
    left = MEAN if left == ZERO or left >= FIRST_CROSS else left
    above = MEAN if above == ZERO or above >= FIRST_CROSS else above
    total = I64(0)
    for i in range(len(hist)):
        total += hist[i]
    energy = energy_class(total, count, step if tools & TRELLIS else max(1, step >> 1))
    own = OWN + max(0, min(4, (wide + high >> 1) - 2)) * MODES
    sharp, broad = SHARP + (energy >> 1) * SHARES, BROAD + (energy >> 1) * SHARES
    most, around, per_total = I64(0), I64(0), (I64(1) << 32) // max(total, 1)
    for i in range(FIRST_ANGLE, FIRST_ANGLE + 2 * REACH):
        around += hist[i]
    for mode in range(FIRST_ANGLE, MODES):
        i = REACH + mode
        around += hist[i + REACH]
        most = max(most, around)
        used[mode, 0] = sharp + share_class((hist[i - 1] + 2 * hist[i] + hist[i + 1]) >> 2, per_total)
        used[mode, 1] = broad + share_class(around, per_total)
        used[mode, 2] = BESIDE + _beside(mode, left, above)
        used[mode, 3] = own + mode
        around -= hist[i - REACH]
    for mode in range(PLANAR, FIRST_ANGLE):
        k = mode - PLANAR
        used[mode, 0] = UNITED + k * SHARES + share_class(most, per_total)
        used[mode, 1] = STRONG + k * ENERGIES + energy
        used[mode, 2] = SAME + k * 3 + (1 if left == mode else 0) + (1 if above == mode else 0)
        used[mode, 3] = own + mode
    for mode in range(PLANAR, MODES):
        o.score[mode] = t[used[mode, 0]] + t[used[mode, 1]] + t[used[mode, 2]] + t[used[mode, 3]]
    _sort(o)


@jit_inner()
def _sort(o: Order) -> None:
    """Put modes in order by how far they are behind the best, in GRADES; says what scores say of the first."""
    modes, score, grade, first = o.modes, o.score, o.grade, o.first
    top, rest = score[PLANAR], I64(0)
    for i in range(GRADES + 1):
        first[i] = 0
    for mode in range(PLANAR, MODES):
        top = max(top, score[mode])
    for mode in range(PLANAR, MODES):
        own = min(GRADES - 1, (top - score[mode]) >> GRADE_SHIFT)
        grade[mode] = own
        first[own + 1] += 1
        rest += CHANCE[own]
    for i in range(GRADES):
        first[i + 1] += first[i]
    for mode in range(PLANAR, MODES):
        own = grade[mode]
        modes[first[own]] = mode
        first[own] += 1
    for i in range(LIKELY_MODES):
        own = CHANCE[grade[modes[i]]]
        o.said[i] = min(65536 - 16, max(16, (own << 16) // rest))
        rest -= own


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
    rest, h = I64(0), HALF_CONTEXT
    while rest < ORDERED - LIKELY_MODES - 1 and o.modes[LIKELY_MODES + rest] != chosen:
        rest += 1
    node = 1
    for i in range(4, -1, -1):
        node = node << 1 | code(m, io, rest >> i & 1, ORDER_TREE + node, h, h, h, W_ORDER_TREE)
    return I64(o.modes[min(ORDERED - 1, LIKELY_MODES + node - 32)])
