"""`pc15learn verify`: labels, derived again."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from pc15.cli.parser import DONE, FAILED, Parser, add_device, complain
from pc15learn.cli.options import share_of

EXAMPLES = ("verify labels --sample 1%",)


def run(args: argparse.Namespace) -> int:
    """Derive a sample of labels again, from their pixels and the manifest, and compare them bit for bit."""
    from pc15learn.labels.verify import verify_labels

    found = verify_labels(args.labels, share=args.sample, device=args.device)
    args.answer.put(labels=str(args.labels), **asdict(found))
    if found.wrong:
        complain(
            f"{len(found.wrong)} of {found.checked} labels differ, {found.wrong[0]} first; label again",
            program="pc15learn",
        )
        return FAILED
    args.answer.say(f"{args.labels}: {found.checked} of {found.rows} labels derived again, all equal")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("labels", type=Path, metavar="FOLDER", help="folder of labels")
    add.add_argument(
        "--sample", type=share_of, default=0.01, metavar="SHARE", help="such as 5%% of the labels (default: 1%%)"
    )
    add_device(add)
