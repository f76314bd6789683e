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
from pc15.search.backend.protocol import ANSWER_TOP, LOG_FLOOR, BankTerms
from pc15.search.backend.sort_keys import Terms, short_log2
from pc15.search.cells import Cells

__all__ = ["CELLS", "CellNet", "Selector"]

CELLS = 8192
"""Cells that a selector knows."""
NARROW = 128
"""Numbers that all cells' likelihoods come of: weights of so many cells stay small."""
_UNKNOWN = torch.ones((CELLS, 64), dtype=torch.int8), torch.zeros((2, CELLS))
"""Energies and scale of centroids that nobody has looked at yet."""
_GAIN_ONE = 16  # of a cell's logarithm


class CellNet(nn.Module):
    """M1: `NetInputs` -> likelihood of each cell [n, CELLS], natural logarithms up to a constant, and of a layer that
    pays [n], a logit.

    What a centroid promises is half the answer, so the logarithm of its score is added to what the layers say.

    Args:
        hidden: units of the first layer.   centroids: terms of [CELLS, PIXELS], see `Cells`.
    """

    centroids: Tensor
    energies: Tensor
    scale: Tensor

    def __init__(self, *, hidden: int = 512, centroids: BankTerms | None = None) -> None:
        super().__init__()
        if centroids is None:
            centroids = BankTerms(torch.zeros((CELLS, PIXELS), dtype=torch.int8), *_UNKNOWN)
        self.register_buffer("centroids", centroids.pixels)
        self.register_buffer("energies", centroids.energies, persistent=False)
        self.register_buffer("scale", centroids.scale, persistent=False)
        self.look = TrainedLayer(PIXELS, hidden, "abs")
        self.think = TrainedLayer(hidden + NUMBERS, NARROW, "relu")
        self.answer = TrainedLayer(NARROW, CELLS + 1, "answer")
        self.gain = nn.Parameter(torch.full((CELLS,), 2.0 * math.log(2.0)))

    def forward(self, inputs: NetInputs) -> tuple[Tensor, Tensor]:
        error, numbers = inputs.error.float() / GRID, inputs.numbers.float() / GRID
        answers = self.answer(self.think(torch.cat([self.look(error), numbers], dim=1)))
        product = inputs.error.float() @ self.centroids.float().t()
        curve = inputs.weights.float() @ self.energies.float().t()
        like = short_log2(product * product * self.scale[inputs.place] / curve)
        like = (like - like.amax(dim=1, keepdim=True)).clamp(min=LOG_FLOOR)
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
            **layer_spec("think", hidden + NUMBERS, NARROW),
            **layer_spec("answer", NARROW, CELLS + 1),
        }

    @property
    def centroids(self) -> Tensor:
        """[CELLS, PIXELS] int8, of its cells."""
        return self.loaded["centroids"]

    def cells(self, inputs: NetInputs, cells: Cells, count: int, least: float) -> Tensor:
        """The `count` likeliest cells, best first, [n,count] int64; -1 alone where no layer is thought to pay.

        Args:
            cells: of `centroids`, of the bank.   least: logit below which none is.
        """
        net: _Net = self.ready_on(inputs.error.device, _Net)
        answers = net.answer(net.think(torch.cat([net.look(inputs.error), inputs.numbers], dim=1)))
        pixels, energies, scale, bits = cells.candidates
        ops, bar = backend_of(inputs.error.device), round(max(least * ANSWER, -ANSWER_TOP))
        terms = Terms(scale, bits, inputs.place, inputs.price)
        products = pixels.whole(inputs.error), energies.whole(inputs.weights)
        return ops.likeliest_cells(answers, *products, terms, net.gain, bar, count)


class _Net:
    """M1 on a device, ready to be asked."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.look = IntegerLayer.of(tensors, "look", "abs", device)
        self.think = IntegerLayer.of(tensors, "think", "relu", device)
        self.answer = IntegerLayer.of(tensors, "answer", "answer", device)
        self.gain = tensors["gain"].to(device)
