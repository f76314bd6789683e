"""The questions that the encoder asks a hook before it adds a layer, and the types of the answers.

A hook narrows the search: which generators (`select`), which candidates (`propose`), in which order (`rank`).  It
decides nothing, so a stream made with hooks decodes like any other.  docs/adding-a-hook.md has an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

__all__ = ["HOOK_METHODS", "CandidateTable", "EncoderHooks", "LayerView", "Proposals"]

HOOK_METHODS = ("select", "propose", "rank", "describe")
"""Methods of `EncoderHooks`, in the order in which they are called."""


@dataclass(frozen=True, eq=False)
class CandidateTable:
    """Every candidate of the search, one per row: K rows, those of one generator beside each other.

    start: G+1 row numbers, generator g has rows start[g]:start[g+1].
    gen, qv, seed: [K] int64: generator, codebook entry and seed index.
    """

    start: tuple[int, ...]
    gen: Tensor
    qv: Tensor
    seed: Tensor

    @property
    def rows(self) -> int:
        """Number of candidates."""
        return len(self.gen)


@dataclass(frozen=True)
class LayerView:
    """View of n tiles before one layer is added.

    residual: [n,T,T] int32 Q12 (4096 = luma 1.0), picture minus what is drawn so far, on the encoder's device.
    layer: number of the layer about to be added, from 0.   tile: T, px.   candidates: all rows that may be proposed.
    """

    residual: Tensor
    layer: int
    tile: int
    candidates: CandidateTable


@dataclass(frozen=True)
class Proposals:
    """Candidates that a hook thinks worth scoring.

    rows: [n,C] int64 rows of `LayerView.candidates`, -1 = padding.
    offsets: [n,C,MAX_PARAMS] int64 level steps within +-OFFSET_MAX, tried when a row wins; None for none.
    """

    rows: Tensor
    offsets: Tensor | None = None


class EncoderHooks(Protocol):
    """Narrows the search of one layer.  Hooks propose, the integer search decides; None always means no opinion."""

    def select(self, view: LayerView) -> Tensor | None:
        """Generators worth trying, [n,G] bool; None for all."""
        ...

    def propose(self, view: LayerView, allowed: Tensor | None) -> Proposals | None:
        """Candidates worth scoring; None for all rows of the allowed generators."""
        ...

    def rank(self, view: LayerView, rows: Tensor, keep: int) -> Tensor | None:
        """Predicted cost of candidates [n,C] (-1 = padding), lower is better; the encoder scores few exactly."""
        ...

    def describe(self) -> dict[str, Any]:
        """Plain JSON for the stream's metadata: name, version, and for weights norm and sha256; it costs bytes.

        Empty: there is nothing to say, and nothing is written."""
        ...
