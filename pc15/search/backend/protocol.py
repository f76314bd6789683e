"""Operations of the search, whatever runs them: the one description of each.

Three modules implement `Backend`: `torch_ops` in tensor operations, the reference; `numba_ops` in compiled loops on a
CPU; `triton.ops` in kernels on a GPU.  All give the same result to the last bit.  Sums are of integers: int32, or int64
and float64 that hold integers below 2^53, exact in any order.  All else is elementwise, in one sequence, each operation
rounded once: no implementation may reorder floating point or contract a product and a sum into one rounding.

Shapes: n tiles of T px a side, M candidates of each, K bank rows of P pixels, C classes of tiles (see `Windows`), N
tiles and S samples of all planes.  Samples are int32 Q12 unless said otherwise.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, device

from pc15.grids import TileSpec
from pc15.luma import SAMPLE_ONE
from pc15.search.backend.product import Product
from pc15.search.backend.sort_keys import Terms
from pc15.search.windows import Windows

SSIM_C1, SSIM_C2 = (0.01 * SAMPLE_ONE) ** 2, (0.03 * SAMPLE_ONE) ** 2
"""Constants of SSIM in luma of Q12."""
FACTOR_ONE, SLOPE_DROP = 256.0, 4
"""Steps per unit of the factors that slopes are made with, and bits that slopes lose."""
LUMINANCE_TOP, LEAST_CURVE = 1024.0, 0.25
"""Most that the mean of a region weighs per px, and the least share of a region's weight that curves keep: both end
what a quadratic would make of nearly black and of opposite regions."""
FACTOR_BITS = 20
"""Fraction bits of the factors that bring sums of a net's layer back to the grid of its activations."""
ANSWER_TOP = (1 << 24) - 1
"""Largest magnitude of an answer of a net."""
LOG_FLOOR = -10 << 8
"""Least logarithm of the score of a cell in that of the best, in 1/256."""
LEAST_TOGETHER = 1 << 8
"""Tiles that every device screens at once."""

Places = tuple[Tensor, Tensor, Tensor, Tensor]
"""Places of the samples of tiles among those of all planes: of rows and columns of tiles [R,T], [C,T], and which of
these a tile has, [N], [N]; int64.  Past the border the last place is repeated."""


class BlendedTiles(NamedTuple):
    """All tiles, and what they blend to.

    acc: [S] int32, the sum of all samples times their tile's weight.   own: [C,T,T] int32 and of: [N], see `Windows`.
    samples: [N,T,T] int32 Q12, of all tiles, unclamped.
    """

    acc: Tensor
    places: Places
    own: Tensor
    of: Tensor
    samples: Tensor


class DrawnLayers(NamedTuple):
    """Layers as the decoder draws them.

    store: [R,T*T] or [R,T,T] int16 or int32 Q14, patterns without their mean.   rms: [R] int32 Q14.
    at: [n] int64, rows of these; None for all, in order.   amp: [n] int64, signed levels of `step`, Q15.
    """

    store: Tensor
    rms: Tensor
    at: Tensor | None
    amp: Tensor
    step: int


class TileBatch(NamedTuple):
    """Some tiles.  e: [n,T,T], what is left to draw.   x: [n,T,T], the picture.   cls: [n] int64, class of each."""

    e: Tensor
    x: Tensor
    cls: Tensor


@dataclass(frozen=True, eq=False)
class Patterns:
    """Candidates of some tiles: M patterns without their mean for each of n tiles, in any scale.

    store: [R,T*T] int8, or int16 below 2^11.   at: [n,M] int64, rows of `store`.
    rms: [n,M] float64, RMS in the store's scale; 0 for flat ones and for places to skip.
    """

    store: Tensor
    at: Tensor
    rms: Tensor


