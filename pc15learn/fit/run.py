"""One fit: labels -> checkpoints/<name>/last.ckpt and best.ckpt.

A stopped run goes on with `resume`, and sees the batches it would have seen, by as many processes as it likes.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pc15.errors import ConfigError, MissingExtraError
from pc15.runtime.notices import NOTE
from pc15learn.config import FitConfig
from pc15learn.fit.stopping import FitStopped, StopSignals, StopTraining

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, Trainer

    from pc15learn.fit.checkpoints import Progress, SaveCheckpoints
    from pc15learn.roles.base import RoleModule

__all__ = ["Fitted", "fit_role", "train_rank", "trainings"]

_PRECISIONS: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "32": "32-true",
    "bf16": "bf16-mixed",
    "16": "16-mixed",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """Result of a fit.

    checkpoint: last.ckpt.   metrics: of its net, on the val split.
    best: best.ckpt, the least val/loss; None if the net logs none.
    rank: this process, of several that srun or torchrun started; 0 is the one to speak.
    per_second: rows of all ranks that were trained on in a second, validations and checkpoints counted in; 0 for a fit
        that had nothing left to do.
    """

    checkpoint: Path
    metrics: dict[str, float]
    best: Path | None = None
    rank: int = 0
    per_second: float = 0.0


def trainings() -> dict[str, type[RoleModule]]:
    """Training of each net: `pc15learn.roles.TRAINING`.

    Raises:
        MissingExtraError: Lightning is not installed.
    """
    try:
        from pc15learn.roles import TRAINING
    except ImportError as error:
        raise MissingExtraError("fitting needs Lightning; install it with: pip install 'pc15[learn]'") from error
    return TRAINING


def fit_role(cfg: FitConfig, *, resume: bool = False, overwrite: bool = False) -> Fitted:
    """Fit one net.

    With several devices it starts a process for each of them, unless srun or torchrun has done so.

    Args:
        resume: go on from last.ckpt; a fit that has none begins.
        overwrite: begin again where there is a last.ckpt.
    Raises:
        ConfigError: no such device, a last.ckpt that neither option is given for, or that other options or labels
            were used for; a fit that diverged.
        HooksError: a last.ckpt that cannot be read.
        SchemaError: labels that are missing or do not follow the schema.
        MissingExtraError: Lightning, or the logger, is not installed.
        FitStopped: SIGINT or SIGTERM came.
        OSError: the disk refuses; the checkpoint before is as it was.
    """
    with StopSignals() as stop:
        return _fit(cfg, stop, resume=resume, overwrite=overwrite)


def _fit(cfg: FitConfig, stop: StopSignals, *, resume: bool, overwrite: bool) -> Fitted:
    """Fit in this process or several; arguments and errors as in `fit_role`."""
    trainings()
    from pc15learn.fit.ranks import launched_ranks, own_rank, run_ranks

    _check_machine(cfg)
    last = cfg.folder / "last.ckpt"
    launched = launched_ranks()
    if launched not in (None, cfg.ranks):
        raise ConfigError(
            f"srun or torchrun started {launched} processes, but --devices {cfg.devices} and --num-nodes "
            f"{cfg.num_nodes} make {cfg.ranks}; let them agree"
        )
    _check_start(last, resume=resume, overwrite=overwrite)
    if last.exists():
        stop.kept = f"{last} is as it was"
    if launched is not None and own_rank() > 0:
        return train_rank(cfg, stop, resume=resume)
    cfg.folder.mkdir(parents=True, exist_ok=True)
    with _only_writer(cfg.folder):
        if cfg.ranks > 1 and launched is None:
            told = run_ranks(cfg, stop, resume=resume)
            best = cfg.folder / "best.ckpt" if told["best"] else None
            return Fitted(last, told["metrics"], best, per_second=told["per_second"])
        return train_rank(cfg, stop, resume=resume)


@contextmanager
def _only_writer(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, which the end of this process releases however it comes, where there are locks.

    Raises:
        ConfigError: another fit is writing to it.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(f"another fit is writing to {folder}; let it end, or give another --name") from error
        except OSError:
            _log.debug("%s cannot be locked", folder)
        yield
    finally:
        os.close(handle)


def _check_machine(cfg: FitConfig) -> None:
    """Refuse devices that are not there.

    Raises:
        ConfigError: no CUDA, fewer GPUs, or a precision that a CPU does not have.
    """
    import torch

    from pc15.runtime.device import resolve_device

    device = resolve_device(cfg.device)
    if device.type == "cuda" and cfg.devices > (there := torch.cuda.device_count()):
        raise ConfigError(
            f"devices is {cfg.devices}, but there are {there} GPUs; give at most so many, or --device cpu"
        )
    if device.type == "cpu" and cfg.precision == "16":
        raise ConfigError("precision 16 needs a GPU; on a CPU use bf16 or 32")


def _check_start(last: Path, *, resume: bool, overwrite: bool) -> None:
    """Refuse to replace a checkpoint by accident; say what is done where there is none.

    Raises:
        ConfigError: there is one, and neither option is given; or both are.
    """
    if resume and overwrite:
        raise ConfigError("--resume goes on and --overwrite begins again; give one of them")
    if last.exists() and not (resume or overwrite):
        raise ConfigError(
            f"{last} is there, of a fit that was begun before; --resume goes on from it, --overwrite begins again, "
            "--name keeps it and writes elsewhere"
        )
    if resume and not last.exists():
        _log.warning("there is no %s to go on from: this fit begins at the beginning", last)


def train_rank(cfg: FitConfig, stop: StopSignals, *, resume: bool = False) -> Fitted:
    """This process's part of a fit, all of it if there is one; arguments and errors as in `fit_role`."""
    import torch

    from pc15learn.fit.checkpoints import Progress, SaveCheckpoints
    from pc15learn.fit.ranks import own_rank
    from pc15learn.tracking import close_logger, make_logger, track_end, track_start

    train, kind, last = cfg.train, trainings()[cfg.role], cfg.folder / "last.ckpt"
    rank = own_rank() if cfg.ranks > 1 else 0
    data = kind.data(
        cfg.labels, batch_size=train.batch_size, seed=train.seed, online=cfg.online, lambdas=cfg.lambdas,
        items=train.items, device=cfg.device,
    )  # fmt: skip
    data.setup()
    data.check_finite()
    torch.manual_seed(train.seed)
    module = kind(
        **data.made_of, hidden=train.hidden, lr=train.lr, weight_decay=train.weight_decay,
        temperature=train.temperature,
    )  # fmt: skip
    module.facts = {"name": cfg.name, "seed": train.seed, **data.facts()}
    resume = resume and last.exists()
    progress, metrics = _stored(cfg, module.facts, rank) if resume else (Progress(), {})
    if progress.ended(cfg) is not None:
        return Fitted(last, metrics, _best(cfg, progress), rank)
    with warnings.catch_warnings():
        # The sets are small and in memory: more workers would only copy them.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable.*")  # `_start_at` does it
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        warnings.filterwarnings("ignore", message=".*`IterableDataset` has `__len__` defined.*")  # no workers
        warnings.filterwarnings("ignore", message=".*overridden `transfer_batch_to_device`.*")  # the module's serves
        logger = make_logger(cfg, progress, rank)
        done = False
        try:
            saving = SaveCheckpoints(cfg, stop, progress, _start_at)
            trainer = _trainer(cfg, logger, saving, rank)
            track_start(logger, cfg, module.facts, progress)
            before, begun = progress.step, time.perf_counter()
            _train(trainer, module, data, saving, ckpt=last if resume else None)
            rows = (progress.step - before) * train.batch_size
            per_second = rows / (time.perf_counter() - begun)
            metrics = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
            fitted = Fitted(last, metrics, _best(cfg, progress), rank, per_second)
            if rank == 0:
                track_end(logger, cfg, module, fitted.best or last)
            done = True
        finally:
            close_logger(logger, cfg, rank, done=done)
    return fitted


