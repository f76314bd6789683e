"""The best way to code one block: its prediction, its patterns, its levels.

Predictions are ranked by the Hadamard-transformed error (`mode_screen`), the best few are transformed, and those of
them that promise most by the size of their coefficients are quantized.  To the first of them patterns are added, one
after the other, while that lowers J = squared error + lambda * bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import COST_ONE, I64, bit_cost, chance, jit_inner
from pc15.residual.contexts import FIRST_PLACE, KIND, PLACE, W_CODED, coded_contexts
from pc15.residual.cross import FIRST_CROSS, WAYS
from pc15.residual.dct import MID_BITS, forward
from pc15.residual.enc.gate import INPUTS, PATTERNS_PAY, PREDICTIONS_PAY, ask, pays, see_square
from pc15.residual.enc.levels import choose_levels, choose_path
from pc15.residual.enc.mode_screen import (
    coarse_error,
    compare_part,
    error_left,
    fine_error,
    look_at,
    part_error_left,
)
from pc15.residual.enc.pattern_search import DRAFT_FIRST, DRAFT_MORE, FEATURES, price_amount, shortlist
from pc15.residual.enc.prices import price_modes, price_more
from pc15.residual.enc.scratch import FIRST, LEFT, NOTED_TRIES, PLACED, SEEN, TRIED, Scratch
from pc15.residual.intra import MODES, ZERO, fill, references
from pc15.residual.order import order_modes
from pc15.residual.patterns import Patterns, add_layer, layer_step
from pc15.residual.reconstruct import Work, predict_block, reconstruct_block, takes_sine
from pc15.residual.shapes import CODED_HIGH, CODED_WIDE, LOG2_HIGH, LOG2_WIDE, SIZE
from pc15.residual.syntax import BlockMap, activity, bit_length, drawn_near, kind_of, mark, neighbours
from pc15.residual.tools import BORDERS, TRELLIS

Ints = npt.NDArray[Any]
F32: Any = np.float32

DRAW_FROM = 10.0
"""Bits per square, error included, below which no patterns are tried: they cost about as much themselves."""
DRAWN_RATIO = 1.0
"""Patterns that promise more than this share of the least J so far are not tried."""
DRAWN_DRAFT, SMALL_DRAFT = 0.92, 0.97
"""A pattern whose draft costs more than this share of the cheapest without patterns is not coded in full, the second of
8x8; of larger squares only the most promising pattern is: all of them take as much time again and gain nothing."""
RANK_RATIO = 1.3
"""A mode whose transformed error is so much larger than the least is not drafted,"""
DRAFT_RATIO = 1.1
"""and one whose draft costs so much more than the cheapest is not coded in full,"""
BOUND_RATIO = 1.2
"""nor one whose draft costs so much more than the block may cost."""


# ------------------------------------------------------------------ prediction of a block


@jit_inner()
def difference(goal: Ints, pred: Ints, w: int, h: int, diff: Ints) -> None:
    """diff = goal - pred, [h, w] float32."""
    for y in range(h):
        for x in range(w):
            diff[y, x] = goal[y, x] - np.float32(pred[y, x])


@jit_inner()
def _clear(rank: Ints, costs: Ints) -> None:
    """Nothing is among the best yet."""
    for k in range(len(rank)):
        rank[k], costs[k] = -1, 1e300


@jit_inner()
def _insert(which: int, cost: float, rank: Ints, costs: Ints) -> None:
    """Put something among the best so far, the cheapest first, if it is one of them."""
    k = len(rank) - 1
    if cost >= costs[k]:
        return
    while k > 0 and costs[k - 1] > cost:
        costs[k], rank[k] = costs[k - 1], rank[k - 1]
        k -= 1
    costs[k], rank[k] = cost, which


@jit_inner()
def rank_modes(log2: int, per_bit: float, w: Scratch, d: Work) -> None:
    """Fill w.rank with the most promising modes, best first, and w.costs with their estimates."""
    look_at(w.goal, d.ref, log2, w.screen)
    rank, costs = (w.rank, w.costs) if log2 == 2 else (w.likely, w.likely_costs)
    _clear(rank, costs)
    for mode in range(MODES):
        if not w.barred[mode]:
            _insert(mode, coarse_error(mode, log2, w.screen) + per_bit * w.price[mode], rank, costs)
    if log2 == 2:
        return
    _clear(w.rank, w.costs)
    for k in range(len(rank)):
        mode = rank[k]
        if mode < 0:
            break
        _insert(mode, fine_error(mode, log2, w.screen) + per_bit * w.price[mode], w.rank, w.costs)


# ------------------------------------------------------------------ squares


@jit_inner()
def copy_block(source: Ints, target: Ints, w: int, h: int) -> None:
    """target = source, [h, w]."""
    for y in range(h):
        line, own = target[y], source[y]
        for x in range(w):
            line[x] = own[x]


@jit_inner()
def squared(diff: Ints, w: int, h: int, sums: Ints) -> float:
    """Sum of squares of diff [h, w], in an order of its own."""
    for x in range(w):
        sums[x] = 0.0
    for y in range(h):
        for x in range(w):
            sums[x] += diff[y, x] * diff[y, x]
    total = 0.0
    for x in range(w):
        total += sums[x]
    return total


@jit_inner()
def draft_cost(coef: Ints, wide: int, high: int, step: int, sums: Ints) -> float:
    """About what coefficients [high, wide] cost, error and bits, before any level is chosen."""
    per_step = F32(1.0) / F32(step)
    for u in range(wide):
        sums[u] = 0.0
    for v in range(high):
        for u in range(wide):
            x = abs(F32(coef[v, u])) * per_step
            sums[u] += min(x * x, F32(DRAFT_FIRST) + F32(DRAFT_MORE) * np.sqrt(x))
    total = 0.0
    for u in range(wide):
        total += sums[u]
    return total * (step * step) / (1 << 2 * MID_BITS)


@jit_inner()
def try_layers(
    field: BlockMap, below: Ints, rec: Ints, x0: int, y0: int, log2: int, k: int, best_j: float, step: int, lam: float,
    m: Ints, w: Scratch, d: Work, patterns: Patterns,
) -> float:  # fmt: skip
    """Add patterns to the k-th prediction drafted, one after the other, while that lowers J; returns the least J.

    What it beats `best_j` with is left in w under the square's size.
    """
    n, s, c = 1 << log2, log2 - 2, min(1 << log2, 32)
    x, y, find = x0 >> 2, y0 >> 2, w.finder
    _, _, a, b = neighbours(field, x, y)
    mode = w.rank[k]
    kind, near, drawn, per_bit = KIND[mode], a + b, drawn_near(field, x, y), lam / COST_ONE
    own_step = layer_step(step, field.tools)
    wide = 2 * step if field.tools & TRELLIS else step
    # the price of a mode holds that no layer follows
    spent = per_bit * (w.price[mode] - price_more(m, 0, 0, s, drawn, kind, near, mode))
    energy, limit = w.energies[k], min(best_j, w.draft_costs[0]) * DRAWN_RATIO
    for layer in range(w.means[3]):
        spent += per_bit * price_more(m, 1, layer, s, drawn, kind, near, mode)
        if spent >= best_j:
            break
        coef = find.kept if layer else w.coefs[k]
        found = shortlist(coef, energy, limit - spent, s, own_step, lam, m, kind, near, layer, patterns, find)
        closing = per_bit * price_more(m, 0, layer + 1, s, drawn, kind, near, mode)
        c0, c1, c2, c3 = coded_contexts(s, kind, a, b, layer + 1, field.tools)
        p = chance(m, c0, c1, c2, c3, W_CODED)
        without, with_levels = per_bit * bit_cost(p, 0), per_bit * bit_cost(p, 1)
        least, better, layer_bits = 1e300, False, 0.0
        most = np.inf if w.means[5] else w.draft_costs[0] * (SMALL_DRAFT if log2 == 3 else DRAWN_DRAFT)
        for i in range(found if log2 == 3 or w.means[5] else min(1, found)):
            entry, amount = find.pick[i], find.pick_amount[i]
            rank = bit_length(entry + 1)
            bits = np.float64(find.classes[rank]) + np.float64(find.prices[s, entry])
            bits = lam * (bits + price_amount(m, amount, s, kind, near, rank))
            fixed = spent + bits + closing
            if fixed >= best_j:
                continue
            predict_block(field, below, rec, x0, y0, log2, log2, I64(rec.shape[1]), mode, d)
            for before in range(layer):
                add_layer(find.entry[before], find.amount[before], log2, own_step, patterns, d.pred)
            add_layer(entry, amount, log2, own_step, patterns, d.pred)
            difference(w.goal, d.pred, n, n, w.diff)
            own_energy = squared(w.diff, n, n, w.sums)
            j, total = fixed + without + own_energy, I64(-1)
            forward(w.diff, log2, log2, False, w.mid, find.coef)
            last = levels = I64(-1)
            gain = 0.0
            draft = fixed + with_levels + draft_cost(find.coef, c, c, wide, w.sums)
            if n > c:
                draft += own_energy
            if draft >= most:
                pass  # to be kept, if at all, without levels
            elif field.tools & TRELLIS:
                last, levels, gain = choose_path(s, step, lam, m, kind, near, find.coef, w)
            else:
                last, levels, gain = choose_levels(s, step, lam, m, kind, near, find.coef, w)
            if last >= 0 and fixed + with_levels + own_energy + gain < j:
                j, total = fixed + with_levels + own_energy + gain, levels
            if len(w.record):
                note_tried(w, log2, entry, layer, j)
            if j < least:
                least, layer_bits, energy = j, bits, own_energy
                find.entry[layer], find.amount[layer] = entry, amount
                for v in range(c):
                    for u in range(c):
                        find.kept[v, u] = find.coef[v, u]
            if j < best_j:
                best_j, better = j, True
                w.at[log2, 3], w.at[log2, 4], w.at[log2, 5] = mode, total, layer + 1
                for before in range(layer):
                    find.best_entry[log2, before] = find.entry[before]
                    find.best_amount[log2, before] = find.amount[before]
                find.best_entry[log2, layer], find.best_amount[log2, layer] = entry, amount
                if total >= 0:
                    for v in range(c):
                        line, own = w.best_level[log2, v], w.level[v]
                        for u in range(c):
                            line[u] = own[u]
        if not better:
            break
        limit = min(limit, best_j)
        spent += layer_bits
    return best_j


@jit_inner()
def note_tried(w: Scratch, log2: int, entry: int, layer: int, j: float) -> None:
    """Note in a square's row of the record that a pattern was coded in full, as which layer, and J."""
    if w.recorded[log2] >= 0:
        row = w.record[w.recorded[log2]]
        at = I64(row[TRIED - 1])
        row[TRIED - 1] = at + 1
        if at < NOTED_TRIES:
            row[TRIED + 3 * at], row[TRIED + 3 * at + 1], row[TRIED + 3 * at + 2] = entry, layer, j


