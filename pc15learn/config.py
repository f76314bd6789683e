"""Options of a fit: configs/learn/*.yaml -> `FitConfig`.

One YAML per role.  Its keys are the fields of `FitConfig` and `TrainConfig`, where types and defaults live; a wrong
one is named before anything is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pc15.config_files import config_names, find_config
from pc15.errors import ConfigError, did_you_mean, shown
from pc15.yaml_files import parse_yaml, read_yaml

__all__ = ["DeviceName", "FitConfig", "LoggerName", "PrecisionName", "TrainConfig", "load_config", "parse_settings"]

LoggerName = Literal["none", "csv", "tensorboard", "wandb"]
DeviceName = Literal["auto", "cpu", "cuda"]
PrecisionName = Literal["32", "bf16", "16"]


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of training a net; what it becomes follows from them, from the labels and from the precision.

    Args:
        hidden: units per layer.   lr, weight_decay: of AdamW.
        batch_size: items per step, shared out among all GPUs.
        max_epochs: passes over the train split.   seed: of weights and batches.
        temperature: softness of labels, as a share of a layer's gain.
        patience: epochs without a better val/loss before the fit stops early; 0 for never.
        items: rows per epoch of a fit by `online`.
    """

    hidden: int = 128
    lr: float = 3e-4
    weight_decay: float = 1e-2
    batch_size: int = 1024
    max_epochs: int = 30
    seed: int = 1234
    temperature: float = 0.05
    patience: int = 0
    items: int = 1 << 20

    def __post_init__(self) -> None:
        for name, low, high in (
            ("hidden", 2, 1008),
            ("lr", 1e-8, 1.0),
            ("weight_decay", 0.0, 1.0),
            ("batch_size", 1, 1 << 20),
            ("max_epochs", 1, 100_000),
            ("seed", 0, (1 << 31) - 1),
            ("temperature", 1e-4, 10.0),
            ("patience", 0, 100_000),
            ("items", 1, 1 << 40),
        ):
            _check_number(f"train.{name}", getattr(self, name), low, high)


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """One fit.

    Args:
        role: a key of `pc15.hooks.roles.ROLES`.
        labels: folder that `pc15learn label` wrote; with `online`, of photographs.
        online: search random crops of the photographs while the net trains, on its device, instead of reading labels.
        lambdas: rates to search them at.
        name: of the net; its checkpoints go to <out>/<name>/.
        out: folder of all checkpoints.
        logger: "none", "csv", "tensorboard", or "wandb", which obeys its own variables (WANDB_MODE, WANDB_PROJECT).
        device: "auto", "cpu" or "cuda".
        devices: how many GPUs of this machine, or processes on the CPU; more than one work by DDP.
        num_nodes: how many machines, each with so many devices.
        precision: "32", or "bf16" or "16" for mixed precision; "16" needs a GPU.
        save_minutes: most minutes between two checkpoints; there is one after every epoch in any case.
    """

    role: str
    labels: Path
    name: str = ""
    out: Path = Path("checkpoints")
    online: bool = False
    lambdas: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5, 0.25)
    logger: LoggerName = "none"
    device: DeviceName = "auto"
    devices: int = 1
    num_nodes: int = 1
    precision: PrecisionName = "32"
    save_minutes: float = 10.0
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        from pc15.hooks.roles import ROLES  # loads torch, which the command line does without until a fit

        precision: object = self.precision
        if precision in (16, 32):  # YAML reads 32 as a number
            object.__setattr__(self, "precision", str(precision))
        for name, value, known in (
            ("role", self.role, tuple(ROLES)),
            ("logger", self.logger, get_args(LoggerName)),
            ("device", self.device, get_args(DeviceName)),
            ("precision", self.precision, get_args(PrecisionName)),
        ):
            if value not in known:
                near = did_you_mean(value[:80], known) if isinstance(value, str) else ""
                raise ConfigError(f"{name} is {shown(value)}; choose one of {', '.join(known)}{near}")
        if not isinstance(self.online, bool):
            raise ConfigError(f"online is {shown(self.online)}; give true or false")
        if not isinstance(self.lambdas, list | tuple) or not self.lambdas:
            raise ConfigError(f"lambdas is {shown(self.lambdas)}; give a list of rates, as [4, 2, 1, 0.5, 0.25]")
        for rate in self.lambdas:
            _check_number("lambdas", rate, 1e-6, 1e6)
        object.__setattr__(self, "lambdas", tuple(float(rate) for rate in self.lambdas))
        _check_number("devices", self.devices, 1, 1024)
        _check_number("num_nodes", self.num_nodes, 1, 4096)
        _check_number("save_minutes", self.save_minutes, 0.0, 1e6)
        for name, types in (("labels", str | Path), ("out", str | Path), ("name", str)):
            value = getattr(self, name)
            if not isinstance(value, types) or "\0" in str(value):
                raise ConfigError(f"{name} is {shown(value)}; give text, in quotes if it looks like a number")
        if self.name in (".", "..") or any(mark in self.name for mark in "/\\"):
            raise ConfigError(f"name is {shown(self.name)}; give the name of a folder in {self.out}, not a path")
        object.__setattr__(self, "labels", Path(self.labels))
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "name", self.name or self.role)

    @property
    def ranks(self) -> int:
        """Processes that train together."""
        return self.devices * self.num_nodes

    @property
    def folder(self) -> Path:
        """Folder of this fit's checkpoints."""
        return self.out / self.name

    def as_dict(self) -> dict[str, Any]:
        """Plain values, as `load_config` reads them."""
        return {
            **dataclasses.asdict(self),
            "labels": str(self.labels),
            "out": str(self.out),
            "lambdas": list(self.lambdas),
        }


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    """Refuse what is no number of that range; whole, where `low` is."""
    kind = int if isinstance(low, int) else (int, float)
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        number = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{name} is {shown(value)}; give {number} from {low} to {high}")


