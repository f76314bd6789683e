"""Prediction of Cb and Cr from the planes before them: what the format says, and what it is worth."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from pc15 import CodecConfig, decode, encode, psnr, render
from pc15.bitstream.container import read_container, write_container
from pc15.bitstream.header import residual_spans
from pc15.decoder import decode_stream
from pc15.encoder import encode_many, repack
from pc15.errors import BitstreamError, ConfigError
from pc15.residual.bits import residual_bits
from pc15.residual.cross import (
    ALL_MODES,
    BY_CLASS,
    BY_LEFT,
    BY_TOP,
    FIRST_CROSS,
    FROM_BLUE,
    FROM_BOTH,
    MAX_SLOPE,
    NOISE,
    SUMS,
    WAYS,
    guides_of,
    predict_cross,
)
from pc15.residual.decode import STEPS, decode_residual, read_field
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.tools import ALL_TOOLS, BORDERS, CROSS, TOOLS

OTHERS = [tool for tool in TOOLS.values() if tool not in (CROSS, BORDERS)]


def scene(h: int, w: int, seed: int = 0) -> torch.Tensor:
    """A coloured picture with edges, waves and grain, [3,h,w] uint8."""
    pattern, edge = render("WOOD", h, w, seed=seed)[0, 0], render("VORONOI_CELLS", h, w, seed=seed + 1)[0, 0]
    grain = torch.from_numpy(np.random.default_rng(seed).normal(0, 0.03, (3, h, w)))
    rgb = torch.stack((0.5 + 0.3 * edge + 0.1 * pattern, 0.5 + 0.25 * pattern, 0.6 - 0.2 * edge)) + grain
    return (rgb.clamp(0, 1) * 255).round().to(torch.uint8)


def planes_of(h: int, w: int, seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A chroma plane [h,w] int32 Q12 that follows its guides [k,h,w], more or less, and what lies below it."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:h, :w]
    guides = [1500 + 9 * x + 800 * (x + 2 * y > w) + rng.normal(0, 60, (h, w)), 2100 - 700 * (x > 2 * y) + 5 * y]
    goal = 3000 - guides[0] / 2 + guides[1] / 4 + rng.normal(0, 20, (h, w))
    seen = np.clip(guides[:count], 0, 4080).astype(np.int16)
    return np.clip(goal, 0, 4096).astype(np.int32), seen, rng.integers(1800, 2200, (h, w)).astype(np.int32)


@njit
def predict(guides, below, rec, x0, y0, log2, mode, sums, out):  # type: ignore[no-untyped-def]
    predict_cross(guides, below, rec, x0, y0, log2, log2, rec.shape[1], mode, sums, out)


# ---------------------------------------------------------------- the prediction


def test_guides_are_luma_at_half_the_size_and_cb() -> None:
    rng = np.random.default_rng(1)
    luma, cb = rng.integers(0, 256, (7, 9), np.uint8), rng.integers(0, 256, (4, 5), np.uint8)
    wide = np.pad(luma, ((0, 1), (0, 1)), mode="edge").astype(int)
    whole = 4 * wide.reshape(4, 2, 5, 2).sum(axis=(1, 3))
    assert np.array_equal(guides_of([luma], 0, 4), whole[None])
    both = guides_of([luma, cb], 0, 4)
    assert both.dtype == np.int16 and np.array_equal(both, np.stack([whole, 16 * cb.astype(int)]))
    assert np.array_equal(guides_of([luma, cb], 2, 4), both[:, 2:4])  # a section's rows, whatever lies above


def border(x0: int, y0: int, n: int, left: bool, top: bool, H: int, W: int) -> list[tuple[int, int]]:
    """Places (y, x) of a border in the first superblock, by the z-order of squares."""

    def order(y: int, x: int) -> int:
        return sum((x >> 2 >> i & 1) << 2 * i | (y >> 2 >> i & 1) << 2 * i + 1 for i in range(4))

    def known(y: int, x: int) -> bool:
        return 0 <= y < H and 0 <= x < W and order(y, x) < order(y0, x0)

    places = [(y, x0 - 1) for y in range(y0, y0 + 2 * n) if left and x0]
    places += [(y0 - 1, x) for x in range(x0, x0 + 2 * n) if top and y0]
    return [(y, x) for y, x in places if known(y, x)]


def expected(
    guides: np.ndarray, below: np.ndarray, rec: np.ndarray, x0: int, y0: int, n: int, way: int
) -> np.ndarray | int:
    """The prediction as the format page says it, in Python's numbers of any size."""
    places = border(x0, y0, n, way != BY_TOP, way != BY_LEFT, *rec.shape)
    if not places:
        return 0
    shown = rec + below

    def mean(plane: np.ndarray, some: Sequence[tuple[int, int]]) -> int:
        return sum(int(plane[p]) for p in some) // len(some)

    def moment(a: np.ndarray, b: np.ndarray, some: Sequence[tuple[int, int]]) -> int:
        pairs = [(int(a[p]), int(b[p])) for p in some]
        noise = len(some) ** 2 * NOISE if a is b else 0
        return len(some) * sum(p * q for p, q in pairs) - sum(p for p, _ in pairs) * sum(q for _, q in pairs) + noise

    def line(guide: np.ndarray, some: Sequence[tuple[int, int]]) -> tuple[int, int, int]:
        slope = (moment(guide, shown, some) << 12) // moment(guide, guide, some)
        return mean(shown, some), mean(guide, some), min(MAX_SLOPE, max(-MAX_SLOPE, slope))

    inside = [(y, x) for y in range(y0, y0 + n) for x in range(x0, x0 + n)]
    if way == FROM_BOTH:
        g, b = guides
        gg, bb, gb = moment(g, g, places), moment(b, b, places), moment(g, b, places)
        gc, bc = moment(g, shown, places), moment(b, shown, places)
        shift = max(0, max(gg, bb, abs(gc), abs(bc)).bit_length() - 29)
        gg, bb, gb, gc, bc = (value >> shift for value in (gg, bb, gb, gc, bc))
        det = max(1, gg * bb - gb * gb)
        cut = max(0, det.bit_length() - 40)
        slopes = []
        for top in (gc * bb - bc * gb, bc * gg - gc * gb):
            slope = MAX_SLOPE if top > 0 else -MAX_SLOPE
            if abs(top) >> 3 < det:
                slope = min(MAX_SLOPE, max(-MAX_SLOPE, ((top >> cut) << 12) // max(1, det >> cut)))
            slopes.append(slope)
        middles = mean(g, places), mean(b, places)
        drawn = [
            mean(shown, places)
            + (sum(s * (int(p[at]) - m) for s, p, m in zip(slopes, (g, b), middles, strict=True)) + 2048 >> 12)
            for at in inside
        ]
    else:
        guide = guides[1 if way == FROM_BLUE else 0]
        lines = [line(guide, places)] * 2
        if way == BY_CLASS:
            classes = [[p for p in places if (guide[p] > lines[0][1]) == high] for high in (False, True)]
            lines = [line(guide, some) if len(some) >= 4 else lines[0] for some in classes]
        cut = lines[0][1] if way != BY_CLASS else mean(guide, places)
        drawn = []
        for at in inside:
            level, middle, slope = lines[int(guide[at] > cut)]
            drawn.append(level + (slope * (int(guide[at]) - middle) + 2048 >> 12))
    return np.clip(drawn, 0, 4096).reshape(n, n) - below[y0 : y0 + n, x0 : x0 + n]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 999), log2=st.integers(2, 5), at=st.integers(0, 255), way=st.integers(0, 5),
    kind=st.sampled_from(["scene", "noise", "flat", "extreme"]),
)  # fmt: skip
def test_a_square_is_predicted_as_the_format_says(seed: int, log2: int, at: int, way: int, kind: str) -> None:
    n, rng = 1 << log2, np.random.default_rng(seed)
    x0, y0 = (at & 15) * 4 & -n, (at >> 4) * 4 & -n
    goal, guides, below = planes_of(64, 64, seed, 2)
    if kind == "noise":
        goal, guides = rng.integers(0, 4097, (64, 64)), rng.integers(0, 4081, (2, 64, 64)).astype(np.int16)
    elif kind == "flat":
        guides[:] = rng.integers(0, 4081)
    elif kind == "extreme":
        goal = 4096 * rng.integers(0, 2, (64, 64))
        guides = (2000 + rng.integers(0, 2, (2, 64, 64))).astype(np.int16)
    rec = (goal - below).astype(np.int32)
    out = np.full((64, 64), -1, np.int32)
    predict(guides, below, rec, x0, y0, log2, FIRST_CROSS + way, np.zeros(SUMS, np.int64), out)
    assert np.array_equal(out[:n, :n], np.broadcast_to(expected(guides, below, rec, x0, y0, n, way), (n, n)))