@jit_inner()
def note_square(
    w: Scratch, x0: int, y0: int, log2: int, step: int, lam: float, mode: int, first_j: float, j: float
) -> None:
    """Begin a row of the record: what the prediction of a mode that was drafted left, J at first and so far."""
    w.recorded[log2] = -1
    if w.recorded[0] == len(w.record):
        return
    for k in range(len(w.rank)):
        if w.rank[k] == mode:
            at, first = w.recorded[0], FIRST_PLACE[log2 - 2]
            row = w.record[at]
            row[0], row[1], row[2] = log2, lam, step
            for f in range(FEATURES):
                row[LEFT + f] = F32(w.coefs[k, PLACE[first + f, 1], PLACE[first + f, 0]]) / F32(step)
            row[LEFT - 1], row[PLACED], row[PLACED + 1], row[PLACED + 2] = j, x0, y0, j
            for i in range(INPUTS):
                row[SEEN + i] = w.gate.inputs[i]
            row[FIRST] = first_j
            w.recorded[log2] = at
            w.recorded[0] = at + 1
            return


@jit_inner()
def rank_modes_of_part(
    field: BlockMap, below: Ints, rec: Ints, x0: int, y0: int, shape: int, end: int, per_bit: float, w: Scratch,
    d: Work,
) -> None:  # fmt: skip
    """`rank_modes` of a block that is no square: by 4x4 boxes, the best of them by boxes as wide as they are high."""
    wide, high = LOG2_WIDE[shape], LOG2_HIGH[shape]
    compare_part(w.goal, d.ref, wide, high, w.screen)
    _clear(w.likely, w.likely_costs)
    for mode in range(MODES):
        if not w.barred[mode]:
            _insert(mode, np.float64(w.screen.errors[mode]) + per_bit * w.price[mode], w.likely, w.likely_costs)
    _clear(w.rank, w.costs)
    for k in range(len(w.likely)):
        mode = w.likely[k]
        if mode < 0:
            break
        predict_block(field, below, rec, x0, y0, wide, high, end, mode, d)
        difference(w.goal, d.pred, 1 << wide, 1 << high, w.diff)
        _insert(mode, part_error_left(w.diff, wide, high, w.screen) + per_bit * w.price[mode], w.rank, w.costs)


