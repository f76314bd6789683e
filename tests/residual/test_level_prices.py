"""Prices of levels from tables are those of the models that the tables were made from."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from pc15.residual.context_models import STRETCH_MAX, bit_cost, chance
from pc15.residual.contexts import (
    BIT_LENGTH,
    FIRST_PLACE,
    GT1_SET,
    KINDS,
    MAX_FLAGS,
    NEAR,
    SIG_SET,
    STATES,
    SUM_CLASS,
    WEIGHT_SETS,
    contexts,
)
from pc15.residual.enc.level_prices import COSTS, ENTRIES, gt1_row, gtn_row, price_levels, sig_row
from pc15.residual.initial_models import start_models
from pc15.residual.shapes import ALL_SIZES, PLACES_OF, SHAPES, SIZE
from pc15.residual.tools import TRELLIS


@njit
def made(m, sets, table):  # type: ignore[no-untyped-def]
    price_levels(m, sets, ALL_SIZES, table)


@njit
def both(m, table, k, state, s, row, around, kind, near, filled):  # type: ignore[no-untyped-def]
    """Costs of a 0 and of a 1 by the tables, and by the models."""
    sums, full, block = SUM_CLASS[min(around, 32)], BIT_LENGTH[min(filled, 127)], kind * NEAR + near
    if k == 0:
        at = sig_row(table, SIG_SET[state], s, row, sums, block, full)
    elif k == 1:
        at = gt1_row(table, GT1_SET[state], s, row, sums, block, full)
    else:
        at = gtn_row(table, k, row, sums, near, full)
    c0, c1, c2, c3, w = contexts(k, s, row, around, kind, near, filled, state)
    p = chance(m, c0, c1, c2, c3, w)
    return COSTS[at, 0], COSTS[at, 1], bit_cost(p, 0), bit_cost(p, 1)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.sampled_from([0, 1 << 12, 1 << 17]),
    trellis=st.booleans(),
    shape=st.integers(0, SHAPES - 1),
)
def test_prices_are_those_of_the_models(seed: int, spread: int, trellis: bool, shape: int) -> None:
    random = np.random.default_rng(seed)
    m = start_models(24, TRELLIS if trellis else 0, "mixed").copy()
    m[:, 2] = np.clip(m[:, 2] + random.integers(-300, 301, len(m)), -STRETCH_MAX, STRETCH_MAX)
    m[-WEIGHT_SETS:] += random.integers(-spread, spread + 1, (WEIGHT_SETS, 4)).astype(np.int32)
    table = np.zeros(ENTRIES, np.int32)
    made(m, 3 if trellis else 1, table)
    seen, s = set(), int(SIZE[shape])
    for _ in range(200):
        k, state = int(random.integers(MAX_FLAGS)), int(random.integers(STATES)) if trellis else 0
        row = int(FIRST_PLACE[shape]) + int(random.integers(PLACES_OF[shape]))
        kind, near = int(random.integers(KINDS)), int(random.integers(NEAR))
        around, filled = int(random.integers(60)), int(random.integers(300))
        zero, one, *models = both(m, table, k, state, s, row, around, kind, near, filled)
        assert [zero, one] == models
        seen.add(zero)
    assert len(seen) > 50
