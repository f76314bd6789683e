"""`pc15.learn` is `pc15learn`, the toolkit that trains the encoder's hooks: one module under two names."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

import pc15learn


class _Alias(MetaPathFinder, Loader):
    """Finds `pc15.learn.x` as `pc15learn.x`, so that no file is run twice under two names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname.startswith(f"{__name__}.") else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(f"pc15learn{module.__name__[len(__name__) :]}")


sys.meta_path.insert(0, _Alias())
sys.modules[__name__] = pc15learn
