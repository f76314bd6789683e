"""Tasks shared out to processes and to Ray: every one is done once, whatever becomes of the workers."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pc15.errors import ConfigError, MissingExtraError, Pc15Error, SchemaError
from pc15learn.runner.run import dispatch, run
from pc15learn.runner.tasks import Report, Task


@dataclass(frozen=True)
class Job:
    """Writes a file per task, once so many workers are there; may kill its own process, once for each of `fatal`."""

    folder: Path
    fatal: tuple[int, ...] = ()
    always: bool = False
    wrong: int = -1
    gpus: float = 0.0
    together: int = 1

    def start(self, number: int, workers: int) -> Any:
        (self.folder / f"worker-{os.getpid()}").touch()
        return self._do

    def _do(self, task: Task) -> Report:
        time.sleep(0.02)
        while len(list(self.folder.glob("worker-*"))) < self.together:
            time.sleep(0.01)
        if task.index in self.fatal:
            mark = self.folder / f"killed-{task.index}"
            if self.always or not mark.exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if task.index == self.wrong:
            raise SchemaError("task is wrong")
        (self.folder / f"task-{task.index}").write_text(str(task.data))
        return Report(task.index, task.items, {"working": 0.02})


TASKS = [Task(i, 2, i * i) for i in range(9)]


def check(folder: Path, reports: list[Report]) -> None:
    assert sorted(report.index for report in reports) == list(range(9))
    assert [(folder / f"task-{i}").read_text() for i in range(9)] == [str(i * i) for i in range(9)]


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_done_once(tmp_path: Path, workers: int) -> None:
    check(tmp_path, list(run(TASKS, Job(tmp_path, together=workers), workers=workers, what="testing")))
    assert len(list(tmp_path.glob("worker-*"))) == workers
    assert list(run([], Job(tmp_path), workers=workers, what="testing")) == []


def test_a_lost_worker_s_tasks_go_to_another(tmp_path: Path) -> None:
    check(tmp_path, list(run(TASKS, Job(tmp_path, fatal=(2, 5)), workers=2, what="testing")))
    assert (tmp_path / "killed-2").exists() and (tmp_path / "killed-5").exists()


def test_a_task_that_ends_every_worker_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Pc15Error, match="shard . has ended 3 workers"):
        list(run(TASKS, Job(tmp_path, fatal=(4,), always=True), workers=2, what="testing"))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_raises_is_raised(tmp_path: Path, workers: int) -> None:
    with pytest.raises(SchemaError, match="task is wrong"):
        list(run(TASKS, Job(tmp_path, wrong=3), workers=workers, what="testing"))


def test_options_out_of_range_are_refused(tmp_path: Path) -> None:
    for bad in ({"workers": 0}, {"workers": True}, {"on": "moon"}, {"workers": -1, "on": "ray"}):
        with pytest.raises(ConfigError):
            list(run(TASKS, Job(tmp_path), what="testing", **bad))  # type: ignore[arg-type]


def test_without_ray_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "pc15learn.runner.on_ray", raising=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'pc15\[ray\]'"):
        list(run(TASKS, Job(tmp_path), on="ray", what="testing"))


def test_ray_s_actors_may_die_and_so_may_their_node(tmp_path: Path, cluster: Any) -> None:
    from pc15learn.runner.on_ray import RayHost

    check(tmp_path, list(run(TASKS, Job(tmp_path, fatal=(3,)), workers=2, on="ray", what="testing")))
    assert (tmp_path / "killed-3").exists() and len(list(tmp_path.glob("worker-*"))) >= 2
    again = tmp_path / "again"
    again.mkdir()
    extra = cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    host = RayHost(Job(again), 0)
    assert host.workers == 3  # one per node
    reports = []
    for report in dispatch(TASKS, host, 3):
        reports.append(report)
        if len(reports) == 2:
            cluster.remove_node(extra)
    check(again, reports)
    with pytest.raises(SchemaError, match="task is wrong"):
        list(run(TASKS, Job(tmp_path, wrong=3), workers=1, on="ray", what="testing"))
