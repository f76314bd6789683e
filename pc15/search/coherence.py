"""Test of a plane's gradients for the directions of a single pattern: a millisecond, before any pattern is drawn.

Whatever its profile, frequency and phase, a pattern moves luma in few directions:

    straight    stripes and gradients: all gradients are parallel
    crossed     checkerboards: they are parallel to one of two axes
    summed      plaids: no second derivative mixes the two axes
    around      rings, rays and spirals: at one distance from the centre, all have the same angle to the way there

Each is a share of the gradients' (the second derivatives') energy, close to 1 for its patterns; one photograph in a
hundred comes as close in any of the four.  Several sets of stripes and waves upon each other have no such directions,
but a spectrum of few peaks, which no photograph has.  Sums are in an order that is written down: the same answer on
every machine.
Source: J. Bigun, G. Granlund, "Optimal orientation detection of linear symmetry", ICCV 1987 (the structure tensor).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc15.runtime.jit import jit_entry, jit_inner

Array = NDArray[Any]

BOXES = 128
"""Boxes along the longer side, at most; half as many at least if it has so many pixels."""

_RINGS = 24
_CENTRES = ((3, 0.2), (2, 0.05))
"""Centres looked at either way on both axes, and the half sides between them; then the same around the best one."""


class Coherence(NamedTuple):
    """Shares from 0 to 1; see the module."""

    straight: float
    crossed: float
    summed: float
    around: float


RIVAL = 1.0 / 3.0
"""Share of the variance: a code worth less is beaten only by patterns that gradients give away, so others are out."""

PATTERN = Coherence(straight=0.9, crossed=0.65, summed=0.98, around=0.92)
"""A plane that reaches one of these may be a pattern."""


@jit_entry(error_model="numpy")
def _reduce(plane: Array, box: int, out: Array) -> None:
    """Sums of box x box pixels, out [h // box, w // box] float64."""
    rows, columns = out.shape
    for y in range(rows):
        for x in range(columns):
            total = np.int64(0)
            for j in range(y * box, (y + 1) * box):
                for i in range(x * box, (x + 1) * box):
                    total += plane[j, i]
            out[y, x] = total


@jit_inner(error_model="numpy", inline="always")
def _larger(a: float, b: float, c: float) -> float:
    """The larger eigenvalue of [[a, b], [b, c]]."""
    return (a + c) * 0.5 + np.sqrt((a - c) * (a - c) * 0.25 + b * b)


@jit_inner(error_model="numpy")
def _around(gx: Array, gy: Array, cx: float, cy: float, scale: float, sums: Array) -> float:
    """Share of the gradients that have one angle to the way to (cx, cy), in boxes, on each ring of 1 / scale boxes.

    Every other one of every other row stands for all.
    """
    rows, columns = gx.shape
    for k in range(_RINGS):
        sums[0, k] = sums[1, k] = sums[2, k] = 0.0
    for y in range(0, rows, 2):
        dy = y - cy
        for x in range(0, columns, 2):
            dx = x - cx
            square = dx * dx + dy * dy + 1e-6
            k, share = min(_RINGS - 1, int(np.sqrt(square) * scale)), 1.0 / square
            along, across = gx[y, x] * dx + gy[y, x] * dy, gy[y, x] * dx - gx[y, x] * dy
            sums[0, k] += along * along * share
            sums[1, k] += along * across * share
            sums[2, k] += across * across * share
    best, total = 0.0, 0.0
    for k in range(_RINGS):
        best += _larger(sums[0, k], sums[1, k], sums[2, k])
        total += sums[0, k] + sums[2, k]
    return best / max(total, 1.0)


@jit_entry(error_model="numpy")
def _directions(boxes: Array, gx: Array, gy: Array, out: Array) -> None:
    """Gradients [h-1,w-1] of boxes [h,w], and three shares: straight, crossed, summed."""
    rows, columns = boxes.shape
    xx, xy, yy, cosine, sine = 0.0, 0.0, 0.0, 0.0, 0.0
    for y in range(rows - 1):
        for x in range(columns - 1):
            down = boxes[y + 1, x + 1] - boxes[y, x]
            up = boxes[y, x + 1] - boxes[y + 1, x]
            u, v = down + up, down - up
            gx[y, x], gy[y, x] = u, v
            energy = u * u + v * v
            xx += u * u
            xy += u * v
            yy += v * v
            if energy > 0.0:
                c, s = u * u - v * v, 2.0 * u * v
                cosine += (c * c - s * s) / energy
                sine += 2.0 * c * s / energy
    energy = xx + yy
    aa, ab, bb, all_of_them = 0.0, 0.0, 0.0, 0.0
    for y in range(1, rows - 1):
        for x in range(1, columns - 1):
            middle = 2.0 * boxes[y, x]
            dxx = boxes[y, x + 1] + boxes[y, x - 1] - middle
            dyy = boxes[y + 1, x] + boxes[y - 1, x] - middle
            dxy = (boxes[y + 1, x + 1] + boxes[y - 1, x - 1] - boxes[y + 1, x - 1] - boxes[y - 1, x + 1]) * 0.25
            a = (dyy - dxx) * 0.5
            aa += a * a
            ab += a * dxy
            bb += dxy * dxy
            all_of_them += dxx * dxx + dyy * dyy + 2.0 * dxy * dxy
    out[0] = _larger(xx, xy, yy) / max(energy, 1.0)
    out[1] = np.sqrt(cosine * cosine + sine * sine) / max(energy, 1.0)
    out[2] = 1.0 - 2.0 * (aa + bb - _larger(aa, ab, bb)) / max(all_of_them, 1.0)


@jit_entry(error_model="numpy")
def _best_centre(gx: Array, gy: Array, at: Array, reach: int, apart: float, sums: Array) -> float:
    """Move `at`, (x, y) in half sides, to the best of the centres around it; returns its share."""
    rows, columns = gx.shape
    half = max(rows, columns) * 0.5
    best, best_x, best_y = -1.0, at[0], at[1]
    for i in range(-reach, reach + 1):
        for j in range(-reach, reach + 1):
            x, y = at[0] + apart * j, at[1] + apart * i
            cx, cy = (columns - 1) * 0.5 + x * half, (rows - 1) * 0.5 + y * half
            found = _around(gx, gy, cx, cy, 8.0 / half, sums)
            if found > best:
                best, best_x, best_y = found, x, y
    at[0], at[1] = best_x, best_y
    return best


def coherence(plane: Array) -> Coherence:
    """The shares of a plane [h,w] of integers that are like one pattern."""
    h, w = plane.shape
    box = -(-max(h, w) // BOXES)
    boxes = np.zeros((h // box, w // box))
    if min(boxes.shape) < 6:  # a line, nearly
        return Coherence(1.0, 1.0, 1.0, 1.0)
    _reduce(plane, box, boxes)
    half = boxes[: len(boxes) & ~1, : boxes.shape[1] & ~1]
    half = half[::2, ::2] + half[::2, 1::2] + half[1::2, ::2] + half[1::2, 1::2]
    at, out, around = np.zeros(2), np.zeros(3), 0.0
    for sums, (reach, apart) in zip((half, boxes), _CENTRES, strict=True):
        gx, gy = (np.zeros((len(sums) - 1, sums.shape[1] - 1)) for _ in range(2))
        _directions(sums, gx, gy, out)
        around = _best_centre(gx, gy, at, reach, apart, np.zeros((3, _RINGS)))
    return Coherence(float(out[0]), float(out[1]), float(out[2]), around)


_PEAKS = 12
_WAVES = 0.95
"""Share of the energy that lies in so few peaks of the spectrum: of 324 photographs none has more than 0.88, of sums of
two to four stripes and waves all have 0.97."""
_AROUND = 2  # a windowed wave's energy lies within so many cycles of its own


def _spectrum(boxes: Array) -> Array:
    """Power of boxes [h,w] by cycles, [h,w] float64, through a window; all sums are of integers below 2^53."""
    windows, waves = [], []
    for side in boxes.shape:
        at, cycle = np.arange(side), 2.0 * np.pi / side
        windows.append(np.round(128.0 - 128.0 * np.cos((at + 0.5) * cycle)))
        turns = np.outer(at, at) % side * cycle
        waves.append((np.round(np.cos(turns) * 4096.0), np.round(np.sin(turns) * 4096.0)))
    scaled = np.round(boxes * (2047.0 / max(np.abs(boxes).max(), 1.0)))
    scaled = np.round(scaled * np.outer(*windows) * 2.0**-10)
    (cy, sy), (cx, sx) = waves
    power = np.zeros(boxes.shape)
    _transform(scaled, cy, sy, cx, sx, power)
    return power


@jit_entry(error_model="numpy")
def _transform(boxes: Array, cy: Array, sy: Array, cx: Array, sx: Array, power: Array) -> None:
    """Power [h,w] of boxes [h,w] by cycles, from cosines and sines of both axes, 2^12."""
    rows, columns = boxes.shape
    c, s = np.zeros((rows, columns)), np.zeros((rows, columns))
    for y in range(rows):
        along, across = c[y], s[y]
        for x in range(columns):
            value, cosines, sines = boxes[y, x], cx[x], sx[x]
            for k in range(columns):
                along[k] += value * cosines[k]
                across[k] += value * sines[k]
        for k in range(columns):
            along[k], across[k] = np.rint(along[k] * 2.0**-12), np.rint(across[k] * 2.0**-12)
    real, imaginary = np.zeros(columns), np.zeros(columns)
    for j in range(rows):
        real[:], imaginary[:] = 0.0, 0.0
        for y in range(rows):
            cosine, sine, along, across = cy[j, y], sy[j, y], c[y], s[y]
            for k in range(columns):
                real[k] += cosine * along[k] - sine * across[k]
                imaginary[k] += cosine * across[k] + sine * along[k]
        for k in range(columns):
            power[j, k] = real[k] * real[k] + imaginary[k] * imaginary[k]


@jit_entry(error_model="numpy")
def _peaked(power: Array, peaks: int) -> float:
    """Share of the power [h,w] that lies around its strongest peaks, those of less than two cycles left out."""
    rows, columns = power.shape
    total, taken = 0.0, 0.0
    for y in range(rows):
        for x in range(columns):
            total += power[y, x]
    for y in range(-1, 2):
        for x in range(-1, 2):
            power[y % rows, x % columns] = 0.0
    for _ in range(peaks):
        best, at_y, at_x = 0.0, 0, 0
        for y in range(rows):
            for x in range(columns):
                if power[y, x] > best:
                    best, at_y, at_x = power[y, x], y, x
        for sign in (1, -1):
            for i in range(-_AROUND, _AROUND + 1):
                for j in range(-_AROUND, _AROUND + 1):
                    y, x = (sign * at_y + i) % rows, (sign * at_x + j) % columns
                    taken += power[y, x]
                    power[y, x] = 0.0
    return taken / max(total, 1.0)


def is_sum_of_waves(plane: Array) -> bool:
    """True if a plane [h,w] of integers may be a few sets of stripes and waves, one upon the other."""
    h, w = plane.shape
    box = -(-max(h, w) // BOXES)
    boxes = np.zeros((h // box, w // box))
    if min(boxes.shape) < BOXES // 4:
        return False
    _reduce(plane, box, boxes)
    boxes = np.round(boxes - boxes.mean())
    return bool(_peaked(_spectrum(boxes), _PEAKS) >= _WAVES)


def is_coherent(plane: Array) -> bool:
    """True if a plane [h,w] of integers may be one pattern."""
    return any(share >= least for share, least in zip(coherence(plane), PATTERN, strict=True))


def may_be_pattern(plane: Array, left: float) -> bool:
    """True unless gradients rule out that a plane is one pattern that costs less than what can be had already.

    Args:
        plane: [h,w] int32 Q12.   left: as of `single_pattern.detect_single_pattern`.
    """
    return left >= RIVAL or max(plane.shape) < BOXES or is_coherent(plane) or is_sum_of_waves(plane)
