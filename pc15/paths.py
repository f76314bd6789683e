"""Folders, the environment, and files that are written whole.

The only reader of environment variables in both packages (`ENV_VARIABLES`), so that what a run depends on can
be read off `runtime.device.env_summary()`.  Nothing here changes a coded byte but a file of models_dir() that has a
packaged id: it overrides the packaged one, and a line in the log says so.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import secrets
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import IO, Any

from pc15.errors import ConfigError
from pc15.locks import lock_file

__all__ = [
    "ENV_VARIABLES",
    "PathsConfig",
    "allow_cpu_tests",
    "cache_dir",
    "child_environment",
    "drop_unfinished",
    "file_stamp",
    "is_direct",
    "model_file",
    "models_dir",
    "own_variables",
    "ready_to_write",
    "replacing",
    "set_models_dir",
    "set_unless_set",
    "unicode_name",
    "variables",
    "write_atomic",
]

ENV_VARIABLES = {
    "PC15_MODELS_DIR": "folder of further tables and codebooks, rans/<id>.json and so on",
    "PC15_CACHE_DIR": "folder of drawn banks; default: pc15 in the user's cache folder",
    "PC15_ALLOW_CPU_TESTS": "1 lets tests marked gpu run on the CPU",
}
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


@dataclass(frozen=True)
class PathsConfig:
    """The folders of one piece of work; making it touches no disk, `ensure()` creates them.

    Attributes:
        base: the folder that the two subdirs lie in.
        dataset_images: folder of source pictures, None when there is none; it is read, never created.
        artifacts_subdir: below base: labels, checkpoints, reports.
        cache_subdir: below base: what can be deleted at any time.
        labels_dir: labels elsewhere than in `artifacts/labels`.
    Raises:
        ConfigError: a subdir is empty, absolute, or leaves base.
    """

    base: Path = Path(".")
    dataset_images: Path | None = None
    _: KW_ONLY
    artifacts_subdir: str = "artifacts"
    cache_subdir: str = ".cache"
    labels_dir: Path | None = None

    def __post_init__(self) -> None:
        for name in ("base", "dataset_images", "labels_dir"):  # str is welcome, Path is kept
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value).expanduser())
        for name in ("artifacts_subdir", "cache_subdir"):
            value = str(getattr(self, name))
            if not value or Path(value).is_absolute() or ".." in Path(value).parts:
                raise ConfigError(
                    f"PathsConfig.{name} is {value!r}, which is not a folder below base {str(self.base)!r}; "
                    "give a relative name such as 'artifacts', or move base"
                )

    @property
    def artifacts(self) -> Path:
        """Results folder: base/artifacts_subdir."""
        return self.base / self.artifacts_subdir

    @property
    def artifacts_path(self) -> Path:
        """The same as `artifacts`."""
        return self.artifacts

    @property
    def outputs_path(self) -> Path:
        """Folder of streams and pictures: artifacts/outputs."""
        return self.artifacts / "outputs"

    @property
    def cache(self) -> Path:
        """Cache folder: base/cache_subdir."""
        return self.base / self.cache_subdir

    @property
    def labels(self) -> Path:
        """Labels folder: labels_dir, or artifacts/labels."""
        return self.artifacts / "labels" if self.labels_dir is None else self.labels_dir

    def ensure(self) -> PathsConfig:
        """Create artifacts, outputs, cache and labels where they are missing; returns self.

        Raises:
            ConfigError: a file stands where a folder should.
            OSError: the disk or the permissions refuse.
        """
        for folder in (self.artifacts, self.outputs_path, self.cache, self.labels):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError) as error:
                raise ConfigError(
                    f"cannot create the folder {folder}: a file stands in its way; "
                    "move that file, or choose another base or labels_dir"
                ) from error
        return self


def models_dir() -> Path | None:
    """PC15_MODELS_DIR, or None where it is not set.

    Raises:
        ConfigError: it names no folder: the tables in it would be missed without a word.
    """
    value = os.environ.get("PC15_MODELS_DIR", "")
    if not value:
        return None
    folder = Path(value).expanduser()
    if not folder.is_dir():
        raise ConfigError(
            f"PC15_MODELS_DIR is {value!r}, which is not a folder; create it, correct it, or unset the variable"
        )
    return folder


def model_file(below: str, packaged: Path) -> Path:
    """Path of tables or of a codebook: `$PC15_MODELS_DIR/<below>/<name>` where that is a file, else the packaged one.

    A file of a packaged name overrides the packaged one for every stream that is read or written; as a stream holds
    only the name, that is said once in the log where the two differ.

    Args:
        below: "rans" or "codebooks".   packaged: where it lies in the package, whether it is there or not.
    """
    models = models_dir()
    own = packaged if models is None else models / below / packaged.name
    if not own.is_file():
        return packaged
    if own != packaged and packaged.is_file():
        _say_overridden(own, packaged, *file_stamp(own))
    return own


@functools.cache
def _say_overridden(own: Path, packaged: Path, *stamp: int) -> None:
    """Say that a packaged file is overridden by another, once for each state of it, as its stamp tells."""
    if own.read_bytes() != packaged.read_bytes():
        import logging  # here: `import pc15` costs next to nothing, and logging does

        logging.getLogger(__name__).warning(
            "%s stands in for the packaged %s: streams that name it can only be read where this file is in use",
            own,
            packaged.name,
        )


def file_stamp(path: Path) -> tuple[int, int, int, int]:
    """Numbers that change when a file does, even if what takes its place has its size and its date: cp -p, rsync -t."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def set_models_dir(folder: str | Path) -> None:
    """Set PC15_MODELS_DIR for this process, as a worker does that is told where its tables lie."""
    os.environ["PC15_MODELS_DIR"] = str(folder)


