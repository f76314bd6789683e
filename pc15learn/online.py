"""The oracle in the training loop: crops of photographs, encoded on the training device as they are needed.

A net learns from the encoder's own searches, exhaustive ones, whose every tile has neighbours: what it will be asked.

Nothing is stored.  Which crops a step sees follows from (seed, epoch, draw, rank) alone, so that a fit repeats, and one
that is resumed goes on with what it would have seen.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset
from tqdm import tqdm

from pc15.config import PROGRAMS, CodecConfig
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError
from pc15.luma import as_q12
from pc15.plan.plan import plan_header
from pc15.proc.codebook import load_codebook
from pc15.runtime.device import resolve_device
from pc15.runtime.parallel import threads
from pc15.search.backend.protocol import TileBatch
from pc15.search.plane import PlaneEncoder
from pc15.search.plane_state import SearchTask
from pc15.search.score import Scorer
from pc15learn.label_tensors import LabelTensors, scored
from pc15learn.labels.manifest import oracle_of
from pc15learn.tiles import list_images, open_luma, read_bytes, split_of

__all__ = ["Crops", "OnlineLabels"]

_SIDE = 320  # px of a crop
_TOGETHER = 384  # crops that a GPU searches at once: fewer leave it waiting for the CPU that directs it
_TOGETHER_CPU = 1
_HELD_BACK = 4  # times as many crops are validated on
_MOST_HELD = 1 << 13  # rows of them, at each rate
_SHORTLIST = 32
_SEARCH = {"search": "exhaustive", "shortlist": _SHORTLIST, "recall": 0, "beam": 2, "passes": 0, "sweeps": 0}
"""Layers are added one after the other, each by an exhaustive search: there hooks are asked."""


class Crops:
    """Photographs on a device, and random crops of them.

    Args:
        pictures: uint8 [H,W] luma, each at least `side` px a side.
    """

    def __init__(self, pictures: Sequence[Tensor], side: int, device: torch.device) -> None:
        self.side = side
        self._flat = torch.cat([picture.flatten() for picture in pictures]).to(device)
        shapes = torch.tensor([[picture.shape[0], picture.shape[1]] for picture in pictures])
        ends = torch.cumsum(shapes[:, 0] * shapes[:, 1], dim=0)
        self._first = (ends - shapes[:, 0] * shapes[:, 1]).to(device)
        self._shapes = shapes.to(device)

    def draw(self, count: int, seed: int) -> Tensor:
        """Crops [count,side,side] uint8, turned and mirrored; the same for the same seed, on every device."""
        generator = torch.Generator().manual_seed(seed)
        chance = torch.rand((6, count), generator=generator, dtype=torch.float64).to(self._flat.device)
        which = (chance[0] * len(self._shapes)).to(torch.int64)
        high, wide = self._shapes[which].unbind(dim=1)
        y, x = ((chance[1 + axis] * (size - self.side + 1)).to(torch.int64) for axis, size in enumerate((high, wide)))
        along = torch.arange(self.side, device=y.device)
        rows = (y[:, None] + along) * wide[:, None] + self._first[which][:, None]
        crops = self._flat[rows[:, :, None] + (x[:, None] + along)[:, None, :]]
        for turned, share in zip((_mirrored, _upended, _transposed), chance[3:], strict=True):
            crops = torch.where((share < 0.5)[:, None, None], turned(crops), crops)
        return crops


class OnlineLabels:
    """An oracle per rate, and the photographs that it searches.

    Args:
        photos: folder of pictures.   lambdas: rates.   seed: of the crops.   device: to search on.
    Raises:
        ConfigError: no picture for one of the splits, or none of them large enough; no rate.
    """

    def __init__(self, photos: Path, lambdas: Sequence[float], *, seed: int = 1234, device: str = "auto") -> None:
        if not lambdas:
            raise ConfigError("no rate to search at; give lambdas, as [4, 2, 1, 0.5, 0.25]")
        self.cfg = CodecConfig.preset("balanced", **{**PROGRAMS, **_SEARCH}, device=device)
        self.lambdas, self.seed, self.codebook = tuple(lambdas), seed, load_codebook(self.cfg.codebook_id)
        self.device = resolve_device(device)
        found: dict[str, list[Tensor]] = {"train": [], "val": []}
        digests, side = [], _SIDE
        for name in tqdm(list_images(photos), desc="reading photographs", unit="picture", disable=None, leave=False):
            data = read_bytes(name)
            digest = hashlib.sha256(data).hexdigest()
            luma = open_luma(data, name)
            if (split := split_of(digest)) == "test" or min(luma.shape) < side:
                continue
            digests.append(digest)
            found[split].append(luma)
        for own, pictures in found.items():
            if not pictures:
                raise ConfigError(
                    f"{photos} has no picture of {side} px or more for the {own} split; give more of them"
                )
        self.pictures = len(digests)
        self._crops = {split: Crops(pictures, side, self.device) for split, pictures in found.items()}
        self.oracle = oracle_of(self.cfg, self.lambdas, [], top=_SHORTLIST, random=0, shard_size=0)
        whole = hashlib.sha256(" ".join(sorted(digests)).encode()).hexdigest()
        self.oracle.facts["tiles"] = {"count": 0, "sha256": whole}
        self._tasks = [self._task(self.cfg.but(lambda_rd=value)) for value in self.lambdas]

    def _task(self, cfg: CodecConfig) -> SearchTask:
        header = plan_header(_SIDE, _SIDE, cfg)
        return SearchTask(header, 0, cfg, load_table(cfg.table_id), self.codebook)

    @property
    def together(self) -> int:
        """Crops that are searched at once."""
        return _TOGETHER if self.device.type == "cuda" else _TOGETHER_CPU

    def draw(self, split: str, rate: int, seed: int, count: int) -> LabelTensors:
        """Rows of fresh crops at a rate, on the oracle's device: of every search of a layer, in order."""
        tiles, parts = self._crops[split].draw(count, seed), []
        for first in range(0, count, self.together):
            planes = [as_q12(crop, self.device) for crop in tiles[first : first + self.together]]
            encoder = PlaneEncoder(planes, self._tasks[rate])
            scorer = encoder.state.scorer

            def note(batch: TileBatch, layer: int, rows: Tensor, change: Tensor, scorer: Scorer = scorer) -> None:
                parts.append(scored(scorer, batch, layer, rows, change))

            encoder.state.on_scored = note
            with tqdm(total=0, disable=True) as quiet:
                encoder.run(quiet)
        return LabelTensors.joined(parts)

    def validation(self) -> LabelTensors:
        """Rows of the same crops of the val split at every rate, on the CPU."""
        kept = []
        for rate in range(len(self.lambdas)):
            rows = self.draw("val", rate, self.seed, _HELD_BACK * min(self.together, 4))
            at = torch.arange(min(_MOST_HELD, len(rows))) * len(rows) // min(_MOST_HELD, len(rows))
            kept.append(rows.pick(at.to(rows.pays.device)).to(torch.device("cpu")))
        return LabelTensors.joined(kept)

    def loader(self, batch_size: int, items: int, *, rank: int = 0, ranks: int = 1) -> DataLoader[LabelTensors]:
        """This rank's batches of an epoch, on the oracle's device."""
        return DataLoader(_Stream(self, batch_size, items, rank, ranks), batch_size=None)


