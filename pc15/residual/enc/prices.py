"""Costs of modes, last places and flags, in 1/4096 bit, as the models stand."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from pc15.residual.context_models import COST_ONE, HALF_CONTEXT, I64, bit_cost, chance, jit_inner
from pc15.residual.contexts import (
    ANGLE_TREE,
    KINDS,
    LAST_A_AT,
    LAST_B_AT,
    LIKELY_MODES,
    LOW_A_AT,
    MAX_LAYERS,
    NEAR,
    ORDER_TREE,
    SAID,
    W_AGAIN,
    W_ANGLE,
    W_CROSS,
    W_CUT,
    W_LAST,
    W_LOW,
    W_MORE,
    W_MPM,
    W_ORDER,
    W_ORDER_TREE,
    W_ZERO,
    again_contexts,
    cross_contexts,
    cut_contexts,
    mode_contexts,
    more_contexts,
    of_part,
    way_context,
)
from pc15.residual.cross import FIRST_CROSS
from pc15.residual.intra import MODES, ZERO
from pc15.residual.modes import probable_modes
from pc15.residual.order import ORDERED, Order, likely_contexts, order_rest
from pc15.residual.shapes import ACROSS, ALONG, COLUMNS, LAST_TOP, LEAST_CUT, ONCE, ROWS, SIZE, WHOLE
from pc15.residual.syntax import BlockMap
from pc15.residual.tools import BORDERS
from pc15.residual.tree import cut_near, half_near

Ints = npt.NDArray[Any]


# ------------------------------------------------------------------ cost in 1/4096 bit, as the models stand


@jit_inner()
def price(m: Ints, bit: int, c0: int, c1: int, c2: int, c3: int, s: int) -> int:
    """Cost of a decision."""
    return bit_cost(chance(m, c0, c1, c2, c3, s), bit)


@jit_inner()
def price_angles(m: Ints, tools: int, out: Ints) -> None:
    """Costs of the modes that are not probable, by their rank among themselves."""
    h, tree, s = (
        HALF_CONTEXT,
        ORDER_TREE if tools & BORDERS else ANGLE_TREE,
        W_ORDER_TREE if tools & BORDERS else W_ANGLE,
    )
    for rest in range(32):
        node, total = 1, 0
        for i in range(4, -1, -1):
            bit = rest >> i & 1
            total += price(m, bit, tree + node, h, h, h, s)
            node = node << 1 | bit
        out[rest] = total


@jit_inner()
def price_modes(
    m: Ints, left: int, above: int, s: int, ways: int, tools: int, order: Order, angles: Ints, out: Ints
) -> None:
    """Costs of all modes, [ALL_MODES], of which there are `ways` from guides."""
    h = HALF_CONTEXT
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
    if tools & BORDERS:
        a, b = mode_contexts(0, left, above, s)
        p = chance(m, a, b, h, h, W_ZERO)
        out[ZERO] = before + bit_cost(p, 1)
        before += bit_cost(p, 0)
        for flag in range(LIKELY_MODES):
            a, b, c = likely_contexts(m, flag, s, left, above, order)
            p = chance(m, SAID, a, b, c, W_ORDER + flag)
            out[order.modes[flag]] = before + bit_cost(p, 1)
            before += bit_cost(p, 0)
        order_rest(order)
        for i in range(LIKELY_MODES, ORDERED):
            out[order.modes[i]] = before + angles[i - LIKELY_MODES]
        return
    first, second, third = probable_modes(left, above)
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
def price_last(m: Ints, top: int, shape: int, near: int, kind: int, out: Ints) -> None:
    """Costs of the last place, by length class up to `top` and the two bits behind the first."""
    h, s, own = HALF_CONTEXT, SIZE[shape], of_part(SIZE[shape])
    before = 0
    for k in range(top + 1):
        here = before
        if k < LAST_TOP[shape]:
            a, b = LAST_A_AT[own] + (s * 11 + k) * NEAR + near, LAST_B_AT[own] + (s * 11 + k) * KINDS + kind
            p = chance(m, a, b, h, h, W_LAST)
            here += bit_cost(p, 0)
            before += bit_cost(p, 1)
        low = LOW_A_AT[own] + (s * 11 + k) * 4
        for bits in range(4):
            total = here + max(0, k - 2) * COST_ONE
            if k > 0:
                total += price(m, bits >> 1, low, h, h, h, W_LOW)
            if k > 1:
                total += price(m, bits & 1, low + 2 + (bits >> 1), h, h, h, W_LOW)
            out[k, bits] = total


@jit_inner()
def price_more(m: Ints, bit: int, layer: int, s: int, drawn: int, kind: int, near: int, mode: int) -> int:
    """Cost of "another layer", behind `layer` of them."""
    if layer == MAX_LAYERS:
        return I64(0)
    c0, c1, c2, c3 = more_contexts(layer, s, drawn, kind, near, mode)
    return price(m, bit, c0, c1, c2, c3, W_MORE)


@jit_inner()
def price_cuts(m: Ints, field: BlockMap, x: int, y: int, log2: int, out: Ints) -> None:
    """Costs of the first cuts of the leaf at unit (x, y): WHOLE, ROWS, COLUMNS."""
    h = HALF_CONTEXT
    left, above, busy, near = cut_near(field, x, y, log2, log2)
    a, b, c = cut_contexts(0, log2, left, above, busy, near)
    p = chance(m, a, b, c, h, W_CUT)
    out[WHOLE], before = bit_cost(p, 0), bit_cost(p, 1)
    a, b, c = cut_contexts(1, log2, left, above, busy, near)
    p = chance(m, a, b, c, h, W_CUT + 1)
    out[ROWS], out[COLUMNS] = before + bit_cost(p, 0), before + bit_cost(p, 1)


@jit_inner()
def price_again(m: Ints, field: BlockMap, x: int, y: int, log2: int, cut: int, half: int, out: Ints) -> None:
    """Costs of the ways to cut a half of the leaf at unit (x, y) again: ONCE, ALONG, ACROSS."""
    h, first = HALF_CONTEXT, cut & 3
    before, busy, near = half_near(field, x, y, log2, cut, half)
    a, b, c = again_contexts(0, log2, first, before, busy, near)
    p = chance(m, a, b, c, h, W_AGAIN)
    out[ONCE], out[ACROSS] = bit_cost(p, 0), bit_cost(p, 1)
    if log2 > LEAST_CUT:
        a, b, c = again_contexts(1, log2, first, before, busy, near)
        p = chance(m, a, b, c, h, W_AGAIN + 1)
        out[ALONG] = out[ACROSS] + bit_cost(p, 0)
        out[ACROSS] += bit_cost(p, 1)
