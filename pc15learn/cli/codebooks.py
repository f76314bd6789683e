"""`pc15learn codebooks`: pictures or labels -> a codebook."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pc15.cli.parser import DONE, Parser, add_jobs
from pc15.errors import ConfigError
from pc15learn.cli.options import given_of_images, training_sources

EXAMPLES = (
    "codebooks --images photos/ --out models/codebooks/mine.npz",
    "codebooks --labels labels-4 labels-1 --out models/codebooks/mine.npz",
    "codebooks --squares --images photos/ --out squares.npz --jobs 8",
)


def run(args: argparse.Namespace) -> int:
    """Train a codebook: the patterns that layers of training pictures gain most from.

    What layers are asked to draw comes from pictures, which are searched for it greedily and as wholes, or from labels,
    whose tiles were searched exhaustively and each on its own: folders of one oracle, best at several lambdas.  Of
    labels the train split counts.  The file's name is the codebook's id.  Streams need tables made for it: see the
    command tables.

    With --squares it is the codebook of the residual's squares instead, and the models that their layers start with:
    from pictures alone.  The package's own lies at pc15/residual/v15_squares.npz, and streams name no other.
    """
    if args.squares:
        return _of_squares(args)
    if args.workers is not None:
        raise ConfigError("--jobs goes with --squares")
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


def _of_squares(args: argparse.Namespace) -> int:
    from pc15.images import find_images
    from pc15learn.codebooks.squares import by_generator, train_squares

    if args.images is None or args.tile is not None:
        raise ConfigError("--squares takes --images, and no --labels or --tile")
    made = train_squares(
        find_images(args.images), args.out, seed=args.seed, crop=args.crop or 320, workers=args.workers or 1
    )
    shares = by_generator(args.out)
    args.answer.put(codebook=str(args.out), entries={str(side): len(own) for side, own in made.items()}, shares=shares)
    args.answer.say(f"{args.out}: " + ", ".join(f"{len(own)} of {side} px" for side, own in made.items()))
    for name, share in shares.items():
        args.answer.say(f"{name} {share:.1%}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    training_sources(add)
    add.add_argument("--squares", action="store_true", help="of the residual's squares, not of tiles")
    add_jobs(add, "with --squares: processes", None, "1")
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
        "--crop",
        type=int,
        metavar="PX",
        help="with --images: middle square that is used, px (default: 256; squares: 320)",
    )
