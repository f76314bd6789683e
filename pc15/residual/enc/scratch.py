"""Work space of the encoder's search of a plane, and which of its means it may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError
from pc15.residual.contexts import MAX_LAYERS
from pc15.residual.cross import ALL_MODES
from pc15.residual.enc.gate import INPUTS, Gate
from pc15.residual.enc.level_prices import ENTRIES
from pc15.residual.enc.mode_screen import Screen, screen
from pc15.residual.enc.pattern_search import FEATURES, Finder, make_finder
from pc15.residual.enc.trellis import Paths, paths
from pc15.residual.intra import ZERO
from pc15.residual.patterns import Patterns
from pc15.residual.syntax import RIM

Ints = npt.NDArray[Any]

THOROUGH = 6
"""From as many tries on, all that promise something are coded in full."""
DRAWN_MODES, FINE_MODES, FINE_STEP = 4, 2, 20000
"""Predictions per square that patterns are tried with: the first, and the second at steps below the third, Q4, where
patterns gain a fifth of what they gain at coarse ones."""
NO_LIMIT = 1 << 40
CUT_BITS = NO_LIMIT, 600, 240
"""Bits per square of 8, 16, 32 px, error included, above which it is not cut into parts but split in four, unless the
search is thorough: 0.1 % of J for a fifth of the time."""
LIKELY = 4
"""More modes than are drafted are compared at 8x8 boxes."""


class Scratch(NamedTuple):
    """Work space of one encoder, reused for every block."""

    goal: Ints  # [64,64] float32, the residual wanted
    diff: Ints  # and what a prediction leaves of it
    mid: Ints
    sums: Ints  # [64] float32
    coefs: Ints  # [tries+1,32,32] of each draft,
    energies: Ints  # and its squared error without levels
    around: Ints
    level: Ints
    trail: Ints  # [2,1024] float64
    price: Ints  # [ALL_MODES] bits of the modes, in 1/4096
    angles: Ints  # [32] and of a mode that is not probable
    last: Ints  # [12,4] and of the last place, by length class and two bits
    screen: Screen
    likely: Ints  # [tries+1+LIKELY] the most promising modes at 4x4 boxes,
    likely_costs: Ints
    rank: Ints  # [tries+1] in the end,
    costs: Ints
    drafts: Ints  # [tries] and places in `rank`, by what is drafted
    draft_costs: Ints
    barred: Ints  # [ALL_MODES] 1: not to be tried; this and `means` are the study's, see `Parts`
    means: Ints  # [9] log2 of smallest and largest square, levels by rate?, layers, modes, thorough?, then CUT_BITS
    at: Ints  # [8,6] per size: x, y, next part, mode, sum of levels (-1: none), layers; 0 a part: further tries?
    js: Ints  # [8,3] per size: J whole, J cut, bound; 0 J of a part by its likeliest prediction, 1 what others save
    best_level: Ints  # [9,64,64] likewise; 0, 7 and 8 are those of parts, see `leaf`
    paths: Paths
    level_prices: Ints  # [ENTRIES] int32, see `level_prices`
    finder: Finder
    gate: Gate
    record: Ints  # [n, RECORD] float32 of squares of 8 to 64 px, for training; [0, RECORD] in encoders
    cut_prices: Ints  # [2,3] of first cuts, and of cutting a half again
    cuts: Ints  # [9,9] per size, as in best_level: how it is cut, then mode and sum of levels of each part
    recorded: Ints  # [8] int64: rows written, then per size - 2 the row of the square at hand, -1 for none


@dataclass(frozen=True)
class Parts:
    """Which of its means the encoder may use: all of them, but where their worth is studied.

    modes: predictions, see `intra` and `cross`; ZERO is always one.   smallest, largest: sides of squares, 4 to 64, px.
    by_rate: levels chosen by error and bits; else rounded, up from 2/3 of a step.
    layers: most patterns per square.   thorough: every pattern that promises something is coded in full, as from
        THOROUGH tries on.
    """

    modes: tuple[int, ...] = tuple(range(ALL_MODES))
    smallest: int = 4
    largest: int = 64
    by_rate: bool = True
    layers: int = 2
    thorough: bool = False

    def __post_init__(self) -> None:
        if not {self.smallest, self.largest} <= {4, 8, 16, 32, 64} or self.smallest > self.largest:
            raise ConfigError(f"squares from {self.smallest} to {self.largest} px; choose two of 4, 8, 16, 32, 64")
        if not set(self.modes) <= set(range(ALL_MODES)):
            raise ConfigError(f"modes are {self.modes}; choose among 0 to {ALL_MODES - 1}")
        if not 0 <= self.layers <= MAX_LAYERS:
            raise ConfigError(f"layers is {self.layers}; choose 0 to {MAX_LAYERS}")


ALL_PARTS = Parts()


NOTED_TRIES = 32
"""Patterns of a square that a record has room for."""
LEFT = 6
"""Column of a record from which on there is what was left, in steps, at the features."""
PLACED = LEFT + FEATURES
"""Column from which on there are x, y, J without patterns, and how many of these were coded in full."""
TRIED = PLACED + 4
"""Column from which on there are entry, layer and J of each, as far as there is room."""
SEEN = TRIED + 3 * NOTED_TRIES
"""Column from which on there are the inputs of a gate, see `gate`,"""
FIRST = SEEN + INPUTS
"""the one of J with the likeliest prediction alone,"""
CUTS = FIRST + 1
"""from which on, for rows and for columns, there are J of a cut once and of the best one, halves cut again or not, 0
where that is not near the best; then what further predictions of the best parts save."""
RECORD = CUTS + 5
"""Columns of a record: log2 size, lambda, step, J whole, J cut or -1, J as the square is tried alone; then as above."""


def scratch(
    tries: int, parts: Parts, tools: int, step: int, patterns: Patterns, gate: Gate, record: Ints | None = None
) -> Scratch:
    """Fresh work space; step: Q4, of whole steps."""
    i32, i64, f32 = np.int32, np.int64, np.float32
    square = (64, 64)
    drafted = tries + 1
    barred = np.ones(ALL_MODES, i64)
    barred[[ZERO, *parts.modes]] = 0
    sides = parts.smallest.bit_length() - 1, parts.largest.bit_length() - 1
    modes = 1 if tries == 1 else DRAWN_MODES if step >= FINE_STEP else FINE_MODES  # one try: of patterns, too
    thorough = parts.thorough or tries >= THOROUGH
    limits = [NO_LIMIT if thorough else bits for bits in CUT_BITS]
    means = np.array([*sides, parts.by_rate, parts.layers, modes, thorough, *limits], i64)
    return Scratch(
        goal=np.zeros(square, f32), diff=np.zeros(square, f32), mid=np.zeros((32, 64), f32), sums=np.zeros(64, f32),
        coefs=np.zeros((drafted, 32, 32), i32), energies=np.zeros(drafted), around=np.zeros(38 * RIM, i32),
        level=np.zeros(square, i32), trail=np.zeros((2, 1024)), price=np.zeros(ALL_MODES, i64),
        angles=np.zeros(32, i64), last=np.zeros((12, 4), i64), screen=screen(tools),
        likely=np.zeros(drafted + LIKELY, i64), likely_costs=np.zeros(drafted + LIKELY),
        rank=np.zeros(drafted, i64), costs=np.zeros(drafted), drafts=np.zeros(tries, i64), draft_costs=np.zeros(tries),
        barred=barred, means=means,
        at=np.zeros((8, 6), i64), js=np.zeros((8, 3)), best_level=np.zeros((9, 64, 64), i32), paths=paths(),
        level_prices=np.zeros(ENTRIES, i32),
        finder=make_finder(patterns, tries), gate=gate, record=np.zeros((0, RECORD), f32) if record is None else record,
        recorded=np.zeros(8, i64), cut_prices=np.zeros((2, 3), i64), cuts=np.zeros((9, 9), i64),
    )  # fmt: skip
