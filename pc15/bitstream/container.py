"""Header + sections + metadata <-> the bytes of a stream, and streams in files.

Sections are the payloads of groups of tile rows, decodable one by one; this module neither knows nor trusts
what is in them.  Each has a CRC over the header's CRC, its own index, its length and its bytes, so a section
that is damaged, moved, or taken from another stream is noticed, and `strict=False` can leave it out and keep
the others.
The layout is in `pc15/bitstream/__init__.py`.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from pc15.bitstream.header import (
    CRC_BYTES,
    KNOWN_HOOKS,
    KNOWN_IDS,
    MAX_PIXELS,
    Header,
    residual_count,
    residual_spans,
    section_count,
    section_spans,
)
from pc15.bitstream.header_bytes import pack_v15, unpack_v15
from pc15.bitstream.varints import read_varint, varint
from pc15.errors import BitstreamError, ConfigError, checked_max_pixels
from pc15.paths import read_open, write_atomic

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "FREE_PIXELS",
    "MAX_METADATA_BYTES",
    "MAX_STREAM_BYTES",
    "MOST_NAMED",
    "PIXELS_PER_BYTE",
    "Stream",
    "pixel_limit",
    "read_bitstream",
    "read_container",
    "several_streams",
    "stream_bytes",
    "write_bitstream",
    "write_container",
]

StreamLike = bytes | bytearray | memoryview | str | os.PathLike[str] | IO[bytes]
"""Types that callers may give as a stream: its bytes, in any buffer, or the path or open file of one."""

MAX_METADATA_BYTES = 1 << 16
MAX_STREAM_BYTES = 1 << 30  # of a file; the argument max_bytes overrides it
DEFAULT_MAX_PIXELS = (1 << 30) // 4 // 3
"""Pixels of a picture that is decoded for whoever names no limit: as many as Pillow opens without a warning."""
FREE_PIXELS = 1 << 24
"""Pixels that a stream may always have, however short it is, such as a blank page: a quarter of a second, 100 MB."""
PIXELS_PER_BYTE = 1 << 16
"""Pixels that each byte of a longer stream vouches for; photographs have a hundredth of that at their worst."""
MOST_NAMED = 100
"""Sections that are lost and told one by one."""
_LOST_SECTIONS = 1 << 12
"""Sections that are listed as lost although a stream has too few bytes for them; with more, nothing is left of it."""


_PHRASES = (
    b'{"ai":{"name":"', b'","norm":"', b'","sha256":"', b'","version":"', b'"}}', b"baseline", b"heuristic",
    b"-selector", b"-params", b"-rd",
)  # fmt: skip
"""Phrases of metadata that bytes from 1 on stand for, which JSON has no use for: of small streams each byte counts."""


@dataclass(frozen=True)
class Stream:
    """The parts of one stream."""

    header: Header
    sections: list[bytes | None]  # None: damaged, only from read_container(strict=False)
    metadata: dict[str, Any] | None = None  # JSON; nothing that decoding needs
    damage: list[str] = field(default_factory=list)  # one sentence per thing lost; empty for a sound stream
    residuals: list[bytes | None] = field(default_factory=list)  # sections of the residual; None as in `sections`
    size: int = field(default=0, compare=False)  # bytes that tell the picture, of those that it was read from


def pixel_limit(max_pixels: int | None, size: int) -> int:
    """Most pixels to decode of a stream of `size` bytes: `max_pixels`, or if None what its bytes vouch for.

    Raises:
        ConfigError: not a whole number from 1 up.
    """
    if max_pixels is None:
        return min(DEFAULT_MAX_PIXELS, max(FREE_PIXELS, PIXELS_PER_BYTE * size))
    return checked_max_pixels(max_pixels)


def check_pixels(stream: Stream, max_pixels: int | None) -> None:
    """Refuse a picture that metadata alone vouch for, or bytes beyond the stream's end, with whoever names no limit.

    Raises:
        BitstreamError: more pixels than `pixel_limit` of the bytes that tell them.
    """
    pixels, most = stream.header.width * stream.header.height, pixel_limit(max_pixels, stream.size)
    if pixels > most:
        raise BitstreamError(
            f"{stream.size} bytes tell {pixels} pixels, over the limit of {most}; raise max_pixels if the source is "
            "trusted"
        )


def _crc(header_crc: int, index: int, payload: bytes) -> bytes:
    place = zlib.crc32(index.to_bytes(4, "big") + len(payload).to_bytes(8, "big"), header_crc)
    return zlib.crc32(payload, place).to_bytes(CRC_BYTES, "big")


def _metadata_text(metadata: dict[str, Any]) -> bytes:
    """Canonical JSON: sorted keys, no spaces, UTF-8.  ValueError, TypeError, RecursionError: not JSON."""
    text = json.dumps(metadata, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def _shortened(metadata: dict[str, Any], text: bytes) -> bytes:
    """Metadata as it lies in the stream: phrases stand for themselves where there is more than hooks have to say."""
    if list(metadata) != ["ai"]:
        return text
    for code, phrase in enumerate(_PHRASES, 1):
        text = text.replace(phrase, bytes([code]))
    return text


def _named_hooks(header: Header, metadata: dict[str, Any] | None) -> int:
    """Value of `Header.hooks` that says all that metadata says; 0 if there is none.

    A stream that was read with metadata in a chunk of its own keeps it there.
    """
    if header.has_metadata or metadata is None or list(metadata) != ["ai"] or not isinstance(metadata["ai"], dict):
        return 0
    if (header.table_id, header.codebook_id) not in KNOWN_IDS:
        return 0
    if metadata == _metadata_of(header.hooks):
        return header.hooks
    try:
        text = _metadata_text(metadata["ai"]).decode()
    except (TypeError, ValueError, RecursionError):
        return 0
    return KNOWN_HOOKS.index(text) + 1 if text in KNOWN_HOOKS else 0


def _metadata_of(hooks: int) -> dict[str, Any] | None:
    """Metadata that a header says by one byte; hooks of a later version by their number."""
    if not hooks:
        return None
    return {"ai": json.loads(KNOWN_HOOKS[hooks - 1]) if hooks <= len(KNOWN_HOOKS) else {"hooks": hooks}}


def write_container(stream: Stream, *, max_pixels: int = MAX_PIXELS) -> bytes:
    """The bytes of a stream; the header's `has_metadata` and `hooks` are set from the metadata.

    Raises:
        ConfigError: a header out of range, another number of sections than it says, or metadata that is not
            JSON or over 64 KiB.
    """
    hooks = _named_hooks(stream.header, stream.metadata)
    header = replace(stream.header, has_metadata=stream.metadata is not None and not hooks, hooks=hooks)
    head = pack_v15(header, max_pixels=max_pixels)
    expected = section_count(header), residual_count(header)
    if (len(stream.sections), len(stream.residuals)) != expected:
        raise ConfigError(
            f"{len(stream.sections)} sections and {len(stream.residuals)} of residual for a header that has "
            f"{expected[0]} and {expected[1]}"
        )
    chunks: list[bytes] = []
    for index, section in enumerate([*stream.sections, *stream.residuals]):
        if section is None:
            raise ConfigError(f"section {index} is None: a stream with damage cannot be written")
        chunks.append(section)
    if header.has_metadata and stream.metadata is not None:
        chunks.append(_checked_metadata(stream.metadata))
    header_crc = int.from_bytes(head[-CRC_BYTES:], "big")
    lengths = b"".join(varint(len(chunk)) for chunk in chunks)
    return head + lengths + b"".join(c + _crc(header_crc, index, c) for index, c in enumerate(chunks))


def _checked_metadata(metadata: dict[str, Any]) -> bytes:
    try:
        text = _metadata_text(metadata)
        same = json.loads(text) == metadata
    except (TypeError, ValueError, RecursionError) as e:
        raise ConfigError(f"metadata is not JSON: {e}; use dict, list, str, int, float, bool and None") from e
    if not isinstance(metadata, dict) or not same:
        raise ConfigError("metadata does not survive JSON: it must be a dict with str keys, and lists, not tuples")
    if len(text) > MAX_METADATA_BYTES:
        raise ConfigError(f"metadata is {len(text)} bytes of JSON, over the limit of {MAX_METADATA_BYTES}")
    return _shortened(metadata, text)


def _parse_metadata(chunk: bytes) -> dict[str, Any]:
    text = chunk
    for code, phrase in enumerate(_PHRASES, 1):
        text = text.replace(bytes([code]), phrase)
    try:
        metadata = json.loads(text.decode("utf-8"))
        plain = _metadata_text(metadata)  # as it once was written
        canonical = isinstance(metadata, dict) and chunk in (plain, _shortened(metadata, plain))
    except (TypeError, ValueError, RecursionError) as e:
        raise BitstreamError(f"metadata of {len(chunk)} bytes is not JSON: {e}") from e
    if not canonical:
        raise BitstreamError(f"metadata of {len(chunk)} bytes is not one JSON object in canonical form")
    return dict(metadata)


def read_container(data: bytes, strict: bool = True, *, max_pixels: int = MAX_PIXELS) -> Stream:
    """The parts of a stream.

    Args:
        data: the whole stream.
        strict: raise at the first damage; otherwise sections that are damaged come back as None, described in
            `Stream.damage`.  A damaged header always raises, and so does one of thousands of sections more than the
            bytes can hold.
        max_pixels: refuse a larger picture.
    Raises:
        BitstreamError: not a stream, cut, damaged, beyond a limit, or followed by other bytes.
    """
    data = bytes(data)
    header, pos = unpack_v15(data, max_pixels=max_pixels)
    header_crc = int.from_bytes(data[pos - CRC_BYTES : pos], "big")
    programs = section_count(header)
    sections = programs + residual_count(header)
    damage: list[str] = []
    try:
        lengths, start = _read_lengths(data, pos, sections, header.has_metadata)
    except BitstreamError as e:
        if strict or sections > max(_LOST_SECTIONS, len(data)):
            raise
        nothing: list[bytes | None] = [None] * sections
        damage = [f"section lengths cannot be read, no section is left: {e}"]
        return Stream(header, nothing[:programs], _metadata_of(header.hooks), damage, nothing[programs:], pos)
    surplus = len(data) - start - sum(lengths) - CRC_BYTES * len(lengths)
    if surplus:
        found = f"{surplus} bytes after its end" if surplus > 0 else f"{-surplus} bytes too few: it is cut"
        damage.append(f"stream of {len(data)} bytes has {found}, or its section lengths are damaged")
        if strict:
            raise BitstreamError(damage[0])

    chunks = _read_chunks(data, start, lengths, header_crc)
    text = chunks.pop() if header.has_metadata else None
    if None in chunks:
        places = itertools.chain(
            (header.grids[grid].rows(start, stop) for grid, start, stop in section_spans(header)),
            (f"plane {plane}, pixel rows {start} to {stop - 1}" for plane, start, stop in residual_spans(header)),
        )
        parts = enumerate(zip(places, chunks, strict=True))
        lost = [(index, place) for index, (place, chunk) in parts if chunk is None]
        damage += [f"section {index} of {sections} ({place}) fails its CRC" for index, place in lost[:MOST_NAMED]]
        if len(lost) > MOST_NAMED:
            damage.append(f"{len(lost) - MOST_NAMED} further sections of {sections} fail their CRCs")
    metadata = _metadata_of(header.hooks)
    if header.has_metadata:
        try:
            if text is None:
                raise BitstreamError(f"metadata of {lengths[-1]} bytes fails its CRC")
            metadata = _parse_metadata(text)
        except BitstreamError as e:
            damage.append(str(e))
    if strict and damage:
        raise BitstreamError(f"stream is damaged: {damage[0]}; decode with strict=False to see what is left")
    told = min(len(data), start + sum(lengths) + CRC_BYTES * len(lengths)) - (lengths[-1] if header.has_metadata else 0)
    return Stream(header, chunks[:programs], metadata, damage, chunks[programs:], max(pos, told))


def _read_lengths(data: bytes, pos: int, sections: int, has_metadata: bool) -> tuple[list[int], int]:
    """Lengths of the sections, then of the metadata, and where the first begins."""
    chunks = sections + has_metadata
    if len(data) - pos < chunks * (1 + CRC_BYTES):
        raise BitstreamError(
            f"stream of {len(data)} bytes is cut: {chunks} sections need at least "
            f"{chunks * (1 + CRC_BYTES)} bytes after the header's {pos}"
        )
    lengths = []
    for index in range(chunks):
        length, pos = read_varint(data, pos, f"the length of section {index}")
        lengths.append(length)
    if has_metadata and lengths[-1] > MAX_METADATA_BYTES:
        raise BitstreamError(f"metadata is said to have {lengths[-1]} bytes, over the limit of {MAX_METADATA_BYTES}")
    return lengths, pos


def _read_chunks(data: bytes, start: int, lengths: list[int], header_crc: int) -> list[bytes | None]:
    """Each chunk that passes its CRC, placed by the lengths before it, or else by those after it; else None.

    One damaged length moves what follows it when counting from the start, and what precedes it from the end.
    """

    def at(index: int, begin: int) -> bytes | None:
        end = begin + lengths[index]
        if begin < start or end + CRC_BYTES > len(data):
            return None
        payload = data[begin:end]
        return payload if _crc(header_crc, index, payload) == data[end : end + CRC_BYTES] else None

    chunks: list[bytes | None] = []
    begin = start
    for index, length in enumerate(lengths):
        chunks.append(at(index, begin))
        begin += length + CRC_BYTES
    if begin != len(data):
        begin = len(data)
        for index in reversed(range(len(lengths))):
            begin -= lengths[index] + CRC_BYTES
            if chunks[index] is None:
                chunks[index] = at(index, begin)
    return chunks


# ---------------------------------------------------------------------------------------------- files


def write_bitstream(path: Path | str, data: bytes, *, max_pixels: int = MAX_PIXELS) -> None:
    """Write a stream to a file, all of it or nothing; an existing file is replaced only by a sound stream.

    Raises:
        BitstreamError: `data` is not a sound stream.
    """
    read_container(data, max_pixels=max_pixels)
    write_atomic(Path(path), bytes(data))


def read_bitstream(
    path: Path | str,
    strict: bool = True,
    *,
    max_bytes: int = MAX_STREAM_BYTES,
    max_pixels: int | None = None,
) -> bytes:
    """The bytes of a stream file, checked: header, lengths and every CRC; only the header with strict=False.

    Args:
        max_pixels: refuse a larger picture; None: one of more than 2^28 pixels.
    Raises:
        BitstreamError: no such file, a folder, not readable, empty, over `max_bytes`, or not a sound stream.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except OSError as e:
        raise BitstreamError(f"cannot read stream {path}: {e.strerror or e}") from e
    if not data:
        raise BitstreamError(f"{path} is empty, not a PC15 stream")
    if len(data) > max_bytes:
        raise BitstreamError(f"{path} is over the limit of {max_bytes} bytes; raise max_bytes if it is trusted")
    try:
        read_container(data, strict, max_pixels=MAX_PIXELS if max_pixels is None else max_pixels)
    except BitstreamError as e:
        raise BitstreamError(f"{path}: {e}") from e
    return data


