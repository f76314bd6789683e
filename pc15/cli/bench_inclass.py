"""`pc15 bench inclass`: pictures that are one pattern."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import get_args

from pc15.bench import INCLASS, INCLASS_LAMBDAS, INCLASS_SSIM
from pc15.cli.parser import DEFAULT_PRESET, DONE, Parser, add_device, add_jobs, add_points, columns, names, numbers
from pc15.config import Preset

EXAMPLES = (
    "bench inclass --out inclass.csv",
    "bench inclass --classes stripes,rings --count 4 --size 256 --lambdas 16 --out some.csv",
)


def run(args: argparse.Namespace) -> int:
    """Measure what a picture costs that is one pattern: drawn in floating point, coded as the preset does.

    Each class has pictures of random parameters.  A picture is coded with ever smaller lambdas until a file reaches the
    wanted SSIM (Gaussian, 8-bit luma); that one counts, or else the best.  Whole-file bytes, PSNR and SSIM go to a
    CSV as they come, and a run that was cut off goes on where it stopped.
    """
    from pc15.bench.inclass import InclassOptions, run_inclass, summarise

    options = InclassOptions(
        classes=args.classes,
        count=args.count,
        size=args.size,
        seed=args.seed,
        lambdas=args.lambdas,
        preset=args.preset,
        device=args.device,
        workers=args.workers,
        force=args.force,
    )
    points = run_inclass(args.out, options)
    header = ["class", "pictures", "bytes", "most", "SSIM", "least", f"share from {INCLASS_SSIM:g}", "s per file"]
    classes = summarise(points)
    args.answer.put(csv=str(args.out), points=len(points), classes=[asdict(r) for r in classes])
    rows = [
        [
            r.name, str(r.pictures), f"{r.bytes_median:g}", str(r.bytes_max), f"{r.ssim_median:.4f}",
            f"{r.ssim_min:.4f}", f"{r.reached:.0%}", f"{r.seconds:.1f}",
        ]
        for r in classes
    ]  # fmt: skip
    args.answer.say(columns([header, *rows], right=range(1, len(header))))
    args.answer.say(f"bytes, SSIM and seconds are medians; what was measured is in {args.out}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument(
        "--classes", type=names, default=list(INCLASS), metavar="A,B", help=f"of {', '.join(INCLASS)} (default: all)"
    )
    add.add_argument("--count", type=int, default=20, metavar="N", help="pictures of each (default: 20)")
    add.add_argument("--size", type=int, default=512, metavar="PX", help="their side, 11..1024 (default: 512)")
    add.add_argument("--seed", type=int, default=0, metavar="N", help="of their parameters (default: 0)")
    add.add_argument(
        "--lambdas", type=numbers, default=list(INCLASS_LAMBDAS), metavar="X,Y",
        help=f"the ladder (default: {','.join(f'{lam:g}' for lam in INCLASS_LAMBDAS)})",
    )  # fmt: skip
    add.add_argument("--preset", choices=get_args(Preset), default=DEFAULT_PRESET, help=f"(default: {DEFAULT_PRESET})")
    add_points(add)
    add_jobs(add, "processes; one for fair times", 1)
    add.add_argument("--force", action="store_true", help="measure again what the CSV holds (default: go on)")
    add_device(add)