def test_a_plane_on_a_line_through_luma_is_continued_exactly_enough() -> None:
    rng = np.random.default_rng(3)
    guides = rng.integers(500, 3500, (1, 16, 16)).astype(np.int16)
    goal = 3500 - guides[0].astype(np.int32) // 2
    below, out = np.full((1, 16), 2048, np.int32), np.zeros((64, 64), np.int32)
    predict(guides, below, (goal - 2048).astype(np.int32), 8, 8, 3, FIRST_CROSS, np.zeros(SUMS, np.int64), out)
    assert np.abs(out[:8, :8] - (goal - 2048)[8:, 8:]).max() <= 3


# ---------------------------------------------------------------- payloads


@settings(max_examples=15, deadline=None)
@given(
    h=st.integers(1, 70), w=st.integers(1, 100), step=st.integers(0, STEPS - 1), seed=st.integers(0, 99),
    count=st.integers(1, 2), others=st.sets(st.sampled_from(OTHERS)), flat=st.booleans(),
)  # fmt: skip
def test_the_decoder_draws_what_the_encoder_saw(
    h: int, w: int, step: int, seed: int, count: int, others: set[int], flat: bool
) -> None:
    goal, guides, base = planes_of(h, w, seed, count)
    base = np.full_like(base, 2048) if flat else base
    tools = CROSS | sum(others)
    code = encode_residual(goal - base, base, ResidualParams(step, tries=2, tools=tools), guides)
    assert np.array_equal(decode_residual(code.payload, base, step, tools, guides=guides), code.reconstruction)
    bits = residual_bits(code.payload, h, w, step, tools, count)
    assert bits == code.stats["bits_by_kind"]
    assert not bits or 0 <= len(code.payload) - sum(bits.values()) / 8 <= 4


