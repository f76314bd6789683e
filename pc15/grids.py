"""Grids of overlapping tiles: where the tiles of a plane lie.

Along each axis tiles start at 0, stride, 2*stride, ... and the last one ends on the last pixel.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pc15.errors import ConfigError, ImageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Stack", "TileBatchSpec", "TileGridCfg", "TileSpec", "axis_starts", "grid", "stacks"]

_MIN_SIZE, _MAX_SIZE = 4, 1024


@dataclass(frozen=True)
class TileGridCfg:
    """Tile side and overlap of neighbouring tiles, in pixels."""

    size: int = 256
    overlap: int = 24

    def __post_init__(self) -> None:
        for name, value in (("size", self.size), ("overlap", self.overlap)):
            if not isinstance(value, numbers.Integral) or isinstance(value, bool):
                kind = type(value).__name__
                raise ConfigError(f"tile {name} is {value!r} ({kind}); give a whole number of pixels")
            object.__setattr__(self, name, int(value))
        if not _MIN_SIZE <= self.size <= _MAX_SIZE:
            raise ConfigError(f"tile size is {self.size} px; choose {_MIN_SIZE} to {_MAX_SIZE}")
        if not 0 <= self.overlap < self.size:
            raise ConfigError(
                f"tile overlap is {self.overlap} px with tiles of {self.size} px; choose 0 to {self.size - 1}"
            )

    @property
    def stride(self) -> int:
        """Pixels from one tile to the next."""
        return self.size - self.overlap


@dataclass(frozen=True)
class TileSpec:
    """Places of the tiles of an H x W picture, in raster order, and their pixels if it was made from some."""

    cfg: TileGridCfg
    H: int
    W: int
    ys: tuple[int, ...]  # top of each tile row
    xs: tuple[int, ...]  # left of each tile column
    tiles: Tensor | None = field(default=None, repr=False, compare=False)  # [N,1,T,T], dtype of the picture

    @property
    def size(self) -> int:
        """Tile side, px."""
        return self.cfg.size

    @property
    def overlap(self) -> int:
        """Pixels shared by neighbouring tiles."""
        return self.cfg.overlap

    @property
    def ny(self) -> int:
        return len(self.ys)

    @property
    def nx(self) -> int:
        return len(self.xs)

    @property
    def count(self) -> int:
        return self.ny * self.nx

    @property
    def starts(self) -> list[tuple[int, int]]:
        """(y, x) of each tile's top left pixel, in raster order."""
        return [(y, x) for y in self.ys for x in self.xs]


TileBatchSpec = TileSpec
"""The public name of what `tile_image` returns."""


def axis_starts(length: int, cfg: TileGridCfg) -> list[int]:
    """First pixel of each tile along an axis: 0, stride, ... < length - size, then length - size itself.

    An axis no longer than a tile has one tile, at 0, which may pass the border.
    Raises:
        ImageError: length < 1.
    """
    if length < 1:
        raise ImageError(f"a picture side is {length} px; it must be at least 1")
    last = max(length - cfg.size, 0)
    return [*range(0, last, cfg.stride), last]


def grid(H: int, W: int, cfg: TileGridCfg) -> TileSpec:
    """The tiles of an H x W picture, without pixels: what a decoder needs."""
    return TileSpec(cfg=cfg, H=H, W=W, ys=tuple(axis_starts(H, cfg)), xs=tuple(axis_starts(W, cfg)))


@dataclass(frozen=True)
class Stack:
    """Planes of one size, one below the other; `tiles` and `samples` are theirs among those of all stacks.

    members: which of the planes these are.
    """

    grid: TileSpec
    members: tuple[int, ...]
    tiles: slice
    samples: slice

    @property
    def planes(self) -> int:
        """Number of planes."""
        return len(self.members)

    def of(self, samples: Tensor) -> Tensor:
        """Samples of this stack, [planes*H,W], out of those of all stacks."""
        return samples[self.samples].view(-1, self.grid.W)


def stacks(sizes: Sequence[tuple[int, int]], cfg: TileGridCfg) -> list[Stack]:
    """Planes by height and width, those of one size together, in the order in which sizes appear."""
    found: dict[tuple[int, int], list[int]] = {}
    for i, size in enumerate(sizes):
        found.setdefault(size, []).append(i)
    out, tile, sample = [], 0, 0
    for (h, w), members in found.items():
        spec = grid(h, w, cfg)
        tiles, samples = len(members) * spec.count, len(members) * h * w
        out.append(Stack(spec, tuple(members), slice(tile, tile + tiles), slice(sample, sample + samples)))
        tile, sample = tile + tiles, sample + samples
    return out
