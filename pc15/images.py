"""Picture files <-> uint8 planes <-> luma in [0,1], and the checks that an encoder's input has to pass.

Planes are uint8 [C,H,W], arrays of NumPy; `load_rgb`, `load_luma`, `luma_tensor`, `to_u8` and `check_luma` are for
those who work with tensors, and the only ones that load torch.  uint8 becomes float through a table of 256 values
computed once by NumPy, so that the same file gives the same bits on every device; the way back rounds to the nearest.
Luma is BT.601 full range, as in Pillow's convert("L"): (19595 R + 38470 G + 7471 B + 2^15) >> 16.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from pc15.color import Samples, rgb_to_ycbcr420
from pc15.errors import ImageError, did_you_mean
from pc15.paths import write_atomic
from pc15.picture_files import DAMAGE, cannot_read, read_upright, upright_8bit
from pc15.runtime.tensors import is_tensor, load_torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "IMAGE_SUFFIXES",
    "PictureLike",
    "as_luma",
    "as_planes",
    "check_luma",
    "find_images",
    "load_luma",
    "load_rgb",
    "luma_of",
    "luma_tensor",
    "picture_bytes",
    "read_luma",
    "read_rgb",
    "save_image",
    "several_pictures",
    "to_u8",
]

IMAGE_SUFFIXES = {
    ".bmp": "BMP",
    ".jpeg": "JPEG",
    ".jpg": "JPEG",
    ".pgm": "PPM",
    ".png": "PNG",
    ".ppm": "PPM",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".webp": "WEBP",
}
_SAVE_OPTIONS: dict[str, dict[str, object]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {"optimize": False},
    "TIFF": {"compression": "tiff_deflate"},
    "WEBP": {"lossless": True},
}
_LUMA = np.arange(256, dtype=np.float32) / np.float32(255.0)
_AT_ONCE = 1 << 20  # samples converted at once

Bytes: TypeAlias = npt.NDArray[np.uint8]
PictureLike: TypeAlias = "Tensor | npt.NDArray[Any] | Image.Image | str | os.PathLike[str] | IO[bytes]"
"""Types that may be given as a picture: a tensor, an array, a picture of Pillow, or the path or open file of one."""


def read_rgb(source: str | os.PathLike[str] | IO[bytes], *, max_pixels: int | None = None) -> Bytes:
    """Read a picture file as R, G, B: uint8 [3,H,W].

    EXIF orientation is applied, transparency composited on white (with a log line), 16 bits scaled to 8.

    Args:
        source: a path, or a file open in binary mode, which is read from where it stands.
        max_pixels: refuse a larger picture; None: Pillow's own limit, `PIL.Image.MAX_IMAGE_PIXELS`, 89 million.
    Raises:
        ImageError: no such file, not an image, damaged, cut short, or larger than the limit.
        ConfigError: max_pixels is no whole number from 1 up.
    """
    return _rgb_planes(read_upright(source, max_pixels))


def read_luma(source: str | os.PathLike[str] | IO[bytes], *, max_pixels: int | None = None) -> Bytes:
    """Read a picture file as luma, uint8 [1,H,W], by Pillow's convert("L"); see `read_rgb`."""
    return np.array(read_upright(source, max_pixels).convert("L"))[None]


def load_rgb(source: str | os.PathLike[str] | IO[bytes], *, max_pixels: int | None = None) -> Tensor:
    """`read_rgb` as a tensor."""
    return _tensor(read_rgb(source, max_pixels=max_pixels))


def load_luma(source: str | os.PathLike[str] | IO[bytes], *, max_pixels: int | None = None) -> Tensor:
    """`read_luma` as a tensor."""
    return _tensor(read_luma(source, max_pixels=max_pixels))


def _tensor(samples: npt.NDArray[Any]) -> Tensor:
    tensor: Tensor = load_torch("a picture as a tensor").from_numpy(samples)
    return tensor


def _rgb_planes(image: Image.Image) -> Bytes:
    pixels = np.asarray(image.convert("RGB"))  # [H,W,3], read-only
    return np.array(pixels.transpose(2, 0, 1), order="C")


