"""Where the bits of a residual went, by what its decisions are about: for reports."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import ENCODE, FILL, HALF, KIND_SHIFT, MODE, TAPE, jit_entry
from pc15.residual.contexts import KIND_NAMES, RAW_FILTER, W_AGAIN, W_CROSS, W_CUT, W_ON, W_SPLIT, W_ZERO
from pc15.residual.cross import BY_ALL, BY_CLASS, BY_LEFT, BY_TOP, FIRST_CROSS, FROM_BLUE, FROM_BOTH
from pc15.residual.decode import check_step, check_tools, level_q4, read_field
from pc15.residual.initial_models import start_models
from pc15.residual.intra import DIAGONAL, FIRST_ANGLE, HORIZONTAL, VERTICAL
from pc15.residual.patterns import generators_of_squares, layers_of, patterns_for
from pc15.residual.reconstruct import Canvas, work
from pc15.residual.shapes import PARTS, part_of
from pc15.residual.syntax import RIM, ROOM, SUPER, SUPER_LOG2, UNIT, BlockMap
from pc15.residual.tools import PATTERNS, WIENER
from pc15.residual.tree import write_plane
from pc15.residual.wiener import LOOP_ROOM, Loop, code_loop, loop_models

Ints = npt.NDArray[Any]


class ResidualReport(NamedTuple):
    """Bits and patterns that a payload is made of.

    bits: by what a decision is about, the sum of -log2 of its chance: the payload's size to within four bytes, of which
        three and a fraction are the coder's own.
    layers: patterns in squares, by generator's id: how many, and pixels of their squares.
    drawn: pixels of the squares that have patterns.
    """

    bits: dict[str, float]
    layers: dict[int, tuple[int, int]]
    drawn: int

    @property
    def layer_count(self) -> int:
        """Patterns of all generators together."""
        return sum(layers for layers, _ in self.layers.values())


def residual_report(payload: bytes, h: int, w: int, step: int, tools: int, plane: int = 0) -> ResidualReport:
    """Bits and patterns of a payload of a plane [h,w], which is read once.

    `plane` is its number among the picture's, as of `read_field`.

    Raises:
        BitstreamError: the payload is cut, too long or damaged.
        ConfigError: the step or the tools are out of range.
    """
    check_step(step)
    check_tools(tools)
    if not payload:
        return ResidualReport({}, {}, 0)
    field, strength, loop, rec = read_field(payload, h, w, step, tools, plane)
    used: dict[int, tuple[int, int]] = {}
    if tools & PATTERNS:
        generators = generators_of_squares()
        for s, entry, _ in layers_of(field):
            gen = int(generators[s - 1][entry])
            layers, area = used.get(gen, (0, 0))
            used[gen] = layers + 1, area + (16 << 2 * s)
    drawn = 16 * int(np.count_nonzero(field.layers))
    tapes = [filter_decisions(strength, loop, tools)]
    io, done = np.zeros(TAPE + 8 * ROOM, np.int64), 0
    models, stack, around = start_models(step, tools), np.zeros((20, 3), np.int64), np.zeros(38 * RIM, np.int32)
    canvas = _canvas(rec, step, tools)
    while done < field.on.size:  # written again, for the chances of all decisions
        io[MODE], io[FILL] = ENCODE, TAPE
        done = write_plane(models, io, field, canvas, done, field.on.size, ROOM, stack, around)
        tapes.append(io[TAPE : io[FILL]].copy())
    return ResidualReport(bits_by_kind(np.concatenate(tapes)), used, drawn)


def residual_bits(payload: bytes, h: int, w: int, step: int, tools: int, plane: int = 0) -> dict[str, float]:
    """Bits of a payload by kind; arguments and errors as of `residual_report`."""
    return residual_report(payload, h, w, step, tools, plane).bits


class Square(NamedTuple):
    """A square of a residual, or a part of one that is cut, and what it cost.

    x, y, wide, high: px of its plane; those of a superblock that is left out as a whole may reach beyond it.
    mode: its prediction, see `mode_name`; None in a superblock that is left out.   coded: whether levels follow.
    layers: patterns that it adds, (generator's id, entry of its size's codebook, amount in steps) each.
    bits: by kind, splits and cuts before it and the superblock's own decision included.
    """

    x: int
    y: int
    wide: int
    high: int
    mode: int | None
    coded: bool
    layers: tuple[tuple[int, int, int], ...]
    bits: dict[str, float]


def square_bits(payload: bytes, h: int, w: int, step: int, tools: int, plane: int = 0) -> list[Square]:
    """The squares of a payload of a plane [h,w], in coding order; arguments and errors as of `residual_bits`."""
    check_step(step)
    check_tools(tools)
    if not payload:
        return []
    field, _, _, rec = read_field(payload, h, w, step, tools, plane)
    canvas = _canvas(rec, step, tools)
    io = np.zeros(TAPE + ROOM, np.int64)
    models, stack, around = start_models(step, tools=tools), np.zeros((20, 3), np.int64), np.zeros(38 * RIM, np.int32)
    across, found = field.on.shape[1], []
    for number in range(field.on.size):
        io[MODE], io[FILL] = ENCODE, TAPE
        write_plane(models, io, field, canvas, number, number + 1, ROOM, stack, around)
        y0, x0 = (SUPER * place for place in divmod(number, across))
        found += _squares(field, x0, y0, io[TAPE : io[FILL]])
    return found


def _canvas(rec: Ints, step: int, tools: int) -> Canvas:
    """The canvas that a field which was read is written again from."""
    return Canvas(np.zeros((1, rec.shape[1]), np.int32), rec, level_q4(step, tools), work(), patterns_for(tools))


def _squares(field: BlockMap, x0: int, y0: int, tape: Ints) -> list[Square]:
    """The squares of one superblock, whose decisions are given."""
    kinds, one = tape >> KIND_SHIFT, tape >> 1 & 65535
    costs = _information()[np.where(tape & 1, one, 65536 - one)]
    # a square's decisions begin with splits and cuts, or the superblock's own, and then its mode: in planes with guides
    # whether and how it is from them, and if not, as in others, whether it is zero
    heads = np.isin(kinds, (W_ON, W_SPLIT, W_CROSS, W_CUT, W_CUT + 1, W_AGAIN, W_AGAIN + 1))
    starts = np.flatnonzero((heads | (kinds == W_ZERO)) & ~np.append(False, heads[:-1]))
    ends = [*starts[1:].tolist(), len(tape)]
    parts = [_by_name(kinds[a:b], costs[a:b]) for a, b in zip(starts.tolist(), ends, strict=True)]
    if not field.on[y0 >> SUPER_LOG2, x0 >> SUPER_LOG2]:
        return [Square(x0, y0, SUPER, SUPER, None, False, (), parts[0])]
    leaves = list(_leaves(field, x0, y0, SUPER_LOG2))
    found = []
    for (x, y, wide, high), bits in zip(leaves, parts, strict=True):
        v, u = y >> 2, x >> 2
        layers = _layers(field, v, u, int(field.size[v, u]))
        mode, coded = int(field.mode[v, u]), bool(field.active[v, u])
        found.append(Square(x, y, 1 << wide, 1 << high, mode, coded, layers, bits))
    return found


def _layers(field: BlockMap, v: int, u: int, log2: int) -> tuple[tuple[int, int, int], ...]:
    """Patterns of the square whose first unit is (v, u)."""
    count = int(field.layers[v, u])
    if not count:
        return ()
    places = [(v + (i >> 1), u + (i & 1)) for i in range(count)]
    generators = generators_of_squares()[log2 - 3]
    entries = [int(field.entry[place]) for place in places]
    amounts = [int(field.amount[place]) for place in places]
    return tuple((int(generators[e]), e, a) for e, a in zip(entries, amounts, strict=True))


def _leaves(field: BlockMap, x: int, y: int, log2: int) -> Iterator[tuple[int, int, int, int]]:
    """x, y and log2 of the sides of each square or part, in coding order, below a square that may be split."""
    H, W = (UNIT * units for units in field.size.shape)
    if x >= W or y >= H:
        return
    side = 1 << log2
    if x + side > W or y + side > H or field.size[y >> 2, x >> 2] < log2:
        for i in range(4):
            yield from _leaves(field, x + (side >> 1) * (i & 1), y + (side >> 1) * (i >> 1), log2 - 1)
        return
    cut = int(field.cut[y >> 2, x >> 2])
    for part in range(int(PARTS[cut])):
        dx, dy, wide, high = map(int, part_of.py_func(log2, cut, part))
        yield x + dx, y + dy, wide, high


def _by_name(kinds: Ints, costs: Ints) -> dict[str, float]:
    sums: dict[str, float] = {}
    totals = np.bincount(kinds, costs, len(KIND_NAMES))
    for kind in np.flatnonzero(totals).tolist():
        sums[KIND_NAMES[kind]] = sums.get(KIND_NAMES[kind], 0.0) + float(totals[kind])
    return sums


_CROSS_NAMES = {
    BY_ALL: "from luma",
    BY_LEFT: "from luma, by the left border",
    BY_TOP: "from luma, by the top border",
    BY_CLASS: "from luma, by two lines",
    FROM_BLUE: "from Cb",
    FROM_BOTH: "from luma and Cb",
}


def mode_name(mode: int) -> str:
    """A prediction's name: zero, planar, mean, the direction that it comes from, or the planes and by which border."""
    if mode >= FIRST_CROSS:
        return _CROSS_NAMES[mode - FIRST_CROSS]
    if mode < FIRST_ANGLE:
        return ("zero", "planar", "mean")[mode]
    exact = {HORIZONTAL: "from the left", DIAGONAL: "from the top left", VERTICAL: "from the top"}
    if mode in exact:
        return exact[mode]
    side, angle = ("left", mode - HORIZONTAL) if mode < DIAGONAL else ("top", mode - VERTICAL)
    return f"from the {side}, direction {angle:+d} of 8"


