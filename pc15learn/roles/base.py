"""The base of all trainings: the net, the optimizer, and the facts that travel from checkpoint to card."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pc15.hooks.roles import ROLES
from pc15.proc.codebook import load_codebook
from pc15learn.config import TrainConfig
from pc15learn.label_tensors import LabelTensors, TargetOptions

__all__ = ["RoleModule"]


class RoleModule(LightningModule):
    """A net of `pc15.hooks.roles` and how it is fitted; the net alone is exported.

    A subclass sets `role`, a key of `ROLES`, and `demo`, a fit that takes seconds; it computes `targets` and a loss.

    Args:
        codebook_id: the codebook that its outputs refer to.
        hidden: units per layer.   lr, weight_decay: of AdamW.
    """

    role: ClassVar[str]
    demo: ClassVar[TrainConfig] = TrainConfig(hidden=64, lr=3e-3, batch_size=1024, max_epochs=3)

    def __init__(self, *, codebook_id: str, hidden: int = 128, lr: float = 3e-4, weight_decay: float = 1e-2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.lr, self.weight_decay, self.hidden = lr, weight_decay, hidden
        self.net: nn.Module = ROLES[self.role].make_net(hidden=hidden, codebook=load_codebook(codebook_id))
        self.facts: dict[str, Any] = {}

    @staticmethod
    def targets(data: LabelTensors, options: TargetOptions) -> dict[str, Tensor]:
        """Columns that batches are cut from, and `owner`, the row of `data` whose features go with each item."""
        raise NotImplementedError

    @classmethod
    def card_facts(cls, targets: dict[str, Tensor], options: TargetOptions) -> dict[str, Any]:
        """Plain values for the card's own fields, from the targets of the train split."""
        return {}

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
