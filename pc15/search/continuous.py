"""One pattern for a whole large tile, to the finest sub-level: what screening at 32 px cannot see.

A bank of whole levels, scored at low resolution, misses a fine wave altogether: between two of its frequencies the
picture and the pattern fall out of step within the tile.  So for planes of few tiles

    analysis    peaks of the spectrum say frequency and angle of waves, where gradients point says the centre of rings
                and of rays; with the bank's best rows of every generator these are the starts
    climbing    every start goes uphill over all its parameters, first at low resolution, the best then at higher ones:
                each round tries a step either way in every parameter, and from the differences of the same drawings
                a Gauss-Newton step over all of them
    addressing  the sub-levels found become the cheapest entry and offsets

What is climbed is the squared error's gain at best amplitude and DC.  Every sum is of integers held in float64, below
2^53 and hence exact in any order; the small linear systems are solved elementwise on the host: the same result on
every device.  Source: J. Nocedal, S. Wright, "Numerical Optimization", 2nd ed., 10.3 (Gauss-Newton).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_PARAMS
from pc15.fixed import FRAC, ONE, TURN_BITS, cos_turns, sin_turns
from pc15.proc.codebook import Codebook
from pc15.proc.coords import Grid, tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels
from pc15.proc.spec import Param
from pc15.search.backend import numba_scores
from pc15.search.bank import Bank
from pc15.search.candidates import Layers
from pc15.search.score import Scorer, box_edges, pooled

Floats = npt.NDArray[np.float64]

FEW_TILES = 4
"""Planes of more tiles keep to the bank: a tile costs about two seconds here."""

PAYS_BITS = 128
"""A tile whose whole distortion is worth less than so many bits is left to the bank."""

_COARSE = 64  # px, resolution of the first climbs, for waves of up to
_COARSE_CYCLES = 14  # per tile; twice, or four times it for faster ones
_SPECTRUM = 256  # px, resolution that the spectrum is taken at
_PEAKS = 6
_ROWS = 64  # best bank rows overall,
_PER_GENERATOR = 3  # of which so many of one generator are started from, and so many of its starts climb,
_PER_COUNT = 9  # or this many that differ in a count, such as arms: climbing hardly ever changes one
_STARTS = 8000  # most starts of a generator from analysis
_CLIMBERS = 26  # starts that climb a little,
_ROUNDS = 3  # rounds,
_FINALISTS = 9  # the best of them, at most two of a generator, to the top of this resolution
_EXPLAINED = 0.995  # share of what is left that a first layer draws, below which pairs of layers are compared
_LEFT = 0.03  # share that layers of a sketch may leave at first,
_LEAST_LEFT = 0.01  # and in the end, for nothing else to be looked for
_NO_PATTERN = 0.12  # share left at first that says there is none: then the sketch will do, for what little it draws
_LONG = 12  # rounds of a climb that is to come to its end
_SECONDS = 384  # starts of a second layer where the first is known
_PAIR_WINS = 1.005  # a pair must draw this much more, so that its first layer is taken though another draws more alone
_SUMMANDS = ("STRIPES", "WAVES_DIR")  # what pairs are mostly made of: each draws too little to lead alone
_ARMS = 20  # most arms, or rays, that are looked for around
_TURNS = 3  # centres
_NEARER = (-0.12, -0.08, -0.04, 0.0, 0.04, 0.08, 0.12)  # half tiles from the best of them
_WINDINGS = 8  # most turns along r that are looked for there
_ARM_CENTRES = (-0.6, -0.4, -0.2, 0.0, 0.2, 0.4, 0.6)  # half tiles, either way
LAST = 3
"""Generators that climb on at higher resolutions, and are proposed."""
_TOGETHER = 64  # starts drawn at once, or
_PIXELS = 1 << 16  # as many as have so many boxes in all
_DROP = 3  # patterns are Q14; Q11 keeps the sums exact


@dataclass(frozen=True, eq=False)
class View:
    """A tile at a resolution of S x S boxes.

    at: grid of the boxes' centres.   error: [S*S] float64, sum of weight * residual of each box.
    weight: [S*S] float64, sum of weight^2.   Both hold integers.
    """

    at: Grid
    error: Tensor
    weight: Tensor

    @functools.cached_property
    def totals(self) -> tuple[Tensor, Tensor]:
        """Sums of `error` and `weight`."""
        return self.error.sum(), self.weight.sum()

    @property
    def energy(self) -> float:
        """What a pattern equal to the residual would gain."""
        error, weight = self.totals
        own = self.error * self.error / self.weight.clamp(min=1.0)
        return float((own * 2.0**-8).round().sum() * 2.0**8 - error * error / weight)  # integers: an exact sum

    @property
    def side(self) -> int:
        """S."""
        return int(self.at.x.shape[2])


def view_of(linear: Tensor, quad: Tensor, side: int) -> View:
    """The view at `side` boxes across.

    Args:
        linear: [T,T] int64 Q28, weight * residual.   quad: [T,T] int64 Q16, weight squared.
    """
    tile = linear.shape[0]
    if side >= tile:
        side, at = tile, tile_grid(tile, device=linear.device)
    else:
        edges = box_edges(tile, side, linear.device)
        # middle of box i, in pixels, is (edges[i] + edges[i+1] - 1) / 2
        middle = torch.div((edges[1:] + edges[:-1] - tile) * ONE, tile, rounding_mode="floor").to(torch.int32)
        at = Grid(middle.view(1, 1, side), middle.view(1, side, 1), max(1, 2 * ONE // side), False)
        linear, quad = pooled(linear[None], side)[0], pooled(quad[None], side)[0]
    # 2^18 px of weights of 2^8, residuals of 2^20 and patterns of 2^11: below 2^50
    return View(at, (linear >> 8).reshape(-1).to(torch.float64), (quad >> 8).reshape(-1).to(torch.float64))


@dataclass(frozen=True, eq=False)
class States:
    """Points of one generator's parameter space: steps [K, P] int64, seed [K] int64, gain [K] float64."""

    gen: int
    steps: Tensor
    seed: Tensor
    gain: Tensor

    def best(self) -> States:
        """The few best that differ, best first, ties to the first."""
        counts = [i for i, p in enumerate(load(self.gen).params) if p.kind == "count"]
        most = _PER_COUNT if counts else _PER_GENERATOR
        order = torch.sort(self.gain, descending=True, stable=True).indices
        seen: set[tuple[int, ...]] = set()
        kept = []
        for i, row, seed in zip(order.tolist(), self.steps[order].tolist(), self.seed[order].tolist(), strict=True):
            key = tuple(row[c] for c in counts) if counts else (*row, seed)
            if key not in seen:
                seen.add(key)
                kept.append(i)
            if len(kept) == most:
                break
        at = torch.tensor(kept, dtype=torch.int64, device=self.gain.device)
        return States(self.gen, self.steps[at], self.seed[at], self.gain[at])

    def single(self) -> list[States]:
        """One by one."""
        each = (slice(i, i + 1) for i in range(len(self.gain)))
        return [States(self.gen, self.steps[i], self.seed[i], self.gain[i]) for i in each]


