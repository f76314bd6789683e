"""The codebook of the residual's squares: patterns that predictions of training pictures gain most from, by size.

Pictures are coded without patterns, and of every square that the search looked at it is noted what the best prediction
left, and what J the square and its parts came to.  A pool of patterns, entries of a codebook and random levels of every
generator, is drawn at each size.  What pattern c, amount q, would save of square t is estimated as the encoder does:

    gain(t, c) = min(J whole, J cut) - (J whole + draft(t - q c) - draft(t)) - price,      in bits

with the draft of `pc15.residual.enc.pattern_search`.  Patterns are chosen one by one so that the sum over squares of
the best chosen gain grows most, as codebooks of tiles are.  Pictures are then coded with what was chosen: how often a
pattern is used orders it, and where the adaptive models of the residual are at the end is where they start.
A pattern leaves its square's mean alone, or, anchored, the mean of its upper row and left column, where a prediction is
surest; its sign is the one that is asked for more often.
"""

from __future__ import annotations

import io
import logging
import multiprocessing
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from pc15.bitstream.header import DEFAULT_SEED
from pc15.color import rgb_to_ycbcr420
from pc15.errors import ConfigError
from pc15.images import load_rgb
from pc15.luma import MIDDLE, as_q12
from pc15.paths import ready_to_write, write_atomic
from pc15.proc.codebook import load_codebook
from pc15.proc.coords import tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels
from pc15.proc.spec import fine_bits
from pc15.residual.contexts import BASE, RANK_BITS, RANK_TREE
from pc15.residual.decode import empty_field, level_q4
from pc15.residual.enc.encode import lambda_for
from pc15.residual.enc.pattern_search import features
from pc15.residual.enc.plane import PlaneSearch, encode_plane
from pc15.residual.enc.scratch import LEFT, PLACED, RECORD
from pc15.residual.enc.train import learnt, pool
from pc15.residual.initial_models import (
    TRAINED_STEPS,
    arrays_of,
    models_without,
    ready,
    replace_part,
)
from pc15.residual.patterns import DRAWN_SIDES, MAX_ENTRIES, SQUARES_FILE, Patterns, layers_of, no_patterns, packed
from pc15.residual.shapes import SIZES
from pc15.residual.tools import ALL_TOOLS, CHROMA_TOOLS, PATTERNS, SPLITS, TRELLIS
from pc15.search.bank import stretch
from pc15learn.codebooks.loops import best_matches, by_entry, choose_greedily, match_gains
from pc15learn.train_tables import middle

Array = npt.NDArray[Any]

__all__ = ["SQUARES_FILE", "SquareEntries", "by_generator", "draw_entries", "read_entries", "train_squares"]

_log = logging.getLogger(__name__)

ENTRIES = {8: 1023, 16: 1023, 32: 511, 64: 127}
"""Entries per side; a larger square is drawn less often, and has no use for more."""
TARGETS = {8: 50000, 16: 50000, 32: 30000, 64: 15000}
STEPS = ((5, 9, 13, 18), (7, 11, 15, 22))
"""Quantizer indices: each picture is coded at four of them, in turn."""
_FIRST_TARGETS = 6000
"""Squares by which a pool is reduced to the patterns that suit any of them."""
_LIST = 32
"""Patterns kept per square, those of the largest products."""
_PRICE, _SIDE_PRICE, _NEED = 13.0, 4.5, 16.0
"""Bits that a layer is thought to cost, what of it is not the address, and least J of a square, in bits."""
_NEVER = 50.0
"""A square whose parts cost so many bits less is of no use as a whole."""
_BAND = 0.5
"""Least share of a pattern's energy at the features."""
_TURNS = 4
_DRAWN_POOL = 32
"""Side up to which a pool is drawn; larger squares compare by the transforms of this one."""
_EVERY = 3
"""One picture in so many is coded to see how often entries are used, before they are put in order."""
_TOOLS = ALL_TOOLS & ~(CHROMA_TOOLS | TRELLIS | SPLITS)
"""Tools that pictures are coded with: levels on a trellis would take thrice the time, for amounts in as wide steps, and
parts of squares, which have no patterns, twice."""
_TRUST, _FIRST_CHANCE = 30, 6000
"""Times that decisions of an address count as made before, and the chance, in 1/65536, of a layer at first."""


