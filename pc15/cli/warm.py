"""`pc15 warm`: what a first use would wait for, done ahead."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from pc15.cli.parser import DONE, Parser, add_device, count

EXAMPLES = (
    "warm",
    "warm --tiles none",
    "warm --tiles 16,32,64",
)


def run(args: argparse.Namespace) -> int:
    """Compile the loops that coding needs and draw the patterns that it searches, ahead of the first picture.

    Both are kept on disk; a second run finds everything there.
    """
    from pc15.runtime.notices import compiled
    from pc15.warm import warm

    before = len(compiled)
    args.answer.begin_list("steps")
    total = 0.0
    for step in warm(args.tiles, device=args.device):
        loops = f"{count(step.compiled, 'loop')} compiled" if step.compiled else "nothing to compile"
        args.answer.row("steps", asdict(step), f"{step.what}: {step.seconds:.1f} s, {loops}")
        total += step.seconds
    made = len(compiled) - before
    args.answer.put(seconds=round(total, 3), compiled=made)
    args.answer.say(f"{total:.1f} s, {count(made, 'loop')} compiled")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument(
        "--tiles", type=_sides, default=[32], metavar="PX,PX", help="tile sizes to search; none: photographs alone "
        "(default: 32)",
    )  # fmt: skip
    add_device(add)


def _sides(text: str) -> list[int]:
    """Parse the argument of --tiles."""
    if text == "none":
        return []
    parts = text.split(",")
    if not all(part.isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not whole numbers with commas, such as 16,32; or none")
    return [int(part) for part in parts]
