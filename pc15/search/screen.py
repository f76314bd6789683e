"""From products to the few best candidates of each tile.

    score = product^2 * inverse - price * bits

in float32, one rounding per operation on every device, so that all devices keep the same candidates; a tie goes to
the lower bank row.  The matrix of scores is never written out: on a CPU a compiled loop reads each product once; on a
GPU a kernel leaves the best of every GROUP neighbours, and only groups that hold one of the best are looked into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pc15.search import fused, kernels
from pc15.search.product import Product

_INDEX_BITS = 20
_EMPTY = -(1 << 62)
GROUP = 64
"""Neighbouring candidates of which a GPU first keeps the best."""


class Best(Protocol):
    """The best candidates of each tile so far."""

    @property
    def rows(self) -> Tensor:
        """Bank rows [n,keep] int64, best first; -1 where there were fewer."""

    def merge(
        self,
        tiles: Tensor | None,
        product: Tensor,
        inverse: Tensor,
        cls: Tensor,
        price: Tensor,
        bits: Tensor,
        first: int,
    ) -> None:
        """Let candidates from bank row `first` on compete.

        Args:
            tiles: [m] int64, which tiles the products are of; None for all, in order.
            product: [m,B], exact integers: int32, or float32, which a CPU's product may leave them in.
            inverse: [C,K], bits: [K], float32, of the whole bank.   cls [m] int64, price [m] float32: of the tiles.
        """

    def compete(
        self,
        tiles: Tensor | None,
        candidates: Product,
        packed: Tensor,
        inverse: Tensor,
        cls: Tensor,
        price: Tensor,
        bits: Tensor,
        first: int,
    ) -> None:
        """`merge` all candidates, the first of which is bank row `first`; `packed` [m,P] int8 are the tiles."""


def best_of(n: int, keep: int, device: torch.device) -> Best:
    """To collect the `keep` best candidates of n tiles, in the way that suits a device."""
    return GroupedBest(n, keep, device) if fused.on_gpu(device) else LoopedBest(n, keep)


class LoopedBest:
    """`Best` on a CPU: every thread collects keys in a lane of its own."""

    def __init__(self, n: int, keep: int) -> None:
        with kernels.crew() as lanes:
            self._keys = torch.empty((lanes, n, 2 * keep), dtype=torch.int64)
            self._used = torch.zeros((lanes, n), dtype=torch.int64)
            self._bar = torch.full((lanes, n), float("-inf"), dtype=torch.float32)

    @property
    def rows(self) -> Tensor:
        """See `Best`."""
        rows = torch.empty((self._keys.shape[1], self._keys.shape[2] // 2), dtype=torch.int64)
        kernels.share_out(kernels.best_rows, len(rows), self._keys.numpy(), self._used.numpy(), rows.numpy())
        return rows

    def merge(
        self,
        tiles: Tensor | None,
        product: Tensor,
        inverse: Tensor,
        cls: Tensor,
        price: Tensor,
        bits: Tensor,
        first: int,
    ) -> None:
        """See `Best`."""
        self._collect(tiles, cls, price, inverse, bits, 0)(first, product)

    def compete(
        self,
        tiles: Tensor | None,
        candidates: Product,
        packed: Tensor,
        inverse: Tensor,
        cls: Tensor,
        price: Tensor,
        bits: Tensor,
        first: int,
    ) -> None:
        """See `Best`."""
        lanes, count = len(self._keys), candidates.count

        def work(start: int, stop: int) -> None:
            for lane in range(start, stop):
                collect = self._collect(tiles, cls, price, inverse, bits, lane)
                own = range(count * lane // lanes, count * (lane + 1) // lanes)
                for at, product in candidates.blocks(packed, own):
                    collect(first + at, product)

        kernels.share_out(work, lanes, least=1)

    def _collect(
        self, tiles: Tensor | None, cls: Tensor, price: Tensor, inverse: Tensor, bits: Tensor, lane: int
    ) -> Callable[[int, Tensor], None]:
        """What lets one block of products after the other, by its first row, compete in a lane."""
        tiles = torch.arange(len(cls)) if tiles is None else tiles
        given = [t.numpy() for t in (inverse, cls, price, bits, tiles)]
        own = [part[lane].numpy() for part in (self._keys, self._used, self._bar)]
        return lambda first, product: kernels.keep_best(0, len(product), product.numpy(), *given, first, *own)


class GroupedBest:
    """`Best` on a GPU; elsewhere the same in tensor operations.  Kept are keys, see `score_keys`, in any order."""

    def __init__(self, n: int, keep: int, device: torch.device) -> None:
        self._keys = torch.full((n, keep), _EMPTY, dtype=torch.int64, device=device)

    @property
    def rows(self) -> Tensor:
        """See `Best`."""
        gpu = fused.kernels_on(self._keys.device)
        return key_rows(self._keys.sort(dim=1, descending=True).values) if gpu is None else gpu.best_rows(self._keys)

    def merge(
        self,
        tiles: Tensor | None,
        product: Tensor,
        inverse: Tensor,
        cls: Tensor,
        price: Tensor,
        bits: Tensor,
        first: int,
    ) -> None:
        """See `Best`."""
        own = self._keys if tiles is None else self._keys[tiles]
        gpu = fused.kernels_on(product.device)
        find = _plain if gpu is None else gpu.group_best
        groups = find(product, inverse, cls, price, bits, first)  # [m,B/GROUP]
        if own.shape[1] == 1:
            merged = torch.maximum(own, groups.amax(dim=1, keepdim=True))
        elif gpu is not None and own.shape[1] <= gpu.MOST_KEPT:
            merged = gpu.merge_best(own, groups, product, inverse, cls, price, bits, first)
        else:
            merged = _merged(own, groups, product, inverse, cls, price, bits, first)
        if tiles is None:
            self._keys = merged
        else:
            self._keys[tiles] = merged

    def compete(
        self,
        tiles: Tensor | None,
        candidates: Product,
        packed: Tensor,
        inverse: Tensor,
        cls: Tensor,
        price: Tensor,
        bits: Tensor,
        first: int,
    ) -> None:
        """See `Best`."""
        for at, product in candidates.blocks(packed):
            self.merge(tiles, product, inverse, cls, price, bits, first + at)


def _merged(
    own: Tensor,
    groups: Tensor,
    product: Tensor,
    inverse: Tensor,
    cls: Tensor,
    price: Tensor,
    bits: Tensor,
    first: int,
) -> Tensor:
    """The best of the keys so far and of a block of candidates, [m,keep]; `groups` are the keys of `_plain`."""
    keep, count = own.shape[1], product.shape[1]
    if groups.shape[1] <= keep:
        at = torch.arange(count, device=own.device).expand(len(product), -1)
        inside = torch.ones_like(at, dtype=torch.bool)
    else:  # the best `keep` candidates lie in the best `keep` groups
        at = groups.topk(keep, dim=1, sorted=False).indices[:, :, None] * GROUP
        at = (at + torch.arange(GROUP, device=own.device)).flatten(1)
        inside = at < count
        at = torch.where(inside, at, 0)
    keys = score_keys(product.gather(1, at), inverse[cls[:, None], first + at], price, bits[first + at], first + at)
    return torch.cat([own, torch.where(inside, keys, _EMPTY)], dim=1).topk(keep, dim=1).values


def score_keys(product: Tensor, inverse: Tensor, price: Tensor, bits: Tensor, rows: Tensor) -> Tensor:
    """Scores of candidates [m,B] as int64 keys in their order, no two of a tile equal; `rows` are their bank rows."""
    value = product.to(torch.float32)
    score = (value * value) * inverse - price[:, None] * bits
    raw = score.view(torch.int32)
    ordered = torch.where(raw < 0, raw ^ 0x7FFFFFFF, raw).to(torch.int64)
    return (ordered << _INDEX_BITS) + ((1 << _INDEX_BITS) - 1 - rows)


def key_rows(keys: Tensor) -> Tensor:
    """Bank rows that keys stand for; -1 for none."""
    rows = (1 << _INDEX_BITS) - 1 - (keys & ((1 << _INDEX_BITS) - 1))
    return torch.where(keys > _EMPTY, rows, -1)


def _plain(product: Tensor, inverse: Tensor, cls: Tensor, price: Tensor, bits: Tensor, first: int) -> Tensor:
    """Key of the best of every GROUP candidates, [m,B/GROUP]."""
    own = slice(first, first + product.shape[1])
    keys = score_keys(
        product, inverse[cls, own], price, bits[own], torch.arange(own.start, own.stop, device=cls.device)
    )
    keys = torch.nn.functional.pad(keys, (0, -keys.shape[1] % GROUP), value=_EMPTY)
    return keys.view(keys.shape[0], -1, GROUP).amax(dim=2)
