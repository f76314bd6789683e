"""Tile programs drawn larger than they were coded."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch.nn.functional import avg_pool2d

from pc15 import cli, decode, read_bitstream
from pc15.draw_scaled import decode_scaled
from pc15.errors import BitstreamError, ConfigError
from pc15.images import load_rgb
from pc15.metrics import psnr

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


def golden(name: str) -> bytes:
    return read_bitstream(GOLDEN / f"{name}.pc15")


NAMES = ["gen_stripes", "merge_few", "merge_deep", "coarse_merge", "colour_odd", "tile_128", "whole_200", "flat"]


@pytest.mark.parametrize("name", NAMES)
def test_at_their_own_size_the_pixels_are_the_decoders(name: str) -> None:
    assert torch.equal(decode_scaled(golden(name), 1), decode(golden(name)))


@pytest.mark.parametrize(("name", "least"), [("gen_gradient_radial", 40.0), ("gen_rings", 26.0), ("merge_few", 22.0)])
def test_a_larger_picture_is_the_same_one_with_more_pixels(name: str, least: float) -> None:
    """Its means over squares are near the samples at the pixels' middles, which is all that the small one shows."""
    small = decode(golden(name)).float()[None] / 255
    large = decode_scaled(golden(name), 3)
    assert large.shape[1:] == (3 * small.shape[2], 3 * small.shape[3])
    assert psnr(avg_pool2d(large.float()[None] / 255, 3), small) > least


def test_more_pixels_show_more() -> None:
    """An edge is as narrow as its formula says: enlarging the small picture could not make it so."""
    name = "gen_checker"
    small, large = decode(golden(name)).float(), decode_scaled(golden(name), 4).float()
    enlarged = torch.nn.functional.interpolate(small[None], scale_factor=4, mode="bicubic")[0]
    steepest = [float((picture[:, :, 1:] - picture[:, :, :-1]).abs().max()) for picture in (large, enlarged)]
    assert steepest[0] > 1.5 * steepest[1]


def test_one_tile_may_be_drawn_larger_than_a_grid_allows() -> None:
    """Its tile of 520 px is larger than the picture, and drawn with 1,560."""
    assert decode_scaled(golden("whole_520"), 3).shape == (1, 99, 192)


@pytest.mark.parametrize(
    ("name", "scale", "kind", "says"),
    [
        ("residual", 2, BitstreamError, "the residual of Y has pixels of one size only"),
        ("gen_stripes", 0, ConfigError, "scale is 0; give a whole number from 1 to 32"),
        ("gen_stripes", 1.5, ConfigError, "scale is 1.5"),
        ("tile_128", 16, ConfigError, "tiles of 128 px can be drawn up to 8 times as large; scale is 16"),
    ],
)
def test_what_cannot_be_drawn_larger_is_refused(name: str, scale: int, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind, match=re.escape(says)):
        decode_scaled(golden(name), scale, max_pixels=1 << 28)


def test_a_limit_holds_for_what_is_drawn() -> None:
    with pytest.raises(BitstreamError, match="over the limit of 100000; pass max_pixels"):
        decode_scaled(golden("gen_stripes"), 32, max_pixels=100_000)


def test_the_command_draws_larger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "large.png"
    assert cli.main(["decode", str(GOLDEN / "colour.pc15"), "-o", str(out), "--scale", "2"]) == 0
    assert torch.equal(load_rgb(out), decode_scaled(golden("colour"), 2))
    assert cli.main(["decode", str(GOLDEN / "residual.pc15"), "-o", str(out), "--scale", "2"]) == 1
    assert "encode with --residual off" in capsys.readouterr().err
    assert cli.main(["decode", str(GOLDEN / "colour.pc15"), "-o", str(out), "--scale", "2", "--lenient"]) == 2
