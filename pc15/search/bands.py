"""Bands of tile rows: a large plane is searched one after the other, as its memory would grow with it otherwise."""

from __future__ import annotations

from torch import Tensor

from pc15.bitstream.programs import Programs
from pc15.config import CodecConfig
from pc15.grids import TileSpec
from pc15.runtime.progress import Progress
from pc15.search.continuous import searched_off_grid
from pc15.search.plane import PlaneEncoder
from pc15.search.plane_state import Beside, SearchTask

_SAMPLES = 1 << 23
"""Samples of tiles that are searched at once."""

_LEAST_STRIDES = 4
"""Tile rows that a band has at least, in strides of a tile."""


def bands(grid: TileSpec, cfg: CodecConfig) -> list[range]:
    """Cut tile rows into those that are searched at once; all where layers are merged."""
    most = max(_LEAST_STRIDES * grid.cfg.size // grid.cfg.stride, _SAMPLES // (grid.nx * grid.cfg.size**2))
    rows = grid.ny if cfg.merge else min(most, grid.ny)
    return [range(start, min(start + rows, grid.ny)) for start in range(0, grid.ny, rows)]


def searched_together(grid: TileSpec, cfg: CodecConfig) -> bool:
    """Tell if a plane may be searched beside others, with the same result as alone."""
    return not cfg.merge and not searched_off_grid(grid) and len(bands(grid, cfg)) == 1


def search_band(
    plane: Tensor,
    grid: TileSpec,
    rows: range,
    above: Programs,
    task: SearchTask,
    progress: Progress,
    picture: Tensor | None = None,
) -> Programs:
    """Search some tile rows of a plane [H,W] as `PlaneEncoder` does a whole one.

    Args:
        above: programs of all rows before them, in order.   picture: [H,W], see `PlaneState`.
    """
    near = -(-grid.cfg.size // grid.cfg.stride) - 1  # rows that overlap one
    first, last = max(0, rows.start - near), min(grid.ny, rows.stop + near)
    part = slice(grid.ys[first], min(grid.ys[last - 1] + grid.cfg.size, grid.H))
    seen = [] if picture is None else [picture[part]]
    beside = Beside(above.rows(first * grid.nx, rows.start * grid.nx), last - rows.stop)
    found = PlaneEncoder([plane[part]], task, beside=beside, pictures=seen).run(progress)
    assert found is not None, "there is no limit"
    return found[0]