def stream_bytes(stream: StreamLike, *, max_bytes: int = MAX_STREAM_BYTES) -> bytes:
    """The bytes of a stream: as they are given, in any buffer, or read from a path or from a file open in binary mode.

    Raises:
        BitstreamError: anything else, or a file that cannot be read or is over `max_bytes`.
    """
    if isinstance(stream, bytes):
        return stream
    if isinstance(stream, str | os.PathLike):
        name = os.fspath(stream)
        try:
            with open(name, "rb") as file:
                return _read_at_most(file, str(name), max_bytes)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise BitstreamError(f"cannot read stream {name!r}: {getattr(error, 'strerror', None) or error}") from error
    given: Any = stream
    if hasattr(given, "read"):
        name = str(getattr(given, "name", "the open file"))
        try:
            return _read_at_most(given, name, max_bytes)
        except (OSError, ValueError) as error:  # ValueError: closed
            raise BitstreamError(f"cannot read stream {name}: {error}") from error
    try:
        return memoryview(given).cast("B").tobytes()
    except TypeError as error:
        raise BitstreamError(
            f"a stream cannot be {type(stream).__name__}; give its bytes, or the path or open file of one"
        ) from error


def _read_at_most(file: IO[bytes], name: str, max_bytes: int) -> bytes:
    data = read_open(file, max_bytes)
    if len(data) > max_bytes:
        raise BitstreamError(f"{name} is over the limit of {max_bytes} bytes; raise max_bytes if it is trusted")
    return data


def several_streams(streams: Iterable[StreamLike]) -> list[bytes]:
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
