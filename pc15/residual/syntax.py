"""The order of decisions of one block of a residual stream: one walk that estimates, writes or reads; see `tree`.

    mode                     see `modes`
    layers                   with the tool PATTERNS, of leaves of 8x8 and more that are not cut: another one? its entry
                             in the codebook of this size, as a class of its rank and the bits below; less than
                             nothing? amount - 1
    coded                    0: no coefficients
    last                     place of the last level in the scan, as a length class and its low bits
    levels, last first       zero?, larger than 1?, 2?, ... 14?, then an Exp-Golomb rest, and its sign
    signs                    with the tool BORDERS, after all levels, see `signs`

The scan runs along diagonals from the lowest frequency.  What each decision is predicted by, see `contexts`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy.typing as npt

from pc15.residual.context_models import (
    BROKEN,
    DECODE,
    HALF_CONTEXT,
    I64,
    MODE,
    OUTSIDE,
    U64,
    code,
    code_raw,
    jit_inner,
)
from pc15.residual.contexts import (
    FIRST_PLACE,
    KIND,
    KINDS,
    LAST_A_AT,
    LAST_B_AT,
    LOW_A_AT,
    MAX_AMOUNT_FLAGS,
    MAX_FLAGS,
    MAX_LAYERS,
    NEAR,
    NEXT_STATE,
    ODD,
    PLACE,
    RANK_BITS,
    RANK_TREE,
    RAW_AMOUNT,
    RAW_ESCAPE,
    RAW_LAST,
    RAW_SIGN,
    TURNED_KIND,
    W_AMOUNT,
    W_LAST,
    W_LOW,
    W_MINUS,
    W_MORE,
    W_RANK,
    W_TREE,
    amount_contexts,
    contexts,
    minus_contexts,
    more_contexts,
    of_part,
    rank_contexts,
)
from pc15.residual.intra import MEAN
from pc15.residual.shapes import CODED_HIGH, LAST_TOP, PLACES_OF, SIZE, TALL
from pc15.residual.tools import BORDERS, PATTERNS, TRELLIS

Ints = npt.NDArray[Any]
MAX_AMOUNT = 1023
"""Largest magnitude of a pattern's amount."""
SUPER_LOG2 = 6
SUPER = 1 << SUPER_LOG2
UNIT = 4
PAD = 8
"""Planes are padded to multiples of this many pixels."""
MAX_ESCAPE = 20


class BlockMap(NamedTuple):
    """Knowledge of a plane [H,W]: level [H,W] int32, and per 4x4 unit uint8: mode, log2 size, activity, super on.

    Where a superblock at a time will do, level may be [64,64]: places are modulo its size.
    tools: bits of the tools that it is coded with, see `tools`.
    layers: per unit uint8, how many patterns its square adds; of the i-th one, entry and amount, int16, stand in unit
        (i & 1, i >> 1) of the square.
    guides: [k,H,W] int16, planes that squares may be predicted from, see `cross`; k is 0 without that tool.
    cut: per unit uint8, how its leaf is cut, see `shapes`; size is that of the leaf.
    """

    level: Ints
    mode: Ints
    size: Ints
    active: Ints
    on: Ints
    tools: int
    layers: Ints
    entry: Ints
    amount: Ints
    guides: Ints
    cut: Ints


RIM = 36
"""Width of the array of template sums: a block of up to 32 and a rim of two on two sides."""
ROOM = SUPER * SUPER * 64
"""More decisions than a superblock can have."""


@jit_inner()
def clear_template(around: Ints, shape: int) -> None:
    """Template sums of a block without levels."""
    for i in range(CODED_HIGH[shape] * RIM + 2 * RIM):
        around[i] = 0


@jit_inner()
def add_template(around: Ints, at: int, size: int) -> None:
    """A level of magnitude `size` at `at` raises the sums of the places that it is in the template of."""
    size = min(size, 15)
    around[U64(at - 1)] += 2 * size
    around[U64(at - RIM)] += 2 * size
    around[U64(at - RIM - 1)] += size
    around[U64(at - 2)] += size
    around[U64(at - 2 * RIM)] += size


