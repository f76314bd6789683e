"""`pc15learn export`: a checkpoint -> weights."""

from __future__ import annotations

import argparse
from pathlib import Path

from pc15.cli.parser import DONE, Parser

EXAMPLES = ("export --ckpt checkpoints/selector/last.ckpt --out weights",)


def run(args: argparse.Namespace) -> int:
    """Write a checkpoint's net as safetensors with the YAML card that the encoder checks."""
    from pc15learn.export import export_weights

    made = export_weights(args.ckpt, args.out, name=args.name)
    size = made.weights.stat().st_size
    args.answer.put(weights=str(made.weights), card=str(made.card), bytes=size)
    args.answer.say(f"{made.weights}: {size} bytes, card {made.card.name}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("--ckpt", required=True, type=Path, metavar="FILE", help="a last.ckpt or best.ckpt of fit")
    add.add_argument("-o", "--out", required=True, type=Path, metavar="DIR", help="folder of the weights")
    add.add_argument("--name", metavar="NAME", help="name in the card and in streams")
