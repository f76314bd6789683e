"""Squares cut into parts: the parts tile them, are drawn from what is drawn, and are coded as the format says."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from pc15.residual.bits import square_bits
from pc15.residual.context_models import DECODE, ENCODE, FILL, MODE, POS, STATE, TAPE, rans_bytes
from pc15.residual.contexts import CONTEXTS_OF, FIRST_PLACE, PLACE, contexts
from pc15.residual.dct import DCT, DST, MID_BITS, SCALE_BITS, forward, inverse
from pc15.residual.decode import decode_residual, empty_field, read_field
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.initial_models import start_models
from pc15.residual.intra import ANGLE, DIAGONAL, FIRST_ANGLE, MEAN, MODES, PLANAR, ZERO, predict, references
from pc15.residual.patterns import no_patterns
from pc15.residual.reconstruct import Canvas, dequantize, work
from pc15.residual.shapes import (
    ACROSS,
    ALONG,
    COLUMNS,
    LESS_HIGH,
    LESS_WIDE,
    LOG2_HIGH,
    LOG2_WIDE,
    PARTS,
    PLACES_OF,
    ROWS,
    SHAPE_OF,
    SHAPES,
    SIZE,
    SIZES,
    WHOLE,
    end_above,
    part_of,
)
from pc15.residual.syntax import RIM, ROOM, BlockMap
from pc15.residual.tools import BLEND, SPLITS, TRELLIS
from pc15.residual.tree import read_plane, write_plane

KNOWN_CUTS = [
    first | a << 2 | b << 4 for first in (ROWS, COLUMNS) for a in range(ACROSS + 1) for b in range(ACROSS + 1)
]
"""All ways to cut a square of 16 or 32 px."""


def cuts_of(log2: int) -> list[int]:
    """All ways to cut a square of this side."""
    along = {ALONG} if log2 == 3 else set()
    return [cut for cut in KNOWN_CUTS if not {cut >> 2 & 3, cut >> 4 & 3} & along]


@pytest.mark.parametrize("log2", [3, 4, 5])
def test_parts_tile_their_square_and_say_their_sides(log2: int) -> None:
    n = 1 << log2
    for cut in cuts_of(log2):
        covered = np.zeros((n, n), np.int64)
        for part in range(int(PARTS[cut])):
            x, y, wide, high = map(int, part_of.py_func(log2, cut, part))
            assert SHAPE_OF[wide, high] >= 0 and min(wide, high) >= 2
            assert x % (1 << wide) == y % (1 << high) == 0  # as the deblocking takes for granted
            covered[y : y + (1 << high), x : x + (1 << wide)] += 1
            for v, u in itertools.product(range(y, y + (1 << high), 4), range(x, x + (1 << wide), 4)):
                assert log2 - LESS_WIDE[cut, 4 * v >> log2, 4 * u >> log2] == wide
                assert log2 - LESS_HIGH[cut, 4 * v >> log2, 4 * u >> log2] == high
        assert (covered == 1).all()


def field_of(rng: np.random.Generator, cuts: bool = True) -> BlockMap:
    """A superblock of random squares that are cut at random, with random modes and few levels."""
    field = empty_field(64, 64, SPLITS | TRELLIS)
    field.on[:] = 1

    def grow(x: int, y: int, log2: int) -> None:
        if log2 > 2 and rng.random() < (0.9 if log2 > 4 else 0.4):
            for i in range(4):
                half = 1 << log2 - 1
                grow(x + half * (i & 1), y + half * (i >> 1), log2 - 1)
            return
        cut = int(rng.choice(cuts_of(log2))) if 3 <= log2 <= 5 and cuts and rng.random() < 0.8 else WHOLE
        units = slice(y >> 2, (y + (1 << log2)) >> 2), slice(x >> 2, (x + (1 << log2)) >> 2)
        field.size[units], field.cut[units] = log2, cut
        for part in range(int(PARTS[cut])):
            dx, dy, wide, high = map(int, part_of.py_func(log2, cut, part))
            px, py = x + dx, y + dy
            own = slice(py >> 2, (py + (1 << high)) >> 2), slice(px >> 2, (px + (1 << wide)) >> 2)
            field.mode[own] = rng.integers(MODES)
            if rng.random() < 0.7:
                field.active[own] = 1
                field.level[py, px] = 2 * rng.integers(1, 9)

    grow(0, 0, 6)
    return field


def payload_of(field: BlockMap) -> np.ndarray:
    """The stream of a field of one superblock, which is written as it is."""
    io = np.zeros(TAPE + ROOM, np.int64)
    io[MODE], io[FILL] = ENCODE, TAPE
    on = Canvas(np.zeros((1, 64), np.int32), np.zeros((64, 64), np.int32), 200, work(), no_patterns())
    write_plane(
        start_models(20, field.tools), io, field, on, 0, 1, ROOM, np.zeros((20, 3), np.int64),
        np.zeros(38 * RIM, np.int32),
    )  # fmt: skip
    return rans_bytes(io[TAPE : io[FILL]])


def drawn(payload: np.ndarray, tools: int, garbage: int) -> tuple[np.ndarray, BlockMap]:
    """What a stream draws into a plane full of garbage, and the field that it says."""
    io = np.concatenate((np.zeros(TAPE, np.int64), payload.astype(np.int64)))
    io[STATE], io[POS], io[MODE] = int.from_bytes(payload[:4].tobytes(), "big"), TAPE + 4, DECODE
    rec, field = np.full((64, 64), garbage, np.int32), empty_field(64, 64, tools)
    on = Canvas(np.full((1, 64), 2048, np.int32), rec, 200, work(), no_patterns())
    read_plane(start_models(20, tools), io, field, on, np.zeros((20, 3), np.int64), np.zeros(38 * RIM, np.int32))
    return rec, field


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_cuts_come_back_and_are_drawn_from_what_is_drawn(seed: int) -> None:
    field = field_of(np.random.default_rng(seed))
    payload = payload_of(field)
    (one, read), (other, _) = (drawn(payload, field.tools, garbage) for garbage in (-1000, 1000))
    assert np.array_equal(one, other)
    for name in ("size", "cut", "mode"):
        assert np.array_equal(getattr(read, name), getattr(field, name)), name
    assert np.array_equal(read.active > 0, field.active > 0)


@njit
def there_and_back(coef, wide, high, sine, space, block):  # type: ignore[no-untyped-def]
    rows, cols = dequantize(coef, 0, 0, min(32, 1 << wide), min(32, 1 << high), 1, space)
    inverse(space.coef, wide, high, sine, rows, cols, space.even, space.odd, space.mid, block)


@njit
def transformed(block, wide, high, sine, mid, coef):  # type: ignore[no-untyped-def]
    forward(block, wide, high, sine, mid, coef)


def matrix_of(log2: int, sine: bool) -> np.ndarray:
    return (DST if sine and log2 == 2 else DCT[log2, : 1 << log2, : 1 << log2]).astype(np.int64)


@pytest.mark.parametrize("sine", [False, True])
@pytest.mark.parametrize("shape", range(SIZES, SHAPES))
def test_transforms_of_parts_are_two_products_each_rounded_once(shape: int, sine: bool) -> None:
    wide, high, rng = int(LOG2_WIDE[shape]), int(LOG2_HIGH[shape]), np.random.default_rng(shape)
    w, h, down, across = 1 << wide, 1 << high, matrix_of(high, sine), matrix_of(wide, sine)
    coef, back = np.zeros((32, 32), np.int32), np.zeros((64, 64), np.int32)
    coef[: max(1, h - 3), :w] = rng.integers(-(1 << 20), 1 << 20, (max(1, h - 3), w))
    there_and_back(coef, wide, high, sine, work(), back)
    first = (down.T @ coef[:h, :w] + (1 << (SCALE_BITS - 1))) >> SCALE_BITS
    assert np.array_equal(
        back[:h, :w], (first @ across + (1 << (SCALE_BITS + MID_BITS - 1))) >> (SCALE_BITS + MID_BITS)
    )
    assert not back[h:].any() and not back[:, w:].any()
    block, found = rng.integers(-4096, 4097, (h, w)), np.zeros((32, 32), np.int32)
    transformed(block.astype(np.float32), wide, high, sine, np.zeros((32, 64), np.float32), found)
    exact = down @ block @ across.T / float(1 << 2 * SCALE_BITS - MID_BITS)
    assert np.abs(found[:h, :w] - exact).max() <= 8


@njit
def predicted(ref, mode, wide, high, tools, line, out):  # type: ignore[no-untyped-def]
    predict(ref, mode, wide, high, line, out, tools)


def expected(border: np.ndarray, mode: int, w: int, h: int) -> np.ndarray:
    """Prediction of a block as the format says, sample by sample; border: as it is used, smoothed or not."""
    corner = w + h
    left, top = border[corner - 1 :: -1], border[corner + 1 :]
    out = np.zeros((h, w), np.int64)
    for y, x in itertools.product(range(h), range(w)):
        if mode == PLANAR:
            across = (w - 1 - x) * left[y] + (x + 1) * top[w]
            down = (h - 1 - y) * top[x] + (y + 1) * left[h]
            out[y, x] = (across * h + down * w + w * h) // (2 * w * h)
        elif mode == MEAN:
            out[y, x] = (w * left[:h].sum() + h * top[:w].sum() + w * h) // (2 * w * h)
        elif mode >= FIRST_ANGLE:
            main, side, i, j = (top, left, x, y) if mode >= DIAGONAL else (left, top, y, x)
            angle = int(ANGLE[mode])
            shift = (j + 1) * angle
            at, part = i + (shift >> 5), shift & 31

            def sample(k: int, main: np.ndarray = main, side: np.ndarray = side, angle: int = angle) -> int:
                if k >= 0:
                    return int(main[min(k, len(main) - 1)])
                if k == -1:
                    return int(border[corner])
                reach = ((-k - 1) * ((8192 + (-angle >> 1)) // -angle) + 128 >> 8) - 1
                return int(border[corner] if reach < 0 else side[min(reach, len(side) - 1)])

            out[y, x] = ((32 - part) * sample(at) + part * sample(at + 1) + 16) >> 5
    return out


@pytest.mark.parametrize("shape", range(SHAPES))
def test_blocks_of_every_shape_are_predicted_as_the_format_says(shape: int) -> None:
    wide, high = int(LOG2_WIDE[shape]), int(LOG2_HIGH[shape])
    w, h = 1 << wide, 1 << high
    ref = np.random.default_rng(shape).integers(-4096, 4097, (2, 2 * (w + h) + 1)).astype(np.int32)
    for mode in range(MODES):
        out = np.full((64, 64), 7, np.int32)
        predicted(ref, mode, wide, high, 0, np.zeros(200, np.int32), out)
        straight = mode in (ZERO, MEAN) or (ANGLE[mode] == 0 and mode >= FIRST_ANGLE)
        border = ref[0 if straight or w * h < 64 else 1].astype(np.int64)
        assert np.array_equal(out[:h, :w], expected(border, mode, w, h)), mode
        assert (out[h:] == 7).all() and (out[:, w:] == 7).all()


@pytest.mark.parametrize("shape", range(SIZES, SHAPES))
@pytest.mark.parametrize("mode", [PLANAR, MEAN])
def test_predictions_of_parts_are_blended_as_written(shape: int, mode: int) -> None:
    wide, high = int(LOG2_WIDE[shape]), int(LOG2_HIGH[shape])
    w, h, scale = 1 << wide, 1 << high, (wide + high - 2) >> 2
    ref = np.random.default_rng(shape).integers(-4096, 4097, (2, 2 * (w + h) + 1)).astype(np.int32)
    plain, mixed = np.zeros((2, 64, 64), np.int32)
    predicted(ref, mode, wide, high, 0, np.zeros(200, np.int32), plain)
    predicted(ref, mode, wide, high, BLEND, np.zeros(200, np.int32), mixed)
    border, p = ref[1 if mode == PLANAR and w * h >= 64 else 0].astype(np.int64), plain[:h, :w].astype(np.int64)
    left, top = border[w + h - 1 - np.arange(h)][:, None], border[w + h + 1 + np.arange(w)][None]
    across, down = (np.array([32 >> min(31, 2 * i >> scale) for i in range(n)]) for n in (w, h))
    change = across[None] * (left - p) + down[:, None] * (top - p)
    assert np.array_equal(mixed[:h, :w], p + (change + 32 >> 6))


@njit
def contexts_of(k, s, row, around, state):  # type: ignore[no-untyped-def]
    return contexts(k, s, row, around, 1, 2, 5, state)


def test_contexts_of_parts_are_what_the_tool_adds() -> None:
    low, high = CONTEXTS_OF[SPLITS]
    for shape in range(SHAPES):
        first, s, seen = int(FIRST_PLACE[shape]), int(SIZE[shape]), set()
        for i, k, state, around in itertools.product(range(int(PLACES_OF[shape])), (0, 1), range(4), (0, 3, 40)):
            a, b, _, d, _ = contexts_of(k, s, first + i, around, state)
            seen |= {a, b, d}
        assert all((low <= c < high) == (shape >= SIZES) for c in seen)


def test_wide_and_high_blocks_share_their_contexts() -> None:
    for wide, high in ((3, 2), (4, 3), (5, 4), (4, 2), (5, 3)):
        one, other = (int(FIRST_PLACE[SHAPE_OF[sides]]) for sides in ((wide, high), (high, wide)))
        count = int(PLACES_OF[SHAPE_OF[wide, high]])
        rows, turned = ({(u, v): rest for u, v, *rest in PLACE[at : at + count].tolist()} for at in (one, other))
        assert all(turned[v, u][:4] == rest[:4] for (u, v), rest in rows.items())


def test_lines_are_cut_along_themselves() -> None:
    y, x = np.mgrid[:96, :96]
    for picture, first in ((y // 12 % 2 * 1500 + 1000, ROWS), (x // 12 % 2 * 1500 + 1000, COLUMNS)):
        grain = np.random.default_rng(0).normal(0, 60, (96, 96))
        target = (picture + 4 * x + grain).astype(np.int32) - 2048
        code = encode_residual(target, np.full_like(target, 2048), ResidualParams(24, tools=SPLITS))
        field = read_field(code.payload, 96, 96, 24, SPLITS)[0]
        cuts = field.cut[field.cut > 0] & 3
        assert len(cuts) and (cuts == first).mean() > 0.7
        assert np.array_equal(
            decode_residual(code.payload, np.full_like(target, 2048), 24, SPLITS), code.reconstruction
        )
        squares = square_bits(code.payload, 96, 96, 24, SPLITS)
        assert sum(square.wide != square.high for square in squares) > 0
        assert sum(square.wide * square.high for square in squares) == 96 * 96


def test_nothing_of_the_right_half_is_above_the_left_one() -> None:
    for cut, part in itertools.product(cuts_of(4), range(4)):
        if part >= PARTS[cut]:
            continue
        dx, dy, wide, _ = map(int, part_of.py_func(4, cut, part))
        end = int(end_above.py_func(640, 32, 4, cut, dx, dy))
        assert end == (40 if cut & 3 == COLUMNS and dx < 8 and dy else 640)
        assert end >= 32 + dx + (1 << wide)


@njit
def border_of(plane, x0, y0, w, h, end, ref):  # type: ignore[no-untyped-def]
    references(plane, x0, y0, w, h, end, ref)


def test_a_right_half_sees_all_of_the_left_one() -> None:
    plane, ref = np.arange(64 * 64, dtype=np.int32).reshape(64, 64), np.zeros((2, 257), np.int32)
    border_of(plane, 24, 16, 8, 16, 64, ref)  # of the square of 16 at (16, 16)
    assert np.array_equal(ref[0, 8:24], plane[16:32, 23][::-1])
    assert (ref[0, :8] == plane[31, 23]).all()
