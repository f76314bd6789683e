"""configs/learn/*.yaml -> a fitted net: checkpoints/<name>/last.ckpt.

One YAML per role.  Its keys are the fields of `FitConfig` and `TrainConfig`, where types and defaults live; a wrong
one is named before anything is read.  A stopped run goes on with `resume`, and sees the batches it would have seen.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from pc15.errors import ConfigError, MissingExtraError, did_you_mean

__all__ = ["FitConfig", "Fitted", "TrainConfig", "fit_role", "load_config"]

Role = Literal["selector", "params", "rd"]
LoggerName = Literal["none", "csv", "wandb"]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a net is fitted.

    Args:
        hidden: units per layer.   lr, weight_decay: of AdamW.   batch_size: items per step.
        max_epochs: passes over the train split.   seed: of weights and batches.
        temperature: softness of labels, as a share of a layer's gain.
    """

    hidden: int = 128
    lr: float = 3e-4
    weight_decay: float = 1e-2
    batch_size: int = 1024
    max_epochs: int = 30
    seed: int = 1234
    temperature: float = 0.1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("hidden", 1, 4096),
            ("lr", 1e-8, 1.0),
            ("weight_decay", 0.0, 1.0),
            ("batch_size", 1, 1 << 20),
            ("max_epochs", 1, 100_000),
            ("seed", 0, (1 << 31) - 1),
            ("temperature", 1e-4, 10.0),
        ):
            value = getattr(self, name)
            kind = int if isinstance(low, int) else (int, float)
            if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
                number = "a whole number" if kind is int else "a number"
                raise ConfigError(f"train.{name} is {value!r}; give {number} from {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """One fit.

    Args:
        role: selector (M1), params (M2) or rd (M3).
        labels: folder that `pc15learn label` wrote.
        name: of the net; its checkpoints go to <out>/<name>/.
        out: folder of all checkpoints.
        logger: "none", "csv", or "wandb" (offline unless wandb is told otherwise).
        device: "auto", "cpu" or "cuda".   devices: how many GPUs, more than one by DDP.
    """

    role: Role
    labels: Path
    name: str = ""
    out: Path = Path("checkpoints")
    logger: LoggerName = "none"
    device: str = "auto"
    devices: int = 1
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("role", self.role, get_args(Role)),
            ("logger", self.logger, get_args(LoggerName)),
            ("device", self.device, ("auto", "cpu", "cuda")),
        ):
            if value not in known:
                raise ConfigError(
                    f"{name} is {value!r}; choose one of {', '.join(known)}{did_you_mean(str(value), known)}"
                )
        if isinstance(self.devices, bool) or not isinstance(self.devices, int) or self.devices < 1:
            raise ConfigError(f"devices is {self.devices!r}; give a whole number of at least 1")
        object.__setattr__(self, "labels", Path(self.labels))
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "name", self.name or self.role)


@dataclass(frozen=True)
class Fitted:
    """What a fit left: the checkpoint and its metrics on the val split."""

    checkpoint: Path
    metrics: dict[str, float]


def load_config(path: str | Path, **changes: Any) -> FitConfig:
    """A fit's YAML, with options changed; `train` takes a dict of changes.

    Raises:
        ConfigError: no such file, not YAML, an unknown key or a value out of range.
    """
    path = Path(path)
    try:
        stored = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}; see configs/learn/") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(stored, dict):
        raise ConfigError(f"{path} holds no keys; see configs/learn/selector.yaml")
    train = {**_mapping(stored.pop("train", {}), path), **changes.pop("train", {})}
    merged = {**stored, **{key: value for key, value in changes.items() if value is not None}}
    _known(merged, FitConfig, path, "")
    _known(train, TrainConfig, path, "train.")
    for key in ("role", "labels"):
        if key not in merged:
            raise ConfigError(f"{path} has no {key!r}; see configs/learn/selector.yaml")
    return FitConfig(**merged, train=TrainConfig(**train))


def _mapping(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: train is {value!r}; write it as keys, like train: {{lr: 3.0e-4}}")
    return value


def _known(given: dict[str, Any], kind: type, path: Path, prefix: str) -> None:
    names = [f.name for f in dataclasses.fields(kind)]
    for key in given:
        if key not in names:
            raise ConfigError(f"{path}: unknown key {prefix}{key}{did_you_mean(str(key), names)}")


def fit_role(cfg: FitConfig, *, resume: bool = False) -> Fitted:
    """Fit one net.

    Args:
        resume: go on from last.ckpt if it is there.
    Raises:
        SchemaError: labels that are missing or do not follow the schema.
        MissingExtraError: Lightning, or the logger, is not installed.
    """
    try:
        import torch
        from lightning.pytorch import Trainer
        from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
    except ImportError as error:
        raise MissingExtraError("fitting needs Lightning; install it with: pip install 'pc15[learn]'") from error
    from pc15learn.dataset import LabelData
    from pc15learn.roles.params import ParamModule
    from pc15learn.roles.rd import RdModule
    from pc15learn.roles.selector import SelectorModule

    train = cfg.train
    data = LabelData(cfg.labels, cfg.role, batch_size=train.batch_size, seed=train.seed, temperature=train.temperature)
    data.setup()
    torch.manual_seed(train.seed)
    kinds: dict[str, Any] = {"selector": SelectorModule, "params": ParamModule, "rd": RdModule}
    module = kinds[cfg.role](
        codebook_id=data.codebook.id, hidden=train.hidden, lr=train.lr, weight_decay=train.weight_decay
    )
    module.facts = {
        "name": cfg.name,
        "seed": train.seed,
        "normalisation": data.normalisation,
        "oracle": {"fingerprint": data.oracle.fingerprint, "options": data.oracle.facts["options"]},
        "codebook": data.oracle.facts["codebook"],
        "codec": data.oracle.facts["codec"],
        "training_set": {**data.counts, "tiles": data.oracle.facts["tiles"]},
    }
    if cfg.role == "rd":
        target = data.train_targets["target"]
        std = target.std(dim=0).clamp(min=1e-6)
        module.facts["target"] = {"mean": target.mean(dim=0).tolist(), "std": std.tolist()}
        options = data.oracle.facts["options"]
        module.facts["lambda_rd"] = float(options["lambda_rd"])
        module.facts["area_share"] = (1.0 - options["overlap"] / options["tile"]) ** 2
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
