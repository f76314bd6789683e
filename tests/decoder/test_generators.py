"""Every generator of the table keeps what `Generator` promises: in range, on all of R^2, the same pixels everywhere."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from pc15.errors import ConfigError, UnknownNameError
from pc15.fixed import ONE
from pc15.proc.coords import Grid, tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels, gen_id, get, list_generators, mean_rms, render
from pc15.proc.spec import Param

T = 32
SEED = 1234
PARAMETERS = "e73859aff7497da2de265ea6ad6b4b128277220d07c67da565d5e73fcb1143a8"
"""SHA-256 of what all generators declare: names, seeds, ranges, levels, flags, kinds and units."""
every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def coarse(name: str, most: int | None = None) -> Tensor:
    """Levels of the first codebook, [K, n_params]; evenly thinned to `most`."""
    entries = list(itertools.product(*[p.coarse_levels for p in get(name).params]))
    step = 1 if most is None else -(-len(entries) // most)
    return torch.tensor(entries[::step], dtype=torch.int64)


def anywhere(name: str, count: int) -> Tensor:
    """Levels drawn from the whole range of every parameter, its ends included, [count, n_params]."""
    numbers = torch.Generator().manual_seed(gen_id(name))
    top = torch.tensor([p.levels for p in get(name).params])
    levels = (torch.rand(count, len(top), generator=numbers) * top).long()
    return torch.cat((torch.zeros(1, len(top), dtype=torch.int64), top[None] - 1, levels))


def draw(name: str, levels: Tensor, at: Grid, seed_index: int = 0) -> Tensor:
    """[B,h,w] of those levels."""
    return draw_levels(gen_id(name), levels, torch.full((len(levels),), seed_index), at, SEED)


@functools.cache
def tiles(name: str) -> Tensor:
    """The first codebook's tiles, [K,T,T]; do not write to them."""
    return draw(name, coarse(name), tile_grid(T))


def shapes(drawn: Tensor) -> Tensor:
    """Tiles without mean and height, [K,T*T] float32 of unit length (0 if flat)."""
    flat = drawn.flatten(1).float()
    flat = flat - flat.mean(dim=1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True).clamp(min=1.0)


# ---------------------------------------------------------------- what a file declares


@every
def test_a_file_says_what_it_draws_and_where_it_comes_from(name: str) -> None:
    generator = get(name)
    doc = importlib.import_module(f"pc15.proc.generators.{name.lower()}").__doc__ or ""
    assert generator.name == name and generator.summary == doc.splitlines()[0]
    assert "Draws well:" in doc and "Source:" in doc
    assert 1 <= len(generator.params) <= 6 and generator.seeds >= 1
    names = [p.name for p in generator.params]
    assert len(set(names)) == len(names) and not {"contrast", "seed"} & set(names)


@every
def test_the_first_codebook_is_small_and_its_parameters_are_levels(name: str) -> None:
    generator = get(name)
    assert 1 <= len(coarse(name)) * generator.seeds <= 4096
    for p in generator.params:
        assert len(set(p.coarse_levels)) == p.coarse and min(p.coarse_levels) >= 0
        assert max(p.coarse_levels) < p.levels and len(set(p.fixed)) == p.levels
        if p.default is not None:
            assert p.lo <= p.default <= p.hi


def test_parameters_are_those_whose_levels_streams_store() -> None:
    def declared(param: Param) -> dict[str, Any]:
        fields = {f.name: (getattr(param, f.name), f.default) for f in dataclasses.fields(param)}
        return {name: value for name, (value, default) in fields.items() if value != default}

    table = [
        [g.name, g.seeds, [declared(p) for p in g.params], [declared(p) for p in g.extra]] for g in map(get, NAMES)
    ]
    digest = hashlib.sha256(json.dumps(table).encode()).hexdigest()
    assert digest == PARAMETERS, "a stream's levels, the codebooks and all trained nets mean other values now"


def test_the_table_has_no_name_twice() -> None:
    assert list_generators() == list(NAMES) and len(set(NAMES)) == len(NAMES)
    assert [load(gen_id(name)).name for name in NAMES] == list(NAMES)


# ---------------------------------------------------------------- pixels


@every
def test_pixels_are_int32_in_range(name: str) -> None:
    generator, levels = get(name), torch.cat((anywhere(name, 10), coarse(name, 22)))
    named = {
        p.name: torch.tensor([p.fixed[i] for i in column], dtype=torch.int32).view(-1, 1, 1)
        for p, column in zip(generator.params, levels.T.tolist(), strict=True)
    }
    if generator.seeds > 1:
        named["seed"] = torch.arange(-5, len(levels) - 5, dtype=torch.int32).view(-1, 1, 1) * 0x2545F491
    for at in (tile_grid(T), tile_grid(8), tile_grid(64, w=48, h=8), tile_grid(T, x0=-640, y0=320)):
        drawn = generator.draw(at, **named)
        assert drawn.dtype == torch.int32
        assert int(drawn.abs().max()) <= 5 * ONE // 4  # a little too much is cut by the registry, more has wrapped
        assert int(draw(name, levels, at).abs().max()) <= ONE