@dataclass(frozen=True, eq=False)
class SquareEntries:
    """Patterns of one side as generators know them.

    gen: [E] int64.   levels: [E,P] int32, whole levels, 0 beyond a generator's parameters.   seed: [E] int64, indices.
    anchored: [E] bool, whether the border's mean is left alone, not the square's.   minus: [E] bool.
    """

    gen: Array
    levels: Array
    seed: Array
    anchored: Array
    minus: Array

    def __len__(self) -> int:
        return len(self.gen)

    def __getitem__(self, rows: Array) -> SquareEntries:
        return SquareEntries(self.gen[rows], self.levels[rows], self.seed[rows], self.anchored[rows], self.minus[rows])


def draw_entries(side: int, entries: SquareEntries) -> Array:
    """Patterns [E,side,side] int8, drawn by the generators and scaled to a peak of 127; flat ones are 0."""
    out = np.zeros((len(entries), side, side), np.int32)
    at, fine = tile_grid(side), fine_bits(side)
    for gen in np.unique(entries.gen).tolist():
        generator, rows = load(gen), np.flatnonzero(entries.gen == gen)
        levels = torch.from_numpy(entries.levels[rows][:, : len(generator.params)])
        steps = levels << torch.tensor([p.shift(fine) for p in generator.params], dtype=torch.int32)
        if fine:
            extra = [p.coarse_levels[0] << p.shift(fine) for p in generator.extra]
            steps = torch.cat([steps, torch.tensor(extra, dtype=torch.int32).expand(len(steps), -1)], dim=1)
        seeds = torch.from_numpy(entries.seed[rows])
        for i in range(0, len(rows), 2048):
            part = slice(i, i + 2048)
            out[rows[part]] = draw_levels(gen, steps[part], seeds[part], at, DEFAULT_SEED, fine).numpy()
    means = np.floor_divide(out.sum(axis=(1, 2)), side * side)
    border = np.floor_divide(out[:, 0].sum(axis=1) + out[:, 1:, 0].sum(axis=1), 2 * side - 1)
    out -= np.where(entries.anchored, border, means).astype(np.int32)[:, None, None]
    out[entries.minus] *= -1
    return stretch(torch.from_numpy(out).flatten(1)).numpy().reshape(out.shape)


