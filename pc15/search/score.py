"""Integer moments -> distortion + lambda * bits, for every candidate and then for a few.

For a tile with residual e, blend weight w and a pattern p of unit RMS, adding a * p changes the picture's squared
error by  -2 a L + a^2 N,  L = sum w e p,  N = sum w^2 p^2: the blended picture's true error, overlap included.  L of
every candidate and every tile is one int8 product; N depends only on where a tile lies in the grid.  So

    gain = L^2 / N - kappa * bits

ranks the whole bank without drawing anything.  The few best are scored exactly: amplitude quantized, block SSIM from
moments.  Every sum is over integers: int32, or float64 holding integers below 2^53, which is exact in any order;
what divides does so elementwise.  Hence the same choices on every device.
Source of SSIM: Z. Wang et al., IEEE TIP 13 (2004), here on disjoint blocks without the Gaussian window.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.config import CodecConfig
from pc15.quant import MSE_SCALE, step_q15
from pc15.runtime.device import free_memory
from pc15.runtime.memo import cached_method
from pc15.runtime.parallel import parallel_range
from pc15.search.backend import fused, numba_scores
from pc15.search.backend.product import BLOCK_GPU
from pc15.search.backend.sort_keys import Terms
from pc15.search.bank import Bank
from pc15.search.cost import AMP_SEARCHED, Costs
from pc15.search.top_k import Best, best_of
from pc15.tiling import seam_weights_q8

Ints = npt.NDArray[Any]

SAMPLE_ONE = 4096
_BLOCK = 8
W_ONE = 1 << 16
DROP = 4
"""Bits that drawn patterns, Q14 +-2^15, lose to be scored: `Scorer.exact` takes |d| < 2^11."""
_WIDE = 4  # times as many candidates as are wanted pass the coarse screening, and are ranked at full resolution
_TOGETHER_CPU = 256  # tiles whose products with a block of candidates stay in the cache
_LEAST_PACKED = 1 << 16  # samples that are worth another thread
_LEAST_GPU, _MOST_GPU = 1 << 8, 1 << 13
_C1 = (0.01 * SAMPLE_ONE) ** 2
_C2 = (0.03 * SAMPLE_ONE) ** 2


def lowest_argmin(cost: Tensor) -> Tensor:
    """Index of the smallest value of each row, the first on a tie; [n,M] -> [n]."""
    if (gpu := fused.kernels_on(cost.device)) is not None:
        index: Tensor = gpu.lowest(cost, 1)[:, 0]
        return index
    low = cost.amin(dim=1, keepdim=True)
    index = torch.arange(cost.shape[1], device=cost.device).expand_as(cost)
    return torch.where(cost == low, index, cost.shape[1]).amin(dim=1)


def lowest_few(cost: Tensor, keep: int) -> Tensor:
    """Indices of the `keep` smallest values of each row, smallest first, ties in order; [n,M] -> [n,keep]."""
    gpu = fused.kernels_on(cost.device)
    if gpu is None or cost.shape[1] > gpu.MOST_COMPARED:
        return torch.sort(cost, dim=1, stable=True).indices[:, :keep]
    index: Tensor = gpu.lowest(cost, keep)
    return index


def box_edges(tile: int, side: int, device: torch.device) -> Tensor:
    """Where the boxes begin that stand for a tile at a lower resolution, and where the last ends; [side + 1], px."""
    return torch.div(torch.arange(side + 1, device=device) * tile, side, rounding_mode="floor")


def pooled(values: Tensor, side: int) -> Tensor:
    """Sums of integers [n,T,T] over side x side boxes that differ by a pixel at most; [n,side,side] int64."""
    n, tile, _ = values.shape
    wide = values.to(torch.int64)
    if tile == side:
        return wide
    if tile % side == 0:
        return wide.view(n, side, tile // side, side, tile // side).sum(dim=(2, 4))
    edges = box_edges(tile, side, values.device)
    box = torch.repeat_interleave(torch.arange(side, device=values.device), edges[1:] - edges[:-1])
    rows = torch.zeros((n, side, tile), dtype=torch.int64, device=values.device).index_add_(1, box, wide)
    return torch.zeros((n, side, side), dtype=torch.int64, device=values.device).index_add_(2, box, rows)


def ssim_block(tile: int) -> int:
    """Side of the disjoint SSIM blocks: the divisor of the tile nearest to 8 px, the larger on a tie."""
    return min((d for d in range(1, tile + 1) if tile % d == 0), key=lambda d: (abs(d - 8), -d))


@dataclass(frozen=True, eq=False)
class Windows:
    """Blend weights of the distinct places that tiles have in a grid, int32, W_ONE = 1.

    own: [C,T,T], w.   lin, quad: [C,T,T], weights of e p and of p^2, seam weight included.
    square: [C,T,T], weight of e^2.   of: [N] class of each tile.
    area: [C] float64, px that a tile owns.
    """

    own: Tensor
    quad: Tensor
    lin: Tensor
    square: Tensor
    of: Tensor
    area: Tensor

    @classmethod
    def of_grid(cls, wy: Tensor, wx: Tensor, cfg: CodecConfig, *, blended: bool) -> Windows:
        """From the axis weights [ny,T] and [nx,T].

        Args:
            blended: the residual is the blended picture's; otherwise tiles stand alone, each error weighted by w.
        """
        rows, row_of = torch.unique(wy, dim=0, return_inverse=True)
        cols, col_of = torch.unique(wx, dim=0, return_inverse=True)
        own = (rows[:, None, :, None] * cols[None, :, None, :]).reshape(-1, wy.shape[1], wx.shape[1])
        of = (row_of[:, None] * len(cols) + col_of[None, :]).reshape(-1)
        seam = 256 + seam_q8(cfg).to(own.device)
        wide = own.to(torch.int64)
        weights = (wide, (wide * wide) >> 16, torch.full_like(wide, W_ONE)) if blended else (wide, wide, wide)
        lin, quad, square = (((part * seam) >> 8).to(torch.int32) for part in weights)
        area = own.sum(dim=(1, 2), dtype=torch.int64).to(torch.float64) / torch.tensor(
            float(W_ONE), dtype=torch.float64, device=own.device
        )
        return cls(own, quad, lin, square, of, area)

    @classmethod
    def joined(cls, parts: Sequence[tuple[Windows, int]]) -> Windows:
        """Of several grids, each so many times in a row."""
        if len(parts) == 1 and parts[0][1] == 1:
            return parts[0][0]
        first = itertools.accumulate((len(one.own) for one, _ in parts), initial=0)
        of = torch.cat([(one.of + start).repeat(times) for (one, times), start in zip(parts, first, strict=False)])
        own, quad, lin, square, area = (
            torch.cat([getattr(one, name) for one, _ in parts]) for name in ("own", "quad", "lin", "square", "area")
        )
        return cls(own, quad, lin, square, of, area)


def seam_q8(cfg: CodecConfig) -> Tensor:
    """Extra weight, Q8, of an error at each pixel of a tile."""
    if not cfg.seam_weight:
        return torch.zeros((cfg.tile, cfg.tile), dtype=torch.int32)
    return (seam_weights_q8(cfg.tile, cfg.overlap) * round(cfg.seam_weight * 256)) >> 8


@dataclass(frozen=True, eq=False)
class Patterns:
    """Candidates of some tiles: M patterns without their mean for each of n tiles, in any scale.

    store: [R,T*T] int8, or int16 below 2^11.   at: [n,M] int64, rows of `store`.
    rms: [n,M] float64, RMS in the store's scale; 0 for flat ones and for places to skip.
    """

    store: Tensor
    at: Tensor
    rms: Tensor


class Scorer:
    """Scores candidates for the tiles of one plane.

    Costs J are in pixels of D: (1 - alpha) * MSE_SCALE * sum w err^2 + alpha * sum_blocks area (1 - SSIM)
    + lambda * bits, relative to leaving the tile as it is.
    """

    def __init__(
        self, cfg: CodecConfig, bank: Bank, windows: Windows, costs: Costs, amp_step: int, *, fused: bool = True
    ) -> None:
        """`fused`: use loops of `numba_scores` on a CPU, of `triton` on a GPU; False keeps to tensor operations."""
        self.fused = fused
        self.cfg, self.bank, self.windows, self.costs = cfg, bank, windows, costs
        self.tile, self.amp_step = cfg.tile, amp_step
        self.delta = step_q15(amp_step) / (1 << 15)
        self.mse_weight = (1.0 - cfg.alpha_mix) * MSE_SCALE
        # Screening ranks by squared error; with SSIM in D its weight stands in for both.
        self._screen_weight = self.mse_weight + cfg.alpha_mix * MSE_SCALE
        half = cfg.search == "screened" and bank.side % 2 == 0 and bank.side >= 16
        self._half = half
        self._side = bank.side // 2 if half else bank.side
        gains = [self._screen_weight * 2.0 ** (2 * shift - (28 + 28 - 16)) for shift in range(64)]
        powers = torch.tensor(gains, dtype=torch.float64, device=bank.gen.device)
        # gain * screen_weight - lambda * bits, divided by what all candidates of a tile share
        self._prices = (cfg.lambda_rd / 256.0 / powers).to(torch.float32)
        # Sums of integers stay below 2^53 for tiles above 32 px too.
        self._drop = max(0, 2 * (self.tile - 1).bit_length() - 10)

    # ------------------------------------------------------------ every candidate

    @functools.cached_property
    def _quad(self) -> Tensor:
        """Weight of p^2 of every class at the bank's own resolution, [C,P] int64."""
        return pooled(self.windows.quad, self.bank.side).flatten(1)

    @functools.cached_property
    def _inverse(self) -> Tensor:
        """1 / sum quad * p^2 of every class and candidate, float32 [C,K]; 0 for flat candidates."""
        pixels, quad = self.bank.halved if self._half else self.bank.pixels, pooled(self.windows.quad, self._side)
        if not pixels.is_cuda and self.fused:
            out = torch.empty((len(quad), self.bank.rows), dtype=torch.float32)
            parallel_range(
                numba_scores.inverse_norms, len(pixels), pixels.numpy(), quad.flatten(1).numpy(), out.numpy()
            )
            return out
        parts = []
        for chunk in pixels.split(2048):
            parts.append(quad.flatten(1).to(torch.float64) @ chunk.to(torch.float64).square().t())
        norms = torch.cat(parts, dim=1)
        one = torch.ones((), dtype=torch.float64, device=norms.device)
        return torch.where(norms > 0, one / norms.clamp(min=1.0), torch.zeros_like(norms)).to(torch.float32)

    @functools.cached_property
    def _known(self) -> Tensor:
        """`_inverse` at the bank's own resolution as far as `numba_scores.rank_again` has needed it, -1 elsewhere."""
        return torch.full((len(self.windows.quad), self.bank.rows), -1.0)

    @functools.cached_property
    def _drawn_rms(self) -> Tensor:
        """RMS of the bank's drawings in the scale that they are scored in, [K] float64."""
        return self.bank.drawn_rms.to(torch.float64) * (1.0 / (1 << DROP))

    def screen(self, e: Tensor, cls: Tensor, layer: int, keep: int, allowed: Tensor | None) -> Tensor:
        """The `keep` most promising bank rows of each tile, best first, [n, keep] int64; -1 where there are fewer.

        Args:
            e: [n,T,T] int32 Q12 residual.   cls: [n] class of each tile.
            allowed: [n,G] bool, generators to consider; None for all.
        """
        keep = min(keep, self.bank.rows)
        wide = min(_WIDE * keep, self.bank.rows) if self._half else keep
        parts, first = [], 0
        while first < len(e):
            at = slice(first, first + self._together)
            best = best_of(len(e[at]), wide, e.device)
            try:
                packed, price = self.packed(e[at], cls[at])
                if allowed is None:
                    self._screen(best, None, packed, cls[at], price, layer, None)
                else:
                    for gen in torch.nonzero(allowed[at].any(dim=0)).flatten().tolist():
                        rows = torch.nonzero(allowed[at, gen]).flatten()
                        self._screen(best, rows, packed[rows], cls[at][rows], price[rows], layer, gen)
                parts.append(self._finer(best.rows, e[at], cls[at], layer, keep) if self._half else best.rows)
            except torch.cuda.OutOfMemoryError:
                if self._together <= _LEAST_GPU:
                    raise
                self._together //= 2
                continue
            first = at.stop
        if len(parts) == 1:
            return parts[0]
        return torch.cat(parts) if parts else torch.zeros((0, keep), dtype=torch.int64, device=e.device)

    @functools.cached_property
    def _together(self) -> int:
        """Tiles that are screened at once: on a GPU, as many as an eighth of its free memory has products for."""
        if not fused.on_gpu(self.bank.gen.device):
            return _TOGETHER_CPU
        room = free_memory(self.bank.gen.device) // 8 // (4 * min(self.bank.rows, BLOCK_GPU))
        return max(_LEAST_GPU, min(_MOST_GPU, room))

    def packed(self, e: Tensor, cls: Tensor, side: int | None = None) -> tuple[Tensor, Tensor]:
        """Tiles as int8 rows [n,P] for the product, and what a 1/256 bit costs each in units of score, [n] float32.

        side: boxes a side; None for those of screening.
        """
        side = side or self._side
        if (gpu := self._gpu(e)) is not None and self.tile % side == 0:
            rows, price = gpu.packed(e, cls, self.windows.lin, self._prices, side)
            return rows, price
        if not e.is_cuda and self.fused:
            rows = torch.empty((len(e), side * side), dtype=torch.int8)
            price = torch.empty(len(e), dtype=torch.float32)
            tensors = (e, cls, self.windows.lin, box_edges(self.tile, side, e.device), self._prices, rows, price)
            least = max(1, _LEAST_PACKED // self.tile**2)
            parallel_range(numba_scores.pack, len(e), *(t.contiguous().numpy() for t in tensors), least=least)
            return rows, price
        linear = pooled(self.windows.lin[cls].to(torch.int64) * e, side).flatten(1)  # Q28
        shift = self._shift(linear)
        half = (torch.ones_like(shift) << shift) >> 1
        packed = ((linear + half[:, None]) >> shift[:, None]).clamp(-127, 127).to(torch.int8)
        return packed, self._prices[shift]

    def _screen(
        self, best: Best, tiles: Tensor | None, packed: Tensor, cls: Tensor, price: Tensor, layer: int, gen: int | None
    ) -> None:
        """Let the candidates of one generator, or all, compete for the best of some tiles, or all."""
        first = 0 if gen is None else self.bank.start[gen]
        candidates = self.bank.product(self._half, gen)
        best.compete(tiles, candidates, packed, Terms(self._inverse, self._bits(layer), cls, price), first)

    def _finer(self, rows: Tensor, e: Tensor, cls: Tensor, layer: int, keep: int) -> Tensor:
        """The best `keep` of candidates [n,M] at the bank's own resolution, best first, a tie to the lower row."""
        packed, price = self.packed(e, cls, self.bank.side)
        bits = self._bits(layer)
        if (gpu := self._gpu(e)) is not None:
            keys = gpu.rank_again(rows, packed, self.bank.pixels, self._quad, cls, price, bits)
            best: Tensor = gpu.best_rows(keys, keep)
            return best
        if not e.is_cuda and self.fused:
            out = torch.empty((len(rows), keep), dtype=torch.int64)
            tensors = (rows, packed, self.bank.pixels, self._quad, cls, price, bits, self._known, out)
            parallel_range(numba_scores.rank_again, len(rows), *(t.numpy() for t in tensors))
            return out
        rows = rows.sort(dim=1).values  # so that a stable sort by score keeps the lower one first
        patterns = self.bank.pixels[rows.clamp(min=0)]  # [n,M,P]
        product = torch.bmm(patterns.to(torch.float32), packed.to(torch.float32)[:, :, None])[:, :, 0]  # below 2^24
        quad = self._quad[cls].to(torch.float64)[:, :, None]
        norms = torch.bmm(patterns.to(torch.float64).square(), quad)[:, :, 0]
        one = torch.ones((), dtype=torch.float64, device=norms.device)
        inverse = (one / norms.clamp(min=1.0)).to(torch.float32)
        score = product * product * inverse - price[:, None] * bits[rows.clamp(min=0)]
        usable = (rows >= 0) & (norms > 0)
        order = torch.sort(torch.where(usable, score, float("-inf")), dim=1, descending=True, stable=True).indices
        return torch.where(usable, rows, -1).gather(1, order[:, :keep])

    def _gpu(self, e: Tensor) -> ModuleType | None:
        """Kernels for tiles that lie on a GPU, if there are and should be any."""
        return fused.kernels_on(e.device) if self.fused else None

    @cached_method
    def _numbers(self, alpha: float, mse_weight: float) -> Tensor:
        """Factors and constants as `gpu` takes them, float64."""
        numbers = [self.delta, mse_weight, alpha, self.cfg.lambda_rd / 256.0, _C1, _C2]
        return torch.tensor(numbers, dtype=torch.float64, device=self.bank.gen.device)

    @cached_method
    def _bits(self, layer: int) -> Tensor:
        return self.costs.rows(layer).to(torch.float32)

    @staticmethod
    def _shift(linear: Tensor) -> Tensor:
        """Right shift that brings each row's largest magnitude to 7 bits, [n] int64; exact."""
        bits = torch.frexp(linear.abs().amax(dim=1).to(torch.float64)).exponent  # below 2^53: as many as it has
        return (bits.to(torch.int64) - 7).clamp_(min=0)

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
        alpha = 0.0 if rough else self.cfg.alpha_mix
        mse_weight = self._screen_weight if rough else self.mse_weight
        if (gpu := self._gpu(e)) is not None:
            own, amp_cost = self.windows, self.costs.amplitudes(layer)
            return gpu.score_exactly(
                e, x, cls, own.lin, own.quad, own.own, self._drop, patterns.store, patterns.at, patterns.rms,
                address_q8, amp_cost, self._numbers(alpha, mse_weight), ssim_block(self.tile), ssim=alpha > 0.0,
                shift=shift,
            )  # fmt: skip
        if e.is_cuda or not self.fused:
            return self._exact(e, x, cls, patterns, address_q8, layer, alpha, mse_weight, shift)
        n, m = patterns.at.shape
        change, level = torch.empty((n, m), dtype=torch.float64), torch.empty((n, m), dtype=torch.int64)
        windows = self.windows
        tensors = (e, x, cls, windows.lin, windows.quad, windows.own)
        parallel_range(
            numba_scores.score_exactly, n, *(t.numpy() for t in tensors), self._drop, patterns.store.numpy(), shift,
            patterns.at.numpy(), patterns.rms.numpy(), address_q8.numpy(), self.costs.amplitudes(layer).numpy(),
            self.delta, AMP_SEARCHED, mse_weight, alpha, self.cfg.lambda_rd / 256.0, ssim_block(self.tile), _C1, _C2,
            change.numpy(), level.numpy(),
        )  # fmt: skip
        return change, level

    def exact_rows(
        self, e: Tensor, x: Tensor, cls: Tensor, rows: Tensor, layer: int, *, drawn: bool = False
    ) -> tuple[Tensor, Tensor]:
        """`exact` of bank rows [n,M], -1 for none, of a bank at full resolution.

        Args:
            drawn: score the decoder's own drawings, not the bank's stretched pixels.
        """
        bank, address = self.bank, self.costs.added_rows(layer, self.cfg.max_layers)
        store = bank.drawn if drawn else bank.pixels
        assert store is not None, "larger tiles are drawn anew"
        rms = self._drawn_rms if drawn else bank.rms
        if (gpu := self._gpu(e)) is not None:
            own, amp_cost, alpha = self.windows, self.costs.amplitudes(layer), self.cfg.alpha_mix
            numbers, block, shift = self._numbers(alpha, self.mse_weight), ssim_block(self.tile), DROP if drawn else 0
            change, level = gpu.score_exactly(
                e, x, cls, own.lin, own.quad, own.own, self._drop, store, rows, rms, address, amp_cost, numbers, block,
                ssim=alpha > 0.0, by_row=True, shift=shift,
            )  # fmt: skip
            return change, level
        at = rows.clamp(min=0)
        patterns = Patterns(store, at, torch.where(rows >= 0, rms[at], 0.0))
        return self.exact(e, x, cls, patterns, address[at], layer, shift=DROP if drawn else 0)

    def _exact(
        self,
        e: Tensor,
        x: Tensor,
        cls: Tensor,
        patterns: Patterns,
        address_q8: Tensor,
        layer: int,
        alpha: float,
        mse_weight: float,
        shift: int,
    ) -> tuple[Tensor, Tensor]:
        """`exact` in tensor operations."""
        n, m = patterns.at.shape
        rms = patterns.rms
        d = patterns.store[patterns.at] >> shift  # [n,M,P]
        flat = d.to(torch.float64)
        linear = ((self.windows.lin[cls].to(torch.int64) * e) >> self._drop).reshape(n, -1).to(torch.float64)  # Q28
        quad = (self.windows.quad[cls] >> self._drop).reshape(n, -1).to(torch.float64)  # Q16
        unit = torch.where(rms > 0, rms, torch.ones_like(rms))
        scale_l, scale_n = 2.0 ** (self._drop - 28), 2.0 ** (self._drop - 16)
        products = torch.bmm(flat, linear.unsqueeze(2)).squeeze(2) * scale_l / unit
        norms = torch.bmm(flat.square(), quad.unsqueeze(2)).squeeze(2) * scale_n / unit / unit
        usable = (rms > 0) & (norms > 0)
        best = products / torch.where(usable, norms, torch.ones_like(norms))
        delta = torch.full_like(best, self.delta)
        near = (best.abs() / delta + torch.full_like(best, 0.5)).floor().to(torch.int64)
        blocks = self._blocks(e, x, cls, d.view(n, m, self.tile, self.tile), unit) if alpha > 0.0 else None
        chosen_j = torch.full_like(best, float("inf"))
        chosen = torch.zeros_like(near)
        amp_cost = self.costs.amplitudes(layer)
        negative = (products < 0).to(torch.int64)
        sign = 1 - 2 * negative
        for level in (near - 1, near):
            level = level.clamp(1, AMP_SEARCHED)
            a = (level * sign).to(torch.float64) * delta
            j = (a * a * norms - a * products * 2.0) * mse_weight
            if blocks is not None:
                j = j + self._ssim_change(blocks, a) * alpha
            bits = (address_q8 + amp_cost[negative, level]).to(torch.float64)
            j = j + bits * (self.cfg.lambda_rd / 256.0)
            better = usable & (j < chosen_j)
            chosen_j = torch.where(better, j, chosen_j)
            chosen = torch.where(better, level * sign, chosen)
        return chosen_j, chosen

    def distortion(self, e: Tensor, x: Tensor, cls: Tensor) -> Tensor:
        """D of the tiles as they are, in the unit of J, [n] float64."""
        alpha = self.cfg.alpha_mix
        if (gpu := self._gpu(e)) is not None:
            numbers, block = self._numbers(alpha, self.mse_weight), ssim_block(self.tile)
            return gpu.distortion(e, x, cls, self.windows.square, self.windows.own, numbers, block, ssim=alpha > 0.0)
        square = (self.windows.square[cls] * (e.to(torch.int64) * e)).sum(dim=(1, 2)).to(torch.float64)
        j = square * (2.0**-40 * self.mse_weight)
        if alpha > 0.0:
            y = x - e
            b = [self._mean(v) for v in (x, y, x.to(torch.int64) ** 2, y.to(torch.int64) ** 2, x.to(torch.int64) * y)]
            ssim = _ssim(b[0], b[1], b[2] - b[0] * b[0], b[3] - b[1] * b[1], b[4] - b[0] * b[1])
            area = self._sums(self.windows.own[cls]) * (1.0 / W_ONE)
            loss = ((area - ssim * area) * 2.0**30).round().to(torch.int64).sum(dim=1)
            j = j + loss.to(torch.float64) * (2.0**-30 * alpha)
        return j

    def _mean(self, values: Tensor) -> Tensor:
        count = float(ssim_block(self.tile) ** 2)
        return self._sums(values) / torch.full((), count, dtype=torch.float64, device=values.device)

    def _sums(self, values: Tensor) -> Tensor:
        """Sum the last two axes [.., T, T] over SSIM blocks -> [.., blocks] float64, exact for integers."""
        block = ssim_block(self.tile)
        count = self.tile // block
        parts = values.to(torch.float64).view(*values.shape[:-2], count, block, count, block)
        return parts.sum(dim=(-3, -1)).flatten(-2)

    def _blocks(self, e: Tensor, x: Tensor, cls: Tensor, d: Tensor, rms: Tensor) -> dict[str, Tensor]:
        """Moments per SSIM block, in luma units of Q12; those of the pattern are of w * p with unit RMS."""
        y, own = x - e, self.windows.own[cls]
        n, m = d.shape[:2]
        count = torch.full((), float(ssim_block(self.tile) ** 2), dtype=torch.float64, device=e.device)
        # a is in luma; a * p in Q12 is a * SAMPLE_ONE * d / rms, and w has W_ONE >> 4 = SAMPLE_ONE for one
        scale = (torch.full_like(rms, 1.0) / rms).unsqueeze(2)
        w = (own >> 4).to(torch.int64)
        columns = self._blocked(torch.stack([w, w * x, w * y], dim=1)).transpose(1, 2)  # [n*blocks,B,3]
        pattern = self._blocked(d)  # [n*blocks,M,B]
        first = torch.bmm(pattern, columns).view(n, -1, m, 3).permute(0, 2, 1, 3) / count  # below 2^41: exact
        square = torch.bmm(pattern.square(), columns[:, :, :1].square()).view(n, -1, m).transpose(1, 2) / count

        mx, my = self._mean(x), self._mean(y)
        wide_x, wide_y = x.to(torch.int64), y.to(torch.int64)
        sx, sy = self._mean(wide_x * x) - mx * mx, self._mean(wide_y * y) - my * my
        sxy = self._mean(wide_x * y) - mx * my
        mp = first[..., 0] * scale
        spp = square * (scale * scale) - mp * mp
        sxp = first[..., 1] * scale - mx.unsqueeze(1) * mp
        syp = first[..., 2] * scale - my.unsqueeze(1) * mp
        area = self._sums(own) / torch.full_like(mx, float(W_ONE))
        zero = torch.zeros_like(mp[:, :1])
        base = _ssim(mx.unsqueeze(1), my.unsqueeze(1), sx.unsqueeze(1), sy.unsqueeze(1), sxy.unsqueeze(1)) + zero
        return {"mx": mx, "my": my, "mp": mp, "sx": sx, "sy": sy, "sxy": sxy,
                "spp": spp, "sxp": sxp, "syp": syp, "area": area, "base": base}  # fmt: skip

    def _blocked(self, values: Tensor) -> Tensor:
        """[n,M,T,T] -> [n*blocks, M, pixels of a block] float64."""
        block = ssim_block(self.tile)
        count = self.tile // block
        parts = values.view(*values.shape[:2], count, block, count, block).permute(0, 2, 4, 1, 3, 5)
        return parts.reshape(-1, values.shape[1], block * block).to(torch.float64)

    @staticmethod
    def _ssim_change(b: dict[str, Tensor], a: Tensor) -> Tensor:
        """Change of sum_blocks area * (1 - SSIM) when a * p is added; a is [n,M] in luma."""
        t = a.unsqueeze(2)  # (SAMPLE_ONE >> 12) scales cancel: wp carries 2^12 for a weight of one
        my = b["my"].unsqueeze(1) + t * b["mp"]
        sy = b["sy"].unsqueeze(1) + t * b["syp"] * 2.0 + t * t * b["spp"]
        sxy = b["sxy"].unsqueeze(1) + t * b["sxp"]
        new = _ssim(b["mx"].unsqueeze(1), my, b["sx"].unsqueeze(1), sy, sxy)
        change = (b["base"] - new) * b["area"].unsqueeze(1) * 2.0**30
        total = change.round().to(torch.int64).sum(dim=2)  # integers: the same sum in any order
        return total.to(torch.float64) * 2.0**-30


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
        ssim = _ssim(mx, my, xx - mx * mx, yy - my * my, xy - mx * my).numpy()
        wrong += float(np.round((1.0 - ssim) * count * 2.0**30).astype(np.int64).sum()) * 2.0**-30 * alpha_mix
    return wrong


def _ssim(mx: Tensor, my: Tensor, sx: Tensor, sy: Tensor, sxy: Tensor) -> Tensor:
    luminance = (mx * my * 2.0 + _C1) / (mx * mx + my * my + _C1)
    structure = (sxy * 2.0 + _C2) / (sx + sy + _C2)
    return luminance * structure
