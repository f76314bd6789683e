"""A stream comes back whole or with a reason; what is not damaged can still be had."""

from __future__ import annotations

import errno
import json
import os
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc15.bitstream import (
    Header,
    PlaneSpec,
    Stream,
    pack_v15,
    read_bitstream,
    read_container,
    section_count,
    write_bitstream,
    write_container,
)
from pc15.bitstream.header import KNOWN_HOOKS, KNOWN_IDS
from pc15.bitstream.varints import varint
from pc15.errors import BitstreamError, ConfigError

LUMA = PlaneSpec(tile=16, overlap=4, window=0, subsample=0, amp_step=1, dc_step=2)
HEADER = Header(width=20, height=60, color=0, planes=(LUMA,), section_rows=2)  # 5 tile rows: 3 sections
SECTIONS: list[bytes | None] = [b"first section", b"", b"the last one" * 12]
META = {"ai": {"name": "m1", "sha256": "00ff"}, "note": "größe"}


def stream_bytes(metadata: dict[str, Any] | None = None, sections: list[bytes | None] = SECTIONS) -> bytes:
    return write_container(Stream(HEADER, sections, metadata))


def same_parts(data: bytes) -> bool:
    stream = read_container(data)
    return (stream.sections, stream.metadata) == (SECTIONS, META)


@pytest.mark.parametrize("metadata", [None, {}, META])
def test_a_stream_comes_back(metadata: dict[str, Any] | None) -> None:
    data = stream_bytes(metadata)
    stream = read_container(data)
    assert stream == Stream(replace(HEADER, has_metadata=metadata is not None), SECTIONS, metadata, [])
    assert write_container(stream) == data
    assert read_container(data, strict=False) == stream


def test_framing_takes_five_bytes_per_small_section() -> None:
    one = replace(HEADER, section_rows=0)
    assert len(write_container(Stream(one, [b"x" * 100]))) == len(pack_v15(one)) + 1 + 100 + 4


@pytest.mark.parametrize("strict", [True, False])
def test_every_cut_is_noticed(strict: bool) -> None:
    data = stream_bytes(META)
    head = len(pack_v15(HEADER))
    for cut in range(len(data)):
        if strict or cut < head:
            with pytest.raises(BitstreamError):
                read_container(data[:cut], strict)
        else:
            stream = read_container(data[:cut], strict)
            assert stream.damage and stream.metadata is None
            assert all(got in (None, sent) for got, sent in zip(stream.sections, SECTIONS, strict=True))


def test_every_flipped_bit_is_noticed() -> None:
    data = stream_bytes(META)
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            read_container(bytes(flipped))


