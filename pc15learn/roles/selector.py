"""M1, the selector: which generators are worth trying on a residual."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor
from torch.nn import functional as F

from pc15.proc.generators import NAMES
from pc15learn.config import TrainConfig
from pc15learn.label_tensors import LabelTensors, TargetOptions
from pc15learn.roles.base import RoleModule

__all__ = ["SelectorModule"]


class SelectorModule(RoleModule):
    """Fit `pc15.hooks.roles.selector.SelectorNet` to the oracle's gains.

    batch: features [B,F], share [B,G] (soft labels), best [B] (the choice), weight [B].   loss: cross-entropy, nats.
    logs:  train/loss, val/loss, val/hit_at_1, val/hit_at_8 = share of rows whose choice is in the top 8.
    """

    role = "selector"
    demo = TrainConfig(hidden=64, lr=2e-3, batch_size=128, max_epochs=15)

    @staticmethod
    def targets(data: LabelTensors, options: TargetOptions) -> dict[str, Tensor]:
        """Share of every generator, [N,G] float32, soft by how far its best candidate falls behind; choice and weight.

            share ~ exp(-(RD - best RD) / (temperature * (D before - best RD)))

        Several generators are often nearly tied; a hard label would teach noise.
        """
        rd = data.c_d + data.lambda_rd[data.owner] * data.c_bits / data.area
        n, gens = len(data), len(NAMES)
        best = torch.full((n * gens,), float("inf"), dtype=torch.float64)
        best.scatter_reduce_(0, data.owner * gens + data.c_gen, rd, "amin")
        best.scatter_reduce_(0, torch.arange(n) * gens + data.gen, data.rd, "amin")
        table = best.view(n, gens)
        low = table.amin(dim=1, keepdim=True)
        gain = (data.d0.view(-1, 1) - low).clamp(min=1e-9)
        share = torch.exp(-(table - low) / (options.temperature * gain))
        share = share / share.sum(dim=1, keepdim=True)
        weight = gain.sqrt()
        weight = (weight / weight.mean()).clamp(0.2, 5.0)
        return {"owner": torch.arange(n), "share": share.float(), "best": data.gen, "weight": weight[:, 0].float()}

    def _costs(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(cross-entropy [B], logits [B,G])."""
        logits = self.net(batch["features"])
        return -(batch["share"] * logits.log_softmax(dim=1)).sum(dim=1), logits

    def tables(self) -> dict[str, tuple[list[str | int], list[list[Any]]]]:
        """How often the oracle chose each generator in the val split, and how often it was among the first."""
        columns: list[str | int] = ["generator", "rows", "hit_at_1", "hit_at_8"]
        rows = [
            [name, int(count), first / count, among / count]
            for name, (count, first, among) in zip(NAMES, self._by_gen.tolist(), strict=True)
            if count
        ]
        return {"generators": (columns, rows)}

    def on_validation_epoch_start(self) -> None:
        self._by_gen = torch.zeros((len(NAMES), 3), dtype=torch.float64, device=self.device)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.trainer.world_size > 1:
            torch.distributed.all_reduce(self._by_gen)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        cost, _logits = self._costs(batch)
        loss = self.mean_of_batch(cost, batch["weight"])
        self.log("train/loss", loss, batch_size=len(cost))
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        cost, logits = self._costs(batch)
        hit = logits.topk(8).indices == batch["best"][:, None]  # [B,8]
        self.add_to_mean("val/loss", cost, batch["weight"])
        self.add_to_mean("val/hit_at_1", hit[:, 0])
        self.add_to_mean("val/hit_at_8", torch.any(hit, dim=1))
        seen = torch.stack([torch.ones_like(hit[:, 0]), hit[:, 0], torch.any(hit, dim=1)], dim=1)  # [B,3]
        chosen = F.one_hot(batch["best"], len(NAMES)).double()  # [B,G]
        self._by_gen += chosen.T @ seen.double()
