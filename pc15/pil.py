"""`.pc15` in Pillow: after `import pc15.pil`, `Image.open` reads streams and `Image.save` writes them.

    Image.open("photo.pc15").show()
    image.save("photo.pc15", preset="fast", lambda_rd=0.25)     # options of CodecConfig

Opening parses the header only, so that Pillow's check for decompression bombs comes before anything is decoded.  While
`PIL.Image.MAX_IMAGE_PIXELS` is as Pillow made it, loading is as strict as `pc15.decode`; another value is the caller's.
Errors are those that Pillow's callers expect: UnidentifiedImageError for what is no stream, OSError for a damaged one.
"""

from __future__ import annotations

import dataclasses
import os
from typing import IO, Any

import numpy as np
from PIL import Image, ImageFile

from pc15.bitstream.container import DEFAULT_MAX_PIXELS, MAX_STREAM_BYTES
from pc15.bitstream.header import COLOR_YCBCR420, MAGIC, MAX_DIMENSION
from pc15.bitstream.header_bytes import unpack_v15
from pc15.color import ycbcr420_to_rgb
from pc15.config import CodecConfig
from pc15.decoder import decode_stream
from pc15.errors import BitstreamError, Pc15Error, did_you_mean
from pc15.picture_files import opaque_8bit

__all__ = ["Pc15Decoder", "Pc15ImageFile"]

FORMAT = "PC15"
DEFAULT_PRESET = "balanced"
_HEADER_BYTES = 256  # more than any header takes
_FOREIGN = {"bits", "comment", "compress_level", "dpi", "exif", "icc_profile", "lossless", "method", "optimize"} | {
    "progressive", "restart_marker_blocks", "save_all", "speed", "subsampling", "tile_offset", "transparency", "xmp"
}  # fmt: skip
"""Keywords of other writers, so that one that resembles an option isn't taken for a slip."""


class Pc15ImageFile(ImageFile.ImageFile):
    """A stream whose header has been read; mode L or RGB."""

    format = FORMAT
    format_description = "PC15, a picture as a program of procedural patterns"

    def _open(self) -> None:
        """Take size and mode from the header; Pillow's own limit decides which pictures are too large.

        Raises:
            SyntaxError: the file only begins like a stream; `Image.open` then asks its other readers.
        """
        assert self.fp is not None
        start = self.fp.tell()
        try:
            header, _ = unpack_v15(self.fp.read(_HEADER_BYTES), max_pixels=MAX_DIMENSION**2)
        except BitstreamError as error:
            raise SyntaxError(str(error)) from error
        self._size = (header.width, header.height)
        self._mode = "RGB" if header.color == COLOR_YCBCR420 else "L"
        self.tile = [("pc15", (0, 0, *self._size), start, ())]  # type: ignore[list-item]


class Pc15Decoder(ImageFile.PyDecoder):
    """Decoder that draws the picture when Pillow first needs its pixels."""

    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:
        """Hand all pixels over; (-1, 0) tells Pillow that this was everything and went well.

        Raises:
            OSError: the stream is damaged; where `ImageFile.LOAD_TRUNCATED_IMAGES` is set, only if no picture can be
                made of what is there.
        """
        assert self.fd is not None
        data = self.fd.read(MAX_STREAM_BYTES + 1)
        if len(data) > MAX_STREAM_BYTES:
            raise OSError(f"stream is over the limit of {MAX_STREAM_BYTES} bytes")
        strict = not ImageFile.LOAD_TRUNCATED_IMAGES
        try:
            decoded = decode_stream(data, strict=strict, max_pixels=_max_pixels(), output="numpy")
        except Pc15Error as error:
            raise OSError(str(error)) from error
        color = decoded.header.color == COLOR_YCBCR420
        pixels = ycbcr420_to_rgb(*decoded.planes).transpose(1, 2, 0) if color else decoded.planes[0]
        del decoded
        self.set_as_raw(pixels.tobytes())
        return -1, 0


def _max_pixels() -> int | None:
    """Pillow's limit, where somebody has set one, as the decoder's: Pillow opens pictures of twice as many pixels."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is None:
        return MAX_DIMENSION**2
    return None if limit == DEFAULT_MAX_PIXELS else max(1, 2 * limit)


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Encode with the keywords of `Image.save` as options; gray, or colour at 4:2:0.

    Keywords of other formats (exif, dpi, optimize, ...) are ignored, as Pillow's writers do; what looks like a
    misspelt option is not.

    Raises:
        ConfigError: a keyword that is almost an option, or an option out of its range.
        ImageError: a mode whose samples have no fixed range.
    """
    known = {f.name for f in dataclasses.fields(CodecConfig)} | {"preset", "quality"}
    options: dict[str, Any] = {}
    for name, value in image.encoderinfo.items():
        if name in known or (name not in _FOREIGN and did_you_mean(name, known)):
            options[name] = value
    preset = options.pop("preset", DEFAULT_PRESET)
    flat = opaque_8bit(image, os.fsdecode(filename) or "the picture")
    pixels = np.array(flat)
    if image.mode != "RGB" and flat.mode == "RGB" and bool((pixels == pixels[:, :, :1]).all()):
        pixels = pixels[:, :, 0]  # gray with transparency, or a palette of grays
    from pc15.encoder import encode  # whoever only reads needs no search, and no numba

    file.write(encode(pixels, CodecConfig.preset(preset, **options))["bitstream"])


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


Image.register_open(FORMAT, Pc15ImageFile, _accept)
Image.register_decoder("pc15", Pc15Decoder)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".pc15")
Image.register_mime(FORMAT, "image/x-pc15")
