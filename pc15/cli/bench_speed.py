"""`pc15 bench speed`: seconds, stage by stage."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from pc15.cli.parser import DONE, Parser, add_device, columns, names, numbers
from pc15.config import Preset

EXAMPLES = (
    "bench speed --images photos/ --limit 3",
    "bench speed --images photo.png --presets oracle --device cuda --out speed.csv",
    "bench speed --images photo.png --presets fast --curve 0.1,1,10 --out curve.csv",
    "bench speed --images photo.png --processes",
)


def run(args: argparse.Namespace) -> int:
    """Time the search, stage by stage, and encoding and decoding as wholes.

    Shares are of what the same run measured of the integer product, and of the copy for exact scores; times are the
    shortest of --repeats.  Encoding is timed with tile programs alone, as the stages are, and as the preset stands.
    With --curve, both are timed once over the size of the first picture, repeated as often as it takes, with the memory
    that each needs at most.  With --processes, `pc15 encode`, `decode` and `info` are timed as they are typed, from a
    warm cache.
    """
    from pc15.bench.processes import run_processes
    from pc15.bench.speed import run_curve, run_speed, write_csv
    from pc15.paths import ready_to_write
    from pc15.runtime.device import env_summary

    if args.out is not None:
        ready_to_write(args.out)
    if args.curve:
        timings = run_curve(args.images[0], args.curve, presets=args.presets, device=args.device)
    else:
        timed = run_processes if args.processes else run_speed
        timings = timed(args.images, presets=args.presets, device=args.device, repeats=args.repeats, limit=args.limit)
    args.answer.put(machine=env_summary(), timings=[asdict(t) for t in timings])
    table = [("stage", "seconds", "rate", "unit", "of ceiling", "peak MiB", "")]
    for t in timings:
        share = "" if t.share is None else f"{100 * t.share:.0f} %"
        table.append((t.stage, f"{t.seconds:.4f}", f"{t.rate:.4g}", t.unit, share, f"{t.peak_mib:.0f}", t.note))
    args.answer.say(columns(table, right=(1, 2, 4, 5)))
    if args.out is not None:
        write_csv(timings, args.out)
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    presets = get_args(Preset)
    add.add_argument("--images", nargs="+", type=Path, required=True, metavar="IMAGE", help="pictures, or folders")
    add.add_argument(
        "--presets", type=names, default=list(presets), metavar="A,B", help=f"of {', '.join(presets)} (default: all)"
    )
    ways = add.add_mutually_exclusive_group()
    ways.add_argument(
        "--curve", type=numbers, metavar="A,B", help="time and memory over sizes in megapixels, in place of stages"
    )
    ways.add_argument("--processes", action="store_true", help="time the commands as processes, in place of stages")
    add.add_argument("--limit", type=int, metavar="N", help="so many pictures (default: all)")
    add.add_argument("--repeats", type=int, default=3, metavar="N", help="how often each is timed (default: 3)")
    add.add_argument("-o", "--out", type=Path, metavar="FILE", help="also a CSV")
    add_device(add)
