"""Streams -> programs: sections read together, put together to grids, and concealed where they are lost."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from pc15.bitstream.alphabets import Syntax, check_tables, least_bits
from pc15.bitstream.container import Stream, check_pixels, pixel_limit, read_container
from pc15.bitstream.header import PAYLOAD_RAW, Header, SectionSpan, section_spans, tile_counts
from pc15.bitstream.ports import RawReader, Reader
from pc15.bitstream.programs import Programs
from pc15.bitstream.sections import code_sections
from pc15.entropy.tables import TableSet, find_table, load_table
from pc15.errors import BitstreamError
from pc15.proc.codebook_ids import find_codebook
from pc15.quant import middle_level, step_q15
from pc15.runtime.memory import memory_checked
from pc15.runtime.parallel import parallel_map

if TYPE_CHECKING:
    from pc15.proc.codebook import Codebook

PROGRAMS = "a stream with tile programs"
"""Work that needs torch, for the message where it is missing."""
_CODED_TOGETHER = 1 << 16  # tiles of many sections coded at once
_RAW_TILE_BYTES = 4  # a tile without layers is two symbols, of two bytes each
_LOST_TILES = 1 << 18
_LOST_TILES_PER_BYTE = 16
"""Tiles concealed at most: always so many, or so many for each byte, twice what a sound stream's can hold."""


def codebook_of(codebook_id: str) -> Codebook:
    """`load_codebook`, for a stream that has tiles; others need none.

    Raises:
        MissingTableError: as `load_codebook`.
    """
    from pc15.proc.codebook import load_codebook

    return load_codebook(codebook_id)


def check_ids(header: Header) -> None:
    """Check that the tables and the codebook that a header names are there and, where it has tiles, that they fit.

    Raises:
        MissingTableError: they are not, or do not.
    """
    if header.has_tiles:
        check_tables(load_table(header.table_id), codebook_of(header.codebook_id))
    else:
        find_table(header.table_id)
        find_codebook(header.codebook_id)


def section_syntax(header: Header, span: SectionSpan, codebook: Codebook) -> Syntax:
    """Alphabets and contexts of one section."""
    plane, spec, _ = header.grids[span.grid]
    rows, nx = span.row_stop - span.row_start, tile_counts(header, span.grid)[1]
    return Syntax.of(rows, nx, spec.tile, spec.amp_step, spec.dc_step, plane > 0, codebook)


