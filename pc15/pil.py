"""`.pc15` in Pillow: after `import pc15.pil`, `Image.open` reads streams and `Image.save` writes them.

    Image.open("photo.pc15").show()
    image.save("photo.pc15", preset="fast", lambda_rd=0.25)     # options of CodecConfig

Opening parses the header only, so that Pillow's check for decompression bombs comes before anything is decoded.
"""

from __future__ import annotations

from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageFile

from pc15.bitstream.container import MAX_STREAM_BYTES
from pc15.bitstream.header import COLOR_YCBCR420, MAGIC, MAX_DIMENSION, unpack_v15
from pc15.color import ycbcr420_to_rgb
from pc15.config import CodecConfig
from pc15.decoder import decode_stream
from pc15.encoder import encode
from pc15.errors import BitstreamError

__all__ = ["Pc15Decoder", "Pc15ImageFile"]

FORMAT = "PC15"
DEFAULT_PRESET = "balanced"
_HEADER_BYTES = 256  # more than any header takes


class Pc15ImageFile(ImageFile.ImageFile):
    """A stream whose header has been read; mode L or RGB."""

    format = FORMAT
    format_description = "PC15, a picture as a program of procedural patterns"

    def _open(self) -> None:
        """Take size and mode from the header.  Pillow's own limit decides which pictures are too large."""
        assert self.fp is not None
        start = self.fp.tell()
        header, _ = unpack_v15(self.fp.read(_HEADER_BYTES), max_pixels=MAX_DIMENSION**2)
        self._size = (header.width, header.height)
        self._mode = "RGB" if header.color == COLOR_YCBCR420 else "L"
        self.tile = [("pc15", (0, 0, *self._size), start, ())]  # type: ignore[list-item]


class Pc15Decoder(ImageFile.PyDecoder):
    """Decoder that draws the picture when Pillow first needs its pixels."""

    _pulls_fd = True

    def decode(self, buffer: Any) -> tuple[int, int]:
        """Hand all pixels over; (-1, 0) tells Pillow that this was everything and went well.

        Raises:
            BitstreamError: the stream is damaged.
        """
        assert self.fd is not None
        data = self.fd.read(MAX_STREAM_BYTES + 1)
        if len(data) > MAX_STREAM_BYTES:
            raise BitstreamError(f"stream is over the limit of {MAX_STREAM_BYTES} bytes")
        decoded = decode_stream(data, max_pixels=self.state.xsize * self.state.ysize)
        color = decoded.header.color == COLOR_YCBCR420
        pixels = ycbcr420_to_rgb(*decoded.planes).permute(1, 2, 0) if color else decoded.planes[0]
        self.set_as_raw(pixels.contiguous().numpy().tobytes())
        return -1, 0


def _save(image: Image.Image, file: IO[bytes], filename: str | bytes) -> None:
    """Encode with the keywords of `Image.save` as options; gray, or colour at 4:2:0.

    Raises:
        OSError: a mode that is not gray or RGB, as other plugins do.
        ConfigError: a keyword that is not an option.
    """
    if image.mode not in ("L", "RGB"):
        raise OSError(f"cannot write mode {image.mode} as PC15; convert the image to RGB or L first")
    options: dict[str, Any] = dict(image.encoderinfo)
    preset = options.pop("preset", DEFAULT_PRESET)
    pixels = torch.from_numpy(np.array(image))
    planes = pixels.unsqueeze(0) if image.mode == "L" else pixels.permute(2, 0, 1)
    file.write(encode(planes.contiguous(), CodecConfig.preset(preset, **options))["bitstream"])


def _accept(prefix: bytes) -> bool:
    return prefix.startswith(MAGIC)


Image.register_open(FORMAT, Pc15ImageFile, _accept)
Image.register_decoder("pc15", Pc15Decoder)
Image.register_save(FORMAT, _save)
Image.register_extension(FORMAT, ".pc15")
Image.register_mime(FORMAT, "image/x-pc15")
