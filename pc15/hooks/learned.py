"""Learned hooks: nets that narrow the encoder's search, in one `AiHooks`.

Answers are multiples of 1/256 from exact sums (see `fixed_point`), ties go to the lowest index.
"""

from __future__ import annotations

import hashlib
import json
import numbers
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_PARAMS
from pc15.errors import ConfigError, HooksError
from pc15.hooks.features import layer_features
from pc15.hooks.heuristic import checked_topk, top_generators
from pc15.hooks.protocol import LayerView, Proposals
from pc15.hooks.roles import ROLES
from pc15.hooks.roles.params import ParamPredictor
from pc15.hooks.roles.rd import RdPredictor
from pc15.hooks.roles.selector import Selector
from pc15.hooks.weights import HooksWarning, Predictor, card_path, read_role
from pc15.proc.generators import NAMES, load

__all__ = ["AiHooks"]


class AiHooks:
    """Learned hooks: M1 keeps generators, M2 proposes entries of theirs, M3 ranks what was proposed.

    Any role may be left out; without M2 the search goes through all rows of the generators that M1 keeps.

    Args:
        selector, param_predictor, rd_predictor: hooks, or paths of their weights.
        topk: generators kept per tile and layer.
        entries: codebook entries proposed per generator.
        keep: most rows proposed per tile and layer.
        strict: as in `Selector`, for weights that are given as paths.
    Raises:
        ConfigError: an option below 1, or no role at all.
        HooksError: unusable weights, with `strict`.
    """

    def __init__(
        self,
        selector: Selector | str | Path | None = None,
        param_predictor: ParamPredictor | str | Path | None = None,
        rd_predictor: RdPredictor | str | Path | None = None,
        *,
        topk: int = 8,
        entries: int = 8,
        keep: int = 48,
        strict: bool = False,
    ) -> None:
        if selector is None and param_predictor is None and rd_predictor is None:
            raise ConfigError("AiHooks got no role at all; give selector=Selector(weights='m1.safetensors')")
        self.topk = checked_topk(topk)
        for name, value in (("entries", entries), ("keep", keep)):
            if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
                raise ConfigError(f"AiHooks {name} is {value!r}; give a whole number of at least 1")
        self.entries, self.keep = int(entries), int(keep)
        self.selector = Selector(selector, strict=strict) if isinstance(selector, str | Path) else selector
        self.param_predictor = (
            ParamPredictor(param_predictor, strict=strict)
            if isinstance(param_predictor, str | Path)
            else param_predictor
        )
        self.rd_predictor = (
            RdPredictor(rd_predictor, strict=strict) if isinstance(rd_predictor, str | Path) else rd_predictor
        )
        self._seen: tuple[LayerView, Tensor] | None = None

    @classmethod
    def of(cls, predictors: Iterable[Predictor], **options: Any) -> AiHooks:
        """Hooks of these predictors, each in its own slot, with options as the class takes them."""
        return cls(**{predictor.slot: predictor for predictor in predictors}, **options)  # type: ignore[arg-type]

    @classmethod
    def from_folder(cls, folder: Path) -> AiHooks | None:
        """Hooks of all weights in a folder, by the role in their cards; None if none of them can be used.

        Weights without a card, a card without weights, and a pair that does not fit cost one `HooksWarning` each.

        Raises:
            ConfigError: neither weights nor cards, or two weights that would answer the same question.
        """
        found: dict[str, tuple[Path, str]] = {}  # path and role by slot
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

    def select(self, view: LayerView) -> Tensor | None:
        """The `topk` likeliest generators of each tile, [n,G] bool; None without M1."""
        if self.selector is None or not self.selector.usable(view.candidates):
            return None
        return top_generators(self.selector.logits(self._features(view)), self.topk, view.candidates.start)

    def propose(self, view: LayerView, allowed: Tensor | None) -> Proposals | None:
        """The likeliest rows, at most `keep` per tile, by probability of generator, entry and seed; None without M2."""
        if self.param_predictor is None or not self.param_predictor.usable(view.candidates):
            return None
        features = self._features(view)
        table, device = view.candidates, features.device
        starts = torch.tensor(table.start, device=device)
        if allowed is None:
            allowed = (starts[1:] > starts[:-1]).expand(len(features), -1)
        pairs, qv, score, offsets = self.param_predictor.best(features, allowed, self.entries)
        if self.selector is not None and self.selector.ready:
            shares = self.selector.logits(features).log_softmax(dim=1)
            score = score + shares[pairs[:, 0], pairs[:, 1]].view(-1, 1)
        seeds = torch.tensor([load(g).seeds for g in range(len(NAMES))], device=device)
        own = seeds[pairs[:, 1]].view(-1, 1)
        score = ((score - own.to(torch.float64).log()) * 256.0).round().to(torch.int64)
        draws = int(own.max()) if len(own) else 1
        index = torch.arange(draws, device=device)
        rows = starts[pairs[:, 1]].view(-1, 1, 1) + qv.unsqueeze(2) * own.unsqueeze(2) + index  # [m,E,S]
        rows = torch.where((qv.unsqueeze(2) >= 0) & (index < own.unsqueeze(2)), rows, -1).flatten(1)
        score = score.unsqueeze(2).expand(-1, -1, draws).flatten(1)
        return _gathered(rows, score, offsets, pairs[:, 0], len(features), table.rows, self.keep)

    def rank(self, view: LayerView, rows: Tensor, keep: int) -> Tensor | None:
        """Predicted RD of each row, [n,C]; None without M3."""
        if self.rd_predictor is None or not self.rd_predictor.usable(view.candidates):
            return None
        return self.rd_predictor.cost(self._features(view), view, rows)

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
        norms = json.dumps({role: card["normalisation"] for role, card in cards.items()}, sort_keys=True)
        files = "".join(str(card["sha256"]) for card in cards.values())
        if len(cards) > 1:
            files = hashlib.sha256(files.encode()).hexdigest()
        return {
            "name": "+".join(str(card["name"]) for card in cards.values()),
            "version": str(next(iter(cards.values()))["version"]),
            "norm": hashlib.sha256(norms.encode()).hexdigest()[:8],
            "sha256": files[:16],
        }

    def _features(self, view: LayerView) -> Tensor:
        """Features of a view; the three questions about one view share them."""
        if self._seen is None or self._seen[0] is not view:
            self._seen = view, layer_features(view.residual, view.layer)
        return self._seen[1]


