"""Shapes of blocks: squares of 4 to 64 px, and with the tool `splits` the parts that those of 8 to 32 px are cut into.

A leaf of the quadtree may be cut into two halves, one above the other (ROWS) or side by side (COLUMNS), and each half
again: along the first cut, into two strips of a quarter of the square's side, but for those of 8 px; or across it.  So
parts are halves, strips and squares of half the side.  How a square is cut is one number,

    first cut + 4 * how the first half is cut again + 16 * how the second one is

and what that says is in tables by it; what a shape says by itself is in tables by the shape's number.  Of 64 px in one
direction the 32 lowest frequencies are coded.
Source: binary splits below a quadtree are those of ITU-T H.266, 6.4.2, here at most two deep.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import I64, jit_inner
from pc15.residual.tools import SPLITS

Ints = npt.NDArray[Any]

# ------------------------------------------------------------------ shapes

_HALVES, _STRIPS = [(3, 2), (4, 3), (5, 4)], [(4, 2), (5, 3)]
_WIDE = [*_HALVES, *_STRIPS]
_SIDES = [*((i, i) for i in range(2, 7)), *_WIDE, *((high, wide) for wide, high in _WIDE)]
SHAPES = len(_SIDES)
"""Squares of 4, 8, 16, 32, 64 px, then halves and strips that are wide, then the same turned."""
LOG2_WIDE, LOG2_HIGH = np.array(_SIDES, dtype=np.int64).T.copy()
"""log2 of the sides of each shape, px."""
SHAPE_OF = np.full((7, 7), -1, dtype=np.int64)
"""Shape by log2 of width and height."""
for _shape, (_wide, _high) in enumerate(_SIDES):
    SHAPE_OF[_wide, _high] = _shape
CODED_WIDE, CODED_HIGH = np.minimum(32, 1 << LOG2_WIDE), np.minimum(32, 1 << LOG2_HIGH)
"""Numbers of frequencies that are coded in each direction,"""
PLACES_OF = CODED_WIDE * CODED_HIGH
LAST_TOP = np.array([int(n).bit_length() - 1 for n in PLACES_OF], dtype=np.int64)
"""in all, and the log2 of that."""
SIZES, PART_SIZES = 5, len(_WIDE)
ALL_SIZES = SIZES + PART_SIZES
SIZE = np.array([*range(ALL_SIZES), *range(SIZES, ALL_SIZES)], dtype=np.int64)
"""Size class of a shape, which contexts know: of squares, of halves, of strips; the same for wide and high ones."""
TALL = (LOG2_HIGH > LOG2_WIDE).astype(np.int64)
"""1: higher than wide."""

# ------------------------------------------------------------------ cuts

WHOLE, ROWS, COLUMNS = range(3)
"""First cut of a square: none, into an upper and a lower half, into a left and a right one."""
ONCE, ALONG, ACROSS = map(I64, range(3))
"""Second cut of a half: none, as the square was cut, the other way."""
CUTS, MOST_PARTS = 64, 4
LEAST_CUT, MOST_CUT = 3, 5
"""log2 of the sides of squares that may be cut."""


def _parts(cut: int) -> list[tuple[int, int, int, int]]:
    """Parts of a square that is cut so: x, y, width, height, in quarters of its side."""
    if cut & 3 == WHOLE:
        return [(0, 0, 4, 4)]
    parts = []
    for half in range(2):
        again, y = cut >> 2 + 2 * half & 3, 2 * half
        if again == ALONG:
            parts += [(0, y, 4, 1), (0, y + 1, 4, 1)]
        elif again == ACROSS:
            parts += [(0, y, 2, 2), (2, y, 2, 2)]
        else:
            parts += [(0, y, 4, 2)]
    return parts if cut & 3 == ROWS else [(y, x, high, wide) for x, y, wide, high in parts]


PARTS = np.zeros(CUTS, dtype=np.int64)
"""Numbers of parts."""
_AT = np.zeros((CUTS, MOST_PARTS, 4), dtype=np.int64)
"""By part: x and y in quarters of the square's side; how much less than its own the log2 of width and height are."""
LESS_WIDE, LESS_HIGH = (np.zeros((CUTS, 4, 4), dtype=np.int64) for _ in range(2))
"""The same by place in the square, in quarters: row, column."""
for _cut in range(CUTS):
    for _x, _y, _w, _h in _parts(_cut):
        _less = 3 - _w.bit_length(), 3 - _h.bit_length()
        _AT[_cut, PARTS[_cut]] = _x, _y, *_less
        LESS_WIDE[_cut, _y : _y + _h, _x : _x + _w], LESS_HIGH[_cut, _y : _y + _h, _x : _x + _w] = _less
        PARTS[_cut] += 1


@jit_inner()
def may_cut(tools: int, log2: int) -> bool:
    """True for squares that may be cut."""
    return LEAST_CUT <= log2 <= MOST_CUT and (tools & SPLITS) != 0


@jit_inner()
def part_of(log2: int, cut: int, part: int) -> tuple[int, int, int, int]:
    """Where a part lies in its square of side 2^log2, x and y, and log2 of its width and height."""
    at = _AT[cut, part]
    return at[0] << log2 - 2, at[1] << log2 - 2, log2 - at[2], log2 - at[3]


@jit_inner()
def end_above(wide: int, x0: int, log2: int, cut: int, dx: int, dy: int) -> int:
    """Column from which on nothing is decoded in the row above a part at (dx, dy) of a square: `wide` for no such one.

    Only of a left half that is cut across z-order is wrong about what is: it takes the right half for decoded.
    """
    middle = 1 << log2 - 1
    return x0 + middle if cut & 3 == COLUMNS and dy > 0 and dx < middle else wide
