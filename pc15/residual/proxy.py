"""What a residual block would cost to code, without coding it: for a search that must compare many candidates.

Each coefficient of the block's DCT is either dropped, at its energy, or kept, at the error of a step and a few bits:

    J = SIDE_BITS * lambda + sum_k min(c_k^2, step^2 / 12 + lambda * (KEEP_BITS + MAGNITUDE_BITS * log2(|c_k| / step)))

The three constants are a least-squares fit to what `encode_residual` really spends on 16x16 blocks of photographs.
Source: the log-magnitude rate model of Z. He, S. Mitra, "A unified rate-distortion analysis framework for transform
coding", IEEE TCSVT 11(12), 2001, with a count of levels in place of their share.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError
from pc15.residual.codec import step_q4
from pc15.residual.transform import DCT, SCALE_BITS

SIDE_BITS, KEEP_BITS, MAGNITUDE_BITS = 10.0, 4.0, 1.0


def rate_proxy(blocks: npt.NDArray[Any], step: int, lam: float) -> npt.NDArray[np.float64]:
    """Approximate J = squared error + lam * bits of coding residual blocks, [B] float64 in squared Q12.

    Args:
        blocks: [B,n,n] residual, Q12, n one of 4, 8, 16, 32, 64.
        step: quantizer index.   lam: squared error in Q12 per bit.
    Raises:
        ConfigError: blocks of another shape.
    """
    side = blocks.shape[-1]
    if blocks.ndim != 3 or blocks.shape[1] != side or side not in (4, 8, 16, 32, 64):
        raise ConfigError(f"blocks are {blocks.shape}; give [B,n,n] with n one of 4, 8, 16, 32, 64")
    matrix = DCT[side.bit_length() - 1, :side, :side] / float(1 << SCALE_BITS)
    energy = np.square(matrix @ blocks.astype(np.float64) @ matrix.T)  # [B,n,n]
    width = step_q4(step) / 16.0
    # log2(|c| / step) from the energy; a coefficient below half a step is never kept
    bits = KEEP_BITS + MAGNITUDE_BITS * 0.5 * np.log2(np.maximum(energy / (width * width), 0.25))
    kept = width * width / 12.0 + lam * bits
    kept[energy < 0.25 * width * width] = np.inf
    cost: npt.NDArray[np.float64] = np.minimum(energy, kept).sum(axis=(1, 2)) + lam * SIDE_BITS
    return cost
