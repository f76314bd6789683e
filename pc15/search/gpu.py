"""What the search runs on a GPU as single kernels, in Triton: the picture so far, screening, exact scores.

Each does what loops in `kernels.py` do on a CPU and tensor operations beside their callers anywhere, with the same
result to the last bit: sums are of integers, in integers; all else is elementwise in the same sequence, and no kernel
may contract a product and a sum into one rounding.  Numbers that float32 cannot hold come in a tensor, since Triton
hands over an argument that is a Python float as float32.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pc15.proc.registry import COEFFICIENT_ONE, RMS_FLOOR
from pc15.search.base import Axis
from pc15.search.screen import GROUP, key_rows
from pc15.tiling import SAMPLE_MAX

_GROUPS = 16  # groups that one program instance reduces
_LANES = 128  # threads of a program instance: each has one SSIM block of one candidate
_LANES_LARGE = 512  # of tiles above _LARGE, of which there are few: an instance has one alone
_LARGE = 128
_MOST_PAIRS = 16
_RUN = 8  # neighbouring pixels that a thread reads at once
_PIXELS = 1024  # of a tile, that an instance works on where each is on its own

MOST_COMPARED = 1024
"""Values of a row that are compared with each other at most."""
MOST_KEPT = 128
"""Candidates of a tile that `merge_best` keeps at most."""

# ---------------------------------------------------------------- the picture so far


@triton.jit
def _own_pixels(TILE: tl.constexpr, SPAN: tl.constexpr):  # type: ignore[no-untyped-def]
    """(Number in the batch, pixels of the tile, which of them exist) of a program instance."""
    at = tl.program_id(1) * SPAN + tl.arange(0, SPAN)
    return tl.program_id(0).to(tl.int64), at, at < TILE * TILE


@triton.jit
def _in_planes(tile, at, mask, rows, cols, row_of, col_of, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    """`Canvas._at`."""
    down = tl.load(rows + tl.load(row_of + tile) * TILE + at // TILE, mask=mask, other=0)
    return down + tl.load(cols + tl.load(col_of + tile) * TILE + at % TILE, mask=mask, other=0)


@triton.jit
def _look(  # type: ignore[no-untyped-def]
    tiles, above, acc, rows, cols, row_of, col_of, out, TILE: tl.constexpr, SPAN: tl.constexpr
):  # type: ignore[no-untyped-def]
    i, at, mask = _own_pixels(TILE, SPAN)
    place = _in_planes(tl.load(tiles + i), at, mask, rows, cols, row_of, col_of, TILE)
    left = tl.load(above + place, mask=mask, other=0) - ((tl.load(acc + place, mask=mask, other=0) + (1 << 15)) >> 16)
    tl.store(out + i * (TILE * TILE) + at, left, mask=mask)


@triton.jit
def _put(  # type: ignore[no-untyped-def]
    tiles, acc, rows, cols, row_of, col_of, own, of, samples, new, old,
    ADD: tl.constexpr, CHANGED: tl.constexpr, MOST: tl.constexpr, TILE: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    i, at, mask = _own_pixels(TILE, SPAN)
    tile = tl.load(tiles + i)
    place = _in_planes(tile, at, mask, rows, cols, row_of, col_of, TILE)
    weight = tl.load(own + tl.load(of + tile) * (TILE * TILE) + at, mask=mask, other=0)
    before = tl.load(samples + tile * (TILE * TILE) + at, mask=mask, other=0)
    after = tl.load(new + i * (TILE * TILE) + at, mask=mask, other=0)
    if CHANGED:
        after -= tl.load(old + i * (TILE * TILE) + at, mask=mask, other=0)
    if ADD:
        after += before
    tl.store(samples + tile * (TILE * TILE) + at, after, mask=mask)
    change = tl.minimum(tl.maximum(after, -MOST), MOST) - tl.minimum(tl.maximum(before, -MOST), MOST)
    change *= weight
    tl.atomic_add(acc + place, change, mask=mask & (change != 0), sem="relaxed")


@triton.jit
def _show(e, cls, own, samples, SIGN: tl.constexpr, TILE: tl.constexpr, SPAN: tl.constexpr):  # type: ignore[no-untyped-def]
    i, at, mask = _own_pixels(TILE, SPAN)
    weight = tl.load(own + tl.load(cls + i) * (TILE * TILE) + at, mask=mask, other=0)
    here = i * (TILE * TILE) + at
    seen = (weight * tl.load(samples + here, mask=mask, other=0) + (1 << 15)) >> 16
    tl.store(e + here, tl.load(e + here, mask=mask, other=0) + SIGN * seen, mask=mask)


@triton.jit(do_not_specialize=["step"])
def _contribute(  # type: ignore[no-untyped-def]
    store, rms, at_row, row_stride, amp, step, out,
    BY_ROW: tl.constexpr, FLOOR: tl.constexpr, ONE: tl.constexpr, TILE: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    i, at, mask = _own_pixels(TILE, SPAN)
    row = tl.load(at_row + i * row_stride) if BY_ROW else i
    power = tl.load(rms + row)
    wanted = (tl.load(amp + i) * step) << 14
    # truncated towards zero
    factor = tl.minimum(tl.abs(wanted) // tl.maximum(power, 1), ONE).to(tl.int32)
    factor = tl.where(power >= FLOOR, tl.where(wanted < 0, -factor, factor), 0)
    drawn = tl.load(store + row * (TILE * TILE) + at, mask=mask, other=0).to(tl.int32)
    tl.store(out + i * (TILE * TILE) + at, (factor * drawn + (1 << 16)) >> 17, mask=mask)


def _each_pixel(n: int, tile: int) -> tuple[tuple[int, int], dict[str, int]]:
    """Grid and sizes of a kernel that has each pixel of n tiles on its own."""
    span = min(_PIXELS, triton.next_power_of_2(tile * tile))
    return (n, triton.cdiv(tile * tile, span)), {"TILE": tile, "SPAN": span}


def look(tiles: Tensor, above: Tensor, acc: Tensor, places: tuple[Tensor, Tensor, Tensor, Tensor], tile: int) -> Tensor:
    """`Canvas.look`, [n,T,T] int32.

    Args:
        above, acc: [S] int32, what the planes are above their bases, and the blend's accumulator.
        places: of rows and columns of tiles [R,T], [C,T], and which of these a tile has, [N], [N]; int64.
    """
    out = torch.empty((len(tiles), tile, tile), dtype=torch.int32, device=tiles.device)
    grid, sizes = _each_pixel(len(tiles), tile)
    if len(tiles):
        _look[grid](tiles.contiguous(), above, acc, *places, out, **sizes)
    return out


def put(
    tiles: Tensor,
    acc: Tensor,
    places: tuple[Tensor, Tensor, Tensor, Tensor],
    own: Tensor,
    of: Tensor,
    samples: Tensor,
    new: Tensor,
    old: Tensor | None = None,
    *,
    add: bool,
) -> None:
    """`Canvas.put`, or with `add` `Canvas.add`; acc and samples [N,T,T] change.  See `look`, `Windows`."""
    grid, sizes = _each_pixel(len(tiles), samples.shape[1])
    new = new.contiguous()
    if len(tiles):
        _put[grid](
            tiles.contiguous(), acc, *places, own, of, samples, new, new if old is None else old.contiguous(),
            ADD=add, CHANGED=old is not None, MOST=SAMPLE_MAX, **sizes,
        )  # fmt: skip


def show(e: Tensor, cls: Tensor, own: Tensor, samples: Tensor, sign: int) -> None:
    """`Canvas.show`: e [n,T,T] int32, contiguous, changes."""
    grid, sizes = _each_pixel(len(e), e.shape[1])
    if len(e):
        _show[grid](e, cls.contiguous(), own, samples.contiguous(), SIGN=sign, **sizes)


def contributions(store: Tensor, rms: Tensor, at: Tensor | None, amp: Tensor, step: int, tile: int) -> Tensor:
    """What layers add to the samples of their tiles, as the decoder computes it; [n,T,T] int32 Q12.

    Args:
        store: [R,T*T] int16 or int32 Q14, patterns without their mean.   rms: [R] int32 Q14.
        at: [n] int64, rows of these; None for all, in order.   amp: [n] int64, signed levels of `step`, Q15.
    """
    out = torch.empty((len(amp), tile, tile), dtype=torch.int32, device=amp.device)
    grid, sizes = _each_pixel(len(amp), tile)
    if len(amp):
        _contribute[grid](
            store.contiguous(), rms.contiguous(), amp if at is None else at, 1 if at is None else at.stride(0),
            amp.contiguous(), step, out, BY_ROW=at is not None, FLOOR=RMS_FLOOR, ONE=COEFFICIENT_ONE, **sizes,
        )  # fmt: skip
    return out


# ---------------------------------------------------------------- the surface under it


@triton.jit
def _joined(a, b, ramp, step, smooth):  # type: ignore[no-untyped-def]
    """(Level between two knots, share of the later one) as in `surface.surface`."""
    ahead = b - a
    sharp = tl.minimum(tl.maximum(tl.abs(ahead) - smooth, 0), smooth) * 256 // smooth
    share = ((sharp * (step - ramp) + 128) >> 8) + ramp
    return (a * 256 + ahead * share + 128) >> 8, share


@triton.jit
def _level(  # type: ignore[no-untyped-def]
    knots, row, col, row_mask, col_mask, ramp_y, step_y, ramp_x, step_x, smooth, ny, nx
):  # type: ignore[no-untyped-def]
    """(Level, share of the later column) at pixels after knots of some rows and columns."""
    below, right = tl.minimum(row + 1, ny - 1), tl.minimum(col + 1, nx - 1)
    mask = row_mask & col_mask
    a, b = tl.load(knots + row * nx + col, mask=mask, other=0), tl.load(knots + below * nx + col, mask=mask, other=0)
    before, _below = _joined(a, b, ramp_y, step_y, smooth)
    a = tl.load(knots + row * nx + right, mask=mask, other=0)
    b = tl.load(knots + below * nx + right, mask=mask, other=0)
    after, _below = _joined(a, b, ramp_y, step_y, smooth)
    return _joined(before, after, ramp_x, step_x, smooth)


@triton.jit(do_not_specialize=["height", "width", "ny", "nx", "smooth"])
def _surface(  # type: ignore[no-untyped-def]
    knots, out, before_y, ramps_y, steps_y, before_x, ramps_x, steps_x, height, width, ny, nx, smooth,
    SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    line = tl.program_id(0)
    plane, row = (line // height).to(tl.int64), line % height
    col = tl.program_id(1) * SPAN + tl.arange(0, SPAN)
    mask = col < width
    level, _share = _level(
        knots + plane * (ny * nx), tl.load(before_y + row), tl.load(before_x + col, mask=mask, other=0), True, mask,
        tl.load(ramps_y + row), tl.load(steps_y + row),
        tl.load(ramps_x + col, mask=mask, other=0), tl.load(steps_x + col, mask=mask, other=0), smooth, ny, nx,
    )  # fmt: skip
    tl.store(out + line.to(tl.int64) * width + col, level, mask=mask)


@triton.jit(do_not_specialize=["height", "width", "ny", "nx", "smooth", "norm_at"])
def _slopes(  # type: ignore[no-untyped-def]
    knots, rest, mine, out, norm_at, before_y, ramps_y, steps_y, first_y, last_y,
    before_x, ramps_x, steps_x, first_x, last_x, height, width, ny, nx, smooth,
    ROWS: tl.constexpr, COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    number = tl.program_id(0).to(tl.int64)
    if tl.load(mine + number):
        plane = number // (ny * nx)
        knot_y, knot_x = (number % (ny * nx)) // nx, number % nx
        own = knots + plane * (ny * nx)
        gradient, norm = tl.zeros([ROWS, COLS], tl.int64), tl.zeros([ROWS, COLS], tl.int64)
        top, bottom = tl.load(first_y + knot_y), tl.load(last_y + knot_y)
        while top < bottom:
            row = (top + tl.arange(0, ROWS))[:, None]
            real_y = row < bottom
            before = tl.load(before_y + row, mask=real_y, other=0)
            ramp_y, step_y = tl.load(ramps_y + row, mask=real_y, other=0), tl.load(steps_y + row, mask=real_y, other=0)
            a = tl.load(own + before * nx + knot_x, mask=real_y, other=0)
            b = tl.load(own + tl.minimum(before + 1, ny - 1) * nx + knot_x, mask=real_y, other=0)
            _height, below = _joined(a, b, ramp_y, step_y, smooth)
            down = tl.where(real_y, tl.where(before == knot_y, 256 - below, below), 0)
            left, right = tl.load(first_x + knot_x), tl.load(last_x + knot_x)
            while left < right:
                col = (left + tl.arange(0, COLS))[None, :]
                real_x = col < right
                ahead = tl.load(before_x + col, mask=real_x, other=0)
                ramp_x = tl.load(ramps_x + col, mask=real_x, other=0)
                step_x = tl.load(steps_x + col, mask=real_x, other=0)
                _depth, after = _level(
                    own, before, ahead, real_y, real_x, ramp_y, step_y, ramp_x, step_x, smooth, ny, nx
                )
                across = tl.where(real_x, tl.where(ahead == knot_x, 256 - after, after), 0)
                at = (plane * height + row) * width + col
                value = tl.load(rest + at, mask=real_y & real_x, other=0)
                gradient += value.to(tl.int64) * (down * across).to(tl.int64)
                norm += (down * down).to(tl.int64) * (across * across).to(tl.int64)
                left += COLS
            top += ROWS
        tl.store(out + number, tl.sum(tl.sum(gradient, axis=1), axis=0))
        tl.store(out + norm_at + number, tl.sum(tl.sum(norm, axis=1), axis=0))


def draw_surfaces(knots: Tensor, out: Tensor, axes: tuple[Axis, Axis], smooth: int) -> None:
    """Write `surface.surface` of planes of one size into out [planes*H*W] int32.

    Args:
        knots: [planes*N] int32 Q12.   smooth: `surface.least_sharp`.
    """
    down, across = axes
    height, width = len(down.before), len(across.before)
    grid = (len(out) // width, triton.cdiv(width, _LANES))
    _surface[grid](
        knots, out, down.before, down.ramp, down.step, across.before, across.ramp, across.step, height, width,
        len(down.first), len(across.first), smooth, SPAN=_LANES,
    )  # fmt: skip


def surface_slopes(
    knots: Tensor, rest: Tensor, mine: Tensor, out: Tensor, axes: tuple[Axis, Axis], smooth: int
) -> None:
    """Write `Surface.adjoint` and `Surface.norms` of those knots that `mine` has into out [2,planes*N] int64.

    Args:
        rest: [planes*H*W] int32.   The others as in `draw_surfaces`.
    """
    down, across = axes
    sides = [part for axis in axes for part in (axis.before, axis.ramp, axis.step, axis.first, axis.last)]
    _slopes[(len(knots),)](
        knots, rest, mine.to(torch.uint8), out, out.stride(0), *sides, len(down.before), len(across.before),
        len(down.first), len(across.first), smooth, ROWS=16, COLS=32,
    )  # fmt: skip


# ---------------------------------------------------------------- screening


@triton.jit
def _pack(  # type: ignore[no-untyped-def]
    e, cls, lin, prices, out, price,
    TILE: tl.constexpr, SIDE: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    i = tl.program_id(0).to(tl.int64)
    box = tl.arange(0, SPAN)
    inside = box < SIDE * SIDE
    corner = (box // SIDE) * (TILE // SIDE * TILE) + (box % SIDE) * (TILE // SIDE)
    e_at, weight_at = e + i * (TILE * TILE), lin + tl.load(cls + i) * (TILE * TILE)
    sums = tl.zeros([SPAN], tl.int64)
    for pixel in range((TILE // SIDE) * (TILE // SIDE)):
        at = corner + (pixel // (TILE // SIDE)) * TILE + pixel % (TILE // SIDE)
        left = tl.load(e_at + at, mask=inside, other=0).to(tl.int64)
        sums += tl.load(weight_at + at, mask=inside, other=0).to(tl.int64) * left
    # float64 holds the largest exactly: its exponent is the bit length, as `torch.frexp` has it
    peak = tl.max(tl.abs(sums), axis=0).to(tl.float64).to(tl.int64, bitcast=True)
    shift = tl.maximum((peak >> 52) - (1022 + 7), 0)
    one = tl.full([], 1, tl.int64)
    packed = (sums + ((one << shift) >> 1)) >> shift
    packed = tl.minimum(tl.maximum(packed, -127), 127)
    tl.store(out + i * (SIDE * SIDE) + box, packed.to(tl.int8), mask=inside)
    tl.store(price + i, tl.load(prices + shift))


def packed(e: Tensor, cls: Tensor, lin: Tensor, prices: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """`Scorer.packed`, for tiles whose side is a multiple of `side`.

    Args:
        e: [n,T,T] int32.   lin: see `Windows`.   prices: [64] float32, for every shift.
    """
    n, tile = e.shape[:2]
    out = torch.empty((n, side * side), dtype=torch.int8, device=e.device)
    price = torch.empty(n, dtype=torch.float32, device=e.device)
    if n:
        span = triton.next_power_of_2(side * side)
        _pack[(n,)](e.contiguous(), cls.contiguous(), lin, prices, out, price, TILE=tile, SIDE=side, SPAN=span)
    return out, price


@triton.jit
def _ordered(score):  # type: ignore[no-untyped-def]
    """float32 as integers of the same order."""
    raw = score.to(tl.int32, bitcast=True)
    return tl.where(raw < 0, raw ^ 0x7FFFFFFF, raw)


@triton.jit
def _key(score, row):  # type: ignore[no-untyped-def]
    """`screen.score_keys`."""
    return (_ordered(score).to(tl.int64) << 20) + ((1 << 20) - 1 - row)


@triton.jit
def _reduce(  # type: ignore[no-untyped-def]
    product, product_stride, inverse, inverse_stride, cls, price, bits, first, count, groups, out,
    GROUP: tl.constexpr, GROUPS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    group = tl.program_id(1) * GROUPS + tl.arange(0, GROUPS)
    at = group[:, None] * GROUP + tl.arange(0, GROUP)[None, :]
    inside = at < count
    value = tl.load(product + row * product_stride + at, mask=inside, other=0).to(tl.float32)
    norm = tl.load(inverse + tl.load(cls + row) * inverse_stride + first + at, mask=inside, other=0.0)
    cost = tl.load(bits + first + at, mask=inside, other=0.0)
    key = _key((value * value) * norm - tl.load(price + row) * cost, first + at)
    key = tl.where(inside, key, -(1 << 62))
    tl.store(out + row * groups + group, tl.max(key, axis=1), mask=group < groups)


def group_best(product: Tensor, inverse: Tensor, cls: Tensor, price: Tensor, bits: Tensor, first: int) -> Tensor:
    """Key of the best of every GROUP candidates, [m,B/GROUP] int64; see `screen.Best` for the arguments."""
    m, count = product.shape
    groups = -(-count // GROUP)
    out = torch.empty((m, groups), dtype=torch.int64, device=product.device)
    _reduce[(m, triton.cdiv(groups, _GROUPS))](
        product, product.stride(0), inverse, inverse.stride(0), cls, price, bits, first, count, groups, out,
        GROUP=GROUP, GROUPS=_GROUPS, enable_fp_fusion=False,
    )  # fmt: skip
    return out


@triton.jit
def _halves(key):  # type: ignore[no-untyped-def]
    """A key as two int32 that sort like it; no score has the least integer, which stands for none."""
    empty = key <= -(1 << 62)
    high, low = (key >> 20).to(tl.int32), (key & ((1 << 20) - 1)).to(tl.int32)
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
    most = tl.where(reached > wanted, (1 << 20) - 1, 0)  # the other halves matter where scores are equal
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
    high, low = _halves(tl.load(keys + row * groups + group, mask=group < groups, other=-(1 << 62)))
    none = tl.full([1], -(1 << 31), tl.int32)
    top, rest = _cut(high, low, none, none, KEEP)
    taken = _no_less(high, low, top, rest) & (group < groups)
    place = tl.cumsum(taken.to(tl.int32), axis=0) - 1
    tl.store(out + row * KEEP + place, group, mask=taken & (place < KEEP))


@triton.jit(do_not_specialize=["count", "first", "listed"])
def _merge(  # type: ignore[no-untyped-def]
    so_far, listing, listed, product, product_stride, inverse, inverse_stride, cls, price, bits, first, count, out,
    KEEP: tl.constexpr, KEPT: tl.constexpr, LISTED: tl.constexpr, GROUP: tl.constexpr, GROUPS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    number = tl.arange(0, GROUPS * GROUP)
    group = number // GROUP
    if LISTED:
        group = tl.load(listing + row * listed + group, mask=group < listed, other=1 << 20)
    at = group * GROUP + number % GROUP
    inside = at < count
    value = tl.load(product + row * product_stride + at, mask=inside, other=0).to(tl.float32)
    norm = tl.load(inverse + tl.load(cls + row) * inverse_stride + first + at, mask=inside, other=0.0)
    cost = tl.load(bits + first + at, mask=inside, other=0.0)
    high = tl.where(inside, _ordered((value * value) * norm - tl.load(price + row) * cost), -(1 << 31))
    low = tl.where(inside, (1 << 20) - 1 - (first + at), 0)
    slot = tl.arange(0, KEPT)
    mine = tl.load(so_far + row * KEEP + slot, mask=slot < KEEP, other=-(1 << 62))
    mine_high, mine_low = _halves(mine)
    top, rest = _cut(high, low, mine_high, mine_low, KEEP)
    taken = _no_less(mine_high, mine_low, top, rest) & (mine_high > -(1 << 31))
    place = tl.cumsum(taken.to(tl.int32), axis=0) - 1
    tl.store(out + row * KEEP + place, mine, mask=taken)
    place = tl.sum(taken.to(tl.int32), axis=0) - 1
    taken = _no_less(high, low, top, rest) & inside
    place += tl.cumsum(taken.to(tl.int32), axis=0)
    tl.store(out + row * KEEP + place, (high.to(tl.int64) << 20) + low, mask=taken)
    filled = tl.max(place, axis=0) + 1
    tl.store(out + row * KEEP + slot, -(1 << 62), mask=(slot >= filled) & (slot < KEEP))


def merge_best(
    own: Tensor,
    groups: Tensor,
    product: Tensor,
    inverse: Tensor,
    cls: Tensor,
    price: Tensor,
    bits: Tensor,
    first: int,
) -> Tensor:
    """The best of the keys so far [m,keep] and of a block of candidates, [m,keep] int64, in any order.

    Args:
        groups: what `group_best` returned for the other arguments.
    """
    (m, keep), count = own.shape, product.shape[1]
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
        own.contiguous(), listing, keep, product, product.stride(0), inverse, inverse.stride(0), cls.contiguous(),
        price, bits, first, count, out, KEEP=keep, KEPT=triton.next_power_of_2(keep), LISTED=listed,
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
    mine = tl.load(keys + tile[:, None] * M + at, mask=inside, other=-(1 << 62))
    rank = tl.zeros([TILES, WIDE], tl.int32)
    for other in range(M):
        theirs = tl.load(keys + tile * M + other, mask=tile < n, other=-(1 << 62))[:, None]
        rank += ((theirs > mine) | ((theirs == mine) & (other < at))).to(tl.int32)
    row = tl.where(mine > -(1 << 62), (1 << 20) - 1 - (mine & ((1 << 20) - 1)), -1)
    tl.store(out + tile[:, None] * KEEP + rank, row, mask=inside & (rank < KEEP))


def best_rows(keys: Tensor, keep: int | None = None) -> Tensor:
    """Bank rows of the `keep` best keys of each tile [n,M], or of all, best first; -1 for none; int64."""
    n, m = keys.shape
    keep = m if keep is None else min(keep, m)
    if m > MOST_COMPARED:
        return key_rows(keys.topk(keep, dim=1).values)
    out = torch.empty((n, keep), dtype=torch.int64, device=keys.device)
    wide = triton.next_power_of_2(m)
    tiles = max(1, _LANES // wide)
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
    """`score.lowest_few`."""
    n, m = cost.shape
    keep = min(keep, m)
    out = torch.empty((n, keep), dtype=torch.int64, device=cost.device)
    wide = triton.next_power_of_2(m)
    tiles = max(1, _LANES * _RUN // wide)
    if out.numel():
        _lowest[(triton.cdiv(n, tiles),)](cost.contiguous(), n, out, M=m, WIDE=wide, KEEP=keep, TILES=tiles)
    return out


@triton.jit(do_not_specialize=["total", "m"])
def _rank(  # type: ignore[no-untyped-def]
    candidates, packed, pixels, quad, cls, price, bits, total, m, out,
    LENGTH: tl.constexpr, PAIRS: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    inside = pair < total
    row = tl.load(candidates + pair, mask=inside, other=-1)
    usable = row >= 0
    tile = (pair // m).to(tl.int64)
    place = tl.load(cls + tile, mask=inside, other=0)
    products = tl.zeros([PAIRS, SPAN], tl.int32)
    norms = tl.zeros([PAIRS, SPAN], tl.int64)
    for start in range(0, LENGTH, SPAN):
        at = (start + tl.arange(0, SPAN))[None, :]
        mask = usable[:, None] & (at < LENGTH)
        d = tl.load(pixels + row[:, None] * LENGTH + at, mask=mask, other=0).to(tl.int32)
        products += d * tl.load(packed + tile[:, None] * LENGTH + at, mask=mask, other=0).to(tl.int32)
        norms += (d * d).to(tl.int64) * tl.load(quad + place[:, None] * LENGTH + at, mask=mask, other=0)
    value = tl.sum(products, axis=1).to(tl.float32)
    norm = tl.sum(norms, axis=1)
    usable = usable & (norm > 0)
    inverse = (1.0 / tl.where(usable, norm, 1).to(tl.float64)).to(tl.float32)
    pay = tl.load(price + tile, mask=inside, other=0.0)
    score = (value * value) * inverse - pay * tl.load(bits + row, mask=usable, other=0.0)
    tl.store(out + pair, tl.where(usable, _key(score, row), -(1 << 62)), mask=inside)


def rank_again(
    candidates: Tensor, packed: Tensor, pixels: Tensor, quad: Tensor, cls: Tensor, price: Tensor, bits: Tensor
) -> Tensor:
    """Keys of `kernels.rank_again`'s scores, [n,M] int64, as `screen.score_keys` has them; see there for arguments."""
    n, m = candidates.shape
    out = torch.empty((n, m), dtype=torch.int64, device=packed.device)
    length = packed.shape[1]
    span = min(_LANES, triton.next_power_of_2(length))
    pairs = _LANES * _RUN // span
    if out.numel():
        _rank[(triton.cdiv(out.numel(), pairs),)](
            candidates.contiguous(), packed, pixels, quad, cls, price, bits, out.numel(), m, out,
            LENGTH=length, PAIRS=pairs, SPAN=span, enable_fp_fusion=False,
        )  # fmt: skip
    return out


