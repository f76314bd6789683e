"""The coder gives back what it was given, at the price the tables promise, and notices when it was not."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pc15.entropy.rans import STATE_LOW, RansDecoder, encode_numbered, encode_streams, rans_decode, rans_encode
from pc15.entropy.tables import PRECISION, FlatTables, RansTable, build_rans_tables
from pc15.errors import BitstreamError, ConfigError

count_lists = st.lists(st.integers(0, 1000), min_size=1, max_size=40)


def table_of(counts: list[int], name: str = "t") -> RansTable:
    return build_rans_tables({name: counts})[name]


def skewed(symbols: int, count: int, seed: int = 1) -> tuple[RansTable, list[int]]:
    """A table for 1/(s+1) and symbols drawn from it."""
    weights = [1000 // (s + 1) for s in range(symbols)]
    return table_of(weights), random.Random(seed).choices(range(symbols), weights, k=count)


def reference_encode(symbols: list[int], tables: list[RansTable]) -> bytes:
    """The same coder by the book, with the definitions of the paper instead of the shortcuts."""
    x, low = STATE_LOW, []
    for symbol, table in zip(reversed(symbols), reversed(tables), strict=True):
        freq, cum = table.freq[symbol], sum(table.freq[:symbol])
        while x >= (STATE_LOW >> PRECISION << 8) * freq:
            x, byte = divmod(x, 256)
            low.append(byte)
        x = (x // freq) * 2**PRECISION + cum + x % freq
    return b"" if x == STATE_LOW and not low else x.to_bytes(4, "big") + bytes(reversed(low))


@given(count_lists, st.data())
def test_one_table_gives_the_symbols_back(counts: list[int], data: st.DataObject) -> None:
    table = table_of(counts)
    symbols = data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=200))
    coded = rans_encode(symbols, table)
    assert rans_decode(coded, table, len(symbols)) == symbols
    assert coded == reference_encode(symbols, [table] * len(symbols))


@given(st.lists(count_lists, min_size=1, max_size=5), st.data())
def test_one_table_per_symbol_gives_the_symbols_back(counts: list[list[int]], data: st.DataObject) -> None:
    known = [table_of(c, f"t{i}") for i, c in enumerate(counts)]
    tables = [known[i] for i in data.draw(st.lists(st.integers(0, len(known) - 1), max_size=100))]
    symbols = [data.draw(st.integers(0, len(table.freq) - 1)) for table in tables]
    coded = rans_encode(symbols, tables)
    assert rans_decode(coded, tables) == symbols
    assert coded == reference_encode(symbols, tables)


def test_a_later_phase_may_depend_on_earlier_symbols() -> None:
    modes = table_of([5, 3, 1], "modes")
    levels = [table_of([1] * n, f"levels{n}") for n in (2, 7, 300)]
    rng = random.Random(3)
    chosen = [rng.randrange(3) for _ in range(50)]
    values = [rng.randrange(len(levels[mode].freq)) for mode in chosen]
    coded = rans_encode(chosen + values, [modes] * 50 + [levels[mode] for mode in chosen])

    decoder = RansDecoder(coded)
    decoded = decoder.take(modes, 50)
    assert decoder.take([levels[mode] for mode in decoded]) == values
    assert decoder.take(modes, 0) == decoder.take([]) == []
    decoder.finish()
    assert decoded == chosen


def test_symbols_that_cost_nothing_take_no_bytes() -> None:
    certain = table_of([1])
    assert certain.freq == (1 << PRECISION,)
    assert rans_encode([], certain) == rans_encode([], []) == rans_encode([0] * 1000, certain) == b""
    assert rans_decode(b"", certain, 1000) == [0] * 1000
    assert rans_decode(b"", []) == []


@pytest.mark.parametrize("symbols", [2, 16, 256, 4096])
@pytest.mark.parametrize("count", [1, 100, 20_000])
def test_the_size_is_the_sum_of_costs(symbols: int, count: int) -> None:
    table, drawn = skewed(symbols, count)
    ideal = Fraction(sum(table.cost_q8[s] for s in drawn), 256 * 8)
    assert ideal <= len(rans_encode(drawn, table)) <= ideal * Fraction(1005, 1000) + 4


def test_constriction_finds_nothing_to_gain() -> None:
    constriction = pytest.importorskip("constriction")
    numpy = pytest.importorskip("numpy")
    table, drawn = skewed(100, 20_000)
    coder = constriction.stream.stack.AnsCoder()
    shares = numpy.array(table.freq, dtype=numpy.float64) / 2**PRECISION
    model = constriction.stream.model.Categorical(shares, perfect=True)
    coder.encode_reverse(numpy.array(drawn, dtype=numpy.int32), model)
    theirs = 4 * len(coder.get_compressed())
    assert len(rans_encode(drawn, table)) <= theirs * 1.005 + 4


def test_no_flipped_bit_goes_unnoticed() -> None:
    """The end state is a 23-bit check: among 2400 flips, none is expected to slip through."""
    table, drawn = skewed(30, 500)
    coded = rans_encode(drawn, table)
    silent = 0
    for bit in range(8 * len(coded)):
        flipped = bytearray(coded)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            silent += rans_decode(bytes(flipped), table, len(drawn)) == drawn
            silent += 1
        except BitstreamError:
            pass
    assert silent == 0


def test_every_cut_and_every_extra_byte_is_noticed() -> None:
    table, drawn = skewed(30, 200)
    coded = rans_encode(drawn, table)
    for cut in range(len(coded)):
        with pytest.raises(BitstreamError):
            rans_decode(coded[:cut], table, len(drawn))
    with pytest.raises(BitstreamError, match="1 of"):
        rans_decode(coded + b"\0", table, len(drawn))
    with pytest.raises(BitstreamError, match="ends at state"):
        rans_decode(coded, table, len(drawn) - 1)


@settings(max_examples=300)
@given(st.binary(max_size=40), count_lists, st.integers(0, 60))
def test_any_bytes_decode_or_raise_bitstream_error(data: bytes, counts: list[int], count: int) -> None:
    table = table_of(counts)
    try:
        symbols = rans_decode(data, table, count)
    except BitstreamError:
        return
    again = rans_encode(symbols, table)
    assert again == data or (again, data) == (b"", STATE_LOW.to_bytes(4, "big"))


def test_a_symbol_that_cannot_be_coded_is_named() -> None:
    gap = RansTable("gap", (8192, 0, 8192))
    with pytest.raises(BitstreamError, match="symbol 1 at position 2 has frequency 0 in table 'gap'"):
        rans_encode([0, 2, 1, 0], gap)
    unknown: list[Any] = [3, -1, "x", None, []]
    for bad in unknown:
        with pytest.raises(BitstreamError, match=r"at position 1 is outside the alphabet 0\.\.2 of table 'gap'"):
            rans_encode([0, bad, 2], [gap] * 3)


def test_tables_and_symbols_must_match_in_number() -> None:
    table = table_of([1, 1])
    with pytest.raises(ConfigError, match="2 symbols with 1 tables"):
        rans_encode([0, 1], [table])
    with pytest.raises(ConfigError, match="needs a count"):
        RansDecoder(b"").take(table)
    with pytest.raises(ConfigError, match="leave count out"):
        RansDecoder(b"").take([table], 2)


@given(st.lists(st.lists(st.lists(st.integers(0, 9), max_size=6), min_size=3, max_size=3), min_size=1, max_size=4))
def test_streams_that_take_turns_are_coded_as_each_alone(turns: list[list[list[int]]]) -> None:
    """turns: of each phase, the symbols of each of three streams."""
    flat = FlatTables.of([table_of([*range(1, 11)], "t")])
    counts = np.asarray([[len(symbols) for symbols in turn] for turn in turns], np.int64)
    every = np.asarray([s for turn in turns for symbols in turn for s in symbols], np.int64)
    streams = encode_streams(every, np.zeros_like(every), counts, flat)
    whole = [[s for turn in turns for s in turn[i]] for i in range(3)]
    assert streams == [encode_numbered(np.asarray(own, np.int64), np.zeros(len(own), np.int64), flat) for own in whole]
    decoder = RansDecoder(*streams)
    for turn, count in zip(turns, counts, strict=True):
        taken = decoder.take_numbered(np.zeros(count.sum(), np.int64), flat, np.cumsum(count))
        assert taken.tolist() == [s for symbols in turn for s in symbols]
    decoder.finish()


def test_of_several_streams_the_bad_one_is_described() -> None:
    table, symbols = skewed(30, 200)
    flat, good = FlatTables.of([table]), rans_encode(symbols, table)
    for bad, says in (
        (good[:-40], "ran out"),
        (good + b"x", "ends at state"),
        (b"ab", "is cut"),
        (b"\0" * 9, "starts"),
    ):
        messages = []
        for streams in ((bad,), (good, bad, good)):
            with pytest.raises(BitstreamError, match=says) as caught:
                decoder, n = RansDecoder(*streams), len(streams)
                for part in (50, 150):
                    ends = np.cumsum([part] * n)
                    decoder.take_numbered(np.zeros(part * n, np.int64), flat, ends)
                decoder.finish()
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
