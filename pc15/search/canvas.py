"""The picture as it stands while tiles change: what is left of it, as a whole and as single tiles see it.

Adds only what a tile changes to the blend's accumulator, which is the decoder's own sum to the last bit.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.search.score import Windows
from pc15.tiling import SAMPLE_MAX, TileSpec, round_blend


class Canvas:
    """A plane, its base, and the samples of all tiles.

    Args:
        plane: [H,W] int32 Q12, what is to be coded.   windows: blend weights of the grid's tiles.
    """

    def __init__(self, plane: Tensor, grid: TileSpec, windows: Windows) -> None:
        self._plane, self._above, self._windows = plane, plane, windows
        self._width = grid.W
        at = torch.arange(grid.cfg.size)
        rows = (torch.tensor(grid.ys)[:, None] + at).clamp(max=grid.H - 1)  # edge pixels repeated, as in `extract`
        cols = (torch.tensor(grid.xs)[:, None] + at).clamp(max=grid.W - 1)
        self._rows, self._cols = rows.to(plane.device), cols.to(plane.device)
        self._acc = torch.zeros(grid.H * grid.W, dtype=torch.int32, device=plane.device)
        shape = (grid.count, grid.cfg.size, grid.cfg.size)
        self._samples = torch.zeros(shape, dtype=torch.int32, device=plane.device)

    def set_base(self, base: Tensor) -> None:
        """What lies under all tiles, [H,W] int32 Q12."""
        self._above = self._plane - base

    def rest(self) -> Tensor:
        """What is left of the picture, [H,W] int32 Q12."""
        return self._above - round_blend(self._acc).view_as(self._above)

    def look(self, tiles: Tensor) -> Tensor:
        """What is left of the picture where tiles [n] lie, [n,T,T] int32 Q12."""
        at = self._at(tiles)
        return self._above.reshape(-1)[at] - round_blend(self._acc[at])

    def samples(self, tiles: Tensor) -> Tensor:
        """[n,T,T] int32 Q12."""
        return self._samples[tiles]

    def seen(self, tiles: Tensor, samples: Tensor) -> Tensor:
        """Samples of tiles as the blended picture shows them, [n,T,T] int32 Q12."""
        return (self._windows.own[self._windows.of[tiles]] * samples + (1 << 15)) >> 16

    def add(self, tiles: Tensor, samples: Tensor) -> None:
        """Add [n,T,T] int32 Q12 to tiles that do not overlap."""
        self.put(tiles, self._samples[tiles] + samples)

    def put(self, tiles: Tensor, samples: Tensor) -> None:
        """Give tiles that do not overlap other samples, [n,T,T] int32 Q12."""
        before, after = (s.clamp(-SAMPLE_MAX, SAMPLE_MAX) for s in (self._samples[tiles], samples))
        change = self._windows.own[self._windows.of[tiles]] * (after - before)
        # Weights are zero past the border, where places repeat: adding is safe there, assigning would not be.
        self._acc.index_add_(0, self._at(tiles).reshape(-1), change.reshape(-1))
        self._samples[tiles] = samples

    def _at(self, tiles: Tensor) -> Tensor:
        """Place of every sample of tiles in the flattened plane, [n,T,T] int64."""
        across = self._cols.shape[0]
        rows, cols = self._rows[tiles // across], self._cols[tiles % across]
        return rows[:, :, None] * self._width + cols[:, None, :]
