"""Loops compiled by numba: `jit_entry` for functions that Python calls, `jit_inner` for those only compiled code calls.

numba's cache on disk looks only at a function's own file to see whether an entry still fits, though the entry holds
everything that the function calls.  Here every file of its package counts (`pc15.residual`, `pc15.search`, ...), so
that no old decoder is left behind; compiled functions therefore call only functions of their own package (tested).
Code that checks bounds and code that does not never share an entry either.

There are two ways to compile, with the same results.  Versions of numba in `TESTED` are taken apart by
`_numba_internals`, which halves the time of a first call and makes decoding 12 to 20 % faster.  Any other version is
used by its public interface alone: measured on a picture of 512 x 512, a first decode takes 24 s instead of 12.  Loops
that travel with their package (`lowered`) need neither: 3 s.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pc15.paths import cache_dir
from pc15.runtime.kept import KeptLoop, LazyLoop
from pc15.runtime.lowered import Lowered
from pc15.runtime.notices import say_compiling, say_damaged, say_unkept

_LOG = logging.getLogger(__name__)

TESTED = ((0, 63), (0, 70))
"""First version of numba whose inner workings are used, and the first that is not known to have the same ones."""


@functools.cache
def uses_internals() -> bool:
    """True where numba's version lies within `TESTED`; says so once in the log where it does not."""
    import numba

    version = re.match(r"(\d+)\.(\d+)", numba.__version__)
    tested = version is not None and TESTED[0] <= (int(version[1]), int(version[2])) < TESTED[1]
    if not tested:
        _LOG.info("numba %s is not among the versions tested: first calls take longer", numba.__version__)
    return tested


@functools.cache
def sources_digest(folder: Path) -> str:
    """Hash of what compiled code of a folder depends on: its Python files, how they are compiled, checks of bounds."""
    digest, here = hashlib.sha256(), Path(__file__)
    compilers = [here, *(here.with_name(f"{name}.py") for name in ("_numba_internals", "kept", "machine", "tiered"))]
    for path in [*sorted(folder.rglob("*.py")), *compilers]:
        data = path.read_bytes()
        digest.update(f"{path.name} {len(data)} ".encode() + data)
    return digest.hexdigest()


def _checked_digest(function: Callable[..., Any]) -> str:
    """`_digest_of` a function, and whether numba is to check bounds."""
    return hashlib.sha256(f"{_digest_of(function)} bounds {bool(_config().BOUNDSCHECK)}".encode()).hexdigest()


def _config() -> Any:
    """numba's settings, made from the environment, where types do not see them."""
    import numba

    return numba.config


def kept_entry(*, allocates: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`jit_entry` for a loop that is to run in processes that have not loaded numba; see `kept`."""

    def lower(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Lowered | None:
        if allocates or not uses_internals():
            return None
        from pc15.runtime import _numba_internals

        say_compiling(f"{function.__module__}.{function.__qualname__}")
        return _numba_internals.lowered(function, arguments, options)

    def decorate(function: Callable[..., Any]) -> KeptLoop:
        make = jit_entry(allocates=allocates, **options)
        return KeptLoop(function, make, lower, lambda: _digest_of(function), _package_of(function))

    return decorate


def lazy_inner(*, allocates: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`jit_inner` for what such loops call."""
    return lambda function: LazyLoop(function, jit_inner(allocates=allocates, **options))


def jit_entry(*, allocates: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a loop that Python calls: compiled when first called, cached on disk, runs without the GIL.

    Args:
        allocates: False for loops that make no arrays, so that there are no references to count.
        options: of `numba.njit`.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        if not uses_internals():
            return _plain(function, options)
        from pc15.runtime import _numba_internals  # other versions may lack what it imports

        return _numba_internals.entry(function, _checked_digest(function), allocates, options)

    return decorate


def jit_inner(*, allocates: bool = True, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorate a loop that only compiled loops call, as part of them; arguments as `jit_entry`."""

    def decorate(function: Callable[..., Any]) -> Any:
        if not uses_internals():
            return _plain(function, options)
        from pc15.runtime import _numba_internals

        return _numba_internals.inner(function, allocates, options)

    return decorate


def _digest_of(function: Callable[..., Any]) -> str:
    """`sources_digest` of a function's package."""
    return sources_digest(_package_of(function))


def _package_of(function: Callable[..., Any]) -> Path:
    """Folder of the package just below the topmost one: pc15/residual for pc15.residual.enc.rdo."""
    depth = function.__module__.count(".")
    return Path(function.__code__.co_filename).parents[max(0, depth - 2)]


@functools.cache
def _drop_cut_files(folder: Path) -> None:
    """Remove files of numba's cache that are not whole pickles, from first byte to last: it would stop at them."""
    for path in [*folder.rglob("*.nbi"), *folder.rglob("*.nbc")]:
        data = path.read_bytes()
        if not (data.startswith(b"\x80") and data.endswith(b".")):
            say_damaged(folder)
            path.unlink(missing_ok=True)


def _plain(function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Compile by numba's public interface: a cache folder for every digest takes the place of the digest in the stamp.

    numba asks for the folder (NUMBA_CACHE_DIR) while a function is decorated, so that is when it is another one.
    """
    import numba

    config = _config()
    usual = config.CACHE_DIR
    folder = Path(usual) if usual else cache_dir() / "numba"
    try:
        own = folder / _checked_digest(function)
        config.CACHE_DIR = str(own)
        _drop_cut_files(own)
        if not any(own.rglob(f"*{function.__qualname__}-*.nbi")):
            say_compiling(f"{function.__module__}.{function.__qualname__}")
        return numba.njit(nogil=True, cache=True, **options)(function)
    except (OSError, RuntimeError) as error:  # nowhere to write, or no sources: slower to start, but right
        say_unkept(error)
        return numba.njit(nogil=True, **options)(function)
    finally:
        config.CACHE_DIR = usual
