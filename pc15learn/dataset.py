"""Data of a fit: labels of a folder, features made of them, or the oracle, searching crops while the net trains.

The split is by picture.  Batches are shuffled by (seed, epoch) alone, and so are the crops, so a run that is resumed
sees the same ones.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler

from pc15.config import CodecConfig
from pc15.errors import ConfigError, SchemaError
from pc15.proc.codebook import Codebook
from pc15.runtime.notices import NOTE
from pc15.search.bank import Bank, get_bank
from pc15.search.windows import Surroundings
from pc15learn.features import FeatureFolder, in_order, is_features
from pc15learn.label_tensors import LabelTensors, from_labels
from pc15learn.labels.manifest import Oracle
from pc15learn.labels.read import LabelFolder
from pc15learn.online import OnlineLabels

__all__ = ["EpochSampler", "LabelData", "RankBatches", "RowsInMemory", "as_is", "with_validation"]

_BLOCK = 1 << 10  # neighbours that are read together: 1.3 MB of features
_TOGETHER = 1 << 20  # items that are shuffled together: 1.3 GB of features
_LONG_TO_DRAW = 1 << 16  # tiles, each rate counted: half a minute
_log = logging.getLogger(__name__)


class RowsInMemory(Dataset[Any]):
    """Rows that `pick` takes some of, as `LabelTensors`; a batch is fetched with a few indexings."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> Any:
        return self.rows.pick(torch.tensor(indices))


class _MappedRows(Dataset[LabelTensors]):
    """Some rows of features on the disk; a batch is read when it is fetched."""

    def __init__(self, features: FeatureFolder, own: np.ndarray[Any, Any]) -> None:
        self._features, self._own = features, own

    def __len__(self) -> int:
        return len(self._own)

    def __getitem__(self, index: int) -> LabelTensors:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> LabelTensors:
        return self._features.rows(self._own[np.array(indices, np.int64)])


def as_is(batch: Any) -> Any:
    """A batch that was fetched whole."""
    return batch


