"""The search on a CPU: loops of `numba_scores` and `numba_samples`, tensor operations for the rest; see `Backend`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pc15.dc_surface import SHARE_ONE, surface
from pc15.runtime.parallel import parallel_range, reserved_threads
from pc15.search.backend import numba_samples, numba_scores, torch_ops
from pc15.search.backend.numba_samples import contributions, look, put, show
from pc15.search.backend.product import Product
from pc15.search.backend.protocol import (
    ANSWER_TOP,
    LOG_FLOOR,
    SSIM_C1,
    SSIM_C2,
    Best,
    CellRows,
    DrawnSurface,
    ExactTerms,
    Patterns,
    Ranker,
    TileBatch,
)
from pc15.search.backend.sort_keys import Terms
from pc15.search.backend.torch_ops import distortion, lowest, offered, pick
from pc15.search.knot_spans import axes
from pc15.search.windows import box_edges
from pc15.tiling import TileSpec

__all__ = [
    "activated",
    "best_in_cells",
    "best_of",
    "contributions",
    "distortion",
    "draw_surface",
    "draws_ahead",
    "exact",
    "exact_rows",
    "inverse_norms",
    "likeliest_cells",
    "look",
    "lowest",
    "offered",
    "packed",
    "pick",
    "put",
    "ranker",
    "reserved_threads",
    "row_sums",
    "show",
    "tiles_together",
]

_TOGETHER = 256  # tiles whose products with a block of candidates stay in the cache
_LEAST_PACKED = 1 << 16  # samples that are worth another thread
_LEAST_TILES = 8  # tiles whose cells are worth another thread
_LEAST_KNOTS = 32  # knots that are

draws_ahead = False


def tiles_together(rows: int, device: torch.device) -> int:
    return _TOGETHER


# ---------------------------------------------------------------- every candidate


def inverse_norms(pixels: Tensor, quad: Tensor) -> Tensor:
    out = torch.empty((len(quad), len(pixels)), dtype=torch.float32)
    parallel_range(numba_scores.inverse_norms, len(pixels), pixels.numpy(), quad.numpy(), out.numpy())
    return out


def row_sums(pixels: Tensor, error: Tensor, weight: Tensor) -> Tensor:
    sums = torch.empty((3, len(pixels)), dtype=torch.int32)
    numba_scores.moments(0, len(pixels), pixels.numpy(), error.numpy(), weight.numpy(), *sums.numpy())
    return sums.to(torch.float64)


def packed(e: Tensor, cls: Tensor, lin: Tensor, prices: Tensor, side: int) -> tuple[Tensor, Tensor]:
    rows, tile = torch.empty((len(e), side * side), dtype=torch.int8), e.shape[1]
    price = torch.empty(len(e), dtype=torch.float32)
    tensors = (e, cls, lin, box_edges(tile, side, e.device), prices, rows, price)
    least = max(1, _LEAST_PACKED // tile**2)
    parallel_range(numba_scores.pack, len(e), *(t.contiguous().numpy() for t in tensors), least=least)
    return rows, price


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

    def merge(self, tiles: Tensor | None, product: Tensor, terms: Terms, first: int) -> None:
        self._collect(tiles, terms, 0)(first, product)

    def compete(self, tiles: Tensor | None, candidates: Product, packed: Tensor, terms: Terms, first: int) -> None:
        lanes, count = len(self._keys), candidates.count

        def work(start: int, stop: int) -> None:
            for lane in range(start, stop):
                collect = self._collect(tiles, terms, lane)
                own = range(count * lane // lanes, count * (lane + 1) // lanes)
                for at, product in candidates.blocks(packed, own):
                    collect(first + at, product)

        parallel_range(work, lanes, least=1)

    def _collect(self, tiles: Tensor | None, terms: Terms, lane: int) -> Callable[[int, Tensor], None]:
        """A function that lets one block of products, by its first row, compete in a lane."""
        tiles = torch.arange(len(terms.cls)) if tiles is None else tiles
        given = [t.numpy() for t in (terms.inverse, terms.cls, terms.price, terms.bits, tiles)]
        own = [part[lane].numpy() for part in (self._keys, self._used, self._bar)]
        return lambda first, product: numba_scores.keep_best(0, len(product), product.numpy(), *given, first, *own)


def best_of(n: int, keep: int, device: torch.device) -> Best:
    return LoopedBest(n, keep)


class _LoopedRanker:
    """`Ranker` that remembers the norms it has needed."""

    def __init__(self, pixels: Tensor, quad: Tensor) -> None:
        self._pixels, self._quad = pixels, quad
        self._known = torch.full((len(quad), len(pixels)), -1.0)

    def __call__(self, rows: Tensor, packed: Tensor, cls: Tensor, price: Tensor, bits: Tensor, keep: int) -> Tensor:
        out = torch.empty((len(rows), min(keep, rows.shape[1])), dtype=torch.int64)
        tensors = (rows, packed, self._pixels, self._quad, cls, price, bits, self._known, out)
        parallel_range(numba_scores.rank_again, len(rows), *(t.numpy() for t in tensors))
        return out


def ranker(pixels: Tensor, quad: Tensor) -> Ranker:
    return _LoopedRanker(pixels, quad)


def best_in_cells(chosen: Tensor, cells: CellRows, packed: Tensor, terms: Terms, keep: int) -> Tensor:
    out = torch.empty((len(chosen), keep), dtype=torch.int64)
    tensors = (chosen, cells.start, cells.rows, cells.pixels, packed, *terms, out)
    parallel_range(numba_scores.best_in_cells, len(chosen), *(t.contiguous().numpy() for t in tensors), least=_LEAST_TILES)
    return out


# ---------------------------------------------------------------- nets

_KINDS = ("abs", "relu", "answer")


def activated(product: Tensor, factor: Tensor, bias: Tensor, kind: str) -> Tensor:
    out = torch.empty(product.shape, dtype=torch.int32 if kind == "answer" else torch.int8)
    tensors = (product, factor, bias, out)
    least = max(1, _LEAST_PACKED // max(1, product.shape[1]))
    parallel_range(
        numba_scores.activate, len(product), *(t.contiguous().numpy() for t in tensors), _KINDS.index(kind), ANSWER_TOP,
        least=least,
    )  # fmt: skip
    return out


def likeliest_cells(
    answers: Tensor, product: Tensor, inverse: Tensor, energy: Tensor, gain: Tensor, least: int, keep: int
) -> Tensor:
    out = torch.empty((len(answers), min(keep, product.shape[1])), dtype=torch.int64)
    tensors = (answers, product, inverse[0], energy, gain)
    parallel_range(
        numba_scores.likeliest_cells, len(answers), *(t.contiguous().numpy() for t in tensors), least, LOG_FLOOR,
        out.numpy(), least=_LEAST_TILES,
    )  # fmt: skip
    return out


# ---------------------------------------------------------------- a few, exactly


def exact(
    tiles: TileBatch, patterns: Patterns, address: Tensor, amp_cost: Tensor, terms: ExactTerms, shift: int = 0
) -> tuple[Tensor, Tensor]:
    (n, m), windows = patterns.at.shape, terms.windows
    change, level = torch.empty((n, m), dtype=torch.float64), torch.empty((n, m), dtype=torch.int64)
    tensors = (*tiles, windows.lin, windows.quad, windows.own)
    parallel_range(
        numba_scores.score_exactly, n, *(t.numpy() for t in tensors), terms.drop, patterns.store.numpy(), shift,
        patterns.at.numpy(), patterns.rms.numpy(), address.numpy(), amp_cost.numpy(), terms.delta,
        amp_cost.shape[1] - 1, terms.mse_weight, terms.alpha, terms.bit_price, terms.block, SSIM_C1, SSIM_C2,
        change.numpy(), level.numpy(),
    )  # fmt: skip
    return change, level


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
    patterns = torch_ops.patterns_of(store, rows, rms)
    return exact(tiles, patterns, address[rows.clamp(min=0)], amp_cost, terms, shift)


# ---------------------------------------------------------------- the picture so far


class _LoopedSurface(torch_ops.PlainSurface):
    """Drawn in tensor operations, with slopes of the knots that are asked for alone."""

    def slopes(self, rest: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        out, drawn = torch.zeros((2, len(mine)), dtype=torch.int64), self._drawn
        sides = [each for axis in axes(drawn.grid, rest.device) for each in (axis.before, axis.first, axis.last)]
        knots = torch.nonzero(mine).flatten()
        arrays = [each.contiguous().numpy() for each in (knots, rest, drawn.down, drawn.across, *sides)]
        parallel_range(numba_samples.slopes, len(knots), *arrays, SHARE_ONE, *out.numpy(), least=_LEAST_KNOTS)
        return out[0], out[1]


def draw_surface(knots: Tensor, grid: TileSpec, planes: int, step_q12: int) -> DrawnSurface:
    return _LoopedSurface(surface(knots, grid, step_q12, planes=planes))
