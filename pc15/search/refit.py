"""Joint re-fit: amplitudes, and at the end offsets, of every tile again, what lies around it as it is now."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_LAYERS
from pc15.runtime.device import free_memory
from pc15.search.backend.protocol import TileBatch, TileLayers
from pc15.search.candidates import Layers
from pc15.search.plane_state import PlaneState
from pc15.search.refine import OffsetDescent, OffsetSteps, draw_steps, step_sizes

_BYTES_PER_PIXEL = 100
"""Memory that drawing all single steps of one layer takes."""


def refit(state: PlaneState, group: Tensor, refine: int, steps: dict[int, OffsetSteps]) -> None:
    """Fit each layer of each tile again, the last one first, and drop layers that do not pay.

    Args:
        group: [n] int64, tiles that do not overlap.   refine: rounds of descent over offsets.
        steps: what a descent tries first of layers, by their number, as far as that is drawn already.
    """
    programs, continuous = state.tiles, state.continuous
    group, counts = programs.by_count(group)  # tiles that have a layer are the first ones
    if programs.plain and state.bank.drawn is not None and continuous is None and not refine:
        _fit_amplitudes(state, group, counts)
        return
    having = np.bincount(counts.cpu().numpy(), minlength=1)[::-1].cumsum()[::-1].tolist()  # so many layers or more
    most = len(having) - 1
    e, x, cls = state.batch(group)
    amps = programs.amp[group].t().contiguous()  # [L,n]
    fields = programs.fields[group].transpose(0, 1).contiguous()
    for layer in range(most - 1, -1, -1):
        own = slice(having[layer + 1])
        tiles, left, place = group[own], e[own], cls[own]
        layers = found = Layers(fields[layer, own], programs.plain)
        before = state.contribution(layers, amps[layer, own])
        state.canvas.show(left, place, before, 1)  # what is left without the layer
        descent = OffsetDescent(state.scorer, state.codebook, TileBatch(left, x[own], place), layer)
        change, amp = descent.score(layers)
        if continuous is not None:
            found, change, amp = descent.polish(continuous, found, change, amp)
        found, change, amp = descent.descend(found, change, amp, refine, steps.pop(layer, None))
        amp = torch.mul(amp, change < 0, out=amps[layer, own])
        after = state.contribution(found, amp)
        state.canvas.add(tiles, after, before)
        state.canvas.show(left, place, after, -1)
        if found is not layers:
            fields[layer, own] = found.fields
            programs.plain = programs.plain and found.plain
    programs.replace(group, fields.transpose(0, 1), amps.t())


def _fit_amplitudes(state: PlaneState, group: Tensor, counts: Tensor) -> None:
    """Fit amplitudes of layers that are the bank's own patterns; `group` has those of most layers first."""
    programs, most = state.tiles, int(counts[0])
    if not most:
        return
    fields = programs.fields[group]
    layers = TileLayers(counts, fields[:, :most, 0], programs.amp[group, :most])
    levels, added = state.scorer.refit(state.batch(group), layers)
    state.canvas.add(group, added)
    programs.replace(group, fields, torch.nn.functional.pad(levels, (0, MAX_LAYERS - most)))


def steps_ahead(state: PlaneState, refine: int) -> list[dict[int, OffsetSteps]]:
    """Draw what a descent tries first of each layer number of each group, as tiles are now, all in one go.

    Only where a call costs far more than what it draws; not if it does not fit into memory.
    """
    nothing: list[dict[int, OffsetSteps]] = [{} for _ in state.groups]
    if not (state.ops.draws_ahead and refine and state.continuous is None):
        return nothing
    programs = state.tiles
    total = int(programs.count.sum())
    if total * _BYTES_PER_PIXEL * state.cfg.tile**2 > free_memory(state.x.device) // 2:
        return nothing
    tiles = torch.cat([programs.by_count(group)[0] for group in state.groups])
    turn = torch.cat([torch.full_like(group, i) for i, group in enumerate(state.groups)])
    each = torch.arange(MAX_LAYERS, device=tiles.device)
    at, layer = torch.nonzero(each < programs.count[tiles, None], as_tuple=True)
    step = 1 << step_sizes(state.scorer, refine)[0]
    drawn = draw_steps(state.scorer, state.codebook, programs.layers(tiles[at], layer), step)
    place, most = turn[at] * MAX_LAYERS + layer, int(programs.count.max())
    for i, steps in enumerate(nothing):
        for number in range(most):
            steps[number] = drawn.pick(torch.nonzero(place == i * MAX_LAYERS + number).flatten())
    return nothing
