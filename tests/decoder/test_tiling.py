"""One grid, both ways: every pixel is covered, weights sum exactly, and blending gives back what was cut."""

from __future__ import annotations

import decimal
import hashlib
import math
from fractions import Fraction
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc15.blend_weights import WEIGHT_ONE, Window, axis_weights, window_samples
from pc15.errors import ConfigError, ImageError
from pc15.grids import TileGridCfg, TileSpec, axis_starts, grid
from pc15.tiling import (
    SAMPLE_MAX,
    blend,
    blend_int,
    blend_rows,
    extract,
    round_blend,
    seam_penalty_mask,
    seam_weights_q8,
    tile_image,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
WINDOWS: list[Window] = ["hann", "tukey", "kaiser"]

GOLDEN_WINDOWS = "b95b120f936cf35c3dd73aa0d54e6ecaa9d0000dede6b3096391e2687263aadb"


@st.composite
def cfgs(draw: st.DrawFn, max_size: int = 48) -> TileGridCfg:
    size = draw(st.integers(4, max_size))
    return TileGridCfg(size=size, overlap=draw(st.integers(0, size - 1)))


def noise(H: int, W: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-SAMPLE_MAX, SAMPLE_MAX + 1, (H, W), generator=generator, dtype=torch.int32)


def sum_at_pixels(weights: torch.Tensor, length: int, cfg: TileGridCfg) -> torch.Tensor:
    total = torch.zeros(max(length, cfg.size), dtype=torch.int32)
    for start, row in zip(axis_starts(length, cfg), weights, strict=True):
        total[start : start + cfg.size] += row
    return total


@given(length=st.integers(1, 400), cfg=cfgs())
def test_starts_step_by_the_stride_and_the_last_tile_ends_on_the_last_pixel(length: int, cfg: TileGridCfg) -> None:
    starts = axis_starts(length, cfg)
    assert starts[0] == 0 and starts[-1] == max(length - cfg.size, 0)
    assert starts[:-1] == [k * cfg.stride for k in range(len(starts) - 1)]
    assert all(0 < b - a <= cfg.stride for a, b in pairwise(starts))


@settings(deadline=None)
@given(length=st.integers(1, 300), cfg=cfgs(), window=st.sampled_from(WINDOWS))
def test_weights_sum_to_256_at_every_pixel_and_to_0_outside(length: int, cfg: TileGridCfg, window: Window) -> None:
    weights = axis_weights(length, cfg, window)
    total = sum_at_pixels(weights, length, cfg)
    assert weights.dtype == torch.int32 and weights.shape == (len(axis_starts(length, cfg)), cfg.size)
    assert int(weights.min()) >= 0
    assert bool((total[:length] == WEIGHT_ONE).all()) and bool((total[length:] == 0).all())


@settings(deadline=None)
@given(
    length=st.integers(1, 150),
    cfg=cfgs(max_size=24),
    window=st.sampled_from(WINDOWS),
)
def test_weights_are_the_largest_remainder_shares_of_the_window(length: int, cfg: TileGridCfg, window: Window) -> None:
    samples = window_samples(cfg, window).tolist()
    starts = axis_starts(length, cfg)
    weights = axis_weights(length, cfg, window).tolist()
    for pixel in range(length):
        cover = [(tile, pixel - start) for tile, start in enumerate(starts) if 0 <= pixel - start < cfg.size]
        total = sum(samples[at] for _, at in cover)
        exact = {tile: Fraction(WEIGHT_ONE * samples[at], total) for tile, at in cover}
        want = {tile: math.floor(share) for tile, share in exact.items()}
        by_remainder = sorted(exact, key=lambda tile: (want[tile] - exact[tile], tile))
        for tile in by_remainder[: WEIGHT_ONE - sum(want.values())]:
            want[tile] += 1
        assert {tile: weights[tile][at] for tile, at in cover} == want


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("size", "overlap"), [(256, 24), (32, 8), (16, 0), (64, 32), (7, 3)])
def test_one_tile_alone_weighs_256_and_two_fade_monotonically(window: Window, size: int, overlap: int) -> None:
    cfg = TileGridCfg(size, overlap)
    first, second = axis_weights(size + cfg.stride, cfg, window)
    assert bool((first[: cfg.stride] == WEIGHT_ONE).all()) and bool((second[overlap:] == WEIGHT_ONE).all())
    assert bool((first.diff() <= 0).all()) and bool((second.diff() >= 0).all())


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_are_the_textbook_ones_at_pixel_centres(window: Window) -> None:
    cfg = TileGridCfg(64, 24)
    t = (torch.arange(64, dtype=torch.float64) + 0.5) / 64
    rise = torch.minimum(t, 1 - t)
    alpha = 2 * 24 / 64
    want = {
        "hann": torch.sin(math.pi * t) ** 2,
        "tukey": torch.where(rise < alpha / 2, (1 - torch.cos(2 * math.pi * rise / alpha)) / 2, 1.0),
        "kaiser": torch.special.i0(8.6 * torch.sqrt(1 - (2 * t - 1) ** 2))
        / torch.special.i0(torch.tensor(8.6, dtype=torch.float64)),
    }[window]
    assert float((window_samples(cfg, window).double() / 2**24 - want).abs().max()) < 2**-24


