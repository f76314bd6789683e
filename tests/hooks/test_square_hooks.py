"""Hooks of photographs: they narrow the search of squares, say so in the stream, and decide nothing."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pc15.bitstream.header import KNOWN_HOOKS
from pc15.bitstream.read import read_container
from pc15.config import CodecConfig
from pc15.decoder import decode, decode_y
from pc15.encoder import EncodeResult, encode, encode_y
from pc15.errors import ConfigError
from pc15.hooks.base import NoOpinion
from pc15.hooks.heuristic import HeuristicHooks
from pc15.hooks.integer_net import IntegerLayer
from pc15.hooks.learned import AiHooks
from pc15.hooks.roles.squares import GateNet
from pc15.hooks.squares import (
    AGAIN,
    ALL_WAYS,
    COLUMNS,
    PARTS,
    PARTS_PREDICTIONS,
    PATTERNS,
    PREDICTIONS,
    QUARTERS,
    ROWS,
    SIDES,
    SquareChoice,
    SquareNet,
    SquareView,
)
from pc15.residual.bits import Square, square_bits
from pc15.residual.context_models import jit_entry
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.enc.gate import ANSWERS, INPUTS, SECOND, Gate, ask, make_gate
from pc15.residual.tools import ALL_TOOLS, CHROMA_TOOLS
from pc15.runtime import notices
from pc15.search.backend.protocol import ANSWER_TOP
from pc15learn.sample_data import draw_samples
from tests.residual.test_residual import scene

BALANCED = CodecConfig.preset("balanced", lambda_rd=0.2, max_layers=0, device="cpu")
HIDDEN = 24
BASELINE = Path(__file__).resolve().parents[2] / "checkpoints" / "baseline"


class Says(NoOpinion):
    """Hooks with one answer."""

    def __init__(self, choice: SquareChoice | None) -> None:
        self.choice = choice
        self.views: list[SquareView] = []

    def squares(self, view: SquareView) -> SquareChoice | None:
        self.views.append(view)
        return self.choice


@pytest.fixture(scope="module")
def photo() -> Tensor:
    """A picture with texture and edges, [1,1,104,152] in [0,1]."""
    picture = draw_samples(160)["wall"]
    luma: Tensor = picture[..., :104, :152].float().mean(dim=0) / 255.0
    return luma[None, None]


@pytest.fixture(scope="module")
def plain(photo: Tensor) -> EncodeResult:
    return encode_y(photo, BALANCED)


def net_of(tensors: dict[str, Tensor]) -> SquareNet:
    return SquareNet({name: tensor.numpy() for name, tensor in tensors.items()})


def untrained(seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return GateNet(hidden=HIDDEN).frozen()


def squares_of(data: bytes) -> list[Square]:
    """The squares of a stream of one plane."""
    stream = read_container(data)
    (spec,) = stream.header.planes
    (payload,) = stream.residuals
    assert payload is not None
    return square_bits(payload, stream.header.height, stream.header.width, spec.residual - 1, spec.tools)


def ways(value: int) -> dict[int, NDArray[np.uint8]]:
    return {side: np.full((-(-104 // side), -(-152 // side)), value, np.uint8) for side in SIDES}


def test_hooks_that_let_all_be_tried_change_no_byte(photo: Tensor, plain: EncodeResult) -> None:
    every = SquareChoice(ways=ways(ALL_WAYS))
    for choice in (None, SquareChoice(), SquareChoice(net_of(untrained()), 1e-250), every):
        assert encode_y(photo, BALANCED.but(ai=Says(choice)))["bitstream"] == plain["bitstream"]


def test_ways_that_are_left_out_are_not_in_the_stream(photo: Tensor, plain: EncodeResult) -> None:
    assert plain.stats["layers"] > 0
    for without in (PREDICTIONS, PATTERNS, ROWS, COLUMNS, AGAIN, PARTS_PREDICTIONS, PARTS, QUARTERS):
        made = encode_y(photo, BALANCED.but(ai=Says(SquareChoice(ways=ways(ALL_WAYS & ~without)))))
        assert without != PATTERNS or made.stats["layers"] == 0
        assert made["bitstream"] != plain["bitstream"]
        squares = squares_of(made["bitstream"])
        shapes = {(square.wide, square.high) for square in squares}
        assert without != PARTS or all(wide == high for wide, high in shapes)
        assert without not in (ROWS, COLUMNS) or any(wide != high for wide, high in shapes)
        assert without != AGAIN or all(max(own) <= 2 * min(own) for own in shapes)
        assert without != QUARTERS or all(square.wide == 64 for square in squares if square.x < 64 and square.y < 64)
        assert float((decode_y(made["bitstream"]) - photo).square().mean()) < 0.01


def test_a_map_speaks_of_its_own_squares(photo: Tensor) -> None:
    """No patterns on the left: there are some on the right alone."""
    half = ways(ALL_WAYS)
    for side, own in half.items():
        own[:, : 64 // side] -= PATTERNS
    made = encode_y(photo, BALANCED.but(ai=Says(SquareChoice(ways=half))))
    drawn = {square.x < 64 for square in squares_of(made["bitstream"]) if square.layers}
    assert drawn == {False}
    few = {8: np.zeros((1, 1), np.uint8), 64: np.zeros((9, 9), np.uint8)}  # smaller and larger than the plane
    assert decode_y(encode_y(photo, BALANCED.but(ai=Says(SquareChoice(ways=few))))["bitstream"]).shape == photo.shape


def test_a_net_narrows_the_search_and_the_stream_repeats(photo: Tensor, plain: EncodeResult) -> None:
    choice = SquareChoice(net_of(untrained()), 0.9, tries=1, about={"name": "mine"})
    made = [encode_y(photo, BALANCED.but(ai=Says(choice))) for _ in range(2)]
    assert made[0]["bitstream"] == made[1]["bitstream"] != plain["bitstream"]
    assert read_container(made[0]["bitstream"]).metadata == {"ai": {"name": "mine"}}
    assert read_container(plain["bitstream"]).metadata in (None, {})
    assert decode_y(made[0]["bitstream"]).shape == photo.shape


def test_a_net_and_a_map_answer_two_threads_as_they_answer_one() -> None:
    """Whatever either thread was told last of a square of that size."""
    picture = scene(260, 200)
    grey = np.full_like(picture, 2048)
    for choice in (SquareChoice(net_of(untrained()), 0.5, tries=2), SquareChoice(ways=ways(ALL_WAYS & ~ROWS))):
        params = ResidualParams(20, tries=3, tools=ALL_TOOLS & ~CHROMA_TOOLS, choice=choice)
        with ThreadPoolExecutor(1) as pool:
            made = {encode_residual(picture - grey, grey, params, pool=own).payload for own in (None, pool, pool)}
        assert len(made) == 1


def test_the_hook_sees_the_luma_alone_once_per_section() -> None:
    picture = next(iter(draw_samples(96).values()))[:, :88, :80]
    hooks = Says(SquareChoice(ways={8: np.zeros((11, 10), np.uint8)}, about={"name": "a"}))
    made = encode(picture, BALANCED.but(ai=hooks))
    assert [view.picture.shape for view in hooks.views] == [(88, 80)]
    (view,) = hooks.views
    assert np.array_equal(view.wanted, view.picture - 2048) and view.price > 0 and view.tries == 4
    assert view.squares(32).shape == (2, 2, 32, 32)
    flat = view.squares(16)[1, 2].astype(float)
    assert view.energies(16)[1, 2] == pytest.approx(((flat - flat.mean()) ** 2).sum() / view.price)
    assert decode(made["bitstream"]).shape == picture.shape
    sections = Says(None)
    encode(picture, BALANCED.but(ai=sections, section_rows=1))
    assert [view.picture.shape[0] for view in sections.views] == [64, 24]


def test_rules_without_weights_narrow_the_search(photo: Tensor, plain: EncodeResult) -> None:
    made = encode_y(photo, BALANCED.but(ai=HeuristicHooks()))
    assert read_container(made["bitstream"]).metadata == {"ai": {"name": "heuristic"}}
    assert len(made["bitstream"]) < 1.1 * len(plain["bitstream"]) + 20
    assert read_container(made["bitstream"]).header.hooks == 1


def test_the_packaged_net_is_named_by_one_byte(photo: Tensor) -> None:
    """Weights that are made again are another of KNOWN_HOOKS, which is only ever made longer."""
    hooks = AiHooks.from_folder(BASELINE)
    assert hooks is not None and hooks.guide is not None
    stream = read_container(encode_y(photo, BALANCED.but(ai=hooks))["bitstream"])
    assert stream.metadata is not None and stream.metadata["ai"]["name"] == "baseline"
    assert stream.header.hooks == len(KNOWN_HOOKS) and not stream.header.has_metadata


def test_hooks_of_tiles_say_that_a_photograph_has_none(
    photo: Tensor, plain: EncodeResult, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_said", set())
    with caplog.at_level(logging.INFO):
        assert encode_y(photo, BALANCED.but(ai=NoOpinion()))["bitstream"] == plain["bitstream"]
    assert "the hooks are about tile programs, of which a photograph has none" in caplog.text


@jit_entry()
def _asked(inputs: Any, gate: Gate, out: Any) -> None:
    for i in range(len(inputs)):
        for k in range(inputs.shape[1]):
            gate.inputs[k] = inputs[i, k]
        ask(3, gate)
        for k in range(out.shape[1]):
            out[i, k] = gate.answers[3, k]


@pytest.mark.parametrize("how", ["untrained", "random", "least", "most"])
def test_the_compiled_net_is_the_one_that_was_fitted(how: str) -> None:
    """The search's own loop beside the layers of `integer_net`, whatever the weights."""
    tensors = untrained()
    draw = torch.Generator().manual_seed(5)
    if how != "untrained":
        for name, tensor in tensors.items():
            low, high = torch.iinfo(tensor.dtype).min, torch.iinfo(tensor.dtype).max
            low, high = {"least": (low, low + 1), "most": (high, high + 1)}.get(how, (low, high))
            drawn = torch.randint(low, high, tensor.shape, generator=draw, dtype=torch.int64)
            tensors[name] = drawn.to(tensor.dtype)
    inputs = torch.randint(-127, 128, (64, INPUTS), generator=draw).to(torch.int8)
    x = inputs
    for name, kind in (("first", "relu"), ("second", "relu"), ("last", "answer")):
        x = IntegerLayer.of(tensors, name, kind, torch.device("cpu"))(x)  # type: ignore[arg-type]
    out = np.zeros((64, ANSWERS), np.int64)
    _asked(inputs.numpy().astype(np.int16), make_gate(SquareChoice(net_of(tensors), 0.01), 64, 64), out)
    assert np.array_equal(out.clip(-ANSWER_TOP, ANSWER_TOP), x.numpy())  # where the other one stops counting
    assert tensors["second.weight"].shape == (SECOND, HIDDEN)


