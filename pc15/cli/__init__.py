"""The command `pc15`: encode, decode, info, generators, metrics, bench, env.

One module per command, loaded when that command is chosen: its `run` is the command and its documentation (the
docstring is its --help), calls public functions, and prints; `add_arguments` declares what it takes.  Nothing heavy is
imported before a command runs, so --help answers at once.
Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from pc15._version import __version__
from pc15.cli.parser import FAILED, INTERRUPTED, USAGE, Parser, complain, say_any_name
from pc15.errors import ConfigError, Pc15Error, UnknownNameError, did_you_mean
from pc15.extras import missing

__all__ = ["BENCHMARKS", "COMMANDS", "main"]

COMMANDS = {
    "encode": "describe pictures as programs of procedural patterns, one .pc15 stream each",
    "decode": "redraw pictures from .pc15 streams; the pixels are the same on every machine and device",
    "info": "say what a stream holds: its header, where its bytes and bits go, and which patterns it is made of",
    "generators": "list the patterns that pictures are made of, with their parameters, or describe one of them",
    "metrics": "compare the luma of two pictures of the same size; either may be a .pc15 stream",
    "bench": "measure the codec, by one protocol for all",
    "env": "say what this machine is, for a bug report or a benchmark",
}
"""What `pc15 --help` says of each command: the first sentence of its docstring, which is not loaded for that."""

BENCHMARKS = {
    "speed": "time the search, stage by stage, and encoding and decoding as wholes",
    "inclass": "measure what a picture costs that is one pattern: drawn in floating point, coded as the preset does",
    "sheet": "draw a picture beside itself as several codecs leave it at the same number of bytes",
    "ablation": "measure what each part of the codec is worth: BD-rates with it taken out or changed",
    "rd": "measure rate and distortion of PC15, and of conventional codecs beside it, on luma",
}


def _parser(chosen: Sequence[str]) -> Parser:
    """The parser, complete for the command that the words `chosen` begin with; of others it knows name and summary."""
    parser = Parser(
        prog="pc15",
        description="PC15 codes a picture as a program of procedural patterns; it redraws to the same pixels anywhere.",
        epilog="first steps:\n"
        "  pc15 encode photo.png -o photo.pc15 --lambda 0.25\n"
        "  pc15 info photo.pc15\n"
        "  pc15 decode photo.pc15 -o back.png\n"
        "  pc15 metrics photo.png photo.pc15\n\n"
        "exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"pc15 {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        if name == "bench":
            group = commands.add_parser(
                name,
                help=summary,
                description="Measure the codec, by one protocol for all.",
                epilog="examples:\n  pc15 bench rd --images photos/ --against jpeg --out rd.csv\n\n"
                "`pc15 bench rd --help` has its options",
            )
            group.set_defaults(parser=group)
            benchmarks = group.add_subparsers(title="benchmarks", metavar="BENCHMARK", required=True)
            for benchmark, text in BENCHMARKS.items():
                _add(benchmarks, benchmark, text, f"bench_{benchmark}" if chosen[:2] == ["bench", benchmark] else None)
        else:
            _add(commands, name, summary, name if chosen[:1] == [name] else None)
    return parser


def _add(commands: Any, name: str, summary: str, module: str | None) -> None:
    """A command's parser; with its module, also what it takes and does."""
    if module is None:
        commands.add_parser(name, help=summary)
        return
    command = importlib.import_module(f"pc15.cli.{module}")
    added: Parser = commands.add_parser(
        name,
        help=summary,
        description=_dedented(command.run.__doc__ or f"{summary[0].upper()}{summary[1:]}."),  # -OO leaves no docstrings
        epilog="examples:\n" + "\n".join(f"  pc15 {example}" for example in command.EXAMPLES),
    )
    added.set_defaults(run=command.run, parser=added)
    command.add_arguments(added)


def _dedented(doc: str) -> str:
    return "\n".join(line[4:] if line.startswith("    ") else line for line in doc.strip().splitlines())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.  Wrong usage and --help leave by SystemExit, as argparse does."""
    words = sys.argv[1:] if argv is None else list(argv)
    say_any_name()
    try:
        args, unknown = _parser([word for word in words if not word.startswith("-")]).parse_known_args(words)
        if unknown:
            own: Parser = args.parser
            own.error(f"unknown argument {unknown[0]}{did_you_mean(unknown[0].split('=')[0], own.options())}")
        from pc15.cli.notices import one_line_each  # here: help needs no logging

        with one_line_each():
            code: int = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        complain("interrupted; what was finished stays")
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has enough; what Python flushes at exit must go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (ConfigError, UnknownNameError) as error:
        complain(str(error))
        return USAGE
    except ModuleNotFoundError as error:
        if (told := missing(" ".join(["pc15", *words[: 1 + (words[:1] == ["bench"])]]), error)) is None:
            raise
        complain(str(told))
        return FAILED
    except (Pc15Error, OSError) as error:
        complain(str(error))
        return FAILED
    except MemoryError as error:
        complain(f"out of memory{f': {error}' if str(error) else ''}")
        return FAILED
