"""Threads that each work on something of their own: one home for all pools of both packages.

Threads do not survive a fork.  torch's own wait for ever in a process that was forked after they were used; so such a
process is told, where it would hang, unless it uses one thread, as the workers of a DataLoader do.  Nothing here loads
torch: where it is loaded, its threads are counted and kept calm; before that, threads are as many as it would take.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pc15.errors import ConfigError, DeviceError
from pc15.paths import variables

_In = TypeVar("_In")
_Out = TypeVar("_Out")

_LEAST = 8
"""Items, such as tiles, that are worth another thread."""

_reserved = threading.local()
_alone = threading.local()
"""State of a thread of a pool, on which torch's operations run alone: whether it waits for torch, to tell it so."""


def _torch() -> Any:
    """The module torch if it is loaded, all of it: another thread may be about to."""
    torch = sys.modules.get("torch")
    return torch if hasattr(torch, "set_num_threads") and hasattr(torch, "get_num_threads") else None


def thread_count() -> int:
    """Threads that one piece of work may use: torch's number of them, or what it would be."""
    if (torch := _torch()) is not None:
        return int(torch.get_num_threads())
    first = variables("OMP_NUM_THREADS").get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if first.isdecimal() and int(first) > 0:
        return int(first)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _set_thread_count(count: int) -> None:
    if (torch := _torch()) is not None:
        torch.set_num_threads(count)


def _begin_alone() -> None:
    """Make the calling thread one of a pool."""
    _alone.waits = _torch() is None
    _set_thread_count(1)


def adopt_torch() -> None:
    """Let torch, loaded a moment ago perhaps, keep to what the calling thread was begun with.

    Raises:
        DeviceError: as `check_fork`.
    """
    check_fork()
    if getattr(_alone, "waits", False):
        _alone.waits = False
        if _Process.torch_came_with is None:
            _Process.torch_came_with = thread_count()
        _set_thread_count(1)


class _Process:
    """State of this process's threads: whether it has used several, and whether it was forked after that."""

    used_threads = False
    forked_after = False
    torch_came_with: int | None = None
    """Threads that torch had of its own accord, where a thread of a pool was the first to use it."""


def check_fork() -> None:
    """Refuse to work with several threads in a process that was forked from one that had used them.

    Raises:
        DeviceError: it was; torch would wait for threads that are not there.
    """
    if _torch() is None or thread_count() == 1:  # pools of our own end with the work that they are for
        return
    if _Process.forked_after:
        raise DeviceError(
            "this process was forked from one that had used threads, which do not survive a fork: torch would hang; "
            "start processes by 'spawn' or 'forkserver', or call torch.set_num_threads(1) in this one first"
        )
    _Process.used_threads = True


def _after_fork() -> None:
    _Process.forked_after = _Process.forked_after or _Process.used_threads
    _team.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool of so many threads; `thread_count` if None.

    Each runs torch's operations alone: teams of threads for every one of them would wait for each other.
    Raises:
        ConfigError: a count below 1.
    """
    if count is not None and count < 1:
        raise ConfigError(f"workers is {count}; give at least 1")
    check_fork()
    torch, usual = _torch(), thread_count()
    try:
        with ThreadPoolExecutor(count or usual, "pc15", initializer=_begin_alone) as pool:
            yield pool
    finally:
        if torch is None:
            usual = _Process.torch_came_with or usual
        _set_thread_count(usual)  # what new threads start with is for the whole process


def parallel_map(
    pool: ThreadPoolExecutor | None, work: Callable[[_In], _Out], items: Sequence[_In], only_if: Callable[[_In], bool]
) -> Iterator[_Out]:
    """work(item) of each item, in order.

    Items for which `only_if` is false run on the calling thread; so do all if there is no pool.  Threads hand over
    Python's lock many times in short work: that costs more than the work.
    """
    waiting = [pool.submit(work, item) if pool is not None and only_if(item) else None for item in items]
    try:
        for item, future in zip(items, waiting, strict=True):
            yield work(item) if future is None else future.result()
    finally:
        for future in waiting:
            if future is not None:
                future.cancel()


@contextlib.contextmanager
def reserved_threads() -> Iterator[int]:
    """Leave the threads that this one may use to `parallel_range`; yields how many.

    Meanwhile torch's operations run alone: its own threads wait for the next one at full speed, on cores that loops
    could use.
    """
    usual, outer = thread_count(), getattr(_reserved, "size", None)
    if usual == 1:
        yield outer or 1
        return
    _set_thread_count(1)
    _reserved.size = usual
    try:
        yield usual
    finally:
        del _reserved.size
        _set_thread_count(usual)


@contextlib.contextmanager
def single_thread(*, only_if: bool) -> Iterator[None]:
    """Run torch's operations on the calling thread alone while there is little to do.

    Between operations torch's threads spin, unless `device.calm_threads` came before torch.  Beside other processes
    that kept two cores busy, small pictures then took four to eight times as long to decode as on one thread.
    """
    torch = _torch()
    if not only_if or torch is None or (usual := thread_count()) == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def parallel_range(loop: Callable[..., None], n: int, *arguments: Any, least: int = _LEAST) -> None:
    """Run loop(start, stop, *arguments) over 0..n, in parts of at least `least` on several threads."""
    with reserved_threads() as size:
        parts = max(1, min(size, n // least))
        if parts == 1:
            loop(0, n, *arguments)
            return
        edges = [n * i // parts for i in range(parts + 1)]
        waiting = [_team(size).submit(loop, a, b, *arguments) for a, b in itertools.pairwise(edges[1:])]
        loop(0, edges[1], *arguments)
        for done in waiting:
            done.result()


@functools.cache
def _team(size: int) -> ThreadPoolExecutor:
    """The threads of a team of `size` beside the one that reserved them, all of them started."""
    pool = ThreadPoolExecutor(size - 1, "pc15", initializer=_begin_alone)
    everyone = threading.Barrier(size)
    waiting = [pool.submit(everyone.wait) for _ in range(size - 1)]
    everyone.wait()
    for done in waiting:
        done.result()
    return pool
