"""Labels -> feature tensors -> batches: what M1, M2 and M3 are fitted to.

A label holds pixels and a program; the residual before each layer is drawn again from it with the decoder's own code,
and its features come from `pc15.hooks.features`, as in the encoder.  The split is by picture.  Batches are shuffled by
(seed, epoch) alone, so a run that is resumed sees the same ones.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from pc15.bitstream.records import MAX_LAYERS, MAX_PARAMS, Programs
from pc15.decode import dc_samples, draw_tiles
from pc15.errors import SchemaError
from pc15.hooks.ai import Role, normalisation
from pc15.hooks.features import FEATURES, layer_features
from pc15.paths import cache_dir
from pc15.proc.codebook import Codebook, load_codebook
from pc15.proc.generators import NAMES
from pc15learn.labels import Oracle, read_manifest, shard_paths
from pc15learn.schema import LabelRow, features_of, hf_datasets, mend, pixels_from_text

__all__ = ["EpochSampler", "LabelData", "LabelTensors", "load_labels", "residuals", "to_tensors"]

_BATCH_TILES = 256
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


def load_labels(folder: str | Path) -> Any:
    """All labels of a folder as one Hugging Face dataset, memory-mapped, with fixed types.

    Raises:
        SchemaError: no labels there, or rows that do not follow the schema.
    """
    datasets = hf_datasets()
    paths = shard_paths(folder)
    for path in paths:
        mend(path)
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(
            "json",
            data_files=[str(path) for path in paths],
            features=features_of(LabelRow),
            split="train",
            cache_dir=str(cache_dir() / "datasets"),
        )
    except (datasets.exceptions.DatasetGenerationError, ValueError, TypeError) as error:
        cause = error.__cause__ or error
        raise SchemaError(f"labels in {folder} do not follow the schema: {cause}; label them again") from error


def residuals(
    pixels: Tensor, programs: Programs, *, steps: tuple[int, int], seed: int, codebook: Codebook
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """What is left of tiles before each layer: (layer, tiles that have it [m], residual [m,T,T] int32 Q12).

    Args:
        pixels: [n,T,T] uint8.   programs: of the tiles.   steps: indices of amplitude and DC step.
    """
    tile, device = pixels.shape[1], torch.device("cpu")
    left = torch.div(pixels.to(torch.int32) * 4096 + 127, 255, rounding_mode="floor").to(torch.int32)
    left -= dc_samples(torch.from_numpy(programs.dc), steps[1]).view(-1, 1, 1)
    for layer in range(int(programs.count.max(initial=0))):
        at = np.flatnonzero(programs.count > layer)
        where = torch.from_numpy(at)
        yield layer, where, left[where]
        only = Programs.empty(len(at), 1)
        only.count[:] = 1
        for name in ("gen", "qv", "seed", "amp", "offsets"):
            getattr(only, name)[:, 0] = getattr(programs, name)[at, layer]
        left[where] -= draw_tiles([only], tile, steps[0], seed, codebook, device)


def to_tensors(rows: Any, oracle: Oracle, *, codebook: Codebook) -> LabelTensors:
    """Features and targets of a labels dataset.

    Raises:
        SchemaError: not one filled layer in it, or values out of range.
    """
    options, steps = oracle.facts["options"], (oracle.facts["steps"]["amp"], oracle.facts["steps"]["dc"])
    pictures: dict[str, int] = {}
    parts: list[dict[str, Any]] = []
    first = 0
    with tqdm(total=len(rows), desc="drawing residuals", unit="tile", disable=None, leave=False) as progress:
        for table in rows.with_format("arrow").iter(batch_size=_BATCH_TILES):
            batch = _Batch.read(table, options["tile"])
            made = _one_batch(batch, steps, options["seed"], codebook, pictures)
            made["owner"] += first
            first += len(made["gen"])
            parts.append(made)
            progress.update(len(batch.pixels))
    if not first:
        raise SchemaError("the labels hold no tile with a layer: every tile was flat; label pictures with detail")
    columns = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return LabelTensors(area=float((options["tile"] - options["overlap"]) ** 2), **columns)


@dataclass(frozen=True, eq=False)
class _Batch:
    """Rows of one batch as arrays: tiles, their layers one after another, and those layers' candidates likewise.

    layer_start: [n+1], layers of tile i are layer_start[i]:layer_start[i+1].   tried_start: [L+1] likewise.
    """

    picture: list[str]
    split: list[str]
    pixels: Tensor
    dc: np.ndarray[Any, Any]
    layer_start: np.ndarray[Any, Any]
    layer: dict[str, np.ndarray[Any, Any]]
    offsets: np.ndarray[Any, Any]
    tried_start: np.ndarray[Any, Any]
    tried: dict[str, np.ndarray[Any, Any]]

    @classmethod
    def read(cls, table: Any, tile: int) -> _Batch:
        """From an Arrow table of `LabelRow`s."""
        table = table.combine_chunks()
        columns = {name: _whole(table.column(name)) for name in table.column_names}
        layers = columns["layers"].flatten()
        offsets = layers.field("offsets")
        tried = layers.field("candidates")
        steps = np.zeros((len(layers), MAX_PARAMS), np.int64)
        start = _starts(offsets)
        for column in range(MAX_PARAMS):
            has = np.flatnonzero(np.diff(start) > column)
            steps[has, column] = _array(offsets.flatten())[start[has] + column]
        return cls(
            picture=[name.split("-", 1)[0] for name in columns["tile_id"].to_pylist()],
            split=columns["split"].to_pylist(),
            pixels=torch.stack([pixels_from_text(text, tile) for text in columns["pixels"].to_pylist()]),
            dc=_array(columns["dc"]).astype(np.int64),
            layer_start=_starts(columns["layers"]),
            layer={name: _array(layers.field(name)) for name in ("gen", "qv", "seed", "amp", "d0", "rd")},
            offsets=steps,
            tried_start=_starts(tried.field("gen")),
            tried={name: _array(tried.field(name).flatten()) for name in ("gen", "qv", "amp", "d", "bits")},
        )


def _whole(column: Any) -> Any:
    """A column's one chunk."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _array(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _starts(lists: Any) -> np.ndarray[Any, Any]:
    """Where each list begins in the flattened values, [n+1]."""
    lengths = np.asarray(lists.value_lengths().to_numpy(zero_copy_only=False), np.int64)
    return np.concatenate([[0], np.cumsum(lengths)])


