"""`pc15learn push`: weights or labels -> the Hugging Face Hub."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Literal

from pc15.cli.parser import DONE, Parser

EXAMPLES = (
    "push org/name --weights weights --out hub --dry-run",
    "push org/name --weights weights",
    "push org/labels --labels labels --private",
)


def run(args: argparse.Namespace) -> int:
    """Upload weights or labels to the Hugging Face Hub, in the form that its users expect.

    Weights become `model.safetensors`, `config.json` and a card, and `pc15 encode --hooks hf:org/name` fetches them.
    Labels are a data set as they are: `datasets.load_dataset("org/name")`.  `hf auth login` says who you are.
    """
    from pc15learn.hub import hub_folder, push
    from pc15learn.labels.read import LabelFolder

    kind: Literal["model", "dataset"] = "model" if args.labels is None else "dataset"
    with tempfile.TemporaryDirectory() as made:
        if args.labels is not None:
            LabelFolder.open(args.labels)  # what is no folder of labels is refused
            folder = args.labels
        else:
            folder = args.out or Path(made)
            files = hub_folder(args.weights, folder, repo=args.repo)
            args.answer.say(f"{len(files)} files" + (f" in {args.out}" if args.out else ""))
        where = None if args.dry_run else push(folder, args.repo, kind=kind, private=args.private)
    args.answer.put(repo=args.repo, kind=kind, url=where)
    args.answer.say(f"{args.repo}: {'nothing was uploaded' if where is None else where}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("repo", metavar="ORG/NAME", help="the repository, made if it is missing")
    sources = add.add_mutually_exclusive_group(required=True)
    sources.add_argument("--weights", type=Path, metavar="DIR", help="folder of pc15learn export")
    sources.add_argument("--labels", type=Path, metavar="DIR", help="folder of pc15learn label")
    add.add_argument("-o", "--out", type=Path, metavar="DIR", help="keep the folder that is uploaded here (of weights)")
    add.add_argument("--private", action="store_true", help="make a new repository private")
    add.add_argument("--dry-run", action="store_true", help="upload nothing")
