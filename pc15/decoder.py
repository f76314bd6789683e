"""Bytes -> symbols -> patterns -> picture.  Integer arithmetic only: the same pixels on every device.

No network, no image data, no state but the bytes and the packaged tables.  `pc15.bitstream.read` reads the programs of
a plane's tiles, `pc15.draw` draws them, and `pc15.residual.decode` refines what is drawn.

Patterns are drawn with torch; everything else is NumPy and, for a residual, numba.  A stream without patterns, as a
photograph's, loads no torch unless tensors are wanted.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, overload

import numpy as np
import numpy.typing as npt

from pc15.bitstream.container import (
    Stream,
    StreamLike,
    check_pixels,
    pixel_limit,
    read_container,
    several_streams,
    stream_bytes,
)
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
from pc15.bitstream.read import PROGRAMS, check_ids, codebook_of, read_sections
from pc15.color import ycbcr420_to_rgb
from pc15.drawing_cost import check_drawing_cost
from pc15.errors import BitstreamError, ConfigError, Pc15Error, shown
from pc15.flat import flat_plane, is_flat, row_bands
from pc15.luma import MIDDLE, SAMPLE_ONE, to_pixels
from pc15.runtime.device import checked_device, free_memory, resolve_device
from pc15.runtime.memory import memory_checked
from pc15.runtime.parallel import check_fork, parallel_map, single_thread, threads
from pc15.runtime.tensors import has_torch, is_tensor, load_torch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Output = Literal["auto", "numpy", "torch"]
"""Arrays or tensors; "auto": tensors where torch is installed, else arrays."""
Bytes: TypeAlias = npt.NDArray[np.uint8]

_LOG = logging.getLogger(__name__)
_FEW_PIXELS = 1 << 16
"""Pictures up to this size decode on one thread: a team of threads costs more than it gains."""
_CONVERTED_TOGETHER = 1 << 20
"""Samples made pixels at once."""
_TOGETHER = 1 << 28  # samples of many planes drawn at once on a GPU,
_TOGETHER_BYTES = 96  # each of which takes so much of its memory


@dataclass(frozen=True)
class Decoded:
    """A stream, redrawn.

    planes: uint8 [h,w] each, Y first, as arrays or tensors.
    programs: what the tiles of each of `Header.grids` chose.
    damage: one sentence per thing concealed; empty for a sound stream.
    """

    header: Header
    planes: tuple[Any, ...]
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
    before: Sequence[Bytes],
    device: str | torch.device,
    strict: bool,
    pool: ThreadPoolExecutor | None,
) -> tuple[Bytes | Tensor, list[str]]:
    """A plane's pixels, [h,w] uint8, and sentences on what of its residual is damaged.

    A tensor on the device if programs have the last word, else an array.  Section by section: of a plane without
    tiles, no more than one per thread is held at Q12.

    Args:
        before: pixels of the planes before it, damaged or not: it may be predicted from them.
        pool: threads to share out sections to.
    """
    stream, header = read.stream, read.stream.header
    spec, (h, w) = header.planes[plane], plane_size(header, plane)
    drawn: npt.NDArray[np.int32] | Tensor | None = read.drawn.pop(plane, None)
    if drawn is None and spec.tile:
        drawn = _drawn(read.programs[grids_of(header, plane)], header, plane, device)
    if drawn is not None and not spec.residual:
        return _shown(drawn), []
    below = drawn if drawn is None or isinstance(drawn, np.ndarray) else drawn.cpu().numpy()
    pixels = np.empty((h, w), np.uint8)
    spans = zip(residual_spans(header), stream.residuals, strict=True)
    sections = [(span, payload) for span, payload in spans if span.plane == plane]

    seen = before if spec.tools & CHROMA_TOOLS else []

    def put(section: tuple[ResidualSpan, bytes | None]) -> str:
        """Fill a section's pixels; returns what is damaged, if anything is."""
        (_, start, stop), payload = section
        rows = None if below is None else below[start:stop]
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
    return pixels, damage


def _drawn(
    programs: Sequence[Programs], header: Header, plane: int, device: str | torch.device
) -> npt.NDArray[np.int32] | Tensor:
    """Samples that the programs of a plane's grids draw, [h,w] int32 Q12; a tensor on the device if it has layers."""
    if is_flat(programs):
        return flat_plane(programs, header, plane)
    load_torch(PROGRAMS)
    from pc15.draw import predict_plane

    return predict_plane(programs, header, plane, codebook_of(header.codebook_id), resolve_device(device))


def _shown(drawn: npt.NDArray[np.int32] | Tensor) -> Bytes | Tensor:
    """Pixels of a plane that programs draw, [h,w] uint8."""
    samples: Any = drawn
    if isinstance(drawn, np.ndarray):
        pixels: Any = np.empty(drawn.shape, np.uint8)
    else:
        pixels = drawn.new_empty(drawn.shape, dtype=load_torch(PROGRAMS).uint8)
    for top, below in row_bands(0, *drawn.shape):
        pixels[top:below] = to_pixels(samples[top:below])
    return pixels  # type: ignore[no-any-return]


