"""Turns that overlapping tiles take, so that each sees what its neighbours draw."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pc15.grids import Stack, TileSpec


def turn_groups(grid: TileSpec) -> list[list[int]]:
    """Tiles that do not overlap, as groups that take turns: the greedy colouring of each axis, combined."""

    def colours(starts: Sequence[int]) -> list[int]:
        ends: list[int] = []
        out = []
        for start in starts:
            colour = next((c for c, end in enumerate(ends) if end <= start), len(ends))
            ends[colour:] = [start + grid.cfg.size, *ends[colour + 1 :]]
            out.append(colour)
        return out

    rows, cols = colours(grid.ys), colours(grid.xs)
    groups: dict[tuple[int, int], list[int]] = {}
    for r, row in enumerate(rows):
        for c, col in enumerate(cols):
            groups.setdefault((row, col), []).append(r * grid.nx + c)
    return [groups[key] for key in sorted(groups)]


def turns_of_tiles(parts: Sequence[Stack], own: range) -> list[list[int]]:
    """`turn_groups` of all planes together, the tiles in `own` alone."""
    out: list[list[int]] = []
    for part in parts:
        groups = turn_groups(part.grid)
        out += [[] for _ in groups[len(out) :]]
        for start in range(part.tiles.start, part.tiles.stop, part.grid.count):
            for group, more in zip(out, groups, strict=False):
                group += [start + tile for tile in more if start + tile in own]
    return [group for group in out if group]


def turns_of_knots(parts: Sequence[Stack], own: range) -> Tensor:
    """Every other tile of its row and column, [4,N] bool: what their DC levels add to the surface does not overlap."""
    out = []
    for part in parts:
        row, col = torch.arange(part.grid.ny)[:, None] % 2, torch.arange(part.grid.nx) % 2
        groups = [((row == turn // 2) & (col == turn % 2)).reshape(-1) for turn in range(4)]
        out.append(torch.stack(groups).repeat(1, part.planes))
    turns = torch.cat(out, dim=1)
    turns[:, : own.start] = turns[:, own.stop :] = False
    return turns
