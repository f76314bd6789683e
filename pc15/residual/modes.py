"""The mode of a block as decisions.

    from guides?, which way? with guides alone, see `cross`
    zero?
    most probable? which?    by the modes of its neighbours: three flags, then five bits
    or its place             with the tool BORDERS, by what is decoded around it, see `order`

Source: most probable modes are those of ITU-T H.265, 8.4.2.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from pc15.residual.context_models import HALF_CONTEXT, code, jit_inner
from pc15.residual.contexts import (
    ANGLE_TREE,
    W_ANGLE,
    W_CROSS,
    W_MPM,
    W_ZERO,
    cross_contexts,
    mode_contexts,
    way_context,
)
from pc15.residual.cross import FIRST_CROSS
from pc15.residual.intra import FIRST_ANGLE, MEAN, MODES, PLANAR, VERTICAL, ZERO
from pc15.residual.order import Order, code_place
from pc15.residual.tools import BORDERS

Ints = npt.NDArray[Any]


@jit_inner()
def probable_modes(left: int, above: int) -> tuple[int, int, int]:
    """The three most probable modes besides zero, from those of the blocks to the left and above."""
    left = MEAN if left == ZERO or left >= FIRST_CROSS else left
    above = MEAN if above == ZERO or above >= FIRST_CROSS else above
    if left == above:
        if left < FIRST_ANGLE:
            return PLANAR, MEAN, VERTICAL
        around = left - FIRST_ANGLE
        return left, FIRST_ANGLE + ((around + 31) & 31), FIRST_ANGLE + ((around + 1) & 31)
    if left != PLANAR and above != PLANAR:
        return left, above, PLANAR
    if left != MEAN and above != MEAN:
        return left, above, MEAN
    return left, above, VERTICAL


@jit_inner()
def code_mode(
    m: Ints, io: Ints, chosen: int, left: int, above: int, s: int, ways: int, tools: int, order: Order
) -> int:
    """Prediction mode of one block; `ways`: how many there are to predict it from guides."""
    h = HALF_CONTEXT
    if ways:
        a, b = cross_contexts(left, above, s)
        if code(m, io, 1 if chosen >= FIRST_CROSS else 0, a, b, h, h, W_CROSS):
            way = 0
            while way < ways - 1:
                if code(
                    m, io, 1 if chosen == FIRST_CROSS + way else 0, way_context(way, left, above), h, h, h, W_CROSS
                ):
                    break
                way += 1
            return FIRST_CROSS + way
    if tools & BORDERS:
        a, b = mode_contexts(0, left, above, s)
        if code(m, io, 1 if chosen == ZERO else 0, a, b, h, h, W_ZERO):
            return ZERO
        return code_place(m, io, chosen, left, above, s, order)
    first, second, third = probable_modes(left, above)
    for flag in range(4):
        likely = ZERO if flag == 0 else first if flag == 1 else second if flag == 2 else third
        a, b = mode_contexts(flag, left, above, s)
        if code(m, io, 1 if chosen == likely else 0, a, b, h, h, W_MPM if flag else W_ZERO):
            return likely
    low, high = min(first, second), max(first, second)
    low, middle = min(low, third), max(low, third)
    middle, high = min(middle, high), max(middle, high)
    rest = chosen - 1 - (1 if chosen > low else 0) - (1 if chosen > middle else 0) - (1 if chosen > high else 0)
    node = 1
    for i in range(4, -1, -1):
        node = node << 1 | code(m, io, rest >> i & 1, ANGLE_TREE + node, h, h, h, W_ANGLE)
    rest = node - 32 + 1
    rest += 1 if rest >= low else 0
    rest += 1 if rest >= middle else 0
    rest += 1 if rest >= high else 0
    return min(rest, MODES - 1)
