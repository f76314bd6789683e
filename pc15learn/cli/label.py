"""`pc15learn label`: tiles -> labels."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from pc15.cli.parser import DONE, FAILED, Parser, add_jobs, complain
from pc15.errors import ConfigError
from pc15learn.cli.options import codec_arguments, codec_config, part_of

EXAMPLES = (
    "label --tiles tiles.jsonl --out labels --lambda 4,2,1,0.5,0.25",
    "label --tiles tiles.jsonl --out labels --part $SLURM_ARRAY_TASK_ID/16",
    "label --squares photos/ --out squares --lambda 8,2,0.5,0.12 --jobs 2",
)


def run(args: argparse.Namespace) -> int:
    """Label tiles by exhaustive search: what it chooses for each layer, and what else it could have.

    Labels are Parquet shards with a dataset card, which `datasets.load_dataset(FOLDER)` reads.  The folder is continued
    shard by shard, and extended where tiles were added; it holds the labels of one oracle, at one rate or several.
    Several GPUs are used by --jobs, several machines by --part or --on ray.

    With --squares the labels are of the residual's squares, where photographs have their patterns: a shard per picture,
    of what the search of the luma tried in each square, what that saved, and whether it paid.
    """
    lambdas, args.lambda_rd = tuple(args.lambda_rd), None
    if args.squares is not None:
        return _label_squares(args, lambdas)
    from pc15learn.labels.write import LabelOptions, make_labels

    options = LabelOptions(
        cfg=codec_config(args),
        lambdas=lambdas,
        limit=args.limit,
        top=args.top,
        random=args.random,
        shard_size=args.shard_size,
        format=args.format,
        device=args.device,
        workers=args.workers,
        on=args.on,
        anywhere=True if args.anywhere else None,
        part=args.part,
    )
    made = make_labels(args.tiles, args.out, options)
    fields = {**asdict(made), "folder": str(made.folder), "per_second": made.per_second}
    args.answer.put(**fields)
    at = f" at {made.rates} rates" if made.rates > 1 else ""
    args.answer.say(f"{made.folder}: {made.tiles} tiles{at} in {made.shards} shards, {made.done} of them labelled now")
    if made.labelled:
        host = {stage: 1e6 * made.seconds[stage] / made.labelled for stage in ("planning", "reading", "writing")}
        args.answer.say(
            f"{made.per_second:,.0f} tiles/s: {made.labelled} in {made.seconds['wall']:.1f} s, of them searching "
            f"{made.seconds['searching']:.1f} s; host {sum(host.values()):.0f} us a tile "
            f"({', '.join(f'{stage} {spent:.0f}' for stage, spent in host.items())})"
        )
    if made.left_out:
        complain(
            f"{made.left_out} tiles were left out, see {made.folder}/failures.jsonl; the same command tries again",
            program="pc15learn",
        )
    return FAILED if made.left_out else DONE


_OF_TILES = ("codebook", "tables", "top", "random", "shard_size", "format", "anywhere", "on", "part", "alpha_mix")


def _label_squares(args: argparse.Namespace, lambdas: tuple[float, ...]) -> int:
    """`run` with --squares.

    Raises:
        ConfigError: an option that is about tiles.
    """
    from pc15.config import CodecConfig
    from pc15learn.labels.squares import SquareOptions, label_squares

    for name in _OF_TILES:
        if getattr(args, name) != args.usual[name]:
            option = {"alpha_mix": "alpha"}.get(name, name.replace("_", "-"))
            raise ConfigError(f"--{option} is about tiles; leave it out with --squares")
    options = SquareOptions(
        cfg=CodecConfig.preset(args.preset), lambdas=lambdas, workers=args.workers, limit=args.limit
    )
    made = label_squares(args.squares, args.out, options)
    args.answer.put(**{**asdict(made), "folder": str(made.folder)})
    args.answer.say(
        f"{made.folder}: squares of {made.pictures} pictures; {made.done} of them labelled now, in {made.rows} rows"
    )
    if made.left_out:
        complain(
            f"{made.left_out} pictures could not be read, see {made.folder}/failures.jsonl",
            program="pc15learn",
        )
    return FAILED if made.left_out else DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    what = add.add_mutually_exclusive_group(required=True)
    what.add_argument("--tiles", type=Path, metavar="FILE", help="tiles.jsonl of make-tiles")
    what.add_argument(
        "--squares",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="pictures, or folders, whose residual's squares to label",
    )
    add.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder of the labels")
    add.add_argument(
        "--limit", type=int, metavar="N", help="label N tiles, spread over all pictures; with --squares N pictures"
    )
    add.add_argument("--codebook", metavar="ID", help="codebook to search (default: the trained one)")
    add.add_argument("--tables", metavar="ID", help="tables that say what bits cost (default: the codebook's)")
    codec_arguments(add, "oracle", several=True)
    add.add_argument("--top", type=int, default=32, metavar="N", help="best candidates kept per layer (default: 32)")
    add.add_argument(
        "--random", type=int, default=16, metavar="N", help="random candidates kept per layer (default: 16)"
    )
    add.add_argument("--shard-size", type=int, default=8192, metavar="N", help="tiles per file (default: 8192)")
    add.add_argument(
        "--format", choices=["parquet", "jsonl"], default="parquet", help="jsonl can be read by eye (default: parquet)"
    )
    add.add_argument(
        "--anywhere", action="store_true", help="read pictures that rows name by URL or absolute path (default: refuse)"
    )
    add_jobs(add, "processes, each with a GPU of its own where there are several; on ray 0 is one per GPU", 1, least=0)
    add.add_argument("--on", choices=["local", "ray"], default="local", help="where they work (default: local)")
    add.add_argument(
        "--part", type=part_of, default=(0, 1), metavar="I/N", help="do every N-th shard from I on, in 0..N-1"
    )
    add.set_defaults(usual={name: add.get_default(name) for name in _OF_TILES})
