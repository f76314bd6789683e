"""Planes <-> picture: Pillow's numbers within one level, smooth pictures survive, odd sizes work."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pc15.color import chroma_size, rgb_to_ycbcr420, ycbcr420_to_rgb
from pc15.errors import ImageError

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def noise(H: int, W: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(H * 1000 + W)
    return torch.randint(0, 256, (3, H, W), generator=generator, dtype=torch.uint8)


def to_pillow(rgb: torch.Tensor) -> Image.Image:
    return Image.fromarray(rgb.permute(1, 2, 0).contiguous().numpy())


def worst(a: torch.Tensor, b: object) -> int:
    return int((a.int() - torch.from_numpy(np.array(b)).int()).abs().max())


def colour_cube(step: int = 15) -> torch.Tensor:
    levels = torch.arange(0, 256, step)
    cube = torch.stack(torch.meshgrid(levels, levels, levels, indexing="ij"))
    return cube.flatten(2).to(torch.uint8)  # [3,18,324]


def smooth(H: int, W: int) -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, H), torch.linspace(0, 1, W), indexing="ij")
    return (torch.stack((60 + 120 * x, 40 + 150 * y, 200 - 100 * x * y)) + 0.5).to(torch.uint8)


def test_luma_is_pillows() -> None:
    for rgb in (noise(61, 47), colour_cube()):
        assert worst(rgb_to_ycbcr420(rgb)[0], to_pillow(rgb).convert("L")) == 0


def test_single_pixels_convert_within_a_level_of_pillow() -> None:
    rgb = colour_cube()
    theirs = np.asarray(to_pillow(rgb).convert("YCbCr"))
    doubled = rgb.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)  # one colour per chroma sample
    y, cb, cr = rgb_to_ycbcr420(doubled)
    for mine, channel in ((y[::2, ::2], 0), (cb, 1), (cr, 2)):
        assert worst(mine, theirs[..., channel]) <= 1


def test_flat_colours_convert_back_within_a_level_of_pillow() -> None:
    for cb in range(0, 256, 17):
        for cr in range(0, 256, 17):
            y = torch.arange(256).view(16, 16).to(torch.uint8)
            b, r = (torch.full((8, 8), level, dtype=torch.uint8) for level in (cb, cr))
            planes = [y, torch.full_like(y, cb), torch.full_like(y, cr)]
            merged = Image.merge("YCbCr", [Image.fromarray(plane.numpy()) for plane in planes])
            assert worst(ycbcr420_to_rgb(y, b, r).permute(1, 2, 0), merged.convert("RGB")) <= 1


@pytest.mark.parametrize("level", [0, 1, 127, 128, 255])
def test_grey_stays_grey(level: int) -> None:
    grey = torch.full((3, 5, 7), level, dtype=torch.uint8)
    y, cb, cr = rgb_to_ycbcr420(grey)
    assert bool((cb == 128).all()) and bool((cr == 128).all())
    assert torch.equal(ycbcr420_to_rgb(y, cb, cr), grey)


def test_saturated_colours_do_not_wrap() -> None:
    for corner in torch.cartesian_prod(*[torch.tensor([0, 255], dtype=torch.uint8)] * 3):
        flat = corner[:, None, None].expand(3, 4, 4)
        assert int((ycbcr420_to_rgb(*rgb_to_ycbcr420(flat)).int() - flat.int()).abs().max()) <= 2


@pytest.mark.parametrize(("H", "W"), [(64, 96), (65, 97), (128, 31)])
def test_a_smooth_picture_survives_the_round_trip(H: int, W: int) -> None:
    rgb = smooth(H, W)
    error = (ycbcr420_to_rgb(*rgb_to_ycbcr420(rgb)).int() - rgb.int()).abs()
    assert int(error.max()) <= 6 and float(error.float().mean()) < 1.0  # worst at the border


def test_chroma_sits_in_the_middle_of_its_four_pixels() -> None:
    y = torch.full((2, 8), 128, dtype=torch.uint8)
    cr = torch.tensor([[128, 128, 144, 144]], dtype=torch.uint8)
    red = ycbcr420_to_rgb(y, torch.full_like(cr, 128), cr)[0, 0].tolist()
    assert red == [128 + round(1.402 * step) for step in (0, 0, 0, 4, 12, 16, 16, 16)]


@settings(deadline=None)
@given(H=st.integers(1, 20), W=st.integers(1, 20))
def test_every_size_works_and_flipping_commutes(H: int, W: int) -> None:
    rgb = noise(H, W)
    planes = rgb_to_ycbcr420(rgb)
    assert planes[0].shape == (H, W) and planes[1].shape == planes[2].shape == chroma_size(H, W)
    back = ycbcr420_to_rgb(*planes)
    assert back.shape == (3, H, W) and back.dtype == torch.uint8
    if H % 2 == 0 and W % 2 == 0:
        flipped = ycbcr420_to_rgb(*rgb_to_ycbcr420(rgb.flip(1, 2)))
        assert torch.equal(flipped.flip(1, 2), back)


def test_what_is_not_a_picture_is_refused() -> None:
    for shape, dtype in [((3, 4, 4), torch.float32), ((1, 4, 4), torch.uint8), ((3, 0, 4), torch.uint8)]:
        with pytest.raises(ImageError, match="picture is"):
            rgb_to_ycbcr420(torch.zeros(shape, dtype=dtype))
    y, half = torch.zeros(5, 5, dtype=torch.uint8), torch.zeros(3, 3, dtype=torch.uint8)
    with pytest.raises(ImageError, match=r"cr plane .* \[3, 3\]"):
        ycbcr420_to_rgb(y, half, half[:2])
    with pytest.raises(ImageError, match="luma plane"):
        ycbcr420_to_rgb(y.float(), half, half)


@pytest.mark.gpu
def test_the_gpu_converts_the_same_pixels() -> None:
    rgb = noise(61, 47)
    planes = rgb_to_ycbcr420(rgb)
    for mine, theirs in zip(planes, rgb_to_ycbcr420(rgb.to(DEVICE)), strict=True):
        assert torch.equal(mine, theirs.cpu())
    assert torch.equal(ycbcr420_to_rgb(*(p.to(DEVICE) for p in planes)).cpu(), ycbcr420_to_rgb(*planes))