def test_window_samples_never_change() -> None:
    sizes = [TileGridCfg(4, 1), TileGridCfg(15, 14), TileGridCfg(32, 8), TileGridCfg(1024, 24)]
    with decimal.localcontext() as context:
        context.prec = 5  # a caller's own decimal context must not matter
        text = repr([window_samples(cfg, window).tolist() for cfg in sizes for window in WINDOWS])
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN_WINDOWS


@settings(deadline=None, max_examples=60)
@given(H=st.integers(1, 70), W=st.integers(1, 70), cfg=cfgs(24), window=st.sampled_from(WINDOWS))
def test_blending_what_was_cut_gives_back_the_picture_exactly(H: int, W: int, cfg: TileGridCfg, window: Window) -> None:
    plane = noise(H, W)
    spec = grid(H, W, cfg)
    assert torch.equal(blend_int(extract(plane, spec), spec, window), plane)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(("H", "W"), [(1, 1), (33, 32), (32, 33), (5, 200), (97, 31), (150, 121)])
def test_blending_ones_gives_exactly_one_to_the_corner(H: int, W: int, window: Window) -> None:
    spec = grid(H, W, TileGridCfg(32, 8))
    y_hat = blend(torch.ones(spec.count, 1, 32, 32), spec, H, W, window=window)
    assert torch.equal(y_hat, torch.ones(1, 1, H, W))


@settings(deadline=None, max_examples=40)
@given(H=st.integers(1, 80), W=st.integers(1, 80), cfg=cfgs(24), window=st.sampled_from(WINDOWS))
def test_blend_is_the_weighted_sum_of_its_tiles(H: int, W: int, cfg: TileGridCfg, window: Window) -> None:
    spec = grid(H, W, cfg)
    size = cfg.size
    samples = noise(spec.count * size, size).view(spec.count, size, size)
    wy, wx = axis_weights(H, cfg, window).long(), axis_weights(W, cfg, window).long()
    want = torch.zeros(max(H, size), max(W, size), dtype=torch.int64)
    for n, (top, left) in enumerate(spec.starts):
        weight = wy[n // spec.nx][:, None] * wx[n % spec.nx]
        want[top : top + size, left : left + size] += weight * samples[n]
    got = blend_int(samples, spec, window)
    assert torch.equal(got.long(), (want[:H, :W] + 2**15) >> 16)
    y_hat = blend(samples.double()[:, None], spec, H, W, window)
    assert torch.equal(y_hat[0, 0], want[:H, :W].double() / 65536)


def test_rows_blended_in_pieces_and_out_of_order_equal_the_whole() -> None:
    spec = grid(150, 121, TileGridCfg(32, 12))
    samples = noise(spec.count * 32, 32).view(spec.count, 32, 32)
    acc = torch.zeros(150, 121, dtype=torch.int32)
    for lo, hi in [(4, spec.ny), (0, 1), (1, 4), (4, 4)]:
        blend_rows(acc, samples[lo * spec.nx : hi * spec.nx], spec, lo, hi)
    assert torch.equal(round_blend(acc), blend_int(samples, spec))


@pytest.mark.parametrize("band", [1, 3000, 1 << 25])
def test_the_size_of_a_band_does_not_show(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = grid(150, 121, TileGridCfg(32, 12))
    samples = noise(spec.count * 32, 32).view(spec.count, 32, 32)
    want = blend_int(samples, spec)
    monkeypatch.setattr("pc15.tiling._BAND_CPU", band)
    assert torch.equal(blend_int(samples, spec), want)


def test_samples_beyond_the_limit_are_clamped_instead_of_wrapping() -> None:
    spec = grid(50, 50, TileGridCfg(16, 4))
    high = torch.full((spec.count, 16, 16), 2**31 - 1, dtype=torch.int32)
    assert bool((blend_int(high, spec) == SAMPLE_MAX).all())
    assert bool((blend_int(-high, spec) == -SAMPLE_MAX).all())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.uint8, torch.int32])