@triton.jit(do_not_specialize=["total", "layer"])
def _offered(  # type: ignore[no-untyped-def]
    owner, j, change, total, layer, best_j, depth, best, every, table,
    K: tl.constexpr, WIDTH: tl.constexpr, SPAN: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    at = tl.program_id(0).to(tl.int64) * SPAN + tl.arange(0, SPAN)
    inside = at < total
    gain = tl.load(change + at, mask=inside, other=0.0)
    own, mine = tl.load(owner + at // K, mask=inside, other=-1), tl.load(j + at // K, mask=inside, other=0.0) + gain
    tl.store(every + at, mine, mask=inside)
    inside &= gain < 0.0
    rank = tl.zeros([SPAN], tl.int32)
    for away in range(1 - WIDTH * K, WIDTH * K):  # a tile has that many offers at most, all side by side
        other = at + away
        real = inside & (other >= 0) & (other < total)
        real &= tl.load(owner + other // K, mask=real, other=-2) == own
        gain = tl.load(change + other, mask=real, other=0.0)
        theirs = tl.load(j + other // K, mask=real, other=0.0) + gain
        before = (theirs < mine) | ((theirs == mine) & (away < 0))
        rank += (real & (gain < 0.0) & before).to(tl.int32)
    tl.store(table + own * WIDTH + rank, at, mask=inside & (rank < WIDTH))
    leads = inside & (rank == 0)
    leads &= mine < tl.load(best_j + own, mask=leads, other=0.0)
    tl.store(best_j + own, mine, mask=leads)
    tl.store(depth + own, (layer + 1).to(tl.int64) + tl.zeros([SPAN], tl.int64), mask=leads)
    tl.store(best + own, at, mask=leads)


def offered(
    owner: Tensor, j: Tensor, change: Tensor, width: int, layer: int, best_j: Tensor, depth: Tensor, best: Tensor
) -> tuple[Tensor, Tensor]:
    """`plane.Leaders.offered`: (J of the offers [S*K], numbers of those that are kept [n,width], -1 for none)."""
    every = torch.empty(change.numel(), dtype=torch.float64, device=j.device)
    table = torch.full((len(best_j), width), -1, dtype=torch.int64, device=j.device)
    if change.numel():
        _offered[(triton.cdiv(change.numel(), _LANES),)](
            owner.contiguous(), j.contiguous(), change.contiguous(), change.numel(), layer, best_j, depth, best,
            every, table, K=change.shape[1], WIDTH=width, SPAN=_LANES, enable_fp_fusion=False,
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
    """The `keep` candidates of lowest change of each tile, ties in order.

    Returns: fields [n*keep,width], level [n,keep], change [n,keep].

    Args:
        change, level: [n,M] float64, int64.   rows: [n,M] int64, bank rows; -1 has the fields of row 0.
        bank: [K,F] int64, fields of every row; zeros follow up to `width`.
    """
    n, m = change.shape
    keep = min(keep, m)
    fields = torch.empty((n * keep, width), dtype=torch.int64, device=change.device)
    level_out, change_out = (torch.empty((n, keep), dtype=part.dtype, device=part.device) for part in (level, change))
    wide = triton.next_power_of_2(m)
    tiles = max(1, _LANES // wide)
    if n:
        _pick[(triton.cdiv(n, tiles),)](
            change.contiguous(), level.contiguous(), rows.contiguous(), bank, n, fields, level_out, change_out,
            M=m, WIDE=wide, KEEP=keep, KNOWN=bank.shape[1], FIELDS=width, COLUMNS=triton.next_power_of_2(width),
            TILES=tiles,
        )  # fmt: skip
    return fields, level_out, change_out


# ---------------------------------------------------------------- exact scores


@triton.jit
def _whole(values):  # type: ignore[no-untyped-def]
    """The nearest whole number, the even one on a tie, of float64 below 2^51."""
    return (values + 6755399441055744.0) - 6755399441055744.0


@triton.jit
def _mean(sums, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    """Of the pixels of an SSIM block; by a product where that is exact."""
    if (BLOCK & (BLOCK - 1)) == 0:
        return sums.to(tl.float64) * (1.0 / (BLOCK * BLOCK))
    else:
        return sums.to(tl.float64) / (1.0 * (BLOCK * BLOCK))


@triton.jit
def _ssim(mx, my, sx, sy, sxy, c1, c2):  # type: ignore[no-untyped-def]
    luminance = (mx * my * 2.0 + c1) / (mx * mx + my * my + c1)
    structure = (sxy * 2.0 + c2) / (sx + sy + c2)
    return luminance * structure


@triton.jit
def _places(  # type: ignore[no-untyped-def]
    first, usable, TILE: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, COLS: tl.constexpr
):  # type: ignore[no-untyped-def]
    """Where in a tile the first rows of BLOCKS SSIM blocks lie, and which of them to read; [PAIRS,BLOCKS,COLS]."""
    block = first + tl.arange(0, BLOCKS)
    column = tl.arange(0, COLS)
    across = TILE // BLOCK
    corner = (block // across) * (BLOCK * TILE) + (block % across) * BLOCK
    real = (block < across * across)[:, None] & (column < BLOCK)[None, :]
    return corner[None, :, None] + column[None, None, :], usable[:, None, None] & real[None, :, :]


@triton.jit
def _picture(  # type: ignore[no-untyped-def]
    e, x, own, tile, place, first, usable, c1, c2,
    TILE: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    """Of BLOCKS SSIM blocks: means, variances, covariance of x and x - e, their SSIM, area; float64 [PAIRS,BLOCKS]."""
    corner, mask = _places(first, usable, TILE, BLOCK, BLOCKS, COLS)
    at, weight_at = tile[:, None, None] * (TILE * TILE) + corner, place[:, None, None] * (TILE * TILE) + corner
    tx = tl.zeros([tile.shape[0], BLOCKS], tl.int64)
    ty, txx, tyy, txy, area = tx, tx, tx, tx, tx
    for row in range(BLOCK):
        u32 = tl.load(x + at + row * TILE, mask=mask, other=0).to(tl.int32)
        v32 = u32 - tl.load(e + at + row * TILE, mask=mask, other=0).to(tl.int32)
        u, v = u32.to(tl.int64), v32.to(tl.int64)
        tx += tl.sum(u, axis=2)
        ty += tl.sum(v, axis=2)
        txx += tl.sum(u * u, axis=2)
        tyy += tl.sum(v * v, axis=2)
        txy += tl.sum(u * v, axis=2)
        area += tl.sum(tl.load(own + weight_at + row * TILE, mask=mask, other=0).to(tl.int64), axis=2)
    mx, my = _mean(tx, BLOCK), _mean(ty, BLOCK)
    sx, sy = _mean(txx, BLOCK) - mx * mx, _mean(tyy, BLOCK) - my * my
    sxy = _mean(txy, BLOCK) - mx * my
    return mx, my, sx, sy, sxy, _ssim(mx, my, sx, sy, sxy, c1, c2), area.to(tl.float64) * (1.0 / 65536)


@triton.jit
def _pattern(  # type: ignore[no-untyped-def]
    e, x, own, store, tile, place, pattern, first, usable,
    SHIFT: tl.constexpr, TILE: tl.constexpr, BLOCK: tl.constexpr, BLOCKS: tl.constexpr, COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    """Means of w d, (w d)^2, w d x and w d (x - e) over BLOCKS SSIM blocks, float64 [PAIRS,BLOCKS]."""
    corner, mask = _places(first, usable, TILE, BLOCK, BLOCKS, COLS)
    at, weight_at = tile[:, None, None] * (TILE * TILE) + corner, place[:, None, None] * (TILE * TILE) + corner
    pattern_at = pattern[:, None, None] * (TILE * TILE) + corner
    p = tl.zeros([tile.shape[0], BLOCKS], tl.int64)
    pp, xp, yp = p, p, p
    for row in range(BLOCK):
        d = tl.load(store + pattern_at + row * TILE, mask=mask, other=0).to(tl.int32) >> SHIFT
        u = tl.load(x + at + row * TILE, mask=mask, other=0).to(tl.int32)
        v = u - tl.load(e + at + row * TILE, mask=mask, other=0).to(tl.int32)
        w = tl.load(own + weight_at + row * TILE, mask=mask, other=0) >> 4
        wd = (w * d).to(tl.int64)  # below 2^27: 32 bits times 32 bits is one instruction
        p += tl.sum(wd, axis=2)
        pp += tl.sum(wd * wd, axis=2)
        xp += tl.sum(wd * u.to(tl.int64), axis=2)
        yp += tl.sum(wd * v.to(tl.int64), axis=2)
    return _mean(p, BLOCK), _mean(pp, BLOCK), _mean(xp, BLOCK), _mean(yp, BLOCK)


@triton.jit(do_not_specialize=["total", "m"])
def _exact(  # type: ignore[no-untyped-def]
    e, x, cls, lin, quad, own, store, patterns, rms, address, amp_cost, numbers, total, m, change, level_out,
    TILE: tl.constexpr, DROP: tl.constexpr, TOP: tl.constexpr, SSIM: tl.constexpr, BLOCK: tl.constexpr,
    BY_ROW: tl.constexpr, SHIFT: tl.constexpr, PAIRS: tl.constexpr, SPAN: tl.constexpr, BLOCKS: tl.constexpr,
    COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    delta, mse_weight, alpha = tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2)
    bit_price, c1, c2 = tl.load(numbers + 3), tl.load(numbers + 4), tl.load(numbers + 5)
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    inside = pair < total
    pattern = tl.load(patterns + pair, mask=inside, other=-1)
    about = pattern if BY_ROW else pair
    unit = tl.load(rms + about, mask=inside & (pattern >= 0), other=0.0)
    usable = unit > 0.0
    unit = tl.where(usable, unit, 1.0)
    tile = (pair // m).to(tl.int64)
    place = tl.load(cls + tile, mask=usable, other=0)

    products = tl.zeros([PAIRS, SPAN], tl.int64)
    powers = tl.zeros([PAIRS, SPAN], tl.int64)
    for start in range(0, TILE * TILE, SPAN):
        at = (start + tl.arange(0, SPAN))[None, :]
        mask = usable[:, None] & (at < TILE * TILE)
        weight_at = place[:, None] * (TILE * TILE) + at
        d = tl.load(store + pattern[:, None] * (TILE * TILE) + at, mask=mask, other=0).to(tl.int32) >> SHIFT
        left = tl.load(e + tile[:, None] * (TILE * TILE) + at, mask=mask, other=0).to(tl.int32).to(tl.int64)
        products += ((tl.load(lin + weight_at, mask=mask, other=0).to(tl.int64) * left) >> DROP) * d.to(tl.int64)
        weight = tl.load(quad + weight_at, mask=mask, other=0) >> DROP
        powers += weight.to(tl.int64) * (d * d).to(tl.int64)
    linear = tl.sum(products, axis=1).to(tl.float64) * (2.0 ** (DROP - 28)) / unit
    norm = tl.sum(powers, axis=1).to(tl.float64) * (2.0 ** (DROP - 16)) / unit / unit
    usable = usable & (norm > 0.0)
    norm = tl.where(usable, norm, 1.0)

    near = tl.minimum(tl.floor(tl.abs(linear / norm) / delta + 0.5), TOP + 1.0).to(tl.int32)
    negative = (linear < 0.0).to(tl.int32)
    sign = 1 - 2 * negative
    low, high = tl.minimum(tl.maximum(near - 1, 1), TOP), tl.minimum(tl.maximum(near, 1), TOP)
    a, b = (low * sign).to(tl.float64) * delta, (high * sign).to(tl.float64) * delta
    low_j = (a * a * norm - a * linear * 2.0) * mse_weight
    high_j = (b * b * norm - b * linear * 2.0) * mse_weight
    if SSIM:
        low_loss = tl.zeros([PAIRS], tl.float64)
        high_loss = tl.zeros([PAIRS], tl.float64)
        scale, s, t = (1.0 / unit)[:, None], a[:, None], b[:, None]
        for first in range(0, (TILE // BLOCK) * (TILE // BLOCK), BLOCKS):
            mx, my, sx, sy, sxy, base, area = _picture(
                e, x, own, tile, place, first, usable, c1, c2, TILE, BLOCK, BLOCKS, COLS
            )
            p, pp, xp, yp = _pattern(
                e, x, own, store, tile, place, pattern, first, usable, SHIFT, TILE, BLOCK, BLOCKS, COLS
            )
            p = p * scale
            pp = pp * (scale * scale) - p * p
            xp = xp * scale - mx * p
            yp = yp * scale - my * p
            new = _ssim(mx, my + s * p, sx, sy + s * yp * 2.0 + s * s * pp, sxy + s * xp, c1, c2)
            low_loss += tl.sum(_whole((base - new) * area * 1073741824.0), axis=1)
            new = _ssim(mx, my + t * p, sx, sy + t * yp * 2.0 + t * t * pp, sxy + t * xp, c1, c2)
            high_loss += tl.sum(_whole((base - new) * area * 1073741824.0), axis=1)
        low_j = low_j + low_loss * (2.0**-30) * alpha
        high_j = high_j + high_loss * (2.0**-30) * alpha
    spent = tl.load(address + about, mask=usable, other=0).to(tl.int64)
    costs = amp_cost + negative * (TOP + 1)
    low_j = low_j + (spent + tl.load(costs + low)).to(tl.float64) * bit_price
    high_j = high_j + (spent + tl.load(costs + high)).to(tl.float64) * bit_price
    level = tl.where(high_j < low_j, high, low)
    j = tl.where(high_j < low_j, high_j, low_j)
    tl.store(change + pair, tl.where(usable, j, float("inf")), mask=inside)
    tl.store(level_out + pair, tl.where(usable, level * sign, 0).to(tl.int64), mask=inside)


@triton.jit(do_not_specialize=["total"])
def _distortion(  # type: ignore[no-untyped-def]
    e, x, cls, square, own, numbers, total, out,
    TILE: tl.constexpr, SSIM: tl.constexpr, BLOCK: tl.constexpr,
    PAIRS: tl.constexpr, SPAN: tl.constexpr, BLOCKS: tl.constexpr, COLS: tl.constexpr,
):  # type: ignore[no-untyped-def] # fmt: skip
    mse_weight, alpha = tl.load(numbers + 1), tl.load(numbers + 2)
    c1, c2 = tl.load(numbers + 4), tl.load(numbers + 5)
    tile = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    inside = tile < total
    place = tl.load(cls + tile, mask=inside, other=0)
    squares = tl.zeros([PAIRS, SPAN], tl.int64)
    for start in range(0, TILE * TILE, SPAN):
        at = (start + tl.arange(0, SPAN))[None, :]
        mask = inside[:, None] & (at < TILE * TILE)
        left = tl.load(e + tile[:, None] * (TILE * TILE) + at, mask=mask, other=0).to(tl.int32).to(tl.int64)
        weight = tl.load(square + place[:, None] * (TILE * TILE) + at, mask=mask, other=0)
        squares += weight.to(tl.int64) * (left * left)
    j = tl.sum(squares, axis=1).to(tl.float64) * (mse_weight * (2.0**-40))
    if SSIM:
        loss = tl.zeros([PAIRS], tl.float64)
        for first in range(0, (TILE // BLOCK) * (TILE // BLOCK), BLOCKS):
            _mx, _my, _sx, _sy, _sxy, ssim, area = _picture(
                e, x, own, tile, place, first, inside, c1, c2, TILE, BLOCK, BLOCKS, COLS
            )
            loss += tl.sum(_whole((area - ssim * area) * 1073741824.0), axis=1)
        j = j + loss * (alpha * (2.0**-30))
    tl.store(out + tile, j, mask=inside)


def _shape(tile: int, block: int) -> dict[str, int]:
    """How a program instance shares out pairs of a tile and a candidate, or tiles: see `_LANES`."""
    lanes = _LANES if tile <= _LARGE else _LANES_LARGE
    blocks = min(lanes, triton.next_power_of_2((tile // block) ** 2))
    if 1 < blocks < 8:  # more pairs of few blocks make layouts that Triton 3.6 fails on
        lanes = _MOST_PAIRS * blocks
    sizes = {"PAIRS": lanes // blocks, "SPAN": _RUN * blocks, "BLOCKS": blocks, "COLS": triton.next_power_of_2(block)}
    return {"TILE": tile, "BLOCK": block, **sizes, "num_warps": lanes // 32}


def score_exactly(
    e: Tensor,
    x: Tensor,
    cls: Tensor,
    lin: Tensor,
    quad: Tensor,
    own: Tensor,
    drop: int,
    store: Tensor,
    at: Tensor,
    rms: Tensor,
    address: Tensor,
    amp_cost: Tensor,
    numbers: Tensor,
    block: int,
    *,
    ssim: bool,
    by_row: bool = False,
    shift: int = 0,
) -> tuple[Tensor, Tensor]:
    """What `kernels.score_exactly` writes, ([n,M] float64, [n,M] int64); see there for the arguments.

    Args:
        numbers: float64 delta, mse_weight, alpha, bit_price, c1, c2.   block: side of the SSIM blocks.
        ssim: whether alpha is above 0.
        by_row: `rms` and `address` are of the store's rows [R], not of the candidates; row -1 is none.
        shift: bits that values of the store are to lose.
    """
    n, m = at.shape
    change = torch.empty((n, m), dtype=torch.float64, device=e.device)
    level = torch.empty((n, m), dtype=torch.int64, device=e.device)
    shape = _shape(e.shape[1], block)
    if at.numel():
        tensors = (e, x, cls, lin, quad, own, store, at, rms, address, amp_cost, numbers)
        _exact[(triton.cdiv(at.numel(), shape["PAIRS"]),)](
            *(t.contiguous() for t in tensors), at.numel(), m, change, level,
            DROP=drop, TOP=amp_cost.shape[1] - 1, SSIM=ssim, BY_ROW=by_row, SHIFT=shift, **shape,
            enable_fp_fusion=False,
        )  # fmt: skip
    return change, level


def distortion(
    e: Tensor, x: Tensor, cls: Tensor, square: Tensor, own: Tensor, numbers: Tensor, block: int, *, ssim: bool
) -> Tensor:
    """`Scorer.distortion`, [n] float64; for the arguments see there, `Windows` and `score_exactly`."""
    out = torch.empty(len(e), dtype=torch.float64, device=e.device)
    shape = _shape(e.shape[1], block)
    if len(e):
        tensors = (e, x, cls, square, own, numbers)
        _distortion[(triton.cdiv(len(e), shape["PAIRS"]),)](
            *(t.contiguous() for t in tensors), len(e), out, SSIM=ssim, **shape, enable_fp_fusion=False
        )
    return out