def bank_gains(bank: Bank, view: View) -> Tensor:
    """What every row of the bank would take off a view of its resolution, up to a factor; [K] float64.

    The view is rounded until the sums of products with int8 rows fit into 32 bits.
    """
    room = 31 - 7 - (bank.side**2 - 1).bit_length()
    error, weight = _rounded(view.error, room), _rounded(view.weight, room - 7)
    if error.is_cuda:
        parts = []
        for chunk in bank.pixels.split(2048):
            p = chunk.to(torch.float64)
            parts.append(torch.stack([p @ error.double(), p @ weight.double(), p.square() @ weight.double()]))
        product, share, power = torch.cat(parts, dim=1)
    else:
        sums = np.empty((3, bank.rows), np.int32)
        numba_scores.moments(0, bank.rows, bank.pixels.numpy(), error.numpy(), weight.numpy(), *sums)
        product, share, power = torch.from_numpy(sums).to(torch.float64)
    whole = weight.sum(dtype=torch.int64).to(torch.float64)
    linear = product - share * error.sum(dtype=torch.int64).to(torch.float64) / whole
    square = power - share * share / whole
    return torch.where(square > 0, linear * linear / square.clamp(min=1.0), 0.0)


def _rounded(values: Tensor, bits: int) -> Tensor:
    """Integers held in float64 as int32 below 2^bits, scaled by a power of two."""
    peak = float(values.abs().amax())
    return (
        torch.round(values * 2.0 ** min(0, bits - math.frexp(peak)[1])).clamp(1 - 2**bits, 2**bits - 1).to(torch.int32)
    )


