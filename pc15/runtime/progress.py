"""Progress of a long step: tqdm's bar on a terminal, and nothing at all elsewhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Protocol

from pc15.runtime.notices import bars_hidden

__all__ = ["Progress", "Quiet", "progress_bar"]


class Progress(Protocol):
    """Counter that long steps report to; `tqdm.tqdm` is one.   n: units that are done."""

    n: float
    unit: str

    def reset(self, total: float | None = None) -> None:
        """Begin anew, with so many units to do."""

    def update(self, n: float | None = 1) -> object:
        """Say that n more units are done."""


class Quiet:
    """Progress that nobody sees."""

    n: float = 0
    unit: str = ""

    def reset(self, total: float | None = None) -> None:
        """Say nothing."""

    def update(self, n: float | None = 1) -> None:
        """Say nothing."""


@contextlib.contextmanager
def progress_bar(what: str, unit: str) -> Iterator[Progress]:
    """A bar on stderr where that is a terminal and bars may be drawn; elsewhere tqdm is not even loaded."""
    if bars_hidden() or sys.stderr is None or not sys.stderr.isatty():
        yield Quiet()
        return
    from tqdm import tqdm

    with tqdm(total=0, desc=what, unit=unit, leave=False) as bar:
        yield bar
