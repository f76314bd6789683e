"""Coding tools of the residual: each does what the format says, alone and with the others."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from pc15.config import CodecConfig
from pc15.errors import ConfigError, UnknownNameError
from pc15.residual.bits import filter_decisions, residual_bits
from pc15.residual.context_models import DECODE, MODE, POS, STATE, TAPE, rans_bytes
from pc15.residual.dct import DST, MID_BITS, SCALE_BITS, inverse
from pc15.residual.deblock import LEAST_ROWS
from pc15.residual.decode import STEPS, decode_residual, read_field
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.enc.wiener_fit import fit_loop
from pc15.residual.initial_models import flat_models, part_of, start_models
from pc15.residual.intra import HORIZONTAL, MEAN, PLANAR, VERTICAL, predict
from pc15.residual.tools import (
    ALL_TOOLS,
    BLEND,
    BORDERS,
    CHROMA_TOOLS,
    CROSS,
    PATTERNS,
    SPLITS,
    TOOLS,
    TRELLIS,
    WIENER,
    tools_of,
)
from pc15.residual.wiener import (
    CLASSES,
    MAX_TAP,
    PAIRS,
    TAPS,
    class_map,
    code_loop,
    continued,
    loop_models,
    no_loop,
    wiener,
)
from pc15.runtime import parallel

LUMA_TOOLS = {name: tool for name, tool in TOOLS.items() if not tool & CHROMA_TOOLS}
"""Those that a plane by itself can have; of the others see test_cross."""


def test_models_that_a_tool_adds_start_at_its_own_table() -> None:
    for step in (6, 21, 79):
        flat = flat_models()
        for tools in range(ALL_TOOLS + 1):
            models, common, both = start_models(step, tools), tools & CROSS or tools & TRELLIS, TRELLIS | BORDERS
            for part in (0, TRELLIS, PATTERNS, CROSS, SPLITS, BORDERS):
                # with trellis and borders together all that luma has is learnt again
                alone = both if tools & both == both and part != CROSS else part or common
                for found, wanted in zip(part_of(models, part), part_of(start_models(step, alone), part), strict=True):
                    assert np.array_equal(found, wanted)
                assert not np.array_equal(part_of(models, part)[0], part_of(flat, part)[0])
        first = [part_of(start_models(step, tools), 0)[0] for tools in (0, TRELLIS, CROSS, TRELLIS | BORDERS)]
        assert not any(np.array_equal(a, b) for a, b in itertools.combinations(first, 2))


def scene(h: int, w: int, seed: int = 0) -> np.ndarray:
    """Slopes, an edge, waves and grain, [h,w] int32 Q12."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w]
    plane = 1500 + 9 * x + 5 * y + 900 * (x + 2 * y > (w + 2 * h) // 2) + 200 * np.sin(x / 2.0 + y / 5.0)
    return np.clip(plane + rng.normal(0, 30, (h, w)), 0, 4096).astype(np.int32)


@settings(max_examples=30, deadline=None)
@given(
    h=st.integers(1, 90), w=st.integers(1, 150), step=st.integers(0, STEPS - 1), seed=st.integers(0, 99),
    tools=st.sets(st.sampled_from(sorted(LUMA_TOOLS.values()))).map(sum), flat=st.booleans(),
)  # fmt: skip
def test_the_decoder_draws_what_the_encoder_saw(h: int, w: int, step: int, seed: int, tools: int, flat: bool) -> None:
    picture = scene(h, w, seed)
    base = np.full_like(picture, 2048) if flat else scene(h, w, seed + 1)
    code = encode_residual(picture - base, base, ResidualParams(step, tries=2, tools=tools))
    drawn = decode_residual(code.payload, base, step, tools)
    assert np.array_equal(drawn, code.reconstruction)
    bits = residual_bits(code.payload, h, w, step, tools)
    assert bits == code.stats["bits_by_kind"]
    assert not bits or 0 <= len(code.payload) - sum(bits.values()) / 8 <= 4


@pytest.mark.parametrize("tool", LUMA_TOOLS.values(), ids=LUMA_TOOLS)
def test_a_tool_makes_another_stream_and_a_better_one_of_this_picture(tool: int) -> None:
    y, x = np.mgrid[:192, :192]
    rings = np.tanh(3 * np.sin(((x - 90) ** 2 + (y - 80) ** 2) / 500))  # all directions, and squares of all sizes
    grain = np.random.default_rng(1).normal(0, 20, (192, 192))
    picture = np.clip(2000 + 900 * rings + grain, 0, 4096).astype(np.int32)
    grey, step, costs = np.full_like(picture, 2048), 36, []
    for tools in (0, tool):
        code = encode_residual(picture - grey, grey, ResidualParams(step, tools=tools))
        error = float(np.square(code.reconstruction - picture).sum())
        costs.append(error + ResidualParams(step).rate_weight * 8 * len(code.payload))
    assert costs[1] < costs[0]


@njit
def undone(coef: np.ndarray, mid: np.ndarray, block: np.ndarray) -> None:
    inverse(coef, 2, 2, True, 4, 4, np.zeros(32, np.int64), np.zeros(32, np.int64), mid, block)


def test_the_sine_transform_is_orthonormal_and_undone_as_written() -> None:
    matrix = DST / float(1 << SCALE_BITS)
    k, x = np.mgrid[:4, :4]
    assert np.abs(matrix - 2 / 3 * np.sin(np.pi * (2 * k + 1) * (x + 1) / 9)).max() <= 0.5 / (1 << SCALE_BITS)
    assert np.abs(matrix @ matrix.T - np.eye(4)).max() < 2.0**-11
    coef = np.random.default_rng(1).integers(-(1 << 24), 1 << 24, (32, 32)).astype(np.int32)
    wide, block, shift = DST.astype(np.int64), np.zeros((64, 64), np.int32), SCALE_BITS + MID_BITS
    undone(coef, np.zeros((32, 64), np.int32), block)
    down = (wide.T @ coef[:4, :4] + (1 << (SCALE_BITS - 1))) >> SCALE_BITS
    assert np.array_equal(block[:4, :4], (down @ wide + (1 << (shift - 1))) >> shift)
    assert not block[4:].any() and not block[:, 4:].any()


@njit
def predicted(ref: np.ndarray, mode: int, log2: int, tools: int, line: np.ndarray, out: np.ndarray) -> None:
    predict(ref, mode, log2, log2, line, out, tools)


@pytest.mark.parametrize(("mode", "log2"), [*itertools.product((PLANAR, MEAN, HORIZONTAL, VERTICAL), range(2, 7))])
def test_predictions_are_blended_as_written(mode: int, log2: int) -> None:
    n = 1 << log2
    ref = np.random.default_rng(log2).integers(-4096, 4097, (2, 4 * n + 1)).astype(np.int32)
    plain, mixed = np.zeros((2, 64, 64), np.int32)
    predicted(ref, mode, log2, 0, np.zeros(200, np.int32), plain)
    predicted(ref, mode, log2, BLEND, np.zeros(200, np.int32), mixed)
    border = ref[1 if mode == PLANAR and n >= 8 else 0].astype(np.int64)
    corner, p = border[2 * n], plain[:n, :n].astype(np.int64)
    left, top = border[2 * n - 1 - np.arange(n)][:, None], border[2 * n + 1 + np.arange(n)][None]
    w = np.array([32 >> min(31, 2 * i >> ((log2 - 1) >> 1)) for i in range(n)])
    across, down = w[None], w[:, None]
    if mode == HORIZONTAL:
        change = down * (top - corner)
    elif mode == VERTICAL:
        change = across * (left - corner)
    else:
        change = across * (left - p) + down * (top - p)
    assert np.array_equal(mixed[:n, :n], p + (change + 32 >> 6))


def reference_class(around: np.ndarray) -> tuple[int, int]:
    """Class and lie of a block of 4x4 in the middle of 10x10 pixels, as the format says."""
    sums = [0, 0, 0, 0]
    for y, x in itertools.product(range(1, 9), range(1, 9)):
        if (y ^ x) & 1 == 0:
            for k, (dy, dx) in enumerate(((1, 0), (0, 1), (1, 1), (1, -1))):
                sums[k] += abs(2 * int(around[y, x]) - int(around[y + dy, x + dx]) - int(around[y - dy, x - dx]))
    v, h, f, r = sums
    strength = sum((v + h) >> 9 >= least for least in (1, 2, 7, 15))
    direction = 0
    if max(v, h) > 2 * min(v, h) or max(f, r) > 2 * min(f, r):
        if max(v, h) * min(f, r) > max(f, r) * min(v, h):
            direction = 2 if 2 * max(v, h) > 9 * min(v, h) else 1
        else:
            direction = 4 if 2 * max(f, r) > 9 * min(f, r) else 3
    return 5 * direction + strength, (2 if f < r else 0) | (1 if v < h else 0)


def test_the_wiener_filter_is_the_one_that_is_written() -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:72, :88]
    angle, height = (x // 16 * 5 + y // 16 * 7) % 16 * np.pi / 16, 4.0 ** (y // 16 % 5)
    waves = np.sin((x * np.cos(angle) + y * np.sin(angle)) * 1.1) + 0.2 * rng.normal(0, 1, y.shape)
    picture = (2048 + 4 * height * waves).astype(np.int32)
    loop = no_loop((2, 2))
    loop.filters[0], loop.of_class[:] = 5, np.arange(CLASSES) % 5
    loop.taps[:5] = rng.integers(-20, 21, (5, TAPS))
    loop.on[:] = [[1, 0], [1, 1]]
    rim = np.pad(picture, 4, mode="edge").astype(np.int64)
    expected, seen = picture.copy(), set()
    for y, x in itertools.product(range(72), range(88)):
        top, left = y & ~3, x & ~3
        kind, lie = reference_class(rim[top + 1 : top + 11, left + 1 : left + 11])
        seen.add((kind, lie))
        if not loop.on[y >> 6, x >> 6]:
            continue
        total = 64
        for i, (dy, dx) in enumerate(PAIRS):
            # the place that a tap of the unturned filter goes to
            if lie & 1:
                dy, dx = dx, dy
            if lie & 2:
                dy = -dy
            pair = rim[y + 4 + dy, x + 4 + dx] + rim[y + 4 - dy, x + 4 - dx]
            total += int(loop.taps[loop.of_class[kind], i]) * int(pair - 2 * rim[y + 4, x + 4])
        expected[y, x] += total >> 7
    assert len(seen) > 25 and {lie for _, lie in seen} == {0, 1, 2, 3}
    assert np.array_equal(wiener(picture.copy(), loop), expected)


def test_a_filter_that_undoes_a_blur_is_found() -> None:
    goal = scene(128, 128, 5)
    rim = np.pad(goal, 1, mode="edge")
    blurred = (rim[:-2, 1:-1] + rim[2:, 1:-1] + rim[1:-1, :-2] + rim[1:-1, 2:] + 4 * goal + 4) >> 3
    loop, drawn = fit_loop(blurred.astype(np.int32), goal, 10.0)
    assert loop.filters[0] and loop.on.all()
    assert np.array_equal(wiener(blurred.astype(np.int32), loop), drawn)
    assert np.square(drawn - goal).sum() < 0.5 * np.square(blurred - goal).sum()
    none, same = fit_loop(blurred.astype(np.int32), goal, 1e12)
    assert not none.filters[0] and np.array_equal(same, blurred)


def test_filters_by_several_threads_are_those_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    goal, gray = scene(420, 96, 6), np.full((420, 96), 2048, np.int32)
    code = encode_residual(goal - 2048, gray, ResidualParams(40, tries=1, tools=WIENER))
    _, strength, loop, _ = read_field(code.payload, 420, 96, 40, WIENER)
    assert strength and loop.filters[0] and 3 * LEAST_ROWS < 420 // 4
    for count in (1, 2, 3):
        monkeypatch.setattr(parallel, "thread_count", lambda count=count: count)
        monkeypatch.setattr(parallel, "_set_thread_count", lambda _: None)
        assert np.array_equal(decode_residual(code.payload, gray, 40, WIENER), code.reconstruction)


@pytest.mark.parametrize("count", [1, 2, 7, CLASSES])
def test_a_filter_comes_back_from_its_decisions(count: int) -> None:
    rng = np.random.default_rng(count)
    loop, found = no_loop((3, 2)), no_loop((3, 2))
    loop.filters[0] = count
    loop.of_class[:] = np.minimum(np.arange(CLASSES), rng.integers(0, count, CLASSES))
    loop.of_class[:count] = np.arange(count)
    loop.taps[:count] = rng.integers(-MAX_TAP, MAX_TAP + 1, (count, TAPS))
    loop.on[:] = rng.integers(0, 2, (3, 2))
    data = rans_bytes(filter_decisions(0, loop, WIENER)[2:])
    io = np.concatenate((np.zeros(TAPE, np.int64), data.astype(np.int64)))
    io[STATE], io[POS], io[MODE] = int.from_bytes(data[:4].tobytes(), "big"), TAPE + 4, DECODE
    code_loop(loop_models(), io, found)
    assert all(np.array_equal(a, b) for a, b in zip(loop, found, strict=True))


def test_classes_of_a_flat_picture_are_the_first() -> None:
    assert not class_map(continued(np.full((16, 24), 1000, np.int32))).any()


def test_a_payload_without_a_filter_says_so_in_five_bits() -> None:
    picture = np.tile(scene(64, 64)[:1], (64, 1))
    code = encode_residual(picture - 2048, np.full_like(picture, 2048), ResidualParams(4, tools=WIENER))
    assert read_field(code.payload, 64, 64, 4, WIENER)[2].filters[0] == 0
    assert code.stats["bits_by_kind"]["filter"] == 7


@pytest.mark.parametrize("tools", [-1, ALL_TOOLS + 1, True, 1.0])
def test_tools_that_do_not_exist_are_refused(tools: object) -> None:
    with pytest.raises(ConfigError, match="tools"):
        ResidualParams(20, tools=tools)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tools"):
        decode_residual(b"", np.zeros((8, 8), np.int32), 20, tools)  # type: ignore[arg-type]


def test_options_name_tools() -> None:
    assert CodecConfig().tools == tuple(TOOLS)
    assert CodecConfig(tools="blend, sine").tools == CodecConfig(tools=["blend", "sine"]).tools == ("sine", "blend")
    assert CodecConfig(tools="none").tools == CodecConfig(tools=()).tools == ()
    assert tools_of(TOOLS) == ALL_TOOLS
    with pytest.raises(UnknownNameError, match="did you mean"):
        CodecConfig(tools="weiner")
    with pytest.raises(ConfigError, match="tools are 3"):
        CodecConfig(tools=3)
