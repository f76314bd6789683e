"""Hooks without weights, and learned ones: what they propose, and what they do about weights that do not fit."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
import yaml
from torch import Tensor

import pc15
from pc15.bitstream.container import read_container
from pc15.cli.hooks import hooks_of
from pc15.config import CodecConfig
from pc15.decoder import decode_y
from pc15.encoder import encode_y
from pc15.errors import ConfigError, HooksError
from pc15.hooks.features import structure
from pc15.hooks.heuristic import HeuristicHooks, family_scores, top_generators
from pc15.hooks.inputs import INPUT_VERSION
from pc15.hooks.learned import AiHooks
from pc15.hooks.protocol import LayerView, Proposals
from pc15.hooks.roles import ROLES, ParamPredictor, RdPredictor, Selector, SquareGuide
from pc15.hooks.roles.selector import CELLS
from pc15.hooks.weights import CARD_VERSION, METADATA_KEY, HooksWarning
from pc15.proc.codebook import load_codebook
from pc15.proc.generators import NAMES
from pc15.proc.registry import render
from pc15.search.backend.protocol import TileBatch
from pc15.search.bank import Bank, terms_of
from pc15.search.candidates import view_of
from pc15.search.label import lone_scorer
from pc15.search.score import Scorer
from pc15.search.windows import Surroundings

CODEBOOK = load_codebook("v15_grid")
PROGRAMS = CodecConfig.preset(
    "fast", tile=16, overlap=4, residual=False, codebook_id="v15_grid", max_layers=3, lambda_rd=0.2, device="cpu"
)
HIDDEN = 16


@pytest.fixture(scope="module")
def scorer() -> Scorer:
    return lone_scorer(PROGRAMS)


@pytest.fixture(scope="module")
def bank(scorer: Scorer) -> Bank:
    return scorer.bank


AROUND = Surroundings.of(PROGRAMS, blended=False)


def noise(n: int, tile: int = 16) -> Tensor:
    return (torch.randn(n, tile, tile, generator=torch.Generator().manual_seed(2)) * 300).to(torch.int32)


def view(scorer: Scorer, residual: Tensor, layer: int = 0) -> LayerView:
    """A view of tiles whose picture is the residual on a grey ground."""
    cls = torch.zeros(len(residual), dtype=torch.int64)
    return view_of(scorer, TileBatch(residual, (residual + 2048).clamp(0, 4095), cls), layer)


def one_of(seen: LayerView, scorer: Scorer, i: int) -> LayerView:
    """The same view of its i-th tile alone."""
    tiles = TileBatch(seen.residual[i : i + 1], seen.picture[i : i + 1], torch.zeros(1, dtype=torch.int64))
    return view_of(scorer, tiles, seen.layer)


def unseen(bank: Bank, residual: Tensor) -> LayerView:
    """A view for hooks that look at the residual alone, whatever the bank's tiles are."""

    def index(count: int) -> Any:
        raise AssertionError("nobody asked for cells")

    return LayerView(
        residual=residual,
        picture=residual,
        layer=0,
        tile=residual.shape[1],
        candidates=bank,
        bits=torch.zeros(bank.rows),
        around=AROUND,
        look=lambda: None,
        index=index,
    )


