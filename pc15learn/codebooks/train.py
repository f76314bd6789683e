"""Trained codebooks: of many drawn patterns, those that the layers of training pictures gain most from.

What each layer of each tile was asked to draw is what a codebook has to serve: the targets.  A greedy search of
training pictures tells them, or labels do, whose tiles were searched exhaustively, but each on its own.  A pool of
patterns, the regular grid and random levels of every generator, is drawn by the decoder's own code.  What pattern c
would save of target t, in bits at the lambda that t was met at, is

    gain(t, c) = L^2 / N * weight / lambda - price(c)

as in `pc15.search.score`, one int8 product of pool and targets.  Entries are then chosen one by one so that the sum
over targets of the best chosen gain grows most (facility location, lazily evaluated); two parameter vectors that draw
the same thing are thereby one entry.  Neighbours of what was chosen join the pool and the choice is made again.  The
order of choice is the order of usefulness: the first entries are a smaller codebook.
Source: M. Minoux, "Accelerated greedy algorithms", 1978; G. Nemhauser, L. Wolsey, M. Fisher, Math. Prog. 14 (1978).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.header import DEFAULT_SEED
from pc15.color import rgb_to_ycbcr420
from pc15.config import PROGRAMS, CodecConfig, default_overlap
from pc15.entropy.tables import DEFAULT_TABLE_ID, MAX_ALPHABET, load_table
from pc15.errors import ConfigError
from pc15.images import load_rgb
from pc15.luma import as_q12
from pc15.paths import ready_to_write
from pc15.plan.plan import plan_header
from pc15.proc.codebook import GRID_ID, Codebook, load_codebook, save_codebook
from pc15.proc.coords import tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels
from pc15.quant import MSE_SCALE
from pc15.runtime.notices import bars_hidden
from pc15.search.backend.product import Product
from pc15.search.bank import SCREEN, centred, stretch
from pc15.search.label import lone_scorer
from pc15.search.plane import PlaneEncoder
from pc15.search.plane_state import SearchTask
from pc15.search.score import Scorer
from pc15learn.codebooks.loops import best_entries, by_entry, choose_greedily, sift
from pc15learn.labels.manifest import Rate
from pc15learn.labels.read import LabelFolder, open_together, residuals
from pc15learn.train_tables import middle

__all__ = [
    "Targets",
    "choose_codebook",
    "collect_targets",
    "labelled_targets",
    "train_codebook",
    "train_codebook_on_labels",
]

_log = logging.getLogger(__name__)

ENTRIES, TARGETS, RANDOM = 24576, 60000, 800
"""Usual numbers of trained entries, of targets, and of random patterns per generator."""
LAMBDAS = (8.0, 4.0, 2.0, 1.0, 0.5)
"""Each picture is searched at two of these, in turn."""
_FAMILIAR = 4
"""Times as many random patterns of a generator whose regular grid is large: those that photographs use."""
_SIDE_BITS = 5.0
"""Bits of a layer beside its address: amplitude and flags."""
_PRICE = 16.0
"""Bits that an address is thought to cost while entries are chosen."""
_LEAST = 4.0
"""Bits that an entry must save on all targets together to be chosen in a round."""
_SHARE, _LIST = 0.4, 640
"""Kept per target: patterns that save this share of what the best one does, at most so many."""
_SEEN = 0.3
"""Least share of a pattern's energy that the window must leave: what is left of others is their mean's trace."""
_TOGETHER = 256
_MOST = MAX_ALPHABET * 3 // 4
"""Trained entries of one generator; beside them its alphabet has room for some of the grid."""
_LARGE = 300
"""Entries from which a generator's regular grid counts as large."""
_STEP = 2
"""Levels that a neighbour of an entry may be away, in each parameter."""
_NEAR, _SHRINK, _TURNS = 1.3, 4.0, 3
"""Use is averaged over ranks within this factor, counts for as much as so many tiles, and is found in so many turns."""


