"""Programs -> patterns -> planes, Q12.  Integer arithmetic only: the same samples on every device.

A tile's samples are

    sum over layers of  coefficient * (pattern - its mean),    Q12,

with coefficient = amplitude / RMS of the pattern.  A merged layer draws the pattern of another tile where it lies
itself, with the mean and RMS that the pattern has there, so that it goes on without a seam.  All tiles are cross-faded
with weights that sum to one, upon the surface through their DC values.  Tiles upon a coarse grid of larger ones add to
what these draw how far they themselves are from the middle.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.bitstream.header import WINDOWS, Header, PlaneSpec, plane_size
from pc15.bitstream.programs import MAX_PARAMS, Ints, Programs
from pc15.dc_surface import surface
from pc15.flat import row_bands
from pc15.grids import TileGridCfg, TileSpec, grid, stacks
from pc15.luma import MIDDLE, SAMPLE_ONE
from pc15.proc.codebook import Codebook
from pc15.proc.coords import tile_grid
from pc15.proc.registry import coefficient, contribution, draw_continued, draw_levels, drawn_at_once, mean_rms
from pc15.proc.spec import fine_bits
from pc15.quant import middle_level, step_q15
from pc15.tiling import SAMPLE_MAX, blend_planes, blend_rows, blend_some, round_blend

_BAND_PIXELS = 1 << 22  # samples of tiles held at once while a plane is drawn
_SPARSE = 16  # of rows where no more than one tile in so many has layers, these tiles alone are drawn


def dc_samples(dc: Tensor, dc_step: int) -> Tensor:
    """DC levels as Q12 samples."""
    return ((dc * step_q15(dc_step) + 4) >> 3).clamp(0, SAMPLE_ONE).to(torch.int32)


def amplitude_q15(amp: Tensor, amp_step: int) -> Tensor:
    """Signed amplitude levels as RMS in luma, Q15."""
    return amp.to(torch.int64) * step_q15(amp_step)


def merge_offsets(programs: Programs, tiles: TileSpec) -> Tensor | None:
    """Offset of each layer from where its pattern starts, [N,L,2] int64 (y, x) in px; None if nothing is merged.

    Raises:
        BitstreamError: see `Programs.roots`.
    """
    at, root = programs.roots(tiles.nx)
    if not at.size:
        return None
    length = programs.source.shape[1]
    out = np.zeros((programs.source.size, 2), np.int64)
    here, there = np.divmod(at // length, tiles.nx), np.divmod(root // length, tiles.nx)
    for axis, starts in enumerate((np.asarray(tiles.ys), np.asarray(tiles.xs))):
        out[at, axis] = starts[here[axis]] - starts[there[axis]]
    return torch.from_numpy(out.reshape(*programs.source.shape, 2))


def _own_layers(programs: Sequence[Programs]) -> tuple[Ints, Ints, Ints, Ints, Ints, Ints | None]:
    """Layers that start in their own tile: owner, gen, qv, seed, amp [B] and offsets [B,P], or None if all are 0."""
    none = np.zeros(0, np.int64)
    found, first = [(none, none, none, none, none, none.reshape(0, MAX_PARAMS))], 0
    for part in Programs.coalesce(programs):
        for layer in range(int(part.count.max(initial=0))):  # as they lie in memory
            there, source = part.count > layer, part.source[:, layer]
            at = np.flatnonzero(there & (source == 0) if source.any() else there)
            gen, qv, seed, amp = (one[:, layer].take(at) for one in (part.gen, part.qv, part.seed, part.amp))
            found.append((at + first, gen, qv, seed, amp, part.offsets[:, layer].take(at, axis=0)))
        first += part.tiles
    owner, gen, qv, seed, amp, steps = (np.concatenate(column) for column in zip(*found, strict=True))
    return owner, gen, qv, seed, amp, steps if steps.any() else None


def draw_tiles(
    programs: Sequence[Programs],
    tile: int,
    amp_step: int,
    seed: int,
    codebook: Codebook,
    device: torch.device,
    move: Tensor | None = None,
) -> Tensor:
    """Samples of every tile above the base, [N,T,T] int32 Q12, all layers of one generator drawn together.

    Args:
        programs: of one plane or more, one after the other.
        move: [N,L,2] as `merge_offsets` gives it; None where every layer starts in its own tile.
    """
    at, fine = tile_grid(tile, device=device), fine_bits(tile)
    tiles = sum(part.tiles for part in programs)
    samples = torch.zeros((tiles, tile, tile), dtype=torch.int32, device=device)
    *columns, offsets = _own_layers(programs)
    owner, gen, qv, seeds, amp = (torch.from_numpy(column).to(device) for column in columns)
    # what is the same pattern, offsets aside, comes together, and is drawn once
    key, order = torch.sort((gen << 40) + (qv << 8) + seeds, stable=True)
    owner, amp = owner[order], amp[order]
    fresh = torch.ones_like(key, dtype=torch.bool)
    fresh[1:] = key[1:] != key[:-1]
    steps = torch.zeros((1, MAX_PARAMS), dtype=torch.int64, device=device)
    if offsets is not None:
        steps = torch.from_numpy(offsets).to(device)[order]
        moved = steps.any(dim=1)
        fresh[1:] |= moved[1:] | moved[:-1]
    pattern = fresh.cumsum(0) - 1
    first = torch.nonzero(fresh).flatten()
    gen, qv, seeds = (part[order[first]] for part in (gen, qv, seeds))
    steps = steps[first] if offsets is not None else steps.expand(len(first), -1)
    starts = [*first.tolist(), len(order)]

    def add(drawn: Tensor, begin: int) -> None:
        """Layers of the patterns from `begin` on."""
        mean, rms = mean_rms(drawn)
        start, stop = starts[begin], starts[begin + len(drawn)]
        once = stop - start == len(drawn)
        for beginning in [start] if once else range(start, stop, most):
            part = slice(beginning, stop if once else min(stop, beginning + most))
            own = slice(None) if once else pattern[part] - begin
            factor = coefficient(amplitude_q15(amp[part], amp_step), rms[own])
            values = contribution(drawn[own], mean[own], factor)
            if samples.is_cuda:
                samples.index_add_(0, owner[part], values)
            else:  # three times as fast there
                samples.index_put_((owner[part],), values, accumulate=True)

    gens = gen.tolist()
    edges = [0, *(np.flatnonzero(np.diff(gens)) + 1).tolist(), len(gens)] if gens else []
    most = drawn_at_once(tile**2, device)
    waiting: list[Tensor] = []  # rare generators are summed up together: what a call costs exceeds what it does
    done = 0
    for start, stop in itertools.pairwise(edges):
        for begin in range(start, stop, most):
            part = slice(begin, min(stop, begin + most))
            levels = codebook.levels(gens[start], qv[part], steps[part], fine)
            waiting.append(draw_levels(gens[start], levels, seeds[part], at, seed, fine))
            if part.stop - done >= most or part.stop == len(gens):
                add(torch.cat(waiting), done)
                waiting, done = [], part.stop
    if move is not None:
        every = Programs.joined(programs)
        used = np.arange(every.gen.shape[1])[None, :] < every.count[:, None]  # [N,L]
        _draw_merged(samples, every, used & (every.source > 0), amp_step, seed, codebook, move)
    return samples.clamp_(-SAMPLE_MAX, SAMPLE_MAX)


def _draw_merged(
    samples: Tensor,
    programs: Programs,
    merged: npt.NDArray[np.bool_],
    amp_step: int,
    seed: int,
    codebook: Codebook,
    move: Tensor,
) -> None:
    """Add the layers that continue others, [N,L] `merged`, to the samples of their tiles, [N,T,T]."""
    device, tile = samples.device, samples.shape[1]
    fine = fine_bits(tile)
    owner, layer = np.nonzero(merged)
    gens = programs.gen[owner, layer]
    for gen in np.unique(gens).tolist():
        pick = np.flatnonzero(gens == gen)
        where = owner[pick], layer[pick]
        qv, seeds, amp, steps = (
            torch.from_numpy(part[where]).to(device)
            for part in (programs.qv, programs.seed, programs.amp, programs.offsets)
        )
        levels = codebook.levels(gen, qv, steps, fine)
        drawn, mean, rms = draw_continued(gen, levels, seeds, move[where].to(device), tile, seed, fine)
        values = contribution(drawn, mean, coefficient(amplitude_q15(amp, amp_step), rms))
        samples.index_add_(0, torch.from_numpy(owner[pick]).to(device), values)


def neutral_level_q12(spec: PlaneSpec) -> int:
    """The DC level of the middle, Q12: tiles that draw it leave what lies under them as it is."""
    return int(dc_samples(torch.tensor(middle_level(spec.dc_step)), spec.dc_step))


def add_coarse_(fine: Tensor, coarse: Tensor, spec: PlaneSpec) -> Tensor:
    """In place: fine + coarse - neutral level of the fine grid, clamped to [0, 4096], Q12."""
    return fine.add_(coarse).sub_(neutral_level_q12(spec)).clamp_(0, SAMPLE_ONE)


def predict_plane(
    programs: Sequence[Programs], header: Header, plane: int, codebook: Codebook, device: torch.device
) -> Tensor:
    """Samples that the programs of a plane's grids draw, [h,w] int32 Q12 in 0..4096."""
    spec, size = header.planes[plane], plane_size(header, plane)
    drawn = predict_grid(programs[-1], size, spec, header.seed, codebook, device)
    if spec.under is None:
        return drawn
    return add_coarse_(drawn, predict_grid(programs[0], size, spec.under, header.seed, codebook, device), spec)