def entry_pool(base: str, most: int, random: int, seed: int) -> SquareEntries:
    """Entries of a codebook, the `most` most useful of each generator, and `random` random ones; each in both ways.

    Generators with randomness have a twelfth as many random ones, under three seed indices.
    """
    rng, book = np.random.default_rng(seed), load_codebook(base)
    width = max(len(load(gen).params) for gen in range(len(NAMES)))
    gens, levels, seeds = [], [], []
    for gen in range(len(NAMES)):
        generator = load(gen)
        draws = min(generator.seeds, 3)
        count = random if draws == 1 else random // 12
        extra = np.stack([rng.integers(0, p.levels, count) for p in generator.params], axis=1)
        own = np.unique(np.concatenate([book.entries[gen].numpy()[: most if draws == 1 else most // 2], extra]), axis=0)
        wide = np.zeros((len(own), width), np.int32)
        wide[:, : own.shape[1]] = own
        gens.append(np.full(draws * len(own), gen))
        levels.append(np.tile(wide, (draws, 1)))
        seeds.append(np.repeat(np.arange(draws), len(own)))
    one = np.concatenate(gens), np.concatenate(levels), np.concatenate(seeds)
    ids, level, index = (np.concatenate([part, part]) for part in one)
    anchored = np.arange(len(ids)) >= len(one[0])
    return SquareEntries(ids, level, index, anchored, np.zeros(len(ids), bool))


# ------------------------------------------------------------------ what squares ask for


def planes_of(images: Sequence[Path], crop: int) -> Iterator[Array]:
    """Middles of the luma of pictures, [h,w] int32 Q12, sides multiples of 8."""
    for image in images:
        luma = as_q12(middle(rgb_to_ycbcr420(load_rgb(image))[0].unsqueeze(0), crop)[0], torch.device("cpu")).numpy()
        if min(luma.shape) >= 64:
            yield np.ascontiguousarray(luma[: len(luma) & ~7, : luma.shape[1] & ~7])


def _recorded(task: tuple[Array, int]) -> Array:
    plane, step = task
    h, w = plane.shape
    record, field = np.zeros((h * w // 32, RECORD), np.float32), empty_field(h, w, _TOOLS)
    nearest = models_without(PATTERNS, min(TRAINED_STEPS, key=lambda anchor: (abs(anchor - step), anchor)), _TOOLS)
    nearest[BASE["more_a"] : BASE["rank_a"], 0] = 1000  # "no layer" is all but free: there are no entries
    search = PlaneSearch(level_q4(step, _TOOLS), lambda_for(step, _TOOLS), 3, record=record, patterns=no_patterns())
    gray, drawn = np.full_like(plane, MIDDLE), np.zeros_like(plane)
    encode_plane(plane - MIDDLE, gray, drawn, field, ready(nearest), search)
    return record[record[:, 0] > 0]


@dataclass(frozen=True, eq=False)
class _Targets:
    """Squares of one side: what predictions left [n, FEATURES] float32 in steps; least J and J whole, [n] in bits."""

    left: Array
    least: Array
    whole: Array

    @classmethod
    def of(cls, record: Array, side: int, most: int, rng: np.random.Generator) -> _Targets:
        own = record[record[:, 0] == side.bit_length() - 1]
        whole, cut = own[:, 3] / own[:, 1], own[:, 4] / own[:, 1]
        least = np.where(cut >= 0, np.minimum(whole, cut), whole)
        rows = rng.permutation(np.flatnonzero((least > _NEED) & (whole < least + _NEVER)))[:most]
        return cls(np.ascontiguousarray(own[rows, LEFT:PLACED]), least[rows], whole[rows])

    def part(self, rows: slice) -> _Targets:
        return _Targets(self.left[rows], self.least[rows], self.whole[rows])


@dataclass(frozen=True, eq=False)
class _Matches:
    """Patterns of the largest products with each square: rows [n,L] int32, -1 for none; gains; signs [n,L] int8."""

    rows: Array
    gains: Array
    signs: Array


def _match(units: Array, targets: _Targets, price: float) -> _Matches:
    """Compare unit patterns [N, FEATURES] with squares."""
    count, across = len(targets.left), torch.from_numpy(np.ascontiguousarray(units.T))
    rows = np.full((count, _LIST), -1, np.int32)
    for i in tqdm(range(0, count, 256), desc="matching", unit="block", disable=None):
        best_matches((torch.from_numpy(targets.left[i : i + 256]) @ across).numpy(), rows[i : i + 256])
    gains, signs = np.zeros(rows.shape, np.float32), np.zeros(rows.shape, np.int8)
    match_gains(targets.left, targets.least, targets.whole, units, rows, np.float32(price), gains, signs)
    return _Matches(rows, gains, signs)


def _choose(matches: _Matches, patterns: int, most: int) -> Array:
    """Patterns in the order of their choice."""
    rows = np.where(matches.gains > 0, matches.rows, -1)
    counts = np.bincount(rows[rows >= 0], minlength=patterns)
    edges = np.concatenate([[0], np.cumsum(counts)])
    target, value = np.empty(edges[-1], np.int32), np.empty(edges[-1], np.float32)
    by_entry(rows, matches.gains, np.arange(patterns), edges[:-1].copy(), target, value)
    order, gain = np.empty(most, np.int64), np.empty(most)
    return order[: choose_greedily(edges, target, value, len(rows), 0.01, order, gain)]


def _keep_used(matches: _Matches, count: int, most: int) -> tuple[Array, Array]:
    """Best `count` patterns, those that are used most when an address costs by use; and which are turned round."""
    bits, there = np.full(count, np.log2(count)), matches.rows >= 0
    safe, squares = np.maximum(matches.rows, 0), np.arange(len(matches.rows))
    use: Array = np.ones(count)
    for turn in range(_TURNS):
        net = np.where(there & (matches.gains > 0), matches.gains - bits[safe], 0.0)
        best = net.argmax(axis=1)
        won = net[squares, best] > 0
        use = np.bincount(matches.rows[squares, best][won], minlength=count) + 0.3
        if turn == _TURNS // 2 and count > most:
            use[np.argsort(use, kind="stable")[: count - most]] = 0.0
        with np.errstate(divide="ignore"):
            bits = np.where(np.isinf(bits) | (use == 0), np.inf, -np.log2(use / use.sum()))
    signed = np.zeros(count)
    np.add.at(signed, matches.rows[there], (matches.gains * matches.signs)[there])
    order = np.argsort(bits, kind="stable")[: min(most, int(np.isfinite(bits).sum()))]
    return order, signed[order] < 0


def _chosen_for(side: int, pool_: SquareEntries, drawn: Array, targets: _Targets, most: int) -> SquareEntries:
    """The entries of a pool, transforms [N, FEATURES] given, that serve squares best."""
    good = np.flatnonzero((drawn**2).sum(axis=1) > _BAND)
    first = _match(drawn[good], targets.part(slice(_FIRST_TARGETS)), _PRICE)
    good = good[np.unique(first.rows[first.gains > 0])]
    chosen = good[_choose(_match(drawn[good], targets, _PRICE), len(good), most + most // 3)]
    if not len(chosen):
        raise ConfigError(f"no pattern gains anything on {len(targets.left)} squares of {side} px; give more pictures")
    kept, minus = _keep_used(_match(drawn[chosen], targets, _SIDE_PRICE), len(chosen), most)
    own = pool_[chosen[kept]]
    _log.info("%d px: %d squares, %d of %d patterns", side, len(targets.left), len(own), len(drawn))
    return SquareEntries(own.gen, own.levels, own.seed, own.anchored, minus)


# ------------------------------------------------------------------ where models start


def _coded(task: tuple[Array, int, Array, Patterns]) -> tuple[Array, Array]:
    """Models after a picture, and how often each entry of each size was used in it, [SIZES, MAX_ENTRIES]."""
    plane, step, start, patterns = task
    models, field = learnt(plane, step, start, _TOOLS, patterns=patterns)
    uses = np.zeros((SIZES, MAX_ENTRIES), np.int64)
    for s, entry, _ in layers_of(field):
        uses[s, entry] += 1
    return models, uses


def _tree(start: Array, uses: Array) -> Array:
    """Models whose addresses cost by how often entries were used."""
    for s in range(1, SIZES):
        for k in range(1, RANK_BITS):
            own = uses[s, (1 << k) - 1 : (2 << k) - 1]  # of this class of ranks
            for i in range(k):
                halves = own.reshape(1 << i, 2, -1).sum(axis=2)
                rows = RANK_TREE + (s << RANK_BITS) + (1 << k) + (1 << i) + np.arange(1 << i)
                start[rows, 0] = np.clip(65536 * (halves[:, 1] + 1.0) / (halves.sum(axis=1) + 2.0), 512, 65024)
                start[rows, 1] = _TRUST
    return ready(start)


def _start_models(
    planes: Sequence[Array], patterns: Patterns, rounds: int, uses: Array, workers: Any
) -> tuple[Array, Array]:
    """Models that patterns start with, [anchors, C + S, 4] int32, and how often entries were used in the last round."""
    tables, counted = [], np.zeros_like(uses)
    for step in TRAINED_STEPS:
        start = models_without(PATTERNS, step, _TOOLS)
        start[BASE["more_a"] : BASE["rank_a"], 0] = _FIRST_CHANCE
        start = _tree(start, uses)
        for turn in range(rounds):
            ends = workers.map(_coded, [(plane, step, start, patterns) for plane in planes], chunksize=4)
            replace_part(start, PATTERNS, pool(start, [models for models, _ in ends]))
            start = _tree(start, uses)
            if turn == rounds - 1:
                counted += sum(one for _, one in ends)
        tables.append(start)
        _log.info("step %d: %d pictures", step, len(planes))
    return np.stack([_tree(table, counted) for table in tables]), counted


def train_squares(
    images: Sequence[Path],
    out: Path,
    *,
    base: str = "v15_trained",
    most: int = 1500,
    random: int = 1200,
    crop: int = 320,
    seed: int = 1,
    workers: int = 1,
) -> dict[int, SquareEntries]:
    """Train the codebook of squares and the models that its layers start with, and write them to `out` (.npz).

    Args:
        images: training pictures, never test pictures.
        base, most, random: of the pool, see `entry_pool`.   crop: side of the middle square that is used, px.
        seed: of what is random.   workers: processes that code pictures.
    Raises:
        ConfigError: no pictures, pictures that are all too small, or nothing to gain.
    """
    ready_to_write(out)
    planes = list(planes_of(images, crop))
    if not planes:
        raise ConfigError("no pictures of 64 px a side to train a codebook on; name files or folders that hold some")
    rng = np.random.default_rng(seed)
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        tasks = [(plane, step) for i, plane in enumerate(planes) for step in STEPS[i % 2]]
        record = np.concatenate(list(tqdm(processes.imap(_recorded, tasks, 4), "targets", len(tasks), disable=None)))
        candidates, chosen, drawn = entry_pool(base, most, random, seed), {}, np.zeros(0)
        for side in DRAWN_SIDES:
            if side <= _DRAWN_POOL:
                parts = np.array_split(np.arange(len(candidates)), max(1, len(candidates) * side * side >> 24))
                drawn = np.concatenate([features(draw_entries(side, candidates[part]))[0] for part in parts])
            targets = _Targets.of(record, side, TARGETS[side], rng)
            chosen[side] = _chosen_for(side, candidates, drawn, targets, ENTRIES[side])
        uses = np.zeros((SIZES, MAX_ENTRIES), np.int64)
        few = planes[::_EVERY]
        for turn, (some, rounds) in enumerate(((few, 1), (planes, 2))):
            patterns = packed([draw_entries(side, own) for side, own in chosen.items()])
            models, uses = _start_models(some, patterns, rounds, uses, processes)
            if not turn:
                for s, side in enumerate(DRAWN_SIDES, 1):
                    order = np.argsort(-uses[s, : len(chosen[side])], kind="stable")
                    chosen[side], uses[s, : len(order)] = chosen[side][order], uses[s, order]
    _save(out, chosen, models, uses)
    return chosen


def _save(out: Path, chosen: dict[int, SquareEntries], models: Array, uses: Array) -> None:
    """Write a codebook as `pc15.residual.patterns` and `initial_models` read it, uncompressed: it is read at once."""
    arrays = arrays_of(models, PATTERNS)
    for s, (side, own) in enumerate(chosen.items(), 1):
        arrays |= {
            f"pixels_{side}": draw_entries(side, own), f"gen_{side}": own.gen.astype(np.uint8),
            f"levels_{side}": own.levels.astype(np.int16), f"seed_{side}": own.seed.astype(np.uint8),
            f"anchored_{side}": own.anchored, f"minus_{side}": own.minus,
            f"use_{side}": uses[s, : len(own)].astype(np.int32),
        }  # fmt: skip
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(out, buffer.getvalue())


def read_entries(path: Path) -> dict[int, SquareEntries]:
    """Entries of a file that `train_squares` wrote."""
    with np.load(path, allow_pickle=False) as table:
        return {
            side: SquareEntries(
                table[f"gen_{side}"].astype(np.int64), table[f"levels_{side}"].astype(np.int32),
                table[f"seed_{side}"].astype(np.int64), table[f"anchored_{side}"], table[f"minus_{side}"],
            )
            for side in DRAWN_SIDES
        }  # fmt: skip


def by_generator(path: Path) -> dict[str, float]:
    """Share of layers that each generator drew in training, the largest first."""
    counts = np.zeros(len(NAMES))
    with np.load(path, allow_pickle=False) as table:
        for side in DRAWN_SIDES:
            np.add.at(counts, table[f"gen_{side}"], table[f"use_{side}"])
    order = np.argsort(-counts, kind="stable")
    return {NAMES[gen]: float(counts[gen] / counts.sum()) for gen in order if counts[gen]}