@dataclass(frozen=True, eq=False)
class Targets:
    """Residuals that layers were asked to draw, ready for a product.

    packed: [n,T*T] int8, weighted residuals, each shifted to 7 bits.   unit: [n] float32, bits that a score of 1 saves.
    quad: [T*T] int64, weight of p^2 inside a picture.
    """

    packed: Tensor
    unit: Tensor
    quad: Tensor

    @classmethod
    def of(cls, scorer: Scorer, cls_of_all: int, residuals: Iterable[Tensor]) -> Targets:
        """Make targets of residuals [m,T,T] int32 Q12 of tiles of one class of the scorer's windows."""
        packed, unit = [], []
        for e in residuals:
            linear = (scorer.windows.linear_weight[cls_of_all].to(torch.int64) * e).flatten(1)  # Q28
            shift = (torch.frexp(linear.abs().amax(dim=1).double()).exponent.long() - 7).clamp(min=0)
            half = (torch.ones_like(shift) << shift) >> 1
            packed.append(((linear + half[:, None]) >> shift[:, None]).clamp(-127, 127).to(torch.int8))
            worth = [MSE_SCALE * 2.0 ** (2 * by - (28 + 28 - 16)) / scorer.cfg.lambda_rd for by in range(64)]
            unit.append(torch.tensor(worth, device=e.device)[shift])
        return cls(torch.cat(packed), torch.cat(unit), scorer.windows.power_weight[cls_of_all].flatten().long())

    @classmethod
    def drawn_from(cls, parts: Sequence[Targets], most: int, seed: int) -> Targets:
        """At most so many of all of them, at random."""
        packed, unit = torch.cat([part.packed for part in parts]), torch.cat([part.unit for part in parts])
        keep = np.sort(np.random.default_rng(seed).permutation(len(packed))[:most])
        return cls(packed[keep], unit[keep], parts[0].quad)

    @property
    def tile(self) -> int:
        """Tile side, px."""
        return math.isqrt(len(self.quad))


