"""Search of many pictures' tiles together, which keeps a GPU busy."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from pc15.bitstream.header import Header, PlaneSpec
from pc15.bitstream.programs import Programs
from pc15.config import CodecConfig
from pc15.grids import TileGridCfg, TileSpec, grid
from pc15.plan.picture import Picture, PlaneTask
from pc15.plan.plan import grid_options, header_of, plane_config, plane_spec, plans_of
from pc15.plan.tiles import goal_upon_coarse
from pc15.runtime.progress import Progress
from pc15.search.bands import searched_together
from pc15.search.plane import PlaneEncoder
from pc15.search.plane_state import SearchTask

__all__ = ["search_together"]

SAMPLES_TOGETHER = 1 << 24
"""Samples of many planes that are searched together, at most."""

_LOG = logging.getLogger(__name__)


def search_together(pictures: Sequence[Picture], cfg: CodecConfig, progress: Progress) -> None:
    """Search the programs of all pictures' planes that a plan asks for in any case, as many at a time as fit."""
    room = SAMPLES_TOGETHER
    for index in range(3):
        own = plane_config(cfg, chroma=index > 0)
        task = PlaneTask(index, own, progress)
        for plan in plans_of(own):
            if not (plan.tile and own.tile):  # where the size is open, others are compared with it
                continue
            spec = plane_spec(own, plan, chroma=index > 0)
            if spec.under is not None:
                room = _search_step(pictures, task, (0, plan.coarse), spec.under, room)
            room = _search_step(pictures, task, plan[:2], spec, room)


def _search_step(pictures: Sequence[Picture], task: PlaneTask, key: tuple[int, int], spec: PlaneSpec, room: int) -> int:
    """Search one grid of all pictures' planes of the task's number, where what lies under it is known.

    Args:
        key: what it is known as from then on.   room: samples that are searched together, at most.
    Returns:
        The room, or less where that was too much for a GPU.
    """
    index, options, cut = task.index, grid_options(task.cfg, spec), TileGridCfg(size=spec.tile, overlap=spec.overlap)
    waiting = [one for one in pictures if index < len(one.planes)]
    waiting = [one for one in waiting if searched_together(_tiles(one, index, cut), options)]
    if spec.under is not None:
        waiting = [one for one in waiting if (0, spec.under.tile) in one.known[index]]
    while waiting:
        total = itertools.accumulate(one.planes[index].size for one in waiting)
        batch = waiting[: max(1, sum(1 for samples in total if samples <= room))]
        header = header_of((spec,) * len(batch[0].planes), batch[0].width, batch[0].height, task.cfg)
        goals, seen = [one.tensor(index) for one in batch], []
        if spec.under is not None:
            below, seen = [one.known[index][0, spec.under.tile] for one in batch], goals
            goals = [goal_upon_coarse(*pair, spec, task) for pair in zip(seen, below, strict=True)]
        try:
            found = _search(goals, header, task, options, seen)
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
            room = sum(plane.numel() for plane in goals) // 2
            _LOG.warning("too little GPU memory for %d pictures at once: half as many", len(batch))
            continue
        for one, programs in zip(batch, found, strict=True):
            one.known[index][key] = programs
        waiting = waiting[len(batch) :]
    return room


def _tiles(picture: Picture, index: int, cut: TileGridCfg) -> TileSpec:
    height, width = picture.planes[index].shape
    return grid(height, width, cut)


def _search(
    planes: Sequence[Tensor], header: Header, task: PlaneTask, cfg: CodecConfig, pictures: Sequence[Tensor]
) -> list[Programs]:
    """Programs of planes that are searched together; nothing else of the search is left when it ends."""
    own = SearchTask(header, task.index, cfg, task.tables, task.codebook)
    encoder = PlaneEncoder(planes, own, pictures=pictures)
    task.progress.reset(total=len(encoder.state.x))
    found = encoder.run(task.progress)
    assert found is not None, "there is no limit"
    return found
