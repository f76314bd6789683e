"""The order of decisions in a residual stream and the contexts of each: one walk that estimates, writes or reads.

Superblocks of 64x64 in raster order, each

    on                       0: the superblock is prediction alone
    tree                     split flags from 64 down to 8; a square that crosses the border is split without a flag

and every leaf inside the picture

    mode                     with guides first: from them? by which way? (see cross); else
                             zero? most probable? which? (see intra)
    layers                   with the tool PATTERNS, of squares of 8x8 and more: another one? its entry in the codebook
                             of this size, as a class of its rank and the bits below; less than nothing? amount - 1
    coded                    0: no coefficients
    last                     place of the last level in the scan, as a length class and its low bits
    levels, last first       zero?, sign, larger than 1?, 2?, ... 14?, then an Exp-Golomb rest

The scan runs along diagonals from the lowest frequency.  Each decision has four contexts: the levels already known
around it with its diagonal, its own frequency, the neighbouring blocks with the direction of the prediction, and how
full the block has been so far.
With the tool `trellis` there are two quantizers, of even and of odd multiples of half a step: the parities of the
levels before move a state, which says to which of them a level belongs, and with which contexts it is coded.
Sources: the template of levels is that of ITU-T H.266, 9.3.4.2, the states are those of its dependent quantization;
most probable modes are those of H.265, 8.4.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import (
    BROKEN,
    DECODE,
    FILL,
    HALF_CONTEXT,
    I64,
    MODE,
    OUTSIDE,
    code,
    code_raw,
    jit_entry,
    jit_inner,
)
from pc15.residual.cross import ALL_MODES, FIRST_CROSS, WAYS
from pc15.residual.intra import FIRST_ANGLE, HORIZONTAL, MEAN, MODES, PLANAR, VERTICAL, ZERO
from pc15.residual.tools import CROSS, PATTERNS, TRELLIS

Ints = npt.NDArray[Any]

MAX_LAYERS = 4
"""Patterns that a square may add."""
RANK_BITS = 10
"""Entries of a size's codebook have numbers below 2^RANK_BITS - 1."""
MAX_AMOUNT_FLAGS = 14
MAX_AMOUNT = 1023
"""Largest magnitude of a pattern's amount."""
SUPER_LOG2 = 6
SUPER = 1 << SUPER_LOG2
UNIT = 4
PAD = 8
"""Planes are padded to multiples of this many pixels."""
MAX_FLAGS = 14
MAX_ESCAPE = 20


