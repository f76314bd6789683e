"""What is drawn around a block: the order that it puts modes in, the signs that it predicts, and streams with both."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc15.errors import BitstreamError, ConfigError, MissingTableError
from pc15.residual import order as order_module
from pc15.residual.bits import residual_bits, square_bits
from pc15.residual.context_models import ENCODE, FILL, KIND_SHIFT, MODE, TAPE, jit_entry
from pc15.residual.contexts import FIRST_PLACE, PLACE, W_SIGN
from pc15.residual.dct import DCT, DST
from pc15.residual.decode import decode_residual, read_field
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.enc.train_order import fit
from pc15.residual.initial_models import start_models
from pc15.residual.intra import ANGLE, DIAGONAL, FIRST_ANGLE, HORIZONTAL, MEAN, MODES, PLANAR, VERTICAL
from pc15.residual.order import ORDERED, TERMS, edge_mode, order, order_modes, order_rest
from pc15.residual.shapes import LOG2_HIGH, LOG2_WIDE, PLACES_OF, SHAPES
from pc15.residual.signs import code_signs
from pc15.residual.tools import ALL_TOOLS, BORDERS, CROSS, TRELLIS

LUMA = ALL_TOOLS & ~CROSS


@jit_entry()
def ordered(rec, x0, y0, wide, high, end, left, above, step, tools, o):  # type: ignore[no-untyped-def]
    order_modes(rec, x0, y0, wide, high, end, left, above, step, tools, o)
    order_rest(o)


@jit_entry()
def modes_of_edges(gx, gy, out):  # type: ignore[no-untyped-def]
    for i in range(len(gx)):
        out[i] = edge_mode(gx[i], gy[i])


@jit_entry()
def signs(m, io, level, rec, pred, x0, y0, shape, last, sine, step, tools, edges):  # type: ignore[no-untyped-def]
    code_signs(m, io, level, 0, 0, rec, pred, x0, y0, shape, last, sine, step, tools, edges)


def waves(h: int, w: int, mode: int) -> np.ndarray:
    """A wave along which the prediction of a mode goes on, [h,w] int32."""
    y, x = np.mgrid[:h, :w].astype(float)
    slope = ANGLE[mode] / 32
    # rows move by the slope from one to the next, or columns do
    t = x + slope * (y + 1) if mode >= DIAGONAL else y + slope * (x + 1)
    return np.rint(900 * np.sin(t / 3)).astype(np.int32)


@pytest.mark.parametrize("mode", range(FIRST_ANGLE, MODES))
def test_a_direction_that_goes_on_comes_first(mode: int) -> None:
    o = order()
    ordered(waves(128, 128, mode), 64, 64, 3, 3, 128, MEAN, MEAN, 400, TRELLIS, o)
    first = next(m for m in o.modes.tolist() if m >= FIRST_ANGLE)
    opposite = {FIRST_ANGLE: MODES - 1, MODES - 1: FIRST_ANGLE}  # the same lines, from the other end
    assert min(abs(mode - found) for found in (first, opposite.get(first, first))) <= 1 and first in o.modes[:3]
    assert o.said[o.modes.tolist().index(first)] > 4 * 65536 // ORDERED


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), wide=st.integers(2, 6), high=st.integers(2, 6))
def test_an_order_names_every_mode_once_and_looks_at_what_is_decoded_alone(seed: int, wide: int, high: int) -> None:
    rng = np.random.default_rng(seed)
    rec = rng.integers(-2048, 2049, (128, 128)).astype(np.int32)
    x0, y0 = (4 * int(rng.integers(0, (128 - (1 << log2)) // 4 + 1)) for log2 in (wide, high))
    left, above, step = int(rng.integers(0, MODES)), int(rng.integers(0, MODES)), int(rng.integers(1, 60000))
    o = order()
    ordered(rec, x0, y0, wide, high, 128, left, above, step, 0, o)
    assert sorted(o.modes.tolist()) == list(range(PLANAR, MODES))
    assert ((o.said > 0) & (o.said < 65536)).all()
    before = o.modes.copy(), o.said.copy()
    rec[y0 : y0 + (1 << high), x0 : x0 + (1 << wide)] = 7777  # the block itself, and what comes later
    rec[y0:, x0 + (1 << wide) :], rec[y0 + (1 << high) + 4 :] = 7777, 7777
    ordered(rec, x0, y0, wide, high, 128, left, above, step, 0, o)
    assert np.array_equal(before[0], o.modes) and np.array_equal(before[1], o.said)


def test_gradients_belong_to_the_nearest_angle() -> None:
    pairs = [(gx, gy) for gx in range(-40, 41) for gy in range(-40, 41) if gx or gy]
    found = np.zeros(len(pairs), np.int64)
    modes_of_edges(*np.array(pairs).T.copy(), found)
    for (gx, gy), mode in zip(pairs, found.tolist(), strict=True):
        # nothing changes along (gy, -gx): how far a row, or a column, moves the next one
        slope = gx / gy if mode < DIAGONAL or (mode == DIAGONAL and abs(gy) > abs(gx)) else gy / gx
        best = min(abs(ANGLE[m] / 32 - slope) for m in range(FIRST_ANGLE, MODES) if (m < VERTICAL) == (mode < VERTICAL))
        assert abs(slope) <= 1 and abs(ANGLE[mode] / 32 - slope) <= best + 1 / 32
    corners = np.zeros(4, np.int64)
    modes_of_edges(np.array([0, 5, 5, 5]), np.array([5, 0, 5, -5]), corners)
    assert corners.tolist() == [HORIZONTAL, VERTICAL, MODES - 1, DIAGONAL]


def likelier(level: np.ndarray, rec: np.ndarray, pred: np.ndarray, at: int, shape: int, sine: bool, step: int) -> list:
    """Signs that a float evaluation of the odds would have, in order: z, and the sign that is."""
    wide, high, n = int(LOG2_WIDE[shape]), int(LOG2_HIGH[shape]), int(PLACES_OF[shape])
    w, h = 1 << wide, 1 << high
    across, down = (DST if sine and k == 2 else DCT[k, : 1 << k, : 1 << k] for k in (wide, high))
    across, down = across / 16384, down / 16384
    row = across @ (1.5 * rec[at - 1, at : at + w] - 0.5 * rec[at - 2, at : at + w] - pred[0, :w])
    column = down @ (1.5 * rec[at : at + h, at - 1] - 0.5 * rec[at : at + h, at - 2] - pred[:h, 0])
    places = [tuple(map(int, PLACE[int(FIRST_PLACE[shape]) + i, :2])) for i in range(n)]
    left = [(u, v) for u, v in places if level[v, u]]
    noise, found = 2.0 * (step / 16) ** 2 / 16, []
    while left:
        u, v = left.pop(0)
        c = level[v, u] * step / 16
        unknown_row = noise + sum((level[j, i] * step / 16 * down[j, 0]) ** 2 for i, j in left if i == u)
        unknown_column = noise + sum((level[j, i] * step / 16 * across[i, 0]) ** 2 for i, j in left if j == v)
        odds = abs(c) * down[v, 0] * row[u] / unknown_row, abs(c) * across[u, 0] * column[v] / unknown_column
        z = sum(min(4.0, max(-4.0, side)) for side in odds)
        found.append((z, c < 0))
        row[u] -= c * down[v, 0]
        column[v] -= c * across[u, 0]
    return found


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), shape=st.integers(0, SHAPES - 1), sine=st.booleans())
def test_the_likelier_sign_is_that_of_float_odds(seed: int, shape: int, sine: bool) -> None:
    rng = np.random.default_rng(seed)
    rec, pred = rng.integers(-900, 900, (160, 160)).astype(np.int32), rng.integers(-900, 900, (64, 64)).astype(np.int32)
    step, level = 16 * int(rng.integers(20, 200)), np.zeros((64, 64), np.int32)
    count = int(PLACES_OF[shape])
    for i in rng.choice(count, min(count, 12), replace=False):
        u, v = PLACE[int(FIRST_PLACE[shape]) + i, :2]
        level[v, u] = int(rng.choice([-3, -2, -1, 1, 2, 3]))
    io = np.zeros(TAPE + 200, np.int64)
    io[MODE], io[FILL] = ENCODE, TAPE
    before, edges = level.copy(), np.zeros((5, 64), np.int64)
    signs(start_models(20, LUMA), io, level, rec, pred, 64, 64, shape, count - 1, sine, step, TRELLIS, edges)
    assert np.array_equal(level, before)
    tape = io[TAPE : io[FILL]]
    wanted = likelier(level, rec, pred, 64, shape, sine, step)
    assert len(tape) == len(wanted) and (tape >> KIND_SHIFT == W_SIGN).all()
    for decision, (z, minus) in zip(tape.tolist(), wanted, strict=True):
        if abs(z) > 0.05:  # rounding decides the others
            assert (decision & 1) == (minus != (z < 0))


def scene(h: int, w: int, seed: int) -> np.ndarray:
    """Slopes, edges, waves and grain, [h,w] int32 Q12."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w].astype(float)
    plane = 1500 + rng.normal(0, 6) * x + rng.normal(0, 6) * y
    for _ in range(3):
        a = rng.uniform(0, math.pi)
        t = x * math.cos(a) + y * math.sin(a)
        plane += rng.normal(0, 500) * (t > rng.uniform(0, h)) + 200 * np.sin(t / rng.uniform(1, 6))
    return np.clip(plane + rng.normal(0, 20, (h, w)), 0, 4096).astype(np.int32)


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6), h=st.integers(5, 140), w=st.integers(5, 140), step=st.integers(2, 50),
    tools=st.sampled_from([BORDERS, BORDERS | TRELLIS, LUMA]),
)  # fmt: skip
def test_streams_carry_the_picture_whatever_they_are_added_to(seed: int, h: int, w: int, step: int, tools: int) -> None:
    picture, gray = scene(h, w, seed), np.full((h, w), 2048, np.int32)
    code = encode_residual(picture - 2048, gray, ResidualParams(step, tries=1, tools=tools))
    assert np.array_equal(decode_residual(code.payload, gray, step, tools), code.reconstruction)
    if code.payload:
        decode_residual(code.payload, scene(h, w, seed + 1), step, tools)  # another picture, but read to its end
        bits = residual_bits(code.payload, h, w, step, tools)
        assert abs(sum(bits.values()) / 8 - len(code.payload)) < 8
        squares = square_bits(code.payload, h, w, step, tools)
        assert math.isclose(sum(sum(s.bits.values()) for s in squares), sum(bits.values()) - bits["filter"], abs_tol=1)