@pytest.mark.parametrize("count", [1, 2])
def test_guides_take_half_the_price_off_a_plane_that_follows_them(count: int) -> None:
    goal, guides, _ = planes_of(128, 128, 5, count)
    base, costs = np.full_like(goal, 2048), []
    for tools, seen in ((0, None), (CROSS, guides)):
        params = ResidualParams(24, tools=tools)
        code = encode_residual(goal - base, base, params, seen)
        error = float(np.square(code.reconstruction - goal).sum())
        costs.append(error / params.rate_weight + 8 * len(code.payload))
    assert costs[1] < 0.6 * costs[0]


def test_other_guides_change_the_picture_but_not_how_it_is_read() -> None:
    goal, guides, _ = planes_of(80, 72, 5, 2)
    base = np.full_like(goal, 2048)
    code = encode_residual(goal - base, base, ResidualParams(24, tools=CROSS), guides)
    other = decode_residual(code.payload, base, 24, CROSS, guides=np.full_like(guides, 2048))
    assert not np.array_equal(other, code.reconstruction)
    assert other.min() >= 0 and other.max() <= 4096


def test_guides_that_do_not_fit_are_refused() -> None:
    goal, guides, base = planes_of(16, 24, 1, 2)
    code = encode_residual(goal - base, base, ResidualParams(24, tools=CROSS), guides)
    for wrong in (None, guides[:, :8], guides[:0], guides.astype(np.int32), guides[0], np.concatenate([guides] * 2)):
        with pytest.raises(ConfigError, match="guides"):
            encode_residual(goal - base, base, ResidualParams(24, tools=CROSS), wrong)
        with pytest.raises(ConfigError, match="guides"):
            decode_residual(code.payload, base, 24, CROSS, guides=wrong)
    with pytest.raises(ConfigError, match="guides"):
        decode_residual(code.payload, base, 24, 0, guides=guides)
    with pytest.raises(ConfigError, match="guides"):
        residual_bits(code.payload, 16, 24, 24, CROSS)


