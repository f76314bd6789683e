"""Where a fit's metrics go beside its checkpoint: CSV, TensorBoard, or Weights & Biases.

wandb obeys its own variables: WANDB_MODE, WANDB_PROJECT (else pc15), WANDB_NAME (else the net's), WANDB_DIR.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pc15.errors import ConfigError, MissingExtraError
from pc15.paths import variables
from pc15learn.config import FitConfig
from pc15learn.export import export_weights
from pc15learn.fit.checkpoints import Progress
from pc15learn.roles.base import RoleModule

__all__ = ["make_logger", "track_end", "track_start"]


def make_logger(cfg: FitConfig, progress: Progress, rank: int) -> Any:
    """The fit's logger; False for none.  A resumed fit continues its run in wandb.

    Raises:
        MissingExtraError: its package is not installed.
        ConfigError: wandb refuses to begin, for want of a login for example.
    """
    if cfg.logger == "none":
        return False
    if cfg.logger == "csv":
        from lightning.pytorch.loggers import CSVLogger

        return CSVLogger(save_dir=cfg.folder, name="csv")
    if cfg.logger == "tensorboard":
        from lightning.pytorch.loggers import TensorBoardLogger

        try:
            return TensorBoardLogger(save_dir=cfg.folder, name="tensorboard")
        except ModuleNotFoundError as error:
            raise MissingExtraError(_install("tensorboard")) from error
    try:
        import wandb
        from lightning.pytorch.loggers import WandbLogger
    except ImportError as error:
        raise MissingExtraError(_install("wandb")) from error
    own = variables("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR")
    logger = WandbLogger(
        project=own.get("WANDB_PROJECT", "pc15"),
        name=own.get("WANDB_NAME", cfg.name),
        save_dir=own.get("WANDB_DIR", cfg.folder),
        id=progress.tracked,
    )
    if rank == 0:
        try:
            _ = logger.experiment
        except wandb.errors.Error as error:
            raise ConfigError(
                f"wandb: {str(error).splitlines()[0]}; run wandb login, or set WANDB_MODE=offline, or --logger csv"
            ) from error
    return logger


def track_start(logger: Any, cfg: FitConfig, facts: dict[str, Any], progress: Progress) -> None:
    """Tell the logger the configuration and what the net is fitted to."""
    if not logger:
        return
    told = {"fit": cfg.as_dict(), **{key: facts[key] for key in ("oracle", "codebook", "training_set")}}
    logger.log_hyperparams(told)
    if cfg.logger == "wandb":
        progress.tracked = logger.version


def track_end(logger: Any, cfg: FitConfig, module: RoleModule, checkpoint: Path) -> None:
    """Give wandb the weights, as the encoder takes them, and the role's tables; end the run."""
    if not logger or cfg.logger != "wandb":
        return
    import wandb

    made = export_weights(checkpoint, cfg.folder / "weights")
    run = logger.experiment
    artifact = wandb.Artifact(f"pc15-{cfg.name}", type="model", metadata={"role": cfg.role})
    artifact.add_file(str(made.weights))
    artifact.add_file(str(made.card))
    run.log_artifact(artifact)
    for name, (columns, rows) in module.tables().items():
        run.log({name: wandb.Table(columns=columns, data=rows)})
    run.finish()


def _install(name: str) -> str:
    return f"logger {name} needs {name}; install it with: pip install 'pc15[track]'"