class Field(NamedTuple):
    """What is known of a plane [H,W]: level [H,W] int32, and per 4x4 unit uint8: mode, log2 size, activity, super on.

    Where a superblock at a time will do, level may be [64,64]: places are modulo its size.
    tools: bits of the tools that it is coded with, see `tools`.
    layers: per unit uint8, how many patterns its square adds; of the i-th one, entry and amount, int16, stand in unit
        (i & 1, i >> 1) of the square.
    guides: [k,H,W] int16, planes that squares may be predicted from, see `cross`; k is 0 without that tool.
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


# ------------------------------------------------------------------ classes

PLACES = 10
SUM_CLASS = np.array([0, 1, 2, 3, 4, 5, 6, 6, 7, 7, 8, 8, 8, 9, 9, 9, 9] + [10] * 8 + [11] * 8, dtype=np.int64)
SUMS = 12
_PLACE = [0, 1, 2, 3, 4, 4, 5, 5] + [6] * 4 + [7] * 4 + [8] * 8 + [9] * 8
_DIAGONAL = [0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5] + [6] * 9 + [7] * 40
DIAGONALS = 8
SIZES = 5
NEAR = 7  # sum of two activities of 0..3
FULL = 8
KINDS = 4  # direction of prediction


def _kinds() -> Ints:
    """0 no direction, 1 about horizontal, 2 about vertical, 3 diagonal; [ALL_MODES]."""
    kind = np.zeros(ALL_MODES, dtype=np.int64)
    kind[FIRST_ANGLE:MODES] = 3
    kind[HORIZONTAL - 4 : HORIZONTAL + 5] = 1
    kind[VERTICAL - 4 : VERTICAL + 5] = 2
    return kind


KIND = _kinds()
BIT_LENGTH = np.array([i.bit_length() for i in range(128)], dtype=np.int64)

# ------------------------------------------------------------------ states of the tool `trellis`

STATES = 4
NEXT_STATE = np.array([[0, 2], [2, 0], [1, 3], [3, 1]], dtype=np.int64)
"""After a level, by its parity; every block starts in 0."""
ODD = np.array([0, 0, 1, 1], dtype=np.int64)
"""1: levels other than 0 stand for odd multiples of half a step, 2 |level| - 1 of them; 0: for even ones."""
SIG_SET = np.array([0, 0, 1, 2], dtype=np.int64)
GT1_SET = ODD
"""Which contexts say if a level is 0, and if it is larger than 1."""

# ------------------------------------------------------------------ context numbers: each block of contexts in a row

_sizes = {
    "half": 1,
    "on": 3,
    "split_a": 5 * 3 * 3,
    "split_b": 5 * 11,
    "zero_a": 3 * SIZES,
    "zero_b": 3,
    "mpm": 3 * SIZES,
    "mpm_b": 3 * 3 * 3,
    "angle": 32,
    "coded_a": SIZES * NEAR,
    "coded_b": SIZES * KINDS,
    "coded_c": 16,
    "last_a": SIZES * 11 * NEAR,
    "last_b": SIZES * 11 * KINDS,
    "low_a": SIZES * 11 * 4,
    "sig_a": SIZES * DIAGONALS * SUMS,
    "sig_b": SIZES * PLACES * PLACES * 3,
    "sig_c": 3 * KINDS * NEAR * 25,
    "sig_d": SIZES * FULL * FULL,
    "gt1_a": SIZES * DIAGONALS * SUMS,
    "gt1_b": SIZES * PLACES * PLACES,
    "gt1_c": KINDS * NEAR * 25,
    "gt1_d": SIZES * FULL * FULL,
    "gtn_a": MAX_FLAGS * SUMS,
    "gtn_b": MAX_FLAGS * DIAGONALS,
    "gtn_c": MAX_FLAGS * NEAR,
    "gtn_d": MAX_FLAGS * FULL,
}
_sizes_of = {
    0: _sizes,
    TRELLIS: {  # the same again for the other states
        f"{_name}_states": _further * _sizes[_name]
        for _name, _further in (("sig_a", 2), ("sig_b", 2), ("sig_d", 2), ("gt1_a", 1), ("gt1_b", 1))
    },
    PATTERNS: {
        "more_a": SIZES * MAX_LAYERS * 3,
        "more_b": SIZES * KINDS * 2,
        "more_c": NEAR * SIZES * 2,
        "more_d": MODES * 2,
        "rank_a": SIZES * (RANK_BITS + 1),
        "rank_b": KINDS * (RANK_BITS + 1),
        "rank_c": NEAR * (RANK_BITS + 1),
        "rank_d": MAX_LAYERS * (RANK_BITS + 1),
        "tree": SIZES << RANK_BITS,
        "minus_a": SIZES * KINDS,
        "minus_b": SIZES * (RANK_BITS + 1),
        "amount_a": SIZES * MAX_AMOUNT_FLAGS,
        "amount_b": NEAR * MAX_AMOUNT_FLAGS,
        "amount_c": (RANK_BITS + 1) * MAX_AMOUNT_FLAGS,
        "amount_d": KINDS * MAX_AMOUNT_FLAGS,
        "coded_d": SIZES * (MAX_LAYERS + 1),
    },
    CROSS: {"cross_a": 3 * SIZES, "cross_b": 3 * 3, "way": 5 * 3},
}
BASE: dict[str, int] = {}
CONTEXTS_OF: dict[int, tuple[int, int]] = {}
"""First context, and the one after the last, of what all streams have (0) and of what a tool adds."""
CONTEXTS = 0
for _tool, _own in _sizes_of.items():
    _first = CONTEXTS
    for _name, _size in _own.items():
        BASE[_name] = CONTEXTS
        CONTEXTS += _size
    CONTEXTS_OF[_tool] = _first, CONTEXTS

_ON, _SPLIT_A, _SPLIT_B = BASE["on"], BASE["split_a"], BASE["split_b"]
_ZERO_A, _ZERO_B, _MPM, _MPM_B, ANGLE_TREE = BASE["zero_a"], BASE["zero_b"], BASE["mpm"], BASE["mpm_b"], BASE["angle"]
CODED_A, CODED_B, CODED_C = BASE["coded_a"], BASE["coded_b"], BASE["coded_c"]
LAST_A, LAST_B, LOW_A = BASE["last_a"], BASE["last_b"], BASE["low_a"]
SIG_C, GT1_C, GT1_D = BASE["sig_c"], BASE["gt1_c"], BASE["gt1_d"]
GTN_A, GTN_B, GTN_C, GTN_D = BASE["gtn_a"], BASE["gtn_b"], BASE["gtn_c"], BASE["gtn_d"]
_CROSS_A, _CROSS_B, _WAY = BASE["cross_a"], BASE["cross_b"], BASE["way"]
_MORE_A, _MORE_B, _MORE_C, _MORE_D = BASE["more_a"], BASE["more_b"], BASE["more_c"], BASE["more_d"]
_RANK_A, _RANK_B, _RANK_C, _RANK_D = BASE["rank_a"], BASE["rank_b"], BASE["rank_c"], BASE["rank_d"]
RANK_TREE, _MINUS_A, _MINUS_B = BASE["tree"], BASE["minus_a"], BASE["minus_b"]
_AMOUNT_A, _AMOUNT_B, _AMOUNT_C, _AMOUNT_D = BASE["amount_a"], BASE["amount_b"], BASE["amount_c"], BASE["amount_d"]
_CODED_D = BASE["coded_d"]


def _by_state(name: str, which: Ints) -> Ints:
    """Where the contexts of a name start in each state."""
    return np.where(which > 0, BASE[f"{name}_states"] + (which - 1) * _sizes[name], BASE[name])


SIG_A_AT, SIG_B_AT, SIG_D_AT = (_by_state(name, SIG_SET) for name in ("sig_a", "sig_b", "sig_d"))
GT1_A_AT, GT1_B_AT = (_by_state(name, GT1_SET) for name in ("gt1_a", "gt1_b"))

# weight sets
W_ON, W_SPLIT, W_ZERO, W_MPM, W_ANGLE, W_CODED, W_LAST = 0, 1, 2, 3, 4, 5, 6
W_LOW, W_SIG, W_GT1, W_GTN = 7, 8, 8 + 3 * SIZES, 8 + 4 * SIZES
W_SIG_STATES, W_GT1_STATES = W_GTN + 3, W_GTN + 3 + 2 * 3 * SIZES
W_MORE, W_RANK, W_TREE, W_MINUS, W_AMOUNT = tuple(range(W_GT1_STATES + SIZES, W_GT1_STATES + SIZES + 5))
W_CROSS = W_AMOUNT + 1
WEIGHT_SETS = W_CROSS + 1
SETS_OF = {
    0: (0, W_SIG_STATES),
    TRELLIS: (W_SIG_STATES, W_MORE),
    PATTERNS: (W_MORE, W_CROSS),
    CROSS: (W_CROSS, WEIGHT_SETS),
}
"""Weight sets likewise."""
W_SIG_AT = np.where(SIG_SET > 0, W_SIG_STATES + (SIG_SET - 1) * 3 * SIZES, W_SIG)
W_GT1_AT = np.where(GT1_SET > 0, W_GT1_STATES, W_GT1)

RAW_KINDS = RAW_LAST, RAW_ESCAPE, RAW_SIGN, RAW_FILTER, RAW_AMOUNT = tuple(range(WEIGHT_SETS, WEIGHT_SETS + 5))
"""What decisions without a model are about; those with one are told apart by their weight set."""
W_LOOP = WEIGHT_SETS + 5
"""Weight set, among models of its own, and kind of the decisions of `wiener`."""

KIND_NAMES = (
    ["superblock on", "split", "mode", "mode", "mode", "block coded", "last place", "last place"]
    + ["level not 0"] * (W_GT1 - W_SIG)
    + ["level size"] * (W_SIG_STATES - W_GT1)
    + ["level not 0"] * (W_GT1_STATES - W_SIG_STATES)
    + ["level size"] * (W_MORE - W_GT1_STATES)
    + ["pattern"] * (W_CROSS - W_MORE)
    + ["mode"]
    + ["last place", "level size", "sign", "filter", "pattern", "filter"]
)
"""Of each kind of decision, for people."""


RIM = 36
"""Width of the array of template sums: a block of up to 32 and a rim of two on two sides."""
ROOM = SUPER * SUPER * 64
"""More decisions than a superblock can have."""
FIRST_PLACE = np.array([0, 16, 80, 336, 1360], dtype=np.int64)
"""Where the scan of a size class starts in `PLACE`."""


def _places() -> Ints:
    """What each place of a scan says by itself, [2384, 8] int32: u, v, then its parts of contexts."""
    rows = []
    for s in range(SIZES):
        n = min(4 << s, 32)
        half = 0 if s < 2 else 1
        for i, (u, v) in enumerate(sorted(((u, v) for u in range(n) for v in range(n)), key=lambda c: (sum(c), c[0]))):
            across, down = _PLACE[u], _PLACE[v]
            diagonal = _DIAGONAL[u + v]
            rows.append((
                u, v, (s * DIAGONALS + diagonal) * SUMS, (s * PLACES + down) * PLACES + across,
                min(4, down >> half) * 5 + min(4, across >> half), min(4, down) * 5 + min(4, across),
                min(7, i.bit_length()), diagonal,
            ))  # fmt: skip
    return np.array(rows, dtype=np.int32)


PLACE = _places()


@jit_inner()
def zero_class(around: int) -> int:
    """Class of a template sum, or of its class in SUM_CLASS, that "not 0" has weights for: none, some, many."""
    return 0 if around == 0 else 1 if around < 4 else 2


@jit_inner()
def contexts(
    k: int, s: int, row: int, around: int, kind: int, near: int, filled: int, state: int
) -> tuple[int, int, int, int, int]:
    """Contexts and weight set of "is this level larger than k".

    Args:
        s: size class 0..4.   row: of the place in PLACE.   around: template sum.   kind, near: of the block.
        filled: levels' sum so far.   state: 0 but with the tool `trellis`.
    """
    t = min(around, 32)
    f = BIT_LENGTH[min(filled, 127)]
    if k > 1:
        i = k - 1
        a, b = GTN_A + i * SUMS + SUM_CLASS[t], GTN_B + i * DIAGONALS + PLACE[row, 7]
        return a, b, GTN_C + i * NEAR + near, GTN_D + i * FULL + f, W_GTN + min(2, i - 1)
    a, b, d = PLACE[row, 2] + SUM_CLASS[t], I64(PLACE[row, 3]), (s * FULL + f) * FULL + PLACE[row, 6]
    if k == 1:
        c = GT1_C + (kind * NEAR + near) * 25 + PLACE[row, 5]
        return GT1_A_AT[state] + a, GT1_B_AT[state] + b, c, GT1_D + d, W_GT1_AT[state] + s
    z = zero_class(t)
    c = SIG_C + ((min(2, (s + 1) >> 1) * KINDS + kind) * NEAR + near) * 25 + PLACE[row, 4]
    return SIG_A_AT[state] + a, SIG_B_AT[state] + b * 3 + z, c, SIG_D_AT[state] + d, W_SIG_AT[state] + s * 3 + z


@jit_inner()
def clear_template(around: Ints, s: int) -> None:
    """Template sums of a block without levels."""
    for i in range(min(4 << s, 32) * RIM + 2 * RIM):
        around[i] = 0


@jit_inner()
def add_template(around: Ints, at: int, size: int) -> None:
    """A level of magnitude `size` at `at` raises the sums of the places that it is in the template of."""
    size = min(size, 15)
    around[at - 1] += 2 * size
    around[at - RIM] += 2 * size
    around[at - RIM - 1] += size
    around[at - 2] += size
    around[at - 2 * RIM] += size


@jit_inner()
def code_last(m: Ints, io: Ints, last: int, s: int, near: int, kind: int) -> int:
    """Place of the last level in the scan; one beyond the block, as only damage says, sets `io[BROKEN]`."""
    top = 2 * min(s + 2, 5)  # length classes 0..top of last + 1
    length = 0
    while (last + 1) >> (length + 1):
        length += 1
    h = HALF_CONTEXT
    k = 0
    while k < top:
        a, b = LAST_A + (s * 11 + k) * NEAR + near, LAST_B + (s * 11 + k) * KINDS + kind
        if not code(m, io, 1 if length > k else 0, a, b, h, h, W_LAST):
            break
        k += 1
    value = 1
    for i in range(k):
        bit = (last + 1) >> (k - 1 - i) & 1
        if i < 2:
            a = LOW_A + (s * 11 + k) * 4 + (i if i == 0 else 1 + (value & 1) + 1)
            bit = code(m, io, bit, a, h, h, h, W_LOW)
        else:
            bit = code_raw(io, bit, RAW_LAST)
        value = value << 1 | bit
    # The topmost length class says more than the block has: every loop after this one takes the place as an index.
    places = min(1024, 16 << 2 * s)
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
    m: Ints, io: Ints, level: Ints, x0: int, y0: int, s: int, kind: int, near: int, last: int, trellis: bool,
    around: Ints,
) -> int:  # fmt: skip
    """Levels of the block at (x0, y0) of the plane, last first; returns the sum of their magnitudes.

    trellis: the array holds, and receives, in place of a level the multiple of half a step that it stands for.
    """
    last = code_last(m, io, last, s, near, kind)
    clear_template(around, s)
    first = FIRST_PLACE[s]
    filled, state = 0, I64(0)
    for i in range(last, -1, -1):
        row = first + i
        u, v = I64(PLACE[row, 0]), I64(PLACE[row, 1])
        at = (v + 2) * RIM + u + 2
        value = I64(level[y0 + v, x0 + u])
        size = (abs(value) + 1) >> 1 if trellis else abs(value)
        k = 1 if i == last else 0
        while k < MAX_FLAGS:
            c0, c1, c2, c3, w = contexts(k, s, row, I64(around[at]), kind, near, filled, state)
            if not code(m, io, 1 if size > k else 0, c0, c1, c2, c3, w):
                break
            k += 1
        if k:
            if k == MAX_FLAGS:
                k += code_escape(io, max(0, size - MAX_FLAGS), RAW_ESCAPE)
            minus = code_raw(io, 1 if value < 0 else 0, RAW_SIGN)
            drawn = 2 * k - ODD[state] if trellis else k
            level[y0 + v, x0 + u] = -drawn if minus else drawn
            add_template(around, at, k)
            filled += k
        if trellis:
            state = NEXT_STATE[state, k & 1]
    return filled


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
def mode_contexts(flag: int, left: int, above: int, s: int) -> tuple[int, int]:
    """Contexts of "is the mode zero" (flag 0) and "is it the flag-th most probable one" (1..3)."""
    if flag == 0:
        zeros = (1 if left == ZERO else 0) + (1 if above == ZERO else 0)
        return _ZERO_A + zeros * SIZES + s, _ZERO_B + zeros
    same = 0 if left != above else 1 if left < FIRST_ANGLE else 2
    return _MPM + (flag - 1) * SIZES + s, _MPM_B + same * 3 + flag - 1


@jit_inner()
def cross_contexts(left: int, above: int, s: int) -> tuple[int, int]:
    """Contexts of "is the block predicted from guides"."""
    a = 0 if left == ZERO else 1 if left < FIRST_CROSS else 2
    b = 0 if above == ZERO else 1 if above < FIRST_CROSS else 2
    return _CROSS_A + ((a >> 1) + (b >> 1)) * SIZES + s, _CROSS_B + 3 * a + b


@jit_inner()
def way_context(way: int, left: int, above: int) -> int:
    """Context of "is it this way, then", in which that is asked one after another."""
    near = (1 if left == FIRST_CROSS + way else 0) + (1 if above == FIRST_CROSS + way else 0)
    return _WAY + 3 * way + near


@jit_inner()
def code_mode(m: Ints, io: Ints, chosen: int, left: int, above: int, s: int, ways: int) -> int:
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


@jit_inner()
def may_draw(tools: int, log2: int) -> bool:
    """True for squares that may add patterns."""
    return log2 > 2 and (tools & PATTERNS) != 0


@jit_inner()
def drawn_near(field: Field, x: int, y: int) -> int:
    """How many of the squares to the left and above unit (x, y) add patterns."""
    left = 1 if x > 0 and field.layers[y, x - 1] else 0
    return left + (1 if y > 0 and field.layers[y - 1, x] else 0)


@jit_inner()
def more_contexts(layer: int, s: int, drawn: int, kind: int, near: int, mode: int) -> tuple[int, int, int, int]:
    """Contexts of "has the square another layer", behind `layer` of them."""
    later = 1 if layer else 0
    a = _MORE_A + (s * MAX_LAYERS + layer) * 3 + drawn
    b, c = _MORE_B + (s * KINDS + kind) * 2 + later, _MORE_C + (near * SIZES + s) * 2 + later
    return a, b, c, _MORE_D + (mode if mode < FIRST_CROSS else MEAN) * 2 + later


@jit_inner()
def rank_contexts(k: int, s: int, kind: int, near: int, layer: int) -> tuple[int, int, int, int]:
    """Contexts of "is the class of the entry's rank above k"."""
    a, b = _RANK_A + s * (RANK_BITS + 1) + k, _RANK_B + kind * (RANK_BITS + 1) + k
    return a, b, _RANK_C + near * (RANK_BITS + 1) + k, _RANK_D + layer * (RANK_BITS + 1) + k


@jit_inner()
def minus_contexts(s: int, kind: int, rank: int) -> tuple[int, int]:
    """Contexts of an amount's sign; `rank` is the class of the entry's."""
    return _MINUS_A + s * KINDS + kind, _MINUS_B + s * (RANK_BITS + 1) + rank


@jit_inner()
def amount_contexts(k: int, s: int, kind: int, near: int, rank: int) -> tuple[int, int, int, int]:
    """Contexts of "is the amount's magnitude above k + 1"."""
    a, b = _AMOUNT_A + s * MAX_AMOUNT_FLAGS + k, _AMOUNT_B + near * MAX_AMOUNT_FLAGS + k
    return a, b, _AMOUNT_C + rank * MAX_AMOUNT_FLAGS + k, _AMOUNT_D + kind * MAX_AMOUNT_FLAGS + k


@jit_inner()
def bit_length(value: int) -> int:
    """Bits of a positive number below its highest."""
    length = 0
    while value >> (length + 1):
        length += 1
    return length


@jit_inner()
def code_layers(m: Ints, io: Ints, field: Field, x: int, y: int, s: int, mode: int, near: int) -> int:
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
def activity(total: int, log2: int) -> int:
    """How much a coded block holds, 1..3, from the sum of its levels over its area."""
    return 1 if 16 * total < 1 << 2 * log2 else 2 if 16 * total < 4 << 2 * log2 else 3


@jit_inner()
def mark(field: Field, x0: int, y0: int, w: int, h: int, mode: int, log2: int, active: int, layers: int) -> None:
    """Note what is known of a rectangle of units."""
    for y in range(y0, y0 + h):
        for x in range(x0, x0 + w):
            field.mode[y, x], field.size[y, x], field.active[y, x] = mode, log2, active
            field.layers[y, x] = layers


@jit_inner()
def neighbours(field: Field, x: int, y: int) -> tuple[int, int, int, int]:
    """Of the block at unit (x, y): modes left and above, activities left and above."""
    left, above, a, b = MEAN, MEAN, 0, 0
    if x > 0:
        left, a = I64(field.mode[y, x - 1]), I64(field.active[y, x - 1])
    if y > 0:
        above, b = I64(field.mode[y - 1, x]), I64(field.active[y - 1, x])
    return left, above, a, b


@jit_inner()
def coded_contexts(s: int, kind: int, a: int, b: int, layers: int, tools: int) -> tuple[int, int, int, int]:
    """Contexts of "has the block levels", from its neighbours' activities and its own layers."""
    d = _CODED_D + s * (MAX_LAYERS + 1) + layers if tools & PATTERNS else HALF_CONTEXT
    return CODED_A + s * NEAR + a + b, CODED_B + s * KINDS + kind, CODED_C + a * 4 + b, d


