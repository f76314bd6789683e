"""M2, the parameter initialiser: which codebook entries of a generator to start from, and which offsets."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pc15.bitstream.programs import MAX_PARAMS
from pc15.hooks.features import FEATURES
from pc15.hooks.fixed_point import Snap
from pc15.hooks.roles.common import CHUNK_VALUES, MEET, WAVES, Entries, Match, gates, trunk, waves
from pc15.hooks.weights import Predictor
from pc15.proc.codebook import OFFSET_MAX, Codebook
from pc15.proc.generators import NAMES

__all__ = ["ParamNet", "ParamPredictor"]

_MEET_ROOT = 8.0  # a power of two: dividing by it is exact
_IMPOSSIBLE = -1e6


class ParamNet(nn.Module):
    """M2: features [n, F] and a generator [n] -> logits over its codebook entries, and offsets [n, MAX_PARAMS].

    A logit is likeness times the generator's sharpness, plus a learned inner product of what the net makes of tile
    and entry, plus how usual the entry is.  Offsets are in level steps, within +-OFFSET_MAX.
    """

    def __init__(self, *, codebook: Codebook, features: int = FEATURES, hidden: int = 128) -> None:
        super().__init__()
        gens = len(NAMES)
        self.entries, self.match = Entries(codebook), Match()
        self.trunk = trunk(features, hidden)
        self.gate, self.shift = gates(gens, hidden)
        self.mixed = nn.Sequential(nn.ReLU(), Snap(), nn.Linear(hidden, hidden), nn.ReLU(), Snap())
        self.query_head, self.offset = nn.Linear(hidden, MEET), nn.Linear(hidden, MAX_PARAMS)
        self.key_body = nn.Sequential(nn.Linear(WAVES * MAX_PARAMS, MEET), nn.ReLU(), Snap(), nn.Linear(MEET, MEET))
        self.key_gate, self.key_shift = gates(gens, MEET)
        self.sharpness = nn.Embedding(gens, 1)
        nn.init.constant_(self.sharpness.weight, 10.0)
        nn.init.normal_(self.query_head.weight, std=0.01)
        self.usual = nn.Parameter(torch.zeros(len(self.entries.gens)))
        self.snap = Snap()

    def forward(self, features: Tensor, gen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, largest codebook], -inf beyond a generator's own entries, and offsets."""
        queries, offsets = self.read(features, self.trunk(features), gen)
        most = max(b - a for a, b in itertools.pairwise(self.entries.starts))
        logits = features.new_full((len(gen), most), float("-inf"), dtype=queries.dtype)
        keys = self.keys()
        for g in torch.unique(gen).tolist():
            at = torch.nonzero(gen == g).flatten()
            own = self.logits(queries[at], keys, g)
            logits[at, : own.shape[1]] = own
        return logits, offsets

    def read(self, features: Tensor, seen: Tensor, gen: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [n, 128] and offsets; `seen` is the trunk's output, which all generators of a tile share."""
        own = self.mixed(seen * self.gate(gen) + self.shift(gen))
        queries = torch.cat([self.match.query(features), self.snap(self.query_head(own))], dim=1)
        top = float(OFFSET_MAX)
        return queries, self.snap(self.offset(own)).clamp(-top, top)

    def keys(self) -> Tensor:
        """Keys that entries are looked up by, [E, 128]; they do not depend on the tile."""
        body = self.snap(self.key_body(self.snap(waves(self.entries.shares))))
        body = self.snap(body * self.key_gate(self.entries.gens) + self.key_shift(self.entries.gens))
        return torch.cat([self.match.keys(self.entries.patterns), body], dim=1)

    def logits(self, queries: Tensor, keys: Tensor, gen: int) -> Tensor:
        """Logits of one generator's entries, [n, E_g]."""
        own = self.entries.own(gen)
        likeness = self.match.likeness(queries[:, :MEET] @ keys[own, :MEET].T)
        learned = queries[:, MEET:] @ keys[own, MEET:].T / _MEET_ROOT
        return self.snap(likeness * self.sharpness.weight[gen] + learned + self.usual[own])  # type: ignore[no-any-return]


class ParamPredictor(Predictor):
    """M2: which codebook entries of a generator are worth scoring, and which offsets around them.

    Args:
        weights, strict: see `Selector`.
    """

    role, title, slot = "params", "M2", "param_predictor"

    @staticmethod
    def make_net(*, hidden: int, codebook: Codebook) -> nn.Module:
        """An untrained net."""
        return ParamNet(hidden=hidden, codebook=codebook)

    def __init__(self, weights: str | Path, *, strict: bool = False) -> None:
        super().__init__(weights, strict=strict)
        self._known_keys: dict[torch.device, Tensor] = {}

    def best(self, features: Tensor, allowed: Tensor, entries: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The `entries` likeliest entries of each allowed (tile, generator) pair.

        Args:
            features: [n, FEATURES].   allowed: [n, G] bool.
        Returns:
            pairs [m,2] int64 (tile, generator); qv [m,E] int64, -1 beyond the codebook; score [m,E] float64,
            log-probability in multiples of 1/256; offsets [m, MAX_PARAMS] int64.
        """
        assert self._loaded is not None
        net, _, _ = self._on(features.device)
        normal = self._normalised(features)
        seen, keys = net.trunk(normal), self._keys(net, features.device)
        pairs = torch.nonzero(allowed)
        m, device = len(pairs), features.device
        qv = torch.full((m, entries), -1, dtype=torch.int64, device=device)
        score = torch.full((m, entries), _IMPOSSIBLE, dtype=torch.float64, device=device)
        offsets = torch.zeros((m, MAX_PARAMS), dtype=torch.int64, device=device)
        for gen in torch.unique(pairs[:, 1]).tolist():
            if not (size := self._loaded.codebook.size(gen)):
                continue
            every = torch.nonzero(pairs[:, 1] == gen).flatten()
            for at in every.split(max(1, CHUNK_VALUES // size)):
                queries, steps = net.read(normal[pairs[at, 0]], seen[pairs[at, 0]], pairs[at, 1])
                shares = net.logits(queries, keys, gen).log_softmax(dim=1)
                best, place = _top(shares, entries)
                qv[at, : best.shape[1]], score[at, : best.shape[1]] = place, best
                offsets[at] = steps.round().to(torch.int64)
        return pairs, qv, score, offsets

    def _keys(self, net: Any, device: torch.device) -> Tensor:
        """Keys of all entries; they do not depend on the tile."""
        if device not in self._known_keys:
            self._known_keys[device] = net.keys()
        return self._known_keys[device]


def _top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each row as multiples of 1/256, and their places; ties go to the lower place."""
    width = scores.shape[1]
    rank = (scores * 256.0).round().to(torch.int64) * width
    key = (rank + torch.arange(width - 1, -1, -1, device=scores.device)).topk(min(count, width), dim=1).values
    whole = torch.div(key, width, rounding_mode="floor")
    return whole.to(torch.float64) / 256.0, width - 1 - (key - whole * width)
