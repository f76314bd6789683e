"""A fit of one net: labels -> checkpoints/<name>/last.ckpt.

A stopped run goes on with `resume`, and sees the batches it would have seen.
"""

from __future__ import annotations

import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc15.errors import MissingExtraError
from pc15learn.config import FitConfig

if TYPE_CHECKING:
    from pc15learn.roles.base import RoleModule

__all__ = ["Fitted", "fit_role", "trainings"]


@dataclass(frozen=True)
class Fitted:
    """Result of a fit: the checkpoint and its metrics on the val split."""

    checkpoint: Path
    metrics: dict[str, float]


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


def fit_role(cfg: FitConfig, *, resume: bool = False) -> Fitted:
    """Fit one net.

    Args:
        resume: go on from last.ckpt if it is there.
    Raises:
        SchemaError: labels that are missing or do not follow the schema.
        MissingExtraError: Lightning, or the logger, is not installed.
    """
    kind = trainings()[cfg.role]
    import torch
    from lightning.pytorch import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar

    from pc15learn.dataset import LabelData

    train = cfg.train
    data = LabelData(cfg.labels, cfg.role, batch_size=train.batch_size, seed=train.seed, temperature=train.temperature)
    data.setup()
    torch.manual_seed(train.seed)
    module = kind(codebook_id=data.codebook.id, hidden=train.hidden, lr=train.lr, weight_decay=train.weight_decay)
    module.facts = {
        "name": cfg.name,
        "seed": train.seed,
        "normalisation": data.normalisation,
        "oracle": {"fingerprint": data.oracle.fingerprint, "options": data.oracle.facts["options"]},
        "codebook": data.oracle.facts["codebook"],
        "codec": data.oracle.facts["codec"],
        "training_set": {**data.counts, "tiles": data.oracle.facts["tiles"]},
        **kind.card_facts(data.train_targets, data.options),
    }
    folder = cfg.out / cfg.name
    folder.mkdir(parents=True, exist_ok=True)
    last = folder / "last.ckpt"
    terminal = sys.stderr.isatty()
    callbacks: list[Any] = [ModelCheckpoint(dirpath=folder, save_last=True, save_top_k=0, enable_version_counter=False)]
    if terminal:
        callbacks.append(TQDMProgressBar(leave=False))
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.pytorch.accelerators.cuda"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # The sets are small and in memory: more workers would only copy them.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*is smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*Checkpoint directory .* exists and is not empty.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer = Trainer(
            accelerator={"auto": "auto", "cpu": "cpu", "cuda": "gpu"}[cfg.device],
            devices=cfg.devices,
            max_epochs=train.max_epochs,
            deterministic=True,
            logger=_logger(cfg, folder),
            callbacks=callbacks,
            enable_progress_bar=terminal,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=10,
        )
        trainer.fit(module, datamodule=data, ckpt_path=str(last) if resume and last.exists() else None)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("val/")}
    return Fitted(last, metrics)


def _logger(cfg: FitConfig, folder: Path) -> Any:
    """The logger of that name; False for none."""
    if cfg.logger == "none":
        return False
    if cfg.logger == "csv":
        from lightning.pytorch.loggers import CSVLogger

        return CSVLogger(save_dir=folder, name="csv")
    try:
        import wandb  # noqa: F401
        from lightning.pytorch.loggers import WandbLogger
    except ImportError as error:
        raise MissingExtraError("logger wandb needs wandb; install it with: pip install 'pc15[learn]'") from error
    return WandbLogger(project="pc15", name=cfg.name, save_dir=folder, offline=True)
