"""Costs of levels, as the models stand: sums of four numbers from tables that are made once per superblock.

The chance of a decision is the squashed sum of four products, weight by stretched probability, see `context_models`.
Models do not learn while a superblock is searched: every product is taken once, and the many blocks of the search only
add.  Tables are ordered as the contexts of `syntax.contexts`, and the sums stand for the same chances.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import COST, I64, SQUASH, U64, jit_inner
from pc15.residual.contexts import (
    DIAGONALS,
    FULL,
    GT1_A_AT,
    GT1_B_AT,
    GT1_C,
    GT1_D_AT,
    GTN_A,
    GTN_B,
    GTN_C,
    GTN_D,
    KINDS,
    MAX_FLAGS,
    NEAR,
    PLACE,
    PLACES,
    SIG_A_AT,
    SIG_B_AT,
    SIG_C,
    SIG_C_SIZE,
    SIG_D_AT,
    STATES,
    SUMS,
    W_GT1_AT,
    W_GTN,
    W_SIG_AT,
    of_part,
    zero_class,
)
from pc15.residual.shapes import ALL_SIZES, SIZES

Ints = npt.NDArray[Any]

_CORNER = 25  # classes of a place near the origin
_BLOCKS = KINDS * NEAR  # kinds of blocks that contexts know, of one size
_ZEROS = 3  # classes of template sums that "not 0" has weights for

# Lengths of the tables of one set, and where they start.
SIG_A_SET, SIG_B_SET = ALL_SIZES * DIAGONALS * SUMS, ALL_SIZES * PLACES * PLACES * _ZEROS
SIG_C_SET, SIG_D_SET = ALL_SIZES * _BLOCKS * _CORNER * _ZEROS, ALL_SIZES * FULL * FULL * _ZEROS
GT1_A_SET, GT1_B_SET = ALL_SIZES * DIAGONALS * SUMS, ALL_SIZES * PLACES * PLACES
GT1_C_SET, GT1_D_SET = ALL_SIZES * _BLOCKS * _CORNER, ALL_SIZES * FULL * FULL
_lengths = [
    *(3 * n for n in (SIG_A_SET, SIG_B_SET, SIG_C_SET, SIG_D_SET)),
    *(2 * n for n in (GT1_A_SET, GT1_B_SET, GT1_C_SET, GT1_D_SET)),
    *(MAX_FLAGS * n for n in (SUMS, DIAGONALS, NEAR, FULL)),
]
_SIG_A, _SIG_B, _SIG_C, _SIG_D, _GT1_A, _GT1_B, _GT1_C, _GT1_D, _GTN_A, _GTN_B, _GTN_C, _GTN_D, ENTRIES = (
    sum(_lengths[:i]) for i in range(len(_lengths) + 1)
)

_HEAVIEST = (1 << 20) - 1
_DOTS = 2048
COSTS = np.array([[COST[(65536 - SQUASH[i]) >> 4], COST[SQUASH[i] >> 4]] for i in range(1, 2 * _DOTS)], np.float32)
"""Cost of a 0 and of a 1, in 1/4096 bit, whole numbers, by the sum of products less 1 - _DOTS, in stretched units."""


@jit_inner()
def _weight(w: int) -> int:
    """A weight, at most 16, so that its products fit the tables."""
    return min(max(I64(w), -_HEAVIEST), _HEAVIEST)


@jit_inner()
def price_levels(m: Ints, sets: int, sizes: int, table: Ints) -> None:
    """Fill the tables, [ENTRIES] int32, from models that stay as they are from here on.

    Args:
        sets: of contexts of "not 0" that the states choose among: 3 with the tool `trellis`, else 1.
        sizes: size classes: ALL_SIZES with the tool `splits`, else SIZES.
    """
    end = len(m) - 1
    for q in range(sets):
        for s in range(sizes):
            state = (0 if q == 0 else q + 1) + (0 if s < SIZES else STATES)
            for z in range(_ZEROS):
                w = end - (W_SIG_AT[state] + s * 3 + z)
                w0, w1, w2, w3 = _weight(m[w, 0]), _weight(m[w, 1]), _weight(m[w, 2]), _weight(m[w, 3])
                for diagonal in range(DIAGONALS):
                    at = (s * DIAGONALS + diagonal) * SUMS
                    for sums in range(SUMS):
                        if zero_class(sums) == z:
                            table[_SIG_A + q * SIG_A_SET + at + sums] = w0 * m[SIG_A_AT[state] + at + sums, 2]
                for i in range(PLACES * PLACES):
                    at = (s * PLACES * PLACES + i) * _ZEROS + z
                    table[_SIG_B + q * SIG_B_SET + at] = w1 * m[SIG_B_AT[state] + at, 2]
                from_c, to_c = SIG_C + SIG_C_SIZE[s] * _BLOCKS * _CORNER, _SIG_C + q * SIG_C_SET
                for i in range(_BLOCKS * _CORNER):
                    table[to_c + (s * _BLOCKS * _CORNER + i) * _ZEROS + z] = w2 * m[from_c + i, 2]
                for i in range(s * FULL * FULL, (s + 1) * FULL * FULL):
                    table[_SIG_D + q * SIG_D_SET + i * _ZEROS + z] = w3 * m[SIG_D_AT[state] + i, 2]
    for g in range(min(sets, 2)):
        for s in range(sizes):
            state = 2 * g + (0 if s < SIZES else STATES)
            d_at = GT1_D_AT[of_part(s)]
            w = end - (W_GT1_AT[state] + s)
            w0, w1, w2, w3 = _weight(m[w, 0]), _weight(m[w, 1]), _weight(m[w, 2]), _weight(m[w, 3])
            for i in range(s * DIAGONALS * SUMS, (s + 1) * DIAGONALS * SUMS):
                table[_GT1_A + g * GT1_A_SET + i] = w0 * m[GT1_A_AT[state] + i, 2]
            for i in range(s * PLACES * PLACES, (s + 1) * PLACES * PLACES):
                table[_GT1_B + g * GT1_B_SET + i] = w1 * m[GT1_B_AT[state] + i, 2]
            for i in range(_BLOCKS * _CORNER):
                table[_GT1_C + g * GT1_C_SET + s * _BLOCKS * _CORNER + i] = w2 * m[GT1_C + i, 2]
            for i in range(s * FULL * FULL, (s + 1) * FULL * FULL):
                table[_GT1_D + g * GT1_D_SET + i] = w3 * m[d_at + i, 2]
    for k in range(1, MAX_FLAGS - 1):
        w = end - (W_GTN + min(2, k - 1))
        for i in range(SUMS):
            table[_GTN_A + k * SUMS + i] = _weight(m[w, 0]) * m[GTN_A + k * SUMS + i, 2]
        for i in range(DIAGONALS):
            table[_GTN_B + k * DIAGONALS + i] = _weight(m[w, 1]) * m[GTN_B + k * DIAGONALS + i, 2]
        for i in range(NEAR):
            table[_GTN_C + k * NEAR + i] = _weight(m[w, 2]) * m[GTN_C + k * NEAR + i, 2]
        for i in range(FULL):
            table[_GTN_D + k * FULL + i] = _weight(m[w, 3]) * m[GTN_D + k * FULL + i, 2]


@jit_inner()
def sig_row(table: Ints, q: int, s: int, row: int, sums: int, block: int, full: int) -> int:
    """Row of COSTS of "is this level larger than 0".

    Args:
        q: set of contexts, SIG_SET of the state.   s: size class.   row: of the place in PLACE.
        sums: SUM_CLASS of the template sum.   block: kind * NEAR + near.   full: BIT_LENGTH of the levels' sum so far.
    """
    z = zero_class(sums)
    at = PLACE[U64(row)]
    return _row(
        _of(table, _SIG_A + q * SIG_A_SET + at[2] + sums)
        + _of(table, _SIG_B + q * SIG_B_SET + at[3] * _ZEROS + z)
        + _of(table, _SIG_C + q * SIG_C_SET + ((s * _BLOCKS + block) * _CORNER + at[4]) * _ZEROS + z)
        + _of(table, _SIG_D + q * SIG_D_SET + ((s * FULL + full) * FULL + at[6]) * _ZEROS + z)
    )


@jit_inner()
def gt1_row(table: Ints, g: int, s: int, row: int, sums: int, block: int, full: int) -> int:
    """Row of COSTS of "larger than 1"; g: GT1_SET of the state."""
    at = PLACE[U64(row)]
    return _row(
        _of(table, _GT1_A + g * GT1_A_SET + at[2] + sums)
        + _of(table, _GT1_B + g * GT1_B_SET + at[3])
        + _of(table, _GT1_C + g * GT1_C_SET + (s * _BLOCKS + block) * _CORNER + at[5])
        + _of(table, _GT1_D + g * GT1_D_SET + (s * FULL + full) * FULL + at[6])
    )


@jit_inner()
def gtn_row(table: Ints, k: int, row: int, sums: int, near: int, full: int) -> int:
    """Row of COSTS of "larger than k", 2 <= k < MAX_FLAGS."""
    i = k - 1
    return _row(
        _of(table, _GTN_A + i * SUMS + sums)
        + _of(table, _GTN_B + i * DIAGONALS + PLACE[U64(row), 7])
        + _of(table, _GTN_C + i * NEAR + near)
        + _of(table, _GTN_D + i * FULL + full)
    )


@jit_inner()
def _of(table: Ints, at: int) -> int:
    return I64(table[U64(at)])


@jit_inner()
def _row(dot: int) -> int:
    """Row of COSTS of a sum of products."""
    return min(_DOTS - 1, max(1 - _DOTS, dot >> 16)) + (_DOTS - 1)
