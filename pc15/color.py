"""Y, Cb, Cr planes <-> RGB picture, 4:2:0, in int32 alone: the same pixels on every device.

    Y  =  0.299 R + 0.587 G + 0.114 B             BT.601, full range as in JPEG, all planes uint8
    Cb = (B - Y) / 1.772 + 128,  Cr = (R - Y) / 1.402 + 128

Matrices are in Q16.  Y equals Pillow's `convert("L")` exactly; single pixels are within one level of Pillow's
YCbCr both ways.  A chroma sample sits in the middle of its 2x2 luma pixels and is their mean; an odd last
row or column is repeated.  Going back, chroma is interpolated linearly, 3/4 of the near and 1/4 of the far
sample per axis, and rounded only once, after the matrix.
Sources: ITU-T T.871 (JFIF) for matrix and siting; T. Lane, libjpeg, jdsample.c ("fancy upsampling").
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.errors import ImageError

__all__ = ["chroma_size", "rgb_to_ycbcr420", "ycbcr420_to_rgb"]

# Q16.  Each row's sum is exact: 65536 for Y, 0 for Cb and Cr, so grey stays grey.
_Y = (19595, 38470, 7471)
_CB = (-11059, -21709, 32768)
_CR = (32768, -27439, -5329)
_R_CR, _G_CB, _G_CR, _B_CB = 91881, -22554, -46802, 116130
_BAND_CPU, _BAND_GPU = 1 << 18, 1 << 26  # pixels converted at once: a core's cache; few launches


def chroma_size(H: int, W: int) -> tuple[int, int]:
    """Height and width of the Cb and Cr planes of an H x W picture: half, rounded up."""
    return (H + 1) // 2, (W + 1) // 2


def rgb_to_ycbcr420(rgb: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """[3,H,W] uint8 -> y [H,W], cb and cr [ceil(H/2),ceil(W/2)], all uint8.

    Raises:
        ImageError: not a [3,H,W] uint8 tensor with pixels in it.
    """
    if rgb.dim() != 3 or rgb.shape[0] != 3 or rgb.numel() == 0 or rgb.dtype != torch.uint8:
        raise ImageError(f"picture is {rgb.dtype} of shape {list(rgb.shape)}; give torch.uint8 as [3, H, W]")
    r, g, b = rgb.int()
    y = (_weigh(_Y, r, g, b) + (1 << 15)) >> 16  # at most 255 * 2^16: inside int32
    # The mean of four Q16 values in one shift by 18.  Half minus one keeps a saturated blue or red at 255.
    offset = (128 << 18) + (1 << 17) - 1
    cb = (_sum_2x2(_weigh(_CB, r, g, b)) + offset) >> 18
    cr = (_sum_2x2(_weigh(_CR, r, g, b)) + offset) >> 18
    return y.to(torch.uint8), cb.to(torch.uint8), cr.to(torch.uint8)


def ycbcr420_to_rgb(y: Tensor, cb: Tensor, cr: Tensor) -> Tensor:
    """y [H,W], cb and cr [ceil(H/2),ceil(W/2)], all uint8 -> [3,H,W] uint8, clamped.

    Raises:
        ImageError: a plane of another dtype, or chroma that is not half of luma, rounded up.
    """
    if y.dim() != 2 or y.numel() == 0 or y.dtype != torch.uint8:
        raise ImageError(f"luma plane is {y.dtype} of shape {list(y.shape)}; give torch.uint8 as [H, W]")
    H, W = y.shape
    for name, plane in (("cb", cb), ("cr", cr)):
        if tuple(plane.shape) != chroma_size(H, W) or plane.dtype != torch.uint8:
            raise ImageError(
                f"{name} plane is {plane.dtype} of shape {list(plane.shape)}; with a luma plane of {H}x{W} "
                f"it must be torch.uint8 of shape {list(chroma_size(H, W))}"
            )
    rgb = torch.empty((3, H, W), dtype=torch.uint8, device=y.device)
    step = 2 * max(1, (_BAND_CPU if y.device.type == "cpu" else _BAND_GPU) // (2 * W))
    for top in range(0, H, step):
        below = min(H, top + step)
        luma = (y[top:below].int() << 20).add_(1 << 19)  # Q20, with the rounding half; sums below stay under 2^30
        blue, red = (_upsample(plane, top, below, W) for plane in (cb, cr))  # Q4
        for row, (of_blue, of_red) in zip(rgb, ((0, _R_CR), (_G_CB, _G_CR), (_B_CB, 0)), strict=True):
            row[top:below] = ((luma + of_blue * blue).add_(of_red * red) >> 20).clamp_(0, 255)
    return rgb


def _weigh(row: tuple[int, int, int], r: Tensor, g: Tensor, b: Tensor) -> Tensor:
    return row[0] * r + row[1] * g + row[2] * b


def _sum_2x2(plane: Tensor) -> Tensor:
    """Sums of 2x2 blocks, an odd last row or column counted twice: [H,W] -> [ceil(H/2),ceil(W/2)]."""
    H, W = plane.shape
    if H % 2:
        plane = torch.cat((plane, plane[-1:]), dim=0)
    if W % 2:
        plane = torch.cat((plane, plane[:, -1:]), dim=1)
    rows = plane[0::2] + plane[1::2]
    return rows[:, 0::2] + rows[:, 1::2]


def _upsample(plane: Tensor, top: int, below: int, W: int) -> Tensor:
    """Rows top..below-1, top even, of a chroma plane at twice its size, times 16: [h,w] uint8 -> [rows,W] int32."""
    first = max(0, top // 2 - 1)  # interpolation takes a row on each side
    level = plane[first : below // 2 + 1].int() - 128
    return _double(_double(level, 0)[top - 2 * first : below - 2 * first], 1)[:, :W]


def _double(plane: Tensor, dim: int) -> Tensor:
    """Linear interpolation to twice the size along one axis, times 4; the edge repeats past the border."""
    n = plane.shape[dim]
    before = torch.cat((plane.narrow(dim, 0, 1), plane.narrow(dim, 0, n - 1)), dim)
    after = torch.cat((plane.narrow(dim, 1, n - 1), plane.narrow(dim, n - 1, 1)), dim)
    near = 3 * plane
    return torch.stack((near + before, near + after), dim + 1).flatten(dim, dim + 1)
