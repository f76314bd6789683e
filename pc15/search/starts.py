"""Starting points in the parameter space of a generator, from an analysis of the picture and from the bank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pc15.proc.generators import load
from pc15.proc.spec import Param
from pc15.search.backend import backend_of
from pc15.search.bank import Bank
from pc15.search.view import View


def bank_gains(bank: Bank, view: View) -> Tensor:
    """Squared error that every row of the bank would take off a view of its resolution, up to a factor; [K] float64.

    The view is rounded until the sums of products with int8 rows fit into 32 bits.
    """
    room = 31 - 7 - (bank.side**2 - 1).bit_length()
    error, weight = _rounded(view.error, room), _rounded(view.weight, room - 7)
    product, share, power = backend_of(error.device).row_sums(bank.pixels, error, weight)
    whole = weight.sum(dtype=torch.int64).to(torch.float64)
    linear = product - share * error.sum(dtype=torch.int64).to(torch.float64) / whole
    square = power - share * share / whole
    return torch.where(square > 0, linear * linear / square.clamp(min=1.0), 0.0)


def _rounded(values: Tensor, bits: int) -> Tensor:
    """Integers held in float64 as int32 below 2^bits, scaled by a power of two."""
    peak = float(values.abs().amax())
    return (
        torch.round(values * 2.0 ** min(0, bits - math.frexp(peak)[1])).clamp(1 - 2**bits, 2**bits - 1).to(torch.int32)
    )


STARTS = 8000
"""Most starts of a generator from one kind of analysis: all are scored at low resolution, which is most of a search's
time; beyond it only every so manyth is taken."""

_WINDINGS = 8
"""Most turns along r that are looked for around a centre of arms: each makes two starts per centre and count."""

_LIMIT = 3.0
"""Half tiles; gradients that meet farther out are nearly parallel and say nothing of a centre."""


def starts(
    gen: int,
    fine: int,
    peaks: Sequence[tuple[float, float]],
    centres: Sequence[tuple[float, float]],
    turns: Sequence[tuple[float, float, int]] = (),
    *,
    most: int = STARTS,
) -> Tensor | None:
    """Points of a generator's parameter space that an analysis suggests, [K, P] int64 sub-levels; None for none.

    Args:
        peaks, centres, turns: from `spectrum_peaks`, `gradient_centres` and `turning`.
        most: of each kind.
    """
    params = load(gen).params_at(fine)
    names = [p.name for p in params]
    joint: list[dict[str, float]] = []
    wound: list[dict[str, float]] = []
    speed = next((n for n in names if n in ("freq", "cells")), None)
    if "cx" in names and "cy" in names:
        spots = [c for c in centres if max(abs(c[0]), abs(c[1])) < _LIMIT] or [(0.0, 0.0)]
        joint = [{"cx": cx, "cy": cy} for cx, cy in spots]
        if speed is not None:  # a ring in the spectrum, of which peaks are parts
            near = {round(2.0 * freq) + i for freq, _ in peaks[:3] for i in (-1, 0, 1)}
            joint = [{**at, speed: half / 2.0} for at in joint for half in sorted(near) if half > 0]
        if (count := next((p for p in params if p.kind == "count"), None)) is not None:
            ways = (-1, 1) if count.lo < 0 else (1,)
            wound = [
                {"cx": cx, "cy": cy, count.name: way * near}
                for cx, cy, arms in turns
                for near in range(max(1, arms - 1), arms + 2)  # seen from beside the centre there are others, too
                for way in ways
            ]
            if speed is not None:
                wound = [{**at, speed: half / 2.0} for at in wound for half in range(1, 2 * _WINDINGS + 1)]
    elif "angle_deg" in names and speed is not None:
        for freq, angle in peaks:
            for factor, turn in ((1.0, 0.0), (math.sqrt(0.5), 45.0), (0.5, 0.0), (1.0 / 3.0, 0.0)):
                speeds = {"freq": freq * factor, "cells": 2.0 * freq * factor}
                joint.append({"angle_deg": angle + turn} | {n: v for n, v in speeds.items() if n in names})
    points = [_points(params, fine, heads, most) for heads in (joint, wound) if heads]
    return torch.cat(points) if points else None


def _points(params: Sequence[Param], fine: int, heads: Sequence[Mapping[str, float]], most: int) -> Tensor:
    """All heads, which give some parameters by name, with all choices of the others; of too many every so manyth."""
    fixed = [[p.nearest_step(at[p.name], fine) if p.name in at else 0 for p in params] for at in heads]
    phases = sum(p.kind == "turns" for p in params)
    free = {i: _choices(p, fine, 8 if phases > 1 else 4) for i, p in enumerate(params) if p.name not in heads[0]}
    sizes = [len(fixed), *(len(values) for values in free.values())]
    stride = -(-math.prod(sizes) // most)
    head, *tails = np.unravel_index(np.arange(0, math.prod(sizes), stride), sizes)
    points = np.array(fixed, np.int64)[head]
    for (i, values), at in zip(free.items(), tails, strict=True):
        points[:, i] = np.array(values, np.int64)[at]
    return torch.from_numpy(points)


def _choices(p: Param, fine: int, phases: int) -> list[int]:
    """Sub-levels to begin with: all counts, `phases` of a turn, some angles, else the coarse middle."""
    one = 1 << p.shift(fine)
    if p.kind == "count":
        first, last = p.span(0)
        return list(range(first, last + 1))
    if p.kind == "turns" and p.periodic:
        # the other half of a wave's turn is its negative
        return [p.levels * one * i // phases for i in range(phases if p.coarse_share == 1.0 else phases // 2)]
    if p.kind == "degrees" and p.periodic:
        return [p.levels * one * i // 8 for i in range(8)]
    levels = p.coarse_levels if p.name == "radius" else p.coarse_levels[len(p.coarse_levels) // 2 :][:1]
    return [level * one for level in levels]
