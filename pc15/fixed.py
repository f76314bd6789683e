"""Integer arithmetic for everything a decoder evaluates: the same bits on every device, compiled or not.

Pixel-sized tensors are int32; int64 is used for per-item parameters and for sums.  `pc15.scales` has the three scales:
ratios in Q14, phases and angles in turns, frequencies.  Products of int32 wrap modulo 2**32 by intention wherever a
phase is meant; elsewhere the stated bounds hold.
Tables are computed once with `decimal`, which rounds the same way on every machine; nothing here touches libm.

| function     | result      | largest error (tested)        |
|--------------|-------------|-------------------------------|
| sin_turns    | Q14         | 4 / 2**14                     |
| exp_neg      | Q14         | 5 / 2**14                     |
| isqrt        | integer     | 0 (exact floor)               |
| atan2_turns  | turns       | 2**-14 turn                   |

At 14 bits a direct look-up needs no interpolation.  The hash is the finaliser style of MurmurHash3 with the constants
of C. Wellons, "Prospecting for hash functions" (2018).
"""

from __future__ import annotations

import decimal
import functools
from decimal import Decimal
from typing import TYPE_CHECKING

from pc15.runtime.tensors import torch
from pc15.scales import FRAC, FREQ_ONE, HALF, ONE, QUARTER_TURN, TURN_BITS, rounded, wrap32

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FRAC",
    "FREQ_ONE",
    "HALF",
    "ISQRT_MAX",
    "ONE",
    "QUARTER_TURN",
    "TURN_BITS",
    "atan2_turns",
    "const",
    "cos_turns",
    "div",
    "exp_neg",
    "fade",
    "floor_div",
    "hash32",
    "hash_cell",
    "hypot",
    "isqrt",
    "isqrt64",
    "lerp",
    "look_up",
    "mul",
    "mul_far",
    "rounded",
    "saw_turns",
    "shift",
    "signed_unit",
    "sin_turns",
    "smoothstep",
    "soft_sign",
    "triangle_turns",
    "unit",
    "wrap32",
]

SINE_BITS = 14
EXP_SHIFT = 3
ATAN_BITS = 12
ISQRT_MAX = 1 << 30


@functools.cache
def const(value: int) -> Tensor:
    """A number as an int32 tensor without dimensions, for operations on tensors of any device.

    Torch makes such a tensor anew, and then casts it, wherever a Python number stands, which takes as long as the
    operation itself on a tile or two.
    """
    return torch.tensor(value, dtype=torch.int32)


_CONTEXT = decimal.Context(prec=40, rounding=decimal.ROUND_HALF_EVEN)
_PI = Decimal("3.14159265358979323846264338327950288419716939937510")


# ---------------------------------------------------------------- tables, made once


def _quarter_sines(count: int) -> list[Decimal]:
    """sin(pi/2 * i/count) for i in 0..count, by repeated rotation; 40 digits keep the drift below 1e-30."""
    with decimal.localcontext(_CONTEXT):
        step = _PI / 2 / count
        s, c, term_s, term_c = step, Decimal(1), step, Decimal(1)
        for k in range(1, 20):  # Taylor series of one small step
            term_c = -term_c * step * step / ((2 * k - 1) * (2 * k))
            c += term_c
            term_s = -term_s * step * step / ((2 * k) * (2 * k + 1))
            s += term_s
        sine, cosine, sines = Decimal(0), Decimal(1), []
        for _ in range(count + 1):
            sines.append(sine)
            sine, cosine = sine * c + cosine * s, cosine * c - sine * s
        return sines


@functools.cache
def _sine_table(device: torch.device) -> Tensor:
    quarter = [rounded(v * ONE) for v in _quarter_sines(1 << (SINE_BITS - 2))]
    half = quarter[:-1] + quarter[:0:-1]
    return torch.tensor(half + [-v for v in half], dtype=torch.int32, device=device)


@functools.cache
def _exp_table(device: torch.device) -> Tensor:
    """exp(-x) at every multiple of 2**EXP_SHIFT, until it rounds to 0."""
    with decimal.localcontext(_CONTEXT):
        ratio = (Decimal(-(1 << EXP_SHIFT)) / ONE).exp()
        value, table = Decimal(ONE), []
        while value > Decimal("0.5"):
            table.append(rounded(value))
            value *= ratio
    return torch.tensor([*table, 0], dtype=torch.int32, device=device)


