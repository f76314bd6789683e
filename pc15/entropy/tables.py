"""Frozen rANS tables: how often each symbol comes, as integers that sum to 2**14, and what a symbol costs.

A stream only names its `TableSet`; encoder and decoder load the same file, so tables are integers, made from
counts by integer arithmetic.  Every symbol of an alphabet keeps a frequency of at least 1: what the training
data never showed can still be coded, at 14 bits.  Costs are in 1/256 bit, for a search that adds them up.
Source: J. Duda, "Asymmetric numeral systems", arXiv:1311.2540; H. Hamilton's largest-remainder method.
"""

from __future__ import annotations

import hashlib
import json
import operator
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError, MissingTableError, Pc15Error, did_you_mean, shown
from pc15.paths import file_stamp, model_file, models_dir, read_bounded, write_atomic
from pc15.runtime.memo import cached_method

__all__ = [
    "BUCKET_BITS",
    "DEFAULT_TABLE_ID",
    "ID_PATTERN",
    "MAX_ALPHABET",
    "PRECISION",
    "FlatTables",
    "RansTable",
    "TableSet",
    "build_rans_tables",
    "load_table",
    "save_tables",
]

PRECISION = 14  # bits; the frequencies of a table sum to 2**PRECISION
BUCKET_BITS = 6  # a table's slots are 2**BUCKET_BITS buckets, of each of which is known what symbol it begins with
MAX_ALPHABET = 4096  # symbols; each needs one of the 16384 slots, whatever its count
DEFAULT_TABLE_ID = "v15_default"
ID_PATTERN = re.compile(r"[a-z0-9_-]{1,32}")  # an id becomes a file name: no dots, no separators

_TOTAL = 1 << PRECISION
_MAX_BYTES = 1 << 25  # of a file, a hundred times what one of today's has

Ints = npt.NDArray[Any]


@cache
def _cost_q8(freq: int) -> int:
    """round(256 * (PRECISION - log2(freq))), exactly: f**512 has floor(512 * log2(f)) + 1 bits."""
    return 256 * PRECISION - (freq**512).bit_length() // 2


@dataclass(frozen=True)
class RansTable:
    """Frequencies of the symbols 0 .. len(freq)-1, summing to 2**PRECISION; frequency 0 cannot be coded."""

    name: str
    freq: tuple[int, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.freq) <= MAX_ALPHABET:
            raise ConfigError(f"table {self.name!r} has {len(self.freq)} symbols; 1..{MAX_ALPHABET} are allowed")
        sound = set(map(type, self.freq)) == {int} and min(self.freq) >= 0
        for symbol, freq in enumerate(() if sound else self.freq):
            if type(freq) is not int or freq < 0:
                raise ConfigError(
                    f"table {self.name!r}: frequency of symbol {symbol} is {shown(freq)}, "
                    "not a non-negative int; build it with build_rans_tables"
                )
        if sum(self.freq) != _TOTAL:
            raise ConfigError(
                f"table {self.name!r}: frequencies sum to {shown(sum(self.freq))}, not {_TOTAL}; "
                "build it with build_rans_tables"
            )

    @cached_property
    def cum(self) -> tuple[int, ...]:
        """Where each symbol's slots begin: cum[s] = freq[0] + ... + freq[s-1]; one longer than freq."""
        cum = [0]
        for freq in self.freq:
            cum.append(cum[-1] + freq)
        return tuple(cum)

    @cached_property
    def cost_q8(self) -> list[int]:
        """Cost of each symbol in 1/256 bit, rounded; -1 for a symbol of frequency 0."""
        return [_cost_q8(freq) if freq else -1 for freq in self.freq]


