"""last.ckpt or best.ckpt -> net.safetensors + the YAML beside it, which `pc15.hooks.weights` checks.

The weights are written first and the card, which has their hash, second: an export that is stopped between the two
leaves a pair that does not match, and is refused.  The same checkpoint gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
import yaml

from pc15._version import __version__
from pc15.errors import HooksError
from pc15.hooks.roles import ROLES
from pc15.hooks.weights import CARD_VERSION, METADATA_KEY, card_path
from pc15.paths import write_atomic
from pc15learn.fit.checkpoints import read_checkpoint

__all__ = ["Exported", "export_weights"]


@dataclass(frozen=True)
class Exported:
    """The two files of an export."""

    weights: Path
    card: Path


def export_weights(ckpt: str | Path, out: str | Path, *, name: str | None = None) -> Exported:
    """Write a checkpoint's net for the encoder.

    Args:
        ckpt: a last.ckpt or best.ckpt of `pc15learn fit`.
        out: folder; the files are <out>/<role>.safetensors and <out>/<role>.yaml.
        name: of the net, in its card and in streams; the fit's if None.
    Raises:
        HooksError: not a checkpoint of ours, or one that lacks what a validation finds out.
    """
    ckpt, out = Path(ckpt), Path(out)
    facts, state = _read_net(ckpt)
    role = facts["role"]
    stated = {"role": role, "input_version": ROLES[role].input_version, "codec": facts["codec"], "version": __version__}
    text = json.dumps(stated, sort_keys=True, separators=(",", ":"))
    data = safetensors.torch.save(state, metadata={METADATA_KEY: text})
    card: dict[str, Any] = {
        "card": CARD_VERSION,
        "name": name or facts["name"],
        "version": __version__,
        "role": role,
        "input_version": ROLES[role].input_version,
        "sha256": hashlib.sha256(data).hexdigest(),
        "net": {"hidden": facts["hidden"]},
        "codec": facts["codec"],
        "codebook": facts["codebook"],
        "oracle": facts["oracle"],
        "training_set": facts["training_set"],
        "seed": facts["seed"],
        "metrics": facts["metrics"],
        **{key: facts[key] for key in ROLES[role].card_extra if key in facts},
        "rates": facts["rates"],
    }
    if (problem := ROLES[role].card_problem(card)) is not None:
        raise HooksError(
            f"{ckpt} is of before the first validation ({problem}); go on with --resume until an epoch ends"
        )
    out.mkdir(parents=True, exist_ok=True)
    weights = out / f"{role}.safetensors"
    write_atomic(weights, data)
    written = yaml.safe_dump(card, sort_keys=False, default_flow_style=None, width=118, allow_unicode=True)
    write_atomic(card_path(weights), written.encode("utf-8"))
    return Exported(weights, card_path(weights))


def _read_net(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Facts of the net, and its tensors as the encoder reads them.

    Raises:
        HooksError: its layers are others than this build's.
    """
    stored = read_checkpoint(path)
    facts, prefix = stored["pc15"], "net."
    net: Any = ROLES[facts["role"]].make_net(hidden=int(facts["hidden"]))
    state = {key[len(prefix) :]: value for key, value in stored["state_dict"].items() if key.startswith(prefix)}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise HooksError(
            f"{path} was made by another version: {str(error).splitlines()[-1].strip()}; fit again"
        ) from error
    return facts, {name: value.contiguous() for name, value in net.frozen().items()}
