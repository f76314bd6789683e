"""Processes of one fit on this machine: started here, one per device, unless srun or torchrun has done so.

The process that is asked to fit only watches: it hands signals on, ends the others when one fails, and raises what went
wrong as if it had trained itself.  So a fit by several processes works from a script, a notebook or a test.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pc15.errors
from pc15.errors import ConfigError, Pc15Error
from pc15.paths import child_environment, variables
from pc15learn.config import FitConfig
from pc15learn.fit.stopping import FitStopped, StopSignals

__all__ = ["launched_ranks", "own_rank", "run_ranks", "strategy_of"]

_WORKER = "pc15learn.fit.worker"
_GRACE_S = 10.0
"""Time that processes have to end by themselves once one has failed."""


def launched_ranks() -> int | None:
    """Processes that torchrun or srun started this one among; None if this one is alone."""
    found = variables("LOCAL_RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
    if {"LOCAL_RANK", "WORLD_SIZE"} <= found.keys():
        return int(found["WORLD_SIZE"])
    tasks = int(found.get("SLURM_STEP_NUM_TASKS", "1"))
    return tasks if tasks > 1 else None


def own_rank() -> int:
    """Number of this process among all ranks."""
    found = variables("RANK", "SLURM_PROCID")
    return int(found.get("RANK", found.get("SLURM_PROCID", "0")))


def strategy_of(cfg: FitConfig) -> Any:
    """Name of Lightning's way to bring ranks together, if there are several."""
    if cfg.ranks == 1:
        return "auto"
    from lightning.pytorch.plugins.environments import LightningEnvironment
    from lightning.pytorch.strategies import DDPStrategy

    started_here = "LOCAL_RANK" in (found := variables("LOCAL_RANK", "TORCHELASTIC_RUN_ID")) and len(found) == 1
    return DDPStrategy(cluster_environment=LightningEnvironment() if started_here else None)


def run_ranks(cfg: FitConfig, stop: StopSignals, *, resume: bool) -> dict[str, Any]:
    """Start this machine's ranks and wait for them; returns what rank 0 of them tells.

    Raises:
        Pc15Error: as a rank raised it, or that one ended without a word.
        FitStopped: a signal came, and was handed on.
        OSError: the disk refuses.
    """
    node = _node(cfg)
    with tempfile.TemporaryDirectory(prefix="pc15-fit-") as temp, contextlib.ExitStack() as opened:
        folder = Path(temp)
        (folder / "job.json").write_text(json.dumps({"cfg": cfg.as_dict(), "resume": resume}), encoding="utf-8")
        stop.kept = f"{cfg.folder / 'last.ckpt'}, if it is there, holds the last checkpoint: --resume goes on from it"
        ranks: list[subprocess.Popen[bytes]] = []
        try:
            for local in range(cfg.devices):
                log = opened.enter_context((folder / f"log-{local}").open("wb")) if local else None
                ranks.append(_start(folder, local, cfg, node, log))
            stop.deferring = True
            failed = _wait(ranks, stop)
        finally:
            stop.deferring = False
            for process in ranks:
                if process.poll() is None:
                    process.kill()
                process.wait()
                if process.stdin is not None:
                    process.stdin.close()
        return _outcome(folder, ranks, failed, stop)


def _node(cfg: FitConfig) -> dict[str, str]:
    """Variables by which the machines of a fit find each other.

    Raises:
        ConfigError: several machines, and nobody said where the first one is.
    """
    if cfg.num_nodes == 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "NODE_RANK": "0"}
    found = variables("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
    if missing := [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in found]:
        raise ConfigError(
            f"--num-nodes {cfg.num_nodes} needs {', '.join(missing)} in the environment of each machine: the first "
            "one's address, a free port of it, and this one's number from 0; or start it by srun or torchrun"
        )
    return found


def _start(folder: Path, local: int, cfg: FitConfig, node: dict[str, str], log: Any) -> subprocess.Popen[bytes]:
    """One rank, in a session of its own: what a terminal sends reaches it once, from here."""
    rank = int(node["NODE_RANK"]) * cfg.devices + local
    place = {"LOCAL_RANK": str(local), "RANK": str(rank), "WORLD_SIZE": str(cfg.ranks), **node}
    known = variables("PYTHONPATH", "OMP_NUM_THREADS")
    root = str(Path(pc15.errors.__file__).resolve().parents[1])  # the same code, whatever the current folder is
    place["PYTHONPATH"] = os.pathsep.join([root, *known.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep)
    if "OMP_NUM_THREADS" not in known:
        place["OMP_NUM_THREADS"] = str(max(1, (os.cpu_count() or 1) // cfg.devices))
    return subprocess.Popen(
        [sys.executable, "-m", _WORKER, str(folder), str(local)],
        env=child_environment(**place),
        stdin=subprocess.PIPE,  # closed when this process goes, which the rank takes for a signal
        stdout=log,
        stderr=log,
        start_new_session=True,
    )


def _wait(ranks: list[subprocess.Popen[bytes]], stop: StopSignals) -> int | None:
    """Wait until all have ended, or one has failed and the others had time to; returns which failed first, if any.

    Signals are handed on.
    """
    told, failed, failed_at = 0, None, 0.0
    while any(process.poll() is None for process in ranks):
        if stop.count > told and stop.received is not None:
            told = stop.count
            for process in ranks:
                if process.poll() is None:
                    process.send_signal(stop.received)
        if failed is None:
            failed, failed_at = _first_failed(ranks), time.monotonic()
        elif time.monotonic() - failed_at > _GRACE_S:
            break
        time.sleep(0.05)
    return _first_failed(ranks) if failed is None else failed


def _first_failed(ranks: list[subprocess.Popen[bytes]]) -> int | None:
    return next((local for local, process in enumerate(ranks) if process.poll() not in (None, 0)), None)


def _outcome(
    folder: Path, ranks: list[subprocess.Popen[bytes]], failed: int | None, stop: StopSignals
) -> dict[str, Any]:
    """Answers of the ranks, or the error of the one that failed first."""
    told = [_told(folder / f"told-{local}.json") for local in range(len(ranks))]
    for kind in ("error", "stopped"):
        for one in sorted((one for one in told if kind in one), key=lambda one: float(one["at"])):
            if kind == "stopped":
                raise FitStopped(stop.received or int(one["signum"]), str(one["stopped"]))
            if one["type"] == "OSError":
                raise OSError(one["errno"], one["error"])
            raise getattr(pc15.errors, one["type"])(one["error"])
    if failed is not None:
        code = ranks[failed].returncode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
        log = folder / f"log-{failed}"
        last = (log.read_text(errors="replace").strip().splitlines() or [""])[-1] if log.exists() else ""
        raise Pc15Error(
            f"rank {failed} of this machine's {len(ranks)} ended {how}{f': {last}' if last else ''}; the last "
            "checkpoint is whole, go on with --resume"
        )
    return told[0]


def _told(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
