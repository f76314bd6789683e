"""Bytes -> symbols -> patterns -> picture.  Integer arithmetic only: the same pixels on every device.

No network, no image data, no state but the bytes and the packaged tables.  `pc15.bitstream.read` reads the programs of
a plane's tiles, `pc15.draw` draws them, and `pc15.residual.decode` refines what is drawn.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.bitstream.alphabets import check_tables
from pc15.bitstream.container import Stream, StreamLike, pixel_limit, read_container, stream_bytes
from pc15.bitstream.header import (
    CHROMA_TOOLS,
    COLOR_YCBCR420,
    Header,
    ResidualSpan,
    grids_of,
    plane_size,
    residual_spans,
)
from pc15.bitstream.programs import Programs
from pc15.bitstream.read import read_sections
from pc15.color import ycbcr420_to_rgb
from pc15.draw import check_drawing_cost, predict_plane, predict_planes, row_bands
from pc15.entropy.tables import load_table
from pc15.errors import BitstreamError, Pc15Error
from pc15.luma import MIDDLE, SAMPLE_ONE, to_pixels
from pc15.proc.codebook import load_codebook
from pc15.runtime.device import free_memory, resolve_device
from pc15.runtime.memory import memory_checked
from pc15.runtime.parallel import check_fork, parallel_map, single_thread, threads

_LOG = logging.getLogger(__name__)
_FEW_PIXELS = 1 << 16
"""Pictures up to this size decode on one thread: a team of threads costs more than it gains."""
_TOGETHER = 1 << 28  # samples of many planes drawn at once on a GPU,
_TOGETHER_BYTES = 96  # each of which takes so much of its memory


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


@dataclass(eq=False)
class _Read:
    """A stream of which all but the residuals is read.

    drawn: what programs draw, of planes with a residual where that is known already.   pixels: of planes without one.
    """

    stream: Stream
    programs: list[Programs]
    damage: list[str]
    drawn: dict[int, Tensor] = field(default_factory=dict)
    pixels: dict[int, Tensor] = field(default_factory=dict)

    def unfinished(self) -> bool:
        """True if pixels of some plane are still to be made."""
        return len(self.pixels) < len(self.stream.header.planes)


def _plane_pixels(
    read: _Read,
    plane: int,
    before: Sequence[Tensor],
    device: torch.device,
    strict: bool,
    pool: ThreadPoolExecutor | None,
) -> tuple[Tensor, list[str]]:
    """A plane's pixels, [h,w] uint8, and sentences on what of its residual is damaged.

    Section by section: of a plane without tiles, no more than one per thread is held at Q12.

    Args:
        before: pixels of the planes before it, damaged or not: it may be predicted from them.
        pool: threads to share out sections to.
    """
    stream, header = read.stream, read.stream.header
    spec, (h, w) = header.planes[plane], plane_size(header, plane)
    drawn = read.drawn.pop(plane, None)
    if drawn is None and spec.tile:
        codebook = load_codebook(header.codebook_id)
        drawn = predict_plane(read.programs[grids_of(header, plane)], header, plane, codebook, device)
    place = device if spec.tile else torch.device("cpu")  # where residuals are decoded
    pixels = torch.empty((h, w), dtype=torch.uint8, device=place)
    sections: list[tuple[ResidualSpan, bytes | None]] = [(ResidualSpan(plane, 0, h), None)]
    if spec.residual:
        spans = zip(residual_spans(header), stream.residuals, strict=True)
        sections = [(span, payload) for span, payload in spans if span.plane == plane]

    seen = [one.cpu().numpy() for one in before] if spec.tools & CHROMA_TOOLS else []

    def put(section: tuple[ResidualSpan, bytes | None]) -> str:
        """Fill a section's pixels; returns what is damaged, if anything is."""
        (_, start, stop), payload = section
        rows = None if drawn is None else drawn[start:stop]
        try:
            _put_pixels(pixels[start:stop], rows, payload, spec.residual - 1, spec.tools, seen, start)
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


def _put_pixels(
    pixels: Tensor,
    drawn: Tensor | None,
    payload: bytes | None = None,
    step: int = 0,
    tools: int = 0,
    before: Sequence[npt.NDArray[np.uint8]] = (),
    start: int = 0,
) -> None:
    """Fill rows of a plane, [h,w] uint8, from what is drawn there, int32 Q12, or middle grey, and from a residual.

    Args:
        before: planes that the residual is predicted from, if any.   start: number of the first row.
    """
    h, w = pixels.shape
    if payload:
        from pc15.residual.cross import guides_of  # a stream without residual needs no numba
        from pc15.residual.decode import decode_flat, decode_residual

        guides = guides_of(before, start, start + h) if before else None
        if drawn is None:
            pixels.copy_(torch.from_numpy(decode_flat(payload, h, w, MIDDLE, step, tools, _pixel_table(), guides)))
            return
        refined = decode_residual(payload, drawn.cpu().numpy(), step, tools, guides=guides)
        drawn = torch.from_numpy(refined).to(pixels.device)
    for top, below in row_bands(0, h, w):
        pixels[top:below] = to_pixels(torch.tensor(MIDDLE) if drawn is None else drawn[top:below])


@functools.cache
def _pixel_table() -> npt.NDArray[np.uint8]:
    """`to_pixels` of the samples 0..4096."""
    table: npt.NDArray[np.uint8] = to_pixels(torch.arange(SAMPLE_ONE + 1)).numpy()
    return table


