"""Warnings and log lines in the form of the command line: one line each to stderr."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

from pc15.cli.parser import complain


class _OneLine(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        complain(record.getMessage(), record.levelname.lower())


@contextlib.contextmanager
def one_line_each() -> Iterator[None]:
    """Context in which every warning, and every log record of `pc15` from WARNING on, is one line."""
    log, handler = logging.getLogger("pc15"), _OneLine(logging.WARNING)
    log.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: complain(str(message), "warning")
            yield
    finally:
        log.removeHandler(handler)
