"""`pc15 decode`: streams to pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from pc15.cli.files import each, find_sources, name_targets
from pc15.cli.parser import STREAM_PIXELS, STREAM_SUFFIX, Parser, add_max_pixels
from pc15.errors import ConfigError, did_you_mean

EXAMPLES = (
    "decode photo.pc15 -o photo.png",
    "decode streams/ -o pictures/",
    "decode damaged.pc15 -o rest.png --lenient",
)


def run(args: argparse.Namespace) -> int:
    """Redraw pictures from .pc15 streams; the pixels are the same on every machine and device.

    A stream that is damaged is refused.  With --lenient its sound sections are drawn and the lost ones concealed.
    """
    from pc15.bitstream import read_bitstream
    from pc15.decoder import decode as decode_picture
    from pc15.images import IMAGE_SUFFIXES, save_image
    from pc15.runtime.device import resolve_device

    resolve_device(args.device)
    targets = name_targets(find_sources(args.streams, (STREAM_SUFFIX,)), args.out, ".png")
    for _, target in targets:
        if target.suffix.lower() not in IMAGE_SUFFIXES:
            near = did_you_mean(target.suffix, IMAGE_SUFFIXES)
            raise ConfigError(
                f"-o {target} has no picture's suffix{near}; use one of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )

    def one(source: Path, target: Path) -> None:
        began = time.perf_counter()
        data = read_bitstream(source, strict=not args.lenient, max_pixels=args.max_pixels)
        picture = decode_picture(data, device=args.device, strict=not args.lenient, max_pixels=args.max_pixels)
        target.parent.mkdir(parents=True, exist_ok=True)
        save_image(target, picture)
        size = f"{picture.shape[2]}x{picture.shape[1]}"
        print(f"{target}: {size} from {len(data)} bytes, {time.perf_counter() - began:.1f} s", flush=True)

    return each(targets, one)


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("streams", nargs="+", type=Path, metavar="STREAM", help="streams, or folders of them")
    add.add_argument("-o", "--out", required=True, help="the picture; a folder of PNG for several streams")
    add.add_argument(
        "--lenient", action="store_true", help="draw what is sound in a damaged stream (default: refuse it)"
    )
    add_max_pixels(add, STREAM_PIXELS)
    add.add_argument(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:N or auto (default: %(default)s)"
    )
