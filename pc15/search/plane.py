"""The search of the programs of one plane, or of many at once: a pipeline of passes over their tiles.

    DC levels     a plane starts as the surface through them                                     `dc_levels`
    layers        one after the other, every tile gets the pattern that lowers D + lambda * R
                  of the *blended* picture most, until none pays                                 `greedy`
    again         passes search whole programs anew with a beam                                  `beam`
    re-fit        sweeps fit amplitudes and DC jointly, the last one offsets too                 `refit`
    merging       from the top left on, layers may continue what a neighbour draws               `merge_search`

Tiles that overlap take turns (`turns`).  What the passes share is `plane_state`; `bands` cuts large planes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pc15.bitstream.programs import Programs
from pc15.runtime.progress import Progress
from pc15.search.beam import search_again
from pc15.search.climb import States
from pc15.search.dc_levels import first_dc_levels, refit_dc
from pc15.search.greedy import OnResiduals, add_layer
from pc15.search.merge import waves
from pc15.search.merge_search import merge
from pc15.search.plane_state import Beside, PlaneState, SearchTask
from pc15.search.refit import refit, steps_ahead

_LAYERS_HOPED_FOR = 3
"""Layers that a search with a limit hopes for, each as good as the last."""


class PlaneEncoder:
    """Searches the programs of a plane, or of many planes together: on a GPU, one alone leaves it idle.

    What it finds for a plane does not depend on the others.

    Args:
        planes, detected, beside, pictures: as in `PlaneState`.
        on_residuals: told of all tiles that are searched for a layer; see `OnResiduals`.
    """

    def __init__(
        self,
        planes: Sequence[Tensor],
        task: SearchTask,
        detected: Sequence[Sequence[States]] = (),
        beside: Beside | None = None,
        pictures: Sequence[Tensor] = (),
        on_residuals: OnResiduals | None = None,
    ) -> None:
        self.state = PlaneState(planes, task, detected, beside, pictures)
        self._on_residuals = on_residuals

    def run(self, progress: Progress, limit: float = math.inf) -> list[Programs] | None:
        """Search whole planes; `progress` advances by their tiles.

        Args:
            limit: squared error, Q24, that all is to stay below; None is returned once three layers more, each as good
                as the last, would not bring it there, unless a detected pattern of the plane is confirmed.
        """
        state, done = self.state, progress.n
        with state.ops.reserved_threads():
            state.begin(first_dc_levels(state))
            refit_dc(state)
            if not self._add_layers(progress, limit):
                return None
            self._improve()
            if state.cfg.merge and len(state.x) > 1:
                for wave in waves(state.stacks[0].grid):
                    merge(state, torch.tensor(wave, device=state.x.device))
                refit_dc(state)
            progress.update(done + len(state.own) - progress.n)
            return state.programs()

    def _add_layers(self, progress: Progress, limit: float) -> bool:
        """Add layers to all tiles until none pays; False if the limit is out of sight."""
        state, done = self.state, progress.n
        active = torch.zeros(len(state.x), dtype=torch.bool, device=state.x.device)
        active[state.own.start : state.own.stop] = True
        left = math.inf if math.isinf(limit) else state.squared_error()
        for layer in range(state.cfg.max_layers):
            for group in state.groups:
                add_layer(state, group[active[group]], layer, active, self._on_residuals)
            progress.update(done + len(state.own) - int(active.sum()) - progress.n)
            if not (math.isinf(limit) or (state.continuous is not None and state.continuous.confirmed)):
                before, left = left, state.squared_error()
                if left * min(1.0, left / max(before, 1.0)) ** _LAYERS_HOPED_FOR > limit:
                    return False
            if not bool(active.any()):
                break
        return True

    def _improve(self) -> None:
        """Search again by `passes`, and re-fit after each and by `sweeps` more."""
        state, cfg = self.state, self.state.cfg
        for turn in range(cfg.sweeps + cfg.passes):
            if turn < cfg.passes and state.continuous is None:  # which finds more than a bank has
                for group in state.groups:
                    search_again(state, group)
            last = turn == cfg.sweeps + cfg.passes - 1
            if turn > cfg.passes and state.settled_by_one_fit and not (last and cfg.refine):
                continue
            refine = cfg.refine if last else 0
            for group, steps in zip(state.groups, steps_ahead(state, refine), strict=True):
                refit(state, group, refine, steps)
            refit_dc(state)
