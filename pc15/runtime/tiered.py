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

_ENOUGH = 1 << 16
"""Steps of loops after which a process loads numba for them: about a quarter of its time in plain Python by then."""


class Late:
    """One such loop; its first argument has an entry per step."""

    steps: ClassVar[int] = 0
    """How many this process has made in plain Python."""

    def __init__(self, plain: Callable[..., Any], helpers: tuple[Callable[..., Any], ...]) -> None:
        functools.update_wrapper(self, plain)
        self.plain, self._helpers = plain, helpers

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        """The loop by numba, without the GIL."""
        from numba.extending import register_jitable

        from pc15.runtime.jit import entry

        for helper in self._helpers:
            register_jitable(helper)
        return entry(error_model="numpy", _nrt=False)(self.plain)  # type: ignore[no-any-return]

    def as_written(self, *arguments: Any) -> Any:
        """The loop in plain Python: items of a memoryview are plain ints, several times faster than NumPy's."""
        return self.plain(*(a.data if isinstance(a, np.ndarray) else a for a in arguments))

    def __call__(self, *arguments: Any) -> Any:
        if "compiled" not in self.__dict__ and sys.modules.get("numba") is None and Late.steps < _ENOUGH:
            Late.steps += len(arguments[0])
            return self.as_written(*arguments)
        return self.compiled(*arguments)


def late(*helpers: Callable[..., Any]) -> Callable[[Callable[..., Any]], Late]:
    """Makes a loop a `Late`; `helpers` are what it calls, plain functions of its own folder."""
    return lambda plain: Late(plain, helpers)
