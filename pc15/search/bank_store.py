"""Banks on disk: arrays that are drawn once, checked before they are used, and bounded in what they take.

Beside the arrays of a bank, a `.npy` each, lies a record of their SHA-256, written last.  To read a whole bank at every
start would undo what mapping it saves, so the record also says how the files looked when they were last compared with
their digests: length, times, inode.  While they look the same they are the same; else they are compared again.

Banks that were not used for longest make room for new ones.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.paths import replacing, write_atomic

__all__ = ["MOST_BYTES", "ArrayKind", "load_arrays", "store_arrays"]

MOST_BYTES = 2 << 30
"""Bytes that all banks on disk may take together; the latest one stays, whatever its size."""

_LOG = logging.getLogger(__name__)
_READ_BYTES = 1 << 22
_ABANDONED = 3600.0
"""Seconds after which a file that belongs to no bank is a leftover."""


@dataclass(frozen=True)
class ArrayKind:
    """Type and shape that an array on disk has to have."""

    dtype: str
    shape: tuple[int, ...]


def load_arrays(folder: Path, name: str, kinds: Mapping[str, ArrayKind]) -> dict[str, npt.NDArray[Any]] | None:
    """A bank's arrays as private memory maps; None if it is not there or, with a warning, not what it should be."""
    record_path = folder / f"{name}.json"
    try:
        record = json.loads(record_path.read_bytes())
        digests, looks = record["sha256"], record["looks"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        _LOG.warning("the record of a bank, %s, cannot be read (%s); drawing it anew", record_path, error)
        return None
    arrays: dict[str, npt.NDArray[Any]] = {}
    seen = {}
    for part, kind in kinds.items():
        path = folder / f"{name}.{part}.npy"
        try:
            seen[part] = _look(path)
            # a private map: nothing is ever written through it, and torch wants arrays that could be written
            array = np.load(path, mmap_mode="c" if kind.shape[0] else None, allow_pickle=False)
            sound = looks.get(part) == seen[part] or digests.get(part) == _digest(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, AttributeError) as error:
            _LOG.warning("bank cache %s cannot be read (%s); drawing it anew", path, error)
            return None
        if array.shape != kind.shape or array.dtype != np.dtype(kind.dtype):
            _LOG.warning("bank cache %s holds %s %s; drawing it anew", path, array.dtype, array.shape)
            return None
        if not sound:
            _LOG.warning("bank cache %s is not what was written there; drawing it anew", path)
            return None
        arrays[part] = array
    with contextlib.suppress(OSError):  # a cache that can only be read is compared at every start
        if seen != looks:
            _write_record(record_path, digests, seen)
        now = time.time_ns()  # the file system's own clock ticks too rarely to tell two uses apart
        os.utime(record_path, ns=(now, now))
    return arrays


def store_arrays(
    folder: Path, name: str, kinds: Mapping[str, ArrayKind], chunks: Iterable[Mapping[str, npt.NDArray[Any]]]
) -> None:
    """Write a bank's arrays as their rows come; its record makes it a bank when all of them are on the disk.

    Raises:
        OSError: the disk is full, or the folder refuses.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = {part: folder / f"{name}.{part}.npy" for part in kinds}
    digests = {part: hashlib.sha256() for part in kinds}
    with contextlib.ExitStack() as stack:
        files = {part: stack.enter_context(replacing(path)) for part, path in paths.items()}
        for part, kind in kinds.items():
            header = io.BytesIO()
            about = {"descr": np.dtype(kind.dtype).str, "fortran_order": False, "shape": kind.shape}
            np.lib.format.write_array_header_1_0(header, about)
            digests[part].update(header.getvalue())
            files[part].write(header.getvalue())
        for chunk in chunks:
            for part, rows in chunk.items():
                data = rows.tobytes()
                digests[part].update(data)
                files[part].write(data)
    _write_record(
        folder / f"{name}.json",
        {part: digest.hexdigest() for part, digest in digests.items()},
        {part: _look(path) for part, path in paths.items()},
    )
    _make_room(folder, name)


def _write_record(path: Path, digests: Mapping[str, str], looks: Mapping[str, list[int]]) -> None:
    write_atomic(path, json.dumps({"looks": looks, "sha256": digests}, sort_keys=True).encode())


def _look(path: Path) -> list[int]:
    """Length, times of the last changes, and inode of a file: whoever writes to it changes one of them."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def _make_room(folder: Path, newest: str) -> None:
    """Remove banks that were not used for longest, while all take more than `MOST_BYTES`; and what nobody owns."""
    banks: dict[str, list[tuple[Path, os.stat_result]]] = {}
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # gone by now
            stat = path.stat()
            if not path.name.startswith("."):
                banks.setdefault(path.name.partition(".")[0], []).append((path, stat))
            elif time.time() - stat.st_mtime > _ABANDONED:
                path.unlink()
    total = sum(stat.st_size for files in banks.values() for _, stat in files)
    for name in sorted(banks, key=lambda name: max(stat.st_mtime_ns for _, stat in banks[name])):
        if total <= MOST_BYTES:
            return
        if name != newest:
            total -= sum(stat.st_size for _, stat in banks[name])
            for path, _ in sorted(banks[name], key=lambda file: file[0].suffix != ".json"):  # the record first
                with contextlib.suppress(OSError):  # Windows keeps what is in use
                    path.unlink(missing_ok=True)