@jit_inner()
def draft_block(
    target: Ints, below: Ints, rec: Ints, field: BlockMap, x0: int, y0: int, shape: int, end: int, draws: bool,
    step: int, lam: float, m: Ints, w: Scratch, d: Work,
) -> tuple[float, int]:  # fmt: skip
    """Rank the predictions of a block and draft the best of them; returns J and mode of the best one without levels.

    Args:
        shape: see `shapes`.   end: see `shapes.end_above`.   draws: whether it may add patterns.
    """
    n, h, s = 1 << LOG2_WIDE[shape], 1 << LOG2_HIGH[shape], SIZE[shape]
    wide, high = LOG2_WIDE[shape], LOG2_HIGH[shape]
    left, above, a, b = neighbours(field, x0 >> 2, y0 >> 2)
    per_bit, per_root = lam / COST_ONE, np.sqrt(lam) / COST_ONE
    for v in range(h):
        wanted, goal = target[y0 + v, x0 : x0 + n], w.goal[v]
        for u in range(n):
            goal[u] = np.float32(wanted[u])
    references(rec, x0, y0, n, h, end, d.ref)
    ways = WAYS[field.guides.shape[0]]
    if field.tools & BORDERS:
        order_modes(rec, x0, y0, wide, high, end, left, above, step, field.tools, d.order)
    price_modes(m, left, above, s, ways, field.tools, d.order, w.angles, w.price)
    if wide == high:
        rank_modes(wide, per_root, w, d)
    else:
        rank_modes_of_part(field, below, rec, x0, y0, shape, end, per_root, w, d)
    for mode in range(FIRST_CROSS, FIRST_CROSS + ways):
        if not w.barred[mode]:
            predict_block(field, below, rec, x0, y0, wide, high, end, mode, d)
            difference(w.goal, d.pred, n, h, w.diff)
            if wide == high:
                error = error_left(w.diff, wide, w.screen)
            else:
                error = part_error_left(w.diff, wide, high, w.screen)
            _insert(mode, error + per_root * w.price[mode], w.rank, w.costs)
    best_j, best_mode = 1e300, I64(ZERO)
    coded_w, coded_h = CODED_WIDE[shape], CODED_HIGH[shape]
    whole_step = 2 * step if field.tools & TRELLIS else step
    drawn = drawn_near(field, x0 >> 2, y0 >> 2)
    _clear(w.drafts, w.draft_costs)
    for k in range(len(w.rank)):
        mode = w.rank[k]
        if mode < 0 or w.costs[k] > RANK_RATIO * w.costs[0]:
            break
        predict_block(field, below, rec, x0, y0, wide, high, end, mode, d)
        difference(w.goal, d.pred, n, h, w.diff)
        energy = squared(w.diff, n, h, w.sums)
        kind = kind_of(mode, shape)
        if draws:
            w.price[mode] += price_more(m, 0, 0, s, drawn, kind, a + b, mode)
        c0, c1, c2, c3 = coded_contexts(s, kind, a, b, 0, field.tools)
        p = chance(m, c0, c1, c2, c3, W_CODED)
        bits = per_bit * (w.price[mode] + bit_cost(p, 0))
        if energy + bits < best_j:
            best_j, best_mode = energy + bits, mode
        forward(w.diff, wide, high, takes_sine(field.tools, mode), w.mid, w.coefs[k])
        w.energies[k] = energy
        bits = per_bit * (w.price[mode] + bit_cost(p, 1))
        if n > coded_w:  # a rough term for the frequencies that are not coded, by which modes differ
            bits += energy
        _insert(k, draft_cost(w.coefs[k], coded_w, coded_h, whole_step, w.sums) + bits, w.drafts, w.draft_costs)
    return best_j, best_mode


