"""Locks between processes that a crash releases: on open files, by the operating system.

A lock is the system's, not the file's existence: whatever ends a process frees what it held, so nobody has to clean up.
Locks are advisory, and as good as the file system's: on some network mounts they hold on one machine alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from pc15.errors import BusyError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["lock_file", "sole_writer"]


def lock_file(handle: int) -> bool:
    """Lock an open file until it is closed; False where another process, or another handle, has it.

    A file system that knows no locks counts as unlocked.
    """
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:  # ENOLCK, ENOTSUP: mounts without locks
        return True
    return True


@contextlib.contextmanager
def sole_writer(target: str | os.PathLike[str]) -> Iterator[None]:
    """Context in which no other process, and no other thread, writes a file or a folder, if all ask for it this way.

    Args:
        target: what is written; `.<name>.lock` beside it is locked, and removed at the end.
    Raises:
        BusyError: somebody else is writing it.
        OSError: the folder above is missing, or refuses.
    """
    path = Path(os.path.realpath(target))
    beside = path.with_name(f".{path.name}.lock")
    handle = _locked(beside, path)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows keeps what is open; the lock is what counts
            beside.unlink()
        os.close(handle)


def _locked(beside: Path, target: Path) -> int:
    """The handle of the lock file, locked."""
    while True:
        handle = os.open(beside, os.O_RDWR | os.O_CREAT, 0o666)
        if not lock_file(handle):
            os.close(handle)
            raise BusyError(f"{target} is being written by another process; wait until it is done, or give another one")
        try:
            if os.path.samestat(os.fstat(handle), os.stat(beside)):
                return handle
        except FileNotFoundError:
            pass
        os.close(handle)  # the one before removed it after it was opened here: lock the next one
