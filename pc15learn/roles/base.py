"""The base of all trainings: the net, the optimizer, and the facts that travel from checkpoint to card."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from pc15.hooks.roles import ROLES
from pc15.search.bank import Bank
from pc15.search.windows import Surroundings
from pc15learn.config import TrainConfig
from pc15learn.dataset import LabelData
from pc15learn.label_tensors import LabelTensors

__all__ = ["RoleModule"]

_LEAST_LR = 0.02  # of the rate that a fit begins with


class RoleModule(LightningModule):
    """A net of `pc15.hooks.roles` and how it is fitted; the net alone is exported.

    A subclass sets `role`, a key of `ROLES`, and `demo`, a fit that takes seconds, and computes a loss of batches of
    `LabelTensors`.

    Args:
        bank: the candidates that rows of labels are of.   around: what lies around tiles.   Both None to load a
            checkpoint, which has all that they are needed for.
        hidden: units per layer.   lr, weight_decay: of AdamW.   temperature: softness of targets, in gains.
    """

    role: ClassVar[str]
    demo: ClassVar[TrainConfig] = TrainConfig(hidden=128, lr=3e-3, batch_size=256, max_epochs=6)

    def __init__(
        self,
        *,
        bank: Bank | None = None,
        around: Surroundings | None = None,
        hidden: int = 128,
        lr: float = 3e-4,
        weight_decay: float = 1e-2,
        temperature: float = 0.05,
    ) -> None:
        super().__init__()
        self.lr, self.weight_decay, self.hidden, self.temperature = lr, weight_decay, hidden, temperature
        facts = {} if bank is None or around is None else self.of_bank(bank, around)
        self.net: nn.Module = ROLES[self.role].make_net(hidden=hidden, **facts)
        self.facts: dict[str, Any] = {}
        self.lr_cap = 1.0
        self._sums: dict[str, Tensor] = {}

    @classmethod
    def data(cls, labels: str | Path, **options: Any) -> Any:
        """Batches that it is fitted to, as `LabelData`, with options as that takes them."""
        return LabelData(labels, **options)

    def of_bank(self, bank: Bank, around: Surroundings) -> dict[str, Any]:
        """Take over what training needs of a bank; what `make_net` of the role is to be given."""
        return {}

    def frozen(self) -> dict[str, Tensor]:
        """The net as the encoder reads it."""
        return self.net.frozen()  # type: ignore[operator, no-any-return]

    def shares(self, batch: LabelTensors) -> Tensor:
        """Target of each candidate, [n,M], up to 1: soft by how far it falls behind, since several are often tied."""
        return torch.exp(-batch.behind / self.temperature) * (batch.rows >= 0)

    @staticmethod
    def weights(batch: LabelTensors) -> Tensor:
        """Weight of each row, [n]: what a wrong choice can lose, tempered."""
        weight = batch.gain.sqrt()
        return (weight / weight.mean().clamp(min=1e-9)).clamp(0.2, 5.0)

    def tables(self) -> dict[str, tuple[list[str | int], list[list[Any]]]]:
        """Tables of the last validation for a logger that shows them: columns and rows by name."""
        return {}

    def transfer_batch_to_device(self, batch: LabelTensors, device: torch.device, dataloader_idx: int) -> LabelTensors:
        """A batch on the device that trains; those of an oracle there lie there already."""
        return batch.to(device)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """AdamW; a cosine over all steps that falls to 2 %, and that no resuming lets rise.

        A resumed fit with more epochs follows the longer cosine as soon as that is below the rate it had reached, and
        keeps that rate until then.
        """
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, weight_decay=self.weight_decay)
        steps = max(1, int(self.trainer.estimated_stepping_batches))

        def share(step: int) -> float:
            return min(
                self.lr_cap, _LEAST_LR + (1.0 - _LEAST_LR) * (1.0 + math.cos(math.pi * min(step / steps, 1.0))) / 2.0
            )

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Facts for the card: plain JSON values, so that the checkpoint loads without unpickling code."""
        metrics = {
            name: round(float(value), 6) for name, value in sorted(self.trainer.callback_metrics.items()) if "/" in name
        }
        checkpoint["pc15"] = {"role": self.role, "hidden": self.hidden, "metrics": metrics, **self.facts}
        checkpoint["pc15_lr_share"] = self.trainer.optimizers[0].param_groups[0]["lr"] / self.lr

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take over what was learned beside the weights, such as a calibration, and the learning rate reached."""
        self.facts = {**checkpoint["pc15"], **self.facts}
        for name in ("role", "hidden", "metrics"):
            self.facts.pop(name, None)
        self.lr_cap = float(checkpoint["pc15_lr_share"])

    # ---------------------------------------------------------------- right numbers on several ranks

    def mean_of_batch(self, values: Tensor, weight: Tensor | None = None) -> Tensor:
        """Weighted mean over a batch whose items are shared out among ranks: a loss whose gradients add up to it.

        DDP takes the mean of the ranks' gradients, so each rank's sum is divided by the mean of the ranks' weights.

        Args:
            values: [n], of this rank's items.   weight: [n]; None for equal ones.
        """
        values = values.float()  # mixed precision cannot count a batch
        weight = torch.ones_like(values) if weight is None else weight.float()
        total = weight.detach().sum()
        ranks = self.trainer.world_size
        if ranks > 1:
            torch.distributed.all_reduce(total)
        return (values * weight).sum() * ranks / total

    def add_to_mean(self, name: str, values: Tensor, weight: Tensor | None = None) -> None:
        """Count items towards a metric that is logged when this validation ends: the mean over all ranks' items.

        Args:
            name: val/...   values: [n].   weight: [n]; None for equal ones.
        """
        values = values.detach().double()
        weight = torch.ones_like(values) if weight is None else weight.detach().double()
        own = torch.stack([(values * weight).sum(), weight.sum()])
        self._sums[name] = self._sums[name] + own if name in self._sums else own

    def on_validation_epoch_end(self) -> None:
        """Log what `add_to_mean` counted."""
        for name, sums in self._sums.items():
            if self.trainer.world_size > 1:
                torch.distributed.all_reduce(sums)
            self.log(name, (sums[0] / sums[1]).float())
        self._sums.clear()

    def of_all_ranks(self, values: Tensor) -> Tensor:
        """Rows of all ranks, one rank after the other, on the CPU; values: [n, ...], of any n per rank."""
        ranks = self.trainer.world_size
        if ranks == 1:
            return values.cpu()
        counts = torch.zeros(ranks, dtype=torch.int64, device=self.device)
        counts[self.trainer.global_rank] = len(values)
        torch.distributed.all_reduce(counts)
        padded = values.new_zeros((int(counts.max()), *values.shape[1:]), device=self.device)
        padded[: len(values)] = values
        parts = [torch.empty_like(padded) for _ in range(ranks)]
        torch.distributed.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts.tolist(), strict=True)]).cpu()

    def log(self, name: str, value: Any, *arguments: Any, **options: Any) -> None:
        """Log as Lightning does, with the mean over all ranks."""
        super().log(name, value, *arguments, **{**options, "sync_dist": True})
