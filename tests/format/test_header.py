"""The header is small, has one form, and believes nothing that is out of range."""

from __future__ import annotations

import zlib
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc15.bitstream.header import (
    BORDER_TOOLS,
    CHROMA_TOOLS,
    HOOKS,
    KNOWN,
    KNOWN_IDS,
    MAX_DIMENSION,
    MAX_PIXELS,
    MAX_TILE,
    MAX_TILES,
    MAX_TOOLS,
    SUPERBLOCK,
    Header,
    PlaneSpec,
    SectionSpan,
    plane_size,
    residual_spans,
    section_count,
    section_spans,
    tile_counts,
)
from pc15.bitstream.header_bytes import pack_v15, unpack_v15
from pc15.bitstream.varints import read_varint, varint
from pc15.errors import BitstreamError, ConfigError
from pc15.grids import TileGridCfg, grid
from pc15.residual.tools import ALL_TOOLS, BORDERS, TOOLS
from pc15.residual.tools import CHROMA_TOOLS as TOOLS_OF_CHROMA

LUMA = PlaneSpec(tile=32, overlap=8, window=0, subsample=0, amp_step=12, dc_step=20)
CHROMA = PlaneSpec(tile=64, overlap=8, window=0, subsample=1, amp_step=12, dc_step=20)
GRAY = Header(width=768, height=512, color=0, planes=(LUMA,))
COLOR = Header(width=768, height=512, color=1, planes=(LUMA, CHROMA, CHROMA))


def sealed(body: bytes) -> bytes:
    """Bytes of a header, with the CRC that makes them believable."""
    return body + zlib.crc32(body).to_bytes(4, "big")


@st.composite
def headers(draw: st.DrawFn) -> Header:
    residual = st.just(0) if draw(st.booleans()) else st.integers(0, 80)

    def plane(subsample: int) -> PlaneSpec:
        refined = draw(residual)
        if refined and draw(st.booleans()):
            tools = draw(st.sets(st.sampled_from(sorted(TOOLS.values()))).map(sum)) & ~(
                0 if subsample else CHROMA_TOOLS
            )
            tools &= ~BORDER_TOOLS if tools & CHROMA_TOOLS else MAX_TOOLS
            return PlaneSpec(0, 0, 0, subsample, 0, 0, residual=refined, tools=tools)
        own = tiles(subsample, 4)
        under = tiles(subsample, own.tile + 1) if own.tile < MAX_TILE and draw(st.booleans()) else None
        return replace(own, residual=refined, under=under)

    def tiles(subsample: int, least: int) -> PlaneSpec:
        tile, window = draw(st.integers(least, MAX_TILE)), draw(st.integers(0, 2))
        return PlaneSpec(
            tile=tile,
            overlap=draw(st.integers(0, tile - 1)),
            window=window,
            subsample=subsample,
            amp_step=draw(st.integers(0, 63)),
            dc_step=draw(st.integers(0, 42)),
            window_param=draw(st.integers(0, 255 if window else 0)),
        )

    ids = st.one_of(st.just("v15_default"), st.text("abz059_-", min_size=1, max_size=32))
    table_id, codebook_id = draw(st.one_of(st.tuples(ids, ids), st.sampled_from(KNOWN_IDS)))
    has_metadata = draw(st.booleans())
    named = (table_id, codebook_id) in KNOWN_IDS and not has_metadata
    color = draw(st.integers(0, 1))
    planes = [plane(subsample) for subsample in ((0, 1, 1) if color else (0,))]
    if color and draw(st.booleans()):
        planes[2] = planes[1]
    return Header(
        width=draw(st.integers(1, 2000)),
        height=draw(st.integers(1, 2000)),
        color=color,
        planes=tuple(planes),
        seed=draw(st.one_of(st.just(1234), st.integers(0, 2**32 - 1))),
        table_id=table_id,
        codebook_id=codebook_id,
        payload_fmt=draw(st.integers(0, 1)),
        section_rows=draw(st.integers(0, 300)),
        has_metadata=has_metadata,
        hooks=draw(st.integers(0, 255)) if named else 0,
    )


