"""The encoder's choices: which squares, which prediction, which levels, by error and cost in bits.

For every square from 64x64 down to 4x4, predictions are ranked by the Hadamard-transformed error (`mode_screen`), the
best few are transformed, and those of them that promise most by the size of their coefficients are quantized; the
square is kept whole or cut, whichever has the smaller J = squared error + lambda * bits.
Levels are chosen in coding order, each with the cost of its context in the models as they stand ("RDOQ"), then the
place of the last one; with the tool `trellis` all at once, see `trellis`.  Floats are the encoder's alone.
Source: M. Karczewicz et al., "Rate distortion optimized quantization", VCEG-AH21 (2008).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError
from pc15.residual.context_models import (
    COST_ONE,
    ENCODE,
    FILL,
    HALF_CONTEXT,
    I64,
    MODE,
    TAPE,
    bit_cost,
    chance,
    jit_entry,
    jit_inner,
)
from pc15.residual.cross import ALL_MODES, FIRST_CROSS, WAYS
from pc15.residual.dct import MID_BITS, forward, forward_sine
from pc15.residual.enc.level_prices import COSTS, ENTRIES, gt1_row, gtn_row, price_levels, sig_row
from pc15.residual.enc.mode_screen import Screen, coarse_error, error_left, fine_error, look_at, screen
from pc15.residual.enc.pattern_search import (
    FEATURES,
    Finder,
    make_finder,
    price_amount,
    price_entries,
    shortlist,
)
from pc15.residual.enc.trellis import Paths, best_path, paths, start_of
from pc15.residual.intra import MODES, ZERO, fill, references
from pc15.residual.patterns import Patterns, add_layer, layer_step, patterns_for
from pc15.residual.reconstruct import Work, predict_block, reconstruct_block, takes_sine, work
from pc15.residual.syntax import (
    ANGLE_TREE,
    BIT_LENGTH,
    FIRST_PLACE,
    KIND,
    KINDS,
    LAST_A,
    LAST_B,
    LOW_A,
    MAX_FLAGS,
    MAX_LAYERS,
    NEAR,
    PLACE,
    RIM,
    ROOM,
    SUM_CLASS,
    SUPER,
    SUPER_LOG2,
    W_ANGLE,
    W_CODED,
    W_CROSS,
    W_LAST,
    W_LOW,
    W_MORE,
    W_MPM,
    W_ON,
    W_SPLIT,
    W_ZERO,
    Field,
    activity,
    add_template,
    bit_length,
    clear_template,
    code_super,
    coded_contexts,
    cross_contexts,
    drawn_near,
    mark,
    may_draw,
    mode_contexts,
    more_contexts,
    neighbours,
    on_context,
    probable_modes,
    split_contexts,
    way_context,
)
from pc15.residual.tools import PATTERNS, TRELLIS

Ints = npt.NDArray[Any]


DRAW_FROM = 10.0
"""Bits per square, error included, below which no patterns are tried: they cost about as much themselves."""
DRAWN_RATIO = 1.0
"""Patterns that promise more than this share of the least J so far are not tried."""
DRAWN_MODES, FINE_MODES, FINE_STEP = 4, 2, 20000
"""Predictions per square that patterns are tried with: the first, and the second at steps below the third, Q4, where
patterns gain a fifth of what they gain at coarse ones."""
GIVE_UP = 30.0
"""Bits per square, error included, below which cutting it is not tried: one in a hundred such squares would gain."""
LIKELY = 4
"""More modes than are drafted are compared at 8x8 boxes."""
RANK_RATIO = 1.3
"""A mode whose transformed error is so much larger than the least is not drafted,"""
DRAFT_RATIO = 1.1
"""and one whose draft costs so much more than the cheapest is not coded in full."""
DRAFT_FIRST, DRAFT_MORE = 0.05, 0.45
"""About what a level costs in squared steps, error and bits: the first, plus the second times the root of its size."""
F32: Any = np.float32


class Scratch(NamedTuple):
    """Work space of one encoder, reused for every block."""

    goal: Ints  # [64,64] float32, the residual wanted
    diff: Ints  # and what a prediction leaves of it
    mid: Ints
    sums: Ints  # [64] float32
    coefs: Ints  # [tries+1,32,32] of each draft,
    energies: Ints  # and its squared error without levels
    around: Ints
    level: Ints
    trail: Ints  # [2,1024] float64
    price: Ints  # [ALL_MODES] bits of the modes, in 1/4096
    angles: Ints  # [32] and of a mode that is not probable
    last: Ints  # [12,4] and of the last place, by length class and two bits
    screen: Screen
    likely: Ints  # [tries+1+LIKELY] the most promising modes at 4x4 boxes,
    likely_costs: Ints
    rank: Ints  # [tries+1] in the end,
    costs: Ints
    drafts: Ints  # [tries] and places in `rank`, by what is drafted
    draft_costs: Ints
    barred: Ints  # [ALL_MODES] 1: not to be tried; this and `means` are the study's, see `Parts`
    means: Ints  # [5] log2 of the smallest and largest square, whether levels are chosen by rate, most layers, modes
    at: Ints  # [8,6] per size: x, y, next part, mode, sum of levels (-1: none), layers
    js: Ints  # [8,3] per size: J whole, J cut, bound
    best_level: Ints  # [7,64,64]
    paths: Paths
    level_prices: Ints  # [ENTRIES], see `level_prices`
    finder: Finder
    record: Ints  # [n, RECORD] float32 of squares that may add patterns, for training; [0, RECORD] in encoders
    recorded: Ints  # [8] int64: rows written, then per size - 2 the row of the square at hand, -1 for none


@dataclass(frozen=True)
class Parts:
    """Which of its means the encoder may use: all of them, but where their worth is studied.

    modes: predictions, see `intra` and `cross`; ZERO is always one.   smallest, largest: sides of squares, 4 to 64, px.
    by_rate: levels chosen by error and bits; else rounded, up from 2/3 of a step.
    layers: most patterns per square.
    """

    modes: tuple[int, ...] = tuple(range(ALL_MODES))
    smallest: int = 4
    largest: int = 64
    by_rate: bool = True
    layers: int = 2

    def __post_init__(self) -> None:
        if not {self.smallest, self.largest} <= {4, 8, 16, 32, 64} or self.smallest > self.largest:
            raise ConfigError(f"squares from {self.smallest} to {self.largest} px; choose two of 4, 8, 16, 32, 64")
        if not set(self.modes) <= set(range(ALL_MODES)):
            raise ConfigError(f"modes are {self.modes}; choose among 0 to {ALL_MODES - 1}")
        if not 0 <= self.layers <= MAX_LAYERS:
            raise ConfigError(f"layers is {self.layers}; choose 0 to {MAX_LAYERS}")


ALL_PARTS = Parts()


RECORD = 6 + FEATURES
"""Columns of a record: log2 size, lambda, step, J whole, J cut, 0; then what was left, in steps, at the features."""


def _scratch(
    tries: int, parts: Parts, tools: int, step: int, patterns: Patterns, record: Ints | None = None
) -> Scratch:
    i32, i64, f32 = np.int32, np.int64, np.float32
    square = (64, 64)
    drafted = tries + 1
    barred = np.ones(ALL_MODES, i64)
    barred[[ZERO, *parts.modes]] = 0
    sides = parts.smallest.bit_length() - 1, parts.largest.bit_length() - 1
    modes = DRAWN_MODES if step >= FINE_STEP else FINE_MODES
    means = np.array([*sides, parts.by_rate, parts.layers, modes], i64)
    return Scratch(
        goal=np.zeros(square, f32), diff=np.zeros(square, f32), mid=np.zeros((32, 64), f32), sums=np.zeros(64, f32),
        coefs=np.zeros((drafted, 32, 32), i32), energies=np.zeros(drafted), around=np.zeros(38 * RIM, i32),
        level=np.zeros(square, i32), trail=np.zeros((2, 1024)), price=np.zeros(ALL_MODES, i64),
        angles=np.zeros(32, i64), last=np.zeros((12, 4), i64), screen=screen(tools),
        likely=np.zeros(drafted + LIKELY, i64), likely_costs=np.zeros(drafted + LIKELY),
        rank=np.zeros(drafted, i64), costs=np.zeros(drafted), drafts=np.zeros(tries, i64), draft_costs=np.zeros(tries),
        barred=barred, means=means,
        at=np.zeros((8, 6), i64), js=np.zeros((8, 3)), best_level=np.zeros((7, 64, 64), i32), paths=paths(),
        level_prices=np.zeros(ENTRIES, i64),
        finder=make_finder(patterns, tries), record=np.zeros((0, RECORD), f32) if record is None else record,
        recorded=np.zeros(8, i64),
    )  # fmt: skip


# ------------------------------------------------------------------ cost in 1/4096 bit, as the models stand


@jit_inner()
def price(m: Ints, bit: int, c0: int, c1: int, c2: int, c3: int, s: int) -> int:
    """Cost of a decision."""
    return bit_cost(chance(m, c0, c1, c2, c3, s), bit)


@jit_inner()
def price_angles(m: Ints, out: Ints) -> None:
    """Costs of the modes that are not probable, by their rank among themselves."""
    h = HALF_CONTEXT
    for rest in range(32):
        node, total = 1, 0
        for i in range(4, -1, -1):
            bit = rest >> i & 1
            total += price(m, bit, ANGLE_TREE + node, h, h, h, W_ANGLE)
            node = node << 1 | bit
        out[rest] = total


@jit_inner()
def price_modes(m: Ints, left: int, above: int, s: int, ways: int, angles: Ints, out: Ints) -> None:
    """Costs of all modes, [ALL_MODES], of which there are `ways` from guides."""
    h = HALF_CONTEXT
    first, second, third = probable_modes(left, above)
    before = 0
    if ways:
        a, b = cross_contexts(left, above, s)
        p = chance(m, a, b, h, h, W_CROSS)
        before, total = bit_cost(p, 0), bit_cost(p, 1)
        for way in range(ways - 1):
            p = chance(m, way_context(way, left, above), h, h, h, W_CROSS)
            out[FIRST_CROSS + way] = total + bit_cost(p, 1)
            total += bit_cost(p, 0)
        out[FIRST_CROSS + ways - 1] = total
    for flag in range(4):
        likely = ZERO if flag == 0 else first if flag == 1 else second if flag == 2 else third
        a, b = mode_contexts(flag, left, above, s)
        p = chance(m, a, b, h, h, W_MPM if flag else W_ZERO)
        out[likely] = before + bit_cost(p, 1)
        before += bit_cost(p, 0)
    rest = 0
    for mode in range(1, MODES):
        if mode not in (first, second, third):
            out[mode] = before + angles[rest]
            rest += 1


@jit_inner()
def price_last(m: Ints, top: int, s: int, near: int, kind: int, out: Ints) -> None:
    """Costs of the last place, by length class up to `top` and the two bits behind the first."""
    h = HALF_CONTEXT
    before = 0
    for k in range(top + 1):
        here = before
        if k < 2 * min(s + 2, 5):
            a, b = LAST_A + (s * 11 + k) * NEAR + near, LAST_B + (s * 11 + k) * KINDS + kind
            p = chance(m, a, b, h, h, W_LAST)
            here += bit_cost(p, 0)
            before += bit_cost(p, 1)
        low = LOW_A + (s * 11 + k) * 4
        for bits in range(4):
            total = here + max(0, k - 2) * COST_ONE
            if k > 0:
                total += price(m, bits >> 1, low, h, h, h, W_LOW)
            if k > 1:
                total += price(m, bits & 1, low + 2 + (bits >> 1), h, h, h, W_LOW)
            out[k, bits] = total


# ------------------------------------------------------------------ levels of a block


@jit_inner()
def choose_levels(
    s: int, step: int, lam: float, m: Ints, kind: int, near: int, coef: Ints, w: Scratch
) -> tuple[int, int, float]:
    """w.level [c, c] from coef (MID_BITS); returns the last place, -1 for none, their sum and J relative to none.

    step: Q4 of a sample, so that coefficient = level * step exactly as coefficients have MID_BITS = 4.
    """
    c, block = min(4 << s, 32), kind * NEAR + near
    first = FIRST_PLACE[s]
    start = -1
    by_rate = w.means[2]
    near_zero = 0.58 * step
    for i in range(c * c - 1, -1, -1):
        if abs(coef[PLACE[first + i, 1], PLACE[first + i, 0]]) > near_zero:
            start = i
            break
    if start < 0:
        return -1, 0, 0.0
    for v in range(c):
        for u in range(c):
            w.level[v, u] = 0
    clear_template(w.around, s)
    top = 0
    while (start + 1) >> (top + 1):
        top += 1
    price_last(m, top, s, near, kind, w.last)
    scale = 1.0 / (1 << (2 * MID_BITS))  # of squared coefficients
    per_bit = lam / COST_ONE
    inverse_step = 1.0 / step
    filled = 0
    # J of stopping here, relative to all zero: trail[0, i] counts places >= i
    total = 0.0
    for i in range(start, -1, -1):
        row = first + i
        u, v = I64(PLACE[row, 0]), I64(PLACE[row, 1])
        at = (v + 2) * RIM + u + 2
        around = I64(w.around[at])
        value = np.float64(abs(coef[v, u]))
        sums, full = SUM_CLASS[min(around, 32)], BIT_LENGTH[min(filled, 127)]
        costs = COSTS[sig_row(w.level_prices, 0, s, row, sums, block, full)]
        top = I64(value * inverse_step + (0.5 if by_rate else 1.0 / 3.0))
        best, best_j, best_sig = 0, per_bit * costs[0], 0.0
        if top > 0:
            none = value * value * scale
            sig = per_bit * costs[1]
            base = sig + lam
            low = max(1, top - 1)
            if not by_rate:
                low, best_j = top, 1e300
            q = 1
            while q <= top:  # q: levels up to `low - 1` only add to the cost of larger ones
                if q < MAX_FLAGS:
                    if q == 1:
                        costs = COSTS[gt1_row(w.level_prices, 0, s, row, sums, block, full)]
                    else:
                        costs = COSTS[gtn_row(w.level_prices, q, row, sums, near, full)]
                    rest = per_bit * costs[0]
                else:
                    length = 0
                    while (q - MAX_FLAGS + 1) >> (length + 1):
                        length += 1
                    rest = lam * (2 * length + 1)
                    q = max(q, low)
                if q >= low:
                    e = value - q * np.float64(step)
                    j = e * e * scale - none + base + rest
                    if j < best_j:
                        best, best_j, best_sig = q, j, sig
                if q < MAX_FLAGS:
                    base += per_bit * costs[1]
                q += 1
        total += best_j
        w.trail[0, i] = total
        w.trail[1, i] = best_j - best_sig
        if best:
            w.level[v, u] = best if coef[v, u] >= 0 else -best
            add_template(w.around, at, best)
            filled += best
    last, best_j, kept = -1, 0.0, 0
    below = 0  # sum of levels at places before i, once i is reached
    for i in range(start + 1):
        size = abs(I64(w.level[PLACE[first + i, 1], PLACE[first + i, 0]]))
        if size:
            below += size
            length = 0
            while (i + 1) >> (length + 1):
                length += 1
            bits = (i + 1) << 2 >> length & 3
            # places below i, plus this one without its significance
            j = total - w.trail[0, i] + w.trail[1, i] + per_bit * w.last[length, bits]
            if j < best_j or last < 0 or not by_rate:
                last, best_j, kept = i, j, below
    for i in range(last + 1, start + 1):
        w.level[PLACE[first + i, 1], PLACE[first + i, 0]] = 0
    return last, kept, best_j


@jit_inner()
def choose_path(
    s: int, step: int, lam: float, m: Ints, kind: int, near: int, coef: Ints, w: Scratch
) -> tuple[int, int, float]:
    """`choose_levels` with the tool `trellis`: step and w.level are in half steps."""
    start = start_of(coef, s, step)
    if start < 0:
        return -1, 0, 0.0
    top = 0
    while (start + 1) >> (top + 1):
        top += 1
    price_last(m, top, s, near, kind, w.last)
    return best_path(
        s, step, lam, w.level_prices, kind * NEAR + near, coef, start, w.last, w.level, w.paths
    )  # fmt: skip


# ------------------------------------------------------------------ prediction of a block


@jit_inner()
def difference(goal: Ints, pred: Ints, n: int, diff: Ints) -> None:
    """diff = goal - pred, [n, n] float32."""
    for y in range(n):
        for x in range(n):
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
def squared(diff: Ints, n: int, sums: Ints) -> float:
    """Sum of squares of diff [n, n], in an order of its own."""
    for x in range(n):
        sums[x] = 0.0
    for y in range(n):
        for x in range(n):
            sums[x] += diff[y, x] * diff[y, x]
    total = 0.0
    for x in range(n):
        total += sums[x]
    return total


@jit_inner()
def draft_cost(coef: Ints, c: int, step: int, sums: Ints) -> float:
    """About what coefficients [c, c] cost, error and bits, before any level is chosen."""
    per_step = F32(1.0) / F32(step)
    for u in range(c):
        sums[u] = 0.0
    for v in range(c):
        for u in range(c):
            x = abs(F32(coef[v, u])) * per_step
            sums[u] += min(x * x, F32(DRAFT_FIRST) + F32(DRAFT_MORE) * np.sqrt(x))
    total = 0.0
    for u in range(c):
        total += sums[u]
    return total * (step * step) / (1 << 2 * MID_BITS)


@jit_inner()
def price_more(m: Ints, bit: int, layer: int, s: int, drawn: int, kind: int, near: int, mode: int) -> int:
    """Cost of "another layer", behind `layer` of them."""
    if layer == MAX_LAYERS:
        return I64(0)
    c0, c1, c2, c3 = more_contexts(layer, s, drawn, kind, near, mode)
    return price(m, bit, c0, c1, c2, c3, W_MORE)


@jit_inner()
def try_layers(
    field: Field, below: Ints, rec: Ints, x0: int, y0: int, log2: int, k: int, best_j: float, step: int, lam: float,
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
        for i in range(found):
            entry, amount = find.pick[i], find.pick_amount[i]
            rank = bit_length(entry + 1)
            bits = np.float64(find.classes[rank]) + np.float64(find.prices[s, entry])
            bits = lam * (bits + price_amount(m, amount, s, kind, near, rank))
            fixed = spent + bits + closing
            if fixed >= best_j:
                continue
            predict_block(field, below, rec, x0, y0, log2, mode, d)
            for before in range(layer):
                add_layer(find.entry[before], find.amount[before], log2, own_step, patterns, d.pred)
            add_layer(entry, amount, log2, own_step, patterns, d.pred)
            difference(w.goal, d.pred, n, w.diff)
            own_energy = squared(w.diff, n, w.sums)
            j, total = fixed + without + own_energy, I64(-1)
            forward(w.diff, log2, w.mid, find.coef)
            if field.tools & TRELLIS:
                last, levels, gain = choose_path(s, step, lam, m, kind, near, find.coef, w)
            else:
                last, levels, gain = choose_levels(s, step, lam, m, kind, near, find.coef, w)
            if last >= 0 and fixed + with_levels + own_energy + gain < j:
                j, total = fixed + with_levels + own_energy + gain, levels
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
def note_square(w: Scratch, log2: int, step: int, lam: float, mode: int) -> None:
    """Begin a row of the record: what the prediction of a mode that was drafted left of a square."""
    w.recorded[log2] = -1
    if w.recorded[0] == len(w.record):
        return
    for k in range(len(w.rank)):
        if w.rank[k] == mode:
            at, first = w.recorded[0], FIRST_PLACE[log2 - 2]
            row = w.record[at]
            row[0], row[1], row[2] = log2, lam, step
            for f in range(FEATURES):
                row[6 + f] = F32(w.coefs[k, PLACE[first + f, 1], PLACE[first + f, 0]]) / F32(step)
            w.recorded[log2] = at
            w.recorded[0] = at + 1
            return


@jit_inner()
def try_leaf(
    target: Ints, below: Ints, rec: Ints, field: Field, x0: int, y0: int, log2: int, step: int, lam: float, m: Ints,
    w: Scratch, d: Work, patterns: Patterns,
) -> float:  # fmt: skip
    """Best whole-block coding of a square, left in w under its size; returns J."""
    n, s = 1 << log2, log2 - 2
    left, above, a, b = neighbours(field, x0 >> 2, y0 >> 2)
    per_bit = lam / COST_ONE
    for v in range(n):
        wanted, goal = target[y0 + v, x0 : x0 + n], w.goal[v]
        for u in range(n):
            goal[u] = np.float32(wanted[u])
    references(rec, x0, y0, n, d.ref)
    ways = WAYS[field.guides.shape[0]]
    price_modes(m, left, above, s, ways, w.angles, w.price)
    rank_modes(log2, np.sqrt(lam) / COST_ONE, w, d)
    for mode in range(FIRST_CROSS, FIRST_CROSS + ways):
        if not w.barred[mode]:
            predict_block(field, below, rec, x0, y0, log2, mode, d)
            difference(w.goal, d.pred, n, w.diff)
            error = error_left(w.diff, log2, w.screen)
            _insert(mode, error + np.sqrt(lam) / COST_ONE * w.price[mode], w.rank, w.costs)
    best_j, best_mode, best_sum = 1e300, I64(ZERO), I64(-1)
    c = min(n, 32)
    trellis = (field.tools & TRELLIS) != 0
    wide = 2 * step if trellis else step
    draws = may_draw(field.tools, log2)
    drawn = drawn_near(field, x0 >> 2, y0 >> 2)
    _clear(w.drafts, w.draft_costs)
    for k in range(len(w.rank)):
        mode = w.rank[k]
        if mode < 0 or w.costs[k] > RANK_RATIO * w.costs[0]:
            break
        predict_block(field, below, rec, x0, y0, log2, mode, d)
        difference(w.goal, d.pred, n, w.diff)
        energy = squared(w.diff, n, w.sums)
        kind = KIND[mode]
        if draws:
            w.price[mode] += price_more(m, 0, 0, s, drawn, kind, a + b, mode)
        c0, c1, c2, c3 = coded_contexts(s, kind, a, b, 0, field.tools)
        p = chance(m, c0, c1, c2, c3, W_CODED)
        bits = per_bit * (w.price[mode] + bit_cost(p, 0))
        if energy + bits < best_j:
            best_j, best_mode, best_sum = energy + bits, mode, I64(-1)
        if takes_sine(field.tools, mode, log2):
            forward_sine(w.diff, w.mid, w.coefs[k])
        else:
            forward(w.diff, log2, w.mid, w.coefs[k])
        w.energies[k] = energy
        bits = per_bit * (w.price[mode] + bit_cost(p, 1))
        if n > c:  # a rough term for the frequencies that are not coded, by which modes differ
            bits += energy
        _insert(k, draft_cost(w.coefs[k], c, wide, w.sums) + bits, w.drafts, w.draft_costs)
    # Drafts say less of what a trellis makes of them: all are coded, for 5 % of the time and 0.2 % of the bytes.
    dearest = 1e300 if trellis else DRAFT_RATIO * w.draft_costs[0]
    for i in range(len(w.drafts)):
        k = w.drafts[i]
        if k < 0 or w.draft_costs[i] > dearest:
            break
        mode, energy = w.rank[k], w.energies[k]
        kind = KIND[mode]
        c0, c1, c2, c3 = coded_contexts(s, kind, a, b, 0, field.tools)
        p = chance(m, c0, c1, c2, c3, W_CODED)
        bits = per_bit * (w.price[mode] + bit_cost(p, 1))
        if trellis:
            last, total, gain = choose_path(s, step, lam, m, kind, a + b, w.coefs[k], w)
        else:
            last, total, gain = choose_levels(s, step, lam, m, kind, a + b, w.coefs[k], w)
        if last >= 0 and energy + bits + gain < best_j:
            best_j, best_mode, best_sum = energy + bits + gain, mode, total
            for v in range(c):
                line, own = w.best_level[log2, v], w.level[v]
                for u in range(c):
                    line[u] = own[u]
    w.at[log2, 3], w.at[log2, 4], w.at[log2, 5] = best_mode, best_sum, 0
    if draws and best_j > lam * DRAW_FROM:
        if len(w.record):
            note_square(w, log2, layer_step(step, field.tools), lam, best_mode)
        for k in range(min(w.means[4], len(w.rank))):
            if w.rank[k] < 0 or w.costs[k] > RANK_RATIO * w.costs[0]:
                break
            best_j = try_layers(field, below, rec, x0, y0, log2, k, best_j, step, lam, m, w, d, patterns)
    return best_j


@jit_inner()
def keep_leaf(
    below: Ints, rec: Ints, field: Field, x0: int, y0: int, log2: int, step: int, w: Scratch, d: Work,
    patterns: Patterns,
) -> None:  # fmt: skip
    """Put the best coding of a square into field and rec."""
    n, mode, total = 1 << log2, w.at[log2, 3], w.at[log2, 4]
    level = w.best_level[log2]
    coded = 1 if total >= 0 else 0
    fill(field.level, x0, y0, n, n, 0)
    if coded:
        c = min(n, 32)
        for v in range(c):
            line, own = field.level[y0 + v, x0 : x0 + c], level[v]
            for u in range(c):
                line[u] = own[u]
    x, y, layers = x0 >> 2, y0 >> 2, w.at[log2, 5]
    mark(field, x, y, n >> 2, n >> 2, mode, log2, activity(total, log2) if coded else 0, layers)
    references(rec, x0, y0, n, d.ref)
    predict_block(field, below, rec, x0, y0, log2, mode, d)
    own_step = layer_step(step, field.tools)
    for layer in range(layers):
        entry, amount = w.finder.best_entry[log2, layer], w.finder.best_amount[log2, layer]
        field.entry[y + (layer >> 1), x + (layer & 1)], field.amount[y + (layer >> 1), x + (layer & 1)] = entry, amount
        add_layer(entry, amount, log2, own_step, patterns, d.pred)
    reconstruct_block(field, below, rec, x0, y0, log2, step, mode, coded, d)


@jit_inner()
def search_super(
    target: Ints, below: Ints, rec: Ints, field: Field, sx: int, sy: int, step: int, lam: float, m: Ints, w: Scratch,
    d: Work, patterns: Patterns,
) -> None:  # fmt: skip
    """Best tree of a superblock, or none at all, left in field and rec.

    Depth first without recursion: per size, the square at hand, its J whole and cut, and the next of its four parts.
    """
    H, W = rec.shape
    at, js, h = w.at, w.js, HALF_CONTEXT
    per_bit = lam / COST_ONE
    price_angles(m, w.angles)
    price_levels(m, 3 if field.tools & TRELLIS else 1, w.level_prices)
    if field.tools & PATTERNS:
        price_entries(m, patterns, w.finder)
    log2 = I64(SUPER_LOG2)
    at[log2, 0], at[log2, 1], at[log2, 2] = sx, sy, -1
    js[log2, 2] = 1e300
    result = 0.0
    while log2 <= SUPER_LOG2:
        x0, y0, n, part = at[log2, 0], at[log2, 1], 1 << log2, at[log2, 2]
        done, keep = False, False
        if part < 0:  # seen for the first time
            if x0 >= W or y0 >= H:
                result, done = 0.0, True
            else:
                whole_j, cut_j = 1e300, 0.0
                if x0 + n <= W and y0 + n <= H and log2 <= w.means[1]:
                    whole_j = try_leaf(target, below, rec, field, x0, y0, log2, step, lam, m, w, d, patterns)
                    if log2 > 2:
                        a, b = split_contexts(field, x0 >> 2, y0 >> 2, log2)
                        p = chance(m, a, b, h, h, W_SPLIT)
                        whole_j += per_bit * bit_cost(p, 0)
                        cut_j = per_bit * bit_cost(p, 1)
                js[log2, 0], js[log2, 1] = whole_j, cut_j
                # a square across the border is cut, however small
                if log2 == 2 or (log2 <= w.means[0] and whole_j < 1e300) or whole_j < lam * GIVE_UP:
                    result, done, keep = whole_j, True, True
        else:
            js[log2, 1] += js[log2 - 1, 0]
        if not done:
            part += 1
            at[log2, 2] = part
            limit = min(js[log2, 0], js[log2, 2])
            if part < 4 and js[log2, 1] < limit:
                half = n >> 1
                at[log2 - 1, 0], at[log2 - 1, 1] = x0 + half * (part & 1), y0 + half * (part >> 1)
                at[log2 - 1, 2] = -1
                js[log2 - 1, 2] = limit - js[log2, 1]
                log2 -= 1
                continue
            result = js[log2, 1]
            if part < 4 and js[log2, 0] > js[log2, 1]:
                result = 1e300  # given up: dearer than its parent can bear
            if result >= js[log2, 0]:
                result, keep = js[log2, 0], True
        if len(w.record) and 3 <= log2 <= SUPER_LOG2 and w.recorded[log2] >= 0:
            w.record[w.recorded[log2], 3], w.record[w.recorded[log2], 4] = js[log2, 0], js[log2, 1] if part == 4 else -1
            w.recorded[log2] = -1
        if keep:
            keep_leaf(below, rec, field, x0, y0, log2, step, w, d, patterns)
        js[log2, 0] = result
        log2 += 1
    # on, or off?
    x, y = sx >> SUPER_LOG2, sy >> SUPER_LOG2
    p = chance(m, on_context(field, x, y), h, h, h, W_ON)
    result += per_bit * (bit_cost(p, 1) - bit_cost(p, 0))
    off = 0.0
    y1, x1 = min(H, sy + SUPER), min(W, sx + SUPER)
    for v in range(sy, y1):
        for u in range(sx, x1):
            off += np.float64(target[v, u]) * target[v, u]
    field.on[y, x] = 1 if result < off else 0
    if result >= off:
        for v in range(sy, y1):
            for u in range(sx, x1):
                field.level[v, u] = 0
                rec[v, u] = 0


@jit_entry()
def _search_plane(
    target: Ints, below: Ints, rec: Ints, field: Field, first: int, step: int, lam: float, m: Ints, io: Ints,
    stack: Ints, w: Scratch, d: Work, patterns: Patterns,
) -> int:  # fmt: skip
    """Choose and code superblocks from number `first` on while `io` has room; returns the number of the next one."""
    across = field.on.shape[1]
    count = across * field.on.shape[0]
    i = first
    while i < count and len(io) - io[FILL] >= ROOM:
        x, y = i % across << SUPER_LOG2, i // across << SUPER_LOG2
        search_super(target, below, rec, field, x, y, step, lam, m, w, d, patterns)
        code_super(m, io, field, x, y, stack, w.around)
        i += 1
    return i


def encode_plane(
    target: Ints,
    below: Ints,
    rec: Ints,
    field: Field,
    step: int,
    lam: float,
    m: Ints,
    tries: int,
    parts: Parts = ALL_PARTS,
    record: Ints | None = None,
    patterns: Patterns | None = None,
) -> Ints:
    """Choose and code every superblock of a padded plane.

    Args:
        target: [H,W] int32 Q12, the residual wanted.   below: [H,W] int32 Q12, what it is added to.
        rec: [H,W] int32, receives the one that is coded.   step: Q4.   lam: squared error in Q12 per bit.
        m: models, which learn on the way.   tries: predictions coded in full per square.   parts: means to use.
        record: [n, RECORD] float32, receives what squares were like that might have added patterns, for training.
        patterns: codebook; None for the packaged one.
    Returns:
        the decisions, [n] int64, as in an `io` from TAPE on.
    """
    io = np.zeros(TAPE + 8 * ROOM, dtype=np.int64)
    io[FILL], io[MODE] = TAPE, ENCODE
    patterns = patterns_for(field.tools) if patterns is None else patterns
    wide = 2 * step if field.tools & TRELLIS else step
    w, d = _scratch(tries, parts, field.tools, wide, patterns, record), work()
    stack, done = np.zeros((20, 3), np.int64), 0
    while done < field.on.size:
        if len(io) - io[FILL] < ROOM:
            io = np.concatenate((io, np.empty(len(io), dtype=np.int64)))
        done = _search_plane(target, below, rec, field, done, step, lam, m, io, stack, w, d, patterns)
    return io[TAPE : io[FILL]]
