"""Encode, decode, and what must hold between them."""

from __future__ import annotations

import gc
import hashlib
import importlib
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import pc15
from pc15 import (
    CodecConfig,
    HeuristicHooks,
    decode,
    decode_many,
    decode_y,
    encode,
    encode_many,
    encode_y,
    encode_y_with_hooks,
    psnr,
)
from pc15 import decoder as decode_module
from pc15.bitstream import read_container
from pc15.bitstream.header import plane_grid
from pc15.bitstream.read import read_programs
from pc15.decoder import decode_stream
from pc15.encoder import repack
from pc15.errors import ConfigError, DeviceError, ImageError
from pc15.images import luma_tensor
from pc15.luma import to_pixels
from pc15.plan import together
from pc15.plan.plan import plan_header, residual_lambda
from pc15.search import score as score_module
from pc15.search.backend.protocol import TileBatch
from pc15.search.cost import Costs
from pc15.search.plane import PlaneEncoder
from pc15.search.score import Scorer, plane_distortion

ROOT = Path(__file__).resolve().parents[2]
FAST = CodecConfig.preset("fast", tile=16, max_layers=3, lambda_rd=0.005, residual=False, device="cpu")


def stripes(angle: float, height: int = 64, width: int = 64) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height) / 64, torch.arange(width) / 64, indexing="ij")
    wave = torch.sin(2 * math.pi * 6 * (x * math.cos(angle) + y * math.sin(angle)))
    return (0.5 + 0.4 * wave)[None, None]


def noisy(height: int, width: int, seed: int = 0) -> Tensor:
    noise = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed))
    return 0.6 * stripes(0.5, height, width) + 0.4 * noise


def rgb(height: int, width: int) -> Tensor:
    planes = [stripes(angle, height, width)[0, 0] for angle in (0.0, 0.4, 0.0)]
    return (torch.stack(planes) * 255).to(torch.uint8)


# ---------------------------------------------------------------- the picture


def test_the_stream_carries_the_picture() -> None:
    across, down = stripes(angle=0.0), stripes(angle=math.pi / 2)  # [1,1,64,64] each
    for y, other in [(across, down), (down, across)]:
        y_hat = pc15.decode_y(pc15.encode_y(y, FAST)["bitstream"])
        assert pc15.psnr(y, y_hat) > 30 > pc15.psnr(other, y_hat)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 40), (40, 1), (7, 5), (15, 16), (17, 16), (16, 17), (33, 31)], ids=lambda s: f"{s[0]}x{s[1]}"
)
def test_pictures_of_any_size_come_back(size: tuple[int, int]) -> None:
    y = stripes(0.7, *size)
    y_hat = decode_y(encode_y(y, FAST)["bitstream"])
    assert y_hat.shape == y.shape
    assert y_hat.dtype == torch.float32
    assert psnr(y, y_hat) > 20


