"""`pc15learn make-tiles`: pictures -> tiles.jsonl."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from pc15.cli.parser import DONE, Parser

EXAMPLES = ("make-tiles --images photos/ --out tiles.jsonl --tile 32 --overlap 8",)


def run(args: argparse.Namespace) -> int:
    """Cut pictures into tiles and write where they lie, one JSON line each.

    An existing file is continued; pictures added later are appended.  The split is by picture.
    """
    from pc15learn.tiles import make_tiles

    made = make_tiles(
        args.images,
        args.out,
        tile=args.tile,
        overlap=args.overlap,
        limit=args.limit,
        stride=args.stride,
        val_percent=args.val_percent,
        test_percent=args.test_percent,
    )
    args.answer.put(tiles=str(args.out), **asdict(made))
    left = f", {made.skipped} left out" if made.skipped else ""
    args.answer.say(f"{args.out}: {made.rows} tiles; {made.cut} pictures cut now, {made.kept} there already{left}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument(
        "--images", required=True, metavar="PATH", help="folder of pictures, one picture, or an fsspec URL"
    )
    add.add_argument("-o", "--out", required=True, type=Path, metavar="FILE", help="tiles.jsonl to write or continue")
    add.add_argument("--tile", type=int, default=32, metavar="PX", help="tile side, px (default: 32)")
    add.add_argument("--overlap", type=int, default=8, metavar="PX", help="px shared by neighbours (default: 8)")
    add.add_argument("--limit", type=int, metavar="N", help="most tiles per picture, chosen by hash")
    add.add_argument("--stride", type=int, metavar="PX", help="px between tiles (default: tile - overlap)")
    add.add_argument(
        "--val-percent", type=int, default=10, metavar="N", help="share of pictures to validate on (default: 10)"
    )
    add.add_argument(
        "--test-percent", type=int, default=10, metavar="N", help="share of pictures held back (default: 10)"
    )
