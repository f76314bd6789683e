"""The GPU's kernels compute what the CPU's loops do, to the last bit; TRITON_INTERPRET=1 runs them without a GPU."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pc15 import CodecConfig
from pc15.search import kernels
from pc15.search.bank import Bank
from pc15.search.cost import AMP_SEARCHED
from pc15.search.score import SAMPLE_ONE, Patterns, Scorer, Windows
from pc15.search.screen import key_rows

pytest.importorskip("triton")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no CUDA; TRITON_INTERPRET=1 runs Triton's kernels on the CPU", allow_module_level=True)

from pc15.search import gpu

pytestmark = pytest.mark.gpu

ROWS = 30
CPU = torch.device("cpu")


@pytest.mark.parametrize(("side", "m", "keep"), [(4, 1, 1), (8, 9, 4), (13, 21, 21), (16, 17, 3), (32, 12, 5)])
def test_ranking_again(side: int, m: int, keep: int, device: torch.device) -> None:
    draw = torch.Generator().manual_seed(side)
    n, classes, length = 7, 3, side * side
    pixels = torch.randint(-127, 128, (ROWS, length), generator=draw, dtype=torch.int8)
    pixels[3], pixels[6] = 0, pixels[5]
    candidates = torch.stack([torch.randperm(ROWS, generator=draw)[:m] for _ in range(n)])
    candidates[torch.rand(candidates.shape, generator=draw) < 0.2] = -1
    packed = torch.randint(-127, 128, (n, length), generator=draw, dtype=torch.int8)
    packed[1] = 0  # nothing to draw: all that is left of a score is its cost
    quad = torch.randint(0, 1 << 20, (classes, length), generator=draw)
    cls = torch.randint(0, classes, (n,), generator=draw)
    price, bits = torch.rand(n, generator=draw), torch.rand(ROWS, generator=draw) * 4000
    bits[6] = bits[5]
    tensors = (candidates, packed, pixels, quad, cls, price, bits)
    expected = torch.empty((n, keep), dtype=torch.int64)
    kernels.rank_again(0, n, *(t.numpy() for t in tensors), expected.numpy())
    keys = gpu.rank_again(*(t.to(device) for t in tensors))
    assert torch.equal(key_rows(keys.topk(keep, dim=1).values).cpu(), expected)


class OnGpu(Scorer):
    """Takes the way of a GPU wherever its tiles lie."""

    def _gpu(self, e: torch.Tensor) -> Any:
        return gpu


def scorers(tile: int, alpha: float, seam: float, device: torch.device) -> tuple[Scorer, Scorer]:
    """The same scorer for the CPU's loops and for the kernels: a bank of noise, nine places of tiles in a grid."""
    draw = torch.Generator().manual_seed(tile)
    overlap = tile // 3
    cfg = CodecConfig.preset(
        "fast", tile=tile, overlap=overlap, alpha_mix=alpha, seam_weight=seam, lambda_rd=0.1, search="screened"
    )
    ramp = (torch.arange(1, overlap + 1) * 256) // (overlap + 1)
    weights = torch.full((3, tile), 256, dtype=torch.int32)
    weights[1:, :overlap], weights[:2, tile - overlap :] = ramp.int(), ramp.flip(0).int()
    pixels = torch.randint(-127, 128, (ROWS, tile * tile), generator=draw, dtype=torch.int8)
    pixels[4] = 0
    power = pixels.double().square().mean(dim=1).sqrt()
    amplitudes = torch.randint(100, 9000, (2, AMP_SEARCHED + 1), generator=draw, dtype=torch.int32)
    bits = torch.randint(500, 9000, (ROWS,), generator=draw, dtype=torch.int32)

    def on(place: torch.device, kind: type[Scorer]) -> Scorer:
        zero = torch.zeros(ROWS, dtype=torch.int64, device=place)
        bank = Bank(None, zero.int(), pixels.to(place), zero, zero, zero, (0, ROWS), power.to(place), tile)
        costs: Any = SimpleNamespace(amplitudes=lambda _layer: amplitudes.to(place), rows=lambda _layer: bits.to(place))
        windows = Windows.of_grid(weights.to(place), weights.to(place), cfg, blended=True)
        return kind(cfg, bank, windows, costs, 24)

    return on(CPU, Scorer), on(device, OnGpu)


