"""Large tiles: sub-levels refine levels exactly, their steps are coded, and a picture of one pattern becomes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pc15.bench import INCLASS, INCLASS_SSIM
from pc15.bench.inclass import ClassResult, InclassOptions, draw_picture, run_inclass, summarise
from pc15.bench.points import Point
from pc15.bitstream.alphabets import Syntax
from pc15.bitstream.container import read_container
from pc15.bitstream.ports import Reader, Writer
from pc15.bitstream.programs import MAX_PARAMS, Programs
from pc15.bitstream.sections import code_section
from pc15.config import CodecConfig
from pc15.decoder import decode, decode_stream
from pc15.encoder import encode
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError, UnknownNameError
from pc15.luma import as_q12
from pc15.metrics import ssim
from pc15.plan import tiles
from pc15.proc.codebook import FINE_MAX, OFFSET_MAX, load_codebook, offset_reach
from pc15.proc.coords import tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels, gen_id
from pc15.proc.spec import Param, fine_bits
from pc15.search import candidates, climb
from pc15.search.analysis import gradient_centres, spectrum_peaks, turning
from pc15.search.backend import numba_ops, torch_ops
from pc15.search.bank import get_bank
from pc15.search.climb import solve
from pc15.search.coherence import coherence, is_coherent
from pc15.search.continuous import ContinuousSearch
from pc15.search.single_pattern import detect_single_pattern
from pc15.search.starts import bank_gains
from pc15.search.view import view_of
from pc15.search.windows import pooled

CODEBOOK = load_codebook("v15_grid")
WHOLE = CodecConfig.preset("balanced", tile=160, overlap=0, residual=False, lambda_rd=4.0, device="cpu")


def whole(name: str, index: int, size: int = 160) -> tuple[Tensor, bytes]:
    picture = draw_picture(name, index, size)
    return picture, encode(picture, WHOLE.but(tile=size))["bitstream"]


# ---------------------------------------------------------------- sub-levels


def test_sub_levels_begin_above_32_px_and_double_with_the_side() -> None:
    assert [fine_bits(t) for t in (4, 16, 32)] == [0, 0, 0]
    assert [fine_bits(t) for t in (33, 64, 65, 128, 256, 512, 513, 1024)] == [2, 2, 3, 3, 4, 5, 6, 6]
    assert [offset_reach(fine_bits(t)) for t in (32, 33)] == [OFFSET_MAX, FINE_MAX]


@pytest.mark.parametrize("fine", [2, 5, 6])
def test_every_level_is_a_sub_level(fine: int) -> None:
    for gen in range(len(NAMES)):
        for p in load(gen).params:
            shift = p.shift(fine)
            assert [p.fine_fixed(level << shift, fine) for level in range(p.levels)] == list(p.fixed)
            first, last = p.span(fine)
            assert first <= 0
            assert last >= (p.levels << shift) - (1 << shift)
            assert (last - first).bit_length() <= 15, "an offset must be able to cross it"


def test_sub_levels_lie_between_their_levels_in_order() -> None:
    for gen in range(len(NAMES)):
        for p in load(gen).params_at(5):
            if p.shift(5) and p.kind not in ("degrees", "turns") and p.levels > 1:
                values = [p.fine_fixed(step, 5) for step in range(*p.span(5), 5)]
                assert values == sorted(values)
                assert float(p.value(0)) >= (p.wide or (p.lo, p.hi))[0] - 1e-9


def test_a_wide_parameter_ends_where_it_says() -> None:
    p = Param(name="freq", lo=1.0, hi=16.0, levels=5, log=True, kind="cycles", wide=(0.25, 64.0))
    assert p.span(0) == (0, 4)
    assert p.span(2) == (-8, 24)
    assert [p.nearest_step(v, 2) for v in (0.1, 0.25, 2.0, 64.0, 99.0)] == [-8, -8, 4, 24, 24]
    with pytest.raises(ConfigError, match="wide"):
        Param(name="freq", lo=1.0, hi=16.0, levels=5, wide=(2.0, 64.0))


def test_without_offsets_large_tiles_draw_the_entries() -> None:
    at = tile_grid(64)
    for gen in range(len(NAMES)):
        qv = torch.tensor([0, CODEBOOK.size(gen) - 1])
        none, seeds = torch.zeros((2, MAX_PARAMS), dtype=torch.int64), torch.zeros(2, dtype=torch.int64)
        plain = draw_levels(gen, CODEBOOK.levels(gen, qv, none), seeds, at, 0)
        fine = draw_levels(gen, CODEBOOK.levels(gen, qv, none, 5), seeds, at, 0, 5)
        assert torch.equal(plain, fine), NAMES[gen]


@pytest.mark.parametrize("name", ["STRIPES", "SPIRAL", "CHECKER", "SUNBURST"])
def test_offsets_lead_from_every_entry_to_the_same_sub_levels(name: str) -> None:
    gen, fine = gen_id(name), 4
    params = load(gen).params_at(fine)
    wanted = torch.tensor([[p.span(fine)[1] - 3 for p in params]])
    ways = CODEBOOK.offsets_to(gen, wanted, fine)[0]
    assert torch.equal(CODEBOOK.levels(gen, torch.arange(len(ways)), ways, fine).long(), wanted.expand_as(ways))
    for i, p in enumerate(params):
        if p.periodic:
            assert ways[:, i].abs().max() <= (p.levels << fine) // 2


# ---------------------------------------------------------------- their code


@pytest.mark.parametrize("tile", [48, 64, 128, 256, 512, 1024])
def test_steps_of_any_size_come_back(tile: int) -> None:
    tables, syntax = load_table("v15_default"), Syntax.of(2, 4, tile, 24, 24, False, CODEBOOK)
    programs = Programs.empty(8, 2)
    programs.dc[:] = syntax.dc_top // 2
    rng = np.random.default_rng(tile)
    for n, reach in enumerate((0, 1, 2, 31, 32, 1023, FINE_MAX, FINE_MAX)):
        gen = gen_id(("SPIRAL", "STRIPES", "PERLIN")[n % 3])
        count = len(load(gen).params_at(syntax.fine))
        programs.count[n], programs.gen[n, 0], programs.amp[n, 0] = 1, gen, n + 1
        extremes = [FINE_MAX, -FINE_MAX, 1, 0, -1, 2][:count]
        programs.offsets[n, 0, :count] = rng.integers(-reach, reach + 1, count) if n < 6 else extremes
    writer = Writer(tables)
    code_section(writer, syntax, programs)
    reader = Reader(tables, writer.rans_bytes())
    back = code_section(reader, syntax, None)
    reader.finish()
    assert back.records() == programs.records()
    assert sum(map(abs, back.records()[6].layers[0].offsets)) >= 2 * FINE_MAX


# ---------------------------------------------------------------- the search


def test_the_spectrum_says_frequency_and_direction() -> None:
    x = (torch.arange(256) * 2 + 1 - 256) / 256.0
    wave = torch.cos(torch.pi * (6.0 * x[None, :] + 2.5 * x[:, None]))  # 6 and 2.5 cycles per tile
    linear = (wave * 1000).round().to(torch.int64) << 16
    view = view_of(linear, torch.full_like(linear, 1 << 16), 64)
    freq, angle = spectrum_peaks(view)[0]
    assert freq == pytest.approx(6.5)
    assert angle == pytest.approx(22.62, abs=0.01)


def test_gradients_say_where_rings_and_rays_meet() -> None:
    x = ((torch.arange(128) * 2 + 1 - 128) / 128.0).double()
    dx, dy = x[None, :] - 0.3, x[:, None] + 0.45
    rings, rays = torch.cos(15.0 * torch.hypot(dx, dy)), torch.cos(6.0 * torch.atan2(dy, dx))
    for which, picture in enumerate((rings, rays)):
        linear = (picture * 1000).round().to(torch.int64) << 16
        centre = gradient_centres(view_of(linear, torch.full_like(linear, 1 << 16), 128))[which]
        assert centre == pytest.approx((0.3, -0.45), abs=0.03)


def test_small_systems_are_solved_even_when_a_column_says_nothing_new() -> None:
    a = np.array([[4.0, 1.0, 0.0], [1.0, 3.0, 0.0], [0.0, 0.0, 0.0]])
    assert solve(a, np.array([1.0, 2.0, 0.0]), 0.0) == pytest.approx([1 / 11, 7 / 11, 0.0])
    twice = np.array([[1.0, 1.0], [1.0, 1.0]])
    assert np.isfinite(solve(twice, np.array([1.0, 1.0]), 1e-9)).all()


@pytest.mark.parametrize("name", ["stripes", "radial_gradient"])
def test_a_picture_that_is_one_pattern_is_a_few_bytes(name: str) -> None:
    picture, data = whole(name, 1)
    decoded = decode_stream(data)
    assert len(data) < 60
    assert ssim(picture, decoded.planes[0].unsqueeze(0), 255) >= 0.98
    assert data == whole(name, 1)[1]


def test_a_picture_may_be_smaller_than_its_tile_and_not_square() -> None:
    picture = draw_picture("stripes", 3, 160)[:, :111, :143]
    data = encode(picture, WHOLE)["bitstream"]
    assert ssim(picture, decode(data), 255) >= 0.98
    assert len(data) < 80


def test_a_picture_much_smaller_than_its_tile_is_looked_at_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, noise of 48 by 64 px in a tile of 256 took minutes: every pattern was drawn over all of the tile."""
    seen: list[int] = []

    def counted(*arguments: Any) -> Tensor:
        at = arguments[3]
        seen.append(at.y.shape[1] * at.x.shape[2])
        return draw_levels(*arguments)

    monkeypatch.setattr(climb, "draw_levels", counted)
    noise = torch.randint(0, 256, (1, 9, 12), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    cfg = CodecConfig.preset("fast", tile=256, overlap=24, lambda_rd=0.02, max_layers=1, residual=False, device="cpu")
    assert decode(encode(noise, cfg)["bitstream"]).shape == noise.shape
    assert 0 < max(seen) <= 9 * 12


def test_what_is_not_seen_of_a_view_changes_nothing() -> None:
    draw, quad = torch.Generator().manual_seed(2), torch.zeros((64, 64), dtype=torch.int64)
    quad[:9, 5:12] = 1 << 16
    linear = torch.randint(-4000, 4000, quad.shape, generator=draw) * quad
    view = view_of(linear, quad, 32)
    assert view.seen.error.shape == (5 * 4,)
    climber = climb.Climber(get_bank(64, CODEBOOK, 1234, torch.device("cpu")), CODEBOOK, fine_bits(64), 1234)
    (state, *_) = climber.starting(view, (), climber.entries(climber.rows(view), 1), most=0)
    (error, weight), p = view.totals, draw_levels(state.gen, state.steps, state.seed, view.at, 1234, fine_bits(64))
    p = (p >> 3).flatten(1).to(torch.float64)
    product, share, power = p @ view.error, p @ view.weight, p.square() @ view.weight
    square = power - share * share / weight
    assert torch.equal(state.gain, (product - share * error / weight).square() / square)
    left = climber.without(view, state)
    assert torch.equal(left.weight, view.weight) and not left.error[view.weight == 0].any()
    assert float(left.energy) == pytest.approx(view.energy - float(state.gain), rel=1e-6)


@pytest.mark.gpu
def test_whole_tiles_are_searched_alike_on_the_gpu(device: torch.device) -> None:
    picture = draw_picture("plaid", 1, 160)
    mine = encode(picture, WHOLE)["bitstream"]
    assert encode(picture, WHOLE.but(device=str(device)))["bitstream"] == mine
    assert torch.equal(decode(mine, device=device).cpu(), decode(mine))


# ---------------------------------------------------------------- the encoder's choice


DEFAULT = CodecConfig.preset("balanced", device="cpu")


def test_all_large_tiles_are_screened_by_one_bank() -> None:
    cpu = torch.device("cpu")
    assert get_bank(97, CODEBOOK, 7, cpu) is get_bank(1024, CODEBOOK, 7, cpu)


@pytest.mark.parametrize("side", [97, 128])
def test_boxes_of_a_lower_resolution_add_up(side: int) -> None:
    values = torch.arange(side * side).view(1, side, side)
    boxes = pooled(values, 32)
    assert boxes.shape == (1, 32, 32)
    assert int(boxes.sum()) == int(values.sum())
    assert int(boxes[0, 0, 0]) == int(values[0, : side // 32, : side // 32].sum())


def test_gains_of_bank_rows_are_those_of_least_squares() -> None:
    bank = get_bank(64, CODEBOOK, 1234, torch.device("cpu"))
    rng = np.random.default_rng(1)
    linear = torch.from_numpy(rng.integers(-2000, 2000, (64, 64))) << 16
    view = view_of(linear, torch.full_like(linear, 1 << 16), 32)
    gains = bank_gains(bank, view)
    p = bank.pixels.double().numpy()
    error = view.error.numpy()
    p -= p.mean(axis=1, keepdims=True)
    power = (p * p).sum(axis=1)
    wanted = np.where(power > 0, (p @ error) ** 2 / np.maximum(power, 1e-9), 0.0)
    assert np.corrcoef(gains.numpy(), wanted)[0, 1] > 0.9999


def test_sums_over_bank_rows_are_the_same_by_loops_and_by_tensor_operations() -> None:
    rng = np.random.default_rng(2)
    pixels = torch.from_numpy(rng.integers(-127, 128, (2100, 1024)).astype(np.int8))
    error, weight = (torch.from_numpy(rng.integers(0, most, 1024).astype(np.int32)) for most in (1 << 14, 1 << 7))
    sums = [backend.row_sums(pixels, error, weight) for backend in (numba_ops, torch_ops)]
    assert torch.equal(*sums)


@pytest.mark.parametrize(("x", "y", "arms", "freq"), [(0.2, -0.4, 3, 4.0), (-0.4, 0.0, 2, 2.5), (0.0, 0.2, 12, 0.0)])
def test_what_turns_around_a_point_gives_it_away(x: float, y: float, arms: int, freq: float) -> None:
    at = ((torch.arange(128) * 2 + 1 - 128) / 128.0).double()
    dx, dy = at[None, :] - x, at[:, None] - y
    picture = torch.cos(arms * torch.atan2(dy, dx) + np.pi * freq * torch.hypot(dx, dy))
    linear = (picture * 1000).round().to(torch.int64) << 16
    assert turning(view_of(linear, torch.full_like(linear, 1 << 16), 32))[0] == (x, y, arms)


@pytest.mark.parametrize("name", INCLASS)
def test_one_pattern_is_worth_a_search(name: str) -> None:
    for index, size in ((0, 256), (1, 160)):
        picture = draw_picture(name, index, size)[0, : size - 32 * index]
        assert detect_single_pattern(as_q12(picture, torch.device("cpu")), CODEBOOK, 1234, 0.0), index


@pytest.mark.parametrize("name", INCLASS)
@pytest.mark.parametrize("size", [160, 400])
def test_gradients_give_a_pattern_away(name: str, size: int) -> None:
    for index in range(6):
        plane = draw_picture(name, index, size)[0, : size - 30].numpy().astype(np.int32)
        assert is_coherent(plane), index


def test_gradients_of_noise_and_of_a_heap_of_edges_run_anyhow() -> None:
    rng = np.random.default_rng(3)
    heap = np.zeros((300, 400), np.int32)
    for _ in range(60):
        y, x, turn = rng.integers(0, 300), rng.integers(0, 400), rng.uniform(0.0, np.pi)
        down, across = np.mgrid[:300, :400]
        u, v = (
            (across - x) * np.cos(turn) + (down - y) * np.sin(turn),
            (down - y) * np.cos(turn) - (across - x) * np.sin(turn),
        )
        heap[(abs(u) < 40) & (abs(v) < 25)] = rng.integers(0, 4096)
    for plane in (heap, rng.integers(0, 4096, (300, 400)).astype(np.int32)):
        assert not is_coherent(plane)
    assert coherence(np.zeros((300, 400), np.int32)).straight == 0.0
    assert is_coherent(heap[:4]), "too flat to tell"


def test_noise_and_a_heap_of_edges_are_not() -> None:
    generator = torch.Generator().manual_seed(3)
    noise = torch.randint(0, 4096, (96, 128), generator=generator, dtype=torch.int32)
    heap = torch.zeros((96, 128), dtype=torch.int32)
    for y, x, level in zip(
        *(torch.randint(0, high, (60,), generator=generator) for high in (80, 110, 4096)), strict=True
    ):
        heap[y : y + 20, x : x + 24] = level
    for plane in (noise, heap):
        assert not detect_single_pattern(plane, CODEBOOK, 1234, 0.0)
        assert detect_single_pattern(plane, CODEBOOK, 1234, 1.0), "what costs as much as a flat plane is no rival"


@pytest.mark.parametrize("name", ["rings", "plaid"])
def test_a_picture_that_is_one_pattern_is_found_by_default(name: str) -> None:
    picture = draw_picture(name, 1, 160)
    coded = encode(picture, DEFAULT.but(lambda_rd=16.0))
    alone = encode(picture, DEFAULT.but(lambda_rd=16.0, max_layers=0))
    assert coded["stats"]["tiles"] == 1
    assert len(coded["bitstream"]) < 70 < len(alone["bitstream"])
    assert ssim(picture, decode(coded["bitstream"]), 255) >= 0.98


def test_what_looks_alike_from_afar_is_told_apart() -> None:
    """At a glance these rings are waves without an edge of their own, which leave an SSIM of 0.953."""
    picture = draw_picture("rings", 1, 512)
    assert ssim(picture, decode(encode(picture, DEFAULT.but(lambda_rd=64.0))["bitstream"]), 255) >= 0.98


def test_gray_in_colour_costs_hardly_more_than_gray() -> None:
    picture = draw_picture("stripes", 2, 128)
    gray, colour = (len(encode(p, DEFAULT)["bitstream"]) for p in (picture, picture.expand(3, -1, -1)))
    assert colour <= gray + 32


def test_framing_takes_at_most_24_bytes() -> None:
    picture = draw_picture("stripes", 3, 160)
    for cfg in (DEFAULT.but(max_layers=0), WHOLE.but(max_layers=1)):
        stream = read_container(data := encode(picture, cfg)["bitstream"])
        coded = sum(len(part or b"") for part in [*stream.sections, *stream.residuals])
        assert len(data) - coded <= 24


def test_noise_in_a_corner_of_a_tile_is_given_up_after_one_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patterns are looked for off the grid again and again only where the last one drew something."""
    climbs: list[int] = []
    climb = ContinuousSearch.climb

    def counted(self: ContinuousSearch, *args: Any, **options: Any) -> Any:
        climbs.append(1)
        return climb(self, *args, **options)

    monkeypatch.setattr(ContinuousSearch, "climb", counted)
    noise = torch.randint(0, 256, (1, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    encode(noise, CodecConfig(tile=256, overlap=24, lambda_rd=0.015, alpha_mix=0.7, device="cpu"))
    assert 0 < len(climbs) < 200, "it was some 450, of a search for each layer"


def test_a_search_is_bounded_by_what_is_seen_of_its_tile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial draws a whole tile, so that of a tile far larger than the picture few are made."""
    drawn: list[int] = []
    draw = candidates._drawn_now

    def counted(layers: Any, codebook: Any, tile: int, seed: int) -> Any:
        drawn.append(len(layers.gen) * tile**2)
        return draw(layers, codebook, tile, seed)

    monkeypatch.setattr(candidates, "_drawn_now", counted)
    noise = torch.randint(0, 256, (1, 16, 16), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    for tile in (256, 512):
        coded = encode(noise, CodecConfig(tile=tile, device="cpu"))
        assert coded["stats"]["layers"] <= 1
        assert sum(drawn) < 1 << 24, "of 512 px it was 26 times as much"
        drawn.clear()
    cfg = CodecConfig(tile=256, max_layers=12, refine=1)
    assert tiles._worth(cfg, 256**2) == tiles._worth(cfg, 128**2) == cfg
    assert tiles._worth(cfg, 64**2).max_layers == 3 and tiles._worth(cfg, 64**2).refine == 1
    assert tiles._worth(cfg, 48 * 64).refine == 0


# ---------------------------------------------------------------- the benchmark


def test_a_ladder_is_left_where_it_is_good_enough_and_workers_change_nothing(tmp_path: Path) -> None:
    options: dict[str, Any] = {"classes": ("linear_gradient",), "count": 2, "size": 64, "device": "cpu"}
    alone = run_inclass(tmp_path / "one.csv", InclassOptions(**options, lambdas=(4096.0, 16.0, 0.5)))
    assert [p.setting for p in alone if p.ssim >= INCLASS_SSIM] == [alone[-1].setting] * 2
    both = run_inclass(tmp_path / "two.csv", InclassOptions(**options, lambdas=(0.5, 16.0, 4096.0), workers=2))
    assert [(p.key, p.bytes, p.ssim) for p in both] == [(p.key, p.bytes, p.ssim) for p in alone]


def test_in_class_pictures_depend_on_class_number_and_seed_alone() -> None:
    first = draw_picture("rings", 2, 64)
    assert first.shape == (1, 64, 64)
    assert first.dtype == torch.uint8
    assert torch.equal(first, draw_picture("rings", 2, 64))
    others = [draw_picture("rings", 3, 64), draw_picture("rings", 2, 64, seed=1), draw_picture("spiral", 2, 64)]
    assert not any(torch.equal(first, other) for other in others)
    with pytest.raises(UnknownNameError, match="did you mean rings"):
        draw_picture("ring", 0, 64)


def test_the_smallest_file_that_is_good_enough_counts() -> None:
    def point(image: str, size: int, quality: float) -> Point:
        return Point(image, 8, 8, "pc15", f"{size}", size, 1.0, 30.0, quality, 1.0, 0.1)

    points = [point("a/0", 90, 0.99), point("a/0", 50, 0.985), point("a/0", 40, 0.97), point("a/1", 70, 0.5)]
    points += [point("a/1", 60, 0.6)]
    assert summarise(points) == [ClassResult("a", 2, 55.0, 60, 0.6, 0.7925, 0.5, 1.0)]


def test_the_benchmark_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {
        "classes": ("linear_gradient",),
        "count": 1,
        "size": 64,
        "lambdas": (16.0,),
        "device": "cpu",
    }
    points = run_inclass(tmp_path / "in.csv", InclassOptions(**options))
    assert len(points) == 1
    monkeypatch.setattr("pc15.bench.inclass.encode", None)
    assert run_inclass(tmp_path / "in.csv", InclassOptions(**options)) == points
    with pytest.raises(ConfigError, match="workers 0"):
        run_inclass(tmp_path / "in.csv", InclassOptions(**options, workers=0))
    with pytest.raises(UnknownNameError, match="no class 'ring'"):
        run_inclass(tmp_path / "in.csv", InclassOptions(**{**options, "classes": ("ring",)}))
    with pytest.raises(ConfigError, match="size"):
        run_inclass(tmp_path / "in.csv", InclassOptions(**{**options, "size": 2000}))
