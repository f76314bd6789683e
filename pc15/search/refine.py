"""From a shortlist to one layer per tile: exact scores, amplitude, offsets by steepest descent.

`best_layers` is the step that greedy search, beam search and labels share.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_PARAMS
from pc15.hooks.protocol import EncoderHooks
from pc15.proc.codebook import Codebook
from pc15.search.backend.protocol import Patterns, TileBatch
from pc15.search.candidates import Layers, bank_patterns, draw_layers, scoreable, shortlist
from pc15.search.continuous import LAST, PAYS_BITS, ContinuousSearch
from pc15.search.score import Scorer

_TRIALS = 2
"""Steps of each layer that are scored exactly, the best by squared error."""
_FEW = 4
"""Bank rows that are scored exactly beside what climbs from them."""
_POLISH = (4, 2, 1)
"""Sub-levels that an already climbed layer is moved by."""


@dataclass(eq=False)
class BestLayers:
    """The best layers of each tile, best first; all [n, K].

    layers: flattened [n*K].   amp: signed level.   change: what J changes by, +inf where there is no candidate.
    """

    layers: Layers
    amp: Tensor
    change: Tensor

    def merged(self, tiles: Tensor, other: BestLayers) -> BestLayers:
        """The best of both, as many as there are here; ties keep what is here.

        Args:
            tiles: [m] which of the tiles `other` is about.
        """
        (n, keep), extra = self.change.shape, other.change.shape[1]
        change = torch.nn.functional.pad(self.change, (0, extra), value=float("inf"))
        amp = torch.nn.functional.pad(self.amp, (0, extra))
        index = torch.arange(n * keep, device=change.device).view(n, keep)
        index = torch.nn.functional.pad(index, (0, extra))
        change[tiles, keep:], amp[tiles, keep:] = other.change, other.amp
        index[tiles, keep:] = n * keep + torch.arange(other.change.numel(), device=change.device).view(-1, extra)
        order = torch.sort(change, dim=1, stable=True).indices[:, :keep]
        both = Layers.joined([self.layers, other.layers])
        return BestLayers(both.pick(index.gather(1, order).reshape(-1)), amp.gather(1, order), change.gather(1, order))


def address_q8(scorer: Scorer, layers: Layers, layer: int) -> Tensor:
    """Cost of everything but the amplitude, [B] int32 in 1/256 bit."""
    cost = scorer.costs.added_rows(layer, scorer.cfg.max_layers)[layers.row]
    return cost if layers.plain else cost + scorer.costs.offset_cost(layers.offsets, layers.gen)


OnScored = Callable[[TileBatch, int, Tensor, Tensor], None]
"""Told of tiles [n], the layer's number, the bank rows [n,M] int64 that were scored exactly, -1 for none, and what J
would change by with each, [n,M] float64."""


@dataclass(frozen=True, eq=False)
class LayerSearch:
    """Everything that a search of the next layer of some tiles needs beside them.

    hooks: asked for candidates, if there are any.   continuous: search beyond the bank, for few large tiles.
    on_scored: told of all candidates that were scored exactly.
    on_listed: told of the bank rows [n,M] that were most promising, `recall` of them or more.
    """

    scorer: Scorer
    codebook: Codebook
    hooks: EncoderHooks | None = None
    continuous: ContinuousSearch | None = None
    on_scored: OnScored | None = None
    on_listed: Callable[[Tensor], None] | None = None


class Lists(NamedTuple):
    """Lists of bank rows: rows [m,M] int64, -1 for none, and the list of each of n tiles, [n] int64."""

    rows: Tensor
    of: Tensor


def best_layers(
    search: LayerSearch, tiles: TileBatch, layer: int, keep: int = 1, among: Lists | None = None
) -> BestLayers:
    """The `keep` best next layers of each tile.

    Args:
        among: bank rows to choose from; None for the whole bank.
    """
    scorer, codebook, continuous = search.scorer, search.codebook, search.continuous
    e, x, cls = tiles
    if among is not None:
        rows, offered = scorer.finer(among.rows, tiles, layer, scorer.cfg.shortlist, among.of), None
    elif continuous is None or search.hooks is not None:
        listed = max(scorer.cfg.shortlist, scorer.cfg.recall if search.on_listed is not None else 0)
        rows, offered = shortlist(scorer, search.hooks, tiles, layer, listed)
        if search.on_listed is not None:
            search.on_listed(rows)
        rows = rows[:, : scorer.cfg.shortlist]
        offered = None if offered is None else offered[:, : scorer.cfg.shortlist]
    else:  # one tile's screening is cheaper at full resolution, and what it finds only the beginning
        rows, offered = continuous.screen(e, cls, _FEW), None
    found = choose(search, Shortlist(rows, offered), tiles, layer, keep)
    if continuous is None:
        return found
    worth = scorer.distortion(e, x, cls) > scorer.cfg.lambda_rd * PAYS_BITS
    at = torch.nonzero(worth).flatten()
    if not len(at):
        return found
    layers, pair = continuous.propose(e[at], cls[at], layer)
    each = at.repeat_interleave(LAST)
    change, amp = OffsetDescent(scorer, codebook, TileBatch(e[each], x[each], cls[each]), layer).score(layers)
    change = change.view(-1, LAST)
    alone = pair & (change[:, 0] < 0)  # then what draws more alone is out
    found.change[at[alone]], change[alone, 1:] = float("inf"), float("inf")
    return found.merged(at, BestLayers(layers, amp.view(-1, LAST), change))


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Candidates for a layer of n tiles.

    rows: [n,M] bank rows, -1 for none.   offered: [n,M,P] offsets to try on them, or None.
    scored: change of J and amplitude level of `rows`, [n,M] each, where they are known already.
    """

    rows: Tensor
    offered: Tensor | None = None
    scored: tuple[Tensor, Tensor] | None = None


