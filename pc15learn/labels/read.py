"""Labels read back: whose they are, their tiles as programs, and what those leave of them, drawn again.

A label holds pixels and a program; what every layer was asked to draw follows from them by the decoder's own code.
Nets, codebooks and tables are all trained on labels as they are read here, a batch at a time: no more than a shard of
a set is in memory.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.programs import MAX_LAYERS, MAX_PARAMS, Programs
from pc15.config import CodecConfig
from pc15.draw import dc_samples, draw_tiles
from pc15.errors import ConfigError, SchemaError
from pc15.grids import TileGridCfg, axis_starts
from pc15.hooks.weights import codec_fingerprint
from pc15.luma import as_q12
from pc15.proc.codebook import Codebook, load_codebook
from pc15.proc.generators import NAMES
from pc15.runtime.notices import bars_hidden
from pc15.search.label import LAYER_TYPES, TRIED_TYPES
from pc15learn.labels.columns import read_shard, rows_in
from pc15learn.labels.manifest import Oracle, Rate, read_manifest, shard_paths
from pc15learn.schema import hf_datasets, place_of

__all__ = ["LabelBatch", "LabelFolder", "Picture", "load_labels", "open_together", "residuals"]

_BATCH_TILES = 512
_MAY_DIFFER = ("options.alpha_mix", "options.lambda_rd", "rates", "steps.", "tiles.", "random", "shard_size")
"""Facts of the oracles of folders that are trained on together, where they may differ: rate, measure, which tiles."""
_log = logging.getLogger(__name__)


# ---------------------------------------------------------------- rows


def load_labels(folder: str | Path) -> Any:
    """All labels of a folder, of either format, as one Hugging Face dataset in memory.

    Raises:
        SchemaError: no labels there, or rows that do not follow the schema.
        MissingExtraError: `datasets` is not installed.
    """
    opened = LabelFolder.open(folder)
    tables = [read_shard(path, opened.oracle) for path in shard_paths(folder)]
    return hf_datasets().Dataset(pa.concat_tables(tables))


@dataclass(frozen=True, eq=False)
class LabelBatch:
    """Rows of one rate as arrays: tiles, their layers one after another, and those layers' candidates likewise.

    rate: that the tiles were labelled at.   place: picture, y and x of each tile.   pixels: [n,T,T] uint8.
    dc, layer_start, layer, offsets, tried_start, tried: as in `TileLabels`, but that tables hold int64 and float64.
    """

    rate: Rate
    place: list[tuple[str, int, int]]
    split: list[str]
    pixels: Tensor
    dc: np.ndarray[Any, Any]
    layer_start: np.ndarray[Any, Any]
    layer: dict[str, np.ndarray[Any, Any]]
    offsets: np.ndarray[Any, Any]
    tried_start: np.ndarray[Any, Any]
    tried: dict[str, np.ndarray[Any, Any]]

    @classmethod
    def read(cls, table: pa.Table, tile: int, rate: Rate) -> LabelBatch:
        """From rows of one rate, see `labels.columns`.

        Raises:
            SchemaError: more layers than a tile can have.
        """
        table = table.combine_chunks()
        columns = {name: _whole(table.column(name)) for name in table.column_names}
        layers = columns["layers"].flatten()
        lists = layers.field("candidates")
        tried = lists.flatten()
        starts = _starts(columns["layers"])
        if np.diff(starts).max(initial=0) > MAX_LAYERS:
            raise SchemaError(
                f"a tile has {np.diff(starts).max()} layers, at most {MAX_LAYERS} are possible; label again"
            )
        pixels = np.frombuffer(b"".join(columns["pixels"].to_pylist()), np.uint8).reshape(-1, tile, tile)
        return cls(
            rate=rate,
            place=[place_of(name) for name in columns["tile_id"].to_pylist()],
            split=columns["split"].to_pylist(),
            pixels=torch.from_numpy(pixels.copy()),
            dc=_array(columns["dc"]).astype(np.int64),
            layer_start=starts,
            layer={name: _wide(layers.field(name)) for name in LAYER_TYPES},
            offsets=_wide(layers.field("offsets").flatten()).reshape(-1, MAX_PARAMS),
            tried_start=_starts(lists),
            tried={name: _wide(tried.field(name)) for name in TRIED_TYPES},
        )

    def programs(self, codebook: Codebook) -> Programs:
        """The tiles' programs.

        Raises:
            SchemaError: they name entries that this codebook does not have.
        """
        programs = Programs.empty(len(self.dc))
        programs.dc[:] = self.dc
        programs.count[:] = np.diff(self.layer_start)
        sizes = np.array([codebook.size(gen) for gen in range(len(NAMES))])
        for gen, qv in ((self.layer["gen"], self.layer["qv"]), (self.tried["gen"], self.tried["qv"])):
            if len(gen) and (gen.min() < 0 or gen.max() >= len(NAMES) or (qv < 0).any() or (qv >= sizes[gen]).any()):
                raise SchemaError(f"the labels name entries that codebook {codebook.id!r} does not have; label again")
        tile = np.repeat(np.arange(len(self.dc)), np.diff(self.layer_start))
        layer = np.arange(len(tile)) - self.layer_start[tile]
        for name in ("gen", "qv", "seed", "amp"):
            getattr(programs, name)[tile, layer] = self.layer[name]
        programs.offsets[tile, layer] = self.offsets
        return programs


def _whole(column: Any) -> Any:
    """A column's one chunk."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _array(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values.to_numpy(zero_copy_only=False))


