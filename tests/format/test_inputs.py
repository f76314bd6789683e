"""What callers may hand over as a picture or a stream: any layout, arrays, Pillow's pictures, paths and open files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pc15 import (
    CodecConfig,
    HeuristicHooks,
    TileGridCfg,
    blend,
    decode,
    decode_many,
    decode_y,
    encode,
    encode_many,
    encode_y,
    render,
    seam_penalty_mask,
    tile_image,
    tile_seed,
)
from pc15.errors import BitstreamError, ConfigError, ImageError
from pc15.images import as_luma, as_planes, load_luma, luma_tensor

TINY = CodecConfig.preset("fast", residual=False, tile=16, max_layers=1, device="cpu")
RGB = torch.from_numpy(np.random.default_rng(3).integers(0, 256, (3, 18, 20), dtype=np.uint8))
GRAY = RGB[:1].contiguous()


def code(picture: Any) -> bytes:
    data: bytes = encode(picture, TINY)["bitstream"]
    return data


def png(planes: torch.Tensor) -> Image.Image:
    return Image.fromarray(planes.permute(1, 2, 0).contiguous().squeeze(2).numpy())


# ---------------------------------------------------------------- pictures


@pytest.mark.parametrize(
    "view",
    [
        lambda p: p.transpose(1, 2),
        lambda p: torch.rot90(p, 1, (1, 2)),
        lambda p: p[:, ::2, 1::3],
        lambda p: p[:1].transpose(1, 2),
        lambda p: p[:1].expand(3, 18, 20),
        lambda p: p[0, 0].expand(3, 5, 20),
        lambda p: p.permute(1, 2, 0).contiguous().permute(2, 0, 1),
    ],
)
def test_any_layout_of_a_tensor_is_coded_as_its_contiguous_copy(view: Callable[[torch.Tensor], torch.Tensor]) -> None:
    assert code(view(RGB)) == code(view(RGB).contiguous().clone())
    luma = view(RGB)[0].float() / 255
    assert encode_y(luma, TINY)["bitstream"] == encode_y(luma.contiguous().clone(), TINY)["bitstream"]


def test_arrays_of_any_strides_are_coded_as_tensors() -> None:
    flipped, want = RGB.numpy()[:, ::-1, ::-1], code(RGB.flip(1, 2))
    flipped.setflags(write=False)
    assert code(flipped) == code(flipped.transpose(1, 2, 0)) == want
    assert code(np.asfortranarray(flipped)) == want
    assert code(RGB.permute(1, 2, 0)) == code(RGB)
    assert code(GRAY[0]) == code(GRAY.numpy()) == code(GRAY[0].numpy()) == code(GRAY)


def test_three_samples_at_both_ends_are_channels_first_in_tensors_and_last_in_arrays() -> None:
    both = RGB[:, :, :3].contiguous()
    assert np.array_equal(as_planes(both), both)
    assert np.array_equal(as_planes(both.numpy()), both.permute(2, 0, 1))
    assert np.array_equal(as_planes(both[:1]), both[:1])
    assert as_planes(both[:1].numpy()).shape == (3, 1, 18)


def test_pictures_of_pillow_paths_and_files_are_coded_as_the_command_line_does(tmp_path: Path) -> None:
    png(RGB).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("rb") as file:
        assert code(file) == code(RGB)
    assert code(tmp_path / "a.png") == code(str(tmp_path / "a.png")) == code(png(RGB)) == code(RGB)
    assert code(io.BytesIO((tmp_path / "a.png").read_bytes())) == code(RGB)
    assert code(png(GRAY)) == code(png(GRAY).convert("RGB")) == code(png(GRAY).convert("LA")) == code(GRAY)
    turned = Image.Exif()
    turned[274] = 6  # stored on its side
    png(RGB).save(tmp_path / "turned.png", exif=turned)
    with Image.open(tmp_path / "turned.png") as image:
        assert code(image) == code(tmp_path / "turned.png") == code(torch.rot90(RGB, -1, (1, 2)))


def test_encode_y_takes_the_luma_of_what_encode_takes(tmp_path: Path) -> None:
    png(RGB).save(tmp_path / "a.png")
    want = luma_tensor(load_luma(tmp_path / "a.png"))
    with (tmp_path / "a.png").open("rb") as file:
        for given in (RGB, RGB.numpy(), RGB.permute(1, 2, 0).numpy(), png(RGB), tmp_path / "a.png", file):
            assert np.array_equal(as_luma(given), want)
    for given in (want[0, 0].numpy(), want.double().numpy(), want[0].numpy().astype(">f4"), (want * 255).byte()):
        assert encode_y(given, TINY)["bitstream"] == encode_y(want, TINY)["bitstream"]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "of type NoneType, not a picture"),
        (7, "of type int"),
        ([[0, 1]], "of type list"),
        (b"PNG", "of type bytes"),
        (np.zeros((4, 4), np.uint16), "array of uint16 of shape .* scale it to uint8"),
        (np.zeros((4, 4), bool), "array of bool"),
        (np.zeros((4, 4), complex), "array of complex128"),
        (np.zeros((4, 4), object), "array of object"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 of shape \[4, 4, 4\]; give uint8 \[3,H,W\], \[H,W,3\]"),
        (np.zeros((), np.uint8), r"shape \[\]"),
        (np.zeros((0, 4, 3), np.uint8), r"shape \[0, 4, 3\]"),
        (np.ma.masked_equal(np.zeros((4, 4), np.uint8), 0), "masked samples"),
        (torch.zeros(4, 4, dtype=torch.uint8).to_sparse(), "in layout torch.sparse_coo"),
        (torch.zeros(4, 4, dtype=torch.uint8, device="meta"), "without data"),
        (io.StringIO("text"), "gives str, not bytes; open it in binary mode"),
        (io.BytesIO(b"no picture"), r"the open file \(10 bytes\) is not an image"),
        (Path("absent.png"), "no file absent.png"),
    ],
    ids=lambda given: type(given).__name__,
)
def test_anything_else_is_refused_with_a_reason(given: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        encode(given, TINY)
    if isinstance(given, io.BytesIO | io.StringIO):
        given.seek(0)
    with pytest.raises(ImageError, match=says.partition(";")[0]):
        encode_y(given, TINY)


def test_floats_are_for_encode_y() -> None:
    for given in (np.zeros((4, 4), np.float32), torch.zeros(4, 4)):
        with pytest.raises(ImageError, match="or a float luma to encode_y"):
            encode(given, TINY)


def test_a_closed_or_damaged_file_is_refused(tmp_path: Path) -> None:
    closed = io.BytesIO()
    closed.close()
    with pytest.raises(ImageError, match="closed file"):
        encode(closed, TINY)
    png(RGB).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:400])
    with Image.open(tmp_path / "a.png") as image, pytest.raises(ImageError, match="cut short"):
        encode(image, TINY)


def test_numbers_of_numpy_are_numbers_everywhere() -> None:
    whole, real = np.int64, np.float32
    drawn = render("STRIPES", whole(8), whole(9), {"freq": real(6.5)}, batch=whole(2), seed=np.uint32(7))
    assert torch.equal(drawn, render("STRIPES", 8, 9, {"freq": 6.5}, batch=2, seed=7))
    several = render("PERLIN", 8, 8, {"cells": np.array([4.0, 5.0])}, batch=2, seed=torch.tensor([1, 2]))
    assert torch.equal(several, render("PERLIN", 8, 8, {"cells": [4.0, 5.0]}, batch=2, seed=[1, 2]))
    assert tile_seed(np.uint32(1234), np.uint8(3)) == tile_seed(1234, 3)
    grid = TileGridCfg(size=whole(16), overlap=whole(4))
    assert grid == TileGridCfg(16, 4)
    assert type(grid.size) is int
    spec = tile_image(luma_tensor(GRAY), grid)
    assert spec.tiles is not None
    own = blend(spec.tiles, spec, whole(18), whole(20), window="tukey", window_params={"alpha": real(0.5)})
    assert torch.equal(own, blend(spec.tiles, spec, 18, 20, window="tukey", window_params={"alpha": 0.5}))
    mask = seam_penalty_mask(size=whole(16), overlap=whole(4), power=real(1.5))
    assert torch.equal(mask, seam_penalty_mask(size=16, overlap=4, power=1.5))
    assert HeuristicHooks(topk=whole(3)).topk == 3
    assert len(encode_many([GRAY], TINY, workers=whole(1))) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"H": 8.5, "W": 8}, "whole numbers H, W and batch of at least 1, got H=8.5"),
        ({"H": 8, "W": "8"}, "W='8'"),
        ({"H": 8, "W": 8, "batch": 0}, "batch=0"),
        ({"H": 8, "W": 8, "params": {"freq": None}}, "STRIPES.freq is None; give a number"),
        ({"H": 8, "W": 8, "params": {"freq": "many"}}, "STRIPES.freq is 'many'"),
        ({"H": 8, "W": 8, "seed": 1.5}, "seed is 1.5"),
    ],
)
def test_what_is_no_number_is_a_wrong_option(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        render("STRIPES", **options)


# ---------------------------------------------------------------- several pictures


def test_a_generator_gives_as_many_results_as_a_list() -> None:
    many = [one["bitstream"] for one in encode_many((p for p in (RGB, GRAY[0].numpy())), TINY)]
    assert many == [code(RGB), code(GRAY)]
    assert [p.shape for p in decode_many(stream for stream in many)] == [RGB.shape, GRAY.shape]
    assert len(encode_many(torch.stack([RGB, RGB]), TINY)) == 2
    assert encode_many(iter([]), TINY) == [] == decode_many(iter([]))


@pytest.mark.parametrize("one", [RGB, RGB.numpy(), Path("a.png"), "a.png", png(RGB), io.BytesIO(), 5])
def test_one_picture_is_not_several(one: Any) -> None:
    with pytest.raises(ImageError, match="not several pictures; give a list"):
        encode_many(one, TINY)


def test_which_of_several_is_wrong_is_said() -> None:
    with pytest.raises(ImageError, match="picture 1 of 2 is torch.float32"):
        encode_many([RGB, torch.zeros(3, 4, 4)], TINY)


# ---------------------------------------------------------------- streams


def test_a_stream_may_be_bytes_in_any_buffer_a_path_or_a_file(tmp_path: Path) -> None:
    data = code(RGB)
    path = tmp_path / "a.pc15"
    path.write_bytes(data)
    want = decode(data)
    with path.open("rb") as file:
        for given in (bytearray(data), memoryview(data), np.frombuffer(data, np.uint8), path, str(path), file):
            assert torch.equal(decode(given), want)  # type: ignore[arg-type]
    assert torch.equal(decode_y(io.BytesIO(data)), decode_y(data))
    assert all(torch.equal(picture, want) for picture in decode_many([path, data, io.BytesIO(data)]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, "cannot be NoneType; give its bytes"),
        ([1, 2], "cannot be list"),
        (torch.zeros(4, dtype=torch.uint8), "cannot be Tensor"),
        ("absent.pc15", "cannot read stream 'absent.pc15': No such file"),
        ("a\0b", "cannot read stream"),
        (io.StringIO("PC15"), "gives str, not bytes"),
        (Path(), "cannot read stream"),
    ],
)
def test_what_is_no_stream_is_refused_with_a_reason(given: Any, says: str) -> None:
    for attempt in (decode, decode_y):
        with pytest.raises(BitstreamError, match=says):
            attempt(given)


@pytest.mark.parametrize("one", [b"PC15", "a.pc15", io.BytesIO(), None])
def test_one_stream_is_not_several(one: Any) -> None:
    with pytest.raises(BitstreamError, match="not several streams; give a list"):
        decode_many(one)
