"""The coder's two loops; see `rans.py` for what they compute, and `pc15/late.py` for how they run.

Both take symbols in order, each with the number of its table in `first` and `cum`, as in `FlatTables`; int64 but for
`cum` and the bytes.  `coder` holds the state, and the place of the next byte.
"""

from __future__ import annotations

from pc15.entropy.tables import PRECISION, Ints
from pc15.late import late

STATE_LOW = 1 << 23  # the state stays in [2^23, 2^31)
STATE, PLACE = 0, 1
"""Places in `coder`."""
_LIMIT_SHIFT = 23 - PRECISION + 8  # a state below f << 17 can take a symbol of frequency f
_SLOT = (1 << PRECISION) - 1


@late()
def push(numbers: Ints, symbols: Ints, first: Ints, cum: Ints, coder: Ints, out: Ints) -> int:
    """Code symbols, the last one first, into the bytes before coder[PLACE].

    Returns -1, or the position of a symbol that its table does not have or that has frequency 0 there.
    """
    x, place = coder[STATE], coder[PLACE]
    for i in range(len(numbers) - 1, -1, -1):
        start, end = first[numbers[i]], first[numbers[i] + 1] - 1
        at = start + symbols[i]
        if at < start or at >= end:
            return i
        low = cum[at]
        freq = cum[at + 1] - low
        if freq == 0:
            return i
        while x >= freq << _LIMIT_SHIFT:
            place -= 1
            out[place] = x & 255
            x >>= 8
        x += x // freq * ((1 << PRECISION) - freq) + low  # = (x // freq << 14) + x % freq + low, with one division
    coder[STATE], coder[PLACE] = x, place
    return -1


@late()
def pull(numbers: Ints, first: Ints, cum: Ints, coder: Ints, data: Ints, symbols: Ints) -> int:
    """Decode symbols from the bytes from coder[PLACE] on; returns -1, or where in `symbols` the bytes ran out."""
    x, place = coder[STATE], coder[PLACE]
    for i in range(len(numbers)):
        start, end = first[numbers[i]], first[numbers[i] + 1] - 1
        slot = x & _SLOT
        at = start
        while end - at > 1:  # cum[at] <= slot < cum[end]
            middle = (at + end) >> 1
            if cum[middle] <= slot:
                at = middle
            else:
                end = middle
        symbols[i] = at - start
        low = cum[at]
        x = (cum[at + 1] - low) * (x >> PRECISION) + slot - low
        while x < STATE_LOW:
            if place >= len(data):
                return i
            x = x << 8 | data[place]
            place += 1
    coder[STATE], coder[PLACE] = x, place
    return -1
