"""Parts that the commands of `pc15` share: exit codes, the parser, types of arguments, the printing of lines."""

from __future__ import annotations

import argparse
import io
import re
import sys
from collections.abc import Iterable, Sequence
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
        complain(f"{message}{'' if message.endswith('?') else '.'} See {self.prog} --help")
        sys.exit(USAGE)

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


def add_max_pixels(add: Parser, default: str) -> None:
    """The argument that all readers of pictures have."""
    add.add_argument(
        "--max-pixels", type=_pixels, metavar="N",
        help=f"refuse pictures of more pixels, such as 268435456 for all that streams can hold (default: {default})",
    )  # fmt: skip


def _pixels(text: str) -> int:
    """Parse a number of pixels from 1 up."""
    try:
        pixels = int(text)
    except ValueError:
        pixels = 0
    if pixels < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 up")
    return pixels


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


def complain(message: str, level: str = "error") -> None:
    """Print one line to stderr."""
    print(f"pc15: {level}: {' '.join(message.split())}", file=sys.stderr, flush=True)
