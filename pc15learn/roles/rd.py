"""M3, the RD surrogate: what a candidate would gain in D and cost in bits, without drawing it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pc15.errors import SchemaError
from pc15.proc.generators import NAMES
from pc15learn.config import TrainConfig
from pc15learn.label_tensors import LabelTensors, TargetOptions
from pc15learn.roles.base import RoleModule

__all__ = ["RdModule", "isotonic_knots"]

_KNOTS = 64


class RdModule(RoleModule):
    """Fit `pc15.hooks.roles.rd.RdNet` to exact gains and bits of good and bad candidates.

    batch: features [B,F], entry [B] of the codebook, all generators counted through, target [B,2] (gain in D, bits).
    loss:  Huber of both, each normalised by `facts["target"]`, frozen from the train split.
    logs:  train/loss, val/loss, val/gain_error, val/bits_error = mean absolute errors, in D and bits.
    After every validation an isotonic map from predicted to true values is fitted and kept as knots.
    """

    role = "rd"
    demo = TrainConfig(hidden=64, lr=3e-3, batch_size=4096, max_epochs=3)

    @staticmethod
    def targets(data: LabelTensors, options: TargetOptions) -> dict[str, Tensor]:
        """Entry of each candidate, all generators counted through, and its gain in D and bits, [M,2] float32."""
        starts = torch.tensor([0, *itertools.accumulate(options.codebook.size(gen) for gen in range(len(NAMES)))])
        target = torch.stack([data.d0[data.owner] - data.c_d, data.c_bits], dim=1)
        return {"owner": data.owner, "entry": starts[data.c_gen] + data.c_qv, "target": target.float()}

    @classmethod
    def card_facts(cls, targets: dict[str, Tensor], options: TargetOptions) -> dict[str, Any]:
        """Scale of the targets, and the price that they were made at.

        Raises:
            SchemaError: labels of several rates: this net knows one.
        """
        if len(options.lambdas) > 1:
            rates = ", ".join(str(value) for value in options.lambdas)
            raise SchemaError(f"the rd net is fitted at one rate, and these labels are of {rates}; label at one")
        target = targets["target"]
        std = target.std(dim=0).clamp(min=1e-6)
        return {
            "target": {"mean": target.mean(dim=0).tolist(), "std": std.tolist()},
            "lambda_rd": options.lambdas[0],
            "area_share": (1.0 - options.overlap / options.tile) ** 2,
        }

    def __init__(self, *, codebook_id: str, hidden: int = 96, lr: float = 1e-3, weight_decay: float = 1e-2) -> None:
        super().__init__(codebook_id=codebook_id, hidden=hidden, lr=lr, weight_decay=weight_decay)
        self._seen: list[tuple[Tensor, Tensor]] = []

    def _scale(self, device: torch.device) -> tuple[Tensor, Tensor]:
        target = self.facts["target"]
        return torch.tensor(target["mean"], device=device), torch.tensor(target["std"], device=device)

    def _costs(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """(Huber of both normalised targets [B], predictions [B,2] in D and bits)."""
        predicted = self.net(batch["features"], batch["entry"])  # [B,2]
        mean, std = self._scale(predicted.device)
        cost = F.huber_loss(predicted, (batch["target"] - mean) / std, reduction="none").mean(dim=1)
        return cost, predicted * std + mean

    def training_step(self, batch: dict[str, Tensor], _: int) -> Tensor:
        cost, _values = self._costs(batch)
        loss = self.mean_of_batch(cost)
        self.log("train/loss", loss, batch_size=len(cost))
        return loss

    def validation_step(self, batch: dict[str, Tensor], _: int) -> None:
        cost, values = self._costs(batch)
        error = (values - batch["target"]).abs()
        self.add_to_mean("val/loss", cost)
        self.add_to_mean("val/gain_error", error[:, 0])
        self.add_to_mean("val/bits_error", error[:, 1])
        self._seen.append((values.detach().cpu(), batch["target"].detach().cpu()))

    def tables(self) -> dict[str, tuple[list[str | int], list[list[Any]]]]:
        """The calibration: true values by predicted ones."""
        columns: list[str | int] = ["predicted", "true"]
        knots = self.facts["calibration"]
        return {
            f"calibration/{name}": (columns, [list(row) for row in zip(own["x"], own["y"], strict=True)])
            for name, own in knots.items()
        }

    def on_validation_epoch_end(self) -> None:
        """Calibrate on what was just predicted, on all ranks."""
        super().on_validation_epoch_end()
        predicted, true = (
            self.of_all_ranks(torch.cat([part[k] for part in self._seen]).float()).double().numpy() for k in (0, 1)
        )
        self._seen.clear()
        if not np.isfinite(predicted).all():
            return  # diverged, which val/loss tells
        self.facts["calibration"] = {
            "gain": isotonic_knots(predicted[:, 0], true[:, 0]),
            "bits": isotonic_knots(predicted[:, 1], true[:, 1]),
        }


def isotonic_knots(predicted: np.ndarray[Any, Any], true: np.ndarray[Any, Any]) -> dict[str, list[float]]:
    """Isotonic regression of true on predicted values, as at most 64 knots (x, y) of a rising line."""
    from sklearn.isotonic import IsotonicRegression

    if len(predicted) < 2 or float(np.ptp(predicted)) < 1e-9:
        low, high = float(predicted.min()) - 1e-3, float(predicted.max()) + 1e-3
        middle = float(true.mean())
        return {"x": [round(low, 6), round(high, 6)], "y": [round(middle, 6)] * 2}
    x = np.unique(np.quantile(predicted, np.linspace(0.0, 1.0, _KNOTS)))
    fitted = IsotonicRegression(out_of_bounds="clip").fit(predicted, true)
    y = fitted.predict(x)
    rounded: dict[float, float] = {}
    for at, to in zip(x.tolist(), y.tolist(), strict=True):
        rounded[round(at, 6)] = round(to, 6)
    return {"x": list(rounded), "y": list(rounded.values())}
