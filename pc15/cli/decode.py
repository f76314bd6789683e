"""`pc15 decode`: streams to pictures."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

from pc15.cli.files import STANDARD, Tally, each, find_sources, name_targets, read_stream, wanted_pairs, write_standard
from pc15.cli.parser import STREAM_PIXELS, STREAM_SUFFIX, Parser, add_device, add_jobs, add_max_pixels, positive
from pc15.errors import ConfigError, did_you_mean

EXAMPLES = (
    "decode photo.pc15 -o photo.png",
    "decode streams/ -o pictures/ --skip-existing",
    "decode programs.pc15 -o large.png --scale 4",
    "decode - -o - < photo.pc15 > photo.png",
    "decode damaged.pc15 -o rest.png --lenient",
)


def run(args: argparse.Namespace) -> int:
    """Redraw pictures from .pc15 streams; the pixels are the same on every machine and device.

    A folder becomes a folder with the same subfolders; standard output gets a PNG.
    A stream that is damaged is refused.  With --lenient its sound sections are drawn and the lost ones concealed.
    With --scale, tile programs are drawn larger: not enlarged, but from their formulas, with more of what they show.
    """
    from pc15.decoder import decode as decode_picture
    from pc15.images import IMAGE_SUFFIXES, picture_bytes, save_image
    from pc15.paths import ready_to_write
    from pc15.runtime.device import checked_device, resolve_device
    from pc15.runtime.parallel import thread_count
    from pc15.runtime.tensors import has_torch

    device = checked_device(args.device)
    if args.scale > 1 and args.lenient:
        raise ConfigError("--scale draws sound streams alone; leave --lenient out")
    targets = name_targets(args.streams, find_sources(args.streams, (STREAM_SUFFIX,)), args.out, ".png")
    for _, target in targets:
        if target != STANDARD and target.suffix.lower() not in IMAGE_SUFFIXES:
            near = did_you_mean(target.suffix, IMAGE_SUFFIXES)
            raise ConfigError(
                f"-o {target} has no picture's suffix{near}; use one of {', '.join(sorted(IMAGE_SUFFIXES))}"
            )

    tally = Tally(args.answer, "picture", len(targets), [target for _, target in targets])
    wanted = wanted_pairs(targets, tally, skip_existing=args.skip_existing)

    def one(source: Path, target: Path) -> _Drawn:
        began = time.perf_counter()
        if target != STANDARD:
            ready_to_write(target)
        data = read_stream(source, strict=not args.lenient, max_pixels=args.max_pixels)
        picture: Any
        if args.scale > 1:
            from pc15.draw_scaled import decode_scaled  # here: it draws programs, which takes torch

            picture = decode_scaled(data, args.scale, device=args.device, max_pixels=args.max_pixels)
        else:
            picture = decode_picture(
                data, device=args.device, strict=not args.lenient, max_pixels=args.max_pixels, output="numpy"
            )
        if target == STANDARD:
            write_standard(picture_bytes(picture, "PNG"))
        else:
            save_image(target, picture)
        return _Drawn(picture.shape[2], picture.shape[1], len(data), time.perf_counter() - began)

    def told(source: Path, target: Path, drawn: _Drawn) -> None:
        said = f"{drawn.width}x{drawn.height} from {drawn.bytes} bytes, {drawn.seconds:.1f} s"
        sums = {"pixels": drawn.width * drawn.height, "bytes": drawn.bytes}
        seconds = round(drawn.seconds, 4)
        tally.done(source, target, said, sums, width=drawn.width, height=drawn.height, seconds=seconds)

    if args.device == "auto" and not args.workers and len(wanted) > 1 and has_torch():
        device = resolve_device("auto")  # of one picture nobody need know: a photograph's loads no torch
    jobs = args.workers or (1 if str(device).startswith("cuda") else thread_count())
    return each(wanted, one, tally, told, min(jobs, max(1, len(wanted))))


class _Drawn(NamedTuple):
    """A picture that was written: px, bytes of its stream, seconds."""

    width: int
    height: int
    bytes: int
    seconds: float


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("streams", nargs="+", type=Path, metavar="STREAM", help="streams, folders of them, or -")
    add.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="PATH",
        help="the picture, or - for standard output; a folder of PNG for several streams or a folder",
    )
    add.add_argument(
        "--lenient", action="store_true", help="draw what is sound in a damaged stream (default: refuse it)"
    )
    add.add_argument(
        "--scale", type=positive, default=1, metavar="N", help="draw N times as wide and high, up to 32: of "
        "streams of tile programs alone, whose patterns have no pixels (default: 1)",
    )  # fmt: skip
    add_max_pixels(add, STREAM_PIXELS)
    add.add_argument("--skip-existing", action="store_true", help="leave pictures that are there as they are")
    add_jobs(add, "streams decoded at a time", None, "as many as cores")
    add_device(add)
