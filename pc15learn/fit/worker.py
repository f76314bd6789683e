"""One rank of a fit: `python -m pc15learn.fit.worker FOLDER RANK`, as `pc15learn.fit.ranks` starts it.

It reads FOLDER/job.json, and tells how it ended in FOLDER/told-RANK.json.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import pc15.errors
from pc15.errors import Pc15Error
from pc15learn.config import FitConfig, TrainConfig
from pc15learn.fit.run import train_rank
from pc15learn.fit.stopping import FitStopped, StopSignals

__all__ = ["main"]


def main(folder: Path, rank: int) -> int:
    """Fit as one rank; returns the exit code."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    cfg = FitConfig(**{**job["cfg"], "train": TrainConfig(**job["cfg"]["train"])})
    logging.basicConfig(level=logging.WARNING, format="pc15learn: %(levelname)s: %(message)s")
    logging.getLogger("pc15learn.fit").setLevel(logging.INFO)
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    told: dict[str, Any]
    code = 1
    with warnings.catch_warnings(), StopSignals() as stop:
        warnings.showwarning = lambda message, *_, **__: print(f"pc15learn: warning: {message}", file=sys.stderr)
        try:
            fitted = train_rank(cfg, stop, resume=job["resume"])
            told = {
                "metrics": fitted.metrics, "best": fitted.best is not None, "per_second": fitted.per_second,
            }  # fmt: skip
            code = 0
        except FitStopped as stopped:
            told, code = {"stopped": stopped.kept, "signum": stopped.signum}, stopped.exit_code
        except Pc15Error as error:
            told = {"error": str(error), "type": type(error).__name__}
            if not hasattr(pc15.errors, told["type"]):
                told["type"] = "Pc15Error"
        except OSError as error:
            told = {"error": f"{error.strerror or error}: {error.filename}", "errno": error.errno, "type": "OSError"}
        (folder / f"told-{rank}.json").write_text(json.dumps({**told, "at": time.time()}), encoding="utf-8")
    return code


def _stop_with_parent() -> None:
    """Take the end of the process that watches for a SIGTERM."""
    sys.stdin.buffer.read()
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    # A rank that failed may leave others, and threads of theirs, waiting for it: leave without them.
    code = main(Path(sys.argv[1]), int(sys.argv[2]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
