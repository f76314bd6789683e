"""The picture so far: what tiles see of it, and what they draw; see `Backend`."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from pc15.proc.registry import COEFFICIENT_ONE, RMS_FLOOR
from pc15.search.backend.protocol import BlendedTiles, DrawnLayers, Places
from pc15.tiling import SAMPLE_MAX

_PIXELS = 1024  # of a tile, that an instance works on where each is on its own


@triton.jit
def _own_pixels(TILE: tl.constexpr, SPAN: tl.constexpr):  # type: ignore[no-untyped-def]
    """(Number in the batch, pixels of the tile, which of them exist) of a program instance."""
    at = tl.program_id(1) * SPAN + tl.arange(0, SPAN)
    return tl.program_id(0).to(tl.int64), at, at < TILE * TILE


@triton.jit
def _in_planes(tile, at, mask, rows, cols, row_of, col_of, TILE: tl.constexpr):  # type: ignore[no-untyped-def]
    """Place of samples of a tile among those of all planes."""
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


def look(tiles: Tensor, above: Tensor, acc: Tensor, places: Places, tile: int) -> Tensor:
    out = torch.empty((len(tiles), tile, tile), dtype=torch.int32, device=tiles.device)
    grid, sizes = _each_pixel(len(tiles), tile)
    if len(tiles):
        _look[grid](tiles.contiguous(), above, acc, *places, out, **sizes)
    return out


def put(tiles: Tensor, canvas: BlendedTiles, new: Tensor, old: Tensor | None = None, *, add: bool) -> None:
    acc, places, own, of, samples = canvas
    grid, sizes = _each_pixel(len(tiles), samples.shape[1])
    new = new.contiguous()
    if len(tiles):
        _put[grid](
            tiles.contiguous(), acc, *places, own, of, samples, new, new if old is None else old.contiguous(),
            ADD=add, CHANGED=old is not None, MOST=SAMPLE_MAX, **sizes,
        )  # fmt: skip


def show(e: Tensor, cls: Tensor, own: Tensor, samples: Tensor, sign: int) -> None:
    grid, sizes = _each_pixel(len(e), e.shape[1])
    if len(e):
        _show[grid](e, cls.contiguous(), own, samples.contiguous(), SIGN=sign, **sizes)


def contributions(layers: DrawnLayers, tile: int) -> Tensor:
    store, rms, at, amp, step = layers
    out = torch.empty((len(amp), tile, tile), dtype=torch.int32, device=amp.device)
    grid, sizes = _each_pixel(len(amp), tile)
    if len(amp):
        _contribute[grid](
            store.contiguous(), rms.contiguous(), amp if at is None else at, 1 if at is None else at.stride(0),
            amp.contiguous(), step, out, BY_ROW=at is not None, FLOOR=RMS_FLOOR, ONE=COEFFICIENT_ONE, **sizes,
        )  # fmt: skip
    return out
