"""`pc15learn tables`: pictures, labels or streams -> rANS tables."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from pc15.cli.parser import DONE, Parser, add_jobs
from pc15learn.cli.options import given_of_images, training_sources

EXAMPLES = (
    "tables --images photos/ --codebook mine --like v15_trained --out models/rans/mine.json",
    "tables --labels labels-4 labels-1 --codebook mine --like v15_trained --out models/rans/mine.json",
    "tables --streams streams/ --like v15_trained --out models/rans/again.json",
)


def run(args: argparse.Namespace) -> int:
    """Train rANS tables for a codebook: count the symbols of training pictures' programs.

    Pictures are encoded and counted, and again with the tables that this gives.  Streams and labels are counted as they
    are.  Streams hold what the encoder chose, tiles beside each other, colour too: prefer them where you have both.
    Labels hold what the oracle chose for each tile of a luma as if it were alone; the train split counts, and of its
    pictures every tile has to be there.  Several lambdas and tile sizes fill the tables of several rates and sizes;
    what was rarely counted leans on --like.  Of streams and labels of another codebook than --codebook all is counted
    but generators and entries, whose use its own weights tell.  The file's name is the tables' id.  It is written when
    all is done.
    """
    from pc15learn.train_tables import CountOptions, tables_from_labels, tables_from_streams, train_tables

    of_images = given_of_images(args, "rounds", "share", "crop", "workers")
    shared: dict[str, Any] = {"table_id": args.out.stem, "like": args.like, "plain": args.plain}
    if args.codebook is not None:
        shared["codebook_id"] = args.codebook
    if args.labels is not None:
        made = tables_from_labels(args.labels, args.out, **shared)
    elif args.streams is not None:
        from pc15.cli.files import find_sources
        from pc15.cli.parser import STREAM_SUFFIX

        made = tables_from_streams(
            [source.path for source in find_sources(args.streams, (STREAM_SUFFIX,))], args.out, **shared
        )
    else:
        from pc15.images import find_images

        made = train_tables(find_images(args.images), args.out, **shared, counting=CountOptions(**of_images))
    args.answer.put(tables=str(args.out), count=len(made.tables))
    args.answer.say(f"{args.out}: {len(made.tables)} tables")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    sources = training_sources(add)
    sources.add_argument("--streams", nargs="+", type=Path, metavar="PATH", help=".pc15 files or folders of them")
    add.add_argument("-o", "--out", required=True, type=Path, metavar="ID.json", help="the tables to write")
    add.add_argument(
        "--codebook", metavar="ID", help="what they are for (default: v15_grid, or what labels or streams name)"
    )
    add.add_argument("--like", metavar="ID", help="tables to begin with and to lean on (default: flat ones)")
    add.add_argument("--plain", action="store_true", help="one table for all contexts of a symbol, for studies")
    add.add_argument("--rounds", type=int, metavar="N", help="with --images: of encoding and counting (default: 3)")
    add.add_argument(
        "--share", type=int, metavar="N", help="with --images: last-round encodes per picture (default: 4)"
    )
    add.add_argument(
        "--crop", type=int, metavar="PX", help="with --images: middle square that is used, px (default: 256)"
    )
    add_jobs(add, "with --images: processes", None, "2")
