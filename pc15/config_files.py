"""Files that a wheel carries inside the package: the YAML files of configs/ by their names, and weights of hooks."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pc15.errors import ConfigError, did_you_mean

__all__ = ["ConfigKind", "baseline_weights", "config_names", "find_config"]

ConfigKind = Literal["codec", "learn"]

_PACKAGE = Path(__file__).parent
_PLACES = (_PACKAGE, _PACKAGE.parent)
"""In a wheel, where `configs/wheel.py` puts them, and in a checkout."""


def config_names(kind: ConfigKind) -> list[str]:
    """Names of the packaged configs, sorted: of `pc15 encode` ("codec"), or of `pc15learn fit` ("learn")."""
    return sorted(path.stem for path in _folder(kind).glob("*.yaml"))


def find_config(given: str | Path, kind: ConfigKind) -> Path:
    """The YAML file of a path, or of the name of a packaged config; a file of that name in the working folder wins.

    Raises:
        ConfigError: a name, with neither a folder nor an ending, of no packaged config.
    """
    path = Path(given)
    if path.is_file() or path.suffix or len(path.parts) != 1:
        return path  # who reads it says whether it is there
    packaged = _folder(kind) / f"{path.name}.yaml"
    if not packaged.is_file():
        names = config_names(kind)
        raise ConfigError(
            f"no config {str(given)!r}{did_you_mean(str(given), names)} (packaged are {', '.join(names)}; or give "
            "the path of a YAML file)"
        )
    return packaged


def baseline_weights() -> Path:
    """The folder of the published weights of hooks, `--hooks baseline`.

    Raises:
        ConfigError: it is nowhere: an installation that is not whole.
    """
    return _packaged("checkpoints", "baseline")


def _folder(kind: ConfigKind) -> Path:
    """The folder of one kind's configs; raises as `baseline_weights`."""
    return _packaged("configs", kind)


def _packaged(*parts: str) -> Path:
    for place in _PLACES:
        if (folder := place.joinpath(*parts)).is_dir():
            return folder
    raise ConfigError(f"{'/'.join(parts)} is in none of {', '.join(map(str, _PLACES))}; install pc15 again")
