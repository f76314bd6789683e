"""Picture files in and out, luma to the same bits everywhere, and inputs that are refused with a reason."""

from __future__ import annotations

import io
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pc15 import images
from pc15.errors import ImageError
from pc15.images import check_luma, find_images, load_luma, load_rgb, luma_tensor, save_image, to_u8


def rgb(height: int = 9, width: int = 13, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, height, width), dtype=np.uint8))


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".bmp", ".ppm", ".tif", ".tiff", ".webp"])
def test_lossless_formats_give_the_planes_back(tmp_path: Path, suffix: str) -> None:
    colour, grey = tmp_path / f"colour{suffix}", tmp_path / f"grey{suffix}"
    save_image(colour, rgb())
    save_image(grey, rgb()[:1])
    assert torch.equal(load_rgb(colour), rgb())
    assert torch.equal(load_luma(grey), rgb()[:1])
    assert load_luma(grey).dtype == torch.uint8 and load_luma(grey).is_contiguous()


def test_jpeg_comes_close(tmp_path: Path) -> None:
    flat = torch.full((1, 16, 24), 77, dtype=torch.uint8)
    save_image(tmp_path / "flat.jpg", flat)
    assert (load_luma(tmp_path / "flat.jpg").int() - 77).abs().max() <= 1


def test_every_known_suffix_can_be_written(tmp_path: Path) -> None:
    for suffix in images.IMAGE_SUFFIXES:
        save_image(tmp_path / f"one{suffix}", torch.zeros(1, 1, 1, 1, dtype=torch.uint8))
    assert len(find_images(tmp_path)) == len(images.IMAGE_SUFFIXES)


