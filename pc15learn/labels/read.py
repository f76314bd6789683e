"""Labels read back: whose they are, their tiles as programs, and what those leave of them, drawn again.

A label holds pixels and a program; what every layer was asked to draw follows from them by the decoder's own code.
Nets, codebooks and tables are all trained on labels as they are read here.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.programs import MAX_LAYERS, MAX_PARAMS, Programs
from pc15.config import CodecConfig
from pc15.draw import dc_samples, draw_tiles
from pc15.errors import ConfigError, SchemaError
from pc15.hooks.weights import codec_fingerprint
from pc15.luma import as_q12
from pc15.paths import cache_dir
from pc15.proc.codebook import Codebook, load_codebook
from pc15.proc.generators import NAMES
from pc15.tiling import TileGridCfg, axis_starts
from pc15learn.labels.write import Oracle, read_manifest, shard_paths
from pc15learn.schema import LabelRow, features_of, hf_datasets, mend, pixels_from_text, place_of

__all__ = ["LabelBatch", "LabelFolder", "Picture", "label_batches", "load_labels", "open_together", "residuals"]

_BATCH_TILES = 256
_MAY_DIFFER = ("options.lambda_rd", "options.alpha_mix", "steps.", "tiles.", "random", "shard_size")
"""Facts of the oracles of folders that are trained on together, where they may differ: rate, measure, which tiles."""


# ---------------------------------------------------------------- rows


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


def label_batches(rows: Any, tile: int, what: str) -> Iterator[LabelBatch]:
    """A labels dataset, some hundred tiles at a time; `what` names the work that its progress bar shows."""
    with tqdm(total=len(rows), desc=what, unit="tile", disable=None, leave=False) as progress:
        for table in rows.with_format("arrow").iter(batch_size=_BATCH_TILES):
            batch = LabelBatch.read(table, tile)
            yield batch
            progress.update(len(batch.pixels))


@dataclass(frozen=True, eq=False)
class LabelBatch:
    """Rows of one batch as arrays: tiles, their layers one after another, and those layers' candidates likewise.

    place: picture, y and x of each tile.   pixels: [n,T,T] uint8.
    layer_start: [n+1], layers of tile i are layer_start[i]:layer_start[i+1].   tried_start: [L+1] likewise.
    """

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
    def read(cls, table: Any, tile: int) -> LabelBatch:
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
            place=[place_of(name) for name in columns["tile_id"].to_pylist()],
            split=columns["split"].to_pylist(),
            pixels=torch.stack([pixels_from_text(text, tile) for text in columns["pixels"].to_pylist()]),
            dc=_array(columns["dc"]).astype(np.int64),
            layer_start=_starts(columns["layers"]),
            layer={name: _array(layers.field(name)) for name in ("gen", "qv", "seed", "amp", "d0", "rd")},
            offsets=steps,
            tried_start=_starts(tried.field("gen")),
            tried={name: _array(tried.field(name).flatten()) for name in ("gen", "qv", "amp", "d", "bits")},
        )

    def programs(self, codebook: Codebook) -> Programs:
        """The tiles' programs.

        Raises:
            SchemaError: they name entries that this codebook does not have, or more layers than there can be.
        """
        programs = Programs.empty(len(self.dc))
        programs.dc[:] = self.dc
        programs.count[:] = np.diff(self.layer_start)
        gens, entries = self.layer["gen"], self.layer["qv"]
        sizes = np.array([codebook.size(gen) for gen in range(len(NAMES))])
        for gen, qv in ((gens, entries), (self.tried["gen"], self.tried["qv"])):
            if len(gen) and (gen.min() < 0 or gen.max() >= len(NAMES) or (qv < 0).any() or (qv >= sizes[gen]).any()):
                raise SchemaError(f"the labels name entries that codebook {codebook.id!r} does not have; label again")
        if programs.count.max(initial=0) > MAX_LAYERS:
            raise SchemaError(
                f"a tile has {programs.count.max()} layers, at most {MAX_LAYERS} are possible; label again"
            )
        tile = np.repeat(np.arange(len(self.dc)), np.diff(self.layer_start))
        layer = np.arange(len(gens)) - self.layer_start[tile]
        for name in ("gen", "qv", "seed", "amp"):
            getattr(programs, name)[tile, layer] = self.layer[name]
        programs.offsets[tile, layer] = self.offsets
        return programs


def _whole(column: Any) -> Any:
    """A column's one chunk."""
    return column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)


