"""Work in shards: deterministic pieces, each written whole or not at all, skipped when it is there.

Whatever stops a run, the next one does only what is missing, and the files are the same as without the stop.  Shards
run in this process, or as one Ray task each where several GPUs or machines share the work.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from pc15.errors import ConfigError, MissingExtraError
from pc15.paths import write_atomic

__all__ = ["Shard", "Workers", "plan", "run_shards"]

Workers = Literal["inline", "ray"]

_RETRIES = 3
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Items start..stop-1 of the whole, and the file that their result goes to."""

    index: int
    start: int
    stop: int
    path: Path


def plan(count: int, size: int, folder: Path, stem: str, suffix: str = ".jsonl") -> list[Shard]:
    """Shards of `size` items, the last one smaller: <folder>/<stem>-00000<suffix>, ...

    Raises:
        ConfigError: size below 1.
    """
    if size < 1:
        raise ConfigError(f"a shard of {size} items; give at least 1")
    return [
        Shard(i, start, min(count, start + size), folder / f"{stem}-{i:05d}{suffix}")
        for i, start in enumerate(range(0, count, size))
    ]


def run_shards(
    shards: Sequence[Shard],
    work: Callable[[Shard], bytes],
    *,
    workers: Workers = "inline",
    gpus_per_task: float = 0.0,
    what: str = "working",
) -> int:
    """Do the shards whose files are missing; returns how many were done.

    Args:
        work: what a shard's file shall hold; must depend on the shard alone.
        gpus_per_task: GPUs that a Ray task asks for.
    Raises:
        MissingExtraError: workers is "ray" and Ray is not installed.
    """
    missing = [shard for shard in shards if not shard.path.exists()]
    if missing and len(missing) < len(shards):
        _log.info("%d of %d shards are there already", len(shards) - len(missing), len(shards))
    items = sum(shard.stop - shard.start for shard in missing)
    with tqdm(total=items, desc=what, unit="tile", disable=None, leave=False) as progress:
        if workers == "ray":
            _run_on_ray(missing, work, gpus_per_task, progress)
        elif workers == "inline":
            for shard in missing:
                write_atomic(shard.path, work(shard))
                progress.update(shard.stop - shard.start)
        else:
            raise ConfigError(f"workers is {workers!r}; choose inline or ray")
    return len(missing)


def _run_on_ray(
    shards: Sequence[Shard], work: Callable[[Shard], bytes], gpus_per_task: float, progress: tqdm[Any]
) -> None:
    """One task per shard; a lost worker's shard is tried again, results are written here, as they come."""
    try:
        import ray
    except ImportError as error:
        raise MissingExtraError(
            "--workers ray needs Ray; install it with: pip install 'ray[default]', or leave --workers out "
            "to work in this process"
        ) from error
    if not ray.is_initialized():
        ray.init(logging_level="ERROR")
    task = ray.remote(num_gpus=gpus_per_task, max_retries=_RETRIES)(work)
    waiting = {task.remote(shard): shard for shard in shards}
    while waiting:
        done, _ = ray.wait(list(waiting), num_returns=1)
        for reference in done:
            shard = waiting.pop(reference)
            write_atomic(shard.path, ray.get(reference))
            progress.update(shard.stop - shard.start)
