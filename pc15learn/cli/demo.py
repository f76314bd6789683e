"""`pc15learn demo`: the whole toolkit in a few minutes."""

from __future__ import annotations

import argparse
from pathlib import Path

from pc15.cli.parser import DONE, Parser

EXAMPLES = (
    "demo",
    "demo --out .demo",
)


def run(args: argparse.Namespace) -> int:
    """Show the whole tool in a few minutes: encode a photo, then tiles, labels, fits, weights, benchmark."""
    from pc15learn.demo import run_demo

    said = run_demo(args.out)
    args.answer.put(folder=str(args.out), said=said)
    args.answer.say(said)
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument(
        "-o",
        "--out",
        type=Path,
        default=Path(".demo"),
        metavar="DIR",
        help="folder of all that it makes (default: .demo)",
    )
