"""Nets in whole numbers: int8 weights and activations, int32 sums, one rounding per layer.

A layer trains in float32 as what it will be in the encoder, rounding included (the gradient passes through as if there
were none).  `frozen` makes whole numbers of it, and their sums are exact: an answer depends neither on the batch nor on
the device nor on the order of additions, and costs as little as the products that the search itself is made of.
Source: B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", CVPR 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pc15.search.backend import backend_of
from pc15.search.backend.product import Product
from pc15.search.backend.protocol import FACTOR_BITS

__all__ = ["ANSWER", "GRID", "IntegerLayer", "TrainedLayer", "layer_spec", "rounded"]

GRID = 16
"""Activations are int8 multiples of 1/GRID."""
ANSWER = 256
"""Answers of a last layer are int32 multiples of 1/ANSWER."""
Kind = Literal["abs", "relu", "answer"]
"""Function behind the matrix: |x|, which treats a residual and its negative alike as signed amplitudes do; max(x, 0);
or nothing."""


def rounded(x: Tensor) -> Tensor:
    """Nearest integers, a half upwards, with the gradient of x itself."""
    return x + (torch.floor(x + 0.5) - x).detach()


class TrainedLayer(nn.Module):
    """A linear layer and what follows it, in float32: values are multiples of the grids that integers will have.

    Args:
        inputs, outputs: widths; at most 1,024 inputs.
        kind: see `Kind`.   scale: of an answer, in steps per unit.
    """

    def __init__(self, inputs: int, outputs: int, kind: Kind, *, scale: int = ANSWER) -> None:
        super().__init__()
        self.kind, self.scale = kind, scale if kind == "answer" else GRID
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[n, inputs] multiples of 1/GRID -> [n, outputs]."""
        steps = self._steps()
        y = F.linear(x, rounded(self.weight / steps).clamp(-127, 127) * steps, self.bias)
        y = y.abs() if self.kind == "abs" else y.clamp(min=0) if self.kind == "relu" else y
        y = rounded(y * self.scale)
        return (y if self.kind == "answer" else y.clamp(max=127)) / self.scale

    def _steps(self) -> Tensor:
        """Value of one step of each output's weights, [outputs, 1]."""
        return (self.weight.detach().abs().amax(dim=1, keepdim=True) / 127.0).clamp(min=1e-8)

    @torch.no_grad()
    def frozen(self, name: str) -> dict[str, Tensor]:
        """Tensors of `IntegerLayer`, named name.weight, name.factor, name.bias."""
        steps = self._steps()
        factor = steps[:, 0].double() / GRID * self.scale * (1 << FACTOR_BITS)
        return {
            f"{name}.weight": torch.floor(self.weight / steps + 0.5).clamp(-127, 127).to(torch.int8).cpu(),
            f"{name}.factor": torch.floor(factor + 0.5).clamp(1, (1 << 31) - 1).to(torch.int32).cpu(),
            f"{name}.bias": torch.floor(self.bias.double() * self.scale + 0.5).to(torch.int32).cpu(),
        }


def layer_spec(name: str, inputs: int, outputs: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Type and shape of the tensors that `TrainedLayer.frozen` names."""
    return {
        f"{name}.weight": (torch.int8, (outputs, inputs)),
        f"{name}.factor": (torch.int32, (outputs,)),
        f"{name}.bias": (torch.int32, (outputs,)),
    }


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """A layer as the encoder runs it: (weight x * factor >> FACTOR_BITS) + bias, rounded, then what `kind` says.

    product: of the weights [outputs, inputs] int8.   factor, bias: [outputs] int32.
    """

    product: Product
    factor: Tensor
    bias: Tensor
    kind: Kind

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], name: str, kind: Kind, device: torch.device) -> IntegerLayer:
        """From what `TrainedLayer.frozen` made, on a device."""
        weight, factor, bias = (tensors[f"{name}.{part}"].to(device) for part in ("weight", "factor", "bias"))
        return cls(Product(weight), factor, bias, kind)

    def __call__(self, x: Tensor) -> Tensor:
        """[n, inputs] int8 -> [n, outputs], int8, or int32 of a last layer."""
        return backend_of(x.device).activated(self.product.whole(x), self.factor, self.bias, self.kind)
