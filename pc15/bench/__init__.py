"""Benchmarks of the codec.  `rd` measures rate and distortion, `points` keeps the CSV, `codecs` holds who is measured,
`programs` runs those that come as programs,
`summary` makes tables, plots and JSON of it; `inclass` measures what pictures cost that are one pattern; `ablation`
measures what each part of the codec is worth.

The options' defaults stand here, so that the command line can show them without loading what measures.
"""

from __future__ import annotations

from typing import Literal

Anchor = Literal["jpeg", "webp", "avif", "jpeg2000", "jxl", "x265", "vvenc"]
"""Conventional codecs: those that Pillow brings, JPEG XL through imagecodecs, and two by their programs."""

LAMBDAS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.12, 0.06, 0.03, 0.015, 0.008, 0.004, 0.002)
"""PC15's ladder, from small files to large ones."""

ABLATION_LAMBDAS = (4.0, 1.0, 0.25, 0.06, 0.015)
"""The ladder on which parts are taken out and put back."""

MAX_BPP = 1.5
"""A ladder is left after its first point above this rate."""

RATES = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0)
"""bpp at which the tables of means are read."""

MIN_OVERLAP = 0.5
"""The least share of their quality range that two curves must both cover for a BD-rate."""

INCLASS = (
    "stripes",
    "checkerboard",
    "rings",
    "linear_gradient",
    "radial_gradient",
    "spiral",
    "plaid",
    "sunburst",
)
"""Classes of the pictures that are one pattern."""

INCLASS_LAMBDAS = (256.0, 64.0, 16.0)
"""Their ladder, left at the first that is good enough: a bit of a few hundred is worth more than one of thousands."""

INCLASS_SSIM = 0.98
"""SSIM that an in-class picture is to reach."""
