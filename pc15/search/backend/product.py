"""int8 products of tiles with all candidates: the one operation that an exhaustive search spends its time in.

`Product` holds candidates in the layout that the machine's fastest exact product wants and hands results out in
blocks that stay in the cache.  Exact means what it says: before a product is trusted, it multiplies matrices of
extreme values, because some CPUs without dot-product instructions saturate in between.  Of those that pass, the fastest
one serves.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

_LOG = logging.getLogger(__name__)

BLOCK = 4096  # candidates per product on a CPU
BLOCK_GPU = 1 << 17  # one block of nearly any bank: what is kept of each block is sorted, which costs more than memory
_LEAST_TILES, _LEAST_ROWS = 2, 256
"""Smallest product that oneDNN is given: smaller ones fall back to plain loops, up to 600 times as slow (torch 2.13, a
CPU with AMX: 29 ms for one tile of 256 px by 4,096 candidates, 0.05 ms for two)."""
_HOPELESS_S = 1e-3  # for 8 x 16 products of at most _EXACT_PIXELS: some libraries fall back to plain loops
_EXACT_PIXELS = 1 << 10  # 127 * 127 * 2^10 < 2^24: float32 holds every sum

_Multiply = Callable[[Tensor], Tensor]


class Product:
    """Candidates [K,P] int8, ready to be multiplied."""

    def __init__(self, pixels: Tensor) -> None:
        self.rows = pixels.shape[0]
        self.cuda = pixels.is_cuda
        size = BLOCK_GPU if self.cuda else BLOCK
        kind = _on_cuda if self.cuda else _fastest(pixels.shape[1])
        self._kind, self._pixels = kind, pixels
        self._blocks = [(first, kind(pixels[first : first + size])) for first in range(0, self.rows, size)]

    @property
    def count(self) -> int:
        """Number of blocks."""
        return len(self._blocks)

    def whole(self, tiles: Tensor) -> Tensor:
        """Exact products [n,K] of tiles [n,P] int8, int32 or float32."""
        return self._at_once(tiles)

    @functools.cached_property
    def _at_once(self) -> _Multiply:
        """All blocks as one: what is put together from several is written twice."""
        return self._blocks[0][1] if self.count == 1 else self._kind(self._pixels)

    def blocks(self, tiles: Tensor, own: range | None = None) -> Iterator[tuple[int, Tensor]]:
        """(first candidate, exact products [n, candidates of it], int32 or float32) of tiles [n,P] int8.

        Args:
            own: which blocks; None for all.
        """
        for i in range(self.count) if own is None else own:
            first, multiply = self._blocks[i]
            yield first, multiply(tiles)


def _on_cuda(pixels: Tensor) -> _Multiply:
    """The GPU's kernel wants sides that are multiples of 8, or of 16, and at least 32 rows."""
    rows, length = pixels.shape
    ready = torch.nn.functional.pad(pixels, (0, -length % 8, 0, -rows % 16)).contiguous()

    def multiply(tiles: Tensor) -> Tensor:
        n = tiles.shape[0]
        more = max(32, -(-n // 8) * 8) - n
        if more or ready.shape[1] != length:
            tiles = torch.nn.functional.pad(tiles, (0, ready.shape[1] - length, 0, more))
        return torch._int_mm(tiles.contiguous(), ready.t())[:n, :rows]

    return multiply


def _prepacked(pixels: Tensor) -> _Multiply:
    """oneDNN's quantized linear layer with all scales 1: uses matrix instructions where the CPU has them."""
    ops, rows = torch.ops.onednn, pixels.shape[0]
    wide = max(rows, _LEAST_ROWS)
    ready = ops.qlinear_prepack(torch.nn.functional.pad(pixels, (0, 0, 0, wide - rows)).contiguous(), None)
    ones, zeros = torch.ones(wide), torch.zeros(wide, dtype=torch.int64)

    def multiply(tiles: Tensor) -> Tensor:
        n = tiles.shape[0]
        if 0 < n < _LEAST_TILES:
            tiles = torch.nn.functional.pad(tiles, (0, 0, 0, _LEAST_TILES - n))
        out: Tensor = ops.qlinear_pointwise(
            tiles, 1.0, 0, ready, ones, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )
        return out[:n, :rows].contiguous()

    return multiply


def _integer(pixels: Tensor) -> _Multiply:
    ready = pixels.t()
    return lambda tiles: torch._int_mm(tiles, ready)


def _floating(pixels: Tensor) -> _Multiply:
    ready = pixels.to(torch.float32).t()
    return lambda tiles: tiles.to(torch.float32) @ ready


@functools.cache
def _fastest(length: int) -> Callable[[Tensor], _Multiply]:
    """The kind of product that is fastest on this machine, of those that it does exactly.

    Timed, because what a library call runs on differs from one processor to the next by up to a factor of 5,000; all
    give the same integers, so that the choice never shows in a stream.
    """
    assert length <= _EXACT_PIXELS, "patterns are screened at 32 px or fewer a side"
    at = torch.arange(16 * length).view(16, length)
    b = torch.where(at % 7 < 3, 127, -127).to(torch.int8)
    b[0], b[1] = 127, -127
    a = b[:8].flip(1).contiguous()
    exact = a.to(torch.int64) @ b.to(torch.int64).t()
    found: list[tuple[float, Callable[[Tensor], _Multiply]]] = []
    for kind in (_prepacked, _integer, _floating):
        try:
            multiply = kind(b)
            if torch.equal(multiply(a).to(torch.int64), exact) and _seconds(multiply, a) < _HOPELESS_S:
                found.append((_seconds(kind(b.repeat(64, 1)), a.repeat(16, 1)), kind))
        except (RuntimeError, AttributeError, NotImplementedError) as error:
            _LOG.debug("%s is not to be had here: %s", kind.__name__, error)
    return min(found, default=(0.0, _floating), key=lambda one: one[0])[1]


def _seconds(multiply: _Multiply, tiles: Tensor) -> float:
    """The shortest of three calls."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        multiply(tiles)
        times.append(time.perf_counter() - began)
    return min(times)
