"""Loops that run as plain Python until compiling them pays: a picture without residual decodes before numba has loaded.

Both ways are the same function, over Python's numbers or the machine's: it may use one-dimensional arrays, ints that
stay within 64 bits, floats, and functions that its decorator names.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

_PLAIN_STEPS = 1 << 16
"""Steps of loops after which a process loads numba for them: about a quarter of its time in plain Python by then."""


class TieredJit:
    """A loop that is interpreted first and compiled later; its first argument has an entry per step."""

    steps: ClassVar[int] = 0
    """Steps that this process has made in plain Python, of all loops together."""

    def __init__(self, plain: Callable[..., Any], helpers: tuple[Callable[..., Any], ...]) -> None:
        functools.update_wrapper(self, plain)
        self.plain, self._helpers = plain, helpers

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        """The loop by numba, without the GIL."""
        from numba.extending import register_jitable

        from pc15.runtime.jit import jit_entry

        for helper in self._helpers:
            register_jitable(helper)
        return jit_entry(error_model="numpy", allocates=False)(self.plain)  # type: ignore[no-any-return]

    def as_written(self, *arguments: Any) -> Any:
        """The loop in plain Python: items of a memoryview are plain ints, several times faster than NumPy's."""
        return self.plain(*(a.data if isinstance(a, np.ndarray) else a for a in arguments))

    def __call__(self, *arguments: Any) -> Any:
        if "compiled" not in self.__dict__ and sys.modules.get("numba") is None and TieredJit.steps < _PLAIN_STEPS:
            TieredJit.steps += len(arguments[0])
            return self.as_written(*arguments)
        return self.compiled(*arguments)


def tiered_jit(*helpers: Callable[..., Any]) -> Callable[[Callable[..., Any]], TieredJit]:
    """Decorate a loop as a `TieredJit`; `helpers` are the plain functions of its own folder that it calls."""
    return lambda plain: TieredJit(plain, helpers)
