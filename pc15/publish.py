"""Everything that streams and encoders depend on beside the code, in one folder with a manifest: tables, codebooks,
models, weights and options, for an archive or for another machine.

`PC15_MODELS_DIR` may name such a folder: `rans/` and `codebooks/` lie where it is looked for them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

import pc15.entropy
import pc15.proc
import pc15.residual
from pc15._version import __version__
from pc15.bitstream.alphabets import check_tables
from pc15.config import PRESETS, CodecConfig
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError, HooksError, SchemaError
from pc15.hooks.weights import card_path
from pc15.paths import models_dir, read_bounded, write_atomic
from pc15.proc.codebook import load_codebook

__all__ = ["MANIFEST", "publish_models", "verify_models"]

MANIFEST = "manifest.json"
_MAX_BYTES = 1 << 28
_README = """# Models of PC15 {version}

Written by `pc15 publish-models`; `pc15 publish-models FOLDER --verify` checks every file against `{manifest}`.

| folder | holds |
|---|---|
| `rans/` | frozen rANS tables; a stream names them by their id |
| `codebooks/` | parameter vectors of patterns; a stream names them by their id |
| `residual/` | where the residual's adaptive models start |
| `weights/` | nets of hooks, safetensors with their cards |
| `configs/` | the presets, every option written out |

`PC15_MODELS_DIR=FOLDER` makes `pc15` use these tables and codebooks.
"""


def publish_models(out: str | Path, *, weights: str | Path | None = None) -> dict[str, Any]:
    """Write tables, codebooks, models, weights and presets to a folder; returns the manifest.

    Packaged files and those of PC15_MODELS_DIR, which count more.  The same content gives the same bytes.

    Args:
        out: the folder; what it holds of other files stays, but is refused by `verify_models`.
        weights: a folder of exported weights.
    Raises:
        HooksError: a folder without weights, or weights without a card.
        ConfigError: `out` holds a file that is not in its manifest.
        OSError: it cannot be written.
    """
    out = Path(out)
    files = dict(_files(Path(weights) if weights is not None else None))
    strange = [name for name in _there(out) if name not in files and name not in _listed(out) and name != MANIFEST]
    if strange:
        raise ConfigError(
            f"{out} holds {strange[0]}, which is none of these files; give another folder, or an empty one"
        )
    for name in _listed(out).keys() - files.keys():
        (out / name).unlink(missing_ok=True)
    for name, data in files.items():
        place = out / name
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, data)
    manifest = {
        "pc15": __version__,
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in sorted(files.items())
        },
    }
    write_atomic(out / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode())
    return manifest


def verify_models(folder: str | Path) -> dict[str, Any]:
    """Check a folder of `publish_models` against its manifest; returns that.

    Raises:
        SchemaError: no manifest, or a file that is missing, changed or not listed; says which.
    """
    folder = Path(folder)
    listed = _listed(folder)
    if not listed:
        raise SchemaError(f"{folder} has no {MANIFEST} of pc15 publish-models")
    for name, facts in listed.items():
        try:
            data = read_bounded(folder / name, _MAX_BYTES)
        except OSError as error:
            raise SchemaError(f"{folder / name} cannot be read: {error.strerror or error}; publish again") from error
        if (len(data), hashlib.sha256(data).hexdigest()) != (facts.get("bytes"), facts.get("sha256")):
            raise SchemaError(
                f"{folder / name} is not what the manifest says: it was changed or damaged; publish again"
            )
    if strange := sorted(set(_there(folder)) - listed.keys() - {MANIFEST}):
        raise SchemaError(f"{folder} holds {strange[0]}, which the manifest does not list")
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
    return manifest


def _files(weights: Path | None) -> Iterator[tuple[str, bytes]]:
    """Name within the folder and bytes of everything."""
    own = models_dir()
    for kind, packaged, suffix in (
        ("rans", Path(pc15.entropy.__file__).parent, ".json"),
        ("codebooks", Path(pc15.proc.__file__).parent, ".npz"),
    ):
        places = {path.name: path for path in packaged.glob(f"*{suffix}")}
        if own is not None:
            places |= {path.name: path for path in (own / kind).glob(f"*{suffix}")}
        for name, path in sorted(places.items()):
            if kind == "rans":
                load_table(path.stem)  # what is damaged is refused
            else:
                load_codebook(path.stem)
            yield f"{kind}/{name}", read_bounded(path, _MAX_BYTES)
    for path in sorted(Path(pc15.residual.__file__).parent.glob("*.npz")):
        yield f"residual/{path.name}", read_bounded(path, _MAX_BYTES)
    if weights is not None:
        found = sorted(weights.glob("*.safetensors"))
        if not found:
            raise HooksError(f"no .safetensors file in {weights}; write some with pc15learn export")
        for path in found:
            if not card_path(path).is_file():
                raise HooksError(f"{path} has no card {card_path(path).name} beside it; export again")
            yield f"weights/{path.name}", read_bounded(path, _MAX_BYTES)
            yield f"weights/{card_path(path).name}", read_bounded(card_path(path), _MAX_BYTES)
    for preset in PRESETS:
        cfg = CodecConfig.preset(preset)
        check_tables(load_table(cfg.table_id), load_codebook(cfg.codebook_id))
        options = {
            field.name: list(value) if isinstance(value := getattr(cfg, field.name), tuple) else value
            for field in dataclasses.fields(cfg)
            if field.name != "ai"
        }
        yield f"configs/{preset}.yaml", yaml.safe_dump(options, sort_keys=False).encode()
    yield "README.md", _README.format(version=__version__, manifest=MANIFEST).encode()


def _listed(folder: Path) -> dict[str, dict[str, Any]]:
    """Files that a folder's manifest lists; none if it has none that can be read."""
    try:
        files = json.loads(read_bounded(folder / MANIFEST, 1 << 24))["files"]
        inside = all(not PurePosixPath(name).is_absolute() and ".." not in PurePosixPath(name).parts for name in files)
        return dict(files) if inside and all(isinstance(facts, dict) for facts in files.values()) else {}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def _there(folder: Path) -> list[str]:
    """Files of a folder, hidden ones left out."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))
