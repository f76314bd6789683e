"""Many sections coded together, and many streams read and written together: what each becomes alone."""

from __future__ import annotations

import gc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc15 import CodecConfig, encode
from pc15 import decoder as decode_module
from pc15 import encoder as encode_module
from pc15.bitstream import read as read_module
from pc15.bitstream.alphabets import Syntax
from pc15.bitstream.container import Stream, read_container, write_container
from pc15.bitstream.header import Header, PlaneSpec, SectionSpan, residual_spans, section_spans, tile_counts
from pc15.bitstream.ports import Reader, Writer
from pc15.bitstream.programs import MAX_LAYERS, MERGE_FROM, Programs
from pc15.bitstream.read import section_syntax
from pc15.bitstream.sections import code_section, code_sections
from pc15.encoder import repack
from pc15.entropy.tables import load_table
from pc15.errors import BitstreamError, ConfigError, Pc15Error
from pc15.plan.write import Chosen, finish
from pc15.proc.codebook import GRID_ID, load_codebook, offset_reach
from pc15.proc.generators import NAMES, load
from pc15.proc.spec import fine_bits
from pc15.quant import dc_levels

CODEBOOK, TABLES = load_codebook(GRID_ID), load_table("v15_default")
LUMA, CHROMA = PlaneSpec(32, 8, 0, 0, 24, 24), PlaneSpec(16, 4, 0, 1, 20, 20)
BARE = PlaneSpec(0, 0, 0, 1, 0, 0, residual=9)
HEADERS = (
    Header(100, 70, 0, (LUMA,)),
    Header(110, 80, 0, (LUMA,), seed=7),  # as many tiles
    Header(70, 100, 0, (LUMA,)),
    Header(100, 70, 1, (LUMA, CHROMA, CHROMA)),
    Header(100, 70, 1, (LUMA, BARE, BARE)),
    Header(100, 70, 0, (LUMA,), section_rows=2),
    Header(100, 70, 0, (LUMA,), payload_fmt=1),
    Header(100, 70, 0, (PlaneSpec(64, 16, 0, 0, 24, 24),)),
    Header(9, 9, 0, (PlaneSpec(16, 4, 0, 0, 24, 24),)),  # one tile
    Header(100, 70, 0, (replace(LUMA, under=PlaneSpec(64, 16, 0, 0, 24, 24)),)),
    Header(100, 70, 1, (LUMA, *[replace(CHROMA, under=PlaneSpec(32, 8, 0, 1, 20, 20))] * 2), section_rows=2),
)
seeds = st.integers(0, 1 << 30)


def programs(seed: int, ny: int, nx: int, tile: int, top: int, merging: bool) -> Programs:
    """Tiles with any layers, or none at all; layers may continue neighbours."""
    rng, fine = np.random.default_rng(seed), fine_bits(tile)
    own = Programs.empty(ny * nx)
    own.dc[:] = rng.integers(0, top, own.tiles)
    own.count[:] = rng.integers(0, rng.choice([1, 3, 5]), own.tiles)
    for n, layer in zip(*np.nonzero(np.arange(MAX_LAYERS) < own.count[:, None]), strict=True):
        gen = int(rng.integers(len(NAMES)))
        own.gen[n, layer], own.qv[n, layer] = gen, rng.integers(CODEBOOK.size(gen))
        own.seed[n, layer], own.amp[n, layer] = rng.integers(load(gen).seeds), rng.choice([-40, -3, 1, 2, 15, 16])
        if rng.random() < 0.3:
            count, reach = len(load(gen).params_at(fine)), offset_reach(fine)
            own.offsets[n, layer, :count] = rng.integers(-reach, reach + 1, count)
        side = int(rng.integers(len(MERGE_FROM)))
        row, column = n // nx + MERGE_FROM[side][0], n % nx + MERGE_FROM[side][1]
        if merging and min(row, column) >= 0 and column < nx and layer < own.count[row * nx + column]:
            own.source[n, layer] = 1 + side * MAX_LAYERS + layer
    own.fine = fine
    own.resolve(nx)
    return own


def alone(syntax: Syntax, own: Programs) -> Writer:
    writer = Writer(TABLES)
    code_section(writer, syntax, own)
    return writer


def stream(seed: int, header: Header, merging: bool) -> tuple[Header, list[Programs], list[SectionSpan], list[bytes]]:
    """What a stream says, section by section."""
    spans, planes, payloads = list(section_spans(header)), [], []
    for which, (_, spec, _) in enumerate(header.grids):
        (ny, nx), top = tile_counts(header, which), dc_levels(spec.dc_step)
        parts = [Programs.empty(0)]
        for span in spans:
            if span.grid == which:
                rows = span.row_stop - span.row_start
                parts.append(programs(seed + len(payloads), rows, nx, spec.tile, top, merging))
                writer = alone(section_syntax(header, span, CODEBOOK), parts[-1])
                payloads.append(writer.raw_bytes() if header.payload_fmt else writer.rans_bytes())
        planes.append(Programs.joined(parts))
        planes[-1].fine = parts[-1].fine
        assert planes[-1].tiles == ny * nx
    return header, planes, spans, payloads


