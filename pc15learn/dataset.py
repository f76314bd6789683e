"""Labels -> feature tensors -> batches: what M1, M2 and M3 are fitted to.

The residual before each layer is drawn again from the label, and its features come from `pc15.hooks.features`, as in
the encoder.  The split is by picture.  Batches are shuffled by (seed, epoch) alone, so a run that is resumed sees the
same ones.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pc15.errors import SchemaError
from pc15.hooks.features import FEATURES, layer_features
from pc15.hooks.learned import Role, normalisation
from pc15.proc.codebook import Codebook
from pc15.proc.generators import NAMES
from pc15learn.labels.read import LabelBatch, LabelFolder, label_batches, load_labels, residuals
from pc15learn.labels.write import Oracle

__all__ = ["EpochSampler", "LabelData", "LabelTensors", "to_tensors"]

_LEAST_WEIGHT = 0.05
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelTensors:
    """One row per (tile, layer) that the oracle filled: N of them, with M candidates in all.

    features: [N,F] float32.   picture: [N] int64, number of the picture.   held_back: [N] 0 train, 1 val, 2 test.
    gen, qv: [N] int64, the choice.   offsets: [N,MAX_PARAMS] int64.   d0, rd: [N] float64, before and after.
    area: pixels that a tile owns, which bits are shared among.
    owner: [M] int64, row that a candidate belongs to.   c_gen, c_qv, c_amp: [M] int64.   c_d, c_bits: [M] float64.
    """

    features: Tensor
    picture: Tensor
    held_back: Tensor
    gen: Tensor
    qv: Tensor
    offsets: Tensor
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


def to_tensors(rows: Any, oracle: Oracle, *, codebook: Codebook) -> LabelTensors:
    """Features and targets of a labels dataset.

    Raises:
        SchemaError: not one filled layer in it, or values out of range.
    """
    options, steps = oracle.facts["options"], (oracle.facts["steps"]["amp"], oracle.facts["steps"]["dc"])
    pictures: dict[str, int] = {}
    parts: list[dict[str, Any]] = []
    first = 0
    for batch in label_batches(rows, options["tile"], "drawing residuals"):
        made = _one_batch(batch, steps, options["seed"], codebook, pictures)
        made["owner"] += first
        first += len(made["gen"])
        parts.append(made)
    if not first:
        raise SchemaError("the labels hold no tile with a layer: every tile was flat; label pictures with detail")
    columns = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return LabelTensors(area=float((options["tile"] - options["overlap"]) ** 2), **columns)


def _one_batch(
    batch: LabelBatch, steps: tuple[int, int], seed: int, codebook: Codebook, pictures: dict[str, int]
) -> dict[str, Tensor]:
    """Columns of `LabelTensors` for one batch, layer by layer; owners count from 0."""
    programs = batch.programs(codebook)
    features, order = [], []
    for layer, at, residual in residuals(batch.pixels, programs, steps=steps, seed=seed, codebook=codebook):
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
        "d0": real(batch.layer["d0"][rows]),
        "rd": real(batch.layer["rd"][rows]),
        "owner": whole(np.repeat(np.arange(len(rows)), lengths)),
        "c_gen": whole(batch.tried["gen"][tried]),
        "c_qv": whole(batch.tried["qv"][tried]),
        "c_amp": whole(batch.tried["amp"][tried]),
        "c_d": real(batch.tried["d"][tried]),
        "c_bits": real(batch.tried["bits"][tried]),
    }


# ---------------------------------------------------------------- targets of the three roles


def selector_targets(data: LabelTensors, lam: float, temperature: float) -> dict[str, Tensor]:
    """M1: share of every generator, [N,G] float32, soft by how far its best candidate falls behind; choice and weight.

        share ~ exp(-(RD - best RD) / (temperature * (D before - best RD)))

    Several generators are often nearly tied; a hard label would teach noise.
    """
    rd = data.c_d + lam * data.c_bits / data.area
    n, gens = len(data), len(NAMES)
    best = torch.full((n * gens,), float("inf"), dtype=torch.float64)
    best.scatter_reduce_(0, data.owner * gens + data.c_gen, rd, "amin")
    best.scatter_reduce_(0, torch.arange(n) * gens + data.gen, data.rd, "amin")
    table = best.view(n, gens)
    low = table.amin(dim=1, keepdim=True)
    gain = (data.d0.view(-1, 1) - low).clamp(min=1e-9)
    share = torch.exp(-(table - low) / (temperature * gain))
    share = share / share.sum(dim=1, keepdim=True)
    weight = gain.sqrt()
    weight = (weight / weight.mean()).clamp(0.2, 5.0)
    return {"owner": torch.arange(n), "share": share.float(), "best": data.gen, "weight": weight[:, 0].float()}


def param_targets(data: LabelTensors, lam: float, temperature: float) -> dict[str, Tensor]:
    """M2: the best entry of every generator that a row has candidates of; offsets where the choice has some.

    owner: [P] row.   gen, qv: [P].   offsets: [P,MAX_PARAMS] float32.   chosen: [P] 1 where offsets count.
    weight: [P], by how near the pair came to the best.
    """
    rd = data.c_d + lam * data.c_bits / data.area
    owner = torch.cat([torch.arange(len(data)), data.owner])
    gen, qv = torch.cat([data.gen, data.c_gen]), torch.cat([data.qv, data.c_qv])
    rd = torch.cat([data.rd, rd])
    chosen = torch.cat([torch.ones(len(data)), torch.zeros(len(data.owner))])
    order = torch.from_numpy(np.lexsort((-chosen.numpy(), rd.numpy(), gen.numpy(), owner.numpy())))
    owner, gen, qv, rd, chosen = owner[order], gen[order], qv[order], rd[order], chosen[order]
    first = torch.ones(len(owner), dtype=torch.bool)
    first[1:] = (owner[1:] != owner[:-1]) | (gen[1:] != gen[:-1])
    owner, gen, qv, rd, chosen = owner[first], gen[first], qv[first], rd[first], chosen[first]
    gain = (data.d0 - data.rd).clamp(min=1e-9)[owner]
    weight = torch.exp(-((rd - data.rd[owner]).clamp(min=0.0) / (2.0 * temperature * gain)).clamp(max=30.0))
    keep = (weight > _LEAST_WEIGHT) | (chosen > 0)
    offsets = data.offsets[owner].float() * chosen.view(-1, 1)
    return {
        "owner": owner[keep],
        "gen": gen[keep],
        "qv": qv[keep],
        "offsets": offsets[keep],
        "chosen": chosen[keep].float(),
        "weight": weight[keep].float(),
    }


def rd_targets(data: LabelTensors, codebook: Codebook) -> dict[str, Tensor]:
    """M3: the entry of each candidate, all generators counted through, and its gain in D and bits, [M,2] float32."""
    starts = torch.tensor([0, *itertools.accumulate(codebook.size(gen) for gen in range(len(NAMES)))])
    target = torch.stack([data.d0[data.owner] - data.c_d, data.c_bits], dim=1)
    return {"owner": data.owner, "entry": starts[data.c_gen] + data.c_qv, "target": target.float()}


# ---------------------------------------------------------------- batches


class _Items(Dataset[dict[str, Tensor]]):
    """Targets whose `owner` is a row of shared features; a batch is fetched with a few indexings."""

    def __init__(self, features: Tensor, targets: dict[str, Tensor]) -> None:
        self.features, self.targets = features, targets

    def __len__(self) -> int:
        return len(self.targets["owner"])

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        at = torch.tensor(indices)
        batch = {name: values[at] for name, values in self.targets.items()}
        return {"features": self.features[batch.pop("owner")], **batch}


def _as_is(batch: Any) -> Any:
    return batch


class EpochSampler(Sampler[int]):
    """A permutation that depends on (seed, epoch) alone; Lightning calls `set_epoch`."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) & 0x7FFFFFFF)
        return iter(torch.randperm(self.count, generator=generator).tolist())

    def __len__(self) -> int:
        return self.count


