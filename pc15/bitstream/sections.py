"""The order in which a section codes the programs of its tiles, and the contexts of each symbol.

`code_section` is written once and runs in both directions: a `Port` is handed the symbols (encoder, cost counter) or
hands them out (decoder), so the two can't drift apart.  Symbols come in phases over all tiles of the section, each
phase's contexts known from the phases before it, so that a decoder may take a whole phase at once:

    per tile row    DC residual against the neighbours' DC; context: how steep the row above is
    per layer l     more? (context: how many neighbours got this far), merged?, then which neighbour's layer it
                    continues, or generator, qv_id, seed index, refined?, offsets; amplitude

A merged layer continues a neighbour's pattern, drawn as if that tile were larger; see `Merge`.

Sections of one shape and one syntax, of several pictures say, are coded together: each phase of all of them at once,
which costs about as much as of one, and each into or from bytes of its own.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pc15.bitstream.alphabets import DC_CONTEXTS, DC_DIRECT, MERGE_AMP_DIRECT, Syntax
from pc15.bitstream.ports import Port
from pc15.bitstream.programs import (
    AMP_DIRECT,
    MAX_LAYERS,
    MAX_PARAMS,
    RAW_BITS,
    Ints,
    Programs,
    merge_mode,
    parameter_counts,
    unzigzag,
    zigzag,
)
from pc15.errors import BitstreamError
from pc15.proc.codebook_ids import OFFSET_MAX
from pc15.proc.generators import NAMES
from pc15.runtime.tiered import tiered_jit

_ACTIVITY = (2, 3, 5, 9)
"""Where the classes of `activity_contexts` begin, but for the first."""
_ACTIVITY_OF = np.searchsorted(_ACTIVITY, np.arange(_ACTIVITY[-1] + 1), side="right")
_NONE = np.zeros(0, np.int64)


class _Coding:
    """A port, and the tiles of its sections: those of one after those of the other, all of one syntax."""

    def __init__(self, port: Port, syntax: Syntax, places: list[Ints] | None) -> None:
        self.port, self.syntax, self.numbers, self._places = port, syntax, syntax.numbers, places
        self.starts = np.arange(port.sections) * (syntax.ny * syntax.nx)
        self._stops = self.starts + syntax.ny * syntax.nx

    def code(self, kind: str, at: Ints, numbers: Ints | int, symbols: Ints | None) -> Ints:
        """Code one symbol of each of the tiles `at`, in order; a tile may have several."""
        if not isinstance(numbers, np.ndarray):
            numbers = np.full(len(at), numbers)
        ends = at.searchsorted(self._stops) if len(self._stops) > 1 else None
        if self._places is not None:
            self._places.append(at)
        return self.port.code(kind, numbers, symbols, ends)

    def part(self, kind: str, at: Ints, numbers: Ints | int, values: Ints) -> Ints:
        """Code what `values` hold of the tiles `at`, or put it there."""
        if not self.port.decoding:
            return self.code(kind, at, numbers, values[at])
        values[at] = symbols = self.code(kind, at, numbers, None)
        return symbols

    def escaped(self, kind: str, at: Ints, numbers: Ints | int, codes: Ints | None, direct: int) -> Ints:
        """Codes below `direct` as one symbol, larger ones as an escape and two raw digits."""
        symbols = self.code(kind, at, numbers, None if codes is None else np.minimum(codes, direct))
        escaped = np.flatnonzero(symbols == direct)
        if not escaped.size:
            return symbols
        rest, rows = None if codes is None else codes[escaped] - direct, at[escaped]
        high = self.code(kind, rows, self.numbers.raw, None if rest is None else rest >> RAW_BITS)
        low = self.code(kind, rows, self.numbers.raw, None if rest is None else rest & ((1 << RAW_BITS) - 1))
        out = symbols.copy()
        out[escaped] = direct + (high << RAW_BITS) + low
        return out

    def fine(self, at: Ints, steps: Ints | None) -> Ints:
        """Sub-level steps: the class of each magnitude, then, digit by digit, sign and magnitude of all that have one.

        Class c says 2**(c-1) <= |step| < 2**c; its c bits are |step| - 2**(c-1), and on top the sign, 1 for minus.
        They are coded as digits of RAW_BITS bits, the highest digit first and shorter where c is no multiple.
        """
        size = None if steps is None else np.abs(steps)
        classes = None if size is None else np.frexp(size)[1].astype(np.int64)  # the bit length
        classes = self.code("offset", at, self.numbers.offset, classes)
        half = (1 << classes) >> 1
        code = None if steps is None or size is None else size - half + np.where(steps < 0, half, 0)
        value = np.zeros(len(at), np.int64)
        for digit in range(-(-int(classes.max(initial=0)) // RAW_BITS) - 1, -1, -1):
            rows = np.flatnonzero(classes > digit * RAW_BITS)
            bits = np.minimum(classes[rows] - digit * RAW_BITS, RAW_BITS)
            part = None if code is None else (code[rows] >> (digit * RAW_BITS)) & ((1 << bits) - 1)
            value[rows] += self.code("offset", at[rows], self.numbers.bits[bits], part) << (digit * RAW_BITS)
        negative = value >= half  # class 0 has no bits: half is 0 there
        return np.where(classes == 0, 0, np.where(negative, -value, value + half))


def predict_dc(above: Sequence[int] | Ints, left: int, column: int, middle: int, start: int = 0) -> int:
    """DC level expected from the tiles above and to the left, as levels; `middle` for the first tile.

    The plane through the three neighbours, held inside their range (the median predictor of LOCO-I).

    Args:
        above: the row above, from `start` on; empty for the first one.   left: counts for nothing in column 0.
    """
    if not column:
        return above[start] if len(above) else middle
    if not len(above):
        return left
    top, corner = above[start + column], above[start + column - 1]
    low, high = min(top, left), max(top, left)
    plane = max(low, min(high, top + left - corner))
    return (plane + (top + left + 1) // 2 + 1) // 2


@tiered_jit(predict_dc)
def _walk_dc(levels: Ints, residuals: Ints, above: Ints, nx: int, middle: int, decoding: int) -> None:
    """Along rows of several sections, levels from their residuals against `predict_dc`; or residuals from levels."""
    left = middle
    for at in range(len(levels)):
        column = at % nx
        expected = predict_dc(above, left, column, middle, at - column)
        if decoding:
            levels[at] = expected + residuals[at]
        else:
            residuals[at] = levels[at] - expected
        left = levels[at]


def dc_contexts(above: Ints, nx: int) -> Ints:
    """Class of how steep the row above is at each column: 0 flat, 1, or 2 (also for the first row, `above` empty).

    Args:
        above: [.., nx] or empty.
    """
    if not above.size:
        return np.full(nx, DC_CONTEXTS - 1)
    step, slope = np.abs(np.diff(above)), np.zeros(above.shape, np.int64)
    slope[..., :-1] = step
    np.maximum(slope[..., 1:], step, out=slope[..., 1:])
    return (slope >= 2).astype(np.int64) + (slope >= 5)


def _code_dc(coding: _Coding, given: Ints | None) -> Ints:
    """DC levels of all tiles, row by row of all sections; the residual against `predict_dc`."""
    syntax, sections = coding.syntax, coding.port.sections
    ny, nx, middle = syntax.ny, syntax.nx, syntax.dc_top // 2
    shape = sections, ny, nx
    rows = np.zeros((ny, sections, nx), np.int64)
    if given is not None:
        rows[:] = given.reshape(shape).swapaxes(0, 1)
    first = np.add.outer(coding.starts, np.arange(nx)).reshape(-1)
    contexts, above = np.full((sections, nx), DC_CONTEXTS - 1), _NONE
    residual = np.zeros(sections * nx, np.int64)
    for down, row in enumerate(rows):
        at = first + down * nx
        levels, numbers = row.reshape(-1), coding.numbers.dc.take(contexts.reshape(-1))
        if given is None:
            residual = unzigzag(coding.escaped("dc", at, numbers, None, DC_DIRECT))
            _walk_dc(levels, residual, above, nx, middle, 1)
        else:
            _walk_dc(levels, residual, above, nx, middle, 0)
            coding.escaped("dc", at, numbers, zigzag(residual), DC_DIRECT)
        contexts, above = dc_contexts(row, nx), levels
    if rows.size and not (rows.min() >= 0 and rows.max() < syntax.dc_top):
        raise BitstreamError(f"a DC level lies outside 0..{syntax.dc_top - 1}: the section is damaged")
    return rows.swapaxes(0, 1).reshape(-1)


def neighbour_contexts(alive: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """Number of the four neighbours that are alive, 0..4, for [.., ny, nx] maps; none is beyond the border."""
    count = alive.view(np.int8)
    total = np.zeros(alive.shape, np.int8)
    total[..., 1:, :] += count[..., :-1, :]
    total[..., :-1, :] += count[..., 1:, :]
    total[..., 1:] += count[..., :-1]
    total[..., :-1] += count[..., 1:]
    return total.reshape(-1)


def activity_contexts(dc: Ints, ny: int, nx: int) -> Ints:
    """Class 0..4 of how much a tile's DC differs from its neighbours': tells layers from flat tiles.

    Args:
        dc: tiles of a section of [ny, nx], or of several.
    """
    level = dc.reshape(-1, ny, nx)
    most = np.zeros(level.shape, np.int64)
    for before, after, step in (
        (most[:, :-1], most[:, 1:], np.abs(np.diff(level, axis=1))),
        (most[:, :, :-1], most[:, :, 1:], np.abs(np.diff(level, axis=2))),
    ):
        np.maximum(before, step, out=before)
        np.maximum(after, step, out=after)
    return _ACTIVITY_OF[np.minimum(most.reshape(-1), _ACTIVITY[-1])]


def code_section(port: Port, syntax: Syntax, given: Programs | None) -> Programs:
    """Code all tiles of a section through `port`; returns what was given, or what was decoded.

    Raises:
        BitstreamError: decoded symbols that no encoder writes.
    """
    (section,) = code_sections(port, syntax, None if given is None else [given])
    return section


def code_sections(
    port: Port, syntax: Syntax, given: Sequence[Programs] | None, places: list[Ints] | None = None
) -> list[Programs]:
    """Code all sections of a port together, as `code_section`; decoded ones are views of arrays that they share.

    Args:
        places: gets, for statistics, the tile of each symbol, an array per phase.
    """
    coding, n, nx = _Coding(port, syntax, places), syntax.ny * syntax.nx, syntax.nx
    out = Programs.empty(port.sections * n) if given is None else Programs.packed(given)
    for part in (out, *(given or ())):
        part.fine = syntax.fine
    modes, changes = np.zeros(port.sections, np.int64), None
    if n > 1:  # a lone tile has no neighbour
        if given is not None and out.source.any():
            parts = out.split(n)  # in arrays of one width, whatever those are that were given
            modes[:] = [merge_mode(part) for part in parts]
            changes = np.concatenate([part.amp_codes(nx) for part in parts])
        modes = coding.code("merge", coding.starts, coding.numbers.merge_mode, None if given is None else modes)
    dc = _code_dc(coding, None if given is None else out.dc)
    if given is None:
        out.dc[:] = dc
    at = np.arange(out.tiles)
    contexts: npt.NDArray[np.integer] = activity_contexts(dc, syntax.ny, nx)
    for layer in range(MAX_LAYERS):
        more = None if given is None else (out.count[at] > layer).astype(np.int64)
        more = coding.code("more", at, coding.numbers.more[layer].take(contexts[at]), more)
        at = at[more == 1]
        if not at.size:
            break
        if given is None:
            out.count[at] = layer + 1
        own = _code_merges(coding, out, at, layer, modes, changes) if modes.any() else at
        if own.size:
            _code_layer(coding, out, own, layer)
        alive = np.zeros(out.tiles, bool)
        alive[at] = True
        contexts = neighbour_contexts(alive.reshape(-1, syntax.ny, nx))
    if given is not None:
        return [*given]
    decoded = out.split(n)
    for part in itertools.compress(decoded, modes.tolist()):
        part.decode_merged_amps(nx)
    return decoded


def _code_merges(coding: _Coding, out: Programs, at: Ints, layer: int, modes: Ints, changes: Ints | None) -> Ints:
    """Code which tiles of `at` continue a neighbour with layer number `layer`, and those layers; returns the others.

    Args:
        modes: [sections], where it is 0 no tile does.   changes: [N, L], see `Programs.amp_codes`.
    """
    numbers, decoding = coding.numbers, coding.port.decoding
    mode = np.repeat(modes, coding.syntax.ny * coding.syntax.nx)

    def code(number: Ints, values: Ints) -> Ints:
        return coding.code("merge", at, number, None if decoding else values)

    at, every = at[mode[at] > 0], at
    merged = code(numbers.merged[mode[at]], (out.source[at, layer] > 0).astype(np.int64))
    at = at[merged == 1]
    if at.size:
        sides, layers = np.divmod(out.source[at, layer] - 1, MAX_LAYERS)
        sides = code(numbers.side[mode[at]], sides)
        layers = code(np.full(len(at), numbers.merge_layer[layer]), layers)
        out.source[at, layer] = 1 + sides * MAX_LAYERS + layers
        codes = None if changes is None else changes[at, layer]
        codes = coding.escaped("merge", at, numbers.merge_amp[mode[at]], codes, MERGE_AMP_DIRECT)
        if decoding:
            out.amp[at, layer] = codes
    return every[out.source[every, layer] == 0]


def _code_layer(coding: _Coding, out: Programs, at: Ints, layer: int) -> None:
    """Everything but the end flag of layer number `layer` of the tiles `at`."""
    syntax, numbers, decoding = coding.syntax, coding.numbers, coding.port.decoding
    gen = coding.part("gen", at, numbers.gen[layer], out.gen[:, layer])
    qv = coding.part("qv", at, numbers.qv.take(gen), out.qv[:, layer])
    beyond = np.flatnonzero(qv >= syntax.codebook.sizes.take(gen))
    if beyond.size:
        bad = int(beyond[0])
        raise BitstreamError(f"a layer names entry {qv[bad]} of {NAMES[gen[bad]]}, which codebook "
                             f"{syntax.codebook.id!r} does not have")  # fmt: skip
    tables = numbers.seed.take(gen)
    seeded = np.flatnonzero(tables >= 0)
    if seeded.size:
        coding.part("seed", at[seeded], tables[seeded], out.seed[:, layer])
    steps = out.offsets[:, layer]
    moved = None if decoding else (functools.reduce(np.bitwise_or, steps[at].T) != 0).astype(np.int64)
    refined = np.flatnonzero(coding.code("refined", at, numbers.refined, moved))
    if refined.size:
        counts = parameter_counts(bool(syntax.fine)).take(gen[refined])
        which, parameter = np.nonzero(np.arange(MAX_PARAMS) < counts[:, None])
        rows = at[refined[which]]
        own = None if decoding else steps[rows, parameter]
        if syntax.fine:
            own = coding.fine(rows, own)
        else:
            own = coding.code("offset", rows, numbers.offset, None if own is None else own + OFFSET_MAX) - OFFSET_MAX
        if decoding:
            steps[rows, parameter] = own
    amp = out.amp[:, layer]
    codes = None
    if not decoding:
        values = amp[at]
        codes = 2 * (np.abs(values) - 1) + (values < 0)
    codes = coding.escaped("amp", at, numbers.amp[layer], codes, 2 * AMP_DIRECT)
    if decoding:
        amp[at] = ((codes >> 1) + 1) * (1 - 2 * (codes & 1))