def _role_of(weights: Path) -> str | None:
    """The role of weights, by their card or, if that cannot be read, by their name; None, and a warning, if unknown."""
    try:
        return read_role(card_path(weights), tuple(ROLES))
    except HooksError as error:
        if weights.stem in ROLES:
            return weights.stem  # its predictor says what is wrong, once
        warnings.warn(f"encoding without {weights.name}: {error}", HooksWarning, stacklevel=4)
        return None


def _gathered(
    rows: Tensor, score: Tensor, offsets: Tensor, tile: Tensor, tiles: int, all_rows: int, keep: int
) -> Proposals:
    """The `keep` best rows of each tile from rows of its (tile, generator) pairs.

    Args:
        rows, score: [m,R] int64, row -1 = none.   offsets: [m, MAX_PARAMS].   tile: [m], ascending.
    """
    device, width = rows.device, rows.shape[1]
    count = torch.bincount(tile, minlength=tiles)
    first = torch.cumsum(count, 0) - count
    place = torch.arange(len(tile), device=device) - first[tile]  # number of the pair within its tile
    most = int(count.max()) if tiles and len(tile) else 1
    impossible = torch.iinfo(torch.int64).min
    key = torch.full((tiles, most, width), impossible, dtype=torch.int64, device=device)
    key[tile, place] = torch.where(rows >= 0, score * all_rows + (all_rows - 1 - rows), impossible)
    key = key.flatten(1)
    best = key.topk(min(keep, key.shape[1]), dim=1)
    real = best.values > impossible
    chosen = all_rows - 1 - best.values.remainder(all_rows)
    source = torch.zeros((tiles, most), dtype=torch.int64, device=device)
    source[tile, place] = torch.arange(len(tile), device=device)
    pair = source.gather(1, torch.div(best.indices, width, rounding_mode="floor"))
    steps = offsets[pair] if len(offsets) else torch.zeros((*pair.shape, MAX_PARAMS), dtype=torch.int64, device=device)
    return Proposals(torch.where(real, chosen, -1), torch.where(real.unsqueeze(2), steps, 0))
