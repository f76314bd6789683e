"""Streams in Pillow: opening, saving, and what Pillow guards against."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pc15.pil  # noqa: F401  (registers the plugin)
from pc15 import CodecConfig, decode, encode, pack_v15
from pc15.bitstream import Header, PlaneSpec, Stream, write_container
from pc15.errors import BitstreamError, ConfigError

QUICK = {"preset": "fast", "tile": 16, "max_layers": 1, "device": "cpu"}


def picture(channels: int) -> torch.Tensor:
    ramp = torch.arange(0, 240, 10, dtype=torch.uint8).expand(17, 24)
    return ramp[None] if channels == 1 else torch.stack([ramp, 255 - ramp, ramp // 2])


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_pillow_shows_what_decode_gives(tmp_path: Path, channels: int, mode: str) -> None:
    planes = picture(channels)
    path = tmp_path / "ramp.pc15"
    pixels = planes[0] if channels == 1 else planes.permute(1, 2, 0)
    Image.fromarray(pixels.contiguous().numpy()).save(path, **QUICK)
    expected = encode(
        planes, CodecConfig.preset(**{"name": "fast", **{k: v for k, v in QUICK.items() if k != "preset"}})
    )
    assert path.read_bytes() == expected["bitstream"]
    with Image.open(path) as image:
        assert (image.format, image.mode, image.size) == ("PC15", mode, (24, 17))
        shown = torch.from_numpy(np.array(image))
    decoded = decode(path.read_bytes())
    assert torch.equal(shown, decoded[0] if channels == 1 else decoded.permute(1, 2, 0))


def test_streams_are_saved_to_and_opened_from_memory() -> None:
    buffer = io.BytesIO()
    Image.new("L", (20, 20), 99).save(buffer, format="PC15", **QUICK, lambda_rd=0.015)
    with Image.open(buffer) as image:
        assert abs(int(np.array(image).mean()) - 99) <= 1


def header_of(width: int, height: int) -> bytes:
    spec = PlaneSpec(tile=1024, overlap=0, window=0, subsample=0, amp_step=24, dc_step=24)
    return pack_v15(Header(width=width, height=height, color=0, planes=(spec,)), max_pixels=1 << 40)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(header_of(1 << 20, 1 << 11)))


def test_opening_reads_no_more_than_the_header() -> None:
    with Image.open(io.BytesIO(header_of(640, 480) + b"no sections at all")) as image:
        assert image.size == (640, 480)
        with pytest.raises(BitstreamError, match="cut"):
            image.load()


def test_a_damaged_stream_raises_when_its_pixels_are_needed() -> None:
    header = Header(16, 16, 0, (PlaneSpec(tile=16, overlap=0, window=0, subsample=0, amp_step=24, dc_step=24),))
    with (
        Image.open(io.BytesIO(write_container(Stream(header, [b"\xff\xff\xff\xff\xff"])))) as image,
        pytest.raises(BitstreamError),
    ):
        image.load()


def test_saving_says_what_it_cannot_do(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="mode RGBA as PC15; convert"):
        Image.new("RGBA", (4, 4)).save(tmp_path / "a.pc15")
    with pytest.raises(ConfigError, match="lambda_rd"):
        Image.new("L", (4, 4)).save(tmp_path / "a.pc15", lamda_rd=1.0)
    assert not (tmp_path / "a.pc15").exists()
