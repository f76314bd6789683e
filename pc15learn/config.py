"""Options of a fit: configs/learn/*.yaml -> `FitConfig`.

One YAML per role.  Its keys are the fields of `FitConfig` and `TrainConfig`, where types and defaults live; a wrong
one is named before anything is read.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pc15.errors import ConfigError, did_you_mean, shown
from pc15.yaml_files import read_yaml

__all__ = ["FitConfig", "TrainConfig", "load_config"]

LoggerName = Literal["none", "csv", "wandb"]
DeviceName = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of training a net.

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
                raise ConfigError(f"train.{name} is {shown(value)}; give {number} from {low} to {high}")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """One fit.

    Args:
        role: a key of `pc15.hooks.roles.ROLES`.
        labels: folder that `pc15learn label` wrote.
        name: of the net; its checkpoints go to <out>/<name>/.
        out: folder of all checkpoints.
        logger: "none", "csv", or "wandb" (offline unless wandb is told otherwise).
        device: "auto", "cpu" or "cuda".   devices: how many GPUs, more than one by DDP.
    """

    role: str
    labels: Path
    name: str = ""
    out: Path = Path("checkpoints")
    logger: LoggerName = "none"
    device: DeviceName = "auto"
    devices: int = 1
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        from pc15.hooks.roles import ROLES  # loads torch, which the command line does without until a fit

        for name, value, known in (
            ("role", self.role, tuple(ROLES)),
            ("logger", self.logger, get_args(LoggerName)),
            ("device", self.device, get_args(DeviceName)),
        ):
            if value not in known:
                near = did_you_mean(value[:80], known) if isinstance(value, str) else ""
                raise ConfigError(f"{name} is {shown(value)}; choose one of {', '.join(known)}{near}")
        if isinstance(self.devices, bool) or not isinstance(self.devices, int) or not 0 < self.devices < 1025:
            raise ConfigError(f"devices is {shown(self.devices)}; give a whole number from 1 to 1024")
        for name, kind in (("labels", (str, Path)), ("out", (str, Path)), ("name", str)):
            value = getattr(self, name)
            if not isinstance(value, kind) or "\0" in str(value):
                raise ConfigError(f"{name} is {shown(value)}; give text")
        if self.name in (".", "..") or any(mark in self.name for mark in "/\\"):
            raise ConfigError(f"name is {shown(self.name)}; give the name of a folder in {self.out}, not a path")
        object.__setattr__(self, "labels", Path(self.labels))
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "name", self.name or self.role)


def load_config(path: str | Path, **changes: Any) -> FitConfig:
    """A fit's YAML, with options changed; `train` takes a dict of changes.

    Raises:
        ConfigError: no such file, not YAML, an unknown key or a value out of range.
    """
    path = Path(path)
    try:
        stored = read_yaml(path)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}; see configs/learn/") from error
    if not isinstance(stored, dict):
        raise ConfigError(f"{path} holds no keys; see configs/learn/")
    train = {**_mapping(stored.pop("train", {}), path), **changes.pop("train", {})}
    merged = {**stored, **{key: value for key, value in changes.items() if value is not None}}
    _known(merged, FitConfig, path, "")
    _known(train, TrainConfig, path, "train.")
    for key in ("role", "labels"):
        if key not in merged:
            raise ConfigError(f"{path} has no {key!r}; see configs/learn/")
    return FitConfig(**merged, train=TrainConfig(**train))


def _mapping(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: train is {shown(value)}; write it as keys, like train: {{lr: 3.0e-4}}")
    return value


def _known(given: dict[str, Any], kind: type, path: Path, prefix: str) -> None:
    names = [f.name for f in dataclasses.fields(kind)]
    for key in (key if isinstance(key, str) else shown(key) for key in given):
        if key not in names:
            raise ConfigError(f"{path}: unknown key {prefix}{key[:80]}{did_you_mean(key[:80], names)}")
