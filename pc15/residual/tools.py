"""Coding tools of the residual that a header switches on: bits of a plane's `tools`; without any, streams are of 1.0's.

SINE    squares of 4x4 that are predicted have a sine transform in place of the cosine's, see `dct`
WIENER  a Wiener filter by classes follows the deblocking filter, see `wiener`
"""

from __future__ import annotations

from collections.abc import Iterable

SINE, WIENER = 1, 2

TOOLS = {"sine": SINE, "wiener": WIENER}
"""Every tool by its name in options."""
ALL_TOOLS = sum(TOOLS.values())


def tools_of(names: Iterable[str]) -> int:
    """Bits of the tools of these names."""
    return sum(TOOLS[name] for name in set(names))
