"""The sparse residual: what is written is read, damage is noticed, and the numbers stay in their integers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from pc15.errors import BitstreamError, ConfigError
from pc15.residual.bits import residual_bits
from pc15.residual.context_models import COUNT_LIMIT
from pc15.residual.contexts import CONTEXTS
from pc15.residual.dct import (
    DCT,
    FORWARD_4,
    FORWARD_8,
    FORWARD_16,
    FORWARD_32,
    FORWARD_64,
    MID_BITS,
    SCALE_BITS,
    inverse,
)
from pc15.residual.deblock import STRENGTHS, deblock
from pc15.residual.decode import SAMPLE_LIMIT, STEPS, decode_flat, decode_residual, empty_field, read_field, step_q4
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.enc.mode_screen import Screen, coarse_error, fine_error, look_at, screen
from pc15.residual.initial_models import TRAINED_STEPS, start_models
from pc15.residual.intra import MODES, predict
from pc15.residual.reconstruct import COEF_MAX, Work, dequantize, work
from pc15.residual.tools import BLEND, TRELLIS


def scene(h: int, w: int, seed: int = 0) -> np.ndarray:
    """A picture with slopes, an edge and some texture, [h,w] int32 Q12."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w]
    plane = 1500 + 9 * x + 5 * y + 900 * (x + 2 * y > (w + 2 * h) // 2) + 150 * np.sin(x / 2.0 + y / 5.0)
    return np.clip(plane + rng.normal(0, 30, (h, w)), 0, 4096).astype(np.int32)


def grey(like: np.ndarray) -> np.ndarray:
    return np.full_like(like, 2048)


@settings(max_examples=25, deadline=None)
@given(
    h=st.integers(1, 70), w=st.integers(1, 90), step=st.integers(0, STEPS - 1), seed=st.integers(0, 99),
    flat=st.booleans(),
)  # fmt: skip
def test_the_decoder_draws_what_the_encoder_saw(h: int, w: int, step: int, seed: int, flat: bool):
    picture = scene(h, w, seed)
    base = grey(picture) if flat else scene(h, w, seed + 1)
    code = encode_residual(picture - base, base, ResidualParams(step, tries=2))
    drawn = decode_residual(code.payload, base, step)
    assert drawn.dtype == np.int32
    assert np.array_equal(drawn, code.reconstruction)
    assert drawn.min() >= 0 and drawn.max() <= 4096


def test_the_same_input_gives_the_same_bytes_and_the_format_does_not_drift():
    picture = scene(70, 90)
    codes = [encode_residual(picture - 2048, grey(picture), ResidualParams(20)) for _ in range(2)]
    assert codes[0].payload == codes[1].payload
    assert np.array_equal(codes[0].reconstruction, codes[1].reconstruction)


def test_a_golden_payload_still_decodes():
    base = grey(np.zeros((40, 56), np.int32))
    drawn = decode_residual(bytes.fromhex(GOLDEN_PAYLOAD), base, 16)
    assert hashlib.sha256(drawn.astype("<i4").tobytes()).hexdigest() == GOLDEN_SHA256


@pytest.mark.parametrize(("h", "w", "step"), [(70, 90, 20), (130, 61, 34), (5, 3, 8)])
def test_every_bit_is_accounted_for(h: int, w: int, step: int):
    picture = scene(h, w)
    code = encode_residual(picture - 2048, grey(picture), ResidualParams(step))
    bits = residual_bits(code.payload, h, w, step, 0)
    assert bits == code.stats["bits_by_kind"]
    assert 0 <= len(code.payload) - sum(bits.values()) / 8 <= 4  # the coder's state, flushed
    levels = read_field(code.payload, h, w, step, 0)[0].level
    assert bits["sign"] == np.count_nonzero(levels) and bits["filter"] == 2
    assert all(cost >= 0 for cost in bits.values())
    assert residual_bits(b"", h, w, step, 0) == {}
    with pytest.raises(BitstreamError):
        residual_bits(code.payload[:-1], h, w, step, 0)


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 140), w=st.integers(1, 140), step=st.integers(0, STEPS - 1), level=st.integers(0, 4096))
def test_upon_a_flat_prediction_samples_are_looked_up(h: int, w: int, step: int, level: int):
    picture = scene(h, w)
    code = encode_residual(picture - level, np.full_like(picture, level), ResidualParams(step))
    table = (np.arange(4097) >> 4).clip(0, 255).astype(np.uint8)
    if code.payload:
        assert np.array_equal(decode_flat(code.payload, h, w, level, step, 0, table), table[code.reconstruction])
        with pytest.raises(BitstreamError, match="cut|damaged"):
            decode_flat(code.payload[:-1], h, w, level, step, 0, table)


