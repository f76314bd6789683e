"""Pictures as they stand while tiles change: what is left of them, as wholes and as single tiles see it.

Many planes may be worked on together, of several sizes: their tiles are numbered through, their samples lie one after
the other.  Adds only what a tile changes to the blend's accumulator, which is the decoder's own sum to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pc15.grids import Stack
from pc15.search.backend import backend_of
from pc15.search.backend.protocol import BlendedTiles
from pc15.search.windows import Windows
from pc15.tiling import round_blend


class Canvas:
    """Planes, their bases, and the samples of all tiles.

    Args:
        planes: [H,W] int32 Q12 each, what is to be coded.   windows: blend weights of all tiles.
    """

    def __init__(self, planes: Sequence[Tensor], parts: Sequence[Stack], windows: Windows) -> None:
        device, size = planes[0].device, parts[0].grid.cfg.size
        self._ops = backend_of(device)
        order = [planes[i].reshape(-1) for part in parts for i in part.members]
        self._plane = order[0] if len(order) == 1 else torch.cat(order)
        self._above, self._windows = self._plane, windows
        at = torch.arange(size)
        rows, cols, row_of, col_of = [], [], [], []
        row = col = 0
        for part in parts:
            own = part.grid
            top = part.samples.start + torch.arange(part.planes) * (own.H * own.W)
            # edge pixels repeated, as in `extract`
            down = (torch.tensor(own.ys)[:, None] + at).clamp(max=own.H - 1) * own.W
            rows.append((top[:, None, None] + down).flatten(0, 1))
            cols.append((torch.tensor(own.xs)[:, None] + at).clamp(max=own.W - 1))
            row_of.append(row + torch.arange(len(rows[-1])).repeat_interleave(own.nx))
            col_of.append(col + torch.arange(own.nx).repeat(len(rows[-1])))
            row, col = row + len(rows[-1]), col + own.nx
        every_row, every_col, rows_of, cols_of = (torch.cat(part).to(device) for part in (rows, cols, row_of, col_of))
        self._places = (every_row, every_col, rows_of, cols_of)
        self._acc = torch.zeros_like(self._plane)
        self._samples = torch.zeros((len(rows_of), size, size), dtype=torch.int32, device=device)

    def set_base(self, base: Tensor) -> None:
        """Set the surface under all tiles, [S] int32 Q12."""
        self._above = self._plane - base

    def rest(self) -> Tensor:
        """Residual of all planes, int32 Q12; `Stack.of` has a stack's."""
        return self._above - round_blend(self._acc)

    def look(self, tiles: Tensor) -> Tensor:
        """Residual of the picture where tiles [n] lie, [n,T,T] int32 Q12."""
        return self._ops.look(tiles, self._above, self._acc, self._places, self._samples.shape[1])

    def samples(self, tiles: Tensor) -> Tensor:
        """Samples that tiles [n] draw, [n,T,T] int32 Q12."""
        return self._samples[tiles]

    def show(self, e: Tensor, cls: Tensor, samples: Tensor, sign: int) -> None:
        """Add samples [n,T,T] of tiles of classes [n], as the blended picture shows them, to e, or subtract them."""
        self._ops.show(e, cls, self._windows.blend, samples, sign)

    def add(self, tiles: Tensor, samples: Tensor, instead: Tensor | None = None) -> None:
        """Add [n,T,T] int32 Q12 to tiles that do not overlap, instead of others if they are given."""
        self._ops.put(tiles, self._blended(), samples, instead, add=True)

    def put(self, tiles: Tensor, samples: Tensor) -> None:
        """Give tiles that do not overlap other samples, [n,T,T] int32 Q12."""
        self._ops.put(tiles, self._blended(), samples, add=False)

    def _blended(self) -> BlendedTiles:
        return BlendedTiles(self._acc, self._places, self._windows.blend, self._windows.class_of_tile, self._samples)
