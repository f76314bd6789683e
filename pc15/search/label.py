"""The oracle's answer for single tiles: what `pc15learn` learns from.

A tile is searched on its own, as if its neighbours drew the same: errors are weighted by the window of a tile inside
a large picture.  Every layer comes with the best candidates and some random ones, each with its exact D and bits, so
that a model sees good and bad ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pc15.bitstream.alphabets import Syntax
from pc15.config import CodecConfig
from pc15.draw import amplitude_q15, dc_samples
from pc15.entropy.tables import load_table
from pc15.errors import ImageError
from pc15.luma import as_q12, scaled_pattern
from pc15.proc.codebook import load_codebook
from pc15.proc.registry import coefficient
from pc15.quant import dc_levels, step_q15, steps_for
from pc15.runtime.device import resolve_device
from pc15.search.bank import Bank, get_bank
from pc15.search.candidates import Layers, bank_patterns, draw_layers
from pc15.search.cost import Costs
from pc15.search.refine import address_q8, choose
from pc15.search.score import Scorer
from pc15.search.windows import Windows
from pc15.tiling import TileGridCfg, axis_weights


@dataclass(frozen=True)
class CandidateLabel:
    """One candidate of a layer: D per pixel of the tile if it were chosen, and its bits."""

    gen: int
    qv_id: int
    seed_index: int
    amp: int
    d: float
    bits: float


@dataclass(frozen=True)
class LayerLabel:
    """The oracle's choice for one layer.

    d_before, d: D of the tile without and with it.   bits: of this layer.   rd: d + lambda * bits / area.
    candidates: best first, then random ones.
    """

    gen: int
    qv_id: int
    offsets: tuple[int, ...]
    seed_index: int
    amp: int
    d_before: float
    d: float
    bits: float
    rd: float
    candidates: tuple[CandidateLabel, ...]


@dataclass(frozen=True)
class TileLabel:
    """One tile: DC level and its layers, in order; none if nothing pays."""

    dc: int
    layers: tuple[LayerLabel, ...]


def inner_weights(cfg: CodecConfig) -> Tensor:
    """Axis weights, [1,T] int32, of a tile with neighbours on both sides."""
    grid = TileGridCfg(size=cfg.tile, overlap=cfg.overlap)
    around = 2 * -(-grid.size // grid.stride) + 1
    params = None if cfg.window_param is None else {"alpha" if cfg.window == "tukey" else "beta": cfg.window_param}
    weights = axis_weights(around * grid.stride + grid.overlap, grid, cfg.window, params)
    return weights[around // 2 : around // 2 + 1]


def lone_scorer(cfg: CodecConfig) -> Scorer:
    """What scores tiles that are searched on their own: all are of class 0, that of a tile inside a large picture."""
    device = resolve_device(cfg.device)
    codebook = load_codebook(cfg.codebook_id)
    bank = get_bank(cfg.tile, codebook, cfg.seed, device)
    weights = inner_weights(cfg).to(device)
    windows = Windows.of_grid(weights, weights, cfg, blended=False)
    amp_step, dc_step = steps_for(cfg.lambda_rd, cfg.alpha_mix, float(windows.area[0]))
    syntax = Syntax.of(1, 1, cfg.tile, amp_step, dc_step, False, codebook)
    return Scorer(cfg, bank, windows, Costs(load_table(cfg.table_id), syntax, bank), amp_step)


def label_tiles(
    tiles: Tensor, cfg: CodecConfig, *, top: int = 32, random: int = 16, rng_seeds: Sequence[int] = ()
) -> list[TileLabel]:
    """Search every tile exhaustively and say what was found.

    Args:
        tiles: [N,T,T] uint8 luma, T = cfg.tile.
        top, random: candidates reported per layer.
        rng_seeds: one seed per tile for its random candidates; the tile's number if empty.
    Raises:
        ImageError: tiles of another shape or type.
    """
    if tiles.dim() != 3 or tiles.shape[1:] != (cfg.tile, cfg.tile) or tiles.dtype != torch.uint8:
        raise ImageError(f"label_tiles got {tiles.dtype} {list(tiles.shape)}; give uint8 [N,{cfg.tile},{cfg.tile}]")
    cfg = cfg.but(shortlist=top)
    device = resolve_device(cfg.device)
    codebook = load_codebook(cfg.codebook_id)
    scorer = lone_scorer(cfg)
    bank, windows, amp_step = scorer.bank, scorer.windows, scorer.amp_step
    area = float(windows.area[0])
    dc_step = steps_for(cfg.lambda_rd, cfg.alpha_mix, area)[1]

    x = as_q12(tiles, device)
    cls = torch.zeros(len(x), dtype=torch.int64, device=device)
    dc = _mean_levels(x, windows.own[0], dc_step, dc_levels(dc_step))
    samples = dc_samples(dc, dc_step).view(-1, 1, 1).repeat(1, cfg.tile, cfg.tile)
    alive = torch.arange(len(x), device=device)
    labels: list[list[LayerLabel]] = [[] for _ in range(len(x))]
    seeds = rng_seeds or range(len(x))
    for layer in range(cfg.max_layers):
        e = (x - samples)[alive]
        rows = scorer.screen(e, cls[alive], layer, top, None)
        drawn = _random_rows(bank, [seeds[n] for n in alive.tolist()], layer, random).to(device)
        tried = torch.cat([rows, drawn], dim=1)
        known = _candidates(scorer, codebook.id, e, x[alive], cls[alive], layer, tried, area)
        found = choose(scorer, codebook, rows, None, e, x[alive], cls[alive], layer, refine=cfg.refine)
        pays = torch.nonzero(found.change[:, 0] < 0).flatten()
        if not len(pays):
            break
        layers, amp, change = found.layers.pick(pays), found.amp[pays, 0], found.change[pays, 0]
        bits = address_q8(scorer, layers, layer)
        bits = (bits + scorer.costs.amplitudes(layer)[(amp < 0).long(), amp.abs()]).to(torch.float64) / 256.0
        before = scorer.distortion(e, x[alive], cls[alive])[pays]
        after = before + change - cfg.lambda_rd * bits
        for i, n in enumerate(alive[pays].tolist()):
            labels[n].append(
                LayerLabel(
                    gen=int(layers.gen[i]), qv_id=int(layers.qv[i]), offsets=tuple(layers.offsets[i].tolist()),
                    seed_index=int(layers.seed[i]), amp=int(amp[i]), d_before=float(before[i]) / area,
                    d=float(after[i]) / area, bits=float(bits[i]),
                    rd=float(after[i] + cfg.lambda_rd * bits[i]) / area, candidates=known[int(pays[i])],
                )
            )  # fmt: skip
        pattern, rms = draw_layers(layers, bank, codebook, cfg.tile, cfg.seed)
        factor = coefficient(amplitude_q15(amp, amp_step), rms)
        alive = alive[pays]
        samples[alive] += scaled_pattern(factor, pattern)
    return [TileLabel(int(level), tuple(found)) for level, found in zip(dc.tolist(), labels, strict=True)]


def _mean_levels(x: Tensor, own: Tensor, dc_step: int, top: int) -> Tensor:
    """Weighted mean of each tile as the nearest DC level, [N] int64."""
    total = (own.to(torch.int64) * x).sum(dim=(1, 2))
    unit = int(own.sum(dtype=torch.int64)) * step_q15(dc_step)
    return torch.div(16 * total + unit, 2 * unit, rounding_mode="floor").clamp(0, top - 1)


def _random_rows(bank: Bank, seeds: Sequence[int], layer: int, count: int) -> Tensor:
    """Random bank rows, [n, count]; a tile's depend on its seed and the layer alone."""
    picks = [np.random.Generator(np.random.PCG64([seed, layer])).integers(0, bank.rows, count) for seed in seeds]
    return torch.from_numpy(np.stack(picks) if picks else np.zeros((0, count), np.int64))