def _one_batch(
    batch: _Batch, steps: tuple[int, int], seed: int, codebook: Codebook, pictures: dict[str, int]
) -> dict[str, Tensor]:
    """Columns of `LabelTensors` for one batch, layer by layer; owners count from 0."""
    programs = _programs(batch, codebook)
    features, order = [], []
    for layer, at, residual in residuals(batch.pixels, programs, steps=steps, seed=seed, codebook=codebook):
        features.append(layer_features(residual, layer))
        order.append(batch.layer_start[at.numpy()] + layer)
    rows = np.concatenate([np.zeros(0, np.int64), *order])  # number of each row's layer in the batch
    tile = np.repeat(np.arange(len(batch.pixels)), np.diff(batch.layer_start))[rows]
    number = np.array([pictures.setdefault(name, len(pictures)) for name in batch.picture], np.int64)
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


def _programs(batch: _Batch, codebook: Codebook) -> Programs:
    """The tiles' programs, after a check that this build's codebook has what they name."""
    programs = Programs.empty(len(batch.dc))
    programs.dc[:] = batch.dc
    programs.count[:] = np.diff(batch.layer_start)
    gens, entries = batch.layer["gen"], batch.layer["qv"]
    sizes = np.array([codebook.size(gen) for gen in range(len(NAMES))])
    for gen, qv in ((gens, entries), (batch.tried["gen"], batch.tried["qv"])):
        if len(gen) and (gen.min() < 0 or gen.max() >= len(NAMES) or (qv < 0).any() or (qv >= sizes[gen]).any()):
            raise SchemaError(f"the labels name entries that codebook {codebook.id!r} does not have; label again")
    if programs.count.max(initial=0) > MAX_LAYERS:
        raise SchemaError(f"a tile has {programs.count.max()} layers, at most {MAX_LAYERS} are possible; label again")
    tile = np.repeat(np.arange(len(batch.dc)), np.diff(batch.layer_start))
    layer = np.arange(len(gens)) - batch.layer_start[tile]
    for name in ("gen", "qv", "seed", "amp"):
        getattr(programs, name)[tile, layer] = batch.layer[name]
    programs.offsets[tile, layer] = batch.offsets
    return programs


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
        self.oracle = read_manifest(self.labels)
        self.codebook = load_codebook(self.oracle.facts["codebook"]["id"])
        if self.codebook.fingerprint != self.oracle.facts["codebook"]["fingerprint"]:
            raise SchemaError(
                f"{self.labels} was labelled with another codebook {self.codebook.id!r} than this build's; label again"
            )
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