@jit_inner()
def split_contexts(field: Field, x: int, y: int, log2: int) -> tuple[int, int]:
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
    return _SPLIT_A + (log2 - 2) * 9 + near, _SPLIT_B + (log2 - 2) * 11 + busy


@jit_inner()
def on_context(field: Field, x: int, y: int) -> int:
    """Context of "has superblock (x, y) a residual"."""
    near = (I64(field.on[y, x - 1]) if x > 0 else 1) + (I64(field.on[y - 1, x]) if y > 0 else 1)
    return _ON + near


@jit_inner()
def last_level(level: Ints, x0: int, y0: int, s: int) -> int:
    """Place of the last level that is not 0 in the scan, -1 if there is none."""
    first = FIRST_PLACE[s]
    for i in range(min(1024, 16 << 2 * s) - 1, -1, -1):
        if level[y0 + PLACE[first + i, 1], x0 + PLACE[first + i, 0]]:
            return i
    return -1


@jit_inner()
def code_leaf(m: Ints, io: Ints, field: Field, x0: int, y0: int, log2: int, around: Ints) -> None:
    """One block and its place in the field."""
    x, y, s = x0 >> 2, y0 >> 2, log2 - 2
    left, above, a, b = neighbours(field, x, y)
    mode = code_mode(m, io, I64(field.mode[y, x]), left, above, s, WAYS[field.guides.shape[0]])
    kind = KIND[mode]
    layers = code_layers(m, io, field, x, y, s, mode, a + b) if may_draw(field.tools, log2) else 0
    c0, c1, c2, c3 = coded_contexts(s, kind, a, b, layers, field.tools)
    active = code(m, io, 1 if field.active[y, x] else 0, c0, c1, c2, c3, W_CODED)
    if active:
        rows, cols = field.level.shape
        u, v = x0 % cols, y0 % rows
        last = 0 if io[MODE] == DECODE else last_level(field.level, u, v, s)
        trellis = (field.tools & TRELLIS) != 0
        active = activity(code_levels(m, io, field.level, u, v, s, kind, a + b, last, trellis, around), log2)
    mark(field, x, y, 1 << s, 1 << s, mode, log2, active, layers)