def test_tile_image_cuts_in_raster_order_and_repeats_the_edge(dtype: torch.dtype) -> None:
    y = (torch.arange(40 * 20) % 251).view(1, 1, 40, 20).to(dtype)
    spec = tile_image(y, TileGridCfg(32, 8))
    assert (spec.count, spec.ny, spec.nx, spec.H, spec.W) == (2, 2, 1, 40, 20)
    assert spec.starts == [(0, 0), (8, 0)] and spec == grid(40, 20, TileGridCfg(32, 8))
    assert spec.tiles is not None and spec.tiles.shape == (2, 1, 32, 32) and spec.tiles.dtype == dtype
    assert torch.equal(spec.tiles[1, 0, :, :20], y[0, 0, 8:])
    assert torch.equal(spec.tiles[1, 0, :, 20:], y[0, 0, 8:, -1:].expand(32, 12))


def test_a_single_pixel_fills_its_tile_and_comes_back() -> None:
    spec = tile_image(torch.full((1, 1, 1, 1), 0.25), TileGridCfg())
    assert spec.tiles is not None and spec.count == 1
    assert torch.equal(spec.tiles, torch.full((1, 1, 256, 256), 0.25))
    assert blend(spec.tiles, spec, 1, 1).item() == 0.25


def test_blend_keeps_half_precision_and_crops() -> None:
    y = torch.rand(1, 1, 70, 90, generator=torch.Generator().manual_seed(1)).half()
    spec = tile_image(y, TileGridCfg(32, 8))
    assert spec.tiles is not None
    y_hat = blend(spec.tiles, spec, 69, 50)
    assert y_hat.dtype == torch.float16 and torch.equal(y_hat, y[:, :, :69, :50])


def test_a_cached_weight_cannot_be_changed_from_outside() -> None:
    cfg = TileGridCfg(16, 4)
    axis_weights(40, cfg).zero_()
    assert bool((sum_at_pixels(axis_weights(40, cfg), 40, cfg) == WEIGHT_ONE).all())


@pytest.mark.parametrize(("size", "overlap"), [(256, 24), (16, 15), (4, 0), (5, 2), (33, 16)])
def test_the_seam_mask_rises_from_0_in_the_middle_to_1_on_the_rim(size: int, overlap: int) -> None:
    mask, q8 = seam_penalty_mask(size, overlap), seam_weights_q8(size, overlap)
    middle = size // 2
    assert mask.dtype == torch.float32 and mask.shape == (size, size) and q8.dtype == torch.int32
    assert mask[middle, middle] == 0 and q8[middle, middle] == 0
    for rim in (mask[0], mask[-1], mask[:, 0], mask[:, -1]):
        assert bool((rim == 1).all())
    assert bool((mask[: middle + 1].diff(dim=0) <= 0).all()) and torch.equal(mask, mask.flip(0))
    assert torch.equal(mask, mask.t())
    assert torch.equal(q8, (mask.double() * 256).round().int())


