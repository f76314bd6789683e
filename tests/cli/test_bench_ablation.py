"""What each part is worth: variants differ by one thing, are whole streams, and are measured once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pc15 import CodecConfig, cli, decode, encode
from pc15.bench.ablation import VARIANTS, AblationOptions, ablation_table, run_ablation
from pc15.bench.codecs import Codec, coders
from pc15.bench.points import read_points
from pc15.errors import ConfigError, UnknownNameError
from pc15.images import save_image
from pc15.metrics import psnr
from pc15.residual.cross import ALL_MODES
from pc15.residual.decode import read_field
from pc15.residual.enc.encode import ResidualParams, encode_residual, lambda_for
from pc15.residual.enc.scratch import Parts
from pc15.residual.intra import MEAN, ZERO


def picture(h: int = 64, w: int = 72) -> torch.Tensor:
    """Edges, a slope and some grain, uint8 [h,w]."""
    y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    grain = (x * 7919 + y * 104729) % 23
    return (x + y + 60 * ((x + 2 * y) % 50 > 25) + grain).clamp(0, 255).to(torch.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    save_image(tmp_path / "in" / "a.png", picture()[None])
    return tmp_path / "in"


def field_of(u8: torch.Tensor, parts: Parts, step: int = 26):
    """What the encoder chose with these parts, and the payload."""
    target = u8.numpy().astype("int32") * 16 - 2048
    code = encode_residual(target, target * 0 + 2048, ResidualParams(step, parts=parts))
    return read_field(code.payload, *target.shape, step, 0)[0], code.payload


def cost_of(u8: torch.Tensor, parts: Parts, step: int = 26) -> float:
    """Squared error and bits, at the price that the step goes with."""
    target = u8.numpy().astype("int32") * 16 - 2048
    code = encode_residual(target, target * 0 + 2048, ResidualParams(step, parts=parts))
    error = code.reconstruction - target - 2048
    return float((error.astype("float64") ** 2).sum()) + lambda_for(step, 0) * 8 * len(code.payload)


def test_a_residual_alone_with_all_parts_is_what_the_encoder_writes_by_default() -> None:
    u8, cfg = picture(), CodecConfig.preset("fast", device="cpu")
    encoded, decoded = coders(Codec("pc15-residual", (0.1,), cfg, {}), 0.1)
    assert encoded(u8) == encode(u8[None], cfg.but(lambda_rd=0.1))["bitstream"]
    assert torch.equal(decoded(encoded(u8)), decode(encoded(u8))[0])


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v.parts], ids=lambda v: v.name)
def test_a_stream_without_a_part_is_another_one_that_can_be_read(variant) -> None:
    u8, cfg = picture(), CodecConfig.preset("balanced", device="cpu", **variant.options)
    encoded, decoded = coders(Codec(variant.codec, (0.3,), cfg, variant.parts), 0.3)
    plain, _ = coders(Codec("pc15-residual", (0.3,), cfg, {}), 0.3)
    data = encoded(u8)
    assert psnr(u8, decoded(data), data_range=255) > 22
    alike = ("eight-tries", "8-at-least", "32-at-most", "16-at-most", "one-layer")  # may be so on a small picture
    if variant.name not in alike:
        assert data != plain(u8)


def test_parts_that_are_left_out_are_not_used() -> None:
    u8 = picture()
    every, _ = field_of(u8, Parts())
    assert len(set(every.mode.flat)) > 4 and len(set(every.size.flat)) > 1
    field, _ = field_of(u8, Parts(modes=(MEAN,)))
    assert set(field.mode.flat) <= {ZERO, MEAN}
    for smallest, largest in ((8, 8), (4, 16), (16, 64)):
        field, _ = field_of(u8, Parts(smallest=smallest, largest=largest))
        inside = field.size[:12, :12]  # further out the picture's border cuts squares without asking
        assert all(smallest <= 1 << int(log2) <= largest for log2 in inside.flat)
    assert cost_of(u8, Parts(by_rate=False)) > cost_of(u8, Parts())
    for bad in ({"smallest": 16, "largest": 8}, {"largest": 128}, {"modes": (ALL_MODES,)}, {"layers": 5}):
        with pytest.raises(ConfigError):
            Parts(**bad)


def test_variants_are_measured_with_their_bases_and_only_once(photo: Path, tmp_path: Path, capsys) -> None:
    save_image(photo / "a.png", picture(30, 32)[None])  # no tiles larger than the first ones are tried
    out = tmp_path / "a.csv"
    argv = ["bench", "ablation", "--images", str(photo), "--out", str(out), "--variants", "no-filter,no-sweeps"]
    argv += ["--preset", "fast", "--lambdas", "2,0.5", "--device", "cpu"]
    assert cli.main(argv) == 0
    shown = capsys.readouterr().out
    assert {p.codec for p in read_points(out)} == {
        "pc15-residual", "pc15-programs", "pc15-no-filter", "pc15-no-sweeps",
    }  # fmt: skip
    for name in ("no-filter: blocks left as they are", "no-sweeps: no joint re-fit", "programs: tile programs alone"):
        assert name in shown
    before = out.read_bytes()
    assert cli.main(argv) == 0
    assert out.read_bytes() == before


def test_a_table_has_a_row_for_each_variant_that_was_measured(photo: Path, tmp_path: Path) -> None:
    options = AblationOptions(variants=["mean-only"], preset="fast", lambdas=[2, 0.5, 0.1, 0.02], device="cpu")
    points = run_ablation([photo], tmp_path / "a.csv", options)
    (row,) = ablation_table(points).rows
    assert row[0].startswith("mean-only") and row[1] == "residual"
    assert float(row[2]) > 0  # more bits


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"variants": ["no-filtr"]}, UnknownNameError, "did you mean no-filter"),
        ({"lambdas": [1.0]}, ConfigError, "two or more"),
        ({"lambdas": [1.0, -1.0]}, ConfigError, "lambda_rd"),
        ({"workers": 0}, ConfigError, "workers is 0"),
        ({"max_bpp": 0.0}, ConfigError, "max_bpp is 0"),
    ],
)
def test_wrong_options_measure_nothing(photo: Path, tmp_path: Path, options, error, says: str) -> None:
    with pytest.raises(error, match=says):
        run_ablation([photo], tmp_path / "a.csv", AblationOptions(**options))
    assert not (tmp_path / "a.csv").exists()


def test_every_base_is_a_variant_that_stands_before() -> None:
    seen: list[str] = []
    for variant in VARIANTS:
        assert variant.base in seen or variant.base == ""
        assert variant.name not in seen
        seen.append(variant.name)
