"""Train the encoder's search: pictures -> tiles -> labels by the exhaustive oracle -> small nets -> hooks.

Importing this loads no torch, Lightning, datasets or wandb; the names below resolve on first use.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "LabelFolder": "labels.read",
    "LabelOptions": "labels.write",
    "TileRow": "schema",
    "export_weights": "export",
    "fit_role": "fit",
    "make_labels": "labels.write",
    "make_tiles": "tiles",
    "run_bench": "bench",
}
_MODULES = (
    "bench",
    "cli",
    "config",
    "dataset",
    "demo",
    "export",
    "fit",
    "labels",
    "roles",
    "schema",
    "runner",
    "tiles",
)

__all__ = [
    "LabelFolder",
    "LabelOptions",
    "TileRow",
    "export_weights",
    "fit_role",
    "make_labels",
    "make_tiles",
    "run_bench",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME, *_MODULES])