def filter_decisions(strength: int, loop: Loop, tools: int) -> Ints:
    """Decisions about filters: the deblocking's strength, two, and if the tools have one the filter of `wiener`."""
    io = np.zeros(TAPE + 2 + (LOOP_ROOM + loop.on.size if tools & WIENER else 0), np.int64)
    io[MODE], io[FILL] = ENCODE, TAPE + 2
    io[TAPE : TAPE + 2] = [RAW_FILTER << KIND_SHIFT | HALF << 1 | bit for bit in (strength >> 1, strength & 1)]
    if tools & WIENER:
        code_loop(loop_models(), io, loop)
    return io[TAPE : io[FILL]]


def bits_by_kind(tape: Ints) -> dict[str, float]:
    """Information of the decisions by what they are about, in bits."""
    sums = np.zeros(len(KIND_NAMES))
    _tally(tape, _information(), sums)
    found: dict[str, float] = {}
    for name, total in zip(KIND_NAMES, sums.tolist(), strict=True):
        found[name] = found.get(name, 0.0) + total
    return found


@functools.cache
def _information() -> Ints:
    """Bits of an outcome whose chance is i/65536; [65536] float64, of which the first is never asked for."""
    return np.append(0.0, 16.0 - np.log2(np.arange(1.0, 65536.0)))


@jit_entry()
def _tally(tape: Ints, information: Ints, sums: Ints) -> None:
    """Add the information of decisions up, by their kind."""
    for i in range(len(tape)):
        one = tape[i] >> 1 & 65535
        sums[tape[i] >> KIND_SHIFT] += information[one if tape[i] & 1 else 65536 - one]
