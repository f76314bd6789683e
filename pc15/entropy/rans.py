"""rANS: symbols and tables -> bytes, and back, exactly.

The state x is one integer in [2^23, 2^31).  Coding symbol s with frequency f and first slot c of 2^14:

    encode   x' = (x // f) * 2^14 + c + x % f      after moving low bytes of x out while x >= f * 2^17
    decode   x  = f * (x' >> 14) + slot - c        with slot = x' mod 2^14; then bytes in while x < 2^23

The encoder starts at x = 2^23 and codes the last symbol first; its final x is the stream's first four bytes,
most significant first, and the moved bytes follow in the order the decoder wants them.  So a decoder must end
at exactly 2^23 with every byte used, which nearly every damaged stream fails.  Symbols that cost nothing
(none at all, or only symbols of frequency 2^14) leave x = 2^23 and are coded as zero bytes.
Overhead: 3 to 4 bytes per stream.  Plain Python ints; `_push` and `_pull` are the only loops.
Source: J. Duda, "Asymmetric numeral systems", arXiv:1311.2540; the byte-wise arrangement is F. Giesen's.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import repeat
from operator import attrgetter, getitem

from pc15.entropy.tables import RansTable
from pc15.errors import BitstreamError, ConfigError

__all__ = ["STATE_LOW", "RansDecoder", "rans_decode", "rans_encode"]

STATE_LOW = 1 << 23  # the state stays in [2^23, 2^31)
STATE_BYTES = 4


def _push(entries: Iterable[tuple[int, int, int, int]], out: bytearray) -> int:
    """Code symbols, given as entries of `RansTable.codes`, in this order; append bytes; the final state."""
    x = STATE_LOW
    emit = out.append
    for freq, rest, cum, limit in entries:
        while x >= limit:
            emit(x & 255)
            x >>= 8
        x += x // freq * rest + cum  # = (x // freq << 14) + x % freq + cum, with one division
    return x


def rans_encode(symbols: Sequence[int], tables: RansTable | Sequence[RansTable]) -> bytes:
    """Code `symbols` into bytes that `rans_decode` turns back, given the same tables.

    Args:
        symbols: plain ints, each below its table's alphabet.
        tables: one table for all symbols, or one per symbol.
    Raises:
        BitstreamError: a symbol has frequency 0 or is outside its table's alphabet.
        ConfigError: the number of tables is not the number of symbols.
    """
    if isinstance(tables, RansTable):
        entries = map(tables.codes.__getitem__, reversed(symbols))
    elif len(tables) == len(symbols):
        entries = map(getitem, map(attrgetter("codes"), reversed(tables)), reversed(symbols))
    else:
        raise ConfigError(f"{len(symbols)} symbols with {len(tables)} tables; pass one table, or one per symbol")
    out = bytearray()
    try:
        x = _push(entries, out)
    except (KeyError, TypeError) as e:  # TypeError: something unhashable where a symbol should be
        raise _no_such_symbol(symbols, tables) from e
    if x == STATE_LOW and not out:
        return b""
    out.reverse()
    return x.to_bytes(STATE_BYTES, "big") + bytes(out)


def _no_such_symbol(symbols: Sequence[int], tables: RansTable | Sequence[RansTable]) -> BitstreamError:
    """Say which symbol stopped the encoder: the last bad one, since it codes backwards."""
    for position in reversed(range(len(symbols))):
        symbol = symbols[position]
        table = tables if isinstance(tables, RansTable) else tables[position]
        if not isinstance(symbol, Hashable) or symbol not in table.codes:
            break
    if symbol in range(len(table.freq)):
        why = f"has frequency 0 in table {table.name!r}; rebuild it with build_rans_tables, or leave it out"
    else:
        why = f"is outside the alphabet 0..{len(table.freq) - 1} of table {table.name!r}"
    return BitstreamError(f"symbol {symbol!r} at position {position} {why}")


class RansDecoder:
    """Decode one stream in phases, so that a later phase's tables may depend on earlier symbols.

    decoder = RansDecoder(data)
    modes = decoder.take(mode_table, count=tiles)
    levels = decoder.take([level_tables[mode] for mode in modes])
    decoder.finish()
    """

    def __init__(self, data: bytes) -> None:
        self._data = bytes(data)
        self._pos = STATE_BYTES if self._data else 0
        self._taken = 0
        self._state = int.from_bytes(self._data[:STATE_BYTES], "big") if self._data else STATE_LOW
        if self._data and len(self._data) < STATE_BYTES:
            raise BitstreamError(
                f"rANS stream of {len(self._data)} bytes is cut: it starts with {STATE_BYTES} bytes of state"
            )
        if not STATE_LOW <= self._state < STATE_LOW << 8:
            raise BitstreamError(f"rANS stream starts at state {self._state:#x}, outside [2^23, 2^31): it is damaged")

    def _pull(self, slots_in_order: Iterable[list[tuple[int, int, int]]]) -> Iterator[int]:
        """One symbol per `RansTable.slots`.  IndexError: the bytes ran out.  Faster than appending."""
        x, pos, data = self._state, self._pos, self._data
        for slots in slots_in_order:
            symbol, rest, cum = slots[x & 16383]
            yield symbol
            x -= (x >> 14) * rest + cum  # = freq * (x >> 14) + slot - cum
            while x < 8388608:
                x = x << 8 | data[pos]
                pos += 1
        self._state, self._pos = x, pos

    def take(self, tables: RansTable | Sequence[RansTable], count: int | None = None) -> list[int]:
        """The next symbols: `count` of one table, or one per table of a sequence.

        Raises:
            BitstreamError: the bytes ran out.
            ConfigError: one table without a count, or a count that is not the number of tables.
        """
        if isinstance(tables, RansTable):
            if count is None or count < 0:
                raise ConfigError(f"take(table {tables.name!r}, count={count}): one table needs a count from 0 up")
            slots: Iterable[list[tuple[int, int, int]]] = repeat(tables.slots, count)
        else:
            if count is not None and count != len(tables):
                raise ConfigError(f"take({len(tables)} tables, count={count}): leave count out, or pass one table")
            slots = map(attrgetter("slots"), tables)
        symbols: list[int] = []
        try:
            symbols.extend(self._pull(slots))
        except IndexError as e:
            raise BitstreamError(
                f"rANS stream of {len(self._data)} bytes ran out at symbol "
                f"{self._taken + len(symbols) - 1}: it is cut or damaged"
            ) from e
        self._taken += len(symbols)
        return symbols

    def finish(self) -> None:
        """Check that the stream ends here: state back at 2^23, every byte used; else `BitstreamError`."""
        if self._state != STATE_LOW or self._pos != len(self._data):
            raise BitstreamError(
                f"rANS stream ends at state {self._state:#x} with {len(self._data) - self._pos} of "
                f"{len(self._data)} bytes unread after {self._taken} symbols, not at "
                f"{STATE_LOW:#x} with none: it is damaged, or made with other tables"
            )


def rans_decode(data: bytes, tables: RansTable | Sequence[RansTable], count: int | None = None) -> list[int]:
    """All symbols of a stream made by `rans_encode` with the same tables; checks the end."""
    decoder = RansDecoder(data)
    symbols = decoder.take(tables, count)
    decoder.finish()
    return symbols
