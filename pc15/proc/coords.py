"""Pixel grids in fixed point: where a pattern is evaluated, inside its tile and anywhere beyond it.

[-ONE, ONE] spans the tile, pixel i of T has its centre at (2i + 1 - T) / T; x grows to the right, y downwards.
A grid may start at any offset from the tile, which is how a pattern is continued into a neighbour.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pc15.errors import ConfigError
from pc15.fixed import FRAC, ONE, atan2_turns, cos_turns, hypot, mul, mul_far, shift, sin_turns
from pc15.proc.spec import CELL_FRAC
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

FAR_LIMIT = 1 << 23


@dataclass(frozen=True, eq=False)
class Grid:
    """Coordinates of the pixels to draw.

    x: [1,1,w] int32 Q14.   y: [1,h,1] int32 Q14; or [B,1,w] and [B,h,1], a place per item.
    pixel: width of one pixel, Q14 (2 * ONE / T).
    far: some coordinate lies beyond what the short products allow; results are the same integers either way.
    """

    x: Tensor
    y: Tensor
    pixel: int
    far: bool

    @functools.cached_property
    def r(self) -> Tensor:
        """Distance from the tile's centre, [1,h,w] Q14."""
        return self.radius(self.x, self.y)

    @functools.cached_property
    def theta(self) -> Tensor:
        """Angle around the tile's centre, [1,h,w] turns; 0 along +x, a quarter turn along +y (downwards)."""
        return self.angle(self.x, self.y)

    def part(self, start: int, stop: int) -> Grid:
        """The grid of items start..stop-1."""
        if len(self.x) == 1:
            return self
        return Grid(self.x[start:stop], self.y[start:stop], self.pixel, self.far)

    def scaled(self, coordinate: Tensor, factor: Tensor) -> Tensor:
        """Q14 coordinate times Q14 factor (|factor| <= 2)."""
        return mul_far(coordinate, factor) if self.far else mul(coordinate, factor)

    def rotated(self, angle: Tensor, x: Tensor | None = None, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Coordinates along and across a direction, (u, v) [B,h,w] Q14: u grows along `angle` (turns)."""
        x, y = self.x if x is None else x, self.y if y is None else y
        c, s = cos_turns(angle), sin_turns(angle)
        return self.scaled(x, c) + self.scaled(y, s), self.scaled(y, c) - self.scaled(x, s)

    def along(self, angle: Tensor) -> Tensor:
        """The first of `rotated`, for patterns that need no more."""
        return self.scaled(self.x, cos_turns(angle)) + self.scaled(self.y, sin_turns(angle))

    def across(self, angle: Tensor) -> Tensor:
        """The second of `rotated`."""
        return self.scaled(self.y, cos_turns(angle)) - self.scaled(self.x, sin_turns(angle))

    def radius(self, x: Tensor, y: Tensor) -> Tensor:
        """Distance of (x, y), already relative to a centre, from (0, 0); Q14."""
        return hypot(x, y, far=self.far)

    def angle(self, x: Tensor, y: Tensor) -> Tensor:
        """Angle of (x, y) around (0, 0), turns."""
        return atan2_turns(y, x)

    def phase(self, freq: Tensor, angle: Tensor) -> Tensor:
        """Phase in turns of a plane wave of `freq` along `angle`, [B,h,w]; exact, since the products wrap."""
        fx = _share(freq, cos_turns(angle))
        fy = _share(freq, sin_turns(angle))
        return fx * self.x + fy * self.y

    def lattice(self, coordinate: Tensor, cells: Tensor) -> Tensor:
        """Position on a lattice of `cells` (kind "cells"): Q14, the integer part is the cell's number."""
        if self.far:
            return ((coordinate.to(torch.int64) * cells) >> CELL_FRAC).to(torch.int32)
        return shift(coordinate * cells, CELL_FRAC)


def _share(freq: Tensor, ratio: Tensor) -> Tensor:
    """freq * ratio for per-item parameters, through int64."""
    return shift(freq.to(torch.int64) * ratio, FRAC).to(torch.int32)


def tile_grid(
    tile: int,
    *,
    device: torch.device | str = "cpu",
    x0: int = 0,
    y0: int = 0,
    w: int | None = None,
    h: int | None = None,
) -> Grid:
    """Grid of a tile of `tile` pixels, or of the window [y0, y0+h) x [x0, x0+w) in the tile's pixel coordinates.

    Raises:
        ConfigError: the window lies more than 256 tiles away, where coordinates would lose their meaning.
    """
    if w is None and h is None and not x0 and not y0:
        return _whole(tile, torch.device(device))
    return _window(tile, torch.device(device), x0, y0, tile if w is None else w, tile if h is None else h)


@functools.lru_cache(maxsize=16)
def _whole(tile: int, device: torch.device) -> Grid:
    """A whole tile's grid: drawing takes nearly as long to make one as to use it."""
    return _window(tile, device, 0, 0, tile, tile)


def _window(tile: int, device: torch.device, x0: int, y0: int, w: int, h: int) -> Grid:
    def axis(start: int, count: int) -> Tensor:
        i = torch.arange(start, start + count, dtype=torch.int64, device=device)
        return torch.div((2 * i + 1 - tile) * ONE, tile, rounding_mode="floor").to(torch.int32)

    reach = max(abs(2 * edge + 1 - tile) * ONE // tile for edge in (x0, x0 + w, y0, y0 + h))
    if reach >= FAR_LIMIT:
        raise ConfigError(f"a window at x={x0}, y={y0} lies {reach // (2 * ONE)} tiles away; at most 255 are drawn")
    far = reach > ONE + 2 * ONE // tile
    return Grid(axis(x0, w).view(1, 1, w), axis(y0, h).view(1, h, 1), max(1, 2 * ONE // tile), far)


def moved_grids(tile: int, move: Tensor) -> Grid:
    """Grids of tiles that continue another one: move [B,2] int64, (y, x) in px from it to them.

    Raises:
        ConfigError: a tile lies more than 255 tiles away.
    """
    reach = int(move.abs().max()) if len(move) else 0
    if (2 * reach + tile) * ONE // tile >= FAR_LIMIT:
        raise ConfigError(f"a tile lies {reach} px away from what it continues; at most 255 tiles are drawn")
    pixels = torch.arange(tile, dtype=torch.int64, device=move.device)
    place = 2 * (move[:, :, None] + pixels) + 1 - tile  # [B,2,T]
    y, x = torch.div(place * ONE, tile, rounding_mode="floor").to(torch.int32).unbind(1)
    return Grid(x[:, None, :], y[:, :, None], max(1, 2 * ONE // tile), far=True)
