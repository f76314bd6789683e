"""M1, the selector: which generators are worth trying on a residual."""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.hooks.learned import Role
from pc15learn.roles.base import RoleModule

__all__ = ["SelectorModule"]


class SelectorModule(RoleModule):
    """Fit `pc15.hooks.nets.SelectorNet` to the oracle's gains.

    batch: features [B,F], share [B,G] (soft labels), best [B] (the choice), weight [B].   loss: cross-entropy, nats.
    logs:  train/loss, val/loss, val/hit_at_1, val/hit_at_8 = share of rows whose choice is in the top 8.
    """

    role: Role = "selector"

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits = self.net(batch["features"])  # [B,G]
        cost = -(batch["share"] * logits.log_softmax(dim=1)).sum(dim=1)  # [B]
        return (cost * batch["weight"]).sum() / batch["weight"].sum(), logits

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        loss, _logits = self._loss(batch)
        self.log("train/loss", loss, batch_size=len(batch["features"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        loss, logits = self._loss(batch)
        ranked = logits.topk(8).indices
        hit = ranked == batch["best"][:, None]  # [B,8]
        values = {
            "val/loss": loss,
            "val/hit_at_1": hit[:, 0].float().mean(),
            "val/hit_at_8": torch.any(hit, dim=1).float().mean(),
        }
        self.log_dict(values, batch_size=len(logits))