def as_planes(picture: PictureLike, name: str = "the picture") -> Bytes:
    """Any 8-bit picture that `encode` takes -> uint8 planes, [3,H,W] or [1,H,W], contiguous.

    Args:
        picture: a uint8 tensor or array [3,H,W], [H,W,3], [1,H,W] or [H,W], of any strides; or else a picture of
            Pillow, a path, or a file open in binary mode: upright, opaque, and one plane where it has no colour, as
            the command line reads it.  Where three samples could be channels at either end, a tensor's come first and
            an array's last.
        name: of the picture, for messages.
    Raises:
        ImageError: anything else.
    """
    if not (is_tensor(picture) or isinstance(picture, np.ndarray)):
        planes = _planes_of_file(picture, name)
        return planes[:1] if bool((planes == planes[:1]).all()) else planes
    samples = _as_array(picture, name)
    channels_last = isinstance(picture, np.ndarray)
    shape = list(samples.shape)
    planes = samples[None] if samples.ndim == 2 else samples
    if planes.ndim == 3 and planes.shape[2] == 3 and (channels_last or planes.shape[0] not in (1, 3)):
        planes = planes.transpose(2, 0, 1)
    if planes.ndim != 3 or planes.shape[0] not in (1, 3) or planes.dtype != np.uint8 or not planes.size:
        raise ImageError(
            f"{name} is {picture.dtype} of shape {shape}; give uint8 [3,H,W], [H,W,3], [1,H,W] or [H,W], "
            "or a float luma to encode_y"
        )
    return np.ascontiguousarray(planes)


def as_luma(picture: PictureLike, name: str = "the picture") -> npt.NDArray[np.float32]:
    """Any picture that `encode_y` takes -> luma [1,1,H,W] float32 in [0,1].

    Args:
        picture: floats [1,1,H,W], [1,H,W] or [H,W], tensor or array, as `check_luma` takes them; or what `as_planes`
            takes, or uint8 [1,1,H,W], of which the luma is taken.
    Raises:
        ImageError: anything else.
    """
    if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
        return _checked_luma(_as_array(picture, name))
    if is_tensor(picture) and str(picture.dtype) != "torch.uint8":
        _check_float(picture)
        return _checked_luma(_as_array(picture, name))
    if (is_tensor(picture) or isinstance(picture, np.ndarray)) and tuple(picture.shape[:-2]) == (1, 1):
        picture = picture[0, 0]
    planes = as_planes(picture, name)
    return luma_of(planes[0] if len(planes) == 1 else rgb_to_ycbcr420(planes)[0])


def several_pictures(pictures: Iterable[PictureLike]) -> list[PictureLike]:
    """A list of what `encode_many` is given: any collection, a generator too, but no single picture.

    Raises:
        ImageError: one picture, which would be taken apart into its rows, or nothing to go through.
    """
    single = isinstance(pictures, str | os.PathLike | Image.Image) or hasattr(pictures, "read")
    if is_tensor(pictures) or isinstance(pictures, np.ndarray):
        single = pictures.ndim < 4
    if single or not isinstance(pictures, Iterable):
        raise ImageError(
            f"encode_many got one {type(pictures).__name__}, not several pictures; give a list of them, or one picture "
            "to encode"
        )
    return list(pictures)


def _planes_of_file(picture: Any, name: str) -> Bytes:
    """The colours of a picture of Pillow, or of a picture file: uint8 [3,H,W]."""
    if isinstance(picture, Image.Image):
        try:
            return _rgb_planes(upright_8bit(picture, name))
        except DAMAGE as error:
            raise error if isinstance(error, ImageError) else cannot_read(name, error) from error
    if isinstance(picture, str | os.PathLike) or hasattr(picture, "read"):
        return read_rgb(picture)
    raise ImageError(
        f"{name} is of type {type(picture).__name__}, not a picture; give a tensor, a NumPy array, a picture of "
        "Pillow, or the path or open file of one"
    )


