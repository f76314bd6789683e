"""`pc15learn evaluate`: nets compared on one set."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from pc15.cli.parser import DONE, Parser, numbers
from pc15learn.config import DeviceName

EXAMPLES = (
    "evaluate checkpoints/stored/last.ckpt checkpoints/online/last.ckpt --labels labels",
    "evaluate checkpoints/selector/best.ckpt --online photos/ --lambda 4,1",
)


def run(args: argparse.Namespace) -> int:
    """Say what nets lose on the val split of one set, whatever each was fitted to.

    Nets that were fitted to different sets, or by an oracle in the loop, have losses that cannot be compared before.
    """
    from pc15learn.fit.evaluate import evaluate_checkpoint

    online = args.online is not None
    found = {}
    for ckpt in args.ckpt:
        options = {"lambdas": args.lambdas} if args.lambdas else {}
        metrics = evaluate_checkpoint(
            ckpt, args.online if online else args.labels, online=online, device=args.device, **options
        )
        found[str(ckpt)] = dict(sorted(metrics.items()))
        args.answer.say(f"{ckpt}: {', '.join(f'{name} {value:.4f}' for name, value in sorted(metrics.items()))}")
    args.answer.put(metrics=found)
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("ckpt", nargs="+", type=Path, metavar="CKPT", help="last.ckpt or best.ckpt of a fit")
    sources = add.add_mutually_exclusive_group(required=True)
    sources.add_argument("--labels", type=Path, metavar="DIR", help="folder of labels, or of their features")
    sources.add_argument("--online", type=Path, metavar="PHOTOS", help="folder of photographs to search")
    add.add_argument(
        "--lambda", dest="lambdas", type=numbers, default=[], metavar="X,Y", help="rates to search photographs at"
    )
    add.add_argument("--device", choices=get_args(DeviceName), default="auto", help="where to (default: auto)")
