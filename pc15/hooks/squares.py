"""Questions about a photograph: the view of a residual before its squares are searched, and the answer.

Nothing here needs torch: photographs are searched without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.enc.gate import SIDES, WAYS, SquareChoice, SquareNet

__all__ = [
    "AGAIN", "ALL_WAYS", "COLUMNS", "PARTS", "PARTS_PREDICTIONS", "PATTERNS", "PREDICTIONS", "QUARTERS", "ROWS",
    "SIDES", "SquareChoice", "SquareNet", "SquareView",
]  # fmt: skip

Ints = npt.NDArray[Any]

PREDICTIONS, PATTERNS, ROWS, COLUMNS, AGAIN, PARTS_PREDICTIONS, QUARTERS = (1 << _way for _way in range(WAYS))
"""Bits of `SquareChoice.ways`: predictions but the likeliest one; patterns; two halves, one above the other, or side by
side; halves cut again; predictions of all these parts but the likeliest one; quarters."""
PARTS = ROWS | COLUMNS | AGAIN | PARTS_PREDICTIONS
ALL_WAYS = (1 << WAYS) - 1


@dataclass(frozen=True, eq=False)
class SquareView:
    """View of a plane, or of a section of its rows, before its squares are searched.

    wanted: [h,w] int32 Q12 (4096 = luma 1.0), picture minus what is drawn below the residual.
    picture: [h,w] int32 Q12.   price: squared error, Q12 squared, that one bit is worth.
    tries: predictions that the search codes in full per square.   tools: names of the coding tools.
    """

    wanted: Ints
    picture: Ints
    price: float
    tries: int
    tools: tuple[str, ...]

    def squares(self, side: int) -> Ints:
        """The picture's squares of that side that lie in it whole, [rows, columns, side, side] int32 Q12."""
        rows, columns = self.picture.shape[0] // side, self.picture.shape[1] // side
        whole = self.picture[: rows * side, : columns * side]
        return whole.reshape(rows, side, columns, side).swapaxes(1, 2)

    def energies(self, side: int) -> npt.NDArray[np.float64]:
        """Squared error of each of these squares about its mean, in bits at the price, [rows, columns]."""
        own = self.squares(side).astype(np.int64)
        total, square = own.sum(axis=(2, 3)), (own * own).sum(axis=(2, 3))
        energies: npt.NDArray[np.float64] = (square - total * total / side**2) / self.price
        return energies

    def slopes(self, side: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Squared differences of neighbours in each of these squares, down and across, in bits at the price."""
        own = self.squares(side).astype(np.int64)
        down, across = (np.square(np.diff(own, axis=axis)).sum(axis=(2, 3)) / self.price for axis in (2, 3))
        return down, across
