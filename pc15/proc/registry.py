"""Drawing by a generator's name, or by its id in a stream.

`draw_levels` is what decoder, bank and refinement all draw with; `render` is the public, float-valued view of it.
"""

from __future__ import annotations

import functools
import itertools
import numbers
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from pc15.errors import ConfigError, UnknownNameError, did_you_mean
from pc15.fixed import FRAC, ONE, const, isqrt64, look_up, shift
from pc15.proc.coords import Grid, moved_grids, tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.spec import Generator, Param
from pc15.seed import tile_seed

COEFFICIENT_ONE = 1 << 15
"""Q15 scale of a layer's coefficient, the factor between the pattern and luma."""

RMS_FLOOR = 64
"""Patterns flatter than this (Q14 RMS) count as flat: they draw nothing."""

_DRAW_PIXELS = 1 << 17  # pixels drawn at once: a few int32 temporaries of this size stay in the cache
_DRAW_PIXELS_GPU = 1 << 24


def list_generators() -> list[str]:
    """Names of all generators, in the order of their ids."""
    return list(NAMES)


def gen_id(name: str) -> int:
    """Id of a generator by name; a wrong one gets a guess."""
    try:
        return NAMES.index(name)
    except ValueError:
        raise UnknownNameError(
            f"no generator {name!r}{did_you_mean(name, NAMES)} (pc15 generators lists all)"
        ) from None


def get(name: str) -> Generator:
    """The generator of that name."""
    return load(gen_id(name))


