"""The base of a plane: an edge-aware surface through the tiles' DC values, knots at the tiles' centres.

Flat tiles side by side would show as steps in every sky, and a plain bilinear surface would smear every outline.  So
between two knots the surface is a straight ramp while they differ little, and a short cross-fade of the width of the
tiles' overlap when they differ much; rows first, then columns.  The knots alone decide, nothing is signalled.

`surface` draws it in integers, for decoder and encoder.  `Surface.adjoint` and `.norms` are the encoder's: the
gradient of the squared error in every knot, the shares between knots held as they are.
Source: the idea of edge-directed interpolation, X. Li, M. Orchard, IEEE TIP 10 (2001), here with one threshold.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.fixed import floor_div, shift
from pc15.flat import SHARE_BITS, SHARE_ONE, least_sharp, shares_between_knots
from pc15.grids import TileSpec


@functools.lru_cache(maxsize=16)
def axis_shares(starts: tuple[int, ...], size: int, overlap: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """`flat.shares_between_knots` as tensors: (knot before, ramp share, step share) of every pixel of an axis."""
    before, ramp, step = map(torch.from_numpy, shares_between_knots(starts, size, overlap, length))
    return before, ramp, step


@dataclass(frozen=True, eq=False)
class Surface:
    """A drawn surface and the shares that drew it, of all rows or of those that were asked for.

    Of B planes of one size, one below the other.   plane: [B*H,W] int32 Q12.   down: [B*H,nx] and across: [B*H,W],
    shares of the later knot, int32 in SHARE_ONE.
    """

    grid: TileSpec
    plane: Tensor
    down: Tensor
    across: Tensor

    def adjoint(self, rest: Tensor) -> Tensor:
        """Inner products of planes with what each knot adds, exact: [B*H,W] int32 -> [B*N] int64, SHARE_ONE^2 = 1."""
        return self._gather(
            rest.to(torch.int64), SHARE_ONE - self.down, self.down, SHARE_ONE - self.across, self.across
        )

    def norms(self) -> Tensor:
        """Squared norm of what each knot adds, [B*N] int64, SHARE_ONE^4 = 1 px."""
        one = torch.ones_like(self.across, dtype=torch.int64)
        rows, cols = (SHARE_ONE - self.down) ** 2, (SHARE_ONE - self.across) ** 2
        return self._gather(one, rows, self.down**2, cols, self.across**2)

    def _gather(self, plane: Tensor, up: Tensor, down: Tensor, left: Tensor, right: Tensor) -> Tensor:
        grid, device, count = self.grid, plane.device, len(plane) // self.grid.H
        row = axis_shares(grid.ys, grid.cfg.size, grid.cfg.overlap, grid.H)[0].to(device)
        col = axis_shares(grid.xs, grid.cfg.size, grid.cfg.overlap, grid.W)[0].to(device)
        strips = torch.zeros((len(plane), grid.nx), dtype=torch.int64, device=device)
        strips.index_add_(1, col, plane * left)
        strips.index_add_(1, (col + 1).clamp(max=grid.nx - 1), plane * right)
        out = torch.zeros((count * grid.ny, grid.nx), dtype=torch.int64, device=device)
        top = (torch.arange(count, device=device) * grid.ny)[:, None]
        out.index_add_(0, (top + row).flatten(), strips * up)
        return out.index_add_(0, (top + (row + 1).clamp(max=grid.ny - 1)).flatten(), strips * down).reshape(-1)


def surface(
    knots: Tensor, grid: TileSpec, step_q12: int, first: int = 0, last: int | None = None, planes: int = 1
) -> Surface:
    """Draw the surfaces through knots [planes*N] int32 Q12, each plane's in raster order, |knot| <= 2^14.

    Args:
        step_q12: the DC quantizer's step, Q12.
        first, last: rows to draw of each plane, first..last-1; all of them by default.
    """
    device, cfg = knots.device, grid.cfg
    smooth = torch.full((1, 1), least_sharp(step_q12), dtype=torch.int32, device=device)
    level = knots.view(planes, grid.ny, grid.nx).transpose(0, 1).reshape(grid.ny, -1)
    shares: list[Tensor] = []
    for starts, length in ((grid.ys, grid.H), (grid.xs, grid.W)):  # along the first dimension: whole rows are copied
        before, ramp, step = (part.to(device) for part in axis_shares(starts, cfg.size, cfg.overlap, length))
        if not shares:
            before, ramp, step = before[first:last], ramp[first:last], step[first:last]
        if len(starts) == 1:
            level = level.expand(len(before), -1)
            shares.append(torch.zeros_like(level))
        else:
            ahead = level[1:] - level[:-1]
            sharp = torch.minimum((ahead.abs() - smooth).clamp_(min=0), smooth)  # of `smooth`
            sharp = floor_div(sharp * SHARE_ONE, smooth).index_select(0, before)
            share = sharp.mul_((step - ramp)[:, None]).add_(SHARE_ONE // 2)
            share = shift(share, SHARE_BITS).add_(ramp[:, None])
            rise = ahead.index_select(0, before).mul_(share).add_(SHARE_ONE // 2)
            level = shift((level * SHARE_ONE).index_select(0, before).add_(rise), SHARE_BITS)
            shares.append(share)
        if len(shares) == 1:  # [rows,planes*nx] -> [nx,planes*rows]
            level = level.view(-1, planes, grid.nx).permute(2, 1, 0).reshape(grid.nx, -1)
    down = shares[0].view(-1, planes, grid.nx).transpose(0, 1).reshape(-1, grid.nx)
    return Surface(grid, level.t().contiguous(), down, shares[1].t())