@dataclass(frozen=True, eq=False)
class Drawings:
    """Patterns as the decoder draws them, less their mean, that layers are rows of.

    store: [R,T*T] int16 Q14.   rms: [R] int32 Q14, 0 for flat ones.   shift: bits that they lose to be scored.
    units: [R] float64, RMS in the scale that they are scored in.
    """

    store: Tensor
    rms: Tensor
    units: Tensor
    shift: int


@dataclass(frozen=True, eq=False)
class TileLayers:
    """Layers of n tiles, by their number.

    count: [n] int64, descending.   rows: [n,L] int64, of `Drawings`.   amp: [n,L] int64, signed levels, 0 beyond the
    count.
    """

    count: Tensor
    rows: Tensor
    amp: Tensor


@dataclass(frozen=True, eq=False)
class LayerCosts:
    """Costs of layers in 1/256 bit, int32, by their number.

    address: [L,R], of every row before the amplitude.   amplitudes: [L,2,levels], of positive and negative levels.
    """

    address: Tensor
    amplitudes: Tensor


@dataclass(frozen=True, eq=False)
class ExactTerms:
    """Terms of an exact score besides tiles and candidates.

    drop: bits that weighted products lose, so that their sums stay below 2^53.   block: side of the SSIM blocks, px.
    delta: amplitude of one level, in luma.   mse_weight: of squared error in luma, per px.   alpha: of 1 - SSIM; 0
    leaves SSIM out.   bit_price: of 1/256 bit.
    """

    windows: Windows
    drop: int
    block: int
    delta: float
    mse_weight: float
    alpha: float
    bit_price: float


@dataclass(frozen=True, eq=False)
class Expansion:
    """Terms that expansions of D around tiles share; see `expansion`.

    linear: [C,T,T] int32, see `Windows`.   regions: R a side.   count: [R*R] float64, px of each.
    share: [C,R*R] float64, mean of w.   power: [C,2*R*R] float64, mean of w^2, to that of the case that stands for the
        class, twice.   place: [C] int64, that case, see `Surroundings`.
    mse_weight: of squared error in luma, per px.   alpha: of 1 - SSIM; 0 leaves SSIM out.   drop: bits that weighted
        slopes lose, so that their sums stay below 2^53.
    prices: [64] float64, by shift: of 1/256 bit in a score, for a largest weight of 1.
    """

    linear: Tensor
    regions: int
    count: Tensor
    share: Tensor
    power: Tensor
    place: Tensor
    mse_weight: float
    alpha: float
    drop: int
    prices: Tensor


class TileTerms(NamedTuple):
    """Terms of scores, of n tiles.

    rows: [n,P] int8, the slope of D in their samples.   weights: [n,W] int8, what energy costs in each region, 0 where
    another case than the tile's own is meant.   place: [n] int64, that case.   price: [n] float32, of 1/256 bit.
    """

    rows: Tensor
    weights: Tensor
    place: Tensor
    price: Tensor

    def pick(self, index: Tensor) -> TileTerms:
        """Some of the tiles."""
        return TileTerms(*(part[index] for part in self))


class BankTerms(NamedTuple):
    """Terms of scores, of K patterns.

    pixels: [K,P] int8.   energies: [K,W] int8, of each region in both cases of `Surroundings`, within blocks and of
    their means, in steps of a pattern's own.   scale: [2,K] float32, what these steps divide by; 0 for flat ones.
    """

    pixels: Tensor
    energies: Tensor
    scale: Tensor

    def pick(self, index: Tensor) -> BankTerms:
        """Some of the patterns."""
        return BankTerms(self.pixels[index], self.energies[index], self.scale[:, index])


def powers_of(patterns: BankTerms) -> Tensor:
    """Sum of squares of each pattern's pixels, [K] float32."""
    chunks = patterns.pixels.split(1 << 14)
    return torch.cat([chunk.to(torch.int32).square().sum(dim=1, dtype=torch.int32) for chunk in chunks]).float()


class EnergyTerms(NamedTuple):
    """Terms of energies: power, linear [2,P] int64, weights of p^2 and of p, Q16, summed over what a pixel
    stands for; edges [R+1] int64, where regions begin, in pixels; area [R*R] float64, px of each."""

    power: Tensor
    linear: Tensor
    edges: Tensor
    area: Tensor


