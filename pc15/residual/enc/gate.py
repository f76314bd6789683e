"""Which of the dearer ways to code a square are worth their time: more predictions, patterns, parts, quarters.

A small net in whole numbers says, of what is known once the likeliest prediction of a square has been coded, how much
each way would save, in proportion to the time it takes: the natural logarithm of

    J that it saves / (J of a typical area that takes as long)

so a way is tried where that is above the logarithm of the price of time, which is the same at every rate.  The nets are
fitted to what a search without a gate finds, see `pc15learn.roles.squares`, and come to the encoder by hooks.
Sources: rate, distortion and complexity weighed by one price, as in I. E. G. Richardson and Y. Zhao, "Adaptive
algorithms for variable-complexity video coding", ICIP 2001; nets for an encoder's decisions, e.g. F. Galpin et al.,
"CNN-based driving of block partitioning for intra slices encoding", DCC 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError
from pc15.residual.context_models import COST_ONE, HALF_CONTEXT, I64, bit_cost, chance, jit_inner
from pc15.residual.contexts import FIRST_PLACE, KIND, PLACE, W_SPLIT
from pc15.residual.enc.prices import price_cuts, price_more
from pc15.residual.intra import HORIZONTAL, MEAN, MODES, PLANAR, VERTICAL, ZERO
from pc15.residual.shapes import COLUMNS, MOST_CUT, ROWS, WHOLE
from pc15.residual.syntax import BlockMap, drawn_near, neighbours
from pc15.residual.tree import split_contexts

if TYPE_CHECKING:
    from pc15.residual.enc.scratch import Scratch

Ints = npt.NDArray[Any]
F32: Any = np.float32

WAY_NAMES = "predictions", "patterns", "rows", "columns", "again", "parts_predictions", "quarters"
"""Ways to code a square that may be left out: further predictions coded in full; patterns; an upper and a lower half; a
left and a right one; halves cut again; further predictions of these parts; four quarters."""
WAYS = len(WAY_NAMES)
PREDICTIONS_PAY, PATTERNS_PAY, ROWS_PAY, COLUMNS_PAY, AGAIN_PAY, PARTS_PREDICTIONS_PAY, QUARTERS_PAY = range(WAYS)
ANSWERS = QUARTERS_PAY
"""Ways that a net answers about: all but the last, since what is left of a square's quarters costs little, and leaving
them out loses most."""
PLAIN, FREQUENCIES, BOXES = 32, 64, 16
INPUTS = PLAIN + FREQUENCIES + 2 * BOXES
"""Numbers that a net sees: what trying the predictions has told, the frequencies that the best of them leaves, along
the scan, and of the wanted residual's 4x4 boxes the variances and the Hadamard transform of the means.  The last two of
PLAIN are 0."""
SECOND = 16
"""Units of a net's second layer."""
_UNITS = 1024
TOP = 127
"""Inputs and activations are whole numbers from -127 to this one."""
ANSWER_BITS, FACTOR_BITS = 8, 20
"""Answers are in 1/256; sums are multiplied by a layer's factors in 1/2^20."""
LAYERS = "first", "second", "last"
GATE_VERSION = 2
"""Raised whenever an input or an answer changes its meaning; weights made for another version are refused."""
SIDES = 8, 16, 32, 64


