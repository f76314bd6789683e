"""rANS: symbols and tables -> bytes, and back, exactly.

The state x is one integer in [2^23, 2^31).  Coding symbol s with frequency f and first slot c of 2^14:

    encode   x' = (x // f) * 2^14 + c + x % f      after moving low bytes of x out while x >= f * 2^17
    decode   x  = f * (x' >> 14) + slot - c        with slot = x' mod 2^14; then bytes in while x < 2^23

The encoder starts at x = 2^23 and codes the last symbol first; its final x is the stream's first four bytes,
most significant first, and the moved bytes follow in the order the decoder wants them.  So a decoder must end
at exactly 2^23 with every byte used, which nearly every damaged stream fails.  Symbols that cost nothing
(none at all, or only symbols of frequency 2^14) leave x = 2^23 and are coded as zero bytes.
Overhead: 3 to 4 bytes per stream.  `loops.py` has the only loops.
Source: J. Duda, "Asymmetric numeral systems", arXiv:1311.2540; the byte-wise arrangement is F. Giesen's.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from pc15.entropy.rans_loops import PLACE, STATE, STATE_LOW, TAKEN, WORDS, pull, push
from pc15.entropy.tables import MAX_ALPHABET, FlatTables, Ints, RansTable
from pc15.errors import BitstreamError, ConfigError

__all__ = ["STATE_LOW", "RansDecoder", "encode_numbered", "encode_streams", "rans_decode", "rans_encode"]

STATE_BYTES = 4
_MOST_BYTES = 2
"""A symbol of frequency 1 moves 14 bits of state out: two bytes at most."""


def encode_numbered(symbols: Ints, numbers: Ints, tables: FlatTables, given: Sequence[object] | None = None) -> bytes:
    """Code symbols [n] int64, each with the number of its table; see `rans_encode`.

    Args:
        given: what an error calls the symbols, if they were anything else before.
    Raises:
        BitstreamError: a symbol has frequency 0 or is outside its table's alphabet.
    """
    return encode_streams(symbols, numbers, np.asarray([len(symbols)], np.int64)[None], tables, given)[0]


def encode_streams(
    symbols: Ints, numbers: Ints, counts: Ints, tables: FlatTables, given: Sequence[object] | None = None
) -> list[bytes]:
    """Encode several streams, whose symbols take turns, as `encode_numbered` does one.

    Args:
        counts: [phases, streams] int64, how many symbols of each stream come next.
    """
    bounds = np.append(0, np.cumsum(counts))
    sizes = STATE_BYTES + _MOST_BYTES * counts.sum(axis=0)
    ends = np.cumsum(sizes)
    out, coders = np.empty(int(ends[-1]), np.uint8), np.zeros((len(ends), WORDS), np.int64)
    coders[:, STATE], coders[:, PLACE] = STATE_LOW, ends
    if (bad := push(numbers, symbols, bounds, tables.first, tables.cum, coders.reshape(-1), out)) >= 0:
        symbol = int(symbols[bad]) if given is None else given[bad]
        turn, stream = divmod(int(np.searchsorted(bounds, bad, side="right")) - 1, len(ends))
        position = int(counts[:turn, stream].sum()) + bad - int(bounds[turn * len(ends) + stream])
        raise _no_such_symbol(symbol, position, tables.names[numbers[bad]], int(tables.sizes[numbers[bad]]))
    every = out.tobytes()
    return [
        b"" if state == STATE_LOW and place == end else state.to_bytes(STATE_BYTES, "big") + every[place:end]
        for (state, place), end in zip(coders[:, [STATE, PLACE]].tolist(), ends.tolist(), strict=True)
    ]


def rans_encode(symbols: Sequence[int], tables: RansTable | Sequence[RansTable]) -> bytes:
    """Code `symbols` into bytes that `rans_decode` turns back, given the same tables.

    Args:
        symbols: plain ints, each below its table's alphabet.
        tables: one table for all symbols, or one per symbol.
    Raises:
        BitstreamError: a symbol has frequency 0 or is outside its table's alphabet.
        ConfigError: the number of tables is not the number of symbols.
    """
    if not isinstance(tables, RansTable) and len(tables) != len(symbols):
        raise ConfigError(f"{len(symbols)} symbols with {len(tables)} tables; pass one table, or one per symbol")
    flat, numbers = _numbered(tables, len(symbols))
    return encode_numbered(np.asarray([*map(_int64, symbols)], np.int64), numbers, flat, symbols)


def _int64(symbol: Any) -> int:
    """A symbol as what fits an array: -1, which no table has, for what is no symbol of any."""
    try:
        value = operator.index(symbol)
    except TypeError:
        return -1
    return value if 0 <= value < MAX_ALPHABET else -1


def _numbered(tables: RansTable | Sequence[RansTable], count: int) -> tuple[FlatTables, Ints]:
    """The tables, each once, and which of them each of `count` symbols has, [count] int64."""
    if isinstance(tables, RansTable):
        return FlatTables.of([tables]), np.zeros(count, np.int64)
    known = {id(table): table for table in tables}
    number = {key: n for n, key in enumerate(known)}
    return FlatTables.of(list(known.values())), np.asarray([number[id(table)] for table in tables], np.int64)


def _no_such_symbol(symbol: object, position: int, name: str, size: int) -> BitstreamError:
    if symbol in range(size):
        why = f"has frequency 0 in table {name!r}; rebuild it with build_rans_tables, or leave it out"
    else:
        why = f"is outside the alphabet 0..{size - 1} of table {name!r}"
    return BitstreamError(f"symbol {symbol!r} at position {position} {why}")


class RansDecoder:
    """Decode one stream in phases, so that a later phase's tables may depend on earlier symbols.

    decoder = RansDecoder(data)
    modes = decoder.take(mode_table, count=tiles)
    levels = decoder.take([level_tables[mode] for mode in modes])
    decoder.finish()

    Several streams may be decoded together: in each phase those of the first come first.
    """

    def __init__(self, *streams: bytes) -> None:
        self._sizes = [len(data) for data in streams]
        self._data, place = np.frombuffer(b"".join(streams), np.uint8), 0
        words = []
        for data in streams:
            state = int.from_bytes(data[:STATE_BYTES], "big") if data else STATE_LOW
            if 0 < len(data) < STATE_BYTES:
                raise BitstreamError(
                    f"rANS stream of {len(data)} bytes is cut: it starts with {STATE_BYTES} bytes of state"
                )
            if not STATE_LOW <= state < STATE_LOW << 8:
                raise BitstreamError(f"rANS stream starts at state {state:#x}, outside [2^23, 2^31): it is damaged")
            words.append((state, place + min(STATE_BYTES, len(data)), place + len(data), 0))
            place += len(data)
        self._coders = np.asarray(words, np.int64)

    def take_numbered(self, numbers: Ints, tables: FlatTables, ends: Ints | None = None) -> Ints:
        """The next symbols, [n] int64, of tables with these numbers, [n] int64; raises as `take`.

        Args:
            ends: [streams] int64, where in `numbers` each stream's end; None if there is one stream.
        """
        symbols = np.empty(len(numbers), np.int64)
        bounds = np.zeros(1 + len(self._sizes), np.int64)
        bounds[1:] = len(numbers) if ends is None else ends
        coders = self._coders.reshape(-1)
        ran_out = pull(numbers, bounds, tables.first, tables.cum, tables.hints, coders, self._data, symbols)
        if ran_out >= 0:
            raise BitstreamError(
                f"rANS stream of {self._sizes[ran_out]} bytes ran out at symbol {self._coders[ran_out, TAKEN]}: "
                "it is cut or damaged"
            )
        return symbols

    def take(self, tables: RansTable | Sequence[RansTable], count: int | None = None) -> list[int]:
        """The next symbols: `count` of one table, or one per table of a sequence.

        Raises:
            BitstreamError: the bytes ran out.
            ConfigError: one table without a count, or a count that is not the number of tables.
        """
        if isinstance(tables, RansTable):
            if count is None or count < 0:
                raise ConfigError(f"take(table {tables.name!r}, count={count}): one table needs a count from 0 up")
        elif count is not None and count != len(tables):
            raise ConfigError(f"take({len(tables)} tables, count={count}): leave count out, or pass one table")
        flat, numbers = _numbered(tables, count or 0)
        symbols: list[int] = self.take_numbered(numbers, flat).tolist()
        return symbols

    def finish(self) -> None:
        """Check that the streams end here: state back at 2^23, every byte used; else `BitstreamError`."""
        for (state, place, stop, taken), size in zip(self._coders.tolist(), self._sizes, strict=True):
            if state != STATE_LOW or place != stop:
                raise BitstreamError(
                    f"rANS stream ends at state {state:#x} with {stop - place} of "
                    f"{size} bytes unread after {taken} symbols, not at "
                    f"{STATE_LOW:#x} with none: it is damaged, or made with other tables"
                )


def rans_decode(data: bytes, tables: RansTable | Sequence[RansTable], count: int | None = None) -> list[int]:
    """All symbols of a stream made by `rans_encode` with the same tables; checks the end."""
    decoder = RansDecoder(data)
    symbols = decoder.take(tables, count)
    decoder.finish()
    return symbols