def _put_pixels(
    pixels: Bytes,
    drawn: npt.NDArray[Any] | None,
    payload: bytes | None = None,
    step: int = 0,
    tools: int = 0,
    before: Sequence[Bytes] = (),
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
            pixels[:] = decode_flat(payload, h, w, MIDDLE, step, tools, _pixel_table(), guides)
            return
        drawn = decode_residual(payload, drawn, step, tools, guides=guides)
    if drawn is None:
        pixels[:] = _pixel_table()[MIDDLE]
        return
    rows = max(1, _CONVERTED_TOGETHER // w)
    for top in range(0, h, rows):
        pixels[top : top + rows] = to_pixels(drawn[top : top + rows])


@functools.cache
def _pixel_table() -> Bytes:
    """`to_pixels` of the samples 0..4096."""
    return to_pixels(np.arange(SAMPLE_ONE + 1))


@memory_checked("decoding")
def decode_stream(
    data: StreamLike,
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int | None = None,
    output: Output = "auto",
) -> Decoded:
    """Decode a stream to its planes, with everything it says.

    Args:
        data: the stream's bytes in any buffer, its path, or a file open in binary mode.
        device: where programs are drawn, and where tensors lie.
        strict: raise on any damage; otherwise lost sections are concealed and listed in `damage`.
        max_pixels: refuse a larger picture, and one of which layers take more than 64 samples for each of so many
            pixels.  None: what the stream's bytes vouch for, see `pc15.bitstream.pixel_limit`; 89 million at most.
        output: "numpy" for arrays, which load torch only for streams with tile programs; "torch" for tensors; "auto"
            for tensors where torch is installed, else arrays.
    Raises:
        BitstreamError: not a valid stream, damaged, or more than `max_pixels` allows.
        MissingTableError: the stream names tables or a codebook that this machine does not have.
        MissingExtraError: the stream has tile programs, or tensors are asked for, and torch is not installed.
        ConfigError: max_pixels is no whole number from 1 up, no such output, or as `resolve_device`.
        ResourceError: memory ran out.   DeviceError: as `pc15.runtime.parallel.check_fork`.
    """
    check_fork()
    kind, where = _kind(output), checked_device(device)
    (read,) = _read([stream_bytes(data)], strict, max_pixels)
    if len(read.stream.residuals) <= len(read.stream.header.planes):
        if not is_flat(read.programs):
            load_torch(PROGRAMS)  # before its threads are told to wait
        with single_thread(only_if=math.prod(plane_size(read.stream.header, 0)) <= _FEW_PIXELS):
            return _finish(read, where, strict, kind)
    with threads(None) as pool:
        return _finish(read, where, strict, kind, pool)


def _kind(output: Output) -> Literal["numpy", "torch"]:
    """Arrays or tensors."""
    if output not in get_args(Output):
        raise ConfigError(f"output is {shown(output)}; choose one of {', '.join(get_args(Output))}")
    if output == "auto":
        return "torch" if has_torch() else "numpy"
    if output == "torch" and not has_torch():
        load_torch("output='torch'")
    return output


def _read(
    streams: Sequence[bytes], strict: bool, max_pixels: int | None, pool: ThreadPoolExecutor | None = None
) -> list[_Read]:
    """Symbols of all streams.

    Raises:
        Pc15Error: what is wrong with the first bad stream.
    """

    opened: list[Stream] = []
    wrong: Pc15Error | None = None
    for data in streams:
        try:
            stream = read_container(data, strict, max_pixels=pixel_limit(max_pixels, len(data)))
            check_pixels(stream, max_pixels)
            check_ids(stream.header)
        except Pc15Error as error:
            wrong = error  # unless the symbols of one before it are wrong
            break
        opened.append(stream)
    read = [_Read(stream, *own) for stream, own in zip(opened, read_sections(opened, strict, pool), strict=True)]
    for one in read:
        if not one.stream.header.has_tiles:
            continue
        check_drawing_cost(one.programs, one.stream.header, one.stream.size, max_pixels)
    if wrong is not None:
        raise wrong
    return read


def _finish(
    read: _Read,
    device: str | torch.device,
    strict: bool,
    kind: Literal["numpy", "torch"] = "torch",
    pool: ThreadPoolExecutor | None = None,
) -> Decoded:
    header, damage = read.stream.header, read.damage
    planes: list[Any] = []
    shown: list[Bytes] = []  # what later planes are predicted from
    for plane in range(len(header.planes)):
        pixels: Bytes | Tensor | None = read.pixels.pop(plane, None)
        if pixels is None:
            pixels, found = _plane_pixels(read, plane, shown, device, strict, pool)
            damage += found
        if any(later.tools & CHROMA_TOOLS for later in header.planes[plane + 1 :]):
            shown.append(pixels if isinstance(pixels, np.ndarray) else pixels.cpu().numpy())
        planes.append(_converted(pixels, kind, device))
    for sentence in damage:
        _LOG.warning("concealed: %s", sentence)
    return Decoded(header, tuple(planes), tuple(read.programs), read.stream.metadata, damage)


def _converted(pixels: Bytes | Tensor, kind: Literal["numpy", "torch"], device: str | torch.device) -> Any:
    """Pixels as an array, or as a tensor on a device."""
    if kind == "numpy":
        return pixels.cpu().numpy() if is_tensor(pixels) else pixels
    tensor = pixels if is_tensor(pixels) else load_torch("output='torch'").from_numpy(pixels)
    return tensor.to(resolve_device(device))


@overload
def decode_many(
    streams: Iterable[StreamLike],
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int | None = None,
    workers: int | None = None,
    output: Literal["numpy"],
) -> list[Bytes]: ...


@overload
def decode_many(
    streams: Iterable[StreamLike],
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int | None = None,
    workers: int | None = None,
    output: Literal["auto", "torch"] = "auto",
) -> list[Tensor]: ...


@memory_checked("decoding")
def decode_many(
    streams: Iterable[StreamLike],
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int | None = None,
    workers: int | None = None,
    output: Output = "auto",
) -> list[Any]:
    """`decode` of several streams: the same pictures, sooner.

    Symbols of all are read together, and on a GPU tiles of many pictures drawn together; a thread per stream does
    what else is much work.

    Args:
        max_pixels: of one picture, see `decode_stream`.   workers: threads; as many as torch uses if None.
    Raises:
        ConfigError: workers below 1.
        BitstreamError, MissingTableError, MissingExtraError, ResourceError: as `decode_stream`, of the first bad
            stream.
    """
    kind, where = _kind(output), checked_device(device)
    given = several_streams(streams)
    with threads(workers) as pool:
        read = _read(given, strict, max_pixels, pool)
        if not all(is_flat(one.programs) for one in read):
            load_torch(PROGRAMS)
            where = resolve_device(device)
            if where.type == "cuda":
                _draw_together(read, where)

        def finish(one: _Read) -> Any:
            return _picture(_finish(one, where, strict, kind))

        return [*parallel_map(pool, finish, read, only_if=_Read.unfinished)]


def _draw_together(read: Sequence[_Read], device: torch.device) -> None:
    """Draw what fits together of all streams' programs, as much at a time as memory allows."""
    from pc15.draw import predict_planes

    room = min(_TOGETHER, free_memory(device) // _TOGETHER_BYTES)
    alike: dict[Any, list[_Read]] = {}
    for one in read:
        header = one.stream.header
        for plane, spec in enumerate(header.planes):
            if spec.tile and math.prod(plane_size(header, plane)) <= room:
                key = plane, replace(spec, residual=0, tools=0), header.seed, header.codebook_id
                alike.setdefault(key, []).append(one)
    for (plane, _, _, codebook_id), group in alike.items():
        codebook = codebook_of(codebook_id)
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


@overload
def decode(
    data: StreamLike,
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int | None = None,
    output: Literal["numpy"],
) -> Bytes: ...


@overload
def decode(
    data: StreamLike,
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int | None = None,
    output: Literal["auto", "torch"] = "auto",
) -> Tensor: ...


@memory_checked("decoding")
def decode(
    data: StreamLike,
    *,
    device: str | torch.device = "cpu",
    strict: bool = True,
    max_pixels: int | None = None,
    output: Output = "auto",
) -> Any:
    """Decode a stream to a picture, uint8 [3,H,W] (colour) or [1,H,W] (gray); see `decode_stream` for what is taken.

    A tensor where torch is installed, else an array; `output="numpy"` gives an array in any case, and loads torch only
    for streams with tile programs.
    """
    return _picture(decode_stream(data, device=device, strict=strict, max_pixels=max_pixels, output=output))


def _picture(decoded: Decoded) -> Any:
    """[3,H,W] or [1,H,W], of the kind that the planes are."""
    if decoded.header.color == COLOR_YCBCR420:
        return ycbcr420_to_rgb(*decoded.planes)
    return decoded.planes[0][None]


@overload
def decode_y(
    data: StreamLike,
    device: str | torch.device = "cpu",
    *,
    strict: bool = True,
    max_pixels: int | None = None,
    output: Literal["numpy"],
) -> npt.NDArray[np.float32]: ...


@overload
def decode_y(
    data: StreamLike,
    device: str | torch.device = "cpu",
    *,
    strict: bool = True,
    max_pixels: int | None = None,
    output: Literal["auto", "torch"] = "auto",
) -> Tensor: ...


@memory_checked("decoding")
def decode_y(
    data: StreamLike,
    device: str | torch.device = "cpu",
    *,
    strict: bool = True,
    max_pixels: int | None = None,
    output: Output = "auto",
) -> Any:
    """Decode a stream's luma to [1,1,H,W] float32 in [0,1], of the kind that `decode` gives; see `decode_stream`."""
    from pc15.images import luma_of, luma_tensor

    luma = decode_stream(data, device=device, strict=strict, max_pixels=max_pixels, output=output).planes[0]
    return luma_tensor(luma) if is_tensor(luma) else luma_of(luma)
