"""Beam search: the whole program of each tile anew, its neighbours as they are; the better one stays."""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.search.backend.protocol import Backend, Leads, TileBatch
from pc15.search.candidates import Layers
from pc15.search.plane_state import PlaneState
from pc15.search.refine import BestLayers, LayerSearch, Lists, best_layers

_SPREAD, _MIX = -7046029254386353131, -4658895280553007687
"""Odd numbers by which hashes are multiplied, the rest falling out of 64 bits: G. Steele et al., OOPSLA 2014."""


def _hashes(rows: Tensor) -> Tensor:
    """Numbers of 64 bits for bank rows, such that sums of them tell sets of rows apart."""
    mixed = (rows + 1) * _SPREAD
    mixed = (mixed ^ (mixed >> 30)) * _MIX
    return mixed ^ (mixed >> 27)


class Beam:
    """States of n tiles as a beam moves on, and the best of each so far.

    leads: at first the states without a layer.   sets: [S], sums of `_hashes`, of what the states of now are made of.
    """

    def __init__(self, j: Tensor, ops: Backend) -> None:
        self._ops = ops
        self.sets, depth, offer = (torch.zeros(len(j), dtype=torch.int64, device=j.device) for _ in range(3))
        self.leads = Leads(j, depth, offer)

    def extend(
        self, owner: Tensor, j: Tensor, change: Tensor, rows: Tensor, width: int, layer: int
    ) -> tuple[Tensor, Tensor]:
        """Extend states [S] by `Backend.offered`, and note each tile's best.

        Args:
            rows: [S*K], what is offered.
        """
        sets = self.sets[:, None] + _hashes(rows).view(change.shape)
        every, kept = self._ops.offered(owner, j, change, sets, width, layer, self.leads)
        self.sets = sets.reshape(-1)[kept]
        return every, kept


def search_again(state: PlaneState, group: Tensor) -> None:
    """Search each tile's whole program anew with a beam, its neighbours as they are; keep the better one.

    Args:
        group: [n] int64, tiles that do not overlap.
    """
    batch = state.batch(group)
    old_j = state.scorer.distortion(*batch) + state.program_bits(group) * state.bit_price
    state.canvas.show(batch.e, batch.cls, state.canvas.samples(group), 1)
    new_j, trail = _best_programs(state, batch, None if state.recall is None else state.recall.of(group))
    better = new_j < old_j
    tiles = group[better]
    if not len(tiles):
        return
    state.tiles.clear(tiles)
    state.canvas.put(tiles, torch.zeros_like(batch.e[: len(tiles)]))
    for layer, (has, layers, amp) in enumerate(trail):
        at = torch.nonzero(better & has).flatten()
        if len(at):
            state.put_layer(group[at], layer, layers.pick(at), amp[at])


def _best_programs(
    state: PlaneState, bare: TileBatch, among: Tensor | None
) -> tuple[Tensor, list[tuple[Tensor, Layers, Tensor]]]:
    """Best program of each tile from its DC alone: (J [n], per layer (has it [n], layer, amplitude)).

    Args:
        among: [n,M] int64, bank rows to choose from; None for all.
    """
    n, width, device = len(bare.e), state.cfg.beam, bare.e.device
    best = Beam(state.scorer.distortion(*bare), state.ops)
    owner = torch.arange(n, device=device)  # state -> tile, ascending
    e, j, of = bare.e, best.leads.j.clone(), bare.cls
    search = LayerSearch(state.scorer, state.codebook, state.cfg.ai, on_scored=state.on_scored)
    steps: list[tuple[BestLayers, Tensor]] = []  # per layer, what was found for each state, and what of that was kept
    for layer in range(state.cfg.max_layers):
        x_of = bare.x if not layer else bare.x[owner]
        own = None if among is None else Lists(among, owner)
        found = best_layers(search, TileBatch(e, x_of, of), layer, width, own)
        j, kept = best.extend(owner, j, found.change, found.layers.row, width, layer)
        if not len(kept):
            break
        steps.append((found, kept))
        parent = torch.div(kept, found.change.shape[1], rounding_mode="floor")
        j, owner = j[kept], owner[parent]
        of = bare.cls[owner]
        e = state.without(e, parent, of, found.layers.pick(kept), found.amp.reshape(-1)[kept])
    trail = []
    at = best.leads.offer
    for layer in range(len(steps) - 1, -1, -1):
        found, _ = steps[layer]
        has = best.leads.depth > layer
        now = torch.where(has, at, 0)
        trail.append((has, found.layers.pick(now), found.amp.reshape(-1)[now]))
        if layer:
            parent = torch.div(now, found.change.shape[1], rounding_mode="floor")
            at = torch.where(has, steps[layer - 1][1][parent], at)
    return best.leads.j, trail[::-1]
