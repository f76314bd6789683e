"""Inputs of nets, of a tile before a layer is added: whole numbers, the same in a fit and in the encoder.

A net sees what the search multiplies with patterns at half resolution, the slope of D on SIDE x SIDE boxes, and besides
it the picture there and some numbers: the price of a bit, how much there is to gain, which layer it is, and what errors
count for in each part of the tile.  One set of weights thus serves all rates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pc15.search.backend import backend_of
from pc15.search.backend.protocol import Expansion, TileBatch, TileTerms
from pc15.search.backend.sort_keys import short_log2

__all__ = ["INPUT_VERSION", "NUMBERS", "PIXELS", "SIDE", "NetInputs", "net_inputs"]

INPUT_VERSION = 2
"""Raised whenever an input changes its meaning; weights made for another version are refused."""
SIDE = 16
"""Boxes a side that a tile is looked at by."""
PIXELS = SIDE * SIDE
_PARTS = 4  # a side, whose contrast is seen
NUMBERS = 8 + _PARTS * _PARTS

# Middles of base-2 logarithms on photographs at lambda 0.25 to 4, in sixteenths.
_PRICE, _ENERGY, _WORTH, _WEIGHT = -23 << 4, 17 << 4, 39 << 4, 5 << 4


@dataclass(frozen=True, eq=False)
class NetInputs:
    """Inputs of n tiles.

    error: [n,PIXELS] int8, weights: [n,W] int8, place: [n] int64, price: [n] float32, what the tile would like to be
        added, as `TileTerms` has it.   picture: [n,PIXELS] int8, the picture without its mean, likewise.
    numbers: [n,NUMBERS] int8, sixteenths: log2 of the price, of the error's energy and of their ratio, from their
        usual middles; of the picture's scale to the error's, and of the picture's energy; 8 per layer; 64 in layer 0
        and 64 in layer 1; and of each part's weight, of 4 x 4.
    """

    error: Tensor
    weights: Tensor
    place: Tensor
    price: Tensor
    picture: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.error)

    def pick(self, index: Tensor) -> NetInputs:
        """Some of the tiles."""
        return NetInputs(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def terms(self) -> TileTerms:
        """Terms of scores, of the tiles as nets see them."""
        return TileTerms(self.error, self.weights, self.place, self.price)


def net_inputs(tiles: TileBatch, expansion: Expansion, shown: Expansion, layer: int) -> NetInputs:
    """Inputs of tiles, whose side is a multiple of SIDE or at least SIDE.

    Args:
        expansion: of D around them.   shown: of squared error alone.
    """
    (_, x, cls), ops, count = tiles, backend_of(tiles.e.device), tiles.x.shape[1] * tiles.x.shape[2]
    mean = torch.div(x.sum(dim=(1, 2), dtype=torch.int64), count, rounding_mode="floor").to(torch.int32)
    own = ops.packed(tiles, expansion, SIDE)
    bare = x - mean[:, None, None]
    picture = ops.packed(TileBatch(bare, bare, cls), shown, SIDE)
    paid, scale, energy, seen = (
        short_log2(values) >> 4 for values in (own.price, picture.price, _energy(own.rows), _energy(picture.rows))
    )
    number = min(layer, 15)
    rows = [
        paid - _PRICE, energy - _ENERGY, energy - paid - _WORTH, (paid - scale) >> 1, seen - _ENERGY,
        *(torch.full_like(paid, value) for value in (8 * number, 64 * (number == 0), 64 * (number == 1))),
    ]  # fmt: skip
    contrast = (short_log2(_parts(own.weights, expansion.regions).to(torch.float32)) >> 4) - _WEIGHT
    numbers = torch.cat([torch.stack(rows, dim=1), contrast], dim=1).clamp(-127, 127).to(torch.int8)
    return NetInputs(own.rows, own.weights, own.place, own.price, picture.rows, numbers)


def _energy(packed: Tensor) -> Tensor:
    """Sum of squares of each tile, at least 1, [n] float32."""
    return packed.to(torch.int32).square().sum(dim=1, dtype=torch.int32).clamp(min=1).to(torch.float32)


def _parts(weights: Tensor, regions: int) -> Tensor:
    """Weight of the energy within each part of tiles, [n,_PARTS^2] int64, at least 1."""
    cases = weights.view(len(weights), 2, 2, regions, regions)[:, :, 0].to(torch.int64).sum(dim=1)  # one of both is 0
    at = torch.arange(_PARTS, device=weights.device) * regions // _PARTS
    return cases[:, at][:, :, at].flatten(1).clamp(min=1)
