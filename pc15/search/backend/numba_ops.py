"""The search on a CPU: loops of the modules beside it, tensor operations for the rest; see `Backend`."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from pc15.dc_surface import SHARE_ONE, least_sharp
from pc15.grids import TileSpec
from pc15.proc.registry import COEFFICIENT_ONE, RMS_FLOOR
from pc15.runtime.parallel import parallel_range, reserved_threads
from pc15.search.backend import numba_cells, numba_exact, numba_expansion, numba_samples, numba_scores
from pc15.search.backend.numba_choices import lowest, offered, pick
from pc15.search.backend.numba_samples import Array, contributions, look, put, show, without
from pc15.search.backend.protocol import (
    ANSWER_TOP,
    LOG_FLOOR,
    SSIM_C1,
    SSIM_C2,
    BankTerms,
    Best,
    Candidates,
    CellRows,
    Drawings,
    DrawnSurface,
    EnergyTerms,
    ExactTerms,
    Expansion,
    LayerCosts,
    Patterns,
    TileBatch,
    TileLayers,
    TileTerms,
)
from pc15.search.backend.sort_keys import Terms
from pc15.search.knot_spans import axes
from pc15.search.windows import box_edges

__all__ = [
    "activated",
    "best_in_cells",
    "best_of",
    "contributions",
    "distortion",
    "draw_surface",
    "draws_ahead",
    "energies",
    "exact",
    "exact_rows",
    "likeliest_cells",
    "look",
    "lowest",
    "offered",
    "packed",
    "pick",
    "put",
    "ranked",
    "refit",
    "reserved_threads",
    "row_sums",
    "show",
    "tiles_together",
    "without",
]

_TOGETHER = 256  # tiles whose products with a block of candidates stay in the cache
_LEAST_PACKED = 1 << 16  # samples that are worth another thread
_LEAST_TILES = 8  # tiles whose cells are worth another thread
_LEAST_KNOTS = 32  # knots that are
_LEAST_LINES = 128  # lines of a surface that are
_LEAST_SCORED = 32  # candidates that are

draws_ahead = False


def tiles_together(rows: int, device: torch.device) -> int:
    return _TOGETHER


# ---------------------------------------------------------------- every candidate


def energies(pixels: Tensor, terms: EnergyTerms) -> tuple[Tensor, Tensor]:
    count, side = len(pixels), math.isqrt(pixels.shape[1])
    out = torch.empty((count, 4 * len(terms.area)), dtype=torch.int8)
    scale = torch.empty((2, count), dtype=torch.float32)
    square = (part.view(-1, side, side).contiguous().numpy() for part in (pixels, terms.power, terms.linear))
    parallel_range(
        numba_expansion.energies, count, *square, terms.edges.numpy(), terms.area.numpy(), out.numpy(), scale.numpy()
    )
    return out, scale


def row_sums(pixels: Tensor, error: Tensor, weight: Tensor) -> Tensor:
    sums = torch.empty((3, len(pixels)), dtype=torch.int32)
    numba_scores.moments(0, len(pixels), pixels.numpy(), error.numpy(), weight.numpy(), *sums.numpy())
    return sums.to(torch.float64)


def packed(tiles: TileBatch, expansion: Expansion, side: int) -> TileTerms:
    (e, x, cls), n, tile = tiles, len(tiles.e), tiles.e.shape[1]
    rows = torch.empty((n, side * side), dtype=torch.int8)
    weights = torch.empty((n, 4 * len(expansion.count)), dtype=torch.int8)
    price = torch.empty(n, dtype=torch.float32)
    own = expansion.linear, expansion.count, expansion.share, expansion.power, expansion.place, expansion.prices
    edges = (box_edges(tile, count, e.device) for count in (expansion.regions, side))
    plain = numba_expansion.Plain(expansion.mse_weight, expansion.alpha, expansion.drop, SSIM_C1, SSIM_C2)
    least = max(1, _LEAST_PACKED // tile**2)
    parallel_range(
        numba_expansion.pack, n, *(t.contiguous().numpy() for t in (e, x, cls, *own, *edges)), plain,
        rows.numpy(), weights.numpy(), price.numpy(), least=least,
    )  # fmt: skip
    return TileTerms(rows, weights, expansion.place[cls], price)


class LoopedBest:
    """`Best` by a loop that reads each product once; every thread collects keys in a lane of its own."""

    def __init__(self, n: int, keep: int) -> None:
        with reserved_threads() as lanes:
            self._keys = torch.empty((lanes, n, 2 * keep), dtype=torch.int64)
            self._used = torch.zeros((lanes, n), dtype=torch.int64)
            self._bar = torch.full((lanes, n), float("-inf"), dtype=torch.float32)

    @property
    def rows(self) -> Tensor:
        rows = torch.empty((self._keys.shape[1], self._keys.shape[2] // 2), dtype=torch.int64)
        parallel_range(numba_scores.best_rows, len(rows), self._keys.numpy(), self._used.numpy(), rows.numpy())
        return rows

    def merge(self, tiles: Tensor | None, product: Tensor, curve: Tensor, terms: Terms, first: int) -> None:
        self._collect(tiles, terms, 0)(first, product, curve)

    def compete(self, tiles: Tensor | None, candidates: Candidates, own: TileTerms, first: int) -> None:
        lanes, count = len(self._keys), candidates.pixels.count
        terms = Terms(candidates.scale, candidates.bits, own.place, own.price)

        def work(start: int, stop: int) -> None:
            for lane in range(start, stop):
                collect = self._collect(tiles, terms, lane)
                some = range(count * lane // lanes, count * (lane + 1) // lanes)
                products = candidates.pixels.blocks(own.rows, some), candidates.energies.blocks(own.weights, some)
                for (at, product), (_, curve) in zip(*products, strict=True):
                    collect(first + at, product, curve)

        parallel_range(work, lanes, least=1)

    def _collect(self, tiles: Tensor | None, terms: Terms, lane: int) -> Callable[[int, Tensor, Tensor], None]:
        """A function that lets one block of products, by its first row, compete in a lane."""
        tiles = torch.arange(len(terms.place)) if tiles is None else tiles
        given = [t.numpy() for t in (terms.scale, terms.place, terms.price, terms.bits, tiles)]
        own = [part[lane].numpy() for part in (self._keys, self._used, self._bar)]
        return lambda first, product, curve: numba_scores.keep_best(
            0, len(product), product.numpy(), curve.numpy(), *given, first, *own
        )


def best_of(n: int, keep: int, device: torch.device) -> Best:
    return LoopedBest(n, keep)


def ranked(rows: Tensor, of: Tensor, bank: BankTerms, bits: Tensor, own: TileTerms, keep: int) -> Tensor:
    out = torch.empty((len(of), min(keep, rows.shape[1])), dtype=torch.int64)
    tensors = (rows, of, *bank, bits, *own, out)
    parallel_range(numba_scores.rank_again, len(of), *(t.contiguous().numpy() for t in tensors))
    return out


def best_in_cells(chosen: Tensor, cells: CellRows, bits: Tensor, own: TileTerms, keep: int) -> Tensor:
    out = torch.empty((len(chosen), keep), dtype=torch.int64)
    tensors = (chosen, cells.start, cells.rows, *cells.terms, bits, *own, out)
    parallel_range(
        numba_cells.best_in_cells, len(chosen), *(t.contiguous().numpy() for t in tensors), least=_LEAST_TILES
    )
    return out


# ---------------------------------------------------------------- nets

_KINDS = ("abs", "relu", "answer")


def activated(product: Tensor, factor: Tensor, bias: Tensor, kind: str) -> Tensor:
    out = torch.empty(product.shape, dtype=torch.int32 if kind == "answer" else torch.int8)
    tensors = (product, factor, bias, out)
    least = max(1, _LEAST_PACKED // max(1, product.shape[1]))
    parallel_range(
        numba_cells.activate, len(product), *(t.contiguous().numpy() for t in tensors), _KINDS.index(kind), ANSWER_TOP,
        least=least,
    )  # fmt: skip
    return out


def likeliest_cells(
    answers: Tensor, product: Tensor, curve: Tensor, terms: Terms, gain: Tensor, least: int, keep: int
) -> Tensor:
    out = torch.empty((len(answers), min(keep, product.shape[1])), dtype=torch.int64)
    tensors = (answers, product, curve, terms.scale, terms.place, gain)
    parallel_range(
        numba_cells.likeliest_cells, len(answers), *(t.contiguous().numpy() for t in tensors), least, LOG_FLOOR,
        out.numpy(), least=_LEAST_TILES,
    )  # fmt: skip
    return out


# ---------------------------------------------------------------- a few, exactly


def exact(
    tiles: TileBatch, patterns: Patterns, address: Tensor, amp_cost: Tensor, terms: ExactTerms, shift: int = 0
) -> tuple[Tensor, Tensor]:
    about = patterns.rms, address
    return _exact(tiles, patterns.store, patterns.at, about, amp_cost, terms, shift, by_row=False)


def exact_rows(
    tiles: TileBatch,
    store: Tensor,
    rows: Tensor,
    rms: Tensor,
    address: Tensor,
    amp_cost: Tensor,
    terms: ExactTerms,
    shift: int = 0,
) -> tuple[Tensor, Tensor]:
    return _exact(tiles, store, rows, (rms, address), amp_cost, terms, shift, by_row=True)


def _exact(
    tiles: TileBatch,
    store: Tensor,
    at: Tensor,
    about: tuple[Tensor, Tensor],
    amp_cost: Tensor,
    terms: ExactTerms,
    shift: int,
    *,
    by_row: bool,
) -> tuple[Tensor, Tensor]:
    """`exact`, or with `by_row` `exact_rows`; about: RMS and address, of candidates or of rows."""
    n, block = len(at), _block(tiles, terms)
    change, level = torch.empty(at.shape, dtype=torch.float64), torch.empty(at.shape, dtype=torch.int64)
    rms, address = about[0].reshape(-1), about[1].reshape(-1).to(torch.int32)
    parallel_range(
        numba_exact.score_exactly, n, *_flat(tiles), _weights(terms), _numbers(terms, amp_cost), block,
        amp_cost.numpy(), _words(store, block), store.numpy(), shift, at.numpy(), rms.numpy(), address.numpy(), by_row,
        change.numpy(), level.numpy(), least=max(1, _LEAST_SCORED // max(1, at.shape[1])),
    )  # fmt: skip
    return change, level


def distortion(tiles: TileBatch, terms: ExactTerms) -> Tensor:
    out = torch.empty(len(tiles.e), dtype=torch.float64)
    own, square = (part.flatten(1).numpy() for part in (terms.windows.blend, terms.windows.error_weight))
    given = own, square, _numbers(terms), _block(tiles, terms), out.numpy()
    parallel_range(numba_exact.measure_distortion, len(out), *_flat(tiles), *given)
    return out


def refit(
    tiles: TileBatch, layers: TileLayers, drawings: Drawings, costs: LayerCosts, terms: ExactTerms, step: int
) -> tuple[Tensor, Tensor]:
    amp, added, block = layers.amp.contiguous().clone(), torch.empty_like(tiles.e), _block(tiles, terms)
    tensors = (drawings.rms, drawings.units, layers.count, layers.rows.contiguous(), costs.address, costs.amplitudes)
    parallel_range(
        numba_exact.refit_layers, len(amp), *_flat(tiles), _weights(terms), _numbers(terms, costs.amplitudes), block,
        _words(drawings.store, block), drawings.store.numpy(), drawings.shift, *(t.numpy() for t in tensors), step,
        RMS_FLOOR, COEFFICIENT_ONE, amp.numpy(), added.flatten(1).numpy(),
    )  # fmt: skip
    return amp, added


def _flat(tiles: TileBatch) -> list[Array]:
    """e and x as rows, and the classes."""
    e, x, cls = tiles
    return [e.contiguous().flatten(1).numpy(), x.contiguous().flatten(1).numpy(), cls.numpy()]


def _weights(terms: ExactTerms) -> numba_exact.Weights:
    windows = terms.windows
    parts = windows.blend, windows.linear_weight, windows.power_weight
    return numba_exact.Weights(*(part.flatten(1).numpy() for part in parts))


def _numbers(terms: ExactTerms, amp_cost: Tensor | None = None) -> numba_exact.Numbers:
    top = 0 if amp_cost is None else amp_cost.shape[-1] - 1
    return numba_exact.Numbers(
        terms.drop, terms.delta, terms.mse_weight, terms.alpha, terms.bit_price, top, SSIM_C1, SSIM_C2
    )


def _block(tiles: TileBatch, terms: ExactTerms) -> int:
    """Side of the blocks that a tile's samples are ordered by: without SSIM the whole tile is one."""
    return terms.block if terms.alpha > 0.0 else tiles.e.shape[1]


