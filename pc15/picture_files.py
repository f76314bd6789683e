"""Picture files -> Pillow's pictures, upright, opaque, 8 bits per sample; nothing here needs torch."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from pc15.errors import ImageError, checked_max_pixels
from pc15.paths import read_open

__all__ = ["DAMAGE", "cannot_read", "opaque_8bit", "read_upright", "upright_8bit"]

# What Pillow's readers raise on damaged files, found by flipping bytes; anything else would be a bug of ours.
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, LookupError, TypeError, struct.error, zlib.error)
_MAX_BYTES = 1 << 30  # of an open file, which may never end; of a path, Pillow reads what the picture's size takes
_LIMIT = threading.Lock()
_log = logging.getLogger(__name__)


@contextlib.contextmanager
def _pillow_allows(pixels: int | None) -> Iterator[None]:
    """Let Pillow open pictures of so many pixels meanwhile, if it did not before.

    Pillow has one limit for the whole process, which its readers look at here and there: other threads that open
    pictures at the same time are allowed as many.
    """
    usual = Image.MAX_IMAGE_PIXELS
    if pixels is None or usual is None or pixels <= usual:
        yield
        return
    with _LIMIT:
        usual = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = usual


def read_upright(source: str | os.PathLike[str] | IO[bytes], max_pixels: int | None = None) -> Image.Image:
    """The whole picture, upright, opaque, 8 bits per sample, in any mode that convert("RGB") understands."""
    limit = Image.MAX_IMAGE_PIXELS if max_pixels is None else checked_max_pixels(max_pixels)
    file = _Source.of(source)
    try:
        with _pillow_allows(max_pixels), Image.open(file.opened) as image:
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels, over {limit}")
            _load_rounded(image, file.opened)
            return upright_8bit(image, file.name)
    except ImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # a warning, where -W error says so
        raise ImageError(
            f"{file.name} is too large ({error}), and may be a decompression bomb; "
            "if you trust it, pass max_pixels (--max-pixels), or crop the picture"
        ) from error
    except FileNotFoundError as error:
        raise ImageError(f"no file {file.name}; check the path, relative ones start at {Path.cwd()}") from error
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{file.name} ({file.size()} bytes) is not an image that Pillow can read; convert it to PNG"
        ) from error
    except DAMAGE as error:
        raise cannot_read(file.name, error) from error


_OTHER_BYTES = {
    f"{mode};16{order}": f"{mode};16{other}" for mode in ("RGB", "RGBA") for order, other in ("BL", "LB")
} | {f"{mode};16N": f"{mode};16{'B' if sys.byteorder == 'little' else 'L'}" for mode in ("RGB", "RGBA")}
"""Pillow's names for 16-bit samples of which the high byte is taken, and for the same read the other way round."""