@dataclass(frozen=True, eq=False)
class CellRows:
    """The K rows of a bank in C groups, cell by cell.

    rows: [K] int64, rows of the bank.   start: [C+1] int64, those of cell c are rows[start[c]:start[c+1]], ascending.
    terms: what they are scored by, in the same order.
    """

    rows: Tensor
    start: Tensor
    terms: BankTerms

    @classmethod
    def of_cells(cls, of: Tensor, count: int, terms: BankTerms) -> CellRows:
        """From the cell of each row, [K] int64, and the terms of all rows."""
        rows = torch.sort(of, stable=True).indices
        ends = torch.cumsum(torch.bincount(of, minlength=count), dim=0)
        own = BankTerms(*(part.contiguous() for part in terms.pick(rows)))
        return cls(rows, torch.cat([torch.zeros_like(ends[:1]), ends]), own)


class Candidates(NamedTuple):
    """Neighbouring rows of a bank, ready to be multiplied.

    pixels, energies: of these rows, see `BankTerms`.   scale: [2,K], bits: [K] float32, of the whole bank.
    """

    pixels: Product
    energies: Product
    scale: Tensor
    bits: Tensor


class Leads(NamedTuple):
    """The best state of each of n tiles so far, as a beam moves on.

    j: [n] float64.   depth: [n] int64, its layers.   offer: [n] int64, the offer that made the last of them.
    """

    j: Tensor
    depth: Tensor
    offer: Tensor


class Best(Protocol):
    """The best candidates of each tile so far, by the scores of `sort_keys`; a tie keeps the lower bank row."""

    @property
    def rows(self) -> Tensor:
        """Bank rows [n,keep] int64, best first; -1 where there were fewer."""

    def merge(self, tiles: Tensor | None, product: Tensor, curve: Tensor, terms: Terms, first: int) -> None:
        """Let candidates from bank row `first` on compete; blocks of a tile come in the order of their rows.

        Args:
            tiles: [m] int64, which tiles the products are of; None for all, in order.
            product, curve: [m,B], exact integers: int32, or float32, which a CPU's product may leave them in.
        """

    def compete(self, tiles: Tensor | None, candidates: Candidates, own: TileTerms, first: int) -> None:
        """`merge` all candidates, the first of which is bank row `first`; `own` are terms of the tiles."""


