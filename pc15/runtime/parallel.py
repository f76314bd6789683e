"""Threads that each work on something of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from pc15.errors import ConfigError

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[ThreadPoolExecutor]:
    """A pool of so many threads; as many as torch uses if None.

    Each runs torch's operations alone: teams of threads for every one of them would wait for each other.
    Raises:
        ConfigError: a count below 1.
    """
    if count is not None and count < 1:
        raise ConfigError(f"workers is {count}; give at least 1")
    usual = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count or usual, "pc15", initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool
    finally:
        torch.set_num_threads(usual)  # what new threads start with is for the whole process


def each(
    pool: ThreadPoolExecutor | None, work: Callable[[_In], _Out], items: Sequence[_In], heavy: Callable[[_In], bool]
) -> Iterator[_Out]:
    """work(item) of each item, in order; what is not heavy, or all without a pool, is done by the caller's own thread.

    Threads hand over Python's lock many times in short work: that costs more than the work.
    """
    waiting = [None if pool is None or not heavy(item) else pool.submit(work, item) for item in items]
    try:
        for item, future in zip(items, waiting, strict=True):
            yield work(item) if future is None else future.result()
    finally:
        for future in waiting:
            if future is not None:
                future.cancel()
