"""Where metrics go beside the files that a command writes: CSV, TensorBoard, or Weights & Biases.

wandb obeys its own variables: WANDB_MODE, WANDB_PROJECT (else pc15), WANDB_NAME (else the net's or the folder's),
WANDB_DIR.  It gets the configuration, the metrics, tables, rate-distortion curves, and the weights as an artifact.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pc15.errors import ConfigError, MissingExtraError
from pc15.paths import variables
from pc15learn.config import FitConfig

if TYPE_CHECKING:
    from pc15learn.bench import BenchResult
    from pc15learn.fit.checkpoints import Progress
    from pc15learn.roles.base import RoleModule

__all__ = ["close_logger", "make_logger", "track_bench", "track_end", "track_start"]


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
    wandb = _wandb()
    from lightning.pytorch.loggers import WandbLogger

    place = _place(cfg.name, cfg.folder)
    logger = WandbLogger(project=place["project"], name=place["name"], save_dir=place["dir"], id=progress.tracked)
    if rank == 0:
        with _one_line(wandb):
            _ = logger.experiment
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
    """Give wandb the weights, as the encoder takes them, and the role's tables."""
    if not logger or cfg.logger != "wandb":
        return
    from pc15learn.export import export_weights

    wandb, run = _wandb(), logger.experiment
    made = export_weights(checkpoint, cfg.folder / "weights")
    artifact = wandb.Artifact(f"pc15-{cfg.name}", type="model", metadata={"role": cfg.role})
    for path in (made.weights, made.card):
        artifact.add_file(str(path))
    run.log_artifact(artifact)
    run.log({name: wandb.Table(columns=columns, data=rows) for name, (columns, rows) in module.tables().items()})


def close_logger(logger: Any, cfg: FitConfig, rank: int, *, done: bool) -> None:
    """End wandb's run, so that another fit of this process begins its own."""
    if logger and cfg.logger == "wandb" and rank == 0:
        logger.experiment.finish(exit_code=0 if done else 1)


def track_bench(result: BenchResult) -> None:
    """Give wandb a benchmark: its table of means, its rate-distortion curves, and its files.

    Raises:
        MissingExtraError: wandb is not installed.
        ConfigError: wandb refuses to begin.
    """
    wandb, folder = _wandb(), result.csv.parent
    place = _place(folder.name, folder)
    with _one_line(wandb):
        run = wandb.init(project=place["project"], name=place["name"], dir=place["dir"], job_type="bench")
    columns = list(dict.fromkeys(name for row in result.table for name in row))
    means = wandb.Table(columns=columns, data=[[row.get(name) for name in columns] for row in result.table])
    by_method: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(result.table, key=lambda row: float(row["bpp"])):
        by_method.setdefault(row["method"], []).append(row)
    rates = [[row["bpp"] for row in rows] for rows in by_method.values()]
    curves = {}
    for name, title in (("psnr", "PSNR-Y, dB"), ("ssim", "SSIM-Y")):
        quality = [[row[name] for row in rows] for rows in by_method.values()]
        curves[f"curve/{name}"] = wandb.plot.line_series(rates, quality, list(by_method), title, "bits per pixel")
    run.log({"means": means, **curves})
    artifact = wandb.Artifact(f"pc15-bench-{folder.name}", type="benchmark")
    for path in (result.csv, result.html, *result.json):
        artifact.add_file(str(path))
    run.log_artifact(artifact)
    run.finish()


def _wandb() -> ModuleType:
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError(_install("wandb")) from error
    found: ModuleType = wandb
    return found


@contextmanager
def _one_line(wandb: ModuleType) -> Iterator[None]:
    """Say why a run cannot begin, and what helps."""
    try:
        yield
    except wandb.errors.Error as error:
        why = str(error).splitlines()[0].rstrip(".")
        raise ConfigError(f"wandb: {why}; run wandb login, set WANDB_MODE=offline, or leave wandb out") from error


def _place(name: str, folder: Path) -> dict[str, str]:
    """Project, name and folder of a run, as far as the environment does not say."""
    own = variables("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR")
    default = {"project": "pc15", "name": name, "dir": str(folder)}
    return {key: own.get(f"WANDB_{key.upper()}", value) for key, value in default.items()}


def _install(name: str) -> str:
    return f"logger {name} needs {name}; install it with: pip install 'pc15[track]'"
