"""The coder's two loops; see `rans.py` for what they compute, and `pc15/runtime/tiered.py` for how they run.

Both serve several streams at once.  Symbols come phase after phase and, within each, stream after stream; each has the
number of its table in `first` and `cum`, as in `FlatTables`.  `coders` holds WORDS numbers per stream, and `bounds`
where the symbols of each stream begin, of each phase in turn; its last entry is where all end.  Arrays are int64 but
for `cum`, `hints` and the bytes.
"""

from __future__ import annotations

from pc15.entropy.tables import BUCKET_BITS, PRECISION, Ints
from pc15.runtime.tiered import tiered_jit

STATE_LOW = 1 << 23  # the state stays in [2^23, 2^31)
STATE, PLACE, STOP, TAKEN = 0, 1, 2, 3
"""Places in `coders`: the state, the place of the next byte, where a stream's bytes end, how many symbols it gave."""
WORDS = 4
_LIMIT_SHIFT = 23 - PRECISION + 8  # a state below f << 17 can take a symbol of frequency f
_SLOT = (1 << PRECISION) - 1
_BUCKETS_SHIFT = PRECISION - BUCKET_BITS


@tiered_jit()
def push(numbers: Ints, symbols: Ints, bounds: Ints, first: Ints, cum: Ints, coders: Ints, out: Ints) -> int:
    """Code the symbols of each stream, the last one first, into the bytes before its PLACE.

    Returns -1, or the position of a symbol that its table does not have or that has frequency 0 there.
    """
    streams = len(coders) // WORDS
    for stream in range(streams):
        x, place = coders[WORDS * stream + STATE], coders[WORDS * stream + PLACE]
        for k in range(len(bounds) - 1 - streams + stream, -1, -streams):
            for i in range(bounds[k + 1] - 1, bounds[k] - 1, -1):
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
                x += x // freq * ((1 << PRECISION) - freq) + low  # = (x // freq << 14) + x % freq + low, one division
        coders[WORDS * stream + STATE], coders[WORDS * stream + PLACE] = x, place
    return -1


@tiered_jit()
def pull(
    numbers: Ints, bounds: Ints, first: Ints, cum: Ints, hints: Ints, coders: Ints, data: Ints, symbols: Ints
) -> int:
    """Decode a phase of symbols, each stream's from its PLACE on; returns -1, or a stream whose bytes ran out."""
    for stream in range(len(coders) // WORDS):
        x, place = coders[WORDS * stream + STATE], coders[WORDS * stream + PLACE]
        stop, taken = coders[WORDS * stream + STOP], coders[WORDS * stream + TAKEN]
        for i in range(bounds[stream], bounds[stream + 1]):
            number, slot = numbers[i], x & _SLOT
            at = hints[(number << BUCKET_BITS) + (slot >> _BUCKETS_SHIFT)]
            while cum[at + 1] <= slot:
                at += 1
            symbols[i] = at - first[number]
            low = cum[at]
            x = (cum[at + 1] - low) * (x >> PRECISION) + slot - low
            while x < STATE_LOW:
                if place >= stop:
                    coders[WORDS * stream + TAKEN] = taken + i - bounds[stream]
                    return stream
                x = x << 8 | data[place]
                place += 1
        coders[WORDS * stream + STATE], coders[WORDS * stream + PLACE] = x, place
        coders[WORDS * stream + TAKEN] = taken + bounds[stream + 1] - bounds[stream]
    return -1
