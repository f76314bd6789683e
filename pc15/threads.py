"""Threads that each work on something of their own, as many as torch would use for one thing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import torch

from pc15.errors import ConfigError


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