@memory_checked("decoding")
def decode_stream(
    data: StreamLike, *, device: str | torch.device = "cpu", strict: bool = True, max_pixels: int | None = None
) -> Decoded:
    """Decode a stream to its planes, with everything it says.

    Args:
        data: the stream's bytes in any buffer, its path, or a file open in binary mode.
        strict: raise on any damage; otherwise lost sections are concealed and listed in `damage`.
        max_pixels: refuse a larger picture, and one of which layers take more than 64 samples for each of so many
            pixels.  None: what the stream's bytes vouch for, see `pc15.bitstream.pixel_limit`; 89 million at most.
    Raises:
        BitstreamError: not a valid stream, damaged, or more than `max_pixels` allows.
        MissingTableError: the stream names tables or a codebook that this machine does not have.
        ConfigError: max_pixels is no whole number from 1 up.   ResourceError: memory ran out.
        DeviceError: as `pc15.runtime.parallel.check_fork`.
    """
    check_fork()
    (read,) = _read([stream_bytes(data)], strict, max_pixels)
    if len(read.stream.residuals) <= len(read.stream.header.planes):
        with single_thread(only_if=math.prod(plane_size(read.stream.header, 0)) <= _FEW_PIXELS):
            return _finish(read, resolve_device(device), strict)
    with threads(None) as pool:
        return _finish(read, resolve_device(device), strict, pool)


def _read(
    streams: Sequence[bytes], strict: bool, max_pixels: int | None, pool: ThreadPoolExecutor | None = None
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
            stream = read_container(data, strict, max_pixels=pixel_limit(max_pixels, len(data)))
            check(stream.header.table_id, stream.header.codebook_id)
        except Pc15Error as error:
            wrong = error  # unless the symbols of one before it are wrong
            break
        opened.append(stream)
    read = [_Read(stream, *own) for stream, own in zip(opened, read_sections(opened, strict, pool), strict=True)]
    for one in read:
        check_drawing_cost(one.programs, one.stream.header, one.stream.size, max_pixels)
    if wrong is not None:
        raise wrong
    return read


def _finish(read: _Read, device: torch.device, strict: bool, pool: ThreadPoolExecutor | None = None) -> Decoded:
    header, damage = read.stream.header, read.damage
    planes = []
    for plane in range(len(header.planes)):
        if (ready := read.pixels.pop(plane, None)) is not None:
            planes.append(ready)
            continue
        pixels, found = _plane_pixels(read, plane, planes, device, strict, pool)
        planes.append(pixels)
        damage += found
    for sentence in damage:
        _LOG.warning("concealed: %s", sentence)
    return Decoded(header, tuple(planes), tuple(read.programs), read.stream.metadata, damage)


@memory_checked("decoding")
def decode_many(
    streams: Iterable[StreamLike],
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int | None = None,
    workers: int | None = None,
) -> list[Tensor]:
    """`decode` of several streams: the same pictures, sooner.

    Symbols of all are read together, and on a GPU tiles of many pictures drawn together; a thread per stream does
    what else is much work.

    Args:
        max_pixels: of one picture, see `decode_stream`.   workers: threads; as many as torch uses if None.
    Raises:
        ConfigError: workers below 1.
        BitstreamError, MissingTableError, ResourceError: as `decode_stream`, of the first bad stream.
    """
    where = resolve_device(device)
    given = _several(streams)
    with threads(workers) as pool:
        read = _read(given, strict, max_pixels, pool)
        if where.type == "cuda":
            _draw_together(read, where)
        return [*parallel_map(pool, lambda one: _picture(_finish(one, where, strict)), read, only_if=_Read.unfinished)]


def _several(streams: Iterable[StreamLike]) -> list[bytes]:
    """The bytes of each of several streams.

    Raises:
        BitstreamError: a single stream, which would be taken apart.
    """
    single = isinstance(streams, str | bytes | bytearray | memoryview) or hasattr(streams, "read")
    if single or not isinstance(streams, Iterable):
        raise BitstreamError(
            f"decode_many got one {type(streams).__name__}, not several streams; give a list, or one stream to decode"
        )
    return [stream_bytes(stream) for stream in streams]


def _draw_together(read: Sequence[_Read], device: torch.device) -> None:
    """Draw what fits together of all streams' programs, as much at a time as memory allows."""
    room = min(_TOGETHER, free_memory(device) // _TOGETHER_BYTES)
    alike: dict[Any, list[_Read]] = {}
    for one in read:
        header = one.stream.header
        for plane, spec in enumerate(header.planes):
            if spec.tile and math.prod(plane_size(header, plane)) <= room:
                key = plane, replace(spec, residual=0, tools=0), header.seed, header.codebook_id
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


@memory_checked("decoding")
def decode(
    data: StreamLike, *, device: str | torch.device = "cpu", strict: bool = True, max_pixels: int | None = None
) -> Tensor:
    """Decode a stream to a picture, uint8 [3,H,W] (colour) or [1,H,W] (gray); see `decode_stream` for what is taken."""
    return _picture(decode_stream(data, device=device, strict=strict, max_pixels=max_pixels))


def _picture(decoded: Decoded) -> Tensor:
    if decoded.header.color == COLOR_YCBCR420:
        return ycbcr420_to_rgb(*decoded.planes)
    return decoded.planes[0].unsqueeze(0)


@memory_checked("decoding")
def decode_y(
    data: StreamLike, device: str | torch.device = "cpu", *, strict: bool = True, max_pixels: int | None = None
) -> Tensor:
    """Decode a stream's luma to [1,1,H,W] float32 in [0,1]; see `decode_stream`."""
    from pc15.images import luma_tensor

    return luma_tensor(decode_stream(data, device=device, strict=strict, max_pixels=max_pixels).planes[0])