@functools.cache
def _level_tables(gen: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Fixed-point values of all levels, one parameter after the other, and where each begins, [n_params]."""
    tables = [p.fixed for p in load(gen).params]
    starts = [0, *itertools.accumulate(map(len, tables))][:-1]
    values = torch.tensor([v for table in tables for v in table], dtype=torch.int32, device=device)
    return values, torch.tensor(starts, dtype=torch.int32, device=device)


class _Steps(dict[int, int]):
    """Sub-level -> the integer that `draw` gets, computed when it is first asked for: few of many thousands are."""

    def __init__(self, param: Param, fine: int) -> None:
        super().__init__()
        self._param, self._fine = param, fine

    def __missing__(self, step: int) -> int:
        value = self[step] = self._param.fine_fixed(step, self._fine)
        return value


@functools.cache
def _step_table(gen: int, param: int, fine: int) -> _Steps:
    return _Steps(load(gen).params_at(fine)[param], fine)


def _values(gen: int, levels: Tensor, fine: int) -> Tensor:
    """Fixed-point values of sub-levels, [B, n_params] int32 both."""
    count = len(load(gen).params_at(fine))
    if not count:
        return levels.to(torch.int32)
    if not fine:
        values, starts = _level_tables(gen, levels.device)
        return look_up(values, levels[:, :count] + starts)
    tables = [_step_table(gen, i, fine) for i in range(count)]
    rows = [[table[step] for table, step in zip(tables, row, strict=True)] for row in levels[:, :count].tolist()]
    return torch.tensor(rows, dtype=torch.int32, device=levels.device).view(-1, count)


def draw_fixed(generator: Generator, at: Grid, values: Tensor, seeds: Tensor | None) -> Tensor:
    """Draw a batch from fixed-point parameter values.

    Args:
        values: [B, n] int32, as `Param.to_fixed` makes them, of `params` or of `params` and `extra`.
        seeds: [B] int32 hash seeds; only patterns with randomness read them.
    Returns:
        [B,h,w] int32 in [-ONE, ONE].
    """
    params = generator.params_at(int(values.shape[1] > len(generator.params)))
    named = {p.name: values[:, i].view(-1, 1, 1) for i, p in enumerate(params)}
    if generator.seeds > 1:
        if seeds is None:
            raise ConfigError(f"{generator.name} is random and needs a seed per item")
        named["seed"] = seeds.view(-1, 1, 1)
    drawn = generator.draw(at, **named)
    return drawn.expand(values.shape[0], at.y.shape[1], at.x.shape[2]).clamp(-ONE, ONE)


@functools.cache
def _seed_table(gen: int, seed: int, device: torch.device) -> Tensor:
    """Hash seed of every seed index, [seeds] int32; each generator has its own."""
    values = [tile_seed(seed, (gen << 8) | index) for index in range(load(gen).seeds)]
    return torch.tensor(values, dtype=torch.int32, device=device)


def drawn_at_once(pixels: int, device: torch.device) -> int:
    """Number of patterns of so many pixels that are worth a call."""
    return max(1, (_DRAW_PIXELS if device.type == "cpu" else _DRAW_PIXELS_GPU) // pixels)


def draw_levels(gen: int, levels: Tensor, seed_index: Tensor, at: Grid, seed: int, fine: int = 0) -> Tensor:
    """Draw a batch of one generator from quantized levels, as the decoder does.

    Args:
        gen: generator id.
        levels: [B, n_params] int, one sub-level per parameter.
        seed_index: [B] int.
        at: where; one grid for all items, or one for each.
        seed: the stream's global seed.
        fine: `fine_bits` of the tile; with 0, sub-levels are levels.
    Returns:
        [B,h,w] int32 in [-ONE, ONE].
    """
    generator = load(gen)
    values = _values(gen, levels, fine)
    seeds = _seed_table(gen, seed, levels.device)[seed_index.long()] if generator.seeds > 1 else None
    h, w = at.y.shape[1], at.x.shape[2]
    step = drawn_at_once(h * w, levels.device)
    parts = [
        draw_fixed(
            generator, at.part(i, i + step), values[i : i + step], None if seeds is None else seeds[i : i + step]
        )
        for i in range(0, values.shape[0], step)
    ]
    return torch.cat(parts) if parts else torch.zeros((0, h, w), dtype=torch.int32, device=levels.device)


def mean_rms(drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and RMS deviation, Q14, of each drawn tile; [B] int32 each, exact floors.

    Args:
        drawn: [B,T,T] int32, the whole tile of the layer, never a cropped or continued one.
    """
    count = drawn.shape[1] * drawn.shape[2]
    # a row of 2^10 px stays below 2^31, and int32 is added up three times as fast
    total = drawn.sum(dim=2, dtype=torch.int32).sum(dim=1, dtype=torch.int64)
    mean = torch.div(total, count, rounding_mode="floor").to(torch.int32)
    d = drawn - mean.view(-1, 1, 1)
    power = torch.div((d.mul_(d)).sum(dim=(1, 2), dtype=torch.int64), count, rounding_mode="floor")
    return mean, isqrt64(power).to(torch.int32)


def draw_continued(
    gen: int, levels: Tensor, seed_index: Tensor, move: Tensor, tile: int, seed: int, fine: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Patterns of one generator continued from their own tile into another one.

    Args:
        move: [B,2] int64, (y, x) in px from the pattern's own tile.   The others as in `draw_levels`.
    Returns:
        drawn [B,T,T] int32 in [-ONE, ONE], and mean and RMS deviation of the pattern in its own tile, [B] int32 Q14.
    """
    # a pattern that many tiles continue is measured once
    key = torch.cat([levels.to(torch.int64), seed_index.to(torch.int64)[:, None]], dim=1)
    own, which = torch.unique(key, dim=0, return_inverse=True)
    at = tile_grid(tile, device=levels.device)
    mean, rms = mean_rms(draw_levels(gen, own[:, :-1], own[:, -1], at, seed, fine))
    return draw_levels(gen, levels, seed_index, moved_grids(tile, move), seed, fine), mean[which], rms[which]


def coefficient(amplitude_q15: Tensor, rms: Tensor) -> Tensor:
    """Q15 factor that gives a pattern the RMS `amplitude_q15` (luma, Q15), at most 1; 0 for a flat pattern."""
    factor = torch.div((amplitude_q15.to(torch.int64) << FRAC), rms.clamp(min=1), rounding_mode="trunc")
    factor = torch.where(rms >= RMS_FLOOR, factor, torch.zeros_like(factor))
    return factor.clamp(-COEFFICIENT_ONE, COEFFICIENT_ONE).to(torch.int32)


def contribution(drawn: Tensor, mean: Tensor, factor: Tensor) -> Tensor:
    """Share of a layer in the tile's samples, Q12: factor * (pattern - mean), rounded."""
    return rounded_q12_((drawn - mean.view(-1, 1, 1)).mul_(factor.view(-1, 1, 1)))


def render(
    name: str,
    H: int,
    W: int,
    params: Mapping[str, float | Sequence[float]] | None = None,
    batch: int = 1,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    seed: int | Sequence[int] = 0,
) -> Tensor:
    """Draw a pattern from real-valued parameters; computed in integers, converted at the very end.

    Args:
        name: one of `list_generators()`.
        H, W: size in pixels; [-1, 1] spans the longer side.
        params: public values by name; a sequence gives one value per item.  Missing ones take their default, and
            every pattern also knows `contrast` in [0, 1].
        batch: number of items.
        seed: hash seed, or one per item; patterns without randomness ignore it.
    Returns:
        [batch,1,H,W] in [-1, 1].
    Raises:
        UnknownNameError: no such generator or parameter; the nearest name is offered.
        ConfigError: a size below 1, a value out of range or not finite.
    """
    generator = get(name)
    sizes = {"H": H, "W": W, "batch": batch}
    if not all(isinstance(size, numbers.Integral) and size >= 1 for size in sizes.values()):
        got = ", ".join(f"{key}={size!r}" for key, size in sizes.items())
        raise ConfigError(f"render needs whole numbers H, W and batch of at least 1, got {got}")
    H, W, batch = map(int, sizes.values())
    given = dict(params or {})
    contrast = _per_item(given.pop("contrast", 1.0), batch, "contrast", 0.0, 1.0)
    known = [p.name for p in generator.params]
    for key in given:
        if key not in known:
            raise UnknownNameError(
                f"{name} has no parameter {key!r}{did_you_mean(key, [*known, 'contrast'])} (it has {', '.join(known)})"
            )
    columns = []
    for p in generator.params:
        middle = float(p.value(p.levels // 2)) if p.default is None else p.default
        lo, hi = (float("-inf"), float("inf")) if p.periodic else (p.lo, p.hi)
        columns.append([p.to_fixed(v) for v in _per_item(given.get(p.name, middle), batch, f"{name}.{p.name}", lo, hi)])
    values = torch.tensor(columns, dtype=torch.int32, device=device).view(len(columns), batch).T
    seeds = torch.tensor([tile_seed(s, 0) for s in _seeds(seed, batch)], dtype=torch.int32, device=device)
    size = max(H, W)
    at = tile_grid(size, device=device, x0=(size - W) // 2, y0=(size - H) // 2, w=W, h=H)
    drawn = draw_fixed(generator, at, values, seeds).to(torch.float32) / torch.full(
        (1, 1, 1), float(ONE), device=device
    )
    scale = torch.tensor(contrast, dtype=torch.float32, device=device).view(-1, 1, 1)
    return (drawn * scale).unsqueeze(1).to(dtype)


def _per_item(value: float | Sequence[float], batch: int, what: str, lo: float, hi: float) -> list[float]:
    items = _items(value, batch, what, float)
    if len(items) != batch:
        raise ConfigError(f"{what}: {len(items)} values for a batch of {batch}")
    for v in items:
        if not (lo <= v <= hi and abs(v) < 1e9):
            raise ConfigError(f"{what} is {v}; give a finite value in [{lo:g}, {hi:g}]")
    return items


_Number = TypeVar("_Number", int, float)


def _items(value: Any, batch: int, what: str, number: Callable[[Any], _Number]) -> list[_Number]:
    """A number as often as there are items; or the numbers of a sequence, an array or a tensor."""
    try:
        return [number(v) for v in value] if np.ndim(value) else [number(value)] * batch
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what} is {value!r}; give a number, or one per item") from error


def _seeds(seed: int | Sequence[int], batch: int) -> list[int]:
    seeds = _items(seed, batch, "seed", operator.index)
    if len(seeds) != batch:
        raise ConfigError(f"seed: {len(seeds)} values for a batch of {batch}")
    return seeds


def scaled_pattern(factor: Tensor, pattern: Tensor) -> Tensor:
    """Samples that a layer adds, Q12: the pattern less its mean [B,T,T], Q14, times a Q15 factor [B], rounded."""
    return rounded_q12_(pattern * factor.view(-1, 1, 1))


def rounded_q12_(product: Tensor) -> Tensor:
    """In place: products of a Q15 factor and a Q14 pattern as Q12 samples, rounded; for a product of one's own."""
    return shift(product.add_(const(1 << 16)), 17)