def test_every_way_is_taken_somewhere() -> None:
    """And no other one: the number of ways follows from the number of guides."""
    every: set[int] = set()
    for count in (1, 2):
        goal, guides, _ = planes_of(128, 128, 1, count)
        goal = np.where(np.arange(128)[:, None] < 64, goal, 4096 - goal // 3).astype(np.int32)
        base = np.full_like(goal, 2048)
        code = encode_residual(goal - base, base, ResidualParams(28, tools=CROSS), guides)
        seen = set(np.unique(read_field(code.payload, 128, 128, 28, CROSS, count)[0].mode).tolist())
        ways = {mode - FIRST_CROSS for mode in seen if mode >= FIRST_CROSS}
        assert ways <= set(range(WAYS[count]))
        every |= ways
    assert every == set(range(WAYS[-1]))
    assert FIRST_CROSS + WAYS[-1] == ALL_MODES


# ---------------------------------------------------------------- streams

CROSS_ONLY = CodecConfig.preset("fast", device="cpu", lambda_rd=0.25, tools="sine,wiener,blend,patterns,cross")


@pytest.mark.parametrize(
    "options",
    [{}, {"section_rows": 1}, {"tile": 16, "overlap": 4, "max_layers": 1}, {"tools": "cross"}],
    ids=["alone", "sections", "tiles", "no other tool"],
)
def test_a_decoder_sees_the_chroma_that_the_encoder_saw(options: dict[str, object]) -> None:
    picture = scene(138, 61)
    cfg = CROSS_ONLY.but(**options)
    data = encode(picture, cfg)["bitstream"]
    header = decode_stream(data).header
    assert [spec.tools & CROSS for spec in header.planes] == [0, CROSS, CROSS]
    plain = encode(picture, cfg.but(tools=tuple(name for name in cfg.tools if name != "cross")))["bitstream"]
    assert torch.equal(decode_stream(data).planes[0], decode_stream(plain).planes[0])
    assert len(data) < len(plain)
    assert psnr(picture, decode(data), 255) > psnr(picture, decode(plain), 255) - 0.15
    assert encode_many([picture] * 2, cfg)[1]["bitstream"] == data


def test_sections_depend_on_the_luma_beside_them_alone() -> None:
    """A chroma section reads the same with everything else of the picture lost, and looks the same beside its luma."""
    picture = scene(300, 72)
    data = encode(picture, CROSS_ONLY.but(section_rows=1))["bitstream"]
    whole, stream = decode_stream(data), read_container(data)
    spans = list(residual_spans(stream.header))
    assert [span.plane for span in spans] == [0] * 5 + [1] * 3 + [2] * 3
    for lost in itertools.chain(range(2, 5), (6, 7, 9, 10)):  # all but what the first chroma rows are made from
        stream.residuals[lost] = b""
    left = decode_stream(write_container(stream))
    for plane in (1, 2):
        assert torch.equal(left.planes[plane][:64], whole.planes[plane][:64])


def test_lost_luma_leaves_colours_that_are_better_than_none() -> None:
    picture = scene(200, 120)
    data = bytearray(encode(picture, CROSS_ONLY)["bitstream"])
    whole = decode_stream(bytes(data))
    at = len(data) - sum(len(p) + 4 for p in read_container(bytes(data)).residuals) + 20
    data[at] ^= 1  # inside luma's residual
    with pytest.raises(BitstreamError, match="plane 0"):
        decode_stream(bytes(data))
    hurt = decode_stream(bytes(data), strict=False)
    assert len(hurt.damage) == 1 and "plane 0" in hurt.damage[0]
    for plane in (1, 2):
        grey = torch.full_like(whole.planes[plane], 128)
        assert psnr(hurt.planes[plane], whole.planes[plane], 255) > psnr(grey, whole.planes[plane], 255) + 3


def test_cb_is_predicted_from_luma_where_cr_has_no_residual() -> None:
    """The last plane's tools say nothing of those before it."""
    whole = read_container(encode(scene(90, 70), CROSS_ONLY)["bitstream"])
    kept = [
        payload for span, payload in zip(residual_spans(whole.header), whole.residuals, strict=True) if span.plane < 2
    ]
    shown = decode_stream(write_container(whole)).planes
    plain = replace(whole.header.planes[2], tools=whole.header.planes[2].tools & ~CROSS)
    header = replace(whole.header, planes=(*whole.header.planes[:2], plain))
    left = decode_stream(write_container(replace(whole, header=header, residuals=[*kept, b""])))
    assert all(torch.equal(a, b) for a, b in zip(left.planes[:2], shown[:2], strict=True))


def test_streams_are_packed_again_and_told_apart_by_bits() -> None:
    result = encode(scene(90, 70), CROSS_ONLY)
    stream = read_container(result["bitstream"])
    again = repack(stream.header, result.programs, None, [payload or b"" for payload in stream.residuals])
    assert again["bitstream"] == result["bitstream"]
    assert again["stats"]["bits_by_kind"] == pytest.approx(result["stats"]["bits_by_kind"])


def test_a_picture_of_one_pixel_and_one_of_one_colour() -> None:
    for shape in ((3, 1, 1), (3, 2, 1), (3, 1, 5)):
        for colour in ((0, 0, 0), (255, 0, 0), (7, 130, 255)):
            picture = torch.tensor(colour, dtype=torch.uint8)[:, None, None].expand(shape)
            shown = decode(encode(picture, CROSS_ONLY.but(lambda_rd=1e-4))["bitstream"])
            assert (shown.int() - picture.int()).abs().max() <= 6
    assert ALL_TOOLS & CROSS
