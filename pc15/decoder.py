"""Bytes -> symbols -> patterns -> picture.  Integer arithmetic only: the same pixels on every device.

No network, no image data, no state but the bytes and the packaged tables.  A tile's samples are

    sum over layers of  coefficient * (pattern - its mean),    Q12,

with coefficient = amplitude / RMS of the pattern.  A merged layer draws the pattern of another tile where it lies
itself, with the mean and RMS that the pattern has there, so that it goes on without a seam.  All tiles are cross-faded
with weights that sum to one, upon the surface through their DC values.  Tiles upon a coarse grid of larger ones add to
what these draw how far they themselves are from the middle.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.bitstream.container import Stream, read_container
from pc15.bitstream.header import (
    COLOR_YCBCR420,
    MAX_PIXELS,
    PAYLOAD_RAW,
    WINDOWS,
    Header,
    PlaneSpec,
    ResidualSpan,
    SectionSpan,
    grids_of,
    plane_size,
    residual_spans,
    section_spans,
    tile_counts,
)
from pc15.bitstream.records import (
    MAX_PARAMS,
    Ints,
    Programs,
    RawReader,
    Reader,
    Syntax,
    check_tables,
    code_sections,
)
from pc15.color import ycbcr420_to_rgb
from pc15.dc_surface import Surface, surface
from pc15.entropy.tables import TableSet, load_table
from pc15.errors import BitstreamError, Pc15Error
from pc15.proc.codebook import Codebook, load_codebook
from pc15.proc.coords import Grid, tile_grid
from pc15.proc.registry import coefficient, contribution, draw_continued, draw_levels, drawn_at_once, mean_rms
from pc15.proc.spec import fine_bits
from pc15.quant import middle_level, step_q15
from pc15.runtime.device import free_memory, resolve_device
from pc15.runtime.parallel import parallel_map, threads
from pc15.tiling import SAMPLE_MAX, TileGridCfg, TileSpec, blend_planes, blend_rows, grid, round_blend, stacks

_LOG = logging.getLogger(__name__)
_BAND_PIXELS = 1 << 22  # samples held at once while a plane is drawn
_TOGETHER = 1 << 28  # samples of many planes drawn at once on a GPU,
_TOGETHER_BYTES = 96  # each of which takes so much of its memory
_CODED_TOGETHER = 1 << 16  # tiles of many sections coded at once
SAMPLE_ONE = 4096
MIDDLE = SAMPLE_ONE // 2
"""A plane without tiles starts as middle grey, Q12."""


@dataclass(frozen=True)
class Decoded:
    """A stream, redrawn.

    planes: uint8 [h,w] each, Y first.   programs: what the tiles of each of `Header.grids` chose.
    damage: one sentence per thing concealed; empty for a sound stream.
    """

    header: Header
    planes: tuple[Tensor, ...]
    programs: tuple[Programs, ...]
    metadata: dict[str, Any] | None = None
    damage: list[str] = field(default_factory=list)


def dc_samples(dc: Tensor, dc_step: int) -> Tensor:
    """DC levels as Q12 samples."""
    return ((dc * step_q15(dc_step) + 4) >> 3).clamp(0, 4096).to(torch.int32)


def base_surface(dc: Tensor, dc_step: int, tiles: TileSpec, planes: int = 1) -> Surface:
    """The surfaces through the DC levels [planes*N] of planes of one size."""
    return surface(dc_samples(dc, dc_step), tiles, step_q15(dc_step) >> 3, planes=planes)


def amplitude_q15(amp: Tensor, amp_step: int) -> Tensor:
    """Signed amplitude levels as RMS in luma, Q15."""
    return amp.to(torch.int64) * step_q15(amp_step)


def draw_normalised(gen: int, levels: Tensor, seed_index: Tensor, at: Grid, seed: int) -> tuple[Tensor, Tensor]:
    """Patterns without their mean, and their RMS: ([B,T,T] int32 Q14, [B] int32 Q14).  `at` is a whole tile."""
    drawn = draw_levels(gen, levels, seed_index, at, seed)
    mean, rms = mean_rms(drawn)
    return drawn - mean.view(-1, 1, 1), rms


def moves(programs: Programs, tiles: TileSpec) -> Tensor | None:
    """How far each layer lies from where its pattern starts, [N,L,2] int64 (y, x) in px; None if nothing is merged.

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
    for part in Programs.runs(programs):
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
        move: [N,L,2] as `moves` gives it; None where every layer starts in its own tile.
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


