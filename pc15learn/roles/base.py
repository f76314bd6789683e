"""What the three modules share: the net, the optimizer, and the facts that travel from checkpoint to card."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import nn

from pc15.hooks.learned import Role, make_net
from pc15.proc.codebook import load_codebook

__all__ = ["RoleModule"]


class RoleModule(LightningModule):
    """A net of `pc15.hooks.nets` and how it is fitted; the net alone is exported.

    Args:
        codebook_id: the codebook that its outputs refer to.
        hidden: units per layer.   lr, weight_decay: of AdamW.
    """

    role: Role

    def __init__(self, *, codebook_id: str, hidden: int = 128, lr: float = 3e-4, weight_decay: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr, self.weight_decay, self.hidden = lr, weight_decay, hidden
        self.net: nn.Module = make_net(self.role, hidden=hidden, codebook=load_codebook(codebook_id))
        self.facts: dict[str, Any] = {}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW, cosine over all steps."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=self.lr * 0.02)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Facts for the card: plain JSON values, so that the checkpoint loads without unpickling code."""
        metrics = {
            name: round(float(value), 6) for name, value in sorted(self.trainer.callback_metrics.items()) if "/" in name
        }
        checkpoint["pc15"] = {"role": self.role, "hidden": self.hidden, "metrics": metrics, **self.facts}
