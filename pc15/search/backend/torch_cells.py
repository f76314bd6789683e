"""Cells of the bank and the nets that choose them, in tensor operations: a part of `torch_ops`; see `Backend`."""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.search.backend.protocol import ANSWER_TOP, FACTOR_BITS, LOG_FLOOR, CellRows
from pc15.search.backend.sort_keys import NO_KEY, Terms, key_rows, score_keys, short_log2

_LOOKED_AT = 1 << 26  # values of patterns that are gathered at once


def best_in_cells(chosen: Tensor, cells: CellRows, packed: Tensor, terms: Terms, keep: int) -> Tensor:
    n, device = len(chosen), chosen.device
    at = chosen.clamp(min=0)
    size = torch.where(chosen >= 0, cells.start[at + 1] - cells.start[at], 0)  # [n,k]
    ends = torch.cumsum(size, dim=1)
    most = int(ends[:, -1].max()) if chosen.numel() else 0
    out = torch.full((n, keep), -1, dtype=torch.int64, device=device)
    if not most:
        return out
    step = max(1, _LOOKED_AT // (most * packed.shape[1]))
    for first in range(0, n, step):
        some = slice(first, first + step)
        place = torch.arange(most, device=device).expand(len(chosen[some]), -1).contiguous()
        which = torch.searchsorted(ends[some], place, right=True).clamp(max=chosen.shape[1] - 1)
        own = cells.start[at[some]].gather(1, which) + place - (ends - size)[some].gather(1, which)
        inside = place < ends[some, -1:]
        own = torch.where(inside, own, 0)
        rows = cells.rows[own]
        patterns = cells.pixels[own].to(torch.float32)  # [m,R,P]
        product = torch.bmm(patterns, packed[some].to(torch.float32)[:, :, None])[:, :, 0]  # below 2^24
        keys = score_keys(
            product, terms.inverse[terms.cls[some, None], rows], terms.price[some], terms.bits[rows], rows
        )
        keys = torch.where(inside, keys, NO_KEY).topk(min(keep, most), dim=1).values
        out[some, : keys.shape[1]] = key_rows(keys)
    return out


def activated(product: Tensor, factor: Tensor, bias: Tensor, kind: str) -> Tensor:
    y = ((product.to(torch.int64) * factor + (1 << (FACTOR_BITS - 1))) >> FACTOR_BITS) + bias
    if kind == "answer":
        return y.clamp(-ANSWER_TOP, ANSWER_TOP).to(torch.int32)
    y = y.abs() if kind == "abs" else y.clamp(min=0)
    return y.clamp(max=127).to(torch.int8)


def likeliest_cells(
    answers: Tensor, product: Tensor, inverse: Tensor, energy: Tensor, gain: Tensor, least: int, keep: int
) -> Tensor:
    value = product.to(torch.float32)
    like = short_log2((value * value) * inverse) - short_log2(energy.to(torch.float32))[:, None]
    likely = answers[:, :-1].to(torch.int64) + ((gain * like.clamp(min=LOG_FLOOR)) >> 4)
    cells = likely.shape[1]
    key = likely * cells + torch.arange(cells - 1, -1, -1, device=likely.device)
    best = key.topk(min(keep, cells), dim=1).values
    chosen = cells - 1 - best.remainder(cells)
    return torch.where(answers[:, -1:] >= least, chosen, -1)