@jit_inner()
def code_last(m: Ints, io: Ints, last: int, shape: int, near: int, kind: int) -> int:
    """Place of the last level in the scan; one beyond the block, as only damage says, sets `io[BROKEN]`."""
    s, top = SIZE[shape], LAST_TOP[shape]  # length classes 0..top of last + 1
    own = of_part(s)
    length = 0
    while (last + 1) >> (length + 1):
        length += 1
    h = HALF_CONTEXT
    k = 0
    while k < top:
        a, b = LAST_A_AT[own] + (s * 11 + k) * NEAR + near, LAST_B_AT[own] + (s * 11 + k) * KINDS + kind
        if not code(m, io, 1 if length > k else 0, a, b, h, h, W_LAST):
            break
        k += 1
    value = 1
    for i in range(k):
        bit = (last + 1) >> (k - 1 - i) & 1
        if i < 2:
            a = LOW_A_AT[own] + (s * 11 + k) * 4 + (i if i == 0 else 1 + (value & 1) + 1)
            bit = code(m, io, bit, a, h, h, h, W_LOW)
        else:
            bit = code_raw(io, bit, RAW_LAST)
        value = value << 1 | bit
    # The topmost length class says more than the block has: every loop after this one takes the place as an index.
    places = PLACES_OF[shape]
    if value > places:
        io[BROKEN] = OUTSIDE
        value = places
    return value - 1


@jit_inner()
def code_escape(io: Ints, value: int, kind: int) -> int:
    """Order-0 Exp-Golomb code of what is left of a level or an amount; damage may end it early."""
    length = 0
    while (value + 1) >> (length + 1):
        length += 1
    k = 0
    while k < MAX_ESCAPE and code_raw(io, 1 if k < length else 0, kind):
        k += 1
    result = 1
    for i in range(k - 1, -1, -1):
        result = result << 1 | code_raw(io, (value + 1) >> i & 1, kind)
    return result - 1


@jit_inner()
def code_levels(
    m: Ints, io: Ints, level: Ints, x0: int, y0: int, shape: int, kind: int, near: int, last: int, tools: int,
    around: Ints,
) -> tuple[int, int]:  # fmt: skip
    """Levels of the block at (x0, y0) of the plane, last first; returns the last one's place and the sum of magnitudes.

    With the tool TRELLIS the array holds, and receives, the multiple of half a step that a level stands for.
    """
    trellis = (tools & TRELLIS) != 0
    last = code_last(m, io, last, shape, near, kind)
    clear_template(around, shape)
    first, s = FIRST_PLACE[shape], SIZE[shape]
    filled, state = 0, I64(0)
    for i in range(last, -1, -1):
        row = first + i
        u, v = I64(PLACE[U64(row), 0]), I64(PLACE[U64(row), 1])
        at = (v + 2) * RIM + u + 2
        y, x = U64(y0 + v), U64(x0 + u)
        value = I64(level[y, x])
        size = (abs(value) + 1) >> 1 if trellis else abs(value)
        k = 1 if i == last else 0
        while k < MAX_FLAGS:
            c0, c1, c2, c3, w = contexts(k, s, row, I64(around[U64(at)]), kind, near, filled, state)
            if not code(m, io, 1 if size > k else 0, c0, c1, c2, c3, w):
                break
            k += 1
        if k:
            if k == MAX_FLAGS:
                k += code_escape(io, max(0, size - MAX_FLAGS), RAW_ESCAPE)
            drawn = 2 * k - ODD[state] if trellis else k
            # with the tool BORDERS signs follow, see `signs`; a writer's are there already
            minus = value < 0
            if not tools & BORDERS:
                minus = code_raw(io, 1 if minus else 0, RAW_SIGN) == 1
            level[y, x] = -drawn if minus else drawn
            add_template(around, at, k)
            filled += k
        if trellis:
            state = NEXT_STATE[U64(state), U64(k & 1)]
    return last, filled


@jit_inner()
def may_draw(tools: int, log2: int) -> bool:
    """True for squares that may add patterns."""
    return log2 > 2 and (tools & PATTERNS) != 0


@jit_inner()
def drawn_near(field: BlockMap, x: int, y: int) -> int:
    """Number of the squares to the left and above unit (x, y) that add patterns."""
    left = 1 if x > 0 and field.layers[y, x - 1] else 0
    return left + (1 if y > 0 and field.layers[y - 1, x] else 0)


