"""Arguments that several commands of `pc15learn` share, and their values."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc15.cli.parser import Parser, add_device, numbers
from pc15.config import PRESETS
from pc15.errors import ConfigError

if TYPE_CHECKING:
    from pc15.config import CodecConfig

__all__ = [
    "codec_arguments",
    "codec_config",
    "given_of_images",
    "part_of",
    "share_of",
    "training_sources",
    "whole_numbers",
]


def codec_arguments(add: Parser, preset: str, *, several: bool = False) -> None:
    """The search options that `label` and `bench` share.

    Args:
        preset: that is used if none is given.   several: --lambda takes more than one.
    """
    add.add_argument("--preset", choices=list(PRESETS), default=preset, help=f"search options (default: {preset})")
    if several:
        add.add_argument(
            "--lambda", dest="lambda_rd", type=numbers, default=[], metavar="X,Y",
            help="prices of a bit, each tile is labelled at all; larger is smaller files",
        )  # fmt: skip
    else:
        add.add_argument(
            "--lambda", dest="lambda_rd", type=float, metavar="X", help="price of a bit; larger is smaller files"
        )
    add.add_argument("--alpha", dest="alpha_mix", type=float, metavar="X", help="share of SSIM in the distortion, 0..1")
    add_device(add)


def codec_config(args: argparse.Namespace) -> CodecConfig:
    """The options that `codec_arguments` asked for."""
    from pc15.config import PROGRAMS, CodecConfig

    coded = {} if getattr(args, "photographs", False) else PROGRAMS
    changes = {**coded, "lambda_rd": args.lambda_rd, "alpha_mix": args.alpha_mix, "device": args.device}
    if getattr(args, "tile", None) is not None:
        changes["tile"] = args.tile
    changes |= {"codebook_id": getattr(args, "codebook", None), "table_id": getattr(args, "tables", None)}
    return CodecConfig.preset(args.preset, **{name: value for name, value in changes.items() if value is not None})


def training_sources(add: Parser) -> Any:
    """Add the sources that codebooks and tables are trained on; returns the group that one is chosen from."""
    sources = add.add_mutually_exclusive_group(required=True)
    sources.add_argument("--images", nargs="+", type=Path, metavar="PATH", help="folders or pictures to train on")
    sources.add_argument("--labels", nargs="+", type=Path, metavar="DIR", help="folders of pc15learn label")
    return sources


def given_of_images(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """The options that only go with --images, as far as they are given.

    Raises:
        ConfigError: some are, but no pictures.
    """
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if given and args.images is None:
        name = {"workers": "jobs"}.get(first := next(iter(given)), first)
        raise ConfigError(f"--{name} says how pictures are searched; leave it out, or give --images")
    return given


def part_of(text: str) -> tuple[int, int]:
    """Parse I/N of --part."""
    number, _, parts = text.partition("/")
    if not (number.isdigit() and parts.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form I/N, such as 0/16")
    return int(number), int(parts)


def share_of(text: str) -> float:
    """Parse a share in percent, or as a fraction."""
    try:
        value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text} is no share; give 0.1% to 100%")
    return value


def whole_numbers(text: str) -> list[int]:
    """Parse the argument K,L."""
    parts = text.split(",")
    if not all(part.strip().isdigit() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not whole numbers with commas, such as 4,8")
    return [int(part) for part in parts]
