"""Results that live as long as the object they belong to: `functools.cache` on a method would keep every object."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

_Method = TypeVar("_Method", bound=Callable[..., Any])


def cached_method(method: _Method) -> _Method:
    """Remember what a method has returned for its arguments, positional and hashable, in the object itself."""
    name = f"_cached_{method.__name__}"

    @functools.wraps(method)
    def remembered(self: Any, *arguments: Any) -> Any:
        results = self.__dict__.setdefault(name, {})
        if arguments not in results:
            results[arguments] = method(self, *arguments)
        return results[arguments]

    return remembered  # type: ignore[return-value]
