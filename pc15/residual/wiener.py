"""A Wiener filter by classes, the last step in the loop: the encoder fits it to the picture, the stream carries it.

Every block of 4x4 has one of 25 classes, by the direction and the strength of the second differences in the 8x8 around
it, and one of four ways to lie: taps are turned so that the gradients of all blocks of a class point alike.  Classes
share up to 25 filters.  A filter is a diamond of 7x7, symmetrical about its middle, with a gain of 1:

    out = p + (sum_i tap_i * (p_i + p_-i - 2 p) + 64 >> 7)          over the 12 pairs of neighbours

Pixels outside the picture repeat its rim.  Each superblock says whether it is filtered.
Sources: C.-Y. Tsai et al., "Adaptive loop filtering for video coding", IEEE JSTSP 7(6), 2013; M. Karczewicz et al.,
"VVC in-loop filters", IEEE TCSVT 31(10), 2021 (classes, turning).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import (
    FROZEN,
    HALF_CONTEXT,
    I64,
    MIX_RATE,
    STRETCH,
    U64,
    WEIGHT_ONE,
    code,
    code_raw,
    jit_entry,
    jit_inner,
)
from pc15.residual.contexts import W_LOOP
from pc15.residual.deblock import LEAST_ROWS
from pc15.residual.syntax import SUPER, SUPER_LOG2
from pc15.runtime.parallel import parallel_range

Ints = npt.NDArray[Any]
I32: Any = np.int32

CLASSES, TAPS, TAP_BITS = 25, 12, 7
MAX_TAP = 127
MARGIN = 4
"""Pixels by which a picture is continued on every side."""

PAIRS = ((3, 0), (2, -1), (2, 0), (2, 1), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (0, 1), (0, 2), (0, 3))
"""(rows down, columns right) of one of each pair of neighbours."""


def _turned() -> Ints:
    """[4, TAPS]: which tap a pair has if its block lies so: as it is, transposed, mirrored, or both."""
    place = {pair: i for i, pair in enumerate(PAIRS)} | {(-y, -x): i for i, (y, x) in enumerate(PAIRS)}
    rows = [
        [place[y, x] for y, x in PAIRS],
        [place[x, y] for y, x in PAIRS],
        [place[-y, x] for y, x in PAIRS],
        [place[x, -y] for y, x in PAIRS],
    ]
    return np.array(rows, np.int64)


TURNED = _turned()
_DOWN, _RIGHT = (np.array(part, np.int64) for part in zip(*PAIRS, strict=True))
_STRENGTH = np.array([0, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3, 4], np.int64)

# ---------------------------------------------------------------- what a stream says of it

_ON, _SIZE = 1, 4
_SIZES = 9
CONTEXTS = _SIZE + 5 * _SIZES
_RING = np.array([2, 1, 1, 1, 1, 0, 0, 0, 1, 0, 1, 2], np.int64) + np.array([0, 1, 0, 1, 1, 1, 0, 1, 1, 0, 0, 0])
"""Which taps share contexts, 0..3: by their distance from the middle."""
_USUAL = np.array([20000, 30000, 40000, 40000, 34000, 26000, 18000, 12000, 8000], np.int64)


LOOP_ROOM = 5 + CLASSES * (5 + TAPS * (2 * TAP_BITS + 1))
"""No filter has more decisions, but for one per superblock."""


class Loop(NamedTuple):
    """The filter of one plane.

    filters: [1] int64, how many filters there are, 0 for none.   of_class: [CLASSES] int64, which one each class has.
    taps: [CLASSES, TAPS] int64, one row per filter, in 1/128, -MAX_TAP..MAX_TAP.
    on: uint8, 1 for superblocks that are filtered.
    """

    filters: Ints
    of_class: Ints
    taps: Ints
    on: Ints


def no_loop(supers: tuple[int, int]) -> Loop:
    """No filter, for a plane of so many rows and columns of superblocks."""
    i64 = np.int64
    return Loop(np.zeros(1, i64), np.zeros(CLASSES, i64), np.zeros((CLASSES, TAPS), i64), np.zeros(supers, np.uint8))


def loop_models() -> Ints:
    """Models of the decisions of `code_loop`, which begin at the same place in every stream."""
    m = np.zeros((CONTEXTS + W_LOOP + 1, 4), np.int32)
    m[:CONTEXTS, 0], m[HALF_CONTEXT, 1], m[HALF_CONTEXT, 3] = 32768, FROZEN, MIX_RATE
    m[_SIZE:CONTEXTS, 0] = np.tile(_USUAL, 5)
    m[CONTEXTS:, 0] = WEIGHT_ONE
    m[:CONTEXTS, 2] = STRETCH[m[:CONTEXTS, 0] >> 4]
    return m


@jit_inner()
def _code_tap(m: Ints, io: Ints, tap: int, ring: int) -> int:
    """One tap: the bit length of its magnitude in unary, its lower bits, its sign."""
    h, size, length = HALF_CONTEXT, abs(tap), 0
    while size >> length:
        length += 1
    k = 0
    while k < TAP_BITS and code(m, io, 1 if length > k else 0, _SIZE + ring * _SIZES + k, h, h, h, W_LOOP):
        k += 1
    value = 1 if k else 0
    for i in range(k - 2, -1, -1):
        value = value << 1 | code_raw(io, size >> i & 1, W_LOOP)
    if value and code_raw(io, 1 if tap < 0 else 0, W_LOOP):
        return -value
    return value


@jit_inner()
def _code_number(io: Ints, value: int, count: int) -> int:
    """One of `count` numbers that are as likely as each other; damage may name one too many."""
    bits = 0
    while count - 1 >> bits:
        bits += 1
    found = 0
    for i in range(bits - 1, -1, -1):
        found = found << 1 | code_raw(io, value >> i & 1, W_LOOP)
    return min(found, count - 1)


@jit_entry()
def code_loop(m: Ints, io: Ints, loop: Loop) -> None:
    """A filter: `loop` holds it (ENCODE) or receives it (DECODE)."""
    h = HALF_CONTEXT
    loop.filters[0] = _code_number(io, I64(loop.filters[0]), CLASSES + 1)
    if not loop.filters[0]:
        return
    used = 0
    for i in range(CLASSES):
        loop.of_class[i] = _code_number(io, I64(loop.of_class[i]), min(loop.filters[0], used + 1))
        used = max(used, loop.of_class[i] + 1)
    for f in range(used):
        for i in range(TAPS):
            loop.taps[f, i] = _code_tap(m, io, I64(loop.taps[f, i]), _RING[i])
    rows, cols = loop.on.shape
    for y in range(rows):
        for x in range(cols):
            near = (I64(loop.on[y, x - 1]) if x else 1) + (I64(loop.on[y - 1, x]) if y else 1)
            loop.on[y, x] = code(m, io, I64(loop.on[y, x]), _ON + near, h, h, h, W_LOOP)


# ---------------------------------------------------------------- filtering


def continued(picture: Ints) -> Ints:
    """picture [H,W] with its rim repeated by MARGIN on every side."""
    return np.pad(picture, MARGIN, mode="edge")


@jit_inner()
def _bends(src: Ints, y: int, out: Ints) -> None:
    """Second differences of the cells of 2x2 from row y on: out [4, W/2 + 2] int32, of columns from -2 on.

    Of a cell the pixels on its diagonal count.  Directions: down, across, falling, rising.
    """
    top = MARGIN - 2
    for cell in range(out.shape[1]):
        down, across, falling, rising = I32(0), I32(0), I32(0), I32(0)
        for k in range(2):
            line, above, below, x = src[y + k], src[y + k - 1], src[y + k + 1], top + 2 * cell + k
            twice = I32(2) * line[x]
            down += abs(twice - above[x] - below[x])
            across += abs(twice - line[x - 1] - line[x + 1])
            falling += abs(twice - above[x - 1] - below[x + 1])
            rising += abs(twice - above[x + 1] - below[x - 1])
        out[0, cell], out[1, cell], out[2, cell], out[3, cell] = down, across, falling, rising


@jit_inner()
def _class_of(down: int, across: int, falling: int, rising: int) -> int:
    """Class of a block, 0..24, times 4, plus how it lies, 0..3, from the sums of its second differences."""
    strength = _STRENGTH[min(15, (down + across) >> 9)]
    straight, slant = max(down, across), max(falling, rising)
    straight_less, slant_less = min(down, across), min(falling, rising)
    if straight <= 2 * straight_less and slant <= 2 * slant_less:
        direction = 0
    elif straight * slant_less > slant * straight_less:
        direction = 2 if 2 * straight > 9 * straight_less else 1
    else:
        direction = 4 if 2 * slant > 9 * slant_less else 3
    return (direction * 5 + strength) << 2 | (2 if falling < rising else 0) | (1 if down < across else 0)


@jit_entry()
def classify(start: int, stop: int, src: Ints, ring: Ints, out: Ints) -> None:
    """Rows start..stop of out [H/4, W/4] uint8, class * 4 + how it lies, of every block of a continued picture.

    ring: [5, 4, W/2 + 2] int32, work space: four rows of cells, and their sums.
    """
    sums = ring[4]
    cols = out.shape[1]
    for cell in range(2 * start - 1, 2 * stop + 1):
        _bends(src, MARGIN + 2 * cell, ring[cell & 3])
        if cell < 2 * start + 2 or cell & 1:
            continue
        for way in range(4):
            total, a, b, c, d = sums[way], ring[0, way], ring[1, way], ring[2, way], ring[3, way]
            for i in range(len(total)):
                total[i] = a[i] + b[i] + c[i] + d[i]
        for x in range(cols):
            down, across, falling, rising = I64(0), I64(0), I64(0), I64(0)
            for c in range(2 * x, 2 * x + 4):
                i = U64(c)
                down += sums[0, i]
                across += sums[1, i]
                falling += sums[2, i]
                rising += sums[3, i]
            out[(cell - 2) >> 1, x] = _class_of(down, across, falling, rising)


@jit_entry()
def filter_supers(
    start: int, stop: int, src: Ints, classes: Ints, turned: Ints, on: Ints, taps: Ints, line: Ints, out: Ints
) -> None:  # fmt: skip
    """Filter those superblocks that are on, from a continued picture into out [H,W], which holds the others already.

    start, stop: rows of blocks.   turned: see `turned_taps`.   taps: [TAPS, SUPER], line: [SUPER] int32, work space.
    """
    W = out.shape[1]
    for y in range(4 * start, 4 * stop, 4):
        for x0 in range(0, W, SUPER):
            if not on[y >> SUPER_LOG2, x0 >> SUPER_LOG2]:
                continue
            wide = min(SUPER, W - x0)
            for b in range(wide >> 2):
                lying = turned[classes[y >> 2, (x0 >> 2) + b]]
                for i in range(TAPS):
                    for k in range(4):
                        taps[i, U64(4 * b + k)] = lying[i]
            at = MARGIN + x0
            for row in range(y, y + 4):
                middle = src[row + MARGIN, at : at + wide]
                for x in range(wide):
                    line[x] = 1 << (TAP_BITS - 1)
                for i in range(TAPS):
                    dy, dx, own = _DOWN[i], _RIGHT[i], taps[i]
                    one = src[row + MARGIN + dy, at + dx : at + dx + wide]
                    other = src[row + MARGIN - dy, at - dx : at - dx + wide]
                    for x in range(wide):
                        line[x] += own[x] * (one[x] + other[x] - I32(2) * middle[x])
                drawn = out[row, x0 : x0 + wide]
                for x in range(wide):
                    drawn[x] = middle[x] + (line[x] >> TAP_BITS)


def turned_taps(loop: Loop) -> Ints:
    """Taps by what `classify` says of a block, [CLASSES * 4, TAPS] int32."""
    taps = loop.taps[loop.of_class][:, TURNED]  # [CLASSES, 4, TAPS]
    return np.ascontiguousarray(taps.reshape(-1, TAPS), np.int32)


def class_map(src: Ints) -> Ints:
    """Classes of a continued picture, see `classify`."""
    rows, cols = (side - 2 * MARGIN >> 2 for side in src.shape)
    classes = np.empty((rows, cols), np.uint8)

    def some(start: int, stop: int) -> None:
        classify(start, stop, src, np.empty((5, 4, 2 * cols + 2), np.int32), classes)

    parallel_range(some, rows, least=LEAST_ROWS)
    return classes


def filter_picture(src: Ints, classes: Ints, loop: Loop, out: Ints) -> None:
    """`filter_supers` of all rows, by several threads."""
    turned = turned_taps(loop)

    def some(start: int, stop: int) -> None:
        taps, line = np.empty((TAPS, SUPER), np.int32), np.empty(SUPER, np.int32)
        filter_supers(start, stop, src, classes, turned, loop.on, taps, line, out)

    parallel_range(some, len(classes), least=LEAST_ROWS)


def wiener(picture: Ints, loop: Loop) -> Ints:
    """picture [H,W] int32 Q12, sides multiples of 4, filtered in place and returned."""
    if loop.filters[0]:
        src = continued(picture)
        filter_picture(src, class_map(src), loop, picture)
    return picture
