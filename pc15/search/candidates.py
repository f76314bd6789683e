"""Candidates and their pixels: from the bank, from hooks' answers, and drawn anew with offsets.

Everything here ends in `Patterns`, which `Scorer.exact` scores whatever their origin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_PARAMS
from pc15.hooks.protocol import CellChoice, EncoderHooks, LayerView
from pc15.proc.codebook import Codebook
from pc15.proc.coords import tile_grid
from pc15.proc.registry import RMS_FLOOR, draw_levels, mean_rms
from pc15.proc.spec import fine_bits
from pc15.search.backend.protocol import TileBatch
from pc15.search.bank import Bank
from pc15.search.score import DROP, Patterns, Scorer

_FILL_ROWS = 1 << 17  # patterns that are drawn at once to fill a store


@dataclass(eq=False)
class Layers:
    """A batch of layers before their amplitude.

    fields: [B, 4 + MAX_PARAMS] int64: bank row, generator, entry, seed index, and offsets; one tensor, since on a GPU
        each one that is picked from costs the same.
    plain: all offsets are known to be 0.
    """

    fields: Tensor
    plain: bool = False

    @classmethod
    def of(cls, bank: Bank, gen: Tensor, qv: Tensor, seed: Tensor, offsets: Tensor) -> Layers:
        """From gen, qv, seed [B] and offsets [B, MAX_PARAMS], int64."""
        return cls(torch.cat([torch.stack([bank.row_of(gen, qv, seed), gen, qv, seed], dim=1), offsets], dim=1))

    @classmethod
    def of_rows(cls, bank: Bank, rows: Tensor) -> Layers:
        """Bank rows [B], without offsets; row -1 stands for row 0 (its caller masks it)."""
        return cls(torch.nn.functional.pad(bank.address[rows.clamp(min=0)], (0, MAX_PARAMS)), plain=True)

    @classmethod
    def joined(cls, parts: Sequence[Layers]) -> Layers:
        """Join several batches, one after the other."""
        return cls(torch.cat([part.fields for part in parts]), all(part.plain for part in parts))

    @classmethod
    def where(cls, mask: Tensor, a: Layers, b: Layers) -> Layers:
        """Item by item a or b, mask [B]."""
        return cls(torch.where(mask[:, None], a.fields, b.fields), a.plain and b.plain)

    def pick(self, index: Tensor) -> Layers:
        """Some of the layers."""
        return Layers(self.fields[index], self.plain)

    def moved(self, offsets: Tensor) -> Layers:
        """The same entries with other offsets."""
        return Layers(torch.cat([self.fields[:, :4], offsets], dim=1))

    @property
    def row(self) -> Tensor:
        """[B] bank row of the entry."""
        return self.fields[:, 0]

    @property
    def gen(self) -> Tensor:
        """[B] generator id."""
        return self.fields[:, 1]

    @property
    def qv(self) -> Tensor:
        """[B] codebook entry."""
        return self.fields[:, 2]

    @property
    def seed(self) -> Tensor:
        """[B] seed index."""
        return self.fields[:, 3]

    @property
    def offsets(self) -> Tensor:
        """[B, MAX_PARAMS] offsets, in sub-levels."""
        return self.fields[:, 4:]


def draw_layers(layers: Layers, bank: Bank, codebook: Codebook, tile: int, seed: int) -> tuple[Tensor, Tensor]:
    """Patterns without their mean, [B,T,T] int32 Q14, and their RMS, [B] int32 Q14 (0 if flat).

    The bank's own drawings serve where no offsets ask for another, and what it has drawn one step beside them; all
    others are drawn now.
    """
    if bank.drawn is None:
        return _drawn_now(layers, codebook, tile, seed)
    out = bank.drawn[layers.row].to(torch.int32).view(-1, tile, tile)
    power = bank.drawn_rms[layers.row]
    if layers.plain:
        return out, power
    used = torch.arange(layers.offsets.shape[1], device=out.device) < bank.params[layers.gen][:, None]
    offsets = torch.where(used, layers.offsets, 0)
    moved = torch.nonzero((offsets != 0).any(dim=1)).flatten()
    keys = bank.single_steps.keys(layers.row[moved], offsets[moved])
    one, far = moved[keys >= 0], moved[keys < 0]
    if len(one):

        def draw(which: Tensor) -> tuple[Tensor, Tensor]:
            drawn, rms = _drawn_now(layers.pick(one[which]), codebook, tile, seed)
            return drawn.flatten(1), rms

        kept, power[one] = bank.single_steps.look_up(keys[keys >= 0], draw)
        out[one] = kept.view(-1, tile, tile).to(torch.int32)
    if len(far):
        out[far], power[far] = _drawn_now(layers.pick(far), codebook, tile, seed)
    return out, power


def fill_single_steps(bank: Bank, codebook: Codebook, tile: int, seed: int) -> None:
    """Draw all that `Bank.single_steps` will be asked for, if it has room: at once is faster than a few at a time."""
    params = bank.params[bank.gen]
    row = torch.arange(bank.rows, device=params.device).repeat_interleave(2 * params)
    if not bank.single_steps.holds(len(row)):
        return
    start = torch.cumsum(2 * params, dim=0) - 2 * params
    step = torch.arange(len(row), device=params.device) - start[row]
    up = step >= params[row]
    offsets = torch.zeros((len(row), MAX_PARAMS), dtype=torch.int64, device=params.device)
    offsets.scatter_(1, (step - up * params[row])[:, None], torch.where(up, 1, -1)[:, None])
    layers = Layers.of_rows(bank, row).moved(offsets)
    for some in torch.arange(len(row), device=params.device).split(_FILL_ROWS):
        draw_layers(layers.pick(some), bank, codebook, tile, seed)


def _drawn_now(layers: Layers, codebook: Codebook, tile: int, seed: int) -> tuple[Tensor, Tensor]:
    """`draw_layers` of layers that nobody has drawn yet, by generator."""
    device, count, fine = layers.gen.device, len(layers.gen), fine_bits(tile)
    out = torch.zeros((count, tile, tile), dtype=torch.int32, device=device)
    power = torch.zeros(count, dtype=torch.int32, device=device)
    at = tile_grid(tile, device=device)
    for gen in torch.unique(layers.gen).tolist():
        pick = torch.nonzero(layers.gen == gen).flatten()
        levels = codebook.levels(gen, layers.qv[pick], layers.offsets[pick], fine)
        drawn = draw_levels(gen, levels, layers.seed[pick], at, seed, fine)
        mean, rms = mean_rms(drawn)
        out[pick] = drawn - mean.view(-1, 1, 1)
        power[pick] = torch.where(rms >= RMS_FLOOR, rms, 0)
    return out, power


def scoreable(drawn: Tensor, rms: Tensor) -> tuple[Tensor, Tensor]:
    """Drawn patterns [B,T,T] as a store for `Patterns`, [B,T*T] int16, and their float64 RMS in its scale."""
    return (drawn >> DROP).to(torch.int16).flatten(1), rms.to(torch.float64) * (1.0 / (1 << DROP))


def bank_patterns(bank: Bank, rows: Tensor, codebook: Codebook, tile: int, seed: int) -> Patterns:
    """Patterns of bank rows [n,M]; row -1 counts as flat.

    Where the bank is at full resolution its int8 rows serve; of larger tiles the few rows are drawn.
    """
    at = rows.clamp(min=0)
    if bank.drawn is not None:
        return Patterns(bank.pixels, at, torch.where(rows >= 0, bank.rms[at], 0.0))
    store, rms = scoreable(*draw_layers(Layers.of_rows(bank, rows.reshape(-1)), bank, codebook, tile, seed))
    own = torch.arange(rows.numel(), device=rows.device).view(rows.shape)
    return Patterns(store, own, torch.where(rows >= 0, rms.view(rows.shape), 0.0))


def shortlist(
    scorer: Scorer, hooks: EncoderHooks | None, tiles: TileBatch, layer: int, keep: int
) -> tuple[Tensor, Tensor | None]:
    """The `keep` bank rows most worth exact scoring, best first, [n,M] int64, -1 for none, and offsets that hooks
    propose for them, if any."""
    if hooks is None:
        return scorer.screen(tiles, layer, keep, None), None
    view = view_of(scorer, tiles, layer)
    allowed = hooks.select(view)
    cells = hooks.cells(view, allowed)
    proposals = hooks.propose(view, allowed, cells)
    offsets = None
    if proposals is not None:
        rows, offsets = proposals.rows, proposals.offsets
    elif cells is not None:
        rows = scorer.within(cells.chosen, tiles, layer, keep, cells.of)
    else:
        rows = scorer.screen(tiles, layer, keep, allowed)
    if rows.shape[1] > 1 and (predicted := hooks.rank(view, rows, keep)) is not None:
        order = torch.sort(predicted, dim=1, stable=True).indices[:, :keep]
        rows = torch.gather(rows, 1, order)
        if offsets is not None:
            offsets = torch.gather(offsets, 1, order[:, :, None].expand(-1, -1, offsets.shape[2]))
    elif proposals is not None and offsets is None and rows.shape[1] > keep:
        rows = scorer.finer(rows, tiles, layer, keep)
    return rows, offsets


def view_of(scorer: Scorer, tiles: TileBatch, layer: int) -> LayerView:
    """View of tiles before a layer is added, for hooks."""

    def index(count: int) -> CellChoice:
        return CellChoice(scorer.cells, scorer.cells.index(scorer.packed(tiles), count))

    return LayerView(
        residual=tiles.e,
        picture=tiles.x,
        layer=layer,
        tile=scorer.tile,
        candidates=scorer.bank,
        bits=scorer.bits(layer),
        around=scorer.windows.around,
        look=lambda: scorer.inputs(tiles, layer),
        index=index,
    )
