"""Codebooks: qv_id + offsets <-> parameter levels, one frozen list of level vectors per generator.

A layer names an entry (`qv_id`) and, when it pays, a small signed step per parameter (`offsets`), so that the search
may start from a coarse bank and end on the finest level.  `v15_grid` is the regular grid that the generators
themselves declare; any other id is a file, `<PC15_MODELS_DIR>/codebooks/<id>.npz` or packaged beside this module.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pc15.errors import MissingTableError
from pc15.paths import models_dir, write_atomic
from pc15.proc.generators import NAMES, load

GRID_ID = "v15_grid"
OFFSET_MAX = 4
"""Offsets are signed level steps in [-OFFSET_MAX, OFFSET_MAX]."""


@dataclass(frozen=True, eq=False)
class Codebook:
    """entries[gen]: [E, n_params] int32 levels; an empty one switches a generator off."""

    id: str
    entries: tuple[Tensor, ...]

    def size(self, gen: int) -> int:
        """Number of entries of a generator."""
        return int(self.entries[gen].shape[0])

    def levels(self, gen: int, qv_id: Tensor, offsets: Tensor) -> Tensor:
        """Levels that an entry and its offsets stand for, [B, n_params] int32; ranges clamp, periods wrap.

        Args:
            qv_id: [B] int.   offsets: [B, >= n_params] int, further columns are ignored.
        """
        base = self.entries[gen].to(qv_id.device)[qv_id.long()]
        return self.clamp(gen, base + offsets[:, : base.shape[1]])

    @staticmethod
    def clamp(gen: int, levels: Tensor) -> Tensor:
        """Bring levels back into range: periodic parameters wrap, the others stop at their ends."""
        params = load(gen).params
        if not params:
            return levels
        top = torch.tensor([p.levels for p in params], device=levels.device)
        periodic = torch.tensor([p.periodic for p in params], device=levels.device)
        clamped = torch.minimum(levels.clamp(min=0), top - 1)
        return torch.where(periodic, levels.remainder(top), clamped).to(torch.int32)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every level, in order."""
        digest = hashlib.sha256()
        for name, entry in zip(NAMES, self.entries, strict=True):
            digest.update(f"{name}:{tuple(entry.shape)}".encode())
            digest.update(entry.numpy().astype("<i4").tobytes())
        return digest.hexdigest()


@functools.cache
def load_codebook(codebook_id: str) -> Codebook:
    """The codebook of that id.

    Raises:
        MissingTableError: neither `PC15_MODELS_DIR` nor the package has it, or the file is damaged.
    """
    if codebook_id == GRID_ID:
        return Codebook(GRID_ID, tuple(_grid(gen) for gen in range(len(NAMES))))
    if not re.fullmatch(r"[a-z0-9_-]{1,32}", codebook_id):
        raise MissingTableError(f"{codebook_id!r} is no codebook id (lower case, digits, _ and -, at most 32)")
    places = [Path(__file__).parent / f"{codebook_id}.npz"]
    if (override := models_dir()) is not None:
        places.insert(0, override / "codebooks" / f"{codebook_id}.npz")
    for place in places:
        if place.is_file():
            return _read(codebook_id, place)
    looked = " and ".join(str(place) for place in places)
    raise MissingTableError(f"no codebook {codebook_id!r}: looked for {looked}; set PC15_MODELS_DIR to where it lies")


def save_codebook(path: Path, codebook: Codebook) -> None:
    """Write a codebook as the .npz that `load_codebook` reads."""
    arrays: dict[str, Any] = {n: e.numpy().astype("<i4") for n, e in zip(NAMES, codebook.entries, strict=True)}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def _grid(gen: int) -> Tensor:
    """Every combination of a generator's coarse levels, the last parameter running fastest."""
    axes = [p.coarse_levels for p in load(gen).params]
    return torch.tensor(list(itertools.product(*axes)), dtype=torch.int32).view(-1, len(axes))


def _read(codebook_id: str, path: Path) -> Codebook:
    entries = []
    try:
        with np.load(path, allow_pickle=False) as stored:
            for gen, name in enumerate(NAMES):
                params = load(gen).params
                entry = stored[name] if name in stored else np.zeros((0, len(params)), "<i4")
                if entry.ndim != 2 or entry.shape[1] != len(params):
                    raise ValueError(f"{name} has shape {entry.shape}, this build's has {len(params)} parameters")
                limits = np.array([p.levels for p in params])
                if ((entry < 0) | (entry >= limits)).any():
                    raise ValueError(f"{name} has levels out of range")
                entries.append(torch.from_numpy(entry.astype(np.int32)))
    except (OSError, ValueError, KeyError) as error:
        raise MissingTableError(f"codebook {codebook_id!r} in {path} is damaged: {error}; make it anew") from error
    return Codebook(codebook_id, tuple(entries))