def container(header: Header, payloads: list[bytes]) -> bytes:
    return write_container(Stream(header, [*payloads], residuals=[b"any"] * len(list(residual_spans(header)))))


def said(read: Any) -> object:
    return [part.records() for part in read.programs], [part.fine for part in read.programs], read.damage


@given(st.lists(st.tuples(seeds, st.booleans()), min_size=1, max_size=5), st.integers(1, 4), st.integers(1, 4), seeds)
@settings(max_examples=60)
def test_sections_together_are_coded_as_each_alone(
    sections: list[tuple[int, bool]], ny: int, nx: int, kind: int
) -> None:
    tile = (16, 32, 64)[kind % 3]
    syntax = Syntax.of(ny, nx, tile, 24, 24, kind % 2 == 1, CODEBOOK)
    given_ = [programs(seed, ny, nx, tile, syntax.dc_top, merging) for seed, merging in sections]
    singles, writer = [alone(syntax, own) for own in given_], Writer(TABLES, len(given_))
    assert code_sections(writer, syntax, given_) == given_
    payloads = writer.payloads()
    assert payloads == [one.rans_bytes() for one in singles]
    assert [list(tally.items()) for tally in writer.tallies()] == [list(one.bits_by_kind().items()) for one in singles]
    assert sorted(writer.symbols) == sorted(symbol for one in singles for symbol in one.symbols)
    reader = Reader(TABLES, *payloads)
    back = code_sections(reader, syntax, None)
    reader.finish()
    assert [one.records() for one in back] == [one.records() for one in given_]
    for one, own in zip(back, given_, strict=True):
        assert all(np.array_equal(getattr(one, name), getattr(own, name)) for name in ("offsets", "source", "amp"))


def test_a_symbol_that_cannot_be_written_has_its_place_in_its_own_section() -> None:
    syntax = Syntax.of(2, 3, 32, 24, 24, False, CODEBOOK)
    sections = [programs(seed, 2, 3, 32, syntax.dc_top, merging=False) for seed in range(4)]
    bad = sections[2]
    bad.count[4] = max(1, int(bad.count[4]))
    bad.amp[4, 0] = 5000
    messages = []
    for some in ([bad], sections):
        writer = Writer(TABLES, len(some))
        code_sections(writer, syntax, some)
        with pytest.raises(BitstreamError, match="at position") as caught:
            writer.payloads()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


DAMAGES = ("none", "none", "none", "cut", "flip", "longer", "nonsense", "container", "header")