def load_config(path: str | Path, **changes: Any) -> FitConfig:
    """A fit's YAML, with options changed; `train` takes a dict of changes.

    Args:
        path: of a file, or the name of a packaged config: selector, params, rd, squares.
    Raises:
        ConfigError: no such file or config, not YAML, an unknown key or a value out of range.
    """
    path = find_config(path, "learn")
    try:
        stored = read_yaml(path)
    except OSError as error:
        names, why = ", ".join(config_names("learn")), error.strerror or error
        raise ConfigError(f"cannot read {path}: {why}; give the path of a YAML file, or one of {names}") from error
    if not isinstance(stored, dict):
        raise ConfigError(f"{path} holds no keys; give `key: value` lines, such as role: selector")
    train = {**_mapping(stored.pop("train", {}), path), **changes.pop("train", {})}
    merged = {**stored, **{key: value for key, value in changes.items() if value is not None}}
    for prefix, given in (("", merged), ("train.", train)):
        for key in (key[:80] if isinstance(key, str) else shown(key) for key in given):
            if f"{prefix}{key}" not in _keys():
                raise ConfigError(f"{path}: unknown key {prefix}{key}{_near(f'{prefix}{key}')}")
    for key in ("role", "labels"):
        if key not in merged:
            raise ConfigError(f"{path} has no {key!r}; a config names its role and its labels")
    return FitConfig(**_numbers(merged), train=TrainConfig(**_numbers(train)))


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """Changes that `load_config` takes, from texts KEY=VALUE such as train.lr=1e-3; the last of a key counts.

    Raises:
        ConfigError: no "=", an unknown key, or a value that is not YAML.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        key = key.strip()
        if not equals:
            raise ConfigError(f"--set {setting}: give KEY=VALUE, such as train.lr=1e-3")
        if key not in _keys():
            raise ConfigError(f"--set {setting}: unknown key {key}{_near(key) or '; keys: ' + ', '.join(_keys())}")
        value = parse_yaml(text, f"--set {setting}: the value")
        if value is None:
            raise ConfigError(f"--set {setting}: {key} gets no value; give KEY=VALUE, such as train.lr=1e-3")
        outer, dot, inner = key.partition(".")
        if dot:
            changes.setdefault(outer, {})[inner] = value
        else:
            changes[key] = value
    return changes


def _keys() -> tuple[str, ...]:
    """All keys of a config, those of `TrainConfig` as train.KEY."""
    own = [f.name for f in dataclasses.fields(FitConfig) if f.name != "train"]
    return (*own, *(f"train.{f.name}" for f in dataclasses.fields(TrainConfig)))


def _near(key: str) -> str:
    """Offer the key whose own name, before and after a dot alike, is nearest."""
    names = {known.rpartition(".")[2]: known for known in _keys()}
    inner = key.rpartition(".")[2]
    near = inner if inner in names else did_you_mean(inner, names).removeprefix("; did you mean ").removesuffix("?")
    return f"; did you mean {names[near]}?" if near else ""


def _numbers(given: dict[str, Any]) -> dict[str, Any]:
    """The same with texts such as "1e-3", which YAML does not take for a number, as numbers where one is wanted."""
    wanted = {f.name for kind in (FitConfig, TrainConfig) for f in dataclasses.fields(kind) if f.type == "float"}
    return {key: _number(value) if key in wanted else value for key, value in given.items()}


def _number(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        return value  # refused by its range check, which names the key


def _mapping(value: Any, path: Path) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: train is {shown(value)}; write it as keys, like train: {{lr: 3.0e-4}}")
    return value