@functools.cache
def _atan_table(device: torch.device) -> Tensor:
    """atan(i / 2**ATAN_BITS) in turns of 2**32, i in 0..2**ATAN_BITS, from the sum of small differences."""
    count = 1 << ATAN_BITS
    with decimal.localcontext(_CONTEXT):
        angle, table = Decimal(0), [0]
        for i in range(count):  # atan b - atan a = atan((b - a) / (1 + a b))
            d = Decimal(count) / (Decimal(count) * count + Decimal(i) * (i + 1))
            angle += d - d**3 / 3 + d**5 / 5 - d**7 / 7
            table.append(rounded(angle / (2 * _PI) * (1 << TURN_BITS)))
    return torch.tensor(table, dtype=torch.int32, device=device)


def look_up(table: Tensor, index: Tensor) -> Tensor:
    """table[index] for a 1-D table; index_select on a flat int32 index is the fastest gather of all measured."""
    return torch.index_select(table, 0, index.reshape(-1)).view(index.shape)


# ---------------------------------------------------------------- ratios


def mul(a: Tensor, b: Tensor) -> Tensor:
    """Q14 product, rounded to nearest.  Needs |a| * |b| < 2**31 - 2**13 (for Q14 ratios: |a * b| < 8)."""
    return shift((a * b).add_(const(HALF)), FRAC)


def shift(x: Tensor, bits: int) -> Tensor:
    """x >> bits (arithmetic), written over x: for results of one's own that are needed no more."""
    return x.bitwise_right_shift_(const(bits))


def mul_far(a: Tensor, b: Tensor) -> Tensor:
    """`mul` for a coordinate far outside the tile: |a| < 2**24 and |b| <= 2**15, the same integers where both hold."""
    return ((a >> 10) * b + (((a & 1023) * b + HALF) >> 10)) >> (FRAC - 10)


def floor_div(a: Tensor, b: Tensor) -> Tensor:
    """Exact floor(a / b) of int32, b > 0.

    (a + 1/2) / b is at least 1/(2b) >= 2^-32 away from every integer and below 2^31, so no rounding of a double
    quotient can cross one: exact on every device, and several times faster than the processor's integer division.
    """
    return a.to(torch.float64).add_(0.5).div(b).floor_().to(torch.int32)


def div(a: Tensor, b: Tensor) -> Tensor:
    """Q14 quotient a / b, floored; b > 0 and |a| < 2**17."""
    return floor_div(a << FRAC, b)


def lerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """a + (b - a) * t with t in [0, ONE]; |b - a| < 2**17."""
    return a + mul(b - a, t)


def smoothstep(t: Tensor) -> Tensor:
    """t*t*(3 - 2t) of t clamped to [0, ONE]: a step with no slope at both ends."""
    t = t.clamp(0, ONE)
    return mul(mul(t, t), (t * const(-2)).add_(const(3 * ONE)))


def fade(t: Tensor) -> Tensor:
    """Perlin's quintic 6t^5 - 15t^4 + 10t^3 of t in [0, ONE]; halved inside, since t * (6t - 15) would reach 9."""
    t3 = mul(mul(t, t), t)
    slope = mul(t, (t * const(3)).sub_(const(15 * HALF)))
    return mul(t3, (slope * const(2)).add_(const(10 * ONE))).clamp_(0, ONE)


def soft_sign(distance: Tensor, width: Tensor) -> Tensor:
    """-ONE below -width, ONE above width, a smooth cubic between.

    Args:
        distance: Q14, pixel-sized.   width: Q14 above 0, per item: its reciprocal is taken once.
    """
    inverse = torch.div(1 << (2 * FRAC), width, rounding_mode="floor")
    t = shift(torch.maximum(torch.minimum(distance, width), -width) * inverse, FRAC)
    return shift((const(3 * ONE) - shift(t * t, FRAC)).mul_(t), FRAC + 1)


# ---------------------------------------------------------------- turns


def sin_turns(turns: Tensor) -> Tensor:
    """Sine, Q14, of an int32 phase of 2**32 per turn; within 4 / 2**14."""
    return _wave(turns, 1 << (TURN_BITS - SINE_BITS - 1))


def cos_turns(turns: Tensor) -> Tensor:
    """Cosine, Q14, of an int32 phase of 2**32 per turn; within 4 / 2**14."""
    return _wave(turns, QUARTER_TURN + (1 << (TURN_BITS - SINE_BITS - 1)))


def _wave(turns: Tensor, ahead: int) -> Tensor:
    """Sine at so many turns ahead, the last bits cut off."""
    index = shift(turns + const(ahead), TURN_BITS - SINE_BITS).bitwise_and_(const((1 << SINE_BITS) - 1))
    return look_up(_sine_table(turns.device), index)


