"""Trellis-coded levels: what the search says they cost is what they cost, and nothing cheaper is near."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from pc15.residual.context_models import (
    COST,
    COST_ONE,
    DECODE,
    ENCODE,
    FILL,
    FROZEN,
    HALF_CONTEXT,
    KIND_SHIFT,
    MODE,
    POS,
    STATE,
    TAPE,
    rans_bytes,
)
from pc15.residual.contexts import CONTEXTS, FIRST_PLACE, NEAR, NEXT_STATE, ODD, PLACE, WEIGHT_SETS
from pc15.residual.dct import MID_BITS
from pc15.residual.enc.level_prices import ENTRIES, price_levels
from pc15.residual.enc.prices import price_last
from pc15.residual.enc.trellis import best_path, paths, start_of
from pc15.residual.initial_models import start_models
from pc15.residual.shapes import ALL_SIZES, CODED_HIGH, CODED_WIDE, LAST_TOP, SHAPES
from pc15.residual.syntax import RIM, code_levels, last_level
from pc15.residual.tools import TRELLIS

ROOM = 1024 * 64
"""More decisions than a block of 32x32 can have."""
STEP = 12
UNIT = 4096
"""Half a step of the blocks that are coded here, Q4."""


@njit
def searched(s, unit, lam, m, kind, near, coef, last_price, level, work):  # type: ignore[no-untyped-def]
    start = start_of(coef, s, unit)
    if start < 0:
        return -1, 0, 0.0
    price_last(m, LAST_TOP[s], s, near, kind, last_price)
    prices = np.zeros(ENTRIES, np.int32)
    price_levels(m, 3, ALL_SIZES, prices)
    return best_path(s, unit, lam, prices, kind * NEAR + near, coef, start, last_price, level, work)


@njit
def coded(m, io, level, s, kind, near, last, around):  # type: ignore[no-untyped-def]
    return code_levels(m, io, level, 0, 0, s, kind, near, last, TRELLIS, around)[1]


@njit
def last_of(level, s):  # type: ignore[no-untyped-def]
    return last_level(level, 0, 0, s)


def frozen() -> np.ndarray:
    """Models that learn nothing."""
    m = start_models(STEP, TRELLIS)
    m[:CONTEXTS, 1], m[HALF_CONTEXT, 3] = FROZEN, 0
    return m


def written(m: np.ndarray, level: np.ndarray, s: int, kind: int = 0, near: int = 0) -> np.ndarray:
    """Decisions that code a block [32,32] of multiples of half a step."""
    io = np.zeros(ROOM, np.int64)
    io[FILL], io[MODE] = TAPE, ENCODE
    coded(m, io, level.copy(), s, kind, near, last_of(level, s), np.zeros(38 * RIM, np.int32))
    return io[TAPE : io[FILL]]


def cost_of(coef: np.ndarray, level: np.ndarray, s: int, lam: float, kind: int = 0, near: int = 0) -> float:
    """J of a block relative to no levels: squared error of what a decoder draws, and bits as they are coded."""
    tape = written(frozen(), level, s, kind, near)
    ones = tape >> 1 & 65535
    prices = COST[np.where(tape & 1, ones, 65536 - ones) >> 4]
    bits = np.where(tape >> KIND_SHIFT < WEIGHT_SETS, prices, COST_ONE).sum() / COST_ONE
    error = np.square(coef - level * float(UNIT)).sum() - np.square(coef.astype(float)).sum()
    return float(error / (1 << 2 * MID_BITS) + lam * bits)


def best(coef: np.ndarray, s: int, lam: float, kind: int = 0, near: int = 0) -> tuple[np.ndarray, int, int, float]:
    level = np.full((32, 32), 9, np.int32)
    found = searched(s, UNIT, lam, frozen(), kind, near, coef, np.zeros((12, 4), np.int64), level, paths())
    w, h = CODED_WIDE[s], CODED_HIGH[s]
    assert np.all(level[h:] == 9) and np.all(level[:, w:] == 9)
    level[h:] = level[:, w:] = 0
    return level, *found


def block(s: int, seed: int, scale: float) -> np.ndarray:
    """Coefficients of a block, large at low frequencies, [32,32] int32."""
    w, h = CODED_WIDE[s], CODED_HIGH[s]
    v, u = np.mgrid[:32, :32]
    coef = np.random.default_rng(seed).laplace(0, scale * UNIT / (1 + u * 16 / w + v * 16 / h), (32, 32))
    coef[h:] = coef[:, w:] = 0
    return coef.astype(np.int32)


LAMBDA_HERE = 0.4 * (UNIT / 16) ** 2


@settings(max_examples=60, deadline=None)
@given(
    s=st.integers(0, SHAPES - 1), seed=st.integers(0, 10**6), scale=st.floats(0.3, 60), kind=st.integers(0, 3),
    near=st.integers(0, 6), lam=st.sampled_from([0.0, 0.05, 1.0, 4.0]),
)  # fmt: skip
def test_the_path_costs_what_its_levels_cost(s: int, seed: int, scale: float, kind: int, near: int, lam: float) -> None:
    coef = block(s, seed, scale)
    level, last, total, j = best(coef, s, lam * LAMBDA_HERE, kind, near)
    if last < 0:
        assert np.abs(coef).max() <= UNIT
        return
    assert last == last_of(level, s)
    assert total == ((np.abs(level) + 1) >> 1).sum()
    assert j == pytest.approx(cost_of(coef, level, s, lam * LAMBDA_HERE, kind, near), rel=1e-9, abs=1e-3)


def test_no_choice_of_levels_is_much_cheaper_than_the_path() -> None:
    excess = []
    for seed in range(12):
        coef, lam = np.zeros((32, 32), np.int32), LAMBDA_HERE
        rng = np.random.default_rng(seed)
        for u, v in ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)):
            coef[v, u] = rng.laplace(0, 2.5 * UNIT / (1 + u + v))
        _, last, _, j = best(coef, 0, lam)
        least = 0.0
        places = [tuple(PLACE[FIRST_PLACE[0] + i, :2]) for i in range(6)]
        for sizes in itertools.product(*[range(int(abs(coef[v, u]) / (2 * UNIT)) + 2) for u, v in places]):
            state, level = 0, np.zeros((32, 32), np.int32)
            if not any(sizes):
                continue
            end = max(i for i in range(6) if sizes[i])
            for i in range(end, -1, -1):
                u, v = places[i]
                k = sizes[i]
                level[v, u] = np.sign(coef[v, u]) * (2 * k - ODD[state]) if k else 0
                state = NEXT_STATE[state, k & 1]
            least = min(least, cost_of(coef, level, 0, lam))
        j = min(j, 0.0) if last >= 0 else 0.0
        assert j >= least - 1e-3
        excess.append((j - least) / lam)
    assert np.mean(excess) < 0.2, excess  # bits per block


@settings(max_examples=60, deadline=None)
@given(
    s=st.integers(0, SHAPES - 1), seed=st.integers(0, 10**6), density=st.floats(0, 1),
    top=st.sampled_from([1, 3, 20, 10**5]),
)  # fmt: skip
def test_any_levels_come_back(s: int, seed: int, density: float, top: int) -> None:
    rng, w, h = np.random.default_rng(seed), CODED_WIDE[s], CODED_HIGH[s]
    sizes = rng.integers(1, top + 1, (32, 32)) * (rng.random((32, 32)) < density)
    sizes[h:] = sizes[:, w:] = 0
    sizes[0, 0] |= 1
    level, state = np.zeros((32, 32), np.int32), 0
    for i in range(last_of(sizes.astype(np.int32), s), -1, -1):
        u, v = PLACE[FIRST_PLACE[s] + i, :2]
        k = int(sizes[v, u])
        level[v, u] = rng.choice([-1, 1]) * (2 * k - ODD[state]) if k else 0
        state = NEXT_STATE[state, k & 1]
    data = rans_bytes(written(start_models(STEP, TRELLIS), level, s))
    io = np.concatenate((np.zeros(TAPE, np.int64), data.astype(np.int64)))
    io[STATE], io[POS], io[MODE] = int.from_bytes(data[:4].tobytes(), "big"), TAPE + 4, DECODE
    found = np.zeros((32, 32), np.int32)
    total = coded(start_models(STEP, TRELLIS), io, found, s, 0, 0, 0, np.zeros(38 * RIM, np.int32))
    assert np.array_equal(found, level) and total == sizes.sum()
