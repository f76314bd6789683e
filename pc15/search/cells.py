"""Cells of a bank: groups of patterns that look alike, so that whole groups can be left out unseen.

A cell is a centroid and the rows of the bank that are more like it than like any other, a pattern and its negative
counted as one, since amplitudes are signed.  The centroids are a bank's own, by spherical k-means, or a net's, which
then means the same by a cell in every bank.  All sums are of integers and all comparisons of products rounded once, so
a bank has the same cells on every device.
Source: I. S. Dhillon, D. S. Modha, "Concept decompositions for large sparse text data", Machine Learning 42 (2001).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.fixed import floor_div, isqrt64
from pc15.paths import cache_dir
from pc15.search.backend import backend_of
from pc15.search.backend.product import Product
from pc15.search.backend.protocol import BankTerms, Candidates, CellRows, TileTerms
from pc15.search.bank import Bank, stretch, terms_of
from pc15.search.bank_store import ArrayKind, load_arrays, store_arrays
from pc15.search.windows import Surroundings

CELLS = 8192
"""Most cells of a bank: of as many rows, more and smaller cells hold more of what is looked for."""
_PER_CELL = 8  # rows that a cell has at least, on average: small banks have fewer cells
_ROUNDS = 4
_TOGETHER = 1 << 8  # patterns that are compared with all centroids at once: products stay in the cache
_UNIT = 1 << 12  # length that patterns are brought to before they are added up: a peak of 127 is no measure of it


@dataclass(frozen=True, eq=False)
class Cells:
    """C cells of a bank of K rows, which are looked at as P pixels.

    centroids: terms of the centroids [C,P], stretched to +-127.   of: [K] int64, cell of each row.
    """

    centroids: BankTerms
    of: Tensor

    @classmethod
    def of_bank(cls, bank: Bank, pixels: Tensor, around: Surroundings, most: int = CELLS) -> Cells:
        """A bank's own cells, found by k-means or read from the cache of banks.

        Args:
            pixels: [K,P] int8, the bank as it is to be looked at.   around: what lies around tiles.
            most: cells, at most.
        """
        count = max(1, min(most, bank.rows // _PER_CELL))
        kinds = {"centroids": ArrayKind("i1", (count, pixels.shape[1])), "of": ArrayKind("<i4", (bank.rows,))}
        found = _kept(f"{bank.name}/{pixels.shape[1]}/{count}/{_ROUNDS}", kinds, lambda: _grouped(pixels, count))
        centroids, of = found["centroids"].to(pixels.device), found["of"].to(pixels.device).to(torch.int64)
        return cls(terms_of(centroids, around), of)

    @classmethod
    def of_centroids(cls, bank: Bank, centroids: Tensor, pixels: Tensor, around: Surroundings) -> Cells:
        """Cells of given centroids [C,P] int8; some may be empty."""
        digest = hashlib.sha256(centroids.cpu().numpy().tobytes()).hexdigest()
        kinds = {"of": ArrayKind("<i4", (bank.rows,))}
        found = _kept(f"{bank.name}/{digest}", kinds, lambda: {"of": nearest(pixels, centroids)})
        return cls(terms_of(centroids, around), found["of"].to(pixels.device).to(torch.int64))

    def __len__(self) -> int:
        return len(self.centroids.pixels)

    def rows_as(self, terms: BankTerms) -> CellRows:
        """The rows cell by cell, looked at in some way; made once per resolution.

        Args:
            terms: of the same bank.
        """
        size = terms.pixels.shape[1]
        if size not in self._ways:
            self._ways[size] = CellRows.of_cells(self.of, len(self), terms)
        return self._ways[size]

    @functools.cached_property
    def _ways(self) -> dict[int, CellRows]:
        return {}

    @functools.cached_property
    def candidates(self) -> Candidates:
        """The centroids, ready to be multiplied; they cost no bits."""
        pixels, energies, scale = self.centroids
        return Candidates(Product(pixels), Product(energies), scale, torch.zeros(len(self), device=scale.device))

    def index(self, own: TileTerms, count: int) -> Tensor:
        """The `count` cells whose centroids promise most for each tile, best first, [n,count] int64."""
        best = backend_of(own.rows.device).best_of(len(own.rows), min(count, len(self)), own.rows.device)
        best.compete(None, self.candidates, own, 0)
        return best.rows


def _kept(what: str, kinds: dict[str, ArrayKind], make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Arrays from the cache of banks; made now, and put there if it can be written, where they are not."""
    name, folder = hashlib.sha256(what.encode()).hexdigest()[:32], cache_dir() / "banks"
    found = None
    with contextlib.suppress(OSError):  # the bank itself has said so
        found = load_arrays(folder, name, kinds)
    if found is None:
        made = make()
        found = {part: made[part].cpu().numpy().astype(kind.dtype) for part, kind in kinds.items()}
        with contextlib.suppress(OSError):
            store_arrays(folder, name, kinds, [found])
    return {part: torch.from_numpy(np.array(array)) for part, array in found.items()}


def nearest(pixels: Tensor, centroids: Tensor) -> Tensor:
    """Centroid that each pattern is most like, whatever the sign, of equal ones the first; [K] int64."""
    device, count = pixels.device, len(centroids)
    one = torch.ones((count, 1), dtype=torch.int8, device=device)
    ready = Candidates(
        Product(centroids), Product(one), _inverse(centroids).expand(2, -1), torch.zeros(count, device=device)
    )
    parts = []
    for chunk in pixels.split(_TOGETHER):
        best = backend_of(device).best_of(len(chunk), 1, device)
        none = torch.zeros(len(chunk), device=device)
        best.compete(None, ready, TileTerms(chunk, one[:1].expand(len(chunk), 1), none.to(torch.int64), none), 0)
        parts.append(best.rows[:, 0])
    return torch.cat(parts)


def _grouped(pixels: Tensor, count: int) -> dict[str, Tensor]:
    """Centroids of patterns, [count,P] int8, and the nearest of each pattern, of [K] int64."""
    power = pixels.to(torch.int32).square().sum(dim=1)
    length = isqrt64(power.to(torch.int64)).to(torch.int32).clamp(min=1)
    unit = floor_div(pixels.to(torch.int32) * _UNIT, length[:, None])
    centroids = pixels[torch.arange(count, device=pixels.device) * len(pixels) // count].clone()
    for _ in tqdm(range(_ROUNDS), desc="grouping the bank", unit="round", disable=None, leave=False):
        of = nearest(pixels, centroids)
        product = (pixels.to(torch.float32) * centroids[of].to(torch.float32)).sum(dim=1)  # below 2^24
        sign = torch.where(product < 0, -1, 1).to(torch.int32)
        sums = torch.zeros((count, pixels.shape[1]), dtype=torch.int32, device=pixels.device)
        sums.index_add_(0, of, unit * sign[:, None])
        peak = sums.abs().amax(dim=1, keepdim=True)
        small = sums >> (torch.frexp(peak.to(torch.float64)).exponent - 20).clamp(min=0)
        centroids = torch.where(peak == 0, centroids, stretch(small))
    return {"centroids": centroids, "of": nearest(pixels, centroids)}


def _inverse(patterns: Tensor) -> Tensor:
    """1 / sum of squares of each, [1,C] float32; 0 for flat ones."""
    power = patterns.to(torch.int32).square().sum(dim=1).to(torch.float64)
    one = torch.ones((), dtype=torch.float64, device=power.device)
    return torch.where(power > 0, one / power.clamp(min=1.0), 0.0).to(torch.float32)[None]
