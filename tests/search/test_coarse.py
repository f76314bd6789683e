"""Tiles upon a coarse grid of larger ones: what is drawn, what is said of it, and when the encoder chooses it."""

from __future__ import annotations

import functools
import importlib
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import pc15
from pc15 import CodecConfig, cli, decode, decode_many, encode, encode_many, encode_y, psnr, render
from pc15 import decoder as decode_module
from pc15.bitstream import Header, PlaneSpec, SectionSpan, grids_of, read_container, section_spans, tile_counts
from pc15.bitstream.programs import LayerRec, Programs, TileProgram
from pc15.bitstream.read import read_programs
from pc15.decoder import decode_stream
from pc15.draw import neutral_level_q12, predict_grid, predict_plane
from pc15.encoder import repack
from pc15.errors import BitstreamError, ConfigError
from pc15.luma import as_q12, to_pixels
from pc15.plan import plan
from pc15.plan.choose import PlaneCoder
from pc15.proc.codebook import GRID_ID, load_codebook
from pc15.proc.generators import load
from pc15.quant import DC_FINEST, middle_level
from pc15.search.plane import PlaneEncoder
from pc15.search.score import plane_distortion

pytestmark = pytest.mark.usefixtures("few_starts")
CPU, CODEBOOK = torch.device("cpu"), load_codebook(GRID_ID)
FAST = CodecConfig.preset("fast", tile=16, max_layers=2, lambda_rd=0.02, residual=False, device="cpu")
UPON = FAST.but(coarse=40)
LARGE = PlaneSpec(32, 8, 0, 0, 24, 24)
SMALL = PlaneSpec(16, 4, 0, 0, 24, 24, under=LARGE)