def to_pixels(samples: Tensor) -> Tensor:
    """Q12 samples as 8-bit pixels, rounded and clamped."""
    return ((samples * 255 + 2048) >> 12).clamp(0, 255).to(torch.uint8)


def no_change(spec: PlaneSpec) -> int:
    """What tiles draw that leave what lies under them as it is, Q12: the DC level of the middle."""
    return int(dc_samples(torch.tensor(middle_level(spec.dc_step)), spec.dc_step))


def upon(coarse: Tensor, drawn: Tensor, spec: PlaneSpec) -> Tensor:
    """What tiles draw upon a coarse grid, int32 Q12 in 0..4096: changes `drawn`."""
    return drawn.add_(coarse).sub_(no_change(spec)).clamp_(0, SAMPLE_ONE)


def predict_plane(
    programs: Sequence[Programs], header: Header, plane: int, codebook: Codebook, device: torch.device
) -> Tensor:
    """What the programs of a plane's grids draw, [h,w] int32 Q12 in 0..4096."""
    spec, size = header.planes[plane], plane_size(header, plane)
    drawn = predict_grid(programs[-1], size, spec, header.seed, codebook, device)
    if spec.under is None:
        return drawn
    return upon(predict_grid(programs[0], size, spec.under, header.seed, codebook, device), drawn, spec)


