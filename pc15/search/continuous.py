"""One pattern for a whole large tile, to the finest sub-level: what screening at 32 px cannot see.

A bank of whole levels, scored at low resolution, misses a fine wave altogether: between two of its frequencies the
picture and the pattern fall out of step within the tile.  So for planes of few tiles

    analysis    waves, centres and arms of the picture (`analysis`)
    starts      points that the analysis suggests, and the bank's best rows of every generator (`starts`)
    climbing    every start goes uphill, first at low resolution, the best then at higher ones (`climb`)
    addressing  the sub-levels found become the cheapest entry and offsets

This module is the policy: how many start, how long they climb, and when a pair of layers is looked for.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_PARAMS
from pc15.grids import TileSpec
from pc15.proc.codebook import Codebook
from pc15.proc.generators import NAMES
from pc15.proc.spec import FINE_ABOVE
from pc15.search.analysis import COARSE_SIDE, resolution, spectrum_peaks, turning
from pc15.search.candidates import Layers
from pc15.search.climb import Climber, States, leading
from pc15.search.score import Scorer
from pc15.search.view import View, view_of

FEW_TILES = 4
"""Planes of more tiles keep to the bank: a tile costs about two seconds here."""

PAYS_BITS = 128
"""A tile whose whole distortion is worth less than so many bits is left to the bank."""

LAST = 3
"""Generators that climb on at higher resolutions, and are proposed: exact scores with bits choose among them, and
each costs a climb at every resolution."""

_SPECTRUM_SIDE = 256
"""Boxes a side that the spectrum is taken at, and the highest resolution of a search: `polish` does the rest."""

_CLIMBERS = 26
"""Starts that climb a little: a good one may begin behind weak ones, and each costs _ROUNDS rounds."""

_ROUNDS = 3
"""Rounds of these first climbs: enough to tell which go on rising."""

_FINALISTS = 9
"""The best of them, at most two of a generator, that climb to the top of the first resolution: the costly part."""

_LONG = 12
"""Rounds of a climb that is to come to its end: a limit on its time, as it stops where the smallest step fails."""

_EXPLAINED = 0.995
"""Share of a tile that one layer draws, below which pairs are compared: that searches a second layer for each of the
firsts."""

_PAIR_WINS = 1.005
"""A pair must draw this much more, so that its first layer is taken though another draws more alone: a second layer
costs bits, and a first that draws less alone is a loss if no second follows."""

_SUMMANDS = ("STRIPES", "WAVES_DIR")
"""Generators that pairs are mostly made of: each draws too little to lead alone, and is carried on for that."""

_SECONDS = 384
"""Starts of a second layer where the first is known: far fewer than a search's, as several firsts are tried."""

_LEFT = 0.03
"""Share that detected layers may leave at first for nothing else to be looked for: a smaller one would start
whole searches for what climbing on at higher resolutions may still take."""

_LEAST_LEFT = 0.01
"""The same in the end; where more is left, the whole search runs after all."""

_NOISE = 0.0625
"""Share of what is left that the best layer of a small picture draws, below which it has no more patterns: the layers
after it are only what makes up noise, and the bank's starts do for them."""

_SMALL = 64 * 60
"""Pixels of such a picture: larger ones may have a pattern in a part of them, which draws little of the whole."""

_NO_PATTERN = 0.12
"""Share left at first that says there is no pattern: then the detected layers will do, for what little they draw."""


def searched_off_grid(grid: TileSpec) -> bool:
    """Tell if there are so few tiles, and so large, that each is searched beyond the bank."""
    return grid.cfg.size > FINE_ABOVE and grid.count <= FEW_TILES