def _stored(cfg: FitConfig, facts: dict[str, Any], rank: int) -> tuple[Progress, dict[str, float]]:
    """Progress and val metrics of the last.ckpt that a fit goes on from, which rank 0 says."""
    from pc15learn.fit.checkpoints import Progress, check_same_fit, read_checkpoint

    last = cfg.folder / "last.ckpt"
    stored = read_checkpoint(last)
    check_same_fit(last, stored, cfg, facts)
    progress = Progress(**stored["pc15_run"]["progress"])
    if rank == 0:
        if (why := progress.ended(cfg)) is not None:
            _log.warning("%s has nothing left to do: %s", last, why)
        else:
            rate = stored["pc15_lr_share"] * cfg.train.lr
            _log.log(NOTE, "going on from %s: %s, learning rate %.3g", last, progress.said(cfg), rate)
            if longer := cfg.train.max_epochs - stored["pc15_run"]["train"]["max_epochs"]:
                _log.log(
                    NOTE, "epochs changed by %+d: the learning rate follows the new schedule, and does not rise", longer
                )
    return progress, {name: value for name, value in stored["pc15"]["metrics"].items() if name.startswith("val/")}


def _trainer(cfg: FitConfig, logger: Any, saving: SaveCheckpoints, rank: int) -> Trainer:
    """Lightning's trainer of one rank."""
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import TQDMProgressBar
    from lightning.pytorch.plugins.environments import LightningEnvironment

    from pc15.runtime.device import resolve_device
    from pc15learn.fit.checkpoints import AtomicIO
    from pc15learn.fit.ranks import strategy_of

    # Lightning's `deterministic` also fills memory that is about to be written: it takes the oracle's time
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    shown = sys.stderr.isatty() and rank == 0
    return Trainer(
        accelerator={"cpu": "cpu", "cuda": "gpu"}[resolve_device(cfg.device).type],
        devices=cfg.devices,
        num_nodes=cfg.num_nodes,
        strategy=strategy_of(cfg),
        precision=_PRECISIONS[cfg.precision],
        max_epochs=cfg.train.max_epochs,
        deterministic=True,
        use_distributed_sampler=False,  # LabelData shares out batches itself
        logger=logger,
        callbacks=[saving, *([TQDMProgressBar(leave=False)] if shown else [])],
        plugins=[AtomicIO(), *([LightningEnvironment()] if cfg.ranks == 1 else [])],  # Slurm may run this one alone
        enable_progress_bar=shown,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=10,
    )


def _train(
    trainer: Trainer, module: RoleModule, data: LightningDataModule, saving: SaveCheckpoints, *, ckpt: Path | None
) -> None:
    """Run Lightning's loops.

    Raises:
        FitStopped: a signal ended them.
    """
    stop = saving.stop
    try:
        trainer.fit(module, datamodule=data, ckpt_path=None if ckpt is None else str(ckpt))
    except StopTraining as stopped:
        raise FitStopped(stop.received or signal.SIGTERM, stop.kept) from stopped  # another rank's, if not ours
    except SystemExit as left:  # Lightning's answer to a second signal
        if stop.received is None:
            raise
        raise FitStopped(stop.received, stop.kept) from left
    finally:
        stop.deferring = False


def _start_at(trainer: Trainer, batch: int) -> None:
    """Leave out batches that a stopped run has seen."""
    loader: Any = trainer.train_dataloader
    stream = loader.dataset if loader.batch_sampler is None else loader.batch_sampler
    stream.start_at(batch)


def _best(cfg: FitConfig, progress: Progress) -> Path | None:
    """The best checkpoint, if there is one."""
    return cfg.folder / "best.ckpt" if progress.best is not None else None
