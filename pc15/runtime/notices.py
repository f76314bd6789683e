"""Notices of caches that do not work: said once by a process, whatever number of files it concerns."""

from __future__ import annotations

import logging

_LOG = logging.getLogger(__name__)
_said: set[str] = set()


def say_once(kind: str, message: str, *arguments: object) -> None:
    """Log a warning, unless this process has logged one of that kind."""
    if kind not in _said:
        _said.add(kind)
        _LOG.warning(message, *arguments)


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
