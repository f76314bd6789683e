"""Words of the runner and its hosts: tasks, reports, workers, and what happens to them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

__all__ = ["IN_FLIGHT", "Clock", "Event", "Host", "Job", "Report", "Task", "Worker"]

IN_FLIGHT = 2
"""Tasks that a worker has at a time: one is read and written while the other is searched, and few are lost with it."""


@dataclass(frozen=True)
class Task:
    """A piece of work: its number, the items in it, and what the worker is told; all of it pickles."""

    index: int
    items: int
    data: Any


@dataclass(frozen=True)
class Report:
    """Report of a worker on a task: seconds by stage, and what it had to leave out, in rows of text."""

    index: int
    items: int
    seconds: dict[str, float] = field(default_factory=dict)
    left_out: list[dict[str, Any]] = field(default_factory=list)


class Worker(Protocol):
    """Does tasks; called from `IN_FLIGHT` threads."""

    def __call__(self, task: Task) -> Report: ...


class Job(Protocol):
    """Makes a worker; pickles.  `gpus` is the share of a GPU that a worker takes, 0 for none."""

    @property
    def gpus(self) -> float: ...

    def start(self, number: int, workers: int) -> Worker:
        """Load what all tasks share.

        Args:
            number: of the worker among `workers` on its machine, to choose a device and a share of the cores by.
        """


@dataclass(frozen=True)
class Event:
    """Event that a host has to tell.

    kind: "ready", "done" with a report, "failed" with the error of a task, or "lost".   worker: its number.
    """

    kind: Literal["ready", "done", "failed", "lost"]
    worker: int
    report: Report | None = None
    error: BaseException | None = None


class Host(Protocol):
    """Starts workers somewhere and talks to them."""

    def start(self, worker: int) -> None:
        """Begin a worker of that number."""

    def submit(self, worker: int, task: Task) -> None:
        """Send a task to a worker that is ready."""

    def events(self) -> list[Event]:
        """Next events; waits until there is one."""

    def close(self) -> None:
        """End all workers."""


class Clock:
    """Seconds of a task: of the thread's own work while it reads and writes, of the wall clock in between."""

    def __init__(self) -> None:
        self._begun, self._spent = time.time(), dict[str, float]()
        self._now()

    def _now(self) -> None:
        self._wall, self._own = time.perf_counter(), time.thread_time()

    def lap(self, stage: str, *, own: bool = False) -> None:
        """End a stage; `own` counts the thread's work alone."""
        wall, work = self._wall, self._own
        self._now()
        self._spent[stage] = self._own - work if own else self._wall - wall

    def seconds(self) -> dict[str, float]:
        return {**self._spent, "begun": self._begun, "ended": time.time()}
