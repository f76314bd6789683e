"""Where the adaptive models start: trained tables for a few steps, interpolated in between, in integers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError, MissingTableError
from pc15.residual.context_models import FROZEN, HALF_CONTEXT, MIX_RATE, STRETCH, WEIGHT_ONE
from pc15.residual.contexts import CONTEXTS, CONTEXTS_OF, SETS_OF, W_TREE, WEIGHT_SETS
from pc15.residual.order import BORDERS_FILE, trained_terms
from pc15.residual.patterns import DAMAGE, SQUARES_FILE
from pc15.residual.tools import BORDERS, CROSS, PATTERNS, SPLITS, TRELLIS

Ints = npt.NDArray[Any]

Contexts = Literal["mixed", "first", "untrained"]
"""Ways to predict decisions: by four contexts each, mixed, as streams are; in studies by the first of them alone, or
by four that start without having been trained."""

START_FILES = {
    0: Path(__file__).with_name("v15_default.npz"),
    TRELLIS: Path(__file__).with_name("v15_trellis.npz"),
    PATTERNS: SQUARES_FILE,
    CROSS: Path(__file__).with_name("v15_chroma.npz"),
    SPLITS: Path(__file__).with_name("v15_splits.npz"),
    BORDERS: BORDERS_FILE,
}
"""Tables by the tools that they are for."""
_PARTS = {
    0: (0,),
    TRELLIS: (0, TRELLIS),
    PATTERNS: (PATTERNS,),
    CROSS: (0, CROSS),
    SPLITS: (SPLITS,),
    BORDERS: (0, TRELLIS, PATTERNS, SPLITS, BORDERS),
}
"""And the models that each holds, one after the other: of what all streams have (0), and of what a tool adds."""
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


def part_of(models: Ints, part: int) -> tuple[Ints, Ints]:
    """Views of models [..., C + S, 4]: the contexts that a tool adds (0: those of all streams), and its weights."""
    (first, stop), (low, high) = CONTEXTS_OF[part], SETS_OF[part]
    end = CONTEXTS + WEIGHT_SETS
    return models[..., first:stop, :], models[..., end - high : end - low, :]


def replace_part(models: Ints, part: int, source: Ints) -> None:
    """Take the models of a part from `source`."""
    for place, values in zip(part_of(models, part), part_of(source, part), strict=True):
        place[:] = values


@functools.cache
def _table(file: Path, *parts: int) -> tuple[tuple[Ints, Ints], ...]:
    """Contexts and weights, [anchors, n, 4] int32, of each of these parts, which a file holds one after the other."""
    try:
        with np.load(file, allow_pickle=False) as table:
            p, uses, weights = (table[name].astype(np.int32) for name in ("p", "uses", "weights"))
    except DAMAGE as error:
        raise MissingTableError(f"residual start table {file.name} is missing or damaged: {error}") from error
    known, sets = (sum(stop - first for first, stop in (of[part] for part in parts)) for of in (CONTEXTS_OF, SETS_OF))
    anchors = len(TRAINED_STEPS)
    if p.shape != (anchors, known) or uses.shape != p.shape or weights.shape != (anchors, sets, 4):
        raise MissingTableError(f"residual start table {file.name} is for another syntax; reinstall pc15")
    counters = np.zeros((anchors, known, 4), np.int32)
    counters[..., 0], counters[..., 1] = p, uses
    found, at = [], 0
    for part in parts:
        (first, stop), (low, high) = CONTEXTS_OF[part], SETS_OF[part]
        found.append((counters[:, at : at + stop - first], weights[:, sets - (high - low) : sets]))
        at, sets = at + stop - first, sets - (high - low)
    return tuple(found)


@functools.cache
def _trained(common: int) -> Ints:
    """[anchors, C + S, 4] int32: (p, uses, 0, 0) per context, then the weights, last set first.

    What a tool adds comes from its own table, and all that the one for the tool `common` holds from that.
    """
    models = np.stack([flat_models()] * len(TRAINED_STEPS))
    for tool, file in START_FILES.items():
        for part, own in zip(_PARTS[tool], _table(file, *_PARTS[tool]), strict=True):
            if part == tool or tool == common:
                for place, values in zip(part_of(models, part), own, strict=True):
                    place[:] = values
    models[:, HALF_CONTEXT, 3] = MIX_RATE
    return models


def start_models(step: int, tools: int, contexts: Contexts = "mixed") -> Ints:
    """Models to code a plane of this quantizer index and these tools with, [C + S, 4] int32, a fresh copy.

    Those that all streams have are learnt from chroma with the tool `cross`, else with `trellis` from levels on one;
    with `trellis` and `borders` together all are learnt with both.

    Raises:
        ConfigError: no such way to use contexts.
    """
    if contexts == "untrained":
        return ready(flat_models())
    if contexts not in get_args(Contexts):
        raise ConfigError(f"contexts is {contexts!r}; choose one of {', '.join(get_args(Contexts))}")
    both = TRELLIS | BORDERS
    common = BORDERS if tools & both == both else tools & CROSS or tools & TRELLIS
    models = _between(step, common).copy()
    if contexts == "first":
        models[CONTEXTS:], models[HALF_CONTEXT, 3] = (WEIGHT_ONE, 0, 0, 0), 0
    return models


def models_without(tool: int, step: int, tools: int) -> Ints:
    """Models for these tools with all trained but what one of them adds, to train that with, [C + S, 4] int32."""
    models = start_models(step, tools & ~tool)
    replace_part(models, tool, flat_models())
    return ready(models)


@functools.cache
def _between(step: int, common: int) -> Ints:
    """Trained models of a quantizer index, interpolated."""
    tables = _trained(common)
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


def arrays_of(models: Ints, tool: int) -> dict[str, Ints]:
    """Arrays of the table for a tool, one of START_FILES, from models [anchors, C + S, 4]; terms of `order` stay."""
    parts = [part_of(models, part) for part in _PARTS[tool]]
    counters = np.concatenate([own for own, _ in parts], axis=1)
    return ({"terms": trained_terms().astype(np.int16)} if tool == BORDERS else {}) | {
        "p": counters[..., 0].astype(np.uint16),
        "uses": counters[..., 1].astype(np.uint8),
        "weights": np.concatenate([own for _, own in reversed(parts)], axis=1).astype(np.int32),
    }


def save_trained(models: Ints, tool: int, path: Path) -> None:
    """Write the table for a tool from models [anchors, C + S, 4]."""
    np.savez_compressed(path, allow_pickle=False, **arrays_of(models, tool))
