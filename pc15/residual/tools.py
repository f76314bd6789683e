"""Coding tools of the residual that a header switches on: bits of a plane's `tools`; without any, streams are of 1.0's.

SINE      squares of 4x4 that are predicted have a sine transform in place of the cosine's, see `dct`
WIENER    a Wiener filter by classes follows the deblocking filter, see `wiener`
BLEND     predictions by plane, mean, row and column are mixed with the border by how near it is, see `intra`
TRELLIS   which of two quantizers a level has follows from the parities of those before it, see `syntax`
PATTERNS  squares of 8x8 and more may add patterns of the codebook of `patterns` to their prediction
CROSS     of Cb and Cr alone: squares may be predicted from the planes that are decoded already, see `cross`
SPLITS    squares of 8x8 to 32x32 may be cut into parts with predictions and levels of their own, see `shapes`
BORDERS   what is decoded around a block orders its modes and predicts the signs of its levels, see `order` and `signs`
"""

from __future__ import annotations

from collections.abc import Iterable

SINE, WIENER, BLEND, TRELLIS, PATTERNS, CROSS, SPLITS, BORDERS = 1, 2, 4, 8, 16, 32, 64, 128

TOOLS = {
    "sine": SINE,
    "wiener": WIENER,
    "blend": BLEND,
    "trellis": TRELLIS,
    "patterns": PATTERNS,
    "cross": CROSS,
    "splits": SPLITS,
    "borders": BORDERS,
}
"""Every tool by its name in options."""
ALL_TOOLS = sum(TOOLS.values())
CHROMA_TOOLS = CROSS
"""Those that only Cb and Cr may have."""


def tools_of(names: Iterable[str]) -> int:
    """Bits of the tools of these names."""
    return sum(TOOLS[name] for name in set(names))
