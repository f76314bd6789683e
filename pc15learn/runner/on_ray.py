"""Workers as actors of a Ray cluster, one per GPU or per node: each loads what it needs once and keeps it.

An actor that dies, or whose node does, is replaced by the queue of `run.dispatch`, as Ray's own retries are used up
within seconds once a node is gone.
"""

from __future__ import annotations

import logging
from typing import Any

from pc15.errors import MissingExtraError
from pc15learn.runner.tasks import IN_FLIGHT, Event, Job, Report, Task

try:
    import ray
except ImportError as error:
    raise MissingExtraError(
        "--on ray needs Ray; install it with: pip install 'pc15[ray]', or leave --on out to work on this machine"
    ) from error

__all__ = ["RayHost"]


class _Actor:
    """A worker in an actor."""

    def __init__(self, job: Job, workers: int) -> None:
        self._worker = job.start(0, workers)

    def ready(self) -> None:
        """Answer once the worker is there."""

    def do(self, task: Task) -> Report:
        return self._worker(task)


class RayHost:
    """Starts actors, on the cluster of RAY_ADDRESS or on this machine.

    Args:
        job: travels to each actor once; `job.gpus` is the share of a GPU that one takes, 0 for none.
        workers: actors at a time; 0 for one per GPU, or per node where the job takes none.
    """

    def __init__(self, job: Any, workers: int) -> None:
        if not ray.is_initialized():
            ray.init(logging_level=logging.ERROR)
        self._job, self._gpus = ray.put(job), float(job.gpus)
        total = ray.cluster_resources()
        if self._gpus:
            most = int(total.get("GPU", 0) / self._gpus)
            self._cpus = 1.0
        else:
            most = sum(bool(node["Alive"]) for node in ray.nodes())
            self._cpus = max(1.0, total.get("CPU", 1.0) // max(workers, most))
        self.workers = workers or max(1, most)
        self._actors: dict[int, Any] = {}
        self._calls: dict[Any, tuple[str, int]] = {}

    def start(self, worker: int) -> None:
        options = {"num_cpus": self._cpus, "num_gpus": self._gpus, "max_concurrency": IN_FLIGHT, "max_restarts": 0}
        remote: Any = ray.remote
        kind = remote(**options)(_Actor)
        share = 1 if self._gpus else max(1, int(self.cores // self._cpus))
        actor = self._actors[worker] = kind.remote(self._job, share)
        self._calls[actor.ready.remote()] = ("ready", worker)

    @property
    def cores(self) -> float:
        """CPUs of a node, as Ray counts them."""
        return max(float(node["Resources"].get("CPU", 1.0)) for node in ray.nodes() if node["Alive"])

    def submit(self, worker: int, task: Task) -> None:
        self._calls[self._actors[worker].do.remote(task)] = ("done", worker)

    def events(self) -> list[Event]:
        done, _ = ray.wait(list(self._calls), num_returns=1)
        found: list[Event] = []
        for call in done:
            if call not in self._calls:  # of an actor that was found dead by another of its calls
                continue
            kind, worker = self._calls.pop(call)
            try:
                answer = ray.get(call)
            except ray.exceptions.RayActorError:
                del self._actors[worker]
                self._calls = {other: who for other, who in self._calls.items() if who[1] != worker}
                found.append(Event("lost", worker))
            except ray.exceptions.RayTaskError as error:
                found.append(Event("failed", worker, error=error.cause if error.cause is not None else error))
            else:
                found.append(Event("ready", worker) if kind == "ready" else Event("done", worker, report=answer))
        return found

    def close(self) -> None:
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._calls.clear()
