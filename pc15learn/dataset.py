"""Labels -> feature tensors -> batches: what M1, M2 and M3 are fitted to.

A label holds pixels and a program; the residual before each layer is drawn again from it with the decoder's own code,
and its features come from `pc15.hooks.features`, as in the encoder.  The split is by picture.  Batches are shuffled by
(seed, epoch) alone, so a run that is resumed sees the same ones.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from pc15.bitstream.records import MAX_PARAMS, LayerRec, Programs, TileRec
from pc15.decode import draw_tiles
from pc15.errors import SchemaError
from pc15.hooks.ai import Role, normalisation
from pc15.hooks.features import layer_features
from pc15.hooks.nets import param_shares
from pc15.paths import cache_dir
from pc15.proc.codebook import Codebook, load_codebook
from pc15.proc.generators import NAMES
from pc15learn.labels import Oracle, read_manifest, shard_paths
from pc15learn.schema import LabelRow, features_of, hf_datasets, mend, pixels_from_text

__all__ = ["EpochSampler", "LabelData", "LabelTensors", "load_labels", "residuals", "to_tensors"]

_BATCH_TILES = 256
_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class LabelTensors:
    """One row per (tile, layer) that the oracle filled: N of them, with M candidates in all.

    features: [N,F] float32.   picture: [N] int64, number of the picture.   held_back: [N] 0 train, 1 val, 2 test.
    gen, qv: [N] int64, the choice.   offsets: [N,MAX_PARAMS] int64.   d0, rd: [N] float64, before and after.
    area: [N] float64, pixels of the tile.
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
    area: Tensor
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
    pixels: Tensor, records: Sequence[TileRec], *, steps: tuple[int, int], seed: int, codebook: Codebook
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """What is left of tiles before each layer: (layer, tiles that have it [m], residual [m,T,T] int32 Q12).

    Args:
        pixels: [n,T,T] uint8.   records: the tiles' programs.   steps: indices of amplitude and DC step.
    """
    picture = torch.div(pixels.to(torch.int32) * 4096 + 127, 255, rounding_mode="floor")
    most = max((len(record.layers) for record in records), default=0)
    for layer in range(most):
        at = torch.tensor([i for i, record in enumerate(records) if len(record.layers) > layer])
        before = [TileRec(records[i].dc, records[i].layers[:layer]) for i in at.tolist()]
        drawn = draw_tiles(
            Programs.from_records(before), pixels.shape[1], steps[0], steps[1], seed, codebook, torch.device("cpu")
        )
        yield layer, at, picture[at] - drawn


def to_tensors(rows: Any, oracle: Oracle, *, codebook: Codebook) -> LabelTensors:
    """Features and targets of a labels dataset.

    Raises:
        SchemaError: not one filled layer in it.
    """
    options, steps = oracle.facts["options"], (oracle.facts["steps"]["amp"], oracle.facts["steps"]["dc"])
    pictures: dict[str, int] = {}
    parts: list[dict[str, Any]] = []
    columns: dict[str, list[Any]] = {
        key: [] for key in ("picture", "held_back", "gen", "qv", "offsets", "d0", "rd", "area")
    }
    tried: dict[str, list[Any]] = {key: [] for key in ("owner", "gen", "qv", "amp", "d", "bits")}
    features: list[Tensor] = []
    count = 0
    with tqdm(total=len(rows), desc="drawing residuals", unit="tile", disable=None, leave=False) as progress:
        for batch in rows.iter(batch_size=_BATCH_TILES):
            parts = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            pixels = torch.stack([pixels_from_text(row["pixels"], row["tile"]) for row in parts])
            records = [_record(row) for row in parts]
            for layer, at, residual in residuals(pixels, records, steps=steps, seed=options["seed"], codebook=codebook):
                features.append(layer_features(residual, layer))
                for i in at.tolist():
                    row = parts[i]
                    _append(columns, tried, row, row["layers"][layer], count, pictures)
                    count += 1
            progress.update(len(parts))
    if not count:
        raise SchemaError("the labels hold no tile with a layer: every tile was flat; label pictures with detail")

    def whole(values: list[Any]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(v, np.int64).reshape(-1) for v in values]))

    def real(values: list[Any]) -> Tensor:
        return torch.from_numpy(np.concatenate([np.asarray(v, np.float64).reshape(-1) for v in values]))

    return LabelTensors(
        features=torch.cat(features),
        picture=whole(columns["picture"]),
        held_back=whole(columns["held_back"]),
        gen=whole(columns["gen"]),
        qv=whole(columns["qv"]),
        offsets=whole(columns["offsets"]).view(-1, MAX_PARAMS),
        d0=real(columns["d0"]),
        rd=real(columns["rd"]),
        area=real(columns["area"]),
        owner=whole(tried["owner"]),
        c_gen=whole(tried["gen"]),
        c_qv=whole(tried["qv"]),
        c_amp=whole(tried["amp"]),
        c_d=real(tried["d"]),
        c_bits=real(tried["bits"]),
    )


