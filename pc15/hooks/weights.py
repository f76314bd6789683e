"""Weights of learned hooks: a safetensors file and the YAML card beside it -> a net that the encoder can ask.

Weights are never trusted: file and card are hashed, shaped and version-checked when they are loaded, nothing is ever
unpickled.  What does not fit costs one `HooksWarning` and that predictor's opinion, not the encode; `strict=True`
makes it a `HooksError`.
"""

from __future__ import annotations

import abc
import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from pc15.bitstream.programs import MAX_PARAMS
from pc15.errors import ConfigError, HooksError, MissingTableError, shown
from pc15.hooks.inputs import INPUT_VERSION
from pc15.paths import read_bounded
from pc15.proc.codebook import OFFSET_MAX, Codebook, load_codebook
from pc15.proc.generators import NAMES, load
from pc15.search.bank import Bank
from pc15.yaml_files import read_yaml

__all__ = [
    "CARD_VERSION",
    "METADATA_KEY",
    "HooksWarning",
    "Predictor",
    "Slot",
    "TensorSpec",
    "all_numbers",
    "card_path",
    "codec_fingerprint",
    "metadata_of",
    "read_role",
]

Slot = Literal["selector", "param_predictor", "rd_predictor", "squares"]
"""Places in `AiHooks` that a predictor can take."""

TensorSpec = dict[str, tuple[torch.dtype, tuple[int, ...]]]
"""Type and shape of every tensor of a weights file, by name."""

_LARGEST = 1e300  # an int beyond all floats fails the comparison, too; a nan always does
CARD_VERSION = 2
METADATA_KEY = "pc15"
MAX_WEIGHT_BYTES = 1 << 28
_HIDDEN_MAX = 1008
"""Most units of a layer: so many inputs, and NUMBERS more, have exact products on every device."""
_LEAST_BYTES = 4
"""Bytes that a net's smallest layer has for each of its units."""
# What safetensors raises on damaged files and on types that torch lacks, and json on its metadata.
_NOT_WEIGHTS = (
    safetensors.SafetensorError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, OverflowError
)  # fmt: skip


class HooksWarning(UserWarning):
    """Weights could not be used; the encoder searches without that hook."""


def card_path(weights: str | Path) -> Path:
    """The YAML that goes with a weights file: the same name with the suffix .yaml."""
    return Path(weights).with_suffix(".yaml")


def codec_fingerprint(codebook: Codebook) -> str:
    """SHA-256 of what a net's outputs mean: generators, their parameters and levels, and the codebook."""
    meaning = [
        [g.name, g.seeds, [[p.name, p.lo, p.hi, p.levels, p.log, p.periodic, p.kind] for p in g.params]]
        for g in (load(gen) for gen in range(len(NAMES)))
    ]
    text = json.dumps([meaning, MAX_PARAMS, OFFSET_MAX, codebook.fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- weights and their card


@dataclass(frozen=True)
class _Loaded:
    """One role, ready: its tensors, its card, its codebook."""

    tensors: Mapping[str, Tensor]
    card: Mapping[str, Any]


def _load(weights: Path, kind: type[Predictor]) -> _Loaded:
    """Read and check one predictor's files.

    Raises:
        HooksError: missing, damaged, or made for another codec, codebook, version of inputs or role.
    """
    path, role = card_path(weights), kind.role
    card = _read_card(path)
    if card["role"] != role:
        raise HooksError(f"{path} is a card of role {card['role']!r}, not {role!r}; give it to that hook")
    if (problem := kind.card_problem(card)) is not None:
        raise HooksError(f"{path}: {problem}; export again")
    if card["card"] != CARD_VERSION or card["input_version"] != kind.input_version:
        raise HooksError(
            f"{path} was made for card version {card['card']} and inputs {card['input_version']}; this build has "
            f"{CARD_VERSION} and {kind.input_version}: fit and export again"
        )
    codebook, codec = kind.made_for(card["codebook"]["id"])
    for what, found, expected in (
        ("codebook", card["codebook"]["fingerprint"], codebook),
        ("codec", card["codec"], codec),
    ):
        if found != expected:
            raise HooksError(
                f"{path} was made for another {what} (fingerprint {found[:12]}, this build has {expected[:12]}); "
                "label, fit and export again"
            )
    data = _read_bytes(weights, MAX_WEIGHT_BYTES)
    if (digest := hashlib.sha256(data).hexdigest()) != card["sha256"]:
        raise HooksError(
            f"{weights} has SHA-256 {digest[:12]}, its card says {card['sha256'][:12]}; "
            "the file is damaged or belongs to another card: export again"
        )
    hidden = card["net"]["hidden"]
    if len(data) < _LEAST_BYTES * hidden:
        raise HooksError(f"{weights} has {len(data)} bytes, too few for {hidden} units per layer; export again")
    try:
        state = safetensors.torch.load(data)
        stated = metadata_of(data)
    except _NOT_WEIGHTS as error:
        raise HooksError(f"{weights} is not a safetensors file: {error}; export again") from error
    if stated.get("role") != role or stated.get("codec") != card["codec"]:
        raise HooksError(f"{weights} and {path.name} do not belong together; export again")
    _check_tensors(kind.tensors(hidden), state, weights)
    return _Loaded(state, card)


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        return read_bounded(path, limit)
    except OSError as error:
        raise HooksError(f"cannot read {path}: {error.strerror or error}; check the path, or export again") from error


def metadata_of(data: bytes) -> dict[str, Any]:
    """The JSON under METADATA_KEY in the header of safetensors bytes, checked to be whole by their loader."""
    length = int.from_bytes(data[:8], "little")
    stated = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA_KEY])
    if not isinstance(stated, dict):
        raise ValueError(f"its metadata {METADATA_KEY!r} is no JSON object")
    return stated