def _candidates(
    scorer: Scorer, codebook_id: str, e: Tensor, x: Tensor, cls: Tensor, layer: int, rows: Tensor, area: float
) -> list[tuple[CandidateLabel, ...]]:
    """Exact D and bits of the candidates of each tile; those that draw nothing are left out."""
    n, m = rows.shape
    layers = Layers.of_rows(scorer.bank, rows.reshape(-1))
    patterns = bank_patterns(scorer.bank, rows, load_codebook(codebook_id), scorer.tile, scorer.cfg.seed)
    cost = address_q8(scorer, layers, layer).view(n, m)
    change, amp = scorer.exact(e, x, cls, patterns, cost, layer)
    bits = (cost + scorer.costs.amplitudes(layer)[(amp < 0).long(), amp.abs()]).to(torch.float64) / 256.0
    before = scorer.distortion(e, x, cls)[:, None]
    after = (before + change - scorer.cfg.lambda_rd * bits) / area
    bank, at = scorer.bank, rows.clamp(min=0)
    columns = [t.tolist() for t in (bank.gen[at], bank.qv[at], bank.seed[at], amp, after, bits)]
    usable = ((rows >= 0) & torch.isfinite(change)).tolist()
    return [
        tuple(CandidateLabel(*values) for values, ok in zip(zip(*tile, strict=True), keep, strict=True) if ok)
        for tile, keep in zip(zip(*columns, strict=True), usable, strict=True)
    ]
