"""`pc15learn codebooks`: pictures or labels -> a codebook."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pc15.cli.parser import DONE, Parser
from pc15learn.cli.options import given_of_images, training_sources

EXAMPLES = (
    "codebooks --images photos/ --out models/codebooks/mine.npz",
    "codebooks --labels labels-4 labels-1 --out models/codebooks/mine.npz",
)


def run(args: argparse.Namespace) -> int:
    """Train a codebook: the patterns that layers of training pictures gain most from.

    What layers are asked to draw comes from pictures, which are searched for it greedily and as wholes, or from labels,
    whose tiles were searched exhaustively and each on its own: folders of one oracle, best at several lambdas.  Of
    labels the train split counts.  The file's name is the codebook's id.  Streams need tables made for it: see the
    command tables.
    """
    from pc15learn.codebooks.train import CodebookOptions, train_codebook, train_codebook_on_labels

    of_images = given_of_images(args, "tile", "crop")
    options = CodebookOptions(
        base=args.base, entries=args.entries, targets=args.targets, random=args.random, seed=args.seed
    )
    shared: dict[str, Any] = {"codebook_id": args.out.stem, "options": options}
    if args.labels is not None:
        made = train_codebook_on_labels(args.labels, args.out, **shared)
    else:
        from pc15.images import find_images

        made = train_codebook(find_images(args.images), args.out, **shared, **of_images)
    args.answer.put(codebook=str(args.out), entries=sum(map(len, made.entries)))
    args.answer.say(f"{args.out}: {sum(map(len, made.entries))} entries")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    training_sources(add)
    add.add_argument("-o", "--out", required=True, type=Path, metavar="ID.npz", help="the codebook to write")
    add.add_argument("--base", default="v15_grid", metavar="ID", help="what stands behind them (default: v15_grid)")
    add.add_argument(
        "--entries", type=int, default=24576, metavar="N", help="most entries beside the base's (default: 24576)"
    )
    add.add_argument("--targets", type=int, default=60000, metavar="N", help="most layers to serve (default: 60000)")
    add.add_argument("--random", type=int, default=800, metavar="N", help="random patterns tried per generator")
    add.add_argument("--seed", type=int, default=1, metavar="N", help="of what is random (default: 1)")
    add.add_argument("--tile", type=int, metavar="PX", help="with --images: tile side, px (default: 32)")
    add.add_argument(
        "--crop", type=int, metavar="PX", help="with --images: middle square that is used, px (default: 256)"
    )
