"""Tile programs of one plane, searched, drawn and measured: the parts of the choice that need torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc15.bitstream.alphabets import check_tables
from pc15.bitstream.header import Header, PlaneSpec, grids_of, plane_grid
from pc15.bitstream.programs import MAX_LAYERS, Programs
from pc15.config import CodecConfig, default_overlap
from pc15.dc_surface import surface
from pc15.draw import neutral_level_q12, predict_grid, predict_plane
from pc15.grids import TileGridCfg, grid
from pc15.luma import SAMPLE_ONE
from pc15.plan.picture import PlaneTask
from pc15.plan.plan import FIRST_TILE_PX, grid_options
from pc15.search.bands import bands, search_band
from pc15.search.climb import States
from pc15.search.continuous import searched_off_grid
from pc15.search.plane import PlaneEncoder
from pc15.search.plane_state import SearchTask
from pc15.search.score import plane_distortion
from pc15.search.single_pattern import detect_single_pattern, pattern_layers
from pc15.tiling import extract

__all__ = [
    "distortion",
    "drawn_plane",
    "error_upon_coarse",
    "goal_upon_coarse",
    "layers_of_plane",
    "layers_of_rest",
    "rest_of_base",
    "search_tiles",
]

_SEEN_WHOLE = 0.25
"""Share of a tile's pixels that lies in the picture from which on the tile is searched in full."""


def search_tiles(
    plane: Tensor,
    header: Header,
    task: PlaneTask,
    limit: float,
    layers: Sequence[Sequence[States]],
    below: Sequence[Programs],
    most: int = MAX_LAYERS,
) -> Programs | None:
    """Programs of the tiles that the header says; None if their cost would be above the limit.

    Args:
        plane: [h,w] int32 Q12.   limit: of squared error in Q12, bits included.
        layers: suggestions for a plane of one tile.   below: programs of the coarse grid, if the tiles lie upon one.
        most: layers of tiles that are searched beyond the bank.
    """
    spec, goal, seen = header.planes[task.index], plane, []
    if below:
        goal, seen = goal_upon_coarse(goal, below[0], spec, task), [plane]
    own, tiles = grid_options(task.cfg, spec), plane_grid(header, grids_of(header, task.index).stop - 1)
    if searched_off_grid(tiles):
        own = _worth(own.but(max_layers=min(own.max_layers, most)), plane.shape[-2] * plane.shape[-1])
    search = SearchTask(header, task.index, own, task.tables, task.codebook)
    if len(rows := bands(tiles, own)) > 1:
        task.progress.reset(total=tiles.count)
        done = Programs.empty(0)
        for band in rows:
            part = search_band(goal, tiles, band, done, search, task.progress, *seen)
            done = Programs.joined([done, part]) if done.tiles else part
        return done
    encoder = PlaneEncoder([goal], search, layers, pictures=seen)
    task.progress.reset(total=len(encoder.state.x))
    found = encoder.run(task.progress, limit)
    return None if found is None else found[0]


def _worth(cfg: CodecConfig, pixels: int) -> CodecConfig:
    """Options of a search beyond the bank, bounded by how much of a tile is seen: each trial draws all of it."""
    seen = min(1.0, pixels / cfg.tile**2)
    if seen >= _SEEN_WHOLE:
        return cfg
    layers = max(1, int(cfg.max_layers * seen / _SEEN_WHOLE))
    return cfg.but(max_layers=min(cfg.max_layers, layers), refine=cfg.refine if seen >= _SEEN_WHOLE / 4 else 0)


def goal_upon_coarse(plane: Tensor, below: Programs, spec: PlaneSpec, task: PlaneTask) -> Tensor:
    """Samples that the tiles of a plane are to draw upon its coarse grid, [h,w] int32 Q12."""
    assert spec.under is not None, "there is a coarse grid"
    coarse = predict_grid(
        below, (plane.shape[0], plane.shape[1]), spec.under, task.cfg.seed, task.codebook, plane.device
    )
    return (plane - coarse + neutral_level_q12(spec)).clamp_(0, SAMPLE_ONE)


def error_upon_coarse(
    plane: Tensor, coarse: Programs, coarse_spec: PlaneSpec, spec: PlaneSpec, task: PlaneTask
) -> float:
    """Squared error, Q12, that a coarse grid and the base of smaller tiles upon it leave of a plane."""
    size = plane.shape[0], plane.shape[1]
    drawn = predict_grid(coarse, size, coarse_spec, task.cfg.seed, task.codebook, plane.device)
    cut = TileGridCfg(size=spec.tile, overlap=spec.overlap)
    return float(rest_of_base(plane - drawn, cut).to(torch.int64).square().sum())


def layers_of_rest(plane: Tensor, task: PlaneTask, left: float) -> list[list[States]]:
    """Layers of one tile over the whole plane, if they draw much of what the base of tiles leaves.

    Args:
        left: as of `detect_single_pattern`.
    """
    cut = TileGridCfg(size=FIRST_TILE_PX, overlap=default_overlap(FIRST_TILE_PX))
    return detect_single_pattern(rest_of_base(plane, cut), task.codebook, task.cfg.seed, left)


def layers_of_plane(plane: Tensor, task: PlaneTask, left: float) -> list[list[States]]:
    """Layers of one tile over a whole plane that may be one pattern, as `detect_single_pattern`."""
    check_tables(task.tables, task.codebook)
    return pattern_layers(plane, task.codebook, task.cfg.seed, left)


def drawn_plane(
    programs: Sequence[Programs], header: Header, task: PlaneTask, device: torch.device
) -> NDArray[np.int32]:
    """Samples that a plane's programs draw, [h,w] int32 Q12."""
    drawn: NDArray[np.int32] = predict_plane(programs, header, task.index, task.codebook, device).cpu().numpy()
    return drawn


def distortion(goal: NDArray[np.int32], picture: NDArray[np.int32], cfg: CodecConfig) -> float:
    """D of rows of a plane, as the search measures it, in bits."""
    return plane_distortion(goal, picture, cfg.alpha_mix) / cfg.lambda_rd


def rest_of_base(plane: Tensor, cut: TileGridCfg) -> Tensor:
    """Rest of a plane beyond the surface through the means of tiles, [h,w] int32 Q12."""
    tiles = grid(plane.shape[0], plane.shape[1], cut)
    samples = extract(plane, tiles).flatten(1)
    means = torch.div(samples.sum(dim=1, dtype=torch.int64), samples.shape[1], rounding_mode="floor").to(torch.int32)
    return plane - surface(means, tiles, 0).plane
