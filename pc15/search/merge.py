"""Merged layers: which patterns of its neighbours a tile may continue, and what they draw there.

Tiles are searched in waves, each after all the neighbours that it may continue, so that what these draw is settled.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_LAYERS, MERGE_FROM, MERGE_REACH
from pc15.grids import TileSpec
from pc15.proc.codebook import Codebook
from pc15.proc.registry import RMS_FLOOR, draw_continued
from pc15.proc.spec import fine_bits
from pc15.search.backend.protocol import Patterns
from pc15.search.candidates import Layers, scoreable
from pc15.search.tile_programs import TilePrograms


def waves(grid: TileSpec) -> list[list[int]]:
    """Tiles in batches: what a tile may continue lies in earlier batches, and tiles of a batch do not overlap."""
    apart = 2
    while any(stop - start < grid.cfg.size for start, stop in zip(grid.xs, grid.xs[apart:], strict=False)):
        apart += 1
    batches: dict[int, list[int]] = {}
    for tile in range(grid.count):
        batches.setdefault(apart * (tile // grid.nx) + tile % grid.nx, []).append(tile)
    return [batches[key] for key in sorted(batches)]


@dataclass(eq=False)
class Neighbours:
    """Layers that n tiles may continue, and those they have themselves, M each; [n,M] int64, rms 0 for no layer.

    source: as `Programs.source`, 0 for the tile's own.   root: where the pattern starts, tile * MAX_LAYERS + layer.
    amp: level in the neighbour, or in the tile.
    drawn, rms: [C,T,T] int32 Q14 in the tile, less the mean, and [C] int32 Q14; `patterns.at` says which is whose.
    """

    source: Tensor
    root: Tensor
    amp: Tensor
    drawn: Tensor
    rms: Tensor
    patterns: Patterns


def neighbours(
    tiles: Tensor, every: TilePrograms, grid: TileSpec, section_rows: int, codebook: Codebook, seed: int
) -> Neighbours:
    """Layers that tiles [n] may continue, and their own.

    Args:
        every: programs of all tiles.   section_rows: tile rows per section, 0 for all.
    """
    count, root, amp, pool = every.count, every.root, every.amp, every.every()
    row, column = tiles // grid.nx, tiles % grid.nx
    least = row - row % section_rows if section_rows else torch.zeros_like(row)
    sources, roots, amps, usable = [], [], [], []
    for side, (down, right) in enumerate(MERGE_FROM):
        up, beside = row + down, column + right
        there = (up >= least) & (beside >= 0) & (beside < grid.nx)
        other = torch.where(there, up * grid.nx + beside, 0)
        for layer in range(int(torch.where(there, count[other], 0).max())):
            start = root[other, layer] // MAX_LAYERS
            way = torch.maximum((row - start // grid.nx).abs(), (column - start % grid.nx).abs())
            usable.append(there & (count[other] > layer) & (way <= MERGE_REACH))
            sources.append(torch.full_like(tiles, 1 + side * MAX_LAYERS + layer))
            roots.append(root[other, layer])
            amps.append(amp[other, layer])
    for layer in range(max(1, int(count[tiles].max()))):  # one place at least, if of no layer
        usable.append((count[tiles] > layer) & (root[tiles, layer] == tiles * MAX_LAYERS + layer))
        sources.append(torch.zeros_like(tiles))
        roots.append(tiles * MAX_LAYERS + layer)
        amps.append(amp[tiles, layer])
    source, start, level = (torch.stack(part, dim=1) for part in (sources, roots, amps))
    good = torch.stack(usable, dim=1)
    same = (start[:, :, None] == start[:, None, :]) & good[:, None, :]
    good = good & ~torch.tril(same, diagonal=-1).any(dim=2)  # a pattern that two neighbours have is tried once
    at, which = torch.nonzero(good, as_tuple=True)
    drawn, rms = _draw(pool, start[at, which], tiles[at], grid, codebook, seed)
    index = torch.zeros_like(source)
    index[at, which] = torch.arange(len(at), device=tiles.device)
    store, power = scoreable(drawn, rms)
    unit = torch.zeros(source.shape, dtype=torch.float64, device=tiles.device)
    unit[at, which] = power[: len(at)]
    return Neighbours(source, start, level, drawn, rms, Patterns(store, index, unit))


def _draw(
    pool: Layers, start: Tensor, tiles: Tensor, grid: TileSpec, codebook: Codebook, seed: int
) -> tuple[Tensor, Tensor]:
    """Layers [C] of the pool as they go on in tiles [C]: ([C,T,T] int32 Q14 less their mean, RMS [C] int32 Q14)."""
    size, device = grid.cfg.size, tiles.device
    fine, count = fine_bits(size), max(1, len(tiles))  # one row at least, for places without a layer
    drawn = torch.zeros((count, size, size), dtype=torch.int32, device=device)
    power = torch.zeros(count, dtype=torch.int32, device=device)
    ys, xs = (torch.tensor(starts, device=device) for starts in (grid.ys, grid.xs))
    home = start // MAX_LAYERS
    down = ys[tiles // grid.nx] - ys[home // grid.nx]
    move = torch.stack([down, xs[tiles % grid.nx] - xs[home % grid.nx]], dim=1)
    gens = pool.gen[start]
    for gen in torch.unique(gens).tolist():
        pick = torch.nonzero(gens == gen).flatten()
        layers = pool.pick(start[pick])
        levels = codebook.levels(gen, layers.qv, layers.offsets, fine)
        pattern, mean, rms = draw_continued(gen, levels, layers.seed, move[pick], size, seed, fine)
        drawn[pick] = pattern - mean.view(-1, 1, 1)
        power[pick] = torch.where(rms >= RMS_FLOOR, rms, 0)
    return drawn, power
