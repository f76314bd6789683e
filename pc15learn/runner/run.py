"""Tasks for workers that may die: a queue, a few calls in flight at each worker, and every lost call repeated.

A `Job` is what a worker needs to begin: it travels once, loads what all tasks share and answers with a `Worker`, which
has a few of them at a time, so that one task's reading and writing hide behind another's search.  A
task is small and complete, its result a file that the worker writes whole; hence it does not matter which worker does
it, nor how often it was begun.
"""

from __future__ import annotations

import concurrent.futures
import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from tqdm import tqdm

from pc15.errors import ConfigError, Pc15Error
from pc15.runtime.notices import bars_hidden
from pc15learn.runner.tasks import IN_FLIGHT, Host, Job, Report, Task

__all__ = ["Place", "dispatch", "run"]

Place = Literal["local", "ray"]
_ATTEMPTS = 3  # of a task whose worker dies
_STILLBORN = 3  # workers in a row that may die before they are ready
_log = logging.getLogger(__name__)


def run(
    tasks: Sequence[Task], job: Job, *, workers: int = 1, on: Place = "local", what: str, unit: str = "tile"
) -> Iterator[Report]:
    """Do tasks and report each as it is done, in any order.

    Args:
        workers: so many at a time; locally, one works in this process and more are processes of their own; on Ray, 0
            is one for each GPU of the cluster, or for each node where there is none.
        what: names the work that the progress bar shows.   unit: of items.
    Raises:
        ConfigError: options out of range.
        MissingExtraError: on Ray, and it is not installed.
        Pc15Error: what a task raised; or workers died again and again.
    """
    if on not in get_args(Place):
        raise ConfigError(f"on is {on!r}; choose one of {', '.join(get_args(Place))}")
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < (on == "local"):
        raise ConfigError(f"workers is {workers!r}; give a whole number of at least {int(on == 'local')}")
    with tqdm(
        total=sum(task.items for task in tasks), desc=what, unit=unit, disable=bars_hidden(), leave=False
    ) as progress:
        for report in _reports(tasks, job, workers, on):
            progress.update(report.items)
            yield report


def _reports(tasks: Sequence[Task], job: Job, workers: int, on: Place) -> Iterator[Report]:
    if not tasks:
        return
    if on == "ray":
        from pc15learn.runner.on_ray import RayHost

        host = RayHost(job, workers)
        yield from dispatch(tasks, host, min(host.workers, len(tasks)))
    elif workers == 1 or len(tasks) == 1:
        yield from _inline(tasks, job)
    else:
        from pc15learn.runner.processes import ProcessHost

        count = min(workers, len(tasks))
        yield from dispatch(tasks, ProcessHost(job, count), count)


def _inline(tasks: Sequence[Task], job: Job) -> Iterator[Report]:
    """In this process, tasks in order."""
    worker, queue = job.start(0, 1), deque(tasks)
    with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
        flying: deque[concurrent.futures.Future[Report]] = deque()
        try:
            while queue or flying:
                while queue and len(flying) < IN_FLIGHT:
                    flying.append(pool.submit(worker, queue.popleft()))
                yield flying.popleft().result()
        finally:
            for future in flying:
                future.cancel()


def dispatch(tasks: Sequence[Task], host: Host, workers: int) -> Iterator[Report]:
    """Share tasks out to the workers of a host; a lost worker's tasks go back to the front, and another takes over."""
    queue, own = deque(tasks), {task.index: task for task in tasks}
    flying: dict[int, list[int]] = {}
    attempts: Counter[int] = Counter()
    stillborn = 0
    left, born = len(queue), workers
    try:
        for worker in range(workers):
            host.start(worker)
        while left:
            for event in host.events():
                if event.kind == "failed":
                    assert event.error is not None, "a failure has an error"
                    raise event.error
                if event.kind == "ready":
                    flying[event.worker], stillborn = [], 0
                elif event.kind == "done":
                    assert event.report is not None, "a task that is done has a report"
                    if event.report.index in flying[event.worker]:
                        flying[event.worker].remove(event.report.index)
                        left -= 1
                        yield event.report
                else:
                    lost = flying.pop(event.worker, None)
                    stillborn = stillborn + 1 if lost is None else 0
                    if stillborn >= _STILLBORN:
                        raise Pc15Error(f"{stillborn} workers died before they began; see what they printed above")
                    for index in reversed(lost or []):
                        attempts[index] += 1
                        if attempts[index] >= _ATTEMPTS:
                            raise Pc15Error(f"shard {index} has ended {_ATTEMPTS} workers; out of memory?")
                        queue.appendleft(own[index])
                    _log.warning("worker %d was lost; its %d shards go to another", event.worker, len(lost or []))
                    host.start(born)
                    born += 1
            for worker, has in flying.items():
                while queue and len(has) < IN_FLIGHT:
                    task = queue.popleft()
                    has.append(task.index)
                    host.submit(worker, task)
    finally:
        host.close()