@jit_inner()
def code_super(m: Ints, io: Ints, field: Field, x0: int, y0: int, stack: Ints, around: Ints) -> None:
    """One superblock: the field holds it (ENCODE) or receives it (DECODE).

    Args:
        m: models.   io: see `context_models`.   x0, y0: of its first pixel.   stack: [20, 3] int64, work space.
        around: [38 * RIM] int32, work space.
    """
    H, W = field.size.shape[0] * UNIT, field.size.shape[1] * UNIT
    x, y, h = x0 >> SUPER_LOG2, y0 >> SUPER_LOG2, HALF_CONTEXT
    on = code(m, io, I64(field.on[y, x]), on_context(field, x, y), h, h, h, W_ON)
    field.on[y, x] = on
    if not on:
        wide, high = min(SUPER, W - x0) >> 2, min(SUPER, H - y0) >> 2
        mark(field, x0 >> 2, y0 >> 2, wide, high, ZERO, SUPER_LOG2, 0, 0)
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
        code_leaf(m, io, field, x, y, log2, around)


@jit_entry()
def write_plane(m: Ints, io: Ints, field: Field, first: int, room: int, stack: Ints, around: Ints) -> int:
    """Superblocks from number `first` on, until `io` has less than `room` left; returns the number of the next one.

    Arguments as of `code_super`.
    """
    across = field.on.shape[1]
    i = first
    while i < field.on.size and len(io) - io[FILL] >= room:
        code_super(m, io, field, i % across << SUPER_LOG2, i // across << SUPER_LOG2, stack, around)
        i += 1
    return i
