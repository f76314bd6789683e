"""M4, the guide of squares: which ways to code a square are worth their time, see `pc15.residual.enc.gate`."""

from __future__ import annotations

import hashlib
import json
import numbers
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pc15.errors import ConfigError, HooksError, shown
from pc15.hooks.integer_net import TrainedLayer, layer_spec
from pc15.hooks.squares import SquareNet
from pc15.hooks.weights import Predictor, TensorSpec
from pc15.residual.enc.gate import ANSWERS, GATE_VERSION, INPUTS, SECOND
from pc15.residual.patterns import SQUARES_FILE, digest, read_books

__all__ = ["GateNet", "SquareGuide"]


class GateNet(nn.Module):
    """M4: inputs of squares [n, INPUTS] int8 -> answers [n, ANSWERS], see `pc15.residual.enc.gate`.

    Args:
        hidden: units of the first layer.
    """

    def __init__(self, *, hidden: int = 32) -> None:
        super().__init__()
        self.first = TrainedLayer(INPUTS, hidden, "relu")
        self.second = TrainedLayer(hidden, SECOND, "relu")
        self.last = TrainedLayer(SECOND, ANSWERS, "answer")

    def forward(self, inputs: Tensor) -> Tensor:
        answers: Tensor = self.last(self.second(self.first(inputs.float() / self.first.scale)))
        return answers

    @torch.no_grad()
    def frozen(self) -> dict[str, Tensor]:
        """Tensors of a weights file."""
        layers = (part.frozen(name) for name, part in self.named_children() if isinstance(part, TrainedLayer))
        return {name: tensor for one in layers for name, tensor in one.items()}


class SquareGuide(Predictor):
    """M4: which ways to code a square are worth their time.

    Args:
        weights, strict: as of `Selector`.
        prune: price of time: a way is tried if it is thought to save this share of the cost or more, for as much more
            time; 0 tries all.
        tries: most predictions per square that are coded in full.
    Raises:
        ConfigError: an option out of range.
    """

    role, title, slot = "squares", "M4", "squares"
    input_version = GATE_VERSION

    def __init__(self, weights: str | Path, *, strict: bool = False, prune: float = 0.008, tries: int = 3) -> None:
        if isinstance(prune, bool) or not isinstance(prune, numbers.Real) or not 0.0 <= prune < 1.0:
            raise ConfigError(f"SquareGuide prune is {shown(prune)}; give a price from 0, which tries all, to below 1")
        if isinstance(tries, bool) or not isinstance(tries, numbers.Integral) or not 1 <= tries <= 8:
            raise ConfigError(f"SquareGuide tries is {shown(tries)}; give a whole number from 1 to 8")
        super().__init__(weights, strict=strict)
        self.prune: float = float(prune)
        self.tries: int = int(tries)

    @staticmethod
    def make_net(*, hidden: int, **facts: Any) -> nn.Module:
        """An untrained net."""
        return GateNet(hidden=hidden, **facts)

    @staticmethod
    def tensors(hidden: int) -> TensorSpec:
        """Tensors of a weights file."""
        return {
            **layer_spec("first", INPUTS, hidden),
            **layer_spec("second", hidden, SECOND),
            **layer_spec("last", SECOND, ANSWERS),
        }

    @classmethod
    def made_for(cls, codebook_id: str) -> tuple[str, str]:
        """Fingerprints of the codebook of squares, and of that with what the inputs mean."""
        if codebook_id != SQUARES_FILE.stem:
            raise HooksError(f"the squares hook needs codebook {codebook_id!r}; this build has {SQUARES_FILE.stem}")
        codebook = digest(read_books(SQUARES_FILE))
        return codebook, hashlib.sha256(json.dumps([GATE_VERSION, codebook]).encode()).hexdigest()

    @property
    def net(self) -> SquareNet:
        """The net as the search of squares asks it."""
        return SquareNet({name: tensor.numpy() for name, tensor in self.loaded.items()})
