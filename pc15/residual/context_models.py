"""Adaptive binary models: four contexts per decision, mixed in the logistic domain, in integers.

Every binary decision of the residual syntax is predicted by up to four counters, one per context.  A counter is
the probability of a 1 in 1/65536 and how often it was used; it moves by 1/(uses + 1.5) of its error, and never
less than 1/COUNT_LIMIT.  A small mixer turns the four into one:

    p = squash(sum_i w_i * stretch(p_i)),       stretch(p) = ln(p / (1 - p)),  squash its inverse
    w_i += rate * stretch(p_i) * (bit - p)      after the bit is known

Models are one array [C + S, 4] int32: a row (p, uses, stretch(p), 0) per counter, then the weights, last set first;
row HALF_CONTEXT ends with the mixer's rate.
Counters and weights start at trained values (see `train`), so that a picture of one kilobyte is coded well, too.
Tables are made with `decimal`, arithmetic is int64: the same bits on every machine.
Sources: M. Mahoney, "Adaptive weighing of context models for lossless data compression", FIT CS-2005-16 (mixing,
stretch and squash); J. Duda, "Asymmetric numeral systems", arXiv:1311.2540 (the coder).
"""

from __future__ import annotations

import decimal
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.runtime import jit

Ints = npt.NDArray[Any]


jit_entry = partial(jit.kept_entry, error_model="numpy", allocates=False)
"""`runtime.jit.kept_entry` as all loops of the residual use it."""
jit_inner = partial(jit.lazy_inner, error_model="numpy", allocates=False)
"""`runtime.jit.lazy_inner`, likewise."""
I64: Any = np.int64
"""Widens what comes out of an array, so that every loop is compiled for one set of types.  Constants that loops hand to
each other are of it, too: numba compiles a copy for each plain number (but by our own way, see `_numba_internals`)."""
U64: Any = np.uint64
"""Type of an index that is not negative, so that nothing is spent on counting from the end."""


HALF_CONTEXT = I64(0)
"""A context that always says one half: for decisions that have fewer than four."""

STRETCH_ONE = 256
STRETCH_MAX = 2047
COUNT_LIMIT = 250
"""A counter never moves by less than one part in this many."""
FROZEN = 255
"""A number of uses that stands for never moving at all."""
WEIGHT_ONE = 1 << 16
MIX_SHIFT, MIX_RATE = 20, 16
"""A weight moves by rate * stretch * error >> shift: of rates 3, 6, 10 and 16 the best, by 0.5 % of the bytes to 6."""
COST_ONE = 1 << 12
"""Unit of `COST`: 1/4096 bit."""

ENCODE, DECODE = 0, 1
RANS_LOW = 1 << 24
HALF = 1 << 15

STATE, POS, FILL, BROKEN, MODE, TAPE = 0, 1, 2, 3, 4, 5
"""Places in `io`: rANS state, next byte, decisions buffered, damage seen, ENCODE or DECODE; from TAPE on the
decisions (kind << KIND_SHIFT | p << 1 | bit) or the bytes themselves."""
CUT, OUTSIDE, UNKNOWN = 1, 2, 3
"""Kinds of damage in `io[BROKEN]`: the bytes ran out; a level's place lies outside its block; a pattern that there is
none of."""

KIND_SHIFT = 17
"""Place of what a decision is about, a weight set's number or one of `RAW_KINDS`, above its chance and outcome:
for statistics alone."""


def _odd_logarithms(below: int) -> list[Decimal]:
    """ln 1, ln 3, ln 5, ... up to `below`: ln(n + 1) - ln(n - 1) = 2 artanh(1/n), ten times as fast as so many `ln`."""
    found = [Decimal(0)]
    for n in range(2, below - 1, 2):
        term, square, k, total = Decimal(2) / n, n * n, 1, Decimal(0)
        while term > 1e-30:
            total += term / k
            term /= square
            k += 2
        found.append(found[-1] + total)
    return found


