"""Scales of fixed-point numbers, and numbers rounded to them exactly: no tensors, so that headers need no torch.

    ratio   Q14: ONE = 2**14 stands for 1.0                  coordinates, pattern values, contrasts
    turns   2**32 = one turn, so int32 overflow *is* the wrap   phases and angles
    freq    FREQ_ONE = 2**18 turns-units per (turn / coordinate unit): freq * coordinate is a phase, wrapping

`pc15.fixed` has the functions of such numbers.
"""

from __future__ import annotations

import decimal
from decimal import Decimal

FRAC = 14
ONE = 1 << FRAC
HALF = ONE >> 1
TURN_BITS = 32
QUARTER_TURN = 1 << 30
FREQ_ONE = 1 << (TURN_BITS - FRAC)


def rounded(value: Decimal) -> int:
    """Nearest integer, ties to even."""
    return int(value.to_integral_value(rounding=decimal.ROUND_HALF_EVEN))


def wrap32(value: int) -> int:
    """`value` modulo 2**32, as a signed 32-bit integer."""
    return ((value + (1 << 31)) & 0xFFFFFFFF) - (1 << 31)
