"""Nets in encoder form: weights and activations as fixed-point numbers, so that every sum is exact.

Nets train in float32.  `frozen` turns one into its encoder form: weights are multiples of 2^-12 and below 2^5,
activations multiples of 2^-8 and below 2^10, all held in float64.  A sum of up to 2^16 such products stays below
2^53 units of 2^-20, so it is exact in any order, and a net's answer depends neither on the batch nor on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["VALUE_BITS", "VALUE_TOP", "Snap", "frozen", "snapped"]

WEIGHT_BITS = 12
VALUE_BITS = 8
WEIGHT_TOP = 32.0
VALUE_TOP = 1024.0


class Snap(nn.Module):
    """Identity while a net trains; once frozen, rounds values to multiples of 2^-8 within +-2^10."""

    def __init__(self) -> None:
        super().__init__()
        self.on = False

    def forward(self, x: Tensor) -> Tensor:
        return snapped(x, VALUE_BITS, VALUE_TOP) if self.on else x


def snapped(x: Tensor, bits: int, top: float) -> Tensor:
    """float64 multiples of 2^-bits within +-top."""
    scale = float(1 << bits)
    return (x.to(torch.float64).clamp(-top, top) * scale).round() / scale


def frozen(net: nn.Module) -> nn.Module:
    """The net's encoder form, changed in place: exact sums, no gradients."""
    net = net.to(torch.float64).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(snapped(parameter, WEIGHT_BITS, WEIGHT_TOP))
    for module in net.modules():
        if isinstance(module, Snap):
            module.on = True
    return net
