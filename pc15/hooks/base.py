"""Hooks without an opinion, to start one's own from: a subclass answers the questions that it has an answer to.

Nothing here needs torch, nor do hooks of photographs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from pc15.hooks.protocol import CellChoice, LayerView, Proposals
    from pc15.hooks.squares import SquareChoice, SquareView

__all__ = ["HOOK_METHODS", "NoOpinion"]

HOOK_METHODS = ("select", "cells", "propose", "rank", "describe")
"""Methods that all hooks have; `squares` may be missing, which is no opinion."""


class NoOpinion:
    """All questions of `pc15.hooks.protocol.EncoderHooks`, answered by None."""

    def select(self, view: LayerView) -> Tensor | None:
        """No opinion."""
        return None

    def cells(self, view: LayerView, allowed: Tensor | None) -> CellChoice | None:
        """No opinion."""
        return None

    def propose(self, view: LayerView, allowed: Tensor | None, cells: CellChoice | None) -> Proposals | None:
        """No opinion."""
        return None

    def rank(self, view: LayerView, rows: Tensor, keep: int) -> Tensor | None:
        """No opinion."""
        return None

    def squares(self, view: SquareView) -> SquareChoice | None:
        """No opinion."""
        return None

    def describe(self) -> dict[str, Any]:
        """Nothing to say."""
        return {}
