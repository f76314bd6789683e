"""`pc15 env`: a summary of this machine."""

from __future__ import annotations

import argparse

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
    args.answer.put(**summary)
    chosen = summary.pop("env")
    args.answer.say(columns([(key, "-" if value is None else str(value)) for key, value in summary.items()]))
    given = chosen if isinstance(chosen, dict) else {}
    args.answer.say(
        "\n" + columns([(name, str(given.get(name, "not set")), what) for name, what in ENV_VARIABLES.items()])
    )
    return DONE


def add_arguments(add: Parser) -> None:
    """The command takes none but those of all commands."""
