"""Checkpoints of a fit: last.ckpt, to go on from, and best.ckpt, the least val/loss so far.

Both are written whole or not at all, so a full disk or a kill leaves the ones before.  There is a last.ckpt after every
epoch, after so many minutes within one, and after a signal to stop.
"""

from __future__ import annotations

import io
import math
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from pc15.errors import ConfigError, HooksError
from pc15.hooks.roles import ROLES
from pc15.paths import write_atomic
from pc15learn.config import FitConfig
from pc15learn.fit.stopping import StopSignals, StopTraining

__all__ = ["AtomicIO", "Progress", "SaveCheckpoints", "check_same_fit", "read_checkpoint"]

_DEFINING = ("hidden", "lr", "weight_decay", "batch_size", "seed", "temperature", "items")
"""Keys of `TrainConfig` that a fit cannot change on its way."""


@dataclass
class Progress:
    """State of a fit, in plain values.

    epochs: passes that are done.   batch: batches done of the next one.   step: steps in all.
    best, best_epoch: the least val/loss, and the passes done when it was measured; None before the first.
    tracked: id of the logger's run, which a resumed fit continues.
    """

    epochs: int = 0
    batch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    tracked: str | None = None

    def said(self, cfg: FitConfig) -> str:
        """Epochs and steps that are done."""
        part = f" and batch {self.batch} of the next" if self.batch else ""
        return f"{self.epochs} of {cfg.train.max_epochs} epochs{part}, {self.step} steps"

    def ended(self, cfg: FitConfig) -> str | None:
        """Say why there is nothing left to do; None if there is."""
        if self.epochs >= cfg.train.max_epochs:
            return f"all {cfg.train.max_epochs} epochs are done; raise train.max_epochs to go on"
        if cfg.train.patience and self.epochs - self.best_epoch >= cfg.train.patience:
            return (
                f"val/loss has been no better for {self.epochs - self.best_epoch} epochs; raise train.patience to go on"
            )
        return None


