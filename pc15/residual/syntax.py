"""The order of decisions in a residual stream and the contexts of each: one walk that estimates, writes or reads.

Superblocks of 64x64 in raster order, each

    on                       0: the superblock is prediction alone
    tree                     split flags from 64 down to 8; a square that crosses the border is split without a flag

and every leaf inside the picture

    mode                     zero? most probable? which? (see intra)
    coded                    0: no coefficients
    last                     place of the last level in the scan, as a length class and its low bits
    levels, last first       zero?, sign, larger than 1?, 2?, ... 14?, then an Exp-Golomb rest

The scan runs along diagonals from the lowest frequency.  Each decision has four contexts: the levels already known
around it with its diagonal, its own frequency, the neighbouring blocks with the direction of the prediction, and how
full the block has been so far.
Sources: the template of levels is that of ITU-T H.266, 9.3.4.2; most probable modes are those of H.265, 8.4.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.intra import FIRST_ANGLE, HORIZONTAL, MEAN, MODES, PLANAR, VERTICAL, ZERO, fill
from pc15.residual.models import DECODE, HALF_CONTEXT, MODE, code, code_raw, compiled

Ints = npt.NDArray[Any]

SUPER_LOG2 = 6
SUPER = 1 << SUPER_LOG2
UNIT = 4
PAD = 8
"""Planes are padded to multiples of this many pixels."""
MAX_FLAGS = 14
MAX_ESCAPE = 20


class Field(NamedTuple):
    """What is known of a plane: level [H,W] int32, and per 4x4 unit uint8: mode, log2 size, activity, super on."""

    level: Ints
    mode: Ints
    size: Ints
    active: Ints
    on: Ints


def _scans() -> tuple[Ints, Ints]:
    """(across, down) [4, 1024] int32: diagonal scans of 4, 8, 16, 32 squared coefficients."""
    across, down = np.zeros((2, 4, 1024), dtype=np.int64)
    for i in range(4):
        n = 4 << i
        order = sorted(((u, v) for u in range(n) for v in range(n)), key=lambda c: (c[0] + c[1], c[0]))
        across[i, : n * n], down[i, : n * n] = zip(*order, strict=True)
    return across, down


SCAN_U, SCAN_V = _scans()

# ------------------------------------------------------------------ classes

_PLACE = np.array([0, 1, 2, 3, 4, 4, 5, 5] + [6] * 4 + [7] * 4 + [8] * 8 + [9] * 8, dtype=np.int64)
PLACES = 10
_SUM = np.array([0, 1, 2, 3, 4, 5, 6, 6, 7, 7, 8, 8, 8, 9, 9, 9, 9] + [10] * 8 + [11] * 8, dtype=np.int64)
SUMS = 12
_DIAGONAL = np.array([0, 1, 2, 3, 3, 4, 4, 4, 5, 5, 5, 5, 5, 5, 5] + [6] * 9 + [7] * 40, dtype=np.int64)
DIAGONALS = 8
SIZES = 5
NEAR = 7  # sum of two activities of 0..3
FULL = 8
KINDS = 4  # direction of prediction


def _kinds() -> Ints:
    """0 no direction, 1 about horizontal, 2 about vertical, 3 diagonal; [MODES]."""
    kind = np.zeros(MODES, dtype=np.int64)
    kind[FIRST_ANGLE:] = 3
    kind[HORIZONTAL - 4 : HORIZONTAL + 5] = 1
    kind[VERTICAL - 4 : VERTICAL + 5] = 2
    return kind


KIND = _kinds()
_BIT_LENGTH = np.array([int(i).bit_length() for i in range(1025)], dtype=np.int64)

# ------------------------------------------------------------------ context numbers: each block of contexts in a row

_sizes = {
    "half": 1,
    "on": 3,
    "split_a": 5 * 3 * 3,
    "split_b": 5 * 11,
    "zero_a": 3 * SIZES,
    "zero_b": 3,
    "mpm": 3 * SIZES,
    "mpm_b": 3 * 3 * 3,
    "angle": 32,
    "coded_a": SIZES * NEAR,
    "coded_b": SIZES * KINDS,
    "coded_c": 16,
    "last_a": SIZES * 11 * NEAR,
    "last_b": SIZES * 11 * KINDS,
    "low_a": SIZES * 11 * 4,
    "sig_a": SIZES * DIAGONALS * SUMS,
    "sig_b": SIZES * PLACES * PLACES * 3,
    "sig_c": 3 * KINDS * NEAR * 25,
    "sig_d": SIZES * FULL * FULL,
    "gt1_a": SIZES * DIAGONALS * SUMS,
    "gt1_b": SIZES * PLACES * PLACES,
    "gt1_c": KINDS * NEAR * 25,
    "gt1_d": SIZES * FULL * FULL,
    "gtn_a": MAX_FLAGS * SUMS,
    "gtn_b": MAX_FLAGS * DIAGONALS,
    "gtn_c": MAX_FLAGS * NEAR,
    "gtn_d": MAX_FLAGS * FULL,
}
BASE: dict[str, int] = {}
CONTEXTS = 0
for _name, _size in _sizes.items():
    BASE[_name] = CONTEXTS
    CONTEXTS += _size

_ON, _SPLIT_A, _SPLIT_B = BASE["on"], BASE["split_a"], BASE["split_b"]
_ZERO_A, _ZERO_B, _MPM, _MPM_B, _ANGLE = BASE["zero_a"], BASE["zero_b"], BASE["mpm"], BASE["mpm_b"], BASE["angle"]
_CODED_A, _CODED_B, _CODED_C = BASE["coded_a"], BASE["coded_b"], BASE["coded_c"]
_LAST_A, _LAST_B, _LOW_A = BASE["last_a"], BASE["last_b"], BASE["low_a"]
_SIG_A, _SIG_B, _SIG_C, _SIG_D = BASE["sig_a"], BASE["sig_b"], BASE["sig_c"], BASE["sig_d"]
_GT1_A, _GT1_B, _GT1_C, _GT1_D = BASE["gt1_a"], BASE["gt1_b"], BASE["gt1_c"], BASE["gt1_d"]
_GTN_A, _GTN_B, _GTN_C, _GTN_D = BASE["gtn_a"], BASE["gtn_b"], BASE["gtn_c"], BASE["gtn_d"]

# weight sets
W_ON, W_SPLIT, W_ZERO, W_MPM, W_ANGLE, W_CODED, W_LAST = 0, 1, 2, 3, 4, 5, 6
W_LOW, W_SIG, W_GT1, W_GTN = 7, 8, 8 + 3 * SIZES, 8 + 4 * SIZES
WEIGHT_SETS = W_GTN + 3


@compiled
def significance_contexts(
    s: int, u: int, v: int, around: int, kind: int, near: int, filled: int, left: int
) -> tuple[int, int, int, int, int]:
    """Contexts and weight set of "is this level not zero".

    Args:
        s: size class 0..4.   u, v: frequency.   around: template sum.   kind, near: of the block.
        filled: levels' sum so far.   left: places still to come in the scan.
    """
    t = min(around, 32)
    a = _SIG_A + (s * DIAGONALS + _DIAGONAL[u + v]) * SUMS + _SUM[t]
    b = _SIG_B + ((s * PLACES + _PLACE[v]) * PLACES + _PLACE[u]) * 3 + (0 if t == 0 else 1 if t < 4 else 2)
    w = 2 if s > 2 else s if s < 2 else 1
    c = _SIG_C + ((w * KINDS + kind) * NEAR + near) * 25 + min(4, _PLACE[v] if s < 2 else _PLACE[v] >> 1) * 5
    c += min(4, _PLACE[u] if s < 2 else _PLACE[u] >> 1)
    d = _SIG_D + (s * FULL + _BIT_LENGTH[min(filled, 127)]) * FULL + min(7, _BIT_LENGTH[left])
    return a, b, c, d, W_SIG + s * 3 + (0 if t == 0 else 1 if t < 4 else 2)


@compiled
def larger_contexts(
    k: int, s: int, u: int, v: int, around: int, kind: int, near: int, filled: int, left: int
) -> tuple[int, int, int, int, int]:
    """Contexts and weight set of "is this level larger than k", k from 1."""
    t = min(around, 32)
    f = _BIT_LENGTH[min(filled, 127)]
    if k == 1:
        a = _GT1_A + (s * DIAGONALS + _DIAGONAL[u + v]) * SUMS + _SUM[t]
        b = _GT1_B + (s * PLACES + _PLACE[v]) * PLACES + _PLACE[u]
        c = _GT1_C + (kind * NEAR + near) * 25 + min(4, _PLACE[v]) * 5 + min(4, _PLACE[u])
        d = _GT1_D + (s * FULL + f) * FULL + min(7, _BIT_LENGTH[left])
        return a, b, c, d, W_GT1 + s
    i = k - 1
    return (
        _GTN_A + i * SUMS + _SUM[t],
        _GTN_B + i * DIAGONALS + _DIAGONAL[u + v],
        _GTN_C + i * NEAR + near,
        _GTN_D + i * FULL + f,
        W_GTN + min(2, i - 1),
    )


@compiled
def template(mag: Ints, u: int, v: int) -> int:
    """Levels already known around (u, v), the nearest twice; mag [34, 34] is their magnitudes with a zero rim."""
    return 2 * (mag[v, u + 1] + mag[v + 1, u]) + mag[v + 1, u + 1] + mag[v, u + 2] + mag[v + 2, u]


@compiled
def code_last(m: Ints, io: Ints, last: int, s: int, near: int, kind: int) -> int:
    """Place of the last level in the scan."""
    top = 2 * min(s + 2, 5)  # length classes 0..top of last + 1
    length = _BIT_LENGTH[last + 1] - 1 if io[MODE] != DECODE else 0
    k = 0
    while k < top:
        a, b = _LAST_A + (s * 11 + k) * NEAR + near, _LAST_B + (s * 11 + k) * KINDS + kind
        if not code(m, io, 1 if length > k else 0, a, b, HALF_CONTEXT, HALF_CONTEXT, W_LAST):
            break
        k += 1
    value = 1
    for i in range(k):
        bit = (last + 1) >> (k - 1 - i) & 1
        if i < 2:
            a = _LOW_A + (s * 11 + k) * 4 + (i if i == 0 else 1 + (value & 1) + 1)
            bit = code(m, io, bit, a, HALF_CONTEXT, HALF_CONTEXT, HALF_CONTEXT, W_LOW)
        else:
            bit = code_raw(io, bit)
        value = value << 1 | bit
    return value - 1


@compiled
def code_escape(io: Ints, value: int) -> int:
    """Order-0 Exp-Golomb code of what is left of a level; damage may end it early."""
    length = 0
    if io[MODE] != DECODE:
        while (value + 1) >> (length + 1):
            length += 1
    k = 0
    while k < MAX_ESCAPE and code_raw(io, 1 if k < length else 0):
        k += 1
    result = 1
    for i in range(k - 1, -1, -1):
        result = result << 1 | code_raw(io, (value + 1) >> i & 1)
    return result - 1


@compiled
def code_levels(
    m: Ints, io: Ints, level: Ints, x0: int, y0: int, s: int, kind: int, near: int, last: int, mag: Ints
) -> None:
    """Levels of the block at (x0, y0) of the plane, last first."""
    scan = min(s, 3)
    c = 4 << scan
    last = code_last(m, io, last, s, near, kind)
    fill(mag, 0, 0, c + 2, c + 2, 0)
    filled = 0
    for i in range(last, -1, -1):
        u, v = SCAN_U[scan, i], SCAN_V[scan, i]
        value = int(level[y0 + v, x0 + u]) if io[MODE] != DECODE else 0
        size = abs(value)
        around = template(mag, u, v)
        some = 1
        if i < last:
            c0, c1, c2, c3, w = significance_contexts(s, u, v, around, kind, near, filled, i)
            some = code(m, io, 1 if size else 0, c0, c1, c2, c3, w)
        if some:
            k = 1
            while k < MAX_FLAGS:
                c0, c1, c2, c3, w = larger_contexts(k, s, u, v, around, kind, near, filled, i)
                if not code(m, io, 1 if size > k else 0, c0, c1, c2, c3, w):
                    break
                k += 1
            if k == MAX_FLAGS:
                k += code_escape(io, size - MAX_FLAGS)
            minus = code_raw(io, 1 if value < 0 else 0)
            if io[MODE] == DECODE:
                level[y0 + v, x0 + u] = -k if minus else k
            mag[v, u] = min(k, 15)
            filled += k


@compiled
def probable_modes(left: int, above: int) -> tuple[int, int, int]:
    """The three most probable modes besides zero, from those of the blocks to the left and above."""
    left = MEAN if left == ZERO else left
    above = MEAN if above == ZERO else above
    if left == above:
        if left < FIRST_ANGLE:
            return PLANAR, MEAN, VERTICAL
        around = left - FIRST_ANGLE
        return left, FIRST_ANGLE + (around + 31) % 32, FIRST_ANGLE + (around + 1) % 32
    if left != PLANAR and above != PLANAR:
        return left, above, PLANAR
    if left != MEAN and above != MEAN:
        return left, above, MEAN
    return left, above, VERTICAL


@compiled
def code_mode(m: Ints, io: Ints, chosen: int, left: int, above: int, s: int) -> int:
    """Prediction mode of one block."""
    zeros = (1 if left == ZERO else 0) + (1 if above == ZERO else 0)
    h = HALF_CONTEXT
    if code(m, io, 1 if chosen == ZERO else 0, _ZERO_A + zeros * SIZES + s, _ZERO_B + zeros, h, h, W_ZERO):
        return ZERO
    first, second, third = probable_modes(left, above)
    same = 0 if left != above else 1 if left < FIRST_ANGLE else 2
    if code(m, io, 1 if chosen == first else 0, _MPM + s, _MPM_B + same * 3, h, h, W_MPM):
        return first
    if code(m, io, 1 if chosen == second else 0, _MPM + SIZES + s, _MPM_B + same * 3 + 1, h, h, W_MPM):
        return second
    if code(m, io, 1 if chosen == third else 0, _MPM + 2 * SIZES + s, _MPM_B + same * 3 + 2, h, h, W_MPM):
        return third
    low, high = min(first, second), max(first, second)
    low, middle = min(low, third), max(low, third)
    middle, high = min(middle, high), max(middle, high)
    rest = chosen - 1
    if io[MODE] != DECODE:
        rest -= (1 if chosen > low else 0) + (1 if chosen > middle else 0) + (1 if chosen > high else 0)
    node = 1
    for i in range(4, -1, -1):
        a = _ANGLE + node
        node = node << 1 | code(m, io, rest >> i & 1, a, h, h, h, W_ANGLE)
    rest = node - 32 + 1
    rest += 1 if rest >= low else 0
    rest += 1 if rest >= middle else 0
    rest += 1 if rest >= high else 0
    return min(rest, MODES - 1)


@compiled
def activity(level: Ints, x0: int, y0: int, n: int) -> int:
    """How much a coded block holds, 1..3, from the sum of its levels over its area."""
    total = 0
    c = min(n, 32)
    for v in range(y0, y0 + c):
        for u in range(x0, x0 + c):
            total += abs(level[v, u])
    per = 16 * total // (n * n)
    return 1 if per < 1 else 2 if per < 4 else 3


@compiled
def neighbours(field: Field, x: int, y: int) -> tuple[int, int, int, int, int]:
    """Of the block at unit (x, y): modes left and above, activities left and above, sum of both."""
    left, above, a, b = MEAN, MEAN, 0, 0
    if x > 0:
        left, a = int(field.mode[y, x - 1]), int(field.active[y, x - 1])
    if y > 0:
        above, b = int(field.mode[y - 1, x]), int(field.active[y - 1, x])
    return left, above, a, b, a + b


@compiled
def code_leaf(m: Ints, io: Ints, field: Field, x0: int, y0: int, log2: int, last: int, mag: Ints) -> None:
    """One block; when decoding, fills its place in the field.  `last` < 0: no coefficients."""
    x, y, n, s = x0 >> 2, y0 >> 2, 1 << log2, log2 - 2
    left, above, a, b, near = neighbours(field, x, y)
    chosen = code_mode(m, io, np.int64(field.mode[y, x]) if io[MODE] != DECODE else 0, left, above, s)
    kind = KIND[chosen]
    coded = code(
        m, io, 1 if last >= 0 else 0,
        _CODED_A + s * NEAR + near, _CODED_B + s * KINDS + kind, _CODED_C + a * 4 + b, HALF_CONTEXT, W_CODED,
    )  # fmt: skip
    if coded:
        code_levels(m, io, field.level, x0, y0, s, kind, near, last, mag)
    if io[MODE] == DECODE:
        k = n >> 2
        fill(field.mode, x, y, k, k, chosen)
        fill(field.size, x, y, k, k, log2)
        fill(field.active, x, y, k, k, activity(field.level, x0, y0, n) if coded else 0)


@compiled
def code_split(m: Ints, io: Ints, field: Field, x0: int, y0: int, log2: int, split: int) -> int:
    """Whether a square is cut in four."""
    x, y = x0 >> 2, y0 >> 2
    left = np.int64(field.size[y, x - 1]) if x > 0 else 4
    above = np.int64(field.size[y - 1, x]) if y > 0 else 4
    near = (0 if left >= log2 else 1 if left == log2 - 1 else 2) * 3
    near += 0 if above >= log2 else 1 if above == log2 - 1 else 2
    busy = (np.int64(field.active[y, x - 1]) if x > 0 else 1) + (np.int64(field.active[y - 1, x]) if y > 0 else 1)
    h = HALF_CONTEXT
    a, b = _SPLIT_A + (log2 - 2) * 9 + near, _SPLIT_B + (log2 - 2) * 11 + busy
    return code(m, io, split, a, b, h, h, W_SPLIT)


@compiled
def code_on(m: Ints, io: Ints, field: Field, x0: int, y0: int, on: int) -> int:
    """Whether a superblock has a residual."""
    x, y = x0 >> SUPER_LOG2, y0 >> SUPER_LOG2
    near = (np.int64(field.on[y, x - 1]) if x > 0 else 1) + (np.int64(field.on[y - 1, x]) if y > 0 else 1)
    return code(m, io, on, _ON + near, HALF_CONTEXT, HALF_CONTEXT, HALF_CONTEXT, W_ON)


@compiled
def last_level(level: Ints, x0: int, y0: int, s: int) -> int:
    """Place of the last level that is not 0 in the scan, -1 if there is none."""
    scan = min(s, 3)
    for i in range((4 << scan) * (4 << scan) - 1, -1, -1):
        if level[y0 + SCAN_V[scan, i], x0 + SCAN_U[scan, i]]:
            return i
    return -1


@compiled
def code_tree(m: Ints, io: Ints, field: Field, x0: int, y0: int, mag: Ints) -> None:
    """One superblock's tree of blocks; the field holds it (estimate, encode) or receives it (decode)."""
    H, W = field.level.shape
    # A stack instead of recursion: at most three brothers wait on each of five levels.
    stack = np.empty((20, 3), dtype=np.int64)
    stack[0, 0], stack[0, 1], stack[0, 2] = x0, y0, SUPER_LOG2
    fill = 1
    while fill:
        fill -= 1
        x, y, log2 = stack[fill, 0], stack[fill, 1], stack[fill, 2]
        n = 1 << log2
        if x >= W or y >= H:
            continue
        split = 0
        if x + n > W or y + n > H:
            split = 1
        elif log2 > 2:
            split = 1 if field.size[y >> 2, x >> 2] < log2 else 0
            split = code_split(m, io, field, x, y, log2, split)
        if split:
            h = n >> 1
            for i in range(3, -1, -1):
                stack[fill, 0], stack[fill, 1], stack[fill, 2] = x + h * (i & 1), y + h * (i >> 1), log2 - 1
                fill += 1
            continue
        last = -1 if io[MODE] == DECODE else last_level(field.level, x, y, log2 - 2)
        code_leaf(m, io, field, x, y, log2, last, mag)
