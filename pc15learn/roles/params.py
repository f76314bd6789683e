"""M2, the parameter initialiser: which entries inside the chosen cells."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn

from pc15.hooks.roles.params import DIMENSIONS, EntryNet
from pc15.search.bank import Bank
from pc15.search.windows import Surroundings
from pc15learn.label_tensors import LabelTensors
from pc15learn.roles.base import RoleModule

__all__ = ["ParamModule"]

_OTHERS = 256
"""Rows of the bank, drawn at random, that every row of a batch competes with too."""


class ParamModule(RoleModule):
    """Fit `pc15.hooks.roles.params.EntryNet` to the oracle's exact costs.

    loss: cross-entropy over a row's candidates and others of the bank, nats, each as likely as it is good.
    logs: train/loss, val/loss, val/hit_at_16 = share of rows whose best candidate is among the first 16 of all these.
    """

    role = "params"

    def of_bank(self, bank: Bank, around: Surroundings) -> dict[str, Any]:
        assert bank.seen is not None, "checked by who reads the labels"
        pixels = bank.seen.to(torch.float32)
        pixels = pixels / pixels.square().sum(dim=1, keepdim=True).clamp(min=1.0).sqrt()
        self.register_buffer("pixels", pixels, persistent=False)
        self.pixels: Tensor
        self.sharp = nn.Parameter(torch.tensor(3.0))
        _, _, basis = torch.linalg.svd(pixels[:: max(1, len(pixels) // 20_000)], full_matrices=False)
        rows = basis[:DIMENSIONS].contiguous()
        return {"basis": (rows.cpu(), (pixels @ rows.t()).abs().amax(dim=0).clamp(min=1e-3).cpu())}

    def _costs(self, batch: LabelTensors, others: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(cross-entropy [B], weight [B], hit [B])."""
        net = cast(EntryNet, self.net)
        at = batch.rows.clamp(min=0)
        query = net.queries(batch.inputs) / 127.0
        own = net.keys(self.pixels[at])  # [B,M,D]
        price = batch.inputs.price[:, None]
        score = batch.norms * (query[:, None] * own).sum(dim=2).square() - price * batch.bits
        known = (batch.rows >= 0).float()
        count = known.sum(dim=1, keepdim=True).clamp(min=1)
        usual, norm = ((part * known).sum(dim=1, keepdim=True) / count for part in (batch.bits, batch.norms))
        beside = norm * (query @ net.keys(self.pixels[others]).t()).square() - price * usual
        score = torch.where(batch.rows >= 0, score, -1e3)
        every = torch.cat([score, beside], dim=1)
        top = every.detach().amax(dim=1, keepdim=True).clamp(min=2.0**-20)
        likely = (every / top * self.sharp.exp()).clamp(min=-60.0)
        shares = self.shares(batch)
        target = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-9)
        cost = -(target * likely.log_softmax(dim=1)[:, : at.shape[1]]).sum(dim=1)
        best = likely.detach().gather(1, batch.behind.argmin(dim=1, keepdim=True))
        hit = (likely.detach() > best).sum(dim=1) < 16
        return cost, torch.where(batch.pays, self.weights(batch), 0.0), hit

    def training_step(self, batch: LabelTensors, _: int) -> Tensor:
        others = torch.randint(len(self.pixels), (_OTHERS,), device=batch.rows.device)
        cost, weight, _hit = self._costs(batch, others)
        loss = self.mean_of_batch(cost, weight + 1e-9)
        self.log("train/loss", loss, batch_size=len(cost))
        return loss

    def validation_step(self, batch: LabelTensors, _: int) -> None:
        count = len(self.pixels)
        others = torch.arange(_OTHERS, device=batch.rows.device) * count // _OTHERS
        cost, weight, hit = self._costs(batch, others)
        self.add_to_mean("val/loss", cost, weight)
        self.add_to_mean("val/hit_at_16", hit, batch.pays)