def predict_grid(
    programs: Programs, size: tuple[int, int], spec: PlaneSpec, seed: int, codebook: Codebook, device: torch.device
) -> Tensor:
    """Samples that the programs of one grid draw, [h,w] int32 Q12 in 0..4096: a band of tile rows at a time."""
    h, w = size
    if not spec.tile:
        return torch.full((h, w), MIDDLE, dtype=torch.int32, device=device)
    tiles = grid(h, w, TileGridCfg(size=spec.tile, overlap=spec.overlap))
    acc = torch.zeros(h, w, dtype=torch.int32, device=device)
    move = merge_offsets(programs, tiles)
    window = WINDOWS[spec.window], spec.window_params()

    def draw(part: Programs, at: slice | Tensor) -> Tensor:
        own = None if move is None else move[at]
        return draw_tiles([part], spec.tile, spec.amp_step, seed, codebook, device, own)

    for band, alone in _drawn_bands(programs.count, tiles):
        if alone is None:
            part = slice(band.start * tiles.nx, band.stop * tiles.nx)
            samples = draw(programs.rows(part.start, part.stop), part)
            blend_rows(acc, samples, tiles, band.start, band.stop, *window)  # type: ignore[arg-type]
        else:
            samples = draw(programs.pick(alone), torch.from_numpy(alone))
            blend_some(acc, samples, tiles, alone.tolist(), *window)  # type: ignore[arg-type]
    knots = dc_samples(torch.from_numpy(programs.dc).to(device), spec.dc_step)
    for top, below in row_bands(0, h, w):
        rows = acc[top:below]
        base = surface(knots, tiles, step_q15(spec.dc_step) >> 3, top, below)
        rows.copy_((round_blend(rows) + base.plane).clamp_(0, SAMPLE_ONE))
    return acc


