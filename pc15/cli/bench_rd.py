"""`pc15 bench rd`: rate and distortion beside other codecs."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from pc15.bench import LAMBDAS, MAX_BPP, Anchor
from pc15.cli.parser import (
    DEFAULT_PRESET,
    DONE,
    Parser,
    add_device,
    add_jobs,
    columns,
    count,
    names,
    numbers,
    on_or_off,
)
from pc15.config import CodecConfig, Preset
from pc15.errors import ConfigError

EXAMPLES = (
    "bench rd --images photos/ --out rd.csv",
    "bench rd --images photos/ --presets fast,balanced --against jpeg,jpeg2000 --out rd.csv --html rd.html",
    "bench rd --images photos/ --presets oracle --alpha 0 --lambdas 8,4,2,1 --out psnr.csv",
    "bench rd --images photos/ --presets none --anchors other.csv --reference jpeg --out rd.csv",
)


def run(args: argparse.Namespace) -> int:
    """Measure rate and distortion of PC15, and of conventional codecs beside it, on luma.

    Each picture is coded as one 8-bit gray plane, at setting after setting; whole-file bytes, PSNR and Gaussian SSIM
    go to a CSV as they come, and a run that was cut off goes on where it stopped.  Printed are means per setting and
    at fixed rates (read per picture between its points), and BD-rates (per picture; refused where the curves share
    less than half of their quality range).
    """
    from pc15.bench.rd import run_rd
    from pc15.bench.summary import choose_reference, report, tables, write_compressai
    from pc15.paths import ready_to_write

    outputs = [path.resolve() for path in (args.out, args.anchors, args.compressai, args.html) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise ConfigError("--out, --anchors, --compressai and --html name one file twice; give each its own")
    for path in (args.html, args.compressai):
        if path is not None:
            ready_to_write(path)
    options = {"alpha_mix": args.alpha, "device": args.device, "tile": args.tile, "overlap": args.overlap}
    options |= {"residual": args.residual, "max_layers": args.max_layers}
    points = run_rd(
        args.images,
        args.out,
        presets=[] if args.presets == ["none"] else args.presets,
        against=args.against,
        anchors=args.anchors,
        reference=args.reference,
        lambdas=args.lambdas,
        max_bpp=args.max_bpp,
        workers=args.workers,
        force=args.force,
        **{name: value for name, value in options.items() if value is not None},
    )
    reference = choose_reference(points, args.reference, args.against)
    shown = list(tables(points, reference))
    args.answer.put(csv=str(args.out), points=len(points), reference=reference, tables=[asdict(one) for one in shown])
    for table in shown:
        args.answer.say(table.title)
        args.answer.say(columns([table.header, *table.rows], right=range(1, len(table.header))))
        args.answer.say("\n".join([*table.notes, ""]))
    if args.html is not None:
        args.answer.say(f"{report(points, reference).write(args.html)}: tables and plots")
    for path in write_compressai(points, args.compressai) if args.compressai is not None else []:
        args.answer.say(f"{path}: means per setting, in CompressAI's layout")
    pictures = len({point.picture for point in points})
    args.answer.say(
        f"{count(len(points), 'point')} of {count(pictures, 'picture')}; what was measured is in {args.out}"
    )
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    presets = get_args(Preset)
    add.add_argument("--images", nargs="+", type=Path, required=True, metavar="IMAGE", help="pictures, or folders")
    add.add_argument(
        "-o",
        "--out",
        type=Path,
        required=True,
        metavar="FILE",
        help="the CSV; what it holds already is not measured again",
    )
    add.add_argument(
        "--force",
        action="store_true",
        help="measure again what the CSV holds, as after a change of the codec (default: go on)",
    )
    add.add_argument(
        "--presets", type=names, default=[DEFAULT_PRESET], metavar="A,B",
        help=f"{', '.join(presets)}; none: only the other codecs (default: {DEFAULT_PRESET})",
    )  # fmt: skip
    add.add_argument(
        "--against", type=names, default=[], metavar="A,B",
        help=f"also measure {', '.join(get_args(Anchor))}, or a plugin's codec (default: none)",
    )  # fmt: skip
    add.add_argument(
        "--anchors", type=Path, metavar="CSV", help="also show the points of another such CSV (default: none)"
    )
    add.add_argument(
        "--reference", metavar="CODEC",
        help="what BD-rates are against (default: the first of --against, else jpeg, else the first other codec)",
    )  # fmt: skip
    add.add_argument(
        "--lambdas", type=numbers, default=list(LAMBDAS), metavar="X,Y",
        help=f"PC15's ladder (default: {','.join(f'{lam:g}' for lam in LAMBDAS)})",
    )  # fmt: skip
    add.add_argument(
        "--alpha", type=float, metavar="X", help=f"share of 1 - SSIM in D (default: {CodecConfig.alpha_mix})"
    )
    add.add_argument("--tile", type=int, metavar="PX", help="tile side (default: the preset's)")
    add.add_argument("--overlap", type=int, metavar="PX", help="overlap (default: the preset's)")
    add.add_argument("--residual", type=on_or_off, metavar="on|off", help="residual (default: the preset's)")
    add.add_argument("--max-layers", type=int, metavar="N", help="most patterns per tile (default: the preset's)")
    add.add_argument(
        "--max-bpp", type=float, default=MAX_BPP, metavar="X",
        help="a ladder is left after its first point above (default: %(default)s)",
    )  # fmt: skip
    add_jobs(add, "processes; one for fair times", 1)
    add_device(add)
    add.add_argument(
        "--html", "--plots", type=Path, metavar="FILE", help="also write the tables and RD plots as a page"
    )
    add.add_argument(
        "--compressai", type=Path, metavar="FILE",
        help="also write CompressAI's results; with several codecs one file each, FILE-codec.json",
    )  # fmt: skip
