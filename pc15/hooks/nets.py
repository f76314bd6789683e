"""The three small nets, plain modules: which generators (M1), which entries and offsets (M2), what they gain (M3).

They train in float32.  `frozen` turns one into its encoder form: weights are multiples of 2^-12 and below 2^5,
activations multiples of 2^-8 and below 2^10, all held in float64.  A sum of up to 2^16 such products stays below
2^53 units of 2^-20, so it is exact in any order, and a net's answer depends neither on the batch nor on the device.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pc15.bitstream.records import MAX_PARAMS
from pc15.hooks.features import FEATURES
from pc15.proc.codebook import OFFSET_MAX
from pc15.proc.generators import NAMES, load

__all__ = ["ParamNet", "RdNet", "SelectorNet", "frozen", "param_shares"]

WEIGHT_BITS = 12
VALUE_BITS = 8
WEIGHT_TOP = 32.0
VALUE_TOP = 1024.0


class Snap(nn.Module):
    """Identity while a net trains; once frozen, rounds values to multiples of 2^-8 within +-2^10."""

    def __init__(self) -> None:
        super().__init__()
        self.on = False

    def forward(self, x: Tensor) -> Tensor:
        return snapped(x, VALUE_BITS, VALUE_TOP) if self.on else x


def snapped(x: Tensor, bits: int, top: float) -> Tensor:
    """float64 multiples of 2^-bits within +-top."""
    scale = float(1 << bits)
    return (x.to(torch.float64).clamp(-top, top) * scale).round() / scale


def frozen(net: nn.Module) -> nn.Module:
    """The net's encoder form, changed in place: exact sums, no gradients."""
    net = net.to(torch.float64).eval().requires_grad_(False)
    for parameter in net.parameters():
        parameter.copy_(snapped(parameter, WEIGHT_BITS, WEIGHT_TOP))
    for module in net.modules():
        if isinstance(module, Snap):
            module.on = True
    return net


def _trunk(inputs: int, hidden: int) -> nn.Sequential:
    first, second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
    return nn.Sequential(Snap(), first, nn.ReLU(), Snap(), second, nn.ReLU(), Snap())


class SelectorNet(nn.Module):
    """M1: features [n, F], normalised -> logits over generators [n, G]."""

    def __init__(self, *, features: int = FEATURES, gens: int = len(NAMES), hidden: int = 128) -> None:
        super().__init__()
        self.trunk = _trunk(features, hidden)
        self.head = nn.Linear(hidden, gens)
        self.out = Snap()

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.head(self.trunk(features)))  # type: ignore[no-any-return]


class ParamNet(nn.Module):
    """M2: features [n, F] and a generator [n] -> logits over codebook entries [n, E] and offsets [n, MAX_PARAMS].

    The generator gates the trunk's units, so that each has its own read-out of shared features.  Entries beyond a
    generator's codebook get -inf by the caller.  Offsets are in level steps, within +-OFFSET_MAX.
    """

    def __init__(self, *, features: int = FEATURES, gens: int = len(NAMES), entries: int, hidden: int = 192) -> None:
        super().__init__()
        self.trunk = _trunk(features, hidden)
        self.gate = nn.Embedding(gens, hidden)
        self.shift = nn.Embedding(gens, hidden)
        self.mixed = nn.Sequential(nn.ReLU(), Snap(), nn.Linear(hidden, hidden), nn.ReLU(), Snap())
        self.entry = nn.Linear(hidden, entries)
        self.offset = nn.Linear(hidden, MAX_PARAMS)
        self.out = Snap()
        nn.init.normal_(self.gate.weight, mean=1.0, std=0.3)
        nn.init.normal_(self.shift.weight, std=0.1)

    def forward(self, features: Tensor, gen: Tensor) -> tuple[Tensor, Tensor]:
        return self.heads(self.trunk(features), gen)

    def heads(self, seen: Tensor, gen: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the trunk's output, which all generators of a tile share."""
        own = self.mixed(seen * self.gate(gen) + self.shift(gen))
        return self.out(self.entry(own)), self.out(self.offset(own)).clamp(-float(OFFSET_MAX), float(OFFSET_MAX))


class RdNet(nn.Module):
    """M3: features [n, F] and candidates (generator, parameters) -> [.., 2]: gain in D and bits, both normalised.

    A tile and a candidate are read apart and meet in one sum, so that a bank's rows are read once, not per tile.
    """

    def __init__(self, *, features: int = FEATURES, gens: int = len(NAMES), hidden: int = 96) -> None:
        super().__init__()
        self.trunk = _trunk(features, hidden)
        self.tile_part = nn.Linear(hidden, hidden)
        self.gate = nn.Embedding(gens, hidden)
        self.shift = nn.Embedding(gens, hidden)
        self.param_part = nn.Linear(_WAVES * MAX_PARAMS, hidden)
        self.snap = Snap()
        self.mixed = nn.Sequential(nn.ReLU(), Snap(), nn.Linear(hidden, hidden // 2), nn.ReLU(), Snap())
        self.head = nn.Linear(hidden // 2, 2)
        self.out = Snap()
        nn.init.normal_(self.gate.weight, mean=1.0, std=0.3)
        nn.init.normal_(self.shift.weight, std=0.1)

    def forward(self, features: Tensor, gen: Tensor, params: Tensor) -> Tensor:
        return self.meet(self.tile(features), self.candidate(gen, params))

    def tile(self, features: Tensor) -> Tensor:
        """What one side of the sum knows, [n, hidden]."""
        return self.snap(self.tile_part(self.trunk(features)))  # type: ignore[no-any-return]

    def candidate(self, gen: Tensor, params: Tensor) -> Tensor:
        """The other side, [.., hidden]; params [.., MAX_PARAMS] as `param_shares` gives them."""
        turn = 2.0 * torch.pi * params
        waves = torch.cat([params, turn.cos(), turn.sin(), (2 * turn).cos(), (2 * turn).sin()], dim=-1)
        return self.snap(self.snap(self.param_part(self.snap(waves))) * self.gate(gen) + self.shift(gen))  # type: ignore[no-any-return]

    def meet(self, tile: Tensor, candidate: Tensor) -> Tensor:
        """[.., 2] from both sides, broadcast."""
        return self.out(self.head(self.mixed(tile * candidate + tile + candidate)))  # type: ignore[no-any-return]


_WAVES = 5


def param_shares(gen: Tensor, levels: Tensor) -> Tensor:
    """Levels as shares of each parameter's range, [B, MAX_PARAMS] float32; 0 where a generator has no such parameter.

    Args:
        gen: [B] int64.   levels: [B, MAX_PARAMS] int.
    """
    counts = torch.zeros(len(NAMES), MAX_PARAMS)
    for g in torch.unique(gen).tolist():
        for i, p in enumerate(load(g).params):
            counts[g, i] = p.levels
    own = counts.to(gen.device)[gen]
    return torch.where(own > 0, (levels.to(torch.float32) + 0.5) / own.clamp(min=1.0), torch.zeros_like(own))
