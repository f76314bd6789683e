"""The GPU's kernels compute what the CPU's loops do, to the last bit; TRITON_INTERPRET=1 runs them without a GPU."""

from __future__ import annotations

import os
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pc15 import CodecConfig
from pc15.draw import amplitude_q15
from pc15.encoder import encode_many
from pc15.proc.registry import coefficient
from pc15.quant import step_q15
from pc15.search.backend import fused as switch
from pc15.search.backend import numba_scores
from pc15.search.backend.sort_keys import Terms
from pc15.search.bank import Bank
from pc15.search.blend_state import Canvas
from pc15.search.cost import AMP_SEARCHED
from pc15.search.dc_surfaces import Bases
from pc15.search.plane import Leaders, turn_groups
from pc15.search.score import DROP, SAMPLE_ONE, Patterns, Scorer, Windows, lowest_argmin, lowest_few
from pc15.search.top_k import GroupedBest, LoopedBest
from pc15.tiling import SAMPLE_MAX, Stack, TileGridCfg, axis_weights, stacks

pytest.importorskip("triton")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no CUDA; TRITON_INTERPRET=1 runs Triton's kernels on the CPU", allow_module_level=True)

from pc15.search.backend import triton

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
    known = torch.full((classes, ROWS), -1.0)
    expected = torch.empty((n, keep), dtype=torch.int64)
    numba_scores.rank_again(0, n, *(t.numpy() for t in (*tensors, known, expected)))
    keys = triton.rank_again(*(t.to(device) for t in tensors))
    assert torch.equal(triton.best_rows(keys, keep).cpu(), expected)


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever lies on the CPU takes the way of a GPU too, where there is none."""
    if not torch.cuda.is_available():
        monkeypatch.setattr(switch, "on_gpu", lambda _device: True)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("keep", [2, 7, 64, 128])
@pytest.mark.parametrize("count", [37, 1500])
def test_candidates_are_the_best_of_all_blocks_of_products(keep: int, count: int, device: torch.device) -> None:
    draw = torch.Generator().manual_seed(count)
    first, n, rows = 11, 4, count + 40
    product = torch.randint(-(1 << 20), 1 << 20, (n, count), generator=draw, dtype=torch.int32)
    inverse, cls = torch.rand((4, rows), generator=draw) * 1e-9, torch.arange(n)
    bits, price = torch.rand(rows, generator=draw) * 4000, torch.rand(n, generator=draw)
    few = torch.randint(0, count, (count // 2,), generator=draw)
    product[:, few], inverse[:, first + few], bits[first + few] = product[:, :1], 1.0, 9.0  # ties
    product[3], price[3] = 0, 0.0  # nothing but ties
    looped, grouped = LoopedBest(n, keep), GroupedBest(n, keep, device)
    for start, stop, tiles in ((0, count // 2, None), (count // 2, count, torch.tensor([3, 0, 2]))):
        part = product[:, start:stop] if tiles is None else product[tiles, start:stop]
        terms = Terms(inverse, bits, *((cls, price) if tiles is None else (cls[tiles], price[tiles])))
        looped.merge(tiles, part.to(torch.float32).contiguous(), terms, first + start)
        there = Terms(*(each.to(device) for each in terms))
        grouped.merge(None if tiles is None else tiles.to(device), part.to(device), there, first + start)
    assert torch.equal(grouped.rows.cpu(), looped.rows)


@pytest.mark.parametrize(("m", "keep"), [(1, 1), (5, 5), (16, 2), (300, 3)])
def test_the_lowest_come_first_and_ties_in_order(m: int, keep: int, device: torch.device) -> None:
    draw = torch.Generator().manual_seed(m)
    cost = torch.randint(-3, 4, (37, m), generator=draw).to(torch.float64)
    cost[torch.rand(cost.shape, generator=draw) < 0.3] = float("inf")
    cost[3] = float("inf")
    index = lowest_few(cost, keep)
    assert torch.equal(triton.lowest(cost.to(device), keep).cpu(), index)
    assert torch.equal(triton.lowest(cost.to(device), 1)[:, 0].cpu(), lowest_argmin(cost))
    level, rows = (torch.randint(-1, 9, cost.shape, generator=draw) for _ in range(2))
    bank = torch.randint(0, 99, (9, 4), generator=draw)
    fields, levels, change = triton.pick(*(t.to(device) for t in (cost, level, rows, bank)), 12, keep)
    assert torch.equal(change.cpu(), cost.gather(1, index))
    assert torch.equal(levels.cpu(), level.gather(1, index))
    assert torch.equal(fields[:, :4].cpu(), bank[rows.gather(1, index).flatten().clamp(min=0)])
    assert not fields[:, 4:].any()


@pytest.mark.parametrize("width", [1, 2, 5])
def test_beams_keep_the_best_offers(
    width: int, device: torch.device, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(width)
    owners = torch.arange(90).repeat_interleave(torch.randint(0, width + 1, (90,), generator=draw))
    j = torch.rand(len(owners), generator=draw, dtype=torch.float64).mul(4).round()
    change = torch.rand((len(owners), 3), generator=draw, dtype=torch.float64).mul(4).round() - 2
    base = torch.full((90,), 1.0, dtype=torch.float64)
    plain = Leaders(base.clone())
    every, kept = plain.offered(owners, j, change, width, 3)
    request.getfixturevalue("as_on_a_gpu")
    moved = Leaders(base.to(device))
    found = moved.offered(owners.to(device), j.to(device), change.to(device), width, 3)
    assert torch.equal(found[0].cpu(), every)
    assert torch.equal(found[1].cpu(), kept)
    for name in ("j", "depth", "offer"):
        assert torch.equal(getattr(moved, name).cpu(), getattr(plain, name))
    assert 0 < len(kept) < change.numel()
    assert len(plain.depth.unique()) == 2


def parts_and_windows(tile: int, device: torch.device) -> tuple[list[Stack], Windows]:
    """Planes of three sizes, two of one, in tiles."""
    overlap = tile // 3
    grid = TileGridCfg(size=tile, overlap=overlap)
    cfg = CodecConfig.preset("fast", tile=tile, overlap=overlap)
    parts = stacks([(3 * tile, 2 * tile + 1), (tile - 3, tile), (3 * tile, 2 * tile + 1), (2 * tile, tile)], grid)
    ways = [[axis_weights(side, grid).to(device) for side in (p.grid.H, p.grid.W)] for p in parts]
    return parts, Windows.joined(
        [(Windows.of_grid(*way, cfg, blended=True), p.planes) for way, p in zip(ways, parts, strict=True)]
    )


@pytest.mark.parametrize("tile", [4, 13, 40])
def test_pictures_change_as_tiles_do(tile: int, device: torch.device, request: pytest.FixtureRequest) -> None:
    draw = torch.Generator().manual_seed(tile)
    parts, _ = parts_and_windows(tile, CPU)
    planes = {i: (p.grid.H, p.grid.W) for p in parts for i in p.members}
    pictures = [torch.randint(0, SAMPLE_ONE, planes[i], generator=draw, dtype=torch.int32) for i in range(len(planes))]
    base = torch.randint(0, SAMPLE_ONE, (parts[-1].samples.stop,), generator=draw, dtype=torch.int32)
    groups = turn_groups(parts[0].grid)[:2]
    strong = [torch.randint(-20000, 20000, (len(g), tile, tile), generator=draw, dtype=torch.int32) for g in groups]
    weak = [one // 37 for one in strong]

    def states(place: torch.device) -> list[torch.Tensor]:
        own, windows = parts_and_windows(tile, place)
        canvas = Canvas([p.to(place) for p in pictures], own, windows)
        canvas.set_base(base.to(place))
        out = []
        for group, big, small in zip(groups, strong, weak, strict=True):
            at, of = torch.tensor(group, device=place), windows.of[torch.tensor(group, device=place)]
            canvas.put(at, big.to(place))
            canvas.add(at, small.to(place))
            canvas.add(at, small.to(place) * 2, small.to(place))
            e = canvas.look(at)
            canvas.show(e, of, big.to(place).clamp(-SAMPLE_MAX, SAMPLE_MAX), 1)
            canvas.show(e[:1], of[:1], small[:1].to(place), -1)
            out += [e.cpu(), canvas.samples(at).cpu(), canvas.rest().cpu()]
        every = torch.arange(parts[-1].tiles.stop, device=place)
        return [*out, canvas.look(every).cpu(), canvas.look(every[:0]).cpu()]

    expected = states(CPU)
    request.getfixturevalue("as_on_a_gpu")
    for found, wanted in zip(states(device), expected, strict=True):
        assert torch.equal(found, wanted)


@pytest.mark.parametrize("tile", [4, 13, 40])
def test_bases_move_with_their_dc_levels(tile: int, device: torch.device, request: pytest.FixtureRequest) -> None:
    draw = torch.Generator().manual_seed(tile)
    parts, _ = parts_and_windows(tile, CPU)
    dc = torch.randint(0, 60, (parts[-1].tiles.stop,), generator=draw)
    dc[::2] = dc[0]  # some differ little, some much
    rest = torch.randint(-9000, 9000, (parts[-1].samples.stop,), generator=draw, dtype=torch.int32)
    mine = torch.rand(dc.shape, generator=draw) < 0.7

    def found(place: torch.device) -> list[torch.Tensor]:
        bases = Bases(parts, 24)
        drawn = bases.draw(dc.to(place))
        return [drawn.cpu(), *(part.cpu()[mine] for part in bases.slopes(rest.to(place), mine.to(place)))]

    expected = found(CPU)
    request.getfixturevalue("as_on_a_gpu")
    for own, wanted in zip(found(device), expected, strict=True):
        assert torch.equal(own, wanted)


@pytest.mark.parametrize("kind", [torch.int16, torch.int32])
@pytest.mark.parametrize("tile", [4, 13, 40])
def test_what_layers_add(tile: int, kind: torch.dtype, device: torch.device) -> None:
    draw = torch.Generator().manual_seed(tile)
    store = torch.randint(-32767, 32768, (ROWS, tile * tile), generator=draw, dtype=torch.int32).to(kind)
    rms = torch.randint(0, 20000, (ROWS,), generator=draw, dtype=torch.int32)
    rms[:4] = torch.tensor([0, 63, 64, 65])
    fields = torch.randint(0, ROWS, (60, 12), generator=draw)
    fields[:4, 0] = torch.arange(4)
    amp = torch.randint(-AMP_SEARCHED, AMP_SEARCHED + 1, (60,), generator=draw)
    factor = coefficient(amplitude_q15(amp, 24), rms[fields[:, 0]])
    expected = (factor.view(-1, 1, 1) * store[fields[:, 0]].view(-1, tile, tile).int() + (1 << 16)) >> 17
    given = [t.to(device) for t in (store, rms, fields)]
    found = triton.contributions(given[0], given[1], given[2][:, 0], amp.to(device), step_q15(24), tile)
    assert torch.equal(found.cpu(), expected)
    every = triton.contributions(given[0][:9], given[1][:9], None, amp[:9].to(device), step_q15(24), tile)
    factor = coefficient(amplitude_q15(amp[:9], 24), rms[:9])
    assert torch.equal(every.cpu(), (factor.view(-1, 1, 1) * store[:9].view(-1, tile, tile).int() + (1 << 16)) >> 17)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(("preset", "tile", "most"), [("fast", 16, 3), ("balanced", 12, 3), ("oracle", 16, 2)])
def test_a_gpu_writes_the_same_streams(
    preset: str, tile: int, most: int, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(5)
    pictures = []
    for height, width in ((tile + 5, 2 * tile - 3), (2 * tile - 3, tile + 5)):
        y, x = torch.arange(height)[:, None], torch.arange(width)
        wave = torch.sin(x * 0.9 + y * 0.2) * 90 * (y > height // 3) + torch.randn((height, width), generator=draw) * 20
        pictures.append((128 + wave).clamp(0, 255).to(torch.uint8)[None])
    cfg = CodecConfig.preset(
        preset, tile=tile, residual=False, candidates=150, max_layers=most, lambda_rd=0.02, device=str(device)
    )
    found = [one["bitstream"] for one in encode_many(pictures, cfg)]
    monkeypatch.undo()
    expected = [one["bitstream"] for one in encode_many(pictures, replace(cfg, device="cpu"))]
    assert found == expected
    assert min(map(len, found)) > 60


class OnGpu(Scorer):
    """Takes the way of a GPU wherever its tiles lie."""

    def _gpu(self, e: torch.Tensor) -> Any:
        return triton


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
        costs.added_rows = lambda layer, _most: costs.rows(layer)
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


@pytest.mark.parametrize("tile", [4, 12, 16, 32, 64])
def test_tiles_are_packed_alike(tile: int, device: torch.device) -> None:
    loops, fused = scorers(tile, 0.7, 0.75, device)
    e, _, cls = tiles(tile)
    e[7] = -SAMPLE_MAX
    for side in {min(tile, 32), min(tile, 32) // 2}:
        packed, price = fused.packed(e.to(device), cls.to(device), side)
        expected = loops.packed(e, cls, side)
        assert torch.equal(packed.cpu(), expected[0])
        assert torch.equal(price.cpu(), expected[1])


@pytest.mark.parametrize("drawn", [False, True])
def test_bank_rows_are_scored_where_they_lie(drawn: bool, device: torch.device) -> None:
    loops, fused = scorers(16, 0.7, 0.75, device)
    e, x, cls = tiles(16)
    draw = torch.Generator().manual_seed(3)
    rows = torch.randint(-1, ROWS, (len(e), 6), generator=draw)
    patterns = loops.bank.pixels.to(torch.int32) * 200
    rms = patterns.double().square().mean(dim=1).sqrt().to(torch.int32)
    for scorer in (loops, fused):
        place = scorer.bank.pixels.device
        scorer.bank = replace(scorer.bank, drawn=patterns.to(torch.int16).to(place), drawn_rms=rms.to(place))
    address = loops.costs.added_rows(0, 1)
    own = torch.arange(rows.numel()).view(rows.shape)
    at = rows.clamp(min=0)
    store = (patterns >> DROP).to(torch.int16) if drawn else loops.bank.pixels
    power = rms.double() / (1 << DROP) if drawn else loops.bank.rms
    given = Patterns(store[at.flatten()], own, torch.where(rows >= 0, power[at], 0.0))
    change, level = loops.exact(e, x, cls, given, address[at], 0)
    for scorer in (loops, fused):
        place = scorer.bank.pixels.device
        found = scorer.exact_rows(*(t.to(place) for t in (e, x, cls, rows)), 0, drawn=drawn)
        assert torch.equal(found[0].cpu(), change)
        assert torch.equal(found[1].cpu(), level)


def test_screening(device: torch.device) -> None:
    loops, fused = scorers(16, 0.7, 0.75, device)
    e, _, cls = tiles(16)
    wide = torch.arange(ROWS).expand(len(e), -1).clone()
    wide[:, 11] = -1
    found = fused._finer(wide.to(device), e.to(device), cls.to(device), 0, 9)
    assert torch.equal(found.cpu(), loops._finer(wide, e, cls, 0, 9))
