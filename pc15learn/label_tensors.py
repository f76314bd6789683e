"""Tensors that nets are fitted to: a row per layer that the oracle searched, from its labels or from the oracle itself.

What nets see of the tile comes from `pc15.hooks.inputs`, as in the encoder; of labels, the residual before each layer
is drawn again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pc15.errors import SchemaError
from pc15.hooks.inputs import NetInputs
from pc15.luma import as_q12
from pc15.search.backend.protocol import TileBatch
from pc15.search.label import lone_scorer
from pc15.search.score import Scorer
from pc15learn.labels.read import LabelBatch, LabelFolder, residuals

__all__ = ["LabelRows", "LabelTensors", "RowDrawer", "from_labels", "scored"]

_WORST = 30.0  # gains that a candidate falls behind by, where more makes no difference


@dataclass(frozen=True, eq=False)
class LabelTensors:
    """One row per (tile, layer) that the oracle searched: N of them, with up to M candidates.

    inputs: what nets see.   pays: [N] bool, there is a layer; rows without one have no candidates.
    gain: [N] float32, J per pixel that the best layer saves; 0 where none pays.
    rows: [N,M] int64, candidates, -1 for none.   behind: [N,M] float32, by how many times `gain` each falls behind the
        best.   bits: [N,M] float32, what each costs before its amplitude, in 1/256.   norms: [N,M] float32, see
        `Scorer.norms`.
    """

    inputs: NetInputs
    pays: Tensor
    gain: Tensor
    rows: Tensor
    behind: Tensor
    bits: Tensor
    norms: Tensor

    def __len__(self) -> int:
        return len(self.pays)

    def pick(self, index: Tensor) -> LabelTensors:
        """Some of the rows."""
        return LabelTensors(*(getattr(self, part.name).pick(index) if part.name == "inputs"
                              else getattr(self, part.name)[index] for part in fields(self)))  # fmt: skip

    def to(self, device: torch.device) -> LabelTensors:
        """The same on a device."""
        inputs = NetInputs(*(getattr(self.inputs, part.name).to(device) for part in fields(NetInputs)))
        return LabelTensors(inputs, *(getattr(self, part.name).to(device) for part in fields(self)[1:]))

    def used_on(self, stream: torch.cuda.Stream) -> None:
        """Keep memory that another stream of the GPU allocated from being given away before this one has used it."""
        for own in (*(getattr(self.inputs, part.name) for part in fields(NetInputs)),
                    *(getattr(self, part.name) for part in fields(self)[1:])):  # fmt: skip
            own.record_stream(stream)

    @classmethod
    def joined(cls, parts: list[LabelTensors]) -> LabelTensors:
        """Rows of several batches, one after the other; at least one."""
        most = max(part.rows.shape[1] for part in parts)
        parts = [part.widened(most) for part in parts]
        inputs = NetInputs(
            *(torch.cat([getattr(one.inputs, part.name) for one in parts]) for part in fields(NetInputs))
        )
        return cls(inputs, *(torch.cat([getattr(part, own.name) for part in parts]) for own in fields(cls)[1:]))

    def widened(self, most: int) -> LabelTensors:
        """The same rows with room for so many candidates, at least as many as there are."""

        def wide(values: Tensor, fill: float) -> Tensor:
            return torch.nn.functional.pad(values, (0, most - values.shape[1]), value=fill)

        return LabelTensors(
            self.inputs, self.pays, self.gain, wide(self.rows, -1), wide(self.behind, _WORST), wide(self.bits, 0.0),
            wide(self.norms, 0.0),
        )  # fmt: skip


def scored(scorer: Scorer, tiles: TileBatch, layer: int, rows: Tensor, change: Tensor) -> LabelTensors:
    """Rows of tiles by what J would change by with each candidate.

    Args:
        rows: [n,M] int64, -1 for none.   change: [n,M] float64, +inf for none.
    """
    inputs = scorer.inputs(tiles, layer)
    assert inputs is not None, "nets cannot see tiles of this size"
    low = change.amin(dim=1, keepdim=True)
    pays = low[:, 0] < 0
    gain = torch.where(pays, -low[:, 0], 0.0)
    behind = ((change - low) / (-low).clamp(min=1e-12)).clamp(max=_WORST).to(torch.float32)
    known = torch.isfinite(change) & (rows >= 0) & pays[:, None]
    at = rows.clamp(min=0)
    return LabelTensors(
        inputs, pays, gain.to(torch.float32), torch.where(known, rows, -1), torch.where(known, behind, _WORST),
        scorer.bits(layer)[at], scorer.norms(inputs, at),
    )  # fmt: skip


LabelRows = tuple[LabelTensors, np.ndarray[Any, Any], np.ndarray[Any, Any]]
"""Rows, their splits, 0 train, 1 val, 2 test, and the names of their pictures."""


def from_labels(folder: LabelFolder) -> Iterator[LabelRows]:
    """Rows of a folder's labels, some hundred tiles at a time.

    Raises:
        SchemaError: values out of range, or tiles of a size that nets cannot see.
    """
    drawer = RowDrawer(folder)
    for batch in folder.batches("drawing residuals"):
        if (made := drawer(batch)) is not None:
            yield made


class RowDrawer:
    """Makes rows of a folder's labels, by drawing again what each layer saw.

    Raises:
        SchemaError: tiles of a size that nets cannot see.
    """

    def __init__(self, folder: LabelFolder) -> None:
        self.folder = folder
        self._scorers = {rate: lone_scorer(folder.cfg(rate)) for rate in folder.rates}
        if any(scorer.bank.seen is None for scorer in self._scorers.values()):
            raise SchemaError(
                f"{folder.path} has labels of {folder.tile} px; nets see tiles of 16 px and from 32 px on"
            )

    def __call__(self, batch: LabelBatch) -> LabelRows | None:
        """Rows of a batch; None if it has none.

        Raises:
            SchemaError: values out of range.
        """
        folder, scorer = self.folder, self._scorers[batch.rate]
        options = folder.oracle.facts["options"]
        seed, most = int(options["seed"]), int(options["max_layers"])
        x = as_q12(batch.pixels)
        parts, tiles = [], []
        programs = batch.programs(folder.codebook)
        steps = residuals(
            batch.pixels, programs, steps=batch.rate.steps, seed=seed, codebook=folder.codebook, max_layers=most
        )
        for layer, at, residual in steps:
            has = torch.from_numpy(programs.count[at.numpy()] > layer)
            for own, some in ((has, True), (~has, False)):
                index = torch.nonzero(own).flatten()
                if not len(index):
                    continue
                tile = at[index]
                view = TileBatch(residual[index], x[tile], torch.zeros_like(tile))
                if some:
                    made = _tried(scorer, batch, view, tile, layer)
                else:
                    nothing = torch.full((len(tile), 1), -1)
                    made = scored(
                        scorer, view, layer, nothing, torch.full(nothing.shape, torch.inf, dtype=torch.float64)
                    )
                parts.append(made)
                tiles.append(tile.numpy())
        if not parts:
            return None
        owner = np.concatenate(tiles)
        split = np.array([("train", "val", "test").index(name) for name in batch.split], np.int64)
        names = np.array([name for name, _, _ in batch.place], dtype=object)
        return LabelTensors.joined(parts), split[owner], names[owner]


def _tried(scorer: Scorer, batch: LabelBatch, view: TileBatch, tile: Tensor, layer: int) -> LabelTensors:
    """Rows of tiles [n] that have a layer, by its candidates."""
    at = batch.layer_start[tile.numpy()] + layer
    starts, lengths = batch.tried_start[at], np.diff(batch.tried_start)[at]
    most = int(lengths.max(initial=1))
    place = np.minimum(starts[:, None] + np.arange(most), max(0, len(batch.tried["gen"]) - 1))
    inside = torch.from_numpy(np.arange(most) < lengths[:, None])
    gen, qv, seed = (torch.from_numpy(batch.tried[name][place].astype(np.int64)) for name in ("gen", "qv", "seed"))
    rows = torch.where(inside, scorer.bank.row_of(gen, qv, seed), -1)
    price = batch.rate.lambda_rd / float(scorer.windows.area[0])
    rd = torch.from_numpy(batch.tried["d"][place] + price * batch.tried["bits"][place]).double()
    before = torch.from_numpy(batch.layer["d0"][at]).double()
    return scored(scorer, view, layer, rows, torch.where(inside, rd - before[:, None], torch.inf))
