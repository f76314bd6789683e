"""Weights and labels for the Hugging Face Hub: folders in the form that its users expect, and their upload.

Uploading is the Hub's own client's: `huggingface_hub.HfApi.upload_folder`.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any, Literal

from pc15._version import __version__
from pc15.errors import ConfigError, HooksError, MissingExtraError
from pc15.hooks.hub import CONFIG, WEIGHTS
from pc15.hooks.roles import ROLES
from pc15.hooks.weights import card_path, metadata_of
from pc15.paths import read_bounded, write_atomic
from pc15.yaml_files import read_yaml

__all__ = ["hub_folder", "push"]

_MAX_BYTES = 1 << 28
_CARD = """---
library_name: pc15
tags:
- image-compression
- pc15
pipeline_tag: other
---

# {name}

Hooks for the encoder of PC15 {version}: nets that narrow its search, role by role. They only propose; a stream made
with them decodes where nobody has heard of them.

```sh
pc15 encode photo.png -o photo.pc15 --hooks hf:{repo}
```

| role | name | codebook | trained on | metrics |
|---|---|---|---|---|
{rows}
"""


def hub_folder(weights: str | Path, out: str | Path, *, repo: str) -> list[Path]:
    """Lay exported weights out for the Hub; returns the files.

    Each role gets a folder with `model.safetensors` and `config.json`, a lone role none; `README.md` is the card.

    Args:
        weights: a folder of `pc15learn export`.   out: the folder.   repo: org/name, for the card.
    Raises:
        HooksError: no weights, weights without a card, or of another role than the card says.
    """
    weights, out = Path(weights), Path(out)
    found = sorted(weights.glob("*.safetensors"))
    if not found:
        raise HooksError(f"no .safetensors file in {weights}; write some with pc15learn export")
    written, rows = [], []
    for path in found:
        try:
            card: dict[str, Any] = read_yaml(card_path(path))
            data = read_bounded(path, _MAX_BYTES)
            role = card["role"]
            same = role in ROLES and metadata_of(data).get("role") == role
        except (OSError, ConfigError, LookupError, TypeError, ValueError) as error:
            raise HooksError(f"{path} and its card cannot be read: {error}; export again") from error
        if not same:
            raise HooksError(f"{path} and {card_path(path).name} do not belong together; export again")
        place = out / role if len(found) > 1 else out
        place.mkdir(parents=True, exist_ok=True)
        write_atomic(place / WEIGHTS, data)
        write_atomic(place / CONFIG, (json.dumps(card, indent=1) + "\n").encode())
        written += [place / WEIGHTS, place / CONFIG]
        metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(card.get("metrics", {}).items()))
        tiles = card.get("training_set", {})
        rows.append(f"| {role} | {card['name']} | {card['codebook']['id']} | {_short(tiles)} | {metrics} |")
    text = _CARD.format(name=repo.split("/")[-1], version=__version__, repo=repo, rows="\n".join(rows))
    write_atomic(out / "README.md", text.encode())
    return [*written, out / "README.md"]


def _short(facts: object) -> str:
    if not isinstance(facts, dict):
        return str(facts)[:60]
    return ", ".join(f"{key} {value}" for key, value in facts.items() if isinstance(value, int | str))[:80]


def push(folder: str | Path, repo: str, *, kind: Literal["model", "dataset"], private: bool = False) -> str:
    """Upload a folder to a repository of the Hub, made if it is missing; returns its address.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
        HooksError: the Hub refuses, cannot be reached, or nobody is logged in.
    """
    if importlib.util.find_spec("huggingface_hub") is None:
        raise MissingExtraError("pushing needs huggingface_hub: pip install huggingface_hub")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    api = HfApi(library_name="pc15", library_version=__version__)
    try:
        api.create_repo(repo, repo_type=kind, private=private, exist_ok=True)
        done = api.upload_folder(repo_id=repo, repo_type=kind, folder_path=str(folder), commit_message="Upload by pc15")
    except (HfHubHTTPError, HFValidationError, OfflineModeIsEnabled, OSError) as error:
        why = " ".join(str(error).split())[:200]
        raise HooksError(f"{repo} cannot be written: {why}; log in with `hf auth login`, or check the name") from error
    return str(done.commit_url)
