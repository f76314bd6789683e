"""`pc15learn features`: labels -> what nets see, on the disk."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from pc15.cli.parser import DONE, Parser, add_jobs
from pc15learn.cli.options import part_of

EXAMPLES = (
    "features labels --out features --jobs 8",
    "fit --config configs/learn/selector.yaml --labels features",
)


def run(args: argparse.Namespace) -> int:
    """Compute once what nets see of labels and are fitted to, for sets that do not fit into memory.

    A fit that is given this folder reads of the disk what a batch needs, and ends with the weights of one that is given
    the labels.  The folder is continued shard by shard, and takes labels that were added.
    """
    from pc15learn.features import make_features

    made = make_features(args.labels, args.out, workers=args.workers, on=args.on, part=args.part)
    args.answer.put(**{**asdict(made), "folder": str(made.folder)})
    args.answer.say(f"{made.folder}: features of {made.shards} shards, {made.done} of them made now: {made.rows} rows")
    if made.rows:
        spent = ", ".join(f"{stage} {1e6 * value / made.rows:.0f}" for stage, value in made.seconds.items())
        args.answer.say(f"us a row: {spent}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("labels", type=Path, metavar="FOLDER", help="folder of labels")
    add.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder of the features")
    add_jobs(add, "processes; on ray 0 is one per node", 1, least=0)
    add.add_argument("--on", choices=["local", "ray"], default="local", help="where they work (default: local)")
    add.add_argument(
        "--part", type=part_of, default=(0, 1), metavar="I/N", help="do every N-th shard from I on, in 0..N-1"
    )