def _drawn_bands(count: Ints, tiles: TileSpec) -> Iterator[tuple[range, Ints | None]]:
    """Tile rows to draw together, all of their tiles or those alone that are given; what has no layer is left out.

    Each time so many samples at most as are held at once, and never of a single tile too few.
    """
    area, nx = tiles.cfg.size**2, tiles.nx
    busy = np.flatnonzero(count.reshape(tiles.ny, nx).any(axis=1))
    band = max(1, _BAND_PIXELS // (nx * area))
    some = max(1, _BAND_PIXELS // area)
    row = 0
    while (place := int(busy.searchsorted(row))) < len(busy):
        first = int(busy[place])
        row = min(tiles.ny, first + band)
        there = np.flatnonzero(count[first * nx : row * nx]) + first * nx
        if nx * area <= _BAND_PIXELS and len(there) * _SPARSE > (row - first) * nx:
            yield range(first, row), None
            continue
        for start in range(0, len(there), some):
            yield range(first, row), there[start : start + some]


def predict_planes(
    programs: Sequence[Sequence[Programs]],
    headers: Sequence[Header],
    plane: int,
    codebook: Codebook,
    device: torch.device,
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """`predict_plane` of several pictures whose planes of that number have one `PlaneSpec` and seed, drawn together.

    Those of one size come together: (which, [B,h,w]).
    """
    spec, seed = headers[0].planes[plane], headers[0].seed
    sizes = [plane_size(header, plane) for header in headers]
    drawn = _predict_grids([own[-1] for own in programs], sizes, spec, seed, codebook, device)
    if spec.under is None:
        yield from drawn
        return
    below = [
        coarse for _, coarse in _predict_grids([own[0] for own in programs], sizes, spec.under, seed, codebook, device)
    ]
    for coarse, (members, fine) in zip(below, drawn, strict=True):  # sizes alone decide what comes together
        yield members, add_coarse_(fine, coarse, spec)


def _predict_grids(
    programs: Sequence[Programs],
    sizes: Sequence[tuple[int, int]],
    spec: PlaneSpec,
    seed: int,
    codebook: Codebook,
    device: torch.device,
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """`predict_grid` of one grid of each of several pictures; those of one size come together."""
    window = WINDOWS[spec.window], spec.window_params()
    parts = stacks(sizes, TileGridCfg(size=spec.tile, overlap=spec.overlap))
    every = [programs[i] for part in parts for i in part.members]
    ways = [merge_offsets(programs[i], part.grid) for part in parts for i in part.members]
    move = None
    if any(way is not None for way in ways):
        none = [torch.zeros((*own.source.shape, 2), dtype=torch.int64) for own in every]
        move = torch.cat([other if way is None else way for way, other in zip(ways, none, strict=True)])
    samples = draw_tiles(every, spec.tile, spec.amp_step, seed, codebook, device, move)
    knots = dc_samples(torch.from_numpy(np.concatenate([own.dc for own in every])).to(device), spec.dc_step)
    for part in parts:
        blended = round_blend(blend_planes(samples[part.tiles], part.grid, *window))  # type: ignore[arg-type]
        base = surface(knots[part.tiles], part.grid, step_q15(spec.dc_step) >> 3, planes=part.planes)
        yield part.members, (blended + base.plane.view_as(blended)).clamp_(0, SAMPLE_ONE)
