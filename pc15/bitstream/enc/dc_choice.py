"""The choice of DC levels by rate and distortion.

It stands here, and not with the search, because compiled loops call only loops of their own package: it predicts DC as
`code_section` does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pc15.bitstream.programs import Ints
from pc15.bitstream.sections import predict_dc
from pc15.runtime.tiered import tiered_jit

Floats = npt.NDArray[np.float64]


@tiered_jit(predict_dc)
def choose_dc(
    levels: Ints, ideal: Floats, price: Floats, above: Ints, contexts: Ints, costs: Floats, middle: int, top: int
) -> None:
    """DC levels of a row of tiles, left to right: the nearest ones, or cheaper ones beside them where that pays.

    Args:
        levels: [nx], filled.   ideal, price: [nx], what suits each tile best, in levels, and what a squared level
            beside it costs.   above: as `predict_dc` wants it.   contexts: [nx], see `dc_contexts`.
        costs: what each code of a residual costs in each of the 3 contexts, one after the other.
        middle, top: the first tile's expected level; how many levels there are.
    """
    left, codes = middle, len(costs) // 3
    for column in range(len(levels)):
        expected = predict_dc(above, left, column, middle)
        near = round(ideal[column])
        best, first = -1.0, contexts[column] * codes
        for level in range(max(near - 2, 0), min(near + 3, top)):
            residual = level - expected
            code = 2 * residual if residual >= 0 else -2 * residual - 1
            beside = level - ideal[column]
            cost = price[column] * (beside * beside) + costs[first + min(code, codes - 1)]
            if best < 0.0 or cost < best:
                best, left = cost, level
        levels[column] = left
