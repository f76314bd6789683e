"""Blend weights of the tiles of a grid, and sums of values over boxes of a tile: integers, the same on every device."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from pc15.blend_weights import axis_weights
from pc15.grids import TileGridCfg
from pc15.tiling import seam_weights_q8

if TYPE_CHECKING:
    from pc15.config import CodecConfig, WindowName

W_ONE = 1 << 16
_REGIONS = 4


@dataclass(frozen=True)
class Surroundings:
    """Surroundings of tiles, by all that decides them: patterns' energies are known for two of its cases.

    Case 0 is a tile with neighbours on all sides, case 1 one that has none and all of its pixels to itself.  Errors are
    those of the blended picture, or with `blended` False of tiles that stand alone, each weighted by w.
    """

    tile: int
    overlap: int
    window: WindowName
    window_param: float | None
    seam_weight: float
    blended: bool

    @classmethod
    def of(cls, cfg: CodecConfig, *, blended: bool) -> Surroundings:
        """From the options of an encode."""
        return cls(cfg.tile, cfg.overlap, cfg.window, cfg.window_param, cfg.seam_weight, blended)

    def weights(self) -> tuple[Tensor, Tensor]:
        """Weights of p^2 and of p of each case, [2,T,T] int32 each; see `Windows`."""
        inner = inner_weights(self)
        alone = torch.full_like(inner, 1 << 8)
        parts = [_weighted(axis[0][:, None] * axis[0][None, :], self) for axis in (inner, alone)]
        return torch.stack([part[1] for part in parts]), torch.stack([part[0] for part in parts])


def inner_weights(cut: Surroundings | CodecConfig) -> Tensor:
    """Axis weights, [1,T] int32, of a tile with neighbours on both sides."""
    grid = TileGridCfg(size=cut.tile, overlap=cut.overlap)
    around = 2 * -(-grid.size // grid.stride) + 1
    params = None if cut.window_param is None else {"alpha" if cut.window == "tukey" else "beta": cut.window_param}
    weights = axis_weights(around * grid.stride + grid.overlap, grid, cut.window, params)
    return weights[around // 2 : around // 2 + 1]


@dataclass(frozen=True, eq=False)
class Windows:
    """Blend weights of the distinct places that tiles have in a grid, int32, W_ONE = 1.

    blend: [C,T,T], w.   linear_weight, power_weight, error_weight: [C,T,T], of e p, of p^2 and of e^2, the seam's
        weight included.   class_of_tile: [N].
    area: [C] float64, px that a tile owns.   around: what decides them all.
    """

    blend: Tensor
    power_weight: Tensor
    linear_weight: Tensor
    error_weight: Tensor
    class_of_tile: Tensor
    area: Tensor
    around: Surroundings

    @classmethod
    def of_grid(cls, wy: Tensor, wx: Tensor, cfg: CodecConfig, *, blended: bool) -> Windows:
        """From the axis weights [ny,T] and [nx,T].

        Args:
            blended: the residual is the blended picture's; otherwise tiles stand alone, each error weighted by w.
        """
        rows, row_of = torch.unique(wy, dim=0, return_inverse=True)
        cols, col_of = torch.unique(wx, dim=0, return_inverse=True)
        own = (rows[:, None, :, None] * cols[None, :, None, :]).reshape(-1, wy.shape[1], wx.shape[1])
        of = (row_of[:, None] * len(cols) + col_of[None, :]).reshape(-1)
        around = Surroundings.of(cfg, blended=blended)
        lin, quad, square = _weighted(own, around)
        area = own.sum(dim=(1, 2), dtype=torch.int64).to(torch.float64) / torch.tensor(
            float(W_ONE), dtype=torch.float64, device=own.device
        )
        return cls(own, quad, lin, square, of, area, around)

    @classmethod
    def joined(cls, parts: Sequence[tuple[Windows, int]]) -> Windows:
        """Join the windows of several grids, each so many times in a row."""
        if len(parts) == 1 and parts[0][1] == 1:
            return parts[0][0]
        first = itertools.accumulate((len(one.blend) for one, _ in parts), initial=0)
        of = torch.cat(
            [(one.class_of_tile + start).repeat(times) for (one, times), start in zip(parts, first, strict=False)]
        )
        blend, power, linear, error, area = (
            torch.cat([getattr(one, name) for one, _ in parts])
            for name in ("blend", "power_weight", "linear_weight", "error_weight", "area")
        )
        return cls(blend, power, linear, error, of, area, parts[0][0].around)


def _weighted(own: Tensor, around: Surroundings) -> tuple[Tensor, Tensor, Tensor]:
    """Weights of e p, of p^2 and of e^2 of tiles that are blended by [..,T,T], int32."""
    seam = 256 + seam_q8(around).to(own.device)
    wide = own.to(torch.int64)
    weights = (wide, (wide * wide) >> 16, torch.full_like(wide, W_ONE)) if around.blended else (wide, wide, wide)
    lin, quad, square = (((part * seam) >> 8).to(torch.int32) for part in weights)
    return lin, quad, square


def seam_q8(cut: Surroundings | CodecConfig) -> Tensor:
    """Extra weight, Q8, of an error at each pixel of a tile."""
    if not cut.seam_weight:
        return torch.zeros((cut.tile, cut.tile), dtype=torch.int32)
    return (seam_weights_q8(cut.tile, cut.overlap) * round(cut.seam_weight * 256)) >> 8


def box_edges(tile: int, side: int, device: torch.device) -> Tensor:
    """Edges of the boxes that stand for a tile at a lower resolution, the end of the last included; [side + 1], px."""
    return torch.div(torch.arange(side + 1, device=device) * tile, side, rounding_mode="floor")


def pooled(values: Tensor, side: int) -> Tensor:
    """Sums of integers [n,T,T] over side x side boxes that differ by a pixel at most; [n,side,side] int64."""
    n, tile, _ = values.shape
    wide = values.to(torch.int64)
    if tile == side:
        return wide
    if tile % side == 0:
        return wide.view(n, side, tile // side, side, tile // side).sum(dim=(2, 4))
    edges = box_edges(tile, side, values.device)
    box = torch.repeat_interleave(torch.arange(side, device=values.device), edges[1:] - edges[:-1])
    rows = torch.zeros((n, side, tile), dtype=torch.int64, device=values.device).index_add_(1, box, wide)
    return torch.zeros((n, side, side), dtype=torch.int64, device=values.device).index_add_(2, box, rows)


def ssim_block(tile: int) -> int:
    """Side of the disjoint SSIM blocks: the divisor of the tile nearest to 8 px, the larger on a tie."""
    return min((d for d in range(1, tile + 1) if tile % d == 0), key=lambda d: (abs(d - 8), -d))


def regions_of(tile: int) -> int:
    """Regions a side that contrast is known by: the SSIM blocks, or 4 where there are more."""
    return min(tile // ssim_block(tile), _REGIONS)
