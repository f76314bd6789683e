"""What a section codes: its contexts by definition, its records, and what a writer knows of its symbols."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pc15.bitstream.alphabets import Syntax, alphabets, numbered, table_names
from pc15.bitstream.ports import Reader, Writer
from pc15.bitstream.programs import MAX_LAYERS, MERGE_FROM, LayerRec, Merge, Programs, TileProgram
from pc15.bitstream.sections import activity_contexts, code_section, dc_contexts, neighbour_contexts
from pc15.entropy.rans import rans_decode, rans_encode
from pc15.entropy.tables import TableSet, build_rans_tables, load_table
from pc15.errors import BitstreamError, MissingTableError
from pc15.proc.codebook import GRID_ID, load_codebook
from pc15.proc.generators import NAMES, load

CODEBOOK, TABLES = load_codebook(GRID_ID), load_table("v15_default")
STEPS = ((-1, 0), (1, 0), (0, -1), (0, 1))
maps = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 1 << 30))


def written(tiles: int = 12, seed: int = 1) -> tuple[Programs, Syntax, Writer]:
    """Tiles with a few layers each, some merged and some refined."""
    rng = np.random.default_rng(seed)
    nx, programs = 4, Programs.empty(tiles)
    programs.dc[:] = rng.integers(0, 65, tiles)
    programs.count[:] = rng.integers(0, 4, tiles)
    for n in range(tiles):
        for layer in range(programs.count[n]):
            gen = int(rng.integers(len(NAMES)))
            programs.gen[n, layer], programs.qv[n, layer] = gen, rng.integers(CODEBOOK.size(gen))
            programs.seed[n, layer] = rng.integers(load(gen).seeds)
            programs.amp[n, layer] = rng.choice([-40, -3, 1, 2, 15, 16])
            if rng.random() < 0.5:
                programs.offsets[n, layer, : len(load(gen).params)] = rng.integers(-4, 5, len(load(gen).params))
            if n % nx and layer < programs.count[n - 1] and rng.random() < 0.3:
                programs.source[n, layer] = 1 + layer
    programs.resolve(nx)
    syntax, writer = Syntax.of(tiles // nx, nx, 32, 24, 24, False, CODEBOOK), Writer(TABLES)
    code_section(writer, syntax, programs)
    return programs, syntax, writer


def test_a_writer_counts_and_prices_what_the_tables_say() -> None:
    _, _, writer = written()
    names = [table_names()[number] for number in writer.numbers]
    symbols = writer.symbols.tolist()
    counts = writer.counts()
    assert set(counts) == set(names)
    for name, seen in counts.items():
        own = [symbol for symbol, other in zip(symbols, names, strict=True) if other == name]
        assert seen.tolist() == [own.count(symbol) for symbol in range(len(TABLES.table(name).freq))]
    bits = writer.bits_by_kind()
    assert list(bits) == ["merge", "dc", "more", "gen", "qv", "seed", "refined", "offset", "amp"]
    assert sum(bits.values()) * 256 == sum(
        TABLES.table(name).cost_q8[symbol] for name, symbol in zip(names, symbols, strict=True)
    )
    assert writer.raw_bytes() == b"".join(symbol.to_bytes(2, "little") for symbol in symbols)


def test_a_section_is_the_rans_stream_of_its_symbols_and_tables() -> None:
    programs, syntax, writer = written()
    tables = [TABLES.table(table_names()[number]) for number in writer.numbers]
    data = writer.rans_bytes()
    assert data == rans_encode(writer.symbols.tolist(), tables)
    assert rans_decode(data, tables) == writer.symbols.tolist()
    reader = Reader(TABLES, data)
    assert code_section(reader, syntax, None).records() == programs.records()
    reader.finish()


def test_a_writer_that_was_given_nothing_has_no_symbols() -> None:
    writer = Writer(TABLES)
    assert (writer.rans_bytes(), writer.raw_bytes(), writer.bits_by_kind(), writer.counts()) == (b"", b"", {}, {})


def test_symbols_beyond_their_table_are_not_written() -> None:
    writer = Writer(TABLES)
    writer.code("refined", np.asarray([table_names().index("m0.refined")]), np.asarray([2]))
    for write in (writer.rans_bytes, writer.raw_bytes):
        with pytest.raises(BitstreamError, match="symbol 2 at position 0 is outside the alphabet 0..1"):
            write()


def test_records_come_back_from_programs() -> None:
    stripes, spiral = NAMES.index("STRIPES"), NAMES.index("SPIRAL")
    for fine in (0, 2):
        lengths = {gen: len(load(gen).params_at(fine)) for gen in (stripes, spiral)}
        records = [
            TileProgram(7),
            TileProgram(9, (LayerRec(stripes, 3, (0,) * lengths[stripes], 0, -5),)),
            TileProgram(0, (
                LayerRec(spiral, 1, tuple(range(-1, lengths[spiral] - 1)), 0, 2),
                LayerRec(stripes, 3, (0,) * lengths[stripes], 0, 4, Merge(len(MERGE_FROM) - 1, MAX_LAYERS - 1)),
            )),
        ]  # fmt: skip
        programs = Programs.from_records(records)
        programs.fine = fine
        assert programs.records() == records
    assert Programs.empty(0).records() == []


@given(maps)
def test_contexts_are_what_they_are_said_to_be(shape: tuple[int, int, int]) -> None:
    ny, nx, seed = shape
    rng = np.random.default_rng(seed)
    level, alive = rng.integers(0, 14, (ny, nx)), rng.random((ny, nx)) < 0.5
    activity, near = activity_contexts(level.reshape(-1), ny, nx), neighbour_contexts(alive)
    for n, (y, x) in enumerate(itertools.product(range(ny), range(nx))):
        around = [(y + down, x + right) for down, right in STEPS if 0 <= y + down < ny and 0 <= x + right < nx]
        assert near[n] == sum(alive[place] for place in around)
        most = max((abs(level[place] - level[y, x]) for place in around), default=0)
        assert activity[n] == sum(most >= bound for bound in (2, 3, 5, 9))
    steep = dc_contexts(level[0], nx)
    for x in range(nx):
        most = max((abs(level[0, x] - level[0, o]) for o in (x - 1, x + 1) if 0 <= o < nx), default=0)
        assert steep[x] == sum(most >= bound for bound in (2, 5))
    assert dc_contexts(level[0, :0], nx).tolist() == [2] * nx


def test_tables_have_the_same_numbers_for_every_codebook() -> None:
    trained = load_codebook("v15_trained")
    assert tuple(alphabets(trained)) == tuple(alphabets(CODEBOOK)) == table_names()
    assert numbered(TABLES).names == table_names()
    assert numbered(TABLES) is numbered(TABLES)
    assert numbered(TABLES).sizes.tolist() == [*alphabets(CODEBOOK).values()]


def test_a_set_without_one_of_the_tables_is_refused() -> None:
    few = TableSet("few", 1, build_rans_tables({name: [1] for name in table_names()[1:]}))
    with pytest.raises(MissingTableError, match="no table 'raw' in table set 'few'"):
        Writer(few)
