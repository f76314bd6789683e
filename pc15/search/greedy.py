"""Greedy layers: each tile in turn gets the one pattern that lowers J of the blended picture most, until none pays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pc15.search.plane_state import PlaneState
from pc15.search.refine import best_layers

OnResiduals = Callable[[Tensor, Tensor], None]
"""Gets the tiles [n] that are about to be searched and what is left of them, [n,T,T] int32 Q12."""


def add_layer(
    state: PlaneState, tiles: Tensor, layer: int, active: Tensor, on_residuals: OnResiduals | None = None
) -> None:
    """Give each of the tiles its best next layer, or leave it out from now on.

    Args:
        tiles: [n] int64, of one group.   active: [N] bool, tiles that may get more; changed in place.
    """
    if not len(tiles):
        return
    batch = state.batch(tiles)
    if on_residuals is not None:
        on_residuals(tiles, batch.e)
    search = state.layer_search
    if (recall := state.recall) is not None:
        search = replace(search, on_listed=lambda rows: recall.note(tiles, layer, rows))
    found = best_layers(search, batch, layer)
    pays = found.change[:, 0] < 0
    active[tiles] = pays
    won = torch.nonzero(pays).flatten()
    if len(won):
        state.put_layer(tiles[won], layer, found.layers.pick(won), found.amp[won, 0])
