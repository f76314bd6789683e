"""The best way to code one leaf: whole or, with the tool `splits`, cut into halves, and those perhaps again.

Both first cuts are tried, and where their halves come near the best so far, these are cut again.  Of each half, as soon
as what is before it is drawn, the ways to do so are tried, and the best is kept: a half is never cut again for the sake
of the other one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import COST_ONE, I64, jit_inner
from pc15.residual.enc.block import copy_block, keep_block, try_block
from pc15.residual.enc.gate import AGAIN_PAY, COLUMNS_PAY, PARTS_PREDICTIONS_PAY, ROWS_PAY, pays
from pc15.residual.enc.prices import price_again, price_cuts
from pc15.residual.enc.scratch import CUTS, Scratch
from pc15.residual.intra import fill
from pc15.residual.patterns import Patterns
from pc15.residual.reconstruct import Work
from pc15.residual.shapes import (
    ACROSS,
    ALONG,
    CODED_HIGH,
    CODED_WIDE,
    COLUMNS,
    LEAST_CUT,
    ONCE,
    PARTS,
    ROWS,
    SHAPE_OF,
    WHOLE,
    end_above,
    may_cut,
    part_of,
)
from pc15.residual.syntax import BlockMap, may_draw

Ints = npt.NDArray[Any]

PART, TRIAL, BEST = map(I64, (0, 7, 8))
"""Rows of `Scratch.best_level` and `cuts`: the part at hand, the half at hand, the best of the cut at hand."""
UPPER, LOWER = I64(0), I64(1)
FIRST, NEVER = I64(0), np.bool_(False)
DEEPER, DEEPER_THOROUGH = 1.1, 1.25
"""Halves are cut again if the two of them cost less than so many times the least J so far; the second is for thorough
searches that no net narrows."""
CUT_FROM = 10.0
"""Bits per square, error included, below which cutting it is not tried."""


@jit_inner()
def keep_parts(
    below: Ints, rec: Ints, field: BlockMap, x0: int, y0: int, log2: int, cut: int, first: int, stop: int, row: int,
    step: int, w: Scratch, d: Work, patterns: Patterns,
) -> None:  # fmt: skip
    """Put some parts of a leaf, as they stand in a row of w, into field and rec."""
    for part in range(first, stop):
        dx, dy, wide, high = part_of(log2, cut, part)
        end, mode, total = (
            end_above(rec.shape[1], x0, log2, cut, dx, dy),
            w.cuts[row, 1 + 2 * part],
            w.cuts[row, 2 + 2 * part],
        )
        keep_block(
            below, rec, field, x0 + dx, y0 + dy, log2, SHAPE_OF[wide, high], end, mode, total, I64(0),
            w.best_level[row, dy:, dx:], step, w, d, patterns,
        )  # fmt: skip


@jit_inner()
def copy_parts(source: int, target: int, log2: int, cut: int, first: int, stop: int, w: Scratch) -> None:
    """Copy some parts of a leaf from one row of w to another."""
    for part in range(first, stop):
        dx, dy, wide, high = part_of(log2, cut, part)
        shape = SHAPE_OF[wide, high]
        for i in range(1 + 2 * part, 3 + 2 * part):
            w.cuts[target, i] = w.cuts[source, i]
        levels, drawn = w.best_level[source, dy:, dx:], w.best_level[target, dy:, dx:]
        copy_block(levels, drawn, CODED_WIDE[shape], CODED_HIGH[shape])


@jit_inner()
def try_half(
    target: Ints, below: Ints, rec: Ints, field: BlockMap, x0: int, y0: int, log2: int, cut: int, half: int,
    first_way: int, last_way: int, best_j: float, step: int, lam: float, m: Ints, w: Scratch, d: Work,
    patterns: Patterns,
) -> float:  # fmt: skip
    """Best coding of a half, left in the row BEST if J is below `best_j`, and drawn if it is the first; returns J.

    cut: how the leaf is cut, as far as it is known.   first_way, last_way: of cutting the half again, those tried.
    """
    fill(field.cut, x0 >> 2, y0 >> 2, 1 << log2 - 2, 1 << log2 - 2, cut)
    price_again(m, field, x0 >> 2, y0 >> 2, log2, cut, half, w.cut_prices[1])
    first = PARTS[cut] - 1 if half else 0
    best = cut
    for again in range(first_way, last_way + 1):
        if again == ALONG and log2 == LEAST_CUT:
            continue
        own, stop = cut | again << 2 + 2 * half, first + (1 if again == ONCE else 2)
        j, more = lam / COST_ONE * w.cut_prices[1, again], 0.0
        for part in range(first, stop):
            if part > first:
                keep_parts(below, rec, field, x0, y0, log2, own, first, part, TRIAL, step, w, d, patterns)
            dx, dy, wide, high = part_of(log2, own, part)
            end, shape = end_above(rec.shape[1], x0, log2, own, dx, dy), SHAPE_OF[wide, high]
            own_j = try_block(
                target, below, rec, field, x0 + dx, y0 + dy, shape, end, PART, NEVER, best_j - j, step, lam, m, w, d,
                patterns,
            )  # fmt: skip
            j, more = j + own_j, more + w.js[PART, 0] - own_j
            if j >= best_j:
                break
            w.cuts[TRIAL, 1 + 2 * part], w.cuts[TRIAL, 2 + 2 * part] = w.at[PART, 3], w.at[PART, 4]
            levels = w.best_level[TRIAL, dy:, dx:]
            copy_block(w.best_level[PART], levels, CODED_WIDE[shape], CODED_HIGH[shape])
        if j < best_j:
            best_j, best, w.cuts[BEST, 0], w.js[1, half] = j, own, own, more
            copy_parts(TRIAL, BEST, log2, own, first, stop, w)
    if half == 0 and w.cuts[BEST, 0] != WHOLE:
        keep_parts(below, rec, field, x0, y0, log2, best, first, PARTS[best] - 1, BEST, step, w, d, patterns)
    return best_j


@jit_inner()
def take_over(j: float, best_j: float, log2: int, w: Scratch) -> float:
    """Take over the parts in the row BEST if their J is the least so far; returns the least."""
    if j >= best_j:
        return best_j
    cut = w.cuts[BEST, 0]
    w.cuts[log2, 0] = cut
    copy_parts(BEST, log2, log2, cut, FIRST, PARTS[cut], w)
    if len(w.record) and w.recorded[log2] >= 0:
        w.record[w.recorded[log2], CUTS + 4] = w.js[1, 0] + w.js[1, 1]
    return j


@jit_inner()
def note_cut(w: Scratch, log2: int, cut: int, once: float, best: float) -> None:
    """Note in a square's row of the record what one first cut costs, see CUTS."""
    if len(w.record) and w.recorded[log2] >= 0:
        row = w.record[w.recorded[log2]]
        row[CUTS + 2 * (cut - ROWS)], row[CUTS + 2 * (cut - ROWS) + 1] = once, best


