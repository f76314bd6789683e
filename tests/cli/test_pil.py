"""Streams in Pillow: opening, saving, and what Pillow guards against."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, UnidentifiedImageError

import pc15.pil  # noqa: F401  (registers the plugin)
from pc15 import CodecConfig, decode, encode, pack_v15
from pc15.bitstream import Header, PlaneSpec
from pc15.errors import ConfigError
from pc15.images import load_rgb

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
        with pytest.raises(OSError, match="cut"):
            image.load()


@pytest.fixture
def stream() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((40, 30), 50).save(buffer, format="PC15", preset="fast", device="cpu")
    return buffer.getvalue()


def test_what_only_begins_like_a_stream_is_not_identified(stream: bytes) -> None:
    for data in (b"PC15 is what this text is about", stream[:6] + b"\xff" + stream[7:], stream[:9], b"PC15"):
        with pytest.raises(UnidentifiedImageError):
            Image.open(io.BytesIO(data))


def test_a_damaged_stream_is_an_os_error_when_its_pixels_are_needed(stream: bytes) -> None:
    for data in (stream[:-5], stream[:-5] + bytes(5), stream + b"more"):
        with Image.open(io.BytesIO(data)) as image, pytest.raises(OSError):
            image.load()


def test_truncated_streams_are_shown_where_pillow_is_told_to(stream: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with Image.open(io.BytesIO(stream[:-5])) as image:
        image.load()
        assert np.array(image).shape == (30, 40)


@pytest.mark.parametrize(
    ("mode", "shown"),
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "L"),
        ("I;16", "L"),
        ("P", "RGB"),
        ("RGBA", "RGB"),
        ("CMYK", "RGB"),
        ("RGB", "RGB"),
    ],
)
def test_every_mode_is_saved_as_the_command_line_reads_it(mode: str, shown: str, tmp_path: Path) -> None:
    if mode == "I;16":
        image = Image.fromarray((np.arange(24 * 17).reshape(17, 24) * 150).astype(np.uint16))
    else:
        image = Image.fromarray(picture(3).permute(1, 2, 0).contiguous().numpy()).convert(mode)
    name = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(name)
    buffer = io.BytesIO()
    image.save(buffer, format="PC15", **QUICK)
    with Image.open(buffer) as again:
        assert (again.mode, again.size) == (shown, image.size)
    planes = load_rgb(name)
    options = {k: v for k, v in QUICK.items() if k != "preset"}
    expected = encode(planes if shown == "RGB" else planes[:1], CodecConfig.preset("fast", **options))
    assert buffer.getvalue() == expected["bitstream"]


def test_keywords_of_other_writers_are_ignored_and_slips_are_not(tmp_path: Path) -> None:
    image = Image.new("L", (8, 8), 9)
    foreign = {"exif": b"", "icc_profile": None, "dpi": (72, 72), "optimize": True, "progressive": True, "xmp": b""}
    image.save(tmp_path / "a.pc15", **QUICK)
    image.save(tmp_path / "b.pc15", **QUICK, **foreign)
    assert (tmp_path / "a.pc15").read_bytes() == (tmp_path / "b.pc15").read_bytes()
    with pytest.raises(ConfigError, match="lambda_rd"):
        image.save(tmp_path / "c.pc15", lamda_rd=1.0)
    assert not (tmp_path / "c.pc15").exists()