def coded_alike(
    sections: Sequence[tuple[Header, SectionSpan]],
) -> Iterator[tuple[Syntax, TableSet, list[int]]]:
    """Groups of sections, of one stream or several, that `code_sections` may code together: places in the sequence.

    All are there once, RAW ones one at a time, and no more at a time than keeps what is held of them small.
    """
    books = functools.cache(codebook_of)
    groups: dict[tuple[Syntax, str, int], list[int]] = {}
    for place, (header, span) in enumerate(sections):
        syntax = section_syntax(header, span, books(header.codebook_id))
        groups.setdefault((syntax, header.table_id, header.payload_fmt), []).append(place)
    for (syntax, table_id, payload_fmt), places in groups.items():
        most = 1 if payload_fmt == PAYLOAD_RAW else max(1, _CODED_TOGETHER // (syntax.ny * syntax.nx))
        tables = load_table(table_id)
        for start in range(0, len(places), most):
            yield syntax, tables, places[start : start + most]


@memory_checked("reading a stream")
def read_programs(
    data: bytes, *, strict: bool = True, max_pixels: int | None = None
) -> tuple[Header, list[Programs], dict[str, Any] | None, list[str]]:
    """Read a stream without drawing it: header, one `Programs` per grid, metadata, damage.

    Raises:
        BitstreamError, MissingTableError, MissingExtraError, ResourceError: as `decode_stream`, which explains
            `max_pixels`.
    """
    stream = read_container(data, strict, max_pixels=pixel_limit(max_pixels, len(data)))
    check_pixels(stream, max_pixels)
    check_ids(stream.header)
    ((programs, damage),) = read_sections([stream], strict)
    return stream.header, programs, stream.metadata, damage


def read_sections(
    streams: Sequence[Stream], strict: bool, pool: ThreadPoolExecutor | None = None
) -> list[tuple[list[Programs], list[str]]]:
    """Programs of each stream, one per grid, and sentences on what is damaged."""
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
        payloads = [there[place][2] for place in at]
        wrong = [*map(_room_check(syntax, tables, raw), payloads)]
        hopeful = [payload for payload, error in zip(payloads, wrong, strict=True) if error is None]
        found = iter(_read_alike(syntax, tables, hopeful, raw, strict))
        return [error or next(found) for error in wrong]

    def many(group: tuple[Syntax, TableSet, list[int]]) -> bool:
        return len(group[2]) * group[0].ny * group[0].nx > _CODED_TOGETHER // 4

    for (_, _, at), found in zip(alike, parallel_map(pool, read, alike, only_if=many), strict=True):
        for place, part in zip(at, found, strict=True):
            parts[place] = part
    coded = iter(parts)
    sections: list[list[tuple[SectionSpan, Programs | BitstreamError | None]]] = [[] for _ in streams]
    for i, span, payload in places:
        sections[i].append((span, None if payload is None else next(coded)))
    return [join_sections(stream, own, strict) for stream, own in zip(streams, sections, strict=True)]


def _room_check(syntax: Syntax, tables: TableSet, raw: bool) -> Callable[[bytes], BitstreamError | None]:
    """Tell of a payload if it is too short for its tiles, whatever they are: before anything is made for them."""
    tiles = syntax.ny * syntax.nx
    least = _RAW_TILE_BYTES * tiles if raw else tiles * least_bits(syntax, tables) / 8

    def check(payload: bytes) -> BitstreamError | None:
        if len(payload) >= least:
            return None
        return BitstreamError(f"a section of {len(payload)} bytes cannot hold {tiles} tiles: it is cut or damaged")

    return check


def _read_alike(
    syntax: Syntax, tables: TableSet, payloads: Sequence[bytes], raw: bool, strict: bool
) -> list[Programs | BitstreamError]:
    """Read sections of one syntax together; if anything is wrong, half of them at a time, so that it fails alone.

    If strict, what follows the first that fails has its error too.
    """
    if not payloads:
        return []
    try:
        port = RawReader(tables, *payloads) if raw else Reader(tables, *payloads)
        found = code_sections(port, syntax, None)
        port.finish()
        return [*found]
    except BitstreamError as error:
        half = len(payloads) // 2
        if not half:
            return [error]
        before = _read_alike(syntax, tables, payloads[:half], raw, strict)
        if strict and isinstance(before[-1], BitstreamError):
            return before + [before[-1]] * (len(payloads) - half)
        return before + _read_alike(syntax, tables, payloads[half:], raw, strict)


def join_sections(
    stream: Stream, sections: Sequence[tuple[SectionSpan, Programs | BitstreamError | None]], strict: bool
) -> tuple[list[Programs], list[str]]:
    """Put grids together from their sections; one that is None, or an error if not strict, is concealed.

    Raises:
        BitstreamError: the first error, if strict; or far more tiles are lost than the stream's bytes could hold.
    """
    header, damage = stream.header, list(stream.damage)
    counts = [tile_counts(header, which) for which in range(len(header.grids))]
    programs: dict[int, Programs] = {}
    lost: list[SectionSpan] = []
    for span, part in sections:
        which = span.grid
        if isinstance(part, BitstreamError):
            where = header.grids[which].rows(span.row_start, span.row_stop)
            if strict:
                raise BitstreamError(f"{where}: {part}") from part
            damage.append(f"{where}: {part}")
        if not isinstance(part, Programs):
            lost.append(span)
    gone = sum((span.row_stop - span.row_start) * counts[span.grid][1] for span in lost)
    if gone > max(_LOST_TILES, _LOST_TILES_PER_BYTE * stream.size):
        raise BitstreamError(f"{gone} tiles are lost, and {stream.size} bytes cannot have held them; {damage[0]}")
    for span, part in sections:
        (ny, nx), which = counts[span.grid], span.grid
        if isinstance(part, Programs) and part.tiles == ny * nx:
            programs[which] = part
        elif isinstance(part, Programs):
            if which not in programs:
                programs[which] = Programs.empty(ny * nx)
            programs[which].put(span.row_start * nx, part)
    grids = [programs[i] if i in programs else Programs.empty(ny * nx, 1) for i, (ny, nx) in enumerate(counts)]
    conceal(grids, lost, header)
    return grids, damage


def conceal(programs: list[Programs], lost: list[SectionSpan], header: Header) -> None:
    """Give lost tiles the DC of the nearest sound tile row, or middle grey; upon a coarse grid they change nothing."""
    for which in {span.grid for span in lost}:
        spec, (ny, nx) = header.grids[which].spec, tile_counts(header, which)
        gone = np.zeros(ny, bool)
        for span in lost:
            if span.grid == which:
                gone[span.row_start : span.row_stop] = True
        level, rows, sound = programs[which].dc.reshape(ny, nx), np.flatnonzero(gone), np.flatnonzero(~gone)
        if spec.under is not None:
            level[rows] = middle_level(spec.dc_step)
        elif not sound.size:
            level[rows] = (1 << 14) // step_q15(spec.dc_step)
        else:
            place = sound.searchsorted(rows)
            above, below = sound[(place - 1).clip(min=0)], sound[place.clip(max=len(sound) - 1)]
            level[rows] = level[np.where(np.abs(rows - above) <= np.abs(below - rows), above, below)]