def test_a_damaged_section_leaves_the_others() -> None:
    data = stream_bytes(META)
    payload = len(data) - len(data.split(b"first section", 1)[1]) - len(b"first section")
    for bit in range(8 * payload, 8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        stream = read_container(bytes(flipped), strict=False)
        parts = [*stream.sections, stream.metadata]
        assert parts.count(None) == 1 == len(stream.damage)
        assert all(got in (None, sent) for got, sent in zip(parts, [*SECTIONS, META], strict=True))
    first = data.index(b"{")
    assert stream.damage == [f"metadata of {len(data) - 4 - first} bytes fails its CRC"]


def test_damage_says_which_tile_rows_are_lost() -> None:
    data = stream_bytes().replace(b"last", b"lost")
    assert read_container(data, strict=False).damage == ["section 2 of 3 (plane 0, tile rows 4 to 4) fails its CRC"]
    with pytest.raises(BitstreamError, match=r"section 2 of 3 .* decode with strict=False"):
        read_container(data)


def test_a_damaged_length_leaves_the_sections_around_it() -> None:
    data = bytearray(stream_bytes(META))
    data[len(pack_v15(HEADER)) + 1] += 3  # the empty section's
    stream = read_container(bytes(data), strict=False)
    assert (stream.sections, stream.metadata) == ([SECTIONS[0], None, SECTIONS[2]], META)
    assert len(stream.damage) == 2


def test_unreadable_lengths_leave_nothing() -> None:
    head = pack_v15(HEADER)
    stream = read_container(head + b"\xff" * 40, strict=False)
    assert stream.sections == [None] * 3 and len(stream.damage) == 1
    with pytest.raises(BitstreamError, match="length of section 0"):
        read_container(head + b"\xff" * 40)


def test_swapped_sections_are_noticed() -> None:
    data = stream_bytes(sections=[b"aaaa", b"bbbb", b"cccc"])
    start = data.index(b"aaaa")
    swapped = data[:start] + data[start + 8 : start + 16] + data[start : start + 8] + data[start + 16 :]
    assert len(swapped) == len(data)
    with pytest.raises(BitstreamError, match="section 0 of 3"):
        read_container(swapped)
    assert read_container(swapped, strict=False).sections == [None, None, b"cccc"]


def test_a_section_of_another_stream_is_noticed() -> None:
    ours = stream_bytes()
    theirs = write_container(Stream(replace(HEADER, width=21), SECTIONS))
    head = len(pack_v15(HEADER))
    with pytest.raises(BitstreamError, match="section 0 of 3"):
        read_container(ours[:head] + theirs[head:])


def test_bytes_after_the_end_are_refused() -> None:
    data = stream_bytes(META)
    with pytest.raises(BitstreamError, match="1 bytes after its end"):
        read_container(data + b"\0")
    lenient = read_container(data + b"\0", strict=False)
    assert (lenient.sections, lenient.metadata, len(lenient.damage)) == (SECTIONS, META, 1)


def test_a_length_is_never_trusted() -> None:
    head = pack_v15(HEADER)
    claim = head + varint(1 << 34) * 3 + b"x" * 30
    with pytest.raises(BitstreamError, match="too few"):
        read_container(claim)
    assert read_container(claim, strict=False).sections == [None] * 3


def test_a_header_that_claims_endless_sections_is_refused_at_once() -> None:
    tall = Header(1, 1 << 20, 0, (replace(LUMA, tile=4, overlap=3),), section_rows=1)
    assert section_count(tall) == (1 << 20) - 3
    with pytest.raises(BitstreamError, match="1048573 sections need at least"):
        read_container(pack_v15(tall) + b"\0" * 100)


def test_a_picture_beyond_the_limit_is_refused() -> None:
    body = b"PC15\x01\x00" + varint(1 << 16) + varint(1 << 15) + varint(32) + varint(8) + b"\0\0"
    with pytest.raises(BitstreamError, match="2147483648 pixels, over the limit"):
        read_container(body + zlib.crc32(body).to_bytes(4, "big") + b"\0" * 100)


@settings(max_examples=300)
@given(st.binary(max_size=120), st.sampled_from(["nothing", "magic", "header"]), st.booleans())
def test_random_bytes_raise_only_bitstream_error(data: bytes, before: str, strict: bool) -> None:
    prefix = {"nothing": b"", "magic": b"PC15\x01", "header": pack_v15(replace(HEADER, has_metadata=True))}
    try:
        stream = read_container(prefix[before] + data, strict)
    except BitstreamError:
        return
    assert not strict and stream.damage


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=300), min_size=3, max_size=3), st.integers(0, 10**6), st.integers(1, 255))
def test_one_damaged_byte_never_changes_what_is_read(payloads: list[bytes], at: int, mask: int) -> None:
    sections: list[bytes | None] = [*payloads]
    data = bytearray(stream_bytes(META, sections))
    data[at % len(data)] ^= mask
    with pytest.raises(BitstreamError):
        read_container(bytes(data))
    try:
        stream = read_container(bytes(data), strict=False)
    except BitstreamError:
        return
    assert all(got in (None, sent) for got, sent in zip(stream.sections, sections, strict=True))
    assert stream.metadata in (None, META)


