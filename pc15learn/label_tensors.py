"""Labels -> feature tensors, one row per layer that the oracle filled.

The residual before each layer is drawn again from the label, and its features come from `pc15.hooks.features`, as in
the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pc15.errors import SchemaError
from pc15.hooks.features import FEATURES, layer_features
from pc15.proc.codebook import Codebook
from pc15learn.labels.read import LabelBatch, LabelFolder, residuals

__all__ = ["LabelTensors", "TargetOptions", "to_tensors"]


@dataclass(frozen=True, eq=False)
class LabelTensors:
    """One row per (tile, layer) that the oracle filled: N of them, with M candidates in all.

    features: [N,F] float32.   picture: [N] int64, number of the picture.   held_back: [N] 0 train, 1 val, 2 test.
        gen, qv: [N] int64, the choice.   offsets: [N,MAX_PARAMS] int64.
    lambda_rd: [N] float64.   d0, rd: [N] float64, before and after.
    area: pixels that a tile owns, which bits are shared among.
    owner: [M] int64, row that a candidate belongs to.   c_gen, c_qv, c_amp: [M] int64.   c_d, c_bits: [M] float64.
    """

    features: Tensor
    picture: Tensor
    held_back: Tensor
    gen: Tensor
    qv: Tensor
    offsets: Tensor
    lambda_rd: Tensor
    d0: Tensor
    rd: Tensor
    area: float
    owner: Tensor
    c_gen: Tensor
    c_qv: Tensor
    c_amp: Tensor
    c_d: Tensor
    c_bits: Tensor

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class TargetOptions:
    """Options that targets are made by.

    lambdas: prices of a bit, of the labels.   temperature: softness of labels, as a share of a layer's gain.
    tile, overlap: px, of the oracle's tiles.   codebook: that the labels refer to.
    """

    lambdas: tuple[float, ...]
    temperature: float
    tile: int
    overlap: int
    codebook: Codebook


def to_tensors(folder: LabelFolder) -> LabelTensors:
    """Features and targets of a folder's labels, of all its rates.

    Raises:
        SchemaError: not one filled layer in it, or values out of range.
    """
    pictures: dict[str, int] = {}
    parts: list[dict[str, Any]] = []
    first = 0
    seed = int(folder.oracle.facts["options"]["seed"])
    for batch in folder.batches("drawing residuals"):
        made = _one_batch(batch, seed, folder.codebook, pictures)
        made["owner"] += first
        first += len(made["gen"])
        parts.append(made)
    if not first:
        raise SchemaError("the labels hold no tile with a layer: every tile was flat; label pictures with detail")
    columns = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return LabelTensors(area=float((folder.tile - folder.overlap) ** 2), **columns)


def _one_batch(batch: LabelBatch, seed: int, codebook: Codebook, pictures: dict[str, int]) -> dict[str, Tensor]:
    """Columns of `LabelTensors` for one batch, layer by layer; owners count from 0."""
    programs = batch.programs(codebook)
    features, order = [], []
    for layer, at, residual in residuals(batch.pixels, programs, steps=batch.rate.steps, seed=seed, codebook=codebook):
        features.append(layer_features(residual, layer))
        order.append(batch.layer_start[at.numpy()] + layer)
    rows = np.concatenate([np.zeros(0, np.int64), *order])  # number of each row's layer in the batch
    tile = np.repeat(np.arange(len(batch.pixels)), np.diff(batch.layer_start))[rows]
    number = np.array([pictures.setdefault(name, len(pictures)) for name, _, _ in batch.place], np.int64)
    held_back = np.array([("train", "val", "test").index(name) for name in batch.split], np.int64)
    lengths = np.diff(batch.tried_start)[rows]
    inside = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    tried = np.repeat(batch.tried_start[rows], lengths) + inside

    def whole(values: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(values.astype(np.int64))

    def real(values: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(values.astype(np.float64))

    return {
        "features": torch.cat(features) if features else torch.zeros((0, FEATURES)),
        "picture": whole(number[tile]),
        "held_back": whole(held_back[tile]),
        "gen": whole(batch.layer["gen"][rows]),
        "qv": whole(batch.layer["qv"][rows]),
        "offsets": whole(batch.offsets[rows]),
        "lambda_rd": torch.full((len(rows),), batch.rate.lambda_rd, dtype=torch.float64),
        "d0": real(batch.layer["d0"][rows]),
        "rd": real(batch.layer["rd"][rows]),
        "owner": whole(np.repeat(np.arange(len(rows)), lengths)),
        "c_gen": whole(batch.tried["gen"][tried]),
        "c_qv": whole(batch.tried["qv"][tried]),
        "c_amp": whole(batch.tried["amp"][tried]),
        "c_d": real(batch.tried["d"][tried]),
        "c_bits": real(batch.tried["bits"][tried]),
    }
