"""Hooks that need no weights: rules from a tile's structure to generators worth trying.

Every rule is a score in about 0..1 that a reader can check against `Structure`, to which comes how often a generator
is chosen at all; a tile keeps the generators with the `topk` highest.  Scores are compared as multiples of 1/256, the
lower generator id first among equals, so a choice depends neither on the batch nor on the device.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pc15.errors import ConfigError
from pc15.hooks.base import NoOpinion
from pc15.hooks.features import Structure, structure
from pc15.hooks.protocol import LayerView
from pc15.hooks.squares import ALL_WAYS, COLUMNS, PARTS, PATTERNS, ROWS, SIDES, SquareChoice, SquareView
from pc15.proc.generators import NAMES

__all__ = ["HeuristicHooks", "checked_topk", "family_scores", "top_generators"]


BUSY = {32: 400.0, 64: 400.0}
"""Squares whose error about their mean is worth more bits hold much, by their side."""
STEEPER, CALM = 1.5, 10.0
"""A square that changes so much more down than across is not cut into a left and a right half, and vice versa;
of one that holds no more bits nothing need be said."""
TRIES = 3
"""Predictions of a square that are coded in full."""


class HeuristicHooks(NoOpinion):
    """Hooks without weights: generators by rules over the residual's structure; squares by what is in them.

    Everything else is left to the search.

    Args:
        topk: generators kept per tile and layer, 1 or more.
    Raises:
        ConfigError: topk below 1.
    """

    def __init__(self, topk: int = 8) -> None:
        self.topk = checked_topk(topk)

    def select(self, view: LayerView) -> Tensor:
        """The `topk` generators whose rules fit best, [n,G] bool."""
        scores = family_scores(structure(view.residual))
        return top_generators(scores, self.topk, view.candidates.start)

    def squares(self, view: SquareView) -> SquareChoice | None:
        """Few predictions; no halves across a slope; neither patterns nor parts in large squares that hold much: these
        are cut in four in any case."""
        ways = {}
        for side in SIDES:
            held, (down, across) = view.energies(side), view.slopes(side)
            own = ways[side] = np.full(held.shape, ALL_WAYS, np.uint8)
            own[held > BUSY.get(side, np.inf)] &= ALL_WAYS & ~(PATTERNS | PARTS)
            own[(held > CALM) & (down > STEEPER * across)] &= ALL_WAYS & ~COLUMNS
            own[(held > CALM) & (across > STEEPER * down)] &= ALL_WAYS & ~ROWS
        if all((own == ALL_WAYS).all() for own in ways.values()):
            return None
        return SquareChoice(ways=ways, tries=TRIES, about={"name": "heuristic"})

    def describe(self) -> dict[str, Any]:
        """Name and version: there are no weights to name."""
        return {"name": "heuristic", "version": "1"}


def checked_topk(topk: int) -> int:
    """topk, if it is a whole number of at least 1."""
    if isinstance(topk, bool) or not isinstance(topk, numbers.Integral) or topk < 1:
        raise ConfigError(f"topk is {topk!r}; give a whole number from 1 to {len(NAMES)}")
    return int(topk)


def top_generators(scores: Tensor, topk: int, start: tuple[int, ...] | list[int]) -> Tensor:
    """The `topk` best generators of each tile that have candidates at all, [n,G] bool.

    Args:
        scores: [n,G], compared as multiples of 1/256; ties go to the lower id.
        start: `Bank.start`: generator g has rows start[g]:start[g+1].
    """
    gens = scores.shape[1]
    rank = (scores.to(torch.float64).clamp(-1e6, 1e6) * 256.0).round().to(torch.int64) * gens
    rank = rank + torch.arange(gens - 1, -1, -1, device=scores.device)
    bounds = torch.tensor(list(start), device=scores.device)
    present = bounds[1:] > bounds[:-1]
    rank = torch.where(present, rank, torch.iinfo(torch.int64).min)
    kept = rank.topk(min(topk, gens), dim=1).indices
    chosen = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device).scatter_(1, kept, True)
    return chosen & present


# ---------------------------------------------------------------- the rules

Rule = Callable[[Structure], Tensor]


def _rises(value: Tensor, low: float, high: float) -> Tensor:
    """0 below `low`, 1 above `high`, straight between (falls if low > high)."""
    return ((value - low) / (high - low)).clamp(0.0, 1.0)


def _around(value: Tensor, middle: float, width: float) -> Tensor:
    """1 at `middle`, 0 from `width` away on."""
    return (1.0 - (value - middle).abs() / width).clamp(0.0, 1.0)


def _ramp(s: Structure) -> Tensor:
    """Shading: a plane explains most of it."""
    return 0.35 + 0.75 * s.plane


def _edge(s: Structure) -> Tensor:
    """One direction, gradients gathered on a line, most energy at low frequency."""
    return 0.55 + 0.35 * s.coherence + 0.2 * s.sparse + 0.25 * s.plane - 0.3 * _rises(s.freq, 3.0, 8.0)


def _line(s: Structure) -> Tensor:
    """One direction, but the two sides are alike: little of it is a plane, values are peaked."""
    return 0.45 + 0.35 * s.coherence + 0.2 * s.sparse + 0.15 * _rises(s.kurtosis, 2.5, 6.0) - 0.3 * s.plane


def _spot(s: Structure) -> Tensor:
    """Energy in one place, no direction, one sign."""
    return 0.35 + 0.5 * s.locality + 0.2 * (1 - s.coherence) + 0.15 * _rises(s.skew.abs(), 0.5, 2.0)


def _blob(s: Structure) -> Tensor:
    """A soft lump anywhere: low frequency, no need for symmetry."""
    return 0.55 + 0.3 * s.locality + 0.25 * s.low + 0.1 * (1 - s.coherence) - 0.2 * s.plane


def _atom(s: Structure) -> Tensor:
    """A few cycles in one place: direction and locality, some frequency."""
    return 0.5 + 0.25 * s.coherence + 0.35 * s.locality + 0.15 * _rises(s.freq, 1.5, 4.0)


def _corner(s: Structure) -> Tensor:
    """Two directions, flat areas, low frequency."""
    return 0.4 + 0.3 * s.crossed * s.low + 0.2 * s.two_valued + 0.1 * s.plane


def _wave(s: Structure) -> Tensor:
    """One sharp spectral peak, one direction."""
    return 0.5 + 0.45 * s.peak * _rises(s.freq, 0.9, 1.6) + 0.25 * s.coherence


def _stripes(s: Structure) -> Tensor:
    """A wave with hard sides: two-valued."""
    return 0.3 + 0.55 * s.peak * s.coherence * _rises(s.freq, 1.2, 2.5) + 0.2 * s.two_valued * s.coherence


def _bent_wave(s: Structure) -> Tensor:
    """A wave whose direction drifts: a ring of frequencies, half a direction."""
    return 0.25 + 0.4 * s.ring * _around(s.coherence, 0.5, 0.5)


def _rings(s: Structure) -> Tensor:
    """All directions alike, one radius in the spectrum."""
    return 0.1 + 0.7 * (s.ring - s.peak).clamp(min=0.0) * (1 - s.coherence) * _rises(s.freq, 1.2, 2.5)


def _bowl(s: Structure) -> Tensor:
    """A centred bowl explains most of it."""
    return 0.3 + 0.8 * s.radial


def _around_centre(s: Structure) -> Tensor:
    """Spokes and spirals: no direction, low frequency, energy on both sides of the middle."""
    return 0.15 + 0.3 * (1 - s.coherence) * s.low + 0.2 * s.spread


def _lattice(s: Structure) -> Tensor:
    """Two sharp peaks at an angle."""
    pair = torch.minimum(s.peak, s.second) * 2.0
    return 0.1 + 0.7 * pair.clamp(max=1.0) * _rises(s.crossed, 0.3, 0.8)


def _checker(s: Structure) -> Tensor:
    """A lattice of two values."""
    return _lattice(s) + 0.15 * s.two_valued


def _brick(s: Structure) -> Tensor:
    """A lattice with one direction stronger, thin joints."""
    return 0.05 + 0.8 * (_lattice(s) - 0.1) + 0.15 * s.sparse * s.crossed


def _dots(s: Structure) -> Tensor:
    """A lattice of spots: one sign, peaked values."""
    return _lattice(s) + 0.15 * _rises(s.skew.abs(), 0.4, 1.5)


def _smooth_noise(s: Structure) -> Tensor:
    """No direction, low frequencies, bell-shaped values."""
    return 0.3 + 0.25 * (1 - s.coherence) + 0.25 * s.low + 0.1 * _around(s.kurtosis, 2.8, 2.0)


def _fine_noise(s: Structure) -> Tensor:
    """No direction, high frequencies, bell-shaped values."""
    return 0.15 + 0.3 * (1 - s.coherence) * s.spread + 0.4 * s.high + 0.1 * _around(s.kurtosis, 3.0, 1.5)


def _cells(s: Structure) -> Tensor:
    """No direction, thin dark or light borders: skewed values, a ring in the spectrum."""
    return 0.2 + 0.2 * (1 - s.coherence) + 0.2 * _rises(s.skew.abs(), 0.3, 1.5) + 0.15 * s.ring


def _stars(s: Structure) -> Tensor:
    """Lone points on a flat ground."""
    return 0.05 + 0.6 * _rises(s.kurtosis, 5.0, 15.0) * s.sparse


def _veins(s: Structure) -> Tensor:
    """Bands that wander: half a direction, low frequency, ring."""
    return 0.15 + 0.25 * _around(s.coherence, 0.4, 0.4) + 0.2 * s.ring


def _mirrored(s: Structure) -> Tensor:
    """Figures with several axes: no direction, little in the mean."""
    return 0.1 + 0.2 * s.spread * (1 - s.plane) * s.crossed


_RULES: dict[Rule, tuple[str, ...]] = {
    _ramp: ("GRADIENT_LINEAR",),
    _edge: ("EDGE",),
    _line: ("LINE",),
    _spot: ("SPOT", "GAUSSIAN_SPOTS"),
    _blob: ("BLOB",),
    _atom: ("GABOR_ATOM", "GABOR"),
    _corner: ("CORNER",),
    _wave: ("WAVES_DIR",),
    _stripes: ("STRIPES", "STRIPES_MULTISCALE"),
    _bent_wave: ("WAVES_BEND", "WOOD", "MOIRE"),
    _rings: ("RINGS", "RIPPLE", "WAVES_CIRC", "CONCENTRIC_SQUARES"),
    _bowl: ("GRADIENT_RADIAL",),
    _around_centre: ("ANGLE_GRADIENT", "SUNBURST", "SPIRAL", "SWIRL", "SPIRAL_SQUARE", "POLAR_CHECKER"),
    _lattice: ("PLAID", "LATTICE", "DIAMOND_GRID", "TRI_TILING", "HEX_GRID", "WEAVE", "HERRINGBONE"),
    _checker: ("CHECKER", "CHECKER_DISTORTED"),
    _brick: ("BRICK", "BRICK_NOISE"),
    _dots: ("DOTS",),
    _smooth_noise: ("PERLIN", "VALUE_NOISE", "COMPOSITE", "ISOBANDS"),
    _fine_noise: ("GABOR_NOISE", "TURBULENCE", "FBM_RIDGED", "GABOR_BANK"),
    _cells: ("WORLEY", "VORONOI_CELLS", "VORONOI_EDGES", "PEBBLES"),
    _stars: ("STARFIELD",),
    _veins: ("MARBLE",),
    _mirrored: ("KALEIDOSCOPE",),
}


_USUAL: dict[str, int] = {
    "GABOR_ATOM": 329, "LINE": 92, "BLOB": 63, "WAVES_DIR": 40, "CORNER": 40, "EDGE": 27, "STRIPES": 26,
    "GABOR_NOISE": 21, "COMPOSITE": 19, "WAVES_CIRC": 15, "MOIRE": 14, "WAVES_BEND": 13, "STRIPES_MULTISCALE": 13,
    "SPOT": 13, "RINGS": 12, "WOOD": 11, "SWIRL": 11, "GABOR": 11, "RIPPLE": 10, "BRICK": 10, "VALUE_NOISE": 10,
}  # fmt: skip
"""Layers in 1000 that exhaustive search gave to each generator, 23 photographs and textures; others about 6."""
_USUAL_REST = 6
_USUAL_WEIGHT = 0.1
"""Gain in score of a generator that is chosen twice as often; 0.05 to 0.3 measured alike."""


def family_scores(seen: Structure) -> Tensor:
    """Score of every generator for every tile, [n,G] float64, higher is worth trying first.

    A rule's score, and what is usual: on photographs a few generators win most layers whatever the tile looks like.
    """
    scores = {rule: rule(seen) for rule in _RULES}
    columns = {name: scores[rule] for rule, names in _RULES.items() for name in names}
    usual = [_USUAL_WEIGHT * math.log2(_USUAL.get(name, _USUAL_REST) / 10.0) for name in NAMES]
    return torch.stack([columns[name] + shift for name, shift in zip(NAMES, usual, strict=True)], dim=1)
