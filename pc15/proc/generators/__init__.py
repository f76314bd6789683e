"""The table of generators: a name's position is its id in every stream, so lines are only ever appended.

One pattern per file, named in lower case; each file exports its `Generator` under the name below.
"""

from __future__ import annotations

import functools
import importlib

from pc15.proc.spec import Generator

NAMES: tuple[str, ...] = (
    "ANGLE_GRADIENT",
    "BRICK",
    "BRICK_NOISE",
    "CHECKER",
    "CHECKER_DISTORTED",
    "COMPOSITE",
    "CONCENTRIC_SQUARES",
    "DIAMOND_GRID",
    "DOTS",
    "FBM_RIDGED",
    "GABOR",
    "GABOR_BANK",
    "GABOR_NOISE",
    "GAUSSIAN_SPOTS",
    "GRADIENT_LINEAR",
    "GRADIENT_RADIAL",
    "HERRINGBONE",
    "HEX_GRID",
    "ISOBANDS",
    "KALEIDOSCOPE",
    "LATTICE",
    "MARBLE",
    "MOIRE",
    "PEBBLES",
    "PERLIN",
    "PLAID",
    "POLAR_CHECKER",
    "RINGS",
    "RIPPLE",
    "SPIRAL",
    "SPIRAL_SQUARE",
    "STARFIELD",
    "STRIPES",
    "STRIPES_MULTISCALE",
    "SUNBURST",
    "SWIRL",
    "TRI_TILING",
    "TURBULENCE",
    "VALUE_NOISE",
    "VORONOI_CELLS",
    "VORONOI_EDGES",
    "WAVES_BEND",
    "WAVES_CIRC",
    "WAVES_DIR",
    "WEAVE",
    "WOOD",
    "WORLEY",
    "EDGE",
    "LINE",
    "SPOT",
    "BLOB",
    "GABOR_ATOM",
    "CORNER",
)


@functools.cache
def load(gen: int) -> Generator:
    """The generator with that id; its file is imported on first use."""
    name = NAMES[gen]
    generator: Generator = getattr(importlib.import_module(f"{__name__}.{name.lower()}"), name)
    return generator
