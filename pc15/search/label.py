"""The oracle's answer for single tiles: what `pc15learn` learns from.

A tile is searched on its own, as if its neighbours drew the same: errors are weighted by the window of a tile inside
a large picture.  Every layer comes with the best candidates and some random ones, each with its exact D and bits, so
that a model sees good and bad ones.

Answers are columns, one row per tile, per layer and per candidate, that stay on the search's device until all tiles
are done: no object per candidate is ever made.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.bitstream.alphabets import Syntax
from pc15.bitstream.programs import MAX_PARAMS
from pc15.config import CodecConfig
from pc15.draw import amplitude_q15, dc_samples
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError, ImageError
from pc15.luma import as_q12
from pc15.proc.codebook import load_codebook
from pc15.proc.registry import coefficient, scaled_pattern
from pc15.quant import dc_levels, step_q15, steps_for
from pc15.runtime.device import resolve_device
from pc15.search.backend.protocol import TileBatch
from pc15.search.bank import get_bank
from pc15.search.candidates import Layers, bank_patterns, draw_layers, fill_single_steps
from pc15.search.cost import Costs
from pc15.search.refine import LayerSearch, Shortlist, address_q8, choose
from pc15.search.score import Scorer
from pc15.search.windows import Windows, inner_weights

Column = npt.NDArray[Any]

LAYER_TYPES: dict[str, Any] = {
    "gen": np.uint8, "qv": np.uint16, "seed": np.uint8, "amp": np.int16,
    "d0": np.float32, "d": np.float32, "bits": np.float32, "rd": np.float32,
}  # fmt: skip
"""Columns of layers beside their offsets, and their types."""
TRIED_TYPES: dict[str, Any] = {
    "gen": np.uint8, "qv": np.uint16, "seed": np.uint8, "amp": np.int16, "d": np.float32, "bits": np.float32,
}  # fmt: skip
"""Columns of candidates, and their types."""

_PIXELS_TOGETHER = 1 << 19  # of tiles that are searched at once, where a call costs little
_PIXELS_TOGETHER_GPU = 1 << 24  # and where each costs as much as a thousand tiles


@dataclass(frozen=True, eq=False)
class TileLabels:
    """Programs of n tiles with L layers in all, and M candidates that were scored for them.

    dc: [n] int32, DC level.
    layer_start: [n+1] int64, layers of tile i are layer_start[i]:layer_start[i+1]; none if nothing pays.
    layer: columns [L], see `LAYER_TYPES`: generator, entry, seed index and signed amplitude level; d0 and d, D per
        pixel that a tile owns without and with the layer; its bits; rd = d + lambda * bits / area.
    offsets: [L, MAX_PARAMS] int16.
    tried_start: [L+1] int64, candidates of layer i are tried_start[i]:tried_start[i+1], best first, then random ones.
    tried: columns [M], see `TRIED_TYPES`; d is D if the candidate were the layer.
    """

    dc: Column
    layer_start: Column
    layer: dict[str, Column]
    offsets: Column
    tried_start: Column
    tried: dict[str, Column]

    def __len__(self) -> int:
        return len(self.dc)

    @classmethod
    def joined(cls, parts: Sequence[TileLabels]) -> TileLabels:
        """Labels of several batches, one after the other; at least one."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            dc=np.concatenate([part.dc for part in parts]),
            layer_start=_starts(np.concatenate([np.diff(part.layer_start) for part in parts])),
            layer={name: np.concatenate([part.layer[name] for part in parts]) for name in LAYER_TYPES},
            offsets=np.concatenate([part.offsets for part in parts]),
            tried_start=_starts(np.concatenate([np.diff(part.tried_start) for part in parts])),
            tried={name: np.concatenate([part.tried[name] for part in parts]) for name in TRIED_TYPES},
        )


def lone_scorer(cfg: CodecConfig) -> Scorer:
    """Scorer of tiles that are searched on their own: all are of class 0, that of a tile inside a large picture."""
    device = resolve_device(cfg.device)
    codebook = load_codebook(cfg.codebook_id)
    bank = get_bank(cfg.tile, codebook, cfg.seed, device)
    weights = inner_weights(cfg).to(device)
    windows = Windows.of_grid(weights, weights, cfg, blended=False)
    amp_step, dc_step = steps_for(cfg.lambda_rd, cfg.alpha_mix, float(windows.area[0]))
    syntax = Syntax.of(1, 1, cfg.tile, amp_step, dc_step, False, codebook)
    return Scorer(cfg, bank, windows, Costs(load_table(cfg.table_id), syntax, bank), amp_step)


@dataclass(frozen=True, eq=False)
class Step:
    """Matching pursuit of some tiles, one layer further.  All is on the search's device.

    tile: [m] int64, tiles that the layer pays in.   residual: [m,T,T] int32 Q12, what it was asked to draw.
    layers, amp: [m], the choice.   d0, d, bits: [m] float64, as in `TileLabels`.
    rows, tried_amp, tried_d, tried_bits: [m, top + random], candidates: bank row, signed amplitude level, 0 for one
        that draws nothing, D and bits; the `top` best as screening orders them, then random ones.
    """

    layer: int
    tile: Tensor
    residual: Tensor
    layers: Layers
    amp: Tensor
    d0: Tensor
    d: Tensor
    bits: Tensor
    rows: Tensor
    tried_amp: Tensor
    tried_d: Tensor
    tried_bits: Tensor


