"""Quantizer steps: the index in the header <-> the step in luma, and the rate class that goes with it.

    step(i) = 2^(-2 - i/6) of full luma, rounded once to Q15, i in 0..63

One table serves layer amplitudes (RMS in luma) and DC.  The encoder derives the indices from lambda, so that levels
are spread alike at every rate; the rate class picks the rANS tables that were trained near that lambda.
Source: uniform quantization near the entropy-coded optimum, H. Gish, J. Pierce, IEEE Trans. IT 14 (1968).
"""

from __future__ import annotations

import decimal
import functools
import math
import numbers
from decimal import Decimal

from pc15.errors import ConfigError, shown
from pc15.scales import rounded

STEPS = 64
DC_FINEST = 42
"""Index of the finest DC step, 2**-9 of luma: half an 8-bit level."""

RATE_CLASSES = 5

MSE_SCALE = 64.0
"""MSE_norm = MSE_SCALE * MSE: near 22 dB a photograph has MSE_norm and 1 - SSIM of the same size, about 0.4."""


def quality_lambda(quality: float) -> float:
    """Lambda for a quality from 0 to 100: 8 at 0, halved by every 8 points.

    On photographs 0 takes about 0.01 bpp, 50 a quarter, 75 one, 100 two to three.

    Raises:
        ConfigError: another number.
    """
    if isinstance(quality, bool) or not isinstance(quality, numbers.Real) or not 0 <= quality <= 100:
        raise ConfigError(f"quality is {shown(quality)}; give a number from 0 (smallest) to 100 (best)")
    return float(8.0 * 2.0 ** (-float(quality) / 8))


@functools.cache
def step_q15(index: int) -> int:
    """Width of a quantizer step, Q15 of luma."""
    with decimal.localcontext(decimal.Context(prec=30)):
        return rounded(Decimal(1 << 13) / (Decimal(2).ln() * index / 6).exp())


def dc_levels(index: int) -> int:
    """Number of DC levels at a step: from black to white, both included."""
    return -(-(1 << 15) // step_q15(index)) + 1


def middle_level(index: int) -> int:
    """The DC level that a section's first tile is predicted to have, halfway between black and white."""
    return dc_levels(index) // 2


def rate_class(amp_step: int) -> int:
    """Number of the table set, of RATE_CLASSES, for an amplitude step; 0 is the coarsest."""
    return min(RATE_CLASSES - 1, max(0, (amp_step - 6) // 6))


def tile_class(tile: int, *, chroma: bool) -> str:
    """Family of rANS tables for a tile size."""
    if chroma:
        return "c"
    return "s" if tile <= 24 else "m" if tile <= 48 else "l"


def steps_for(lambda_rd: float, alpha_mix: float, area: float) -> tuple[int, int]:
    """Indices of amplitude and DC step that suit lambda, for tiles that own `area` pixels each.

    The error of a step, step^2/12 per layer, is worth the bits that a finer one costs when
    MSE_SCALE * step^2 / 6 = lambda / (area * ln 2); the dead zone of a layer that must first pay for its address
    makes the best step somewhat wider.  SSIM's share of D counts like MSE near that balance.
    """
    per_level = lambda_rd / (area * MSE_SCALE)
    amp = math.sqrt(per_level * 28.0)
    dc = math.sqrt(per_level * 9.0)
    return _nearest(amp, STEPS - 1), _nearest(dc, DC_FINEST)


def _nearest(step: float, top: int) -> int:
    return min(top, max(0, round(6 * (-2 - math.log2(max(step, 1e-9))))))
