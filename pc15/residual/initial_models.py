"""Where the adaptive models start: trained tables for a few steps, interpolated in between, in integers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError, MissingTableError
from pc15.residual.context_models import FROZEN, HALF_CONTEXT, MIX_RATE, STRETCH, WEIGHT_ONE
from pc15.residual.syntax import CONTEXTS, WEIGHT_SETS
from pc15.residual.tools import TRELLIS

Ints = npt.NDArray[Any]

Contexts = Literal["mixed", "first", "untrained"]
"""How decisions are predicted: by four contexts each, mixed, as streams are; in studies by the first of them alone, or
by four that start without having been trained."""

START_FILES = {0: Path(__file__).with_name("v15_default.npz"), TRELLIS: Path(__file__).with_name("v15_trellis.npz")}
"""Tables by the tools that they are for."""
TRAINED_STEPS = (6, 12, 18, 24, 30, 38)
"""Quantizer indices that have tables of their own."""


def flat_models() -> Ints:
    """Untrained models: every chance one half, never used; weights that add up to 1.2."""
    m = np.zeros((CONTEXTS + WEIGHT_SETS, 4), np.int32)
    m[:CONTEXTS, 0] = 32768
    m[HALF_CONTEXT, 1], m[HALF_CONTEXT, 3] = FROZEN, MIX_RATE
    m[CONTEXTS:] = WEIGHT_ONE * 3 // 10
    return m


@functools.cache
def _trained(file: Path) -> Ints:
    """[anchors, C + S, 4] int32: (p, uses, 0, 0) per context, then the weights, last set first.

    A file may end before the last contexts and weight sets: those that it lacks start untrained.
    """
    try:
        with np.load(file, allow_pickle=False) as table:
            p, uses, weights = (table[name].astype(np.int32) for name in ("p", "uses", "weights"))
    except (OSError, ValueError, KeyError) as error:
        raise MissingTableError(f"residual start table {file.name} is missing or damaged: {error}") from error
    anchors = len(TRAINED_STEPS)
    models = np.repeat(flat_models()[None], anchors, 0)
    contexts, sets = p.shape[-1], weights.shape[1] if weights.ndim == 3 else 0
    if (
        p.shape != (anchors, contexts) or uses.shape != p.shape or weights.shape != (anchors, sets, 4)
        or contexts > CONTEXTS or sets > WEIGHT_SETS
    ):  # fmt: skip
        raise MissingTableError(f"residual start table {file.name} is for another syntax; reinstall pc15")
    models[:, :contexts, 0], models[:, :contexts, 1] = p, uses
    models[:, len(models[0]) - sets :] = weights
    models[:, HALF_CONTEXT, 3] = MIX_RATE
    return models


def start_models(step: int, tools: int, contexts: Contexts = "mixed") -> Ints:
    """Models to code a plane of this quantizer index and these tools with, [C + S, 4] int32, a fresh copy.

    Raises:
        ConfigError: no such way to use contexts.
    """
    if contexts == "untrained":
        return ready(flat_models())
    if contexts not in get_args(Contexts):
        raise ConfigError(f"contexts is {contexts!r}; choose one of {', '.join(get_args(Contexts))}")
    models = _between(step, START_FILES[tools & TRELLIS]).copy()
    if contexts == "first":
        models[CONTEXTS:], models[HALF_CONTEXT, 3] = (WEIGHT_ONE, 0, 0, 0), 0
    return models


@functools.cache
def _between(step: int, file: Path) -> Ints:
    """Trained models of a quantizer index, interpolated."""
    tables = _trained(file)
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


def save_trained(models: Ints, path: Path) -> None:
    """Write tables [anchors, C + S, 4] as `_trained` reads them."""
    np.savez_compressed(
        path,
        p=models[:, :CONTEXTS, 0].astype(np.uint16),
        uses=models[:, :CONTEXTS, 1].astype(np.uint8),
        weights=models[:, CONTEXTS:].astype(np.int32),
    )
