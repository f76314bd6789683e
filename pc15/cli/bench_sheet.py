"""`pc15 bench sheet`: pictures side by side."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from pc15.bench import Anchor
from pc15.cli.parser import DEFAULT_PRESET, DONE, Parser, columns, names, numbers
from pc15.config import Preset

EXAMPLES = (
    "bench sheet photo.png --out sheet.png",
    "bench sheet photo.png --rates 0.05,0.15,0.5 --crop 64,0,256,256 --out sheet.png",
)


def run(args: argparse.Namespace) -> int:
    """Draw a picture beside itself as several codecs leave it at the same number of bytes.

    Luma only.  A codec that cannot make a file that small shows its smallest.
    """
    from pc15.bench.sheet import compare
    from pc15.images import save_image
    from pc15.paths import ready_to_write

    ready_to_write(args.out)
    sheet, rows = compare(args.image, args.rates, preset=args.preset, against=args.against, crop=args.crop)
    save_image(args.out, sheet[None])
    args.answer.put(sheet=str(args.out), columns=["codec", "bytes", "bpp", "psnr_y", "ssim"], rows=rows)
    header = ["codec", "bytes", "bpp", "PSNR-Y dB", "SSIM"]
    args.answer.say(columns([header, *rows], right=range(1, len(header))))
    args.answer.say(f"{args.out}: the pictures")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("image", type=Path, metavar="IMAGE", help="a picture")
    add.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the sheet, a picture too")
    add.add_argument(
        "--rates", type=numbers, default=[0.05, 0.15, 0.5], metavar="X,Y", help="bpp (default: 0.05,0.15,0.5)"
    )
    add.add_argument(
        "--against", type=names, default=["jpeg", "jpeg2000"], metavar="A,B",
        help=f"columns beside PC15, of {', '.join(get_args(Anchor))} (default: jpeg,jpeg2000)",
    )  # fmt: skip
    add.add_argument("--preset", choices=get_args(Preset), default=DEFAULT_PRESET, help="PC15's (default: %(default)s)")
    add.add_argument("--crop", type=_rectangle, metavar="Y,X,H,W", help="the part that is shown (default: all of it)")


def _rectangle(text: str) -> tuple[int, int, int, int]:
    """Parse the argument of --crop."""
    parts = [int(part) if part.isdigit() else -1 for part in text.split(",")]
    if len(parts) != 4 or min(parts) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers Y,X,H,W")
    return parts[0], parts[1], parts[2], parts[3]