# ---------------------------------------------------------------------------------------------- metadata


def with_metadata_text(text: bytes, header: Header = HEADER) -> bytes:
    """A stream whose metadata chunk holds any bytes, with a CRC that holds."""
    head = pack_v15(replace(header, has_metadata=True))
    data = head
    chunks = [b"a", b"b", b"c", text]
    data += b"".join(varint(len(chunk)) for chunk in chunks)
    for index, chunk in enumerate(chunks):
        place = index.to_bytes(4, "big") + len(chunk).to_bytes(8, "big")
        data += chunk + zlib.crc32(place + chunk, int.from_bytes(head[-4:], "big")).to_bytes(4, "big")
    return data


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[1]", "canonical"),
        (b'{"a": 1}', "canonical"),
        (b'{"b":1,"a":2}', "canonical"),
        (b'{"a":1,"a":2}', "canonical"),
        (b'{"a":NaN}', "not JSON"),
        (b'{"a":1e999}', "not JSON"),
        (b'{"a":"\\ud800"}', "not JSON"),
        (b'{"a":' + b"[" * 60_000, "not JSON"),
        (b'{"a":' + b"1" * 60_000 + b"}", "not JSON"),
        (b'{"a":"' + b"x" * 70_000 + b'"}', "over the limit of 65536"),
    ],
)
def test_metadata_that_is_not_canonical_json_is_refused(text: bytes, why: str) -> None:
    with pytest.raises(BitstreamError, match=why):
        read_container(with_metadata_text(text))
    assert read_container(with_metadata_text(text), strict=False).metadata is None


def test_what_hooks_say_of_themselves_takes_few_bytes() -> None:
    metadata = {"ai": {"name": "baseline-selector", "norm": "76a0", "sha256": "3a887902", "version": "0.1.0"}}
    text = json.dumps(metadata, separators=(",", ":")).encode()
    short, plain = stream_bytes(metadata, [b"a", b"b", b"c"]), with_metadata_text(text)
    assert len(short) - len(stream_bytes(None, [b"a", b"b", b"c"])) <= 30 < len(plain) - len(short)
    for data in (short, plain):
        assert read_container(data).metadata == metadata
    mixed = text.replace(b"baseline", b"\x06")
    with pytest.raises(BitstreamError, match="canonical"):
        read_container(with_metadata_text(mixed))


KNOWN_TABLES = replace(HEADER, table_id=KNOWN_IDS[0][0], codebook_id=KNOWN_IDS[0][1])


@pytest.mark.parametrize("place", range(len(KNOWN_HOOKS) + 1))
def test_hooks_that_everybody_knows_take_one_byte_of_the_header(place: int) -> None:
    known = place < len(KNOWN_HOOKS)
    metadata = {"ai": json.loads(KNOWN_HOOKS[place]) if known else {"hooks": 200}}
    header = KNOWN_TABLES if known else replace(KNOWN_TABLES, hooks=200)  # of a later encoder
    data = write_container(Stream(header, SECTIONS, metadata))
    assert len(data) == len(write_container(Stream(KNOWN_TABLES, SECTIONS))) + 1
    stream = read_container(data)
    assert (stream.metadata, stream.header.hooks) == (metadata, place + 1 if known else 200)
    assert not stream.header.has_metadata and write_container(stream) == data
    cut = read_container(data[: len(data) - 200], strict=False)
    assert cut.damage and cut.metadata == metadata