def tiles(tile: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What is left to draw of twelve tiles, the tiles, their classes: noise of all strengths, and nothing."""
    draw = torch.Generator().manual_seed(tile + 1)
    x = torch.randint(0, SAMPLE_ONE + 1, (12, tile, tile), generator=draw, dtype=torch.int32)
    e = (torch.randn(x.shape, generator=draw) * torch.logspace(-1, 3, 12)[:, None, None]).round().to(torch.int32)
    e[3], x[5], x[6], e[6] = 0, 0, SAMPLE_ONE, 0
    return e, x, torch.arange(12) % 9


SIDES = [4, 8, 12, 16, 17, 20, 22, 30, 32, 48, 64, 160]


@pytest.mark.parametrize("tile", SIDES)
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("kind", [torch.int8, torch.int16])
def test_exact_scores(tile: int, alpha: float, kind: torch.dtype, device: torch.device) -> None:
    loops, fused = scorers(tile, alpha, 0.75, device)
    e, x, cls = tiles(tile)
    if tile > 32:
        e, x, cls = e[7:11], x[7:11], cls[7:11]
    draw = torch.Generator().manual_seed(7)
    store = loops.bank.pixels.to(kind) * (1 if kind == torch.int8 else 11)
    store[9] = torch.arange(tile * tile) // (tile * tile // 2) * 2 - 1  # halves
    rms = store.double().square().mean(dim=1).sqrt()
    at = torch.randint(0, ROWS, (len(e), 5), generator=draw)
    at[:, 1] = 9
    strength = torch.arange(len(e), dtype=torch.int32) * torch.tensor([3, -3]).repeat(6)[: len(e)].int()
    e += strength[:, None, None] * loops.bank.pixels[at[:, 0]].view_as(e)
    patterns = Patterns(store, at, torch.where(torch.rand(at.shape, generator=draw) < 0.2, 0.0, rms[at]))
    address = torch.randint(500, 9000, at.shape, generator=draw, dtype=torch.int32)
    moved = Patterns(*(t.to(device) for t in (patterns.store, patterns.at, patterns.rms)))
    given = [t.to(device) for t in (e, x, cls)]
    for rough in (False, True) if tile == 16 else (False,):
        change, level = loops.exact(e, x, cls, patterns, address, 0, rough=rough)
        found = fused.exact(*given, moved, address.to(device), 0, rough=rough)
        assert torch.equal(found[0].cpu(), change)
        assert torch.equal(found[1].cpu(), level)
        assert len(level.unique()) > 3


@pytest.mark.parametrize("tile", SIDES)
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_distortion(tile: int, alpha: float, device: torch.device) -> None:
    loops, fused = scorers(tile, alpha, 0.75, device)
    e, x, cls = tiles(tile)
    found = fused.distortion(e.to(device), x.to(device), cls.to(device))
    assert torch.equal(found.cpu(), loops.distortion(e, x, cls))


def test_tensors_of_other_layouts_and_kinds_and_no_tiles_at_all(device: torch.device) -> None:
    loops, fused = scorers(16, 0.7, 0.0, device)
    e, x, cls = tiles(16)
    at = torch.arange(24).view(2, 12).t()
    patterns = Patterns(loops.bank.pixels, at, loops.bank.rms[at])
    address = torch.full(at.shape, 900)
    expected = loops.exact(e, x, cls, patterns, address, 0)
    given = [t.to(device) for t in (e.long(), x.transpose(1, 2).contiguous().transpose(1, 2), cls)]
    moved = Patterns(*(t.to(device) for t in (patterns.store, patterns.at, patterns.rms)))
    for found, wanted in zip(fused.exact(*given, moved, address.to(device), 0), expected, strict=True):
        assert torch.equal(found.cpu(), wanted)
    assert torch.equal(fused.distortion(*given).cpu(), loops.distortion(e, x, cls))
    none = [t[:0] for t in given]
    change, level = fused.exact(*none, Patterns(moved.store, moved.at[:0], moved.rms[:0]), moved.at[:0], 0)
    assert change.shape == level.shape == (0, 2)
    assert fused.distortion(*none).shape == (0,)
    skipped = Patterns(moved.store[:0], moved.at * 0, moved.rms * 0)  # nothing was drawn
    assert torch.isinf(fused.exact(*given, skipped, address.to(device), 0)[0]).all()


def test_screening(device: torch.device) -> None:
    loops, fused = scorers(16, 0.7, 0.75, device)
    e, _, cls = tiles(16)
    wide = torch.arange(ROWS).expand(len(e), -1).clone()
    wide[:, 11] = -1
    found = fused._finer(wide.to(device), e.to(device), cls.to(device), 0, 9)
    assert torch.equal(found.cpu(), loops._finer(wide, e, cls, 0, 9))