def test_nothing_to_say_costs_nothing():
    picture = scene(64, 130)
    code = encode_residual(np.zeros_like(picture), picture, ResidualParams(20))
    assert code.payload == b""
    assert np.array_equal(code.reconstruction, picture)
    assert np.array_equal(decode_residual(b"", picture, 20), picture)


def test_one_busy_corner_leaves_the_rest_of_the_prediction_alone():
    base = scene(128, 192)
    target = np.zeros_like(base)
    target[:32, :32] = 400
    code = encode_residual(target, base, ResidualParams(24))
    assert code.stats["superblocks_on"] == 1
    assert np.array_equal(code.reconstruction[64:], base[64:])
    assert len(code.payload) < 40


def test_finer_steps_cost_more_and_err_less():
    picture = scene(96, 96)
    sizes, errors = [], []
    for step in (6, 14, 22, 30, 38, 46):
        code = encode_residual(picture - 2048, grey(picture), ResidualParams(step))
        sizes.append(len(code.payload))
        errors.append(float(np.square(code.reconstruction - picture).mean()))
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    assert errors == sorted(errors, reverse=True)


def test_the_finest_step_is_finer_than_a_pixel_level():
    picture = scene(64, 64)
    code = encode_residual(picture - 2048, grey(picture), ResidualParams(STEPS - 1, lam=0.0))
    assert np.abs(code.reconstruction - picture).max() <= 8  # half of 4096 / 255


def test_damage_is_noticed_or_at_least_harmless():
    picture = scene(48, 40)
    base = grey(picture)
    payload = encode_residual(picture - base, base, ResidualParams(16)).payload
    for length in range(1, len(payload)):
        with pytest.raises(BitstreamError):
            decode_residual(payload[:length], base, 16)
    with pytest.raises(BitstreamError):
        decode_residual(payload + b"\0", base, 16)
    silent = 0
    for bit in range(8 * len(payload)):
        hurt = bytearray(payload)
        hurt[bit >> 3] ^= 1 << (bit & 7)
        try:
            drawn = decode_residual(bytes(hurt), base, 16)
            silent += 1
            assert drawn.min() >= 0 and drawn.max() <= 4096
        except BitstreamError:
            pass
    # A flipped sign leaves the state as it was: rANS cannot see it, the container's CRC does.
    assert silent <= 8 * len(payload) // 20


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=200), step=st.integers(0, STEPS - 1))
def test_random_bytes_never_crash_the_decoder(data: bytes, step: int):
    base = grey(np.zeros((70, 72), np.int32))
    try:
        drawn = decode_residual(data, base, step)
    except BitstreamError:
        return
    assert drawn.shape == base.shape and drawn.min() >= 0 and drawn.max() <= 4096


@pytest.mark.parametrize("step", [0, 40, STEPS - 1])
def test_extremes_stay_in_range(step: int):
    rng = np.random.default_rng(step)
    base = rng.choice(np.array([-SAMPLE_LIMIT, 0, 4096, SAMPLE_LIMIT], np.int32), (24, 40))
    target = rng.choice(np.array([-SAMPLE_LIMIT, SAMPLE_LIMIT], np.int32), (24, 40))
    code = encode_residual(target, base, ResidualParams(step, tries=1))
    drawn = decode_residual(code.payload, base, step)
    assert np.array_equal(drawn, code.reconstruction)
    assert drawn.min() >= 0 and drawn.max() <= 4096


