"""The three small nets, plain modules: which generators (M1), which entries and offsets (M2), what they gain (M3).

M2 and M3 compare a residual with patterns the way the search does, by an inner product, but on 64 learned projections
of a 16x16 patch; what is learned beyond that starts from the exact answer at low resolution.

They train in float32.  `frozen` turns one into its encoder form: weights are multiples of 2^-12 and below 2^5,
activations multiples of 2^-8 and below 2^10, all held in float64.  A sum of up to 2^16 such products stays below
2^53 units of 2^-20, so it is exact in any order, and a net's answer depends neither on the batch nor on the device.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from pc15.bitstream.programs import MAX_PARAMS
from pc15.hooks.features import BLOCKS, FEATURES, PATCH
from pc15.proc.codebook import OFFSET_MAX, Codebook
from pc15.proc.coords import tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels

__all__ = ["ParamNet", "RdNet", "SelectorNet", "frozen"]

WEIGHT_BITS = 12
VALUE_BITS = 8
WEIGHT_TOP = 32.0
VALUE_TOP = 1024.0

_WAVES = 5
_MEET = 64
_MEET_ROOT = 8.0  # a power of two: dividing by it is exact
_PIXELS = PATCH * PATCH


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


def _gates(gens: int, width: int) -> tuple[nn.Embedding, nn.Embedding]:
    """A factor and a shift per generator, near 1 and 0."""
    gate, shift = nn.Embedding(gens, width), nn.Embedding(gens, width)
    nn.init.normal_(gate.weight, mean=1.0, std=0.3)
    nn.init.normal_(shift.weight, std=0.1)
    return gate, shift


class SelectorNet(nn.Module):
    """M1: features [n, F], normalised -> logits over generators [n, G]."""

    def __init__(self, *, features: int = FEATURES, gens: int = len(NAMES), hidden: int = 128) -> None:
        super().__init__()
        self.trunk = _trunk(features, hidden)
        self.head = nn.Linear(hidden, gens)
        self.out = Snap()

    def forward(self, features: Tensor) -> Tensor:
        return self.out(self.head(self.trunk(features)))  # type: ignore[no-any-return]


class Entries(nn.Module):
    """All entries of a codebook as nets see them; nothing here is learned or stored with weights.

    gens: [E] generator.   shares: [E, MAX_PARAMS], levels as shares of their ranges, 0 where there is no parameter.
    patterns: [E, 256], drawn and brought to 16x16, of unit RMS; 0 for patterns of noise, which depend on a seed.
    starts: G+1 numbers, generator g has entries starts[g]:starts[g+1].
    """

    gens: Tensor
    shares: Tensor
    patterns: Tensor

    def __init__(self, codebook: Codebook) -> None:
        super().__init__()
        sizes = [codebook.size(gen) for gen in range(len(NAMES))]
        self.starts = [0, *itertools.accumulate(sizes)]
        gens = torch.arange(len(NAMES)).repeat_interleave(torch.tensor(sizes))
        self.register_buffer("gens", gens, persistent=False)
        shares = [_shares(gen, codebook.entries[gen]) for gen in range(len(NAMES))]
        self.register_buffer("shares", torch.cat(shares), persistent=False)
        patterns = [_patterns(gen, codebook.entries[gen]) for gen in range(len(NAMES))]
        self.register_buffer("patterns", torch.cat(patterns), persistent=False)

    def own(self, gen: int) -> slice:
        """Where a generator's entries are."""
        return slice(self.starts[gen], self.starts[gen + 1])


def _shares(gen: int, levels: Tensor) -> Tensor:
    counts = torch.tensor([p.levels for p in load(gen).params], dtype=torch.float32)
    shares = (levels.to(torch.float32) + 0.5) / counts
    return nn.functional.pad(shares, (0, MAX_PARAMS - shares.shape[1]))