def damaged(rng: np.random.Generator, how: str, header: Header, payloads: list[bytes]) -> bytes:
    """A stream with one section as nobody writes it, or one that says so itself."""
    which = int(rng.integers(len(payloads)))
    payload = bytearray(payloads[which])
    if how == "cut":
        del payload[len(payload) // 2 :]
    elif how == "flip" and payload:
        payload[int(rng.integers(len(payload)))] ^= 1 << int(rng.integers(8))
    elif how == "longer":
        payload += b"\x80\x01"
    elif how == "nonsense":
        payload[:] = rng.integers(0, 256, 40, np.uint8).tobytes()
    data = container(header, [*payloads[:which], bytes(payload), *payloads[which + 1 :]])
    if how == "container":
        return data[:-1] + bytes([data[-1] ^ 1])
    return data[:5] + b"\xff" + data[6:] if how == "header" else data


@given(
    st.lists(
        st.tuples(st.sampled_from(HEADERS), st.sampled_from(DAMAGES), st.booleans(), seeds), min_size=1, max_size=7
    ),
    st.sampled_from([1, 20, 1 << 16]),
)
@settings(max_examples=80)
def test_streams_together_are_read_as_each_alone(many: list[tuple[Header, str, bool, int]], most: int) -> None:
    streams, sound = [], []
    for header, how, merging, seed in many:
        header, planes, _, payloads = stream(seed, header, merging)
        streams.append(damaged(np.random.default_rng(seed), how, header, payloads))
        sound.append([part.records() for part in planes] if how == "none" else None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(read_module, "_CODED_TOGETHER", most)
        for strict in (True, False):
            each: list[object] = []
            for data in streams:
                try:
                    each.append(said(decode_module._read([data], strict, 1 << 20)[0]))
                except Pc15Error as error:
                    each.append((type(error), str(error)))
            wrong = [one for one in each if isinstance(one, tuple) and isinstance(one[0], type)]
            if wrong:
                with pytest.raises(Pc15Error) as caught:
                    decode_module._read(streams, strict, 1 << 20)
                assert (type(caught.value), str(caught.value)) == wrong[0]
            whole = [i for i, one in enumerate(each) if one not in wrong]
            read = decode_module._read([streams[i] for i in whole], strict, 1 << 20)
            assert [said(one) for one in read] == [each[i] for i in whole]
            for i, one in zip(whole, read, strict=True):
                assert sound[i] is None or [part.records() for part in one.programs] == sound[i]


@given(st.lists(st.tuples(st.sampled_from(HEADERS), st.booleans(), seeds), min_size=1, max_size=6))
@settings(max_examples=40)
def test_pictures_together_are_written_as_each_alone(many: list[tuple[Header, bool, int]]) -> None:
    chosen, expected = [], []
    for header, merging, seed in many:
        header, planes, _, payloads = stream(seed, header, merging)
        residuals = [b"any"] * len(list(residual_spans(header)))
        chosen.append(Chosen(header, planes, residuals, [], 0, None))
        expected.append((container(header, payloads), [part.records() for part in planes]))
    together = finish(chosen)
    assert [one["bitstream"] for one in together] == [data for data, _ in expected]
    for one, own, (_, records) in zip(together, chosen, expected, strict=True):
        alone = finish([own])[0]
        assert (dict(one), one.tile_maps) == (dict(alone), alone.tile_maps)
        assert [[tile.program for tile in tiles] for tiles in one.tile_maps] == records
        assert one["tile_map"] == (one.tile_maps if len(records) > 1 else one.tile_maps[0])


def test_repacked_streams_are_the_same_again() -> None:
    header, planes, _, payloads = stream(3, HEADERS[5], True)
    assert repack(header, planes)["bitstream"] == container(header, payloads)
    assert repack(replace(header, section_rows=0), planes)["stats"]["tiles"] == planes[0].tiles


@pytest.mark.parametrize("usual", [True, False])
def test_the_collector_is_left_as_it_was(usual: bool) -> None:
    header, planes, _, _ = stream(5, HEADERS[0], False)
    try:
        (gc.enable if usual else gc.disable)()
        repack(header, planes)
        assert gc.isenabled() == usual
        with pytest.raises(ConfigError):  # metadata that is no JSON: found while the stream is put together
            repack(header, planes, metadata={"a": {1}})
        assert gc.isenabled() == usual
    finally:
        gc.enable()


def test_nothing_that_is_settled_goes_to_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short work in threads takes longer: they wait for Python's lock."""
    sent = []
    usual = encode_module.parallel_map

    def watched(pool: Any, work: Any, items: Any, only_if: Any) -> Any:
        if len(items) == 3:  # pictures, not the one section of a plane's residual
            sent.append([bool(only_if(item)) for item in items])
        return usual(pool, work, items, only_if)

    monkeypatch.setattr(encode_module, "parallel_map", watched)
    picture = np.random.default_rng(1).integers(0, 256, (3, 20, 24)).astype(np.uint8)
    pictures = [torch.from_numpy(one) for one in (picture[:1], picture, picture[:1, ::-1].copy())]
    tiles = CodecConfig.preset("fast", tile=16, max_layers=1, lambda_rd=0.5, residual=False, device="cpu")
    for cfg, heavy in ((tiles, False), (tiles.but(residual=True), True), (tiles.but(merge=True), True)):
        together = encode_module.encode_many(pictures, cfg)
        assert sent.pop() == [heavy] * 3
        assert [one["bitstream"] for one in together] == [encode(one, cfg)["bitstream"] for one in pictures]


@pytest.mark.parametrize("options", [{"tile": 0}, {"tile": 32, "max_layers": 1}, {"tile": 0, "max_layers": 0}])
def test_sections_of_a_residual_are_shared_out_in_order(options: dict[str, Any]) -> None:
    """A picture alone has its sections coded by threads; beside another it has one thread to itself."""
    rng = np.random.default_rng(5)
    ramp = np.arange(150) + np.arange(270)[:, None] * np.arange(1, 4)[:, None, None]
    picture = torch.from_numpy(((ramp + rng.integers(0, 60, ramp.shape)) % 256).astype(np.uint8))
    cfg = CodecConfig.preset("fast", device="cpu", section_rows=1, **options)
    alone, (beside, _) = encode(picture, cfg), encode_module.encode_many([picture, picture[:, :9]], cfg)
    assert alone["bitstream"] == beside["bitstream"] and alone["stats"] == beside["stats"]
    stream = read_container(alone["bitstream"])
    assert len(stream.residuals) > 3 * 3
    drawn = decode_module.decode(alone["bitstream"])
    assert torch.equal(drawn, decode_module.decode_many([alone["bitstream"]] * 2)[1])
    spans = [*residual_spans(stream.header)]
    bad = [i for i, payload in enumerate(stream.residuals) if payload][1:5]
    cut = [payload[:-1] if payload and i in bad else payload for i, payload in enumerate(stream.residuals)]
    data = write_container(replace(stream, residuals=cut))
    names = [f"plane {s.plane}, residual of pixel rows {s.row_start} to {s.row_stop - 1}" for s in spans]
    with pytest.raises(BitstreamError, match=names[bad[0]]):
        decode_module.decode(data)
    damage = decode_module.decode_stream(data, strict=False).damage
    assert [sentence.split(":")[0] for sentence in damage] == [names[i] for i in bad]
