"""The contexts of each decision of a residual stream: what counters and weights it is predicted by.

Each decision has up to four contexts: of levels, those already known around it with its diagonal, its own frequency,
the neighbouring blocks with the direction of the prediction, and how full the block has been so far.
With the tool `trellis` there are two quantizers, of even and of odd multiples of half a step: the parities of the
levels before move a state, which says to which of them a level belongs, and with which contexts it is coded.
Sources: the template of levels is that of ITU-T H.266, 9.3.4.2, the states are those of its dependent quantization.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import HALF_CONTEXT, I64, U64, jit_inner
from pc15.residual.cross import ALL_MODES, FIRST_CROSS
from pc15.residual.intra import FIRST_ANGLE, HORIZONTAL, MEAN, MODES, VERTICAL, ZERO
from pc15.residual.shapes import (
    ALL_SIZES,
    CODED_HIGH,
    CODED_WIDE,
    LEAST_CUT,
    MOST_CUT,
    PART_SIZES,
    PLACES_OF,
    SHAPES,
    SIZE,
    SIZES,
    TALL,
)
from pc15.residual.tools import BORDERS, CROSS, PATTERNS, SPLITS, TRELLIS

Ints = npt.NDArray[Any]

MAX_LAYERS = 4
"""Patterns that a square may add."""
RANK_BITS = 10
"""Entries of a size's codebook have numbers below 2^RANK_BITS - 1."""
MAX_AMOUNT_FLAGS = 14
MAX_FLAGS = 14
LIKELY_MODES = 5
"""Modes in the order of `order` that have a flag each."""
ORDER_BINS = 32
"""Classes of what scores say of a flag."""
SIGN_BINS, SIGN_SIDES = 10, 9
"""Classes of the odds of a sign, and of what one side of a block says of them; see `signs`."""


# ------------------------------------------------------------------ classes