def _check_tensors(needed: TensorSpec, state: dict[str, Tensor], weights: Path) -> None:
    for name in sorted(needed.keys() | state.keys()):
        if name not in needed or name not in state:
            which = "no" if name in needed else "an unknown"
            raise HooksError(f"{weights} has {which} tensor {name!r}; it was made by another version: export again")
        found, (dtype, shape) = state[name], needed[name]
        if tuple(found.shape) != shape or found.dtype != dtype:
            raise HooksError(
                f"{weights}: tensor {name!r} is {found.dtype} {list(found.shape)}, {dtype} {list(shape)} is needed; "
                "export again"
            )


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "card": int,
    "name": str,
    "version": str,
    "role": str,
    "input_version": int,
    "codec": str,
    "codebook": dict,
    "net": dict,
    "sha256": str,
}


def read_role(path: Path, known: Collection[str]) -> str:
    """The role that a card names.

    Raises:
        HooksError: no card, or no known role in it.
    """
    role = _read_mapping(path).get("role")
    if not isinstance(role, str) or role not in known:
        raise HooksError(f"{path} has role {shown(role)}; it must be one of {', '.join(known)}: export again")
    return role


def _read_mapping(path: Path) -> dict[str, Any]:
    """A card's YAML, whatever its fields."""
    try:
        card = read_yaml(path)
    except OSError as error:
        raise HooksError(f"cannot read {path}: {error.strerror or error}; check the path, or export again") from error
    except ConfigError as error:
        raise HooksError(f"{error}; export again") from error
    if not isinstance(card, dict):
        raise HooksError(f"{path} is no card of weights, a mapping is expected; export again")
    return card


def _read_card(path: Path) -> dict[str, Any]:
    """A card whose fields have the right types and lengths."""
    card = _read_mapping(path)
    for name, kind in _FIELDS.items():
        if not isinstance(card.get(name), kind):
            raise HooksError(f"{path}: field {name!r} is missing or of the wrong type; export again")
    for part, names in (("codebook", ("id", "fingerprint")), ("net", ("hidden",))):
        for name in names:
            value = card[part].get(name)
            good = isinstance(value, str)
            if name == "hidden":
                good = type(value) is int and 1 <= value <= _HIDDEN_MAX
            if not good:
                raise HooksError(f"{path}: {part}.{name} is missing or out of range; export again")
    return card