class AtomicIO(TorchCheckpointIO):
    """Checkpoint files that are whole: written beside the old one, then renamed; read without running pickled code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            write_atomic(path, buffer.getvalue())
        except OSError as error:
            why = f"{error.strerror or error}; the checkpoint before is as it was, go on from it with --resume"
            raise OSError(error.errno, why, str(path)) from error

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A checkpoint of ours, on the CPU; read without running any pickled code.

    Raises:
        HooksError: not there, damaged, or not of `pc15learn fit`.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        facts, _ = stored["pc15"], stored["state_dict"]
    except OSError as error:
        raise HooksError(f"cannot read {path}: {error.strerror or error}; run pc15learn fit first") from error
    except (
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise HooksError(f"{path} is no checkpoint of pc15learn fit, or damaged: {why}") from error
    if not isinstance(facts, dict):
        raise HooksError(f"{path} has no facts about its net; fit again")
    if facts.get("role") not in ROLES:
        raise HooksError(f"{path} is of role {facts.get('role')!r}; this build has {', '.join(ROLES)}: fit again")
    found: dict[str, Any] = stored
    return found


def check_same_fit(path: Path, stored: dict[str, Any], cfg: FitConfig, facts: dict[str, Any]) -> None:
    """Refuse to go on with other options or labels than a checkpoint was made with.

    Raises:
        HooksError: a checkpoint that cannot be gone on from.
        ConfigError: another role, other labels, or another option that the net follows from.
    """
    again = "put it back, or begin another fit by --name or --overwrite"
    own, run = stored["pc15"], stored.get("pc15_run")
    if own["role"] != cfg.role:
        raise ConfigError(f"{path} is of role {own['role']!r}, not {cfg.role!r}; {again}")
    if not isinstance(run, dict) or not {"train", "progress"} <= run.keys():
        raise HooksError(f"{path} was made by another version, which this one cannot go on from; fit with --overwrite")
    for key in _DEFINING:
        now, then = getattr(cfg.train, key), run["train"].get(key)
        if now != then:
            raise ConfigError(f"train.{key} is {now!r}, but {path} was begun with {then!r}; {again}")
    for key in ("oracle", "codebook", "training_set", "rates"):
        if own.get(key) != facts[key]:
            raise ConfigError(f"{cfg.labels} holds other labels than {path} was begun with ({key} differs); {again}")


class SaveCheckpoints(Checkpoint):
    """Saves last.ckpt and best.ckpt, stops early, and obeys signals.

    Args:
        cfg: the fit.   stop: signals that ask for an end.
        progress: where the fit stands; kept up to date, and saved with the net.
        start_at: told the batch of the first epoch to begin with.
    """

    def __init__(
        self, cfg: FitConfig, stop: StopSignals, progress: Progress, start_at: Callable[[Trainer, int], None]
    ) -> None:
        self.cfg, self.stop, self.progress, self._start_at = cfg, stop, progress, start_at
        self.last, self.best = cfg.folder / "last.ckpt", cfg.folder / "best.ckpt"
        self._better = False
        self._saved_at = time.monotonic()

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep signals until a step ends."""
        self._start_at(trainer, self.progress.batch)
        self._saved_at = time.monotonic()
        self.stop.install()
        self.stop.deferring = True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """Save if it is time to, leave if a signal came; after the last batch of an epoch its end does both."""
        due = time.monotonic() - self._saved_at >= 60.0 * self.cfg.save_minutes
        wish = self._agreed(trainer, 2 if self.stop.received is not None else int(due))
        batches = trainer.fit_loop.epoch_loop.batch_progress
        if not wish or batches.is_last_batch:
            return
        self.progress.batch = batches.current.ready
        self._save(trainer, pl_module)
        if wish == 2:
            raise StopTraining

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare val/loss with the best.

        Raises:
            ConfigError: it is not finite.
        """
        if trainer.sanity_checking or "val/loss" not in trainer.callback_metrics:
            return
        loss = float(trainer.callback_metrics["val/loss"])
        if not math.isfinite(loss):
            raise self._diverged(f"val/loss is {loss}")
        self._better = self.progress.best is None or loss < self.progress.best
        if self._better:
            self.progress.best, self.progress.best_epoch = loss, trainer.current_epoch + 1

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save, and stop if patience is at its end or a signal came."""
        self.progress.epochs, self.progress.batch = trainer.current_epoch + 1, 0
        if self._better:
            self._save(trainer, pl_module, self.best)
        self._save(trainer, pl_module)
        self._better = False
        if self._agreed(trainer, 2 if self.stop.received is not None else 0) and not self.progress.ended(self.cfg):
            raise StopTraining
        if self.progress.ended(self.cfg):
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let a signal end what follows at once."""
        self.stop.deferring = False

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what a resumed fit is compared with."""
        checkpoint["pc15_run"] = {"train": self.cfg.as_dict()["train"], "progress": vars(self.progress).copy()}

    def _agreed(self, trainer: Trainer, wish: int) -> int:
        """The greatest wish of all ranks."""
        if trainer.world_size == 1:
            return wish
        wishes = torch.tensor(wish, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(wishes, op=torch.distributed.ReduceOp.MAX)
        return int(wishes)

    def _save(self, trainer: Trainer, module: LightningModule, path: Path | None = None) -> None:
        """Write a checkpoint; a net that has diverged does not replace a good one."""
        if not all(bool(values.isfinite().all()) for values in module.parameters()):
            raise self._diverged("weights are not finite")
        if self.progress.best is None and trainer.is_global_zero:
            self.best.unlink(missing_ok=True)  # of a fit that this one replaces
        self.progress.step = trainer.global_step
        trainer.save_checkpoint(path or self.last)
        self._saved_at = time.monotonic()
        self.stop.kept = (
            f"{self.last} holds {self.progress.said(self.cfg)}: the same command with --resume goes on from there"
        )

    def _diverged(self, what: str) -> ConfigError:
        kept = f"; {self.last} is from before" if self.last.exists() else ""
        return ConfigError(
            f"the fit diverged in epoch {self.progress.epochs + 1}: {what}; lower train.lr, which is "
            f"{self.cfg.train.lr:g}{kept}"
        )