def test_the_decoder_draws_what_the_encoder_saw(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder's own picture of what it chose is the decoder's, pixel by pixel."""
    seen: list[PlaneEncoder] = []
    run = PlaneEncoder.run

    def remembered(self: PlaneEncoder, *args: object, **kwargs: object) -> object:
        seen.append(self)
        return run(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(PlaneEncoder, "run", remembered)
    for cfg in (FAST, FAST.but(overlap=0, alpha_mix=0.0, refine=1), FAST.but(passes=1, window="tukey", seed=7)):
        stream = encode_y(noisy(37, 29), cfg)["bitstream"]
        state = seen.pop().state
        drawn = state.planes[0] - state.canvas.rest().view_as(state.planes[0])
        assert torch.equal(to_pixels(drawn), decode_stream(stream).planes[0])


def test_gray_pictures_are_one_plane_and_colour_three() -> None:
    picture = rgb(33, 18)
    gray, colour = encode(picture[:1], FAST), encode(picture, FAST)
    assert read_container(gray["bitstream"]).header.color == 0
    assert len(colour["tile_map"]) == 3
    for given_, coded in ((picture[:1], gray), (picture, colour)):
        back = decode(coded["bitstream"])
        assert back.shape == given_.shape
        assert back.dtype == torch.uint8
        assert psnr(given_, back, data_range=255) > 20
    assert torch.equal(decode_y(colour["bitstream"]), luma_tensor(decode_stream(colour["bitstream"]).planes[0]))


def test_a_picture_without_colour_stays_so() -> None:
    plane = (stripes(0.3, 20, 20)[0] * 255).to(torch.uint8)
    back = decode(encode(plane.expand(3, -1, -1).contiguous(), FAST)["bitstream"]).int()
    assert (back - back[:1]).abs().max() <= 2


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_a_flat_picture_is_small_and_flat(value: float) -> None:
    stream = encode_y(torch.full((1, 1, 200, 200), value), FAST.but(lambda_rd=0.015))
    assert stream["stats"]["layers"] == 0
    assert stream["bpp"] < 0.05  # 289 tiles, each of which says that it is flat
    y_hat = decode_y(stream["bitstream"])
    assert float(y_hat.max() - y_hat.min()) < 1.5 / 255  # DC levels may alternate, to come nearer on average
    assert abs(float(y_hat.mean()) - value) < 0.03


@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    seed=st.integers(0, 99),
    levels=st.sampled_from([2, 5, 256]),
    overlap=st.integers(0, 15),
)
@settings(max_examples=12)
def test_any_small_picture_survives(height: int, width: int, seed: int, levels: int, overlap: int) -> None:
    noise = torch.randint(0, levels, (1, 1, height, width), generator=torch.Generator().manual_seed(seed))
    y = noise / (levels - 1)
    coded = encode_y(y, FAST.but(max_layers=1, overlap=overlap, sweeps=0))
    y_hat = decode_y(coded["bitstream"])
    assert y_hat.shape == y.shape
    assert 0.0 <= float(y_hat.min()) <= float(y_hat.max()) <= 1.0
    grey = torch.full_like(y, 0.5)
    assert float((y - y_hat).square().mean()) <= float((y - grey).square().mean()) + 0.03


# ---------------------------------------------------------------- the bytes


def test_the_same_input_gives_the_same_bytes() -> None:
    y = noisy(33, 40)
    assert encode_y(y, FAST)["bitstream"] == encode_y(y.clone(), FAST)["bitstream"]


def test_another_process_writes_the_same_bytes() -> None:
    code = (
        "import hashlib, torch; torch.set_num_threads(2)\n"
        "from tests.search.test_codec import FAST, noisy\n"
        "from pc15 import HeuristicHooks, encode_y\n"
        "for cfg in (FAST, FAST.but(ai=HeuristicHooks(topk=4))):\n"
        "    print(hashlib.sha256(encode_y(noisy(33, 40), cfg)['bitstream']).hexdigest())"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    for cfg, there in zip((FAST, FAST.but(ai=HeuristicHooks(topk=4))), ran.stdout.split(), strict=True):
        assert hashlib.sha256(encode_y(noisy(33, 40), cfg)["bitstream"]).hexdigest() == there


def test_a_larger_lambda_makes_a_smaller_stream() -> None:
    y = noisy(48, 48)
    sizes = [len(encode_y(y, FAST.but(lambda_rd=lam))["bitstream"]) for lam in (0.002, 0.02, 0.2, 2.0)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[-1]


def test_the_reported_numbers_are_the_streams() -> None:
    y = noisy(40, 50)
    coded = encode_y(y, FAST)
    data = coded["bitstream"]
    header, programs, metadata, damage = read_programs(data)
    assert coded["bpp"] == 8 * len(data) / (40 * 50)
    assert coded["stats"]["bytes"] == len(data)
    assert coded["stats"]["tiles"] == programs[0].tiles == len(coded["tile_map"])
    assert coded["stats"]["layers"] == int(programs[0].count.sum())
    assert [tile.program for tile in coded["tile_map"]] == programs[0].records()
    assert (metadata, damage) == (None, [])
    section = read_container(data).sections[0]
    assert section is not None
    assert sum(coded["stats"]["bits_by_kind"].values()) / 8 == pytest.approx(len(section), abs=5)
    assert repack(header, programs)["bitstream"] == data


def test_no_layers_leave_dc_alone() -> None:
    coded = encode_y(noisy(20, 20), FAST.but(max_layers=0))
    assert coded["stats"]["layers"] == 0
    assert decode_y(coded["bitstream"]).shape == (1, 1, 20, 20)


@pytest.mark.parametrize(
    "change",
    [
        {"payload_fmt": "raw"},
        {"section_rows": 1},
        {"window": "kaiser", "window_param": 4.0},
        {"seed": 77},
        {"search": "exhaustive", "beam": 3, "passes": 1, "refine": 2},
        {"seam_weight": 1.0},
        {"coarse": 24},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_option_makes_a_stream_that_decodes(change: dict[str, object]) -> None:
    y = stripes(0.4, 33, 20)
    y_hat = decode_y(encode_y(y, FAST.but(**change))["bitstream"])
    assert psnr(y, y_hat) > 20


def test_raw_and_rans_say_the_same() -> None:
    y = noisy(33, 20)
    raw, rans = (encode_y(y, FAST.but(payload_fmt=form))["bitstream"] for form in ("raw", "rans"))
    assert len(raw) > len(rans)
    assert torch.equal(decode_y(raw), decode_y(rans))


# ---------------------------------------------------------------- hooks, damage


def test_hooks_travel_as_a_note_only() -> None:
    y = stripes(0.4, 33, 33)
    hooks = HeuristicHooks(topk=6)
    data = encode_y_with_hooks(y, FAST, hooks)["bitstream"]
    header, programs, metadata, _ = read_programs(data)
    assert metadata == {"ai": hooks.describe()}
    assert psnr(y, decode_y(data)) > 20
    bare = repack(header, programs)["bitstream"]
    assert len(bare) < len(data)
    assert torch.equal(decode_y(bare), decode_y(data))


def test_damage_in_one_section_leaves_the_others() -> None:
    y = stripes(0.4, 112, 30)
    cfg = FAST.but(section_rows=1, overlap=0)
    data = encode_y(y, cfg)["bitstream"]
    sections = read_container(data).sections
    assert len(sections) == 7
    damaged = bytearray(data)
    damaged[data.index(sections[3] or b"")] ^= 4
    with pytest.raises(pc15.Pc15Error, match=r"section 3 of 7 \(plane 0, tile rows 3 to 3\)"):
        decode_y(bytes(damaged))
    rest = decode_stream(bytes(damaged), strict=False)
    whole, drawn = decode_y(data), luma_tensor(rest.planes[0])
    assert len(rest.damage) == 1
    assert torch.equal(drawn[..., :32, :], whole[..., :32, :])  # the rows beside the lost one fade into it
    assert torch.equal(drawn[..., 80:, :], whole[..., 80:, :])
    assert not torch.equal(drawn[..., 48:64, :], whole[..., 48:64, :])


def test_nothing_of_an_encode_outlives_it() -> None:
    for size in (33, 50):
        encode_y(noisy(size, size), FAST.but(tile=24, overlap=4))
    gc.collect()
    assert not [kept for kept in gc.get_objects() if type(kept) in (PlaneEncoder, Scorer, Costs)]


def test_encoding_moves_no_random_state() -> None:
    before = torch.get_rng_state()
    encode_y(noisy(20, 20), FAST)
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- the residual

REFINED = CodecConfig.preset("fast", lambda_rd=0.02, device="cpu")


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (37, 29), (64, 64), (65, 130)])
@pytest.mark.parametrize("options", [{"max_layers": 0}, {"tile": 16, "max_layers": 2, "overlap": 5}])
def test_a_residual_brings_any_picture_near(size: tuple[int, int], options: dict[str, int]) -> None:
    y = noisy(*size)
    coded = encode_y(y, REFINED.but(**options))
    decoded = decode_y(coded["bitstream"])
    assert decoded.shape == y.shape
    assert psnr(y, decoded) > 30
    assert coded["stats"]["bytes"] == len(coded["bitstream"])
    assert (coded["stats"]["tiles"] > 0) == (options["max_layers"] > 0)


def test_finer_steps_come_nearer_for_more_bytes() -> None:
    y, ladder = stripes(0.3, 80, 96), []
    for lam in (2.0, 0.2, 0.02, 0.002):
        stream = encode_y(y, REFINED.but(lambda_rd=lam, max_layers=0))["bitstream"]
        ladder.append((len(stream), psnr(y, decode_y(stream))))
    assert ladder == sorted(ladder)
    assert len(set(ladder)) == 4


def test_colour_pictures_have_a_residual_per_plane() -> None:
    picture = rgb(50, 71)
    stream = encode(picture, REFINED.but(max_layers=0))["bitstream"]
    parts = read_container(stream)
    assert [spec.tile for spec in parts.header.planes] == [0, 0, 0]
    assert (len(parts.sections), len(parts.residuals)) == (0, 3)
    assert psnr(picture, decode(stream), data_range=255) > 22


def test_choosing_the_tile_size_costs_no_more_than_any_of_the_choices() -> None:
    y = stripes(0.2, 96, 96)
    cfg = CodecConfig.preset("balanced", lambda_rd=2.0, alpha_mix=0.0, device="cpu")
    chosen = encode_y(y, cfg.but(tile="auto"))
    alone = encode_y(y, cfg.but(max_layers=0))
    weight = residual_lambda(2.0) / 4096**2
    costs = [
        8 * len(coded["bitstream"]) + float((decode_y(coded["bitstream"]) - y).double().square().sum()) / weight
        for coded in (chosen, alone)
    ]
    assert costs[0] <= costs[1] * 1.001 + 80  # both as the decoder rounds them, headers included


@pytest.mark.parametrize(("lambda_rd", "best"), [(0.02, {8, 16}), (4.0, {32, 64, 128})])
@pytest.mark.usefixtures("few_starts")
def test_without_a_residual_the_cheapest_tile_size_near_32_px_is_taken(lambda_rd: float, best: set[int]) -> None:
    quilt = [torch.cat([stripes(0.9 * (3 * i + k), 64, 64) for k in range(2)], dim=3) for i in range(2)]
    y = noisy(72, 100) if lambda_rd < 1 else torch.cat(quilt, dim=2)
    plane = (y[0, 0] * 4096).round().int().numpy()

    def cost(tile: int) -> tuple[int, float]:
        cfg = CodecConfig.preset("fast", tile=tile, residual=False, lambda_rd=lambda_rd, max_layers=3, device="cpu")
        enc = encode_y(y, cfg)
        shown = (decode_y(enc["bitstream"])[0, 0] * 4096).round().int().numpy()
        bits = 8 * len(enc["bitstream"])
        return read_programs(enc["bitstream"])[0].planes[0].tile, plane_distortion(
            plane, shown, cfg.alpha_mix
        ) + lambda_rd * bits

    chosen, least = cost(0)
    assert chosen in best
    assert least <= 1.001 * min(cost(tile)[1] for tile in (16, 32, 64))  # 8-bit samples are a little off


def test_a_damaged_residual_leaves_what_tiles_drew() -> None:
    y = noisy(200, 40)
    cfg = REFINED.but(tile=16, overlap=4, max_layers=1, section_rows=6)
    data = encode_y(y, cfg)["bitstream"]
    residuals = read_container(data).residuals
    assert len(residuals) == 2  # 6 rows of 12 px are two superblocks
    damaged = bytearray(data)
    damaged[data.index(residuals[0] or b"") + 9] ^= 16
    with pytest.raises(pc15.Pc15Error, match=r"plane 0, pixel rows 0 to 127"):
        decode_y(bytes(damaged))
    rest = decode_stream(bytes(damaged), strict=False)
    whole, drawn = decode_y(data), luma_tensor(rest.planes[0])
    assert len(rest.damage) == 1
    assert torch.equal(drawn[..., 128:, :], whole[..., 128:, :])
    assert psnr(y[..., :128, :], drawn[..., :128, :]) < psnr(y[..., :128, :], whole[..., :128, :])


def test_every_flipped_bit_and_every_cut_of_a_stream_with_a_residual_is_noticed() -> None:
    data = encode_y(noisy(24, 20), REFINED.but(tile=8, overlap=2, max_layers=1, lambda_rd=0.5))["bitstream"]
    for size in range(len(data)):
        with pytest.raises(pc15.Pc15Error):
            decode_y(data[:size])
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(pc15.Pc15Error):
            decode_y(bytes(damaged))


def test_large_pictures_are_cut_into_sections_of_bounded_size() -> None:
    cfg = CodecConfig.preset("fast")
    assert plan_header(768, 512, cfg).section_rows == 0
    for width, height in ((4096, 8192), (10000, 10000), (1 << 18, 1 << 10)):
        rows = plan_header(width, height, cfg).section_rows
        assert rows >= 1 and (rows == 1 or 64 * rows * width <= 1 << 23)


# ---------------------------------------------------------------- many at once


@pytest.mark.parametrize(
    ("cfg", "some"),
    [
        (FAST, 6),
        (FAST.but(overlap=5, passes=1, alpha_mix=0.0, refine=1), 6),
        (FAST.but(tile=48, overlap=8, max_layers=1, lambda_rd=0.2), 5),
        (FAST.but(merge=True), 4),
        (CodecConfig.preset("fast", device="cpu", max_layers=0), 6),
        (CodecConfig.preset("fast", device="cpu", residual=False, lambda_rd=9.0, max_layers=1), 3),
        (CodecConfig.preset("fast", device="cpu", tile=16, max_layers=2), 6),
        (FAST.but(ai=HeuristicHooks(topk=3)), 4),
    ],
    ids=["tiles", "again", "large tiles", "merge", "residual", "auto tiles", "both", "hooks"],
)
@pytest.mark.usefixtures("few_starts")
def test_pictures_together_become_what_each_becomes_alone(
    monkeypatch: pytest.MonkeyPatch, cfg: CodecConfig, some: int
) -> None:
    pictures = [
        rgb(37, 29)[:1],
        rgb(1, 1)[:1],
        rgb(29, 37),
        rgb(64, 100)[:1],
        rgb(64, 100).flip(1)[:1],
        rgb(29, 37).flip(2),
    ]
    pictures = pictures[:some]
    together, alone = encode_many(pictures, cfg, workers=2), [encode(one, cfg) for one in pictures]
    streams = [one["bitstream"] for one in together]
    assert streams == [one["bitstream"] for one in alone]
    assert [one["tile_map"] for one in together] == [one["tile_map"] for one in alone]
    apart = [decode(stream) for stream in streams]
    assert all(map(torch.equal, decode_many(streams), apart))
    # as a GPU has it drawn
    read = decode_module._read(streams, True, 1 << 20)
    for most in (3000, 1 << 20):
        monkeypatch.setattr(decode_module, "_TOGETHER", most)
        decode_module._draw_together(read, torch.device("cpu"))
        drawn = [decode_module._picture(decode_module._finish(one, torch.device("cpu"), True)) for one in read]
        assert all(map(torch.equal, drawn, apart))


def test_batches_are_cut_where_memory_would_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [rgb(40, 30 + i) for i in range(4)]
    whole = encode_many(pictures, FAST)
    monkeypatch.setattr(together, "SAMPLES_TOGETHER", 2500)
    assert [one["bitstream"] for one in encode_many(pictures, FAST)] == [one["bitstream"] for one in whole]


def test_bad_pictures_and_streams_among_many_are_named() -> None:
    good, bad = rgb(9, 9), torch.zeros(9, 9)
    with pytest.raises(ImageError, match="picture 1 of 2"):
        encode_many([good, bad], FAST)
    for many in (encode_many, decode_many):
        with pytest.raises(ConfigError, match="workers is 0"):
            many([], workers=0)  # type: ignore[operator]
        assert many([]) == []  # type: ignore[operator]
    stream = encode(good, FAST)["bitstream"]
    with pytest.raises(pc15.Pc15Error, match="cut"):
        decode_many([stream, stream[:-3]])


@pytest.mark.parametrize("options", [{}, {"overlap": 11, "passes": 1}, {"tile": 48, "overlap": 8, "max_layers": 2}])
def test_planes_searched_band_by_band_are_coded_as_well(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, int]
) -> None:
    y = noisy(400, 60)
    cfg = FAST.but(**options)
    bands_module = importlib.import_module("pc15.search.bands")
    costs = []
    for most in (1 << 23, 1):
        monkeypatch.setattr(bands_module, "_SAMPLES", most)
        coded = encode_y(y, cfg)
        rows = bands_module.bands(plane_grid(plan_header(60, 400, cfg), 0), cfg)
        assert (len(rows) > 2) == (most == 1)
        shown = decode_y(coded["bitstream"])
        error = (shown - y).square()[0, 0].mean(dim=1)
        costs.append((len(coded["bitstream"]), error))
    (whole, usual), (banded, error) = costs
    assert banded < 1.05 * whole
    assert error.mean() < 1.08 * usual.mean()
    assert error.unfold(0, 16, 8).mean(1).max() < 1.3 * usual.unfold(0, 16, 8).mean(1).max()  # no seam stands out


def test_a_search_that_finds_too_little_gpu_memory_takes_fewer_pictures_at_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pictures = [rgb(40, 30 + i) for i in range(4)]
    whole = [one["bitstream"] for one in encode_many(pictures, FAST)]
    run, most = PlaneEncoder.run, 2

    def short(self: PlaneEncoder, *args: object, **kwargs: object) -> object:
        if len(self.state.planes) > most:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return run(self, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(PlaneEncoder, "run", short)
    assert [one["bitstream"] for one in encode_many(pictures, FAST)] == whole
    assert "half as many" in caplog.text
    most = 0
    with pytest.raises(DeviceError, match="device='cpu'"):
        encode_many(pictures, FAST)


def test_screening_that_finds_too_little_gpu_memory_takes_fewer_tiles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = rgb(60, 90)
    usual = encode(picture, FAST)["bitstream"]
    packed, seen = Scorer.packed, []

    def short(self: Scorer, tiles: TileBatch, *args: object) -> object:
        seen.append(len(tiles.e))
        if len(tiles.e) > 3:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return packed(self, tiles, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(Scorer, "packed", short)
    monkeypatch.setattr(score_module, "LEAST_TOGETHER", 1)
    assert encode(picture, FAST)["bitstream"] == usual
    assert max(seen) > 3
