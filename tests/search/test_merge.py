"""Merged layers: a tile that continues what a neighbour draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pc15 import CodecConfig, decode_y, encode, encode_y, psnr
from pc15.bitstream import read_container
from pc15.bitstream.alphabets import Syntax, table_names
from pc15.bitstream.header import Header, PlaneSpec
from pc15.bitstream.ports import RawReader, Reader, Writer
from pc15.bitstream.programs import AMP_MAX, MAX_LAYERS, MERGE_FROM, MERGE_REACH, LayerRec, Merge, Programs, TileProgram
from pc15.bitstream.read import read_programs
from pc15.bitstream.sections import code_section
from pc15.decoder import decode_stream
from pc15.draw import amplitude_q15, dc_samples, predict_plane
from pc15.encoder import repack
from pc15.entropy.tables import load_table
from pc15.errors import BitstreamError, ConfigError
from pc15.grids import TileGridCfg, grid
from pc15.luma import to_pixels
from pc15.proc.codebook import GRID_ID, load_codebook
from pc15.proc.coords import FAR_LIMIT, moved_grids, tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import coefficient, contribution, draw_continued, draw_levels, mean_rms
from pc15.search.merge import waves
from pc15.search.plane import PlaneEncoder

STRIPES = NAMES.index("STRIPES")
CODEBOOK = load_codebook(GRID_ID)
LEFT, TOP, TOP_LEFT, TOP_RIGHT = range(4)
PROGRAMS = CodecConfig.preset(
    "fast", tile=32, residual=False, lambda_rd=4.0, max_layers=4, alpha_mix=0.0, merge=True, device="cpu"
)


def own(amp: int = 5, qv: int = 40, gen: int = STRIPES) -> LayerRec:
    return LayerRec(gen, qv, (0,) * len(load(gen).params), 0, amp)


def merged(side: int, layer: int, amp: int = 5) -> LayerRec:
    return own(amp)._replace(merge=Merge(side, layer))


def syntax(ny: int, nx: int) -> Syntax:
    return Syntax.of(ny, nx, 32, 24, 24, False, CODEBOOK)


def written(ny: int, nx: int, *records: TileProgram) -> Writer:
    writer = Writer(load_table("v15_default"))
    code_section(writer, syntax(ny, nx), Programs.from_records(records))
    return writer


def changed(writer: Writer, table: str, symbol: int) -> bytes:
    """The RAW section with the last symbol of a table another one."""
    symbols = writer.symbols
    symbols[max(i for i, name in enumerate(names(writer)) if name.startswith(table))] = symbol
    return symbols.astype("<u2").tobytes()


def names(writer: Writer) -> list[str]:
    """The table of each symbol."""
    return [table_names()[number] for number in writer.numbers]


def waves_of(height: int, width: int, angle: float = 0.5) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (0.5 + 0.35 * torch.sin(0.6 * (x * np.cos(angle) + y * np.sin(angle))))[None, None].float()


# ---------------------------------------------------------------- syntax


def test_a_merged_layer_comes_back_as_the_layer_it_continues() -> None:
    records = [
        TileProgram(9, (own(3), own(-7, qv=11))),
        TileProgram(9, (merged(LEFT, 1, 9), merged(LEFT, 0, -3))),
        TileProgram(8),
        TileProgram(9, (merged(TOP_RIGHT, 0, 8),)),
        TileProgram(9, (merged(LEFT, 0), merged(TOP_LEFT, 1, 40))),
        TileProgram(7),
    ]
    programs = Programs.from_records(records)
    programs.resolve(3)
    header = Header(width=80, height=56, color=0, planes=(PlaneSpec(32, 8, 0, 0, 24, 24),))
    back = read_programs(repack(header, [programs])["bitstream"])[1][0]
    assert back.records() == programs.records()
    tiles = back.records()
    assert tiles[1].layers[0] == own(9, qv=11)._replace(merge=Merge(LEFT, 1))
    assert tiles[3].layers[0] == own(8, qv=11)._replace(merge=Merge(TOP_RIGHT, 0))  # merged twice
    assert [layer.qv_id for layer in tiles[4].layers] == [11, 11]


@pytest.mark.parametrize(
    ("tile", "layer", "ny", "nx"),
    [
        (0, merged(LEFT, 0), 1, 2),
        (0, merged(TOP, 0), 2, 1),
        (1, merged(TOP_RIGHT, 0), 2, 2),
        (2, merged(TOP_LEFT, 0), 2, 2),
        (1, merged(LEFT, 1), 1, 2),
        (1, merged(TOP, 0), 1, 2),
    ],
)
def test_what_is_not_there_cannot_be_continued(tile: int, layer: LayerRec, ny: int, nx: int) -> None:
    records = [TileProgram(9, (own(),))] * (ny * nx)
    records[tile] = TileProgram(9, (layer,))
    with pytest.raises(BitstreamError, match=f"layer 0 of tile {tile} continues a layer that is not there"):
        written(ny, nx, *records)


def test_a_section_that_continues_what_is_not_there_is_damaged() -> None:
    tables = load_table("v15_default")
    for table, symbol in (("merge.side", TOP), ("merge.layer", 1)):
        data = changed(written(1, 2, TileProgram(9, (own(),)), TileProgram(9, (merged(LEFT, 0),))), table, symbol)
        with pytest.raises(BitstreamError, match="layer 0 of tile 1 continues a layer that is not there"):
            code_section(RawReader(tables, data), syntax(1, 2), None)


def test_an_amplitude_that_cannot_be_is_damage() -> None:
    tables = load_table("v15_default")
    two = TileProgram(9, (own(1),)), TileProgram(9, (merged(LEFT, 0, 1),))
    with pytest.raises(BitstreamError, match="amplitude level lies outside"):
        code_section(RawReader(tables, changed(written(1, 2, *two), "merge.amp", 2)), syntax(1, 2), None)
    many = [TileProgram(9, (own(AMP_MAX - 7),)), *[TileProgram(9, (merged(LEFT, 0, AMP_MAX - i),)) for i in (4, 2, 0)]]
    data = written(1, 4, *many).rans_bytes()
    assert code_section(Reader(tables, data), syntax(1, 4), None).amp[3, 0] == AMP_MAX
    with pytest.raises(BitstreamError, match="amplitude level lies outside"):
        code_section(RawReader(tables, changed(written(1, 4, *many), "merge.amp", 4 * 3)), syntax(1, 4), None)


def test_a_pattern_goes_on_over_64_tiles_and_no_further() -> None:
    row = [TileProgram(9, (own(),)), *[TileProgram(9, (merged(LEFT, 0),))] * (MERGE_REACH + 1)]
    programs = code_section(Reader(load_table("v15_default"), written(1, len(row) - 1, *row[:-1]).rans_bytes()),
                            syntax(1, len(row) - 1), None)  # fmt: skip
    assert programs.roots(len(row) - 1)[1].tolist() == [0] * MERGE_REACH
    with pytest.raises(BitstreamError, match="continued over 65 tiles, more than 64"):
        written(1, len(row), *row)


def test_a_merged_layer_with_a_pattern_of_its_own_is_refused() -> None:
    with pytest.raises(ConfigError, match="call resolve"):
        written(1, 2, TileProgram(9, (own(qv=3),)), TileProgram(9, (merged(LEFT, 0),)))


def test_without_merged_layers_a_section_says_so_once() -> None:
    assert [n for n in names(written(2, 2, *[TileProgram(9, (own(),))] * 4)) if n.startswith("merge")] == ["merge.mode"]
    assert not [n for n in names(written(1, 1, TileProgram(9, (own(),)))) if n.startswith("merge")]


def test_merged_layers_cost_less_than_others() -> None:
    ways = [None, LEFT, LEFT, TOP, LEFT, LEFT, TOP, LEFT, LEFT]
    chain = [TileProgram(9, (own() if way is None else merged(way, 0),)) for way in ways]
    plain, cheap = (written(3, 3, *tiles).bits_by_kind() for tiles in ([chain[0]] * 9, chain))
    bits = [sum(kinds[kind] for kind in ("merge", "gen", "qv", "refined", "amp")) for kinds in (plain, cheap)]
    assert 2 * bits[1] < bits[0]


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("name", NAMES)
def test_a_continued_pattern_is_the_pattern_itself_further_on(name: str) -> None:
    """Every item of a batch at a place of its own, also as far as a stream can ask for."""
    gen, tile = NAMES.index(name), 12
    rows = torch.arange(6) * (CODEBOOK.size(gen) // 6)
    levels, seeds = CODEBOOK.entries[gen][rows], torch.arange(6) % load(gen).seeds
    far = MERGE_REACH * tile
    move = torch.tensor([(0, 9), (9, 0), (-7, 5), (far, far), (far, -far), (0, 0)])
    drawn, mean, rms = draw_continued(gen, levels, seeds, move, tile, 77)
    home = draw_levels(gen, levels, seeds, tile_grid(tile), 77)
    assert torch.equal(torch.stack([mean, rms]), torch.stack(mean_rms(home)))
    assert torch.equal(drawn[5], home[5])
    for i, (y0, x0) in enumerate(move.tolist()):
        window = tile_grid(tile, x0=x0, y0=y0, w=tile, h=tile)
        assert torch.equal(drawn[i : i + 1], draw_levels(gen, levels[i : i + 1], seeds[i : i + 1], window, 77))


def test_coordinates_of_merged_tiles_stay_far_from_their_limit() -> None:
    for tile in (4, 33, 1024):
        places = moved_grids(tile, torch.tensor([[MERGE_REACH * tile, -MERGE_REACH * tile]]))
        assert max(int(places.x.abs().max()), int(places.y.abs().max())) * 3 < FAR_LIMIT
    with pytest.raises(ConfigError, match="at most 255 tiles"):
        moved_grids(32, torch.tensor([[256 * 32, 0]]))


@pytest.mark.parametrize("ways", [[None, LEFT, TOP, TOP_LEFT], [None, LEFT, TOP_RIGHT, TOP], [None, LEFT, TOP, LEFT]])
def test_merged_tiles_join_without_a_seam(ways: list[int | None]) -> None:
    """With one amplitude and DC, the picture is one drawing of the pattern, pixel by pixel."""
    records = [TileProgram(12, (own(9) if way is None else merged(way, 0, 9),)) for way in ways]
    header = Header(width=56, height=53, color=0, planes=(PlaneSpec(32, 8, 0, 0, 20, 20),))
    programs = Programs.from_records(records)
    programs.resolve(2)
    plane = predict_plane([programs], header, 0, CODEBOOK, torch.device("cpu"))
    levels, seeds = CODEBOOK.entries[STRIPES][40:41], torch.zeros(1)
    mean, rms = mean_rms(draw_levels(STRIPES, levels, seeds, tile_grid(32), header.seed))
    drawn = draw_levels(STRIPES, levels, seeds, tile_grid(32, w=56, h=53), header.seed)
    whole = contribution(drawn, mean, coefficient(amplitude_q15(torch.tensor([9]), 20), rms))[0]
    assert torch.equal(plane, (whole + dc_samples(torch.tensor([12]), 20)).clamp(0, 4096))
    assert int(plane.max()) - int(plane.min()) > 1000


# ---------------------------------------------------------------- search


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(4, 24), st.data())
def test_waves_hold_tiles_that_know_their_neighbours(height: int, width: int, tile: int, data: st.DataObject) -> None:
    places = grid(height, width, TileGridCfg(size=tile, overlap=data.draw(st.integers(0, tile - 1))))
    batches, done = waves(places), set()
    assert sorted(n for batch in batches for n in batch) == list(range(places.count))
    for batch in batches:
        corners = [(places.ys[n // places.nx], places.xs[n % places.nx]) for n in batch]
        for n in batch:
            near = [(n // places.nx + down, n % places.nx + right) for down, right in MERGE_FROM]
            assert done >= {r * places.nx + c for r, c in near if r >= 0 and 0 <= c < places.nx}
        for i, (y, x) in enumerate(corners):
            assert all(abs(y - v) >= tile or abs(x - u) >= tile for v, u in corners[:i])
        done |= set(batch)


def test_merging_makes_a_picture_of_one_pattern_smaller() -> None:
    levels = CODEBOOK.entries[STRIPES][40:41]
    drawn = draw_levels(STRIPES, levels, torch.zeros(1), tile_grid(32, w=128, h=104), 1234)
    y = (0.5 + 0.3 * drawn.to(torch.float32) / 2**14)[None]
    plain, merging = (encode_y(y, PROGRAMS.but(merge=merge)) for merge in (False, True))
    programs = read_programs(merging["bitstream"])[1][0]
    assert 4 * np.count_nonzero(programs.source) > 3 * programs.count.sum()
    assert len(merging["bitstream"]) < 0.75 * len(plain["bitstream"])
    assert psnr(y, decode_y(merging["bitstream"])) > psnr(y, decode_y(plain["bitstream"])) - 0.5
    assert encode_y(y, PROGRAMS)["bitstream"] == merging["bitstream"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha_mix": 0.7},
        {"overlap": 20},
        {"tile": 48, "lambda_rd": 0.3, "max_layers": 2},
        {"max_layers": MAX_LAYERS},
    ],
)
def test_the_decoder_draws_what_the_merging_encoder_saw(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, float]
) -> None:
    seen: list[PlaneEncoder] = []
    run = PlaneEncoder.run

    def remembered(self: PlaneEncoder, *args: object) -> list[Programs] | None:
        seen.append(self)
        return run(self, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(PlaneEncoder, "run", remembered)
    stream = encode_y(waves_of(60, 90), PROGRAMS.but(**options))["bitstream"]
    state = seen[0].state
    drawn = state.planes[0] - state.canvas.rest().view_as(state.planes[0])
    decoded = decode_stream(stream)
    assert torch.equal(to_pixels(drawn), decoded.planes[0])
    assert np.count_nonzero(decoded.programs[0].source)


def test_merged_sections_decode_without_each_other() -> None:
    data = encode_y(waves_of(110, 64), PROGRAMS.but(section_rows=2, lambda_rd=8.0))["bitstream"]
    whole = decode_stream(data).programs[0]
    assert all(np.count_nonzero(whole.rows(start, start + 6).source) for start in (0, 6))  # 3 tiles a row
    ends = np.cumsum([len(section) + 4 for section in reversed(read_container(data).sections) if section is not None])
    damaged = bytearray(data)
    damaged[-int(ends[1])] ^= 1  # in the second of three
    part = decode_stream(bytes(damaged), strict=False)
    assert len(part.damage) == 1
    kept, sound = part.programs[0].records(), whole.records()
    assert (kept[:6], kept[12:]) == (sound[:6], sound[12:])
    assert not any(tile.layers for tile in kept[6:12])


def test_colour_pictures_merge_too() -> None:
    gray = (waves_of(64, 70)[0, 0] * 255).to(torch.uint8)
    picture = torch.stack([gray, 255 - gray, gray // 2])
    data = encode(picture, PROGRAMS)["bitstream"]
    assert data == encode(picture, PROGRAMS)["bitstream"]
    assert np.count_nonzero(decode_stream(data).programs[0].source)


def test_merge_is_on_or_off() -> None:
    with pytest.raises(ConfigError, match="merge is 1; give True or False"):
        CodecConfig(merge=1)  # type: ignore[arg-type]
