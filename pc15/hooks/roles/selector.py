"""M1, the selector: which cells of the bank are worth looking into, and whether any layer pays at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pc15.hooks.inputs import NUMBERS, PIXELS, NetInputs
from pc15.hooks.integer_net import ANSWER, GRID, IntegerLayer, TrainedLayer, layer_spec, rounded
from pc15.hooks.weights import Predictor, TensorSpec
from pc15.search.backend import backend_of
from pc15.search.backend.product import Product
from pc15.search.backend.protocol import ANSWER_TOP, LOG_FLOOR
from pc15.search.backend.sort_keys import short_log2

__all__ = ["CELLS", "CellNet", "Selector"]

CELLS = 2048
"""Cells that a selector knows."""
_GAIN_ONE = 16  # of a cell's logarithm


class CellNet(nn.Module):
    """M1: `NetInputs` -> likelihood of each cell [n, CELLS], natural logarithms up to a constant, and of a layer that
    pays [n], a logit.

    What a centroid explains of the residual is half the answer, so its logarithm is added to what the layers say.

    Args:
        hidden: units per layer.   centroids: [CELLS, PIXELS] int8, see `Cells`.
    """

    centroids: Tensor

    def __init__(self, *, hidden: int = 512, centroids: Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer(
            "centroids", torch.zeros((CELLS, PIXELS), dtype=torch.int8) if centroids is None else centroids
        )
        self.look = TrainedLayer(PIXELS, hidden, "abs")
        self.think = TrainedLayer(hidden + NUMBERS, hidden, "relu")
        self.answer = TrainedLayer(hidden, CELLS + 1, "answer")
        self.gain = nn.Parameter(torch.full((CELLS,), 2.0 * math.log(2.0)))

    def forward(self, inputs: NetInputs) -> tuple[Tensor, Tensor]:
        error, numbers = inputs.error.float() / GRID, inputs.numbers.float() / GRID
        answers = self.answer(self.think(torch.cat([self.look(error), numbers], dim=1)))
        wide = self.centroids.float()
        product = inputs.error.float() @ wide.t()
        score = product * product * _inverse(wide)
        like = (short_log2(score) - short_log2(inputs.energy.float())[:, None]).clamp(min=LOG_FLOOR)
        gain = rounded(self.gain * _GAIN_ONE) / _GAIN_ONE
        return answers[:, :-1] + gain * (like.float() / ANSWER), answers[:, -1]

    @torch.no_grad()
    def frozen(self) -> dict[str, Tensor]:
        """Tensors of a weights file."""
        gain = torch.floor(self.gain * _GAIN_ONE + 0.5).to(torch.int32).cpu()
        layers = (self.look.frozen("look"), self.think.frozen("think"), self.answer.frozen("answer"))
        return {"centroids": self.centroids.cpu(), "gain": gain} | {k: v for one in layers for k, v in one.items()}


class Selector(Predictor):
    """M1: which cells are worth looking into.

    Args:
        weights: a .safetensors file with its .yaml beside it.
        strict: raise `HooksError` instead of warning and staying silent.
    """

    role, title, slot = "selector", "M1", "selector"

    @staticmethod
    def make_net(*, hidden: int, **facts: Any) -> nn.Module:
        """An untrained net; `centroids` as `CellNet` takes them."""
        return CellNet(hidden=hidden, **facts)

    @staticmethod
    def tensors(hidden: int) -> TensorSpec:
        """Tensors of a weights file."""
        return {
            "centroids": (torch.int8, (CELLS, PIXELS)),
            "gain": (torch.int32, (CELLS,)),
            **layer_spec("look", PIXELS, hidden),
            **layer_spec("think", hidden + NUMBERS, hidden),
            **layer_spec("answer", hidden, CELLS + 1),
        }

    @property
    def centroids(self) -> Tensor:
        """[CELLS, PIXELS] int8, of its cells."""
        return self.loaded["centroids"]

    def cells(self, inputs: NetInputs, count: int, least: float) -> Tensor:
        """The `count` likeliest cells, best first, [n,count] int64; -1 alone where no layer is thought to pay.

        Args:
            least: logit below which none is.
        """
        net: _Net = self.ready_on(inputs.error.device, _Net)
        answers = net.answer(net.think(torch.cat([net.look(inputs.error), inputs.numbers], dim=1)))
        product = net.product.whole(inputs.error)
        ops, bar = backend_of(inputs.error.device), round(max(least * ANSWER, -ANSWER_TOP))
        return ops.likeliest_cells(answers, product, net.inverse, inputs.energy, net.gain, bar, count)


class _Net:
    """M1 on a device, ready to be asked."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.look = IntegerLayer.of(tensors, "look", "abs", device)
        self.think = IntegerLayer.of(tensors, "think", "relu", device)
        self.answer = IntegerLayer.of(tensors, "answer", "answer", device)
        centroids = tensors["centroids"].to(device)
        self.product, self.inverse = Product(centroids), _inverse(centroids)
        self.gain = tensors["gain"].to(device)


def _inverse(centroids: Tensor) -> Tensor:
    """[1,C] float32, 1 / sum of squares; 0 for flat ones."""
    power = centroids.to(torch.float64).square().sum(dim=1)
    one = torch.ones((), dtype=torch.float64, device=power.device)
    return torch.where(power > 0, one / power.clamp(min=1.0), 0.0).to(torch.float32)[None]
