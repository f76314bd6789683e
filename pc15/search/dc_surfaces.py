"""The surfaces under all tiles of many planes, as their DC levels move; drawn like the decoder's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pc15.dc_surface import SHARE_ONE, Surface, least_sharp, surface
from pc15.draw import dc_samples
from pc15.quant import step_q15
from pc15.runtime.parallel import parallel_range
from pc15.search.backend import fused, numba_samples
from pc15.search.knot_spans import axes
from pc15.tiling import Stack

_LEAST = 32  # knots that are worth another thread


class Bases:
    """What lies under the tiles of all stacks."""

    def __init__(self, parts: Sequence[Stack], dc_step: int) -> None:
        self._parts, self._dc_step, self._step_q12 = parts, dc_step, step_q15(dc_step) >> 3
        self._drawn: list[Surface] = []

    def draw(self, dc: Tensor) -> Tensor:
        """The surfaces through DC levels [N]: all samples of all planes, [S] int32 Q12."""
        knots = dc_samples(dc, self._dc_step)
        if (gpu := fused.kernels_on(dc.device)) is not None:
            self._knots = knots
            out = torch.empty(self._parts[-1].samples.stop, dtype=torch.int32, device=dc.device)
            for part in self._parts:
                own = axes(part.grid, dc.device)
                gpu.draw_surfaces(knots[part.tiles], out[part.samples], own, least_sharp(self._step_q12))
            return out
        self._drawn = [
            surface(knots[part.tiles], part.grid, self._step_q12, planes=part.planes) for part in self._parts
        ]
        flat = [one.plane.reshape(-1) for one in self._drawn]
        return flat[0] if len(flat) == 1 else torch.cat(flat)

    def slopes(self, rest: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        """`Surface.adjoint` of what is left of all planes [S] and `Surface.norms`, of the knots [N] that `mine` has."""
        if (gpu := fused.kernels_on(rest.device)) is not None:
            out = torch.zeros((2, len(mine)), dtype=torch.int64, device=rest.device)
            for part in self._parts:
                own, at = axes(part.grid, rest.device), part.tiles
                gpu.surface_slopes(
                    self._knots[at], rest[part.samples], mine[at], out[:, at], own, least_sharp(self._step_q12)
                )
            return out[0], out[1]
        if not rest.is_cuda:
            return self._slopes(rest, mine)
        pairs = [(one.adjoint(part.of(rest)), one.norms()) for one, part in zip(self._drawn, self._parts, strict=True)]
        gradient, norm = (torch.cat(each) for each in zip(*pairs, strict=True))
        return gradient, norm

    def _slopes(self, rest: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        """`slopes` in compiled loops."""
        out = torch.zeros((2, len(mine)), dtype=torch.int64)
        for drawn, part in zip(self._drawn, self._parts, strict=True):
            sides = [each for axis in axes(part.grid, rest.device) for each in (axis.before, axis.first, axis.last)]
            knots = torch.nonzero(mine[part.tiles]).flatten()
            given = (knots, part.of(rest), drawn.down, drawn.across, *sides)
            arrays = [each.contiguous().numpy() for each in given]
            parallel_range(
                numba_samples.slopes, len(knots), *arrays, SHARE_ONE, *out[:, part.tiles].numpy(), least=_LEAST
            )
        return out[0], out[1]