@settings(max_examples=300)
@given(headers(), st.binary(max_size=8))
def test_a_header_comes_back(header: Header, following: bytes) -> None:
    packed = pack_v15(header)
    assert unpack_v15(packed + following) == (header, len(packed))


def test_typical_headers_are_short() -> None:
    assert len(pack_v15(GRAY)) == 18
    assert len(pack_v15(replace(GRAY, section_rows=4))) == 19
    assert len(pack_v15(replace(GRAY, planes=(replace(LUMA, tile=256, overlap=24),)))) == 19
    assert len(pack_v15(COLOR)) == 22
    assert len(pack_v15(replace(COLOR, planes=(LUMA, CHROMA, replace(CHROMA, dc_step=0))))) == 26


def test_the_bytes_are_those_of_the_specification() -> None:
    body = b"PC15" + bytes([1, 0b0010_1001]) + b"\x80\x06" + b"\x80\x04"  # seed, sections, color; 768 x 512
    body += bytes([32, 8, 0x05, 0x0C]) + bytes([64, 8, 0x45, 0x0C]) + bytes([64, 8, 0xD5, 0x0C, 32])
    body += (99).to_bytes(4, "big") + bytes([4])
    header = replace(COLOR, seed=99, section_rows=4, planes=(LUMA, CHROMA, replace(CHROMA, window=1, window_param=32)))
    assert pack_v15(header) == sealed(body)


def test_a_coarse_grid_is_announced_by_one_byte_and_lies_before_the_tiles_upon_it() -> None:
    body = b"PC15" + bytes([1, 0]) + b"\x80\x06" + b"\x80\x04" + bytes([1])
    body += b"\x80\x01" + bytes([16, 0x95, 0x0C, 32]) + bytes([32, 8, 0x05, 0x0C])
    coarse = PlaneSpec(tile=128, overlap=16, window=1, subsample=0, amp_step=12, dc_step=20, window_param=32)
    packed = pack_v15(replace(GRAY, planes=(replace(LUMA, under=coarse),)))
    assert packed == sealed(body)
    assert len(packed) == len(pack_v15(GRAY)) + 1 + 6


@pytest.mark.parametrize(
    "header",
    [
        GRAY,
        replace(COLOR, seed=5, table_id="mine", section_rows=2),
        replace(GRAY, planes=(replace(LUMA, residual=3, under=replace(LUMA, tile=300)),)),
    ],
)
def test_every_cut_and_every_flipped_bit_is_noticed(header: Header) -> None:
    packed = pack_v15(header)
    for cut in range(len(packed)):
        with pytest.raises(BitstreamError):
            unpack_v15(packed[:cut])
    for bit in range(8 * len(packed)):
        flipped = bytearray(packed)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BitstreamError):
            unpack_v15(bytes(flipped))