class TileOracle:
    """Exhaustive search of tiles on their own, at one rate; the bank is loaded once for all calls.

    Args:
        top, random: candidates reported per layer: the best, and some drawn at random from the bank.
    """

    def __init__(self, cfg: CodecConfig, *, top: int = 32, random: int = 16) -> None:
        if top < 1 or random < 0:
            raise ConfigError(f"top is {top} and random {random}; give at least 1 and 0")
        self.cfg, self.top, self.random = cfg.but(shortlist=top), top, random
        self.scorer = lone_scorer(self.cfg)
        self.codebook = load_codebook(cfg.codebook_id)
        self.area = float(self.scorer.windows.area[0])
        self.dc_step = steps_for(cfg.lambda_rd, cfg.alpha_mix, self.area)[1]
        self.device = self.scorer.bank.gen.device
        if cfg.refine and self.scorer.ops.draws_ahead and self.scorer.bank.drawn is not None:
            fill_single_steps(self.scorer.bank, self.codebook, cfg.tile, cfg.seed)

    @property
    def together(self) -> int:
        """Number of tiles that are best searched at once."""
        pixels = _PIXELS_TOGETHER_GPU if self.scorer.ops.draws_ahead else _PIXELS_TOGETHER
        return max(1, pixels // self.cfg.tile**2)

    def __call__(self, tiles: Tensor, seeds: Sequence[int] | Tensor = ()) -> TileLabels:
        """Search every tile and say what was found.

        Args:
            tiles: [N,T,T] uint8 luma, T = cfg.tile.
            seeds: one per tile, in [0, 2^31), for its random candidates; the tile's number if empty.
        Raises:
            ImageError: tiles of another shape or type.
        """
        side = self.cfg.tile
        if tiles.dim() != 3 or tiles.shape[1:] != (side, side) or tiles.dtype != torch.uint8:
            raise ImageError(f"the oracle got {tiles.dtype} {list(tiles.shape)}; give uint8 [N,{side},{side}]")
        own = torch.as_tensor(seeds if len(seeds) else range(len(tiles)), dtype=torch.int64)
        starts = range(0, max(1, len(tiles)), self.together)
        parts = [self._columns(tiles[i : i + self.together], own[i : i + self.together]) for i in starts]
        return TileLabels.joined(parts)

    def dc_levels(self, x: Tensor) -> Tensor:
        """The weighted mean of each tile, [N,T,T] int32 Q12, as the nearest DC level, [N] int64."""
        own, top = self.scorer.windows.blend[0], dc_levels(self.dc_step)
        total = (own.to(torch.int64) * x).sum(dim=(1, 2))
        unit = int(own.sum(dtype=torch.int64)) * step_q15(self.dc_step)
        return torch.div(16 * total + unit, 2 * unit, rounding_mode="floor").clamp(0, top - 1)

    def pursue(self, x: Tensor, dc: Tensor, seeds: Tensor) -> Iterator[Step]:
        """Layer after layer of tiles, until none pays any more.

        Args:
            x: [N,T,T] int32 Q12, the tiles.   dc: [N] int64, their DC levels.   seeds: [N] int64.
        """
        cfg, scorer, search = self.cfg, self.scorer, LayerSearch(self.scorer, self.codebook)
        e = x - dc_samples(dc, self.dc_step).view(-1, 1, 1)
        alive = torch.arange(len(x), device=self.device)
        for layer in range(cfg.max_layers):
            cls = torch.zeros_like(alive)
            rows = scorer.screen(TileBatch(e, x, cls), layer, self.top, None)
            top = rows.shape[1]
            rows = torch.cat([rows, random_rows(seeds[alive], layer, self.random, scorer.bank.rows)], dim=1)
            change, amp = self._exact(e, x, cls, rows, layer)
            pays = torch.nonzero(change[:, :top].amin(dim=1) < 0).flatten()
            if not len(pays):
                return
            alive, e, x, cls, rows, change, amp = (part[pays] for part in (alive, e, x, cls, rows, change, amp))
            best = Shortlist(rows[:, :top], scored=(change[:, :top], amp[:, :top]))
            found = choose(search, best, TileBatch(e, x, cls), layer, refine=cfg.refine)
            layers, chosen, gain = found.layers, found.amp[:, 0], found.change[:, 0]
            before = scorer.distortion(e, x, cls)
            address = scorer.costs.added_rows(layer, cfg.max_layers)[rows.clamp(min=0)]
            bits = self._bits(address_q8(scorer, layers, layer), chosen, layer)
            tried_bits = self._bits(address, amp, layer)
            yield Step(
                layer, alive, e, layers, chosen, before / self.area,
                (before + gain - cfg.lambda_rd * bits) / self.area, bits,
                rows, torch.where((rows >= 0) & torch.isfinite(change), amp, 0),
                (before[:, None] + change - cfg.lambda_rd * tried_bits) / self.area, tried_bits,
            )  # fmt: skip
            pattern, rms = draw_layers(layers, scorer.bank, self.codebook, cfg.tile, cfg.seed)
            e = e - scaled_pattern(coefficient(amplitude_q15(chosen, scorer.amp_step), rms), pattern)

    def _exact(self, e: Tensor, x: Tensor, cls: Tensor, rows: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Change of J and amplitude of bank rows [m,M]."""
        scorer = self.scorer
        if scorer.bank.drawn is not None:
            return scorer.exact_rows(e, x, cls, rows, layer)
        patterns = bank_patterns(scorer.bank, rows, self.codebook, scorer.tile, scorer.cfg.seed)
        cost = scorer.costs.added_rows(layer, self.cfg.max_layers)[rows.clamp(min=0)]
        return scorer.exact(e, x, cls, patterns, cost, layer)

    def _bits(self, address: Tensor, amp: Tensor, layer: int) -> Tensor:
        """Bits of layers: address in 1/256 bit and amplitude."""
        return (address + self.scorer.costs.amplitudes(layer)[(amp < 0).long(), amp.abs()]).to(torch.float64) / 256.0

    def _columns(self, tiles: Tensor, seeds: Tensor) -> TileLabels:
        """`__call__` of tiles that are searched at once."""
        x = as_q12(tiles, self.device)
        dc = self.dc_levels(x)
        steps = list(self.pursue(x, dc, seeds.to(self.device)))
        count = np.zeros(len(tiles), np.int64)
        if not steps:
            return _no_layers(dc.to(torch.int32).cpu().numpy())
        tile = torch.cat([step.tile for step in steps])
        # layers come in the order of the search: all first ones, all second ones; stably sorted, tile by tile
        order = torch.sort(tile, stable=True).indices
        layers = Layers.joined([step.layers for step in steps]).pick(order)
        bank, price = self.scorer.bank, self.cfg.lambda_rd / self.area
        amp, d0, d, bits, rows, tried_amp, tried_d, tried_bits = (
            torch.cat([getattr(step, name) for step in steps])[order]
            for name in ("amp", "d0", "d", "bits", "rows", "tried_amp", "tried_d", "tried_bits")
        )
        kept = tried_amp != 0
        at = rows[kept]
        own = {"gen": layers.gen, "qv": layers.qv, "seed": layers.seed, "amp": amp, "d0": d0, "d": d, "bits": bits}
        own["rd"] = d + price * bits
        used = torch.arange(MAX_PARAMS, device=self.device) < self.scorer.costs.params[layers.gen][:, None]
        tried = {
            "gen": bank.gen[at], "qv": bank.qv[at], "seed": bank.seed[at], "amp": tried_amp[kept],
            "d": tried_d[kept], "bits": tried_bits[kept],
        }  # fmt: skip
        np.add.at(count, tile.cpu().numpy(), 1)
        return TileLabels(
            dc=dc.to(torch.int32).cpu().numpy(),
            layer_start=_starts(count),
            layer={name: _column(own[name], kind) for name, kind in LAYER_TYPES.items()},
            offsets=_column(torch.where(used, layers.offsets, 0), np.int16),
            tried_start=_starts(kept.sum(dim=1).cpu().numpy()),
            tried={name: _column(tried[name], kind) for name, kind in TRIED_TYPES.items()},
        )


def random_rows(seeds: Tensor, layer: int, count: int, rows: int) -> Tensor:
    """Random bank rows in [0, rows), [n, count] int64; a tile's depend on its seed and the layer alone.

    A hash of (seed, layer, number) in place of a generator's state, so that all are drawn at once on any device: the
    finaliser of MurmurHash3 (A. Appleby), twice.

    Args:
        seeds: [n] int64 in [0, 2^31).
    """
    number = torch.arange(count, device=seeds.device) + (layer << 16)
    return _mixed(_mixed(seeds)[:, None] ^ number) % rows


def _mixed(h: Tensor) -> Tensor:
    """Bits of 32-bit words in int64, mixed; products that leave 64 bits keep their low ones on every device."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = ((h ^ (h >> shift)) * factor) & 0xFFFFFFFF
    return h ^ (h >> 16)


def _column(values: Tensor, kind: Any) -> Column:
    """A column on the host, made small before it travels."""
    narrow = {np.uint16: torch.int32}.get(kind) or torch.from_numpy(np.zeros(0, kind)).dtype
    return np.ascontiguousarray(values.to(narrow).cpu().numpy().astype(kind, copy=False))


def _starts(lengths: Column) -> Column:
    """Where each list begins in the values of all, [n+1] int64."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _no_layers(dc: Column) -> TileLabels:
    """Labels of tiles that nothing pays in."""
    return TileLabels(
        dc, np.zeros(len(dc) + 1, np.int64), {name: np.zeros(0, kind) for name, kind in LAYER_TYPES.items()},
        np.zeros((0, MAX_PARAMS), np.int16), np.zeros(1, np.int64),
        {name: np.zeros(0, kind) for name, kind in TRIED_TYPES.items()},
    )  # fmt: skip
