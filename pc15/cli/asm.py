"""`pc15 asm`: JSON as a stream."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from pc15.cli.files import STANDARD, read_standard, write_standard
from pc15.cli.parser import DONE, Parser
from pc15.errors import ConfigError

EXAMPLES = (
    "asm photo.json -o edited.pc15",
    "asm - -o edited.pc15 < photo.json",
)
_MAX_BYTES = 1 << 29


def run(args: argparse.Namespace) -> int:
    """Put a stream together from JSON of `pc15 dis`, edited or written by hand.

    A layer may give `parameters` in place of `entry` and `offsets`.  What no decoder would read is refused, with the
    tile and layer that is meant.
    """
    from pc15.assembly import asm
    from pc15.bitstream import write_bitstream
    from pc15.paths import read_bounded, ready_to_write

    target = Path(args.out)
    if target != STANDARD:
        ready_to_write(target)
    text = read_standard().read() if args.json_file == STANDARD else read_bounded(args.json_file, _MAX_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{args.json_file} is not JSON: {error}") from error
    data = asm(content)
    if target == STANDARD:
        args.answer.beside_data()
        write_standard(data)
    else:
        write_bitstream(target, data)
    args.answer.put(source=str(args.json_file), stream=args.out, bytes=len(data))
    args.answer.say(f"{args.out}: {len(data)} bytes")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("json_file", type=Path, metavar="JSON", help="what dis wrote, or - for standard input")
    add.add_argument("-o", "--out", required=True, metavar="FILE", help="the stream, or - for standard output")
