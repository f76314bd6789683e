"""Labels -> targets of one role -> batches.

The split is by picture.  Batches are shuffled by (seed, epoch) alone, so a run that is resumed sees the same ones.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

from pc15.errors import ConfigError, SchemaError
from pc15learn.label_tensors import LabelTensors, TargetOptions, to_tensors
from pc15learn.labels.read import LabelFolder
from pc15learn.roles import TRAINING

__all__ = ["EpochSampler", "LabelData", "RankBatches", "normalisation"]

_log = logging.getLogger(__name__)


def normalisation(features: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, list[float]]:
    """Mean and standard deviation of training features, as a card holds them; constant features get 1."""
    mean = features.astype(np.float64).mean(axis=0)
    std = features.astype(np.float64).std(axis=0)
    std = np.where(std < 1e-3, 1.0, std)
    return {"mean": [round(float(v), 6) for v in mean], "std": [round(float(v), 6) for v in std]}


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


class RankBatches(Sampler[list[int]]):
    """One rank's share of every batch.

    All ranks walk through one order, cut into the same batches, so what a step sees does not depend on how many there
    are, and every rank has as many steps.  Shares of a batch differ by one item at most and are never empty: a last
    batch of fewer items than ranks is joined to the one before it.

    Args:
        sampler: the order of all items; Lightning sets its epoch.   batch_size: items per step, of all ranks.
        rank, ranks: this process, and how many there are.
    Raises:
        ConfigError: fewer items, or a smaller batch, than ranks.
    """

    def __init__(self, sampler: Sampler[int], batch_size: int, *, rank: int = 0, ranks: int = 1) -> None:
        self.sampler, self.batch_size, self.rank, self.ranks = sampler, batch_size, rank, ranks
        self._first = 0
        count = len(sampler)  # type: ignore[arg-type]
        if min(count, batch_size) < ranks:
            raise ConfigError(
                f"{ranks} processes cannot share batches of {batch_size} of {count} items; give fewer --devices, a "
                "larger train.batch_size, or more labels"
            )
        starts = range(0, count, batch_size)
        self._starts = starts[:-1] if len(starts) > 1 and count - starts[-1] < ranks else starts

    def start_at(self, batch: int) -> None:
        """Leave out so many batches of the next pass, which a stopped run has seen."""
        self._first = batch

    def __iter__(self) -> Iterator[list[int]]:
        first, self._first = self._first, 0
        order = list(self.sampler)
        ends = [*self._starts[1:], len(order)]
        for start, end in zip(self._starts[first:], ends[first:], strict=True):
            yield order[start + self.rank : end : self.ranks]

    def __len__(self) -> int:
        return len(self._starts)


class LabelData(LightningDataModule):
    """Batches of one role, from a folder of labels.

    Args:
        labels: folder that `make_labels` wrote.   role: whose targets.
        batch_size: items per step.   seed: of the shuffling.
        temperature: softness of labels, as a share of a layer's gain.
    """

    def __init__(
        self, labels: str | Path, role: str, *, batch_size: int = 1024, seed: int = 1234, temperature: float = 0.1
    ) -> None:
        super().__init__()
        self.labels, self.role = Path(labels), role
        self.batch_size, self.seed, self.temperature = batch_size, seed, temperature
        self.folder = LabelFolder.open(self.labels)
        self.oracle, self.codebook = self.folder.oracle, self.folder.codebook
        self._sets: tuple[_Items, _Items] | None = None

    def setup(self, stage: str | None = None) -> None:
        """Read and draw everything once."""
        if self._sets is not None:
            return
        data = to_tensors(self.folder)
        held_back = _with_validation(data)
        self.normalisation = normalisation(data.features[held_back == 0].numpy())
        mean, std = (torch.tensor(self.normalisation[key]) for key in ("mean", "std"))
        features = (data.features - mean) / std
        targets = TRAINING[self.role].targets(data, self.options)
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
    def options(self) -> TargetOptions:
        """Options that the targets are made by."""
        lambdas = tuple(rate.lambda_rd for rate in self.folder.rates)
        return TargetOptions(lambdas, self.temperature, self.folder.tile, self.folder.overlap, self.codebook)

    @property
    def train_targets(self) -> dict[str, Tensor]:
        """Targets of the train split."""
        assert self._sets is not None, "call setup() first"
        return self._sets[0].targets

    def train_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self._sets is not None, "call setup() first"
        return self._batches(self._sets[0], EpochSampler(len(self._sets[0]), self.seed))

    def val_dataloader(self) -> DataLoader[dict[str, Tensor]]:
        assert self._sets is not None, "call setup() first"
        return self._batches(self._sets[1], SequentialSampler(self._sets[1]))

    def _batches(self, items: _Items, sampler: Sampler[int]) -> DataLoader[dict[str, Tensor]]:
        """This rank's share of the items' batches."""
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        batches = RankBatches(sampler, self.batch_size, rank=rank, ranks=ranks)
        return DataLoader(items, batch_sampler=batches, collate_fn=_as_is)


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
