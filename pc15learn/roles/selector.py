"""M1, the selector: which cells of the bank are worth looking into, and whether any layer pays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pc15.hooks.roles.selector import CELLS
from pc15.search.bank import Bank, terms_of
from pc15.search.cells import Cells
from pc15.search.windows import Surroundings
from pc15learn.label_tensors import LabelTensors
from pc15learn.roles.base import RoleModule

__all__ = ["SelectorModule"]


class SelectorModule(RoleModule):
    """Fit `pc15.hooks.roles.selector.CellNet` to the oracle's gains.

    loss: cross-entropy over cells, nats, each as likely as its best candidate, + that of "a layer pays".
    logs: train/loss, val/loss, val/hit_at_16 = share of rows whose best candidate's cell is among the 16 likeliest,
        val/pays = share of rows where p >= 1/2 says rightly if a layer pays.
    """

    role = "selector"

    def of_bank(self, bank: Bank, around: Surroundings) -> dict[str, Any]:
        seen = bank.seen
        assert seen is not None, "checked by who reads the labels"
        cells = Cells.of_bank(bank, seen, around, CELLS)
        self.register_buffer("cell_of", cells.of, persistent=False)
        self.cell_of: Tensor
        wide = torch.zeros((CELLS, seen.shape[1]), dtype=torch.int8)
        wide[: len(cells)] = cells.centroids.pixels.cpu()
        return {"centroids": terms_of(wide, around)}

    def _costs(self, batch: LabelTensors, likely: Tensor, pays: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(cross-entropy [B], weight [B], cost of "pays" [B]) of the net's answers."""
        cell = self.cell_of[batch.rows.clamp(min=0)]
        target = torch.zeros_like(likely).scatter_reduce_(1, cell, self.shares(batch), "amax")
        target = target / target.sum(dim=1, keepdim=True).clamp(min=1e-9)
        cost = -(target * likely.log_softmax(dim=1)).sum(dim=1)
        paid = F.binary_cross_entropy_with_logits(pays, batch.pays.to(pays.dtype), reduction="none")
        return cost, torch.where(batch.pays, self.weights(batch), 0.0), paid

    def training_step(self, batch: LabelTensors, _: int) -> Tensor:
        cost, weight, paid = self._costs(batch, *self.net(batch.inputs))
        loss = self.mean_of_batch(cost, weight + 1e-9) + self.mean_of_batch(paid)
        self.log("train/loss", loss, batch_size=len(cost))
        return loss

    def validation_step(self, batch: LabelTensors, _: int) -> None:
        likely, pays = self.net(batch.inputs)
        cost, weight, paid = self._costs(batch, likely, pays)
        best = batch.rows.gather(1, batch.behind.argmin(dim=1, keepdim=True)).clamp(min=0)
        self.add_to_mean("val/cells", cost, weight)
        self.add_to_mean("val/hit_at_16", (likely.topk(16).indices == self.cell_of[best]).any(dim=1), batch.pays)
        self.add_to_mean("val/pays_loss", paid)
        self.add_to_mean("val/pays", (pays > 0) == batch.pays)

    def on_validation_epoch_end(self) -> None:
        """Log what was counted, and val/loss, their sum."""
        super().on_validation_epoch_end()
        metrics = self.trainer.callback_metrics
        self.log("val/loss", metrics["val/cells"] + metrics["val/pays_loss"])
