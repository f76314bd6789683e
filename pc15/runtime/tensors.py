"""torch, for the parts that need it: loaded when the first of them runs, and asked for by name where it is missing."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeGuard

from pc15.extras import needed_for
from pc15.runtime.parallel import adopt_torch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["has_torch", "is_tensor", "load_torch", "torch"]


def has_torch() -> bool:
    """True where torch is installed; it need not be loaded."""
    return importlib.util.find_spec("torch") is not None


def is_tensor(value: object) -> TypeGuard[Tensor]:
    """True for a tensor of torch, which is not loaded for that: whoever has a tensor has loaded it."""
    kind: Any = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(value, kind)


def load_torch(what: str) -> ModuleType:
    """The module torch, loaded for something that a message can name, such as "a stream with tile programs".

    Raises:
        MissingExtraError: it is not installed.   DeviceError: as `check_fork`.
    """
    with needed_for(what):
        import torch
    adopt_torch()
    return torch


class _Torch:
    """The module torch, loaded when something of it is first used.

    Files that say what a pattern is also say how it is drawn; who reads a stream asks the first alone, and waits for
    torch no second.
    """

    def __getattr__(self, name: str) -> Any:
        """A name of torch, looked up once.

        Raises:
            MissingExtraError: it is not installed.
        """
        value = getattr(load_torch("drawing patterns"), name)
        setattr(self, name, value)
        return value


if not TYPE_CHECKING:
    torch = _Torch()
