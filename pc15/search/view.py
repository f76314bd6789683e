"""A tile seen at a lower resolution, as sums over boxes: what a search over whole large tiles looks at.

Every sum is of integers held in float64, below 2^53 and hence exact in any order.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.fixed import ONE
from pc15.proc.coords import Grid, tile_grid
from pc15.search.windows import box_edges, pooled


@dataclass(frozen=True, eq=False)
class Seen:
    """The h x w boxes of a view that any of the picture lies in: all else draws nothing that is seen.

    at: grid of their centres.   error, weight: [h*w], as in `View`.
    rows, columns: place in the view.
    """

    at: Grid
    error: Tensor
    weight: Tensor
    rows: slice
    columns: slice


@dataclass(frozen=True, eq=False)
class View:
    """A tile at a resolution of S x S boxes.

    at: grid of the boxes' centres.   error: [S*S] float64, sum of weight * residual of each box.
    weight: [S*S] float64, sum of weight^2, 0 beyond the picture.   Both hold integers.
    """

    at: Grid
    error: Tensor
    weight: Tensor

    @functools.cached_property
    def totals(self) -> tuple[Tensor, Tensor]:
        """Sums of `error` and `weight`."""
        return self.error.sum(), self.weight.sum()

    @property
    def energy(self) -> float:
        """Gain of a pattern equal to the residual."""
        error, weight = self.totals
        own = self.error * self.error / self.weight.clamp(min=1.0)
        return float((own * 2.0**-8).round().sum() * 2.0**8 - error * error / weight)  # integers: an exact sum

    @functools.cached_property
    def seen(self) -> Seen:
        """The part that shows the picture: sums over it are sums over all, and a small picture's take less time."""
        shown = self.weight.view(self.side, self.side) > 0
        rows, columns = (_span(shown.any(dim=axis)) for axis in (1, 0))
        at = Grid(self.at.x[:, :, columns], self.at.y[:, rows], self.at.pixel, self.at.far)
        error, weight = (
            part.view(self.side, self.side)[rows, columns].reshape(-1) for part in (self.error, self.weight)
        )
        return Seen(at, error, weight, rows, columns)

    def but(self, error: Tensor) -> View:
        """The view with another error of the boxes that are seen, [h*w]."""
        whole = torch.zeros_like(self.error).view(self.side, self.side)
        part = whole[self.seen.rows, self.seen.columns]
        part.copy_(error.view_as(part))
        return View(self.at, whole.reshape(-1), self.weight)

    @property
    def side(self) -> int:
        """S."""
        return int(self.at.x.shape[2])


def _span(used: Tensor) -> slice:
    """From the first to the last that is true, or all if none is."""
    at = torch.nonzero(used).flatten().tolist() or [0, len(used) - 1]
    return slice(at[0], at[-1] + 1)


def view_of(linear: Tensor, quad: Tensor, side: int) -> View:
    """The view at `side` boxes across.

    Args:
        linear: [T,T] int64 Q28, weight * residual.   quad: [T,T] int64 Q16, weight squared.
    """
    tile = linear.shape[0]
    if side >= tile:
        side, at = tile, tile_grid(tile, device=linear.device)
    else:
        edges = box_edges(tile, side, linear.device)
        # middle of box i, in pixels, is (edges[i] + edges[i+1] - 1) / 2
        middle = torch.div((edges[1:] + edges[:-1] - tile) * ONE, tile, rounding_mode="floor").to(torch.int32)
        at = Grid(middle.view(1, 1, side), middle.view(1, side, 1), max(1, 2 * ONE // side), False)
        linear, quad = pooled(linear[None], side)[0], pooled(quad[None], side)[0]
    # 2^18 px of weights of 2^8, residuals of 2^20 and patterns of 2^11: below 2^50
    return View(at, (linear >> 8).reshape(-1).to(torch.float64), (quad >> 8).reshape(-1).to(torch.float64))
