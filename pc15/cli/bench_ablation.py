"""`pc15 bench ablation`: the worth of each part of the codec."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from pc15.bench import ABLATION_LAMBDAS, MAX_BPP
from pc15.cli.parser import (
    DEFAULT_PRESET,
    DONE,
    Parser,
    add_device,
    add_jobs,
    add_points,
    columns,
    count,
    names,
    numbers,
)
from pc15.config import Preset

EXAMPLES = (
    "bench ablation --images photos/ --out ablation.csv",
    "bench ablation --images photos/ --variants both,no-filter,no-rdoq --out ablation.csv --workers 4",
)


def run(args: argparse.Namespace) -> int:
    """Measure what each part of the codec is worth: BD-rates with it taken out or changed.

    Every variant differs by one thing from its base: tile programs alone, the residual alone, or both.  Pictures are
    coded as 8-bit luma; whole-file bytes, PSNR and Gaussian SSIM go to a CSV like that of `bench rd` as they come, and
    a run that was cut off goes on where it stopped.
    """
    from pc15.bench.ablation import AblationOptions, ablation_table, run_ablation

    options = AblationOptions(
        variants=args.variants,
        preset=args.preset,
        lambdas=args.lambdas,
        max_bpp=args.max_bpp,
        workers=args.workers,
        force=args.force,
        device=args.device,
    )
    points = run_ablation(args.images, args.out, options)
    table = ablation_table(points)
    args.answer.put(csv=str(args.out), points=len(points), table=asdict(table))
    args.answer.say(table.title)
    args.answer.say(columns([table.header, *table.rows], right=range(2, len(table.header))))
    args.answer.say("\n".join(table.notes))
    pictures = len({point.picture for point in points})
    args.answer.say(
        f"{count(len(points), 'point')} of {count(pictures, 'picture')}; what was measured is in {args.out}"
    )
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("--images", nargs="+", type=Path, required=True, metavar="IMAGE", help="pictures, or folders")
    add_points(add)
    add.add_argument(
        "--variants", type=names, default=[], metavar="A,B",
        help="only these, and what they are compared with; a wrong name shows all (default: all)",
    )  # fmt: skip
    add.add_argument("--preset", choices=get_args(Preset), default=DEFAULT_PRESET, help=f"(default: {DEFAULT_PRESET})")
    add.add_argument(
        "--lambdas", type=numbers, default=list(ABLATION_LAMBDAS), metavar="X,Y",
        help=f"the ladder (default: {','.join(f'{lam:g}' for lam in ABLATION_LAMBDAS)})",
    )  # fmt: skip
    add.add_argument(
        "--max-bpp", type=float, default=MAX_BPP, metavar="X",
        help="a ladder is left after its first point above (default: %(default)s)",
    )  # fmt: skip
    add.add_argument("--force", action="store_true", help="measure again what the CSV holds (default: go on)")
    add_jobs(add, "processes; one for fair times", 1)
    add_device(add)
