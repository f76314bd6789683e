"""Loops whose machine code is kept by itself: a process that finds it there runs it without numba.

Loading numba and what it needs to call its own cached code takes a second and 80 MB, ten times what decoding a
photograph does.  So a loop that asks nothing of numba's runtime (it makes no arrays and raises nothing) is compiled to
an object file, which llvmlite loads and ctypes calls: from what travels with its package (`lowered`), else by numba.
Files lie where numba's own would; each begins with a digest of the rest, and names the sources, the processor and the
llvmlite that it was made by and for: any other is compiled anew.  With numba's switches set in the environment
(NUMBA_BOUNDSCHECK, say) numba itself runs the loop; and what does not travel with its package, with versions of numba
that `jit.TESTED` does not span.

How arrays are handed over is numba's calling convention, unchanged since 2014: a struct's members, one after the other.
Source: numba, "Architecture: calling conventions"; numba/core/callconv.py, numba/core/datamodel/models.py.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from pc15.paths import cache_dir, numba_settings, variables, write_atomic
from pc15.runtime import lowered
from pc15.runtime.lowered import Lowered
from pc15.runtime.machine import callable_of, host, object_code
from pc15.runtime.notices import say_compiling, say_damaged, say_unkept

__all__ = ["KeptLoop", "LazyLoop"]

_LOG = logging.getLogger(__name__)
_LOCK = threading.RLock()


class LazyLoop:
    """A loop that numba compiles as part of others: its dispatcher is made when one of those is compiled."""

    def __init__(self, function: Callable[..., Any], make: Callable[[Callable[..., Any]], Any]) -> None:
        self.__name__, self.__qualname__ = function.__name__, function.__qualname__
        self.__module__, self.__doc__ = function.__module__, function.__doc__
        self.__wrapped__ = function
        self.py_func, self._make = function, make

    @functools.cached_property
    def dispatcher(self) -> Any:
        """numba's own."""
        return self._make(self.py_func)

    @property
    def _numba_type_(self) -> Any:
        """The type that numba takes this for, where a loop that it compiles calls it."""
        from numba import typeof

        return typeof(self.dispatcher)

    @property
    def targetoptions(self) -> Any:
        """Options of the dispatcher, such as `inline`, which numba looks at in callers."""
        return self.dispatcher.targetoptions