class _Stream(IterableDataset[LabelTensors]):
    """Batches of one epoch, which Lightning sets."""

    def __init__(self, labels: OnlineLabels, batch_size: int, items: int, rank: int, ranks: int) -> None:
        self.labels, self.own, self.rank, self.ranks = labels, max(1, batch_size // ranks), rank, ranks
        self.steps = max(1, items // batch_size)
        self.epoch, self._first = 0, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def start_at(self, batch: int) -> None:
        """Leave out so many batches of the next pass, which a stopped run has seen."""
        self._first = batch

    def __len__(self) -> int:
        return self.steps

    def _rows(self, draw: int) -> tuple[LabelTensors, Tensor]:
        """Rows of crops at every rate, at least a batch of them, and the order that they are seen in."""
        rates, parts, found = len(self.labels.lambdas), list[LabelTensors](), 0
        while found < self.own:
            again = [len(parts) // rates] if parts else []  # first crops are the same for batches of any size
            for rate in range(rates):
                seed = _mixed(self.labels.seed, self.epoch, draw * rates + rate, self.rank, *again)
                parts.append(self.labels.draw("train", rate, seed, self.labels.together))
                found += len(parts[-1])
        rows = LabelTensors.joined(parts)
        generator = torch.Generator().manual_seed(_mixed(self.labels.seed, self.epoch, draw + 1, -1 - self.rank))
        return rows, torch.randperm(len(rows), generator=generator).to(rows.pays.device)

    def __iter__(self) -> Iterator[LabelTensors]:
        first, self._first = self._first, 0
        step, draw = 0, 0
        with _ahead(self._rows, self.labels.device) as begin:
            coming = begin(draw)
            while step < self.steps:
                rows, order = coming()
                draw += 1
                if step + len(rows) // self.own < self.steps:
                    coming = begin(draw)
                for start in range(0, len(rows) - self.own + 1, self.own):
                    if step >= first:
                        yield rows.pick(order[start : start + self.own])
                    step += 1
                    if step == self.steps:
                        return


_Draw = Callable[[int], tuple[LabelTensors, Tensor]]
_Coming = Callable[[], tuple[LabelTensors, Tensor]]


@contextlib.contextmanager
def _ahead(draw: _Draw, device: torch.device) -> Iterator[Callable[[int], _Coming]]:
    """A function that begins a draw, and returns one that gives its rows.

    On a GPU a thread draws on a stream of its own meanwhile: neither the search nor the net keeps all of it busy.
    """
    if device.type != "cuda":
        yield lambda number: functools.partial(draw, number)
        return
    stream = torch.cuda.Stream(device)

    def work(number: int) -> tuple[LabelTensors, Tensor]:
        with torch.cuda.stream(stream):
            rows, order = draw(number)
            stream.synchronize()
        return rows, order

    def begin(number: int) -> _Coming:
        coming = pool.submit(work, number)

        def rows_of() -> tuple[LabelTensors, Tensor]:
            rows, order = coming.result()
            rows.used_on(torch.cuda.current_stream(device))
            order.record_stream(torch.cuda.current_stream(device))
            return rows, order

        return rows_of

    with threads(1) as pool:
        yield begin


def _mirrored(pictures: Tensor) -> Tensor:
    return pictures.flip(2)


def _upended(pictures: Tensor) -> Tensor:
    return pictures.flip(1)


def _transposed(pictures: Tensor) -> Tensor:
    return pictures.transpose(1, 2)


def _mixed(*numbers: int) -> int:
    """A seed of several numbers."""
    return int.from_bytes(hashlib.sha256(repr(numbers).encode()).digest()[:7], "little")