@dataclass(frozen=True, eq=False)
class SquareNet:
    """A net for squares: of each layer weight [outputs, inputs] int8, factor and bias [outputs] int32, by the names
    first.weight and so on; INPUTS inputs, any number of units up to 1,024, then SECOND, then ANSWERS.

    Raises:
        ConfigError: a tensor is missing, or of another type or shape: compiled loops would not notice.
    """

    tensors: Mapping[str, Ints]

    def __post_init__(self) -> None:
        first = self.tensors.get("first.weight")
        hidden = len(first) if isinstance(first, np.ndarray) and first.ndim else 0
        if not 1 <= hidden <= _UNITS:
            raise ConfigError(f"a net for squares has {hidden} units in its first layer; give 1 to {_UNITS}")
        wide = INPUTS, hidden, SECOND, ANSWERS
        for layer, inputs, outputs in zip(LAYERS, wide, wide[1:], strict=False):
            for part, shape, kind in (("weight", (outputs, inputs), np.int8), ("factor", (outputs,), np.int32),
                                      ("bias", (outputs,), np.int32)):  # fmt: skip
                own = self.tensors.get(f"{layer}.{part}")
                if not isinstance(own, np.ndarray) or own.shape != shape or own.dtype != kind:
                    found = f"{own.dtype} {list(own.shape)}" if isinstance(own, np.ndarray) else type(own).__name__
                    raise ConfigError(
                        f"{layer}.{part} of a net for squares is {found}; give an array, {np.dtype(kind)} {list(shape)}"
                    )


@dataclass(frozen=True, eq=False)
class SquareChoice:
    """Choice of what a search of squares leaves out: a way is tried where both the net and the map of ways let it.

    net: asked in each square; None for no opinion.   prune: the price of time: a way is tried if it is thought to save
        this share of J or more, in proportion to its time; 0 tries all.
    ways: by the side of squares, 8 to 64 px, [rows, columns] uint8 of those that lie in the plane: bits as of
        WAY_NAMES, from 1 on.  Sides that are left out have all.
    tries: most predictions that are coded in full per square; None for as many as the search would.
    about: plain JSON for the stream's metadata; empty: nothing is said.
    """

    net: SquareNet | None = None
    prune: float = 0.0
    ways: Mapping[int, Ints] = field(default_factory=dict)
    tries: int | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.net is not None and not isinstance(self.net, SquareNet):
            raise ConfigError(f"net is {type(self.net).__name__}; give a SquareNet, or None")
        if not 0.0 <= self.prune < math.inf:
            raise ConfigError(f"prune is {self.prune}; give a price of time from 0, which tries all")
        if self.tries is not None and self.tries < 1:
            raise ConfigError(f"tries is {self.tries}; give 1 or more, or None")
        for side, ways in self.ways.items():
            array = isinstance(ways, np.ndarray)
            if side not in SIDES or not array or ways.ndim != 2 or ways.dtype != np.uint8:
                found = f"{ways.dtype} {list(ways.shape)}" if array else type(ways).__name__
                raise ConfigError(
                    f"ways of squares of {side} px are {found}; give arrays, [rows, columns] uint8, of sides among "
                    f"{', '.join(map(str, SIDES))}"
                )


class Gate(NamedTuple):
    """A net ready to be asked, and work space.

    first, second, last: [outputs, inputs] int16.   factors, biases: [3, widest] int64.
    least: [1] int64, answer from which on a way is tried.   used: [2] int64, 1 if there is a net, and a map of ways.
    ways: [4,rows,columns] uint8, bits of those that may be tried, by the square's log2 - 3; a row and a column beyond
        the plane's.
    inputs: [INPUTS] int16.   hidden: [2, widest] int16.
    answers: [7, WAYS] int64, of squares by log2 of the side; of quarters the most there is.
    """

    first: Ints
    second: Ints
    last: Ints
    factors: Ints
    biases: Ints
    least: Ints
    used: Ints
    ways: Ints
    inputs: Ints
    hidden: Ints
    answers: Ints