def set_unless_set(name: str, value: str, *, nor: str) -> None:
    """Set a variable for this process, unless it or `nor`, which says the same in another way, is set already."""
    if not os.environ.keys() & {name, nor}:
        os.environ[name] = value


def variables(*names: str) -> dict[str, str]:
    """Variables of other programs that are set and not empty, such as torchrun's and wandb's, by name."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


@functools.cache
def numba_settings() -> bool:
    """True where the environment changes how numba compiles, checks or runs what it compiles."""
    harmless = {"NUMBA_CACHE_DIR", "NUMBA_NUM_THREADS"}
    return any(name.startswith("NUMBA_") and name not in harmless for name in os.environ)


def child_environment(**changes: str) -> dict[str, str]:
    """All variables of this process, with changes, for one that it starts."""
    return {**os.environ, **changes}


def unicode_name(path: str | os.PathLike[str]) -> str:
    """A file's name as text that any file can hold: with backslashes for bytes that are no UTF-8."""
    return os.fspath(path).encode(errors="backslashreplace").decode()


def own_variables() -> dict[str, str]:
    """The variables PC15_* that are set, by name."""
    return {key: value for key, value in sorted(os.environ.items()) if key.startswith("PC15_")}


def cache_dir() -> Path:
    """PC15_CACHE_DIR, else pc15 in XDG_CACHE_HOME or ~/.cache; not created, and safe to delete.

    Raises:
        ConfigError: none of them is set, and this user has no home.
    """
    own = os.environ.get("PC15_CACHE_DIR", "")
    if own:
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if xdg and Path(xdg).is_absolute():  # XDG: ignore relative ones
        return Path(xdg) / "pc15"
    try:
        return Path.home() / ".cache" / "pc15"
    except RuntimeError as error:
        raise ConfigError("this user has no home folder for a cache; set PC15_CACHE_DIR to a folder") from error


def allow_cpu_tests() -> bool:
    """True if PC15_ALLOW_CPU_TESTS lets tests marked gpu run on the CPU.

    Raises:
        ConfigError: it is set to something that is neither yes nor no.
    """
    value = os.environ.get("PC15_ALLOW_CPU_TESTS", "").strip().lower()
    if value not in _TRUE | _FALSE:
        raise ConfigError(f"PC15_ALLOW_CPU_TESTS is {value!r}; set it to 1 or 0")
    return value in _TRUE


def any_place() -> bool:
    """True if PC15_ANY_PLACE lets rows of tiles name pictures by URLs and absolute paths.

    Raises:
        ConfigError: it is set to something that is neither yes nor no.
    """
    value = os.environ.get("PC15_ANY_PLACE", "").strip().lower()
    if value not in _TRUE | _FALSE:
        raise ConfigError(f"PC15_ANY_PLACE is {value!r}; set it to 1 or 0")
    return value in _TRUE


