"""The order of decisions in a residual stream, from superblocks to blocks: one walk that writes, or reads and draws.

Superblocks of 64x64 in raster order, each

    on                       0: the superblock is prediction alone
    tree                     split flags from 64 down to 8; a square that crosses the border is split without a flag

and every leaf inside the picture

    cut                      with the tool SPLITS, of leaves of 8 to 32 px: into halves? side by side?
    block                    see `syntax`; of a leaf that is cut, for each half:
        again                cut again? across the first cut? which goes without saying of leaves of 8 px
        blocks               one, or the two that the half is cut into
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from pc15.residual.context_models import (
    BROKEN,
    DECODE,
    FILL,
    HALF_CONTEXT,
    I64,
    MODE,
    UNKNOWN,
    code,
    jit_entry,
    jit_inner,
)
from pc15.residual.contexts import (
    ON,
    SPLIT_A,
    SPLIT_B,
    W_AGAIN,
    W_CODED,
    W_CUT,
    W_ON,
    W_SPLIT,
    again_contexts,
    coded_contexts,
    cut_contexts,
)
from pc15.residual.cross import WAYS
from pc15.residual.intra import ZERO, fill
from pc15.residual.modes import code_mode
from pc15.residual.order import order_modes
from pc15.residual.patterns import names_unknown
from pc15.residual.reconstruct import Canvas, prepare_block, reconstruct_block, takes_sine
from pc15.residual.shapes import (
    ACROSS,
    ALONG,
    COLUMNS,
    LEAST_CUT,
    LESS_HIGH,
    LESS_WIDE,
    ONCE,
    PARTS,
    ROWS,
    SHAPE_OF,
    SIZE,
    WHOLE,
    end_above,
    may_cut,
    part_of,
)
from pc15.residual.signs import code_signs
from pc15.residual.syntax import (
    SUPER,
    SUPER_LOG2,
    UNIT,
    BlockMap,
    activity,
    code_layers,
    code_levels,
    kind_of,
    last_level,
    mark,
    may_draw,
    neighbours,
)
from pc15.residual.tools import BORDERS, PATTERNS

Ints = npt.NDArray[Any]


@jit_inner()
def split_contexts(field: BlockMap, x: int, y: int, log2: int) -> tuple[int, int]:
    """Contexts of "is the square at unit (x, y) cut in four"."""
    near, busy = 0, 2
    if x > 0:
        left = I64(field.size[y, x - 1])
        near += 0 if left >= log2 else 3 if left == log2 - 1 else 6
        busy += I64(field.active[y, x - 1]) - 1
    elif log2 > 4:
        near += 3 if log2 == 5 else 6
    if y > 0:
        above = I64(field.size[y - 1, x])
        near += 0 if above >= log2 else 1 if above == log2 - 1 else 2
        busy += I64(field.active[y - 1, x]) - 1
    elif log2 > 4:
        near += 1 if log2 == 5 else 2
    return SPLIT_A + (log2 - 2) * 9 + near, SPLIT_B + (log2 - 2) * 11 + busy


@jit_inner()
def on_context(field: BlockMap, x: int, y: int) -> int:
    """Context of "has superblock (x, y) a residual"."""
    near = (I64(field.on[y, x - 1]) if x > 0 else 1) + (I64(field.on[y - 1, x]) if y > 0 else 1)
    return ON + near


@jit_inner()
def wide_at(field: BlockMap, x: int, y: int) -> int:
    """log2 of the width of the block that unit (x, y) belongs to."""
    log2 = I64(field.size[y, x])
    inside = (1 << log2) - 1
    return log2 - LESS_WIDE[field.cut[y, x], (4 * y & inside) >> log2 - 2, (4 * x & inside) >> log2 - 2]


@jit_inner()
def high_at(field: BlockMap, x: int, y: int) -> int:
    """log2 of the height of the block that unit (x, y) belongs to."""
    log2 = I64(field.size[y, x])
    inside = (1 << log2) - 1
    return log2 - LESS_HIGH[field.cut[y, x], (4 * y & inside) >> log2 - 2, (4 * x & inside) >> log2 - 2]


@jit_inner()
def cut_near(field: BlockMap, x: int, y: int, wide: int, high: int) -> tuple[int, int, int, int]:
    """Neighbourhood of a block of 2^wide x 2^high px at unit (x, y).

    Returns:
        the first cuts of the leaves to the left and above; the sum of their activities; and the class of how much
        shorter their blocks are along the common side, in log2: by 0, 1, more, of each.
    """
    left, above, busy, near = WHOLE, WHOLE, 0, 0
    if x > 0:
        left, busy = I64(field.cut[y, x - 1]) & 3, I64(field.active[y, x - 1])
        near = 3 * min(2, max(0, high - high_at(field, x - 1, y)))
    if y > 0:
        above, busy = I64(field.cut[y - 1, x]) & 3, busy + I64(field.active[y - 1, x])
        near += min(2, max(0, wide - wide_at(field, x, y - 1)))
    return left, above, busy, near


@jit_inner()
def code_cut(m: Ints, io: Ints, field: BlockMap, x: int, y: int, log2: int, chosen: int) -> int:
    """First cut of the leaf at unit (x, y)."""
    h = HALF_CONTEXT
    left, above, busy, near = cut_near(field, x, y, log2, log2)
    a, b, c = cut_contexts(0, log2, left, above, busy, near)
    if not code(m, io, 1 if chosen != WHOLE else 0, a, b, c, h, W_CUT):
        return WHOLE
    a, b, c = cut_contexts(1, log2, left, above, busy, near)
    return ROWS + code(m, io, 1 if chosen == COLUMNS else 0, a, b, c, h, W_CUT + 1)


@jit_inner()
def half_near(field: BlockMap, x: int, y: int, log2: int, cut: int, half: int) -> tuple[int, int, int]:
    """Neighbourhood of a half of the leaf at unit (x, y) that is cut so far as `cut` says: before, busy, near."""
    dx, dy, wide, high = part_of(log2, cut & 3, half)
    _, _, busy, near = cut_near(field, x + (dx >> 2), y + (dy >> 2), wide, high)
    return 1 + (cut >> 2) if half else 0, busy, near


@jit_inner()
def code_again(m: Ints, io: Ints, field: BlockMap, x: int, y: int, log2: int, cut: int, half: int, chosen: int) -> int:
    """Second cut of a half of the leaf at unit (x, y); arguments as of `half_near`."""
    h, first = HALF_CONTEXT, cut & 3
    before, busy, near = half_near(field, x, y, log2, cut, half)
    a, b, c = again_contexts(0, log2, first, before, busy, near)
    if not code(m, io, 1 if chosen != ONCE else 0, a, b, c, h, W_AGAIN):
        return ONCE
    if log2 == LEAST_CUT:
        return ACROSS
    a, b, c = again_contexts(1, log2, first, before, busy, near)
    return ALONG + code(m, io, 1 if chosen == ACROSS else 0, a, b, c, h, W_AGAIN + 1)


@jit_inner()
def code_block(
    m: Ints, io: Ints, field: BlockMap, on: Canvas, x0: int, y0: int, log2: int, wide: int, high: int, end: int,
    around: Ints,
) -> None:  # fmt: skip
    """One block of 2^wide x 2^high px, a leaf of side 2^log2 or a part of it, and its place in the field.

    What is read is drawn at once: with the tool BORDERS the next block is read by it.   end: see `shapes.end_above`.
    """
    shape, w = SHAPE_OF[wide, high], on.work
    x, y, s, reading = x0 >> 2, y0 >> 2, SIZE[shape], io[MODE] == DECODE
    left, above, a, b = neighbours(field, x, y)
    borders = (field.tools & BORDERS) != 0
    if borders:
        order_modes(on.rec, x0, y0, wide, high, end, left, above, on.step, field.tools, w.order)
    mode = code_mode(m, io, I64(field.mode[y, x]), left, above, s, WAYS[field.guides.shape[0]], field.tools, w.order)
    kind, layers = kind_of(mode, shape), 0
    if wide == log2 and high == log2 and may_draw(field.tools, log2):
        layers = code_layers(m, io, field, x, y, s, mode, a + b)
    c0, c1, c2, c3 = coded_contexts(s, kind, a, b, layers, field.tools)
    active = code(m, io, 1 if field.active[y, x] else 0, c0, c1, c2, c3, W_CODED)
    u, v, last = x0 % field.level.shape[1], y0 % field.level.shape[0], I64(0)
    if active:
        last = I64(0) if reading else last_level(field.level, u, v, shape)
        last, total = code_levels(m, io, field.level, u, v, shape, kind, a + b, last, field.tools, around)
        active = activity(total, wide + high)
    mark(field, x, y, 1 << wide - 2, 1 << high - 2, mode, log2, active, layers)
    if reading and layers and field.tools & PATTERNS and names_unknown(field, x, y, log2, on.patterns):
        io[BROKEN] = UNKNOWN
    if io[BROKEN]:
        return
    signs = borders and active > 0
    if reading or signs:
        prepare_block(field, on, x0, y0, log2, wide, high, end, mode)
    if signs:
        sine = takes_sine(field.tools, mode)
        code_signs(
            m, io, field.level, u, v, on.rec, w.pred, x0, y0, shape, last, sine, on.step, field.tools, w.edges
        )  # fmt: skip
    if reading:
        reconstruct_block(field, on.below, on.rec, x0, y0, wide, high, on.step, mode, active, w)


@jit_inner()
def code_leaf(m: Ints, io: Ints, field: BlockMap, on: Canvas, x0: int, y0: int, log2: int, around: Ints) -> None:
    """One leaf of the tree, whole or in parts."""
    cut, x, y, n = WHOLE, x0 >> 2, y0 >> 2, 1 << log2 - 2
    chosen = I64(field.cut[y, x])
    if may_cut(field.tools, log2):
        cut = code_cut(m, io, field, x, y, log2, chosen & 3)
    fill(field.cut, x, y, n, n, cut)
    if cut == WHOLE:
        code_block(m, io, field, on, x0, y0, log2, log2, log2, I64(on.rec.shape[1]), around)
        return
    part = 0
    for half in range(2):
        shift = 2 + 2 * half
        cut |= code_again(m, io, field, x, y, log2, cut, half, chosen >> shift & 3) << shift
        fill(field.cut, x, y, n, n, cut)
        stop = PARTS[cut] - 1 + half  # of the first half, less the second one, which is one part yet
        while part < stop:
            dx, dy, wide, high = part_of(log2, cut, part)
            end = end_above(on.rec.shape[1], x0, log2, cut, dx, dy)
            code_block(m, io, field, on, x0 + dx, y0 + dy, log2, wide, high, end, around)
            part += 1


@jit_inner()
def code_super(m: Ints, io: Ints, field: BlockMap, on: Canvas, x0: int, y0: int, stack: Ints, around: Ints) -> None:
    """One superblock: field and canvas hold it (ENCODE) or receive it (DECODE).

    Args:
        m: models.   io: see `context_models`.   x0, y0: of its first pixel.   stack: [20, 3] int64, work space.
        around: [38 * RIM] int32, work space.
    """
    H, W = field.size.shape[0] * UNIT, field.size.shape[1] * UNIT
    x, y, h = x0 >> SUPER_LOG2, y0 >> SUPER_LOG2, HALF_CONTEXT
    there = code(m, io, I64(field.on[y, x]), on_context(field, x, y), h, h, h, W_ON)
    field.on[y, x] = there
    if not there:
        wide, high = min(SUPER, W - x0), min(SUPER, H - y0)
        mark(field, x0 >> 2, y0 >> 2, wide >> 2, high >> 2, ZERO, SUPER_LOG2, 0, 0)
        fill(field.cut, x0 >> 2, y0 >> 2, wide >> 2, high >> 2, WHOLE)
        if io[MODE] == DECODE:
            fill(on.rec, x0, y0, wide, high, 0)
        return
    # A stack instead of recursion: at most three brothers wait on each of five levels.
    stack[0, 0], stack[0, 1], stack[0, 2] = x0, y0, SUPER_LOG2
    waiting = 1
    while waiting and not io[BROKEN]:
        waiting -= 1
        x, y, log2 = stack[waiting, 0], stack[waiting, 1], stack[waiting, 2]
        n = 1 << log2
        if x >= W or y >= H:
            continue
        split = 0
        if x + n > W or y + n > H:
            split = 1
        elif log2 > 2:
            a, b = split_contexts(field, x >> 2, y >> 2, log2)
            split = code(m, io, 1 if field.size[y >> 2, x >> 2] < log2 else 0, a, b, h, h, W_SPLIT)
        if split:
            n >>= 1
            for i in range(3, -1, -1):
                stack[waiting, 0], stack[waiting, 1], stack[waiting, 2] = x + n * (i & 1), y + n * (i >> 1), log2 - 1
                waiting += 1
            continue
        code_leaf(m, io, field, on, x, y, log2, around)


@jit_entry()
def read_plane(m: Ints, io: Ints, field: BlockMap, on: Canvas, stack: Ints, around: Ints) -> None:
    """Read superblocks into a field and draw them, while the stream lasts; arguments as of `code_super`."""
    H, W = on.rec.shape
    for y in range(0, H, SUPER):
        for x in range(0, W, SUPER):
            level = field.level
            fill(level, x % level.shape[1], y % level.shape[0], min(SUPER, W - x), min(SUPER, H - y), 0)
            code_super(m, io, field, on, x, y, stack, around)
            if io[BROKEN]:
                return


@jit_entry()
def write_plane(
    m: Ints, io: Ints, field: BlockMap, on: Canvas, first: int, stop: int, room: int, stack: Ints, around: Ints
) -> int:
    """Superblocks from number `first` to `stop`, until `io` has less than `room` left; returns the next one's number.

    Arguments as of `code_super`.
    """
    across = field.on.shape[1]
    i = first
    while i < stop and len(io) - io[FILL] >= room:
        code_super(m, io, field, on, i % across << SUPER_LOG2, i // across << SUPER_LOG2, stack, around)
        i += 1
    return i
