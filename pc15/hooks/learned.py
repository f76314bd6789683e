"""Learned hooks: safetensors and the YAML beside them -> nets that propose candidates to the encoder.

Weights are never trusted: file and card are hashed, shaped and version-checked when they are loaded, nothing is ever
unpickled.  What does not fit costs one `HooksWarning` and that hook's opinion, not the encode; `strict=True` makes it
a `HooksError`.  Answers are multiples of 1/256 from exact sums (see `nets.frozen`), ties go to the lowest index.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import safetensors
import safetensors.torch
import torch
import yaml
from torch import Tensor, nn

from pc15.bitstream.programs import MAX_PARAMS
from pc15.errors import ConfigError, HooksError, MissingTableError
from pc15.hooks.features import FEATURE_VERSION, FEATURES, layer_features
from pc15.hooks.heuristic import LayerView, Proposals, checked_topk, top_generators
from pc15.hooks.nets import VALUE_BITS, VALUE_TOP, ParamNet, RdNet, SelectorNet, frozen, snapped
from pc15.proc.codebook import OFFSET_MAX, Codebook, load_codebook
from pc15.proc.generators import NAMES, load

if TYPE_CHECKING:
    from pc15.search.bank import Bank

__all__ = [
    "CARD_VERSION",
    "AiHooks",
    "HooksWarning",
    "ParamPredictor",
    "RdPredictor",
    "Role",
    "Selector",
    "card_path",
    "codec_fingerprint",
    "make_net",
    "metadata_of",
]

Role = Literal["selector", "params", "rd"]

CARD_VERSION = 1
METADATA_KEY = "pc15"
MAX_WEIGHT_BYTES = 1 << 28
MAX_CARD_BYTES = 1 << 22
_HIDDEN_MAX = 4096
_CHUNK_VALUES = 1 << 23  # logits or activations held at once
_IMPOSSIBLE = -1e6


class HooksWarning(UserWarning):
    """Weights could not be used; the encoder searches without that hook."""


def card_path(weights: str | Path) -> Path:
    """The YAML that goes with a weights file: the same name with the suffix .yaml."""
    return Path(weights).with_suffix(".yaml")


def codec_fingerprint(codebook: Codebook) -> str:
    """SHA-256 of what a net's outputs mean: generators, their parameters and levels, and the codebook."""
    meaning = [
        [g.name, g.seeds, [[p.name, p.lo, p.hi, p.levels, p.log, p.periodic, p.kind] for p in g.params]]
        for g in (load(gen) for gen in range(len(NAMES)))
    ]
    text = json.dumps([meaning, MAX_PARAMS, OFFSET_MAX, codebook.fingerprint], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def make_net(role: Role, *, hidden: int, codebook: Codebook) -> nn.Module:
    """An untrained net of that role for a codebook."""
    if role == "selector":
        return SelectorNet(hidden=hidden)
    if role == "params":
        return ParamNet(hidden=hidden, codebook=codebook)
    return RdNet(hidden=hidden, codebook=codebook)


# ---------------------------------------------------------------- weights and their card


@dataclass(frozen=True)
class _Loaded:
    """One role, ready: its net in encoder form, its card, its codebook."""

    net: nn.Module
    card: Mapping[str, Any]
    codebook: Codebook
    mean: Tensor
    std: Tensor


def _load(weights: Path, role: Role) -> _Loaded:
    """Read and check one role's files.

    Raises:
        HooksError: missing, damaged, or made for another codec, codebook, feature version or role.
    """
    path = card_path(weights)
    card = _read_card(path)
    if card["role"] != role:
        raise HooksError(f"{path} is a card of role {card['role']!r}, not {role!r}; give it to that hook")
    if card["card"] != CARD_VERSION or card["feature_version"] != FEATURE_VERSION:
        raise HooksError(
            f"{path} was made for card version {card['card']} and features {card['feature_version']}; this build has "
            f"{CARD_VERSION} and {FEATURE_VERSION}: fit and export again"
        )
    try:
        codebook = load_codebook(card["codebook"]["id"])
    except MissingTableError as error:
        raise HooksError(f"{path} needs codebook {card['codebook']['id']!r}: {error}") from error
    for what, found, expected in (
        ("codebook", card["codebook"]["fingerprint"], codebook.fingerprint),
        ("codec", card["codec"], codec_fingerprint(codebook)),
    ):
        if found != expected:
            raise HooksError(
                f"{path} was made for another {what} (fingerprint {found[:12]}, this build has {expected[:12]}); "
                "label, fit and export again"
            )
    data = _read_bytes(weights, MAX_WEIGHT_BYTES)
    if (digest := hashlib.sha256(data).hexdigest()) != card["sha256"]:
        raise HooksError(
            f"{weights} has SHA-256 {digest[:12]}, its card says {card['sha256'][:12]}; "
            "the file is damaged or belongs to another card: export again"
        )
    net = make_net(role, hidden=card["net"]["hidden"], codebook=codebook)
    try:
        state = safetensors.torch.load(data)
        stated = metadata_of(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise HooksError(f"{weights} is not a safetensors file: {error}; export again") from error
    if stated.get("role") != role or stated.get("codec") != card["codec"]:
        raise HooksError(f"{weights} and {path.name} do not belong together; export again")
    _fill(net, state, weights)
    mean, std = (torch.tensor(card["normalisation"][k], dtype=torch.float64) for k in ("mean", "std"))
    return _Loaded(frozen(net), card, codebook, mean, std)


def _read_bytes(path: Path, limit: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > limit:
            raise HooksError(f"{path} has {size} bytes, over the limit of {limit}; it is no file of ours")
        return path.read_bytes()
    except OSError as error:
        raise HooksError(f"cannot read {path}: {error.strerror or error}; check the path, or export again") from error


def metadata_of(data: bytes) -> dict[str, Any]:
    """The JSON under METADATA_KEY in the header of safetensors bytes, checked to be whole by their loader."""
    length = int.from_bytes(data[:8], "little")
    stated = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][METADATA_KEY])
    if not isinstance(stated, dict):
        raise ValueError(f"its metadata {METADATA_KEY!r} is no JSON object")
    return stated


def _fill(net: nn.Module, state: dict[str, Tensor], weights: Path) -> None:
    own = net.state_dict()
    for name in sorted(own.keys() | state.keys()):
        if name not in own or name not in state:
            which = "no" if name in own else "an unknown"
            raise HooksError(f"{weights} has {which} tensor {name!r}; it was made by another version: export again")
        if state[name].shape != own[name].shape or not bool(state[name].isfinite().all()):
            raise HooksError(
                f"{weights}: tensor {name!r} is {list(state[name].shape)} or not finite, "
                f"{list(own[name].shape)} is needed; export again"
            )
    net.load_state_dict(state)


_FIELDS: dict[str, type | tuple[type, ...]] = {
    "card": int,
    "name": str,
    "version": str,
    "role": str,
    "feature_version": int,
    "codec": str,
    "codebook": dict,
    "net": dict,
    "normalisation": dict,
    "sha256": str,
}


def _read_card(path: Path) -> dict[str, Any]:
    """A card whose fields have the right types and lengths."""
    try:
        card = yaml.safe_load(_read_bytes(path, MAX_CARD_BYTES).decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise HooksError(f"{path} is not YAML: {str(error).splitlines()[0]}; export again") from error
    if not isinstance(card, dict):
        raise HooksError(f"{path} is no card of weights, a mapping is expected; export again")
    for name, kind in _FIELDS.items():
        if not isinstance(card.get(name), kind):
            raise HooksError(f"{path}: field {name!r} is missing or of the wrong type; export again")
    for part, names in (("codebook", ("id", "fingerprint")), ("net", ("hidden",)), ("normalisation", ("mean", "std"))):
        for name in names:
            value = card[part].get(name)
            good = {
                "hidden": isinstance(value, int) and 1 <= value <= _HIDDEN_MAX,
                "mean": _numbers(value, FEATURES),
                "std": _numbers(value, FEATURES) and min(value) > 0,
            }.get(name, isinstance(value, str))
            if not good:
                raise HooksError(f"{path}: {part}.{name} is missing or out of range; export again")
    if card["role"] == "rd":
        _check_rd(card, path)
    return card


def _numbers(value: Any, count: int | None = None) -> bool:
    """A list of finite numbers, of that length."""
    good = isinstance(value, list) and all(
        isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v) for v in value
    )
    return good and (count is None or len(value) == count)


def _check_rd(card: dict[str, Any], path: Path) -> None:
    target, knots = card.get("target"), card.get("calibration")
    good = isinstance(target, dict) and _numbers(target.get("mean"), 2) and _numbers(target.get("std"), 2)
    good = good and _numbers([card.get("lambda_rd"), card.get("area_share")]) and isinstance(knots, dict)
    good = good and card["lambda_rd"] > 0 and card["area_share"] > 0
    for name in ("gain", "bits"):
        part = knots.get(name) if good and isinstance(knots, dict) else None
        good = good and isinstance(part, dict) and _numbers(part.get("x")) and _numbers(part.get("y"), len(part["x"]))
        good = good and len(part["x"]) >= 1 and part["x"] == sorted(part["x"])  # type: ignore[index]
    if not good:
        raise HooksError(
            f"{path}: target, lambda_rd, area_share or calibration is missing or out of range; export again"
        )


class _RoleHook:
    """What the three roles share: loading with one warning, and one copy of the net per device."""

    role: Role

    def __init__(self, weights: str | Path, *, strict: bool = False) -> None:
        self.weights = Path(weights)
        self.strict = strict
        self.problem: str | None = None
        self._loaded: _Loaded | None = None
        self._moved: dict[torch.device, tuple[nn.Module, Tensor, Tensor]] = {}
        try:
            self._loaded = _load(self.weights, self.role)
        except HooksError as error:
            self._give_up(str(error))

    def _give_up(self, problem: str) -> None:
        """Raise, or warn once and stay silent from now on."""
        if self.strict:
            raise HooksError(problem)
        self.problem, self._loaded = problem, None
        warnings.warn(f"encoding without the {self.role} hook: {problem}", HooksWarning, stacklevel=4)

    @property
    def ready(self) -> bool:
        """Whether the weights could be used."""
        return self._loaded is not None

    @property
    def card(self) -> Mapping[str, Any] | None:
        """The YAML beside the weights, None if they could not be used."""
        return None if self._loaded is None else self._loaded.card

    def usable(self, bank: Bank) -> bool:
        """Whether the weights fit this bank; the first that does not costs the warning."""
        if self._loaded is not None and tuple(bank.start) != _bank_starts(self._loaded.codebook):
            self._give_up(
                f"{self.weights} was made for codebook {self._loaded.codebook.id!r}, the encoder's has other entries; "
                "encode with that codebook_id, or label and fit for this one"
            )
        return self._loaded is not None

    def _on(self, device: torch.device) -> tuple[Any, Tensor, Tensor]:
        """Net, mean and std on a device."""
        assert self._loaded is not None
        if device not in self._moved:
            made = self._loaded
            self._moved[device] = (made.net.to(device), made.mean.to(device), made.std.to(device))
        return self._moved[device]

    def _normalised(self, features: Tensor) -> Tensor:
        _, mean, std = self._on(features.device)
        return snapped((features.to(torch.float64) - mean) / std, VALUE_BITS, VALUE_TOP)


@functools.lru_cache(maxsize=4)
def _bank_starts(codebook: Codebook) -> tuple[int, ...]:
    starts = [0]
    for gen in range(len(NAMES)):
        starts.append(starts[-1] + codebook.size(gen) * load(gen).seeds)
    return tuple(starts)


class Selector(_RoleHook):
    """M1: which generators are worth trying.

    Args:
        weights: a .safetensors file with its .yaml beside it.
        strict: raise `HooksError` instead of warning and staying silent.
    """

    role: Role = "selector"

    def logits(self, features: Tensor) -> Tensor:
        """[n, FEATURES] -> [n, G] float64, multiples of 1/256."""
        net, _, _ = self._on(features.device)
        scores: Tensor = net(self._normalised(features))
        return scores


class ParamPredictor(_RoleHook):
    """M2: which codebook entries of a generator are worth scoring, and which offsets around them.

    Args:
        weights, strict: see `Selector`.
    """

    role: Role = "params"

    def __init__(self, weights: str | Path, *, strict: bool = False) -> None:
        super().__init__(weights, strict=strict)
        self._known_keys: dict[torch.device, Tensor] = {}

    def best(self, features: Tensor, allowed: Tensor, entries: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The `entries` likeliest entries of each allowed (tile, generator) pair.

        Args:
            features: [n, FEATURES].   allowed: [n, G] bool.
        Returns:
            pairs [m,2] int64 (tile, generator); qv [m,E] int64, -1 beyond the codebook; score [m,E] float64,
            log-probability in multiples of 1/256; offsets [m, MAX_PARAMS] int64.
        """
        assert self._loaded is not None
        net, _, _ = self._on(features.device)
        normal = self._normalised(features)
        seen, keys = net.trunk(normal), self._keys(net, features.device)
        pairs = torch.nonzero(allowed)
        m, device = len(pairs), features.device
        qv = torch.full((m, entries), -1, dtype=torch.int64, device=device)
        score = torch.full((m, entries), _IMPOSSIBLE, dtype=torch.float64, device=device)
        offsets = torch.zeros((m, MAX_PARAMS), dtype=torch.int64, device=device)
        for gen in torch.unique(pairs[:, 1]).tolist():
            if not (size := self._loaded.codebook.size(gen)):
                continue
            every = torch.nonzero(pairs[:, 1] == gen).flatten()
            for at in every.split(max(1, _CHUNK_VALUES // size)):
                queries, steps = net.read(normal[pairs[at, 0]], seen[pairs[at, 0]], pairs[at, 1])
                shares = net.logits(queries, keys, gen).log_softmax(dim=1)
                best, place = _top(shares, entries)
                qv[at, : best.shape[1]], score[at, : best.shape[1]] = place, best
                offsets[at] = steps.round().to(torch.int64)
        return pairs, qv, score, offsets

    def _keys(self, net: Any, device: torch.device) -> Tensor:
        """Keys of all entries; they do not depend on the tile."""
        if device not in self._known_keys:
            self._known_keys[device] = net.keys()
        return self._known_keys[device]


def _top(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest scores of each row as multiples of 1/256, and their places; ties go to the lower place."""
    width = scores.shape[1]
    rank = (scores * 256.0).round().to(torch.int64) * width
    key = (rank + torch.arange(width - 1, -1, -1, device=scores.device)).topk(min(count, width), dim=1).values
    whole = torch.div(key, width, rounding_mode="floor")
    return whole.to(torch.float64) / 256.0, width - 1 - (key - whole * width)


class RdPredictor(_RoleHook):
    """M3: what a candidate would gain and cost.

    Args:
        weights, strict: see `Selector`.
        lambda_rd: price of a bit; None takes the one that the labels were made with.
    """

    role: Role = "rd"

    def __init__(self, weights: str | Path, *, strict: bool = False, lambda_rd: float | None = None) -> None:
        super().__init__(weights, strict=strict)
        self.lambda_rd = lambda_rd

    def cost(self, features: Tensor, view: LayerView, rows: Tensor) -> Tensor:
        """Predicted RD of adding each bank row, [n,C] float64; +inf where a row is -1."""
        assert self._loaded is not None
        net, _, _ = self._on(features.device)
        bank, starts = view.bank, torch.tensor(net.entries.starts, device=features.device)
        at = rows.clamp(min=0)
        used, place = torch.unique(starts[bank.gen[at]] + bank.qv[at], return_inverse=True)
        candidates = net.candidate(used)
        tiles = net.tile(self._normalised(features))
        step = max(1, _CHUNK_VALUES // max(1, rows.shape[1] * tiles.shape[1]))
        parts = [
            net.meet(tiles[i : i + step, None], candidates[place[i : i + step]])
            for i in range(0, max(1, len(tiles)), step)
        ]
        predicted = torch.cat(parts)  # [n,C,2]
        gain, bits = (self._calibrated(predicted[:, :, k], k) for k in (0, 1))
        lam = self._loaded.card["lambda_rd"] if self.lambda_rd is None else self.lambda_rd
        area = view.tile * view.tile * self._loaded.card["area_share"]
        cost = bits * (lam / area) - gain
        return torch.where(rows >= 0, (cost * float(1 << 20)).round() / float(1 << 20), math.inf)

    def _calibrated(self, raw: Tensor, column: int) -> Tensor:
        """Out of the net's normalisation and through the isotonic knots."""
        assert self._loaded is not None
        card = self._loaded.card
        value = raw * card["target"]["std"][column] + card["target"]["mean"][column]
        knots = card["calibration"][("gain", "bits")[column]]
        return interpolated(value, knots["x"], knots["y"])


def interpolated(value: Tensor, x: list[float], y: list[float]) -> Tensor:
    """Piecewise linear through the knots (x, y), constant beyond them; x rises."""
    at, to = (torch.tensor(knots, dtype=torch.float64, device=value.device) for knots in (x, y))
    if len(x) == 1:
        return to.expand(value.shape)
    value = value.to(torch.float64).clamp(x[0], x[-1]).contiguous()
    right = torch.bucketize(value, at).clamp(1, len(x) - 1)
    width = (at[right] - at[right - 1]).clamp(min=1e-12)
    return to[right - 1] + (to[right] - to[right - 1]) * ((value - at[right - 1]) / width)


# ---------------------------------------------------------------- the hooks


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
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"AiHooks {name} is {value!r}; give a whole number of at least 1")
        self.entries, self.keep = entries, keep
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

    def select(self, view: LayerView) -> Tensor | None:
        """The `topk` likeliest generators of each tile, [n,G] bool; None without M1."""
        if self.selector is None or not self.selector.usable(view.bank):
            return None
        return top_generators(self.selector.logits(self._features(view)), self.topk, view.bank.start)

    def propose(self, view: LayerView, allowed: Tensor | None) -> Proposals | None:
        """The likeliest rows, at most `keep` per tile, by probability of generator, entry and seed; None without M2."""
        if self.param_predictor is None or not self.param_predictor.usable(view.bank):
            return None
        features = self._features(view)
        bank, device = view.bank, features.device
        starts = torch.tensor(bank.start, device=device)
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
        return _gathered(rows, score, offsets, pairs[:, 0], len(features), bank.rows, self.keep)

    def rank(self, view: LayerView, rows: Tensor, keep: int) -> Tensor | None:
        """Predicted RD of each row, [n,C]; None without M3."""
        if self.rd_predictor is None or not self.rd_predictor.usable(view.bank):
            return None
        return self.rd_predictor.cost(self._features(view), view, rows)

    def describe(self) -> dict[str, Any]:
        """Which weights are in use, briefly: it travels in the stream.

        norm and sha256 are the first digits; sha256 is the file's own, or of all files' hashes one after another.
        """
        cards = {
            hook.role: hook.card
            for hook in (self.selector, self.param_predictor, self.rd_predictor)
            if hook is not None and hook.card is not None
        }
        if not cards:
            return {"name": "none", "version": "none"}
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


def _gathered(
    rows: Tensor, score: Tensor, offsets: Tensor, tile: Tensor, tiles: int, bank_rows: int, keep: int
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
    key[tile, place] = torch.where(rows >= 0, score * bank_rows + (bank_rows - 1 - rows), impossible)
    key = key.flatten(1)
    best = key.topk(min(keep, key.shape[1]), dim=1)
    real = best.values > impossible
    chosen = bank_rows - 1 - best.values.remainder(bank_rows)
    source = torch.zeros((tiles, most), dtype=torch.int64, device=device)
    source[tile, place] = torch.arange(len(tile), device=device)
    pair = source.gather(1, torch.div(best.indices, width, rounding_mode="floor"))
    steps = offsets[pair] if len(offsets) else torch.zeros((*pair.shape, MAX_PARAMS), dtype=torch.int64, device=device)
    return Proposals(torch.where(real, chosen, -1), torch.where(real.unsqueeze(2), steps, 0))


def normalisation(features: np.ndarray[Any, np.dtype[np.float32]]) -> dict[str, list[float]]:
    """Mean and standard deviation of training features, as a card holds them; constant features get 1."""
    mean = features.astype(np.float64).mean(axis=0)
    std = features.astype(np.float64).std(axis=0)
    std = np.where(std < 1e-3, 1.0, std)
    return {"mean": [round(float(v), 6) for v in mean], "std": [round(float(v), 6) for v in std]}
