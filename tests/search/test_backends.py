"""Every backend computes what tensor operations do, to the last bit; Triton's kernels are interpreted without a GPU."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from pc15 import CodecConfig
from pc15.blend_weights import axis_weights
from pc15.encoder import encode, encode_many
from pc15.grids import Stack, TileGridCfg, stacks
from pc15.quant import step_q15
from pc15.search import backend
from pc15.search.backend import backend_of, numba_ops, numba_samples, torch_ops
from pc15.search.backend.protocol import (
    Backend,
    BankTerms,
    CellRows,
    DrawnLayers,
    Patterns,
    TileBatch,
    TileLayers,
    TileTerms,
)
from pc15.search.backend.sort_keys import Terms
from pc15.search.bank import Bank
from pc15.search.beam import Beam
from pc15.search.blend_state import Canvas
from pc15.search.cost import AMP_SEARCHED
from pc15.search.dc_surfaces import DcSurfaces
from pc15.search.expansion import energy_terms
from pc15.search.score import DROP, SAMPLE_ONE, Scorer
from pc15.search.turns import turn_groups
from pc15.search.windows import W_ONE, Surroundings, Windows
from pc15.tiling import SAMPLE_MAX

CPU = torch.device("cpu")
CUDA = torch.cuda.is_available()
NAMES = ["numba", "triton", *(["torch"] if CUDA else [])]
ROWS = 30
SIDES = [4, 8, 12, 16, 17, 20, 22, 30, 32, 48, 64, 160]


class Way(NamedTuple):
    """A backend and where its tensors lie."""

    ops: Backend
    device: torch.device

    def moved(self, *tensors: Tensor) -> list[Tensor]:
        """Tensors on its device."""
        return [each.to(self.device) for each in tensors]


REFERENCE = Way(torch_ops, CPU)


def triton_ops() -> Backend:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("needs triton")
    from pc15.search.backend.triton import ops

    return ops


@pytest.fixture(params=NAMES)
def way(request: pytest.FixtureRequest) -> Way:
    """Each backend but the reference on a CPU."""
    if request.param == "numba":
        return Way(numba_ops, CPU)
    ops = triton_ops() if request.param == "triton" else torch_ops
    return Way(ops, torch.device("cuda" if CUDA else "cpu"))


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three for loops, however little there is to do."""
    monkeypatch.setattr(numba_samples, "_LEAST", 1)
    usual = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(usual)


