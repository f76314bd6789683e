"""M3, the RD surrogate: which of a shortlist exact scores would like, structural similarity included.

What the expansion of D promises at half resolution, less the price of the bits, comes from one product per candidate;
what it leaves out depends on where the picture has its contrast and the pattern its own.  Two towers learn that: a
vector of the tile and a vector of each pattern, whose product corrects the order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pc15.hooks.inputs import NUMBERS, PIXELS, NetInputs
from pc15.hooks.integer_net import GRID, IntegerLayer, TrainedLayer, layer_spec
from pc15.hooks.weights import Predictor, TensorSpec
from pc15.search.backend.protocol import BankTerms

__all__ = ["TRAITS", "RdNet", "RdPredictor", "promised"]

TRAITS = 32
"""Numbers that a tile and a pattern are matched by."""
_PATTERN_HIDDEN = 128
_SHARP_ONE = 256  # of the weight of the squared error
_MATCH_ONE = GRID * GRID
_LEAST_GAIN = 2.0**-20  # below what pays for a bit


class RdNet(nn.Module):
    """M3: `NetInputs` and patterns -> scores of candidates, natural logarithms up to a constant per tile.

    Args:
        hidden: units of a tile's layers.
    """

    def __init__(self, *, hidden: int = 512) -> None:
        super().__init__()
        self.look = TrainedLayer(2 * PIXELS, hidden, "abs")
        self.think = TrainedLayer(hidden + NUMBERS, hidden // 2, "relu")
        self.wish = TrainedLayer(hidden // 2, TRAITS, "answer", scale=GRID)
        self.see = TrainedLayer(PIXELS, _PATTERN_HIDDEN, "abs")
        self.have = TrainedLayer(_PATTERN_HIDDEN, TRAITS, "answer", scale=GRID)
        self.sharp = nn.Parameter(torch.tensor(20.0))
        with torch.no_grad():
            self.wish.weight.mul_(0.1)

    def wishes(self, inputs: NetInputs) -> Tensor:
        """A tile's side, [n, TRAITS]."""
        seen = torch.cat([inputs.error, inputs.picture], dim=1).float() / GRID
        return self.wish(self.think(torch.cat([self.look(seen), inputs.numbers.float() / GRID], dim=1)))

    def traits(self, pixels: Tensor) -> Tensor:
        """A pattern's side: [K, PIXELS] int8 -> [K, TRAITS]."""
        return self.have(self.see(pixels.float() / GRID)).clamp(-127 / GRID, 127 / GRID)

    def forward(self, gain: Tensor, match: Tensor) -> Tensor:
        """Scores [n,M] from gains in squared error less bits, in any unit, and products of wishes and traits."""
        top = gain.amax(dim=1, keepdim=True).clamp(min=_LEAST_GAIN)
        return self.sharp * (gain / top).clamp(min=-1.0) + match

    @torch.no_grad()
    def frozen(self) -> dict[str, Tensor]:
        """Tensors of a weights file."""
        layers = (part.frozen(name) for name, part in self.named_children() if isinstance(part, TrainedLayer))
        sharp = torch.floor(self.sharp * _SHARP_ONE + 0.5).to(torch.int32).reshape(1).cpu()
        return {"sharp": sharp} | {k: v for one in layers for k, v in one.items()}


def promised(inputs: NetInputs, at: Tensor, seen: BankTerms, bits: Tensor) -> Tensor:
    """Scores of bank rows [n,M] as nets see them, see `sort_keys`, [n,M] float32; bits: [n,M] float32."""
    product, curve = (
        torch.bmm(patterns[at].float(), own.float()[:, :, None])[:, :, 0]  # below 2^24: exact
        for patterns, own in ((seen.pixels, inputs.error), (seen.energies, inputs.weights))
    )
    return product * product * seen.scale[inputs.place[:, None], at] / curve - inputs.price[:, None] * bits


class RdPredictor(Predictor):
    """M3: the order of a shortlist; arguments as `Selector`."""

    role, title, slot = "rd", "M3", "rd_predictor"

    @staticmethod
    def make_net(*, hidden: int, **facts: Any) -> nn.Module:
        """An untrained net."""
        return RdNet(hidden=hidden, **facts)

    @staticmethod
    def tensors(hidden: int) -> TensorSpec:
        """Tensors of a weights file."""
        return {
            "sharp": (torch.int32, (1,)),
            **layer_spec("look", 2 * PIXELS, hidden),
            **layer_spec("think", hidden + NUMBERS, hidden // 2),
            **layer_spec("wish", hidden // 2, TRAITS),
            **layer_spec("see", PIXELS, _PATTERN_HIDDEN),
            **layer_spec("have", _PATTERN_HIDDEN, TRAITS),
        }

    def traits(self, pixels: Tensor) -> Tensor:
        """A pattern's side: [K, PIXELS] int8 -> [K, TRAITS] int8."""
        net: _Net = self.ready_on(pixels.device, _Net)
        parts = [net.have(net.see(chunk)).clamp(-127, 127).to(torch.int8) for chunk in pixels.split(1 << 14)]
        return torch.cat(parts)

    def cost(self, inputs: NetInputs, rows: Tensor, seen: BankTerms, traits: Tensor, bits: Tensor) -> Tensor:
        """Costs of candidates, [n,M] float32, lower is better, +inf where a row is -1.

        Args:
            rows: [n,M] int64, -1 for none.   seen: the bank.   traits: [K, TRAITS] int8, bits: [K] float32.
        """
        net: _Net = self.ready_on(inputs.error.device, _Net)
        wish = net.wish(
            net.think(torch.cat([net.look(torch.cat([inputs.error, inputs.picture], dim=1)), inputs.numbers], 1))
        )
        at = rows.clamp(min=0)
        own = traits[at].to(torch.float32)  # [n,M,..]
        match = torch.bmm(own, wish.clamp(-2047, 2047).to(torch.float32)[:, :, None])[:, :, 0]  # below 2^23: exact
        gain = torch.where(rows >= 0, promised(inputs, at, seen, bits[at]), -math.inf)
        top = gain.amax(dim=1, keepdim=True).clamp(min=_LEAST_GAIN)
        score = net.sharp * (gain / top).clamp(min=-1.0) + match * (1.0 / _MATCH_ONE)
        return torch.where(rows >= 0, -score, math.inf)


class _Net:
    """M3 on a device, ready to be asked."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.look = IntegerLayer.of(tensors, "look", "abs", device)
        self.think = IntegerLayer.of(tensors, "think", "relu", device)
        self.wish = IntegerLayer.of(tensors, "wish", "answer", device)
        self.see = IntegerLayer.of(tensors, "see", "abs", device)
        self.have = IntegerLayer.of(tensors, "have", "answer", device)
        self.sharp = tensors["sharp"].to(device).to(torch.float32) / torch.full((1,), float(_SHARP_ONE), device=device)
