"""Train the encoder's search: pictures -> tiles -> labels by the exhaustive oracle -> small nets -> hooks.

Importing this loads no torch, Lightning, datasets or wandb; the names below resolve on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "HeuristicHooks": "pc15.hooks.heuristic",
    "LabelFolder": "pc15learn.labels.read",
    "LabelOptions": "pc15learn.labels.write",
    "PathsConfig": "pc15.paths",
    "TileRow": "pc15learn.schema",
    "encode_y_with_hooks": "pc15.encoder",
    "env_summary": "pc15.runtime.device",
    "export_weights": "pc15learn.export",
    "fit_role": "pc15learn.fit",
    "make_features": "pc15learn.features",
    "make_labels": "pc15learn.labels.write",
    "make_tiles": "pc15learn.tiles",
    "run_bench": "pc15learn.bench",
}
_MODULES = (
    "bench",
    "cli",
    "config",
    "dataset",
    "demo",
    "export",
    "features",
    "fit",
    "labels",
    "roles",
    "schema",
    "runner",
    "tiles",
)

__all__ = [
    "HeuristicHooks",
    "LabelFolder",
    "LabelOptions",
    "PathsConfig",
    "TileRow",
    "encode_y_with_hooks",
    "env_summary",
    "export_weights",
    "fit_role",
    "make_features",
    "make_labels",
    "make_tiles",
    "run_bench",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
