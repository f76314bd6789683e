"""Patterns one step beside the bank's, drawn when they are first asked for and kept.

Where an entry wins, the search looks at every single step of its parameters, and the same entries win again and
again: a bank of 32 px has half a million of these patterns, and 100,000 tiles ask for three million.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import torch
from torch import Tensor

from pc15.runtime.device import cache_bytes

_FIRST = 1 << 12  # patterns that there is room for at first

Draw = Callable[[Tensor], tuple[Tensor, Tensor]]
"""Draws the layers with some indices: patterns without their mean, [B,P] int32 Q14, and RMS, [B] int32 Q14."""


class SingleSteps:
    """A store of patterns by (bank row, parameter, direction), for one tile size, codebook and seed.

    Once it is full it begins anew.  Safe to use from several threads.

    Args:
        params: [K], parameters of each bank row.   pixels: P, of a pattern.
    """

    def __init__(self, params: Tensor, pixels: int) -> None:
        device = params.device
        ends = torch.cumsum(2 * params, dim=0)
        self._params, self._first = params, ends - 2 * params
        self._slot = torch.full((int(ends[-1]) if len(ends) else 0,), -1, dtype=torch.int64, device=device)
        self._most = max(1, cache_bytes(device) // (2 * pixels))
        self._patterns = torch.zeros((min(_FIRST, self._most), pixels), dtype=torch.int16, device=device)
        self._rms = torch.zeros(len(self._patterns), dtype=torch.int32, device=device)
        self._used = 0
        self._lock = threading.Lock()

    def holds(self, count: int) -> bool:
        """True if there is room for so many patterns."""
        return count <= self._most

    def keys(self, rows: Tensor, offsets: Tensor) -> Tensor:
        """Number of each pattern in [0, 2 * sum of params), [B] int64; -1 for one that is no single step.

        Args:
            rows: [B] int64, bank rows.   offsets: [B, MAX_PARAMS] int64, 0 for parameters that a row does not have.
        """
        at = offsets.abs()
        which = at.argmax(dim=1)
        up = offsets.gather(1, which[:, None])[:, 0] > 0
        return torch.where(at.sum(dim=1) == 1, self._first[rows] + which + up * self._params[rows], -1)

    def look_up(self, keys: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
        """Patterns [B,P] int16 and their RMS [B] int32.

        Args:
            keys: [B] int64, not negative.   draw: draws those that are asked for the first time, by their place in
                `keys`.
        """
        with self._lock:
            new = self._new(keys)
            if len(new) > self._most - self._used:
                self._slot.fill_(-1)
                self._used = 0
                new = self._new(keys)
            if len(new) > self._most:  # more at once than can be kept
                patterns, rms = draw(torch.arange(len(keys), device=keys.device))
                return patterns.to(torch.int16), rms
            if len(new):
                self._grow(self._used + len(new))
                own = slice(self._used, self._used + len(new))
                patterns, self._rms[own] = draw(new)
                self._patterns[own] = patterns.to(torch.int16)
                self._slot[keys[new]] = torch.arange(own.start, own.stop, device=keys.device)
                self._used = own.stop
            at = self._slot[keys]
            return self._patterns[at], self._rms[at]

    def _new(self, keys: Tensor) -> Tensor:
        """Places in `keys` of those that are not here yet, each key once, [N] int64."""
        missing = torch.nonzero(self._slot[keys] < 0).flatten()
        if not len(missing):
            return missing
        wanted, inverse = torch.unique(keys[missing], return_inverse=True)
        return torch.zeros_like(wanted).scatter_reduce_(0, inverse, missing, "amax", include_self=False)

    def _grow(self, count: int) -> None:
        """Make room for so many patterns."""
        if count <= len(self._patterns):
            return
        room = min(self._most, max(count, 2 * len(self._patterns)))
        patterns = torch.zeros((room, self._patterns.shape[1]), dtype=torch.int16, device=self._patterns.device)
        rms = torch.zeros(room, dtype=torch.int32, device=self._rms.device)
        patterns[: self._used], rms[: self._used] = self._patterns[: self._used], self._rms[: self._used]
        self._patterns, self._rms = patterns, rms
