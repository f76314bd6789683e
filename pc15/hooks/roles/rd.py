"""M3, the RD surrogate: what a candidate would gain in D and cost in bits, without drawing it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pc15.bitstream.programs import MAX_PARAMS
from pc15.hooks.features import FEATURES
from pc15.hooks.fixed_point import Snap
from pc15.hooks.protocol import LayerView
from pc15.hooks.roles.common import CHUNK_VALUES, MEET, WAVES, Entries, Match, gates, trunk, waves
from pc15.hooks.weights import Predictor, all_numbers
from pc15.proc.codebook import Codebook
from pc15.proc.generators import NAMES

__all__ = ["RdNet", "RdPredictor", "interpolated"]


class RdNet(nn.Module):
    """M3: features [n, F] and codebook entries [n] -> [n, 2]: gain in D and bits, both normalised.

    A tile and an entry are read apart and meet late, so that a bank's entries are read once, not per tile.
    """

    def __init__(self, *, codebook: Codebook, features: int = FEATURES, hidden: int = 96) -> None:
        super().__init__()
        self.entries, self.match = Entries(codebook), Match()
        self.trunk = trunk(features, hidden)
        self.tile_part = nn.Linear(hidden, hidden)
        self.gate, self.shift = gates(len(NAMES), hidden)
        self.param_part = nn.Linear(WAVES * MAX_PARAMS, hidden)
        self.like_part = nn.Linear(1, hidden, bias=False)
        self.snap = Snap()
        self.mixed = nn.Sequential(nn.ReLU(), Snap(), nn.Linear(hidden, hidden // 2), nn.ReLU(), Snap())
        self.head = nn.Linear(hidden // 2, 2)
        self.out = Snap()

    def forward(self, features: Tensor, entry: Tensor) -> Tensor:
        """[n, 2] of pairs."""
        return self.meet(self.tile(features), self.candidate(entry))

    def tile(self, features: Tensor) -> Tensor:
        """The tile's side, [n, 64 + hidden]."""
        return torch.cat([self.match.query(features), self.snap(self.tile_part(self.trunk(features)))], dim=1)

    def candidate(self, entry: Tensor) -> Tensor:
        """The candidate's side, [.., 64 + hidden]."""
        gen = self.entries.gens[entry]
        own = self.snap(self.param_part(self.snap(waves(self.entries.shares[entry]))))
        own = self.snap(own * self.gate(gen) + self.shift(gen))
        return torch.cat([self.match.keys(self.entries.patterns[entry]), own], dim=-1)

    def meet(self, tile: Tensor, candidate: Tensor) -> Tensor:
        """[.., 2] from both sides, broadcast."""
        likeness = self.match.likeness((tile[..., :MEET] * candidate[..., :MEET]).sum(dim=-1, keepdim=True))
        a, b = tile[..., MEET:], candidate[..., MEET:]
        return self.out(self.head(self.mixed(a * b + a + b + self.snap(self.like_part(likeness) * 8.0))))  # type: ignore[no-any-return]


class RdPredictor(Predictor):
    """M3: what a candidate would gain and cost.

    Args:
        weights, strict: see `Selector`.
        lambda_rd: price of a bit; None takes the one that the labels were made with.
    """

    role, title, slot = "rd", "M3", "rd_predictor"
    card_extra = ("lambda_rd", "area_share", "target", "calibration")

    @staticmethod
    def make_net(*, hidden: int, codebook: Codebook) -> nn.Module:
        """An untrained net."""
        return RdNet(hidden=hidden, codebook=codebook)

    @classmethod
    def card_problem(cls, card: Mapping[str, Any]) -> str | None:
        """Say which of the card's own fields cannot be used."""
        target, knots = card.get("target"), card.get("calibration")
        good = isinstance(target, dict) and all_numbers(target.get("mean"), 2) and all_numbers(target.get("std"), 2)
        good = good and all_numbers([card.get("lambda_rd"), card.get("area_share")]) and isinstance(knots, dict)
        good = good and card["lambda_rd"] > 0 and card["area_share"] > 0
        for name in ("gain", "bits"):
            part = knots.get(name) if good and isinstance(knots, dict) else None
            good = good and isinstance(part, dict) and all_numbers(part.get("x"))
            good = good and all_numbers(part.get("y"), len(part["x"]))  # type: ignore[union-attr, index]
            good = good and len(part["x"]) >= 1 and part["x"] == sorted(part["x"])  # type: ignore[index]
        return None if good else "target, lambda_rd, area_share or calibration is missing or out of range"

    def __init__(self, weights: str | Path, *, strict: bool = False, lambda_rd: float | None = None) -> None:
        super().__init__(weights, strict=strict)
        self.lambda_rd = lambda_rd

    def cost(self, features: Tensor, view: LayerView, rows: Tensor) -> Tensor:
        """Predicted RD of adding each candidate, [n,C] float64; +inf where a row is -1."""
        assert self._loaded is not None
        net, _, _ = self._on(features.device)
        known, starts = view.candidates, torch.tensor(net.entries.starts, device=features.device)
        at = rows.clamp(min=0)
        used, place = torch.unique(starts[known.gen[at]] + known.qv[at], return_inverse=True)
        candidates = net.candidate(used)
        tiles = net.tile(self._normalised(features))
        step = max(1, CHUNK_VALUES // max(1, rows.shape[1] * tiles.shape[1]))
        parts = [
            net.meet(tiles[i : i + step, None], candidates[place[i : i + step]])
            for i in range(0, max(1, len(tiles)), step)
        ]
        predicted = torch.cat(parts)  # [n,C,2]
        gain, bits = (self._calibrated(predicted[:, :, k], k) for k in (0, 1))
        lam = self._loaded.card["lambda_rd"] if self.lambda_rd is None else self.lambda_rd
        area = view.tile * view.tile * self._loaded.card["area_share"]
        cost = bits * (lam / area) - gain
        return torch.where(rows >= 0, (cost * float(1 << 20)).round() / float(1 << 20), math.inf)

    def _calibrated(self, raw: Tensor, column: int) -> Tensor:
        """Out of the net's normalisation and through the isotonic knots."""
        assert self._loaded is not None
        card = self._loaded.card
        value = raw * card["target"]["std"][column] + card["target"]["mean"][column]
        knots = card["calibration"][("gain", "bits")[column]]
        return interpolated(value, knots["x"], knots["y"])


def interpolated(value: Tensor, x: list[float], y: list[float]) -> Tensor:
    """Piecewise linear through the knots (x, y), constant beyond them; x rises."""
    at, to = (torch.tensor(knots, dtype=torch.float64, device=value.device) for knots in (x, y))
    if len(x) == 1:
        return to.expand(value.shape)
    value = value.to(torch.float64).clamp(x[0], x[-1]).contiguous()
    right = torch.bucketize(value, at).clamp(1, len(x) - 1)
    width = (at[right] - at[right - 1]).clamp(min=1e-12)
    return to[right - 1] + (to[right] - to[right - 1]) * ((value - at[right - 1]) / width)
