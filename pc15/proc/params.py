"""Vocabulary of the generators' parameter tables: a function for each parameter that recurs, a line for each use.

`levels`, `log` and the keywords of `More` are those of `Param`; `lo`, `hi` and `reach` are in the unit named.
"""

from __future__ import annotations

from typing import TypedDict, Unpack

from pc15.proc.spec import Param


class More(TypedDict, total=False):
    """Fields of `Param` that most functions pass on as they are."""

    coarse: int
    coarse_share: float
    default: float | None
    wide: tuple[float, float]


# ---------------------------------------------------------------- a parameter of any name, by kind


def ratio(name: str, lo: float, hi: float, unit: str, *, levels: int, log: bool = False, **more: Unpack[More]) -> Param:
    """Length in half tiles or in cells, or a share; `unit` tells which."""
    return Param(name=name, lo=lo, hi=hi, unit=unit, levels=levels, log=log, **more)


def count(name: str, lo: int, hi: int, unit: str, **more: Unpack[More]) -> Param:
    """Whole number of `unit`, a level each."""
    return Param(name=name, lo=lo, hi=hi, unit=unit, levels=hi - lo + 1, kind="count", **more)


def degrees(name: str, lo: float, hi: float, unit: str, *, levels: int, **more: Unpack[More]) -> Param:
    """Angle between two directions, degrees."""
    return Param(name=name, lo=lo, hi=hi, unit=unit, levels=levels, kind="degrees", **more)


def turns(name: str, unit: str, *, levels: int, **more: Unpack[More]) -> Param:
    """Shift by up to a whole turn; `unit` tells what repeats after one."""
    return Param(name=name, lo=0, hi=1, unit=unit, levels=levels, periodic=True, kind="turns", **more)


def cycles(name: str, lo: float, hi: float, unit: str, *, levels: int, **more: Unpack[More]) -> Param:
    """Number of periods, on a logarithmic scale; `unit` tells of what."""
    return Param(name=name, lo=lo, hi=hi, unit=unit, levels=levels, log=True, kind="cycles", **more)


# ---------------------------------------------------------------- place and direction


def angle(span: float, *, levels: int, name: str = "angle_deg", **more: Unpack[More]) -> Param:
    """Direction of the pattern, degrees, from 0 to `span`, where the range begins anew."""
    return Param(name=name, lo=0, hi=span, unit="degrees", levels=levels, periodic=True, kind="degrees", **more)


def centre(
    reach: float,
    *,
    levels: int,
    coarse: int,
    default: tuple[float | None, float | None] = (None, None),
    unit: str | None = None,
) -> tuple[Param, Param]:
    """Position `cx`, `cy` of the pattern's origin, half tiles from the middle of the tile, up to `reach` each way."""
    right, down = unit or "half tiles from the centre, to the right", unit or "half tiles from the centre, down"
    return (
        ratio("cx", -reach, reach, right, levels=levels, coarse=coarse, default=default[0]),
        ratio("cy", -reach, reach, down, levels=levels, coarse=coarse, default=default[1]),
    )


def offset(reach: float, *, levels: int, **more: Unpack[More]) -> Param:
    """Distance of a straight line from the middle of the tile, half tiles, up to `reach` to either side."""
    return ratio("offset", -reach, reach, "half tiles from the centre", levels=levels, **more)


def phase(
    unit: str = "turns", *, levels: int, coarse: int, coarse_share: float = 0.5, default: float | None = None
) -> Param:
    """Phase of a wave, turns; the half that the first codebook leaves out is the other half with its sign changed."""
    return turns("phase", unit, levels=levels, coarse=coarse, coarse_share=coarse_share, default=default)


def phase_x(unit: str, *, levels: int, coarse: int, coarse_share: float = 1.0) -> Param:
    """Shift of a lattice along its direction, turns; `unit` tells what one is."""
    return turns("phase_x", unit, levels=levels, coarse=coarse, coarse_share=coarse_share, default=0)


def phase_y(unit: str, *, levels: int, coarse: int, coarse_share: float = 1.0) -> Param:
    """Shift of a lattice across its direction, turns; `unit` tells what one is."""
    return turns("phase_y", unit, levels=levels, coarse=coarse, coarse_share=coarse_share, default=0)


# ---------------------------------------------------------------- number and size


def freq(lo: float, hi: float, unit: str = "waves per tile", *, levels: int, **more: Unpack[More]) -> Param:
    """Frequency of a wave, periods per tile, on a logarithmic scale."""
    return cycles("freq", lo, hi, unit, levels=levels, **more)


def cells(
    lo: float, hi: float, unit: str, *, levels: int, log: bool = True, name: str = "cells", **more: Unpack[More]
) -> Param:
    """Number of lattice cells across the tile."""
    return Param(name=name, lo=lo, hi=hi, unit=unit, levels=levels, log=log, kind="cells", **more)


def radius(lo: float, hi: float, unit: str, *, levels: int, **more: Unpack[More]) -> Param:
    """Size of the pattern, half tiles, on a logarithmic scale; `unit` tells from where to where."""
    return ratio("radius", lo, hi, unit, levels=levels, log=True, **more)


# ---------------------------------------------------------------- shape


def softness(
    lo: float,
    hi: float,
    unit: str = "share of the wave's height that is slope",
    *,
    levels: int,
    log: bool = True,
    **more: Unpack[More],
) -> Param:
    """Softness of an edge, in `unit`: hard at `lo`, gradual at `hi`."""
    return ratio("softness", lo, hi, unit, levels=levels, log=log, **more)


def stretch(feature: str, *, lo: float = 0.35, hi: float = 2.86, coarse: int = 3) -> Param:
    """Width of a noise's `feature` over its height, on a logarithmic scale."""
    return ratio("stretch", lo, hi, f"width of a {feature} over its height", levels=13, log=True, coarse=coarse)


def jitter() -> Param:
    """Irregularity of scattered points, cells that each of them may lie in."""
    return ratio("jitter", 0.2, 1.0, "cells that points are scattered over", levels=5, default=0.8)


def roughness(lo: float, hi: float, *, default: float) -> Param:
    """Height of an octave of noise over that of the octave before."""
    return ratio("roughness", lo, hi, "height of an octave over the one before", levels=7, default=default)
