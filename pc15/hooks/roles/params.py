"""M2, the parameter initialiser: which entries inside the chosen cells, by a learned product of few numbers.

Two towers: a query of the residual and a key of each pattern, DIMENSIONS numbers each, learned so that their squared
product ranks patterns as exact scores do.  Keys are made once per bank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pc15.fixed import isqrt64
from pc15.hooks.inputs import NUMBERS, PIXELS, NetInputs
from pc15.hooks.integer_net import ANSWER, GRID, IntegerLayer, TrainedLayer, layer_spec, rounded
from pc15.hooks.weights import Predictor, TensorSpec
from pc15.search.backend import backend_of
from pc15.search.backend.product import Product
from pc15.search.backend.protocol import BankTerms, CellRows, TileTerms, powers_of

__all__ = ["DIMENSIONS", "EntryNet", "ParamPredictor"]

DIMENSIONS = 64
"""Numbers that a residual and a pattern are compared by."""
_QUERY_TOP = 2047
_KEY_BITS = 16  # fraction of the factors of keys


class EntryNet(nn.Module):
    """M2: `NetInputs` -> queries [n, DIMENSIONS], and patterns -> keys [K, DIMENSIONS], both whole numbers.

    The score of a pattern is norm * (query . key / 127)^2 - price * bits, see `Scorer.norms`.  A query is a
    projection of the residual, each number of which is turned up or down by what else is seen.

    Args:
        hidden: units per layer.
        basis: [DIMENSIONS, PIXELS] float, orthonormal rows that projections start from, and how far patterns of unit
            norm reach along each, [DIMENSIONS].
    """

    def __init__(self, *, hidden: int = 256, basis: tuple[Tensor, Tensor] | None = None) -> None:
        super().__init__()
        self.project = TrainedLayer(PIXELS, DIMENSIONS, "answer", scale=GRID)
        self.look = TrainedLayer(PIXELS, hidden, "abs")
        self.think = TrainedLayer(hidden + NUMBERS, hidden, "relu")
        self.turn = TrainedLayer(hidden, DIMENSIONS, "answer")
        self.key = nn.Parameter(torch.randn(DIMENSIONS, PIXELS) / PIXELS**0.5)
        if basis is not None:
            rows, reach = basis
            with torch.no_grad():
                self.key.copy_(rows / reach[:, None])
                self.project.weight.copy_(rows * reach[:, None])
                self.turn.weight.mul_(0.1)

    def queries(self, inputs: NetInputs) -> Tensor:
        """[n, DIMENSIONS] float32 whole numbers."""
        error, numbers = inputs.error.float() / GRID, inputs.numbers.float() / GRID
        turn = self.turn(self.think(torch.cat([self.look(error), numbers], dim=1)))
        return rounded(self.project(error) * GRID * (1.0 + turn)).clamp(-_QUERY_TOP, _QUERY_TOP)

    def keys(self, pixels: Tensor) -> Tensor:
        """Keys of patterns [K, PIXELS] float32 of unit norm, [K, DIMENSIONS] float32 whole numbers."""
        steps = self._steps()
        weight = rounded(self.key / steps).clamp(-127, 127) * steps
        return rounded(pixels @ weight.t() * 127.0).clamp(-127, 127)

    def _steps(self) -> Tensor:
        return (self.key.detach().abs().amax(dim=1, keepdim=True) / 127.0).clamp(min=1e-8)

    @torch.no_grad()
    def frozen(self) -> dict[str, Tensor]:
        """Tensors of a weights file."""
        steps = self._steps()
        layers = (part.frozen(name) for name, part in self.named_children() if isinstance(part, TrainedLayer))
        return {
            "key.weight": torch.floor(self.key / steps + 0.5).clamp(-127, 127).to(torch.int8).cpu(),
            "key.factor": torch.floor(steps[:, 0].double() * 127.0 * (1 << _KEY_BITS) + 0.5).to(torch.int32).cpu(),
        } | {k: v for one in layers for k, v in one.items()}


class ParamPredictor(Predictor):
    """M2: which entries inside the chosen cells; arguments as `Selector`."""

    role, title, slot = "params", "M2", "param_predictor"

    @staticmethod
    def make_net(*, hidden: int, **facts: Any) -> nn.Module:
        """An untrained net; `basis` as `EntryNet` takes it."""
        return EntryNet(hidden=hidden, **facts)

    @staticmethod
    def tensors(hidden: int) -> TensorSpec:
        """Tensors of a weights file."""
        return {
            "key.weight": (torch.int8, (DIMENSIONS, PIXELS)),
            "key.factor": (torch.int32, (DIMENSIONS,)),
            **layer_spec("project", PIXELS, DIMENSIONS),
            **layer_spec("look", PIXELS, hidden),
            **layer_spec("think", hidden + NUMBERS, hidden),
            **layer_spec("turn", hidden, DIMENSIONS),
        }

    def keys(self, pixels: Tensor) -> Tensor:
        """Keys of patterns [K, PIXELS] int8, [K, DIMENSIONS] int8."""
        net: _Net = self.ready_on(pixels.device, _Net)
        parts = []
        for chunk in pixels.split(1 << 14):
            product = net.key.whole(chunk).to(torch.int64) * net.key_factor
            power = chunk.to(torch.int64).square().sum(dim=1).clamp(min=1)
            norm = (isqrt64(power << 16) << (_KEY_BITS - 8))[:, None]
            keys = torch.div(2 * product + norm, 2 * norm, rounding_mode="floor")
            parts.append(keys.clamp(-127, 127).to(torch.int8))
        return torch.cat(parts)

    def key_terms(self, seen: BankTerms) -> BankTerms:
        """Keys of the patterns that are seen, with what scores need beside them."""
        return BankTerms(self.keys(seen.pixels), seen.energies, seen.scale * powers_of(seen))

    def best(self, inputs: NetInputs, chosen: Tensor, keys: CellRows, bits: Tensor, keep: int) -> Tensor:
        """The `keep` most promising rows of the chosen cells of each tile, best first, [n,keep] int64; -1 for none.

        Args:
            chosen: [n,k] int64 cells, -1 for none.   keys: `key_terms` of the rows of all cells.
            bits: [K] float32, of rows, in 1/256.
        """
        net: _Net = self.ready_on(inputs.error.device, _Net)
        turn = net.turn(net.think(torch.cat([net.look(inputs.error), inputs.numbers], dim=1))).to(torch.int64)
        query = (net.project(inputs.error).to(torch.int64) * (ANSWER + turn) + (ANSWER >> 1)) >> 8
        query = query.clamp(-_QUERY_TOP, _QUERY_TOP).to(torch.int16)
        own = TileTerms(query, inputs.weights, inputs.place, inputs.price * 127.0**2)
        return backend_of(query.device).best_in_cells(chosen, keys, bits, own, keep)


class _Net:
    """M2 on a device, ready to be asked."""

    def __init__(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        self.project = IntegerLayer.of(tensors, "project", "answer", device)
        self.look = IntegerLayer.of(tensors, "look", "abs", device)
        self.think = IntegerLayer.of(tensors, "think", "relu", device)
        self.turn = IntegerLayer.of(tensors, "turn", "answer", device)
        self.key = Product(tensors["key.weight"].to(device))
        self.key_factor = tensors["key.factor"].to(device).to(torch.int64)