def _load_rounded(image: Image.Image, opened: Path | io.BytesIO) -> None:
    """Load a picture; 16-bit colour, of whose samples Pillow takes the high bytes, is rounded to 8 bits as gray is.

    Pillow has no mode for such samples, but reads the low bytes if it is told that they come first; the four bytes of a
    gray sample with its alpha it reads as four channels.
    """
    tiles: list[Any] = list(getattr(image, "tile", []))
    raw = {args if isinstance(args, str) else args[0] for *_, args in tiles if args}
    image.load()
    if len(raw) != 1 or (name := raw.pop()) not in {*_OTHER_BYTES, "LA;16B"}:
        return
    other_name = _OTHER_BYTES.get(name, "RGBA")
    with Image.open(opened) as other:
        if name == "LA;16B":
            other._mode = "RGBA"
        swapped: Any = [
            (codec, box, offset, (other_name, *args[1:]) if isinstance(args, tuple) else other_name)
            for codec, box, offset, args in other.tile
        ]
        other.tile = swapped
        other.load()
        low = np.asarray(other).astype(np.uint32)
    if name == "LA;16B":
        wide = low[:, :, [0, 0, 0, 2] if image.mode == "RGBA" else [0, 2]] << 8
        wide |= low[:, :, [1, 1, 1, 3] if image.mode == "RGBA" else [1, 3]]
    else:
        wide = np.asarray(image).astype(np.uint32) << 8 | low
    image.paste(Image.fromarray(((wide * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8)))


def cannot_read(name: str, error: Exception) -> ImageError:
    """The error that says that a picture file is damaged."""
    return ImageError(f"cannot read {name}: {error}; the file is damaged or cut short, copy it again")


@dataclass(frozen=True)
class _Source:
    """A picture file by its path, or the bytes that were read of an open one; and its name, for messages."""

    opened: Path | io.BytesIO
    name: str

    @classmethod
    def of(cls, source: str | os.PathLike[str] | IO[bytes]) -> _Source:
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            return cls(path, str(path))
        name = str(getattr(source, "name", "the open file"))
        try:
            data = read_open(source, _MAX_BYTES)
        except (OSError, ValueError) as error:  # ValueError: closed
            raise ImageError(f"cannot read {name}: {error}") from error
        if len(data) > _MAX_BYTES:
            raise ImageError(f"{name} is over the limit of {_MAX_BYTES} bytes; give a path, or a smaller picture")
        return cls(io.BytesIO(data), name)

    def size(self) -> int:
        """Bytes of the file."""
        return self.opened.stat().st_size if isinstance(self.opened, Path) else len(self.opened.getvalue())


def upright_8bit(image: Image.Image, name: str) -> Image.Image:
    """A picture turned as its EXIF says, opaque, of 8 bits per sample; name: of the picture, for messages.

    Raises:
        ImageError: float or 32-bit samples outside their range.
    """
    return _eight_bit(_opaque(ImageOps.exif_transpose(image), name), name)


def opaque_8bit(image: Image.Image, name: str) -> Image.Image:
    """Convert a picture of any mode to "L" or "RGB" as files are read: transparency on white, 16 bits rounded to 8.

    Args:
        name: of the picture, for messages.
    Raises:
        ImageError: float or 32-bit samples outside their range.
    """
    flat = _eight_bit(_opaque(image, name), name)
    return flat.convert("L" if flat.mode in _GRAY_MODES else "RGB")


_GRAY_MODES = {"1", "L", "I", "F"}


def _opaque(image: Image.Image, name: str) -> Image.Image:
    """Composited on white where something is transparent."""
    if "A" not in image.getbands() and "a" not in image.getbands() and "transparency" not in image.info:
        return image
    if image.mode.startswith(("I", "F")):  # a key colour of a 16-bit grey PNG
        return image
    rgba = image.convert("RGBA")
    alpha = rgba.getchannel("A").getextrema()
    if alpha == (255, 255):
        return rgba.convert("RGB")
    _log.warning("%s has transparent pixels: composited on white", name)
    return Image.alpha_composite(Image.new("RGBA", rgba.size, (255, 255, 255, 255)), rgba).convert("RGB")


def _eight_bit(image: Image.Image, name: str) -> Image.Image:
    """16-bit grey scaled to 8, rounded; 32-bit integers count as 16-bit ones, 32-bit floats as [0,1]."""
    if not image.mode.startswith(("I", "F")):
        return image
    samples = np.asarray(image)
    if image.mode == "F":
        if not (np.isfinite(samples).all() and samples.min() >= 0.0 and samples.max() <= 1.0):
            raise ImageError(f"{name} holds float samples outside [0,1]; scale them to [0,1], or save it as 16-bit PNG")
        return Image.fromarray((samples * np.float32(255.0)).round().astype(np.uint8))
    wide = samples.astype(np.int64)
    if wide.min() < 0 or wide.max() > 0xFFFF:
        raise ImageError(
            f"{name} holds samples from {wide.min()} to {wide.max()}, not 16-bit ones; scale them to 0..65535"
        )
    return Image.fromarray(((wide * 255 + 0x7FFF) // 0xFFFF).astype(np.uint8))
