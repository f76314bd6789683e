"""`pc15learn bench`: searches with and without hooks."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from pc15.cli.parser import DONE, Parser, numbers
from pc15learn.cli.options import codec_arguments, codec_config, whole_numbers

EXAMPLES = ("bench --images photos/ --weights weights --out bench --lambdas 4,1,0.25",)


def run(args: argparse.Namespace) -> int:
    """Compare searches with and without hooks on the same pictures: seconds, quality, rate."""
    from pc15learn.bench import run_bench, table_text, verdict
    from pc15learn.tracking import track_bench

    result = run_bench(
        args.images,
        args.out,
        weights=args.weights,
        cfg=codec_config(args),
        lambdas=[*itertools.chain(*args.lambdas)],
        topk=[*itertools.chain(*args.topk)],
        limit=args.limit,
        repeats=args.repeats,
    )
    files = [str(path) for path in (result.csv, result.html, *result.json)]
    args.answer.put(table=result.table, encodes=len(result.measured), files=files)
    args.answer.say(table_text(result.table))
    args.answer.say(verdict(result.table))
    args.answer.say(f"{result.html}: {len(result.measured)} encodes")
    if args.logger == "wandb":
        track_bench(result)
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("--images", required=True, nargs="+", type=Path, metavar="PATH", help="folders or pictures")
    add.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder of the report")
    add.add_argument("--weights", type=Path, metavar="DIR", help="folder of exported weights")
    add.add_argument(
        "--topk",
        type=whole_numbers,
        nargs="+",
        default=[[16]],
        metavar="K,..",
        help="cells that hooks look into (default: 16)",
    )
    add.add_argument("--lambdas", type=numbers, nargs="+", default=[], metavar="X,Y", help="several rates")
    add.add_argument("--limit", type=int, metavar="N", help="the first N pictures")
    add.add_argument(
        "--repeats", type=int, default=1, metavar="N", help="encode N times, take the shortest (default: 1)"
    )
    add.add_argument("--tile", type=int, metavar="PX", help="tile side, px, instead of the preset's")
    add.add_argument("--logger", choices=["none", "wandb"], default="none", help="also show table and curves there")
    codec_arguments(add, "balanced")