def _wide(values: Any) -> np.ndarray[Any, Any]:
    """A column as int64 or float64."""
    own = _array(values)
    return own.astype(np.float64 if own.dtype.kind == "f" else np.int64)


def _starts(lists: Any) -> np.ndarray[Any, Any]:
    """Where each list begins in the flattened values, [n+1]."""
    lengths = np.asarray(lists.value_lengths().to_numpy(zero_copy_only=False), np.int64)
    return np.concatenate([[0], np.cumsum(lengths)])


def residuals(
    pixels: Tensor,
    programs: Programs,
    *,
    steps: tuple[int, int],
    seed: int,
    codebook: Codebook,
    max_layers: int | None = None,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Residuals of tiles before each layer: (layer, tiles that have it [m], residual [m,T,T] int32 Q12).

    Args:
        pixels: [n,T,T] uint8.   programs: of the tiles.   steps: indices of amplitude and DC step.
        max_layers: of a search that has found the programs, to have what it saw: tiles with fewer layers come once
            more, after their last one, as nothing that it tried did pay.
    """
    tile, device = pixels.shape[1], torch.device("cpu")
    left = as_q12(pixels)
    left -= dc_samples(torch.from_numpy(programs.dc), steps[1]).view(-1, 1, 1)
    most = int(programs.count.max(initial=0))
    for layer in range(most if max_layers is None else min(most + 1, max_layers)):
        has = programs.count > layer
        seen = torch.from_numpy(np.flatnonzero(has if max_layers is None else programs.count >= layer))
        yield layer, seen, left[seen]
        at = np.flatnonzero(has)
        only = Programs.empty(len(at), 1)
        only.count[:] = 1
        for name in ("gen", "qv", "seed", "amp", "offsets"):
            getattr(only, name)[:, 0] = getattr(programs, name)[at, layer]
        left[torch.from_numpy(at)] -= draw_tiles([only], tile, steps[0], seed, codebook, device)


# ---------------------------------------------------------------- folders


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture's tiles at one rate, all of them, or of a rectangle of it: `programs` in raster order, `ny` rows of
    `nx`."""

    name: str
    rate: Rate
    ny: int
    nx: int
    programs: Programs


@dataclass(frozen=True, eq=False)
class LabelFolder:
    """A folder of labels, of an oracle that draws as this build does.

    codebook: what its layers name.
    """

    path: Path
    oracle: Oracle
    codebook: Codebook

    @classmethod
    def open(cls, path: str | Path) -> LabelFolder:
        """Read the manifest and check it against this build.

        Raises:
            SchemaError: there is none, it is damaged, or its codebook or generators are others than this build's.
            MissingTableError: this machine does not have its codebook.
        """
        return cls.of(Path(path), read_manifest(path))

    @classmethod
    def of(cls, path: Path, oracle: Oracle) -> LabelFolder:
        """A folder of an oracle's labels, or of what was made of them; errors as of `open`."""
        codebook = load_codebook(oracle.facts["codebook"]["id"])
        if codebook.fingerprint != oracle.facts["codebook"]["fingerprint"]:
            raise SchemaError(
                f"{path} was labelled with another codebook {codebook.id!r} than this build's; label again"
            )
        if codec_fingerprint(codebook) != oracle.facts["codec"]:
            raise SchemaError(f"{path} was labelled with other generators than this build has; label again")
        return cls(path, oracle, codebook)

    def cfg(self, rate: Rate) -> CodecConfig:
        """Options of the search that made the labels of a rate.

        Raises:
            SchemaError: this build has no such options.
        """
        options = {**self.oracle.facts["options"], "lambda_rd": rate.lambda_rd}
        try:
            return CodecConfig(**options, device="cpu")
        except (TypeError, ConfigError) as error:
            raise SchemaError(
                f"{self.path} was labelled with options of another build ({error}); label again"
            ) from error

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Rates that every tile was labelled at."""
        return self.oracle.rates

    @property
    def tile(self) -> int:
        """Tile side, px."""
        return int(self.oracle.facts["options"]["tile"])

    @property
    def overlap(self) -> int:
        """Pixels shared by neighbouring tiles."""
        return int(self.oracle.facts["options"]["overlap"])

    def batches(self, what: str, split: str | None = None) -> Iterator[LabelBatch]:
        """All rows in the order of the shards, some hundred of one rate at a time.

        Args:
            what: names the work that the progress bar shows.   split: of the rows; None for all.
        Raises:
            SchemaError: labelling was not finished, or rows that do not follow the schema.
        """
        wanted, found = self.rows_wanted, 0
        paths = shard_paths(self.path)
        with tqdm(total=wanted, desc=what, unit="tile", disable=bars_hidden(), leave=False) as progress:
            for path in paths:
                table = read_shard(path, self.oracle)
                found += len(table)
                yield from self._batches_of(path, table, split)
                progress.update(len(table))
        self._check_whole(found)

    def shard_batches(self, path: Path) -> Iterator[LabelBatch]:
        """The rows of one shard, some hundred of one rate at a time; errors as of `batches`."""
        return self._batches_of(path, read_shard(path, self.oracle), None)

    def _batches_of(self, path: Path, table: pa.Table, split: str | None) -> Iterator[LabelBatch]:
        rates = {rate.lambda_rd: rate for rate in self.rates}
        own = np.asarray(table.column("lambda_rd").to_numpy())
        if split is not None:
            own = np.where(np.asarray(table.column("split").to_pylist()) == split, own, np.nan)
        for value in dict.fromkeys(own[~np.isnan(own)].tolist()):
            if value not in rates:
                raise SchemaError(f"{path} has labels at lambda {value}, which {self.path} is not of")
            at = np.flatnonzero(own == value)
            for start in range(0, len(at), _BATCH_TILES):
                rows = table.take(at[start : start + _BATCH_TILES])
                yield LabelBatch.read(rows, self.tile, rates[value])

    @property
    def rows_wanted(self) -> int:
        """Rows of a folder that is labelled to the end."""
        return int(self.oracle.facts["tiles"]["count"]) * len(self.rates)

    def check_whole(self) -> None:
        """See that all tiles are labelled, without reading them.

        Raises:
            SchemaError: labelling was not finished.
        """
        self._check_whole(sum(rows_in(path) for path in shard_paths(self.path)))

    def _check_whole(self, found: int) -> None:
        """Compare the rows that there are with those that there should be."""
        wanted = self.rows_wanted
        left_out = {
            line.split('"tile_id": ')[1].split('"')[1]
            for path in sorted(self.path.glob("failures*.jsonl"))
            for line in path.read_text(encoding="utf-8").splitlines()
        }
        if found + len(left_out) * len(self.rates) < wanted or found > wanted:
            raise SchemaError(
                f"{self.path} labels {found} of {wanted} tiles; run the same pc15learn label again to go on"
            )
        if found < wanted:
            _log.warning(
                "%s lacks %d tiles whose pictures could not be read: see failures.jsonl", self.path, len(left_out)
            )

    def train_batches(self) -> Iterator[LabelBatch]:
        """The tiles of the train split, in order, some hundred of one rate at a time.

        Raises:
            SchemaError: as `batches`, or no picture is in that split.
        """
        any_of_them = False
        for batch in self.batches(f"reading {self.path.name}", "train"):
            any_of_them = True
            yield batch
        if not any_of_them:
            raise SchemaError(
                f"{self.path} has no picture in the train split, and others are held back; cut tiles of more pictures, "
                "or with --val-percent 0 --test-percent 0"
            )

    def pictures(self) -> Iterator[Picture]:
        """Pictures of the train split at every rate, each with its tiles on their grid.

        Raises:
            SchemaError: some lack tiles; as `train_batches`.
        """
        by_rate: dict[Rate, list[LabelBatch]] = {}
        for batch in self.train_batches():
            by_rate.setdefault(batch.rate, []).append(batch)
        for rate, batches in by_rate.items():
            yield from self._pictures(rate, batches)

    def _pictures(self, rate: Rate, batches: list[LabelBatch]) -> Iterator[Picture]:
        places = [place for batch in batches for place in batch.place]
        programs = Programs.packed([batch.programs(self.codebook) for batch in batches])
        cut = TileGridCfg(self.tile, self.overlap)
        start, found, lacking = 0, [], []
        for name, group in itertools.groupby(places, key=lambda place: place[0]):
            own = [(y, x) for _, y, x in group]
            ys, xs = (axis_starts(max(along) + cut.size, cut) for along in zip(*own, strict=True))
            if own != [(y, x) for y in ys for x in xs]:
                lacking.append(f"{name}: {len(own)} of at least {len(ys) * len(xs)} tiles")
            found.append(Picture(name, rate, len(ys), len(xs), programs.rows(start, start + len(own))))
            start += len(own)
        if lacking:
            raise SchemaError(
                f"{self.path} lacks tiles of {len(lacking)} of {len(found)} pictures ({lacking[0]}), and a tile "
                "is coded by what its neighbours are; make tiles without --limit and --stride, label without --limit"
            )
        yield from found


def open_together(folders: Sequence[str | Path], *, tiles_differ: bool) -> list[LabelFolder]:
    """Folders to train on together, which one oracle made at several rates or of several pictures.

    Args:
        tiles_differ: whether their tiles may be of several sizes.
    Raises:
        ConfigError: no folder.
        SchemaError: they are of different oracles, or hold the same labels; as `LabelFolder.open`.
    """
    if not folders:
        raise ConfigError("no labels to train on; name folders that pc15learn label wrote")
    opened = [LabelFolder.open(folder) for folder in folders]
    free = (*_MAY_DIFFER, "options.tile", "options.overlap") if tiles_differ else _MAY_DIFFER
    known: dict[str, LabelFolder] = {}
    for one in opened:
        differs = [name for name in opened[0].oracle.differences(one.oracle) if not name.startswith(free)]
        if differs:
            raise SchemaError(
                f"{opened[0].path} and {one.path} hold labels of different oracles (different: {', '.join(differs)}); "
                "label both with the same build and options, or name one of them"
            )
        labels = one.oracle.fingerprint + one.oracle.facts["tiles"]["sha256"]
        if (other := known.setdefault(labels, one)) is not one:
            raise SchemaError(f"{other.path} and {one.path} hold the same labels; name one of them")
    return opened