@jit_inner()
def bit_length(value: int) -> int:
    """Bits of a positive number below its highest."""
    length = 0
    while value >> (length + 1):
        length += 1
    return length


@jit_inner()
def code_layers(m: Ints, io: Ints, field: BlockMap, x: int, y: int, s: int, mode: int, near: int) -> int:
    """Patterns of the square at unit (x, y); returns how many.  Damage may name entries that there are none of."""
    kind, drawn, h = KIND[mode], drawn_near(field, x, y), HALF_CONTEXT
    count = I64(field.layers[y, x])
    for layer in range(MAX_LAYERS):
        c0, c1, c2, c3 = more_contexts(layer, s, drawn, kind, near, mode)
        if not code(m, io, 1 if layer < count else 0, c0, c1, c2, c3, W_MORE):
            return layer
        v, u = y + (layer >> 1), x + (layer & 1)
        rank, amount = I64(field.entry[v, u]) + 1, I64(field.amount[v, u])
        if io[MODE] == DECODE:
            rank, amount = 1, 1
        length = bit_length(rank)
        k = 0
        while k < RANK_BITS - 1:
            c0, c1, c2, c3 = rank_contexts(k, s, kind, near, layer)
            if not code(m, io, 1 if length > k else 0, c0, c1, c2, c3, W_RANK):
                break
            k += 1
        node = 1
        for i in range(k - 1, -1, -1):
            place = RANK_TREE + (s << RANK_BITS) + (1 << k) + node
            node = node << 1 | code(m, io, rank >> i & 1, place, h, h, h, W_TREE)
        a, b = minus_contexts(s, kind, k)
        minus = code(m, io, 1 if amount < 0 else 0, a, b, h, h, W_MINUS)
        size = abs(amount)
        j = 0
        while j < MAX_AMOUNT_FLAGS:
            c0, c1, c2, c3 = amount_contexts(j, s, kind, near, k)
            if not code(m, io, 1 if size > j + 1 else 0, c0, c1, c2, c3, W_AMOUNT):
                break
            j += 1
        if j == MAX_AMOUNT_FLAGS:
            j += code_escape(io, max(0, size - 1 - MAX_AMOUNT_FLAGS), RAW_AMOUNT)
        size = min(MAX_AMOUNT, j + 1)
        field.entry[v, u], field.amount[v, u] = node - 1, -size if minus else size
    return MAX_LAYERS


@jit_inner()
def activity(total: int, area_log2: int) -> int:
    """Class of what a coded block holds, 1..3, from the sum of its levels over its area."""
    return 1 if 16 * total < 1 << area_log2 else 2 if 16 * total < 4 << area_log2 else 3


@jit_inner()
def mark(field: BlockMap, x0: int, y0: int, w: int, h: int, mode: int, log2: int, active: int, layers: int) -> None:
    """Note what is known of a rectangle of units."""
    for y in range(y0, y0 + h):
        for x in range(x0, x0 + w):
            field.mode[y, x], field.size[y, x], field.active[y, x] = mode, log2, active
            field.layers[y, x] = layers


@jit_inner()
def neighbours(field: BlockMap, x: int, y: int) -> tuple[int, int, int, int]:
    """Neighbours of the block at unit (x, y): modes left and above, activities left and above."""
    left, above, a, b = MEAN, MEAN, 0, 0
    if x > 0:
        left, a = I64(field.mode[y, x - 1]), I64(field.active[y, x - 1])
    if y > 0:
        above, b = I64(field.mode[y - 1, x]), I64(field.active[y - 1, x])
    return left, above, a, b


@jit_inner()
def last_level(level: Ints, x0: int, y0: int, shape: int) -> int:
    """Place of the last level that is not 0 in the scan, -1 if there is none."""
    first = FIRST_PLACE[shape]
    for i in range(PLACES_OF[shape] - 1, -1, -1):
        if level[y0 + PLACE[first + i, 1], x0 + PLACE[first + i, 0]]:
            return i
    return -1


@jit_inner()
def kind_of(mode: int, shape: int) -> int:
    """Class of direction of a block's prediction, of one that is higher than wide as if it were turned."""
    return TURNED_KIND[KIND[mode]] if TALL[shape] else KIND[mode]