class Climber:
    """Starts in parameter space, what they draw of a view, and the way up from them."""

    def __init__(self, bank: Bank, codebook: Codebook, fine: int, seed: int) -> None:
        self.bank, self.codebook, self.fine, self.seed = bank, codebook, fine, seed

    # ------------------------------------------------------------ starts

    def rows(self, view: View) -> Tensor:
        """The _ROWS bank rows that draw most of a view of the bank's own resolution, best first."""
        gain = bank_gains(self.bank, view)
        order = torch.sort(gain, descending=True, stable=True).indices[:_ROWS]
        return order[gain[order] > 0]

    def entries(self, rows: Tensor, generators: int = len(NAMES)) -> dict[int, tuple[Tensor, Tensor]]:
        """The first few of the bank's rows of each of the first generators: (steps [k, P], seeds [k]) by generator."""
        found = {}
        for gen in list(dict.fromkeys(self.bank.gen[rows].tolist()))[:generators]:
            own = rows[self.bank.gen[rows] == gen][:_PER_GENERATOR]
            steps = self.codebook.starts(gen, self.fine, own.device)[self.bank.qv[own]].long()
            found[gen] = (steps, self.bank.seed[own])
        return found

    def starting(
        self,
        view: View,
        peaks: Sequence[tuple[float, float]],
        entries: Mapping[int, tuple[Tensor, Tensor]],
        turns: Sequence[tuple[float, float, int]] = (),
        *,
        most: int = _STARTS,
        only: Sequence[int] = range(len(NAMES)),
    ) -> list[States]:
        """Single states to climb from: of every generator the best of the bank's rows and of the analysis.

        Args:
            peaks, turns: from `spectrum_peaks` and `turning`.   most: starts of a generator from each analysis.
            only: generators to consider.
        """
        centres = gradient_centres(view) if most else []
        states = []
        for gen in only:
            if not self.codebook.size(gen):
                continue
            offered = starts(gen, self.fine, peaks, centres, turns, most=most) if most else None
            steps = [entries[gen][0]] if gen in entries else []
            seeds = [entries[gen][1]] if gen in entries else []
            if offered is not None:
                steps.append(offered.to(view.error.device))
                seeds.append(torch.zeros_like(steps[-1][:, 0]))
            if steps:
                states += self._scored(view, gen, torch.cat(steps), torch.cat(seeds)).best().single()
        return states

    def again(self, view: View, states: Sequence[States]) -> list[States]:
        """The states with their gains at another resolution."""
        return [self._scored(view, s.gen, s.steps, s.seed) for s in states]

    def without(self, view: View, state: States) -> View:
        """What is left when a state is drawn at its best amplitude and DC."""
        p = self._drawn(view, state.gen, state.steps, state.seed)[0]
        error, weight = view.totals
        product, share, power = (p * view.error).sum(), (p * view.weight).sum(), (p * p * view.weight).sum()
        amount = (product - share * error / weight) / (power - share * share / weight)
        level = (error - amount * share) / weight
        return View(view.at, (view.error - view.weight * (amount * p + level)).round(), view.weight)

    # ------------------------------------------------------------ gains

    def _drawn(self, view: View, gen: int, steps: Tensor, seeds: Tensor) -> Tensor:
        """[K, S*S] float64, integers up to 2^11."""
        drawn = draw_levels(gen, self.codebook.clamp(gen, steps, self.fine), seeds, view.at, self.seed, self.fine)
        return (drawn >> _DROP).flatten(1).to(torch.float64)

    def _gain(self, view: View, p: Tensor) -> Tensor:
        """What patterns [K, S*S] take off the squared error at best amplitude and DC, up to a factor; [K]."""
        error, weight = view.totals
        product, share, power = p @ view.error, p @ view.weight, p.square() @ view.weight
        linear = product - share * error / weight
        square = power - share * share / weight
        flat = square <= weight * 64.0  # an RMS of 8 in Q11
        return torch.where(flat, 0.0, linear * linear / torch.where(flat, 1.0, square))

    def _scored(self, view: View, gen: int, steps: Tensor, seeds: Tensor) -> States:
        many = max(_TOGETHER, _PIXELS // view.side**2)
        parts = [
            self._gain(view, self._drawn(view, gen, steps[i : i + many], seeds[i : i + many]))
            for i in range(0, len(steps), many)
        ]
        return States(gen, steps, seeds, torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64))

    # ------------------------------------------------------------ climbing

    def climb(self, view: View, state: States, step: int, rounds: int, least: int = 1) -> States:
        """One state uphill: steps from `step` sub-levels down to `least`, halved where none helps."""
        gen, steps, seed, gain = state.gen, state.steps, state.seed, state.gain
        params = load(gen).params_at(self.fine)
        count = len(params)
        if not count:
            return state
        unit = torch.tensor([1 if p.shift(self.fine) == 0 else 0 for p in params], device=steps.device)
        eye = torch.eye(count, dtype=torch.int64, device=steps.device)
        signed = torch.cat([-eye, eye])
        here = None
        for _ in range(rounds):
            size = torch.where(unit == 1, 1, step)
            tried = steps + signed * size
            if here is None:
                both = self._drawn(view, gen, torch.cat([tried, steps]), seed.expand(2 * count + 1))
                p, here = both[:-1], both[-1:]
            else:
                p = self._drawn(view, gen, tried, seed.expand(2 * count))
            around = self._gain(view, p)
            leaps = self._leaps(view, here, p[count:] - p[:count])  # in sizes of a step
            new = steps + (leaps * size.to(torch.float64)).round().to(torch.int64)
            q = self._drawn(view, gen, new, seed.expand(len(new)))
            leaped = self._gain(view, q)
            everything = torch.cat([steps, tried, new])
            gains = torch.cat([gain, around, leaped])
            best = torch.where(gains == gains.amax(), torch.arange(len(gains), device=gains.device), len(gains)).amin()
            if int(best) == 0:
                if step <= least:
                    break
                step = max(least, step // 2)
                continue
            steps = self.codebook.clamp(gen, everything[best : best + 1], self.fine).long()
            gain = gains[best : best + 1]
            at = int(best) - 1
            here = p[at : at + 1] if at < 2 * count else q[at - 2 * count :][:1]
            if at >= 2 * count:  # a leap that helps comes close: what is left is small
                step = max(least, step // 2)
        return States(gen, steps, seed, gain)

    def _leaps(self, view: View, here: Tensor, slopes: Tensor) -> Tensor:
        """Gauss-Newton steps over all parameters, whole, half and damped, [3, P] in multiples of the step tried.

        Args:
            here: [1, S*S], the pattern.   slopes: [P, S*S], its difference over two steps in each parameter.
        """
        columns = torch.cat([here, torch.ones_like(here), slopes])
        normal = (columns * view.weight) @ columns.t()
        right = columns @ view.error
        a, b = normal.cpu().numpy(), right.cpu().numpy()
        out = []
        for damping in (1e-9, 1e-9, 0.03):
            x = solve(a, b, damping)
            leap = 2.0 * x[2:] / x[0] if x[0] != 0.0 else np.zeros(len(x) - 2)
            out.append(np.clip(np.nan_to_num(leap), -64.0, 64.0))
        out[1] = out[1] * 0.5
        return torch.from_numpy(np.stack(out)).to(here.device)


class Precise(Climber):
    """Searches single tiles of a plane for the pattern that draws most of what is left of them."""

    def __init__(self, scorer: Scorer, codebook: Codebook, sketch: Sequence[Sequence[States]] = ()) -> None:
        """`sketch`: states of each layer that the plane's only tile may have, best first; they are looked at first."""
        super().__init__(scorer.bank, codebook, scorer.costs.fine, scorer.cfg.seed)
        self.scorer, self.sketch = scorer, [states[0] for states in sketch]
        self._rivals = list(sketch[0][1:]) if len(sketch) == 1 else []  # of its layer
        self._settled = False  # whether the sketch is what has been taken, true or not
        self.found = False  # whether the sketch has come true: then it leaves next to nothing
        self._summands = [NAMES.index(name) for name in _SUMMANDS]

    # ------------------------------------------------------------ the whole way

    def propose(self, e: Tensor, cls: Tensor, layer: int) -> tuple[Layers, Tensor]:
        """The best layer of each tile by squared error and runners-up of other generators.

        Args:
            e: [n,T,T] int32 Q12 residual.   cls: [n] class of each tile.
        Returns:
            Layers [n * LAST], best first; [n] bool, whether the best is so as the first of two layers.
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
        return view_of(windows.lin[cls][0].to(torch.int64) * e, windows.quad[cls][0].to(torch.int64), side)

    def _sketched(self, e: Tensor, cls: Tensor, layer: int) -> States | None:
        """The sketch's state for a layer, climbed to the top, unless another search may find more.

        That is where it leaves, with those after it, neither next to nothing nor so much that there is no pattern.
        What the sketch has from this layer on becomes what has been found.
        """
        states, one = self.sketch[layer:], 1 << self.fine
        side, no_pattern = _COARSE, False
        while states:
            view = rest = self._view(e, cls, side)
            coarse = side == _COARSE
            step, least = (one // 2, max(1, self.scorer.tile // (8 * side))) if coarse else (max(1, one // 8), 1)
            climbed = []
            for state in states:
                climbed.append(self.climb(rest, self.again(rest, [state])[0], step, _LONG, least))
                rest = self.without(rest, climbed[-1])
            if coarse and layer == 0 and rest.energy > _LEFT * view.energy:
                climbed, rest = self._two(view, climbed[0])
            last = side >= min(_SPECTRUM, self.scorer.tile)
            no_pattern = no_pattern or (coarse and rest.energy > _NO_PATTERN * view.energy)
            if not no_pattern and rest.energy > (_LEAST_LEFT if last else _LEFT) * view.energy:
                return None
            states = climbed
            if last:
                self.sketch[layer:], self._settled = states, True
                self.found = self.found or not no_pattern
                return states[0]
            side *= 2
        return None

    def _rivalling(self, e: Tensor, cls: Tensor, layer: int) -> list[States]:
        """What other generators make of a plane that is one layer: a blurred edge may cost hardly any squared error."""
        if layer or len(self.sketch) > 1:
            return []
        states, one = self._rivals[: LAST - 1], 1 << self.fine
        for side, step, rounds in ((2 * _COARSE, one // 2, _LONG), (_SPECTRUM, max(1, one // 8), 4)):
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
        """Candidates for what a sketch leaves: mostly its own layers again, with other edges."""
        side = 2 * _COARSE
        view, small = self._view(e, cls, side), self._view(e, cls, self.bank.side)
        states = leading(self.starting(view, (), self.entries(self.rows(small), LAST), most=0), LAST, each=1)
        states = [*self.again(view, self.sketch), *states]
        climbed = leading([self.climb(view, s, 1 << self.fine, _LONG, 1) for s in states], LAST)
        return [self._address(climbed[min(i, len(climbed) - 1)]) for i in range(LAST)]

    def _search(self, e: Tensor, cls: Tensor, layer: int) -> tuple[list[Layers], bool]:
        if (sketched := self._sketched(e, cls, layer)) is not None:
            states = [sketched, *self._rivalling(e, cls, layer)]
            return [self._address(states[min(i, len(states) - 1)]) for i in range(LAST)], len(states) == 1
        if self._settled and layer >= len(self.sketch):
            return self._more(e, cls), False
        peaks = spectrum_peaks(self._view(e, cls, _SPECTRUM))
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
        while side < min(_SPECTRUM, self.scorer.tile):
            side *= 2
            view = self._view(e, cls, side)
            states = [self.climb(view, s, max(1, one // 8), 4) for s in self.again(view, states)]
        states = states if pair else leading(states, LAST)
        return [self._address(states[min(i, len(states) - 1)]) for i in range(LAST)], pair

    def _first_of_two(self, view: View, states: list[States]) -> tuple[list[States], bool]:
        """Put the state first that draws most together with a second layer; whether that changes the order."""
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


def leading(states: Sequence[States], count: int, *, each: int | None = None) -> list[States]:
    """The `count` single states that gain most, ties to the first; at most `each` of a generator."""
    gains = [float(s.gain) for s in states]
    order = sorted(range(len(states)), key=lambda i: (-gains[i], i))
    if each is not None:
        gens = [states[i].gen for i in order]
        order = [i for n, i in enumerate(order) if gens[:n].count(gens[n]) < each]
    return [states[i] for i in order[:count]]


def solve(a: Floats, b: Floats, damping: float) -> Floats:
    """x of (a + damping * diag(a)) x = b for a symmetric positive [n,n]; 0 where a column is empty.

    Elimination by elementwise operations: the same bits wherever it runs, which LAPACK does not promise.
    """
    n = len(b)
    m = a.copy()
    m[np.arange(n), np.arange(n)] = np.where(a.diagonal() > 0, a.diagonal() * (1.0 + damping), 1.0)
    y = b.copy()
    for i in range(n):
        if abs(m[i, i]) < 1e-12 * max(a[i, i], 1.0):  # what earlier columns already say
            m[i, i:], m[i:, i], y[i], m[i, i] = 0.0, 0.0, 0.0, 1.0
        for j in range(i + 1, n):
            factor = m[j, i] / m[i, i]
            m[j, i:] -= factor * m[i, i:]
            y[j] -= factor * y[i]
    x = np.zeros(n)
    for i in range(n - 1, -1, -1):
        rest = y[i]
        for j in range(i + 1, n):
            rest = rest - m[i, j] * x[j]
        x[i] = rest / m[i, i]
    return x


# ---------------------------------------------------------------- analysis


def resolution(peaks: Sequence[tuple[float, float]]) -> tuple[int, bool]:
    """Boxes a side that the strongest wave asks for, and whether half as many would do for it."""
    fastest = peaks[0][0] if peaks else 1.0
    side = _COARSE if fastest <= _COARSE_CYCLES else 2 * _COARSE if fastest <= 2 * _COARSE_CYCLES else 4 * _COARSE
    return side, 2 * fastest <= _COARSE_CYCLES


def spectrum_peaks(view: View) -> list[tuple[float, float]]:
    """The strongest waves, strongest first: (cycles per tile, degrees), by a parabola between half cycles."""
    side = view.side
    error, weight = view.totals
    rest = view.error - view.weight * error / weight
    peak = float(rest.abs().amax())
    if peak == 0.0:
        return []
    # integers of 16 bits, sines of 15 and S^2 boxes: all sums are exact
    scaled = (rest * 2.0 ** (16 - math.frexp(peak)[1])).round().view(side, side)
    most = 2 * min(64, side // 3)  # in half cycles
    across = torch.arange(0, most, device=rest.device)
    down = torch.arange(1 - most, most, device=rest.device)
    half = 1 << (TURN_BITS - 2)  # a half cycle over coordinates -ONE..ONE is a quarter turn per unit

    def waves(k: Tensor) -> tuple[Tensor, Tensor]:
        turns = ((k[:, None] * view.at.x.view(1, -1).to(torch.int64) * half) >> FRAC).to(torch.int64)
        turns = torch.remainder(turns + (1 << 31), 1 << 32).to(torch.int64) - (1 << 31)
        return cos_turns(turns.to(torch.int32)).to(torch.float64), sin_turns(turns.to(torch.int32)).to(torch.float64)

    cx, sx = waves(across)
    cy, sy = waves(down)
    c, s = ((scaled @ part.t() * 2.0**-14).round() for part in (cx, sx))  # [S, K]
    real, imaginary = cy @ c - sy @ s, cy @ s + sy @ c
    power = real * real + imaginary * imaginary  # [down, across]
    ky, kx = down[:, None].to(torch.float64), across[None, :].to(torch.float64)
    power = torch.where(kx * kx + ky * ky < 1.5, 0.0, power)
    whole = power.cpu().numpy()
    found = []
    for _ in range(_PEAKS):
        top = power.amax()
        if not float(top):
            break
        index = torch.arange(power.numel(), device=power.device)
        at = int(torch.where(power.reshape(-1) == top, index, power.numel()).amin())
        row, column = divmod(at, power.shape[1])
        y, x = float(ky[row, 0]), float(kx[0, column])
        fy, fx = y + _vertex(whole, row, column, 1, 0), x + _vertex(whole, row, column, 0, 1)
        found.append((math.hypot(fx, fy) / 2.0, math.degrees(math.atan2(fy, fx))))
        near = (ky - y).square() + (kx - x).square() < 9.0
        mirrored = (ky + y).square() + (kx + x).square() < 9.0
        power = torch.where(near | mirrored, 0.0, power)
    return found


def _vertex(power: Floats, row: int, column: int, down: int, across: int) -> float:
    """Where the parabola through a peak and its neighbours along an axis has its vertex, -0.5..0.5; 0 at an end."""
    rows, columns = power.shape
    if not (down <= row < rows - down and column + across < columns):
        return 0.0
    # to the left of column 0 the spectrum of a real picture is its own mirror image
    mirrored = column - across < 0
    before = power[rows - 1 - row, across] if mirrored else power[row - down, column - across]
    after = power[row + down, column + across]
    bend = 2.0 * power[row, column] - before - after
    return min(0.5, max(-0.5, float((after - before) / (2.0 * bend)))) if bend > 0 else 0.0


def gradient_centres(view: View) -> list[tuple[float, float]]:
    """The points that most gradients point to, and that most run around: (cx, cy) in half tiles each.

    Least squares over all boxes of the distance between the point and the line through the box.
    """
    side = view.side
    known = view.weight.view(side, side) > 0
    e = torch.where(known, view.error.view(side, side) / view.weight.view(side, side).clamp(min=1.0), 0.0)
    scale = float(e.abs().amax())
    if scale == 0.0:
        return []
    e = (e * (2048.0 / scale)).round().to(torch.int64)
    inner = known[1:-1, 1:-1] & known[:-2, 1:-1] & known[2:, 1:-1] & known[1:-1, :-2] & known[1:-1, 2:]
    gx = torch.where(inner, e[1:-1, 2:] - e[1:-1, :-2], 0)
    gy = torch.where(inner, e[2:, 1:-1] - e[:-2, 1:-1], 0)
    x, y = view.at.x.view(1, -1)[:, 1:-1].to(torch.int64) >> 4, view.at.y.view(-1, 1)[1:-1].to(torch.int64) >> 4
    unit = ONE >> 4
    centres = []
    for u, v in ((-gy, gx), (gx, gy)):  # what is at right angles to the way to the centre
        along = u * x + v * y
        sums = [float(t.sum()) for t in (u * u, u * v, v * v, u * along, v * along)]
        uu, uv, vv, ua, va = sums
        det = uu * vv - uv * uv
        if det > 1e-6 * uu * vv > 0.0:
            centres.append(((ua * vv - va * uv) / det / unit, (va * uu - ua * uv) / det / unit))
    return centres


@functools.lru_cache(maxsize=8)
def _around(
    side: int, xs: tuple[float, ...], ys: tuple[float, ...], arms: range, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Waves around each of some centres, ys by xs, and rings about them.

    Returns:
        cosines and sines of m * theta for every m of `arms`, [C,M,S*S] float64, integers up to 2^14; the ring of each
        box, [C,S*S] int64.
    """
    at = tile_grid(side, device=device)
    lines = [torch.tensor([round(c * ONE) for c in part], dtype=torch.int32, device=device) for part in (ys, xs)]
    cy, cx = (part.reshape(-1, 1, 1) for part in torch.meshgrid(*lines, indexing="ij"))
    x, y = (at.x - cx).expand(-1, side, side), (at.y - cy).expand(-1, side, side)
    turns = torch.tensor(arms, dtype=torch.int32, device=device).view(1, -1, 1, 1) * at.angle(x, y)[:, None]
    ring = torch.div(at.radius(x, y).to(torch.int64) * side, 4 * ONE, rounding_mode="floor")  # two boxes wide
    waves = [(part >> 1).flatten(2).to(torch.float64) for part in (cos_turns(turns), sin_turns(turns))]
    return waves[0], waves[1], ring.flatten(1)


def _turned(
    view: View, rest: Tensor, xs: tuple[float, ...], ys: tuple[float, ...], arms: range
) -> list[tuple[float, float, int]]:
    """(cx, cy, m) by what m arms around the centre draw of `rest`, integers below 2^17, best first; one per centre."""
    cosine, sine, ring = _around(view.side, xs, ys, arms, rest.device)
    rings = int(ring.amax()) + 1
    boxes = torch.zeros((len(ring), rings), dtype=torch.float64, device=rest.device)
    boxes.scatter_add_(1, ring, (view.weight > 0).to(torch.float64).expand_as(ring))
    gain = torch.zeros(cosine.shape[:2], dtype=torch.float64, device=rest.device)
    at = ring[:, None].expand_as(cosine)
    for wave in (cosine, sine):  # sums of integers: exact in any order
        sums = torch.zeros((*cosine.shape[:2], rings), dtype=torch.float64, device=rest.device)
        sums.scatter_add_(2, at, wave * rest)
        gain += (sums * sums / boxes[:, None].clamp(min=1.0) * 2.0**-30).round().sum(dim=2)
    best = gain.amax(dim=1, keepdim=True)
    which = torch.arange(len(arms), device=rest.device).expand_as(gain)
    first = torch.where(gain == best, which, len(arms)).amin(dim=1).tolist()
    order = torch.sort(best[:, 0], descending=True, stable=True).indices[:_TURNS].tolist()
    return [(xs[i % len(xs)], ys[i // len(xs)], arms[first[i]]) for i in order]


def turning(view: View) -> list[tuple[float, float, int]]:
    """The few centres that a picture turns around most, best first: (cx, cy, arms).

    What m arms may draw around a centre is the m-th harmonic of every ring, whatever its phase: so spirals, of any
    profile along r, and rays.  The best centre is looked for again on a finer grid.
    """
    error, weight = view.totals
    rest = view.error - view.weight * error / weight
    peak = float(rest.abs().amax())
    if peak == 0.0:
        return []
    rest = (rest * 2.0 ** (16 - math.frexp(peak)[1])).round()
    found = _turned(view, rest, _ARM_CENTRES, _ARM_CENTRES, range(1, _ARMS + 1))
    cx, cy, arms = found[0]
    xs, ys = (tuple(round(c + step, 3) for step in _NEARER) for c in (cx, cy))
    return [*_turned(view, rest, xs, ys, range(max(1, arms - 1), arms + 2))[:1], *found[1:]]


_LIMIT = 3.0  # half tiles; centres farther out are no centres


def starts(
    gen: int,
    fine: int,
    peaks: Sequence[tuple[float, float]],
    centres: Sequence[tuple[float, float]],
    turns: Sequence[tuple[float, float, int]] = (),
    *,
    most: int = _STARTS,
) -> Tensor | None:
    """Points of a generator's parameter space that an analysis suggests, [K, P] int64 sub-levels; None for none.

    Args:
        peaks, centres, turns: from `spectrum_peaks`, `gradient_centres` and `turning`.
        most: of each kind.
    """
    params = load(gen).params_at(fine)
    names = [p.name for p in params]
    joint: list[dict[str, float]] = []
    wound: list[dict[str, float]] = []
    speed = next((n for n in names if n in ("freq", "cells")), None)
    if "cx" in names and "cy" in names:
        spots = [c for c in centres if max(abs(c[0]), abs(c[1])) < _LIMIT] or [(0.0, 0.0)]
        joint = [{"cx": cx, "cy": cy} for cx, cy in spots]
        if speed is not None:  # a ring in the spectrum, of which peaks are parts
            near = {round(2.0 * freq) + i for freq, _ in peaks[:3] for i in (-1, 0, 1)}
            joint = [{**at, speed: half / 2.0} for at in joint for half in sorted(near) if half > 0]
        if (count := next((p for p in params if p.kind == "count"), None)) is not None:
            ways = (-1, 1) if count.lo < 0 else (1,)
            wound = [
                {"cx": cx, "cy": cy, count.name: way * near}
                for cx, cy, arms in turns
                for near in range(max(1, arms - 1), arms + 2)  # seen from beside the centre there are others, too
                for way in ways
            ]
            if speed is not None:
                wound = [{**at, speed: half / 2.0} for at in wound for half in range(1, 2 * _WINDINGS + 1)]
    elif "angle_deg" in names and speed is not None:
        for freq, angle in peaks:
            for factor, turn in ((1.0, 0.0), (math.sqrt(0.5), 45.0), (0.5, 0.0), (1.0 / 3.0, 0.0)):
                speeds = {"freq": freq * factor, "cells": 2.0 * freq * factor}
                joint.append({"angle_deg": angle + turn} | {n: v for n, v in speeds.items() if n in names})
    points = [_points(params, fine, heads, most) for heads in (joint, wound) if heads]
    return torch.cat(points) if points else None


def _points(params: Sequence[Param], fine: int, heads: Sequence[Mapping[str, float]], most: int) -> Tensor:
    """All heads, which give some parameters by name, with all choices of the others; of too many every so manyth."""
    fixed = [[p.nearest_step(at[p.name], fine) if p.name in at else 0 for p in params] for at in heads]
    phases = sum(p.kind == "turns" for p in params)
    free = {i: _choices(p, fine, 8 if phases > 1 else 4) for i, p in enumerate(params) if p.name not in heads[0]}
    sizes = [len(fixed), *(len(values) for values in free.values())]
    stride = -(-math.prod(sizes) // most)
    head, *tails = np.unravel_index(np.arange(0, math.prod(sizes), stride), sizes)
    points = np.array(fixed, np.int64)[head]
    for (i, values), at in zip(free.items(), tails, strict=True):
        points[:, i] = np.array(values, np.int64)[at]
    return torch.from_numpy(points)


def _choices(p: Param, fine: int, phases: int) -> list[int]:
    """Sub-levels to begin with: all counts, `phases` of a turn, some angles, else the coarse middle."""
    one = 1 << p.shift(fine)
    if p.kind == "count":
        first, last = p.span(0)
        return list(range(first, last + 1))
    if p.kind == "turns" and p.periodic:
        # the other half of a wave's turn is its negative
        return [p.levels * one * i // phases for i in range(phases if p.coarse_share == 1.0 else phases // 2)]
    if p.kind == "degrees" and p.periodic:
        return [p.levels * one * i // 8 for i in range(8)]
    levels = p.coarse_levels if p.name == "radius" else p.coarse_levels[len(p.coarse_levels) // 2 :][:1]
    return [level * one for level in levels]