def make_gate(choice: SquareChoice | None, height: int, width: int) -> Gate:
    """A gate for a padded plane; without a choice it lets all ways be tried."""
    i16, i64 = np.int16, np.int64
    choice = choice or SquareChoice()
    net = choice.net if choice.prune > 0.0 else None
    tensors = {} if net is None else net.tensors
    weights = [np.ascontiguousarray(tensors.get(f"{layer}.weight", np.zeros((1, 1))), dtype=i16) for layer in LAYERS]
    widest = max(len(weight) for weight in weights)
    factors, biases = np.zeros((2, 3, widest), i64)
    for i, layer in enumerate(LAYERS if tensors else ()):
        factors[i, : len(weights[i])] = tensors[f"{layer}.factor"]
        biases[i, : len(weights[i])] = tensors[f"{layer}.bias"]
    least = round(math.log(choice.prune) * (1 << ANSWER_BITS)) if tensors else 0
    ways = np.full((len(SIDES), (height >> 3) + 1, (width >> 3) + 1) if choice.ways else (1, 1, 1), 255, np.uint8)
    for side, own in choice.ways.items():
        here = ways[SIDES.index(side), : len(own), : own.shape[1]]
        here[:] = own[: len(here), : here.shape[1]]
    first, second, last = weights
    used = np.array([bool(tensors), bool(choice.ways)], i64)
    return Gate(
        first, second, last, factors, biases, least=np.full(1, least, i64), used=used, ways=ways,
        inputs=np.zeros(INPUTS, i16), hidden=np.zeros((2, widest), i16), answers=np.full((7, WAYS), 1 << 62, i64),
    )  # fmt: skip


@jit_inner()
def pays(way: int, x0: int, y0: int, log2: int, g: Gate) -> bool:
    """Test whether a way is worth its time in a square of side 2^log2, the one of that side that was seen last."""
    if g.used[1] and not g.ways[log2 - 3, y0 >> log2, x0 >> log2] >> way & 1:
        return False
    return g.used[0] == 0 or g.answers[log2, way] >= g.least[0]


@jit_inner()
def ask(log2: int, g: Gate) -> None:
    """Answers about the square that g.inputs are of."""
    _layer(g.first, g.factors[0], g.biases[0], g.inputs, g.hidden[0])
    _layer(g.second, g.factors[1], g.biases[1], g.hidden[0], g.hidden[1])
    for way in range(ANSWERS):
        g.answers[log2, way] = _scaled(_product(g.last[way], g.hidden[1]), g.factors[2, way], g.biases[2, way])


@jit_inner()
def _layer(weight: Ints, factors: Ints, biases: Ints, x: Ints, out: Ints) -> None:
    for k in range(weight.shape[0]):
        out[k] = min(max(_scaled(_product(weight[k], x), factors[k], biases[k]), 0), TOP)


@jit_inner()
def _product(row: Ints, x: Ints) -> int:
    total = np.int32(0)
    for i in range(len(row)):
        total += np.int32(row[i]) * np.int32(x[i])
    return I64(total)


@jit_inner()
def _scaled(total: int, factor: int, bias: int) -> int:
    return (total * factor + (1 << FACTOR_BITS - 1) >> FACTOR_BITS) + bias


# ------------------------------------------------------------------ inputs


@jit_inner()
def octaves(x: float, per: int) -> int:
    """About per * log2(1 + x) of x >= 0: straight between powers of two, in whole numbers, the same everywhere."""
    n = I64(min(x, 1e12) * 16.0) + 16
    k = I64(0)
    while n >> (k + 1):
        k += 1
    return per * (k - 4) + ((n - (I64(1) << k)) * per >> k)


@jit_inner()
def _clamped(value: int) -> int:
    return min(max(value, -TOP), TOP)


