"""Residual of a tile -> what it looks like, as a `Structure` for rules.

Any tile size is brought to 16x16 (energy, moments) and to at most 32x32 (gradients, spectrum) by area averages, so that
one rule serves all sizes.  Sums over pixels are of integers and exact; what follows is float64, and rules compare it in
steps of 1/256.  So what a rule says of a tile depends neither on the batch it comes in nor on the device.
Sources: N. Dalal, B. Triggs, "Histograms of oriented gradients", CVPR 2005; J. Bigun, G. Granlund, "Optimal
orientation detection of linear symmetry", ICCV 1987 (structure tensor).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.errors import ImageError

__all__ = ["Structure", "structure"]

PATCH = 16
SPECTRUM = 32
ORIENTATIONS = 8

_SAMPLE_ONE = 4096.0
_SAMPLE_TOP = (1 << 13) - 1
_WORK_UNIT = 8
"""Q12 units per step of the working tile, Q9."""
_FLAT = 1.0
"""RMS, in Q12 units, below which a residual counts as flat: a sixteenth of an 8-bit level."""

_CHUNK_PIXELS = 1 << 18  # bounds memory; temporaries of this size still mostly stay in the cache


@dataclass(frozen=True)
class Structure:
    """Measures of a residual's structure, [n] float64 each.

    rms: deviation from the tile's mean, in luma.
    coherence: 0 no direction, 1 all gradients along one line.
    angle: direction of the dominant gradient, turns in [0, 0.5); a vertical edge has 0.
    spread: entropy of the orientation histogram, 0 one direction, 1 all alike.
    crossed: gradient energy at right angles to the dominant direction, against that along it; 1 for a square lattice.
    freq: cycles across the tile of the strongest frequency; peak_angle its direction, turns in [0, 0.5).
    peak: share of the spectrum within one bin of the strongest frequency.
    second: the same for the strongest frequency well away from it.
    ring: share of the spectrum at about the radius of the strongest frequency.
    low, high: share of the spectrum below 2 and above 8 cycles.
    kurtosis: fourth moment over the squared second: 1 two-valued, 3 noise, more for lone spots.
    skew: third moment over the second's 1.5th power.
    locality: 0 energy spread evenly, 1 all of it in one of 4x4 cells.
    sparse: share of the gradient energy that the strongest tenth of the pixels holds.
    plane: share of the energy that a linear ramp explains.
    radial: share of the energy that a centred bowl (x^2 + y^2) explains.
    two_valued: share of pixels near the RMS on either side; 1 for hard black and white.
    """

    rms: Tensor
    coherence: Tensor
    angle: Tensor
    spread: Tensor
    crossed: Tensor
    freq: Tensor
    peak_angle: Tensor
    peak: Tensor
    second: Tensor
    ring: Tensor
    low: Tensor
    high: Tensor
    kurtosis: Tensor
    skew: Tensor
    locality: Tensor
    sparse: Tensor
    plane: Tensor
    radial: Tensor
    two_valued: Tensor


def structure(residual: Tensor) -> Structure:
    """Structure of residuals.

    Args:
        residual: [n,T,T] int32 Q12 (4096 = luma 1.0), on any device: picture minus what is drawn so far.
    Raises:
        ImageError: not a batch of square integer tiles.
    """
    _check(residual)
    parts = [_structure(part) for part in _chunks(residual)]
    return Structure(*(torch.cat([getattr(part, name) for part in parts]) for name in Structure.__dataclass_fields__))


def _check(residual: Tensor) -> None:
    shape = list(residual.shape)
    if residual.dim() != 3 or shape[1] != shape[2] or shape[1] < 2 or residual.dtype.is_floating_point:
        raise ImageError(f"residual is {residual.dtype} of shape {shape}; give int32 Q12 as [n, T, T], T at least 2")


def _chunks(residual: Tensor) -> list[Tensor]:
    step = max(1, _CHUNK_PIXELS // (residual.shape[1] * residual.shape[2]))
    return [residual[i : i + step] for i in range(0, max(1, residual.shape[0]), step)]


def _structure(residual: Tensor) -> Structure:
    n, tile = residual.shape[0], residual.shape[1]
    device = residual.device
    sums = _area_sums(residual.clamp(-_SAMPLE_TOP, _SAMPLE_TOP), PATCH)  # [n,16,16], tile^2 times the cell's mean
    small = sums.to(torch.float64) / float(tile * tile)
    small = small - small.mean(dim=(1, 2), keepdim=True)
    work = _work_tile(residual)  # [n,w,w] int32 Q9
    side = work.shape[1]
    count = side * side
    total = work.sum(dim=(1, 2), dtype=torch.int64)
    square = (work * work).sum(dim=(1, 2), dtype=torch.int64)
    variance = (square * count - total * total).to(torch.float64) / float(count * count) * _WORK_UNIT**2

    energy = small.square()
    all_energy = energy.mean(dim=(1, 2)).clamp(min=_FLAT)
    skew = (energy * small).mean(dim=(1, 2)) / (all_energy * all_energy.sqrt())
    kurtosis = energy.square().mean(dim=(1, 2)) / all_energy.square()
    distance = (small.abs() / all_energy.sqrt().view(-1, 1, 1) - 1.0).abs()
    two_valued = (distance < 0.35).to(torch.float64).mean(dim=(1, 2))
    cells = energy.view(n, 4, 4, 4, 4).mean(dim=(2, 4)).flatten(1) / (16.0 * all_energy.view(-1, 1))
    locality = ((16.0 * cells.square().sum(dim=1) - 1.0) / 15.0).clamp(0.0, 1.0)
    ramp, bowl = _ramp(device)
    whole_energy = all_energy * float(PATCH * PATCH)
    plane, radial = (
        sum((small * basis).sum(dim=(1, 2)).square() for basis in bases) / whole_energy
        for bases in ((ramp.view(1, -1), ramp.view(-1, 1)), (bowl,))
    )

    gx = work[:, 1:-1, 2:] - work[:, 1:-1, :-2]
    gy = work[:, 2:, 1:-1] - work[:, :-2, 1:-1]
    whole = _orientation_histogram(gx, gy)  # [n,8]
    gxx, gyy = gx * gx, gy * gy
    slopes = [part.sum(dim=(1, 2), dtype=torch.int64).to(torch.float64) for part in (gxx, gyy, gx * gy)]
    jxx, jyy, jxy = slopes
    trace = jxx + jyy
    some = trace.clamp(min=1.0)
    steep = gxx + gyy
    strong = steep.to(torch.float32) > (4.0 * trace / max(1, steep[0:1].numel())).to(torch.float32).view(-1, 1, 1)
    sparse = (steep * strong).sum(dim=(1, 2), dtype=torch.int64).to(torch.float64) / some
    double = ((jxx - jyy).square() + 4.0 * jxy.square()).sqrt()
    angle = (torch.atan2(2.0 * jxy, jxx - jyy) / (4.0 * math.pi)).remainder(0.5)
    share = whole / whole.sum(dim=1, keepdim=True).clamp(min=1.0)
    spread = -(share * share.clamp(min=1e-9).log()).sum(dim=1) / math.log(ORIENTATIONS)
    best = _first_max(share)
    at = torch.arange(n, device=device)
    across = torch.stack([whole[at, (best + o) % ORIENTATIONS] for o in (3, 4, 5)]).amax(dim=0)

    power = _power(work)
    power = power / power.sum(dim=1, keepdim=True).clamp(min=1.0)
    radius, direction, near = _frequencies(device)
    peak_at = _first_max(power)
    freq = radius[peak_at]
    away = power * _beyond(device)[peak_at]
    return Structure(
        rms=variance.sqrt() / _SAMPLE_ONE,
        coherence=double / some,
        angle=angle,
        spread=spread.clamp(0.0, 1.0),
        crossed=across / whole[at, best].clamp(min=1.0),
        freq=freq,
        peak_angle=direction[peak_at],
        peak=(power * near[peak_at]).sum(dim=1),
        second=(power * near[_first_max(away)]).sum(dim=1) * (away.sum(dim=1) > 0),
        ring=(power * ((radius - freq.view(-1, 1)).abs() <= 1.0)).sum(dim=1),
        low=(power * (radius < 2.0)).sum(dim=1),
        high=(power * (radius > 8.0)).sum(dim=1),
        kurtosis=kurtosis,
        skew=skew,
        locality=locality,
        sparse=sparse,
        plane=plane.clamp(0.0, 1.0),
        radial=radial.clamp(0.0, 1.0),
        two_valued=two_valued,
    )


def _first_max(shares: Tensor) -> Tensor:
    """Index of the largest share per row, the lowest among those that are equal to 20 bits."""
    size = shares.shape[1]
    lowest = torch.arange(size - 1, -1, -1, device=shares.device)
    rank = (shares * float(1 << 20)).round().to(torch.int64) * size + lowest
    return size - 1 - rank.amax(dim=1).remainder(size)


# ---------------------------------------------------------------- fixed matrices


@functools.lru_cache(maxsize=64)
def _area(tile: int, size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """[size, tile] integers: how much of each pixel lies in each cell; rows sum to `tile`."""
    cell, pixel = torch.arange(size).view(-1, 1), torch.arange(tile).view(1, -1)
    begin = torch.maximum(cell * tile, pixel * size)
    end = torch.minimum((cell + 1) * tile, (pixel + 1) * size)
    return (end - begin).clamp(min=0).to(dtype).to(device)


def _area_sums(residual: Tensor, size: int) -> Tensor:
    """tile^2 times the mean over each of size x size cells, exact; float32 where that holds it, else float64."""
    tile = residual.shape[1]
    dtype = torch.float32 if tile <= 32 else torch.float64
    weights = _area(tile, size, residual.device, dtype)
    return weights @ residual.to(dtype) @ weights.T


def _work_tile(residual: Tensor) -> Tensor:
    """The tile at no more than 32x32, Q9 integers in [-511, 511]: what gradients and spectrum are taken from."""
    tile = residual.shape[1]
    if tile > SPECTRUM:
        means = _area_sums(residual, SPECTRUM) / float(tile * tile * _WORK_UNIT)
        return means.floor().clamp(-511.0, 511.0).to(torch.int32)
    return (residual >> 3).clamp(-511, 511).to(torch.int32)


@functools.lru_cache(maxsize=8)
def _ramp(device: torch.device) -> tuple[Tensor, Tensor]:
    """Unit-energy ramp along one axis of the patch, [16], and unit-energy centred bowl, [16,16]."""
    x = (torch.arange(PATCH, dtype=torch.float64) * 2 + 1 - PATCH) / PATCH
    bowl = x.view(-1, 1) ** 2 + x.view(1, -1) ** 2
    bowl = bowl - bowl.mean()
    return (x / (x.square().sum() * PATCH).sqrt()).to(device), (bowl / bowl.square().sum().sqrt()).to(device)


@functools.lru_cache(maxsize=64)
def _waves(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Cosines, then sines, of 0..15 cycles under a Hann window, integers of 8 bits, [32, side]; side <= 32."""
    i = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    window = (math.pi * i).sin().square()
    phase = 2.0 * math.pi * torch.arange(SPECTRUM // 2, dtype=torch.float64).view(-1, 1) * i
    inside = (torch.arange(SPECTRUM // 2) <= side // 2).view(-1, 1)  # nothing beyond what the pixels can show
    waves = torch.cat([phase.cos(), phase.sin()]) * window * inside.repeat(2, 1)
    return (waves * 256.0).round().to(dtype).to(device)


def _power(work: Tensor) -> Tensor:
    """Windowed power spectrum, [n,496] float64: rows fy = -15..15, columns fx = 0..15, without the constant."""
    side, half = work.shape[1], SPECTRUM // 2
    centred = work - torch.div(work.sum(dim=(1, 2), keepdim=True), side * side, rounding_mode="floor").to(torch.int32)
    rows = centred.to(torch.float32) @ _waves(side, work.device, torch.float32).T  # exact: below 2^23
    both = _waves(side, work.device, torch.float64) @ rows.to(torch.float64)  # [n,32,32], exact
    cc, cs, sc, ss = both[:, :half, :half], both[:, :half, half:], both[:, half:, :half], both[:, half:, half:]
    down = (cc - ss).square() + (cs + sc).square()  # fy and fx of one sign
    up = (cc + ss).square() + (cs - sc).square()
    power = torch.cat([up.flip(1)[:, :-1], down], dim=1)
    power[:, :half, 0] = 0.0  # the constant, and fx = 0 with fy < 0, which mirrors the rows below
    return power.flatten(1)


@functools.lru_cache(maxsize=8)
def _frequencies(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Radius in cycles and direction in turns [0,0.5) of each spectrum bin, and the bins within one step of it."""
    half = SPECTRUM // 2
    fy, fx = torch.meshgrid(torch.arange(1 - half, half), torch.arange(half), indexing="ij")
    fy, fx = fy.reshape(-1).to(torch.float64), fx.reshape(-1).to(torch.float64)
    radius = (fx.square() + fy.square()).sqrt()
    direction = (torch.atan2(fy, fx) / (2.0 * math.pi)).remainder(0.5)
    near = _within(fy, fx, 1.5)
    return radius.to(device), direction.to(device), near.to(device)


@functools.lru_cache(maxsize=8)
def _beyond(device: torch.device) -> Tensor:
    """Bins more than three steps from each bin: what does not belong to its peak."""
    half = SPECTRUM // 2
    fy, fx = torch.meshgrid(torch.arange(1 - half, half), torch.arange(half), indexing="ij")
    return ~_within(fy.reshape(-1).to(torch.float64), fx.reshape(-1).to(torch.float64), 3.2).to(device)


def _within(fy: Tensor, fx: Tensor, reach: float) -> Tensor:
    """[m,m] bool: frequency j, or its mirror image -j, lies within `reach` of frequency i."""
    same = (fy.view(-1, 1) - fy).square() + (fx.view(-1, 1) - fx).square()
    mirrored = (fy.view(-1, 1) + fy).square() + (fx.view(-1, 1) + fx).square()
    return torch.minimum(same, mirrored) <= reach * reach


def _orientation_histogram(gx: Tensor, gy: Tensor) -> Tensor:
    """Gradient magnitude by orientation, [n,8] float64; bin 0 is a horizontal gradient, bins are 22.5 degrees.

    Bins come from comparing integers, magnitudes are 8 max + 3 min, also integers: sums are exact, below 2^24.
    """
    ax, ay = gx.abs(), gy.abs()
    high = ay << 10
    step = torch.zeros_like(ax)
    for degrees in (11.25, 33.75, 56.25, 78.75):
        step += high > ax * round(1024 * math.tan(math.radians(degrees)))
    bins = torch.where((gx ^ gy) < 0, (ORIENTATIONS - step) & (ORIENTATIONS - 1), step)
    magnitude = 8 * torch.maximum(ax, ay) + 3 * torch.minimum(ax, ay)
    out = torch.zeros(gx.shape[0], ORIENTATIONS, dtype=torch.float32, device=gx.device)
    out.scatter_add_(1, bins.flatten(1).to(torch.int64), magnitude.flatten(1).to(torch.float32))
    return out.to(torch.float64)