def _array(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values.to_numpy(zero_copy_only=False))


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
    """What is left of tiles before each layer: (layer, tiles that have it [m], residual [m,T,T] int32 Q12).

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
    """A picture's tiles, all of them, or of a rectangle of it: `programs` in raster order, `ny` rows of `nx`."""

    name: str
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
        path, oracle = Path(path), read_manifest(path)
        codebook = load_codebook(oracle.facts["codebook"]["id"])
        if codebook.fingerprint != oracle.facts["codebook"]["fingerprint"]:
            raise SchemaError(
                f"{path} was labelled with another codebook {codebook.id!r} than this build's; label again"
            )
        if codec_fingerprint(codebook) != oracle.facts["codec"]:
            raise SchemaError(f"{path} was labelled with other generators than this build has; label again")
        return cls(path, oracle, codebook)

    @property
    def cfg(self) -> CodecConfig:
        """Options of the search that made the labels.

        Raises:
            SchemaError: this build has no such options.
        """
        try:
            return CodecConfig(**self.oracle.facts["options"], device="cpu")
        except (TypeError, ConfigError) as error:
            raise SchemaError(
                f"{self.path} was labelled with options of another build ({error}); label again"
            ) from error

    @property
    def steps(self) -> tuple[int, int]:
        """Indices of amplitude and DC step."""
        return self.oracle.facts["steps"]["amp"], self.oracle.facts["steps"]["dc"]

    def train_batches(self) -> Iterator[LabelBatch]:
        """The tiles of the train split, in order, some hundred at a time.

        Raises:
            SchemaError: labelling was not finished, or no picture is in that split.
        """
        rows = load_labels(self.path)
        if len(rows) != (wanted := self.oracle.facts["tiles"]["count"]):
            raise SchemaError(
                f"{self.path} labels {len(rows)} of {wanted} tiles; run the same pc15learn label again to go on"
            )
        at = np.flatnonzero(np.asarray(rows["split"]) == "train")
        if not len(at):
            raise SchemaError(
                f"{self.path} has no picture in the train split, and others are held back; cut tiles of more pictures, "
                "or with --val-percent 0 --test-percent 0"
            )
        return label_batches(rows.select(at), self.cfg.tile, f"reading {self.path.name}")

    def pictures(self) -> Iterator[Picture]:
        """Pictures of the train split, each with its tiles on their grid.

        Raises:
            SchemaError: some lack tiles; as `train_batches`.
        """
        places: list[tuple[str, int, int]] = []
        parts: list[Programs] = []
        for batch in self.train_batches():
            places += batch.place
            parts.append(batch.programs(self.codebook))
        programs, cut = Programs.packed(parts), TileGridCfg(self.cfg.tile, self.cfg.overlap)
        start, found, lacking = 0, [], []
        for name, group in itertools.groupby(places, key=lambda place: place[0]):
            own = [(y, x) for _, y, x in group]
            ys, xs = (axis_starts(max(along) + cut.size, cut) for along in zip(*own, strict=True))
            if own != [(y, x) for y in ys for x in xs]:
                lacking.append(f"{name}: {len(own)} of at least {len(ys) * len(xs)} tiles")
            found.append(Picture(name, len(ys), len(xs), programs.rows(start, start + len(own))))
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
        if (other := known.setdefault(one.oracle.fingerprint, one)) is not one:
            raise SchemaError(f"{other.path} and {one.path} hold the same labels; name one of them")
    return opened