@jit_inner()
def try_block(
    target: Ints, below: Ints, rec: Ints, field: BlockMap, x0: int, y0: int, shape: int, end: int, slot: int,
    draws: bool, bound: float, step: int, lam: float, m: Ints, w: Scratch, d: Work, patterns: Patterns,
) -> float:  # fmt: skip
    """Best coding of a block, left in w.at[slot] and w.best_level[slot]; returns J.  Arguments as of `draft_block`.

    bound: J from which on the block is of no use.
    """
    best_j, best_mode = draft_block(target, below, rec, field, x0, y0, shape, end, draws, step, lam, m, w, d)
    best_sum, s, per_bit, own_step = I64(-1), SIZE[shape], lam / COST_ONE, layer_step(step, field.tools)
    log2, whole, first_j = LOG2_WIDE[shape], slot > 2, best_j
    noted = whole and len(w.record) > 0
    _, _, a, b = neighbours(field, x0 >> 2, y0 >> 2)
    trellis = (field.tools & TRELLIS) != 0
    # Drafts say less of what a trellis makes of them: all are coded, for 5 % of the time and 0.2 % of the bytes.
    dearest = 1e300 if trellis else DRAFT_RATIO * w.draft_costs[0]
    for i in range(len(w.drafts)):
        k = w.drafts[i]
        if k < 0 or w.draft_costs[i] > min(dearest, bound * BOUND_RATIO):
            break
        mode, energy = w.rank[k], w.energies[k]
        kind = kind_of(mode, shape)
        c0, c1, c2, c3 = coded_contexts(s, kind, a, b, 0, field.tools)
        p = chance(m, c0, c1, c2, c3, W_CODED)
        bits = per_bit * (w.price[mode] + bit_cost(p, 1))
        if trellis:
            last, total, gain = choose_path(shape, step, lam, m, kind, a + b, w.coefs[k], w)
        else:
            last, total, gain = choose_levels(shape, step, lam, m, kind, a + b, w.coefs[k], w)
        if last >= 0 and energy + bits + gain < best_j:
            best_j, best_mode, best_sum = energy + bits + gain, mode, total
            copy_block(w.level, w.best_level[slot], CODED_WIDE[shape], CODED_HIGH[shape])
        if i == 0:
            first_j = best_j
            if noted or (whole and w.gate.used[0]):
                see_square(field, x0, y0, log2, own_step, lam, best_j, best_mode, best_sum, m, w)
                if w.gate.used[0]:
                    ask(log2, w.gate)
            further = pays(PREDICTIONS_PAY, x0, y0, log2, w.gate) if whole else slot > 0 or w.at[0, 0] > 0
            if not further:
                break
    w.at[slot, 3], w.at[slot, 4], w.at[slot, 5] = best_mode, best_sum, 0
    if slot == 0:
        w.js[0, 0] = first_j
    if noted:
        note_square(w, x0, y0, log2, own_step, lam, best_mode, first_j, best_j)
    if draws and best_j > lam * DRAW_FROM and pays(PATTERNS_PAY, x0, y0, log2, w.gate):
        for k in range(min(w.means[4], len(w.rank))):
            if w.rank[k] < 0 or w.costs[k] > RANK_RATIO * w.costs[0]:
                break
            best_j = try_layers(field, below, rec, x0, y0, log2, k, best_j, step, lam, m, w, d, patterns)
        if noted and w.recorded[log2] >= 0:
            w.record[w.recorded[log2], LEFT - 1] = best_j
    return best_j


