"""Planes on which no pattern is drawn: the surface through their tiles' DC values, in NumPy.

The same integers as `pc15.draw` and `pc15.dc_surface`, which draw it for planes with patterns; a stream without any, be
it as small as a hostile one, waits for no torch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from pc15.bitstream.header import Header, PlaneSpec, plane_size
from pc15.bitstream.programs import Ints, Programs
from pc15.grids import TileGridCfg, TileSpec, grid
from pc15.luma import SAMPLE_ONE
from pc15.quant import middle_level, step_q15
from pc15.scales import FRAC, HALF, ONE

__all__ = ["SHARE_BITS", "SHARE_ONE", "flat_plane", "is_flat", "least_sharp", "row_bands", "shares_between_knots"]

Plane = npt.NDArray[np.int32]

SHARE_BITS = 8
SHARE_ONE = 1 << SHARE_BITS
SMOOTH_STEPS = 2
"""Knots up to this many DC steps apart (and at least SMOOTH_LEAST) are joined by a ramp, from twice that by a step."""
SMOOTH_LEAST = 96  # Q12: six 8-bit levels

_ROWS_PIXELS = 1 << 20  # samples of the plane that are finished at once


def is_flat(programs: Sequence[Programs]) -> bool:
    """True where the programs of a plane's grids have no layer."""
    return not any(own.count.any() for own in programs)


def row_bands(start: int, stop: int, width: int) -> Iterator[tuple[int, int]]:
    """Rows start..stop-1 as (first, end) of bands, each of about _ROWS_PIXELS samples at most."""
    step = max(1, _ROWS_PIXELS // width)
    for top in range(start, stop, step):
        yield top, min(top + step, stop)


def least_sharp(step_q12: int) -> int:
    """Difference of two knots, Q12, up to which a ramp joins them."""
    return max(SMOOTH_LEAST, SMOOTH_STEPS * step_q12)


@functools.lru_cache(maxsize=16)
def shares_between_knots(starts: tuple[int, ...], size: int, overlap: int, length: int) -> tuple[Ints, Plane, Plane]:
    """(knot before, ramp share, step share) of every pixel of an axis, [length]; shares of the knot after in SHARE_ONE.

    They are kept, and not to be written to.
    """
    if len(starts) == 1:
        zero = np.zeros(length, np.int32)
        return np.zeros(length, np.int64), zero, zero
    centre = np.array(starts, np.int64) * 2 + size - 1  # in half pixels
    at = np.arange(length, dtype=np.int64) * 2
    before = (np.searchsorted(centre, at, side="right") - 1).clip(0, len(starts) - 2)
    gap = centre[before + 1] - centre[before]
    past = (at - centre[before]).clip(0)
    ramp = ((past * (2 * SHARE_ONE) + gap) // (2 * gap)).clip(0, SHARE_ONE)
    width = 2 * max(overlap, 1)
    t = (((2 * past - gap + width) * ONE) // (2 * width)).clip(0, ONE)
    smooth = (((t * t + HALF) >> FRAC) * (3 * ONE - 2 * t) + HALF) >> FRAC  # fixed.smoothstep
    step = (smooth + (ONE // SHARE_ONE // 2)) >> (FRAC - SHARE_BITS)
    return before, ramp.astype(np.int32), step.astype(np.int32)


def flat_plane(programs: Sequence[Programs], header: Header, plane: int) -> Plane:
    """Samples of a plane whose programs have no layer, [h,w] int32 Q12 in 0..4096.

    Args:
        programs: of the plane's grids, the coarse one first.
    """
    spec, size = header.planes[plane], plane_size(header, plane)
    drawn = _flat_grid(programs[-1], spec, size)
    if spec.under is not None:
        drawn += _flat_grid(programs[0], spec.under, size)
        drawn -= _dc_samples(np.array(middle_level(spec.dc_step)), spec.dc_step)
        np.clip(drawn, 0, SAMPLE_ONE, out=drawn)
    return drawn


def _dc_samples(dc: Ints, dc_step: int) -> Plane:
    """DC levels as Q12 samples."""
    samples: Plane = ((dc * step_q15(dc_step) + 4) >> 3).clip(0, SAMPLE_ONE).astype(np.int32)
    return samples


def _flat_grid(programs: Programs, spec: PlaneSpec, size: tuple[int, int]) -> Plane:
    """`draw.predict_grid` of programs without layers."""
    tiles = grid(*size, TileGridCfg(size=spec.tile, overlap=spec.overlap))
    knots = _dc_samples(programs.dc, spec.dc_step).reshape(tiles.ny, tiles.nx)
    out = np.empty(size, np.int32)
    for top, below in row_bands(0, *size):
        rows = _between(knots, _shares(tiles, 0, top, below), step_q15(spec.dc_step) >> 3)
        across = _between(np.ascontiguousarray(rows.T), _shares(tiles, 1), step_q15(spec.dc_step) >> 3)
        np.clip(across.T, 0, SAMPLE_ONE, out=out[top:below])
    return out


def _shares(tiles: TileSpec, axis: int, first: int = 0, last: int | None = None) -> tuple[Ints, Plane, Plane]:
    """`shares_between_knots` of some rows, or of some columns."""
    starts, length = ((tiles.ys, tiles.H), (tiles.xs, tiles.W))[axis]
    before, ramp, step = shares_between_knots(starts, tiles.size, tiles.overlap, length)
    return before[first:last], ramp[first:last], step[first:last]


def _between(knots: Plane, shares: tuple[Ints, Plane, Plane], step_q12: int) -> Plane:
    """Values between knots along the first dimension, [n,m] -> [length,m]: what `dc_surface.surface` does per axis."""
    before, ramp, step = shares
    if len(knots) == 1:
        return np.repeat(knots, len(before), axis=0)
    smooth = least_sharp(step_q12)
    ahead = knots[1:] - knots[:-1]
    sharp = (np.abs(ahead) - smooth).clip(0, smooth) * SHARE_ONE // smooth
    share = sharp[before]
    share *= (step - ramp)[:, None]
    share += SHARE_ONE // 2
    share >>= SHARE_BITS
    share += ramp[:, None]
    share *= ahead[before]
    share += SHARE_ONE // 2
    share += (knots * SHARE_ONE)[before]
    share >>= SHARE_BITS
    return share
