"""Structure of residuals: what it tells apart, and that they depend on nothing but the tile."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from pc15.errors import ImageError
from pc15.hooks.features import Structure, structure
from pc15.proc.registry import render


def residual(name: str, tile: int = 32, **params: float) -> Tensor:
    """A pattern as a residual, [1,T,T] int32 Q12, luma +-0.25."""
    return (render(name, tile, tile, params)[0] * 1024).round().to(torch.int32)


def noise(n: int, tile: int = 32) -> Tensor:
    return (torch.randn(n, tile, tile, generator=torch.Generator().manual_seed(1)) * 400).round().to(torch.int32)


def values(found: Structure) -> Tensor:
    """All measures, [19, n]."""
    return torch.stack([getattr(found, field.name) for field in fields(found)])


@pytest.mark.parametrize("tile", [4, 5, 8, 16, 24, 32, 33, 64, 256])
def test_every_tile_size_gives_finite_numbers_in_their_ranges(tile: int):
    for tiles in (noise(2, tile), torch.zeros(2, tile, tile, dtype=torch.int32), noise(2, tile) * 20):
        seen = structure(tiles)
        assert values(seen).isfinite().all()
        for name in ("coherence", "spread", "locality", "sparse", "plane", "radial", "two_valued", "low", "high"):
            assert ((getattr(seen, name) >= 0) & (getattr(seen, name) <= 1 + 1e-9)).all(), name
        for turns in (seen.angle, seen.peak_angle):
            assert ((turns >= 0) & (turns < 0.5)).all()


def test_a_tile_has_the_same_structure_alone_and_in_any_batch():
    tiles = torch.cat([noise(61), residual("STRIPES", freq=5.0), residual("CHECKER"), torch.zeros_like(noise(1))])
    steps = (values(structure(tiles)) * 256).round()
    for size in (1, 7, 32):
        parts = [values(structure(tiles[i : i + size])) for i in range(0, len(tiles), size)]
        assert torch.equal((torch.cat(parts, dim=1) * 256).round(), steps)
    assert torch.equal((values(structure(tiles.flip(0))) * 256).round(), steps.flip(1))


def test_no_tiles_have_no_structure():
    assert values(structure(torch.zeros(0, 32, 32, dtype=torch.int32))).shape == (19, 0)


@pytest.mark.parametrize(
    "bad", [torch.zeros(4, 4, dtype=torch.int32), torch.zeros(1, 4, 5, dtype=torch.int32), torch.zeros(1, 4, 4)]
)
def test_what_is_no_batch_of_square_integer_tiles_is_refused(bad: Tensor):
    with pytest.raises(ImageError, match="int32 Q12"):
        structure(bad)


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


def test_scale_changes_the_rms_and_little_else():
    quiet, loud = structure(noise(4)), structure(noise(4) * 3)
    assert torch.allclose(loud.rms, 3 * quiet.rms, rtol=0.01)
    for field in fields(quiet):
        if field.name not in ("rms", "freq", "angle", "peak_angle"):
            assert (getattr(quiet, field.name) - getattr(loud, field.name)).abs().max() < 0.1, field.name


@pytest.mark.gpu
def test_cpu_and_gpu_agree(device: torch.device):
    tiles = torch.cat([noise(64), residual("STRIPES", freq=5.0)])
    here, there = values(structure(tiles)), values(structure(tiles.to(device))).cpu()
    assert torch.allclose(here, there, rtol=0, atol=1e-9)
