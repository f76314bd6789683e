"""The questions that the encoder asks a hook, and the types of the answers.

A hook narrows the search: of a tile's layer, which generators (`select`) or which cells of the bank (`cells`), which
candidates (`propose`), in which order (`rank`); of a residual, which ways to code each square (`squares`).  It decides
nothing, so a stream made with hooks decodes like any other.  docs/adding-a-hook.md has examples.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from pc15.hooks.inputs import NetInputs
from pc15.hooks.squares import SquareChoice, SquareView
from pc15.search.backend.protocol import BankTerms
from pc15.search.bank import Bank
from pc15.search.cells import Cells
from pc15.search.windows import Surroundings

__all__ = ["CellChoice", "EncoderHooks", "LayerView", "Proposals", "SquareHooks"]


@dataclass(frozen=True, eq=False)
class LayerView:
    """View of n tiles before one layer is added.

    residual: [n,T,T] int32 Q12 (4096 = luma 1.0), picture minus what is drawn so far, on the encoder's device.
    picture: [n,T,T] int32 Q12.   layer: number of the layer about to be added, from 0.   tile: T, px.
    candidates: the bank, all rows that may be proposed: `start` (G+1 numbers, generator g has rows
        start[g]:start[g+1]), `gen`, `qv` and `seed` [K] int64, and their pixels.
    bits: [K] float32, what each row costs in this layer before its amplitude, in 1/256 bit.
    around: what lies around tiles, which patterns' energies depend on.
    """

    residual: Tensor
    picture: Tensor
    layer: int
    tile: int
    candidates: Bank
    bits: Tensor
    around: Surroundings
    look: Callable[[], NetInputs | None]
    index: Callable[[int], CellChoice]

    @functools.cached_property
    def inputs(self) -> NetInputs | None:
        """Inputs of nets; None where the bank is of tiles that they cannot see, below 16 px."""
        return self.look()

    @property
    def seen(self) -> BankTerms | None:
        """The bank as nets see it, see `NetInputs`; None where they cannot."""
        pixels = self.candidates.seen
        return None if pixels is None else self.candidates.terms(pixels is not self.candidates.pixels, self.around)

    def nearest_cells(self, count: int) -> CellChoice:
        """The `count` of the bank's own cells that are most like what is left of each tile."""
        return self.index(count)


@dataclass(frozen=True, eq=False)
class CellChoice:
    """Cells of the bank that are worth looking into.

    of: whose numbers they are.   chosen: [n,k] int64, different cells of each tile; -1 for none, of all where no layer
    is thought to pay.
    """

    of: Cells
    chosen: Tensor


@dataclass(frozen=True, eq=False)
class Proposals:
    """Candidates that a hook thinks worth scoring.

    rows: [n,C] int64 rows of `LayerView.candidates`, -1 = padding.
    offsets: [n,C,MAX_PARAMS] int64 level steps within +-OFFSET_MAX, tried when a row wins; None for none.
    """

    rows: Tensor
    offsets: Tensor | None = None


class EncoderHooks(Protocol):
    """Narrows the search.  Hooks propose, the integer search decides; None always means no opinion.

    The first four are asked about the tiles of programs; `SquareHooks` about photographs.
    """

    def select(self, view: LayerView) -> Tensor | None:
        """Generators worth trying, [n,G] bool; None for all."""
        ...

    def cells(self, view: LayerView, allowed: Tensor | None) -> CellChoice | None:
        """Cells worth looking into; None for all rows of the allowed generators."""
        ...

    def propose(self, view: LayerView, allowed: Tensor | None, cells: CellChoice | None) -> Proposals | None:
        """Candidates worth scoring; None for the best of the cells or, without these, of the generators."""
        ...

    def rank(self, view: LayerView, rows: Tensor, keep: int) -> Tensor | None:
        """Predicted cost of candidates [n,C] (-1 = padding), lower is better; the encoder scores `keep` exactly."""
        ...

    def describe(self) -> dict[str, Any]:
        """Plain JSON for a stream with tiles: name, version, and for weights norm and sha256; it costs bytes.

        Empty: there is nothing to say, and nothing is written."""
        ...


class SquareHooks(Protocol):
    """Narrows the search of a residual's squares."""

    def squares(self, view: SquareView) -> SquareChoice | None:
        """Ways to code squares that are worth trying; asked once per section of the luma, before it is searched."""
        ...
