"""The search on a GPU: kernels, tensor operations for what they have no room for; see `Backend`.

Numbers that float32 cannot hold reach a kernel in a tensor: Triton hands over a Python float as float32.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from pc15.dc_surface import least_sharp
from pc15.grids import TileSpec
from pc15.search.backend import torch_ops
from pc15.search.backend.protocol import (
    SSIM_C1,
    SSIM_C2,
    BankTerms,
    Best,
    CellRows,
    Drawings,
    DrawnLayers,
    DrawnSurface,
    ExactTerms,
    Expansion,
    LayerCosts,
    Leads,
    Patterns,
    TileBatch,
    TileLayers,
    TileTerms,
)
from pc15.search.backend.sort_keys import Terms
from pc15.search.backend.torch_cells import best_of_places
from pc15.search.backend.torch_ops import (
    activated,
    draws_ahead,
    energies,
    likeliest_cells,
    reserved_threads,
    row_sums,
    tiles_together,
)
from pc15.search.backend.triton import screen
from pc15.search.backend.triton.canvas import contributions, look, put, show
from pc15.search.backend.triton.exact import score_distortion, score_exactly
from pc15.search.backend.triton.expansion import terms_of_tiles
from pc15.search.backend.triton.surface import draw_surfaces, surface_slopes
from pc15.search.knot_spans import axes

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


_PLACES = 1 << 24  # rows of cells that are ranked at once: their keys take 8 bytes each

# ---------------------------------------------------------------- every candidate


def packed(tiles: TileBatch, expansion: Expansion, side: int) -> TileTerms:
    if tiles.e.shape[1] % side or tiles.e.shape[1] % expansion.regions:
        return torch_ops.packed(tiles, expansion, side)
    return terms_of_tiles(tiles, expansion, side)


class _KernelBest(torch_ops.GroupedBest):
    @property
    def rows(self) -> Tensor:
        return screen.best_rows(self._keys)

    def _group_best(self, product: Tensor, curve: Tensor, terms: Terms, first: int) -> Tensor:
        return screen.group_best(product, curve, terms, first)

    def _merged(self, own: Tensor, groups: Tensor, block: tuple[Tensor, Tensor], terms: Terms, first: int) -> Tensor:
        if own.shape[1] > screen.MOST_KEPT:
            return super()._merged(own, groups, block, terms, first)
        return screen.merge_best(own, groups, block, terms, first)


def best_of(n: int, keep: int, device: torch.device) -> Best:
    return _KernelBest(n, keep, device)


def ranked(rows: Tensor, of: Tensor, bank: BankTerms, bits: Tensor, own: TileTerms, keep: int) -> Tensor:
    return screen.best_rows(screen.rank_again(rows[of], bank, bits, own), keep)


def best_in_cells(chosen: Tensor, cells: CellRows, bits: Tensor, own: TileTerms, keep: int) -> Tensor:
    return best_of_places(chosen, cells, bits, own, keep, screen.rank_places, _PLACES)


# ---------------------------------------------------------------- a few, exactly


def exact(
    tiles: TileBatch, patterns: Patterns, address: Tensor, amp_cost: Tensor, terms: ExactTerms, shift: int = 0
) -> tuple[Tensor, Tensor]:
    numbers = _numbers(terms, tiles.e.device)
    candidates = patterns.store, patterns.at, patterns.rms
    return score_exactly(tiles, candidates, address, amp_cost, terms, numbers, by_row=False, shift=shift)


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
    numbers = _numbers(terms, tiles.e.device)
    return score_exactly(tiles, (store, rows, rms), address, amp_cost, terms, numbers, by_row=True, shift=shift)


def distortion(tiles: TileBatch, terms: ExactTerms) -> Tensor:
    return score_distortion(tiles, terms, _numbers(terms, tiles.e.device))


def refit(
    tiles: TileBatch, layers: TileLayers, drawings: Drawings, costs: LayerCosts, terms: ExactTerms, step: int
) -> tuple[Tensor, Tensor]:
    steps = torch_ops.RefitSteps(exact_rows, contributions, show)
    return torch_ops.refit_by_number(tiles, layers, drawings, costs, terms, step, steps)


def _numbers(terms: ExactTerms, device: torch.device) -> Tensor:
    """Factors and constants as kernels of `exact` load them, float64."""
    return _on_device((terms.delta, terms.mse_weight, terms.alpha, terms.bit_price, SSIM_C1, SSIM_C2), device)


@functools.lru_cache(maxsize=256)
def _on_device(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64, device=device)


# ---------------------------------------------------------------- choices


def lowest(cost: Tensor, keep: int) -> Tensor:
    if cost.shape[1] > screen.MOST_COMPARED:
        return torch_ops.lowest(cost, keep)
    return screen.lowest(cost, keep)


def pick(
    change: Tensor, level: Tensor, rows: Tensor, bank: Tensor, width: int, keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    if change.shape[1] > screen.MOST_COMPARED:
        return torch_ops.pick(change, level, rows, bank, width, keep)
    return screen.pick(change, level, rows, bank, width, keep)


def offered(
    owner: Tensor,
    j: Tensor,
    change: Tensor,
    sets: Tensor,
    width: int,
    layer: int,
    leads: Leads,
) -> tuple[Tensor, Tensor]:
    every, table = screen.offered(owner, j, change, sets, width, layer, leads)
    return every, table[table >= 0]


# ---------------------------------------------------------------- the picture so far


def without(e: Tensor, of: Tensor, cls: Tensor, own: Tensor, layers: DrawnLayers) -> Tensor:
    left = e[of]
    show(left, cls, own, contributions(layers, e.shape[1]), -1)
    return left


class _KernelSurface:
    def __init__(self, knots: Tensor, grid: TileSpec, planes: int, smooth: int) -> None:
        self._knots, self._axes, self._smooth = knots, axes(grid, knots.device), smooth
        out = torch.empty(planes * grid.H * grid.W, dtype=torch.int32, device=knots.device)
        draw_surfaces(knots, out, self._axes, smooth)
        self.plane = out.view(-1, grid.W)

    def slopes(self, rest: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        out = torch.zeros((2, len(mine)), dtype=torch.int64, device=rest.device)
        surface_slopes(self._knots, rest, mine, out, self._axes, self._smooth)
        return out[0], out[1]


def draw_surface(knots: Tensor, grid: TileSpec, planes: int, step_q12: int) -> DrawnSurface:
    return _KernelSurface(knots, grid, planes, least_sharp(step_q12))