def test_the_seam_mask_follows_its_power() -> None:
    row = seam_penalty_mask(size=256, overlap=24, power=1.5)[128]
    assert row[12].item() == pytest.approx(0.5**1.5, abs=1e-7)
    assert seam_weights_q8(256, 24, power=3)[128, 12] == 32


@pytest.mark.parametrize(
    ("size", "overlap"), [(3, 0), (1025, 8), (32, 32), (32, -1), (-8, 0), (32.0, 8), (32, "8"), (True, 0)]
)
def test_an_impossible_grid_is_refused(size: int, overlap: int) -> None:
    with pytest.raises(ConfigError, match=r"tile (size|overlap) is"):
        TileGridCfg(size=size, overlap=overlap)


@pytest.mark.parametrize(
    ("window", "params", "message"),
    [
        ("han", None, "did you mean hann"),
        ("hann", {"alpha": 0.5}, "takes no parameter"),
        ("tukey", {"beta": 0.5}, "takes only 'alpha'"),
        ("tukey", {"alpha": 1.5}, "from 0 to 1"),
        ("kaiser", {"beta": math.nan}, "from 0 to 64"),
    ],
)
def test_a_wrong_window_says_what_would_be_right(window: Window, params: dict[str, float] | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        axis_weights(100, TileGridCfg(32, 8), window, params)


@pytest.mark.parametrize(
    ("window", "params"), [("tukey", {"alpha": 0.0}), ("tukey", {"alpha": 1}), ("kaiser", {"beta": 0.0})]
)
def test_extreme_window_parameters_still_sum_exactly(window: Window, params: dict[str, float]) -> None:
    cfg = TileGridCfg(32, 20)
    assert bool((sum_at_pixels(axis_weights(101, cfg, window, params), 101, cfg) == WEIGHT_ONE).all())


SPEC: TileSpec = grid(40, 40, TileGridCfg(32, 8))


@pytest.mark.parametrize("shape", [(40, 40), (2, 1, 40, 40), (1, 3, 40, 40), (1, 1, 0, 40)])
def test_what_is_not_one_plane_cannot_be_cut(shape: tuple[int, ...]) -> None:
    with pytest.raises(ImageError, match="tile_image got a tensor of shape"):
        tile_image(torch.zeros(shape), TileGridCfg(32, 8))


def test_tiles_that_do_not_fit_the_grid_are_refused() -> None:
    with pytest.raises(ImageError, match=r"\[4, 1, 32, 32\]"):
        blend(torch.ones(4, 1, 16, 16), SPEC, 40, 40)
    with pytest.raises(ImageError, match="40x40"):
        blend(torch.ones(4, 1, 32, 32), SPEC, 41, 40)
    with pytest.raises(ImageError, match="int32"):
        blend_int(torch.ones(4, 32, 32), SPEC)
    acc, samples = torch.zeros(40, 40, dtype=torch.int32), torch.zeros(4, 32, 32, dtype=torch.int32)
    with pytest.raises(ImageError, match="not in a grid of 2 rows"):
        blend_rows(acc, samples, SPEC, 1, 3)
    with pytest.raises(ImageError, match="accumulator"):
        blend_rows(acc[:, :39], samples, SPEC, 0, 2)
    with pytest.raises(ImageError, match="make the grid"):
        extract(torch.zeros(40, 41), SPEC)
    with pytest.raises(ImageError, match="at least 1"):
        grid(0, 5, TileGridCfg())


@pytest.mark.gpu
@pytest.mark.parametrize("window", WINDOWS)
def test_the_gpu_blends_the_same_pixels(window: Window) -> None:
    spec = grid(150, 121, TileGridCfg(32, 12))
    samples = noise(spec.count * 32, 32).view(spec.count, 32, 32)
    assert torch.equal(blend_int(samples.to(DEVICE), spec, window).cpu(), blend_int(samples, spec, window))
    plane = noise(150, 121)
    assert torch.equal(extract(plane.to(DEVICE), spec).cpu(), extract(plane, spec))