def _record(row: dict[str, Any]) -> TileRec:
    layers = tuple(LayerRec(l["gen"], l["qv"], tuple(l["offsets"]), l["seed"], l["amp"]) for l in row["layers"])
    return TileRec(row["dc"], layers)


def _append(
    columns: dict[str, list[Any]],
    tried: dict[str, list[Any]],
    row: dict[str, Any],
    layer: dict[str, Any],
    number: int,
    pictures: dict[str, int],
) -> None:
    """Add one (tile, layer) to the columns; the choice itself counts as its first candidate."""
    picture = row["tile_id"].split("-", 1)[0]
    columns["picture"].append(pictures.setdefault(picture, len(pictures)))
    columns["held_back"].append(("train", "val", "test").index(row["split"]))
    for key in ("gen", "qv", "d0", "rd"):
        columns[key].append(layer[key])
    columns["offsets"].append([*layer["offsets"], *[0] * (MAX_PARAMS - len(layer["offsets"]))])
    columns["area"].append(float(row["tile"] ** 2))
    candidates = layer["candidates"]
    tried["owner"].append([number] * len(candidates["gen"]))
    for key in ("gen", "qv", "amp", "d", "bits"):
        tried[key].append(candidates[key])


# ---------------------------------------------------------------- targets of the three roles


def selector_targets(data: LabelTensors, lam: float, temperature: float) -> dict[str, Tensor]:
    """M1: share of every generator, [N,G] float32, soft by how far its best candidate falls behind.

        share ~ exp(-(RD - best RD) / (temperature * (D before - best RD)))

    Several generators are often nearly tied; a hard label would teach noise.
    """
    rd = data.c_d + lam * data.c_bits / data.area[data.owner]
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
    return {"share": share.float(), "best": data.gen, "weight": weight[:, 0].float()}


def param_targets(data: LabelTensors, lam: float, temperature: float) -> dict[str, Tensor]:
    """M2: the best entry of every generator that a row has candidates of; offsets where the choice has some.

    owner: [P] row.   gen, qv: [P].   offsets: [P,MAX_PARAMS] float32.   chosen: [P] 1 where offsets count.
    weight: [P], by how near the pair came to the best.
    """
    rd = data.c_d + lam * data.c_bits / data.area[data.owner]
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
    keep = (rd < data.d0[owner]) | (chosen > 0)
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
    """M3: what each candidate gains in D and costs in bits, [M,2] float32, with its parameters, [M,MAX_PARAMS]."""
    levels = torch.zeros((len(data.owner), MAX_PARAMS), dtype=torch.int32)
    for gen in torch.unique(data.c_gen).tolist():
        at = torch.nonzero(data.c_gen == gen).flatten()
        entries = codebook.entries[gen]
        levels[at, : entries.shape[1]] = entries[data.c_qv[at]]
    target = torch.stack([data.d0[data.owner] - data.c_d, data.c_bits], dim=1)
    return {
        "owner": data.owner,
        "gen": data.c_gen,
        "params": param_shares(data.c_gen, levels),
        "target": target.float(),
    }


# ---------------------------------------------------------------- batches


class _Items(Dataset[dict[str, Tensor]]):
    """Targets that point into shared features; a batch is fetched with a few indexings."""

    def __init__(self, features: Tensor, targets: dict[str, Tensor]) -> None:
        self.features, self.targets = features, targets
        self.owner = targets.get("owner")

    def __len__(self) -> int:
        return len(next(iter(self.targets.values())))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return self.__getitems__([index])

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        at = torch.tensor(indices)
        owner = at if self.owner is None else self.owner[at]
        batch = {name: values[at] for name, values in self.targets.items() if name != "owner"}
        return {"features": self.features[owner], **batch}


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
        owner = targets.get("owner", torch.arange(len(data)))
        parts = []
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
