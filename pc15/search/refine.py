"""From a shortlist to one layer per tile: exact scores, amplitude, offsets by steepest descent.

`best_layers` is the step that greedy search, beam search and labels share.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.hooks.heuristic import EncoderHooks
from pc15.proc.codebook import OFFSET_MAX, Codebook
from pc15.search.candidates import Layers, bank_patterns, draw_layers, scoreable, shortlist
from pc15.search.score import Patterns, Scorer, lowest_argmin

_TRIALS = 2
"""Steps of each layer that are scored exactly, the best by squared error."""


@dataclass(eq=False)
class Found:
    """The best layers of each tile, best first; all [n, K].

    layers: flattened [n*K].   amp: signed level.   change: what J changes by, +inf where there is no candidate.
    """

    layers: Layers
    amp: Tensor
    change: Tensor


def address_q8(scorer: Scorer, layers: Layers, rows: Tensor, layer: int) -> Tensor:
    """Cost of everything but the amplitude, [B] int32 in 1/256 bit.

    Args:
        rows: [B] bank row of the layers' entries.
    """
    cost = scorer.costs.rows(layer)[rows.clamp(min=0)] + scorer.costs.one_more(layer, scorer.cfg.max_layers)
    used = torch.arange(layers.offsets.shape[1], device=rows.device) < scorer.bank.params[layers.gen][:, None]
    steps = torch.where(used, layers.offsets, 0)
    spent = scorer.costs.offsets[steps + OFFSET_MAX]
    spent = torch.where(used, spent, 0).sum(dim=1, dtype=torch.int32)
    flag = scorer.costs.refined[1] - scorer.costs.refined[0]
    return cost + torch.where((steps != 0).any(dim=1), spent + flag, 0)


def best_layers(
    scorer: Scorer,
    codebook: Codebook,
    hooks: EncoderHooks | None,
    e: Tensor,
    x: Tensor,
    cls: Tensor,
    layer: int,
    keep: int = 1,
) -> Found:
    """The `keep` best next layers of each tile.

    Args:
        e: [n,T,T] int32 Q12, what is left to draw.   x: [n,T,T] int32 Q12, the picture.   cls: [n].
    """
    rows, offered = shortlist(scorer, hooks, e, cls, layer)
    return choose(scorer, codebook, rows, offered, e, x, cls, layer, keep)


def choose(
    scorer: Scorer,
    codebook: Codebook,
    rows: Tensor,
    offered: Tensor | None,
    e: Tensor,
    x: Tensor,
    cls: Tensor,
    layer: int,
    keep: int = 1,
    refine: int = 0,
) -> Found:
    """The `keep` best of a shortlist.

    Args:
        rows: [n,M] bank rows, -1 for none.   offered: [n,M,P] offsets to try on them, or None.
        refine: rounds of descent over their offsets.
    """
    n = e.shape[0]
    m = rows.shape[1]
    flat_rows = rows.reshape(-1)
    layers = Layers.of_rows(scorer.bank, flat_rows)
    patterns = bank_patterns(scorer.bank, rows, codebook, scorer.tile, scorer.cfg.seed)
    cost = address_q8(scorer, layers, flat_rows, layer).view(n, m)
    change, amp = scorer.exact(e, x, cls, patterns, cost, layer)
    order = torch.sort(change, dim=1, stable=True).indices[:, :keep]  # [n,K]
    keep = order.shape[1]
    change, amp = change.gather(1, order).reshape(-1), amp.gather(1, order).reshape(-1)
    picked = (torch.arange(n, device=e.device)[:, None] * m + order).reshape(-1)
    layers = layers.pick(picked)
    if offered is not None or refine:
        each = torch.arange(n, device=e.device).repeat_interleave(keep)
        trials = Trials(scorer, codebook, e[each], x[each], cls[each], layer, flat_rows[picked])
        if offered is not None:
            trial = Layers(layers.gen, layers.qv, layers.seed, offered.reshape(-1, offered.shape[2])[picked])
            layers, change, amp = trials.better(layers, change, amp, trial)
        layers, change, amp = trials.descend(layers, change, amp, refine)
    change = torch.where(flat_rows[picked] >= 0, change, float("inf"))
    return Found(layers, amp.view(n, keep), change.view(n, keep))


class Trials:
    """Other offsets for the layers of some tiles, one layer each.

    Args:
        e: [n,T,T] what is left to draw without those layers.   rows: [n] bank row of each layer's entry.
    """

    def __init__(
        self, scorer: Scorer, codebook: Codebook, e: Tensor, x: Tensor, cls: Tensor, layer: int, rows: Tensor
    ) -> None:
        self.scorer, self.codebook, self.e, self.x, self.cls = scorer, codebook, e, x, cls
        self.layer, self.rows = layer, rows

    def score(self, layers: Layers) -> tuple[Tensor, Tensor]:
        """(change of J, amplitude) of one layer per tile, drawn exactly."""
        scorer = self.scorer
        store, rms = scoreable(*draw_layers(layers, scorer.bank, self.codebook, scorer.tile, scorer.cfg.seed))
        patterns = Patterns(store, torch.arange(len(rms), device=rms.device)[:, None], rms[:, None])
        cost = address_q8(scorer, layers, self.rows, self.layer)[:, None]
        change, amp = scorer.exact(self.e, self.x, self.cls, patterns, cost, self.layer)
        return change[:, 0], amp[:, 0]

    def better(self, layers: Layers, change: Tensor, amp: Tensor, trial: Layers) -> tuple[Layers, Tensor, Tensor]:
        """The better of each tile's layer and its trial; ties keep the layer."""
        new_change, new_amp = self.score(trial)
        wins = new_change < change
        layers = Layers.where(wins, trial, layers)
        return layers, torch.where(wins, new_change, change), torch.where(wins, new_amp, amp)

    def descend(self, layers: Layers, change: Tensor, amp: Tensor, rounds: int) -> tuple[Layers, Tensor, Tensor]:
        """Steepest descent over offsets: in each round every single step is tried and the best one kept.

        Steps are of two levels, in the last round of one.
        """
        for turn in range(rounds):
            layers, change, amp = self._round(layers, change, amp, 2 if turn + 1 < rounds else 1)
        return layers, change, amp

    def _round(self, layers: Layers, change: Tensor, amp: Tensor, step: int) -> tuple[Layers, Tensor, Tensor]:
        scorer, n, width = self.scorer, len(change), layers.offsets.shape[1]
        moves = torch.cat([-torch.eye(width), torch.eye(width)]).to(layers.offsets) * step  # [2P,P]
        offsets = (layers.offsets[:, None] + moves).clamp(-OFFSET_MAX, OFFSET_MAX)  # [n,2P,P]
        own = torch.arange(width, device=amp.device).repeat(2) < scorer.bank.params[layers.gen][:, None]  # [n,2P]
        at, trial = torch.nonzero(own, as_tuple=True)
        tried = Layers(layers.gen[at], layers.qv[at], layers.seed[at], offsets[at, trial])
        store, rms = scoreable(*draw_layers(tried, scorer.bank, self.codebook, scorer.tile, scorer.cfg.seed))
        drawn = torch.zeros((n, 2 * width), dtype=torch.int64, device=amp.device)
        power = torch.zeros((n, 2 * width), dtype=torch.float64, device=amp.device)
        cost = torch.zeros((n, 2 * width), dtype=torch.int32, device=amp.device)
        drawn[at, trial], power[at, trial] = torch.arange(len(at), device=amp.device), rms
        cost[at, trial] = address_q8(scorer, tried, self.rows[at], self.layer)
        patterns = Patterns(store, drawn, power)
        guess, _ = scorer.exact(self.e, self.x, self.cls, patterns, cost, self.layer, rough=True)
        order = torch.sort(guess, dim=1, stable=True).indices[:, :_TRIALS]  # [n,2]
        row = torch.arange(n, device=amp.device)[:, None]
        few = Patterns(store, drawn[row, order], power[row, order])
        new_change, new_amp = scorer.exact(self.e, self.x, self.cls, few, cost[row, order], self.layer)
        winner = lowest_argmin(torch.cat([change[:, None], new_change], dim=1))
        won = torch.nonzero(winner > 0).flatten()
        kept = winner[won] - 1
        pick = order[won, kept]
        layers = layers.pick(torch.arange(n, device=amp.device))
        layers.offsets[won], change, amp = offsets[won, pick], change.clone(), amp.clone()
        change[won], amp[won] = new_change[won, kept], new_amp[won, kept]
        return layers, change, amp
