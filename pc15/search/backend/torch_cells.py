"""Cells of the bank and the nets that choose them, in tensor operations: a part of `torch_ops`; see `Backend`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from pc15.search.backend.protocol import ANSWER_TOP, FACTOR_BITS, LOG_FLOOR, CellRows, TileTerms
from pc15.search.backend.sort_keys import NO_KEY, Terms, key_rows, score_keys, short_log2

_LOOKED_AT = 1 << 26  # values of patterns that are gathered at once

KeysOf = Callable[[Tensor, CellRows, Tensor, TileTerms], Tensor]
"""Keys [n,M] of rows at places [n,M] among those of cells, as `score_keys` has them, of no candidate for place -1; the
other arguments are those of `Backend.best_in_cells`."""


def best_in_cells(chosen: Tensor, cells: CellRows, bits: Tensor, own: TileTerms, keep: int) -> Tensor:
    return best_of_places(chosen, cells, bits, own, keep, keys_of_places, _LOOKED_AT // own.rows.shape[1])


def best_of_places(
    chosen: Tensor, cells: CellRows, bits: Tensor, own: TileTerms, keep: int, keys_of: KeysOf, together: int
) -> Tensor:
    """`Backend.best_in_cells` by keys of every row of the cells, about so many of them together."""
    n, device = len(chosen), chosen.device
    at = chosen.clamp(min=0)
    size = torch.where(chosen >= 0, cells.start[at + 1] - cells.start[at], 0)  # [n,k]
    ends = torch.cumsum(size, dim=1)
    most = int(ends[:, -1].max()) if chosen.numel() else 0
    out = torch.full((n, keep), -1, dtype=torch.int64, device=device)
    if not most:
        return out
    step = max(1, together // most)
    for first in range(0, n, step):
        some = slice(first, first + step)
        place = torch.arange(most, device=device).expand(len(chosen[some]), -1).contiguous()
        which = torch.searchsorted(ends[some], place, right=True).clamp(max=chosen.shape[1] - 1)
        member = cells.start[at[some]].gather(1, which) + place - (ends - size)[some].gather(1, which)
        member = torch.where(place < ends[some, -1:], member, -1)
        keys = keys_of(member, cells, bits, TileTerms(*(part[some] for part in own)))
        keys = keys.topk(min(keep, most), dim=1).values
        out[some, : keys.shape[1]] = key_rows(keys)
    return out


def keys_of_places(member: Tensor, cells: CellRows, bits: Tensor, own: TileTerms) -> Tensor:
    """See `KeysOf`."""
    bank, inside = cells.terms, member >= 0
    member = member.clamp(min=0)
    product, curve = (
        torch.bmm(patterns[member].to(torch.float32), part.to(torch.float32)[:, :, None])[:, :, 0]  # below 2^24
        for patterns, part in ((bank.pixels, own.rows), (bank.energies, own.weights))
    )
    rows, scale = cells.rows[member], bank.scale[own.place[:, None], member]
    return torch.where(inside, score_keys(product, curve, scale, own.price, bits[rows], rows), NO_KEY)


def activated(product: Tensor, factor: Tensor, bias: Tensor, kind: str) -> Tensor:
    y = ((product.to(torch.int64) * factor + (1 << (FACTOR_BITS - 1))) >> FACTOR_BITS) + bias
    if kind == "answer":
        return y.clamp(-ANSWER_TOP, ANSWER_TOP).to(torch.int32)
    y = y.abs() if kind == "abs" else y.clamp(min=0)
    return y.clamp(max=127).to(torch.int8)


def likeliest_cells(
    answers: Tensor, product: Tensor, curve: Tensor, terms: Terms, gain: Tensor, least: int, keep: int
) -> Tensor:
    value = product.to(torch.float32)
    score = ((value * value) * terms.scale[terms.place]) / curve.to(torch.float32)
    like = short_log2(score)
    like = like - like.amax(dim=1, keepdim=True)
    likely = answers[:, :-1].to(torch.int64) + ((gain * like.clamp(min=LOG_FLOOR)) >> 4)
    cells = likely.shape[1]
    key = likely * cells + torch.arange(cells - 1, -1, -1, device=likely.device)
    best = key.topk(min(keep, cells), dim=1).values
    chosen = cells - 1 - best.remainder(cells)
    return torch.where(answers[:, -1:] >= least, chosen, -1)