def chosen(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything that asks for a backend get this one."""
    monkeypatch.setattr(backend, "numba_ops", way.ops)
    monkeypatch.setattr(backend, "_on_cuda", lambda: way.ops)


def equal(found: Any, wanted: Any) -> None:
    """Compare tensors, or tuples and lists of them."""
    if isinstance(wanted, Tensor):
        assert found.dtype == wanted.dtype
        assert torch.equal(found.cpu(), wanted)
        return
    for own, other in zip(found, wanted, strict=True):
        equal(own, other)


def test_a_device_has_a_backend() -> None:
    assert backend_of(CPU) is numba_ops
    if importlib.util.find_spec("triton") is not None:
        assert backend_of(torch.device("cuda")) is triton_ops()


def test_a_gpu_without_triton_is_searched_in_tensor_operations(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in [name for name in sys.modules if name.startswith("pc15.search.backend.triton")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(backend, "triton", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    with caplog.at_level("INFO"):
        assert backend._on_cuda.__wrapped__() is torch_ops
    assert "no Triton" in caplog.text


def test_a_cpu_never_loads_triton() -> None:
    code = """
import sys, torch, pc15
cfg = pc15.CodecConfig.preset("fast", tile=16, max_layers=2, device="cpu")
pc15.encode_y(torch.rand((1, 1, 24, 24)), cfg)
print([name for name in sys.modules if name.split(".")[0] == "triton" or "backend.triton" in name])
"""
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "[]"


# ---------------------------------------------------------------- every candidate


def bank_terms(draw: torch.Generator, rows: int, length: int, weights: int) -> BankTerms:
    """Patterns of noise, one of them flat."""
    pixels = torch.randint(-127, 128, (rows, length), generator=draw, dtype=torch.int8)
    energies = torch.randint(0, 128, (rows, weights), generator=draw, dtype=torch.int8)
    scale = torch.rand((2, rows), generator=draw)
    pixels[3], energies[3], scale[:, 3] = 0, 1, 0.0
    return BankTerms(pixels, energies, scale)


def tile_terms(draw: torch.Generator, n: int, length: int, weights: int) -> TileTerms:
    """Tiles of noise; nothing is left to draw of one, so that all that is left of its scores is bits."""
    rows = torch.randint(-127, 128, (n, length), generator=draw, dtype=torch.int8)
    rows[1] = 0
    place = torch.randint(0, 2, (n,), generator=draw)
    own = torch.randint(1, 128, (n, 2, weights // 2), generator=draw, dtype=torch.int8)
    own[torch.arange(n), 1 - place] = 0
    return TileTerms(rows, own.flatten(1), place, torch.rand(n, generator=draw))


@pytest.mark.parametrize(("side", "m", "keep"), [(4, 1, 1), (8, 9, 4), (13, 21, 21), (16, 17, 3), (32, 12, 5)])
@pytest.mark.parametrize("weights", [4, 64])
def test_ranking_again(side: int, m: int, keep: int, weights: int, way: Way) -> None:
    draw = torch.Generator().manual_seed(side)
    n, bank, lists = 23, bank_terms(draw, ROWS, side * side, weights), 4
    for part in bank[:2]:
        part[6] = part[5]
    bank.scale[:, 6] = bank.scale[:, 5]
    rows = torch.stack([torch.randperm(ROWS, generator=draw)[:m] for _ in range(lists)])
    rows[torch.rand(rows.shape, generator=draw) < 0.2] = -1
    own, bits = tile_terms(draw, n, side * side, weights), torch.rand(ROWS, generator=draw) * 4000
    bits[6] = bits[5]
    of = torch.sort(torch.randint(0, lists, (n,), generator=draw)).values

    def found(at: Way) -> Tensor:
        given, lists_of, costs = at.moved(rows, of, bits)
        return at.ops.ranked(given, lists_of, BankTerms(*at.moved(*bank)), costs, TileTerms(*at.moved(*own)), keep)

    equal(found(way), found(REFERENCE))


@pytest.mark.parametrize(("tile", "overlap", "side"), [(4, 0, 4), (16, 4, 16), (20, 5, 10), (24, 6, 12), (32, 8, 16),
                                                       (64, 16, 32), (39, 3, 32)])  # fmt: skip
@pytest.mark.parametrize("blended", [True, False])
def test_energies(tile: int, overlap: int, side: int, blended: bool, way: Way) -> None:
    draw = torch.Generator().manual_seed(side)
    around = Surroundings(tile, overlap, "hann", None, 0.0, blended)
    pixels = torch.randint(-127, 128, (2100, side * side), generator=draw, dtype=torch.int8)
    pixels[7], pixels[8] = 0, 1
    expected = torch_ops.energies(pixels, energy_terms(around, side, CPU))
    equal(way.ops.energies(*way.moved(pixels), energy_terms(around, side, way.device)), expected)
    energies, scale = expected
    assert (energies[7] == 1).all() and (scale[:, 7] == 0).all()
    half = energies.shape[1] // 2
    assert (energies[:, :half].amax(dim=1)[8:] == 127).all() and (energies[:, half:].amax(dim=1)[8:] == 127).all()
    if tile % side:
        return
    # all regions together are the whole of the energy, of a tile alone
    whole = energies[:, half:].double().sum(dim=1) / scale[1].double().clamp(min=1e-9) / W_ONE
    boxes = (tile / side) ** 2
    assert torch.allclose(whole[8:], pixels[8:].double().square().sum(dim=1) * boxes, rtol=0.05)


@pytest.mark.parametrize(
    ("count", "keep"),
    [(37, 1), (37, 7), (64, 128), (64, 300), (1500, 1), (1500, 2), (1500, 64), (1500, 128), (1500, 300)],
)
def test_candidates_are_the_best_of_all_blocks_of_products(count: int, keep: int, way: Way) -> None:
    draw = torch.Generator().manual_seed(count)
    first, n, rows = 11, 4, count + 40
    product = torch.randint(-(1 << 20), 1 << 20, (n, count), generator=draw, dtype=torch.int32)
    curve = torch.randint(127, 1 << 20, (n, count), generator=draw, dtype=torch.int32)
    scale, place = torch.rand((2, rows), generator=draw) * 1e-4, torch.tensor([0, 1, 1, 0])
    bits, price = torch.rand(rows, generator=draw) * 4000, torch.rand(n, generator=draw)
    few = torch.randint(0, count, (count // 2,), generator=draw)
    product[:, few], curve[:, few], scale[:, first + few], bits[first + few] = product[:, :1], 500, 1.0, 9.0  # ties
    product[3], price[3] = 0, 0.0  # nothing but ties

    def found(own: Way) -> Tensor:
        best = own.ops.best_of(n, keep, own.device)
        for start, stop, tiles in ((0, count // 2, None), (count // 2, count, torch.tensor([3, 0, 2]))):
            parts = [each[:, start:stop] if tiles is None else each[tiles, start:stop] for each in (product, curve)]
            given = scale, bits, *((place, price) if tiles is None else (place[tiles], price[tiles]))
            at = None if tiles is None else tiles.to(own.device)
            if own.ops is numba_ops:
                parts = [part.to(torch.float32).contiguous() for part in parts]
            best.merge(at, *own.moved(*parts), Terms(*own.moved(*given)), first + start)
        return best.rows

    equal(found(way), found(REFERENCE))


# ---------------------------------------------------------------- cells and nets


@pytest.mark.parametrize(
    ("length", "kind"), [(64, torch.int8), (64, torch.int16), (256, torch.int8), (100, torch.int8)]
)
@pytest.mark.parametrize("keep", [1, 7, 40, 700])
@pytest.mark.usefixtures("threads")
def test_the_best_in_cells(length: int, kind: torch.dtype, keep: int, way: Way) -> None:
    draw = torch.Generator().manual_seed(length + keep)
    rows, cells, n = 600, 40, 23
    bank = bank_terms(draw, rows, length, 64)
    of = torch.randint(0, cells - 3, (rows,), generator=draw)  # some cells are empty
    bits = torch.rand(rows, generator=draw) * 4000
    for part in (*bank[:2], bits):
        part[500:520] = part[7]  # ties across cells
    bank.scale[:, 500:520] = bank.scale[:, 7:8]
    own = tile_terms(draw, n, length, 64)
    top = 127 if kind == torch.int8 else 2047
    packed = torch.randint(-top, top + 1, (n, length), generator=draw).to(kind)
    packed[1] = 0
    own = TileTerms(packed, own.weights, own.place, own.price * 1e-1)
    chosen = torch.stack([torch.randperm(cells, generator=draw)[:9] for _ in range(n)])
    chosen[torch.rand(chosen.shape, generator=draw) < 0.2] = -1
    chosen[2], chosen[3, 1:] = -1, -1
    grouped = CellRows.of_cells(of, cells, bank)

    def found(at: Way) -> Tensor:
        members = CellRows(*at.moved(grouped.rows, grouped.start), BankTerms(*at.moved(*grouped.terms)))
        given = at.moved(chosen, bits)
        return at.ops.best_in_cells(given[0], members, given[1], TileTerms(*at.moved(*own)), keep)

    expected = found(REFERENCE)
    equal(found(way), expected)
    assert (expected[2] == -1).all()
    for tile in range(n):
        mine = expected[tile][expected[tile] >= 0]
        inside = torch.isin(of, chosen[tile][chosen[tile] >= 0])
        assert len(mine.unique()) == len(mine) == min(keep, int(inside.sum()))
        product, curve = (
            (patterns.double() @ part[tile].double()).float()
            for patterns, part in ((bank.pixels, own.rows), (bank.energies, own.weights))
        )
        score = (product * product) * bank.scale[own.place[tile]] / curve - own.price[tile] * bits
        wanted = torch.sort(torch.where(inside, score, -torch.inf), descending=True, stable=True).indices[: len(mine)]
        assert torch.equal(mine, wanted)


@pytest.mark.parametrize("kind", ["abs", "relu", "answer"])
@pytest.mark.parametrize("whole", [torch.int32, torch.float32])
@pytest.mark.usefixtures("threads")
def test_activations(kind: str, whole: torch.dtype, way: Way) -> None:
    draw = torch.Generator().manual_seed(3)
    product = torch.randint(-(1 << 24), (1 << 24) + 1, (50, 37), generator=draw, dtype=torch.int32)
    product[:, :9] >>= 16
    product[0] = 0
    factor = torch.randint(1, 1 << 31, (37,), generator=draw).to(torch.int32)
    factor[::2] >>= 12
    factor[1], factor[3] = -(1 << 31), (1 << 31) - 1  # of weights that nobody trained
    bias = torch.randint(-(1 << 31), 1 << 31, (37,), generator=draw).to(torch.int32)
    bias[::3] >>= 24
    given = product.to(whole), factor, bias
    wanted = torch_ops.activated(*given, kind)
    exact = [
        ((int(p) * int(f) + (1 << 19)) >> 20) + int(b)
        for p, f, b in zip(product[5].tolist(), factor.tolist(), bias.tolist(), strict=True)
    ]
    bounds = {"answer": lambda y: max(-(2**24 - 1), min(2**24 - 1, y)), "abs": lambda y: min(abs(y), 127),
              "relu": lambda y: min(max(y, 0), 127)}  # fmt: skip
    assert wanted[5].tolist() == [bounds[kind](y) for y in exact]
    equal(way.ops.activated(*way.moved(*given), kind), wanted)
    equal(way.ops.activated(*way.moved(*(t[:0] if t is given[0] else t for t in given)), kind), wanted[:0])


@pytest.mark.parametrize(("cells", "keep"), [(5, 1), (5, 9), (300, 16), (2048, 32)])
@pytest.mark.usefixtures("threads")
def test_the_likeliest_cells(cells: int, keep: int, way: Way) -> None:
    draw = torch.Generator().manual_seed(cells)
    n = 19
    answers = torch.randint(-2000, 2000, (n, cells + 1), generator=draw, dtype=torch.int32)
    answers[:, -1] = torch.arange(-9, n - 9)
    product = torch.randint(-(1 << 21), 1 << 21, (n, cells), generator=draw, dtype=torch.int32)
    product[1], answers[2, :-1], product[2] = 0, 7, 5  # nothing alike; nothing but ties
    curve = torch.randint(127, 1 << 20, (n, cells), generator=draw, dtype=torch.int32)
    scale = torch.rand((2, cells), generator=draw) * 1e-6
    scale[:, 1] = 0.0
    scale[:, 2:] = torch.where(torch.rand(cells - 2, generator=draw) < 0.1, 1e-7, scale[:, 2:])
    place, price = torch.randint(0, 2, (n,), generator=draw), torch.rand(n, generator=draw)
    gain = torch.randint(-64, 64, (cells,), generator=draw, dtype=torch.int32)
    gain[2] = (1 << 31) - 1

    def found(own: Way, least: int) -> Tensor:
        given, terms = own.moved(answers, product, curve, gain), own.moved(scale, torch.zeros(cells), place, price)
        return own.ops.likeliest_cells(*given[:3], Terms(*terms), given[3], least, keep)

    for least in (-(1 << 24), 0, 1 << 24):
        wanted = found(REFERENCE, least)
        assert wanted.shape == (n, min(keep, cells))
        assert ((wanted == -1).all(dim=1) == (answers[:, -1] < least)).all()
        assert all(len(set(own)) == len(own) for own in wanted.tolist() if own[0] >= 0)
        equal(found(way, least), wanted)


def test_kernels_leave_nets_to_tensor_operations() -> None:
    ops = triton_ops()
    for name in ("activated", "likeliest_cells"):
        assert getattr(ops, name) is getattr(torch_ops, name)
        assert name in ops.__all__  # type: ignore[attr-defined]


# ---------------------------------------------------------------- choices


@pytest.mark.parametrize(("m", "keep"), [(1, 1), (5, 5), (16, 2), (300, 3), (1100, 2)])
def test_the_lowest_come_first_and_ties_in_order(m: int, keep: int, way: Way) -> None:
    draw = torch.Generator().manual_seed(m)
    cost = torch.randint(-3, 4, (37, m), generator=draw).to(torch.float64)
    cost[torch.rand(cost.shape, generator=draw) < 0.3] = float("inf")
    cost[3] = float("inf")
    index = torch_ops.lowest(cost, keep)
    assert torch.equal(index, torch.sort(cost, dim=1, stable=True).indices[:, :keep])
    equal(way.ops.lowest(*way.moved(cost), keep), index)
    equal(way.ops.lowest(*way.moved(cost), 1), index[:, :1])
    level, rows = (torch.randint(-1, 9, cost.shape, generator=draw) for _ in range(2))
    given = cost, level, rows, torch.randint(0, 99, (9, 4), generator=draw)
    fields, levels, change = torch_ops.pick(*given, 12, keep)
    assert not fields[:, 4:].any()
    equal(way.ops.pick(*way.moved(*given), 12, keep), (fields, levels, change))


@pytest.mark.parametrize("width", [1, 2, 5])
def test_beams_keep_the_best_offers(width: int, way: Way) -> None:
    draw = torch.Generator().manual_seed(width)
    owners = torch.arange(90).repeat_interleave(torch.randint(0, width + 1, (90,), generator=draw))
    j = torch.rand(len(owners), generator=draw, dtype=torch.float64).mul(4).round()
    change = torch.rand((len(owners), 3), generator=draw, dtype=torch.float64).mul(4).round() - 2
    base = torch.full((90,), 1.0, dtype=torch.float64)

    rows = torch.randint(0, 4, (change.numel(),), generator=draw)
    before = torch.randint(0, 2, (len(owners),), generator=draw)

    def found(own: Way) -> tuple[Tensor, ...]:
        beam = Beam(base.clone().to(own.device), own.ops)
        beam.sets = before.to(own.device)
        every, kept = beam.extend(*own.moved(owners, j, change, rows), width, 3)
        return every, kept, *beam.leads, beam.sets

    expected = found(REFERENCE)
    equal(found(way), expected)
    assert 0 < len(expected[1]) < change.numel()
    assert len(expected[3].unique()) == 2
    every, kept = expected[0].tolist(), expected[1].tolist()
    for tile in range(90):
        own = [at for at, owner in enumerate(owners.repeat_interleave(3).tolist()) if owner == tile]
        ends: dict[tuple[int, int], int] = {}
        for at in sorted((at for at in own if change.flatten()[at] < 0), key=lambda at: (every[at], at)):
            ends.setdefault((int(before[at // 3]), int(rows[at])), at)
        assert [at for at in kept if at in own] == list(ends.values())[:width]


def test_programs_are_one_in_any_order() -> None:
    beam = Beam(torch.ones(1, dtype=torch.float64), REFERENCE.ops)
    none, two = torch.zeros(1, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
    change = torch.tensor([[-0.2, -0.1]], dtype=torch.float64)
    every, kept = beam.extend(none, beam.leads.j, change, torch.tensor([5, 9]), 2, 0)
    change = torch.tensor([[-0.3, -0.2], [-0.41, -0.05]], dtype=torch.float64)  # 5 then 9, 5 then 7, 9 then 5, ...
    every, kept = beam.extend(two, every[kept], change, torch.tensor([9, 7, 5, 5]), 2, 1)
    assert kept.tolist() == [2, 1]


# ---------------------------------------------------------------- the picture so far


def parts_and_windows(tile: int, device: torch.device) -> tuple[list[Stack], Windows]:
    """Planes of four sizes in tiles, two of one, one of them narrower than a tile."""
    overlap = tile // 3
    grid = TileGridCfg(size=tile, overlap=overlap)
    cfg = CodecConfig.preset("fast", tile=tile, overlap=overlap)
    sizes = [
        (3 * tile, 2 * tile + 1),
        (tile - 3, tile),
        (3 * tile, 2 * tile + 1),
        (2 * tile, tile),
        (tile + 1, tile - 2),
    ]
    parts = stacks(sizes, grid)
    ways = [[axis_weights(side, grid).to(device) for side in (p.grid.H, p.grid.W)] for p in parts]
    return parts, Windows.joined(
        [(Windows.of_grid(*way, cfg, blended=True), p.planes) for way, p in zip(ways, parts, strict=True)]
    )


@pytest.mark.parametrize("tile", [4, 13, 40])
@pytest.mark.usefixtures("threads")
def test_pictures_change_as_tiles_do(tile: int, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(tile)
    parts, _ = parts_and_windows(tile, CPU)
    planes = {i: (p.grid.H, p.grid.W) for p in parts for i in p.members}
    pictures = [torch.randint(0, SAMPLE_ONE, planes[i], generator=draw, dtype=torch.int32) for i in range(len(planes))]
    base = torch.randint(0, SAMPLE_ONE, (parts[-1].samples.stop,), generator=draw, dtype=torch.int32)
    groups = [*turn_groups(parts[0].grid)[:2], [parts[-1].tiles.start]]
    strong = [torch.randint(-20000, 20000, (len(g), tile, tile), generator=draw, dtype=torch.int32) for g in groups]
    weak = [one // 37 for one in strong]

    def states(own: Way) -> list[Tensor]:
        chosen(own, monkeypatch)
        place = own.device
        cut, windows = parts_and_windows(tile, place)
        canvas = Canvas(own.moved(*pictures), cut, windows)
        canvas.set_base(base.to(place))
        out = []
        for group, big, small in zip(groups, strong, weak, strict=True):
            at, of = torch.tensor(group, device=place), windows.class_of_tile[torch.tensor(group, device=place)]
            canvas.put(at, big.to(place))
            canvas.add(at, small.to(place))
            canvas.add(at, small.to(place) * 2, small.to(place))
            e = canvas.look(at)
            canvas.show(e, of, big.to(place).clamp(-SAMPLE_MAX, SAMPLE_MAX), 1)
            canvas.show(e[:1], of[:1], small[:1].to(place).transpose(1, 2), -1)
            out += [e.cpu(), canvas.samples(at).cpu(), canvas.rest().cpu()]
        every = torch.arange(parts[-1].tiles.stop, device=place)
        return [*out, canvas.look(every).cpu(), canvas.look(every[:0]).cpu()]

    equal(states(way), states(REFERENCE))


@pytest.mark.parametrize("tile", [4, 13, 24])
@pytest.mark.usefixtures("threads")
def test_bases_move_with_their_dc_levels(tile: int, way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(tile)
    parts, _ = parts_and_windows(tile, CPU)
    dc = torch.randint(0, 60, (parts[-1].tiles.stop,), generator=draw)
    dc[::2] = dc[0]  # some differ little, some much
    rest = torch.randint(-9000, 9000, (parts[-1].samples.stop,), generator=draw, dtype=torch.int32)
    mine = torch.rand(dc.shape, generator=draw) < 0.7

    def found(own: Way) -> list[Tensor]:
        chosen(own, monkeypatch)
        bases = DcSurfaces(parts, 24, own.device)
        drawn = bases.draw(dc.to(own.device))
        return [drawn, *(part.cpu()[mine] for part in bases.slopes(*own.moved(rest, mine)))]

    equal(found(way), found(REFERENCE))


@pytest.mark.parametrize("kind", [torch.int16, torch.int32])
@pytest.mark.parametrize("tile", [4, 13, 40])
@pytest.mark.usefixtures("threads")
def test_what_layers_add(tile: int, kind: torch.dtype, way: Way) -> None:
    draw = torch.Generator().manual_seed(tile)
    store = torch.randint(-32767, 32768, (ROWS, tile * tile), generator=draw, dtype=torch.int32).to(kind)
    rms = torch.randint(0, 20000, (ROWS,), generator=draw, dtype=torch.int32)
    rms[:4] = torch.tensor([0, 63, 64, 65])
    fields = torch.randint(0, ROWS, (60, 12), generator=draw)
    fields[:4, 0] = torch.arange(4)
    amp = torch.randint(-AMP_SEARCHED, AMP_SEARCHED + 1, (60,), generator=draw)

    def found(own: Way) -> tuple[Tensor, Tensor]:
        there, power, rows, level = own.moved(store, rms, fields, amp)
        step = step_q15(24)
        square = there[:9].view(-1, tile, tile)
        return (
            own.ops.contributions(DrawnLayers(there, power, rows[:, 0], level, step), tile),
            own.ops.contributions(DrawnLayers(square, power[:9], None, level[:9], step), tile),
        )

    equal(found(way), found(REFERENCE))


@pytest.mark.parametrize("tile", [4, 13])
@pytest.mark.usefixtures("threads")
def test_layers_are_taken_out_of_what_is_left(tile: int, way: Way) -> None:
    draw = torch.Generator().manual_seed(tile)
    store = torch.randint(-32767, 32768, (ROWS, tile * tile), generator=draw, dtype=torch.int32).to(torch.int16)
    rms = torch.randint(0, 20000, (ROWS,), generator=draw, dtype=torch.int32)
    e = torch.randint(-9000, 9000, (7, tile, tile), generator=draw, dtype=torch.int32)
    own = torch.randint(0, 1 << 16, (3, tile, tile), generator=draw, dtype=torch.int32)
    of, cls, at = (torch.randint(0, most, (20,), generator=draw) for most in (7, 3, ROWS))
    amp = torch.randint(-AMP_SEARCHED, AMP_SEARCHED + 1, (20,), generator=draw)

    def found(there: Way) -> tuple[Tensor, Tensor]:
        left, which, place, weight, drawn, power, rows, level = there.moved(e, of, cls, own, store, rms, at, amp)
        layers = DrawnLayers(drawn, power, rows, level, step_q15(24))
        of_rows = there.ops.without(left, which, place, weight, layers)
        square = drawn[:20].to(torch.int32).view(-1, tile, tile)
        layers = DrawnLayers(square, power[:20], None, level, step_q15(24))
        in_order = there.ops.without(left, which, place, weight, layers)
        equal(left, e)
        return of_rows, in_order

    equal(found(way), found(REFERENCE))


# ---------------------------------------------------------------- a few, exactly


def scorer_of(way: Way, tile: int, alpha: float, seam: float) -> Scorer:
    """A scorer with a bank of noise and nine places of tiles in a grid."""
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
    drawn = pixels.to(torch.int32) * 200
    power, drawn_rms = (each.double().square().mean(dim=1).sqrt() for each in (pixels, drawn))
    amplitudes = torch.randint(100, 9000, (2, AMP_SEARCHED + 1), generator=draw, dtype=torch.int32)
    bits = torch.randint(500, 9000, (ROWS,), generator=draw, dtype=torch.int32)
    place = way.device
    zero = torch.zeros(ROWS, dtype=torch.int64, device=place)
    bank = Bank(
        drawn.to(torch.int16).to(place), drawn_rms.to(torch.int32).to(place), pixels.to(place), zero, zero, zero,
        (0, ROWS), power.to(place), tile, "drawn here",
    )  # fmt: skip
    costs: Any = SimpleNamespace(amplitudes=lambda _layer: amplitudes.to(place), rows=lambda _layer: bits.to(place))
    costs.added_rows = lambda layer, _most: costs.rows(layer)
    dearer = torch.arange(9, dtype=torch.int32, device=place)
    costs.stacked = lambda _most: (
        bits.to(place) + 90 * dearer[:, None], amplitudes.to(place) + 40 * dearer[:, None, None]
    )  # fmt: skip
    windows = Windows.of_grid(weights.to(place), weights.to(place), cfg, blended=True)
    return Scorer(cfg, bank, windows, costs, 24, way.ops)


def tiles(tile: int) -> tuple[Tensor, Tensor, Tensor]:
    """What is left to draw of twelve tiles, the tiles, their classes: noise of all strengths, and nothing."""
    draw = torch.Generator().manual_seed(tile + 1)
    x = torch.randint(0, SAMPLE_ONE + 1, (12, tile, tile), generator=draw, dtype=torch.int32)
    e = (torch.randn(x.shape, generator=draw) * torch.logspace(-1, 3, 12)[:, None, None]).round().to(torch.int32)
    e[3], x[5], x[6], e[6] = 0, 0, SAMPLE_ONE, 0
    return e, x, torch.arange(12) % 9


def patterns_on(way: Way, patterns: Patterns) -> Patterns:
    return Patterns(*way.moved(patterns.store, patterns.at, patterns.rms))


@pytest.mark.parametrize(
    ("tile", "alpha", "kind"),
    [
        *((tile, 0.7, torch.int16) for tile in SIDES),
        *((tile, 0.0, torch.int16) for tile in (16, 22, 64)),
        *((tile, 0.7, torch.int8) for tile in (8, 22)),
    ],
)
def test_exact_scores(tile: int, alpha: float, kind: torch.dtype, way: Way) -> None:
    e, x, cls = tiles(tile)
    if tile > 32 or tile == 17:  # SSIM blocks of a pixel: many, for a kernel without a GPU
        e, x, cls = e[7:9], x[7:9], cls[7:9]
    draw = torch.Generator().manual_seed(7)
    pixels = scorer_of(REFERENCE, tile, alpha, 0.75).bank.pixels
    store = pixels.to(kind) * (1 if kind == torch.int8 else 11)
    store[9] = torch.arange(tile * tile) // (tile * tile // 2) * 2 - 1  # halves
    rms = store.double().square().mean(dim=1).sqrt()
    at = torch.randint(0, ROWS, (len(e), 5), generator=draw)
    at[:, 1] = 9
    strength = torch.arange(len(e), dtype=torch.int32) * torch.tensor([3, -3]).repeat(6)[: len(e)].int()
    e += strength[:, None, None] * pixels[at[:, 0]].view_as(e)
    patterns = Patterns(store, at, torch.where(torch.rand(at.shape, generator=draw) < 0.2, 0.0, rms[at]))
    address = torch.randint(500, 9000, at.shape, generator=draw, dtype=torch.int32)

    @functools.cache
    def scorer(own: Way) -> Scorer:
        return scorer_of(own, tile, alpha, 0.75)

    def found(own: Way, rough: bool) -> tuple[Tensor, Tensor]:
        given = own.moved(e, x, cls), patterns_on(own, patterns), address.to(own.device)
        return scorer(own).exact(*given[0], *given[1:], 0, rough=rough)

    for rough in (False, True) if tile == 16 else (False,):
        expected = found(REFERENCE, rough)
        equal(found(way, rough), expected)
        assert len(expected[1].unique()) > 3


@pytest.mark.parametrize(("tile", "alpha"), [*((tile, 0.7) for tile in SIDES), (16, 0.0), (22, 0.0)])
def test_distortion(tile: int, alpha: float, way: Way) -> None:
    given = tiles(tile)
    found = scorer_of(way, tile, alpha, 0.75).distortion(*way.moved(*given))
    equal(found, scorer_of(REFERENCE, tile, alpha, 0.75).distortion(*given))


def test_no_tiles_at_all_and_none_to_be_scored(way: Way) -> None:
    scorer, (e, x, cls) = scorer_of(way, 16, 0.7, 0.0), way.moved(*tiles(16))
    at = torch.arange(24, device=way.device).view(12, 2)
    patterns, address = Patterns(scorer.bank.pixels, at, scorer.bank.rms[at]), torch.full_like(at, 900).int()
    few = Patterns(patterns.store, at[:0], patterns.rms[:0])
    change, level = scorer.exact(e[:0], x[:0], cls[:0], few, address[:0], 0)
    assert change.shape == level.shape == (0, 2)
    assert scorer.distortion(e[:0], x[:0], cls[:0]).shape == (0,)
    skipped = Patterns(patterns.store[:1], at * 0, patterns.rms * 0)  # nothing was drawn
    assert torch.isinf(scorer.exact(e, x, cls, skipped, address, 0)[0]).all()


def test_kernels_take_tensors_of_other_layouts_and_kinds() -> None:
    way, (e, x, cls) = Way(triton_ops(), torch.device("cuda" if CUDA else "cpu")), tiles(16)
    plain, scorer = scorer_of(REFERENCE, 16, 0.7, 0.0), scorer_of(way, 16, 0.7, 0.0)
    at = torch.arange(24).view(2, 12).t()
    patterns, address = Patterns(plain.bank.pixels, at, plain.bank.rms[at]), torch.full(at.shape, 900)
    given = way.moved(e.long(), x.transpose(1, 2).contiguous().transpose(1, 2), cls)
    found = scorer.exact(*given, patterns_on(way, patterns), address.to(way.device), 0)
    equal(found, plain.exact(e, x, cls, patterns, address, 0))
    equal(scorer.distortion(*given), plain.distortion(e, x, cls))


@pytest.mark.parametrize("tile", [4, 12, 16, 32, 64])
def test_tiles_are_packed_alike(tile: int, way: Way) -> None:
    e, x, cls = tiles(tile)
    e[7] = -SAMPLE_MAX
    found, expected = (scorer_of(own, tile, 0.7, 0.75) for own in (way, REFERENCE))
    for side in {min(tile, 32), min(tile, 32) // 2, min(tile, 7)}:
        own = found.packed(TileBatch(*way.moved(e, x, cls)), side)
        equal(tuple(own), tuple(expected.packed(TileBatch(e, x, cls), side)))


@pytest.mark.parametrize(("tile", "alpha"), [(4, 0.7), (12, 0.7), (17, 0.7), (16, 0.0), (32, 0.7)])
def test_amplitudes_are_fitted_again(tile: int, alpha: float, way: Way) -> None:
    e, x, cls = tiles(tile)
    few = torch.tensor([8, 9, 10, 7, 11, 3, 6, 0])
    e, x, cls = e[few], x[few], cls[few]
    count = torch.tensor([3, 3, 2, 2, 1, 1, 1, 0])
    draw = torch.Generator().manual_seed(tile)
    rows = torch.randint(0, ROWS, (8, 4), generator=draw)
    e += 5 * scorer_of(REFERENCE, tile, alpha, 0.75).bank.pixels[rows[:, 0]].int().view_as(e)  # more of the first layer
    rows[1, 0] = 4  # flat
    amp = torch.randint(-40, 40, rows.shape, generator=draw) * (torch.arange(4) < count[:, None])

    def found(own: Way) -> tuple[Tensor, Tensor]:
        layers = TileLayers(*own.moved(count, rows, amp))
        return scorer_of(own, tile, alpha, 0.75).refit(TileBatch(*own.moved(e.clone(), x, cls)), layers)

    levels, added = expected = found(REFERENCE)
    equal(found(way), expected)
    assert not levels[:, 3].any()
    assert not levels[1, 0]
    assert (levels != amp).sum() > 2
    assert not added[7].any()
    assert added[0].any()


@pytest.mark.parametrize("drawn", [False, True])
def test_bank_rows_are_scored_where_they_lie(drawn: bool, way: Way) -> None:
    e, x, cls = tiles(16)
    rows = torch.randint(-1, ROWS, (len(e), 6), generator=torch.Generator().manual_seed(3))
    plain = scorer_of(REFERENCE, 16, 0.7, 0.75)
    own, at = torch.arange(rows.numel()).view(rows.shape), rows.clamp(min=0)
    assert plain.bank.drawn is not None
    store = (plain.bank.drawn >> DROP) if drawn else plain.bank.pixels
    power = plain.bank.drawn_rms.double() / (1 << DROP) if drawn else plain.bank.rms
    patterns = Patterns(store[at.flatten()], own, torch.where(rows >= 0, power[at], 0.0))
    expected = plain.exact(e, x, cls, patterns, plain.costs.added_rows(0, 1)[at], 0)
    equal(scorer_of(way, 16, 0.7, 0.75).exact_rows(*way.moved(e, x, cls, rows), 0, drawn=drawn), expected)
    equal(plain.exact_rows(e, x, cls, rows, 0, drawn=drawn), expected)


# ---------------------------------------------------------------- whole streams


@pytest.mark.slow
@pytest.mark.parametrize(("preset", "tile", "most"), [("fast", 16, 2), ("balanced", 8, 2), ("oracle", 8, 2)])
def test_kernels_write_the_same_streams(preset: str, tile: int, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(5)
    pictures = []
    for height, width in ((tile + 5, tile - 3), (tile - 3, tile + 5)):
        y, x = torch.arange(height)[:, None], torch.arange(width)
        wave = torch.sin(x * 0.9 + y * 0.2) * 90 * (y > height // 3) + torch.randn((height, width), generator=draw) * 20
        pictures.append((128 + wave).clamp(0, 255).to(torch.uint8)[None])
    way = Way(triton_ops(), torch.device("cuda" if CUDA else "cpu"))
    cfg = CodecConfig.preset(
        preset, tile=tile, residual=False, candidates=60, max_layers=most, lambda_rd=0.02, device=str(way.device)
    )
    with monkeypatch.context() as patched:
        chosen(way, patched)
        found = [one["bitstream"] for one in encode_many(pictures, cfg)]
    expected = [one["bitstream"] for one in encode_many(pictures, replace(cfg, device="cpu"))]
    assert found == expected
    assert min(map(len, found)) > 30


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
