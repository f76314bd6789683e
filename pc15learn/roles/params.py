"""M2, the parameter initialiser: which entries of a generator's codebook, and which offsets around them."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pc15.hooks.roles.params import ParamNet
from pc15learn.config import TrainConfig
from pc15learn.label_tensors import LabelTensors, TargetOptions
from pc15learn.roles.base import RoleModule

__all__ = ["ParamModule"]

LEAST_WEIGHT = 0.05
"""Weight below which a generator's best entry is left out."""


class ParamModule(RoleModule):
    """Fit `pc15.hooks.roles.params.ParamNet` to the best entry of each generator.

    batch: features [B,F], gen, qv [B], offsets [B,MAX_PARAMS] level steps, chosen [B] (offsets count), weight [B].
    loss:  cross-entropy over the generator's entries, nats, + 0.1 * Huber of offsets.
    logs:  train/loss, val/loss, val/hit_at_8 = share of pairs whose entry is in the top 8.
    """

    role = "params"
    demo = TrainConfig(hidden=64, lr=3e-3, batch_size=1024, max_epochs=6)

    @staticmethod
    def targets(data: LabelTensors, options: TargetOptions) -> dict[str, Tensor]:
        """Best entry of every generator that a row has candidates of; offsets where the choice has some.

        owner: [P] row.   gen, qv: [P].   offsets: [P,MAX_PARAMS] float32.   chosen: [P] 1 where offsets count.
        weight: [P], by how near the pair came to the best.
        """
        rd = data.c_d + data.lambda_rd[data.owner] * data.c_bits / data.area
        owner = torch.cat([torch.arange(len(data)), data.owner])
        gen, qv = torch.cat([data.gen, data.c_gen]), torch.cat([data.qv, data.c_qv])
        rd = torch.cat([data.rd, rd])
        chosen = torch.cat([torch.ones(len(data)), torch.zeros(len(data.owner))])
        order = torch.from_numpy(np.lexsort((-chosen.numpy(), rd.numpy(), gen.numpy(), owner.numpy())))
        owner, gen, qv, rd, chosen = owner[order], gen[order], qv[order], rd[order], chosen[order]
        first = torch.ones(len(owner), dtype=torch.bool)
        first[1:] = (owner[1:] != owner[:-1]) | (gen[1:] != gen[:-1])
        owner, gen, qv, rd, chosen = owner[first], gen[first], qv[first], rd[first], chosen[first]
        gain = (data.d0 - data.rd).clamp(min=1e-9)[owner]
        weight = torch.exp(-((rd - data.rd[owner]).clamp(min=0.0) / (2.0 * options.temperature * gain)).clamp(max=30.0))
        keep = (weight > LEAST_WEIGHT) | (chosen > 0)
        offsets = data.offsets[owner].float() * chosen.view(-1, 1)
        return {
            "owner": owner[keep],
            "gen": gen[keep],
            "qv": qv[keep],
            "offsets": offsets[keep],
            "chosen": chosen[keep].float(),
            "weight": weight[keep].float(),
        }

    def __init__(self, *, codebook_id: str, hidden: int = 128, lr: float = 1e-3, weight_decay: float = 1e-2) -> None:
        super().__init__(codebook_id=codebook_id, hidden=hidden, lr=lr, weight_decay=weight_decay)

    def _costs(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """(cost [B], weight [B], hit [B]: the entry is among its generator's top 8), items by generator."""
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
        at = torch.cat(order)
        off = F.huber_loss(offsets, batch["offsets"], reduction="none").mean(dim=1) * batch["chosen"]
        return torch.cat(parts) + 0.1 * off[at], weight[at], torch.cat(hits)

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        cost, weight, _hit = self._costs(batch)
        loss = self.mean_of_batch(cost, weight)
        self.log("train/loss", loss, batch_size=len(cost))
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        cost, weight, hit = self._costs(batch)
        self.add_to_mean("val/loss", cost, weight)
        self.add_to_mean("val/hit_at_8", hit)
