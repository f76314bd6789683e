"""`pc15 inspect`: a stream as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from pc15.cli.files import read_stream
from pc15.cli.parser import DONE, STREAM_PIXELS, Parser, add_max_pixels

EXAMPLES = (
    "inspect photo.pc15 --out page.html",
    "inspect programs.pc15 --out page.html --original photo.png --lambda 0.5",
)


def run(args: argparse.Namespace) -> int:
    """Show a stream as a page of HTML: its picture, where its bits lie, and what each tile and square says.

    The page needs no other file and no network.  Pointing at the picture shows the square and the tiles under the
    pointer: prediction, patterns with their parameters, and bits by what they decide.  With --original, the picture
    that was coded, also the best candidates of each layer of luma's tiles, as an exhaustive search of each tile on its
    own finds them: what they cost, and what would be left.
    """
    from pc15.inspection import inspect_stream
    from pc15.paths import ready_to_write, write_atomic

    ready_to_write(args.out)
    data = read_stream(args.stream, strict=True, max_pixels=args.max_pixels)
    original = None
    if args.original is not None:
        from pc15.images import load_luma

        original = load_luma(args.original, max_pixels=args.max_pixels)
    page = inspect_stream(
        data, args.stream.name, original=original, lambda_rd=args.lambda_rd, max_pixels=args.max_pixels
    ).encode()
    write_atomic(args.out, page)
    args.answer.put(stream=str(args.stream), page=str(args.out), bytes=len(page))
    args.answer.say(f"{args.out}: a page of {len(page)} bytes")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("stream", type=Path, metavar="STREAM", help="a stream, or - for standard input")
    add.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help="the page")
    add.add_argument("--original", type=Path, metavar="PICTURE", help="what was coded: also tell candidates of tiles")
    add.add_argument(
        "--lambda", dest="lambda_rd", type=float, default=0.5, metavar="X",
        help="with --original: price of a bit that candidates compete at (default: 0.5)",
    )  # fmt: skip
    add_max_pixels(add, STREAM_PIXELS)
