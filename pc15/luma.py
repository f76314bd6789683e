"""The scale of samples, Q12: 4096 is full luma."""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.fixed import const, look_up, shift

SAMPLE_ONE = 4096
MIDDLE = SAMPLE_ONE // 2
"""Middle grey: what a plane without tiles starts as."""
_AT_ONCE = 1 << 20  # samples converted at once


def as_q12(u8: Tensor, device: torch.device | None = None) -> Tensor:
    """8-bit samples as Q12, int32: the values whose output pixels are the same.

    Args:
        device: where the samples are wanted; where they are if None.
    """
    values = torch.div(torch.arange(256, dtype=torch.int32) * SAMPLE_ONE + 127, 255, rounding_mode="floor")
    wide = u8.to(device).to(torch.int32, copy=True, memory_format=torch.contiguous_format)
    for part in wide.view(-1).split(_AT_ONCE):
        part.copy_(look_up(values.to(wide), part))
    return wide


def to_pixels(samples: Tensor) -> Tensor:
    """Q12 samples as 8-bit pixels, rounded and clamped."""
    return ((samples * 255 + 2048) >> 12).clamp(0, 255).to(torch.uint8)


def scaled_pattern(factor: Tensor, pattern: Tensor) -> Tensor:
    """Samples that a layer adds, Q12: the pattern less its mean [B,T,T], Q14, times a Q15 factor [B], rounded."""
    return rounded_q12_(pattern * factor.view(-1, 1, 1))


def rounded_q12_(product: Tensor) -> Tensor:
    """In place: products of a Q15 factor and a Q14 pattern as Q12 samples, rounded; for a product of one's own."""
    return shift(product.add_(const(1 << 16)), 17)