@jit_inner()
def see_square(
    field: BlockMap, x0: int, y0: int, log2: int, step: int, lam: float, j: float, mode: int, total: int, m: Ints,
    w: Scratch,
) -> None:  # fmt: skip
    """Inputs of a square of 8 to 64 px, the likeliest prediction of which has been coded.

    step: Q4, of whole steps.   j, mode, total: J, mode and sum of levels, -1 for none, of its best coding so far.
    """
    x, k, h, s = w.gate.inputs, w.drafts[0], HALF_CONTEXT, log2 - 2
    ux, uy = x0 >> 2, y0 >> 2
    _, _, a, b = neighbours(field, ux, uy)
    drawn, kind, per_bit, per_root = drawn_near(field, ux, uy), KIND[mode], 1.0 / lam, 1.0 / np.sqrt(lam)
    for i in range(4):
        x[i] = 64 if log2 == 3 + i else 0
    x[4] = _clamped(octaves(np.float64(step), 8) - 96)
    bits, draft = octaves(j * per_bit, 8), octaves(w.draft_costs[0] * per_bit, 8)
    x[5], x[6], x[7] = _clamped(bits), _clamped(octaves(w.energies[k] * per_bit, 8)), _clamped(draft)
    x[8] = _clamped(8 * (bits - draft))
    x[9], x[11], x[12] = TOP, TOP, TOP
    if len(w.drafts) > 1 and w.drafts[1] >= 0:
        x[9] = _clamped(octaves(w.draft_costs[1] * per_bit, 32) - octaves(w.draft_costs[0] * per_bit, 32))
    least = octaves(w.costs[0] * per_root, 32)
    x[10] = _clamped(least >> 2)
    for i in range(1, 3):
        if i < len(w.rank) and w.rank[i] >= 0:
            x[10 + i] = _clamped(octaves(w.costs[i] * per_root, 32) - least)
    x[13] = _clamped(octaves(np.float64(max(total, 0)), 12))
    x[14] = 64 if total >= 0 else 0
    x[15], x[16], x[17] = 64 * (mode == ZERO), 64 * (mode == MEAN), 64 * (mode == PLANAR)
    angle = ZERO < mode < MODES and mode != MEAN and mode != PLANAR
    x[18] = 64 if angle else 0
    x[19] = max(0, 64 - 16 * abs(mode - HORIZONTAL)) if angle else 0
    x[20] = max(0, 64 - 16 * abs(mode - VERTICAL)) if angle else 0
    x[21], x[22], x[23] = _clamped(16 * a), _clamped(16 * b), _clamped(32 * drawn)
    x[24] = _clamped(24 * (I64(field.size[uy, ux - 1]) - log2)) if ux > 0 else 0
    x[25] = _clamped(24 * (I64(field.size[uy - 1, ux]) - log2)) if uy > 0 else 0
    c0, c1 = split_contexts(field, ux, uy, log2)
    p = chance(m, c0, c1, h, h, W_SPLIT)
    x[26] = _clamped(16 * (bit_cost(p, 1) - bit_cost(p, 0)) // COST_ONE)
    x[27], x[28] = 0, 0
    if log2 <= MOST_CUT:
        prices = w.cut_prices[0]
        price_cuts(m, field, ux, uy, log2, prices)
        x[27] = _clamped(16 * (prices[ROWS] - prices[WHOLE]) // COST_ONE)
        x[28] = _clamped(16 * (prices[COLUMNS] - prices[WHOLE]) // COST_ONE)
    more = price_more(m, 1, 0, s, drawn, kind, a + b, mode) - price_more(m, 0, 0, s, drawn, kind, a + b, mode)
    x[29], x[30], x[31] = _clamped(16 * more // COST_ONE), 0, 0
    first, per_step = FIRST_PLACE[s], 4.0 / step
    for f in range(FREQUENCIES):
        value = abs(np.float64(w.coefs[k, PLACE[first + f, 1], PLACE[first + f, 0]]))
        x[PLAIN + f] = _clamped(octaves(value * per_step, 16))
    _see_boxes(log2, per_bit, per_root, w)


@jit_inner()
def _see_boxes(log2: int, per_bit: float, per_root: float, w: Scratch) -> None:
    x, box = w.gate.inputs, 1 << log2 - 2
    share, at = 1.0 / (box * box), I64(PLAIN + FREQUENCIES)
    for i in range(BOXES):
        y, u = (i >> 2) * box, (i & 3) * box
        total, squares = F32(0.0), F32(0.0)
        for v in range(y, y + box):
            for t in range(u, u + box):
                value = w.goal[v, t]
                total += value
                squares += value * value
        left = max(0.0, np.float64(squares) - np.float64(total) * np.float64(total) * share)
        x[at + i] = _clamped(octaves(left * per_bit, 8))
        mean = abs(np.float64(w.screen.quarters[i])) * (0.25 * box)
        x[at + BOXES + i] = _clamped(octaves(mean * per_root, 10)) if i else 0