def test_flipped_bits_and_cut_streams_are_found() -> None:
    picture, gray = scene(96, 96, 3), np.full((96, 96), 2048, np.int32)
    payload = encode_residual(picture - 2048, gray, ResidualParams(20, tools=LUMA)).payload
    for i in range(0, 8 * len(payload), 7):
        damaged = bytearray(payload)
        damaged[i >> 3] ^= 1 << (i & 7)
        with pytest.raises(BitstreamError):
            decode_residual(bytes(damaged), gray, 20, LUMA)
    for size in range(len(payload)):
        with pytest.raises(BitstreamError):
            decode_residual(payload[:size], gray, 20, LUMA) if size else decode_residual(b"\0", gray, 20, LUMA)


def test_they_save_bytes() -> None:
    with_them = without = 0
    for seed in range(4):
        picture, gray = scene(192, 192, seed), np.full((192, 192), 2048, np.int32)
        for step in (10, 22):
            sizes = []
            for tools in (LUMA, LUMA & ~BORDERS):
                params = ResidualParams(step, tools=tools)
                code = encode_residual(picture - 2048, gray, params)
                error = float(((code.reconstruction - picture).astype(float) ** 2).sum())
                sizes.append(8 * len(code.payload) + error / params.rate_weight)
            with_them, without = with_them + sizes[0], without + sizes[1]
    assert with_them < 0.995 * without