def test_an_answer_of_another_kind_is_refused(photo: Tensor) -> None:
    with pytest.raises(ConfigError, match="squares of the hooks answers with dict; give a SquareChoice"):
        encode_y(photo, BALANCED.but(ai=Says({"net": None})))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prune": -1.0}, "prune is -1.0"),
        ({"prune": float("nan")}, "prune is nan"),
        ({"tries": 0}, "tries is 0"),
        ({"ways": {12: np.zeros((1, 1), np.uint8)}}, "ways of squares of 12 px"),
        ({"ways": {8: np.zeros((1, 1), np.int64)}}, r"8 px are int64 \[1, 1\]"),
        ({"ways": {8: np.zeros(4, np.uint8)}}, r"8 px are uint8 \[4\]"),
        ({"ways": {8: [[1]]}}, "8 px are list"),
        ({"net": {}}, "net is dict"),
    ],
)
def test_choices_that_make_no_sense_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SquareChoice(**options)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"first.weight": None}, "0 units in its first layer"),
        ({"first.weight": np.zeros((0, INPUTS), np.int8)}, "0 units in its first layer"),
        ({"first.weight": np.zeros((HIDDEN, 3), np.int8)}, r"first.weight of a net for squares is int8 \[24, 3\]"),
        ({"second.weight": np.zeros((1, HIDDEN), np.int8)}, r"second.weight .* is int8 \[1, 24\]"),
        ({"last.bias": np.zeros(ANSWERS)}, r"last.bias .* is float64 \[6\]; give an array, int32 \[6\]"),
        ({"last.factor": None}, "last.factor .* is NoneType"),
    ],
)
def test_nets_that_loops_would_read_beyond_are_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        SquareNet({**{name: tensor.numpy() for name, tensor in untrained().items()}, **change})