def read_bounded(path: str | Path, limit: int) -> bytes:
    """The bytes of a regular file of at most so many; a device or a pipe, which may never end, is not read.

    Raises:
        OSError: the file cannot be read, is no file, or has more bytes than that.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    with open(path, "rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return data


def read_open(file: IO[bytes], limit: int) -> bytes:
    """The rest of an open file, all of it or one byte more than the limit; a pipe without a buffer gives it in parts.

    Raises:
        OSError: the file cannot be read.   ValueError: it is closed, or gives anything but bytes.
    """
    parts: list[bytes] = []
    left = limit + 1
    while left > 0:
        part: Any = file.read(left)
        if not isinstance(part, bytes | bytearray):
            raise ValueError(f"it gives {type(part).__name__}, not bytes; open it in binary mode")
        if not part:
            break
        parts.append(bytes(part))
        left -= len(part)
    return b"".join(parts)


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename.

    A reader sees the old bytes or the new ones, and a crash or a full disk leaves the old file as it was.
    Links are followed and the old file's permissions kept; a device, a pipe or an open file's own name, such as
    /dev/stdout, is written to directly.

    Raises:
        OSError: the disk is full, the folder is missing, or the permissions refuse.
    """
    if is_direct(path):
        with open(path, "wb") as file:  # renaming over it would destroy it
            file.write(data)
        return
    with replacing(path) as file:
        file.write(data)


def is_direct(path: str | os.PathLike[str]) -> bool:
    """True for what cannot be replaced by renaming: devices, pipes, and names of open files, such as /dev/stdout."""
    if _OPEN_FILE.fullmatch(os.fspath(path)):
        return True
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


_OPEN_FILE = re.compile(r"/dev/(stdin|stdout|stderr|fd/\d+)|/proc/(self|\d+)/fd/\d+")


def ready_to_write(path: str | os.PathLike[str]) -> Path:
    """Make the folder of a file that will be written, and see that it takes one: before the work, not after it.

    Raises:
        ConfigError: the path is a folder, or a file stands where one should.
        OSError: the disk or the permissions refuse.
    """
    target = Path(path)
    if is_direct(target):
        return target
    if target.is_dir():
        raise ConfigError(f"{target} is a folder; give the name of a file, such as {target / 'NAME'}")
    folder = Path(os.path.realpath(target)).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, temporary = _temporary(folder)
    except (FileExistsError, NotADirectoryError) as error:
        raise ConfigError(f"{target} cannot be written: a file stands where its folder should; move it") from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from error
    os.close(handle)
    temporary.unlink()
    return target


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Context with a file to write: it takes the path's place at the end, unless an error leaves the context.

    See `write_atomic`.  What processes that were killed have left in the folder is removed.
    """
    target = Path(os.path.realpath(path))
    _sweep(target.parent)
    handle, temporary = _temporary(target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if sys.platform != "win32":
                with contextlib.suppress(FileNotFoundError):
                    os.fchmod(file.fileno(), stat.S_IMODE(target.stat().st_mode))
                os.replace(temporary, target)  # while it is locked: nobody takes it for a leftover
        if sys.platform == "win32":
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)  # gone already when the rename succeeded
        _unfinished.discard(temporary)
    if sys.platform != "win32":
        # The rename itself reaches the disk with its folder; some file systems cannot sync a folder.
        with contextlib.suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


_TEMPORARY = ".pc15-*.tmp"
_SURELY_LOCKED = 60.0
"""Seconds after which a temporary file has been locked, if whoever made it still runs."""


def _temporary(folder: Path) -> tuple[int, Path]:
    """A new file of a folder, open and locked for as long as that."""
    path = folder / f".pc15-{secrets.token_hex(8)}.tmp"
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    _unfinished.add(path)
    lock_file(handle)
    return handle, path


_unfinished: set[Path] = set()


def drop_unfinished() -> None:
    """Remove what this process's threads are writing by `replacing`: for one that ends without waiting for them."""
    for path in list(_unfinished):
        path.unlink(missing_ok=True)


@functools.cache
def _sweep(folder: Path) -> None:
    """Remove temporary files of processes that are gone; once per folder and process."""
    for path in folder.glob(_TEMPORARY):
        with contextlib.suppress(OSError):  # somebody else's, or gone by now
            if time.time() - path.stat().st_mtime < _SURELY_LOCKED:
                continue
            handle = os.open(path, os.O_RDWR)
            try:
                unused = lock_file(handle)
            finally:
                os.close(handle)
            if unused:
                path.unlink()
