"""Merging: the program of each tile anew among its own layers and its neighbours', continued; the better one stays."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_LAYERS
from pc15.draw import amplitude_q15
from pc15.proc.registry import coefficient, scaled_pattern
from pc15.search.backend.protocol import Patterns, TileBatch
from pc15.search.candidates import Layers
from pc15.search.cost import AMP_SEARCHED
from pc15.search.merge import Neighbours, neighbours
from pc15.search.plane_state import PlaneState
from pc15.search.refine import address_q8
from pc15.search.tile_programs import TilePrograms


class MergedLayer(NamedTuple):
    """The next layer of each of n tiles; all [n].

    change: of J, +inf where there is none.   which: number among its `Neighbours`.   amp: signed level.
    bits: in 1/256 bit.
    """

    change: Tensor
    which: Tensor
    amp: Tensor
    bits: Tensor


def merge(state: PlaneState, tiles: Tensor) -> None:
    """Choose the programs of a wave of tiles anew.

    Args:
        tiles: [n] int64, one of `waves`.
    """
    batch, every = state.batch(tiles), state.tiles
    left = batch.e.clone()
    state.canvas.show(left, batch.cls, state.canvas.samples(tiles), 1)
    old_bits = state.program_bits(tiles) + state.costs.merges(0)[2] * every.count[tiles]
    old_j = state.scorer.distortion(*batch) + old_bits * state.bit_price
    pool, grid = every.every(), state.stacks[0].grid
    near = neighbours(tiles, every, grid, state.task.header.section_rows, state.codebook, state.cfg.seed)
    found = TilePrograms.of_dc(every.dc[tiles])
    bits = torch.zeros(len(tiles), dtype=torch.int64, device=tiles.device)
    samples = torch.zeros_like(left)
    at = torch.arange(len(tiles), device=tiles.device)
    for layer in range(state.cfg.max_layers):
        now = TileBatch(left[at], batch.x[at], batch.cls[at])
        best = _next_layer(state, near, pool, at, now, layer)
        pays = torch.nonzero(best.change < 0).flatten()
        at, which, amp = at[pays], best.which[pays], best.amp[pays]
        if not len(at):
            break
        bits[at] += best.bits[pays]
        start = near.root[at, which]
        found.put(at, layer, pool.pick(start), amp)
        found.source[at, layer], found.root[at, layer] = near.source[at, which], start
        added = _samples_of(state, near, at, which, amp)
        near.patterns.rms[at, which] = 0.0  # once is enough
        samples[at] += added
        left[at] -= (state.windows.blend[batch.cls[at]] * added + (1 << 15)) >> 16
    new_j = state.scorer.distortion(left, batch.x, batch.cls) + bits * state.bit_price
    better = torch.nonzero(new_j < old_j).flatten()
    wins = tiles[better]
    found.root = torch.where(found.source > 0, found.root, every.root[tiles])
    for name in ("count", "fields", "amp", "source", "root"):
        getattr(every, name)[wins] = getattr(found, name)[better]
    state.canvas.put(wins, samples[better])


def _next_layer(
    state: PlaneState, near: Neighbours, pool: Layers, at: Tensor, tiles: TileBatch, layer: int
) -> MergedLayer:
    """The layer that suits each tile best, at the better of two amplitudes: what suits the tile, and what it has had.

    Args:
        at: [n] int64, rows of `near` that the tiles are.   pool: every layer of every tile.
    """
    costs, price = state.costs, state.bit_price
    address, changes, own_flag = costs.merges(layer)
    plain = costs.amplitudes(layer)
    source, before = near.source[at], near.amp[at]
    layers = pool.pick(near.root[at].flatten())
    own = address_q8(state.scorer, layers, layer).view(source.shape) + own_flag
    side, number = (source - 1).clamp(min=0) // MAX_LAYERS, (source - 1).clamp(min=0) % MAX_LAYERS
    other = address[side, number] + costs.one_more(layer, state.cfg.max_layers)
    cost = torch.where(source > 0, other, own)
    patterns = Patterns(near.patterns.store, near.patterns.at[at], near.patterns.rms[at])
    change, amp = state.scorer.exact(*tiles, patterns, cost, layer)
    first = plain[(amp < 0).long(), amp.abs()]

    def amp_cost(amp: Tensor, before: Tensor, source: Tensor) -> Tensor:
        more = (amp.abs() - before.abs()).clamp(-AMP_SEARCHED, AMP_SEARCHED) + AMP_SEARCHED
        turned = ((amp < 0) != (before < 0)).long()
        return torch.where(source > 0, changes[more, turned], plain[(amp < 0).long(), amp.abs()])

    change = change + (amp_cost(amp, before, source) - first) * price
    which = state.ops.lowest(change, 1)
    change, amp, before, cost, source = (part.gather(1, which)[:, 0] for part in (change, amp, before, cost, source))
    which = which[:, 0]
    usable = torch.isfinite(change)
    same = _samples_of(state, near, at, which, torch.where(usable, before, 0))
    rest = tiles.e - ((state.windows.blend[tiles.cls] * same + (1 << 15)) >> 16)
    kept_bits, bits = (cost + amp_cost(level, before, source) for level in (before, amp))
    kept = state.scorer.distortion(rest, tiles.x, tiles.cls) - state.scorer.distortion(*tiles) + kept_bits * price
    keep = usable & (kept < change)
    return MergedLayer(
        torch.where(keep, kept, change), which, torch.where(keep, before, amp), torch.where(keep, kept_bits, bits)
    )


def _samples_of(state: PlaneState, near: Neighbours, at: Tensor, which: Tensor, amp: Tensor) -> Tensor:
    """Samples that one of each tile's layers adds at amplitude levels [n]; [n,T,T] int32 Q12."""
    row = near.patterns.at[at, which]
    factor = coefficient(amplitude_q15(amp, state.spec.amp_step), near.rms[row])
    return scaled_pattern(factor, near.drawn[row])