class EpochSampler(Sampler[int]):
    """A permutation that depends on (seed, epoch) alone; Lightning calls `set_epoch`.

    Of many items, blocks of neighbours are shuffled, and then the items of a thousand blocks at a time: what lies on
    a disk is read a block at a time, and no more of it is wanted at once than a system keeps in memory.
    """

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed, self.epoch = count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + self.epoch) & 0x7FFFFFFF)
        if self.count <= _TOGETHER:
            yield from _listed(torch.randperm(self.count, generator=generator))
            return
        blocks = torch.randperm(-(-self.count // _BLOCK), generator=generator)
        for some in blocks.split(_TOGETHER // _BLOCK):
            own = (some[:, None] * _BLOCK + torch.arange(_BLOCK)).flatten()
            own = own[own < self.count]
            yield from _listed(own[torch.randperm(len(own), generator=generator)])

    def __len__(self) -> int:
        return self.count


def _listed(values: Tensor) -> Iterator[int]:
    """Numbers one by one; never a list of all of them."""
    for some in values.split(1 << 16):
        yield from some.tolist()


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
        order = np.fromiter(self.sampler, np.int64, count=len(self.sampler))  # type: ignore[arg-type]
        ends = [*self._starts[1:], len(order)]
        for start, end in zip(self._starts[first:], ends[first:], strict=True):
            yield order[start + self.rank : end : self.ranks].tolist()

    def __len__(self) -> int:
        return len(self._starts)


class LabelData(LightningDataModule):
    """Batches of `LabelTensors`, from a folder of labels, of features or of photographs.

    Args:
        labels: folder that `make_labels` or `make_features` wrote; or, with `online`, of photographs.
        batch_size: items per step.   seed: of shuffling and of crops.
        online: search crops of the photographs as they are needed.   lambdas: rates to search at, online.
        items: rows per epoch, online.   device: to search on, online.
    Raises:
        ConfigError: an option out of range; no photograph for either split.
        SchemaError: labels that are missing or do not follow the schema.
    """

    def __init__(
        self,
        labels: str | Path,
        *,
        batch_size: int = 1024,
        seed: int = 1234,
        online: bool = False,
        lambdas: tuple[float, ...] = (4.0, 2.0, 1.0, 0.5, 0.25),
        items: int = 1 << 20,
        device: str = "auto",
    ) -> None:
        super().__init__()
        self.labels, self.batch_size, self.seed, self.items = Path(labels), batch_size, seed, items
        self.online = OnlineLabels(self.labels, lambdas, seed=seed, device=device) if online else None
        self.features = FeatureFolder.open(self.labels) if not online and is_features(self.labels) else None
        self.folder = (
            None if online else self.features.labels if self.features is not None else LabelFolder.open(self.labels)
        )
        self._sets: tuple[RowsInMemory | _MappedRows | None, RowsInMemory | _MappedRows] | None = None
        self.counts: dict[str, int] = {}

    @property
    def oracle(self) -> Oracle:
        """The search that the labels are of."""
        if self.online is not None:
            return self.online.oracle
        assert self.folder is not None
        return self.folder.oracle

    @property
    def codebook(self) -> Codebook:
        """Codebook that its layers name."""
        if self.online is not None:
            return self.online.codebook
        assert self.folder is not None
        return self.folder.codebook

    @property
    def bank(self) -> Bank:
        """The candidates that rows are of, on the CPU."""
        options = self.oracle.facts["options"]
        return get_bank(int(options["tile"]), self.codebook, int(options["seed"]), torch.device("cpu"))

    @property
    def around(self) -> Surroundings:
        """Surroundings of tiles: of labels they stand alone."""
        return Surroundings.of(self.cfg, blended=self.online is not None)

    @property
    def codec(self) -> str:
        """Fingerprint of what the labels mean."""
        return str(self.oracle.facts["codec"])

    @property
    def made_of(self) -> dict[str, Any]:
        """Arguments that a module takes of the data."""
        return {"bank": self.bank, "around": self.around}

    def facts(self) -> dict[str, Any]:
        """Facts for the card about where a net comes from."""
        facts = self.oracle.facts
        return {
            "oracle": {"fingerprint": self.oracle.fingerprint, "options": facts["options"]},
            "codebook": facts["codebook"],
            "codec": facts["codec"],
            "training_set": {**self.counts, "tiles": facts["tiles"]},
            "rates": [rate.lambda_rd for rate in self.oracle.rates],
        }

    def check_finite(self) -> None:
        """Refuse targets that no net can be fitted to.

        Raises:
            SchemaError: one is infinite or not a number in 32 bits.
        """
        if self.features is not None:
            return  # whoever made them has looked
        held = self.held_back
        for name, values in (("gain", held.gain), ("bits", held.bits), ("behind", held.behind)):
            if not bool(values.isfinite().all()):
                raise SchemaError(f"{self.labels}: a value that {name!r} is made of is not finite; label again")

    @property
    def cfg(self) -> CodecConfig:
        """Options of the oracle, at one of its rates."""
        if self.online is not None:
            return self.online.cfg
        assert self.folder is not None
        return self.folder.cfg(self.folder.rates[0])

    def setup(self, stage: str | None = None) -> None:
        """Read and draw everything once; of features, what tells which rows are whose; online, the validation set."""
        if self._sets is not None:
            return
        if self.online is not None:
            held = self.online.validation()
            self._sets = None, RowsInMemory(held)
            self.counts = {"pictures": self.online.pictures, "train_items": self.items, "val_items": len(held)}
            return
        rows, split, picture, pays = self._of_labels() if self.features is None else self._of_features(self.features)
        if not pays.any():
            raise SchemaError(
                "the labels hold no tile with a layer: none paid for its bits; label pictures of more structure, "
                "or at a lower --lambda"
            )
        split = with_validation(split, picture)
        sets = []
        for which in (0, 1):
            own = np.flatnonzero(split == which)
            if not pays[own].any():
                raise SchemaError(f"{self.labels}: the {('train', 'val')[which]} split has no items; label more tiles")
            sets.append(rows(own))
        self._sets = sets[0], sets[1]
        self.counts = {
            "layers": len(split),
            "pictures": len(np.unique(picture)),
            "train_items": len(sets[0]),
            "val_items": len(sets[1]),
        }

    def _of_labels(self) -> _Set:
        """All rows, drawn."""
        assert self.folder is not None
        if self.folder.rows_wanted > _LONG_TO_DRAW:
            _log.log(
                NOTE,
                "drawing what nets see of %d tiles, by one process and for this fit alone; `pc15learn features %s "
                "--out DIR --jobs N` does it once, by N processes, and a fit takes DIR for labels",
                self.folder.rows_wanted, self.labels,
            )  # fmt: skip
        found = list(from_labels(self.folder)) if int(self.folder.oracle.facts["tiles"]["count"]) else []
        if not found:
            nothing = np.zeros(0, np.int64)
            return lambda own: RowsInMemory(LabelTensors.joined([])), nothing, nothing, nothing
        numbers: dict[str, int] = {}
        rows = LabelTensors.joined([one for one, _, _ in found])
        split = np.concatenate([one for _, one, _ in found])
        names = np.concatenate([one for _, _, one in found]).tolist()
        picture = np.array([numbers.setdefault(name, len(numbers)) for name in names])
        return lambda own: RowsInMemory(rows.pick(torch.from_numpy(own))), split, picture, rows.pays.numpy()

    @staticmethod
    def _of_features(features: FeatureFolder) -> _Set:
        """All rows, mapped."""
        return lambda own: _MappedRows(features, own), features.split, features.picture, features.pays

    @property
    def held_back(self) -> LabelTensors:
        """Rows of the val split; of features, all of them are read."""
        assert self._sets is not None, "call setup() first"
        held = self._sets[1]
        return held.rows if isinstance(held, RowsInMemory) else held.__getitems__(list(range(len(held))))

    def train_dataloader(self) -> DataLoader[LabelTensors]:
        assert self._sets is not None, "call setup() first"
        if self.online is not None:
            rank, ranks = self._ranks()
            return self.online.loader(self.batch_size, self.items, rank=rank, ranks=ranks)
        assert self._sets[0] is not None
        return self._batches(self._sets[0], EpochSampler(len(self._sets[0]), self.seed))

    def val_dataloader(self) -> DataLoader[LabelTensors]:
        assert self._sets is not None, "call setup() first"
        return self._batches(self._sets[1], SequentialSampler(self._sets[1]))

    def _ranks(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)

    def _batches(self, items: RowsInMemory | _MappedRows, sampler: Sampler[int]) -> DataLoader[LabelTensors]:
        """This rank's share of the items' batches."""
        rank, ranks = self._ranks()
        batches = RankBatches(sampler, self.batch_size, rank=rank, ranks=ranks)
        return DataLoader(items, batch_sampler=batches, collate_fn=as_is)


_Set = tuple[
    Callable[[np.ndarray[Any, Any]], "RowsInMemory | _MappedRows"],
    np.ndarray[Any, Any],
    np.ndarray[Any, Any],
    np.ndarray[Any, Any],
]
"""Maker of a set of some of the rows, by their numbers; and the split, the picture's number, whether a layer pays."""


def with_validation(split: np.ndarray[Any, Any], picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The split of every row; a set too small to have a val picture lends its first one."""
    split = split.copy()
    for wanted, source in ((1, 0), (0, 1)):
        if (split == wanted).any():
            continue
        pictures, spare = in_order(picture[split == source]), in_order(picture[split == 2])
        lent = pictures[:1] if len(pictures) > 1 else spare[:1]
        if not lent:
            raise SchemaError("the labels come from one picture, so there is none to validate on; cut tiles from more")
        _log.warning("no picture is in the %s split: one is lent to it", ("train", "val")[wanted])
        split[picture == lent[0]] = wanted
    return split
