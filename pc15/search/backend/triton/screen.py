"""Screening: the best of a bank, and which of them go on."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pc15.search.backend.protocol import BankTerms, CellRows, Leads, TileTerms
from pc15.search.backend.sort_keys import GROUP, INDEX_BITS, MAGNITUDE, NO_KEY, Terms, key_rows
from pc15.search.backend.triton.sizes import LANES, RUN

_BITS = tl.constexpr(INDEX_BITS)
_LAST_ROW = tl.constexpr((1 << INDEX_BITS) - 1)
_MAGNITUDE = tl.constexpr(MAGNITUDE)
_NO_KEY = tl.constexpr(NO_KEY)
_GROUPS = 16  # groups that one program instance reduces
MOST_COMPARED = 1024
"""Values of a row that are compared with each other at most."""
MOST_KEPT = 128
"""Candidates of a tile that `merge_best` keeps at most."""


@triton.jit
def _ordered(score):  # type: ignore[no-untyped-def]
    """float32 as integers of the same order."""
    raw = score.to(tl.int32, bitcast=True)
    return tl.where(raw < 0, raw ^ _MAGNITUDE, raw)


@triton.jit
def _key(score, row):  # type: ignore[no-untyped-def]
    """`sort_keys.score_keys`."""
    return (_ordered(score).to(tl.int64) << _BITS) + (_LAST_ROW - row)


@triton.jit
def _gain(product, curve, scale, at, inside):  # type: ignore[no-untyped-def]
    """`sort_keys.scores` before the bits; a division as IEEE 754 has it."""
    value = tl.load(product + at, mask=inside, other=0).to(tl.float32)
    bent = tl.load(curve + at, mask=inside, other=1).to(tl.float32)
    return tl.div_rn((value * value) * tl.load(scale + at, mask=inside, other=0.0), bent)


@triton.jit
def _reduce(  # type: ignore[no-untyped-def]
    product, curve, stride, scale, scale_stride, place, price, bits, first, count, groups, out,
    GROUP: tl.constexpr, GROUPS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    at = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = at < count
    cost = tl.load(bits + first + at, mask=inside, other=0.0)
    gain = _gain(
        product + row * stride, curve + row * stride, scale + tl.load(place + row) * scale_stride + first, at, inside
    )
    key = _key(gain - tl.load(price + row) * cost, first + at)
    key = tl.where(inside, key, _NO_KEY)
    tl.store(out + row * groups + group, tl.max(key, axis=1), mask=group < groups)


def _alike(curve: Tensor, product: Tensor) -> Tensor:
    """The curves, with rows as far apart as those of the products."""
    return curve if curve.stride() == product.stride() else torch.empty_like(product).copy_(curve)


def group_best(product: Tensor, curve: Tensor, terms: Terms, first: int) -> Tensor:
    """Key of the best of every GROUP candidates, [m,B/GROUP] int64; see `Best.merge` for the arguments."""
    (m, count), (scale, bits, place, price) = product.shape, terms
    groups = -(-count // GROUP)
    out = torch.empty((m, groups), dtype=torch.int64, device=product.device)
    _reduce[(m, triton.cdiv(groups, _GROUPS))](
        product, _alike(curve, product), product.stride(0), scale, scale.stride(0), place, price, bits, first, count,
        groups, out,
        GROUP=GROUP, GROUPS=_GROUPS, enable_fp_fusion=False,
    )  # fmt: skip
    return out


@triton.jit
def _halves(key):  # type: ignore[no-untyped-def]
    """A key as two int32 that sort like it; no score has the least integer, which stands for none."""
    empty = key <= _NO_KEY
    high, low = (key >> _BITS).to(tl.int32), (key & _LAST_ROW).to(tl.int32)
    return tl.where(empty, -(1 << 31), high), tl.where(empty, 0, low)


@triton.jit
def _no_less(high, low, top, rest):  # type: ignore[no-untyped-def]
    return (high > top) | ((high == top) & (low >= rest))


@triton.jit
def _cut(high, low, more_high, more_low, wanted):  # type: ignore[no-untyped-def]
    """The greatest key, in halves, that `wanted` keys of two lists are no less than; the least of all if none is."""
    least = tl.minimum(tl.min(high, axis=0), tl.min(more_high, axis=0)).to(tl.int64)
    most = tl.maximum(tl.max(high, axis=0), tl.max(more_high, axis=0)).to(tl.int64)
    while least < most:
        middle = least + (most - least + 1) // 2
        reached = tl.sum((high >= middle).to(tl.int32), axis=0) + tl.sum((more_high >= middle).to(tl.int32), axis=0)
        least = tl.where(reached >= wanted, middle, least)
        most = tl.where(reached > wanted, most, tl.where(reached == wanted, middle, middle - 1))
    top = least.to(tl.int32)
    reached = tl.sum((high >= top).to(tl.int32), axis=0) + tl.sum((more_high >= top).to(tl.int32), axis=0)
    rest = tl.full([], 0, tl.int32)
    most = tl.where(reached > wanted, _LAST_ROW, 0)  # the other halves matter where scores are equal
    while rest < most:
        middle = rest + (most - rest + 1) // 2
        reached = tl.sum(_no_less(high, low, top, middle).to(tl.int32), axis=0)
        reached += tl.sum(_no_less(more_high, more_low, top, middle).to(tl.int32), axis=0)
        rest = tl.where(reached >= wanted, middle, rest)
        most = tl.where(reached > wanted, most, tl.where(reached == wanted, middle, middle - 1))
    return top, rest


@triton.jit(do_not_specialize=["groups"])
def _best_groups(keys, groups, out, KEEP: tl.constexpr, GROUPS: tl.constexpr):  # type: ignore[no-untyped-def]
    """Numbers of the KEEP groups of the greatest keys, in their own order."""
    row = tl.program_id(0).to(tl.int64)
    group = tl.arange(0, GROUPS)
    high, low = _halves(tl.load(keys + row * groups + group, mask=group < groups, other=_NO_KEY))
    none = tl.full([1], -(1 << 31), tl.int32)
    top, rest = _cut(high, low, none, none, KEEP)
    taken = _no_less(high, low, top, rest) & (group < groups)
    place = tl.cumsum(taken.to(tl.int32), axis=0) - 1
    tl.store(out + row * KEEP + place, group, mask=taken & (place < KEEP))


@triton.jit(do_not_specialize=["count", "first", "listed"])
def _merge(  # type: ignore[no-untyped-def]
    so_far, listing, listed, product, curve, stride, scale, scale_stride, place, price, bits, first, count, out,
    KEEP: tl.constexpr, KEPT: tl.constexpr, LISTED: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    number = tl.arange(0, GROUPS * GROUP)
    group = number // GROUP
    if LISTED:
        group = tl.load(listing + row * listed + group, mask=group < listed, other=1 << 20)
    at = group * GROUP + number % GROUP
    inside = at < count
    cost = tl.load(bits + first + at, mask=inside, other=0.0)
    gain = _gain(
        product + row * stride, curve + row * stride, scale + tl.load(place + row) * scale_stride + first, at, inside
    )
    high = tl.where(inside, _ordered(gain - tl.load(price + row) * cost), -(1 << 31))
    low = tl.where(inside, _LAST_ROW - (first + at), 0)
    slot = tl.arange(0, KEPT)
    mine = tl.load(so_far + row * KEEP + slot, mask=slot < KEEP, other=_NO_KEY)
    mine_high, mine_low = _halves(mine)
    top, rest = _cut(high, low, mine_high, mine_low, KEEP)
    taken = _no_less(mine_high, mine_low, top, rest) & (mine_high > -(1 << 31))
    place = tl.cumsum(taken.to(tl.int32), axis=0) - 1
    tl.store(out + row * KEEP + place, mine, mask=taken)
    place = tl.sum(taken.to(tl.int32), axis=0) - 1
    taken = _no_less(high, low, top, rest) & inside
    place += tl.cumsum(taken.to(tl.int32), axis=0)
    tl.store(out + row * KEEP + place, (high.to(tl.int64) << _BITS) + low, mask=taken)
    filled = tl.max(place, axis=0) + 1
    tl.store(out + row * KEEP + slot, _NO_KEY, mask=(slot >= filled) & (slot < KEEP))


def merge_best(own: Tensor, groups: Tensor, block: tuple[Tensor, Tensor], terms: Terms, first: int) -> Tensor:
    """The best of the keys so far [m,keep] and of a block of candidates, [m,keep] int64, in any order.

    Args:
        groups: what `group_best` returned for the other arguments.   block: product and curve.
    """
    (product, curve), (m, keep), (scale, bits, place, price) = block, own.shape, terms
    count = product.shape[1]
    out = torch.empty_like(own, memory_format=torch.contiguous_format)
    if not m:
        return out
    listed = groups.shape[1] > keep
    listing = own
    if listed:
        listing = torch.empty((m, keep), dtype=torch.int32, device=own.device)
        wide = triton.next_power_of_2(groups.shape[1])
        _best_groups[(m,)](groups, groups.shape[1], listing, KEEP=keep, GROUPS=wide)
    number = triton.next_power_of_2(min(keep, groups.shape[1]))
    _merge[(m,)](
        own.contiguous(), listing, keep, product, _alike(curve, product), product.stride(0), scale, scale.stride(0),
        place.contiguous(), price, bits, first, count, out, KEEP=keep, KEPT=triton.next_power_of_2(keep), LISTED=listed,
        GROUP=GROUP, GROUPS=number, num_warps=8 if number > 32 else 4, enable_fp_fusion=False,
    )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["n"])
def _best_rows(  # type: ignore[no-untyped-def]
    keys, n, out, M: tl.constexpr, WIDE: tl.constexpr, KEEP: tl.constexpr, TILES: tl.constexpr
):  # type: ignore[no-untyped-def]
    tile = tl.program_id(0).to(tl.int64) * TILES + tl.arange(0, TILES)
    at = tl.arange(0, WIDE)[None, :]
    inside = (tile < n)[:, None] & (at < M)
    mine = tl.load(keys + tile[:, None] * M + at, mask=inside, other=_NO_KEY)
    rank = tl.zeros([TILES, WIDE], tl.int32)
    for other in range(M):
        theirs = tl.load(keys + tile * M + other, mask=tile < n, other=_NO_KEY)[:, None]
        rank += ((theirs > mine) | ((theirs == mine) & (other < at))).to(tl.int32)
    row = tl.where(mine > _NO_KEY, _LAST_ROW - (mine & _LAST_ROW), -1)
    tl.store(out + tile[:, None] * KEEP + rank, row, mask=inside & (rank < KEEP))


def best_rows(keys: Tensor, keep: int | None = None) -> Tensor:
    """Bank rows of the `keep` best keys of each tile [n,M], or of all, best first; -1 for none; int64."""
    n, m = keys.shape
    keep = m if keep is None else min(keep, m)
    if m > MOST_COMPARED:
        return key_rows(keys.topk(keep, dim=1).values)
    out = torch.empty((n, keep), dtype=torch.int64, device=keys.device)
    wide = triton.next_power_of_2(m)
    tiles = max(1, LANES // wide)
    if out.numel():
        _best_rows[(triton.cdiv(n, tiles),)](keys.contiguous(), n, out, M=m, WIDE=wide, KEEP=keep, TILES=tiles)
    return out


@triton.jit(do_not_specialize=["n"])
def _lowest(  # type: ignore[no-untyped-def]
    cost, n, out, M: tl.constexpr, WIDE: tl.constexpr, KEEP: tl.constexpr, TILES: tl.constexpr
):  # type: ignore[no-untyped-def]
    tile = tl.program_id(0).to(tl.int64) * TILES + tl.arange(0, TILES)
    at = tl.arange(0, WIDE)[None, :]
    left = (tile < n)[:, None] & (at < M)
    mine = tl.load(cost + tile[:, None] * M + at, mask=left, other=float("inf"))
    for k in range(KEEP):
        low = tl.min(tl.where(left, mine, float("inf")), axis=1)[:, None]
        index = tl.min(tl.where(left & (mine == low), at, WIDE), axis=1)
        tl.store(out + tile * KEEP + k, index.to(tl.int64), mask=tile < n)
        left = left & (at != index[:, None])


def lowest(cost: Tensor, keep: int) -> Tensor:
    """`Backend.lowest` of at most MOST_COMPARED values."""
    n, m = cost.shape
    keep = min(keep, m)
    out = torch.empty((n, keep), dtype=torch.int64, device=cost.device)
    wide = triton.next_power_of_2(m)
    tiles = max(1, LANES * RUN // wide)
    if out.numel():
        _lowest[(triton.cdiv(n, tiles),)](cost.contiguous(), n, out, M=m, WIDE=wide, KEEP=keep, TILES=tiles)
    return out


@triton.jit(do_not_specialize=["total", "m", "rows"])
def _rank(  # type: ignore[no-untyped-def]
    candidates, packed, weights, place, price, pixels, energies, scale, bits, total, m, rows, out,
    LENGTH: tl.constexpr, PAIRS: tl.constexpr, SPAN: tl.constexpr, ENERGIES: tl.constexpr, WIDE: tl.constexpr,
    FLAT: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    inside = pair < total
    row = tl.load(candidates + pair, mask=inside, other=-1)
    usable = row >= 0
    tile = (pair // m).to(tl.int64)
    products = tl.zeros([PAIRS, SPAN], tl.int32)
    for start in range(0, LENGTH, SPAN):
        at = (start + tl.arange(0, SPAN))[None, :]
        mask = usable[:, None] & (at < LENGTH)
        d = tl.load(pixels + row[:, None] * LENGTH + at, mask=mask, other=0).to(tl.int32)
        products += d * tl.load(packed + tile[:, None] * LENGTH + at, mask=mask, other=0).to(tl.int32)
    at = tl.arange(0, WIDE)[None, :]
    mask = usable[:, None] & (at < ENERGIES)
    bent = tl.load(energies + row[:, None] * ENERGIES + at, mask=mask, other=0).to(tl.int32)
    bent *= tl.load(weights + tile[:, None] * ENERGIES + at, mask=mask, other=0).to(tl.int32)
    curve = tl.sum(bent, axis=1).to(tl.float32)
    value = tl.sum(products, axis=1).to(tl.float32)
    own = tl.load(scale + tl.load(place + tile, mask=inside, other=0) * rows + row, mask=usable, other=0.0)
    usable = usable & ((own > 0.0) | FLAT)
    gain = tl.div_rn((value * value) * own, tl.where(usable, curve, 1.0))
    pay = tl.load(price + tile, mask=inside, other=0.0)
    score = gain - pay * tl.load(bits + row, mask=usable, other=0.0)
    tl.store(out + pair, tl.where(usable, _key(score, row), _NO_KEY), mask=inside)


def rank_again(candidates: Tensor, bank: BankTerms, bits: Tensor, own: TileTerms, *, with_flat: bool = False) -> Tensor:
    """Keys of candidates [n,M] as `sort_keys.score_keys` has them, [n,M] int64.

    The other arguments are those of `Backend.ranked`.

    Args:
        with_flat: flat rows are candidates, too.
    """
    out = torch.empty(candidates.shape, dtype=torch.int64, device=bits.device)
    length, energies = own.rows.shape[1], own.weights.shape[1]
    span = min(LANES, triton.next_power_of_2(length))
    pairs = LANES * RUN // span
    if out.numel():
        tile = (part.contiguous() for part in own)
        _rank[(triton.cdiv(out.numel(), pairs),)](
            candidates.contiguous(), *tile, *bank, bits, out.numel(), candidates.shape[1], bank.scale.stride(0), out,
            LENGTH=length, PAIRS=pairs, SPAN=span, ENERGIES=energies, WIDE=triton.next_power_of_2(energies),
            FLAT=with_flat, enable_fp_fusion=False,
        )  # fmt: skip
    return out


def rank_places(member: Tensor, cells: CellRows, bits: Tensor, own: TileTerms) -> Tensor:
    """`torch_cells.KeysOf`: of equal scores a key prefers the lower bank row, not the lower place."""
    keys = rank_again(member, cells.terms, bits[cells.rows], own, with_flat=True)
    rows = cells.rows[member.clamp(min=0)]
    return torch.where(member >= 0, (keys >> INDEX_BITS << INDEX_BITS) + ((1 << INDEX_BITS) - 1 - rows), NO_KEY)


@triton.jit(do_not_specialize=["total"])
def _once(  # type: ignore[no-untyped-def]
    owner, j, change, sets, total, every, once, K: tl.constexpr, WIDTH: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    """J of offers, and the change of J of those that are the best of their set, of others 0."""
    at = tl.program_id(0).to(tl.int64) * SPAN + tl.arange(0, SPAN)
    inside = at < total
    gain, made = tl.load(change + at, mask=inside, other=0.0), tl.load(sets + at, mask=inside, other=0)
    own, mine = tl.load(owner + at // K, mask=inside, other=-1), tl.load(j + at // K, mask=inside, other=0.0) + gain
    tl.store(every + at, mine, mask=inside)
    beaten = tl.zeros([SPAN], tl.int32)
    for away in range(1 - WIDTH * K, WIDTH * K):  # a tile has that many offers at most, all side by side
        other = at + away
        real = inside & (other >= 0) & (other < total)
        real &= tl.load(sets + other, mask=real, other=0) == made
        real &= tl.load(owner + other // K, mask=real, other=-2) == own
        theirs_gain = tl.load(change + other, mask=real, other=0.0)
        theirs = tl.load(j + other // K, mask=real, other=0.0) + theirs_gain
        before = (theirs < mine) | ((theirs == mine) & (away < 0))
        beaten += (real & (theirs_gain < 0.0) & before).to(tl.int32)
    tl.store(once + at, tl.where(beaten == 0, gain, 0.0), mask=inside)


@triton.jit(do_not_specialize=["total", "layer"])
def _offered(  # type: ignore[no-untyped-def]
    owner, every, once, total, layer, best_j, depth, best, table,
    K: tl.constexpr, WIDTH: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    at = tl.program_id(0).to(tl.int64) * SPAN + tl.arange(0, SPAN)
    inside = at < total
    own, mine = tl.load(owner + at // K, mask=inside, other=-1), tl.load(every + at, mask=inside, other=0.0)
    inside &= tl.load(once + at, mask=inside, other=0.0) < 0.0
    rank = tl.zeros([SPAN], tl.int32)
    for away in range(1 - WIDTH * K, WIDTH * K):
        other = at + away
        real = inside & (other >= 0) & (other < total)
        real &= tl.load(owner + other // K, mask=real, other=-2) == own
        real &= tl.load(once + other, mask=real, other=0.0) < 0.0
        theirs = tl.load(every + other, mask=real, other=0.0)
        before = (theirs < mine) | ((theirs == mine) & (away < 0))
        rank += (real & before).to(tl.int32)
    tl.store(table + own * WIDTH + rank, at, mask=inside & (rank < WIDTH))
    leads = inside & (rank == 0)
    leads &= mine < tl.load(best_j + own, mask=leads, other=0.0)
    tl.store(best_j + own, mine, mask=leads)
    tl.store(depth + own, (layer + 1).to(tl.int64) + tl.zeros([SPAN], tl.int64), mask=leads)
    tl.store(best + own, at, mask=leads)


def offered(
    owner: Tensor,
    j: Tensor,
    change: Tensor,
    sets: Tensor,
    width: int,
    layer: int,
    leads: Leads,
) -> tuple[Tensor, Tensor]:
    """`Backend.offered`, with the numbers of what is kept as [n,width], -1 for none."""
    every = torch.empty(change.numel(), dtype=torch.float64, device=j.device)
    table = torch.full((len(leads.j), width), -1, dtype=torch.int64, device=j.device)
    if change.numel():
        total, grid, once = change.numel(), (triton.cdiv(change.numel(), LANES),), torch.empty_like(every)
        owner, j, change, sets = (part.contiguous() for part in (owner, j, change, sets))
        _once[grid](
            owner, j, change, sets, total, every, once, K=change.shape[1], WIDTH=width, SPAN=LANES,
            enable_fp_fusion=False,
        )  # fmt: skip
        _offered[grid](
            owner, every, once, total, layer, *leads, table, K=change.shape[1], WIDTH=width, SPAN=LANES,
        )  # fmt: skip
    return every, table


@triton.jit(do_not_specialize=["n"])
def _pick(  # type: ignore[no-untyped-def]
    change, level, rows, bank, n, fields, level_out, change_out,
    M: tl.constexpr, WIDE: tl.constexpr, KEEP: tl.constexpr, KNOWN: tl.constexpr, FIELDS: tl.constexpr,
    COLUMNS: tl.constexpr, TILES: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    tile = tl.program_id(0).to(tl.int64) * TILES + tl.arange(0, TILES)
    at = tl.arange(0, WIDE)[None, :]
    real = tile < n
    left = real[:, None] & (at < M)
    mine = tl.load(change + tile[:, None] * M + at, mask=left, other=float("inf"))
    column = tl.arange(0, COLUMNS)[None, :]
    for k in range(KEEP):
        low = tl.min(tl.where(left, mine, float("inf")), axis=1)
        index = tl.min(tl.where(left & (mine == low[:, None]), at, WIDE), axis=1)
        left = left & (at != index[:, None])
        out = tile * KEEP + k
        tl.store(change_out + out, low, mask=real)
        tl.store(level_out + out, tl.load(level + tile * M + index, mask=real, other=0), mask=real)
        row = tl.maximum(tl.load(rows + tile * M + index, mask=real, other=0), 0)[:, None]
        known = tl.load(bank + row * KNOWN + column, mask=real[:, None] & (column < KNOWN), other=0)
        tl.store(fields + out[:, None] * FIELDS + column, known, mask=real[:, None] & (column < FIELDS))


def pick(
    change: Tensor, level: Tensor, rows: Tensor, bank: Tensor, width: int, keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    """`Backend.pick` of at most MOST_COMPARED candidates."""
    n, m = change.shape
    keep = min(keep, m)
    fields = torch.empty((n * keep, width), dtype=torch.int64, device=change.device)
    level_out, change_out = (torch.empty((n, keep), dtype=part.dtype, device=part.device) for part in (level, change))
    wide = triton.next_power_of_2(m)
    tiles = max(1, LANES // wide)
    if n:
        _pick[(triton.cdiv(n, tiles),)](
            change.contiguous(), level.contiguous(), rows.contiguous(), bank, n, fields, level_out, change_out,
            M=m, WIDE=wide, KEEP=keep, KNOWN=bank.shape[1], FIELDS=width, COLUMNS=triton.next_power_of_2(width),
            TILES=tiles,
        )  # fmt: skip
    return fields, level_out, change_out
