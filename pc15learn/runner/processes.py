"""Workers as processes of this machine."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from dataclasses import dataclass
from typing import Any

from pc15.paths import drop_unfinished
from pc15learn.runner.tasks import IN_FLIGHT, Event, Job, Report, Task

__all__ = ["ProcessHost"]


@dataclass(frozen=True)
class _Running:
    """A worker's process and the line to it."""

    process: multiprocessing.process.BaseProcess
    line: multiprocessing.connection.Connection


class ProcessHost:
    """Starts workers as fresh processes: a fork of one that has threads or a GPU would hang.

    Args:
        job: travels to each worker once.   workers: how many share the cores and the GPUs.
    """

    def __init__(self, job: Job, workers: int) -> None:
        self._job, self._workers = job, workers
        self._context = multiprocessing.get_context("spawn")
        self._running: dict[int, _Running] = {}

    def start(self, worker: int) -> None:
        here, there = self._context.Pipe()
        # a worker that stands in for a lost one takes its place
        args = (there, self._job, worker % self._workers, self._workers)
        process = self._context.Process(target=_serve, args=args, daemon=True, name=f"worker {worker}")
        process.start()
        there.close()
        self._running[worker] = _Running(process, here)

    def submit(self, worker: int, task: Task) -> None:
        try:
            self._running[worker].line.send(task)
        except OSError:  # it is dead, and `events` will say so
            return

    def events(self) -> list[Event]:
        lines = {running.line: worker for worker, running in self._running.items()}
        found: list[Event] = []
        for line in multiprocessing.connection.wait(list(lines)):
            assert isinstance(line, multiprocessing.connection.Connection), "only lines are waited for"
            worker = lines[line]
            try:
                kind, what = line.recv()
            except (EOFError, OSError):
                self._running.pop(worker).process.join()
                found.append(Event("lost", worker))
                continue
            if kind == "failed":
                found.append(Event("failed", worker, error=what))
            else:
                found.append(Event(kind, worker, report=what))
        return found

    def close(self) -> None:
        for running in self._running.values():
            running.process.terminate()
        for running in self._running.values():
            running.process.join()
            running.line.close()
        self._running.clear()


def _leave(*_: object) -> None:
    """End at once, and leave no file half-written."""
    drop_unfinished()
    os._exit(1)


def _serve(line: multiprocessing.connection.Connection, job: Job, number: int, workers: int) -> None:
    """A worker's whole life; it ends with the process that started it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process decides
    signal.signal(signal.SIGTERM, _leave)
    talk = threading.Lock()

    def say(kind: str, what: Any) -> None:
        with talk:
            try:
                line.send((kind, what))
            except OSError:  # nobody listens any more
                _leave()

    def do(task: Task) -> None:
        try:
            report: Report = worker(task)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is raised where the run was started
            say("failed", error)
        else:
            say("done", report)

    try:
        worker = job.start(number, workers)
    except Exception as error:  # noqa: BLE001  # as above
        say("failed", error)
        return
    say("ready", None)
    with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
        while True:
            try:
                pool.submit(do, line.recv())
            except (EOFError, OSError):
                _leave()  # threads that still work have nobody to tell
