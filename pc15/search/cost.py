"""Cost of a tile's symbols before any of them is coded, in 1/256 bit.

The search scores many candidates per tile, so it adds up looked-up costs instead of running the coder; rANS then
writes this sum plus about four bytes of end state.  Integers, so that two devices never disagree about which
candidate is cheaper.  Contexts that depend on neighbours not yet decided use the mean over their table's contexts.
Source: J. Duda, "Asymmetric numeral systems", arXiv:1311.2540.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pc15.bitstream.alphabets import DC_DIRECT, MERGE_AMP_DIRECT, Syntax, numbered
from pc15.bitstream.programs import AMP_DIRECT, MAX_PARAMS, RAW_BITS
from pc15.entropy.tables import TableSet
from pc15.proc.codebook import offset_reach
from pc15.proc.generators import NAMES, load
from pc15.runtime.memo import cached_method
from pc15.search.bank import Bank

AMP_SEARCHED = 255
"""Largest amplitude level that the search considers."""

_RAW_Q8 = 2 * RAW_BITS * 256


class Costs:
    """Look-up tables of symbol costs for one plane; int32 tensors, 1/256 bit, on the search's device."""

    def __init__(self, tables: TableSet, syntax: Syntax, bank: Bank) -> None:
        self._tables, self._numbers, self._bank = numbered(tables), syntax.numbers, bank
        self._device = bank.gen.device
        self.fine = syntax.fine

    def _tensor(self, values: Sequence[int] | Sequence[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self._device)

    def entries(self, gen: int) -> Tensor:
        """qv_id of a generator's entries, [E]."""
        return self._tensor(self._tables.costs(self._numbers.qv[gen]))

    @functools.cached_property
    def _entries(self) -> Tensor:
        """qv_id and seed index of every bank row, [K]."""
        qv: list[Tensor] = []
        for gen in range(len(NAMES)):
            costs = torch.tensor(self._tables.costs(self._numbers.qv[gen]), dtype=torch.int32)
            draws = load(gen).seeds
            if draws > 1:
                seed = torch.tensor(self._tables.costs(self._numbers.seed[gen]), dtype=torch.int32)
                costs = (costs[:, None] + seed[None, :]).reshape(-1)
            qv.append(costs[: self._bank.start[gen + 1] - self._bank.start[gen]])
        return torch.cat(qv).to(self._device)

    @cached_method
    def rows(self, layer: int) -> Tensor:
        """Address of every bank row as layer number `layer`: generator, entry, seed, no offsets; [K] int32."""
        gens = self._tensor(self._tables.costs(self._numbers.gen[layer]))
        return gens[self._bank.gen] + self._entries + self._tables.costs(self._numbers.refined)[0]

    @cached_method
    def added_rows(self, layer: int, most: int) -> Tensor:
        """`rows` and the flags of `one_more`, [K] int32."""
        return self.rows(layer) + self.one_more(layer, most)

    @cached_method
    def stacked(self, most: int) -> tuple[Tensor, Tensor]:
        """`added_rows` [most,K] and `amplitudes` [most, 2, AMP_SEARCHED + 1] of all layers."""
        every = range(max(1, most))  # of no layers, those of one, of which none are
        rows = torch.stack([self.added_rows(i, max(1, most)) for i in every])
        return rows[:most], torch.stack([self.amplitudes(i) for i in every])[:most]

    @cached_method
    def amplitudes(self, layer: int) -> Tensor:
        """Signed amplitude levels, [2, AMP_SEARCHED + 1]: row 0 positive, row 1 negative; level 0 is unusable."""
        cost = self._tables.costs(self._numbers.amp[layer])
        table = [[1 << 24] * (AMP_SEARCHED + 1) for _ in range(2)]
        for negative in (0, 1):
            for level in range(1, AMP_SEARCHED + 1):
                code = 2 * (level - 1) + negative
                direct = code < 2 * AMP_DIRECT
                table[negative][level] = cost[code] if direct else cost[2 * AMP_DIRECT] + _RAW_Q8
        return torch.tensor(table, dtype=torch.int32, device=self._device)

    def more(self, layer: int) -> tuple[int, int]:
        """End flag of layer `layer`: (cost of stopping, cost of one more), mean over the contexts."""
        costs = [self._tables.costs(number) for number in self._numbers.more[layer]]
        return sum(c[0] for c in costs) // len(costs), sum(c[1] for c in costs) // len(costs)

    def one_more(self, layer: int, most: int) -> int:
        """Flags that adding layer number `layer` changes: it, instead of stopping there, and stopping after it."""
        stop, go = self.more(layer)
        after = self.more(layer + 1)[0] if layer + 1 < most else 0
        return go - stop + after

    @cached_method
    def merges(self, layer: int) -> tuple[Tensor, Tensor, int]:
        """Cost of a layer where some continue neighbours, as far as that is known before it is chosen.

        (side and layer continued [S, MAX_LAYERS] int32, "merged" included; change of the magnitude and of the sign
        [AMP_SEARCHED * 2 + 1, 2] int32; "not merged".)  Of the modes, the one where merged layers are rare.
        """
        own = self._numbers
        flag, side, which, amp = map(
            self._tables.costs, (own.merged[1], own.side[1], own.merge_layer[layer], own.merge_amp[1])
        )
        address = [[flag[1] + one + other for other in which] for one in side]
        codes = [4 * d if d >= 0 else -4 * d - 2 for d in range(-AMP_SEARCHED, AMP_SEARCHED + 1)]
        change = [
            [amp[c] if c < MERGE_AMP_DIRECT else amp[MERGE_AMP_DIRECT] + _RAW_Q8 for c in (code, code + 1)]
            for code in codes
        ]
        return self._tensor(address), self._tensor(change), flag[0]

    @functools.cached_property
    def params(self) -> Tensor:
        """[G] int64: parameters that have an offset, of each generator."""
        return torch.tensor([len(load(g).params_at(self.fine)) for g in range(len(NAMES))], device=self._device)

    @functools.cached_property
    def shifts(self) -> Tensor:
        """[G, MAX_PARAMS] int64: log2 of the steps per level of each parameter; 0 where there is none."""
        own = [[p.shift(self.fine) for p in load(gen).params_at(self.fine)] for gen in range(len(NAMES))]
        return torch.tensor([[*row, *[0] * (MAX_PARAMS - len(row))] for row in own], device=self._device)

    @functools.cached_property
    def reach(self) -> int:
        """Largest step that can be coded."""
        return offset_reach(self.fine)

    @functools.cached_property
    def _offsets(self) -> Tensor:
        """A step of -reach..reach, [2 * reach + 1]."""
        cost = self._tables.costs(self._numbers.offset)
        if not self.fine:
            return self._tensor(cost)
        classes = np.frexp(np.abs(np.arange(-self.reach, self.reach + 1)))[1]  # the bit length, hence bits that follow
        return self._tensor((np.asarray(cost)[classes] + 256 * classes).tolist())

    @functools.cached_property
    def refined(self) -> tuple[int, int]:
        """The flag that says whether offsets follow: (no, yes)."""
        no, yes = self._tables.costs(self._numbers.refined)
        return no, yes

    def offset_cost(self, steps: Tensor, gen: Tensor) -> Tensor:
        """Cost of offsets beyond none, [..] int32, for steps [.., MAX_PARAMS] of generators [..].

        Steps beyond the reach are out of the question.
        """
        used = torch.arange(steps.shape[-1], device=steps.device) < self.params[gen].unsqueeze(-1)
        own = torch.where(used, steps, 0)
        spent = torch.where(used, self._offsets[own.clamp(-self.reach, self.reach) + self.reach], 0)
        total = spent.sum(dim=-1, dtype=torch.int32) + (self.refined[1] - self.refined[0])
        total = torch.where((own != 0).any(dim=-1), total, 0)
        return torch.where((own.abs() > self.reach).any(dim=-1), 1 << 24, total)

    def dc(self, context: int) -> list[int]:
        """DC residual codes (zigzag), without the escape's digits for the last."""
        cost = self._tables.costs(self._numbers.dc[context])
        return [*cost[:DC_DIRECT], cost[DC_DIRECT] + _RAW_Q8]
