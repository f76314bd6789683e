"""M3, the RD surrogate: which of a shortlist exact scores would like."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from pc15.hooks.roles.rd import RdNet
from pc15.search.bank import Bank
from pc15.search.windows import Surroundings
from pc15learn.label_tensors import LabelTensors
from pc15learn.roles.base import RoleModule

__all__ = ["RdModule"]


class RdModule(RoleModule):
    """Fit `pc15.hooks.roles.rd.RdNet` to exact costs of good and bad candidates.

    loss: cross-entropy over a row's candidates, nats, each as likely as it is good.
    logs: train/loss, val/loss, val/hit_at_8 = share of rows whose best candidate is among the first 8, val/behind =
        mean of what the best of the first 8 falls behind, in gains.
    """

    role = "rd"

    def of_bank(self, bank: Bank, around: Surroundings) -> dict[str, Any]:
        assert bank.seen is not None, "checked by who reads the labels"
        self.register_buffer("pixels", bank.seen, persistent=False)
        self.pixels: Tensor
        return {}

    def _costs(self, batch: LabelTensors) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(cross-entropy [B], weight [B], hit [B], what is lost [B])."""
        net = cast(RdNet, self.net)
        at = batch.rows.clamp(min=0)
        own = self.pixels[at].to(torch.float32)  # [B,M,P]
        product = torch.bmm(own, batch.inputs.error.to(own.dtype)[:, :, None])[:, :, 0]
        power = own.square().sum(dim=2).clamp(min=1.0)
        gain = product * product / power * batch.norms - batch.inputs.price[:, None] * batch.bits
        gain = torch.where(batch.rows >= 0, gain, -1e3)
        match = (net.wishes(batch.inputs)[:, None] * net.traits(own)).sum(dim=2)
        likely = torch.where(batch.rows >= 0, net(gain, match), -60.0)
        shares = self.shares(batch)
        target = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-9)
        cost = -(target * likely.log_softmax(dim=1)).sum(dim=1)
        first = likely.detach().topk(min(8, likely.shape[1])).indices
        lost = batch.behind.gather(1, first).amin(dim=1)
        return cost, torch.where(batch.pays, self.weights(batch), 0.0), lost == 0, lost.clamp(max=1.0)

    def training_step(self, batch: LabelTensors, _: int) -> Tensor:
        cost, weight, _hit, _lost = self._costs(batch)
        loss = self.mean_of_batch(cost, weight + 1e-9)
        self.log("train/loss", loss, batch_size=len(cost))
        return loss

    def validation_step(self, batch: LabelTensors, _: int) -> None:
        cost, weight, hit, lost = self._costs(batch)
        self.add_to_mean("val/loss", cost, weight)
        self.add_to_mean("val/hit_at_8", hit, batch.pays)
        self.add_to_mean("val/behind", lost, weight)