def predict_grid(
    programs: Programs, size: tuple[int, int], spec: PlaneSpec, seed: int, codebook: Codebook, device: torch.device
) -> Tensor:
    """What the programs of one grid draw, [h,w] int32 Q12 in 0..4096: blended a band of tile rows at a time."""
    h, w = size
    if not spec.tile:
        return torch.full((h, w), MIDDLE, dtype=torch.int32, device=device)
    tiles = grid(h, w, TileGridCfg(size=spec.tile, overlap=spec.overlap))
    acc = torch.zeros(h, w, dtype=torch.int32, device=device)
    move = moves(programs, tiles)
    band = max(1, _BAND_PIXELS // (tiles.nx * spec.tile**2))
    for row in range(0, tiles.ny, band):
        stop = min(tiles.ny, row + band)
        first, last = row * tiles.nx, stop * tiles.nx
        part, own = programs.rows(first, last), None if move is None else move[first:last]
        samples = draw_tiles([part], spec.tile, spec.amp_step, seed, codebook, device, own)
        blend_rows(acc, samples, tiles, row, stop, WINDOWS[spec.window], spec.window_params())  # type: ignore[arg-type]
    knots = dc_samples(torch.from_numpy(programs.dc).to(device), spec.dc_step)
    for top, below in _bands(0, h, w):
        rows = acc[top:below]
        base = surface(knots, tiles, step_q15(spec.dc_step) >> 3, top, below)
        rows.copy_((round_blend(rows) + base.plane).clamp_(0, SAMPLE_ONE))
    return acc


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
        yield members, upon(coarse, fine, spec)


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
    ways = [moves(programs[i], part.grid) for part in parts for i in part.members]
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


def _bands(start: int, stop: int, width: int) -> Iterator[tuple[int, int]]:
    """Rows start..stop-1, as many at a time as keep what is computed of them small."""
    step = max(1, _BAND_PIXELS // width)
    for top in range(start, stop, step):
        yield top, min(top + step, stop)


def section_syntax(header: Header, span: SectionSpan, codebook: Codebook) -> Syntax:
    """Alphabets and contexts of one section."""
    plane, spec, _ = header.grids[span.grid]
    rows, nx = span.row_stop - span.row_start, tile_counts(header, span.grid)[1]
    return Syntax.of(rows, nx, spec.tile, spec.amp_step, spec.dc_step, plane > 0, codebook)


def coded_alike(
    sections: Sequence[tuple[Header, SectionSpan]],
) -> Iterator[tuple[Syntax, TableSet, list[int]]]:
    """Which sections, of one stream or of several, `code_sections` may code together: their places in the sequence.

    All are there once, RAW ones one at a time, and no more at a time than keeps what is held of them small.
    """
    books = functools.cache(load_codebook)
    groups: dict[tuple[Syntax, str, int], list[int]] = {}
    for place, (header, span) in enumerate(sections):
        syntax = section_syntax(header, span, books(header.codebook_id))
        groups.setdefault((syntax, header.table_id, header.payload_fmt), []).append(place)
    for (syntax, table_id, payload_fmt), places in groups.items():
        most = 1 if payload_fmt == PAYLOAD_RAW else max(1, _CODED_TOGETHER // (syntax.ny * syntax.nx))
        tables = load_table(table_id)
        for start in range(0, len(places), most):
            yield syntax, tables, places[start : start + most]


def plane_grid(header: Header, which: int) -> TileSpec:
    """The tiles of one of the header's grids."""
    plane, spec, _ = header.grids[which]
    return grid(*plane_size(header, plane), TileGridCfg(size=spec.tile, overlap=spec.overlap))


def read_programs(
    data: bytes, *, strict: bool = True, max_pixels: int = MAX_PIXELS
) -> tuple[Header, list[Programs], dict[str, Any] | None, list[str]]:
    """Everything a stream says of its tiles, undrawn: header, one `Programs` per grid, metadata, damage."""
    stream = read_container(data, strict, max_pixels=max_pixels)
    check_tables(load_table(stream.header.table_id), load_codebook(stream.header.codebook_id))
    ((programs, damage),) = _programs([stream], strict)
    return stream.header, programs, stream.metadata, damage


def _programs(
    streams: Sequence[Stream], strict: bool, pool: ThreadPoolExecutor | None = None
) -> list[tuple[list[Programs], list[str]]]:
    """What each stream says of its tiles, one `Programs` per grid, and what is damaged."""
    places = [
        (i, span, payload)
        for i, stream in enumerate(streams)
        for span, payload in zip(section_spans(stream.header), stream.sections, strict=True)
    ]
    there = [(streams[i].header, span, payload) for i, span, payload in places if payload is not None]
    parts: list[Programs | BitstreamError] = [Programs.empty(0)] * len(there)
    alike = [*coded_alike([(header, span) for header, span, _ in there])]

    def read(group: tuple[Syntax, TableSet, list[int]]) -> list[Programs | BitstreamError]:
        syntax, tables, at = group
        raw = there[at[0]][0].payload_fmt == PAYLOAD_RAW
        return _sections(syntax, tables, [there[place][2] for place in at], raw)

    def many(group: tuple[Syntax, TableSet, list[int]]) -> bool:
        return len(group[2]) * group[0].ny * group[0].nx > _CODED_TOGETHER // 4

    for (_, _, at), found in zip(alike, parallel_map(pool, read, alike, only_if=many), strict=True):
        for place, part in zip(at, found, strict=True):
            parts[place] = part
    coded = iter(parts)
    sections: list[list[tuple[SectionSpan, Programs | BitstreamError | None]]] = [[] for _ in streams]
    for i, span, payload in places:
        sections[i].append((span, None if payload is None else next(coded)))
    return [_joined(stream, own, strict) for stream, own in zip(streams, sections, strict=True)]


def _sections(
    syntax: Syntax, tables: TableSet, payloads: Sequence[bytes], raw: bool
) -> list[Programs | BitstreamError]:
    """Sections of one syntax, read together; if anything is wrong, half of them at a time, so that it fails alone."""
    try:
        port = RawReader(tables, *payloads) if raw else Reader(tables, *payloads)
        found = code_sections(port, syntax, None)
        port.finish()
        return [*found]
    except BitstreamError as error:
        half = len(payloads) // 2
        if not half:
            return [error]
        return [one for part in (payloads[:half], payloads[half:]) for one in _sections(syntax, tables, part, raw)]


def _joined(
    stream: Stream, sections: Sequence[tuple[SectionSpan, Programs | BitstreamError | None]], strict: bool
) -> tuple[list[Programs], list[str]]:
    """Grids from their sections; one that is None, or an error if not strict, is concealed."""
    header, damage = stream.header, list(stream.damage)
    counts = [tile_counts(header, which) for which in range(len(header.grids))]
    programs: dict[int, Programs] = {}
    lost: list[SectionSpan] = []
    for span, part in sections:
        (ny, nx), which = counts[span.grid], span.grid
        if isinstance(part, BitstreamError):
            where = header.grids[which].rows(span.row_start, span.row_stop)
            if strict:
                raise BitstreamError(f"{where}: {part}") from part
            damage.append(f"{where}: {part}")
        if not isinstance(part, Programs):
            lost.append(span)
        elif part.tiles == ny * nx:
            programs[which] = part
        else:
            if which not in programs:
                programs[which] = Programs.empty(ny * nx)
            programs[which].put(span.row_start * nx, part)
    grids = [programs[i] if i in programs else Programs.empty(ny * nx) for i, (ny, nx) in enumerate(counts)]
    _conceal(grids, lost, header)
    return grids, damage


def _plane_pixels(
    stream: Stream,
    plane: int,
    programs: Sequence[Programs],
    codebook: Codebook,
    device: torch.device,
    strict: bool,
    drawn: Tensor | None,
    pool: ThreadPoolExecutor | None,
) -> tuple[Tensor, list[str]]:
    """A plane's pixels, [h,w] uint8, and what of its residual is damaged.

    Section by section: of a plane without tiles, no more than one per thread is held at Q12.

    Args:
        drawn: what the programs draw, if that is known already.   pool: threads to share out sections to.
    """
    header = stream.header
    spec, (h, w) = header.planes[plane], plane_size(header, plane)
    if drawn is None and spec.tile:
        drawn = predict_plane(programs, header, plane, codebook, device)
    place = device if spec.tile else torch.device("cpu")  # where residuals are decoded
    pixels = torch.empty((h, w), dtype=torch.uint8, device=place)
    sections: list[tuple[ResidualSpan, bytes | None]] = [(ResidualSpan(plane, 0, h), None)]
    if spec.residual:
        spans = zip(residual_spans(header), stream.residuals, strict=True)
        sections = [(span, payload) for span, payload in spans if span.plane == plane]

    def put(section: tuple[ResidualSpan, bytes | None]) -> str:
        """Fill a section's pixels; returns what is damaged, if anything is."""
        (_, start, stop), payload = section
        rows = None if drawn is None else drawn[start:stop]
        try:
            _put_pixels(pixels[start:stop], rows, payload, spec.residual - 1)
        except BitstreamError as error:
            where = f"plane {plane}, residual of pixel rows {start} to {stop - 1}"
            if strict:
                raise BitstreamError(f"{where}: {error}") from error
            _put_pixels(pixels[start:stop], rows)
            return f"{where}: {error}"
        return ""

    damage = [
        sentence for sentence in parallel_map(pool, put, sections, only_if=lambda _: len(sections) > 1) if sentence
    ]
    return pixels.to(device), damage


def _put_pixels(pixels: Tensor, drawn: Tensor | None, payload: bytes | None = None, step: int = 0) -> None:
    """Rows of a plane, [h,w] uint8, from what is drawn there, int32 Q12, or else middle grey, and from a residual."""
    from pc15.residual.codec import decode_flat, decode_residual  # here: compiled code takes its time to load

    h, w = pixels.shape
    if payload and drawn is None:
        pixels.copy_(torch.from_numpy(decode_flat(payload, h, w, MIDDLE, step, _pixel_table())))
        return
    if payload and drawn is not None:
        drawn = torch.from_numpy(decode_residual(payload, drawn.cpu().numpy(), step)).to(pixels.device)
    for top, below in _bands(0, h, w):
        pixels[top:below] = to_pixels(torch.tensor(MIDDLE) if drawn is None else drawn[top:below])


@functools.cache
def _pixel_table() -> npt.NDArray[np.uint8]:
    """`to_pixels` of the samples 0..4096."""
    table: npt.NDArray[np.uint8] = to_pixels(torch.arange(SAMPLE_ONE + 1)).numpy()
    return table


def _conceal(programs: list[Programs], lost: list[SectionSpan], header: Header) -> None:
    """Lost tiles take the DC of the nearest sound tile row, or middle grey; upon a coarse grid they change nothing."""
    for span in lost:
        spec, (ny, nx) = header.grids[span.grid].spec, tile_counts(header, span.grid)
        gone = {row for other in lost if other.grid == span.grid for row in range(other.row_start, other.row_stop)}
        sound = [row for row in range(ny) if row not in gone]
        level = programs[span.grid].dc.reshape(ny, nx)
        for row in range(span.row_start, span.row_stop):
            nearest = min(sound, key=lambda other: abs(other - row), default=None)
            if spec.under is not None:
                level[row] = middle_level(spec.dc_step)
            else:
                level[row] = (1 << 14) // step_q15(spec.dc_step) if nearest is None else level[nearest]


def decode_stream(
    data: bytes, *, device: str | torch.device = "cpu", strict: bool = True, max_pixels: int = MAX_PIXELS
) -> Decoded:
    """Decode a stream to its planes, with everything it says.

    Args:
        strict: raise on any damage; otherwise lost sections are concealed and listed in `damage`.
    Raises:
        BitstreamError: not a valid stream, damaged, or larger than `max_pixels`.
        MissingTableError: the stream names tables or a codebook that this machine does not have.
    """
    (read,) = _read([data], strict, max_pixels)
    if len(read.stream.residuals) <= len(read.stream.header.planes):
        return _finish(read, resolve_device(device), strict)
    with threads(None) as pool:
        return _finish(read, resolve_device(device), strict, pool)


@dataclass(eq=False)
class _Read:
    """A stream, read but for its residuals.

    drawn: what programs draw, of planes with a residual where that is known already.   pixels: of planes without one.
    """

    stream: Stream
    programs: list[Programs]
    damage: list[str]
    drawn: dict[int, Tensor] = field(default_factory=dict)
    pixels: dict[int, Tensor] = field(default_factory=dict)

    def unfinished(self) -> bool:
        """Whether more is left to be made than a picture of its planes."""
        return len(self.pixels) < len(self.stream.header.planes)


def _read(
    streams: Sequence[bytes], strict: bool, max_pixels: int, pool: ThreadPoolExecutor | None = None
) -> list[_Read]:
    """Symbols of all streams.

    Raises:
        Pc15Error: what is wrong with the first bad stream.
    """

    @functools.cache
    def check(table_id: str, codebook_id: str) -> None:
        check_tables(load_table(table_id), load_codebook(codebook_id))

    opened: list[Stream] = []
    wrong: Pc15Error | None = None
    for data in streams:
        try:
            stream = read_container(data, strict, max_pixels=max_pixels)
            check(stream.header.table_id, stream.header.codebook_id)
        except Pc15Error as error:
            wrong = error  # unless the symbols of one before it are wrong
            break
        opened.append(stream)
    read = [_Read(stream, *own) for stream, own in zip(opened, _programs(opened, strict, pool), strict=True)]
    if wrong is not None:
        raise wrong
    return read


def _finish(read: _Read, device: torch.device, strict: bool, pool: ThreadPoolExecutor | None = None) -> Decoded:
    header, damage = read.stream.header, read.damage
    codebook = load_codebook(header.codebook_id)
    planes = []
    for plane in range(len(header.planes)):
        if (ready := read.pixels.pop(plane, None)) is not None:
            planes.append(ready)
            continue
        drawn, own = read.drawn.pop(plane, None), read.programs[grids_of(header, plane)]
        pixels, found = _plane_pixels(read.stream, plane, own, codebook, device, strict, drawn, pool)
        planes.append(pixels)
        damage += found
    for sentence in damage:
        _LOG.warning("concealed: %s", sentence)
    return Decoded(header, tuple(planes), tuple(read.programs), read.stream.metadata, damage)


def decode_many(
    streams: Sequence[bytes],
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
) -> list[Tensor]:
    """`decode` of several streams: the same pictures, sooner.

    Symbols of all are read together, and on a GPU tiles of many pictures drawn together; a thread per stream does
    what else is much work.

    Args:
        max_pixels: of one picture.   workers: threads; as many as torch uses if None.
    Raises:
        ConfigError: workers below 1.   BitstreamError, MissingTableError: as `decode_stream`, of the first bad stream.
    """
    where = resolve_device(device)
    with threads(workers) as pool:
        read = _read(streams, strict, max_pixels, pool)
        if where.type == "cuda":
            _draw_together(read, where)
        return [*parallel_map(pool, lambda one: _picture(_finish(one, where, strict)), read, only_if=_Read.unfinished)]


def _draw_together(read: Sequence[_Read], device: torch.device) -> None:
    """Draw what fits together of all streams' programs, as much at a time as memory allows."""
    room = min(_TOGETHER, free_memory(device) // _TOGETHER_BYTES)
    alike: dict[Any, list[_Read]] = {}
    for one in read:
        header = one.stream.header
        for plane, spec in enumerate(header.planes):
            if spec.tile and math.prod(plane_size(header, plane)) <= room:
                key = plane, replace(spec, residual=0), header.seed, header.codebook_id
                alike.setdefault(key, []).append(one)
    for (plane, _, _, codebook_id), group in alike.items():
        codebook = load_codebook(codebook_id)
        while group:
            total = itertools.accumulate(math.prod(plane_size(one.stream.header, plane)) for one in group)
            most = sum(1 for samples in total if samples <= room)
            now, group = group[:most], group[most:]
            headers = [one.stream.header for one in now]
            programs = [one.programs[grids_of(one.stream.header, plane)] for one in now]
            for members, drawn in predict_planes(programs, headers, plane, codebook, device):
                pixels = to_pixels(drawn)
                for i, (rows, ready) in zip(members, zip(drawn, pixels, strict=True), strict=True):
                    if headers[i].planes[plane].residual:
                        now[i].drawn[plane] = rows
                    else:
                        now[i].pixels[plane] = ready


def decode(data: bytes, *, device: str | torch.device = "cpu", strict: bool = True) -> Tensor:
    """Decode a stream to a picture, uint8 [3,H,W] (colour) or [1,H,W] (gray); see `decode_stream`."""
    return _picture(decode_stream(data, device=device, strict=strict))


def _picture(decoded: Decoded) -> Tensor:
    if decoded.header.color == COLOR_YCBCR420:
        return ycbcr420_to_rgb(*decoded.planes)
    return decoded.planes[0].unsqueeze(0)


def decode_y(data: bytes, device: str | torch.device = "cpu", *, strict: bool = True) -> Tensor:
    """Decode a stream's luma to [1,1,H,W] float32 in [0,1]; see `decode_stream`."""
    from pc15.images import luma_tensor

    return luma_tensor(decode_stream(data, device=device, strict=strict).planes[0])
