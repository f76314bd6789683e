"""`pc15learn bench`: searches with and without hooks."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from pc15.cli.parser import DONE, Parser, names, numbers
from pc15.config import PRESETS
from pc15.errors import ConfigError
from pc15learn.cli.options import codec_arguments, codec_config, whole_numbers

EXAMPLES = (
    "bench --images photos/ --out bench",
    "bench --images photos/ --weights weights --out bench --lambdas 4,1,0.25 --repeats 1",
    "bench --images photos/ --photographs --out bench --lambdas 8,2,0.5,0.12,0.03",
)

_RATES = [4.0, 2.0, 1.0, 0.5, 0.25]


def run(args: argparse.Namespace) -> int:
    """Compare searches with and without hooks on the same pictures: time against BD-rate, and a verdict."""
    from pc15learn.bench import Searches, run_bench
    from pc15learn.bench_tables import table_text, verdict
    from pc15learn.tracking import track_bench

    for name, value in (("tile", args.tile), ("presets", args.presets), ("topk", args.topk)):
        if args.photographs and value:
            raise ConfigError(f"--{name} is about tile programs; leave it out with --photographs")
    topk = [*itertools.chain(*args.topk)]
    result = run_bench(
        args.images,
        args.out,
        searches=Searches([] if args.weights == ["none"] else args.weights, topk, args.presets, args.photographs),
        cfg=codec_config(args),
        lambdas=[*itertools.chain(*args.lambdas)] or ([] if args.lambda_rd else _RATES),
        limit=args.limit,
        repeats=args.repeats,
        together=args.together,
    )
    files = [str(path) for path in (result.csv, result.html, *result.json)]
    args.answer.put(front=result.front, table=result.table, encodes=len(result.measured), files=files)
    several = any("BD-RD %" in row for row in result.front)
    args.answer.say(table_text(result.front if several else result.table))
    args.answer.say(verdict(result.measured))
    args.answer.say(f"{result.html}: {len(result.measured)} encodes")
    if args.logger == "wandb":
        track_bench(result)
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("--images", required=True, nargs="+", type=Path, metavar="PATH", help="folders or pictures")
    add.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder of the report")
    add.add_argument(
        "--weights", nargs="+", default=["baseline"], metavar="DIR",
        help="folders of exported weights; baseline, which come with pc15; or none (default: baseline)",
    )  # fmt: skip
    add.add_argument(
        "--topk",
        type=whole_numbers,
        nargs="+",
        default=[],
        metavar="K,..",
        help="cells that hooks look into for each layer, one run each (default: 256)",
    )
    add.add_argument(
        "--lambdas", type=numbers, nargs="+", default=[], metavar="X,Y",
        help="rates, as prices of a bit (default: 4,2,1,0.5,0.25, or that of --lambda)",
    )  # fmt: skip
    add.add_argument("--limit", type=int, metavar="N", help="the first N pictures")
    add.add_argument("--repeats", type=int, default=3, metavar="N", help="encode N times, take the median (default: 3)")
    add.add_argument(
        "--together", action="store_true",
        help="encode all pictures in one call, as keeps a GPU busy; each one's time is its share",
    )  # fmt: skip
    add.add_argument(
        "--presets", type=names, default=[], metavar="A,B",
        help=f"also these, of {', '.join(PRESETS)}, and exhaustive search with the whole beam (default: none)",
    )  # fmt: skip
    add.add_argument(
        "--photographs", action="store_true",
        help="compare searches of photographs' squares: presets, and hooks upon the oracle (default: tile programs)",
    )  # fmt: skip
    add.add_argument("--tile", type=int, metavar="PX", help="tile side, px, instead of the preset's")
    add.add_argument("--logger", choices=["none", "wandb"], default="none", help="also show table and curves there")
    codec_arguments(add, "balanced")
