"""Scores of candidates, D + lambda * bits: of all by an expansion of D, then of a few exactly.

`expansion` says how the whole bank is ranked without drawing anything.  The few best are scored exactly: amplitude
quantized, block SSIM from moments.  Every sum is over integers: int32, or float64 holding integers below 2^53, which
is exact in any order; what divides does so elementwise.  Hence the same choices on every device.
Source of SSIM: Z. Wang et al., IEEE TIP 13 (2004), here on disjoint blocks without the Gaussian window.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.config import CodecConfig
from pc15.hooks.inputs import SIDE, NetInputs, net_inputs
from pc15.luma import SAMPLE_ONE
from pc15.quant import MSE_SCALE, step_q15
from pc15.runtime.memo import cached_method
from pc15.search.backend import backend_of
from pc15.search.backend.protocol import (
    LEAST_TOGETHER,
    Backend,
    BankTerms,
    Candidates,
    Drawings,
    ExactTerms,
    Expansion,
    LayerCosts,
    Patterns,
    TileBatch,
    TileLayers,
    TileTerms,
    powers_of,
)
from pc15.search.backend.torch_ops import ssim
from pc15.search.bank import Bank
from pc15.search.cells import Cells
from pc15.search.cost import Costs
from pc15.search.expansion import expansion_of
from pc15.search.windows import Windows, ssim_block
from pc15.search.windows import box_edges as box_edges  # for `continuous`

Ints = npt.NDArray[Any]

_BLOCK = 8
DROP = 4
"""Bits that drawn patterns, Q14 +-2^15, lose to be scored: `Scorer.exact` takes |d| < 2^11."""
_WIDE = 4  # times as many candidates as are wanted pass the coarse screening, and are ranked at full resolution


class Scorer:
    """Scores candidates for the tiles of one plane.

    Costs J are in pixels of D: (1 - alpha) * MSE_SCALE * sum w err^2 + alpha * sum_blocks area (1 - SSIM)
    + lambda * bits, relative to leaving the tile as it is.
    """

    def __init__(
        self,
        cfg: CodecConfig,
        bank: Bank,
        windows: Windows,
        costs: Costs,
        amp_step: int,
        ops: Backend | None = None,
    ) -> None:
        """`ops`: what runs the operations; that of the bank's device by default."""
        self.ops = backend_of(bank.gen.device) if ops is None else ops
        self.cfg, self.bank, self.windows, self.costs = cfg, bank, windows, costs
        self.tile, self.amp_step = cfg.tile, amp_step
        self.delta = step_q15(amp_step) / (1 << 15)
        self.mse_weight = (1.0 - cfg.alpha_mix) * MSE_SCALE
        # where squared error stands in for SSIM too
        self._rough_weight = self.mse_weight + cfg.alpha_mix * MSE_SCALE
        self._half = cfg.search != "exhaustive" and bank.side % 2 == 0 and bank.side >= 16
        self._side = bank.side // 2 if self._half else bank.side
        # Sums of integers stay below 2^53 for tiles above 32 px too.
        self._drop = max(0, 2 * (self.tile - 1).bit_length() - 10)

    # ------------------------------------------------------------ every candidate

    @functools.cached_property
    def expansion(self) -> Expansion:
        """Terms of the expansions of D around tiles."""
        return expansion_of(self.windows, self.mse_weight, self.cfg.alpha_mix, self.cfg.lambda_rd)

    @functools.cached_property
    def _shown(self) -> Expansion:
        """The same, of squared error alone: of a picture that nothing is drawn of yet."""
        return expansion_of(self.windows, 1.0, 0.0, self.cfg.lambda_rd)

    @functools.cached_property
    def drawings(self) -> Drawings:
        """The bank's drawings, of a bank at full resolution."""
        bank = self.bank
        assert bank.drawn is not None, "larger tiles are drawn anew"
        return Drawings(bank.drawn, bank.drawn_rms, bank.drawn_rms.to(torch.float64) * (1.0 / (1 << DROP)), DROP)

    def screen(self, tiles: TileBatch, layer: int, keep: int, allowed: Tensor | None) -> Tensor:
        """The `keep` most promising bank rows of each tile, best first, [n, keep] int64; -1 where there are fewer.

        Args:
            allowed: [n,G] bool, generators to consider; None for all.
        """
        keep = min(keep, self.bank.rows)
        parts, first = [], 0
        while first < len(tiles.e):
            at = slice(first, first + self._together)
            some = TileBatch(*(part[at] for part in tiles))
            try:
                if allowed is None and self.cfg.search == "indexed":
                    chosen = self.cells.index(self.packed(some), self.cfg.cells)
                    parts.append(self.within(chosen, some, layer, keep))
                else:
                    parts.append(self._screened(some, layer, keep, None if allowed is None else allowed[at]))
            except torch.cuda.OutOfMemoryError:
                if self._together <= LEAST_TOGETHER:
                    raise
                self._together //= 2
                continue
            first = at.stop
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts) if parts else torch.zeros((0, keep), dtype=torch.int64, device=tiles.e.device)

    def _screened(self, tiles: TileBatch, layer: int, keep: int, allowed: Tensor | None) -> Tensor:
        """`screen` of tiles that are looked at together, every row of the allowed generators."""
        wide = min(_WIDE * keep, self.bank.rows) if self._half else keep
        best, own = self.ops.best_of(len(tiles.e), wide, tiles.e.device), self.packed(tiles)
        if allowed is None:
            best.compete(None, self._candidates(layer, None), own, 0)
        else:
            for gen in torch.nonzero(allowed.any(dim=0)).flatten().tolist():
                at = torch.nonzero(allowed[:, gen]).flatten()
                best.compete(at, self._candidates(layer, gen), own.pick(at), self.bank.start[gen])
        return self.finer(best.rows, tiles, layer, keep) if self._half else best.rows

    @functools.cached_property
    def _together(self) -> int:
        """Tiles that are screened at once; fewer once memory has run out."""
        return self.ops.tiles_together(self.bank.rows, self.bank.gen.device)

    def packed(self, tiles: TileBatch, side: int | None = None) -> TileTerms:
        """Terms of tiles; side: boxes a side, None for those of screening."""
        return self.ops.packed(tiles, self.expansion, side or self._side)

    def _candidates(self, layer: int, gen: int | None) -> Candidates:
        """The candidates of one generator, or all, at the resolution of screening."""
        bank, around = self.bank, self.windows.around
        products = bank.product(self._half, gen), bank.energy_product(self._half, around, gen)
        return Candidates(*products, bank.terms(self._half, around).scale, self.bits(layer))

    @functools.cached_property
    def cells(self) -> Cells:
        """The bank's own cells, of patterns as they are screened."""
        bank = self.bank
        return Cells.of_bank(bank, bank.halved if self._half else bank.pixels, self.windows.around)

    def within(self, chosen: Tensor, tiles: TileBatch, layer: int, keep: int, cells: Cells | None = None) -> Tensor:
        """The `keep` most promising rows of some cells of each tile at the bank's own resolution, as `screen` has them.

        Args:
            chosen: [n,k] int64, -1 for none.   cells: those that are numbered; None for the bank's own.
        """
        members = (self.cells if cells is None else cells).rows_as(self.bank.terms(False, self.windows.around))
        return self.ops.best_in_cells(chosen, members, self.bits(layer), self.packed(tiles, self.bank.side), keep)

    def finer(self, rows: Tensor, tiles: TileBatch, layer: int, keep: int, of: Tensor | None = None) -> Tensor:
        """The best `keep` of candidates at the bank's own resolution, best first, a tie to the lower row.

        Args:
            rows: [m,M] int64, -1 for none.   of: [n] int64, the row of `rows` that each tile chooses from; None for
                its own.
        """
        terms = self.bank.terms(False, self.windows.around)
        of = torch.arange(len(rows), device=rows.device) if of is None else of
        return self.ops.ranked(rows, of, terms, self.bits(layer), self.packed(tiles, self.bank.side), keep)

    @functools.cached_property
    def seen(self) -> BankTerms:
        """The bank as nets see it."""
        return self.bank.terms(self.bank.side == 2 * SIDE, self.windows.around)

    @functools.cached_property
    def powers(self) -> Tensor:
        """Sum of squares of each pattern, as nets see it, [K] float32."""
        return powers_of(self.seen)

    def norms(self, inputs: NetInputs, rows: Tensor) -> Tensor:
        """Gain of bank rows [n,M] per squared product with a pattern at unit norm, [n,M] float32."""
        energies, weights = self.seen.energies[rows].float(), inputs.terms.weights.float()
        curve = torch.bmm(energies, weights[:, :, None])[:, :, 0]  # below 2^24: exact
        return self.seen.scale[inputs.terms.place[:, None], rows] * self.powers[rows] / curve

    def inputs(self, tiles: TileBatch, layer: int) -> NetInputs | None:
        """Numbers that nets see of tiles; None where the bank is of tiles that they cannot see."""
        if self.bank.seen is None:
            return None
        return net_inputs(tiles, self.expansion, self._shown, layer)

    @cached_method
    def _terms(self, rough: bool) -> ExactTerms:
        alpha = 0.0 if rough else self.cfg.alpha_mix
        mse_weight = self._rough_weight if rough else self.mse_weight
        price, block = self.cfg.lambda_rd / 256.0, ssim_block(self.tile)
        return ExactTerms(self.windows, self._drop, block, self.delta, mse_weight, alpha, price)

    @cached_method
    def bits(self, layer: int) -> Tensor:
        """Cost of each bank row in a layer before its amplitude, in 1/256 bit, [K] float32."""
        return self.costs.rows(layer).to(torch.float32)

    # ------------------------------------------------------------ a few, exactly

    def exact(
        self,
        e: Tensor,
        x: Tensor,
        cls: Tensor,
        patterns: Patterns,
        address_q8: Tensor,
        layer: int,
        *,
        rough: bool = False,
        shift: int = 0,
    ) -> tuple[Tensor, Tensor]:
        """Change of J and signed amplitude level of each candidate, ([n,M] float64, [n,M] int64).

        Args:
            e: [n,T,T] int32 Q12 residual.   x: [n,T,T] int32 Q12 picture.
            address_q8: [n,M] int, bits / 256 before the amplitude.
            rough: let squared error stand in for SSIM, as screening does.
            shift: bits that patterns lose before.
        """
        tiles, amp_cost = TileBatch(e, x, cls), self.costs.amplitudes(layer)
        return self.ops.exact(tiles, patterns, address_q8, amp_cost, self._terms(rough), shift)

    def exact_rows(
        self, e: Tensor, x: Tensor, cls: Tensor, rows: Tensor, layer: int, *, drawn: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`exact` of bank rows [n,M], -1 for none, of a bank at full resolution.

        Args:
            drawn: score the decoder's own drawings, not the bank's stretched pixels.
        """
        bank, address = self.bank, self.costs.added_rows(layer, self.cfg.max_layers)
        tiles, amp_cost = TileBatch(e, x, cls), self.costs.amplitudes(layer)
        own = self.drawings if drawn else Drawings(bank.pixels, bank.drawn_rms, bank.rms, 0)
        return self.ops.exact_rows(tiles, own.store, rows, own.units, address, amp_cost, self._terms(False), own.shift)

    def refit(self, tiles: TileBatch, layers: TileLayers) -> tuple[Tensor, Tensor]:
        """`Backend.refit` of layers that are rows of a bank at full resolution."""
        costs = LayerCosts(*self.costs.stacked(self.cfg.max_layers))
        return self.ops.refit(tiles, layers, self.drawings, costs, self._terms(False), step_q15(self.amp_step))

    def distortion(self, e: Tensor, x: Tensor, cls: Tensor) -> Tensor:
        """D of the tiles as they are, in the unit of J, [n] float64."""
        return self.ops.distortion(TileBatch(e, x, cls), self._terms(False))


def plane_distortion(plane: Ints, shown: Ints, alpha_mix: float) -> float:
    """D of a plane [h,w] int32 Q12 that is shown as another one, times its pixels: the unit of J.

    SSIM on disjoint blocks of 8 px from the top left, what is left at the right and below in smaller ones.
    """
    x, y = plane.astype(np.int64), shown.astype(np.int64)
    error = x - y
    wrong = float((error * error).sum()) * (1.0 - alpha_mix) * MSE_SCALE / float(SAMPLE_ONE**2)
    if alpha_mix > 0.0:
        starts = [np.arange(0, side, _BLOCK) for side in x.shape]
        count = np.multiply.outer(*(np.diff(at, append=side) for at, side in zip(starts, x.shape, strict=True)))
        sums = (np.add.reduceat(np.add.reduceat(v, starts[0], 0), starts[1], 1) for v in (x, y, x * x, y * y, x * y))
        mx, my, xx, yy, xy = (torch.from_numpy(v / count) for v in sums)
        value = ssim(mx, my, xx - mx * mx, yy - my * my, xy - mx * my).numpy()
        wrong += float(np.round((1.0 - value) * count * 2.0**30).astype(np.int64).sum()) * 2.0**-30 * alpha_mix
    return wrong
