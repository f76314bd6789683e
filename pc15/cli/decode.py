"""`pc15 decode`: streams to pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pc15.cli.files import STANDARD, each, find_sources, name_targets, read_stream, report, write_standard
from pc15.cli.parser import STREAM_PIXELS, STREAM_SUFFIX, Parser, add_max_pixels
from pc15.errors import ConfigError, did_you_mean

EXAMPLES = (
    "decode photo.pc15 -o photo.png",
    "decode streams/ -o pictures/",
    "decode - -o - < photo.pc15 > photo.png",
    "decode damaged.pc15 -o rest.png --lenient",
)


def run(args: argparse.Namespace) -> int:
    """Redraw pictures from .pc15 streams; the pixels are the same on every machine and device.

    A folder becomes a folder with the same subfolders; standard output gets a PNG.
    A stream that is damaged is refused.  With --lenient its sound sections are drawn and the lost ones concealed.
    """
    from pc15.decoder import decode as decode_picture
    from pc15.images import IMAGE_SUFFIXES, picture_bytes, save_image
    from pc15.paths import ready_to_write
    from pc15.runtime.device import checked_device

    checked_device(args.device)
    targets = name_targets(args.streams, find_sources(args.streams, (STREAM_SUFFIX,)), args.out, ".png")
    for _, target in targets:
        if target != STANDARD and target.suffix.lower() not in IMAGE_SUFFIXES:
            near = did_you_mean(target.suffix, IMAGE_SUFFIXES)
            raise ConfigError(
                f"-o {target} has no picture's suffix{near}; use one of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )

    def one(source: Path, target: Path) -> None:
        began = time.perf_counter()
        if target != STANDARD:
            ready_to_write(target)
        data = read_stream(source, strict=not args.lenient, max_pixels=args.max_pixels)
        picture = decode_picture(
            data, device=args.device, strict=not args.lenient, max_pixels=args.max_pixels, output="numpy"
        )
        if target == STANDARD:
            write_standard(picture_bytes(picture, "PNG"))
        else:
            save_image(target, picture)
        size = f"{picture.shape[2]}x{picture.shape[1]}"
        report(target, f"{size} from {len(data)} bytes, {time.perf_counter() - began:.1f} s")

    return each(targets, one)


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("streams", nargs="+", type=Path, metavar="STREAM", help="streams, folders of them, or -")
    add.add_argument(
        "-o",
        "--out",
        required=True,
        help="the picture, or - for standard output; a folder of PNG for several streams or a folder",
    )
    add.add_argument(
        "--lenient", action="store_true", help="draw what is sound in a damaged stream (default: refuse it)"
    )
    add_max_pixels(add, STREAM_PIXELS)
    add.add_argument(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:N or auto (default: %(default)s)"
    )
