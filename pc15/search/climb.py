"""The way uphill from starting points, over all parameters of a generator at once.

Each round tries a step either way in every parameter, and from the differences of the same drawings a Gauss-Newton
step over all of them.  Climbing maximises the squared error's gain at best amplitude and DC.  Every sum is of integers
held in float64, below 2^53 and hence exact in any order; the small linear systems are solved elementwise on the host:
the same result on every device.
Source: J. Nocedal, S. Wright, "Numerical Optimization", 2nd ed., 10.3 (Gauss-Newton).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pc15.proc.codebook import Codebook
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels
from pc15.search.analysis import gradient_centres
from pc15.search.bank import Bank
from pc15.search.starts import STARTS, bank_gains, starts
from pc15.search.view import View

Floats = npt.NDArray[np.float64]

_PER_GENERATOR = 3
"""Bank rows of a generator that are started from, and starts of it that climb: more cost time, fewer miss its top."""

_PER_COUNT = 9
"""Starts that climb where a generator has a count, such as arms, one per count: climbing hardly ever changes one."""


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


def leading(states: Sequence[States], count: int, *, each: int | None = None) -> list[States]:
    """The `count` single states that gain most, ties to the first; at most `each` of a generator."""
    gains = [float(s.gain) for s in states]
    order = sorted(range(len(states)), key=lambda i: (-gains[i], i))
    if each is not None:
        gens = [states[i].gen for i in order]
        order = [i for n, i in enumerate(order) if gens[:n].count(gens[n]) < each]
    return [states[i] for i in order[:count]]


_ROWS = 64
"""Best bank rows that generators to start from are taken from: fewer leave generators out, more add weak ones."""

_STARTS_TOGETHER = 64
_BOXES_TOGETHER = 1 << 16
"""Starts drawn at once: so many, or as many as have so many boxes in all.  Memory against calls; no result changes."""

_DROP_BITS = 3
"""Bits that patterns lose, Q14 to Q11, for their sums to stay exact."""


class Climber:
    """Search over the parameters of any generator: its starts, what they draw of a view, and the way up."""

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
        most: int = STARTS,
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
        """The view that is left when a state is drawn at its best amplitude and DC."""
        p = self._drawn(view, state.gen, state.steps, state.seed)[0]
        (error, weight), seen = view.totals, view.seen
        product, share, power = (p * seen.error).sum(), (p * seen.weight).sum(), (p * p * seen.weight).sum()
        amount = (product - share * error / weight) / (power - share * share / weight)
        level = (error - amount * share) / weight
        return view.but((seen.error - seen.weight * (amount * p + level)).round())

    # ------------------------------------------------------------ gains

    def _drawn(self, view: View, gen: int, steps: Tensor, seeds: Tensor) -> Tensor:
        """Patterns where the picture is seen, [K, h*w] float64, integers up to 2^11."""
        levels = self.codebook.clamp(gen, steps, self.fine)
        drawn = draw_levels(gen, levels, seeds, view.seen.at, self.seed, self.fine)
        return (drawn >> _DROP_BITS).flatten(1).to(torch.float64)

    def _gain(self, view: View, p: Tensor) -> Tensor:
        """Squared error that patterns [K, h*w] take off at best amplitude and DC, up to a factor; [K]."""
        (error, weight), seen = view.totals, view.seen
        product, share, power = p @ seen.error, p @ seen.weight, p.square() @ seen.weight
        linear = product - share * error / weight
        square = power - share * share / weight
        flat = square <= weight * 64.0  # an RMS of 8 in Q11
        return torch.where(flat, 0.0, linear * linear / torch.where(flat, 1.0, square))

    def _scored(self, view: View, gen: int, steps: Tensor, seeds: Tensor) -> States:
        many = max(_STARTS_TOGETHER, _BOXES_TOGETHER // len(view.seen.error))
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
            here: [1, h*w], the pattern.   slopes: [P, h*w], its difference over two steps in each parameter.
        """
        columns = torch.cat([here, torch.ones_like(here), slopes])
        normal = (columns * view.seen.weight) @ columns.t()
        right = columns @ view.seen.error
        a, b = normal.cpu().numpy(), right.cpu().numpy()
        out = []
        for damping in (1e-9, 1e-9, 0.03):
            x = solve(a, b, damping)
            leap = 2.0 * x[2:] / x[0] if x[0] != 0.0 else np.zeros(len(x) - 2)
            out.append(np.clip(np.nan_to_num(leap), -64.0, 64.0))
        out[1] = out[1] * 0.5
        return torch.from_numpy(np.stack(out)).to(here.device)


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