def _as_array(samples: Tensor | npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """The same samples as an array; of an array, a copy: it may be read-only, or change while it is coded."""
    if is_tensor(samples):
        if str(samples.layout) != "torch.strided" or samples.is_meta:
            kind = "without data" if samples.is_meta else f"in layout {samples.layout}"
            raise ImageError(f"{name} is a tensor {kind}; give a dense one with its samples")
        plain = samples.detach().cpu()
        array: npt.NDArray[Any] = (plain if str(plain.dtype) == "torch.uint8" else plain.float()).numpy()
        return array
    if isinstance(samples, np.ma.MaskedArray) and np.ma.is_masked(samples):
        raise ImageError(f"{name} has masked samples; fill them in first, as by numpy.ma.filled")
    assert isinstance(samples, np.ndarray)
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if samples.dtype != np.uint8 and kind != "f":
        advice = "scale it to uint8 0..255, or to floats in [0,1] for encode_y"
        raise ImageError(f"{name} is an array of {samples.dtype} of shape {list(samples.shape)}; {advice}")
    wanted = np.uint8 if kind == "u" else np.float32 if size <= 4 else np.float64
    return np.array(samples, dtype=wanted, order="C")


def save_image(path: str | Path, planes: Tensor | npt.NDArray[np.uint8]) -> None:
    """Write uint8 planes [1,H,W], [3,H,W], [H,W] or [1,C,H,W] as the format of the suffix, atomically.

    JPEG is written at quality 95 without chroma subsampling, everything else losslessly.

    Raises:
        ImageError: unknown suffix, wrong shape or dtype, or a size that the format cannot hold.
        OSError: the disk is full or the permissions refuse; an old file of that name is left as it was.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        known = ", ".join(sorted(IMAGE_SUFFIXES))
        raise ImageError(
            f"cannot write {path}: unknown suffix {suffix!r}{did_you_mean(suffix, IMAGE_SUFFIXES)}; use one of {known}"
        )
    try:
        encoded = picture_bytes(planes, IMAGE_SUFFIXES[suffix])
    except ImageError as error:
        raise ImageError(f"cannot write {path}: {error}") from error
    write_atomic(path, encoded)


def picture_bytes(planes: Tensor | npt.NDArray[np.uint8], kind: str) -> bytes:
    """A picture file of uint8 planes, as `save_image` writes it; kind: Pillow's name of the format.

    Raises:
        ImageError: wrong shape or dtype, or a size that the format cannot hold.
    """
    pixels = planes.detach().cpu().numpy() if is_tensor(planes) else np.asarray(planes)
    shape = list(pixels.shape)
    if pixels.dtype != np.uint8:
        raise ImageError(f"planes are {pixels.dtype}, not uint8; convert them with to_u8")
    if pixels.ndim == 4 and shape[0] == 1:
        pixels = pixels[0]
    elif pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or pixels.size == 0:
        raise ImageError(f"planes have shape {shape}; give [1,H,W] or [3,H,W] with H, W > 0")
    image = Image.fromarray(np.ascontiguousarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)))
    encoded = io.BytesIO()
    try:
        image.save(encoded, format=kind, **_SAVE_OPTIONS.get(kind, {}))
    except (KeyError, ValueError, OSError, struct.error) as error:  # KeyError: Pillow built without it
        raise ImageError(f"{kind} does not take {image.width}x{image.height} pixels ({error}); use .png") from error
    return encoded.getvalue()


def luma_of(u8: Bytes) -> npt.NDArray[np.float32]:
    """uint8 [1,H,W], [H,W] or [1,1,H,W] -> luma [1,1,H,W] float32: k/255, the same bits everywhere.

    Raises:
        ImageError: not uint8, or not one plane.
    """
    if u8.dtype != np.uint8:
        raise ImageError(f"luma_of needs uint8 samples, not {u8.dtype}; a float picture is luma already")
    return _LUMA.take(_one_plane(u8))


def luma_tensor(u8: Tensor) -> Tensor:
    """`luma_of` of a tensor, on its device.

    Raises:
        ImageError: not uint8, or not one plane.
    """
    torch = load_torch("a picture as a tensor")
    if u8.dtype != torch.uint8:
        raise ImageError(f"luma_tensor needs uint8 samples, not {u8.dtype}; a float picture goes to check_luma")
    plane, levels = _one_plane(u8).contiguous(), torch.from_numpy(_LUMA).to(u8.device)
    luma: Tensor = torch.empty(plane.shape, device=u8.device)
    for part, codes in zip(luma.view(-1).split(_AT_ONCE), plane.view(-1).split(_AT_ONCE), strict=True):
        torch.index_select(levels, 0, codes.int(), out=part)
    return luma


def to_u8(y: Tensor) -> Tensor:
    """Luma in [0,1], any float dtype and shape -> uint8, rounded; the inverse of luma_tensor.

    Raises:
        ImageError: not floating point, or a value is not finite.
    """
    if not y.is_floating_point():
        raise ImageError(f"to_u8 needs floats in [0,1], not {y.dtype}")
    wide = y.detach().float()
    _check_finite(wide.cpu().numpy())
    return (wide.clamp(0.0, 1.0) * 255.0).round().byte()


def check_luma(y: Tensor) -> Tensor:
    """Check an encoder's input: [H,W], [1,H,W] or [1,1,H,W] -> [1,1,H,W] float32 in [0,1], contiguous.

    Values up to 1e-6 outside the range are rounding of an earlier step, and clamped.

    Raises:
        ImageError: not a float tensor, more than one plane, empty, not finite, or out of range; says where.
    """
    if not is_tensor(y):
        raise ImageError(f"luma has to be a torch tensor, not {type(y).__name__}; wrap an array in torch.from_numpy")
    _check_float(y)
    return _tensor(_checked_luma(_as_array(y, "luma"))).to(y.device)


def _check_float(y: Tensor) -> None:
    if not y.is_floating_point():
        whole = str(y.dtype) == "torch.uint8"
        advice = "convert it with pc15.images.luma_tensor" if whole else "scale it to [0,1] first"
        raise ImageError(f"luma has dtype {y.dtype}, not a float in [0,1]; {advice}")


def _checked_luma(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """`check_luma` of an array of floats."""
    y = _one_plane(samples)
    _check_finite(y)
    wide = y.astype(np.float32)
    outside = (wide < np.float32(-1e-6)) | (wide > np.float32(1.0 + 1e-6))
    if outside.any():
        index = np.argwhere(outside)[0].tolist()
        low, high = float(wide.min()), float(wide.max())
        advice = "divide by 255" if low >= 0.0 and 1.5 < high <= 255.0 else "scale or clamp it to [0,1]"
        raise ImageError(
            f"luma {float(wide[tuple(index)]):.6g} at row {index[2]}, column {index[3]} is outside [0,1] "
            f"(the picture spans {low:.6g} to {high:.6g}); {advice}"
        )
    return np.ascontiguousarray(wide.clip(0.0, 1.0))


def find_images(paths: str | Path | Iterable[str | Path]) -> list[Path]:
    """Picture files among the paths, sorted and each once; a folder stands for the pictures in it and below.

    A file that is named is taken whatever its suffix; in folders IMAGE_SUFFIXES decide, and hidden files are
    left.

    Raises:
        ImageError: a path does not exist, or no picture is found.
    """
    named = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
    found: set[Path] = set()
    for path in named:
        if path.is_dir():
            found.update(
                file
                for file in path.rglob("*")
                if file.suffix.lower() in IMAGE_SUFFIXES
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
                and file.is_file()
            )
        elif path.exists():
            found.add(path)
        else:
            raise ImageError(f"no file or folder {path}; check the path, relative ones start at {Path.cwd()}")
    if not found:
        where = ", ".join(map(str, named)) or "an empty list of paths"
        raise ImageError(f"no picture in {where}; looked for {', '.join(sorted(IMAGE_SUFFIXES))}")
    return sorted(found)


def _one_plane(y: Samples) -> Samples:
    """[H,W], [1,H,W] or [1,1,H,W] -> [1,1,H,W], with at least one pixel."""
    shape = list(y.shape)
    if not 2 <= y.ndim <= 4 or any(side != 1 for side in shape[:-2]):
        raise ImageError(f"luma has shape {shape}; give one plane, [1,1,H,W], [1,H,W] or [H,W]")
    if 0 in shape:
        raise ImageError(f"luma has shape {shape}, no pixel at all; a picture is at least 1x1")
    return y.reshape(1, 1, *shape[-2:])


def _check_finite(y: npt.NDArray[Any]) -> None:
    finite = np.isfinite(y)
    if not finite.all():
        index = np.argwhere(~finite)[0].tolist()
        raise ImageError(
            f"luma is {float(y[tuple(index)])} at index {index}, and {int((~finite).sum())} of {y.size} "
            "samples are not finite; find what made them, or replace them, as by numpy.nan_to_num"
        )