@dataclass(frozen=True, eq=False)
class FlatTables:
    """Tables one behind the other, for loops that know them by number.

    first: [T+1] int64, where each begins in `cum`.
    cum: int32, where each symbol's slots begin, and 2**PRECISION at the end of each table.
    """

    names: tuple[str, ...]
    first: Ints
    cum: Ints

    @classmethod
    def of(cls, tables: Sequence[RansTable]) -> FlatTables:
        """Tables, numbered in this order."""
        sizes = np.asarray([len(table.freq) for table in tables], np.int64)
        ends = np.zeros(1 + int(sizes.sum()), np.int64)  # over all tables, each adding 2**PRECISION
        np.cumsum(np.fromiter(chain.from_iterable(t.freq for t in tables), np.int64, len(ends) - 1), out=ends[1:])
        number = np.repeat(np.arange(len(tables)), sizes + 1)
        cum = (ends[np.arange(len(number)) - number] - (number << PRECISION)).astype(np.int32)
        return cls(tuple(table.name for table in tables), np.append(0, np.cumsum(sizes + 1)), cum)

    @cached_property
    def sizes(self) -> Ints:
        """[T] symbols of each table."""
        return np.diff(self.first) - 1

    @cached_property
    def hints(self) -> Ints:
        """[T << BUCKET_BITS] int32, the place in `cum` of the symbol that each bucket of slots begins with."""
        tables = len(self.names)
        starts = self.cum + (np.repeat(np.arange(tables), self.sizes + 1) << PRECISION)
        buckets = np.arange(tables << BUCKET_BITS) << (PRECISION - BUCKET_BITS)
        return np.searchsorted(starts, buckets, side="right").astype(np.int32) - np.int32(1)

    @cached_property
    def cost_q8(self) -> Ints:
        """Cost of each symbol in 1/256 bit, placed as in `cum`; -1 for frequency 0 and at the ends of tables."""
        freq, which = np.unique(np.diff(self.cum, append=0).clip(0), return_inverse=True)
        return np.asarray([_cost_q8(f) if f else -1 for f in freq.tolist()], np.int32)[which]

    def costs(self, number: int) -> list[int]:
        """Cost of each symbol of a table in 1/256 bit; -1 for a symbol of frequency 0."""
        costs: list[int] = self.cost_q8[self.first[number] : self.first[number + 1] - 1].tolist()
        return costs


def _as_counts(name: str, counts: Sequence[SupportsIndex]) -> list[int]:
    """Counts as plain ints, checked."""
    checked: list[int] = []
    for symbol, value in enumerate(counts):
        try:
            count = operator.index(value)
        except TypeError as e:
            raise ConfigError(
                f"table {name!r}: count of symbol {symbol} is {value!r}, not an integer; "
                "scale fractions to integers first"
            ) from e
        if count < 0:
            raise ConfigError(f"table {name!r}: count of symbol {symbol} is {count}; counts start at 0")
        checked.append(count)
    if not 1 <= len(checked) <= MAX_ALPHABET:
        raise ConfigError(f"table {name!r} has {len(checked)} symbols; 1..{MAX_ALPHABET} are allowed")
    return checked


def _normalise(counts: list[int]) -> tuple[int, ...]:
    """Counts -> frequencies >= 1 that sum to 2**PRECISION; all counts 0 -> all symbols alike.

    Symbols whose share is below one slot get one; the others split what is left in proportion, rounded down,
    and the largest remainders (ties: the lowest symbol) get the slots that rounding left over.
    """
    if not any(counts):
        counts = [1] * len(counts)
    freq = [1] * len(counts)
    shared = list(range(len(counts)))  # symbols that get more than the one slot that all get
    slots, total = _TOTAL, sum(counts)
    while True:  # each slot given away at 1 makes the others' share smaller
        rich = [s for s in shared if counts[s] * slots >= total]
        if len(rich) == len(shared):
            break
        slots -= len(shared) - len(rich)
        total = sum(counts[s] for s in rich)
        shared = rich
    for s in shared:
        freq[s] = counts[s] * slots // total
    left = _TOTAL - sum(freq)
    for s in sorted(shared, key=lambda s: (-(counts[s] * slots % total), s))[:left]:
        freq[s] += 1
    return tuple(freq)


def build_rans_tables(
    counts: Mapping[str, Sequence[SupportsIndex]], precision: int = PRECISION
) -> dict[str, RansTable]:
    """Counts per symbol -> tables, one per name; the same counts give the same tables on every machine.

    Args:
        counts: table name -> how often each symbol of its alphabet was seen (zeros are fine).
        precision: bits that the frequencies sum to; the format has 14, so anything else is refused.
    Raises:
        ConfigError: an alphabet that is empty or over 4096 symbols, a count that is negative or no integer.
    """
    if precision != PRECISION:
        raise ConfigError(f"precision is {precision}; the bitstream's tables have {PRECISION} bits")
    return {name: RansTable(name, _normalise(_as_counts(name, of_name))) for name, of_name in counts.items()}