def choose(
    search: LayerSearch, given: Shortlist, tiles: TileBatch, layer: int, keep: int = 1, refine: int = 0
) -> BestLayers:
    """The `keep` best of a shortlist.

    Args:
        refine: rounds of descent over their offsets.
    """
    scorer, codebook, rows, offered = search.scorer, search.codebook, given.rows, given.offered
    e, x, cls = tiles
    n = e.shape[0]
    if given.scored is not None:
        change, amp = given.scored
    elif scorer.bank.drawn is not None:
        change, amp = scorer.exact_rows(e, x, cls, rows, layer)
    else:
        patterns = bank_patterns(scorer.bank, rows, codebook, scorer.tile, scorer.cfg.seed)
        cost = scorer.costs.added_rows(layer, scorer.cfg.max_layers)[rows.clamp(min=0)]
        change, amp = scorer.exact(e, x, cls, patterns, cost, layer)
    if search.on_scored is not None:
        search.on_scored(tiles, layer, rows, change)
    if offered is None and not refine:
        fields, amp, change = scorer.ops.pick(change, amp, rows, scorer.bank.address, 4 + MAX_PARAMS, keep)
        return BestLayers(Layers(fields, plain=True), amp, change)
    order = scorer.ops.lowest(change, keep)  # [n,K]
    keep = order.shape[1]
    change, amp, best = (part.gather(1, order).reshape(-1) for part in (change, amp, rows))
    layers = Layers.of_rows(scorer.bank, best)
    each = torch.arange(n, device=e.device).repeat_interleave(keep)
    descent = OffsetDescent(scorer, codebook, TileBatch(e[each], x[each], cls[each]), layer)
    if offered is not None:
        # hooks speak of levels
        own = offered.gather(1, order[:, :, None].expand(-1, -1, offered.shape[2])).flatten(0, 1)
        steps = own << scorer.costs.shifts[layers.gen]
        layers, change, amp = descent.better(layers, change, amp, layers.moved(steps))
    layers, change, amp = descent.descend(layers, change, amp, refine)
    change = torch.where(best >= 0, change, float("inf"))
    return BestLayers(layers, amp.view(n, keep), change.view(n, keep))


@dataclass(eq=False)
class OffsetSteps:
    """Every single step from the offsets of n layers, drawn: [n, 2 * MAX_PARAMS].

    offsets: [n, 2 * MAX_PARAMS, MAX_PARAMS] int64.   patterns: flat where a generator has no such parameter.
    """

    offsets: Tensor
    patterns: Patterns

    def pick(self, index: Tensor) -> OffsetSteps:
        """The steps of some of the layers."""
        own = self.patterns
        return OffsetSteps(self.offsets[index], Patterns(own.store, own.at[index], own.rms[index]))


def step_sizes(scorer: Scorer, rounds: int) -> list[int]:
    """log2 of the steps that `OffsetDescent.descend` takes one after the other, in levels or sub-levels."""
    fine = scorer.costs.fine
    return [
        size
        for turn in range(rounds)
        for most in (1 if turn + 1 < rounds else 0,)
        for size in range(fine + most, most - 1 if not fine else -1, -1)
    ]


def draw_steps(scorer: Scorer, codebook: Codebook, layers: Layers, step: int) -> OffsetSteps:
    """Draw every single step of a size, in levels or sub-levels, of n layers."""
    (n, width), device = layers.offsets.shape, layers.offsets.device
    eye = torch.eye(width, dtype=torch.int64, device=device)
    # counts have no sub-levels: a step of theirs is a level at least
    size = ((step << scorer.costs.shifts[layers.gen]) >> scorer.costs.fine).clamp(min=1)  # [n,P]
    steps = torch.cat([-eye, eye]) * size[:, None]  # [n,2P,P]
    reach = scorer.costs.reach
    offsets = (layers.offsets[:, None] + steps).clamp(-reach, reach)  # [n,2P,P]
    own = torch.arange(width, device=device).repeat(2) < scorer.costs.params[layers.gen][:, None]  # [n,2P]
    at, trial = torch.nonzero(own, as_tuple=True)
    tried = layers.pick(at).moved(offsets[at, trial])
    store, rms = scoreable(*draw_layers(tried, scorer.bank, codebook, scorer.tile, scorer.cfg.seed))
    drawn = torch.zeros((n, 2 * width), dtype=torch.int64, device=device)
    power = torch.zeros((n, 2 * width), dtype=torch.float64, device=device)
    drawn[at, trial], power[at, trial] = torch.arange(len(at), device=device), rms
    return OffsetSteps(offsets, Patterns(store, drawn, power))