def _tables() -> tuple[Ints, Ints, Ints, Ints]:
    """Stretch, ln(p / (1 - p)) of p = (i + 1/2) / 4096; squash, its inverse; cost, -log2 of such a p; learning rates.

    By what the 30 digits of `decimal` leave of them after thousands of sums and products, ten digits more than decide
    any rounding.
    """
    with decimal.localcontext(decimal.Context(prec=30)):
        odd = _odd_logarithms(8192)
        stretch = []
        for i in range(4096):
            z = int(((odd[i] - odd[4095 - i]) * STRETCH_ONE).to_integral_value(decimal.ROUND_HALF_EVEN))
            stretch.append(max(-STRETCH_MAX, min(STRETCH_MAX, z)))
        ratio, power = (Decimal(-1) / STRETCH_ONE).exp(), (Decimal(2048) / STRETCH_ONE).exp()
        squash = []
        for _ in range(-2048, 2048):
            p = 65536 / (1 + power)
            power *= ratio
            squash.append(max(24, min(65536 - 24, int(p.to_integral_value(decimal.ROUND_HALF_EVEN)))))
        per_bit = COST_ONE / Decimal(2).ln()
        cost = [13 * COST_ONE - 1 - int(log * per_bit) if i else 13 * COST_ONE for i, log in enumerate(odd)]
        rate = [int(Decimal(65536) / (Decimal(n) + Decimal("1.5"))) for n in range(256)]
        rate[FROZEN] = 0
    return tuple(np.array(t, dtype=np.int32) for t in (stretch, squash, cost, rate))  # type: ignore[return-value]


STRETCH, SQUASH, COST, RATE = _tables()


@jit_inner()
def chance(m: Ints, c0: int, c1: int, c2: int, c3: int, s: int) -> int:
    """Mixed probability of a 1, in 1/65536, for contexts c0..c3 and weight set s."""
    a, b, c, d, w = U64(c0), U64(c1), U64(c2), U64(c3), U64(len(m) - 1 - s)
    dot = (m[w, 0] * m[a, 2] + m[w, 1] * m[b, 2] + m[w, 2] * m[c, 2] + m[w, 3] * m[d, 2]) >> 16
    return I64(SQUASH[U64(min(2047, max(-2047, dot)) + 2048)])


@jit_inner()
def _learn(m: Ints, c: int, w: int, k: int, err: int, target: int) -> None:
    """Move counter c towards `target`, 0 or 65535, and its weight by the mixer's error."""
    c, w = U64(c), U64(w)
    p, n = I64(m[c, 0]), m[c, 1]
    m[w, k] += (m[c, 2] * err * m[HALF_CONTEXT, 3] + (1 << (MIX_SHIFT - 1))) >> MIX_SHIFT
    p += ((target - p) * RATE[U64(n)]) >> 16
    m[c, 0], m[c, 2] = p, STRETCH[U64(p >> 4)]
    m[c, 1] = n + (1 if n < COUNT_LIMIT else 0)  # no branch: few are as hard to foresee


@jit_inner()
def bit_cost(p: int, bit: int) -> int:
    """Cost of a bit whose chance of 1 is p/65536, in 1/4096 bit."""
    return I64(COST[(p if bit else 65536 - p) >> 4])


@jit_inner()
def pull(io: Ints, p: int) -> int:
    """Decode one bit of probability p; an io that runs out of bytes says so in `io[BROKEN]` and goes on with zeros."""
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
            io[BROKEN] = CUT
            x = max(x, 1)
        x = x << 8 | byte
        io[POS] += 1
    io[STATE] = x
    return bit


@jit_inner()
def _code(io: Ints, bit: int, p: int, kind: int) -> int:
    """Write or read one decision of probability p, as io[MODE] says; returns the bit."""
    if io[MODE] == ENCODE:
        io[io[FILL]] = kind << KIND_SHIFT | p << 1 | bit
        io[FILL] += 1
        return bit
    return pull(io, p)


@jit_inner()
def code(m: Ints, io: Ints, bit: int, c0: int, c1: int, c2: int, c3: int, s: int) -> int:
    """One modelled decision, and what is learnt from it; returns the bit."""
    p = chance(m, c0, c1, c2, c3, s)
    bit = _code(io, bit, p, s)
    err, target, w = (bit << 16) - p, (bit << 16) - bit, len(m) - 1 - s
    _learn(m, c0, w, 0, err, target)
    _learn(m, c1, w, 1, err, target)
    _learn(m, c2, w, 2, err, target)
    _learn(m, c3, w, 3, err, target)
    return bit


@jit_inner()
def code_raw(io: Ints, bit: int, kind: int) -> int:
    """One decision of probability one half."""
    return _code(io, bit, HALF, kind)


@jit_entry()
def _rans(decisions: Ints, out: Ints) -> int:
    """Write the stream of buffered decisions to the end of `out`; returns where it starts."""
    fill = len(out)
    x = np.int64(RANS_LOW)
    for i in range(len(decisions) - 1, -1, -1):
        p = decisions[i] >> 1 & 65535
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
    return fill


def rans_bytes(decisions: Ints) -> Ints:
    """Buffered decisions, int64, as in an `io` -> stream, the final state's four bytes first; [n] uint8."""
    out = np.empty(8 + 2 * len(decisions), dtype=np.uint8)
    return out[_rans(decisions, out) :]
