"""`pc15 metrics`: the distance of one picture from another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from pc15.cli.files import STANDARD, opened
from pc15.cli.parser import DONE, PICTURE_PIXELS, Parser, add_device, add_max_pixels, columns
from pc15.errors import BitstreamError, ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


EXAMPLES = (
    "metrics photo.png back.png",
    "metrics photo.png photo.pc15 --json",
    "metrics photo.png - < photo.pc15",
    "metrics photo.png photo.pc15 --perceptual",
)


def run(args: argparse.Namespace) -> int:
    """Compare the luma of two pictures of the same size; either may be a .pc15 stream.

    PSNR has peak 1.0; SSIM is the 11x11 Gaussian one, sigma 1.5, from 11x11 pixels on, MS-SSIM from 161x161 on.
    --perceptual adds visual information fidelity of B, with A as the reference, of pictures from 41x41 pixels on.
    """
    from pc15.metrics import MS_SSIM_SIDE, SSIM_WINDOW, ms_ssim, psnr, ssim

    if args.a == args.b == STANDARD:
        raise ConfigError("standard input holds one picture, not both; give the name of the other one")
    (a, bpp_a), (b, bpp_b) = (_luma(path, args.device, args.max_pixels) for path in (args.a, args.b))
    found: dict[str, float] = {"psnr_y": psnr(a, b)}
    side = min(a.shape[-2:])
    if side >= SSIM_WINDOW:
        found["ssim_y"] = ssim(a, b)
    if side >= MS_SSIM_SIDE:
        found["ms_ssim_y"] = ms_ssim(a, b)
    if args.perceptual:
        from pc15.perceptual import vif

        found["vif_y"] = vif(a, b)
    for key, bpp in (("bpp_a", bpp_a), ("bpp_b", bpp_b)):
        if bpp is not None:
            found["bpp" if (bpp_a is None) != (bpp_b is None) else key] = bpp
    args.answer.put(a=str(args.a), b=str(args.b), **found)
    names = {"psnr_y": "PSNR-Y", "ssim_y": "SSIM-Y", "ms_ssim_y": "MS-SSIM-Y", "vif_y": "VIF-Y"}
    text = {"psnr_y": "{:.4f} dB", "bpp": "{:.5f}", "bpp_a": "{:.5f}", "bpp_b": "{:.5f}"}
    rows = [(names.get(key, key), text.get(key, "{:.6f}").format(value)) for key, value in found.items()]
    args.answer.say(columns(rows))
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("a", type=Path, metavar="A", help="a picture or a stream, or - for standard input")
    add.add_argument("b", type=Path, metavar="B", help="another one of the same size")
    add.add_argument("--perceptual", action="store_true", help="also VIF, by torchmetrics (extra bench)")
    add_device(add, "where streams are decoded: ")
    add_max_pixels(add, PICTURE_PIXELS)


def _luma(path: Path, device: str, max_pixels: int | None) -> tuple[NDArray[np.float32], float | None]:
    """Luma [1,1,H,W] in [0,1] of a picture or of a stream, and the stream's bits per pixel."""
    from pc15.bitstream.container import read_bitstream, stream_bytes
    from pc15.bitstream.header import MAGIC
    from pc15.decoder import decode_y
    from pc15.images import luma_of, read_luma

    source = opened(path)
    try:
        if isinstance(source, Path):
            with source.open("rb") as file:
                begins = file.read(len(MAGIC))
        else:
            begins = source.read(len(MAGIC))
            source.seek(0)
    except OSError as error:
        raise BitstreamError(f"cannot read {path}: {error.strerror or error}") from error
    if begins != MAGIC:
        return luma_of(read_luma(source, max_pixels=max_pixels)), None
    data = read_bitstream(source, max_pixels=max_pixels) if isinstance(source, Path) else stream_bytes(source)
    y = decode_y(data, device=device, max_pixels=max_pixels, output="numpy")
    return y, 8 * len(data) / (y.shape[-1] * y.shape[-2])