def all_numbers(value: Any, count: int | None = None) -> bool:
    """A list of finite numbers, of that length."""
    good = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and -_LARGEST < v < _LARGEST for v in value
    )
    return good and (count is None or len(value) == count)


class Predictor(abc.ABC):
    """One learned role in the encoder: its weights, loaded with one warning at most, and a net per device.

    A subclass sets `role`, the name in cards and configs; `title`, a short name for tables; `slot`, its place in
    `AiHooks`; and `card_extra`, the card's fields beyond those that all have, in their order.

    Args:
        weights: a .safetensors file with its .yaml beside it.
        strict: raise `HooksError` instead of warning and staying silent.
    """

    role: ClassVar[str]
    title: ClassVar[str]
    slot: ClassVar[Slot]
    card_extra: ClassVar[tuple[str, ...]] = ()
    input_version: ClassVar[int] = INPUT_VERSION

    def __init__(self, weights: str | Path, *, strict: bool = False) -> None:
        self.weights = Path(weights)
        self.strict = strict
        self.problem: str | None = None
        self._loaded: _Loaded | None = None
        self._moved: dict[torch.device, Any] = {}
        try:
            self._loaded = _load(self.weights, type(self))
        except HooksError as error:
            self._give_up(str(error))

    def _give_up(self, problem: str) -> None:
        """Raise, or warn once and stay silent from now on."""
        if self.strict:
            raise HooksError(problem)
        self.problem, self._loaded = problem, None
        warnings.warn(f"encoding without the {self.role} hook: {problem}", HooksWarning, stacklevel=4)

    @staticmethod
    @abc.abstractmethod
    def make_net(*, hidden: int, **facts: Any) -> nn.Module:
        """An untrained net of so many units per layer."""

    @staticmethod
    @abc.abstractmethod
    def tensors(hidden: int) -> TensorSpec:
        """Tensors of a weights file of so many units per layer."""

    @classmethod
    def card_problem(cls, card: Mapping[str, Any]) -> str | None:
        """Say which of the fields in `card_extra` cannot be used; None if all can."""
        return None

    @classmethod
    def made_for(cls, codebook_id: str) -> tuple[str, str]:
        """Fingerprints of a codebook, and of all that a net's outputs mean with it, in this build.

        Raises:
            HooksError: no such codebook.
        """
        try:
            codebook = load_codebook(codebook_id)
        except MissingTableError as error:
            raise HooksError(f"the {cls.role} hook needs codebook {codebook_id!r}: {error}") from error
        return codebook.fingerprint, codec_fingerprint(codebook)

    @property
    def ready(self) -> bool:
        """Tell if the weights could be used."""
        return self._loaded is not None

    @property
    def card(self) -> Mapping[str, Any] | None:
        """The YAML beside the weights, None if they could not be used."""
        return None if self._loaded is None else self._loaded.card

    def usable(self, candidates: Bank) -> bool:
        """Tell if the weights fit these candidates; the first that do not cost the warning."""
        if self.card is not None and tuple(candidates.start) != _rows_of(load_codebook(self.card["codebook"]["id"])):
            self._give_up(
                f"{self.weights} was made for codebook {self.card['codebook']['id']!r}, the encoder's has other "
                "entries; encode with that codebook_id, or label and fit for this one"
            )
        return self._loaded is not None

    def ready_on(self, device: torch.device, kind: Callable[[Mapping[str, Tensor], torch.device], Any]) -> Any:
        """The net on a device, made by `kind` from its tensors when it is first needed there."""
        if device not in self._moved:
            assert self._loaded is not None, "asked without weights"
            self._moved[device] = kind(self._loaded.tensors, device)
        return self._moved[device]

    @property
    def loaded(self) -> Mapping[str, Tensor]:
        """Tensors of the weights, which could be used."""
        assert self._loaded is not None, "asked without weights"
        return self._loaded.tensors


@functools.lru_cache(maxsize=4)
def _rows_of(codebook: Codebook) -> tuple[int, ...]:
    """`Bank.start` of a codebook."""
    starts = [0]
    for gen in range(len(NAMES)):
        starts.append(starts[-1] + codebook.size(gen) * load(gen).seeds)
    return tuple(starts)
