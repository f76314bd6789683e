"""Warnings and log lines in the form of the command line: one line each to stderr."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from pc15.cli.parser import complain
from pc15.runtime.notices import NOTE


class _OneLine(logging.Handler):
    def __init__(self, program: str, level: int) -> None:
        super().__init__(level)
        self._program = program

    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage(), record.levelname.lower(), program=self._program)


@contextlib.contextmanager
def one_line_each(program: str = "pc15", *, quiet: bool = False, verbose: bool = False) -> Iterator[None]:
    """Context in which every warning, and log records of both packages, are one line each.

    Records count from NOTE on; with `quiet` from WARNING, with `verbose` from INFO.
    """
    level = logging.WARNING if quiet else logging.INFO if verbose else NOTE
    handler = _OneLine(program, level)
    logs = [logging.getLogger("pc15"), logging.getLogger("pc15learn")]
    usual = [log.level for log in logs]
    for log in logs:
        log.addHandler(handler)
        if log.level == logging.NOTSET:
            log.setLevel(level)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: complain(str(message), "warning", program=program)
            yield
    finally:
        for log, was in zip(logs, usual, strict=True):
            log.removeHandler(handler)
            log.setLevel(was)