@settings(max_examples=300)
@given(st.binary(max_size=60), st.booleans())
def test_random_bytes_raise_only_bitstream_error(data: bytes, plausible: bool) -> None:
    if plausible:
        data = sealed(b"PC15\x01" + data)
    try:
        header, used = unpack_v15(data)
    except BitstreamError:
        return
    assert pack_v15(header) == data[:used]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"width": 0}, "width is 0; it must be a whole number from 1 to"),
        ({"height": MAX_DIMENSION + 1, "width": 1}, "height is 1048577"),
        ({"width": 1.5}, r"width is 1\.5"),
        ({"width": True}, "width is True"),
        ({"width": 1 << 15, "height": 1 << 14}, rf"536870912 pixels, over the limit of {MAX_PIXELS}"),
        ({"color": 2}, "color is 2"),
        ({"color": 1}, "there are 1 planes; color 1 has 3"),
        ({"planes": ()}, "there are 0 planes; color 0 has 1"),
        ({"seed": 1 << 32}, "seed is 4294967296"),
        ({"seed": -1}, "seed is -1"),
        ({"payload_fmt": 2}, "payload_fmt is 2"),
        ({"section_rows": -1}, "section_rows is -1"),
        ({"table_id": "../x"}, "table_id is '../x'"),
        ({"codebook_id": ""}, "codebook_id is ''"),
    ],
)
def test_a_field_out_of_range_is_not_written(changes: dict[str, object], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        pack_v15(replace(GRAY, **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"tile": 3}, "tile size of plane 0 is 3; it must be a whole number from 4 to 1024"),
        ({"tile": 1025}, "tile size of plane 0 is 1025"),
        ({"overlap": 32}, r"overlap of plane 0 \(tile size 32\) is 32; .* from 0 to 31"),
        ({"overlap": -1}, "is -1"),
        ({"window": 3}, "window of plane 0 is 3"),
        ({"window_param": 1}, r"window_param of plane 0 \(window hann\) is 1"),
        ({"window": 1, "window_param": 256}, "is 256"),
        ({"subsample": 1}, "subsample of plane 0 is 1; it is 0 for luma"),
        ({"amp_step": 64}, "amp_step of plane 0 is 64"),
        ({"dc_step": 64}, "dc_step of plane 0 is 64"),
        (
            {"under": LUMA},
            r"tile size of what lies under the tiles of plane 0 \(tile size 32\) is 32; .* from 33 to 1024",
        ),
        ({"under": replace(LUMA, tile=1025)}, "tile size of what lies under the tiles of plane 0 is 1025"),
        ({"under": replace(LUMA, tile=64, residual=1)}, "has a residual or another grid under it"),
        (
            {"under": replace(LUMA, tile=64, under=replace(LUMA, tile=128))},
            "or another grid under it; it can have neither",
        ),
        ({"under": replace(LUMA, tile=64, subsample=1)}, "subsample of what lies under .* is 1; it is 0 for luma"),
        ({"under": replace(LUMA, tile=64, window=3)}, "window of what lies under the tiles of plane 0 is 3"),
        (
            {"under": PlaneSpec(0, 0, 0, 0, 0, 0)},
            "what lies under the tiles of plane 0 is 0, which goes with a residual",
        ),
    ],
)
def test_a_plane_out_of_range_is_not_written(changes: dict[str, int], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        pack_v15(replace(GRAY, planes=(replace(LUMA, **changes),)))


def gray_bytes(width: int = 768, height: int = 512, tile: int = 32, overlap: int = 8, fields: int = 0) -> bytes:
    """What a hostile writer makes: any numbers, and a CRC that holds."""
    numbers = b"".join(varint(n) for n in (width, height, tile, overlap))
    return sealed(b"PC15\x01\x00" + numbers + fields.to_bytes(2, "big"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (gray_bytes(width=1 << 16, height=1 << 15), "2147483648 pixels, over the limit"),
        (gray_bytes(width=1 << 31, height=1), "width is 2147483648"),
        (gray_bytes(width=0), "width is 0"),
        (gray_bytes(tile=3, overlap=0), "tile size of plane 0 is 3"),
        (gray_bytes(tile=1 << 30), "tile size of plane 0 is 1073741824"),
        (gray_bytes(overlap=32), "overlap of plane 0"),
        (gray_bytes(width=1 << 13, height=1 << 13, tile=4, overlap=3), f"over the limit of {MAX_TILES}"),
        (gray_bytes(fields=3 << 12), "window of plane 0 is 3"),
        (gray_bytes(fields=1 << 14), "subsample of plane 0 is 1"),
        (gray_bytes(tile=1), "ends inside the header"),
        (sealed(b"PC15\x01\x00\x01\x01\x01\x01\x08\x00\x00\x04\x00\x00\x00"), "under the tiles of plane 0 is 1;"),
        (sealed(b"PC15\x01\x00\x01\x01\x01\x20\x08\x00\x00\x01\x00\x00\x00"), "tile size of plane 0 is 1;"),
        (sealed(b"PC15\x01\x00\x01\x01\x01\x20\x08\x00\x00\x20\x08\x00\x00"), "is 32; .* from 33 to 1024"),
        (sealed(b"PC15\x01\x00\x80\x00\x01\x20\x08\x00\x00"), "more bytes than it needs"),
        (sealed(b"PC15\x01\x00" + b"\xff" * 9), "more than 5 bytes"),
        (sealed(b"PC15\x01\x02\x01\x01\x20\x08\x00\x00"), "one form"),
        (sealed(b"PC15\x01\x08\x01\x01\x20\x08\x00\x00" + (1234).to_bytes(4, "big")), "one form"),
        (sealed(b"PC15\x01\x04\x01\x01\x20\x08\x00\x00\x04../x\x01a"), "table_id is '../x'"),
        (sealed(b"PC15\x01\x04\x01\x01\x20\x08\x00\x00\x02\xc3\xa4\x01a"), "table_id is"),
        (b"PC15\x02" + gray_bytes()[5:], "version 2; this build reads version 1"),
        (b"PNG5" + gray_bytes()[4:], "not a PC15 stream"),
        (b"", "not a PC15 stream"),
    ],
)
def test_a_hostile_header_is_refused_with_its_reason(data: bytes, why: str) -> None:
    with pytest.raises(BitstreamError, match=why):
        unpack_v15(data)


def test_the_pixel_limit_is_the_readers_choice() -> None:
    big = replace(GRAY, width=1 << 15, height=1 << 14)
    packed = pack_v15(big, max_pixels=1 << 30)
    assert unpack_v15(packed, max_pixels=1 << 30)[0] == big
    with pytest.raises(BitstreamError, match="raise max_pixels"):
        unpack_v15(packed)
    with pytest.raises(BitstreamError, match="over the limit of 1000"):
        unpack_v15(pack_v15(GRAY), max_pixels=1000)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(4, 80), st.data())
