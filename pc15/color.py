"""Y, Cb, Cr planes <-> RGB picture, 4:2:0, in int32 alone: the same pixels on every device, of arrays and of tensors.

    Y  =  0.299 R + 0.587 G + 0.114 B             BT.601, full range as in JPEG, all planes uint8
    Cb = (B - Y) / 1.772 + 128,  Cr = (R - Y) / 1.402 + 128

Matrices are in Q16.  Y equals Pillow's `convert("L")` exactly; single pixels are within one level of Pillow's
YCbCr both ways.  A chroma sample sits in the middle of its 2x2 luma pixels and is their mean; an odd last
row or column is repeated.  Going back, chroma is interpolated linearly, 3/4 of the near and 1/4 of the far
sample per axis, and rounded only once, after the matrix.
Sources: ITU-T T.871 (JFIF) for matrix and siting; T. Lane, libjpeg, jdsample.c ("fancy upsampling").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from pc15.errors import ImageError
from pc15.runtime.tensors import is_tensor

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["chroma_size", "rgb_to_ycbcr420", "ycbcr420_to_rgb"]

Samples = TypeVar("Samples", npt.NDArray[Any], "Tensor")
"""An array of NumPy, or a tensor of torch on any device."""

# Q16.  Each row's sum is exact: 65536 for Y, 0 for Cb and Cr, so grey stays grey.
_Y = (19595, 38470, 7471)
_CB = (-11059, -21709, 32768)
_CR = (32768, -27439, -5329)
_R_CR, _G_CB, _G_CR, _B_CB = 91881, -22554, -46802, 116130
_BAND_CPU, _BAND_GPU = 1 << 18, 1 << 26  # pixels converted at once: a core's cache; few launches


def chroma_size(H: int, W: int) -> tuple[int, int]:
    """Height and width of the Cb and Cr planes of an H x W picture: half, rounded up."""
    return (H + 1) // 2, (W + 1) // 2


def rgb_to_ycbcr420(rgb: Samples) -> tuple[Samples, Samples, Samples]:
    """[3,H,W] uint8 -> y [H,W], cb and cr [ceil(H/2),ceil(W/2)], all uint8 and of the same kind, array or tensor.

    Raises:
        ImageError: not [3,H,W] uint8 with pixels in it.
    """
    if rgb.ndim != 3 or rgb.shape[0] != 3 or 0 in rgb.shape or not _is_uint8(rgb):
        raise ImageError(f"picture is {rgb.dtype} of shape {list(rgb.shape)}; give uint8 as [3, H, W]")
    r, g, b = _int32(rgb)
    y = (_weigh(_Y, r, g, b) + (1 << 15)) >> 16  # at most 255 * 2^16: inside int32
    # The mean of four Q16 values in one shift by 18.  Half minus one keeps a saturated blue or red at 255.
    offset = (128 << 18) + (1 << 17) - 1
    cb = (_sum_2x2(_weigh(_CB, r, g, b)) + offset) >> 18
    cr = (_sum_2x2(_weigh(_CR, r, g, b)) + offset) >> 18
    return _uint8(y), _uint8(cb), _uint8(cr)


def ycbcr420_to_rgb(y: Samples, cb: Samples, cr: Samples) -> Samples:
    """y [H,W], cb and cr [ceil(H/2),ceil(W/2)], all uint8 -> [3,H,W] uint8 of the same kind, clamped.

    Raises:
        ImageError: a plane of another dtype, or chroma that is not half of luma, rounded up.
    """
    if y.ndim != 2 or 0 in y.shape or not _is_uint8(y):
        raise ImageError(f"luma plane is {y.dtype} of shape {list(y.shape)}; give uint8 as [H, W]")
    H, W = y.shape
    for name, plane in (("cb", cb), ("cr", cr)):
        if tuple(plane.shape) != chroma_size(H, W) or not _is_uint8(plane):
            raise ImageError(
                f"{name} plane is {plane.dtype} of shape {list(plane.shape)}; with a luma plane of {H}x{W} "
                f"it must be uint8 of shape {list(chroma_size(H, W))}"
            )
    rgb = _like(y, (3, H, W))
    step = 2 * max(1, (_BAND_GPU if is_tensor(y) and y.is_cuda else _BAND_CPU) // (2 * W))
    for top in range(0, H, step):
        below = min(H, top + step)
        luma = _int32(y[top:below])  # Q20, with the rounding half; sums below stay under 2^30
        luma <<= 20
        luma += 1 << 19
        blue, red = (_upsample(plane, top, below, W) for plane in (cb, cr))  # Q4
        for row, (of_blue, of_red) in zip(rgb, ((0, _R_CR), (_G_CB, _G_CR), (_B_CB, 0)), strict=True):
            total = luma
            for weight, chroma in ((of_blue, blue), (of_red, red)):
                if weight:
                    total = total + weight * chroma
            total >>= 20
            row[top:below] = total.clip(0, 255)
    return rgb


def _is_uint8(samples: npt.NDArray[Any] | Tensor) -> bool:
    return str(samples.dtype).removeprefix("torch.") == "uint8"


def _int32(samples: Samples) -> Samples:
    """A copy that is wide enough to compute with."""
    return samples.astype(np.int32) if isinstance(samples, np.ndarray) else samples.int()


def _uint8(samples: Samples) -> Samples:
    return samples.astype(np.uint8) if isinstance(samples, np.ndarray) else samples.byte()


def _like(samples: Samples, shape: tuple[int, ...]) -> Samples:
    """Room for others of the same kind, on the same device."""
    if isinstance(samples, np.ndarray):
        return np.empty(shape, samples.dtype)
    return samples.new_empty(shape)


def _weigh(row: tuple[int, int, int], r: Samples, g: Samples, b: Samples) -> Samples:
    return row[0] * r + row[1] * g + row[2] * b


def _sum_2x2(plane: Samples) -> Samples:
    """Sums of 2x2 blocks, an odd last row or column counted twice: [H,W] -> [ceil(H/2),ceil(W/2)]."""
    rows = plane[0::2] + 0  # a copy
    rows[: plane.shape[0] // 2] += plane[1::2]
    if plane.shape[0] % 2:
        rows[-1] *= 2
    sums = rows[:, 0::2] + 0
    sums[:, : plane.shape[1] // 2] += rows[:, 1::2]
    if plane.shape[1] % 2:
        sums[:, -1] *= 2
    return sums


def _upsample(plane: Samples, top: int, below: int, W: int) -> Samples:
    """Rows top..below-1, top even, of a chroma plane at twice its size, times 16: [h,w] uint8 -> [rows,W] int32."""
    first = max(0, top // 2 - 1)  # interpolation takes a row on each side
    level = _int32(plane[first : below // 2 + 1])
    level -= 128
    return _double_across(_double_down(level)[top - 2 * first : below - 2 * first])[:, :W]


def _double_down(plane: Samples) -> Samples:
    """Linear interpolation to twice the rows, times 4; the edge repeats past the border."""
    out, near = _like(plane, (2 * plane.shape[0], plane.shape[1])), 3 * plane
    out[0::2] = near
    out[1::2] = near
    out[2::2] += plane[:-1]
    out[1:-1:2] += plane[1:]
    out[0] += plane[0]
    out[-1] += plane[-1]
    return out


def _double_across(plane: Samples) -> Samples:
    """The same along rows."""
    out, near = _like(plane, (plane.shape[0], 2 * plane.shape[1])), 3 * plane
    out[:, 0::2] = near
    out[:, 1::2] = near
    out[:, 2::2] += plane[:, :-1]
    out[:, 1:-1:2] += plane[:, 1:]
    out[:, 0] += plane[:, 0]
    out[:, -1] += plane[:, -1]
    return out
