"""Analysis of a picture for starting points: waves in its spectrum, centres of its gradients, arms around centres.

Peaks of the spectrum say frequency and angle of waves, where gradients point says the centre of rings and of rays,
and harmonics along rings say how many arms turn around a centre.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.fixed import FRAC, ONE, TURN_BITS, cos_turns, sin_turns
from pc15.proc.coords import tile_grid
from pc15.search.view import View

COARSE_SIDE = 64
"""Boxes a side of the first climbs: fewer lose fast waves, more cost as their square."""

_COARSE_CYCLES = 14
"""Waves per tile up to which COARSE_SIDE will do, four to five boxes each; faster ones get twice or four times it."""


def resolution(peaks: Sequence[tuple[float, float]]) -> tuple[int, bool]:
    """Boxes a side that the strongest wave asks for, and whether half as many would do for it."""
    fastest = peaks[0][0] if peaks else 1.0
    side = (
        COARSE_SIDE
        if fastest <= _COARSE_CYCLES
        else 2 * COARSE_SIDE
        if fastest <= 2 * _COARSE_CYCLES
        else 4 * COARSE_SIDE
    )
    return side, 2 * fastest <= _COARSE_CYCLES


_PEAKS = 6
"""Waves that are looked for: a checkered or woven pattern has several, and each adds starts to every wave generator."""


def spectrum_peaks(view: View) -> list[tuple[float, float]]:
    """The strongest waves, strongest first: (cycles per tile, degrees), by a parabola between half cycles."""
    side = view.side
    error, weight = view.totals
    rest = view.error - view.weight * error / weight
    peak = float(rest.abs().amax())
    if peak == 0.0:
        return []
    # integers of 16 bits, sines of 15 and S^2 boxes: all sums are exact
    scaled = (rest * 2.0 ** (16 - math.frexp(peak)[1])).round().view(side, side)
    most = 2 * min(64, side // 3)  # in half cycles
    across = torch.arange(0, most, device=rest.device)
    down = torch.arange(1 - most, most, device=rest.device)
    half = 1 << (TURN_BITS - 2)  # a half cycle over coordinates -ONE..ONE is a quarter turn per unit

    def waves(k: Tensor) -> tuple[Tensor, Tensor]:
        turns = ((k[:, None] * view.at.x.view(1, -1).to(torch.int64) * half) >> FRAC).to(torch.int64)
        turns = torch.remainder(turns + (1 << 31), 1 << 32).to(torch.int64) - (1 << 31)
        return cos_turns(turns.to(torch.int32)).to(torch.float64), sin_turns(turns.to(torch.int32)).to(torch.float64)

    cx, sx = waves(across)
    cy, sy = waves(down)
    c, s = ((scaled @ part.t() * 2.0**-14).round() for part in (cx, sx))  # [S, K]
    real, imaginary = cy @ c - sy @ s, cy @ s + sy @ c
    power = real * real + imaginary * imaginary  # [down, across]
    ky, kx = down[:, None].to(torch.float64), across[None, :].to(torch.float64)
    power = torch.where(kx * kx + ky * ky < 1.5, 0.0, power)
    whole = power.cpu().numpy()
    found = []
    for _ in range(_PEAKS):
        top = power.amax()
        if not float(top):
            break
        index = torch.arange(power.numel(), device=power.device)
        at = int(torch.where(power.reshape(-1) == top, index, power.numel()).amin())
        row, column = divmod(at, power.shape[1])
        y, x = float(ky[row, 0]), float(kx[0, column])
        fy, fx = y + _vertex(whole, row, column, 1, 0), x + _vertex(whole, row, column, 0, 1)
        found.append((math.hypot(fx, fy) / 2.0, math.degrees(math.atan2(fy, fx))))
        near = (ky - y).square() + (kx - x).square() < 9.0
        mirrored = (ky + y).square() + (kx + x).square() < 9.0
        power = torch.where(near | mirrored, 0.0, power)
    return found


def _vertex(power: npt.NDArray[np.float64], row: int, column: int, down: int, across: int) -> float:
    """Vertex of the parabola through a peak and its neighbours along an axis, -0.5..0.5; 0 at an end."""
    rows, columns = power.shape
    if not (down <= row < rows - down and column + across < columns):
        return 0.0
    # to the left of column 0 the spectrum of a real picture is its own mirror image
    mirrored = column - across < 0
    before = power[rows - 1 - row, across] if mirrored else power[row - down, column - across]
    after = power[row + down, column + across]
    bend = 2.0 * power[row, column] - before - after
    return min(0.5, max(-0.5, float((after - before) / (2.0 * bend)))) if bend > 0 else 0.0


def gradient_centres(view: View) -> list[tuple[float, float]]:
    """The points that most gradients point to, and that most run around: (cx, cy) in half tiles each.

    Least squares over all boxes of the distance between the point and the line through the box.
    """
    side = view.side
    known = view.weight.view(side, side) > 0
    e = torch.where(known, view.error.view(side, side) / view.weight.view(side, side).clamp(min=1.0), 0.0)
    scale = float(e.abs().amax())
    if scale == 0.0:
        return []
    e = (e * (2048.0 / scale)).round().to(torch.int64)
    inner = known[1:-1, 1:-1] & known[:-2, 1:-1] & known[2:, 1:-1] & known[1:-1, :-2] & known[1:-1, 2:]
    gx = torch.where(inner, e[1:-1, 2:] - e[1:-1, :-2], 0)
    gy = torch.where(inner, e[2:, 1:-1] - e[:-2, 1:-1], 0)
    x, y = view.at.x.view(1, -1)[:, 1:-1].to(torch.int64) >> 4, view.at.y.view(-1, 1)[1:-1].to(torch.int64) >> 4
    unit = ONE >> 4
    centres = []
    for u, v in ((-gy, gx), (gx, gy)):  # what is at right angles to the way to the centre
        along = u * x + v * y
        sums = [float(t.sum()) for t in (u * u, u * v, v * v, u * along, v * along)]
        uu, uv, vv, ua, va = sums
        det = uu * vv - uv * uv
        if det > 1e-6 * uu * vv > 0.0:
            centres.append(((ua * vv - va * uv) / det / unit, (va * uu - ua * uv) / det / unit))
    return centres


@functools.lru_cache(maxsize=8)
def _around(
    side: int, xs: tuple[float, ...], ys: tuple[float, ...], arms: range, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Waves around each of some centres, ys by xs, and rings about them.

    Returns:
        cosines and sines of m * theta for every m of `arms`, [C,M,S*S] float64, integers up to 2^14; the ring of each
        box, [C,S*S] int64.
    """
    at = tile_grid(side, device=device)
    lines = [torch.tensor([round(c * ONE) for c in part], dtype=torch.int32, device=device) for part in (ys, xs)]
    cy, cx = (part.reshape(-1, 1, 1) for part in torch.meshgrid(*lines, indexing="ij"))
    x, y = (at.x - cx).expand(-1, side, side), (at.y - cy).expand(-1, side, side)
    turns = torch.tensor(arms, dtype=torch.int32, device=device).view(1, -1, 1, 1) * at.angle(x, y)[:, None]
    ring = torch.div(at.radius(x, y).to(torch.int64) * side, 4 * ONE, rounding_mode="floor")  # two boxes wide
    waves = [(part >> 1).flatten(2).to(torch.float64) for part in (cos_turns(turns), sin_turns(turns))]
    return waves[0], waves[1], ring.flatten(1)


