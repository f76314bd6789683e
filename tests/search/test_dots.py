"""Products of rows of bytes are exact, whichever way this machine has for them."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from pc15.search.backend import dots


@njit  # type: ignore[untyped-decorator, unused-ignore]
def _products(a: Any, b: Any, out: Any) -> None:
    for i in range(len(a)):
        out[i, 0] = dots.dot(a[i], b[i], dots.total_of(b[i]))
        out[i, 1] = dots._by_loop(a[i], b[i], dots.total_of(b[i]))


@given(seed=st.integers(0, 1 << 32), length=st.integers(0, 700), top=st.sampled_from([1, 100, 127]))
def test_both_ways_give_the_sum_of_products(seed: int, length: int, top: int) -> None:
    draw = np.random.default_rng(seed)
    a, b = draw.integers(-top, top + 1, (2, 5, length), dtype=np.int8)
    a[0], b[0], b[1] = -128, -128, 127
    out = np.empty((5, 2), np.int32)
    _products(a, b, out)
    expected = (a.astype(np.int64) * b).sum(axis=1)
    assert (out == expected[:, None]).all()


def test_longer_numbers_go_by_the_loop() -> None:
    draw = np.random.default_rng(1)
    a, b = draw.integers(-127, 128, (3, 64), dtype=np.int8), draw.integers(-2047, 2048, (3, 64), dtype=np.int16)
    out = np.empty((3, 2), np.int32)
    _products(a, b, out)
    assert (out == (a.astype(np.int64) * b).sum(axis=1)[:, None]).all()


NOBODY, SOMEBODY = {"avx2": True, "avx512vnni": True}, {"avx512vnni": True, "avx512vl": True}


@pytest.mark.parametrize(
    ("settings", "here", "has"),
    [
        ({}, SOMEBODY, True),
        ({}, {"avxvnni": True, "avx512vnni": False}, True),
        ({}, NOBODY, False),
        ({"ENABLE_AVX": 0}, SOMEBODY, False),
        ({"CPU_NAME": "generic"}, SOMEBODY, False),
        ({"CPU_NAME": "generic", "CPU_FEATURES": ""}, SOMEBODY, False),
        ({"CPU_FEATURES": "+sse2,+avx512vnni"}, SOMEBODY, False),
        ({"CPU_FEATURES": "+avx512vl,+avx512vnni"}, NOBODY, True),
        ({"CPU_NAME": "alderlake", "CPU_FEATURES": "+avx2,+avxvnni"}, NOBODY, True),
        ({"ENABLE_AVX": 0, "CPU_FEATURES": "+avxvnni"}, NOBODY, False),
    ],
)
def test_no_cpu_is_asked_for_what_numba_does_not_compile_for(
    settings: dict[str, Any], here: dict[str, bool], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CPU_NAME": None, "CPU_FEATURES": None, "ENABLE_AVX": 1, **settings}.items():
        monkeypatch.setattr(numba.config, name, value)
    monkeypatch.setattr(dots.binding, "get_host_cpu_features", lambda: here)
    assert dots._has_instruction() is has
