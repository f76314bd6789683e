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
    add_points,
    columns,
    count,
    names,
    numbers,
    on_or_off,
)
from pc15.config import CodecConfig, Preset
from pc15.errors import ConfigError
from pc15.residual.tools import TOOLS

EXAMPLES = (
    "bench rd --images photos/ --out rd.csv",
    "bench rd --images photos/ --presets fast,balanced --against jpeg,jpeg2000 --out rd.csv --html rd.html",
    "bench rd --images photos/ --presets oracle --alpha 0 --lambdas 8,4,2,1 --out psnr.csv",
    "bench rd --images photos/ --presets none --anchors other.csv --reference jpeg --out rd.csv",
    "bench rd --images photos/ --against x265,vvenc,avif:speed=3,tune=ssim --out rd.csv",
    "bench rd --images kodak/ --color --reference vtm.json,elic.json --out color.csv --results results/",
)


def run(args: argparse.Namespace) -> int:
    """Measure rate and distortion of PC15, and of conventional codecs beside it, on luma or in colour.

    Each picture is coded as one 8-bit gray plane, or with --color as RGB, at setting after setting; whole-file bytes,
    PSNR and Gaussian SSIM, in colour also PSNR of RGB, Cb and Cr and CIEDE2000, with --perceptual also MS-SSIM and
    visual information fidelity, go to a CSV as they come, and a run that was cut off goes on where it stopped.
    Printed are means per setting and at fixed rates (read per picture between its points), and BD-rates (per picture;
    refused where the curves share less than half of their quality range), also against published means in CompressAI's
    layout.
    """
    from pc15.bench.exchange import read_curve, write_compressai, write_results
    from pc15.bench.points import read_points
    from pc15.bench.rd import RdOptions, run_rd
    from pc15.bench.summary import choose_reference, report, tables
    from pc15.paths import ready_to_write

    outputs = [path.resolve() for path in (args.out, args.anchors, args.compressai, args.html) if path is not None]
    if len(set(outputs)) < len(outputs):
        raise ConfigError("--out, --anchors, --compressai and --html name one file twice; give each its own")
    for path in (args.html, args.compressai):
        if path is not None:
            ready_to_write(path)
    curves = [read_curve(name, color=args.color) for name in args.reference if name.lower().endswith(".json")]
    codecs = [name for name in args.reference if not name.lower().endswith(".json")]
    if len(codecs) > 1:
        raise ConfigError(
            f"--reference names the codecs {' and '.join(codecs)}; give one, and any number of JSON files"
        )
    reference = codecs[0] if codecs else None
    options = {"alpha_mix": args.alpha, "device": args.device, "tile": args.tile, "overlap": args.overlap}
    options |= {"residual": args.residual, "max_layers": args.max_layers, "tools": args.tools}
    rd = RdOptions(
        presets=[] if args.presets == ["none"] else args.presets,
        against=args.against,
        anchors=args.anchors,
        reference=reference,
        lambdas=args.lambdas,
        max_bpp=args.max_bpp,
        workers=args.workers,
        force=args.force,
        color=args.color,
        perceptual=args.perceptual,
        vvenc=args.vvenc,
        codec={name: value for name, value in options.items() if value is not None},
    )
    points = run_rd(args.images, args.out, rd)
    reference = choose_reference(points, reference, args.against)
    shown = list(tables(points, reference, curves))
    args.answer.put(csv=str(args.out), points=len(points), reference=reference, tables=[asdict(one) for one in shown])
    for table in shown:
        args.answer.say(table.title)
        args.answer.say(columns([table.header, *table.rows], right=range(1, len(table.header))))
        args.answer.say("\n".join([*table.notes, ""]))
    if args.html is not None:
        args.answer.say(f"{report(points, reference, curves).write(args.html)}: tables and plots")
    for path in write_compressai(points, args.compressai) if args.compressai is not None else []:
        args.answer.say(f"{path}: means per setting, in CompressAI's layout")
    measured = {point.key for point in read_points(args.out)}
    released = [point for point in points if point.key in measured]  # anchors are others'
    if args.results is not None and released:
        folder = args.images[0].resolve() if len(args.images) == 1 and args.images[0].is_dir() else None
        name = f"{folder.name if folder is not None else 'pictures'}-{'color' if args.color else 'luma'}"
        written = write_results(released, args.results, name)[0]
        args.answer.say(f"{written}: all points; beside it means of each codec as JSON")
    pictures = len({point.picture for point in points})
    args.answer.say(
        f"{count(len(points), 'point')} of {count(pictures, 'picture')}; what was measured is in {args.out}"
    )
    return DONE


def codec_names(text: str) -> list[str]:
    """Parse the argument A,B of which each may have options, A:x=1,y=2."""
    found: list[str] = []
    for part in names(text):
        if "=" in part and ":" not in part and found and ":" in found[-1]:
            found[-1] += f",{part}"
        else:
            found.append(part)
    return found


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    presets = get_args(Preset)
    add.add_argument("--images", nargs="+", type=Path, required=True, metavar="IMAGE", help="pictures, or folders")
    add_points(add)
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
        "--against", type=codec_names, default=[], metavar="A,B",
        help=f"also measure {', '.join(get_args(Anchor))}, with options as in avif:speed=3,tune=ssim, or a plugin's "
        "codec; what is not installed is left out (default: none)",
    )  # fmt: skip
    add.add_argument(
        "--vvenc", type=Path, metavar="PATH", help="vvencFFapp or vvencapp, for vvenc (default: what is on the PATH)"
    )
    add.add_argument(
        "--color", action="store_true",
        help="code RGB, and measure PSNR of RGB and of Y, Cb, Cr at 6:1:1, and CIEDE2000 (default: luma)",
    )  # fmt: skip
    add.add_argument(
        "--perceptual", action="store_true",
        help="also MS-SSIM and VIF of luma, of pictures from 161x161 pixels on, by torchmetrics (extra bench)",
    )  # fmt: skip
    add.add_argument(
        "--anchors", type=Path, metavar="CSV", help="also show the points of another such CSV (default: none)"
    )
    add.add_argument(
        "--reference", type=names, default=[], metavar="CODEC,JSON",
        help="what BD-rates are against: a codec (default: the first of --against, else jpeg, else the first other "
        "codec), and files of published means in CompressAI's layout, X.json",
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
        "--tools", metavar="A,B", help=f"coding tools of the residual, of {', '.join(TOOLS)}; or none (default: all)"
    )
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
    add.add_argument(
        "--results", type=Path, metavar="DIR",
        help="also write a release's points there: CSV of pictures by name, and CompressAI's JSON of each codec",
    )  # fmt: skip