class ContinuousSearch(Climber):
    """Searches single tiles of a plane for the pattern that draws most of what is left of them."""

    def __init__(self, scorer: Scorer, codebook: Codebook, detected: Sequence[Sequence[States]] = ()) -> None:
        """Prepare a search; `detected` are states of each layer of the plane's only tile, best first, tried first."""
        super().__init__(scorer.bank, codebook, scorer.costs.fine, scorer.cfg.seed)
        self.scorer, self.detected = scorer, [states[0] for states in detected]
        self._rivals = list(detected[0][1:]) if len(detected) == 1 else []  # of its layer
        self._settled = False  # the detected layers have been taken, confirmed or not
        self.confirmed = False  # the detected layers leave next to nothing
        self._noise = set[int]()  # classes of tiles of small pictures whose last layer drew hardly anything
        self._summands = [NAMES.index(name) for name in _SUMMANDS]

    # ------------------------------------------------------------ the whole way

    def propose(self, e: Tensor, cls: Tensor, layer: int) -> tuple[Layers, Tensor]:
        """The best layer of each tile by squared error and runners-up of other generators.

        Args:
            e: [n,T,T] int32 Q12 residual.   cls: [n] class of each tile.
        Returns:
            Layers [n * LAST], best first; [n] bool, true where the best is so as the first of two layers.
        """
        found = [self._search(e[i], cls[i : i + 1], layer) for i in range(len(e))]
        pairs = torch.tensor([pair for _, pair in found], device=e.device)
        return Layers.joined([part for layers, _ in found for part in layers]), pairs

    def screen(self, e: Tensor, cls: Tensor, keep: int) -> Tensor:
        """The bank rows that draw most of each tile by squared error, [n, keep]; -1 where there are fewer."""
        found = [self.rows(self._view(e[i], cls[i : i + 1], self.bank.side))[:keep] for i in range(len(e))]
        return torch.stack([torch.nn.functional.pad(rows, (0, keep - len(rows)), value=-1) for rows in found])

    def polish(self, layers: Layers, e: Tensor, cls: Tensor) -> Layers:
        """Climb on from where the layers [n] are, at full resolution."""
        found = []
        for i in range(len(e)):
            gen = int(layers.gen[i])
            steps = self.codebook.levels(gen, layers.qv[i : i + 1], layers.offsets[i : i + 1], self.fine).long()
            view = self._view(e[i], cls[i : i + 1], self.scorer.tile)
            states = self._scored(view, gen, steps, layers.seed[i : i + 1])
            found.append(self._address(self.climb(view, states, 2, 4)))
        return Layers.joined(found)

    def _view(self, e: Tensor, cls: Tensor, side: int) -> View:
        windows = self.scorer.windows
        return view_of(
            windows.linear_weight[cls][0].to(torch.int64) * e, windows.power_weight[cls][0].to(torch.int64), side
        )

    def _climbed_detected(self, e: Tensor, cls: Tensor, layer: int) -> States | None:
        """The detected state of a layer, climbed to the top; None where another search may find more.

        That is where it leaves, with those after it, neither next to nothing nor so much that there is no pattern.
        The detected states from this layer on become the climbed ones.
        """
        if len(self.detected) > 2:
            return self._climbed_summand(e, cls, layer)
        states, one = self.detected[layer:], 1 << self.fine
        side, no_pattern = COARSE_SIDE, False
        while states:
            view = rest = self._view(e, cls, side)
            coarse = side == COARSE_SIDE
            step, least = (one // 2, max(1, self.scorer.tile // (8 * side))) if coarse else (max(1, one // 8), 1)
            climbed = []
            for state in states:
                climbed.append(self.climb(rest, self.again(rest, [state])[0], step, _LONG, least))
                rest = self.without(rest, climbed[-1])
            if coarse and layer == 0 and rest.energy > _LEFT * view.energy:
                climbed, rest = self._two(view, climbed[0])
            last = side >= min(_SPECTRUM_SIDE, self.scorer.tile)
            no_pattern = no_pattern or (coarse and rest.energy > _NO_PATTERN * view.energy)
            if not no_pattern and rest.energy > (_LEAST_LEFT if last else _LEFT) * view.energy:
                return None
            states = climbed
            if last:
                self.detected[layer:], self._settled = states, True
                self.confirmed = self.confirmed or not no_pattern
                return states[0]
            side *= 2
        return None

    def _climbed_summand(self, e: Tensor, cls: Tensor, layer: int) -> States | None:
        """The detected state of a layer of many; all are climbed before the first, each in what the others leave."""
        if layer >= len(self.detected):
            return None
        if not self._settled:
            step, least = max(1, (1 << self.fine) // 8), 1
            for side in sorted({min(size, self.scorer.tile) for size in (_SPECTRUM_SIDE, 2 * _SPECTRUM_SIDE)}):
                view = self._view(e, cls, side)
                for at in range(len(self.detected)):
                    rest = view
                    for other in (*self.detected[:at], *self.detected[at + 1 :]):
                        rest = self.without(rest, self.again(rest, [other])[0])
                    self.detected[at] = self.climb(rest, self.again(rest, [self.detected[at]])[0], step, _LONG, least)
            self._settled, self.confirmed = True, True
        return self.detected[layer]

    def _rivalling(self, e: Tensor, cls: Tensor, layer: int) -> list[States]:
        """Other generators' answers to a plane that is one layer: a blurred edge may cost hardly any squared error."""
        if layer or len(self.detected) > 1:
            return []
        states, one = self._rivals[: LAST - 1], 1 << self.fine
        for side, step, rounds in ((2 * COARSE_SIDE, one // 2, _LONG), (_SPECTRUM_SIDE, max(1, one // 8), 4)):
            view = self._view(e, cls, min(side, self.scorer.tile))
            states = [self.climb(view, s, step, rounds, 1) for s in self.again(view, states)]
        return states

    def _two(self, view: View, first: States) -> tuple[list[States], View]:
        """Two layers, of the kind that pairs are made of unless the first is given, and what they leave of a view."""
        one = 1 << self.fine

        def best(of: View, count: int) -> list[States]:
            states = self.starting(of, spectrum_peaks(of), {}, only=self._summands, most=_SECONDS)
            return [self.climb(of, s, one, _LONG, 2) for s in leading(states, count, each=1)]

        found = []
        for state in (first, *best(view, 2)):
            rest = self.without(view, state)
            for second in leading(best(rest, 2), 1):
                found.append(([state, second], self.without(rest, second)))
        return min(found, key=lambda pair: pair[1].energy) if found else ([first], self.without(view, first))

    def _more(self, e: Tensor, cls: Tensor) -> list[Layers]:
        """Candidates for what detected layers leave: mostly these layers again, with other edges."""
        side = 2 * COARSE_SIDE
        view, small = self._view(e, cls, side), self._view(e, cls, self.bank.side)
        states = leading(self.starting(view, (), self.entries(self.rows(small), LAST), most=0), LAST, each=1)
        states = [*self.again(view, self.detected), *states]
        climbed = leading([self.climb(view, s, 1 << self.fine, _LONG, 1) for s in states], LAST)
        return [self._address(climbed[min(i, len(climbed) - 1)]) for i in range(LAST)]

    def _search(self, e: Tensor, cls: Tensor, layer: int) -> tuple[list[Layers], bool]:
        if (climbed := self._climbed_detected(e, cls, layer)) is not None:
            states = [climbed, *self._rivalling(e, cls, layer)]
            return [self._address(states[min(i, len(states) - 1)]) for i in range(LAST)], len(states) == 1
        if int(cls[0]) in self._noise or (self._settled and layer >= len(self.detected)):
            return self._more(e, cls), False
        peaks = spectrum_peaks(self._view(e, cls, _SPECTRUM_SIDE))
        side, slow = resolution(peaks)
        view = self._view(e, cls, side)
        rough = self._view(e, cls, side // 2) if slow else view
        small = self._view(e, cls, self.bank.side)
        states = self.starting(rough, peaks, self.entries(self.rows(small)), turning(small))
        states = self.again(view, leading(states, _CLIMBERS))
        one, least = 1 << self.fine, max(1, self.scorer.tile // (8 * side))  # an eighth of a pixel of this resolution
        states = [self.climb(view, s, one, _ROUNDS, least) for s in states]
        waves = [s for s in leading(states, len(states)) if NAMES[s.gen] in _SUMMANDS][:1]
        states = [self.climb(view, s, one // 2, _LONG, least) for s in leading(states, _FINALISTS, each=2)]
        states = leading(states, LAST, each=1)
        pair = False
        if layer == 0 and states and float(states[0].gain) < _EXPLAINED * view.energy:
            states, pair = self._first_of_two(rough, [*states, *waves])
        while side < min(_SPECTRUM_SIDE, self.scorer.tile):
            side *= 2
            view = self._view(e, cls, side)
            states = [self.climb(view, s, max(1, one // 8), 4) for s in self.again(view, states)]
        states = states if pair else leading(states, LAST)
        pixels = int((self.scorer.windows.power_weight[cls][0] > 0).sum())
        if pixels <= _SMALL and float(states[0].gain) < _NOISE * view.energy:
            self._noise.add(int(cls[0]))
        return [self._address(states[min(i, len(states) - 1)]) for i in range(LAST)], pair

    def _first_of_two(self, view: View, states: list[States]) -> tuple[list[States], bool]:
        """Put the state first that draws most together with a second layer, and tell if that changes the order."""
        both = []
        for state in self.again(view, states):
            rest = self.without(view, state)
            second = self.starting(rest, spectrum_peaks(rest), {})
            climbed = [self.climb(rest, s, 1 << self.fine, _ROUNDS, 2) for s in leading(second, 2)]
            both.append(float(state.gain) + max((float(s.gain) for s in climbed), default=0.0))
        best = max(range(len(both)), key=lambda i: (both[i], -i))
        if best == 0 or both[best] < _PAIR_WINS * both[0]:
            return states[:LAST], False
        return [states[best], *(s for i, s in enumerate(states) if i != best)][:LAST], True

    def _address(self, state: States) -> Layers:
        """The cheapest entry and offsets that stand for one state."""
        gen, costs = state.gen, self.scorer.costs
        ways = self.codebook.offsets_to(gen, state.steps, self.fine)[0]  # [E,P]
        offsets = torch.nn.functional.pad(ways, (0, MAX_PARAMS - ways.shape[1]))
        which = torch.full((len(ways),), gen, device=ways.device)
        cost = costs.offset_cost(offsets, which) + costs.entries(gen)
        low = torch.where(cost == cost.amin(), torch.arange(len(cost), device=cost.device), len(cost)).amin().view(1)
        return Layers.of(self.bank, which[:1], low, state.seed, offsets[low])
