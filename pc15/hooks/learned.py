"""Learned hooks: nets that narrow the encoder's search, in one `AiHooks`.

Answers come of whole numbers (see `integer_net`), ties go to the lowest index.
"""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import warnings
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from pc15.errors import ConfigError, HooksError, shown
from pc15.hooks.protocol import CellChoice, LayerView, Proposals
from pc15.hooks.roles import ROLES
from pc15.hooks.roles.params import ParamPredictor
from pc15.hooks.roles.rd import RdPredictor
from pc15.hooks.roles.selector import CELLS, Selector
from pc15.hooks.roles.squares import SquareGuide
from pc15.hooks.squares import SquareChoice, SquareView
from pc15.hooks.weights import HooksWarning, Predictor, card_path, read_role
from pc15.search.backend.protocol import BankTerms, CellRows
from pc15.search.bank import Bank
from pc15.search.cells import Cells

__all__ = ["AiHooks"]

_P = TypeVar("_P", bound=Predictor)
TOPK = 256
"""Cells of a tile: half as many take 8 % less time for 0.7 % more bits at equal SSIM, on six photographs."""


class AiHooks:
    """Learned hooks: in tiles M1 chooses cells of the bank, M2 entries inside them, M3 the order of what is scored
    exactly; in the squares of photographs M4 says which ways to code them are worth trying.

    Any role may be left out.  Without M1 cells are chosen by their centroids; without M2 the search goes through all
    rows of the cells; without M4 all ways are tried.

    Args:
        selector, param_predictor, rd_predictor, squares: hooks, or paths of their weights.
        topk: cells kept per tile and layer; or several such numbers, for the first layers in turn, the last of them
            for all others as well.  What is left after many layers is like noise, and single cells promise less.
        keep: most rows proposed per tile and layer where M3 ranks them; without it, the search's shortlist is.
        pays: least probability of a layer that pays, by M1, with which a tile is searched at all.
        strict: as in `Selector`, for weights that are given as paths.
    Raises:
        ConfigError: an option out of range, or no role at all.
        HooksError: unusable weights, with `strict`.
    """

    def __init__(
        self,
        selector: Selector | str | Path | None = None,
        param_predictor: ParamPredictor | str | Path | None = None,
        rd_predictor: RdPredictor | str | Path | None = None,
        squares: SquareGuide | str | Path | None = None,
        *,
        topk: int | Sequence[int] = TOPK,
        keep: int = 48,
        pays: float = 0.03,
        strict: bool = False,
    ) -> None:
        if selector is None and param_predictor is None and rd_predictor is None and squares is None:
            raise ConfigError("AiHooks got no role at all; give selector=Selector(weights='m1.safetensors')")
        counts: tuple[int, ...] = tuple(topk) if isinstance(topk, Sequence) else (topk,)
        if not counts:
            raise ConfigError("AiHooks topk is empty; give at least one number of cells")
        for name, value in (*(("topk", count) for count in counts), ("keep", keep)):
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or not 1 <= value <= CELLS:
                raise ConfigError(f"AiHooks {name} is {shown(value)}; give a whole number from 1 to {CELLS}")
        if isinstance(pays, bool) or not isinstance(pays, numbers.Real) or not 0.0 <= pays < 1.0:
            raise ConfigError(
                f"AiHooks pays is {shown(pays)}; give a probability from 0, which searches all, to below 1"
            )
        self.topk: tuple[int, ...] = tuple(int(count) for count in counts)
        self.keep: int = int(keep)
        self.pays: float = float(pays)
        self.selector: Selector | None = (
            Selector(selector, strict=strict) if isinstance(selector, str | Path) else selector
        )
        self.param_predictor: ParamPredictor | None = (
            ParamPredictor(param_predictor, strict=strict)
            if isinstance(param_predictor, str | Path)
            else param_predictor
        )
        self.rd_predictor: RdPredictor | None = (
            RdPredictor(rd_predictor, strict=strict) if isinstance(rd_predictor, str | Path) else rd_predictor
        )
        self.guide: SquareGuide | None = (
            SquareGuide(squares, strict=strict) if isinstance(squares, str | Path) else squares
        )
        self._of_bank: weakref.WeakKeyDictionary[Bank, dict[str, Any]] = weakref.WeakKeyDictionary()
        self._unseen: set[int] = set()

    @classmethod
    def of(cls, predictors: Iterable[Predictor], **options: Any) -> AiHooks:
        """Hooks of these predictors, each in its own slot, with options as the class takes them."""
        return cls(**{predictor.slot: predictor for predictor in predictors}, **options)  # type: ignore[arg-type]

    @classmethod
    def from_folder(cls, folder: str | Path) -> AiHooks | None:
        """Hooks of all weights in a folder, by the role in their cards; None if none of them can be used.

        Weights without a card, a card without weights, and a pair that does not fit cost one `HooksWarning` each.

        Raises:
            ConfigError: neither weights nor cards, or two weights that would answer the same question.
        """
        folder, found = Path(folder), dict[str, tuple[Path, str]]()  # path and role by slot
        names = {
            path.with_suffix(".safetensors") for kind in ("safetensors", "yaml") for path in folder.glob(f"*.{kind}")
        }
        if not names:
            raise ConfigError(f"no .safetensors file in {folder}; write some with pc15learn export")
        for weights in sorted(names):
            role = _role_of(weights)
            if role is None:
                continue
            slot = ROLES[role].slot
            if slot in found:
                other, other_role = found[slot]
                kinds = f"both {role} weights" if role == other_role else f"{other_role} and {role}, which do one job"
                raise ConfigError(f"{other} and {weights} are {kinds}; keep one of them in {folder}")
            found[slot] = weights, role
        usable = [made for made in (ROLES[role](weights) for weights, role in found.values()) if made.ready]
        return cls.of(usable) if usable else None

    def select(self, view: LayerView) -> None:
        """No opinion: cells are a finer choice."""

    def cells(self, view: LayerView, allowed: Tensor | None) -> CellChoice | None:
        """The likeliest cells of each tile, none where no layer is thought to pay; None without M1."""
        if (selector := self._asked(self.selector, view)) is None or view.inputs is None:
            return None
        least = math.log(self.pays / (1.0 - self.pays)) if self.pays else -math.inf
        cells = self._cells(selector, view)
        return CellChoice(cells, selector.cells(view.inputs, cells, self._count(view), least))

    def propose(self, view: LayerView, allowed: Tensor | None, cells: CellChoice | None) -> Proposals | None:
        """The most promising rows of the cells; None without M2."""
        if (params := self._asked(self.param_predictor, view)) is None or view.inputs is None:
            return None
        cells = view.nearest_cells(self._count(view)) if cells is None else cells
        keys = self._keys(params, view, cells.of)
        return Proposals(params.best(view.inputs, cells.chosen, keys, view.bits, self.keep))

    def rank(self, view: LayerView, rows: Tensor, keep: int) -> Tensor | None:
        """Predicted order of the rows, [n,C], those first that exact scores would like; None without M3."""
        if (rd := self._asked(self.rd_predictor, view)) is None or view.inputs is None:
            return None
        seen, known = _seen(view), self._of_bank.setdefault(view.candidates, {})
        if "traits" not in known:
            known["traits"] = rd.traits(seen.pixels)
        return rd.cost(view.inputs, rows, seen, known["traits"], view.bits)

    def squares(self, view: SquareView) -> SquareChoice | None:
        """Ways that M4 thinks worth their time; None without M4."""
        if self.guide is None or self.guide.card is None:
            return None
        about = {"name": self.guide.card["name"], "sha256": str(self.guide.card["sha256"])[:4]}
        return SquareChoice(self.guide.net, self.guide.prune, tries=self.guide.tries, about=about)

    def _count(self, view: LayerView) -> int:
        """Cells of each tile in a layer."""
        return self.topk[min(view.layer, len(self.topk) - 1)]

    def _asked(self, predictor: _P | None, view: LayerView) -> _P | None:
        """A predictor that can be asked about these tiles; None, and one warning per reason, otherwise.

        Raises:
            HooksError: it cannot, with `strict`.
        """
        if predictor is None or not predictor.usable(view.candidates):
            return None
        if view.candidates.seen is None:
            problem = f"nets see tiles of 16 px and from 32 px on, these have {view.tile} px"
            if predictor.strict:
                raise HooksError(f"the {predictor.role} hook: {problem}")
            if view.tile not in self._unseen:
                self._unseen.add(view.tile)
                warnings.warn(f"encoding without learned hooks: {problem}", HooksWarning, stacklevel=4)
            return None
        return predictor

    def _cells(self, selector: Selector, view: LayerView) -> Cells:
        """M1's cells of a bank, as its surroundings make them look."""
        bank, around = view.candidates, view.around
        known = self._of_bank.setdefault(bank, {})
        if known.get("cells_around") != around:
            pixels = _seen(view).pixels
            known["cells_around"] = around
            known["cells"] = Cells.of_centroids(bank, selector.centroids.to(pixels.device), pixels, around)
        cells: Cells = known["cells"]
        return cells

    def _keys(self, params: ParamPredictor, view: LayerView, cells: Cells) -> CellRows:
        """M2's keys of a bank, cell by cell."""
        known = self._of_bank.setdefault(view.candidates, {})
        if known.get("keys_of") != (id(cells), view.around):
            known["keys_of"] = id(cells), view.around
            known["keys_cells"] = cells  # so that no other can have its id
            known["keys"] = CellRows.of_cells(cells.of, len(cells), params.key_terms(_seen(view)))
        keys: CellRows = known["keys"]
        return keys

    def describe(self) -> dict[str, Any]:
        """Which weights are in use, briefly: it travels in the stream.  Empty if none are, which writes nothing.

        norm and sha256 are the first digits; sha256 is the file's own, or of all files' hashes one after another.
        """
        cards = {
            hook.role: hook.card
            for hook in (self.selector, self.param_predictor, self.rd_predictor)
            if hook is not None and hook.card is not None
        }
        if not cards:
            return {}
        norms = json.dumps({role: card["input_version"] for role, card in cards.items()}, sort_keys=True)
        files = "".join(str(card["sha256"]) for card in cards.values())
        if len(cards) > 1:
            files = hashlib.sha256(files.encode()).hexdigest()
        return {
            "name": "+".join(str(card["name"]) for card in cards.values()),
            "version": str(next(iter(cards.values()))["version"]),
            "norm": hashlib.sha256(norms.encode()).hexdigest()[:4],
            "sha256": files[:8],
        }


def _seen(view: LayerView) -> BankTerms:
    """The patterns of a bank as nets see them."""
    assert view.seen is not None, "checked before a net is asked"
    return view.seen


def _role_of(weights: Path) -> str | None:
    """The role of weights, by their card or, if that cannot be read, by their name; None, and a warning, if unknown."""
    try:
        return read_role(card_path(weights), tuple(ROLES))
    except HooksError as error:
        if weights.stem in ROLES:
            return weights.stem  # its predictor says what is wrong, once
        warnings.warn(f"encoding without {weights.name}: {error}", HooksWarning, stacklevel=4)
        return None