def saw_turns(turns: Tensor) -> Tensor:
    """Sawtooth from -ONE (phase 0) to ONE, exact."""
    return (turns >> const(17)).bitwise_and_(const(0x7FFF)).sub_(const(ONE))


def triangle_turns(turns: Tensor) -> Tensor:
    """Triangle wave, ONE at phase 0 and -ONE at half a turn, exact."""
    return saw_turns(turns).abs_().mul_(const(2)).sub_(const(ONE))


# ---------------------------------------------------------------- roots, exponentials, arctangents


def isqrt(n: Tensor) -> Tensor:
    """Exact floor square root of int32 n in [0, 2**30).

    sqrt(n + 1/2) is at least 2^-18 away from every integer, so a double root rounds down rightly on every device.
    """
    return n.to(torch.float64).add_(0.5).sqrt_().to(torch.int32)


def isqrt64(n: Tensor) -> Tensor:
    """Exact floor square root of int64 n in [0, 2**52); for parameters and far coordinates."""
    root = n.to(torch.float64).sqrt().to(torch.int64)
    root = root - (root * root > n).to(torch.int64)
    return root + ((root + 1) * (root + 1) <= n).to(torch.int64)


def hypot(x: Tensor, y: Tensor, *, far: bool = False) -> Tensor:
    """sqrt(x*x + y*y), Q14, in steps of 2.  |x|, |y| <= 2.8 * ONE, or < 2**24 with `far` (the same integers)."""
    if far:
        x, y = x.to(torch.int64) >> 1, y.to(torch.int64) >> 1
        return isqrt64(x * x + y * y).to(torch.int32) << 1
    x, y = x >> const(1), y >> const(1)
    return isqrt(x * x + y * y).mul_(const(2))


def exp_neg(x: Tensor) -> Tensor:
    """exp(-x), Q14, of a Q14 x >= 0 (0 from about 10.4 on); within 5 / 2**14."""
    table = _exp_table(x.device)
    return look_up(table, shift(x + const(1 << (EXP_SHIFT - 1)), EXP_SHIFT).clamp_(0, table.numel() - 1))


def atan2_turns(y: Tensor, x: Tensor) -> Tensor:
    """Angle of (x, y) in int32 turns, 0 along +x and a quarter turn along +y; 0 at the origin.  |x|, |y| < 2**24."""
    ax, ay = x.abs(), y.abs()
    high, low = torch.maximum(ax, ay), torch.minimum(ax, ay)
    far = (high >= const(1 << (31 - ATAN_BITS))).to(torch.int32).mul_(const(5))
    ratio = floor_div((low >> far).bitwise_left_shift_(const(ATAN_BITS)), (high >> far).clamp_(min=1))
    angle = look_up(_atan_table(x.device), ratio)
    # Reflections as a sign and an offset: a select with an unpredictable mask costs ten times as much.
    steep = (ay > ax).to(torch.int32)
    angle = (angle * const(-2)).add_(const(QUARTER_TURN)).mul_(steep).add_(angle)
    left = x >> const(31)  # -1 where x < 0
    angle = angle.bitwise_xor_(left).sub_(left).add_(left * const(wrap32(1 << 31)))  # half a turn minus it, wrapped
    below = y >> const(31)
    return (angle ^ below).sub_(below)


# ---------------------------------------------------------------- hash


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical shift: zeros come in from the left."""
    return (x >> const(bits)).bitwise_and_(const((1 << (32 - bits)) - 1))


def hash32(x: Tensor) -> Tensor:
    """Mix 32 bits so that every input bit flips half of the output bits."""
    x = _shift_right(x, 16).bitwise_xor_(x).mul_(const(0x7FEB352D))
    x = _shift_right(x, 15).bitwise_xor_(x).mul_(const(wrap32(0x846CA68B)))
    return _shift_right(x, 16).bitwise_xor_(x)


def hash_cell(ix: Tensor, iy: Tensor, seed: Tensor) -> Tensor:
    """Hash of an integer lattice cell: the counter-based randomness of every noise pattern."""
    return hash32((ix * const(0x27D4EB2D)) ^ (iy * const(wrap32(0x9E3779B1))) ^ seed)


def signed_unit(h: Tensor) -> Tensor:
    """A hash as a Q14 value, uniform in [-ONE, ONE)."""
    return h >> const(31 - FRAC)


def unit(h: Tensor) -> Tensor:
    """A hash as a Q14 value, uniform in [0, ONE)."""
    return (h >> const(32 - FRAC)).bitwise_and_(const(ONE - 1))