def test_hooks_stay_in_the_chunk_where_a_stream_has_them_and_where_there_is_more_to_say() -> None:
    text = json.dumps({"ai": {"name": "heuristic"}}, separators=(",", ":")).encode()
    before = with_metadata_text(text, KNOWN_TABLES)
    assert read_container(before).metadata == {"ai": {"name": "heuristic"}}
    read = read_container(before)
    assert write_container(read)[: len(pack_v15(read.header))] == pack_v15(replace(KNOWN_TABLES, has_metadata=True))
    for header, metadata in (
        (replace(HEADER, table_id="mine"), {"ai": {"name": "heuristic"}}),
        (KNOWN_TABLES, {"ai": {"name": "heuristic"}, "note": "mine"}),
        (KNOWN_TABLES, {"ai": {"name": "heuristics"}}),
        (KNOWN_TABLES, {"ai": "heuristic"}),
        (KNOWN_TABLES, {"ai": {"hooks": 1}}),
        (replace(KNOWN_TABLES, hooks=1), {"ai": {"name": "mine"}}),
    ):
        stream = read_container(write_container(Stream(header, SECTIONS, metadata)))
        assert (stream.metadata, stream.header.hooks, stream.header.has_metadata) == (metadata, 0, True)
    assert read_container(write_container(Stream(replace(KNOWN_TABLES, hooks=1), SECTIONS))).metadata is None


@given(st.dictionaries(st.text(max_size=9), st.sampled_from(['"}}', "baseline", '","norm":"', "\x01", "\x0a"])))
def test_any_text_of_metadata_survives_its_phrases(metadata: dict[str, Any]) -> None:
    for own in (metadata, {"ai": metadata}):
        assert read_container(stream_bytes(own)).metadata == own


def test_metadata_chunks_are_built_as_the_test_above_builds_them() -> None:
    assert with_metadata_text(b'{"a":1}') == stream_bytes({"a": 1}, [b"a", b"b", b"c"])


@pytest.mark.parametrize(
    "metadata",
    [{"a": {1, 2}}, {"a": float("nan")}, {1: "a"}, {"a": (1, 2)}, [1], {"a": "x" * 70_000}, {"a": "\ud800"}],
)
def test_metadata_that_json_cannot_hold_is_not_written(metadata: Any) -> None:
    with pytest.raises(ConfigError, match="metadata"):
        stream_bytes(metadata)


def test_sections_must_be_as_many_as_the_header_says() -> None:
    with pytest.raises(ConfigError, match="2 sections and 0 of residual for a header that has 3 and 0"):
        stream_bytes(sections=[b"", b""])
    with pytest.raises(ConfigError, match="section 1 is None"):
        stream_bytes(sections=[b"", None, b""])


# ---------------------------------------------------------------------------------------------- files


def test_a_file_comes_back(tmp_path: Path) -> None:
    write_bitstream(tmp_path / "a.pc15", stream_bytes(META))
    assert same_parts(read_bitstream(tmp_path / "a.pc15"))
    assert same_parts(read_bitstream(str(tmp_path / "a.pc15")))
    assert [path.name for path in tmp_path.iterdir()] == ["a.pc15"]


def test_paths_that_hold_no_stream_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "picture").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "good").write_bytes(stream_bytes())
    for name, why in [
        ("absent", "No such file"),
        ("", "Is a directory"),
        ("empty", "is empty"),
        ("picture", "not a PC15 stream"),
    ]:
        with pytest.raises(BitstreamError, match=why) as caught:
            read_bitstream(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(BitstreamError, match="over the limit of 50 bytes"):
        read_bitstream(tmp_path / "good", max_bytes=50)


def test_a_damaged_file_is_read_only_when_asked(tmp_path: Path) -> None:
    damaged = stream_bytes().replace(b"last", b"lost")
    (tmp_path / "a.pc15").write_bytes(damaged)
    with pytest.raises(BitstreamError, match=r"a\.pc15: .*section 2"):
        read_bitstream(tmp_path / "a.pc15")
    assert read_bitstream(tmp_path / "a.pc15", strict=False) == damaged


def test_damaged_bytes_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(BitstreamError):
        write_bitstream(tmp_path / "a.pc15", stream_bytes()[:-1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.pc15"
    write_bitstream(path, stream_bytes())

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        write_bitstream(path, stream_bytes(META))
    monkeypatch.undo()
    assert read_bitstream(path) == stream_bytes()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pc15"]