class KeptLoop(LazyLoop):
    """A loop that Python calls: from its kept machine code if it can be, else by numba, which then keeps it.

    Args:
        make: the loop's dispatcher.
        lower: lowers it for given arguments; None where that cannot be tried here; an empty text where the code needs
            more than itself, which is kept too, so that no later process tries it again.
        digest: of the sources that it depends on.   package: folder of its package.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        make: Callable[[Callable[..., Any]], Any],
        lower: Callable[[Callable[..., Any], tuple[Any, ...]], Lowered | None],
        digest: Callable[[], str],
        package: Path,
    ) -> None:
        super().__init__(function, make)
        self._lower, self._digest, self._package = lower, digest, package
        self._ready: dict[tuple[Any, ...], Callable[..., Any] | None] = {}

    @property
    def signatures(self) -> list[tuple[Any, ...]]:
        """Kinds of arguments that the loop was called with."""
        return [*self._ready]

    def __call__(self, *arguments: Any) -> Any:
        kinds: list[str] = []
        words: list[Any] = []
        if numba_settings() or not _flatten(arguments, kinds, words):
            return self.dispatcher(*arguments)
        key = tuple(kinds)
        try:
            run = self._ready[key]
        except KeyError:
            with _LOCK:
                run = self._ready[key] = self._prepared(key, arguments)
        return self.dispatcher(*arguments) if run is None else run(*words)

    def bound(self, *rest: Any) -> Callable[..., Any]:
        """The loop with all arguments but its first ones, ints, which a call gives: many calls upon the same arrays.

        `rest` is kept alive, and read again by each call as far as it is arrays.
        """
        kinds: list[str] = []
        words: list[Any] = []
        if numba_settings() or not _flatten(rest, kinds, words):
            return lambda *first: self(*first, *rest)
        ends = tuple(kinds)

        def call(*first: int) -> Any:
            key = ("int",) * len(first) + ends
            run = self._ready.get(key)
            return self(*first, *rest) if run is None else run(*first, *words)

        return call

    def _prepared(self, key: tuple[str, ...], arguments: tuple[Any, ...]) -> Callable[..., Any] | None:
        """The loop for kinds of arguments, from its file or compiled; None if numba has to run it."""
        source = Path(self.py_func.__code__.co_filename)
        folder = _folder(source)
        loop = f"{self.py_func.__module__}.{self.py_func.__qualname__}"
        about = {"loop": loop, "for": [*key], **host()}
        if folder != source.parent / "__pycache__":  # which installations share: each keeps its own files
            about["from"] = str(source.parent)
        name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
        about["sources"] = self._digest()  # not in the name: what is out of date is written over
        path = folder / f"{source.stem}.{self.py_func.__name__}-{name}.loop"
        found = _read(path, about) if lowered.noted is None else None
        if found is None:
            found = self._from_package(loop, key) or self._by_numba(loop, key, arguments)
            if found is None:
                return None
            _write(path, about, *found)
        return callable_of(*found, key) if found[0] else None

    def _from_package(self, loop: str, key: tuple[str, ...]) -> tuple[bytes, str, str] | None:
        """Object file, function and what that returns, of what travels with the package; None if that cannot be."""
        if (given := lowered.shipped(self._package, loop, key)) is None:
            return None
        say_compiling(loop)
        try:
            return object_code(given.text), given.function, given.returns
        except RuntimeError as error:  # an older LLVM than it was written by
            _LOG.info("%s is lowered anew: %s", loop, error)
            return None

    def _by_numba(self, loop: str, key: tuple[str, ...], arguments: tuple[Any, ...]) -> tuple[bytes, str, str] | None:
        """The same, lowered now; None if numba is to run it."""
        if (made := self._lower(self.py_func, arguments)) is None:
            return None
        if lowered.noted is not None:
            lowered.noted[lowered.name_of(loop, key)] = made
        return object_code(made.text) if made.text else b"", made.function, made.returns


def _flatten(values: tuple[Any, ...], kinds: list[str], words: list[Any]) -> bool:
    """Add arguments as machine words and say of which kinds they are; False if one is of no kind that is known."""
    for value in values:
        if isinstance(value, np.ndarray):
            flags = value.flags
            layout = "C" if flags.c_contiguous else "F" if flags.f_contiguous else "A"
            kinds.append(f"{value.dtype.str} {value.ndim} {layout} {flags.writeable:d} {flags.aligned:d}")
            words += (0, 0, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides)
        elif type(value) is bool:
            kinds.append("bool")
            words.append(int(value))
        elif type(value) is int and -(1 << 63) <= value < 1 << 63:
            kinds.append("int")
            words.append(value)
        elif type(value) is float:
            kinds.append("float")
            words.append(value)
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            kinds.append(f"{type(value).__qualname__} of {len(value)}")
            if not _flatten(value, kinds, words):
                return False
        else:
            return False
    return True


def _folder(source: Path) -> Path:
    """Where machine code of a source file is kept: in NUMBA_CACHE_DIR, else as Python keeps bytecode, else at home."""
    if (own := variables("NUMBA_CACHE_DIR").get("NUMBA_CACHE_DIR")) is not None:
        return Path(own) / "loops"
    beside = source.parent / "__pycache__"
    parent = beside if beside.exists() else source.parent  # the same whether the folder is there yet or not
    return beside if os.access(parent, os.W_OK) else cache_dir() / "loops"


def _read(path: Path, about: dict[str, Any]) -> tuple[bytes, str, str] | None:
    """An object file, its function and what that returns, if the file is there, whole, and what its name says."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head, _, code = data[32:].partition(b"\n")
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        say_damaged(path.parent)
        return None
    said = json.loads(head)
    if said["about"] != about:
        return None
    return code, said["function"], said["returns"]


def _write(path: Path, about: dict[str, Any], code: bytes, function: str, returns: str) -> None:
    head = json.dumps({"about": about, "function": function, "returns": returns}).encode()
    data = head + b"\n" + code
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, hashlib.sha256(data).digest() + data)
    except OSError as error:  # slower to start, but right
        say_unkept(error)
