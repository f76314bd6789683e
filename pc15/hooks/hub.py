"""Hooks from the Hugging Face Hub: `hf:org/name`, or `hf:org/name@revision`.

A repository holds, for each role in a folder of its name, or for a single one at its top, what users of the Hub expect:
`model.safetensors` and `config.json`, the card as JSON.  Both are checked as weights on disk are: hashes, shapes and
versions, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from pathlib import Path

from pc15.errors import ConfigError, HooksError, MissingExtraError
from pc15.hooks.roles import ROLES
from pc15.paths import cache_dir, read_bounded, write_atomic

__all__ = ["CONFIG", "PREFIX", "WEIGHTS", "fetch_hooks", "local_hooks", "unpack_hooks"]

PREFIX = "hf:"
WEIGHTS, CONFIG = "model.safetensors", "config.json"
_MAX_BYTES = 1 << 28
_NAME = re.compile(r"([\w.-]{1,96}/[\w.-]{1,96})(?:@([\w./-]{1,128}))?")


def fetch_hooks(spec: str) -> Path:
    """A folder of weights, as `AiHooks.from_folder` reads it, of what `hf:org/name` names; kept in the cache.

    Raises:
        ConfigError: no such form.   MissingExtraError: huggingface_hub is not installed.
        HooksError: the Hub cannot be reached and nothing of it is kept, or there is no such repository, or no weights.
    """
    named = _NAME.fullmatch(spec.removeprefix(PREFIX))
    if named is None:
        raise ConfigError(f"{spec} is not of the form {PREFIX}org/name or {PREFIX}org/name@revision")
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtraError(f"{spec} needs huggingface_hub: pip install huggingface_hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    wanted = [f"{place}{name}" for place in ("", *(f"{role}/" for role in ROLES)) for name in (WEIGHTS, CONFIG)]
    try:
        kept = snapshot_download(named[1], revision=named[2], allow_patterns=wanted)
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise HooksError(
            f"{spec} is not kept here and the Hub cannot be reached (offline, or HF_HUB_OFFLINE is set); fetch it "
            "where there is a network, or give a folder of weights"
        ) from error
    except (RepositoryNotFoundError, EntryNotFoundError, HFValidationError) as error:
        raise HooksError(f"{spec}: no such repository or revision, or it is private: {_line(error)}") from error
    except (HfHubHTTPError, OSError) as error:
        raise HooksError(f"{spec} cannot be fetched: {_line(error)}; try again, or give a folder of weights") from error
    source = Path(kept)
    return unpack_hooks(source, cache_dir() / "hub" / f"{named[1].replace('/', '--')}--{source.name}", spec)


def local_hooks(folder: Path) -> Path:
    """A folder of weights, of one that may be laid out as a repository of the Hub: then as `fetch_hooks`, else itself.

    Raises:
        HooksError: as `unpack_hooks`.
    """
    places = [folder, *(folder / role for role in ROLES)]
    if not any((place / WEIGHTS).is_file() and (place / CONFIG).is_file() for place in places):
        return folder
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    return unpack_hooks(folder, cache_dir() / "hub" / f"here--{name}", str(folder))


def unpack_hooks(source: Path, target: Path, spec: str) -> Path:
    """Lay a repository's files out as a folder of weights: `<role>.safetensors` and `<role>.yaml`.

    Args:
        source: the repository's files.   target: the folder, made if it is missing.   spec: for messages.
    Raises:
        HooksError: no weights, a `config.json` that is none of ours, or two of a role.
    """
    target.mkdir(parents=True, exist_ok=True)
    found: set[str] = set()
    for place in [source, *(source / role for role in ROLES)]:
        weights, config = place / WEIGHTS, place / CONFIG
        if not (weights.is_file() and config.is_file()):
            continue
        try:
            card = json.loads(read_bounded(config, 1 << 20))
            role = card["role"]
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise HooksError(f"{spec}: {config.name} is no card of pc15's hooks: {_line(error)}") from error
        if role not in ROLES or role in found:
            raise HooksError(f"{spec}: {config.name} has role {role!r}, which is unknown or there twice")
        found.add(role)
        write_atomic(target / f"{role}.safetensors", read_bounded(weights, _MAX_BYTES))
        write_atomic(target / f"{role}.yaml", json.dumps(card, indent=1).encode())  # JSON is YAML
    if not found:
        raise HooksError(f"{spec} holds no {WEIGHTS} with a {CONFIG} beside it; it is no repository of pc15's hooks")
    for role in ROLES.keys() - found:  # what lay there before
        (target / f"{role}.safetensors").unlink(missing_ok=True)
        (target / f"{role}.yaml").unlink(missing_ok=True)
    return target


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