def _targets_of(plane: Tensor, task: SearchTask) -> Targets:
    """Search a plane [h,w] int32 Q12 and note what its inner tiles, all weighed alike, are asked to draw."""
    asked: list[Tensor] = []

    def note(tiles: Tensor, residuals: Tensor) -> None:
        asked.append(residuals[state.windows.class_of_tile[tiles] == inner])

    encoder = PlaneEncoder([plane], task, on_residuals=note)
    state, grid = encoder.state, encoder.state.stacks[0].grid
    inner = int(state.windows.class_of_tile[grid.ny // 2 * grid.nx + grid.nx // 2])
    with tqdm(total=0, disable=True) as quiet:
        encoder.run(quiet)
    return Targets.of(state.scorer, inner, [part for part in asked if len(part)])


def collect_targets(
    images: Sequence[Path], *, tile: int, crop: int, most: int, seed: int = 1, codebook_id: str, table_id: str
) -> Targets:
    """Search the middles of pictures greedily and keep what their layers were asked to draw, `most` at random.

    Args:
        images: training pictures; each is searched at two lambdas.
        tile: tile side, px.   crop: side of the middle square that is searched, px.
        codebook_id, table_id: what the search is run with.
    Raises:
        ConfigError: no picture has room for three tiles a side, or tiles that are too large.
    """
    _check_tile(tile)
    overlap = default_overlap(tile)
    codebook, tables = load_codebook(codebook_id), load_table(table_id)
    found: list[Targets] = []
    for i, image in enumerate(tqdm(images, desc="targets", unit="picture", disable=bars_hidden())):
        plane = middle(rgb_to_ycbcr420(load_rgb(image))[0].unsqueeze(0), crop)[0]
        if min(plane.shape) < 3 * tile:
            _log.warning("%s is too small for tiles of %d px: left out", image, tile)
            continue
        for lam in (LAMBDAS[i % len(LAMBDAS)], LAMBDAS[(i + 2) % len(LAMBDAS)]):
            cfg = CodecConfig.preset(
                "fast", **{**PROGRAMS, "tile": tile, "overlap": overlap}, lambda_rd=lam, alpha_mix=0.0,
                search="exhaustive", shortlist=4, sweeps=0, device="cpu", codebook_id=codebook_id, table_id=table_id,
            )  # fmt: skip
            header = plan_header(plane.shape[1], plane.shape[0], cfg)
            found.append(_targets_of(as_q12(plane, torch.device("cpu")), SearchTask(header, 0, cfg, tables, codebook)))
    if not found:
        raise ConfigError(f"no picture of {len(images)} has {3 * tile} px a side, what three tiles of {tile} px need")
    return Targets.drawn_from(found, most, seed)


def labelled_targets(labels: Sequence[Path], *, most: int, seed: int = 1) -> Targets:
    """Residuals of labelled tiles that layers were asked to draw, and of what was left at last; `most` at random.

    Args:
        labels: folders that `make_labels` wrote, of one oracle, at one lambda or several; their train split counts.
    Raises:
        ConfigError: tiles that are too large.
        SchemaError: folders that do not go together, are not finished, or have no picture in the train split.
    """
    folders = open_together(labels, tiles_differ=False)
    _check_tile(folders[0].tile)
    found = [
        Targets.of(lone_scorer(folder.cfg(rate)), 0, _asked_of(folder, rate))
        for folder in folders
        for rate in folder.rates
    ]
    return Targets.drawn_from(found, most, seed)


def _asked_of(folder: LabelFolder, rate: Rate) -> Iterator[Tensor]:
    """Residuals of a folder's tiles at a rate before each layer and after the last one, [m,T,T] int32 Q12."""
    cfg = folder.cfg(rate)
    for batch in folder.train_batches():
        if batch.rate != rate:
            continue
        asked = residuals(
            batch.pixels, batch.programs(folder.codebook), steps=rate.steps, seed=cfg.seed,
            codebook=folder.codebook, max_layers=cfg.max_layers,
        )  # fmt: skip
        for _, _, left in asked:
            yield left


def _check_tile(tile: int) -> None:
    if tile > SCREEN:
        raise ConfigError(
            f"codebooks are trained on tiles of at most {SCREEN} px, not of {tile}; they serve larger ones"
        )


@dataclass(frozen=True, eq=False)
class _Pool:
    """Patterns to choose from: entries, and one row per entry and seed index.

    levels[gen]: [E,n_params] int32.   gen: [entries] int64.   seed_bits: [entries] float32.   entry: [rows] int64.
    pixels: [rows,T*T] int8.
    """

    levels: tuple[Tensor, ...]
    gen: npt.NDArray[np.int64]
    seed_bits: npt.NDArray[np.float32]
    entry: npt.NDArray[np.int64]
    pixels: Tensor

    @classmethod
    def drawn(cls, levels: Sequence[Tensor], tile: int) -> _Pool:
        """Draw every entry under every seed index of the streams' usual seed."""
        at = tile_grid(tile)
        sizes = np.array([len(own) for own in levels])
        draws = np.array([load(gen).seeds for gen in range(len(NAMES))])
        gens = np.repeat(np.arange(len(NAMES)), sizes)
        parts = []
        with tqdm(total=int(sizes @ draws), desc="drawing", unit="pattern", disable=bars_hidden()) as bar:
            for gen, own in enumerate(levels):
                rows, seeds = own.repeat_interleave(draws[gen], 0), torch.arange(draws[gen]).repeat(len(own))
                for i in range(0, len(rows), 2048):
                    part = slice(i, i + 2048)
                    drawn = centred(draw_levels(gen, rows[part], seeds[part], at, DEFAULT_SEED))
                    parts.append(stretch(drawn.clamp(-32767, 32767).flatten(1)))
                    bar.update(len(drawn))
        entry = np.repeat(np.arange(len(gens)), draws[gens])
        return cls(tuple(levels), gens, np.log2(draws[gens]).astype(np.float32), entry, torch.cat(parts))


@dataclass(frozen=True, eq=False)
class _Matches:
    """Patterns that suit each target best.

    rows: [n,M] int32 rows of the pool, -1 for none.   gains: [n,M] float32, bits that each saves, its own not paid.
    """

    rows: npt.NDArray[np.int32]
    gains: npt.NDArray[np.float32]


def _match(pool: _Pool, targets: Targets) -> _Matches:
    """Score every pattern for every target, and keep the best."""
    quad = targets.quad.to(torch.float64)
    squares = (part.to(torch.float64).square() for part in pool.pixels.split(4096))
    norms, plain = (
        torch.cat(part) for part in zip(*[(p @ quad, p.mean(dim=1) * quad.sum()) for p in squares], strict=True)
    )
    seen = norms > _SEEN * plain
    inverse = torch.where(seen, 1.0 / norms.clamp(min=1.0), 0.0).to(torch.float32).numpy()
    price = (_SIDE_BITS + pool.seed_bits)[pool.entry]
    count, total = len(targets.packed), len(pool.entry)
    rows, gains = np.full((count, _LIST), -1, np.int32), np.zeros((count, _LIST), np.float32)
    ready, unit = Product(pool.pixels), targets.unit.numpy()
    product, work = torch.empty(_TOGETHER, total), np.empty(total, np.float32)
    for i in tqdm(range(0, count, _TOGETHER), desc="matching", unit="block", disable=bars_hidden()):
        part = slice(i, min(count, i + _TOGETHER))
        own = product[: part.stop - i]
        for first, block in ready.blocks(targets.packed[part]):
            own[:, first : first + block.shape[1]] = block
        sift(own.numpy(), inverse, unit[part], price, np.float32(_SHARE), rows[part], gains[part], work)
    some = rows[:, 0] >= 0
    return _Matches(rows[some], gains[some])


def _choose(pool: _Pool, matches: _Matches, most: int) -> npt.NDArray[np.int64]:
    """Entries of the pool in the order of their usefulness, at most so many."""
    safe = np.maximum(matches.rows, 0)
    net = matches.gains - (_PRICE + pool.seed_bits)[pool.entry[safe]].astype(np.float32)
    rows = np.where((matches.rows >= 0) & (net > 0), matches.rows, -1)
    counts = np.bincount(pool.entry[rows[rows >= 0]], minlength=len(pool.gen))
    edges = np.concatenate([[0], np.cumsum(counts)])
    target, value = np.empty(edges[-1], np.int32), np.empty(edges[-1], np.float32)
    by_entry(rows, net, pool.entry, edges[:-1].copy(), target, value)
    order, gain = np.empty(min(most, len(pool.gen)), np.int64), np.empty(min(most, len(pool.gen)))
    chosen = choose_greedily(edges, target, value, len(rows), _LEAST, order, gain)
    order = order[:chosen]
    fits = np.ones(chosen, bool)
    for gen in range(len(NAMES)):
        fits[np.flatnonzero(pool.gen[order] == gen)[_MOST:]] = False
    return order[fits]


def _weigh(pool: _Pool, matches: _Matches, order: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Expected uses of each of the chosen entries: as often as here, drawn towards those of a similar rank."""
    count = len(order)
    rank = np.arange(count)
    low, high = np.maximum(0, rank / _NEAR - 8).astype(int), np.minimum(count, rank * _NEAR + 9).astype(int)
    bits = np.full(len(pool.gen), np.inf, np.float32)
    bits[order] = math.log2(count) + pool.seed_bits[order] + _SIDE_BITS
    best, net = np.empty(len(matches.rows), np.int64), np.empty(len(matches.rows), np.float32)
    use = np.ones(count)
    for _ in range(_TURNS):
        best_entries(matches.rows, matches.gains, pool.entry, bits, best, net)
        times = np.bincount(best[best >= 0], minlength=len(pool.gen))[order]
        sums = np.concatenate([[0], np.cumsum(times)])
        use = (times + _SHRINK * (sums[high] - sums[low]) / (high - low)) / (1 + _SHRINK) + 1 / 32
        bits[order] = np.log2(use.sum() / use) + pool.seed_bits[order] + _SIDE_BITS
    return use


def _neighbours(pool: _Pool, order: npt.NDArray[np.int64], rng: np.random.Generator) -> list[Tensor]:
    """The chosen entries of each generator, and each once more with some of its levels a step or a few away."""
    own, first = [], 0
    chosen = np.zeros(len(pool.gen), bool)
    chosen[order] = True
    for gen, levels in enumerate(pool.levels):
        kept = levels[torch.from_numpy(chosen[first : first + len(levels)])]
        first += len(levels)
        steps = rng.integers(-_STEP, _STEP + 1, size=tuple(kept.shape)) * (rng.random(tuple(kept.shape)) < 0.6)
        own.append(_distinct(torch.cat([kept, Codebook.clamp(gen, kept + torch.from_numpy(steps))])))
    return own


def _distinct(levels: Tensor) -> Tensor:
    """Rows without those that came before, [E,n] int32."""
    _, first = np.unique(levels.numpy(), axis=0, return_index=True)
    return levels[torch.from_numpy(np.sort(first))].to(torch.int32)


def _first_pool(grid: Codebook, random: int, rng: np.random.Generator) -> list[Tensor]:
    """The regular grid and random levels, `random` for most generators."""
    own = []
    for gen in range(len(NAMES)):
        generator = load(gen)
        count = random * (_FAMILIAR if grid.size(gen) > _LARGE else 1) // generator.seeds
        levels = np.stack([rng.integers(0, p.levels, count) for p in generator.params], axis=1)
        own.append(_distinct(torch.cat([grid.entries[gen], torch.from_numpy(levels).to(torch.int32)])))
    return own


def _assembled(
    codebook_id: str, pool: _Pool, order: npt.NDArray[np.int64], use: npt.NDArray[np.float64], grid: Codebook
) -> Codebook:
    """The chosen entries by generator, the most used first, then what they leave of the grid."""
    weight = np.maximum(2, np.round(use * 32)).astype(np.int64)
    first = np.cumsum([0, *map(len, pool.levels)])
    entries, weights = [], []
    for gen, levels in enumerate(pool.levels):
        own = np.flatnonzero(pool.gen[order] == gen)
        own = own[np.argsort(-weight[own], kind="stable")]
        chosen = levels[torch.from_numpy(order[own] - first[gen])]
        rest = _distinct(torch.cat([chosen, grid.entries[gen]]))[len(chosen) :]
        room = min(len(rest), MAX_ALPHABET - len(chosen))
        rest = rest[torch.arange(room) * len(rest) // max(1, room)]
        entries.append(torch.cat([chosen, rest]))
        weights.append(torch.cat([torch.from_numpy(weight[own]), torch.ones(room, dtype=torch.int64)]))
    return Codebook(codebook_id, tuple(entries), tuple(weights))


@dataclass(frozen=True, kw_only=True)
class CodebookOptions:
    """Options of choosing a codebook.

    Args:
        base: codebook whose entries are in the pool and stay; pictures are searched with it, too.
        entries: how many are trained, at most.
        targets: how many layers it is trained for, at most.
        random: random level vectors per generator to choose from; four times as many of those that photographs use.
        seed: of what is random in the choice.
    """

    base: str = GRID_ID
    entries: int = ENTRIES
    targets: int = TARGETS
    random: int = RANDOM
    seed: int = 1


def train_codebook(
    images: Sequence[Path],
    out: Path,
    *,
    codebook_id: str,
    tile: int = 32,
    crop: int = 256,
    options: CodebookOptions | None = None,
) -> Codebook:
    """Train a codebook on what a search of pictures asks for, and write it to `out` (.npz).

    Args:
        images: training pictures, never test pictures.
        codebook_id: its name in streams.
        tile: side of the tiles it is trained on, px.   crop: side of the middle square that is used, px.
    Raises:
        ConfigError: no pictures, pictures that are all too small, too large tiles, or nothing to gain.
    """
    if not images:
        raise ConfigError("no pictures to train a codebook on; name files or folders that hold some")
    ready_to_write(out)
    options = options or CodebookOptions()
    wanted = collect_targets(
        images, tile=tile, crop=crop, most=options.targets, seed=options.seed, codebook_id=options.base,
        table_id=DEFAULT_TABLE_ID,
    )  # fmt: skip
    return choose_codebook(wanted, out, codebook_id, options)


def train_codebook_on_labels(
    labels: Sequence[Path], out: Path, *, codebook_id: str, options: CodebookOptions | None = None
) -> Codebook:
    """Train a codebook on what the layers of labels were asked for, and write it to `out` (.npz).

    Args:
        labels: as `labelled_targets` takes them.   codebook_id: its name in streams.
    Raises:
        ConfigError: no labels, too large tiles, or nothing to gain.   SchemaError: as `labelled_targets`.
    """
    ready_to_write(out)
    options = options or CodebookOptions()
    return choose_codebook(labelled_targets(labels, most=options.targets, seed=options.seed), out, codebook_id, options)


def choose_codebook(wanted: Targets, out: Path, codebook_id: str, options: CodebookOptions) -> Codebook:
    """Choose the patterns that serve targets best, and write them to `out` (.npz).

    The base stands behind the trained entries, as what is hardly ever used: people's programs and tiles of other sizes
    find every pattern there.

    Args:
        codebook_id: its name in streams.
    Raises:
        ConfigError: nothing to gain on the targets.
    """
    rng = np.random.default_rng(options.seed)
    grid = load_codebook(options.base)
    levels = _first_pool(grid, options.random, rng)
    for again in (True, False):
        pool = _Pool.drawn(levels, wanted.tile)
        matches = _match(pool, wanted)
        order = _choose(pool, matches, options.entries)
        if not len(order):
            raise ConfigError(f"no pattern gains anything on the {len(wanted.packed)} targets; give more pictures")
        if again:
            levels = _neighbours(pool, order, rng)
    codebook = _assembled(codebook_id, pool, order, _weigh(pool, matches, order), grid)
    save_codebook(out, codebook)
    return codebook
