"""`pc15 publish-models`: all that streams depend on, in a folder."""

from __future__ import annotations

import argparse
from pathlib import Path

from pc15.cli.parser import DONE, Parser
from pc15.errors import ConfigError

EXAMPLES = (
    "publish-models models/",
    "publish-models models/ --weights weights",
    "publish-models models/ --verify",
)


def run(args: argparse.Namespace) -> int:
    """Write tables, codebooks, models, weights and presets to a folder, with a manifest of SHA-256.

    PC15_MODELS_DIR may name the folder elsewhere.  With --verify, a folder is checked instead: every file is what its
    manifest says, and nothing else is there.
    """
    from pc15.publish import publish_models, verify_models

    if args.verify and args.weights is not None:
        raise ConfigError("--verify checks what is there; leave --weights out")
    manifest = verify_models(args.out) if args.verify else publish_models(args.out, weights=args.weights)
    files = manifest["files"]
    size = sum(facts["bytes"] for facts in files.values())
    args.answer.put(folder=str(args.out), verified=args.verify, **manifest)
    args.answer.say(f"{args.out}: {len(files)} files, {size} bytes" + ", all as the manifest says" * args.verify)
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("out", type=Path, metavar="FOLDER", help="the folder")
    add.add_argument("--weights", type=Path, metavar="DIR", help="also these weights of pc15learn export")
    add.add_argument("--verify", action="store_true", help="check the folder, write nothing")