def test_planes_from_guides_have_none() -> None:
    with pytest.raises(ConfigError, match="cross and borders"):
        ResidualParams(20, tools=CROSS | BORDERS)
    with pytest.raises(ConfigError, match="cross and borders"):
        read_field(b"\1\0\0\0", 8, 8, 20, CROSS | BORDERS, 1)


def test_a_damaged_table_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:  # type: ignore[no-untyped-def]
    for name, content in (("missing", None), ("other", {"terms": np.zeros(TERMS + 1, np.int16)}), ("none", {})):
        file = tmp_path / f"{name}.npz"
        if content is not None:
            np.savez(file, **content)
        monkeypatch.setattr(order_module, "BORDERS_FILE", file)
        order_module.trained_terms.cache_clear()
        with pytest.raises(MissingTableError, match=name):
            order_module.trained_terms()
    order_module.trained_terms.cache_clear()


def test_terms_are_learnt_from_choices() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 1, TERMS)
    used = rng.integers(0, TERMS, (20000, ORDERED, 4)).astype(np.int16)
    scores = truth[used].sum(2) + rng.gumbel(size=(20000, ORDERED))
    terms, bits = fit(used, scores.argmax(1), epochs=12)
    assert np.corrcoef(terms, truth)[0, 1] > 0.9
    assert bits < math.log2(ORDERED) - 1
