"""Adaptive binary models: four contexts per decision, mixed in the logistic domain, in integers.

Every binary decision of the residual syntax is predicted by up to four counters, one per context.  A counter is
the probability of a 1 in 1/65536 and how often it was used; it moves by 1/(uses + 1.5) of its error, and never
less than 1/COUNT_LIMIT.  A small mixer turns the four into one:

    p = squash(sum_i w_i * stretch(p_i)),       stretch(p) = ln(p / (1 - p)),  squash its inverse
    w_i += rate * stretch(p_i) * (bit - p)      after the bit is known

Counters and weights start at trained values (see `train`), so that a picture of one kilobyte is coded well, too.
Tables are made with `decimal`, arithmetic is int64: the same bits on every machine.
Sources: M. Mahoney, "Adaptive weighing of context models for lossless data compression", FIT CS-2005-16 (mixing,
stretch and squash); J. Duda, "Asymmetric numeral systems", arXiv:1311.2540 (the coder).
"""

from __future__ import annotations

import decimal
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, types

Ints = npt.NDArray[Any]


def compiled(function: Callable[..., Any]) -> Any:
    """A loop of the residual: compiled when first called, cached on disk."""
    return njit(cache=True, nogil=True, error_model="numpy")(function)


def typed(signature: Any) -> Any:
    """`compiled`, for one signature: calls with constants would otherwise compile a copy per constant."""
    return njit(signature, cache=True, nogil=True, error_model="numpy")


HALF_CONTEXT = 0
"""A context that always says one half: for decisions that have fewer than four."""

STRETCH_ONE = 256
STRETCH_MAX = 2047
COUNT_LIMIT = 120
"""A counter never moves by less than one part in this many."""
FROZEN = 255
"""A number of uses that stands for never moving at all."""
WEIGHT_ONE = 1 << 16
MIX_SHIFT, MIX_RATE = 20, 6
"""A weight moves by rate * stretch * error >> shift."""
COST_ONE = 1 << 12
"""Unit of `COST`: 1/4096 bit."""

ESTIMATE, ENCODE, DECODE = 0, 1, 2
RANS_LOW = 1 << 24

STATE, POS, FILL, BITS, BROKEN, MODE, TAPE = 0, 1, 2, 3, 4, 5, 6
"""Places in `io`: rANS state, next byte, decisions buffered, bits estimated (in 1/4096), damage seen, which
of ESTIMATE, ENCODE, DECODE; from TAPE on the decisions (p << 1 | bit) or the bytes themselves."""


def _tables() -> tuple[Ints, Ints, Ints, Ints]:
    with decimal.localcontext(decimal.Context(prec=30)):
        stretch = []
        for i in range(4096):
            p = (Decimal(i) + Decimal("0.5")) / 4096
            z = int(((p / (1 - p)).ln() * STRETCH_ONE).to_integral_value(decimal.ROUND_HALF_EVEN))
            stretch.append(max(-STRETCH_MAX, min(STRETCH_MAX, z)))
        squash = []
        for z in range(-2048, 2048):
            p = 1 / (1 + (Decimal(-z) / STRETCH_ONE).exp())
            squash.append(max(24, min(65536 - 24, int((p * 65536).to_integral_value(decimal.ROUND_HALF_EVEN)))))
        ln2 = Decimal(2).ln()
        cost = [int(-((Decimal(i) + Decimal("0.5")) / 4096).ln() / ln2 * COST_ONE) for i in range(4096)]
        rate = [int(Decimal(65536) / (Decimal(n) + Decimal("1.5"))) for n in range(256)]
        rate[FROZEN] = 0
    return tuple(np.array(t, dtype=np.int64) for t in (stretch, squash, cost, rate))  # type: ignore[return-value]


STRETCH, SQUASH, COST, RATE = _tables()


_I8 = types.int64
_MODELS = types.int32[:, ::1]
_IO = types.int64[::1]


