"""From products to the few best candidates of each tile, by the scores of `keys`.

The matrix of scores is never written out: on a CPU a compiled loop reads each product once; on a GPU a kernel leaves
the best of every GROUP neighbours, and only groups that hold one of the best are looked into.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from pc15.runtime.parallel import parallel_range, reserved_threads
from pc15.search.backend import fused, numba_scores
from pc15.search.backend.product import Product
from pc15.search.backend.sort_keys import GROUP, NO_KEY, Terms, key_rows, score_keys


class Best(Protocol):
    """The best candidates of each tile so far."""

    @property
    def rows(self) -> Tensor:
        """Bank rows [n,keep] int64, best first; -1 where there were fewer."""

    def merge(self, tiles: Tensor | None, product: Tensor, terms: Terms, first: int) -> None:
        """Let candidates from bank row `first` on compete.

        Args:
            tiles: [m] int64, which tiles the products are of; None for all, in order.
            product: [m,B], exact integers: int32, or float32, which a CPU's product may leave them in.
        """

    def compete(self, tiles: Tensor | None, candidates: Product, packed: Tensor, terms: Terms, first: int) -> None:
        """`merge` all candidates, the first of which is bank row `first`; `packed` [m,P] int8 are the tiles."""


def best_of(n: int, keep: int, device: torch.device) -> Best:
    """To collect the `keep` best candidates of n tiles, in the way that suits a device."""
    return GroupedBest(n, keep, device) if fused.on_gpu(device) else LoopedBest(n, keep)


class LoopedBest:
    """`Best` on a CPU: every thread collects keys in a lane of its own."""

    def __init__(self, n: int, keep: int) -> None:
        with reserved_threads() as lanes:
            self._keys = torch.empty((lanes, n, 2 * keep), dtype=torch.int64)
            self._used = torch.zeros((lanes, n), dtype=torch.int64)
            self._bar = torch.full((lanes, n), float("-inf"), dtype=torch.float32)

    @property
    def rows(self) -> Tensor:
        """See `Best`."""
        rows = torch.empty((self._keys.shape[1], self._keys.shape[2] // 2), dtype=torch.int64)
        parallel_range(numba_scores.best_rows, len(rows), self._keys.numpy(), self._used.numpy(), rows.numpy())
        return rows

    def merge(self, tiles: Tensor | None, product: Tensor, terms: Terms, first: int) -> None:
        """See `Best`."""
        self._collect(tiles, terms, 0)(first, product)

    def compete(self, tiles: Tensor | None, candidates: Product, packed: Tensor, terms: Terms, first: int) -> None:
        """See `Best`."""
        lanes, count = len(self._keys), candidates.count

        def work(start: int, stop: int) -> None:
            for lane in range(start, stop):
                collect = self._collect(tiles, terms, lane)
                own = range(count * lane // lanes, count * (lane + 1) // lanes)
                for at, product in candidates.blocks(packed, own):
                    collect(first + at, product)

        parallel_range(work, lanes, least=1)

    def _collect(self, tiles: Tensor | None, terms: Terms, lane: int) -> Callable[[int, Tensor], None]:
        """What lets one block of products after the other, by its first row, compete in a lane."""
        tiles = torch.arange(len(terms.cls)) if tiles is None else tiles
        given = [t.numpy() for t in (terms.inverse, terms.cls, terms.price, terms.bits, tiles)]
        own = [part[lane].numpy() for part in (self._keys, self._used, self._bar)]
        return lambda first, product: numba_scores.keep_best(0, len(product), product.numpy(), *given, first, *own)


class GroupedBest:
    """`Best` on a GPU; elsewhere the same in tensor operations.  Kept are keys, see `score_keys`, in any order."""

    def __init__(self, n: int, keep: int, device: torch.device) -> None:
        self._keys = torch.full((n, keep), NO_KEY, dtype=torch.int64, device=device)

    @property
    def rows(self) -> Tensor:
        """See `Best`."""
        gpu = fused.kernels_on(self._keys.device)
        return key_rows(self._keys.sort(dim=1, descending=True).values) if gpu is None else gpu.best_rows(self._keys)

    def merge(self, tiles: Tensor | None, product: Tensor, terms: Terms, first: int) -> None:
        """See `Best`."""
        own = self._keys if tiles is None else self._keys[tiles]
        gpu = fused.kernels_on(product.device)
        find = _plain if gpu is None else gpu.group_best
        groups = find(product, terms, first)  # [m,B/GROUP]
        if own.shape[1] == 1:
            merged = torch.maximum(own, groups.amax(dim=1, keepdim=True))
        elif gpu is not None and own.shape[1] <= gpu.MOST_KEPT:
            merged = gpu.merge_best(own, groups, product, terms, first)
        else:
            merged = _merged(own, groups, product, terms, first)
        if tiles is None:
            self._keys = merged
        else:
            self._keys[tiles] = merged

    def compete(self, tiles: Tensor | None, candidates: Product, packed: Tensor, terms: Terms, first: int) -> None:
        """See `Best`."""
        for at, product in candidates.blocks(packed):
            self.merge(tiles, product, terms, first + at)


def _merged(own: Tensor, groups: Tensor, product: Tensor, terms: Terms, first: int) -> Tensor:
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
    inverse = terms.inverse[terms.cls[:, None], first + at]
    keys = score_keys(product.gather(1, at), inverse, terms.price, terms.bits[first + at], first + at)
    return torch.cat([own, torch.where(inside, keys, NO_KEY)], dim=1).topk(keep, dim=1).values


def _plain(product: Tensor, terms: Terms, first: int) -> Tensor:
    """Key of the best of every GROUP candidates, [m,B/GROUP]."""
    own = slice(first, first + product.shape[1])
    rows = torch.arange(own.start, own.stop, device=product.device)
    keys = score_keys(product, terms.inverse[terms.cls, own], terms.price, terms.bits[own], rows)
    keys = torch.nn.functional.pad(keys, (0, -keys.shape[1] % GROUP), value=NO_KEY)
    return keys.view(keys.shape[0], -1, GROUP).amax(dim=2)
