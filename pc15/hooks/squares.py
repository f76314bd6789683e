"""Questions about a photograph: the view of a residual before its squares are searched, and the answer.

Nothing here needs torch: photographs are searched without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.enc.gate import SIDES, SquareChoice, SquareNet

__all__ = ["PARTS", "PATTERNS", "QUARTERS", "SIDES", "SquareChoice", "SquareNet", "SquareView"]

Ints = npt.NDArray[Any]

PATTERNS, PARTS, QUARTERS = 1, 2, 4
"""Bits of `SquareChoice.ways`."""


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
