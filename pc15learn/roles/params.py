"""M2, the parameter initialiser: which entries of a generator's codebook, and which offsets around them."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from pc15.hooks.learned import Role
from pc15.hooks.nets import ParamNet
from pc15learn.roles.base import RoleModule

__all__ = ["ParamModule"]


class ParamModule(RoleModule):
    """Fit `pc15.hooks.nets.ParamNet` to the best entry of each generator.

    batch: features [B,F], gen, qv [B], offsets [B,MAX_PARAMS] level steps, chosen [B] (offsets count), weight [B].
    loss:  cross-entropy over the generator's entries, nats, + 0.1 * Huber of offsets.
    logs:  train/loss, val/loss, val/hit_at_8 = share of pairs whose entry is in the top 8.
    """

    role: Role = "params"

    def __init__(self, *, codebook_id: str, hidden: int = 128, lr: float = 1e-3, weight_decay: float = 1e-2) -> None:
        super().__init__(codebook_id=codebook_id, hidden=hidden, lr=lr, weight_decay=weight_decay)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(loss, hit [B]: the entry is among its generator's top 8)."""
        net = cast(ParamNet, self.net)
        gens, qv, weight = batch["gen"], batch["qv"], batch["weight"]
        features = batch["features"]
        queries, offsets = net.read(features, net.trunk(features), gens)
        parts, hits, order = [], [], []
        keys = net.keys()
        for gen in torch.unique(gens).tolist():
            at = torch.nonzero(gens == gen).flatten()
            logits = net.logits(queries[at], keys, gen)  # [b,E_g]
            parts.append(F.cross_entropy(logits, qv[at], reduction="none"))
            hits.append((logits.topk(min(8, logits.shape[1])).indices == qv[at, None]).any(dim=1))
            order.append(at)
        cost, at = torch.cat(parts), torch.cat(order)
        off = F.huber_loss(offsets, batch["offsets"], reduction="none").mean(dim=1) * batch["chosen"]
        return ((cost + 0.1 * off[at]) * weight[at]).sum() / weight.sum(), torch.cat(hits)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        loss, _hit = self._loss(batch)
        self.log("train/loss", loss, batch_size=len(batch["features"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        loss, hit = self._loss(batch)
        self.log_dict({"val/loss": loss, "val/hit_at_8": hit.float().mean()}, batch_size=len(hit))
