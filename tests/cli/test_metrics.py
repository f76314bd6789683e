"""PSNR, SSIM, MS-SSIM and BD-rate, each against a second opinion."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import gaussian_filter
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from pc15.errors import ConfigError, ImageError
from pc15.metrics import MS_SSIM_WEIGHTS, _pchip, bd_rate, ms_ssim, psnr, ssim
from pc15.perceptual import vif


def picture(*shape: int, seed: int = 0, noise: float = 0.0) -> npt.NDArray[np.float64]:
    """A smooth picture in [0,1] with some noise on top."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : shape[-2], 0 : shape[-1]]
    clean = 0.5 + 0.3 * np.sin(x / 7.0 + seed) * np.cos(y / 5.0)
    dirt = np.random.default_rng(seed + 99).normal(size=shape) * noise
    return np.clip(clean + 0.05 * rng.normal(size=shape) + dirt, 0.0, 1.0)


@pytest.mark.parametrize("shape", [(11, 11), (64, 48), (33, 71)])
@pytest.mark.parametrize("noise", [0.001, 0.05, 0.5])
def test_ssim_and_psnr_agree_with_scikit_image(shape: tuple[int, int], noise: float) -> None:
    a, b = picture(*shape), picture(*shape, noise=noise)
    theirs = structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0)
    assert ssim(a, b) == pytest.approx(theirs, abs=1e-9)
    assert psnr(a, b) == pytest.approx(peak_signal_noise_ratio(a, b, data_range=1.0), abs=1e-9)