def test_luma_is_what_pillow_calls_L(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", rgb())
    r, g, b = rgb().to(torch.int64)
    expected = (19595 * r + 38470 * g + 7471 * b + (1 << 15)) >> 16
    assert torch.equal(load_luma(tmp_path / "a.png")[0], expected.to(torch.uint8))


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(rgb().permute(1, 2, 0).numpy())
    exif = image.getexif()
    exif[0x0112] = 6  # stored lying on its side
    image.save(tmp_path / "turned.png", exif=exif)
    assert torch.equal(load_rgb(tmp_path / "turned.png"), rgb().rot90(-1, (1, 2)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_becomes_white_and_is_noted(tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str) -> None:
    if mode == "P":
        image = Image.new("P", (2, 1), 0)
        image.putpalette([10, 20, 30] * 256)
        image.putpixel((1, 0), 1)
        image.save(tmp_path / "t.png", transparency=0)
        opaque = [10, 20, 30]
    else:
        grey = (40,) if mode == "LA" else (40, 40, 40)
        image = Image.new(mode, (2, 1), (*grey, 0))
        image.putpixel((1, 0), (*grey, 255))
        image.save(tmp_path / "t.png")
        opaque = [40, 40, 40]
    with caplog.at_level(logging.WARNING):
        pixels = load_rgb(tmp_path / "t.png")
    assert pixels[:, 0, 0].tolist() == [255, 255, 255] and pixels[:, 0, 1].tolist() == opaque
    assert "t.png has transparent pixels" in caplog.text


def test_an_opaque_alpha_channel_is_dropped_in_silence(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGBA", (2, 2), (1, 2, 3, 255)).save(tmp_path / "o.png")
    assert load_rgb(tmp_path / "o.png")[:, 0, 0].tolist() == [1, 2, 3]
    assert caplog.text == ""


@pytest.mark.parametrize("suffix", ["png", "pgm", "tif"])
def test_sixteen_bits_are_scaled_to_eight(tmp_path: Path, suffix: str) -> None:
    wide = np.array([[0, 128, 129, 257, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(wide).save(tmp_path / f"wide.{suffix}")
    expected = np.round(wide.astype(np.float64) * 255 / 65535)
    assert load_luma(tmp_path / f"wide.{suffix}")[0].tolist() == expected.tolist()
    assert load_rgb(tmp_path / f"wide.{suffix}")[1].tolist() == expected.tolist()


def png16(samples: np.ndarray, kind: int) -> bytes:
    """A PNG of 16 bits per sample, which Pillow cannot write."""
    height, width = samples.shape[:2]

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff16(samples: np.ndarray, order: str) -> bytes:
    """An uncompressed TIFF of 16-bit RGB; order: < or >."""
    height, width, _ = samples.shape
    data, after = samples.astype(f"{order}u2").tobytes(), 8 + 2 + 12 * 9 + 4
    short, many = 3, {258: (3, 3, after), 273: (4, 1, after + 6), 279: (4, 1, len(data))}
    plain = {256: width, 257: height, 259: 1, 262: 2, 277: 3, 278: height}
    entries = b""
    for tag in sorted({**plain, **many}):
        kind, count, value = many.get(tag, (short, 1, plain.get(tag, 0)))
        entries += struct.pack(f"{order}HHI", tag, kind, count)
        entries += struct.pack(f"{order}HH", value, 0) if tag in plain else struct.pack(f"{order}I", value)
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, 9)
    return start + entries + struct.pack(f"{order}IHHH", 0, 16, 16, 16) + data


def test_sixteen_bit_colour_is_rounded_as_gray_is() -> None:
    rgb = np.random.default_rng(0).integers(0, 65536, (5, 7, 3))
    opaque = np.full((5, 7, 1), 65535)
    want = ((rgb * 255 + 0x7FFF) // 0xFFFF).transpose(2, 0, 1)
    for data in (png16(rgb, 2), png16(np.dstack([rgb, opaque]), 6), tiff16(rgb, "<"), tiff16(rgb, ">")):
        assert np.array_equal(load_rgb(io.BytesIO(data)).numpy(), want)
    gray = png16(np.dstack([rgb[:, :, :1], opaque]), 4)
    assert np.array_equal(load_luma(io.BytesIO(gray)).numpy(), want[:1])
    assert np.array_equal(load_luma(io.BytesIO(png16(rgb[:, :, :1], 0))).numpy(), want[:1])
    half = np.dstack([rgb, np.full((5, 7, 1), 32896)])  # half white, as with 8 bits
    blended = load_rgb(io.BytesIO(png16(half, 6))).numpy().astype(int)
    assert abs(blended - (want * 128 + 255 * 127) / 255).max() <= 1


@pytest.mark.filterwarnings("error")
def test_a_picture_of_one_pixel_warns_of_nothing() -> None:
    one = io.BytesIO()
    Image.new("RGB", (1, 1), (1, 2, 3)).save(one, "PNG")
    assert load_rgb(io.BytesIO(one.getvalue())).flatten().tolist() == [1, 2, 3]


def test_reading_a_picture_leaves_the_process_s_warnings_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They belong to all threads, so that whoever sets them for a moment sets them for all."""
    import warnings

    for name in ("a.png", "a.jpg", "a.tif"):
        save_image(tmp_path / name, torch.full((3, 5, 7), 90, dtype=torch.uint8))

    def touched(*_: object, **__: object) -> None:
        raise AssertionError("the filters of warnings are those of all threads")

    for name in ("catch_warnings", "simplefilter", "filterwarnings", "resetwarnings"):
        monkeypatch.setattr(warnings, name, touched)
    for path in sorted(tmp_path.iterdir()):
        assert load_rgb(path).shape == (3, 5, 7) and load_luma(path).shape == (1, 5, 7)


def test_float_files_are_luma_in_0_1_or_refused(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "f.tif")
    assert load_luma(tmp_path / "f.tif").tolist() == [[[0, 128, 255]]]
    Image.fromarray(np.array([[0.0, 300.0]], dtype=np.float32)).save(tmp_path / "g.tif")
    with pytest.raises(ImageError, match="float samples outside"):
        load_luma(tmp_path / "g.tif")
    Image.fromarray(np.array([[-1, 300]], dtype=np.int32)).save(tmp_path / "i.tif")
    with pytest.raises(ImageError, match="from -1 to 300"):
        load_luma(tmp_path / "i.tif")


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_every_mode_of_pillow_is_read(tmp_path: Path, mode: str) -> None:
    suffix = "tif" if mode in ("CMYK", "YCbCr", "LAB") else "png"
    Image.new(mode, (5, 4)).save(tmp_path / f"m.{suffix}")
    assert load_rgb(tmp_path / f"m.{suffix}").shape == (3, 4, 5)
    assert load_luma(tmp_path / f"m.{suffix}").shape == (1, 4, 5)


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"text.png \(13 bytes\) is not an image"):
        load_rgb(tmp_path / "text.png")
    with pytest.raises(ImageError, match=r"empty.png \(0 bytes\)"):
        load_luma(tmp_path / "empty.png")
    with pytest.raises(ImageError, match="no file .*absent.png"):
        load_luma(tmp_path / "absent.png")
    with pytest.raises(ImageError):
        load_luma(tmp_path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".ppm", ".webp"])
def test_a_file_cut_short_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    save_image(path, rgb(64, 64))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ImageError, match="cut"):
        load_rgb(path)


def test_a_decompression_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 0, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    (tmp_path / "bomb.png").write_bytes(bomb)
    with pytest.raises(ImageError, match="pass max_pixels"):
        load_luma(tmp_path / "bomb.png")
    save_image(tmp_path / "small.png", rgb(10, 10))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    with pytest.raises(ImageError, match="10x10 pixels, over 99"):
        load_luma(tmp_path / "small.png")


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".ppm", ".webp"])
def test_a_damaged_file_is_read_or_refused_but_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"damaged{suffix}"
    save_image(path, rgb(8, 8))
    whole, rng = path.read_bytes(), np.random.default_rng(5)
    for _ in range(60):
        broken = bytearray(whole)
        for at in rng.integers(0, min(len(broken), 200), 2):
            broken[at] = rng.integers(0, 256)
        path.write_bytes(broken)
        try:
            assert load_rgb(path).shape[0] == 3
        except ImageError as error:
            assert path.name in str(error)


def test_an_unknown_suffix_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"unknown suffix '.jpgg'; did you mean .jpe?g\?; use one of .bmp"):
        save_image(tmp_path / "a.jpgg", rgb())
    with pytest.raises(ImageError, match="unknown suffix ''"):
        save_image(tmp_path / "a", rgb())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("planes", "says"),
    [
        (torch.zeros(1, 4, 4), "convert them with to_u8"),
        (torch.zeros(2, 4, 4, dtype=torch.uint8), "shape"),
        (torch.zeros(1, 0, 4, dtype=torch.uint8), "H, W > 0"),
        (torch.zeros(4, dtype=torch.uint8), "shape"),
    ],
)
def test_planes_that_cannot_be_written_are_refused(tmp_path: Path, planes: torch.Tensor, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        save_image(tmp_path / "a.png", planes)


def test_a_format_that_cannot_hold_the_size_says_so(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="WEBP does not take 17000x1 pixels"):
        save_image(tmp_path / "wide.webp", torch.zeros(1, 1, 17000, dtype=torch.uint8))
    assert list(tmp_path.iterdir()) == []


def test_luma_goes_to_floats_and_back_unchanged() -> None:
    u8 = torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    y = luma_tensor(u8)
    assert y.shape == (1, 1, 16, 16) and y.dtype == torch.float32
    assert np.array_equal(y.numpy().ravel(), np.arange(256, dtype=np.float32) / np.float32(255))
    for dtype in (torch.float32, torch.float64, torch.float16):
        assert torch.equal(to_u8(y.to(dtype))[0], u8)
    assert torch.equal(check_luma(y), y)
    with pytest.raises(ImageError, match="needs uint8"):
        luma_tensor(y)


@pytest.mark.gpu
def test_luma_has_the_same_bits_on_every_device(device: torch.device) -> None:
    u8 = torch.arange(256, dtype=torch.uint8).view(16, 16)
    assert torch.equal(luma_tensor(u8.to(device)).cpu(), luma_tensor(u8))
    noise = torch.rand(64, 64, generator=torch.Generator().manual_seed(1))
    assert torch.equal(to_u8(noise.to(device)).cpu(), to_u8(noise))


@given(st.floats(0.0, 1.0))
def test_rounding_to_8_bits_is_to_the_nearest(value: float) -> None:
    u8 = to_u8(torch.tensor([value], dtype=torch.float64))
    assert abs(int(u8) - value * 255) <= 0.5 + 1e-4
    wild = value * 3 - 1
    assert torch.equal(to_u8(torch.tensor([wild])), to_u8(torch.tensor([min(max(wild, 0.0), 1.0)])))


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (1, 1, 5, 7), (1, 1)])
def test_a_plane_may_come_in_three_ranks(shape: tuple[int, ...]) -> None:
    y = torch.rand(shape, dtype=torch.float64)
    checked = check_luma(y)
    assert checked.shape == (1, 1, *shape[-2:]) and checked.dtype == torch.float32
    assert checked.is_contiguous() and torch.equal(checked.flatten(), y.flatten().float())


def test_rounding_a_little_past_the_range_is_clamped() -> None:
    assert check_luma(torch.tensor([[-9e-7, 1.0 + 9e-7]])).tolist() == [[[[0.0, 1.0]]]]


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (np.zeros((4, 4)), "torch.from_numpy"),
        (torch.zeros(4, 4, dtype=torch.uint8), "pc15.images.luma_tensor"),
        (torch.zeros(4, 4, dtype=torch.int64), "scale it"),
        (torch.zeros(4), r"shape \[4\]"),
        (torch.zeros(3, 4, 4), "one plane"),
        (torch.zeros(2, 1, 4, 4), "one plane"),
        (torch.zeros(1, 1, 1, 4, 4), "one plane"),
        (torch.zeros(1, 1, 0, 4), "no pixel at all"),
        (torch.tensor([[0.0, 0.5], [float("nan"), 0.5]]), r"nan at index \[0, 0, 1, 0\], and 1 of 4"),
        (torch.tensor([[0.0, float("inf")]]), "inf at index"),
        (torch.tensor([[0.0, 0.5], [0.2, 1.1]]), "1.1 at row 1, column 1 is outside"),
        (torch.tensor([[0.0, -0.1]]), "-0.1 at row 0, column 1 .*clamp"),
        (torch.tensor([[0.0, 255.0]]), "divide by 255"),
    ],
)
def test_what_cannot_be_coded_is_refused_with_a_reason(y: torch.Tensor, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        check_luma(y)


def test_folders_stand_for_their_pictures(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "sub/c.webp", ".hidden/d.png", "notes.txt", "._e.png", "odd.raw"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    names = [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path, tmp_path / "b.png"])]
    assert names == ["a.JPG", "b.png", "sub/c.webp"]
    assert find_images(str(tmp_path / "odd.raw")) == [tmp_path / "odd.raw"]
    with pytest.raises(ImageError, match="no file or folder .*absent"):
        find_images([tmp_path, tmp_path / "absent"])
    (tmp_path / "none").mkdir()
    with pytest.raises(ImageError, match="no picture in .*none; looked for .bmp"):
        find_images(tmp_path / "none")
    with pytest.raises(ImageError, match="an empty list"):
        find_images([])