def _words(store: Tensor, block: int) -> Array:
    """Patterns [R,T*T] as words of eight bytes, where the rows of SSIM blocks are whole ones, for fast copies."""
    return store.numpy().view(np.int64) if block * store.element_size() % 8 == 0 else store.numpy()


# ---------------------------------------------------------------- the picture so far


class _LoopedSurface:
    """`DrawnSurface` with slopes of the knots that are asked for alone."""

    def __init__(self, knots: Tensor, grid: TileSpec, planes: int, smooth: int) -> None:
        self._sides, lines = axes(grid, knots.device), planes * grid.H
        self.plane, self._across = torch.empty((2, lines, grid.W), dtype=torch.int32)
        self._down, *room = torch.empty((4, lines, grid.nx), dtype=torch.int32)
        sides = [each.numpy() for axis in self._sides for each in (axis.before, axis.ramp, axis.step)]
        out = [each.numpy() for each in (*room, self.plane, self._down, self._across)]
        own = knots.contiguous().view(planes, -1).numpy()
        parallel_range(numba_samples.draw_surface, lines, own, *sides, smooth, grid.nx, *out, least=_LEAST_LINES)

    def slopes(self, rest: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        out = torch.zeros((2, len(mine)), dtype=torch.int64)
        sides = [each for axis in self._sides for each in (axis.before, axis.first, axis.last)]
        knots = torch.nonzero(mine).flatten()
        arrays = [each.contiguous().numpy() for each in (knots, rest, self._down, self._across, *sides)]
        parallel_range(numba_samples.slopes, len(knots), *arrays, SHARE_ONE, *out.numpy(), least=_LEAST_KNOTS)
        return out[0], out[1]


def draw_surface(knots: Tensor, grid: TileSpec, planes: int, step_q12: int) -> DrawnSurface:
    return _LoopedSurface(knots, grid, planes, least_sharp(step_q12))