@typed(_I8(_MODELS, _I8, _I8, _I8, _I8, _I8))
def chance(m: Ints, c0: int, c1: int, c2: int, c3: int, s: int) -> int:
    """Mixed probability of a 1, in 1/65536, for contexts c0..c3 and weight set s."""
    w = len(m) - 1 - s
    dot = (
        m[w, 0] * STRETCH[m[c0, 0] >> 4]
        + m[w, 1] * STRETCH[m[c1, 0] >> 4]
        + m[w, 2] * STRETCH[m[c2, 0] >> 4]
        + m[w, 3] * STRETCH[m[c3, 0] >> 4]
    ) >> 16
    return SQUASH[min(2047, max(-2047, dot)) + 2048]


@compiled
def _learn(m: Ints, c: int, s: int, k: int, err: int, bit: int) -> None:
    p, n = np.int64(m[c, 0]), m[c, 1]
    m[len(m) - 1 - s, k] += (STRETCH[p >> 4] * err * MIX_RATE + (1 << (MIX_SHIFT - 1))) >> MIX_SHIFT
    m[c, 0] = p + ((((bit << 16) - bit - p) * RATE[n]) >> 16)
    if n < COUNT_LIMIT:
        m[c, 1] = n + 1


@typed(types.void(_MODELS, _I8, _I8, _I8, _I8, _I8, _I8, _I8))
def learn(m: Ints, c0: int, c1: int, c2: int, c3: int, s: int, p: int, bit: int) -> None:
    """Move counters and weights towards `bit`, which had the probability p."""
    err = (bit << 16) - p
    _learn(m, c0, s, 0, err, bit)
    _learn(m, c1, s, 1, err, bit)
    _learn(m, c2, s, 2, err, bit)
    _learn(m, c3, s, 3, err, bit)


@compiled
def bit_cost(p: int, bit: int) -> int:
    """Cost of a bit whose chance of 1 is p/65536, in 1/4096 bit."""
    return COST[(p if bit else 65536 - p) >> 4]


@compiled
def _pull(io: Ints, p: int) -> int:
    """Decode one bit; a io that runs out of bytes says so in `io[BROKEN]` and goes on with zeros."""
    x = io[STATE]
    slot = x & 65535
    if slot < p:
        bit = 1
        x = p * (x >> 16) + slot
    else:
        bit = 0
        x = (65536 - p) * (x >> 16) + slot - p
    while x < RANS_LOW:
        byte = 0
        if io[POS] < len(io):
            byte = io[io[POS]]
        else:
            io[BROKEN] = 1
            x = max(x, 1)
        x = x << 8 | byte
        io[POS] += 1
    io[STATE] = x
    return bit


@typed(_I8(_MODELS, _IO, _I8, _I8, _I8, _I8, _I8, _I8))
def code(m: Ints, io: Ints, bit: int, c0: int, c1: int, c2: int, c3: int, s: int) -> int:
    """One modelled decision, estimated, encoded or decoded as io[MODE] says; returns the bit."""
    p = chance(m, c0, c1, c2, c3, s)
    if io[MODE] == ESTIMATE:
        io[BITS] += bit_cost(p, bit)
        return bit
    if io[MODE] == ENCODE:
        io[io[FILL]] = p << 1 | bit
        io[FILL] += 1
    else:
        bit = _pull(io, p)
    learn(m, c0, c1, c2, c3, s, p, bit)
    return bit


@typed(_I8(_IO, _I8))
def code_raw(io: Ints, bit: int) -> int:
    """One decision of probability one half."""
    if io[MODE] == ESTIMATE:
        io[BITS] += COST_ONE
    elif io[MODE] == ENCODE:
        io[io[FILL]] = 32768 << 1 | bit
        io[FILL] += 1
    else:
        bit = _pull(io, 32768)
    return bit


@compiled
def rans_bytes(decisions: Ints) -> Ints:
    """Buffered decisions (p << 1 | bit) -> stream, the final state's four bytes first; [n] uint8."""
    out = np.empty(4 + 2 * len(decisions) + 4, dtype=np.uint8)
    fill = len(out)
    x = np.int64(RANS_LOW)
    for i in range(len(decisions) - 1, -1, -1):
        p = decisions[i] >> 1
        start = np.int64(0)
        if not decisions[i] & 1:
            start = p
            p = 65536 - p
        while x >= p << 16:
            fill -= 1
            out[fill] = x & 255
            x >>= 8
        x = (x // p << 16) + x % p + start
    for _ in range(4):
        fill -= 1
        out[fill] = x & 255
        x >>= 8
    return out[fill:]
