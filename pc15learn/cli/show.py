"""`pc15learn show`: labels as a page."""

from __future__ import annotations

import argparse
from pathlib import Path

from pc15.cli.parser import DONE, Parser

EXAMPLES = ("show labels --out page.html",)


def run(args: argparse.Namespace) -> int:
    """Show labels as a page: tiles, what each layer drew, and the candidates with their costs."""
    from pc15learn.labels.show import labels_page

    shown = labels_page(args.labels, args.out, tiles=args.tiles, seed=args.seed)
    args.answer.put(page=str(args.out), tiles=shown)
    args.answer.say(f"{args.out}: {shown} tiles of {args.labels}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("labels", type=Path, metavar="FOLDER", help="folder of labels")
    add.add_argument("-o", "--out", required=True, type=Path, metavar="PAGE.html", help="the page to write")
    add.add_argument("--tiles", type=int, default=24, metavar="N", help="tiles to show (default: 24)")
    add.add_argument("--seed", type=int, default=1, metavar="N", help="of which ones (default: 1)")