def test_tiles_are_counted_as_the_grid_cuts_them(height: int, width: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    spec = replace(LUMA, tile=tile, overlap=overlap)
    chroma = replace(spec, subsample=1, tile=4, overlap=3, under=replace(spec, subsample=1, tile=tile + 1))
    header = Header(width, height, 1, (spec, chroma, CHROMA))
    assert plane_size(header, 1) == ((height + 1) // 2, (width + 1) // 2)
    assert [grid.plane for grid in header.grids] == [0, 1, 1, 2]
    for which, (plane, own, _) in enumerate(header.grids):
        cut = grid(*plane_size(header, plane), TileGridCfg(size=own.tile, overlap=own.overlap))
        assert tile_counts(header, which) == (cut.ny, cut.nx)


@settings(max_examples=200)
@given(headers())
def test_sections_cover_every_tile_row_once(header: Header) -> None:
    spans = list(section_spans(header))
    assert len(spans) == section_count(header)
    rows = [(span.grid, row) for span in spans for row in range(span.row_start, span.row_stop)]
    assert rows == [(g, row) for g in range(len(header.grids)) for row in range(tile_counts(header, g)[0])]


@settings(max_examples=200)
@given(headers())
def test_residual_sections_cover_every_pixel_row_once(header: Header) -> None:
    spans = list(residual_spans(header))
    rows = [(span.plane, row) for span in spans for row in range(span.row_start, span.row_stop)]
    refined = [p for p, spec in enumerate(header.planes) if spec.residual]
    assert rows == [(p, row) for p in refined for row in range(plane_size(header, p)[0])]
    assert all(span.row_start % SUPERBLOCK == 0 for span in spans)
    if not header.section_rows:
        assert len(spans) == len(refined)


def test_a_plane_without_tiles_needs_a_residual() -> None:
    bare = PlaneSpec(0, 0, 0, 0, 0, 0, residual=17)
    header = replace(GRAY, planes=(bare,))
    assert unpack_v15(pack_v15(header))[0] == header
    assert len(pack_v15(replace(header, width=768, height=512))) == 16
    assert section_count(header) == 0
    for wrong in (replace(bare, residual=0), replace(bare, residual=81), replace(bare, overlap=1)):
        with pytest.raises(ConfigError):
            pack_v15(replace(header, planes=(wrong,)))


def test_tools_take_a_byte_where_there_are_any() -> None:
    assert (MAX_TOOLS, CHROMA_TOOLS, BORDER_TOOLS) == (ALL_TOOLS, TOOLS_OF_CHROMA, BORDERS) and ALL_TOOLS < 256
    plain = replace(GRAY, planes=(replace(LUMA, residual=17),))
    tooled = replace(GRAY, planes=(replace(LUMA, residual=17, tools=5),))
    old, new = pack_v15(plain), pack_v15(tooled)
    at = len(old) - 5  # the residual's byte is the last one before the CRC
    assert new == sealed(old[:at] + bytes([17 | 128, 5]))
    assert unpack_v15(new)[0] == tooled
    for body, why in (
        (old[:at] + bytes([17 | 128, 0]), "one form"),
        (old[:at] + bytes([128, 1]), "without a residual"),
        (old[:at] + bytes([17 | 128, CHROMA_TOOLS]), "must be bits"),
    ):
        with pytest.raises(BitstreamError, match=why):
            unpack_v15(sealed(body))
    for wrong in ({"residual": 0, "tools": 1}, {"tools": MAX_TOOLS + 1}, {"tools": True}, {"tools": CHROMA_TOOLS}):
        with pytest.raises(ConfigError, match="tools"):
            pack_v15(replace(plain, planes=(replace(LUMA, **{"residual": 17, **wrong}),)))


def test_sections_of_a_color_picture() -> None:
    assert tile_counts(COLOR, 0) == (21, 32)
    assert list(section_spans(replace(COLOR, section_rows=10)))[:4] == [
        SectionSpan(0, 0, 10),
        SectionSpan(0, 10, 20),
        SectionSpan(0, 20, 21),
        SectionSpan(1, 0, 5),
    ]
    assert section_count(COLOR) == 3


def test_window_parameters_are_those_of_blend() -> None:
    assert LUMA.window_params() is None
    assert replace(LUMA, window=1, window_param=64).window_params() == {"alpha": Fraction(1, 4)}
    assert replace(LUMA, window=2, window_param=34).window_params() == {"beta": Fraction(17, 2)}


@given(st.integers(0, 2**35 - 1))
def test_a_varint_comes_back(value: int) -> None:
    data = b"x" + varint(value)
    assert read_varint(data + b"y", 1, "it") == (value, len(data))


def test_a_pair_of_ids_that_everybody_knows_takes_one_byte() -> None:
    for pair in KNOWN_IDS[:1]:
        known = replace(GRAY, table_id=pair[0], codebook_id=pair[1])
        assert len(pack_v15(known)) == len(pack_v15(GRAY)) + 1
        assert unpack_v15(pack_v15(known))[0] == known
        half = replace(GRAY, table_id=pair[0])
        assert unpack_v15(pack_v15(half))[0] == half


def test_a_pair_of_ids_that_this_build_lacks_is_refused() -> None:
    packed = pack_v15(replace(GRAY, table_id=KNOWN_IDS[0][0], codebook_id=KNOWN_IDS[0][1]))
    for newer in (KNOWN + 63, KNOWN + HOOKS + 63):
        with pytest.raises(BitstreamError, match="names tables and codebook 63, which this build lacks"):
            unpack_v15(sealed(packed[:-5] + bytes([newer])))
    spelt = packed[:-5] + b"".join(bytes([len(name)]) + name.encode() for name in KNOWN_IDS[0])
    with pytest.raises(BitstreamError, match="not in its one form"):
        unpack_v15(sealed(spelt))


@pytest.mark.parametrize(("place", "size"), [(0, 1), (1, 2)])
def test_hooks_take_one_byte_behind_a_known_pair_of_ids_and_go_with_nothing_else(place: int, size: int) -> None:
    known = replace(GRAY, table_id=KNOWN_IDS[place][0], codebook_id=KNOWN_IDS[place][1])
    packed = pack_v15(replace(known, hooks=2))
    assert len(packed) == len(pack_v15(known)) + size
    assert unpack_v15(packed)[0].hooks == 2
    assert packed[-6] == 192 + place
    with pytest.raises(BitstreamError, match="not in its one form"):
        unpack_v15(sealed(packed[:-5] + b"\0"))
    alone = packed[:-6] + bytes([128 + place])  # which the default pair never is
    if place:
        with pytest.raises(BitstreamError, match="not in its one form"):
            unpack_v15(sealed(alone))
    else:
        assert sealed(alone) == pack_v15(known)
    for wrong in (
        replace(known, table_id="mine", hooks=1),
        replace(known, hooks=1, has_metadata=True),
        replace(known, hooks=256),
    ):
        with pytest.raises(ConfigError, match="hooks (are|is)"):
            pack_v15(wrong)
