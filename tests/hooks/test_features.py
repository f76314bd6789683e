"""Features and structure: what they tell apart, and that they depend on nothing but the tile."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pc15.errors import ImageError
from pc15.hooks.features import BLOCKS, FEATURES, layer_features, structure
from pc15.proc.registry import render


def residual(name: str, tile: int = 32, **params: float) -> Tensor:
    """A pattern as a residual, [1,T,T] int32 Q12, luma +-0.25."""
    return (render(name, tile, tile, params)[0] * 1024).round().to(torch.int32)


def noise(n: int, tile: int = 32) -> Tensor:
    return (torch.randn(n, tile, tile, generator=torch.Generator().manual_seed(1)) * 400).round().to(torch.int32)


def test_blocks_cover_every_feature_once():
    covered = [i for part in BLOCKS.values() for i in range(part.start, part.stop)]
    assert covered == list(range(FEATURES))
    assert layer_features(noise(3), 0).shape == (3, FEATURES)


@pytest.mark.parametrize("tile", [4, 5, 8, 16, 24, 32, 33, 64, 256])
def test_every_tile_size_gives_finite_multiples_of_a_256th(tile: int):
    for tiles in (noise(2, tile), torch.zeros(2, tile, tile, dtype=torch.int32), noise(2, tile) * 20):
        features = layer_features(tiles, 3)
        assert features.dtype == torch.float32
        assert features.isfinite().all()
        assert torch.equal(features * 256, (features * 256).round())
        assert features.abs().max() <= 16


def test_a_tile_has_the_same_features_alone_and_in_any_batch():
    tiles = torch.cat([noise(61), residual("STRIPES", freq=5.0), residual("CHECKER"), torch.zeros_like(noise(1))])
    whole = layer_features(tiles, 1)
    for size in (1, 7, 32):
        parts = [layer_features(tiles[i : i + size], 1) for i in range(0, len(tiles), size)]
        assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(layer_features(tiles.flip(0), 1), whole.flip(0))


def test_the_layer_is_part_of_the_features_and_nothing_else_changes():
    first, later = layer_features(noise(2), 0), layer_features(noise(2), 9)
    differs = (first != later).any(dim=0).nonzero().flatten().tolist()
    assert differs
    assert all(BLOCKS["layer"].start <= i < BLOCKS["layer"].stop for i in differs)


def test_no_tiles_are_no_features():
    assert layer_features(torch.zeros(0, 32, 32, dtype=torch.int32), 0).shape == (0, FEATURES)
    assert structure(torch.zeros(0, 32, 32, dtype=torch.int32)).rms.shape == (0,)


@pytest.mark.parametrize(
    "bad", [torch.zeros(4, 4, dtype=torch.int32), torch.zeros(1, 4, 5, dtype=torch.int32), torch.zeros(1, 4, 4)]
)
def test_what_is_no_batch_of_square_integer_tiles_is_refused(bad: Tensor):
    with pytest.raises(ImageError, match="int32 Q12"):
        layer_features(bad, 0)


@pytest.mark.parametrize("degrees", [0.0, 30.0, 45.0, 90.0, 120.0])
@pytest.mark.parametrize("tile", [32, 64])
def test_a_wave_has_its_frequency_and_direction(degrees: float, tile: int):
    seen = structure(residual("STRIPES", tile, freq=5.0, angle_deg=degrees, softness=1.0))
    assert float(seen.freq) == pytest.approx(5.0, abs=0.8)
    for angle in (float(seen.peak_angle), float(seen.angle)):
        off = (angle - degrees / 360.0) % 0.5
        assert min(off, 0.5 - off) * 360 < 8.0
    assert float(seen.coherence) > 0.9
    assert float(seen.peak) > 0.6


def test_structure_tells_patterns_apart():
    wave, edge = structure(residual("STRIPES", freq=6.0)), structure(residual("EDGE", offset=0.0))
    rough, ramp = structure(noise(1)), structure(residual("GRADIENT_LINEAR"))
    i = torch.arange(32, dtype=torch.float64) - 15.5
    squares = ((math.tau * 4 / 32 * i).cos().view(-1, 1) * (math.tau * 4 / 32 * i).cos() * 1000).to(torch.int32)
    lattice = structure(squares[None])
    lump = structure((1500 * torch.exp(-((i - 4).view(-1, 1) ** 2 + (i + 4) ** 2) / 20)).to(torch.int32)[None])
    assert wave.peak > 2 * rough.peak
    assert edge.coherence > 0.9 > rough.spread.new_tensor(0.5) > rough.coherence
    assert ramp.plane > 0.9
    assert lattice.second > 0.3 > wave.second
    assert lattice.crossed > 0.8 > wave.crossed
    assert lump.locality > max(wave.locality, rough.locality)
    assert rough.high > 0.5 > edge.high


def test_scale_changes_the_energy_block_and_little_else():
    quiet, loud = layer_features(noise(4), 0), layer_features(noise(4) * 3, 0)
    energy = BLOCKS["energy"]
    assert (quiet[:, energy] != loud[:, energy]).any()
    rest = torch.ones(FEATURES, dtype=torch.bool)
    rest[energy] = False
    assert (quiet - loud)[:, rest].abs().max() < 0.1


@pytest.mark.gpu
def test_cpu_and_gpu_agree(device: torch.device):
    tiles = torch.cat([noise(64), residual("STRIPES", freq=5.0)])
    assert torch.equal(layer_features(tiles, 2), layer_features(tiles.to(device), 2).cpu())
