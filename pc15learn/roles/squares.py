"""M4, the guide of squares: which ways to code a square are worth their time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pc15learn.config import TrainConfig
from pc15learn.roles.base import RoleModule
from pc15learn.square_data import SquareBatch, SquareData

__all__ = ["SquaresModule"]

_PRICES = torch.linspace(-8.5, -2.5, 13)
"""Logarithms of the prices of time that a net is fitted at, 0.0002 to 0.08."""
_SHOWN = 0.01
"""The one that `val/lost` and `val/time` are of."""


class SquaresModule(RoleModule):
    """Fit `pc15.hooks.roles.squares.GateNet` to what ways to code squares have saved.

    loss: at each of several prices of time, the cost of the wrong decision: what a way would have saved if it is left
        out, the price of its time if it is tried, each as its logistic bound.  Its minimum is the logarithm of the mean
        saved, so one net serves all prices.
    logs: train/loss, val/loss; at a price of 0.01 val/lost, the share of what all ways save that is lost by what is
        left out, and val/time, the share of their time that is spent.
    """

    role = "squares"
    demo = TrainConfig(hidden=32, lr=4e-3, batch_size=1024, max_epochs=3)

    @classmethod
    def data(cls, labels: str | Path, **options: Any) -> Any:
        """Batches of a folder of labels of squares."""
        return SquareData(labels, **options)

    def _costs(self, batch: SquareBatch) -> tuple[Tensor, Tensor]:
        """(loss of each square [B], answers [B,ANSWERS])."""
        answers = self.net(batch.inputs)
        prices = _PRICES.to(answers.device)
        past = answers[:, :, None] - prices
        cost = batch.worth[:, :, None] * F.softplus(-past) + prices.exp() * F.softplus(past)
        return (cost.mean(dim=2) * batch.time).sum(dim=1), answers

    def training_step(self, batch: SquareBatch, _: int) -> Tensor:
        cost, _answers = self._costs(batch)
        loss = self.mean_of_batch(cost)
        self.log("train/loss", loss, batch_size=len(cost))
        return loss

    def validation_step(self, batch: SquareBatch, _: int) -> None:
        cost, answers = self._costs(batch)
        tried = answers >= torch.log(torch.tensor(_SHOWN))
        self.add_to_mean("val/loss", cost)
        for name, whole, share in (
            ("val/lost", batch.worth * batch.time, ~tried), ("val/time", batch.time, tried),
        ):  # fmt: skip
            total = whole.sum(dim=1)
            self.add_to_mean(name, (whole * share).sum(dim=1) / total.clamp(min=1e-9), total)