class OffsetDescent:
    """Other offsets for the layers of some tiles, one layer each.

    Args:
        tiles: [n], what is left to draw without those layers.   layer: number of the layers.
    """

    def __init__(self, scorer: Scorer, codebook: Codebook, tiles: TileBatch, layer: int) -> None:
        self.scorer, self.codebook, self.tiles, self.layer = scorer, codebook, tiles, layer

    def score(self, layers: Layers) -> tuple[Tensor, Tensor]:
        """(change of J, amplitude) of one layer per tile, drawn exactly."""
        scorer = self.scorer
        if layers.plain and scorer.bank.drawn is not None:
            rows = layers.row[:, None]
            change, amp = scorer.exact_rows(*self.tiles, rows, self.layer, drawn=True)
            return change[:, 0], amp[:, 0]
        store, rms = scoreable(*draw_layers(layers, scorer.bank, self.codebook, scorer.tile, scorer.cfg.seed))
        patterns = Patterns(store, torch.arange(len(rms), device=rms.device)[:, None], rms[:, None])
        cost = address_q8(scorer, layers, self.layer)[:, None]
        change, amp = scorer.exact(*self.tiles, patterns, cost, self.layer)
        return change[:, 0], amp[:, 0]

    def better(self, layers: Layers, change: Tensor, amp: Tensor, trial: Layers) -> tuple[Layers, Tensor, Tensor]:
        """The better of each tile's layer and its trial; ties keep the layer."""
        new_change, new_amp = self.score(trial)
        wins = new_change < change
        layers = Layers.where(wins, trial, layers)
        return layers, torch.where(wins, new_change, change), torch.where(wins, new_amp, amp)

    def descend(
        self, layers: Layers, change: Tensor, amp: Tensor, rounds: int, first: OffsetSteps | None = None
    ) -> tuple[Layers, Tensor, Tensor]:
        """Steepest descent over offsets: in each round every single step is tried and the best one kept.

        Steps are of two levels, in the last round of one.  With sub-levels, a round goes on to ever smaller steps.

        Args:
            first: the steps of the first round, if they are drawn already.
        """
        for size in step_sizes(self.scorer, rounds):
            layers, change, amp = self._round(layers, change, amp, 1 << size, first)
            first = None
        return layers, change, amp

    def polish(
        self, continuous: ContinuousSearch, layers: Layers, change: Tensor, amp: Tensor
    ) -> tuple[Layers, Tensor, Tensor]:
        """Climb in squared error from where the layers are, and then by small steps in J."""
        layers, change, amp = self.better(layers, change, amp, continuous.polish(layers, self.tiles.e, self.tiles.cls))
        for size in _POLISH:
            layers, change, amp = self._round(layers, change, amp, size)
        return layers, change, amp

    def _round(
        self, layers: Layers, change: Tensor, amp: Tensor, step: int, steps: OffsetSteps | None = None
    ) -> tuple[Layers, Tensor, Tensor]:
        scorer, n = self.scorer, len(change)
        steps = draw_steps(scorer, self.codebook, layers, step) if steps is None else steps
        offsets, patterns = steps.offsets, steps.patterns
        trials = offsets.shape[1]
        each = layers.pick(torch.arange(n, device=amp.device).repeat_interleave(trials))
        cost = address_q8(scorer, each.moved(offsets.flatten(0, 1)), self.layer).view(n, trials)
        guess, _ = scorer.exact(*self.tiles, patterns, cost, self.layer, rough=True)
        order = scorer.ops.lowest(guess, _TRIALS)  # [n,2]
        row = torch.arange(n, device=amp.device)[:, None]
        few = Patterns(patterns.store, patterns.at[row, order], patterns.rms[row, order])
        new_change, new_amp = scorer.exact(*self.tiles, few, cost[row, order], self.layer)
        winner = scorer.ops.lowest(torch.cat([change[:, None], new_change], dim=1), 1)[:, 0]
        won = torch.nonzero(winner > 0).flatten()
        kept = winner[won] - 1
        pick = order[won, kept]
        layers, change, amp = Layers(layers.fields.clone()), change.clone(), amp.clone()
        layers.offsets[won] = offsets[won, pick]
        change[won], amp[won] = new_change[won, kept], new_amp[won, kept]
        return layers, change, amp