def picture(height: int = 60, width: int = 75) -> Tensor:
    """Stripes all over, and a ring in one place; uint8 [1,H,W]."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    wave = torch.sin(2 * math.pi * (x + 0.4 * y) / 21)
    near = ((x - 20) ** 2 + (y - 30) ** 2).sqrt()
    return (128 + 50 * wave + 40 * torch.sin(near / 1.5) * (near < 14)).round().to(torch.uint8)[None]


def composite(side: int = 96) -> Tensor:
    """A pattern over the whole picture, and others upon parts of it; uint8 [1,side,side]."""
    whole = 0.5 + 0.28 * render("STRIPES", side, side, {"freq": 9.0, "angle_deg": 27.0})[0, 0]
    part = side // 4
    for row, column, name in ((0.15, 0.2, "CHECKER"), (0.6, 0.65, "VORONOI_CELLS"), (0.7, 0.2, "HEX_GRID")):
        y, x = int(row * side), int(column * side)
        whole[y : y + part, x : x + part] += 0.2 * render(name, part, part)[0, 0]
    return (whole.clamp(0, 1) * 255).round().to(torch.uint8)[None]


def cost(given: Tensor, coded: dict[str, object], cfg: CodecConfig) -> float:
    """What the encoder minimises, in bits."""
    data = coded["bitstream"]
    assert isinstance(data, bytes)
    goal, shown = (as_q12(one[0], CPU).numpy() for one in (given, decode(data)))
    return 8 * len(data) + plane_distortion(goal, shown, cfg.alpha_mix) / cfg.lambda_rd


def random_programs(header: Header, seed: int = 1) -> list[Programs]:
    rng, out = np.random.default_rng(seed), []
    for which, (_, spec, _) in enumerate(header.grids):
        ny, nx = tile_counts(header, which)
        records = []
        for _ in range(ny * nx):
            gens = rng.integers(0, 12, 2).tolist()
            layers = (LayerRec(gen, 1, (0,) * len(load(gen).params), 0, 3) for gen in gens)
            records.append(TileProgram(int(rng.integers(2 * middle_level(spec.dc_step))), tuple(layers)))
        out.append(Programs.from_records(records))
    return out


# ---------------------------------------------------------------- what is drawn


def test_fine_tiles_add_what_they_draw_beyond_the_middle() -> None:
    header = Header(75, 60, 0, (SMALL,))
    programs = random_programs(header)
    coarse, fine = (
        predict_grid(own, (60, 75), spec, header.seed, CODEBOOK, CPU)
        for own, spec in zip(programs, (LARGE, SMALL), strict=True)
    )
    expected = (coarse + fine - neutral_level_q12(SMALL)).clamp(0, 4096)
    assert torch.equal(predict_plane(programs, header, 0, CODEBOOK, CPU), expected)
    assert torch.equal(decode_stream(repack(header, programs)["bitstream"]).planes[0], to_pixels(expected))


@pytest.mark.parametrize("dc_step", range(0, DC_FINEST + 1, 3))
def test_tiles_at_the_middle_change_nothing_and_cost_next_to_nothing(dc_step: int) -> None:
    spec = replace(SMALL, dc_step=dc_step)
    header, alone = (Header(150, 120, 0, (one,)) for one in (spec, LARGE))
    coarse = random_programs(alone)[0]
    still = Programs.empty(math.prod(tile_counts(header, 1)))
    still.dc[:] = middle_level(dc_step)
    both, one = repack(header, [coarse, still])["bitstream"], repack(alone, [coarse])["bitstream"]
    assert torch.equal(decode(both), decode(one))
    framing = 5 + 1 + 4 + 6  # header, length, CRC, end of the coder
    assert len(both) - len(one) < framing + 3 * still.tiles / 8


def test_the_decoder_draws_what_the_encoder_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[PlaneEncoder] = []
    run = PlaneEncoder.run

    def remembered(self: PlaneEncoder, *args: object, **kwargs: object) -> object:
        seen.append(self)
        return run(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(PlaneEncoder, "run", remembered)
    for cfg in (UPON, UPON.but(passes=1, alpha_mix=0.0, window="tukey"), UPON.but(coarse=32, overlap=0)):
        stream = encode(picture(), cfg)["bitstream"]
        coarse, fine = (one.state.planes[0] - one.state.canvas.rest().view_as(one.state.planes[0]) for one in seen)
        spec = read_container(stream).header.planes[0]
        drawn = coarse.clamp(0, 4096) + fine.clamp(0, 4096) - neutral_level_q12(spec)
        assert torch.equal(to_pixels(drawn.clamp(0, 4096)), decode_stream(stream).planes[0])
        assert (
            torch.equal(seen[1].state.x[0], seen[1].state.goal[0])
            == (coarse[:16, :16] == neutral_level_q12(spec)).all()
        )
        seen.clear()


@pytest.mark.parametrize("size", [(1, 45), (60, 75)], ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"coarse": 32, "section_rows": 1},
        {"payload_fmt": "raw"},
        {"merge": True},
        {"residual": True},
        {"residual": True, "section_rows": 2},
        {"max_layers": 0},
    ],
    ids=lambda options: "_".join(options) or "plain",
)
def test_pictures_come_back(size: tuple[int, int], options: dict[str, object]) -> None:
    given = picture(*size)
    coded = encode(given, UPON.but(**options))
    assert psnr(given, decode(coded["bitstream"]), data_range=255) > (11 if "max_layers" in options else 20)
    header, programs, _, damage = read_programs(coded["bitstream"])
    assert not damage and header.planes[0].under is not None
    residuals = [one for one in read_container(coded["bitstream"]).residuals if one is not None]
    assert repack(header, programs, residuals=residuals)["bitstream"] == coded["bitstream"]
    assert [[tile.program for tile in tiles] for tiles in coded["tile_map"]] == [part.records() for part in programs]
    assert coded["stats"]["tiles"] == sum(part.tiles for part in programs)
    assert encode(given, UPON.but(**options))["bitstream"] == coded["bitstream"]


def test_colour_planes_lie_upon_coarse_grids_each() -> None:
    given = torch.cat([picture(), picture().flip(2), 255 - picture()])
    data = encode(given, UPON)["bitstream"]
    header = read_container(data).header
    assert [grid.plane for grid in header.grids] == [0, 0, 1, 1, 2, 2]
    assert [grid.coarse for grid in header.grids] == [True, False] * 3
    assert all(grid.spec.subsample == int(grid.plane > 0) for grid in header.grids)
    assert [(one.start, one.stop) for one in (grids_of(header, plane) for plane in range(3))] == [
        (0, 2),
        (2, 4),
        (4, 6),
    ]
    assert decode(data).shape == given.shape


def test_planes_searched_band_by_band_lie_upon_coarse_grids_too(monkeypatch: pytest.MonkeyPatch) -> None:
    given = picture(200, 50)
    whole = cost(given, encode(given, UPON), UPON)
    monkeypatch.setattr(importlib.import_module("pc15.search.bands"), "_SAMPLES", 1)
    assert cost(given, encode(given, UPON), UPON) < 1.1 * whole


def test_both_grids_are_searched_in_the_sections_that_the_stream_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers are merged within them."""
    seen: list[int] = []
    run = PlaneEncoder.run

    def remembered(self: PlaneEncoder, *args: object, **kwargs: object) -> object:
        seen.append(self.state.task.header.section_rows)
        return run(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(PlaneEncoder, "run", remembered)
    monkeypatch.setattr(plan, "TILES_PER_SECTION", 10)
    given = picture(100, 45)
    data = encode(given, UPON.but(coarse=32, merge=True))["bitstream"]
    assert read_container(data).header.section_rows == 2 and len(read_container(data).sections) == 2 + 4
    assert seen == [2, 2]
    assert psnr(given, decode(data), data_range=255) > 20


# ---------------------------------------------------------------- what is said


def test_sections_of_the_coarse_grid_come_first() -> None:
    header = Header(75, 60, 0, (SMALL,), section_rows=3)
    assert [tile_counts(header, grid) for grid in range(2)] == [(3, 3), (5, 6)]
    assert list(section_spans(header)) == [SectionSpan(0, 0, 3), SectionSpan(1, 0, 3), SectionSpan(1, 3, 5)]


def test_every_flipped_bit_and_every_cut_is_noticed() -> None:
    data = encode(picture(20, 24), UPON.but(tile=8, overlap=2, coarse=16, max_layers=1, lambda_rd=0.5))["bitstream"]
    assert len(read_container(data).sections) == 2
    for size in range(len(data)):
        with pytest.raises(BitstreamError):
            decode(data[:size])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            decode(bytes(damaged))


def test_what_is_lost_of_either_grid_leaves_the_other() -> None:
    data = encode(picture(150, 60), UPON.but(section_rows=2))["bitstream"]
    stream = read_container(data)
    header, sections = stream.header, stream.sections
    spans = list(section_spans(header))
    whole = decode_stream(data)
    for lost, name in ((1, "coarse tile rows 2 to 3"), (len(sections) - 1, "tile rows 12 to 12")):
        payload = sections[lost]
        assert payload is not None
        damaged = bytearray(data)
        damaged[data.index(payload) + len(payload) // 2] ^= 8
        with pytest.raises(BitstreamError, match=rf"section {lost} of {len(sections)} \(plane 0, {name}\)"):
            decode(bytes(damaged))
        rest = decode_stream(bytes(damaged), strict=False)
        assert len(rest.damage) == 1
        kept = 1 - spans[lost].grid
        assert rest.programs[kept].records() == whole.programs[kept].records()
        assert torch.equal(rest.planes[0][:32], whole.planes[0][:32])
        assert not torch.equal(rest.planes[0][-6:], whole.planes[0][-6:]) or lost == 1
    tiles = tile_counts(header, 1)[1]
    assert (rest.programs[1].dc[-tiles:] == middle_level(header.planes[0].dc_step)).all()  # the coarse grid shows


def test_programs_of_both_grids_are_needed() -> None:
    header = Header(75, 60, 0, (SMALL,))
    programs = random_programs(header)
    with pytest.raises(ConfigError, match="programs of 1 grids of tiles; the header has 2"):
        repack(header, programs[1:])
    with pytest.raises(ConfigError, match="plane 0, coarse, has 30 programs for 9 tiles"):
        repack(header, [programs[1], programs[1]])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"coarse": 16}, "coarse is 16; give 0, or a whole number above the tile's 16 and up to 1024"),
        ({"coarse": 1025}, "coarse is 1025"),
        ({"coarse": -1}, "coarse is -1"),
        ({"coarse": True}, "coarse is True"),
        ({"coarse": 64.0}, r"coarse is 64\.0"),
        ({"coarse": 64, "tile": 0}, "coarse is 64 while the tile size is left open; give the tile size too"),
    ],
)
def test_a_coarse_grid_that_cannot_be_is_refused(options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        FAST.but(**options)


def test_the_command_line_asks_for_one_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    photo, stream = tmp_path / "a.png", tmp_path / "a.pc15"
    pc15.images.save_image(photo, picture())
    argv = ["encode", str(photo), "-o", str(stream), "--preset", "fast", "--tile", "16", "--residual", "off"]
    assert cli.main([*argv, "--coarse", "12"]) == 2
    assert "coarse is 12; give 0, or" in capsys.readouterr().err
    assert cli.main([*argv, "--coarse", "40", "--device", "cpu"]) == 0
    capsys.readouterr()
    assert cli.main(["info", str(stream), "--json", "--tiles"]) == 0
    content = json.loads(capsys.readouterr().out)
    (plane,) = content["planes"]
    assert (plane["tile"], plane["coarse"]["tile"]) == (16, 40)
    assert [len([tile for tile in content["tile_map"] if tile["coarse"] is coarse]) for coarse in (True, False)] == [
        math.prod(plane["coarse"]["tiles"]), math.prod(plane["tiles"])
    ]  # fmt: skip
    assert {"coarse dc", "coarse gen", "dc"} <= set(content["bits_by_kind"])
    assert sum(content["bytes_of"].values()) == stream.stat().st_size
    assert cli.main(["info", str(stream), "--tiles"]) == 0
    text = capsys.readouterr().out
    assert "Y coarse  75x60  40" in text and "plane 0 coarse row 0 col 0 at y=0 x=0: dc " in text


# ---------------------------------------------------------------- when it is chosen


@functools.cache
def chosen() -> tuple[Tensor, CodecConfig, dict[str, object]]:
    """A composite picture, options that leave all open, and what they make of it."""
    given = composite()
    cfg = CodecConfig.preset("fast", tile=0, residual=False, lambda_rd=0.25, max_layers=2, device="cpu")
    return given, cfg, encode(given, cfg)


@pytest.mark.slow
def test_a_pattern_all_over_with_others_upon_it_is_coded_as_such() -> None:
    given, cfg, coded = chosen()
    spec = read_container(coded["bitstream"]).header.planes[0]  # type: ignore[arg-type]
    assert spec.under is not None and spec.under.tile == given.shape[2]
    least = cost(given, coded, cfg)
    whole = cfg.but(tile=given.shape[2], overlap=8)
    assert least < 0.8 * cost(given, encode(given, cfg.but(coarse=0)), cfg)
    assert least < 0.8 * cost(given, encode(given, whole), cfg)
    other = picture(20, 30)  # again, and beside another picture
    many = [one["bitstream"] for one in encode_many([given, other], cfg)]
    assert many == [coded["bitstream"], encode(other, cfg)["bitstream"]]


def test_a_picture_of_tiles_alone_has_no_coarse_grid() -> None:
    noise = torch.rand(1, 96, 96, generator=torch.Generator().manual_seed(3))
    given = (noise * 255).to(torch.uint8)
    cfg = CodecConfig.preset("fast", tile=0, residual=False, lambda_rd=1.0, max_layers=2, device="cpu")
    assert encode(given, cfg)["bitstream"] == encode(given, cfg.but(coarse=0))["bitstream"]


def test_a_coarse_grid_of_larger_tiles_is_taken_where_it_costs_less(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forced to be tried, it is kept by what it costs and by nothing else."""
    given = picture(40, 60)
    cfg = CodecConfig.preset("fast", tile=0, residual=False, lambda_rd=0.5, max_layers=2, device="cpu")
    plain = cost(given, encode(given, cfg.but(coarse=0)), cfg)
    monkeypatch.setattr(PlaneCoder, "_promises", lambda *_: True)
    assert cost(given, encode(given, cfg), cfg) <= 1.001 * plain


# ---------------------------------------------------------------- many at once


@pytest.mark.parametrize("options", [{}, {"coarse": 32, "merge": True}, {"coarse": 128}, {"residual": True}])
def test_pictures_together_become_what_each_becomes_alone(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    cfg = UPON.but(**options)  # 128 px are searched beyond the bank, each picture alone
    pictures = [picture(), picture().flip(2), picture(1, 1)]
    if "coarse" not in options:
        pictures += [picture(75, 60), torch.cat([pictures[0], pictures[1], pictures[0].flip(1)])]
    together, alone = encode_many(pictures, cfg, workers=2), [encode(one, cfg) for one in pictures]
    streams = [one["bitstream"] for one in together]
    assert streams == [one["bitstream"] for one in alone]
    apart = [decode(stream) for stream in streams]
    assert all(map(torch.equal, decode_many(streams), apart))
    read = decode_module._read(streams, True, 1 << 20)  # as a GPU has it drawn
    for most in (3000, 1 << 20):
        monkeypatch.setattr(decode_module, "_TOGETHER", most)
        decode_module._draw_together(read, CPU)
        drawn = [decode_module._picture(decode_module._finish(one, CPU, True)) for one in read]
        assert all(map(torch.equal, drawn, apart))


def test_a_luma_of_floats_lies_upon_one_too() -> None:
    y = picture()[None].float() / 255
    coded = encode_y(y, UPON)
    assert len(coded["tile_map"]) == 2
    assert psnr(y, pc15.decode_y(coded["bitstream"])) > 20
