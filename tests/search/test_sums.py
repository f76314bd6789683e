"""Sums of stripes and waves over the whole plane: told by their spectrum, taken apart, and small."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pc15.config import CodecConfig
from pc15.decoder import decode_y
from pc15.encoder import encode_y
from pc15.metrics import ssim
from pc15.search.coherence import is_sum_of_waves
from pc15learn.sample_data import draw_samples

BALANCED = CodecConfig.preset("balanced", device="cpu")


def summed(seed: int, count: int, high: int = 160, wide: int = 192) -> NDArray[np.float64]:
    """Sets of hard-edged stripes and waves in turn, drawn by floats, [high,wide] in 0..1."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:high, :wide] / max(high, wide)
    total = np.zeros((high, wide))
    for i in range(count):
        turn, cycles, phase = rng.uniform(0, np.pi), rng.uniform(4, 20), rng.uniform()
        along = (x * np.cos(turn) + y * np.sin(turn)) * cycles + phase
        wave = np.where(along % 1 < 0.5, 1.0, -1.0) if i % 2 else np.sin(2 * np.pi * along)
        total += rng.uniform(0.08, 0.16) * wave
    return np.clip(0.5 + total, 0, 1)


def plane(picture: NDArray[np.float64]) -> NDArray[np.int32]:
    return np.round(picture * 4095).astype(np.int32)


@pytest.mark.parametrize("seed", range(12))
def test_sums_are_told_from_other_pictures(seed: int) -> None:
    rng = np.random.default_rng(seed)
    picture = summed(seed, 2 + seed % 3)
    assert is_sum_of_waves(plane(picture))
    assert is_sum_of_waves(plane(picture.T[::-1]))
    noisy = picture + rng.normal(0, 0.3, picture.shape)
    assert not is_sum_of_waves(plane(np.clip(noisy, 0, 1)))


def test_noise_lines_and_flat_planes_are_no_sums() -> None:
    rng = np.random.default_rng(0)
    for other in (rng.uniform(size=(128, 128)), np.cumsum(rng.normal(size=(128, 128)), axis=1), np.ones((64, 64))):
        assert not is_sum_of_waves(plane(other / max(np.abs(other).max(), 1)))
    assert not is_sum_of_waves(plane(summed(1, 3)[:9]))
    for name, picture in draw_samples(128).items():
        told = is_sum_of_waves(plane(picture[1].double().numpy() / 255))
        assert not told or name == "cloth", name


@pytest.mark.parametrize(("seed", "count"), [(1, 2), (2, 3), (5, 4)])
def test_sums_take_hardly_any_bytes(seed: int, count: int) -> None:
    y = torch.from_numpy(np.round(summed(seed, count) * 255) / 255).float()[None, None]
    coded = encode_y(y, BALANCED.but(lambda_rd=1.0))
    assert len(coded["bitstream"]) <= 150
    assert coded.stats["layers"] >= count
    assert ssim(y, decode_y(coded["bitstream"])) > 0.96