def _patterns(gen: int, levels: Tensor) -> Tensor:
    if load(gen).seeds > 1 or not len(levels):
        return torch.zeros(len(levels), _PIXELS)
    seeds = torch.zeros(len(levels), dtype=torch.int64)
    drawn = draw_levels(gen, levels, seeds, tile_grid(2 * PATCH), 0).to(torch.float64)
    d = drawn - drawn.mean(dim=(1, 2), keepdim=True)
    rms = d.square().mean(dim=(1, 2)).sqrt().clamp(min=64.0)
    small = d.view(-1, PATCH, 2, PATCH, 2).mean(dim=(2, 4)).flatten(1) / rms.view(-1, 1)
    return snapped(small, VALUE_BITS, VALUE_TOP).to(torch.float32)


class Match(nn.Module):
    """How like a residual is to each of some patterns: squared correlation on 64 projections, in about 0..1.

    Both projections begin as the means of 2x2 blocks, so an untrained net already compares at 8x8.
    """

    def __init__(self) -> None:
        super().__init__()
        self.residual, self.pattern = nn.Linear(_PIXELS, _MEET, bias=False), nn.Linear(_PIXELS, _MEET, bias=False)
        i = torch.arange(PATCH)
        block = (i.view(-1, 1) // 2 * (PATCH // 2) + i.view(1, -1) // 2).flatten()
        pooled = nn.functional.one_hot(block, _MEET).T.float() / 2.0  # unit rows
        self.residual.weight.data.copy_(pooled)
        self.pattern.weight.data.copy_(pooled)
        self.snap = Snap()

    def query(self, features: Tensor) -> Tensor:
        """Projection of residuals, [n, 64], from their normalised features."""
        return self.snap(self.residual(self.snap(features[:, BLOCKS["patch"]])))  # type: ignore[no-any-return]

    def keys(self, patterns: Tensor) -> Tensor:
        """Projection of patterns, [E, 64]."""
        return self.snap(self.pattern(patterns))  # type: ignore[no-any-return]

    def likeness(self, products: Tensor) -> Tensor:
        """From inner products of queries and keys."""
        return self.snap(self.snap(products / float(_PIXELS)).square() * 4.0)  # type: ignore[no-any-return]


class ParamNet(nn.Module):
    """M2: features [n, F] and a generator [n] -> logits over its codebook entries, and offsets [n, MAX_PARAMS].

    A logit is likeness times the generator's sharpness, plus a learned inner product of what the net makes of tile
    and entry, plus how usual the entry is.  Offsets are in level steps, within +-OFFSET_MAX.
    """

    def __init__(self, *, codebook: Codebook, features: int = FEATURES, hidden: int = 128) -> None:
        super().__init__()
        gens = len(NAMES)
        self.entries, self.match = Entries(codebook), Match()
        self.trunk = _trunk(features, hidden)
        self.gate, self.shift = _gates(gens, hidden)
        self.mixed = nn.Sequential(nn.ReLU(), Snap(), nn.Linear(hidden, hidden), nn.ReLU(), Snap())
        self.query_head, self.offset = nn.Linear(hidden, _MEET), nn.Linear(hidden, MAX_PARAMS)
        self.key_body = nn.Sequential(nn.Linear(_WAVES * MAX_PARAMS, _MEET), nn.ReLU(), Snap(), nn.Linear(_MEET, _MEET))
        self.key_gate, self.key_shift = _gates(gens, _MEET)
        self.sharpness = nn.Embedding(gens, 1)
        nn.init.constant_(self.sharpness.weight, 10.0)
        nn.init.normal_(self.query_head.weight, std=0.01)
        self.usual = nn.Parameter(torch.zeros(len(self.entries.gens)))
        self.snap = Snap()

    def forward(self, features: Tensor, gen: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [n, largest codebook], -inf beyond a generator's own entries, and offsets."""
        queries, offsets = self.read(features, self.trunk(features), gen)
        most = max(b - a for a, b in itertools.pairwise(self.entries.starts))
        logits = features.new_full((len(gen), most), float("-inf"), dtype=queries.dtype)
        keys = self.keys()
        for g in torch.unique(gen).tolist():
            at = torch.nonzero(gen == g).flatten()
            own = self.logits(queries[at], keys, g)
            logits[at, : own.shape[1]] = own
        return logits, offsets

    def read(self, features: Tensor, seen: Tensor, gen: Tensor) -> tuple[Tensor, Tensor]:
        """Queries [n, 128] and offsets; `seen` is the trunk's output, which all generators of a tile share."""
        own = self.mixed(seen * self.gate(gen) + self.shift(gen))
        queries = torch.cat([self.match.query(features), self.snap(self.query_head(own))], dim=1)
        top = float(OFFSET_MAX)
        return queries, self.snap(self.offset(own)).clamp(-top, top)

    def keys(self) -> Tensor:
        """What entries are looked up by, [E, 128]; they do not depend on the tile."""
        body = self.snap(self.key_body(self.snap(waves(self.entries.shares))))
        body = self.snap(body * self.key_gate(self.entries.gens) + self.key_shift(self.entries.gens))
        return torch.cat([self.match.keys(self.entries.patterns), body], dim=1)

    def logits(self, queries: Tensor, keys: Tensor, gen: int) -> Tensor:
        """Logits of one generator's entries, [n, E_g]."""
        own = self.entries.own(gen)
        likeness = self.match.likeness(queries[:, :_MEET] @ keys[own, :_MEET].T)
        learned = queries[:, _MEET:] @ keys[own, _MEET:].T / _MEET_ROOT
        return self.snap(likeness * self.sharpness.weight[gen] + learned + self.usual[own])  # type: ignore[no-any-return]


class RdNet(nn.Module):
    """M3: features [n, F] and codebook entries [n] -> [n, 2]: gain in D and bits, both normalised.

    A tile and an entry are read apart and meet late, so that a bank's entries are read once, not per tile.
    """

    def __init__(self, *, codebook: Codebook, features: int = FEATURES, hidden: int = 96) -> None:
        super().__init__()
        self.entries, self.match = Entries(codebook), Match()
        self.trunk = _trunk(features, hidden)
        self.tile_part = nn.Linear(hidden, hidden)
        self.gate, self.shift = _gates(len(NAMES), hidden)
        self.param_part = nn.Linear(_WAVES * MAX_PARAMS, hidden)
        self.like_part = nn.Linear(1, hidden, bias=False)
        self.snap = Snap()
        self.mixed = nn.Sequential(nn.ReLU(), Snap(), nn.Linear(hidden, hidden // 2), nn.ReLU(), Snap())
        self.head = nn.Linear(hidden // 2, 2)
        self.out = Snap()

    def forward(self, features: Tensor, entry: Tensor) -> Tensor:
        """[n, 2] of pairs."""
        return self.meet(self.tile(features), self.candidate(entry))

    def tile(self, features: Tensor) -> Tensor:
        """What one side knows, [n, 64 + hidden]."""
        return torch.cat([self.match.query(features), self.snap(self.tile_part(self.trunk(features)))], dim=1)

    def candidate(self, entry: Tensor) -> Tensor:
        """The other side, [.., 64 + hidden]."""
        gen = self.entries.gens[entry]
        own = self.snap(self.param_part(self.snap(waves(self.entries.shares[entry]))))
        own = self.snap(own * self.gate(gen) + self.shift(gen))
        return torch.cat([self.match.keys(self.entries.patterns[entry]), own], dim=-1)

    def meet(self, tile: Tensor, candidate: Tensor) -> Tensor:
        """[.., 2] from both sides, broadcast."""
        likeness = self.match.likeness((tile[..., :_MEET] * candidate[..., :_MEET]).sum(dim=-1, keepdim=True))
        a, b = tile[..., _MEET:], candidate[..., _MEET:]
        return self.out(self.head(self.mixed(a * b + a + b + self.snap(self.like_part(likeness) * 8.0))))  # type: ignore[no-any-return]


def waves(shares: Tensor) -> Tensor:
    """Shares of ranges [.., P] as [.., 5 P]: themselves, and cosine and sine of one and of two turns."""
    turn = 2.0 * torch.pi * shares
    return torch.cat([shares, turn.cos(), turn.sin(), (2 * turn).cos(), (2 * turn).sin()], dim=-1)