class LabelData(LightningDataModule):
    """Batches of one role, from a folder of labels.

    Args:
        labels: folder that `make_labels` wrote.   role: whose targets.
        batch_size: items per step.   seed: of the shuffling.
        temperature: softness of labels, as a share of a layer's gain.
    """

    def __init__(
        self, labels: str | Path, role: Role, *, batch_size: int = 1024, seed: int = 1234, temperature: float = 0.1
    ) -> None:
        super().__init__()
        self.labels, self.role = Path(labels), role
        self.batch_size, self.seed, self.temperature = batch_size, seed, temperature
        folder = LabelFolder.open(self.labels)
        self.oracle, self.codebook = folder.oracle, folder.codebook
        self._sets: tuple[_Items, _Items] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read and draw everything once."""
        if self._sets is not None:
            return
        data = to_tensors(load_labels(self.labels), self.oracle, codebook=self.codebook)
        held_back = _with_validation(data)
        self.normalisation = normalisation(data.features[held_back == 0].numpy())
        mean, std = (torch.tensor(self.normalisation[key]) for key in ("mean", "std"))
        features = (data.features - mean) / std
        lam = float(self.oracle.facts["options"]["lambda_rd"])
        if self.role == "selector":
            targets = selector_targets(data, lam, self.temperature)
        elif self.role == "params":
            targets = param_targets(data, lam, self.temperature)
        else:
            targets = rd_targets(data, self.codebook)
        owner, parts = targets["owner"], []
        for split in (0, 1):
            at = torch.nonzero(held_back[owner] == split).flatten()
            if not len(at):
                raise SchemaError(f"{self.labels}: the {('train', 'val')[split]} split has no items; label more tiles")
            parts.append(_Items(features, {name: values[at] for name, values in targets.items()}))
        self._sets = parts[0], parts[1]
        self.counts = {
            "layers": len(data),
            "pictures": int(data.picture.max()) + 1,
            "train_items": len(parts[0]),
            "val_items": len(parts[1]),
        }

    @property
    def train_targets(self) -> dict[str, Tensor]:
        """Targets of the train split."""
        assert self._sets is not None, "call setup() first"
        return self._sets[0].targets

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self._sets is not None, "call setup() first"
        items = self._sets[0]
        sampler = EpochSampler(len(items), self.seed)
        return DataLoader(items, batch_size=self.batch_size, sampler=sampler, collate_fn=_as_is)

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self._sets is not None, "call setup() first"
        return DataLoader(self._sets[1], batch_size=self.batch_size, collate_fn=_as_is)


def _with_validation(data: LabelTensors) -> Tensor:
    """The split of every row; a set too small to have a val picture lends its first one, by number."""
    held_back = data.held_back.clone()
    for wanted, source in ((1, 0), (0, 1)):
        if bool((held_back == wanted).any()):
            continue
        pictures = torch.unique(data.picture[held_back == source])
        spare = torch.unique(data.picture[held_back == 2])
        lent = pictures[:1] if len(pictures) > 1 else spare[:1]
        if not len(lent):
            raise SchemaError("the labels come from one picture, so there is none to validate on; cut tiles from more")
        _log.warning("no picture is in the %s split: one is lent to it", ("train", "val")[wanted])
        held_back[data.picture == lent[0]] = wanted
    return held_back
