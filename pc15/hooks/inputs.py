"""Inputs of nets, of a tile before a layer is added: whole numbers, the same in a fit and in the encoder.

A net sees what the search multiplies with patterns at half resolution, the residual on SIDE x SIDE boxes, and besides
it the picture there and eight numbers: the price of a bit, how much there is to gain, and which layer it is.  One set
of weights thus serves all rates.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pc15.search.backend import backend_of
from pc15.search.backend.sort_keys import short_log2

__all__ = ["INPUT_VERSION", "NUMBERS", "PIXELS", "SIDE", "NetInputs", "net_inputs"]

INPUT_VERSION = 1
"""Raised whenever an input changes its meaning; weights made for another version are refused."""
SIDE = 16
"""Boxes a side that a tile is looked at by."""
PIXELS = SIDE * SIDE
NUMBERS = 8

# Middles of base-2 logarithms on photographs at lambda 0.25 to 4, in sixteenths.
_PRICE, _ENERGY, _WORTH = -17 << 4, 17 << 4, 34 << 4


@dataclass(frozen=True, eq=False)
class NetInputs:
    """Inputs of n tiles.

    error: [n,PIXELS] int8, what is left to draw, weighted, see `Backend.packed`.   picture: likewise, the picture
        without its mean.
    price: [n] float32, what 1/256 bit costs in units of a squared product of `error` and a pattern of unit norm.
    numbers: [n,NUMBERS] int8, sixteenths: log2 of the price, of the error's energy and of their ratio, from their
        usual middles; of the picture's scale to the error's, and of the picture's energy; 8 per layer; 64 in layer 0
        and 64 in layer 1.
    """

    error: Tensor
    picture: Tensor
    price: Tensor
    numbers: Tensor

    def __len__(self) -> int:
        return len(self.error)

    def pick(self, index: Tensor) -> NetInputs:
        """Some of the tiles."""
        return NetInputs(*(getattr(self, field.name)[index] for field in fields(self)))

    @property
    def energy(self) -> Tensor:
        """Sum of squares of `error`, at least 1, [n] int32."""
        return _energy(self.error)


def net_inputs(e: Tensor, x: Tensor, cls: Tensor, lin: Tensor, prices: Tensor, layer: int) -> NetInputs:
    """Inputs of tiles.

    Args:
        e, x: [n,T,T] int32 Q12, residual and picture; T a multiple of SIDE or at least SIDE.
        cls: [n] int64, lin: [C,T,T] int32, see `Windows`.   prices: [64] float32, by shift, see `Scorer`.
    """
    ops, count = backend_of(e.device), x.shape[1] * x.shape[2]
    mean = torch.div(x.sum(dim=(1, 2), dtype=torch.int64), count, rounding_mode="floor").to(torch.int32)
    error, price = ops.packed(e, cls, lin, prices, SIDE)
    picture, own = ops.packed(x - mean[:, None, None], cls, lin, prices, SIDE)
    paid, scale, energy, shown = (
        short_log2(values) >> 4 for values in (price, own, _energy(error).float(), _energy(picture).float())
    )
    number = min(layer, 15)
    rows = [
        paid - _PRICE, energy - _ENERGY, energy - paid - _WORTH, (paid - scale) >> 1, shown - _ENERGY,
        *(torch.full_like(paid, value) for value in (8 * number, 64 * (number == 0), 64 * (number == 1))),
    ]  # fmt: skip
    return NetInputs(error, picture, price, torch.stack(rows, dim=1).clamp(-127, 127).to(torch.int8))


def _energy(packed: Tensor) -> Tensor:
    return packed.to(torch.int32).square().sum(dim=1, dtype=torch.int32).clamp(min=1)
