"""SIGTERM and Ctrl-C in a fit: the step at hand is finished, a checkpoint saved, the exit code tells which it was."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["FitStopped", "StopSignals", "StopTraining"]

_STOPPING = (signal.SIGINT, signal.SIGTERM)


class FitStopped(KeyboardInterrupt):
    """A fit was told to stop by a signal; the message says what was kept and how to go on.

    signum: the signal.   exit_code: 128 + signum, as shells count.
    """

    def __init__(self, signum: int, kept: str) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}; {kept}")
        self.signum, self.kept = signum, kept

    @property
    def exit_code(self) -> int:
        return 128 + self.signum


class StopTraining(Exception):
    """Leaves Lightning's loops once the checkpoint is saved; it takes a KeyboardInterrupt for an exit with code 1."""


class StopSignals:
    """Catches SIGINT and SIGTERM while it is entered, in the main thread; elsewhere it never sees any.

    The first signal is kept in `received` while `deferring` is on; otherwise, and by a second, `FitStopped` is raised.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.count = 0
        self.deferring = False
        self.kept = "nothing was done yet"
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {signum: signal.getsignal(signum) for signum in _STOPPING}
            self.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler if handler is not None else signal.SIG_DFL)
        self._before = {}

    def install(self) -> None:
        """Take the signals (again: Lightning takes SIGTERM when it begins to train)."""
        if threading.current_thread() is threading.main_thread():
            for signum in _STOPPING:
                signal.signal(signum, self._handle)

    def _handle(self, signum: int, _: FrameType | None) -> None:
        self.received = signum
        self.count += 1
        if self.count > 1 or not self.deferring:
            raise FitStopped(signum, self.kept)
