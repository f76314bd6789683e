"""Folders, the environment, and files that are written whole.

The only reader of environment variables in both packages (`ENV_VARIABLES`), so that what a run depends on can
be read off `runtime.device.env_summary()`.  Nothing here changes a coded byte: models_dir() adds tables, it never
replaces shipped ones silently, because a stream names its tables by id.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import sys
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

from pc15.errors import ConfigError

__all__ = [
    "ENV_VARIABLES",
    "PathsConfig",
    "allow_cpu_tests",
    "cache_dir",
    "models_dir",
    "own_variables",
    "set_models_dir",
    "set_unless_set",
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
    def cache(self) -> Path:
        """Cache folder: base/cache_subdir."""
        return self.base / self.cache_subdir

    @property
    def labels(self) -> Path:
        """Labels folder: labels_dir, or artifacts/labels."""
        return self.artifacts / "labels" if self.labels_dir is None else self.labels_dir

    def ensure(self) -> PathsConfig:
        """Create artifacts, cache and labels where they are missing; returns self.

        Raises:
            ConfigError: a file stands where a folder should.
            OSError: the disk or the permissions refuse.
        """
        for folder in (self.artifacts, self.cache, self.labels):
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


def set_models_dir(folder: str | Path) -> None:
    """Set PC15_MODELS_DIR for this process, as a worker does that is told where its tables lie."""
    os.environ["PC15_MODELS_DIR"] = str(folder)


def set_unless_set(name: str, value: str, *, nor: str) -> None:
    """Set a variable for this process, unless it or `nor`, which says the same in another way, is set already."""
    if not os.environ.keys() & {name, nor}:
        os.environ[name] = value


def own_variables() -> dict[str, str]:
    """The variables PC15_* that are set, by name."""
    return {key: value for key, value in sorted(os.environ.items()) if key.startswith("PC15_")}


def cache_dir() -> Path:
    """PC15_CACHE_DIR, else pc15 in XDG_CACHE_HOME or ~/.cache; not created, and safe to delete."""
    own = os.environ.get("PC15_CACHE_DIR", "")
    if own:
        return Path(own).expanduser()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    root = Path(xdg) if xdg and Path(xdg).is_absolute() else Path.home() / ".cache"  # XDG: ignore relative ones
    return root / "pc15"


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


def set_any_place() -> None:
    """Set PC15_ANY_PLACE for this process and those that it starts."""
    os.environ["PC15_ANY_PLACE"] = "1"


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


def write_atomic(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: temporary file beside it, fsync, rename.

    A reader sees the old bytes or the new ones, and a crash or a full disk leaves the old file as it was.
    Links are followed and the old file's permissions kept; a device or a pipe is written to directly.

    Raises:
        OSError: the disk is full, the folder is missing, or the permissions refuse.
    """
    target = Path(os.path.realpath(path))
    mode = target.stat().st_mode if target.exists() else None
    if mode is not None and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        target.write_bytes(data)  # renaming over /dev/stdout would destroy it
        return
    temp = target.parent / f".pc15-{secrets.token_hex(8)}.tmp"
    try:
        handle = os.open(temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if mode is not None and stat.S_ISREG(mode):
            os.chmod(temp, stat.S_IMODE(mode))
        os.replace(temp, target)
    finally:
        temp.unlink(missing_ok=True)  # gone already when the rename succeeded
    if sys.platform != "win32":
        # The rename itself reaches the disk with its folder; some file systems cannot sync a folder.
        with contextlib.suppress(OSError):
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