class DrawnSurface(Protocol):
    """Surfaces through the DC levels of planes of one size, as `dc_surface.surface` draws them."""

    @property
    def plane(self) -> Tensor:
        """[planes*H,W]."""

    def slopes(self, rest: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        """`Surface.adjoint` of what is left of the planes and `Surface.norms`, [planes*N] int64 each.

        Args:
            rest: [planes*H,W].   mine: [planes*N] bool, knots that are asked for; others may have any value.
        """


class Backend(Protocol):
    """Every step of the search that more than one kind of device has an implementation of."""

    draws_ahead: bool
    """True if a call costs more than what it works on, so that much should be drawn at once."""

    # ------------------------------------------------------------ how work is shared out

    def reserved_threads(self) -> AbstractContextManager[object]:
        """Context in which operations have all threads of the caller to themselves."""

    def tiles_together(self, rows: int, device: device) -> int:
        """Number of tiles that are best screened at once against a bank of so many rows."""

    # ------------------------------------------------------------ every candidate

    def energies(self, pixels: Tensor, terms: EnergyTerms) -> tuple[Tensor, Tensor]:
        """Energies and scales of patterns [K,P] int8, as `BankTerms` has them.

        Of each case: the energy within each region, sum power * p^2 less that of the mean, and of the mean, (sum
        linear * p)^2 / count; then steps of 1/127 of the largest.  A flat row has energies of 1 and a scale of 0.
        """

    def row_sums(self, pixels: Tensor, error: Tensor, weight: Tensor) -> Tensor:
        """Sums of error * p, weight * p and weight * p^2 of each bank row p, [3,K] float64.

        Args:
            pixels: [K,P] int8.   error, weight: [P] int32, so small that no sum leaves 32 bits.
        """

    def packed(self, tiles: TileBatch, expansion: Expansion, side: int) -> TileTerms:
        """Terms of tiles for scores, with `side` boxes a side.

        A row holds sums of linear * slope over boxes of the tile, rounded to 7 bits by the least right shift.  Slopes
        come from moments of each region, in float64, as factors in 1/256.
        """

    def best_of(self, n: int, keep: int, device: device) -> Best:
        """A collector of the `keep` best candidates of n tiles."""

    def ranked(self, rows: Tensor, of: Tensor, bank: BankTerms, bits: Tensor, own: TileTerms, keep: int) -> Tensor:
        """The best `keep` of each tile's list of bank rows, best first, a tie to the lower row; [n,min(keep,M)] int64.

        Scores are those of `sort_keys`.  Left out are flat rows and places of -1; -1 where there are fewer.

        Args:
            rows: [m,M] int64, lists.   of: [n] int64, the list of each tile.   bits: [K] float32.
        """

    def best_in_cells(self, chosen: Tensor, cells: CellRows, bits: Tensor, own: TileTerms, keep: int) -> Tensor:
        """The best `keep` of the rows of some cells of each tile, [n,keep] int64, best first; -1 where there are fewer.

        Scores are those of `sort_keys`, a tie keeps the lower row; flat rows compete, too.

        Args:
            chosen: [n,k] int64, different cells of each tile; -1 for none.   bits: [K] float32, of bank rows.
            own: its rows [n,P] are int8, or int16 below 2^11 where P is at most 64.
        """

    # ------------------------------------------------------------ nets

    def activated(self, product: Tensor, factor: Tensor, bias: Tensor, kind: str) -> Tensor:
        """A layer's output from its sums: (product * factor, rounded, >> FACTOR_BITS) + bias, then what `kind` says.

        [n,B] int32 "answer"; or int8, clamped to 127: |x| for "abs", max(x, 0) for "relu".

        Args:
            product: [n,B], exact integers: int32 or float32.   factor, bias: [B] int32.
        """

    def likeliest_cells(
        self, answers: Tensor, product: Tensor, curve: Tensor, terms: Terms, gain: Tensor, least: int, keep: int
    ) -> Tensor:
        """The `keep` cells that a net finds likeliest, best first, a tie to the lower, [n,keep] int64.

        The likelihood of cell c is answers[:,c] + (gain[c] * log2(score of its centroid / the best score) >> 4), log2
        as `short_log2` has it and at least LOG_FLOOR; scores without bits.  Tiles whose last answer is below `least`
        get -1 alone.

        Args:
            answers: [n,C+1] int32.   product, curve: [n,C], exact integers, of centroids.   terms: of centroids and
            tiles.   gain: [C] int32.
        """

    # ------------------------------------------------------------ a few, exactly

    def exact(
        self, tiles: TileBatch, patterns: Patterns, address: Tensor, amp_cost: Tensor, terms: ExactTerms, shift: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Change of J and signed amplitude level of each candidate, [n,M] float64 and int64; +inf and 0 if unusable.

        Two levels are tried, the nearest to the optimum of squared error and the one below; a tie keeps the lower.

        Args:
            address: [n,M] int, cost before the amplitude, in 1/256 bit.   amp_cost: [2,levels] int32, likewise, of
                positive and of negative levels.   shift: bits that patterns lose before.
        """

    def exact_rows(
        self,
        tiles: TileBatch,
        store: Tensor,
        rows: Tensor,
        rms: Tensor,
        address: Tensor,
        amp_cost: Tensor,
        terms: ExactTerms,
        shift: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """`exact` of rows [n,M] of a store [R,T*T], -1 for none; rms: [R] float64 and address: [R] int are of rows."""

    def distortion(self, tiles: TileBatch, terms: ExactTerms) -> Tensor:
        """D of the tiles as they are, in the unit of J, [n] float64."""

    def refit(
        self, tiles: TileBatch, layers: TileLayers, drawings: Drawings, costs: LayerCosts, terms: ExactTerms, step: int
    ) -> tuple[Tensor, Tensor]:
        """Fit the amplitude of each layer of tiles again, the last one first, what the others draw as it is then.

        A layer that does not lower J gets level 0.

        Args:
            tiles: what they leave; `e` may be overwritten.   step: of a level, Q15.
        Returns:
            Levels [n,L] int64, and the samples [n,T,T] by which what tiles draw changes.
        """

    # ------------------------------------------------------------ choices

    def lowest(self, cost: Tensor, keep: int) -> Tensor:
        """Indices of the `keep` smallest values of each row, smallest first, ties in order.

        [n,M] float64 -> [n,min(keep,M)] int64.
        """

    def pick(
        self, change: Tensor, level: Tensor, rows: Tensor, bank: Tensor, width: int, keep: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The `lowest` candidates of each tile: fields [n*keep,width], level [n,keep], change [n,keep].

        Args:
            change, level: [n,M] float64, int64.   rows: [n,M] int64, bank rows; -1 has the fields of row 0.
            bank: [K,F] int64, fields of every row; zeros follow up to `width`.
        """

    def offered(
        self,
        owner: Tensor,
        j: Tensor,
        change: Tensor,
        sets: Tensor,
        width: int,
        layer: int,
        leads: Leads,
    ) -> tuple[Tensor, Tensor]:
        """Extend every beam state by its K candidates: J of all S*K offers, float64, and which are kept, [S'] int64.

        Kept are the `width` best of each tile that lower J, tile by tile, best first, ties to the first; of those with
        one number in `sets` the best alone, so that no beam is full of one program's layers in every order.

        Args:
            owner: [S] int64, tile of each state, ascending; `width` states at most are of one.
            j: [S] float64, of the states.   change: [S,K] float64, what the offers change it by.
            sets: [S,K] int64, equal where offers end in the same patterns.
            leads: changed in place where an offer has less J than any state of its tile before.
        """

    # ------------------------------------------------------------ the picture so far

    def look(self, tiles: Tensor, above: Tensor, acc: Tensor, places: Places, tile: int) -> Tensor:
        """Residual of the picture where tiles [n] lie: above - round_blend(acc), [n,T,T].

        Args:
            above: [S], what the planes are above their bases.   acc: [S] int32, the blend's accumulator.
        """

    def put(self, tiles: Tensor, canvas: BlendedTiles, new: Tensor, old: Tensor | None = None, *, add: bool) -> None:
        """In place: give tiles [n] that do not overlap the samples new - old [n,T,T], or with `add` add these.

        What they blend to changes by the change of the samples, clamped to +-SAMPLE_MAX, times the tile's weight.
        """

    def show(self, e: Tensor, cls: Tensor, own: Tensor, samples: Tensor, sign: int) -> None:
        """In place: add to e [n,T,T] sign * samples [n,T,T] as the blended picture shows them, rounded per tile."""

    def contributions(self, layers: DrawnLayers, tile: int) -> Tensor:
        """Samples that layers add to their tiles of `tile` px, as the decoder computes them, [n,T,T]."""

    def without(self, e: Tensor, of: Tensor, cls: Tensor, own: Tensor, layers: DrawnLayers) -> Tensor:
        """Some of the residuals e, [m,T,T], each less what a layer of its own shows, [n,T,T].

        Args:
            of: [n] int64, which of e.   cls: [n].   own: see `show`.
        """

    def draw_surface(self, knots: Tensor, grid: TileSpec, planes: int, step_q12: int) -> DrawnSurface:
        """Draw the surfaces through knots [planes*N] int32; step_q12: the DC quantizer's step."""