def facts(role: str, bank: Bank) -> dict[str, Any]:
    """What a net of a role begins with, of a bank."""
    assert bank.seen is not None
    if role == "selector":
        return {"centroids": terms_of(bank.seen[torch.arange(CELLS) * bank.rows // CELLS].clone(), AROUND)}
    if role == "params":
        pixels = bank.seen.to(torch.float32)
        pixels = pixels / pixels.square().sum(dim=1, keepdim=True).clamp(min=1.0).sqrt()
        rows = torch.linalg.svd(pixels[::8], full_matrices=False)[2][:64].contiguous()
        return {"basis": (rows, (pixels @ rows.t()).abs().amax(dim=0).clamp(min=1e-3))}
    return {}


def write(path: Path, role: str, state: Mapping[str, Tensor], **changes: Any) -> Path:
    """Weights with a card that fits them; `changes` go into the card."""
    book = "v15_squares" if role == "squares" else CODEBOOK.id
    codebook, codec = ROLES[role].made_for(book) if role in ROLES else ROLES["rd"].made_for(book)
    text = json.dumps({"role": role, "codec": codec}, sort_keys=True, separators=(",", ":"))
    data = safetensors.torch.save(dict(state), metadata={METADATA_KEY: text})
    path.write_bytes(data)
    card: dict[str, Any] = {
        "card": CARD_VERSION,
        "name": role,
        "version": pc15.__version__,
        "role": role,
        "input_version": ROLES[role].input_version if role in ROLES else INPUT_VERSION,
        "sha256": hashlib.sha256(data).hexdigest(),
        "net": {"hidden": HIDDEN},
        "codec": codec,
        "codebook": {"id": book, "fingerprint": codebook},
        "rates": [0.2],
        **changes,
    }
    path.with_suffix(".yaml").write_text(yaml.safe_dump(card))
    return path


@pytest.fixture(scope="module")
def states(bank: Bank) -> dict[str, dict[str, Tensor]]:
    """Tensors of an untrained net of each role."""
    torch.manual_seed(7)
    made: dict[str, Any] = {role: kind.make_net(hidden=HIDDEN, **facts(role, bank)) for role, kind in ROLES.items()}
    return {role: net.frozen() for role, net in made.items()}


@pytest.fixture(scope="module")
def weights(states: dict[str, dict[str, Tensor]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {role: write(folder / f"{role}.safetensors", role, state) for role, state in states.items()}


@pytest.fixture(scope="module")
def hooks(weights: dict[str, Path]) -> AiHooks:
    return AiHooks(weights["selector"], weights["params"], weights["rd"], topk=5, keep=20, pays=0.0, strict=True)


@pytest.fixture
def selector(states: dict[str, dict[str, Tensor]], tmp_path: Path) -> Path:
    """M1's weights, to be spoilt."""
    return write(tmp_path / "selector.safetensors", "selector", states["selector"])


# ---------------------------------------------------------------- no weights


def test_heuristics_keep_topk_generators_that_have_candidates(bank: Bank):
    for topk in (1, 8, len(NAMES), 1000):
        chosen = HeuristicHooks(topk).select(unseen(bank, noise(5, 32)))
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
def test_heuristics_find_the_generator_that_drew_the_tile(bank: Bank, name: str, params: dict[str, float]):
    residual = (render(name, 32, 32, params)[0] * 800).round().to(torch.int32)
    chosen = HeuristicHooks(8).select(unseen(bank, residual))
    kept = [NAMES[g] for g in chosen[0].nonzero().flatten().tolist()]
    assert name in kept


def test_a_choice_does_not_depend_on_the_batch(bank: Bank):
    tiles, hooks = noise(40, 32), HeuristicHooks(8)
    whole = hooks.select(unseen(bank, tiles))
    parts = [hooks.select(unseen(bank, tiles[i : i + 7])) for i in range(0, 40, 7)]
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


def drawn(bank: Bank, rows: list[int]) -> Tensor:
    """Residuals that are rows of the bank, [n,16,16] int32."""
    assert bank.seen is not None
    return bank.seen[rows].view(-1, 16, 16).to(torch.int32) * 6


def rows_named(bank: Bank) -> list[int]:
    """A row of each of some generators, in the middle of them."""
    return [(bank.start[g] + bank.start[g + 1]) // 2 for g in map(NAMES.index, ("BLOB", "STRIPES", "RINGS"))]


def test_untrained_nets_already_find_the_entry_that_drew_the_tile(
    bank: Bank, scorer: Scorer, states: dict[str, dict[str, Tensor]], weights: dict[str, Path], tmp_path: Path
) -> None:
    rows = rows_named(bank)
    seen = view(scorer, drawn(bank, rows))
    state = {**states["selector"], "answer.weight": torch.zeros_like(states["selector"]["answer.weight"])}
    cells = AiHooks(write(tmp_path / "selector.safetensors", "selector", state), pays=0.0, strict=True).cells(
        seen, None
    )
    assert cells is not None
    assert (cells.chosen == cells.of.of[rows][:, None]).any(dim=1).all()
    proposals = AiHooks(param_predictor=weights["params"], keep=32, strict=True).propose(seen, None, cells)
    assert proposals is not None
    assert (proposals.rows == torch.tensor(rows)[:, None]).any(dim=1).all()


def test_cells_are_different_and_rows_come_from_them(bank: Bank, scorer: Scorer, hooks: AiHooks) -> None:
    seen = view(scorer, noise(6), 2)
    assert hooks.select(seen) is None
    cells = hooks.cells(seen, None)
    assert cells is not None and cells.chosen.shape == (6, 5)
    assert all(len(set(own)) == 5 and min(own) >= 0 for own in cells.chosen.tolist())
    proposals = hooks.propose(seen, None, cells)
    assert proposals is not None and proposals.offsets is None and proposals.rows.shape == (6, 20)
    for own, chosen in zip(proposals.rows, cells.chosen.tolist(), strict=True):
        there = own[own >= 0]
        assert 0 < len(there) == len(there.unique())
        assert set(cells.of.of[there].tolist()) <= set(chosen)
        assert sum((cells.of.of == c).sum() for c in chosen) >= len(there)
    cost = hooks.rank(seen, proposals.rows, 6)
    assert cost is not None and cost.shape == proposals.rows.shape
    assert torch.isposinf(cost[proposals.rows < 0]).all() and cost[proposals.rows >= 0].isfinite().all()


def answers(hooks: AiHooks, seen: LayerView) -> list[Tensor]:
    """All that hooks say of a view."""
    cells = hooks.cells(seen, None)
    proposals = hooks.propose(seen, None, cells)
    assert cells is not None and proposals is not None
    cost = hooks.rank(seen, proposals.rows, 8)
    assert cost is not None
    return [cells.chosen, proposals.rows, cost]


def test_answers_do_not_depend_on_the_batch(scorer: Scorer, hooks: AiHooks) -> None:
    seen = view(scorer, noise(9), 1)
    whole = answers(hooks, seen)
    for i in range(9):
        for alone, among in zip(answers(hooks, one_of(seen, scorer, i)), whole, strict=True):
            assert torch.equal(alone[0], among[i])


def test_a_tile_and_its_negative_get_the_same_cells(scorer: Scorer, weights: dict[str, Path]) -> None:
    hooks = AiHooks(weights["selector"], pays=0.0, strict=True)
    residual = noise(5) // 16 * 16
    plain = lone_scorer(scorer.cfg.but(alpha_mix=0.0))  # structure is not alike in both
    found = [hooks.cells(view_of(plain, TileBatch(e, 2048 + noise(5), torch.zeros(5, dtype=torch.int64)), 0), None)
             for e in (residual, -residual)]  # fmt: skip
    assert found[0] is not None and found[1] is not None
    pairs = zip(found[0].chosen.tolist(), found[1].chosen.tolist(), strict=True)
    assert (
        sum(len(set(own) & set(other)) for own, other in pairs) > 0.95 * 5 * hooks.topk[0]
    )  # a half is rounded up in both


def test_a_role_that_is_left_out_has_no_opinion(bank: Bank, scorer: Scorer, weights: dict[str, Path]) -> None:
    seen = view(scorer, noise(2))
    only = AiHooks(selector=Selector(weights["selector"], strict=True))
    assert only.propose(seen, None, only.cells(seen, None)) is None
    assert only.rank(seen, torch.zeros(2, 3, dtype=torch.int64), 1) is None
    params = AiHooks(param_predictor=ParamPredictor(weights["params"], strict=True), topk=3, keep=500)
    assert params.cells(seen, None) is None
    proposals, nearest = params.propose(seen, None, None), seen.nearest_cells(3)
    assert proposals is not None
    for own, chosen in zip(proposals.rows, nearest.chosen.tolist(), strict=True):
        there = own[own >= 0]
        assert len(there) == min(500, sum(int((nearest.of.of == c).sum()) for c in chosen))
        assert set(nearest.of.of[there].tolist()) <= set(chosen)
    rd = AiHooks(rd_predictor=RdPredictor(weights["rd"], strict=True))
    assert rd.cells(seen, None) is None and rd.propose(seen, None, None) is None
    with pytest.raises(ConfigError, match="no role"):
        AiHooks()


def settled(states: dict[str, dict[str, Tensor]], path: Path, logit: int) -> Path:
    """M1's weights, sure of what a layer is worth."""
    state = {name: values.clone() for name, values in states["selector"].items()}
    state["answer.weight"][-1], state["answer.bias"][-1] = 0, logit * 256
    return write(path, "selector", state)


@pytest.mark.parametrize(
    ("logit", "pays", "searched"),
    [(-9, 0.1, False), (-9, 0.0, True), (-9, 1e-4, True), (-2, 0.1, True), (-3, 0.1, False), (3, 0.9, True),
     (1, 0.9, False)],
)  # fmt: skip
def test_tiles_that_no_layer_is_thought_to_pay_in_are_not_searched(
    scorer: Scorer, states: dict[str, dict[str, Tensor]], tmp_path: Path, logit: int, pays: float, searched: bool
) -> None:
    hooks = AiHooks(settled(states, tmp_path / "selector.safetensors", logit), pays=pays, strict=True)
    cells = hooks.cells(view(scorer, noise(3)), None)
    assert cells is not None
    assert bool((cells.chosen >= 0).all()) is searched
    assert bool((cells.chosen == -1).all()) is not searched


def test_a_picture_in_which_nothing_pays_has_no_layers(
    states: dict[str, dict[str, Tensor]], weights: dict[str, Path], tmp_path: Path
) -> None:
    never = settled(states, tmp_path / "selector.safetensors", -9)
    for others in ((), (weights["params"],), (weights["params"], weights["rd"])):
        coded = encode_y(texture(), PROGRAMS.but(ai=AiHooks(never, *others, strict=True)))
        assert coded.stats["layers"] == 0
        assert decode_y(coded["bitstream"]).shape == (1, 1, 40, 40)


def texture() -> Tensor:
    """Stripes beside a ramp, [1,1,40,40]."""
    x = torch.arange(40)
    rows = torch.where(x < 20, 128 + 100 * (x // 2 % 2), 60 + 2 * x)
    return rows.expand(1, 1, 40, 40).float() / 255.0


@pytest.mark.parametrize("roles", [("selector",), ("params",), ("selector", "params"), ("rd",), tuple(ROLES)])
def test_a_stream_made_with_nets_repeats_decodes_and_names_them(
    weights: dict[str, Path], roles: tuple[str, ...]
) -> None:
    predictors = [ROLES[role](weights[role], strict=True) for role in roles]
    made = [encode_y(texture(), PROGRAMS.but(ai=AiHooks.of(predictors, pays=0.0))) for _ in range(2)]
    assert made[0]["bitstream"] == made[1]["bitstream"]
    assert made[0].stats["layers"] > 0
    decoded, flat = (decode_y(one["bitstream"]) for one in (made[0], encode_y(texture(), PROGRAMS.but(max_layers=0))))
    assert pc15.psnr(texture(), decoded) > pc15.psnr(texture(), flat) + 1
    assert read_container(made[0]["bitstream"]).metadata["ai"]["name"] == "+".join(
        role for role in roles if role != "squares"
    )


def hostile(state: Mapping[str, Tensor], how: str) -> dict[str, Tensor]:
    """Tensors of the right types and shapes with the worst values."""
    if how == "random":
        draw = torch.Generator().manual_seed(1)
        return {
            name: torch.randint(*(torch.iinfo(v.dtype).min, torch.iinfo(v.dtype).max), v.shape, generator=draw,
                                dtype=v.dtype)
            for name, v in state.items()
        }  # fmt: skip
    value = {"least": lambda kind: torch.iinfo(kind).min, "most": lambda kind: torch.iinfo(kind).max}
    fill = value.get(how, lambda kind: 0)
    return {name: torch.full_like(v, fill(v.dtype)) for name, v in state.items()}


@pytest.mark.parametrize("how", ["least", "most", "zero", "random"])
@pytest.mark.filterwarnings("error")
def test_hostile_weights_make_streams_that_decode(
    scorer: Scorer, states: dict[str, dict[str, Tensor]], tmp_path: Path, how: str
) -> None:
    paths = [write(tmp_path / f"{role}.safetensors", role, hostile(state, how)) for role, state in states.items()]
    hooks = AiHooks(*paths, topk=3, keep=8, pays=0.0, strict=True)
    seen = view(scorer, noise(4))
    chosen, rows, cost = answers(hooks, seen)
    assert ((chosen >= -1) & (chosen < CELLS)).all() and ((rows >= -1) & (rows < scorer.bank.rows)).all()
    assert not cost.isnan().any()
    for alone, among in zip(answers(hooks, one_of(seen, scorer, 2)), (chosen, rows, cost), strict=True):
        assert torch.equal(alone[0], among[2])
    assert decode_y(encode_y(texture(), PROGRAMS.but(ai=hooks))["bitstream"]).shape == (1, 1, 40, 40)


@pytest.mark.parametrize(
    "options",
    [{"topk": 0}, {"topk": CELLS + 1}, {"topk": True}, {"keep": 0}, {"keep": 2.5}, {"pays": 1.0}, {"pays": -0.1},
     {"pays": "0.5"}, {"pays": float("nan")},],
)  # fmt: skip
def test_options_out_of_range_are_refused(weights: dict[str, Path], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"AiHooks {next(iter(options))} is"):
        AiHooks(weights["selector"], **options)


@pytest.mark.parametrize("options", [{"prune": 1.0}, {"prune": -0.1}, {"prune": None}, {"tries": 0}, {"tries": 9}])
def test_options_of_the_guide_of_squares_are_checked(weights: dict[str, Path], options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"SquareGuide {next(iter(options))} is"):
        SquareGuide(weights["squares"], **options)


def test_what_goes_into_the_stream_is_short_json(weights: dict[str, Path]):
    described = AiHooks(weights["selector"], weights["params"], weights["rd"]).describe()
    assert set(described) == {"name", "version", "norm", "sha256"}
    assert len(json.dumps(described)) < 160
    assert described["version"] == pc15.__version__
    assert HeuristicHooks().describe() == {"name": "heuristic", "version": "1"}
    alone = AiHooks(weights["rd"].with_name("selector.safetensors")).describe()
    assert alone["sha256"] == hashlib.sha256(weights["selector"].read_bytes()).hexdigest()[:8]


def test_tiles_that_nets_cannot_see_cost_one_warning_per_size(weights: dict[str, Path]) -> None:
    small = lone_scorer(PROGRAMS.but(tile=8, overlap=2))
    seen = view(small, noise(2, 8))
    silent = AiHooks(Selector(weights["selector"]), ParamPredictor(weights["params"]), RdPredictor(weights["rd"]))
    with pytest.warns(HooksWarning, match="tiles of 16 px and from 32 px on, these have 8 px") as caught:
        for _ in range(2):
            assert silent.cells(seen, None) is None and silent.propose(seen, None, None) is None
            assert silent.rank(seen, torch.zeros(2, 3, dtype=torch.int64), 2) is None
    assert len(caught) == 1
    with pytest.raises(HooksError, match="the selector hook: nets see tiles of 16 px"):
        AiHooks(weights["selector"], strict=True).cells(seen, None)
    assert silent.selector is not None and silent.selector.ready


# ---------------------------------------------------------------- weights that come with the codec


# ---------------------------------------------------------------- folders of weights


def test_a_folder_of_weights_becomes_hooks(weights: dict[str, Path], tmp_path: Path):
    hooks = AiHooks.from_folder(weights["rd"].parent)
    assert hooks is not None
    found = (hooks.selector, hooks.param_predictor, hooks.rd_predictor, hooks.guide)
    assert [type(one) for one in found] == [Selector, ParamPredictor, RdPredictor, SquareGuide]
    for name in ("a", "b"):
        for source in (weights["rd"], weights["rd"].with_suffix(".yaml")):
            (tmp_path / f"{name}{source.suffix}").write_bytes(source.read_bytes())
    with pytest.raises(ConfigError, match="a.safetensors and .*b.safetensors are both rd weights; keep one"):
        AiHooks.from_folder(tmp_path)
    (tmp_path / "a.yaml").write_text("role: critic\n")
    with pytest.warns(HooksWarning, match="role 'critic'; it must be one of selector, params, rd, squares") as caught:
        kept = AiHooks.from_folder(tmp_path)
    assert len(caught) == 1
    assert kept is not None and kept.rd_predictor is not None and kept.selector is None


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"selector.safetensors": ""}, "without the selector hook: cannot read .*selector.yaml"),
        ({"selector.safetensors": "", "selector.yaml": ""}, "without the selector hook: .* is no card of weights"),
        ({"selector.safetensors": "", "selector.yaml": "role: [selector]"}, "without the selector hook: .*'card'"),
        ({"selector.safetensors": "", "selector.yaml": "role: selector"}, "without the selector hook: .*'card'"),
        ({"rd.yaml": "role: rd"}, "without the rd hook"),
        ({"m1.safetensors": ""}, "without m1.safetensors: cannot read .*m1.yaml"),
        ({"m1.safetensors": "", "m1.yaml": "role: [selector]"}, r"m1.yaml has role \['selector'\]"),
        ({"m1.yaml": "{"}, "without m1.safetensors: .* is not YAML"),
    ],
)
def test_a_folder_of_weights_that_cannot_be_used_costs_one_warning_and_no_byte(
    tmp_path: Path, files: dict[str, str], says: str
) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.warns(HooksWarning, match=says) as caught:
        hooks = hooks_of(str(tmp_path))
    assert len(caught) == 1
    assert hooks is None


def test_a_card_whose_weights_are_gone_is_not_overlooked_beside_others(
    states: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    for role in ("selector", "rd"):
        write(tmp_path / f"{role}.safetensors", role, states[role])
    (tmp_path / "rd.safetensors").unlink()
    with pytest.warns(HooksWarning, match="without the rd hook: cannot read .*rd.safetensors") as caught:
        hooks = AiHooks.from_folder(tmp_path)
    assert len(caught) == 1
    assert hooks is not None and hooks.selector is not None and hooks.rd_predictor is None


def test_hooks_that_fell_silent_write_what_no_hooks_write(tmp_path: Path) -> None:
    with pytest.warns(HooksWarning):
        silent = AiHooks(selector=tmp_path / "none.safetensors")
    y = torch.arange(24 * 24).view(1, 1, 24, 24).float() / 576.0
    plain = CodecConfig.preset("fast", tile=16, residual=False, max_layers=2, device="cpu")
    assert encode_y(y, plain.but(ai=silent))["bitstream"] == encode_y(y, plain)["bitstream"]


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


def _rewritten(change: Any) -> Any:
    """Other tensors, with a card that says so."""

    def edit(path: Path) -> None:
        write(path, "selector", change(safetensors.torch.load(path.read_bytes())))

    return edit


DAMAGE: list[tuple[str, Any, str]] = [
    ("flipped bit", _flip, "SHA-256"),
    ("no weights", lambda path: path.unlink(), "cannot read"),
    ("no card", lambda path: path.with_suffix(".yaml").unlink(), "cannot read"),
    ("card is no YAML", lambda path: path.with_suffix(".yaml").write_text("{"), "not YAML"),
    ("card is a list", lambda path: path.with_suffix(".yaml").write_text("[1]"), "no card"),
    ("card is binary", lambda path: path.with_suffix(".yaml").write_bytes(b"\xff\xfe\x00"), "not YAML"),
    ("other inputs", _edit(input_version=99), "inputs 99"),
    ("inputs are text", _edit(input_version="1"), "input_version"),
    ("other card", _edit(card=1), "card version 1"),
    ("other codec", _edit(codec="0" * 64), "another codec"),
    ("other codebook", _edit(codebook__fingerprint="0" * 64), "another codebook"),
    ("unknown codebook", _edit(codebook__id="nowhere"), "needs codebook 'nowhere'"),
    ("other role", _edit(role="rd_"), "role 'rd_'"),
    ("other size", _edit(net__hidden=17), "tensor"),
    ("hidden is text", _edit(net__hidden="wide"), "net.hidden"),
    ("huge net", _edit(net__hidden=10**9), "net.hidden"),
    ("another tensor", _rewritten(lambda state: {**state, "extra": torch.zeros(1)}), "an unknown tensor 'extra'"),
    ("a tensor less", _rewritten(lambda state: {k: v for k, v in state.items() if k != "gain"}), "no tensor 'gain'"),
    ("floats", _rewritten(lambda state: {**state, "look.weight": state["look.weight"].float()}), "is torch.float32"),
    ("longer", _rewritten(lambda state: {**state, "gain": torch.zeros(2049, dtype=torch.int32)}), "[2049]"),
]


@pytest.mark.parametrize(("damage", "says"), [d[1:] for d in DAMAGE], ids=[d[0] for d in DAMAGE])
def test_weights_that_do_not_fit_cost_one_warning(scorer: Scorer, selector: Path, damage: Any, says: str):
    damage(selector)
    with pytest.warns(HooksWarning) as caught:
        hooks = AiHooks(selector=Selector(selector))
    assert len(caught) == 1
    assert says in str(caught[0].message) and "\n" not in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(3):
            assert hooks.cells(view(scorer, noise(2)), None) is None
    assert hooks.describe() == {}
    with pytest.raises(HooksError):
        Selector(selector, strict=True)


def test_nothing_is_unpickled(selector: Path):
    evil = pickle.dumps({"look.weight": np.zeros(3)})
    selector.write_bytes(evil)
    _edit(sha256=hashlib.sha256(evil).hexdigest())(selector)
    with pytest.raises(HooksError, match="not a safetensors file"):
        Selector(selector, strict=True)


def test_another_codebook_in_the_encoder_costs_one_warning(scorer: Scorer, weights: dict[str, Path]):
    seen = view(scorer, noise(1))
    other = dataclasses.replace(scorer.bank, start=tuple(s // 2 for s in scorer.bank.start))
    strange = dataclasses.replace(seen, candidates=other)
    hooks = AiHooks(selector=Selector(weights["selector"]))
    with pytest.warns(HooksWarning, match="other entries") as caught:
        assert hooks.cells(strange, None) is None
        assert hooks.cells(strange, None) is None
    assert len(caught) == 1


# ---------------------------------------------------------------- hooks of one's own


class Own:
    """Hooks that answer one question."""

    def __init__(self, **answers: Any) -> None:
        self.answers, self.asked = answers, list[str]()

    def _answer(self, name: str, *given: Any) -> Any:
        self.asked.append(name)
        found = self.answers.get(name)
        return found(*given) if callable(found) else found

    def select(self, view: LayerView) -> Any:
        return self._answer("select", view)

    def cells(self, view: LayerView, allowed: Any) -> Any:
        return self._answer("cells", view, allowed)

    def propose(self, view: LayerView, allowed: Any, cells: Any) -> Any:
        return self._answer("propose", view, allowed, cells)

    def rank(self, view: LayerView, rows: Tensor, keep: int) -> Any:
        return self._answer("rank", view, rows, keep)

    def describe(self) -> dict[str, Any]:
        return {"name": "own", "version": "1"}


def rows_used(coded: Any) -> set[tuple[int, int]]:
    return {(layer.gen, layer.qv_id) for tile in coded["tile_map"] for layer in tile.layers}


def test_questions_come_in_order_and_no_opinion_changes_nothing() -> None:
    own = Own()
    coded = encode_y(texture(), PROGRAMS.but(ai=own))
    assert own.asked[:4] == ["select", "cells", "propose", "rank"]
    assert set(own.asked) == {"select", "cells", "propose", "rank"}
    assert coded["tile_map"] == encode_y(texture(), PROGRAMS)["tile_map"]


def test_hooks_can_keep_the_search_to_cells_or_to_rows(bank: Bank) -> None:
    nearest: dict[str, Any] = {}

    def two_cells(view: LayerView, _: Any) -> Any:
        found = view.nearest_cells(2)
        nearest["rows"] = nearest.get("rows", set()) | set(found.chosen.flatten().tolist())
        nearest["of"] = found.of
        return found

    coded = encode_y(texture(), PROGRAMS.but(ai=Own(cells=two_cells)))
    inside = torch.isin(nearest["of"].of, torch.tensor(sorted(nearest["rows"])))
    allowed = {(int(bank.gen[row]), int(bank.qv[row])) for row in inside.nonzero().flatten()}
    assert rows_used(coded) and rows_used(coded) <= allowed
    some = torch.tensor(rows_named(bank))
    coded = encode_y(
        texture(), PROGRAMS.but(ai=Own(propose=lambda view, *_: Proposals(some.expand(len(view.residual), -1))))
    )
    assert rows_used(coded) <= {(int(bank.gen[row]), int(bank.qv[row])) for row in some.tolist()}


def test_nets_choose_cells_for_every_way_to_search(scorer: Scorer, weights: dict[str, Path]) -> None:
    hooks = AiHooks(weights["selector"], topk=4, pays=0.0, strict=True)
    seen = view(scorer, noise(3))
    cells = hooks.cells(seen, None)
    assert cells is not None
    tiles = TileBatch(seen.residual, seen.picture, torch.zeros(3, dtype=torch.int64))
    every = torch.arange(CELLS).expand(3, -1)
    wanted = lone_scorer(PROGRAMS.but(search="exhaustive")).screen(tiles, 0, 30, None)
    for search in ("exhaustive", "screened", "indexed"):
        own = lone_scorer(PROGRAMS.but(search=search))
        rows = own.within(cells.chosen, tiles, 0, 30, cells.of)
        assert torch.equal(own.within(every, tiles, 0, 30, cells.of), wanted)
        assert all((cells.of.of[row] == chosen).any() for own_rows, chosen in zip(rows, cells.chosen, strict=True)
                   for row in own_rows[own_rows >= 0])  # fmt: skip


def test_ranks_decide_what_is_scored(bank: Bank) -> None:
    first = Own(rank=lambda view, rows, keep: torch.where(rows == rows[:, :1], 0.0, 1.0))
    last = Own(rank=lambda view, rows, keep: -torch.arange(rows.shape[1]).expand(len(rows), -1).float())
    few = PROGRAMS.but(shortlist=1)
    assert encode_y(texture(), few.but(ai=first))["tile_map"] == encode_y(texture(), few)["tile_map"]
    assert encode_y(texture(), PROGRAMS.but(ai=last)).stats["layers"] > 0