@every
def test_a_tile_does_not_depend_on_its_batch(name: str) -> None:
    levels = coarse(name)
    again = draw(name, levels.flip(0), tile_grid(T)).flip(0)
    assert torch.equal(tiles(name), again)
    for i in (0, len(levels) // 2, len(levels) - 1):
        assert torch.equal(tiles(name)[i], draw(name, levels[i : i + 1], tile_grid(T))[0])


@every
def test_threads_do_not_change_a_pixel(name: str) -> None:
    levels = torch.cat((coarse(name, 20), anywhere(name, 12)))
    at = tile_grid(48)  # 34 tiles of 48x48: enough for torch to share the work
    one = draw(name, levels, at)
    torch.set_num_threads(2)
    assert torch.equal(one, draw(name, levels, at))


@every
def test_near_and_far_grids_agree(name: str) -> None:
    levels = torch.cat((coarse(name, 32), anywhere(name, 14)))
    near = draw(name, levels, tile_grid(T))
    for x0, y0 in ((16, 0), (-16, 16), (0, -24)):
        far = draw(name, levels, tile_grid(T, x0=x0, y0=y0))
        at_x, at_y = max(x0, 0), max(y0, 0)
        w, h = T - abs(x0), T - abs(y0)
        mine = near[:, at_y : at_y + h, at_x : at_x + w]
        assert torch.equal(mine, far[:, at_y - y0 :, at_x - x0 :][:, :h, :w])
    wide = draw(name, levels[:8], tile_grid(T, x0=-650, y0=310, w=52, h=52))
    assert torch.equal(wide[:, 10:42, 10:42], draw(name, levels[:8], tile_grid(T, x0=-640, y0=320)))


@every
def test_a_pattern_goes_on_beyond_its_tile_without_a_seam(name: str) -> None:
    levels = coarse(name, 64)
    for x0, y0, dim in ((16, 0, 2), (-16, 0, 2), (0, 16, 1), (0, -16, 1)):
        drawn = draw(name, levels, tile_grid(T, x0=x0, y0=y0))  # the tile's border runs through its middle
        steps = drawn.diff(dim=dim).abs().float().mean(dim=(0, 3 - dim))  # [T-1]
        border, sides = steps[T // 2 - 1], torch.cat((steps[: T // 2 - 1], steps[T // 2 :]))
        assert border <= 2 * sides.max()
        low, high = sorted((float(steps[: T // 2 - 1].mean()), float(steps[T // 2 :].mean())))
        assert low > 0.02 * high  # neither repeated from the border nor cut off


# ---------------------------------------------------------------- a useful codebook


@every
def test_entries_use_the_range(name: str) -> None:
    _, rms = mean_rms(tiles(name))
    swing = tiles(name).amax(dim=(1, 2)) - tiles(name).amin(dim=(1, 2))
    assert (rms >= ONE // 50).float().mean() >= 0.95  # nearly none is flat
    assert (swing >= 3 * ONE // 4).float().mean() >= 0.6  # of 2 * ONE
    shown = render(name, 64, 64)
    assert shown.max() - shown.min() > 1.0


@every
def test_every_parameter_changes_the_picture(name: str) -> None:
    generator = get(name)
    bases = torch.cat((torch.tensor([[p.levels // 2 for p in generator.params]]), coarse(name, 8)))
    for i, p in enumerate(generator.params):
        most = 0.0
        for base in bases:
            levels = base.repeat(min(p.levels, 6), 1)
            levels[:, i] = torch.arange(len(levels)) * p.levels // len(levels)
            drawn = draw(name, levels, tile_grid(T)).float()
            height = (drawn - drawn.mean(dim=(1, 2), keepdim=True)).abs().mean().clamp(min=1)
            changes = (drawn - drawn[:1]).abs().mean(dim=(1, 2)) / height
            most = max(most, float(changes.max()))
        assert most > 0.1, p.name


@every
def test_no_entry_draws_what_another_one_draws(name: str) -> None:
    drawn = [tiles(name)]
    if get(name).seeds > 1:
        drawn.append(draw(name, coarse(name), tile_grid(T), seed_index=1))
    unit = shapes(torch.cat(drawn))
    alike = (unit @ unit.T).abs().fill_diagonal_(0).amax(dim=1)  # 1: equal or negative up to height
    assert (alike > 0.995).float().mean() <= 0.03


@every
def test_seeds_change_random_patterns_only(name: str) -> None:
    levels = coarse(name, 12)
    first, second = (draw(name, levels, tile_grid(T), seed_index=i) for i in (0, 1))
    if get(name).seeds > 1:
        assert (shapes(first) * shapes(second)).sum(dim=1).abs().mean() < 0.8
        assert not torch.equal(render(name, 16, 16, seed=0), render(name, 16, 16, seed=1))
    else:
        assert torch.equal(first, second)


# ---------------------------------------------------------------- render


@every
def test_render_gives_the_promised_tensor(name: str) -> None:
    for dtype in (torch.float32, torch.float16):
        shown = render(name, 24, 40, batch=2, dtype=dtype)
        assert shown.shape == (2, 1, 24, 40) and shown.dtype == dtype
        assert bool(shown.isfinite().all()) and float(shown.abs().max()) <= 1.0
    half = render(name, 24, 40, {"contrast": 0.5})
    assert torch.equal(half, render(name, 24, 40) / 2)


@every
def test_a_wide_picture_is_the_middle_of_the_square_one(name: str) -> None:
    square = render(name, 40, 40)
    assert torch.equal(render(name, 24, 40), square[:, :, 8:32])
    assert torch.equal(render(name, 40, 24), square[:, :, :, 8:32])


@every
def test_a_batch_may_mix_values_and_seeds(name: str) -> None:
    for p in get(name).params:
        low, high = float(p.value(0)), float(p.value(p.levels - 1))
        both = render(name, 16, 16, {p.name: [low, high], "contrast": [1.0, 0.25]}, batch=2, seed=[3, 4])
        assert torch.equal(both[:1], render(name, 16, 16, {p.name: low}, seed=3))
        assert torch.equal(both[1:], render(name, 16, 16, {p.name: high, "contrast": 0.25}, seed=4))


@every
def test_wrong_names_get_a_guess(name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"did you mean {name}"):
        render(name[:-1] + "_", 8, 8)
    first = get(name).params[0].name
    with pytest.raises(UnknownNameError, match=rf"{name} has no parameter '{first}s'; did you mean {first}"):
        render(name, 8, 8, {first + "s": 1.0})


def test_render_refuses_what_it_cannot_draw() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"H": 0}, "H=0"),
        ({"batch": 0}, "batch=0"),
        ({"params": {"freq": float("nan")}}, "freq is nan"),
        ({"params": {"freq": 1e6}}, "give a finite value in"),
        ({"params": {"contrast": 1.5}}, "contrast is 1.5"),
        ({"params": {"freq": [1.0, 2.0]}}, "2 values for a batch of 1"),
        ({"seed": [1, 2]}, "2 values for a batch of 1"),
    ]
    for arguments, told in wrong:
        with pytest.raises(ConfigError, match=told):
            render(**{"name": "STRIPES", "H": 8, "W": 8, **arguments})


# ---------------------------------------------------------------- some are exactly what they are called


def test_a_checker_of_whole_pixels_is_pure() -> None:
    shown = render("CHECKER", 64, 64, {"cells": 8})[0, 0]
    i = torch.arange(64) // 8
    colour = (i[:, None] + i[None]) % 2  # the middle of the tile is a corner of four squares
    assert torch.equal(shown, 1.0 - 2.0 * colour)
    moved = render("CHECKER", 64, 64, {"cells": 8, "phase_x": 0.25})[0, 0]  # a quarter of two squares: 4 pixels
    assert torch.equal(moved[:, :-4], shown[:, 4:])
    turned = render("CHECKER", 64, 64, {"cells": 8, "angle_deg": 90})[0, 0]
    assert torch.equal(turned, shown.rot90(1, (0, 1)))


def test_lattices_repeat_by_the_cell() -> None:
    for name in ("CHECKER", "DOTS", "LATTICE", "PLAID", "WEAVE", "HERRINGBONE"):
        params = {"freq": 2} if name == "PLAID" else {"cells": 8, "angle_deg": 0}  # 8 pixels per cell
        step = 32 if name in ("PLAID", "HERRINGBONE") else 16
        shown = render(name, 64, 64, params)[0, 0]
        assert torch.equal(shown[:, step:], shown[:, :-step]) and torch.equal(shown[step:], shown[:-step])


def test_a_kaleidoscope_has_its_mirrors() -> None:
    shown = render("KALEIDOSCOPE", 64, 64, {"arms": 4, "angle_deg": 0})[0, 0]
    for mirrored in (shown.flip(0), shown.flip(1), shown.T):
        assert (shown - mirrored).abs().mean() < 0.02


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@every
def test_the_gpu_draws_the_same_pixels(name: str) -> None:
    levels = torch.cat((coarse(name), anywhere(name, 62)))
    seeds = torch.zeros(len(levels), dtype=torch.int64)
    for x0, y0 in ((0, 0), (-640, 320)):
        mine = draw_levels(gen_id(name), levels, seeds, tile_grid(T, x0=x0, y0=y0), SEED)
        at = tile_grid(T, device="cuda", x0=x0, y0=y0)
        assert torch.equal(mine, draw_levels(gen_id(name), levels.cuda(), seeds.cuda(), at, SEED).cpu())
