"""Loops that travel with their package as LLVM's intermediate representation.

From Python to that form takes numba two thirds of a first use, and it is the same on every machine; what is left,
`machine.object_code`, needs no numba.  A package's loops lie in `lowered.zip` beside its sources, with a digest of all
that they were made from; where anything has changed since, or this LLVM cannot read them, numba makes them anew.
`python -m pc15.lower` writes the file.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pc15.paths import write_atomic

__all__ = ["ARCHIVE", "Lowered", "contents_digest", "name_of", "noted", "shipped", "write"]

try:
    from lzma import LZMAError as _DAMAGED
except ImportError:  # then nothing is read at all
    _DAMAGED = OSError  # type: ignore[assignment, misc]

_LOG = logging.getLogger(__name__)

ARCHIVE = "lowered.zip"
_ABOUT = "about.json"
_DATE = (1980, 1, 1, 0, 0, 0)  # the same loops are the same file


class Lowered(NamedTuple):
    """A loop for arguments of certain kinds: its module's text, the function's name in it, and what that returns.

    Without text, the loop is one that machine code alone cannot run.
    """

    text: str
    function: str
    returns: str


noted: dict[str, Lowered] | None = None
"""By `name_of`, what numba has lowered in this process, where that is to be written down; nothing is `shipped` then."""


def name_of(loop: str, kinds: tuple[str, ...]) -> str:
    """Name of a loop for arguments of some kinds."""
    return f"{loop}-{hashlib.sha256(json.dumps(kinds).encode()).hexdigest()[:16]}.ll"


def shipped(folder: Path, loop: str, kinds: tuple[str, ...]) -> Lowered | None:
    """A loop of the package in a folder, if it travels with it.

    Args:
        loop: module and name.   kinds: of its arguments.
    """
    if noted is not None:
        return None
    about, name = _about(folder), name_of(loop, kinds)
    if name not in about or (text := _member(folder, name)) is None:
        return None
    return Lowered(text, *about[name])


def _member(folder: Path, name: str) -> str | None:
    """A file of a package's archive; None, and a line in the log, where it cannot be read."""
    try:
        with zipfile.ZipFile(folder / ARCHIVE) as archive:
            return archive.read(name).decode()
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, _DAMAGED, RuntimeError) as error:
        # RuntimeError: of a Python that was built without LZMA
        _LOG.info("%s of %s cannot be read (%s): it is made anew", name, folder / ARCHIVE, error)
        return None


@functools.cache
def _about(folder: Path) -> dict[str, Any]:
    """(function, returns) by the names of a package's loops; none if they are not of what lies there now."""
    if not (folder / ARCHIVE).exists() or (text := _member(folder, _ABOUT)) is None:
        return {}
    about = json.loads(text)
    if about["contents"] != contents_digest(folder):
        _LOG.info("%s is of other sources: its loops are made anew", folder / ARCHIVE)
        return {}
    loops: dict[str, Any] = about["loops"]
    return loops


def contents_digest(folder: Path) -> str:
    """Hash of what a package's loops are made from: its sources and tables, and how numba is asked for them."""
    digest = hashlib.sha256()
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".py", ".npz", ".npy", ".json")]
    for path in [*files, Path(__file__).with_name("_numba_internals.py")]:
        data = path.read_bytes()
        if path.suffix == ".py":
            data = data.replace(b"\r\n", b"\n")
        digest.update(f"{path.name} {len(data)} ".encode() + data)
    return digest.hexdigest()


def write(folder: Path, loops: Mapping[str, Lowered]) -> Path:
    """Write a package's loops beside its sources, those that machine code can run; returns the file."""
    path = folder / ARCHIVE
    kept = {name: loop for name, loop in sorted(loops.items()) if loop.text}
    about = {
        "contents": contents_digest(folder),
        "loops": {name: [loop.function, loop.returns] for name, loop in kept.items()},
    }
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_LZMA) as archive:
        for name, text in [(_ABOUT, json.dumps(about, indent=1)), *((name, loop.text) for name, loop in kept.items())]:
            archive.writestr(zipfile.ZipInfo(name, _DATE), text, zipfile.ZIP_LZMA)
    write_atomic(path, data.getvalue())
    return path