@jit_inner()
def keep_block(
    below: Ints, rec: Ints, field: BlockMap, x0: int, y0: int, log2: int, shape: int, end: int, mode: int, total: int,
    layers: int, level: Ints, step: int, w: Scratch, d: Work, patterns: Patterns,
) -> None:  # fmt: skip
    """Put a coding of a block of a leaf of side 2^log2 into field and rec.

    level: its levels, [>=h,>=w].   total: the sum of them, -1 for none.   layers: how many patterns, see `w.finder`.
    """
    wide, high = LOG2_WIDE[shape], LOG2_HIGH[shape]
    n, h, x, y = 1 << wide, 1 << high, x0 >> 2, y0 >> 2
    coded = 1 if total >= 0 else 0
    fill(field.level, x0, y0, n, h, 0)
    if coded:
        copy_block(level, field.level[y0:, x0:], CODED_WIDE[shape], CODED_HIGH[shape])
    mark(field, x, y, n >> 2, h >> 2, mode, log2, activity(total, wide + high) if coded else 0, layers)
    references(rec, x0, y0, n, h, end, d.ref)
    predict_block(field, below, rec, x0, y0, wide, high, end, mode, d)
    own_step = layer_step(step, field.tools)
    for layer in range(layers):
        entry, amount = w.finder.best_entry[log2, layer], w.finder.best_amount[log2, layer]
        field.entry[y + (layer >> 1), x + (layer & 1)], field.amount[y + (layer >> 1), x + (layer & 1)] = entry, amount
        add_layer(entry, amount, log2, own_step, patterns, d.pred)
    reconstruct_block(field, below, rec, x0, y0, wide, high, step, mode, coded, d)
