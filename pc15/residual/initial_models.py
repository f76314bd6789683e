"""Where the adaptive models start: trained tables for a few steps, interpolated in between, in integers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError, MissingTableError
from pc15.residual.context_models import FROZEN, HALF_CONTEXT, MIX_RATE, STRETCH, WEIGHT_ONE
from pc15.residual.patterns import DAMAGE, SQUARES_FILE
from pc15.residual.syntax import CONTEXTS, OLD_CONTEXTS, OLD_WEIGHT_SETS, W_TREE, WEIGHT_SETS

Ints = npt.NDArray[Any]

Contexts = Literal["mixed", "first", "untrained"]
"""How decisions are predicted: by four contexts each, mixed, as streams are; in studies by the first of them alone, or
by four that start without having been trained."""

START_FILE = Path(__file__).with_name("v15_default.npz")
TRAINED_STEPS = (6, 12, 18, 24, 30, 38)
"""Quantizer indices that have tables of their own."""


def flat_models() -> Ints:
    """Untrained models: every chance one half, never used; weights that add up to 1.2."""
    m = np.zeros((CONTEXTS + WEIGHT_SETS, 4), np.int32)
    m[:CONTEXTS, 0] = 32768
    m[HALF_CONTEXT, 1], m[HALF_CONTEXT, 3] = FROZEN, MIX_RATE
    m[CONTEXTS:] = WEIGHT_ONE * 3 // 10
    m[len(m) - 1 - W_TREE] = WEIGHT_ONE, 0, 0, 0  # decisions of one context, which training leaves as it counts
    return m


def _read(path: Path, contexts: int, sets: int) -> tuple[Ints, Ints, Ints]:
    """Of a file's models chances and uses, [anchors, contexts] int32, and weights, [anchors, sets, 4] int32."""
    try:
        with np.load(path, allow_pickle=False) as table:
            p, uses, weights = (table[name].astype(np.int32) for name in ("p", "uses", "weights"))
    except DAMAGE as error:
        raise MissingTableError(f"residual start table {path.name} is missing or damaged: {error}") from error
    if p.shape != (len(TRAINED_STEPS), contexts) or weights.shape != (len(TRAINED_STEPS), sets, 4):
        raise MissingTableError(f"residual start table {path.name} is for another syntax; reinstall pc15")
    return p, uses, weights


def _without_patterns() -> Ints:
    """[anchors, C + S, 4] int32: (p, uses, 0, 0) per context, then the weights, last set first; flat for patterns."""
    models = np.stack([flat_models() for _ in TRAINED_STEPS])
    p, uses, weights = _read(START_FILE, OLD_CONTEXTS, OLD_WEIGHT_SETS)
    models[:, :OLD_CONTEXTS, 0], models[:, :OLD_CONTEXTS, 1], models[:, -OLD_WEIGHT_SETS:] = p, uses, weights
    models[:, HALF_CONTEXT, 3] = MIX_RATE
    return models


@functools.cache
def _trained() -> Ints:
    """The same, and what patterns start with, which stands beside their codebook."""
    models = _without_patterns()
    p, uses, weights = _read(SQUARES_FILE, CONTEXTS - OLD_CONTEXTS, WEIGHT_SETS - OLD_WEIGHT_SETS)
    models[:, OLD_CONTEXTS:CONTEXTS, 0], models[:, OLD_CONTEXTS:CONTEXTS, 1] = p, uses
    models[:, CONTEXTS:-OLD_WEIGHT_SETS] = weights
    return models


def models_without_patterns(step: int) -> Ints:
    """Models of one of TRAINED_STEPS with all but patterns trained, to train those with, [C + S, 4] int32."""
    return ready(_without_patterns()[TRAINED_STEPS.index(step)])


def start_models(step: int, contexts: Contexts = "mixed") -> Ints:
    """Models to code a plane of this quantizer index with, [C + S, 4] int32, a fresh copy.

    Raises:
        ConfigError: no such way to use contexts.
    """
    if contexts == "untrained":
        return ready(flat_models())
    if contexts not in get_args(Contexts):
        raise ConfigError(f"contexts is {contexts!r}; choose one of {', '.join(get_args(Contexts))}")
    models = _between(step).copy()
    if contexts == "first":
        models[CONTEXTS:], models[HALF_CONTEXT, 3] = (WEIGHT_ONE, 0, 0, 0), 0
    return models


@functools.cache
def _between(step: int) -> Ints:
    """Trained models of a quantizer index, interpolated."""
    tables = _trained()
    after = int(np.searchsorted(TRAINED_STEPS, step))
    if after == 0 or after == len(TRAINED_STEPS):
        return ready(tables[min(after, len(TRAINED_STEPS) - 1)].copy())
    low, high = TRAINED_STEPS[after - 1], TRAINED_STEPS[after]
    mixed = tables[after - 1].astype(np.int64) * (high - step) + tables[after].astype(np.int64) * (step - low)
    models: Ints = (mixed // (high - low)).astype(np.int32)
    models[HALF_CONTEXT, 1] = FROZEN
    return ready(models)


def ready(models: Ints) -> Ints:
    """The same models with what the coder looks up of each counter."""
    models[:CONTEXTS, 2] = STRETCH[models[:CONTEXTS, 0] >> 4]
    return models


def save_trained(models: Ints, path: Path = START_FILE) -> None:
    """Write tables [anchors, C + S, 4] as `_trained` reads them."""
    np.savez_compressed(
        path,
        p=models[:, :OLD_CONTEXTS, 0].astype(np.uint16),
        uses=models[:, :OLD_CONTEXTS, 1].astype(np.uint8),
        weights=models[:, -OLD_WEIGHT_SETS:].astype(np.int32),
    )