def vif_of_the_paper(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> float:
    """VIF in the pixel domain as its authors' vifp_mscale computes it."""
    gained = there = 0.0
    for scale in range(1, 5):
        side = 2 ** (5 - scale) + 1

        def mean(x: npt.NDArray[np.float64], side: int = side) -> npt.NDArray[np.float64]:
            wide = gaussian_filter(x, side / 5, truncate=(side // 2) / (side / 5), mode="constant")
            return wide[side // 2 : -(side // 2), side // 2 : -(side // 2)]

        if scale > 1:
            a, b = mean(a)[::2, ::2], mean(b)[::2, ::2]
        va, vb = (np.maximum(mean(x * x) - mean(x) ** 2, 0.0) for x in (a, b))
        both = mean(a * b) - mean(a) * mean(b)
        g = both / (va + 1e-10)
        noise = vb - g * both
        g[va < 1e-10], noise[va < 1e-10] = 0.0, vb[va < 1e-10]
        va[va < 1e-10] = 0.0
        g[vb < 1e-10], noise[vb < 1e-10] = 0.0, 0.0
        noise[g < 0], g[g < 0] = vb[g < 0], 0.0
        noise = np.maximum(noise, 1e-10)
        gained += np.log10(1 + g * g * va / (noise + 2.0)).sum()
        there += np.log10(1 + va / 2.0).sum()
    return float(gained / there)


def test_vif_is_that_of_the_paper_and_falls_with_noise_and_blur() -> None:
    pytest.importorskip("torchmetrics")
    a = picture(64, 80)
    others = [a, picture(64, 80, noise=0.01), picture(64, 80, noise=0.1), gaussian_filter(a, 3.0)]
    found = [vif(a, other) for other in others]
    assert found[0] == pytest.approx(1.0, abs=1e-6) and found[0] > found[1] > found[2] > 0 and found[3] < found[1]
    assert found == pytest.approx([vif_of_the_paper(255 * a, 255 * other) for other in others], abs=1e-3)
    eight = (255 * a).round().astype(np.uint8)
    assert vif(eight, 255 - eight, 255) == vif(eight / 255, 1 - eight / 255)
    assert vif(np.stack([a, a]), np.stack([a, others[1]])) == pytest.approx((found[0] + found[1]) / 2)
    with pytest.raises(ImageError, match="41 pixels a side, not 40x64"):
        vif(a[:, :40], a[:, :40])


def test_colour_is_the_mean_over_channels() -> None:
    a, b = picture(3, 40, 50), picture(3, 40, 50, noise=0.1)
    theirs = structural_similarity(
        a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, channel_axis=0
    )
    assert ssim(a, b) == pytest.approx(theirs, abs=1e-9)
    assert ssim(a, b) == pytest.approx(np.mean([ssim(a[c], b[c]) for c in range(3)]))


def test_eight_bit_samples_with_their_range_are_the_same_as_floats() -> None:
    a = (picture(32, 32) * 255).astype(np.uint8)
    b = (picture(32, 32, noise=0.1) * 255).astype(np.uint8)
    assert ssim(a, b, data_range=255) == pytest.approx(ssim(a / 255.0, b / 255.0))
    assert psnr(a, b, data_range=255) == pytest.approx(psnr(a / 255.0, b / 255.0))
    with pytest.raises(ImageError, match="pass data_range=255"):
        psnr(a, b)


@pytest.mark.parametrize("seed", range(5))
def test_equal_pictures_are_perfect(seed: int) -> None:
    y = torch.rand(1, 1, 170, 161, generator=torch.Generator().manual_seed(seed))
    assert psnr(y, y) == math.inf
    assert ssim(y, y) == 1.0
    assert ms_ssim(y, y) == 1.0


def test_one_plane_may_come_in_any_rank_and_precision() -> None:
    a, b = picture(20, 30), picture(20, 30, noise=0.1)
    as_tensors = torch.from_numpy(a)[None, None].float(), torch.from_numpy(b)[None].float()
    assert psnr(*as_tensors) == pytest.approx(psnr(a, b), abs=1e-4)
    assert ssim(*as_tensors) == pytest.approx(ssim(a, b), abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        (np.zeros((20, 20)), np.zeros((20, 21)), "different shapes"),
        (np.zeros((2, 1, 20, 20)), np.zeros((2, 1, 20, 20)), "one picture"),
        (np.zeros(20), np.zeros(20), "one picture"),
        (np.zeros((0, 20)), np.zeros((0, 20)), "one picture"),
        (np.full((20, 20), np.nan), np.zeros((20, 20)), "nan at channel 0, row 0, column 0"),
        (np.zeros((20, 20), dtype=bool), np.zeros((20, 20)), "dtype"),
        (np.zeros((10, 20)), np.zeros((10, 20)), "at least 11x11 pixels, not 20x10"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        ssim(a, b)


def test_a_data_range_of_zero_is_refused() -> None:
    with pytest.raises(ImageError, match="data_range"):
        psnr(np.zeros((20, 20)), np.ones((20, 20)), data_range=0.0)


def test_ms_ssim_agrees_with_its_definition() -> None:
    a, b = picture(192, 208), picture(192, 208, noise=0.2)
    expected, x, y = 1.0, a, b
    for scale, weight in enumerate(MS_SSIM_WEIGHTS):
        fx, fy, fxx, fyy, fxy = (gaussian_filter(f, 1.5, truncate=3.5)[5:-5, 5:-5] for f in (x, y, x * x, y * y, x * y))
        cs = (2 * (fxy - fx * fy) + 0.03**2) / (fxx + fyy - fx**2 - fy**2 + 0.03**2)
        lum = (2 * fx * fy + 0.01**2) / (fx**2 + fy**2 + 0.01**2)
        expected *= np.mean(cs * lum if scale == 4 else cs) ** weight
        x, y = (f[: f.shape[0] // 2 * 2, : f.shape[1] // 2 * 2] for f in (x, y))
        x, y = ((f[::2, ::2] + f[1::2, ::2] + f[::2, 1::2] + f[1::2, 1::2]) / 4 for f in (x, y))
    assert ms_ssim(a, b) == pytest.approx(expected, abs=1e-9)
    with pytest.raises(ImageError, match="161x161"):
        ms_ssim(np.zeros((160, 200)), np.zeros((160, 200)))


knots = st.lists(
    st.tuples(st.floats(0.01, 10.0), st.floats(-10.0, 10.0)), min_size=2, max_size=8
)  # (step to the next knot, value)


@given(knots)
def test_the_monotone_cubic_is_scipys(points: list[tuple[float, float]]) -> None:
    x, y = np.cumsum([step for step, _ in points]), np.array([value for _, value in points])
    at = np.linspace(x[0], x[-1], 101)
    assert _pchip(x, y, at) == pytest.approx(PchipInterpolator(x, y)(at), abs=1e-9)


def test_bd_rate_agrees_with_scipys_integral() -> None:
    a = [0.1, 0.25, 0.5, 1.0], [27.0, 30.5, 33.0, 37.0]
    b = [0.08, 0.22, 0.51, 0.9], [26.5, 30.9, 33.4, 36.0]
    low, high = 27.0, 36.0
    gap = PchipInterpolator(b[1], np.log2(b[0])).integrate(low, high)
    gap -= PchipInterpolator(a[1], np.log2(a[0])).integrate(low, high)
    percent, overlap = bd_rate(*a, *b)
    assert percent == pytest.approx((2 ** (gap / (high - low)) - 1) * 100, rel=1e-9)
    assert overlap == pytest.approx(9.0 / 10.5)
    there_and_back = (1 + percent / 100) * (1 + bd_rate(*b, *a)[0] / 100)
    assert there_and_back == pytest.approx(1.0)


def test_half_the_rate_at_equal_quality_is_minus_fifty_percent() -> None:
    rate, quality = [1.0, 0.2, 0.5], [36.0, 28.0, 33.0]  # in any order
    percent, overlap = bd_rate(rate, quality, [r / 2 for r in rate], quality)
    assert (percent, overlap) == (pytest.approx(-50.0), 1.0)


def test_bd_rate_refuses_curves_that_hardly_meet() -> None:
    a, b = ([0.1, 0.2], [30.0, 34.0]), ([0.1, 0.2], [33.0, 37.0])
    with pytest.raises(ConfigError, match="share 14% of their quality range"):
        bd_rate(*a, *b)
    assert bd_rate(*a, *b, min_overlap=0.1)[1] == pytest.approx(1 / 7)
    with pytest.raises(ConfigError, match="share 0%"):
        bd_rate(*a, [0.1, 0.2], [40.0, 44.0], min_overlap=0.0)


@pytest.mark.parametrize(
    ("rate", "quality", "says"),
    [
        ([0.1], [30.0], "two or more points"),
        ([0.1, 0.2, 0.3], [30.0, 31.0], "one quality per rate"),
        ([0.1, 0.0], [30.0, 31.0], "point 1 of curve B"),
        ([0.1, 0.2], [30.0, math.inf], "lossless"),
        ([0.1, 0.2, 0.3], [30.0, 31.0, 31.0], "twice"),
    ],
)
def test_bd_rate_refuses_bad_points(rate: list[float], quality: list[float], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        bd_rate([0.1, 0.2], [30.0, 34.0], rate, quality)


@pytest.mark.parametrize("measure", [psnr, ssim, ms_ssim])
def test_floats_of_8_bits_without_their_range_are_refused(measure: Callable[..., float]) -> None:
    a = picture(170, 170) * 255
    with pytest.raises(ImageError, match="spans .*, which cannot be with data_range 1; pass data_range=255"):
        measure(a, a * 0.9)
    with pytest.raises(ImageError, match="data_range 1;"):
        measure(np.full((170, 170), -4.0), a / 255)
    assert measure(a, a * 0.9, data_range=255) == measure(a, a * 0.9, data_range=255.0)
    assert measure(a / 255 * 1.2 - 0.1, a / 255) > 0  # a little outside, as before clamping