@jit_inner()
def try_leaf(
    target: Ints, below: Ints, rec: Ints, field: BlockMap, x0: int, y0: int, log2: int, step: int, lam: float, m: Ints,
    w: Scratch, d: Work, patterns: Patterns,
) -> float:  # fmt: skip
    """Best coding of a square that is not cut in four, left in w under its size; returns J."""
    end, per_bit, draws = I64(rec.shape[1]), lam / COST_ONE, may_draw(field.tools, log2)
    best_j = try_block(
        target, below, rec, field, x0, y0, log2 - 2, end, log2, draws, 1e300, step, lam, m, w, d, patterns
    )
    w.cuts[log2, 0] = WHOLE
    if not may_cut(field.tools, log2):
        return best_j
    price_cuts(m, field, x0 >> 2, y0 >> 2, log2, w.cut_prices[0])
    best_j += per_bit * w.cut_prices[0, WHOLE]
    if best_j < lam * CUT_FROM or best_j > lam * w.means[6 + log2 - LEAST_CUT]:
        return best_j
    w.at[PART, 0] = 1 if pays(PARTS_PREDICTIONS_PAY, x0, y0, log2, w.gate) else 0
    deeper = pays(AGAIN_PAY, x0, y0, log2, w.gate)
    dearest = DEEPER_THOROUGH if w.means[5] and not w.gate.used[0] else DEEPER
    for cut in range(ROWS, COLUMNS + 1):
        if not pays(ROWS_PAY if cut == ROWS else COLUMNS_PAY, x0, y0, log2, w.gate):
            continue
        flag, bound = per_bit * w.cut_prices[0, cut], best_j * dearest
        w.cuts[BEST, 0] = WHOLE
        upper = try_half(
            target, below, rec, field, x0, y0, log2, cut, UPPER, ONCE, ONCE, bound - flag, step, lam, m, w, d, patterns
        )  # fmt: skip
        if w.cuts[BEST, 0] == WHOLE:
            continue
        w.cuts[BEST, 0], bound = WHOLE, bound - flag - upper
        lower = try_half(
            target, below, rec, field, x0, y0, log2, cut, LOWER, ONCE, ONCE, bound, step, lam, m, w, d, patterns
        )  # fmt: skip
        if w.cuts[BEST, 0] == WHOLE:
            continue
        once, way = flag + upper + lower, ALONG
        best_j = take_over(once, best_j, log2, w)
        note_cut(w, log2, cut, once, once)
        if not deeper:
            continue
        again = try_half(
            target, below, rec, field, x0, y0, log2, cut, UPPER, ALONG, ACROSS, upper, step, lam, m, w, d, patterns
        )  # fmt: skip
        known = w.cuts[BEST, 0]
        if again < upper:  # the lower half has another neighbour now
            upper, lower, way, w.cuts[BEST, 0] = again, best_j - flag - again, ONCE, WHOLE
        lower = try_half(
            target, below, rec, field, x0, y0, log2, known, LOWER, way, ACROSS, lower, step, lam, m, w, d, patterns
        )  # fmt: skip
        if w.cuts[BEST, 0] != WHOLE:
            best_j = take_over(flag + upper + lower, best_j, log2, w)
            note_cut(w, log2, cut, once, flag + upper + lower)
    return best_j


@jit_inner()
def keep_leaf(
    below: Ints, rec: Ints, field: BlockMap, x0: int, y0: int, log2: int, step: int, w: Scratch, d: Work,
    patterns: Patterns,
) -> None:  # fmt: skip
    """Put the best coding of a leaf into field and rec."""
    cut = w.cuts[log2, 0]
    fill(field.cut, x0 >> 2, y0 >> 2, 1 << log2 - 2, 1 << log2 - 2, cut)
    if cut != WHOLE:
        keep_parts(below, rec, field, x0, y0, log2, cut, FIRST, PARTS[cut], log2, step, w, d, patterns)
        return
    keep_block(
        below, rec, field, x0, y0, log2, log2 - 2, I64(rec.shape[1]), w.at[log2, 3], w.at[log2, 4], w.at[log2, 5],
        w.best_level[log2], step, w, d, patterns,
    )  # fmt: skip
