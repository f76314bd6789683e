"""The search of a plane by one thread and by two: the same bytes whoever is quick, and an end whoever fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import pc15
from pc15 import CodecConfig
from pc15.encoder import encode_many, encode_y
from pc15.residual.decode import decode_residual
from pc15.residual.enc import plane
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.tools import ALL_TOOLS, CHROMA_TOOLS
from tests.residual.test_residual import scene

LUMA_TOOLS = ALL_TOOLS & ~CHROMA_TOOLS
TALL = scene(320, 200)
GREY = np.full_like(TALL, 2048)
PARAMS = ResidualParams(20, tries=2, tools=LUMA_TOOLS)


def delayed(monkeypatch: pytest.MonkeyPatch, wait: Callable[[int, int], float]) -> None:
    """Let a thread be slow, before it searches from superblock x of row y on."""
    real = plane.search_row

    class Slow:
        def bound(self, *rest: Any) -> Callable[[int, int, int], None]:
            run = real.bound(*rest)

            def slow(first: int, stop: int, y: int) -> None:
                time.sleep(wait(first, y))
                run(first, stop, y)

            return slow

    monkeypatch.setattr(plane, "search_row", Slow())


@pytest.mark.parametrize("wait", [lambda x, y: 0.02 * (y % 2), lambda x, y: 0.02 * (x == y), lambda x, y: 0.0])
@pytest.mark.parametrize("turns", [1, 2, 12])
def test_two_threads_write_what_one_writes(
    wait: Callable[[int, int], float], turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = encode_residual(TALL - GREY, GREY, PARAMS)
    delayed(monkeypatch, wait)
    monkeypatch.setattr(plane, "_TURNS", turns)
    with ThreadPoolExecutor(1) as pool:
        code = encode_residual(TALL - GREY, GREY, PARAMS, pool=pool)
    assert code.payload == alone.payload
    assert np.array_equal(code.reconstruction, alone.reconstruction)
    assert np.array_equal(decode_residual(code.payload, GREY, PARAMS.step, tools=LUMA_TOOLS), code.reconstruction)


@pytest.mark.parametrize("shape", [(64, 64), (65, 64), (64, 300), (300, 20), (200, 129)])
def test_planes_of_few_superblocks(shape: tuple[int, int]) -> None:
    picture = scene(*shape)
    base = np.full_like(picture, 2048)
    with ThreadPoolExecutor(2) as pool:
        codes = [encode_residual(picture - base, base, PARAMS, pool=each) for each in (None, pool)]
    assert codes[0].payload == codes[1].payload
    assert np.array_equal(
        decode_residual(codes[0].payload, base, PARAMS.step, tools=LUMA_TOOLS), codes[0].reconstruction
    )


@pytest.mark.parametrize("row", [0, 1, 3])
def test_whoever_fails_ends_the_search_of_both(row: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(x: int, y: int) -> float:
        if y == row:
            raise MemoryError("no more")
        return 0.0

    delayed(monkeypatch, fail)
    with ThreadPoolExecutor(1) as pool, pytest.raises(MemoryError, match="no more"):
        encode_residual(TALL - GREY, GREY, PARAMS, pool=pool)


def test_a_pool_that_is_busy_is_not_waited_for() -> None:
    alone = encode_residual(TALL - GREY, GREY, PARAMS)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(time.sleep, 1.5)
        began = pool.submit(lambda: None)
        code = encode_residual(TALL - GREY, GREY, PARAMS, pool=pool)
        assert code.payload == alone.payload
        began.result()


def test_the_number_of_threads_is_not_in_the_bytes() -> None:
    picture = (TALL[:, :150] >> 4).astype(np.uint8)
    cfg = CodecConfig.preset("fast", tools=tuple(CodecConfig.preset("balanced").tools))
    several = encode_y(picture, cfg)
    (one,) = encode_many([picture], cfg, workers=1)
    assert one.bitstream == several.bitstream
    assert pc15.decode(one.bitstream).shape[-2:] == picture.shape
