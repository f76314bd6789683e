"""Tables sum exactly, fit their counts, are the same everywhere, and are found, or missed with a reason."""

from __future__ import annotations

import decimal
import heapq
import math
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pc15 import CodecConfig, decode_y, encode_y
from pc15.entropy.tables import (
    BUCKET_BITS,
    MAX_ALPHABET,
    PRECISION,
    FlatTables,
    RansTable,
    TableSet,
    build_rans_tables,
    load_table,
    save_tables,
)
from pc15.errors import ConfigError, MissingTableError
from pc15.proc.codebook import Codebook, load_codebook, save_codebook

TOTAL = 1 << PRECISION


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A models folder, named by PC15_MODELS_DIR."""
    monkeypatch.setenv("PC15_MODELS_DIR", str(tmp_path))
    (tmp_path / "rans").mkdir()
    return tmp_path


def small_set(table_id: str = "small", version: int = 1) -> TableSet:
    return TableSet(table_id, version, build_rans_tables({"mode": [9, 3, 1], "dc": list(range(64))}))


def cost(counts: Sequence[int], freq: Sequence[int]) -> float:
    """Bits that these counts take with these frequencies."""
    return sum(c * (PRECISION - math.log2(f)) for c, f in zip(counts, freq, strict=True))


def best_freq(counts: Sequence[int]) -> list[int]:
    """The cheapest frequencies there are: each slot goes to the symbol that gains most from it."""
    freq = [1] * len(counts)
    gains = [(-c * math.log2(2), s) for s, c in enumerate(counts)]
    heapq.heapify(gains)
    for _ in range(TOTAL - len(counts)):
        _, s = gains[0]
        freq[s] += 1
        heapq.heapreplace(gains, (-counts[s] * math.log2((freq[s] + 1) / freq[s]), s))
    return freq


@settings(max_examples=200)
@given(st.lists(st.one_of(st.integers(0, 5), st.integers(0, 10**12)), min_size=1, max_size=300))
def test_every_symbol_can_be_coded_and_more_seen_is_never_dearer(counts: list[int]) -> None:
    freq = build_rans_tables({"t": counts})["t"].freq
    assert sum(freq) == TOTAL and min(freq) >= 1
    order = sorted(range(len(counts)), key=lambda s: (counts[s], -s))
    assert [freq[s] for s in order] == sorted(freq)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.one_of(st.integers(0, 5), st.integers(0, 10**6)), min_size=2, max_size=60))
def test_the_cost_is_nearly_the_least_possible(counts: list[int]) -> None:
    if sum(counts):
        ours = cost(counts, build_rans_tables({"t": counts})["t"].freq)
        assert ours <= cost(counts, best_freq(counts)) * 1.001 + 1e-3 * sum(counts)


def test_ties_go_to_the_lowest_symbol() -> None:
    assert build_rans_tables({"t": [7, 7, 7]})["t"].freq == (5462, 5461, 5461)
    assert build_rans_tables({"t": [0, 0, 0]})["t"].freq == (5462, 5461, 5461)
    assert build_rans_tables({"t": [0, 10**9, 0]})["t"].freq == (1, TOTAL - 2, 1)


def test_the_largest_alphabet_fits() -> None:
    freq = build_rans_tables({"t": [10**6, *[0] * (MAX_ALPHABET - 1)]})["t"].freq
    assert freq == (TOTAL - MAX_ALPHABET + 1, *[1] * (MAX_ALPHABET - 1))


@pytest.mark.parametrize(
    ("counts", "why"),
    [
        ([], "has 0 symbols"),
        ([1] * (MAX_ALPHABET + 1), "has 4097 symbols"),
        ([1, -1], "count of symbol 1 is -1"),
        ([1, 0.5], "count of symbol 1 is 0.5, not an integer"),
    ],
)
def test_counts_that_make_no_table_are_refused(counts: list[int], why: str) -> None:
    with pytest.raises(ConfigError, match=f"'t'.*{why}"):
        build_rans_tables({"t": counts})


def test_another_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision is 12"):
        build_rans_tables({"t": [1, 2]}, precision=12)


@pytest.mark.parametrize("freq", [(), (TOTAL - 1,), (TOTAL + 1, -1), (float(TOTAL),)])
def test_a_table_checks_its_frequencies(freq: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="table 't'"):
        RansTable("t", freq)


def test_costs_are_exact_in_256ths_of_a_bit() -> None:
    table = RansTable("t", (1, 2, 3, 0, 8192, 1000, TOTAL - 9198))
    with decimal.localcontext() as context:
        context.prec = 50
        exact = [
            (decimal.Decimal(TOTAL) / f).ln() / decimal.Decimal(2).ln() * 256 if f else decimal.Decimal(-1)
            for f in table.freq
        ]
        assert table.cost_q8 == [int(bits.to_integral_value()) for bits in exact]
    assert table.cost_q8[:2] == [14 * 256, 13 * 256]


def test_flat_tables_are_the_tables_one_behind_the_other() -> None:
    tables = [RansTable("t", (5, 0, TOTAL - 7, 2)), RansTable("one", (TOTAL,)), RansTable("two", (1, TOTAL - 1))]
    flat = FlatTables.of(tables)
    assert flat.names == ("t", "one", "two")
    assert flat.first.tolist() == [0, 5, 7, 10]
    assert tuple(flat.cum.tolist()) == tables[0].cum + tables[1].cum + tables[2].cum
    assert tables[0].cum == (0, 5, 5, TOTAL - 2, TOTAL)
    assert flat.sizes.tolist() == [4, 1, 2]
    assert [flat.costs(n) for n in range(3)] == [table.cost_q8 for table in tables]
    assert flat.cost_q8[flat.first[1:] - 1].tolist() == [-1] * 3


@given(st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=90), min_size=1, max_size=4), st.booleans())
def test_hints_are_the_symbols_that_buckets_begin_with(counts: list[list[int]], gaps: bool) -> None:
    tables = [*build_rans_tables({str(i): own for i, own in enumerate(counts)}).values()]
    if gaps:
        tables.append(RansTable("gaps", (0, 0, 5000, 0, 11384, 0)))
    flat = FlatTables.of(tables)
    hints = flat.hints.reshape(len(tables), 1 << BUCKET_BITS)
    for table, first, own in zip(tables, flat.first[:-1].tolist(), hints.tolist(), strict=True):
        for bucket, place in enumerate(own):
            slot = bucket << (PRECISION - BUCKET_BITS)
            assert table.cum[place - first] <= slot < table.cum[place - first + 1]


def test_a_set_numbers_its_tables_as_it_is_asked() -> None:
    flat = small_set().flat(("mode", "dc"))
    assert flat.sizes.tolist() == [3, 64]
    assert small_set().flat(("dc", "mode")).names == ("dc", "mode")
    with pytest.raises(MissingTableError, match="no table 'mod' .* did you mean mode"):
        small_set().flat(("dc", "mod"))


# ---------------------------------------------------------------------------------------------- files


def test_a_saved_set_is_loaded_back(models: Path) -> None:
    table_set = small_set()
    save_tables(models / "rans" / "small.json", table_set)
    loaded = load_table("small")
    assert loaded == table_set
    assert loaded is load_table("small")
    assert loaded.fingerprint() == table_set.fingerprint() != small_set(version=2).fingerprint()
    assert (models / "rans" / "small.json").read_text() == table_set.canonical_json()
    assert table_set.canonical_json().endswith("}\n")


def test_a_changed_file_is_read_again(models: Path) -> None:
    path = models / "rans" / "small.json"
    save_tables(path, small_set())
    assert load_table("small").version == 1
    save_tables(path, small_set(version=22))
    assert load_table("small").version == 22


def test_a_file_that_another_of_its_size_and_date_has_replaced_is_read_again(models: Path) -> None:
    path, other = models / "rans" / "small.json", models / "other.json"
    save_tables(path, small_set(version=1))
    assert load_table("small").version == 1
    save_tables(other, small_set(version=2))
    was = path.stat()
    os.utime(other, ns=(was.st_atime_ns, was.st_mtime_ns))
    other.replace(path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (was.st_size, was.st_mtime_ns)
    assert load_table("small").version == 2


def test_a_codebook_that_another_of_its_size_and_date_has_replaced_is_read_again(models: Path) -> None:
    (models / "codebooks").mkdir()
    path, other = models / "codebooks" / "mine.npz", models / "codebooks" / "other.npz"
    grid = load_codebook("v15_grid")
    save_codebook(path, Codebook("mine", grid.entries))
    first = load_codebook("mine")
    turned = [grid.entries[0].flip(0), *grid.entries[1:]]
    save_codebook(other, Codebook("mine", turned))
    size = max(path.stat().st_size, other.stat().st_size)
    stamp = path.stat().st_mtime_ns
    for one in (path, other):  # what lies behind an archive is not read
        one.write_bytes(one.read_bytes().ljust(size, b"\0"))
        os.utime(one, ns=(stamp, stamp))
    assert load_codebook("mine").fingerprint == first.fingerprint
    other.replace(path)
    assert load_codebook("mine").fingerprint != first.fingerprint


def test_an_unknown_table_gets_a_guess() -> None:
    with pytest.raises(MissingTableError, match="no table 'mod' in table set 'small'.*did you mean mode"):
        small_set().table("mod")
    assert small_set().table("mode").name == "mode"


def test_a_missing_set_names_both_places(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MissingTableError, match="'absent'") as caught:
        load_table("absent")
    assert str(models / "rans" / "absent.json") in str(caught.value)
    assert str(Path("entropy", "absent.json")) in str(caught.value)
    monkeypatch.delenv("PC15_MODELS_DIR")
    with pytest.raises(MissingTableError, match="PC15_MODELS_DIR is not set"):
        load_table("absent")


@pytest.mark.parametrize("table_id", ["", "../small", "a/b", "SMALL", "small.json", "a" * 33, "small\n", "ä"])
def test_an_id_cannot_make_a_path(models: Path, table_id: str) -> None:
    with pytest.raises(MissingTableError, match="table id"):
        load_table(table_id)
    with pytest.raises(ConfigError, match="table id"):
        small_set(table_id)


GOOD = '{"id":"small","precision":14,"tables":{"t":[16384]},"version":1}'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (GOOD[:-1], "delimiter"),
        ("", "Expecting value"),
        ("[" * 100_000, "recursion"),
        ("[]", "not an object"),
        (GOOD.replace('"version":1', '"extra":1'), "not an object of id"),
        (GOOD.replace("16384", "16383"), "sum to 16383"),
        (GOOD.replace("16384", "16384.0"), "frequency of symbol 0"),
        (GOOD.replace("[16384]", "16384"), "lists of frequencies"),
        (GOOD.replace("14", "12"), "precision is 12"),
        (GOOD.replace("small", "other"), "holds the tables 'other'"),
        (GOOD.replace('"version":1', '"version":"x"'), "version is 'x'"),
    ],
)
def test_a_damaged_file_is_named(models: Path, text: str, why: str) -> None:
    path = models / "rans" / "small.json"
    path.write_text(text)
    with pytest.raises(MissingTableError, match=why) as caught:
        load_table("small")
    assert str(path) in str(caught.value)
    path.write_text(GOOD)
    assert load_table("small").table("t").freq == (TOTAL,)


def test_a_file_of_a_packaged_id_overrides_the_packaged_one_and_says_so(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = CodecConfig.preset("fast", tile=16, residual=False, max_layers=0, codebook_id="v15_grid", device="cpu")
    y = torch.linspace(0, 1, 40).expand(1, 1, 24, 40)
    usual = encode_y(y, cfg)["bitstream"]
    packaged = load_table("v15_default")
    flat = build_rans_tables({name: [1] * len(table.freq) for name, table in packaged.tables.items()})
    own = models / "rans" / "v15_default.json"
    save_tables(own, packaged)
    assert encode_y(y, cfg)["bitstream"] == usual
    assert not caplog.records
    save_tables(own, TableSet("v15_default", 9, flat))
    assert load_table("v15_default").version == 9
    changed = encode_y(y, cfg)["bitstream"]
    assert changed != usual
    assert decode_y(changed).shape == y.shape
    assert [f"{own} stands in for the packaged v15_default.json" in line for line in caplog.messages] == [True]
    own.unlink()
    assert encode_y(y, cfg)["bitstream"] == usual


def test_a_codebook_of_a_packaged_id_overrides_the_packaged_one_and_says_so(
    models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    usual = load_codebook("v15_trained")
    (models / "codebooks").mkdir()
    save_codebook(models / "codebooks" / "v15_trained.npz", load_codebook("v15_grid"))
    assert load_codebook("v15_trained").fingerprint == load_codebook("v15_grid").fingerprint != usual.fingerprint
    assert load_codebook("v15_trained") is load_codebook("v15_trained")
    assert ["v15_trained.npz stands in for" in line for line in caplog.messages] == [True]
    (models / "codebooks" / "v15_trained.npz").unlink()
    assert load_codebook("v15_trained") is usual