PLACES = 10
SUM_CLASS = np.array([0, 1, 2, 3, 4, 5, 6, 6, 7, 7, 8, 8, 8, 9, 9, 9, 9] + [10] * 8 + [11] * 8, dtype=np.int64)
SUMS = 12
_PLACE = [0, 1, 2, 3, 4, 4, 5, 5] + [6] * 4 + [7] * 4 + [8] * 8 + [9] * 8
_DIAGONAL = [0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5] + [6] * 9 + [7] * 40
DIAGONALS = 8
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
TURNED_KIND = np.array([0, 2, 1, 3], dtype=np.int64)
"""The same with rows and columns exchanged, as blocks that are higher than wide are looked at."""
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
_CUT_SIZES = MOST_CUT - LEAST_CUT + 1
_by_state = {"sig_a": 2, "sig_b": 2, "sig_d": 2, "gt1_a": 1, "gt1_b": 1}
"""Times that the other states of `trellis` have more of something."""
_by_size = ("zero_a", "mpm", "coded_a", "coded_b", "last_a", "last_b", "low_a", "gt1_d", *_by_state)
"""Names that parts of squares have more of, for their own size classes, and some of them for those states."""
_sizes_of = {
    0: _sizes,
    TRELLIS: {f"{_name}_states": _more * _sizes[_name] for _name, _more in _by_state.items()},
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
    SPLITS: {
        "cut_a": 2 * _CUT_SIZES * 3 * 3,
        "cut_b": 2 * _CUT_SIZES * NEAR,
        "cut_c": 2 * _CUT_SIZES * 9,
        "again_a": 2 * _CUT_SIZES * 2 * 4,
        "again_b": 2 * _CUT_SIZES * NEAR,
        "again_c": 2 * _CUT_SIZES * 9,
        **{f"{_name}_parts": _sizes[_name] // SIZES * PART_SIZES for _name in _by_size},
        **{f"{_name}_parts_states": _more * _sizes[_name] // SIZES * PART_SIZES for _name, _more in _by_state.items()},
    },
    BORDERS: {
        "said": 1,
        "order_a": LIKELY_MODES * ALL_SIZES,
        "order_b": LIKELY_MODES * ORDER_BINS,
        "order_c": LIKELY_MODES * ALL_SIZES * 6,
        "order_tree": 32,
        "sign_a": 9 * SIGN_BINS,
        "sign_b": SIGN_SIDES * SIGN_SIDES,
        "sign_c": 16 * SIGN_BINS,
    },
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

ON, SPLIT_A, SPLIT_B = BASE["on"], BASE["split_a"], BASE["split_b"]
_ZERO_B, _MPM_B, ANGLE_TREE = BASE["zero_b"], BASE["mpm_b"], BASE["angle"]
_CODED_C, SIG_C, GT1_C = BASE["coded_c"], BASE["sig_c"], BASE["gt1_c"]
GTN_A, GTN_B, GTN_C, GTN_D = BASE["gtn_a"], BASE["gtn_b"], BASE["gtn_c"], BASE["gtn_d"]
_CROSS_A, _CROSS_B, _WAY = BASE["cross_a"], BASE["cross_b"], BASE["way"]
_MORE_A, _MORE_B, _MORE_C, _MORE_D = BASE["more_a"], BASE["more_b"], BASE["more_c"], BASE["more_d"]
_RANK_A, _RANK_B, _RANK_C, _RANK_D = BASE["rank_a"], BASE["rank_b"], BASE["rank_c"], BASE["rank_d"]
RANK_TREE, _MINUS_A, _MINUS_B = BASE["tree"], BASE["minus_a"], BASE["minus_b"]
_AMOUNT_A, _AMOUNT_B, _AMOUNT_C, _AMOUNT_D = BASE["amount_a"], BASE["amount_b"], BASE["amount_c"], BASE["amount_d"]
_CODED_D = BASE["coded_d"]
_CUT_A, _CUT_B, _CUT_C = BASE["cut_a"], BASE["cut_b"], BASE["cut_c"]
_AGAIN_A, _AGAIN_B, _AGAIN_C = BASE["again_a"], BASE["again_b"], BASE["again_c"]
SAID = I64(BASE["said"])
"""A context that says what it is told to before each decision, and learns nothing."""
ORDER_A, ORDER_B, ORDER_C, ORDER_TREE = BASE["order_a"], BASE["order_b"], BASE["order_c"], BASE["order_tree"]
SIGN_A, SIGN_B, SIGN_C = BASE["sign_a"], BASE["sign_b"], BASE["sign_c"]


def _of_parts(name: str, more: str = "") -> int:
    """Where the contexts of a name would start for size class 0, were those of parts numbered on from squares'."""
    return BASE[f"{name}_parts{more}"] - _sizes[name]


_ZERO_A_AT, _MPM_AT, _CODED_A_AT, _CODED_B_AT, LAST_A_AT, LAST_B_AT, LOW_A_AT, GT1_D_AT = (
    np.array([BASE[name], _of_parts(name)]) for name in _by_size[:8]
)
"""Where contexts start for squares, and for parts of squares."""


def _in_states(name: str, which: Ints) -> Ints:
    """The same in each state: four numbers for squares, then four for parts."""
    own, parts = _sizes[name], _sizes[name] // SIZES * PART_SIZES
    further = np.maximum(which - 1, 0)
    squares = np.where(which > 0, BASE[f"{name}_states"] + further * own, BASE[name])
    return np.concatenate((squares, np.where(which > 0, _of_parts(name, "_states") + further * parts, _of_parts(name))))


SIG_A_AT, SIG_B_AT, SIG_D_AT = (_in_states(name, SIG_SET) for name in ("sig_a", "sig_b", "sig_d"))
GT1_A_AT, GT1_B_AT = (_in_states(name, GT1_SET) for name in ("gt1_a", "gt1_b"))

# weight sets
W_ON, W_SPLIT, W_ZERO, W_MPM, W_ANGLE, W_CODED, W_LAST = map(I64, range(7))
W_LOW, W_SIG, W_GT1, W_GTN = map(I64, (7, 8, 8 + 3 * SIZES, 8 + 4 * SIZES))
W_SIG_STATES, W_GT1_STATES = W_GTN + 3, W_GTN + 3 + 2 * 3 * SIZES
W_MORE, W_RANK, W_TREE, W_MINUS, W_AMOUNT = (W_GT1_STATES + SIZES + i for i in range(5))
W_CROSS = W_AMOUNT + 1
W_CUT, W_AGAIN, W_SIG_PARTS = W_CROSS + 1, W_CROSS + 3, W_CROSS + 5
W_GT1_PARTS = W_SIG_PARTS + 3 * 3 * PART_SIZES
W_ORDER = W_GT1_PARTS + 2 * PART_SIZES
W_ORDER_TREE = W_ORDER + LIKELY_MODES
W_SIGN = W_ORDER_TREE + 1
WEIGHT_SETS = W_SIGN + 1
SETS_OF = {
    0: (0, W_SIG_STATES),
    TRELLIS: (W_SIG_STATES, W_MORE),
    PATTERNS: (W_MORE, W_CROSS),
    CROSS: (W_CROSS, W_CUT),
    SPLITS: (W_CUT, W_ORDER),
    BORDERS: (W_ORDER, WEIGHT_SETS),
}
"""Weight sets likewise."""
_squares, _parts = np.where(SIG_SET > 0, W_SIG_STATES + (SIG_SET - 1) * 3 * SIZES, W_SIG), 3 * PART_SIZES * SIG_SET
W_SIG_AT = np.concatenate((_squares, W_SIG_PARTS - 3 * SIZES + _parts))
_squares, _parts = np.where(GT1_SET > 0, W_GT1_STATES, W_GT1), PART_SIZES * GT1_SET
W_GT1_AT = np.concatenate((_squares, W_GT1_PARTS - SIZES + _parts))
"""By state, of squares and then of parts, as above."""

RAW_KINDS = RAW_LAST, RAW_ESCAPE, RAW_SIGN, RAW_FILTER, RAW_AMOUNT = tuple(WEIGHT_SETS + i for i in range(5))
"""Kinds of decisions without a model; those with one are told apart by their weight set."""
W_LOOP = WEIGHT_SETS + 5
"""Weight set, among models of its own, and kind of the decisions of `wiener`."""

KIND_NAMES = (
    ["superblock on", "split", "mode", "mode", "mode", "block coded", "last place", "last place"]
    + ["level not 0"] * (W_GT1 - W_SIG)
    + ["level size"] * (W_SIG_STATES - W_GT1)
    + ["level not 0"] * (W_GT1_STATES - W_SIG_STATES)
    + ["level size"] * (W_MORE - W_GT1_STATES)
    + ["pattern"] * (W_CROSS - W_MORE)
    + ["mode", "split", "split", "split", "split"]
    + ["level not 0"] * (W_GT1_PARTS - W_SIG_PARTS)
    + ["level size"] * (W_ORDER - W_GT1_PARTS)
    + ["mode"] * (W_SIGN - W_ORDER)
    + ["sign"]
    + ["last place", "level size", "sign", "filter", "pattern", "filter"]
)
"""Name of each kind of decision, for people."""
FIRST_PLACE = np.cumsum([0, *PLACES_OF[:-1]], dtype=np.int64)
"""Where the scan of a shape starts in `PLACE`."""
SQUARE = np.array([0, 1, 2, 3, 4, 1, 2, 3, 2, 3], dtype=np.int64)
"""Size class of the square that is as long as the longer side."""
SIG_C_SIZE = np.array([0, 1, 1, 2, 2, 1, 1, 2, 1, 2], dtype=np.int64)
"""Size classes taken together where "not 0" is predicted by neighbours and direction."""


def _places() -> Ints:
    """Parts of contexts that each place of a scan says by itself, [n, 8] int32: u, v, then its parts of contexts.

    Those of shapes that are higher than wide have rows and columns exchanged.
    """
    rows = []
    for shape in range(SHAPES):
        s, wide, high = int(SIZE[shape]), CODED_WIDE[shape], CODED_HIGH[shape]
        half = 0 if max(wide, high) < 16 else 1
        places = ((u, v) for u in range(wide) for v in range(high))
        for i, (u, v) in enumerate(sorted(places, key=lambda c: (sum(c), c[0]))):
            across, down = (_PLACE[v], _PLACE[u]) if TALL[shape] else (_PLACE[u], _PLACE[v])
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
def of_part(s: int) -> int:
    """1 for size classes of parts of squares, 0 for those of squares."""
    return 1 if s >= SIZES else 0


@jit_inner()
def contexts(
    k: int, s: int, row: int, around: int, kind: int, near: int, filled: int, state: int
) -> tuple[int, int, int, int, int]:
    """Contexts and weight set of "is this level larger than k".

    Args:
        s: size class.   row: of the place in PLACE.   around: template sum.   kind, near: of the block.
        filled: levels' sum so far.   state: 0 but with the tool `trellis`.
    """
    t, at = U64(min(around, 32)), U64(row)
    f = BIT_LENGTH[U64(min(filled, 127))]
    if k > 1:
        i = k - 1
        a, b = GTN_A + i * SUMS + SUM_CLASS[t], GTN_B + i * DIAGONALS + PLACE[at, 7]
        return a, b, GTN_C + i * NEAR + near, GTN_D + i * FULL + f, W_GTN + min(2, i - 1)
    a, b, d = PLACE[at, 2] + SUM_CLASS[t], I64(PLACE[at, 3]), (s * FULL + f) * FULL + PLACE[at, 6]
    own = U64(state if s < SIZES else STATES + state)
    if k == 1:
        c = GT1_C + (kind * NEAR + near) * 25 + PLACE[at, 5]
        return GT1_A_AT[own] + a, GT1_B_AT[own] + b, c, GT1_D_AT[U64(of_part(s))] + d, W_GT1_AT[own] + s
    z = zero_class(I64(t))
    c = SIG_C + ((SIG_C_SIZE[U64(s)] * KINDS + kind) * NEAR + near) * 25 + PLACE[at, 4]
    return SIG_A_AT[own] + a, SIG_B_AT[own] + b * 3 + z, c, SIG_D_AT[own] + d, W_SIG_AT[own] + s * 3 + z


@jit_inner()
def mode_contexts(flag: int, left: int, above: int, s: int) -> tuple[int, int]:
    """Contexts of "is the mode zero" (flag 0) and "is it the flag-th most probable one" (1..3)."""
    if flag == 0:
        zeros = (1 if left == ZERO else 0) + (1 if above == ZERO else 0)
        return _ZERO_A_AT[of_part(s)] + (zeros * SIZES + s if s < SIZES else zeros + 3 * s), _ZERO_B + zeros
    same = 0 if left != above else 1 if left < FIRST_ANGLE else 2
    at = (flag - 1) * SIZES + s if s < SIZES else flag - 1 + 3 * s
    return _MPM_AT[of_part(s)] + at, _MPM_B + same * 3 + flag - 1


@jit_inner()
def cross_contexts(left: int, above: int, s: int) -> tuple[int, int]:
    """Contexts of "is the block predicted from guides"."""
    a = 0 if left == ZERO else 1 if left < FIRST_CROSS else 2
    b = 0 if above == ZERO else 1 if above < FIRST_CROSS else 2
    return _CROSS_A + ((a >> 1) + (b >> 1)) * SIZES + SQUARE[s], _CROSS_B + 3 * a + b


@jit_inner()
def way_context(way: int, left: int, above: int) -> int:
    """Context of "is it this way, then", in which that is asked one after another."""
    near = (1 if left == FIRST_CROSS + way else 0) + (1 if above == FIRST_CROSS + way else 0)
    return _WAY + 3 * way + near


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
def coded_contexts(s: int, kind: int, a: int, b: int, layers: int, tools: int) -> tuple[int, int, int, int]:
    """Contexts of "has the block levels", from its neighbours' activities and its own layers."""
    d = _CODED_D + s * (MAX_LAYERS + 1) + layers if tools & PATTERNS and s < SIZES else HALF_CONTEXT
    own = of_part(s)
    return _CODED_A_AT[own] + s * NEAR + a + b, _CODED_B_AT[own] + s * KINDS + kind, _CODED_C + a * 4 + b, d


@jit_inner()
def cut_contexts(way: int, log2: int, left: int, above: int, busy: int, near: int) -> tuple[int, int, int]:
    """Contexts of "is the square cut" (way 0) and "into a left and a right half, then" (1).

    Args:
        left, above: how the neighbours are cut first.   busy, near: see `tree.cut_near`.
    """
    at = way * _CUT_SIZES + log2 - LEAST_CUT
    return _CUT_A + (at * 3 + left) * 3 + above, _CUT_B + at * NEAR + busy, _CUT_C + at * 9 + near


@jit_inner()
def again_contexts(way: int, log2: int, cut: int, before: int, busy: int, near: int) -> tuple[int, int, int]:
    """Contexts of "is the half cut again" (way 0) and "across the first cut, then" (1).

    Args:
        cut: the first one.   before: 0 for the first half; of the second how the first one is cut again, plus 1.
    """
    at = way * _CUT_SIZES + log2 - LEAST_CUT
    return _AGAIN_A + (at * 2 + cut - 1) * 4 + before, _AGAIN_B + at * NEAR + busy, _AGAIN_C + at * 9 + near


def parts_like_squares() -> tuple[Ints, Ints]:
    """Contexts of parts beside those of squares as long as they are, [n, 2], and weight sets likewise: for training.

    Models of parts that start there before they are trained end better than those that start from nothing.
    """
    pairs, sets = [], []
    for part, like in enumerate(SQUARE[SIZES:].tolist()):
        for name in _by_size:
            own = _sizes[name] // SIZES
            for i in range(own):
                # three classes of sizes in a row, not sizes of three in a row
                at = i * SIZES + like if name in ("zero_a", "mpm") else like * own + i
                pairs.append((BASE[f"{name}_parts"] + part * own + i, BASE[name] + at))
                for more in range(_by_state.get(name, 0)):
                    first = BASE[f"{name}_parts_states"] + (more * PART_SIZES + part) * own
                    pairs.append((first + i, BASE[f"{name}_states"] + (more * SIZES + like) * own + i))
        for state in range(STATES):
            sets += [
                (W_SIG_AT[STATES + state] + 3 * (SIZES + part) + z, W_SIG_AT[state] + 3 * like + z) for z in range(3)
            ]
            sets.append((W_GT1_AT[STATES + state] + SIZES + part, W_GT1_AT[state] + like))
    return np.array(pairs, dtype=np.int64), np.array(sets, dtype=np.int64)
