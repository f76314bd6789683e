"""`pc15 dis`: a stream as JSON."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pc15.cli.files import STANDARD, read_stream, write_standard
from pc15.cli.parser import DONE, STREAM_PIXELS, Parser, add_max_pixels

EXAMPLES = (
    "dis photo.pc15 -o photo.json",
    "dis photo.pc15 -o - | less",
)


def run(args: argparse.Namespace) -> int:
    """Take a stream apart into JSON that can be edited: header, tile programs by name, residual as base64.

    `pc15 asm` puts it together again; what was not edited gives the same bytes.
    """
    from pc15.assembly import dis
    from pc15.paths import ready_to_write, write_atomic

    target = Path(args.out)
    if target != STANDARD:
        ready_to_write(target)
    content = dis(read_stream(args.stream, strict=True, max_pixels=args.max_pixels), max_pixels=args.max_pixels)
    text = (json.dumps(content, indent=1) + "\n").encode()
    tiles = sum(len(plane["tiles"]) + len((plane["coarse"] or {"tiles": []})["tiles"]) for plane in content["planes"])
    if target == STANDARD:
        args.answer.beside_data()
        write_standard(text)
    else:
        write_atomic(target, text)
    args.answer.put(stream=str(args.stream), out=args.out, bytes=len(text), tiles=tiles)
    args.answer.say(f"{args.out}: {len(text)} bytes of JSON, {tiles} tiles")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("stream", type=Path, metavar="STREAM", help="a stream, or - for standard input")
    add.add_argument("-o", "--out", required=True, metavar="FILE", help="the JSON, or - for standard output")
    add_max_pixels(add, STREAM_PIXELS)
