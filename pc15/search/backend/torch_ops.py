"""The search in tensor operations, on any device: the reference that other backends must equal; see `Backend`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from pc15.dc_surface import Surface, surface
from pc15.grids import TileSpec
from pc15.proc.registry import coefficient, scaled_pattern
from pc15.runtime.device import free_memory
from pc15.search.backend.product import BLOCK_GPU
from pc15.search.backend.protocol import (
    LEAST_TOGETHER,
    SSIM_C1,
    SSIM_C2,
    BankTerms,
    Best,
    BlendedTiles,
    Candidates,
    Drawings,
    DrawnLayers,
    DrawnSurface,
    ExactTerms,
    LayerCosts,
    Leads,
    Patterns,
    Places,
    TileBatch,
    TileLayers,
    TileTerms,
)
from pc15.search.backend.sort_keys import GROUP, NO_KEY, Terms, key_rows, score_keys, scores
from pc15.search.backend.torch_cells import activated as activated
from pc15.search.backend.torch_cells import best_in_cells as best_in_cells
from pc15.search.backend.torch_cells import likeliest_cells as likeliest_cells
from pc15.search.backend.torch_expansion import energies as energies
from pc15.search.backend.torch_expansion import packed as packed
from pc15.search.windows import W_ONE
from pc15.tiling import SAMPLE_MAX, round_blend

_MOST_TOGETHER = 1 << 13

draws_ahead = True
reserved_threads = contextlib.nullcontext


def tiles_together(rows: int, device: torch.device) -> int:
    # an eighth of the free memory is for products
    room = free_memory(device) // 8 // (4 * min(rows, BLOCK_GPU))
    return max(LEAST_TOGETHER, min(_MOST_TOGETHER, room))


# ---------------------------------------------------------------- every candidate


def row_sums(pixels: Tensor, error: Tensor, weight: Tensor) -> Tensor:
    parts = []
    for chunk in pixels.split(2048):
        p = chunk.to(torch.float64)
        parts.append(torch.stack([p @ error.double(), p @ weight.double(), p.square() @ weight.double()]))
    return torch.cat(parts, dim=1)


class GroupedBest:
    """`Best` through the best of every GROUP neighbours: only groups that hold one of the best are looked into.

    Kept are keys, see `score_keys`, in any order.
    """

    def __init__(self, n: int, keep: int, device: torch.device) -> None:
        self._keys = torch.full((n, keep), NO_KEY, dtype=torch.int64, device=device)

    @property
    def rows(self) -> Tensor:
        return key_rows(self._keys.sort(dim=1, descending=True).values)

    def merge(self, tiles: Tensor | None, product: Tensor, curve: Tensor, terms: Terms, first: int) -> None:
        own = self._keys if tiles is None else self._keys[tiles]
        groups = self._group_best(product, curve, terms, first)  # [m,B/GROUP]
        if own.shape[1] == 1:
            merged = torch.maximum(own, groups.amax(dim=1, keepdim=True))
        else:
            merged = self._merged(own, groups, (product, curve), terms, first)
        if tiles is None:
            self._keys = merged
        else:
            self._keys[tiles] = merged

    def compete(self, tiles: Tensor | None, candidates: Candidates, own: TileTerms, first: int) -> None:
        terms = Terms(candidates.scale, candidates.bits, own.place, own.price)
        both = zip(candidates.pixels.blocks(own.rows), candidates.energies.blocks(own.weights), strict=True)
        for (at, product), (_, curve) in both:
            self.merge(tiles, product, curve, terms, first + at)

    def _group_best(self, product: Tensor, curve: Tensor, terms: Terms, first: int) -> Tensor:
        """Key of the best of every GROUP candidates, [m,B/GROUP]."""
        own = slice(first, first + product.shape[1])
        rows = torch.arange(own.start, own.stop, device=product.device)
        keys = score_keys(product, curve, terms.scale[terms.place, own], terms.price, terms.bits[own], rows)
        keys = torch.nn.functional.pad(keys, (0, -keys.shape[1] % GROUP), value=NO_KEY)
        return keys.view(keys.shape[0], -1, GROUP).amax(dim=2)

    def _merged(self, own: Tensor, groups: Tensor, block: tuple[Tensor, Tensor], terms: Terms, first: int) -> Tensor:
        """The best of the keys so far and of a block of candidates, [m,keep]; `groups` are from `_group_best`."""
        product, curve = block
        keep, count = own.shape[1], product.shape[1]
        if groups.shape[1] <= keep:
            at = torch.arange(count, device=own.device).expand(len(product), -1)
            inside = torch.ones_like(at, dtype=torch.bool)
        else:  # the best `keep` candidates lie in the best `keep` groups
            at = groups.topk(keep, dim=1, sorted=False).indices[:, :, None] * GROUP
            at = (at + torch.arange(GROUP, device=own.device)).flatten(1)
            inside = at < count
            at = torch.where(inside, at, 0)
        scale = terms.scale[terms.place[:, None], first + at]
        products = product.gather(1, at), curve.gather(1, at)
        keys = score_keys(*products, scale, terms.price, terms.bits[first + at], first + at)
        return torch.cat([own, torch.where(inside, keys, NO_KEY)], dim=1).topk(keep, dim=1).values


def best_of(n: int, keep: int, device: torch.device) -> Best:
    return GroupedBest(n, keep, device)


def ranked(rows: Tensor, of: Tensor, bank: BankTerms, bits: Tensor, own: TileTerms, keep: int) -> Tensor:
    rows = rows.sort(dim=1).values[of]  # so that a stable sort by score keeps the lower one first
    at = rows.clamp(min=0)
    product, curve = (
        torch.bmm(patterns[at].to(torch.float32), part.to(torch.float32)[:, :, None])[:, :, 0]  # below 2^24
        for patterns, part in ((bank.pixels, own.rows), (bank.energies, own.weights))
    )
    scale = bank.scale[own.place[:, None], at]
    score = scores(product, curve, scale, own.price, bits[at])
    usable = (rows >= 0) & (scale > 0)
    order = torch.sort(torch.where(usable, score, float("-inf")), dim=1, descending=True, stable=True).indices
    return torch.where(usable, rows, -1).gather(1, order[:, :keep])


# ---------------------------------------------------------------- a few, exactly


def exact(
    tiles: TileBatch, patterns: Patterns, address: Tensor, amp_cost: Tensor, terms: ExactTerms, shift: int = 0
) -> tuple[Tensor, Tensor]:
    (n, m), (e, _, cls), windows = patterns.at.shape, tiles, terms.windows
    rms = patterns.rms
    d = patterns.store[patterns.at] >> shift  # [n,M,P]
    flat = d.to(torch.float64)
    linear = ((windows.linear_weight[cls].to(torch.int64) * e) >> terms.drop).flatten(1).to(torch.float64)  # Q28
    quad = (windows.power_weight[cls] >> terms.drop).flatten(1).to(torch.float64)  # Q16
    unit = torch.where(rms > 0, rms, torch.ones_like(rms))
    scale_l, scale_n = 2.0 ** (terms.drop - 28), 2.0 ** (terms.drop - 16)
    products = torch.bmm(flat, linear.unsqueeze(2)).squeeze(2) * scale_l / unit
    norms = torch.bmm(flat.square(), quad.unsqueeze(2)).squeeze(2) * scale_n / unit / unit
    usable = (rms > 0) & (norms > 0)
    best = products / torch.where(usable, norms, torch.ones_like(norms))
    delta = torch.full_like(best, terms.delta)
    near = (best.abs() / delta + torch.full_like(best, 0.5)).floor().to(torch.int64)
    blocks = _moments(tiles, d.view(n, m, *e.shape[1:]), unit, terms) if terms.alpha > 0.0 else None
    chosen_j = torch.full_like(best, float("inf"))
    chosen = torch.zeros_like(near)
    negative = (products < 0).to(torch.int64)
    sign = 1 - 2 * negative
    for level in (near - 1, near):
        level = level.clamp(1, amp_cost.shape[1] - 1)
        a = (level * sign).to(torch.float64) * delta
        j = (a * a * norms - a * products * 2.0) * terms.mse_weight
        if blocks is not None:
            j = j + _ssim_change(blocks, a) * terms.alpha
        bits = (address + amp_cost[negative, level]).to(torch.float64)
        j = j + bits * terms.bit_price
        better = usable & (j < chosen_j)
        chosen_j = torch.where(better, j, chosen_j)
        chosen = torch.where(better, level * sign, chosen)
    return chosen_j, chosen


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
    return exact(tiles, patterns_of(store, rows, rms), address[rows.clamp(min=0)], amp_cost, terms, shift)


def patterns_of(store: Tensor, rows: Tensor, rms: Tensor) -> Patterns:
    """Rows [n,M] of a store as candidates, -1 for none; rms: [R]."""
    at = rows.clamp(min=0)
    return Patterns(store, at, torch.where(rows >= 0, rms[at], 0.0))


def distortion(tiles: TileBatch, terms: ExactTerms) -> Tensor:
    (e, x, cls), windows = tiles, terms.windows
    square = (windows.error_weight[cls] * (e.to(torch.int64) * e)).sum(dim=(1, 2)).to(torch.float64)
    j = square * (2.0**-40 * terms.mse_weight)
    if terms.alpha > 0.0:
        y = x - e
        sums = (x, y, x.to(torch.int64) ** 2, y.to(torch.int64) ** 2, x.to(torch.int64) * y)
        b = [_mean(v, terms.block) for v in sums]
        value = ssim(b[0], b[1], b[2] - b[0] * b[0], b[3] - b[1] * b[1], b[4] - b[0] * b[1])
        area = _sums(windows.blend[cls], terms.block) * (1.0 / W_ONE)
        loss = ((area - value * area) * 2.0**30).round().to(torch.int64).sum(dim=1)
        j = j + loss.to(torch.float64) * (2.0**-30 * terms.alpha)
    return j


def refit(
    tiles: TileBatch, layers: TileLayers, drawings: Drawings, costs: LayerCosts, terms: ExactTerms, step: int
) -> tuple[Tensor, Tensor]:
    return refit_by_number(tiles, layers, drawings, costs, terms, step, RefitSteps(exact_rows, contributions, show))


class RefitSteps(NamedTuple):
    """Operations of a backend that `refit_by_number` is made of."""

    exact_rows: Callable[..., tuple[Tensor, Tensor]]
    contributions: Callable[..., Tensor]
    show: Callable[[Tensor, Tensor, Tensor, Tensor, int], None]


def refit_by_number(
    tiles: TileBatch,
    layers: TileLayers,
    drawings: Drawings,
    costs: LayerCosts,
    terms: ExactTerms,
    step: int,
    ops: RefitSteps,
) -> tuple[Tensor, Tensor]:
    """`Backend.refit`, layer by layer of all tiles: those that have one are the first."""
    (e, x, cls), amp, own = tiles, layers.amp.clone(), terms.windows.blend
    added, side = torch.zeros_like(e), e.shape[1]
    having = (layers.count[:, None] > torch.arange(amp.shape[1], device=e.device)).sum(dim=0).tolist()
    for layer in range(amp.shape[1] - 1, -1, -1):
        some = slice(having[layer])
        if not having[layer]:
            continue
        rows, left, of = layers.rows[some, layer], e[some], cls[some]
        drawn = drawings.store, drawings.rms, rows
        before = ops.contributions(DrawnLayers(*drawn, amp[some, layer], step), side)
        ops.show(left, of, own, before, 1)
        change, level = ops.exact_rows(
            TileBatch(left, x[some], of), drawings.store, rows[:, None], drawings.units, costs.address[layer],
            costs.amplitudes[layer], terms, drawings.shift,
        )  # fmt: skip
        amp[some, layer] = level[:, 0] * (change[:, 0] < 0)
        after = ops.contributions(DrawnLayers(*drawn, amp[some, layer], step), side)
        ops.show(left, of, own, after, -1)
        added[some] += after - before
    return amp, added


def ssim(mx: Tensor, my: Tensor, sx: Tensor, sy: Tensor, sxy: Tensor) -> Tensor:
    """SSIM from means, variances and covariance, elementwise."""
    luminance = (mx * my * 2.0 + SSIM_C1) / (mx * mx + my * my + SSIM_C1)
    structure = (sxy * 2.0 + SSIM_C2) / (sx + sy + SSIM_C2)
    return luminance * structure


def _mean(values: Tensor, block: int) -> Tensor:
    return _sums(values, block) / torch.full((), float(block**2), dtype=torch.float64, device=values.device)


def _sums(values: Tensor, block: int) -> Tensor:
    """Sum the last two axes [.., T, T] over SSIM blocks -> [.., blocks] float64, exact for integers."""
    count = values.shape[-1] // block
    parts = values.to(torch.float64).view(*values.shape[:-2], count, block, count, block)
    return parts.sum(dim=(-3, -1)).flatten(-2)


def _moments(tiles: TileBatch, d: Tensor, rms: Tensor, terms: ExactTerms) -> dict[str, Tensor]:
    """Moments per SSIM block, in luma units of Q12; those of the pattern are of w * p with unit RMS."""
    (e, x, cls), block = tiles, terms.block
    y, own = x - e, terms.windows.blend[cls]
    n, m = d.shape[:2]
    blocks = (y.shape[1] // block) ** 2  # not -1 below: of no tiles there are any number
    count = torch.full((), float(block**2), dtype=torch.float64, device=e.device)
    # a is in luma; a * p in Q12 is a * SAMPLE_ONE * d / rms, and w has W_ONE >> 4 = SAMPLE_ONE for one
    scale = (torch.full_like(rms, 1.0) / rms).unsqueeze(2)
    w = (own >> 4).to(torch.int64)
    columns = _blocked(torch.stack([w, w * x, w * y], dim=1), block).transpose(1, 2)  # [n*blocks,B,3]
    pattern = _blocked(d, block)  # [n*blocks,M,B]
    first = torch.bmm(pattern, columns).view(n, blocks, m, 3).permute(0, 2, 1, 3) / count  # below 2^41: exact
    square = torch.bmm(pattern.square(), columns[:, :, :1].square()).view(n, blocks, m).transpose(1, 2) / count

    mx, my = _mean(x, block), _mean(y, block)
    wide_x, wide_y = x.to(torch.int64), y.to(torch.int64)
    sx, sy = _mean(wide_x * x, block) - mx * mx, _mean(wide_y * y, block) - my * my
    sxy = _mean(wide_x * y, block) - mx * my
    mp = first[..., 0] * scale
    spp = square * (scale * scale) - mp * mp
    sxp = first[..., 1] * scale - mx.unsqueeze(1) * mp
    syp = first[..., 2] * scale - my.unsqueeze(1) * mp
    area = _sums(own, block) / torch.full_like(mx, float(W_ONE))
    zero = torch.zeros_like(mp[:, :1])
    base = ssim(mx.unsqueeze(1), my.unsqueeze(1), sx.unsqueeze(1), sy.unsqueeze(1), sxy.unsqueeze(1)) + zero
    return {"mx": mx, "my": my, "mp": mp, "sx": sx, "sy": sy, "sxy": sxy,
            "spp": spp, "sxp": sxp, "syp": syp, "area": area, "base": base}  # fmt: skip


def _blocked(values: Tensor, block: int) -> Tensor:
    """[n,M,T,T] -> [n*blocks, M, pixels of a block] float64."""
    count = values.shape[-1] // block
    parts = values.view(*values.shape[:2], count, block, count, block).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(len(values) * count * count, values.shape[1], block * block).to(torch.float64)


def _ssim_change(b: dict[str, Tensor], a: Tensor) -> Tensor:
    """Change of sum_blocks area * (1 - SSIM) when a * p is added; a is [n,M] in luma."""
    t = a.unsqueeze(2)  # (SAMPLE_ONE >> 12) scales cancel: wp carries 2^12 for a weight of one
    my = b["my"].unsqueeze(1) + t * b["mp"]
    sy = b["sy"].unsqueeze(1) + t * b["syp"] * 2.0 + t * t * b["spp"]
    sxy = b["sxy"].unsqueeze(1) + t * b["sxp"]
    new = ssim(b["mx"].unsqueeze(1), my, b["sx"].unsqueeze(1), sy, sxy)
    change = (b["base"] - new) * b["area"].unsqueeze(1) * 2.0**30
    total = change.round().to(torch.int64).sum(dim=2)  # integers: the same sum in any order
    return total.to(torch.float64) * 2.0**-30


# ---------------------------------------------------------------- choices


def lowest(cost: Tensor, keep: int) -> Tensor:
    if keep > 1 or not cost.shape[1]:
        return torch.sort(cost, dim=1, stable=True).indices[:, :keep]
    low = cost.amin(dim=1, keepdim=True)
    index = torch.arange(cost.shape[1], device=cost.device).expand_as(cost)
    return torch.where(cost == low, index, cost.shape[1]).amin(dim=1, keepdim=True)


def pick(
    change: Tensor, level: Tensor, rows: Tensor, bank: Tensor, width: int, keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    order = lowest(change, keep)
    best = rows.gather(1, order).reshape(-1).clamp(min=0)
    fields = torch.nn.functional.pad(bank[best], (0, width - bank.shape[1]))
    return fields, level.gather(1, order), change.gather(1, order)


def offered(
    owner: Tensor,
    j: Tensor,
    change: Tensor,
    sets: Tensor,
    width: int,
    layer: int,
    leads: Leads,
) -> tuple[Tensor, Tensor]:
    every = (j[:, None] + change).reshape(-1)
    at = torch.nonzero(change.reshape(-1) < 0).flatten()
    at = at[torch.sort(every[at], stable=True).indices]
    at = at[torch.sort(sets.reshape(-1)[at], stable=True).indices]
    at = at[torch.sort(owner[torch.div(at, change.shape[1], rounding_mode="floor")], stable=True).indices]
    of, made = owner[torch.div(at, change.shape[1], rounding_mode="floor")], sets.reshape(-1)[at]
    again = torch.zeros(len(at), dtype=torch.bool, device=of.device)
    again[1:] = (of[1:] == of[:-1]) & (made[1:] == made[:-1])
    at = torch.sort(at[~again]).values
    at = at[torch.sort(every[at], stable=True).indices]
    of, order = torch.sort(owner[torch.div(at, change.shape[1], rounding_mode="floor")], stable=True)
    at = at[order]
    rank = torch.arange(len(at), device=of.device) - torch.searchsorted(of, of)
    first = at[rank == 0]
    first = first[every[first] < leads.j[of[rank == 0]]]
    tiles = owner[torch.div(first, change.shape[1], rounding_mode="floor")]
    leads.j[tiles], leads.depth[tiles], leads.offer[tiles] = every[first], layer + 1, first
    return every, at[rank < width]


# ---------------------------------------------------------------- the picture so far


def look(tiles: Tensor, above: Tensor, acc: Tensor, places: Places, tile: int) -> Tensor:
    at = _in_planes(tiles, places)
    return above[at] - round_blend(acc[at])


def put(tiles: Tensor, canvas: BlendedTiles, new: Tensor, old: Tensor | None = None, *, add: bool) -> None:
    acc, places, own, of, samples = canvas
    before, after = samples[tiles], new if old is None else new - old
    after = before + after if add else after
    change = own[of[tiles]] * (after.clamp(-SAMPLE_MAX, SAMPLE_MAX) - before.clamp(-SAMPLE_MAX, SAMPLE_MAX))
    # Weights are zero past the border, where places repeat: adding is safe there, assigning would not be.
    acc.index_add_(0, _in_planes(tiles, places).reshape(-1), change.reshape(-1))
    samples[tiles] = after


def _in_planes(tiles: Tensor, places: Places) -> Tensor:
    """Place of every sample of tiles among those of all planes, [n,T,T] int64."""
    every_row, every_col, row_of, col_of = places
    rows, cols = every_row[row_of[tiles]], every_col[col_of[tiles]]
    return rows[:, :, None] + cols[:, None, :]


def show(e: Tensor, cls: Tensor, own: Tensor, samples: Tensor, sign: int) -> None:
    seen = (own[cls] * samples).add_(1 << 15).bitwise_right_shift_(16)
    e.add_(seen, alpha=sign)


def contributions(layers: DrawnLayers, tile: int) -> Tensor:
    store, rms, at, amp, step = layers
    if at is not None:
        store, rms = store[at], rms[at]
    return scaled_pattern(coefficient(amp * step, rms), store.reshape(-1, tile, tile).to(torch.int32))


def without(e: Tensor, of: Tensor, cls: Tensor, own: Tensor, layers: DrawnLayers) -> Tensor:
    left = e[of]
    show(left, cls, own, contributions(layers, e.shape[1]), -1)
    return left


class PlainSurface:
    """`DrawnSurface` by `dc_surface.surface`."""

    def __init__(self, drawn: Surface) -> None:
        self._drawn = drawn

    @property
    def plane(self) -> Tensor:
        return self._drawn.plane

    def slopes(self, rest: Tensor, mine: Tensor) -> tuple[Tensor, Tensor]:
        return self._drawn.adjoint(rest), self._drawn.norms()


def draw_surface(knots: Tensor, grid: TileSpec, planes: int, step_q12: int) -> DrawnSurface:
    return PlainSurface(surface(knots, grid, step_q12, planes=planes))
