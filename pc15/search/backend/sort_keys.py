"""Scores of candidates in screening, and the keys that stand for them.

    score = product^2 * scale / curve - price * bits

in float32, one rounding per operation on every device, so that all devices keep the same candidates; see `expansion`
for what product and curve mean.  A key is a
score and a bank row in one int64 that sorts like the score, and where scores are equal the lower row first.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

INDEX_BITS = 24
"""Bits of a key that its bank row takes."""
MAGNITUDE = 0x7FFFFFFF
"""All bits of a float32 but its sign: flipped where that is set, they leave integers in the order of the floats."""
NO_KEY = -(1 << 62)
"""Below all keys: no candidate."""
GROUP = 64
"""Neighbouring candidates of which a GPU first keeps the best."""


class Terms(NamedTuple):
    """Terms of a score besides product and curve, float32 but for `place`.

    scale: [2,K], bits: [K], of the whole bank.   place: [m] int64, price: [m], of the tiles; see `TileTerms`.
    """

    scale: Tensor
    bits: Tensor
    place: Tensor
    price: Tensor


def scores(product: Tensor, curve: Tensor, scale: Tensor, price: Tensor, bits: Tensor) -> Tensor:
    """Scores [m,B] of candidates, float32; `price` [m] is of the tiles."""
    value = product.to(torch.float32)
    return ((value * value) * scale) / curve.to(torch.float32) - price[:, None] * bits


def score_keys(product: Tensor, curve: Tensor, scale: Tensor, price: Tensor, bits: Tensor, rows: Tensor) -> Tensor:
    """Keys [m,B] of candidates, no two of a tile equal; `rows` are their bank rows."""
    raw = scores(product, curve, scale, price, bits).view(torch.int32)
    ordered = torch.where(raw < 0, raw ^ MAGNITUDE, raw).to(torch.int64)
    return (ordered << INDEX_BITS) + ((1 << INDEX_BITS) - 1 - rows)


def key_rows(keys: Tensor) -> Tensor:
    """Bank rows that keys stand for; -1 for none."""
    rows = (1 << INDEX_BITS) - 1 - (keys & ((1 << INDEX_BITS) - 1))
    return torch.where(keys > NO_KEY, rows, -1)


def short_log2(values: Tensor) -> Tensor:
    """log2 of float32 values of at least 0 in 1/256, int64: linear between powers of two; -127 * 256 of 0.

    The bits of a float are its logarithm, so short of the mantissa's curve: within 0.09 everywhere, and exact integers
    on every device.
    """
    return (values.view(torch.int32).to(torch.int64) >> 15) - (127 << 8)
