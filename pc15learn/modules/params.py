"""M2, the parameter initialiser: which entries of a generator's codebook, and which offsets around them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pc15.hooks.ai import Role
from pc15.proc.codebook import load_codebook
from pc15.proc.generators import NAMES
from pc15learn.modules.base import RoleModule

__all__ = ["ParamModule"]


class ParamModule(RoleModule):
    """Fit `pc15.hooks.nets.ParamNet` to the best entry of each generator.

    batch: features [B,F], gen, qv [B], offsets [B,MAX_PARAMS] level steps, chosen [B] (offsets count), weight [B].
    loss:  cross-entropy over the generator's entries, nats, + 0.1 * Huber of offsets.
    logs:  train/loss, val/loss, val/hit_at_8 = share of pairs whose entry is in the top 8.
    """

    role: Role = "params"

    def __init__(self, *, codebook_id: str, hidden: int = 192, lr: float = 1e-3, weight_decay: float = 1e-2) -> None:
        super().__init__(codebook_id=codebook_id, hidden=hidden, lr=lr, weight_decay=weight_decay)
        codebook = load_codebook(codebook_id)
        sizes = torch.tensor([codebook.size(gen) for gen in range(len(NAMES))])
        self.register_buffer("sizes", sizes, persistent=False)

    def _loss(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        logits, offsets = self.net(batch["features"], batch["gen"])
        sizes: Tensor = self.get_buffer("sizes")[batch["gen"]]  # [B]
        beyond = torch.arange(logits.shape[1], device=logits.device) >= sizes[:, None]
        logits = logits.masked_fill(beyond, -1e4)
        cost = F.cross_entropy(logits, batch["qv"], reduction="none")  # [B]
        off = F.huber_loss(offsets, batch["offsets"], reduction="none").mean(dim=1) * batch["chosen"]
        weight = batch["weight"]
        return ((cost + 0.1 * off) * weight).sum() / weight.sum(), logits

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        loss, _logits = self._loss(batch)
        self.log("train/loss", loss, batch_size=len(batch["features"]))
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        loss, logits = self._loss(batch)
        hit = logits.topk(min(8, logits.shape[1])).indices == batch["qv"][:, None]
        self.log_dict({"val/loss": loss, "val/hit_at_8": hit.any(dim=1).float().mean()}, batch_size=len(logits))
