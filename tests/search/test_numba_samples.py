"""A CPU's compiled loops over samples do what tensor operations do, on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pc15 import CodecConfig
from pc15.draw import amplitude_q15
from pc15.encoder import encode
from pc15.proc.registry import coefficient
from pc15.quant import step_q15
from pc15.runtime.parallel import parallel_range, reserved_threads
from pc15.search.backend import fused, numba_samples
from pc15.search.blend_state import Canvas
from pc15.search.dc_surfaces import Bases
from pc15.search.plane import turn_groups
from pc15.search.score import SAMPLE_ONE, Windows
from pc15.tiling import Stack, TileGridCfg, axis_weights, stacks


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """That many for torch, and so for loops, however little there is to do."""
    monkeypatch.setattr(numba_samples, "_LEAST", 1)
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(usual)


def parts_and_windows(tile: int) -> tuple[list[Stack], Windows]:
    """Two planes of different sizes in tiles, the second narrower than a tile."""
    overlap = tile // 3
    grid = TileGridCfg(size=tile, overlap=overlap)
    cfg = CodecConfig.preset("fast", tile=tile, overlap=overlap)
    parts = stacks([(9 * tile, 7 * tile + 1), (2 * tile + 1, tile - 2)], grid)
    ways = [[axis_weights(side, grid) for side in (p.grid.H, p.grid.W)] for p in parts]
    return parts, Windows.joined([(Windows.of_grid(*way, cfg, blended=True), 1) for way in ways])


@pytest.mark.parametrize("tile", [4, 13])
@pytest.mark.usefixtures("threads")
def test_pictures_change_as_they_do_in_tensor_operations(tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(tile)
    parts, windows = parts_and_windows(tile)
    planes = [torch.randint(0, SAMPLE_ONE, (p.grid.H, p.grid.W), generator=draw, dtype=torch.int32) for p in parts]
    base = torch.randint(0, SAMPLE_ONE, (parts[-1].samples.stop,), generator=draw, dtype=torch.int32)
    groups = [torch.tensor(group) for group in turn_groups(parts[0].grid)]
    groups.append(torch.tensor([parts[1].tiles.start]))
    strong = [torch.randint(-20000, 20000, (len(g), tile, tile), generator=draw, dtype=torch.int32) for g in groups]

    def states() -> list[torch.Tensor]:
        canvas, out = Canvas(planes, parts, windows), []
        canvas.set_base(base)
        for at, big in zip(groups, strong, strict=True):
            small = big // 37
            canvas.put(at, big)
            canvas.add(at, small)
            canvas.add(at, small * 2, small)
            e = canvas.look(at)
            canvas.show(e, windows.of[at], small.transpose(1, 2), -1)
            out += [e, canvas.samples(at), canvas.rest()]
        return [*out, canvas.look(torch.arange(parts[-1].tiles.stop)), canvas.look(groups[0][:0])]

    found = states()
    monkeypatch.setattr(fused, "loops_on", lambda _device: None)
    for own, wanted in zip(found, states(), strict=True):
        assert torch.equal(own, wanted)


@pytest.mark.parametrize("tile", [4, 13])
@pytest.mark.usefixtures("threads")
def test_knots_lead_where_the_surfaces_adjoint_does(tile: int) -> None:
    draw = torch.Generator().manual_seed(tile)
    parts, _ = parts_and_windows(tile)
    bases = Bases(parts, 24)
    bases.draw(torch.randint(0, 60, (parts[-1].tiles.stop,), generator=draw))
    rest = torch.randint(-9000, 9000, (parts[-1].samples.stop,), generator=draw, dtype=torch.int32)
    mine = torch.rand((parts[-1].tiles.stop,), generator=draw) < 0.7
    drawn = bases._drawn
    gradient = torch.cat([one.adjoint(part.of(rest)) for one, part in zip(drawn, parts, strict=True)])
    norm = torch.cat([one.norms() for one in drawn])
    found = bases.slopes(rest, mine)
    assert torch.equal(found[0], torch.where(mine, gradient, 0))
    assert torch.equal(found[1], torch.where(mine, norm, 0))


@pytest.mark.parametrize("kind", [torch.int16, torch.int32])
def test_what_layers_add(kind: torch.dtype) -> None:
    draw = torch.Generator().manual_seed(1)
    store = torch.randint(-32767, 32768, (30, 81), generator=draw, dtype=torch.int32).to(kind)
    rms = torch.randint(0, 20000, (30,), generator=draw, dtype=torch.int32)
    at, amp = torch.randint(0, 30, (60,), generator=draw), torch.randint(-255, 256, (60,), generator=draw)
    factor = coefficient(amplitude_q15(amp, 24), rms[at]).view(-1, 1, 1)
    expected = (factor * store[at].view(-1, 9, 9).int() + (1 << 16)) >> 17
    assert torch.equal(numba_samples.contributions(store, rms, at, amp, step_q15(24), 9), expected)
    every = numba_samples.contributions(store[at].view(-1, 9, 9), rms[at], None, amp, step_q15(24), 9)
    assert torch.equal(every, expected)


def test_a_range_is_worked_through_once_and_torch_gets_its_threads_back(threads: int) -> None:
    done = torch.zeros(100, dtype=torch.int64)

    def work(start: int, stop: int, step: int) -> None:
        assert torch.get_num_threads() == 1
        done[start:stop] += step

    with reserved_threads() as size:
        assert size == threads
        with reserved_threads() as inside:
            assert inside == threads
        parallel_range(work, 100, 2)
    assert torch.equal(done, torch.full((100,), 2))
    parallel_range(work, 100, 3)
    assert torch.equal(done, torch.full((100,), 5))
    assert torch.get_num_threads() == threads
    with pytest.raises(ZeroDivisionError):
        parallel_range(lambda start, _stop: 1 // start, 100)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("preset", ["fast", "balanced"])
def test_threads_write_the_same_stream(preset: str) -> None:
    y, x = torch.arange(90)[:, None], torch.arange(130)
    noise = torch.randn((90, 130), generator=torch.Generator().manual_seed(3)) * 25
    picture = (128 + torch.sin(x * 0.4 + y * 0.1) * 70 + noise).clamp(0, 255).to(torch.uint8)[None]
    cfg = CodecConfig.preset(preset, tile=16, overlap=4, residual=False, max_layers=4, lambda_rd=0.1, device="cpu")
    usual, found = torch.get_num_threads(), []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        found.append(encode(picture, cfg)["bitstream"])
    torch.set_num_threads(usual)
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 100
