"""Candidates that tiles remember: what the first search found promising for any layer, the second chooses from.

A program that is searched again is made of much the same patterns, in another order and with other amplitudes; looking
through what was listed before finds nearly all of what the whole bank would give, and so cheaply that wider beams more
than make up for the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Recall:
    """Bank rows that each of N tiles has listed, up to `most` per layer.

    Args:
        layers: most layers of a tile.
    """

    def __init__(self, tiles: int, layers: int, most: int, device: torch.device) -> None:
        self._most = most
        self._rows = torch.full((tiles, layers * most), -1, dtype=torch.int32, device=device)

    def note(self, tiles: Tensor, layer: int, rows: Tensor) -> None:
        """Remember bank rows [n,M] of tiles [n], best first, -1 for none."""
        rows = rows[:, : self._most].to(torch.int32)
        self._rows[tiles, layer * self._most : layer * self._most + rows.shape[1]] = rows

    def of(self, tiles: Tensor) -> Tensor:
        """All that tiles [n] remember, [n,M] int64, each row once, highest first; -1 where there is less."""
        rows = self._rows[tiles].sort(dim=1, descending=True).values
        rows[:, 1:] = torch.where(rows[:, 1:] == rows[:, :-1], -1, rows[:, 1:])
        rows = rows.sort(dim=1, descending=True).values
        most = int((rows >= 0).sum(dim=1).max()) if rows.numel() else 0
        return rows[:, : max(1, most)].to(torch.int64)
