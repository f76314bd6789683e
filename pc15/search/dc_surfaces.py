"""The surfaces under all tiles of many planes, as their DC levels move; drawn like the decoder's own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pc15.draw import dc_samples
from pc15.grids import Stack
from pc15.quant import step_q15
from pc15.search.backend import backend_of
from pc15.search.backend.protocol import DrawnSurface


class DcSurfaces:
    """Surfaces under the tiles of all stacks."""

    def __init__(self, parts: Sequence[Stack], dc_step: int, device: torch.device) -> None:
        self._parts, self._dc_step, self._step_q12 = parts, dc_step, step_q15(dc_step) >> 3
        self._ops = backend_of(device)
        self._drawn: list[DrawnSurface] = []

    def draw(self, dc: Tensor) -> Tensor:
        """The surfaces through DC levels [N]: all samples of all planes, [S] int32 Q12."""
        knots = dc_samples(dc, self._dc_step)
        self._drawn = [
            self._ops.draw_surface(knots[part.tiles], part.grid, part.planes, self._step_q12) for part in self._parts
        ]
        flat = [one.plane.reshape(-1) for one in self._drawn]
        return flat[0] if len(flat) == 1 else torch.cat(flat)

    def slopes(self, rest: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        """`DrawnSurface.slopes` of what is left of all planes [S], at knots [N] that `mine` has."""
        parts = zip(self._drawn, self._parts, strict=True)
        pairs = [drawn.slopes(part.of(rest), mine[part.tiles]) for drawn, part in parts]
        gradient, norm = (each[0] if len(pairs) == 1 else torch.cat(each) for each in zip(*pairs, strict=True))
        return gradient, norm
