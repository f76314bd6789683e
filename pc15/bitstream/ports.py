"""Ends of a section's walk: where symbols go when they are coded, and where they come from."""

from __future__ import annotations

import itertools
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pc15.bitstream.alphabets import numbered
from pc15.bitstream.programs import Ints
from pc15.entropy.rans import RansDecoder, encode_streams
from pc15.entropy.tables import TableSet
from pc15.errors import BitstreamError

_NONE = np.zeros(0, np.int64)


class Port(Protocol):
    """One end of `code_section`: numbers of tables and, when encoding, symbols go in; symbols come out.

    sections: how many it codes together.
    """

    decoding: bool

    @property
    def sections(self) -> int: ...

    def code(self, kind: str, numbers: Ints, symbols: Ints | None, ends: Ints | None = None) -> Ints:
        """Code one symbol per table, [n] int64 each; `kind` is only for statistics.

        Args:
            ends: [sections], where the symbols of each end; None if there is only one.
        """
        ...


class Writer:
    """Collects symbols; `rans_bytes()` codes them.  Also the source of statistics and of training counts.

    numbers, symbols: of several sections together, phase by phase.
    """

    decoding = False

    def __init__(self, tables: TableSet, sections: int = 1) -> None:
        self.sections = sections
        self._tables = numbered(tables)
        self._kinds: list[str] = []
        self._numbers: list[Ints] = []
        self._symbols: list[Ints] = []
        self._ends: list[Ints] = []

    def code(self, kind: str, numbers: Ints, symbols: Ints | None, ends: Ints | None = None) -> Ints:
        assert symbols is not None, "a writer is given the symbols"
        if symbols.size:
            self._kinds.append(kind)
            self._numbers.append(numbers)
            self._symbols.append(symbols)
            self._ends.append(np.asarray([len(symbols)]) if ends is None else ends)
        return symbols

    @property
    def numbers(self) -> Ints:
        """The numbers of the tables of everything collected, [n]."""
        return np.concatenate([_NONE, *self._numbers])

    @property
    def symbols(self) -> Ints:
        """The symbols collected, [n]."""
        return np.concatenate([_NONE, *self._symbols])

    @property
    def _counts(self) -> Ints:
        """[phases, sections] how many symbols of each section a phase has."""
        ends = np.asarray(self._ends, np.int64).reshape(-1, self.sections)
        return ends - np.pad(ends, ((0, 0), (1, 0)))[:, :-1]

    def payloads(self) -> list[bytes]:
        """The rANS bytes of each section."""
        return encode_streams(self.symbols, self.numbers, self._counts, self._tables)

    def rans_bytes(self) -> bytes:
        """The rANS bytes of everything collected, of one section."""
        (payload,) = self.payloads()
        return payload

    def raw_bytes(self) -> bytes:
        """The same symbols as 16-bit little-endian numbers, for debugging."""
        self.rans_bytes()  # refuses symbols that their tables do not have
        return self.symbols.astype("<u2").tobytes()

    def tallies(self) -> list[dict[str, float]]:
        """Cost of each kind of symbol, bits, by the tables, of each section."""
        costs = self._tables.cost_q8[self._tables.first[self.numbers] + self.symbols]
        counts = self._counts
        sums = np.append(0, np.cumsum(costs, dtype=np.int64))[np.append(0, np.cumsum(counts))]
        kinds = list(dict.fromkeys(self._kinds))
        bits = np.zeros((len(kinds), self.sections))
        np.add.at(bits, [kinds.index(kind) for kind in self._kinds], np.diff(sums).reshape(counts.shape) / 256)
        return [
            {kind: own[kinds.index(kind)] for kind in dict.fromkeys(itertools.compress(self._kinds, there))}
            for own, there in zip(bits.T.tolist(), (counts > 0).T.tolist(), strict=True)
        ]

    def bits_by_kind(self) -> dict[str, float]:
        """Cost of each kind of symbol, bits, by the tables, of one section."""
        (tally,) = self.tallies()
        return tally

    def costs(self) -> tuple[list[str], Ints, npt.NDArray[np.float64]]:
        """Kinds by number, and of every symbol collected, in order, its kind [n] and its cost in bits [n]."""
        names = list(dict.fromkeys(self._kinds))
        which = np.repeat(
            np.asarray([names.index(kind) for kind in self._kinds], np.int64), [len(part) for part in self._symbols]
        )
        return names, which, self._tables.cost_q8[self._tables.first[self.numbers] + self.symbols] / 256.0

    def counts(self) -> dict[str, Ints]:
        """Counts of each symbol of each table that was used at all."""
        tables, numbers = self._tables, self.numbers
        total = np.bincount(tables.first[numbers] + self.symbols, minlength=len(tables.cum))
        return {tables.names[n]: total[tables.first[n] : tables.first[n + 1] - 1] for n in np.unique(numbers).tolist()}


class Reader:
    """Hands out the symbols of a section's bytes, or of several sections'."""

    decoding = True

    def __init__(self, tables: TableSet, *payloads: bytes) -> None:
        self.sections = len(payloads)
        self._tables, self._decoder = numbered(tables), RansDecoder(*payloads)

    def code(self, kind: str, numbers: Ints, symbols: Ints | None, ends: Ints | None = None) -> Ints:
        return self._decoder.take_numbered(numbers, self._tables, ends)

    def finish(self) -> None:
        """Every byte used, the coder back at its start."""
        self._decoder.finish()


class RawReader:
    """Hands out the symbols of a RAW section."""

    decoding = True
    sections = 1

    def __init__(self, tables: TableSet, data: bytes) -> None:
        if len(data) % 2:
            raise BitstreamError(f"a RAW section has {len(data)} bytes, not a whole number of 16-bit symbols")
        self._tables, self._symbols, self._at = numbered(tables), np.frombuffer(data, "<u2").astype(np.int64), 0

    def code(self, kind: str, numbers: Ints, symbols: Ints | None, ends: Ints | None = None) -> Ints:
        taken = self._symbols[self._at : self._at + len(numbers)]
        if len(taken) < len(numbers):
            raise BitstreamError(f"a RAW section ended inside its {kind} symbols")
        self._at += len(numbers)
        beyond = np.flatnonzero(taken >= self._tables.sizes[numbers])
        if beyond.size:
            symbol, name = int(taken[beyond[0]]), self._tables.names[numbers[beyond[0]]]
            raise BitstreamError(f"a RAW section has {kind} symbol {symbol}, beyond table {name!r}")
        return taken

    def finish(self) -> None:
        """Every symbol used."""
        if self._at != len(self._symbols):
            raise BitstreamError(f"a RAW section has {len(self._symbols) - self._at} symbols too many")