@pytest.mark.parametrize("log2", [2, 3, 4, 5, 6])
def test_the_transform_is_orthonormal_to_within_its_rounding(log2: int):
    n = 1 << log2
    matrix = DCT[log2, :n, :n] / float(1 << SCALE_BITS)
    assert np.abs(matrix @ matrix.T - np.eye(n)).max() < 2.0**-11
    block = np.random.default_rng(log2).integers(-4096, 4097, (n, n)).astype(np.int32)
    if n == 64:  # only the 32 x 32 lowest frequencies are coded, so take a block that has no others
        low = matrix[:32]
        block = np.rint(low.T @ (low @ block @ low.T) @ low).astype(np.int32)
    coef, back = np.zeros((32, 32), np.int32), np.zeros((64, 64), np.int32)
    # loops that only compiled ones call are run as Python here
    forward = (FORWARD_4, FORWARD_8, FORWARD_16, FORWARD_32, FORWARD_64)[log2 - 2]
    forward.py_func(block.astype(np.float32), np.zeros((32, 64), np.float32), coef)
    exact = (matrix @ block @ matrix.T)[:32, :32] * (1 << MID_BITS)
    assert np.abs(coef[: min(n, 32), : min(n, 32)] - exact).max() <= 8
    draw(coef, log2, work(), back)
    assert np.abs(back[:n, :n] - block).max() <= 2


@njit(error_model="numpy")
def draw(coef: np.ndarray, log2: int, space: Work, block: np.ndarray) -> None:
    coded = min(1 << log2, 32)
    rows, cols = dequantize(coef, 0, 0, coded, coded, 1, space)
    inverse(space.coef, log2, log2, False, rows, cols, space.even, space.odd, space.mid, block)


@settings(max_examples=100, deadline=None)
@given(
    log2=st.integers(2, 6),
    rows=st.integers(0, 32),
    cols=st.integers(0, 32),
    size=st.integers(0, 24),
    seed=st.integers(0, 99),
)
def test_the_inverse_transform_is_two_products_each_rounded_once(log2: int, rows: int, cols: int, size: int, seed: int):
    n = 1 << log2
    coef, back = np.zeros((32, 32), np.int32), np.zeros((64, 64), np.int32)
    part = coef[: min(rows, n), : min(cols, n)]
    part[:] = (
        np.random.default_rng(seed)
        .integers(-(1 << size), 1 << size, part.shape, endpoint=True)
        .clip(-COEF_MAX, COEF_MAX)
    )
    draw(coef, log2, work(), back)
    matrix = DCT[log2, : min(n, 32), :n].astype(np.int64)
    coded = coef[: len(matrix), : len(matrix)]
    down = (matrix.T @ coded + (1 << (SCALE_BITS - 1))) >> SCALE_BITS
    assert np.array_equal(back[:n, :n], (down @ matrix + (1 << (SCALE_BITS + MID_BITS - 1))) >> (SCALE_BITS + MID_BITS))
    assert not back[n:].any() and not back[:, n:].any()


@njit(error_model="numpy")
def screened(goal: np.ndarray, ref: np.ndarray, log2: int, w: Screen, coarse: np.ndarray, fine: np.ndarray) -> None:
    look_at(goal, ref, log2, w)
    for mode in range(MODES):
        coarse[mode] = coarse_error(mode, log2, w)
        if log2 > 2:
            fine[mode] = fine_error(mode, log2, w)


@njit(error_model="numpy")
def predicted(ref: np.ndarray, log2: int, line: np.ndarray, out: np.ndarray, tools: int) -> None:
    for mode in range(MODES):
        predict(ref, mode, log2, log2, line, out[mode], tools)


