"""Pictures as they stand while tiles change: what is left of them, as wholes and as single tiles see it.

Many planes may be worked on together, of several sizes: their tiles are numbered through, their samples lie one after
the other.  Adds only what a tile changes to the blend's accumulator, which is the decoder's own sum to the last bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pc15.search.backend import fused
from pc15.search.score import Windows
from pc15.tiling import SAMPLE_MAX, Stack, round_blend


class Canvas:
    """Planes, their bases, and the samples of all tiles.

    Args:
        planes: [H,W] int32 Q12 each, what is to be coded.   windows: blend weights of all tiles.
    """

    def __init__(self, planes: Sequence[Tensor], parts: Sequence[Stack], windows: Windows) -> None:
        device, size = planes[0].device, parts[0].grid.cfg.size
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
        """What lies under all tiles, [S] int32 Q12."""
        self._above = self._plane - base

    def rest(self) -> Tensor:
        """What is left of all planes, int32 Q12; `Stack.of` has a stack's."""
        return self._above - round_blend(self._acc)

    def look(self, tiles: Tensor) -> Tensor:
        """What is left of the picture where tiles [n] lie, [n,T,T] int32 Q12."""
        if (loops := fused.loops_on(tiles.device)) is not None:
            return loops.look(tiles, self._above, self._acc, self._places, self._samples.shape[1])
        at = self._at(tiles)
        return self._above[at] - round_blend(self._acc[at])

    def samples(self, tiles: Tensor) -> Tensor:
        """[n,T,T] int32 Q12."""
        return self._samples[tiles]

    def show(self, e: Tensor, cls: Tensor, samples: Tensor, sign: int) -> None:
        """Add samples [n,T,T] of tiles of classes [n], as the blended picture shows them, to e, or subtract them."""
        if (loops := fused.loops_on(e.device)) is not None:
            loops.show(e, cls, self._windows.own, samples, sign)
            return
        seen = (self._windows.own[cls] * samples).add_(1 << 15).bitwise_right_shift_(16)
        e.add_(seen, alpha=sign)

    def add(self, tiles: Tensor, samples: Tensor, instead: Tensor | None = None) -> None:
        """Add [n,T,T] int32 Q12 to tiles that do not overlap, instead of others if they are given."""
        if (loops := fused.loops_on(tiles.device)) is not None:
            loops.put(tiles, self._acc, self._places, *self._weights, self._samples, samples, instead, add=True)
            return
        self.put(tiles, self._samples[tiles] + (samples if instead is None else samples - instead))

    def put(self, tiles: Tensor, samples: Tensor) -> None:
        """Give tiles that do not overlap other samples, [n,T,T] int32 Q12."""
        if (loops := fused.loops_on(tiles.device)) is not None:
            loops.put(tiles, self._acc, self._places, *self._weights, self._samples, samples, add=False)
            return
        before, after = (s.clamp(-SAMPLE_MAX, SAMPLE_MAX) for s in (self._samples[tiles], samples))
        change = self._windows.own[self._windows.of[tiles]] * (after - before)
        # Weights are zero past the border, where places repeat: adding is safe there, assigning would not be.
        self._acc.index_add_(0, self._at(tiles).reshape(-1), change.reshape(-1))
        self._samples[tiles] = samples

    def _at(self, tiles: Tensor) -> Tensor:
        """Place of every sample of tiles among those of all planes, [n,T,T] int64."""
        every_row, every_col, row_of, col_of = self._places
        rows, cols = every_row[row_of[tiles]], every_col[col_of[tiles]]
        return rows[:, :, None] + cols[:, None, :]

    @property
    def _weights(self) -> tuple[Tensor, Tensor]:
        return self._windows.own, self._windows.of