_TURNS = 3
"""Centres of arms that are kept: each adds starts in proportion, of all counts near its own and all windings."""


def _turned(
    view: View, rest: Tensor, xs: tuple[float, ...], ys: tuple[float, ...], arms: range
) -> list[tuple[float, float, int]]:
    """(cx, cy, m) by what m arms around the centre draw of `rest`, integers below 2^17, best first; one per centre."""
    cosine, sine, ring = _around(view.side, xs, ys, arms, rest.device)
    rings = int(ring.amax()) + 1
    boxes = torch.zeros((len(ring), rings), dtype=torch.float64, device=rest.device)
    boxes.scatter_add_(1, ring, (view.weight > 0).to(torch.float64).expand_as(ring))
    gain = torch.zeros(cosine.shape[:2], dtype=torch.float64, device=rest.device)
    at = ring[:, None].expand_as(cosine)
    for wave in (cosine, sine):  # sums of integers: exact in any order
        sums = torch.zeros((*cosine.shape[:2], rings), dtype=torch.float64, device=rest.device)
        sums.scatter_add_(2, at, wave * rest)
        gain += (sums * sums / boxes[:, None].clamp(min=1.0) * 2.0**-30).round().sum(dim=2)
    best = gain.amax(dim=1, keepdim=True)
    which = torch.arange(len(arms), device=rest.device).expand_as(gain)
    first = torch.where(gain == best, which, len(arms)).amin(dim=1).tolist()
    order = torch.sort(best[:, 0], descending=True, stable=True).indices[:_TURNS].tolist()
    return [(xs[i % len(xs)], ys[i // len(xs)], arms[first[i]]) for i in order]


_ARMS = 20
"""Most arms, or rays, that are looked for: each costs a wave per centre tried."""

_ARM_CENTRES = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)
"""Centres tried either way, in half tiles: a finer grid costs its square, a coarser one loses arms in between."""

_NEARER = (-0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12)
"""Steps from the best of them, in half tiles, to which it is looked for again: they close the gaps of _ARM_CENTRES."""


def turning(view: View) -> list[tuple[float, float, int]]:
    """The few centres that a picture turns around most, best first: (cx, cy, arms).

    What m arms may draw around a centre is the m-th harmonic of every ring, whatever its phase: so spirals, of any
    profile along r, and rays.  The best centre is looked for again on a finer grid.
    """
    error, weight = view.totals
    rest = view.error - view.weight * error / weight
    peak = float(rest.abs().amax())
    if peak == 0.0:
        return []
    rest = (rest * 2.0 ** (16 - math.frexp(peak)[1])).round()
    found = _turned(view, rest, _ARM_CENTRES, _ARM_CENTRES, range(1, _ARMS + 1))
    cx, cy, arms = found[0]
    xs, ys = (tuple(round(c + step, 3) for step in _NEARER) for c in (cx, cy))
    return [*_turned(view, rest, xs, ys, range(max(1, arms - 1), arms + 2))[:1], *found[1:]]
