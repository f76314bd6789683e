"""The scale of samples, Q12: 4096 is full luma.  Arrays and tensors alike: what comes in goes out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Samples = TypeVar("Samples", npt.NDArray[Any], "Tensor")
"""An array of NumPy, or a tensor of torch on any device."""

SAMPLE_ONE = 4096
MIDDLE = SAMPLE_ONE // 2
"""Middle grey: what a plane without tiles starts as."""
_AT_ONCE = 1 << 20  # samples converted at once
_Q12 = (np.arange(256, dtype=np.int32) * SAMPLE_ONE + 127) // 255


def as_q12(u8: Samples, device: torch.device | None = None) -> Samples:
    """8-bit samples as Q12, int32: the values whose output pixels are the same.

    Args:
        device: where a tensor's samples are wanted; where they are if None.
    """
    if isinstance(u8, np.ndarray):
        return _Q12.take(u8)
    import torch

    from pc15.fixed import look_up

    wide = u8.to(device).to(torch.int32, copy=True, memory_format=torch.contiguous_format)
    values = torch.from_numpy(_Q12).to(wide.device)
    for part in wide.view(-1).split(_AT_ONCE):
        part.copy_(look_up(values, part))
    return wide


def to_pixels(samples: Samples) -> Samples:
    """Q12 samples as 8-bit pixels, rounded and clamped."""
    rounded = ((samples * 255 + 2048) >> 12).clip(0, 255)
    return rounded.astype(np.uint8) if isinstance(rounded, np.ndarray) else rounded.byte()
