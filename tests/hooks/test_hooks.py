"""Hooks without weights, and learned ones: what they propose, and what they do about weights that do not fit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from torch import Tensor

import pc15
from pc15.bitstream.programs import MAX_PARAMS
from pc15.errors import ConfigError, HooksError
from pc15.hooks.features import FEATURE_VERSION, layer_features, structure
from pc15.hooks.fixed_point import frozen
from pc15.hooks.heuristic import HeuristicHooks, family_scores, top_generators
from pc15.hooks.learned import AiHooks
from pc15.hooks.protocol import CandidateTable, LayerView
from pc15.hooks.roles import ROLES, ParamPredictor, RdPredictor, Selector
from pc15.hooks.roles.common import Entries
from pc15.hooks.roles.rd import interpolated
from pc15.hooks.weights import CARD_VERSION, METADATA_KEY, HooksWarning, codec_fingerprint, metadata_of
from pc15.proc.codebook import OFFSET_MAX, load_codebook
from pc15.proc.coords import tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import draw_levels, render

CODEBOOK = load_codebook("v15_grid")


@pytest.fixture(scope="module")
def bank() -> CandidateTable:
    """Every candidate of the codebook, undrawn."""
    gens, qvs, seeds, start = [], [], [], [0]
    for gen in range(len(NAMES)):
        count, draws = CODEBOOK.size(gen), load(gen).seeds
        gens.append(torch.full((count * draws,), gen))
        qvs.append(torch.arange(count).repeat_interleave(draws))
        seeds.append(torch.arange(draws).repeat(count))
        start.append(start[-1] + count * draws)
    return CandidateTable(tuple(start), torch.cat(gens), torch.cat(qvs), torch.cat(seeds))


def noise(n: int) -> Tensor:
    return (torch.randn(n, 32, 32, generator=torch.Generator().manual_seed(2)) * 300).to(torch.int32)


def view(bank: CandidateTable, residual: Tensor, layer: int = 0) -> LayerView:
    return LayerView(residual=residual, layer=layer, tile=residual.shape[1], candidates=bank)


def write_weights(folder: Path, role: str, **changes: Any) -> Path:
    """An untrained net with a card; `changes` go into the card."""
    torch.manual_seed(7)
    net = ROLES[role].make_net(hidden=16, codebook=CODEBOOK)
    codec, features = codec_fingerprint(CODEBOOK), layer_features(noise(20), 0)
    mean, std = features.mean(dim=0), features.std(dim=0).clamp(min=0.01)
    text = json.dumps({"role": role, "codec": codec}, sort_keys=True, separators=(",", ":"))
    data = safetensors.torch.save(net.state_dict(), metadata={METADATA_KEY: text})
    path = folder / f"{role}.safetensors"
    path.write_bytes(data)
    card: dict[str, Any] = {
        "card": CARD_VERSION,
        "name": role,
        "version": pc15.__version__,
        "role": role,
        "feature_version": FEATURE_VERSION,
        "sha256": hashlib.sha256(data).hexdigest(),
        "net": {"hidden": 16},
        "codec": codec,
        "codebook": {"id": CODEBOOK.id, "fingerprint": CODEBOOK.fingerprint},
        "normalisation": {"mean": mean.tolist(), "std": std.tolist()},
        "lambda_rd": 0.05,
        "area_share": 0.5625,
        "target": {"mean": [0.01, 12.0], "std": [0.02, 3.0]},
        "calibration": {name: {"x": [-1.0, 0.0, 50.0], "y": [0.0, 0.0, 50.0]} for name in ("gain", "bits")},
        **changes,
    }
    path.with_suffix(".yaml").write_text(yaml.safe_dump(card))
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {role: write_weights(folder, role) for role in ROLES}


# ---------------------------------------------------------------- no weights


def test_heuristics_keep_topk_generators_that_have_candidates(bank: CandidateTable):
    for topk in (1, 8, len(NAMES), 1000):
        chosen = HeuristicHooks(topk).select(view(bank, noise(5)))
        assert chosen.shape == (5, len(NAMES))
        assert chosen.sum(dim=1).tolist() == [min(topk, len(NAMES))] * 5
    start = [0] * (len(NAMES) + 1)
    start[4:] = [10] * (len(NAMES) - 3)
    alone = top_generators(torch.zeros(2, len(NAMES)), 8, start)
    assert alone.nonzero().tolist() == [[0, 3], [1, 3]]


def test_equal_scores_go_to_the_lower_generator():
    scores = torch.full((1, 53), 0.5)
    scores[0, 40] = 0.5 + 1 / 1024  # the same to 1/256
    assert top_generators(scores, 3, list(range(54))).nonzero()[:, 1].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("STRIPES", {"freq": 6.0, "angle_deg": 30.0}),
        ("WAVES_DIR", {}),
        ("EDGE", {"offset": 0.2}),
        ("GRADIENT_LINEAR", {}),
        ("CHECKER", {"cells": 6}),
        ("GRADIENT_RADIAL", {}),
        ("BLOB", {}),
    ],
)
def test_heuristics_find_the_generator_that_drew_the_tile(bank: CandidateTable, name: str, params: dict[str, float]):
    residual = (render(name, 32, 32, params)[0] * 800).round().to(torch.int32)
    chosen = HeuristicHooks(8).select(view(bank, residual))
    kept = [NAMES[g] for g in chosen[0].nonzero().flatten().tolist()]
    assert name in kept


def test_a_choice_does_not_depend_on_the_batch(bank: CandidateTable):
    tiles, hooks = noise(40), HeuristicHooks(8)
    whole = hooks.select(view(bank, tiles))
    parts = [hooks.select(view(bank, tiles[i : i + 7])) for i in range(0, 40, 7)]
    assert torch.equal(torch.cat(parts), whole)


def test_every_generator_has_a_rule():
    scores = family_scores(structure(noise(2)))
    assert scores.shape == (2, len(NAMES))
    assert (scores > -0.5).all()


@pytest.mark.parametrize("topk", [0, -1, 1.5, True])
def test_topk_out_of_range_is_refused(topk: Any):
    with pytest.raises(ConfigError, match="topk"):
        HeuristicHooks(topk)


# ---------------------------------------------------------------- nets


def test_a_frozen_net_answers_alike_alone_and_in_any_batch():
    torch.manual_seed(1)
    features = torch.randn(100, 434)
    gen = torch.arange(100) % len(NAMES)
    entry = torch.arange(100) * 97
    selector, entries, rd = (frozen(ROLES[role].make_net(hidden=64, codebook=CODEBOOK)) for role in ROLES)
    for net, given in ((selector, (features,)), (entries, (features, gen)), (rd, (features, entry))):
        whole, parts = net(*given), [net(*(g[i : i + 3] for g in given)) for i in range(0, 100, 3)]
        if isinstance(whole, tuple):
            for k, part in enumerate(whole):
                assert torch.equal(torch.cat([p[k] for p in parts]), part)
        else:
            assert torch.equal(torch.cat(parts), whole)
            assert torch.equal(whole * 256, (whole * 256).round())


def test_freezing_changes_an_answer_only_a_little():
    torch.manual_seed(1)
    net = Selector.make_net(hidden=64, codebook=CODEBOOK)
    features = torch.randn(50, 434)
    with torch.no_grad():
        before = net(features)
        assert (frozen(net)(features) - before).abs().max() < 0.05


def test_an_untrained_net_already_finds_the_entry_that_drew_the_tile():
    torch.manual_seed(1)
    net = frozen(ParamPredictor.make_net(hidden=16, codebook=CODEBOOK))
    for name, qv in (("EDGE", 500), ("BLOB", 700), ("GRADIENT_LINEAR", 40)):
        gen = NAMES.index(name)
        levels = CODEBOOK.levels(gen, torch.tensor([qv]), torch.zeros((1, MAX_PARAMS), dtype=torch.int64))
        drawn = draw_levels(gen, levels, torch.zeros(1, dtype=torch.int64), tile_grid(32), 0)
        features = layer_features((drawn - drawn.sum() // 1024) // 16, 0)
        logits, offsets = net(features, torch.tensor([gen]))
        assert qv in logits[0].topk(40).indices.tolist()
        assert logits[0].isfinite().sum() == CODEBOOK.size(gen)
        assert offsets.abs().max() <= OFFSET_MAX


def test_entries_are_counted_through_all_generators():
    entries = Entries(CODEBOOK)
    assert entries.starts[-1] == len(entries.gens) == len(entries.shares) == len(entries.patterns)
    edge = NAMES.index("EDGE")
    assert entries.gens[entries.own(edge)].eq(edge).all()
    assert len(entries.gens[entries.own(edge)]) == CODEBOOK.size(edge)
    assert ((entries.shares >= 0) & (entries.shares < 1)).all()
    rms = entries.patterns[entries.own(edge)].square().mean(dim=1).sqrt()
    assert 0.9 < float(rms.median()) < 1.05


def test_interpolation_holds_its_ends():
    value = torch.tensor([-5.0, 0.0, 0.5, 1.0, 2.0, 9.0])
    assert interpolated(value, [0.0, 1.0, 2.0], [1.0, 3.0, 3.5]).tolist() == [1.0, 1.0, 2.0, 3.0, 3.5, 3.5]
    assert interpolated(value, [0.0], [7.0]).tolist() == [7.0] * 6


# ---------------------------------------------------------------- learned hooks


def test_learned_hooks_propose_rows_of_allowed_generators(bank: CandidateTable, weights: dict[str, Path]):
    hooks = AiHooks(weights["selector"], weights["params"], weights["rd"], topk=5, entries=4, keep=20, strict=True)
    seen = view(bank, noise(6), 2)
    allowed = hooks.select(seen)
    assert allowed is not None
    assert allowed.sum(dim=1).tolist() == [5] * 6
    proposals = hooks.propose(seen, allowed)
    assert proposals is not None and proposals.offsets is not None
    rows = proposals.rows
    assert rows.shape == (6, 20)
    assert proposals.offsets.shape == (6, 20, MAX_PARAMS)
    assert proposals.offsets.abs().max() <= OFFSET_MAX
    for tile in range(6):
        own = rows[tile][rows[tile] >= 0].tolist()
        assert len(set(own)) == len(own) > 0
        assert all(allowed[tile, bank.gen[row]] for row in own)
    cost = hooks.rank(seen, rows, 6)
    assert cost is not None
    assert cost.shape == rows.shape
    assert torch.isinf(cost[rows < 0]).all() and cost[rows >= 0].isfinite().all()


def test_proposals_do_not_depend_on_the_batch(bank: CandidateTable, weights: dict[str, Path]):
    hooks = AiHooks(weights["selector"], weights["params"], weights["rd"], keep=32, strict=True)
    tiles = noise(9)
    seen = view(bank, tiles)
    whole = hooks.propose(seen, hooks.select(seen))
    assert whole is not None and whole.offsets is not None
    ranked = hooks.rank(seen, whole.rows, 8)
    for i in range(9):
        one = view(bank, tiles[i : i + 1])
        alone = hooks.propose(one, hooks.select(one))
        assert alone is not None and alone.offsets is not None
        width = alone.rows.shape[1]
        assert torch.equal(alone.rows[0], whole.rows[i, :width])
        assert torch.equal(alone.offsets[0], whole.offsets[i, :width])
        cost = hooks.rank(one, alone.rows, 8)
        assert cost is not None and ranked is not None
        assert torch.equal(cost[0], ranked[i, :width])


def test_a_role_that_is_left_out_has_no_opinion(bank: CandidateTable, weights: dict[str, Path]):
    seen = view(bank, noise(2))
    only = AiHooks(selector=Selector(weights["selector"], strict=True))
    assert only.propose(seen, only.select(seen)) is None
    assert only.rank(seen, torch.zeros(2, 3, dtype=torch.int64), 1) is None
    params = AiHooks(param_predictor=ParamPredictor(weights["params"], strict=True), entries=1, keep=10_000)
    assert params.select(seen) is None
    proposals = params.propose(seen, None)
    assert proposals is not None
    present = [g for g in range(len(NAMES)) if bank.start[g + 1] > bank.start[g]]
    assert {int(bank.gen[row]) for row in proposals.rows[0] if row >= 0} == set(present)
    rd = AiHooks(rd_predictor=RdPredictor(weights["rd"], strict=True))
    assert rd.select(seen) is None
    with pytest.raises(ConfigError, match="no role"):
        AiHooks()


def test_what_goes_into_the_stream_is_short_json(weights: dict[str, Path]):
    described = AiHooks(weights["selector"], weights["params"], weights["rd"]).describe()
    assert set(described) == {"name", "version", "norm", "sha256"}
    assert len(json.dumps(described)) < 160
    assert described["version"] == pc15.__version__
    assert HeuristicHooks().describe() == {"name": "heuristic", "version": "1"}


def test_the_price_of_a_bit_can_be_changed(bank: CandidateTable, weights: dict[str, Path]):
    seen, rows = view(bank, noise(2)), torch.arange(12).view(2, 6)
    features = layer_features(seen.residual, 0)
    cheap = RdPredictor(weights["rd"], lambda_rd=0.001).cost(features, seen, rows)
    dear = RdPredictor(weights["rd"], lambda_rd=10.0).cost(features, seen, rows)
    assert (dear > cheap).all()


def test_a_folder_of_weights_becomes_hooks(weights: dict[str, Path], tmp_path: Path):
    hooks = AiHooks.from_folder(weights["rd"].parent)
    found = (hooks.selector, hooks.param_predictor, hooks.rd_predictor)
    assert [type(one) for one in found] == [Selector, ParamPredictor, RdPredictor]
    for name in ("a", "b"):
        for source in (weights["rd"], weights["rd"].with_suffix(".yaml")):
            (tmp_path / f"{name}{source.suffix}").write_bytes(source.read_bytes())
    with pytest.raises(ConfigError, match="a.safetensors and .*b.safetensors are both rd weights; keep one"):
        AiHooks.from_folder(tmp_path)
    (tmp_path / "a.yaml").write_text("role: critic\n")
    with pytest.raises(HooksError, match="role 'critic'; it must be one of selector, params, rd"):
        AiHooks.from_folder(tmp_path)


# ---------------------------------------------------------------- weights that do not fit


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def _edit(**changes: Any) -> Any:
    def edit(path: Path) -> None:
        card = yaml.safe_load(path.with_suffix(".yaml").read_text())
        for key, value in changes.items():
            part = card
            *outer, last = key.split("__")
            for name in outer:
                part = part[name]
            part[last] = value
        path.with_suffix(".yaml").write_text(yaml.safe_dump(card))

    return edit


DAMAGE: list[tuple[str, Any, str]] = [
    ("flipped bit", _flip, "SHA-256"),
    ("no weights", lambda path: path.unlink(), "cannot read"),
    ("no card", lambda path: path.with_suffix(".yaml").unlink(), "cannot read"),
    ("card is no YAML", lambda path: path.with_suffix(".yaml").write_text("{"), "not YAML"),
    ("card is a list", lambda path: path.with_suffix(".yaml").write_text("[1]"), "no card"),
    ("card is binary", lambda path: path.with_suffix(".yaml").write_bytes(b"\xff\xfe\x00"), "not YAML"),
    ("other features", _edit(feature_version=99), "features 99"),
    ("other codec", _edit(codec="0" * 64), "another codec"),
    ("other codebook", _edit(codebook__fingerprint="0" * 64), "another codebook"),
    ("unknown codebook", _edit(codebook__id="nowhere"), "needs codebook 'nowhere'"),
    ("other role", _edit(role="rd_"), "role 'rd_'"),
    ("other size", _edit(net__hidden=17), "tensor"),
    ("hidden is text", _edit(net__hidden="wide"), "net.hidden"),
    ("huge net", _edit(net__hidden=10**9), "net.hidden"),
    ("short normalisation", _edit(normalisation__mean=[0.0]), "normalisation.mean"),
    ("zero std", _edit(normalisation__std=[0.0] * 434), "normalisation.std"),
    ("nan in the card", _edit(normalisation__mean=[float("nan")] * 434), "normalisation.mean"),
]


@pytest.mark.parametrize(("damage", "says"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_weights_that_do_not_fit_cost_one_warning(bank: CandidateTable, tmp_path: Path, damage: Any, says: str):
    path = write_weights(tmp_path, "selector")
    damage(path)
    with pytest.warns(HooksWarning) as caught:
        hooks = AiHooks(selector=Selector(path))
    assert len(caught) == 1
    assert says in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert hooks.select(view(bank, noise(2))) is None
    assert hooks.describe() == {}
    with pytest.raises(HooksError):
        Selector(path, strict=True)


@pytest.mark.parametrize("change", [_edit(calibration={}), _edit(target__std=[1.0]), _edit(lambda_rd="x")])
def test_a_surrogate_needs_its_calibration(tmp_path: Path, change: Any):
    path = write_weights(tmp_path, "rd")
    change(path)
    with pytest.raises(HooksError, match="calibration"):
        RdPredictor(path, strict=True)


def test_nothing_is_unpickled(tmp_path: Path):
    path = write_weights(tmp_path, "selector")
    evil = pickle.dumps({"trunk": np.zeros(3)})
    path.write_bytes(evil)
    _edit(sha256=hashlib.sha256(evil).hexdigest())(path)
    with pytest.raises(HooksError, match="not a safetensors file"):
        Selector(path, strict=True)


def test_values_that_are_not_finite_are_refused(tmp_path: Path):
    path = write_weights(tmp_path, "selector")
    state = safetensors.torch.load(path.read_bytes())
    state["head.bias"][0] = float("nan")
    text = metadata_of(path.read_bytes())
    data = safetensors.torch.save(state, metadata={METADATA_KEY: json.dumps(text)})
    path.write_bytes(data)
    _edit(sha256=hashlib.sha256(data).hexdigest())(path)
    with pytest.raises(HooksError, match="not finite"):
        Selector(path, strict=True)


def test_another_codebook_in_the_encoder_costs_one_warning(bank: CandidateTable, weights: dict[str, Path]):
    other = dataclasses.replace(bank, start=tuple(s // 2 for s in bank.start))
    hooks = AiHooks(selector=Selector(weights["selector"]))
    with pytest.warns(HooksWarning, match="other entries") as caught:
        assert hooks.select(view(other, noise(1))) is None
        assert hooks.select(view(other, noise(1))) is None
    assert len(caught) == 1
