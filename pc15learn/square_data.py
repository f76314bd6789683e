"""Data of a fit of squares: labels of `pc15learn label --squares` -> what each way to code a square saved, by its time.

The split is by picture; batches are those of `pc15learn.dataset`, shuffled by (seed, epoch) alone.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Sampler, SequentialSampler

from pc15.errors import ConfigError, SchemaError
from pc15.hooks.roles.squares import SquareGuide
from pc15.residual.enc.gate import (
    AGAIN_PAY,
    ANSWERS,
    COLUMNS_PAY,
    INPUTS,
    PARTS_PREDICTIONS_PAY,
    PATTERNS_PAY,
    PREDICTIONS_PAY,
    ROWS_PAY,
    SIDES,
)
from pc15.residual.patterns import SQUARES_FILE
from pc15learn.dataset import EpochSampler, RankBatches, RowsInMemory, as_is, with_validation
from pc15learn.labels.columns import pa
from pc15learn.labels.squares import MANIFEST, SQUARES_VERSION

__all__ = ["TIMES", "SquareBatch", "SquareData"]

Array = np.ndarray[Any, Any]

TIMES = {
    8: (4.0, 12.0, 8.0, 8.0, 6.0, 6.0),
    16: (12.0, 22.0, 35.0, 35.0, 50.0, 30.0),
    32: (30.0, 40.0, 100.0, 100.0, 120.0, 60.0),
    64: (100.0, 200.0, 1.0, 1.0, 1.0, 1.0),
}
"""Time that each way takes in a square of so many px, in units of a typical pixel's: means of the search's own, over
rates and photographs."""
_COLUMNS = ["picture", "split", "lambda", "side", "first", "bits", "saved", "halves", "more", "cut", "inputs"]


@dataclass(frozen=True, eq=False)
class SquareBatch:
    """n squares.

    inputs: [n,INPUTS] int8.   worth: [n,ANSWERS] float32, J that a way saved / J of a typical area that takes as long.
    time: [n,ANSWERS] float32, as `TIMES`; 0 where there is no such way.
    """

    inputs: Tensor
    worth: Tensor
    time: Tensor

    def __len__(self) -> int:
        return len(self.inputs)

    def pick(self, index: Tensor) -> SquareBatch:
        """Some of the squares."""
        return SquareBatch(*(getattr(self, field.name)[index] for field in fields(self)))

    def to(self, device: torch.device) -> SquareBatch:
        """The same on a device."""
        return SquareBatch(*(getattr(self, field.name).to(device) for field in fields(self)))


class SquareData(LightningDataModule):
    """Batches of `SquareBatch`.

    Args:
        labels: folder that `label_squares` wrote.   batch_size: squares per step.   seed: of shuffling.
        online: refused: squares are labelled first.
    Raises:
        ConfigError: online.   SchemaError: labels that are missing, of another version, or without whole squares.
    """

    def __init__(
        self, labels: str | Path, *, batch_size: int = 1024, seed: int = 1234, online: bool = False, **_unused: Any
    ) -> None:
        super().__init__()
        if online:
            raise ConfigError("squares are fitted to labels of pc15learn label --squares; leave --online out")
        self.labels, self.batch_size, self.seed = Path(labels), batch_size, seed
        self.manifest = self._read_manifest()
        self.counts: dict[str, int] = {}
        self._sets: tuple[RowsInMemory, RowsInMemory] | None = None

    def _read_manifest(self) -> dict[str, Any]:
        path = self.labels / MANIFEST
        try:
            facts = json.loads(path.read_bytes())
            version = facts["version"]
        except FileNotFoundError as error:
            raise SchemaError(f"{path} is missing; give a folder that pc15learn label --squares wrote") from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise SchemaError(f"{path} cannot be read: {error}; label again") from error
        if version != SQUARES_VERSION:
            raise SchemaError(f"{path} is of version {version}, this build has {SQUARES_VERSION}; label again")
        return dict(facts)

    @property
    def codec(self) -> str:
        """Fingerprint of what the labels mean."""
        return SquareGuide.made_for(SQUARES_FILE.stem)[1]

    @property
    def made_of(self) -> dict[str, Any]:
        """Arguments that its module takes of the data: none."""
        return {}

    def facts(self) -> dict[str, Any]:
        """Facts for the card about where a net comes from."""
        codebook, codec = SquareGuide.made_for(SQUARES_FILE.stem)
        if self.manifest["codebook"] != codebook:
            raise SchemaError(f"{self.labels} was labelled with another codebook of squares; label again")
        options = {name: self.manifest[name] for name in ("tries", "tools")}
        whole = json.dumps(self.manifest, sort_keys=True).encode()
        return {
            "oracle": {"fingerprint": hashlib.sha256(whole).hexdigest(), "options": options},
            "codebook": {"id": SQUARES_FILE.stem, "fingerprint": codebook},
            "codec": codec,
            "training_set": dict(self.counts),
            "rates": self.manifest["lambdas"],
        }

    def check_finite(self) -> None:
        """Refuse labels that no net can be fitted to.

        Raises:
            SchemaError: one is infinite or not a number.
        """
        assert self._sets is not None, "call setup() first"
        if not all(bool(one.rows.worth.isfinite().all()) for one in self._sets):
            raise SchemaError(f"{self.labels}: a value is not finite; label again")

    def setup(self, stage: str | None = None) -> None:
        """Read everything once."""
        if self._sets is not None:
            return
        shards = sorted(self.labels.glob("squares-*.parquet"))
        if not shards:
            raise SchemaError(f"{self.labels} has no squares; label some pictures with pc15learn label --squares")
        table = pa.concat_tables([pa.parquet.read_table(shard, columns=_COLUMNS) for shard in shards])
        names, picture = np.unique(np.array(table["picture"].to_pylist()), return_inverse=True)
        numbers = {"train": 0, "val": 1, "test": 2}
        split = with_validation(np.array([numbers[name] for name in table["split"].to_pylist()]), picture)
        rows = _batch_of(table, self.labels)
        sets = [RowsInMemory(rows.pick(torch.from_numpy(np.flatnonzero(split == which)))) for which in (0, 1)]
        self._sets = sets[0], sets[1]
        self.counts = {"pictures": len(names), "train_items": len(sets[0]), "val_items": len(sets[1])}

    def train_dataloader(self) -> DataLoader[SquareBatch]:
        assert self._sets is not None, "call setup() first"
        return self._batches(self._sets[0], EpochSampler(len(self._sets[0]), self.seed))

    def val_dataloader(self) -> DataLoader[SquareBatch]:
        assert self._sets is not None, "call setup() first"
        return self._batches(self._sets[1], SequentialSampler(self._sets[1]))

    def _batches(self, items: RowsInMemory, sampler: Sampler[int]) -> DataLoader[SquareBatch]:
        rank, ranks = (self.trainer.global_rank, self.trainer.world_size) if self.trainer is not None else (0, 1)
        batches = RankBatches(sampler, self.batch_size, rank=rank, ranks=ranks)
        return DataLoader(items, batch_sampler=batches, collate_fn=as_is)


def _batch_of(table: pa.Table, labels: Path) -> SquareBatch:
    """All rows; what a way saves is what the square would cost with all others but it, less what it costs with it.

    Of the two first cuts the better one saves what both do: each alone would hardly be missed.
    """
    side, rate = table["side"].to_numpy(), table["lambda"].to_numpy()
    first, bits, saved, more = (
        table[name].to_numpy().astype(np.float64) for name in ("first", "bits", "saved", "more")
    )
    halves = table["halves"].combine_chunks().flatten().to_numpy().reshape(-1, 4)
    halves, cut = (np.where(own > 0, own, np.inf) for own in (halves, table["cut"].to_numpy()))
    drawn, parts, once = bits - saved, halves[:, 1::2].min(axis=1), halves[:, ::2].min(axis=1)
    others = np.minimum(drawn, cut)
    gains = np.zeros((len(table), ANSWERS))
    gains[:, PREDICTIONS_PAY] = np.minimum(np.minimum(first - saved, parts), cut) - drawn
    gains[:, PATTERNS_PAY] = np.minimum(np.minimum(bits, parts), cut) - drawn
    for way, column in (ROWS_PAY, 1), (COLUMNS_PAY, 3):
        gains[:, way] = np.where(halves[:, column] == parts, others - parts, 0.0)
    gains[:, AGAIN_PAY] = np.minimum(others, once) - parts
    gains[:, PARTS_PREDICTIONS_PAY] = np.minimum(others, parts + more) - parts
    best, time = np.minimum(np.minimum(drawn, parts), cut), np.array([TIMES[int(own)] for own in SIDES])
    per_pixel = np.zeros(len(table))
    for value in np.unique(rate):
        whole = (rate == value) & (side == SIDES[-1])
        if not whole.any():
            raise SchemaError(f"{labels} has no square of {SIDES[-1]} px at lambda {value}; label larger pictures")
        per_pixel[rate == value] = best[whole].mean() / SIDES[-1] ** 2
    time = time[np.searchsorted(SIDES, side)]
    worth = np.maximum(gains, 0.0) / (time * per_pixel[:, None])
    time[side == SIDES[-1], ROWS_PAY:] = 0.0
    inputs = table["inputs"].combine_chunks().flatten().to_numpy().reshape(-1, INPUTS)
    return SquareBatch(
        torch.from_numpy(inputs.copy()), torch.from_numpy(worth.astype(np.float32)),
        torch.from_numpy(time.astype(np.float32)),
    )  # fmt: skip
