"""Notices that a process gives beside its results, once whatever number of files they concern, and bars of progress."""

from __future__ import annotations

import logging

_LOG = logging.getLogger(__name__)
_said: set[str] = set()

NOTE = logging.INFO + 5
"""Level of what a command says unless it is told to be quiet: between INFO and WARNING, named "note"."""
logging.addLevelName(NOTE, "NOTE")


def say_once(kind: str, message: str, *arguments: object, level: int = logging.WARNING) -> None:
    """Log a warning, or what another level says, unless this process has logged one of that kind."""
    if kind not in _said:
        _said.add(kind)
        _LOG.log(level, message, *arguments)


def say_unkept(error: Exception) -> None:
    """Say why compiled code is not kept, and what helps."""
    say_once(
        "unkept",
        "compiled code cannot be kept (%s): every start compiles it anew, which takes seconds; "
        "set NUMBA_CACHE_DIR to a folder that can be written",
        error,
    )


def say_damaged(folder: object) -> None:
    """Say that kept code cannot be used."""
    say_once("damaged", "compiled code in %s is cut short or damaged: compiling it anew", folder)


def say_compiling(name: str) -> None:
    """Say that a loop is compiled, the first time in a process; what follows is counted in `compiled`."""
    compiled.append(name)
    _LOG.info("compiling %s", name)
    say_once(
        "compiling",
        "compiling loops for their first use: 10 to 60 seconds, once after an installation or a change; "
        "`pc15 warm` does it ahead",
        level=NOTE,
    )


compiled: list[str] = []
"""Names of the loops that this process has compiled because no cache held them."""


class _Bars:
    """Permission of this process to draw bars."""

    hidden = False


def hide_bars(*, hidden: bool = True) -> None:
    """Draw no more bars of progress in this process, as `--quiet` asks; or draw them again."""
    _Bars.hidden = hidden


def bars_hidden() -> bool | None:
    """The argument `disable` of tqdm: True for no bar, None for a bar where stderr is a terminal."""
    return True if _Bars.hidden else None