@dataclass(frozen=True)
class TableSet:
    """The tables that one stream uses, under the id that its header names."""

    id: str
    version: int
    tables: dict[str, RansTable]

    def __post_init__(self) -> None:
        _check_id(self.id, ConfigError)
        if type(self.version) is not int or self.version < 0:
            raise ConfigError(f"table set {self.id!r}: version is {shown(self.version)}, not an int from 0 up")
        for name, table in self.tables.items():
            if name != table.name:
                raise ConfigError(f"table set {self.id!r}: table {table.name!r} is filed under {name!r}")

    def table(self, name: str) -> RansTable:
        """The table of that name; `MissingTableError` with a guess when the set has none."""
        try:
            return self.tables[name]
        except KeyError:
            raise MissingTableError(
                f"no table {name!r} in table set {self.id!r} version {self.version}{did_you_mean(name, self.tables)}"
            ) from None

    @cached_method
    def flat(self, names: tuple[str, ...]) -> FlatTables:
        """The tables of those names, numbered in this order; see `table`."""
        return FlatTables.of([self.table(name) for name in names])

    def canonical_json(self) -> str:
        """The file's text: one line, sorted keys, a newline at the end; equal sets give equal text."""
        content = {
            "id": self.id,
            "precision": PRECISION,
            "tables": {name: table.freq for name, table in self.tables.items()},
            "version": self.version,
        }
        return json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"

    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, in hex."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()


def _check_id(table_id: str, error: type[Pc15Error]) -> None:
    if not ID_PATTERN.fullmatch(table_id):
        raise error(f"table id {table_id!r} is not 1..32 characters of a-z, 0-9, _ and -")


def save_tables(path: Path | str, table_set: TableSet) -> None:
    """Write the canonical JSON, all of it or nothing; `load_table` finds it under the name `<id>.json`."""
    write_atomic(Path(path), table_set.canonical_json().encode())


def find_table(id: str) -> Path:
    """The file of a table set: `$PC15_MODELS_DIR/rans/<id>.json` when it is there, else the packaged one.

    Raises:
        MissingTableError: neither place has it, or the id could not be a file name.
    """
    _check_id(id, MissingTableError)
    packaged = Path(__file__).with_name(f"{id}.json")
    path = model_file("rans", packaged)
    if not path.exists():
        models = models_dir()
        own = f"{models / 'rans' / packaged.name}" if models else "$PC15_MODELS_DIR/rans (PC15_MODELS_DIR is not set)"
        raise MissingTableError(
            f"no rANS tables {id!r}: looked for {own} and for {packaged}; get {id}.json from where "
            "the stream was made, or encode again with the default tables"
        )
    return path


def load_table(id: str) -> TableSet:
    """The table set of that id, read from the file that `find_table` finds.

    Raises:
        MissingTableError: as `find_table`, or the file is damaged.
    """
    path = find_table(id)
    return _read_tables(id, path, *file_stamp(path))


@lru_cache(maxsize=16)
def _read_tables(table_id: str, path: Path, *stamp: int) -> TableSet:
    """Parse one file; its stamp is there so that a file that changed is read again."""

    def damaged(why: str) -> MissingTableError:
        return MissingTableError(
            f"rANS tables {table_id!r} in {path} cannot be used: {why}; restore the file, "
            "or write it again with save_tables"
        )

    try:
        content = json.loads(read_bounded(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError) as e:
        raise damaged(str(e)) from e
    if not isinstance(content, dict) or set(content) != {"id", "precision", "tables", "version"}:
        raise damaged("it is not an object of id, precision, tables and version")
    if content["id"] != table_id:
        raise damaged(f"it holds the tables {shown(content['id'])}")
    if content["precision"] != PRECISION:
        raise damaged(f"its precision is {shown(content['precision'])}, this build reads {PRECISION}")
    tables = content["tables"]
    if not isinstance(tables, dict) or not all(isinstance(freq, list) for freq in tables.values()):
        raise damaged("tables is not an object of lists of frequencies")
    try:
        return TableSet(table_id, content["version"], {n: RansTable(n, tuple(f)) for n, f in tables.items()})
    except ConfigError as e:
        raise damaged(str(e)) from e