def square_and_border(log2: int, seed: int, tools: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A residual [n,n], the border around it, plain and smoothed, and all predictions from that."""
    n = 1 << log2
    rng = np.random.default_rng(seed)
    plain = np.cumsum(rng.normal(0.0, 40.0, 4 * n + 1)).astype(np.int32)
    smoothed = (np.convolve(np.pad(plain, 1, mode="edge"), [1, 2, 1], "valid") // 4).astype(np.int32)
    ref, out = np.stack([plain, smoothed]), np.zeros((MODES, n, n), np.int32)
    predicted(ref, log2, np.zeros(200, np.int32), out, tools)
    return rng.normal(0.0, 200.0, (n, n)).astype(np.float32), ref, out


@pytest.mark.parametrize("tools", [0, BLEND])
@pytest.mark.parametrize("log2", [2, 3])
def test_modes_are_ranked_by_the_transform_of_what_they_leave(log2: int, tools: int):
    n = 1 << log2
    goal, ref, predictions = square_and_border(log2, 1, tools)
    matrix = np.array([[1.0]])
    for _ in range(log2):
        matrix = np.kron([[1.0, 1.0], [1.0, -1.0]], matrix)
    exact = np.abs(matrix @ (goal - predictions) @ matrix).sum(axis=(1, 2)) / n
    coarse, fine = np.zeros(MODES), np.zeros(MODES)
    screened(goal, ref, log2, screen(tools), coarse, fine)
    assert np.abs((coarse if log2 == 2 else fine) - exact).max() <= 0.5 * n * n  # predictions are rounded


@pytest.mark.parametrize("log2", [3, 4, 5])
def test_boxes_tell_about_which_prediction_draws_a_square(log2: int):
    noise, ref, predictions = square_and_border(log2, 2)
    for mode in range(1, MODES):
        coarse, fine = np.zeros(MODES), np.zeros(MODES)
        screened((predictions[mode] + 0.01 * noise).astype(np.float32), ref, log2, screen(0), coarse, fine)
        likely = np.argsort(coarse)[:6]
        assert abs(int(likely[np.argmin(fine[likely])]) - mode) <= 2


@pytest.mark.parametrize("strength", range(len(STRENGTHS)))
def test_the_filter_leaves_constant_planes_and_real_edges_alone(strength: int):
    field = empty_field(64, 64, 0)
    field.size[:], field.active[:] = 3, 1
    flat = np.full((64, 64), 1234, np.int32)
    assert np.array_equal(deblock(flat, field, step_q4(16), strength), flat)
    cliff = flat.copy()
    cliff[:, 32:] += 2500
    assert np.array_equal(deblock(cliff, field, step_q4(24), strength), cliff)


def test_the_filter_lowers_a_step_that_the_quantizer_made():
    field = empty_field(64, 64, 0)
    field.size[:], field.active[:] = 4, 1
    step = step_q4(16)
    plane = np.full((64, 64), 1000, np.int32)
    plane[:, 32:] += step // 16 // 16
    smooth = deblock(plane, field, step, 2)
    assert np.abs(np.diff(smooth, axis=1)).max() < np.abs(np.diff(plane, axis=1)).max()
    field.active[:], field.mode[:] = 0, 0  # prediction alone: nothing is touched
    assert np.array_equal(deblock(plane, field, step, 2), plane)


@pytest.mark.parametrize("tools", [0, TRELLIS])
def test_models_start_between_their_anchors_and_are_never_shared(tools: int):
    for step in range(STEPS):
        models = start_models(step, tools)
        chances, uses = models[:CONTEXTS, 0], models[:CONTEXTS, 1]
        assert chances.min() > 0 and chances.max() < 1 << 16
        assert uses.min() >= 0 and uses[1:].max() <= COUNT_LIMIT
    first = start_models(TRAINED_STEPS[0], tools)
    first[:] = 0
    assert start_models(TRAINED_STEPS[0], tools).any()


@pytest.mark.parametrize(
    ("target", "prediction"),
    [
        (np.zeros((4, 4)), np.zeros((4, 4), np.int32)),
        (np.zeros((4, 5), np.int32), np.zeros((4, 4), np.int32)),
        (np.zeros((0, 4), np.int32), np.zeros((0, 4), np.int32)),
        (np.full((4, 4), SAMPLE_LIMIT + 1, np.int32), np.zeros((4, 4), np.int32)),
    ],
)
def test_planes_that_cannot_be_coded_are_refused(target: np.ndarray, prediction: np.ndarray):
    with pytest.raises(ConfigError):
        encode_residual(target, prediction, ResidualParams(20))


def test_options_out_of_range_are_refused():
    for bad in ({"step": STEPS}, {"step": -1}, {"step": 20, "lam": -1.0}, {"step": 20, "tries": 0}):
        with pytest.raises(ConfigError):
            ResidualParams(**bad)


GOLDEN_PAYLOAD = "02dc290e3876db2f75b8fc32978ad9a948a5700d38429647711dae3448dbb9cf2938df76b5e1"
GOLDEN_SHA256 = "459df8a057ed4b927723c4fb76d0269c2125698088a66f98633db7022c2856c1"
