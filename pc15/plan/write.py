"""Sections -> bytes, and the result of an encode.

The sections of all pictures are written together, those that are coded alike in one go.
"""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pc15.bitstream.container import Stream, write_container
from pc15.bitstream.header import PAYLOAD_RAW, Header, SectionSpan, section_spans, tile_counts
from pc15.bitstream.ports import Writer
from pc15.bitstream.programs import Ints, Programs
from pc15.bitstream.read import coded_alike, section_syntax
from pc15.bitstream.records import TileRec
from pc15.bitstream.sections import code_section, code_sections
from pc15.entropy.tables import TableSet

if TYPE_CHECKING:
    from pc15.proc.codebook import Codebook

__all__ = ["Chosen", "EncodeResult", "TileBits", "finish", "tile_bits", "write_section"]

TileBits = dict[str, float]
"""Bits of a tile, by the kind of symbol."""

_KEYS = ("bitstream", "bpp", "stats", "tile_map")


@dataclass(frozen=True, eq=False)
class EncodeResult(Mapping[str, Any]):
    """A coded picture; also a mapping with the keys bitstream, bpp, stats and tile_map.

    bitstream: the whole stream.   bpp: its bits per pixel.   stats: bytes, bits_by_kind, tiles, layers (patterns of
        tiles and of the residual's squares).
    tile_maps: what each tile draws, a list per grid of tiles: of each plane in turn, a coarse grid before the tiles
        upon it.  `["tile_map"]` is the only grid's list where there is but one, else all.  Made when first asked for.
    programs: the same as arrays, of each grid.   seed: the stream's.
    """

    bitstream: bytes
    bpp: float
    stats: dict[str, Any]
    programs: Sequence[Programs] = field(repr=False)
    seed: int = field(repr=False)

    @functools.cached_property
    def tile_maps(self) -> list[list[TileRec]]:
        """Records of what each tile draws."""
        with _uncollected():
            return [
                [TileRec.of(number, program, self.seed) for number, program in enumerate(part.records())]
                for part in self.programs
            ]

    def __getitem__(self, key: str) -> Any:
        if key == "tile_map":
            return self.tile_maps[0] if len(self.tile_maps) == 1 else self.tile_maps
        if key in _KEYS:
            return getattr(self, key)
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter(_KEYS)

    def __len__(self) -> int:
        return len(_KEYS)


@dataclass(eq=False)
class Chosen:
    """Everything that the stream of a picture will say.

    programs: of each of the header's grids.   residuals: payloads of the residual's sections, of all planes.
    tallies: bits of each by kind.   patterns: how many the residual's squares add.
    """

    header: Header
    programs: Sequence[Programs]
    residuals: Sequence[bytes]
    tallies: Sequence[Mapping[str, float]]
    patterns: int
    metadata: dict[str, Any] | None


def write_section(
    header: Header, span: SectionSpan, programs: Programs, tables: TableSet, codebook: Codebook
) -> Writer:
    """The symbols of one section, written."""
    writer, nx = Writer(tables), tile_counts(header, span.grid)[1]
    code_section(writer, section_syntax(header, span, codebook), programs.rows(span.row_start * nx, span.row_stop * nx))
    return writer


def tile_bits(
    header: Header, programs: Sequence[Programs], tables: TableSet, codebook: Codebook
) -> list[list[TileBits]]:
    """Costs of each tile's symbols, a list per grid: bits by kind, by the tables; the coder's own bytes left out."""
    found: list[list[TileBits]] = [[] for _ in header.grids]
    for span in section_spans(header):
        nx = tile_counts(header, span.grid)[1]
        part = programs[span.grid].rows(span.row_start * nx, span.row_stop * nx)
        writer, places = Writer(tables), list[Ints]()
        code_sections(writer, section_syntax(header, span, codebook), [part], places)
        names, kinds, costs = writer.costs()
        tiles = np.concatenate([np.zeros(0, np.int64), *places])
        sums = np.zeros((part.tiles, len(names)))
        np.add.at(sums, (tiles, kinds), costs)
        for row in sums.tolist():
            found[span.grid].append({name: bits for name, bits in zip(names, row, strict=True) if bits})
    return found


def _sections_of(chosen: Sequence[Chosen]) -> list[list[tuple[bytes, dict[str, float]]]]:
    """The sections of each picture and the bits of each by kind, those of all pictures written together."""
    there = [(i, span) for i, one in enumerate(chosen) for span in section_spans(one.header)]
    written: list[tuple[bytes, dict[str, float]]] = [(b"", {})] * len(there)
    for syntax, tables, group in coded_alike([(chosen[i].header, span) for i, span in there]):
        parts = []
        for i, span in (there[place] for place in group):
            parts.append(chosen[i].programs[span.grid].rows(span.row_start * syntax.nx, span.row_stop * syntax.nx))
        writer = Writer(tables, len(group))
        code_sections(writer, syntax, parts)
        raw = chosen[there[group[0]][0]].header.payload_fmt == PAYLOAD_RAW
        payloads = [writer.raw_bytes()] if raw else writer.payloads()
        for place, payload, tally in zip(group, payloads, writer.tallies(), strict=True):
            written[place] = payload, tally
    sections: list[list[tuple[bytes, dict[str, float]]]] = [[] for _ in chosen]
    for (i, _), own in zip(there, written, strict=True):
        sections[i].append(own)
    return sections


def finish(chosen: Sequence[Chosen]) -> list[EncodeResult]:
    """Streams of pictures, with the statistics that people ask for."""
    written = _sections_of(chosen)
    with _uncollected():
        return [_result(one, sections) for one, sections in zip(chosen, written, strict=True)]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Keep Python from looking for cycles meanwhile.

    There are none among thousands of records per picture, but so many new objects would have it look through all that
    a process holds, time and again: four times the work of making them.
    """
    usual = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if usual:
            gc.enable()


def _result(chosen: Chosen, sections: Sequence[tuple[bytes, Mapping[str, float]]]) -> EncodeResult:
    """The stream of one picture, from its sections and the bits of each by kind."""
    header, programs = chosen.header, chosen.programs
    bits: dict[str, float] = {}
    for span, (_, tally) in zip(section_spans(header), sections, strict=True):
        for kind, cost in tally.items():
            kind = f"coarse {kind}" if header.grids[span.grid].coarse else kind
            bits[kind] = bits.get(kind, 0.0) + cost
    for tally in chosen.tallies:
        for kind, cost in tally.items():
            bits[f"residual {kind}"] = bits.get(f"residual {kind}", 0.0) + cost
    payloads: list[bytes | None] = [payload for payload, _ in sections]
    data = write_container(Stream(header, payloads, chosen.metadata, residuals=list(chosen.residuals)))
    stats = {
        "bytes": len(data),
        "bits_by_kind": bits,
        "tiles": sum(part.tiles for part in programs),
        "layers": sum(int(part.count.sum()) for part in programs) + chosen.patterns,
    }
    bpp = 8.0 * len(data) / (header.width * header.height)
    return EncodeResult(data, bpp, stats, programs, header.seed)
