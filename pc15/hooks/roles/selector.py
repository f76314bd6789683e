"""M1, the selector: which generators are worth trying on a residual."""

from __future__ import annotations

from torch import Tensor, nn

from pc15.hooks.features import FEATURES
from pc15.hooks.fixed_point import Snap
from pc15.hooks.roles.common import trunk
from pc15.hooks.weights import Predictor
from pc15.proc.codebook import Codebook
from pc15.proc.generators import NAMES

__all__ = ["Selector", "SelectorNet"]


class SelectorNet(nn.Module):
    """M1: features [n, F], normalised -> logits over generators [n, G]."""

    def __init__(self, *, features: int = FEATURES, gens: int = len(NAMES), hidden: int = 128) -> None:
        super().__init__()
        self.trunk = trunk(features, hidden)
        self.head = nn.Linear(hidden, gens)
        self.out = Snap()

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.head(self.trunk(features)))  # type: ignore[no-any-return]


class Selector(Predictor):
    """M1: which generators are worth trying.

    Args:
        weights: a .safetensors file with its .yaml beside it.
        strict: raise `HooksError` instead of warning and staying silent.
    """

    role, title, slot = "selector", "M1", "selector"

    @staticmethod
    def make_net(*, hidden: int, codebook: Codebook) -> nn.Module:
        """An untrained net."""
        return SelectorNet(hidden=hidden)

    def logits(self, features: Tensor) -> Tensor:
        """[n, FEATURES] -> [n, G] float64, multiples of 1/256."""
        net, _, _ = self._on(features.device)
        scores: Tensor = net(self._normalised(features))
        return scores
