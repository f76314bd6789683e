"""Parts that the nets share: a trunk over features, a codebook's entries as tensors, and their likeness to a tile.

`Match` compares a residual with patterns the way the search does, by an inner product, but on 64 learned projections
of a 16x16 patch; what is learned beyond that starts from the exact answer at low resolution.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from pc15.bitstream.programs import MAX_PARAMS
from pc15.hooks.features import BLOCKS, PATCH
from pc15.hooks.fixed_point import VALUE_BITS, VALUE_TOP, Snap, snapped
from pc15.proc.codebook import Codebook
from pc15.proc.coords import tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels

__all__ = ["CHUNK_VALUES", "MEET", "WAVES", "Entries", "Match", "gates", "trunk", "waves"]

MEET = 64
"""Projections on which a residual and a pattern are compared."""

WAVES = 5
"""Numbers that `waves` makes of one share."""

CHUNK_VALUES = 1 << 23
"""Logits or activations that a predictor holds at once."""

_PIXELS = PATCH * PATCH


def trunk(inputs: int, hidden: int) -> nn.Sequential:
    """Two layers of ReLU units that all heads of a net read."""
    first, second = nn.Linear(inputs, hidden), nn.Linear(hidden, hidden)
    return nn.Sequential(Snap(), first, nn.ReLU(), Snap(), second, nn.ReLU(), Snap())


def gates(gens: int, width: int) -> tuple[nn.Embedding, nn.Embedding]:
    """A factor and a shift per generator, near 1 and 0."""
    gate, shift = nn.Embedding(gens, width), nn.Embedding(gens, width)
    nn.init.normal_(gate.weight, mean=1.0, std=0.3)
    nn.init.normal_(shift.weight, std=0.1)
    return gate, shift


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
        """Slice of a generator's entries."""
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
    """Likeness of a residual to each of some patterns: squared correlation on 64 projections, in about 0..1.

    Both projections begin as the means of 2x2 blocks, so an untrained net already compares at 8x8.
    """

    def __init__(self) -> None:
        super().__init__()
        self.residual, self.pattern = nn.Linear(_PIXELS, MEET, bias=False), nn.Linear(_PIXELS, MEET, bias=False)
        i = torch.arange(PATCH)
        block = (i.view(-1, 1) // 2 * (PATCH // 2) + i.view(1, -1) // 2).flatten()
        pooled = nn.functional.one_hot(block, MEET).T.float() / 2.0  # unit rows
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


def waves(shares: Tensor) -> Tensor:
    """Shares of ranges [.., P] as [.., 5 P]: themselves, and cosine and sine of one and of two turns."""
    turn = 2.0 * torch.pi * shares
    return torch.cat([shares, turn.cos(), turn.sin(), (2 * turn).cos(), (2 * turn).sin()], dim=-1)
