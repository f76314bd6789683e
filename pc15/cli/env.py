"""`pc15 env`: a summary of this machine."""

from __future__ import annotations

import argparse
import json

from pc15.cli.parser import DONE, Parser, columns

EXAMPLES = (
    "env",
    "env --json",
)


def run(args: argparse.Namespace) -> int:
    """Say what this machine is, for a bug report or a benchmark."""
    from pc15.paths import ENV_VARIABLES
    from pc15.runtime.device import env_summary

    summary = env_summary()
    if args.json:
        print(json.dumps(summary, indent=2))
        return DONE
    chosen = summary.pop("env")
    print(columns([(key, "-" if value is None else str(value)) for key, value in summary.items()]))
    given = chosen if isinstance(chosen, dict) else {}
    print("\n" + columns([(name, str(given.get(name, "not set")), what) for name, what in ENV_VARIABLES.items()]))
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("--json", action="store_true", help="print one JSON object")
