"""Parts that the commands of `pc15` share: exit codes, the parser, types of arguments, the printing of lines."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pc15.errors import did_you_mean

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
STREAM_SUFFIX = ".pc15"
DEFAULT_PRESET = "balanced"
STREAM_PIXELS = "89478485, less for streams of a few bytes"
PICTURE_PIXELS = "Pillow's, 89478485"


class Parser(argparse.ArgumentParser):
    """Argument parser whose errors are one line, with a guess, and leave with code 2."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '?([^' ]*)'? \(choose from (.*)\)", message)
        if wrong:
            message += did_you_mean(wrong[1], re.findall(r"[\w-]+", wrong[2]))
        complain(f"{message}{'' if message.endswith('?') else '.'} See {self.prog} --help", program=self.program)
        sys.exit(USAGE)

    @property
    def program(self) -> str:
        """Name of the whole command, `pc15` or `pc15learn`."""
        return self.prog.split()[0]

    def options(self) -> list[str]:
        """Every flag that the command has."""
        return list(self._option_string_actions)


def names(text: str) -> list[str]:
    """Parse the argument A,B."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; give names with single commas, such as A,B")
    return found


def numbers(text: str) -> list[float]:
    """Parse the argument X,Y."""
    found = []
    for name in text.split(","):
        try:
            found.append(float(name))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{name.strip()!r} in {text!r} is not a number; give numbers with commas, such as 4,1,0.25"
            ) from None
    return found


def add_speech(add: Parser) -> None:
    """The arguments that all commands have: in which form they answer, and how much they say."""
    add.add_argument(
        "--json", action="store_true", help="answer with one JSON object; numbers that are infinite are null"
    )
    add.add_argument(
        "-q", "--quiet", action="store_true", help="say nothing but warnings and errors; no bars of progress"
    )
    add.add_argument("-v", "--verbose", action="store_true", help="also say what is loaded, compiled and cached")


def add_device(add: Parser, what: str = "") -> None:
    """The argument that names where to compute."""
    add.add_argument(
        "--device", default="auto", metavar="NAME", help=f"{what}cpu, cuda, cuda:N or auto (default: %(default)s)"
    )


def add_jobs(add: Parser, what: str, default: int | None, shown: str | None = None, *, least: int = 1) -> None:
    """The argument that says how many work at once; `--workers` is its older name, and Python's."""
    add.add_argument(
        "-j", "--jobs", "--workers", dest="workers", type=int if least < 1 else positive, default=default, metavar="N",
        help=f"{what} (default: {default if shown is None else shown})",
    )  # fmt: skip


def add_points(add: Parser) -> None:
    """The argument that names the CSV of a benchmark's points."""
    help_of = "the CSV; what it holds already is not measured again"
    add.add_argument("-o", "--out", type=Path, required=True, metavar="FILE", help=help_of)


def positive(text: str) -> int:
    """Parse a whole number from 1 up."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return number


def add_max_pixels(add: Parser, default: str) -> None:
    """The argument that all readers of pictures have."""
    add.add_argument(
        "--max-pixels", type=positive, metavar="N",
        help=f"refuse pictures of more pixels, such as 268435456 for all that streams can hold (default: {default})",
    )  # fmt: skip


def on_or_off(text: str) -> bool:
    """Parse the argument of a switch."""
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither on nor off")
    return text == "on"


def columns(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Align cells in columns; those of the indices `right` flush right, the last one ragged."""
    table = list(rows)
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def count(number: int, noun: str) -> str:
    """A number with its noun: `1 point`, `2 points`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def say_any_name() -> None:
    """Let stdout show what its encoding lacks, such as odd file names, with backslashes, as stderr does by itself."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def complain(message: str, level: str = "error", *, program: str = "pc15") -> None:
    """Print one line to stderr."""
    print(f"{program}: {level}: {' '.join(message.split())}", file=sys.stderr, flush=True)
