"""What the search runs on a GPU as single kernels, in Triton: the picture so far, screening, exact scores.

Each does what loops in `numba_scores.py` do on a CPU and tensor operations beside their callers anywhere, with the same
result to the last bit: sums are of integers, in integers; all else is elementwise in the same sequence, and no kernel
may contract a product and a sum into one rounding.  Numbers that float32 cannot hold come in a tensor, since Triton
hands over an argument that is a Python float as float32.
"""

from __future__ import annotations

from pc15.search.backend.triton.canvas import contributions, look, put, show
from pc15.search.backend.triton.exact import distortion, score_exactly
from pc15.search.backend.triton.screen import (
    MOST_COMPARED,
    MOST_KEPT,
    best_rows,
    group_best,
    lowest,
    merge_best,
    offered,
    packed,
    pick,
    rank_again,
)
from pc15.search.backend.triton.surface import draw_surfaces, surface_slopes

__all__ = [
    "MOST_COMPARED",
    "MOST_KEPT",
    "best_rows",
    "contributions",
    "distortion",
    "draw_surfaces",
    "group_best",
    "look",
    "lowest",
    "merge_best",
    "offered",
    "packed",
    "pick",
    "put",
    "rank_again",
    "score_exactly",
    "show",
    "surface_slopes",
]
