"""Nets in whole numbers: what is trained is what runs, and what runs depends on nothing but its input."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pc15.hooks.integer_net import GRID, IntegerLayer, TrainedLayer, layer_spec, rounded
from pc15.search.backend.protocol import ANSWER_TOP

CPU = torch.device("cpu")
Kind = Literal["abs", "relu", "answer"]
KINDS: tuple[Kind, ...] = ("abs", "relu", "answer")


def layer(kind: Kind, inputs: int, outputs: int, seed: int, spread: float) -> TrainedLayer:
    torch.manual_seed(seed)
    made = TrainedLayer(inputs, outputs, kind)
    with torch.no_grad():
        made.weight.mul_(spread)
        made.bias.copy_(torch.randn(outputs) * spread)
    return made


def frozen(made: TrainedLayer) -> IntegerLayer:
    return IntegerLayer.of(made.frozen("x"), "x", made.kind, CPU)


@given(
    kind=st.sampled_from(KINDS),
    inputs=st.integers(1, 264),
    seed=st.integers(0, 999),
    spread=st.sampled_from([1e-6, 0.05, 1.0, 30.0]),
)
def test_a_frozen_layer_answers_as_the_trained_one(kind: Kind, inputs: int, seed: int, spread: float) -> None:
    made = layer(kind, inputs, 5, seed, spread)
    x = torch.randint(-127, 128, (6, inputs), dtype=torch.int8)
    with torch.no_grad():
        wanted = (made(x.float() / GRID) * made.scale).double()
    found = frozen(made)(x).double()
    # a factor has 20 fraction bits, and product and bias are rounded apart; float32 has 24 bits
    state = made.frozen("x")
    product = (x.double() @ state["x.weight"].double().t()).abs()
    slack = 1.0 + product * 2.0**-20 + wanted.abs() * 2.0**-20
    assert ((found - wanted).abs() <= slack).all()


@given(
    kind=st.sampled_from(KINDS[1:]),  # |x| is taken of what is rounded already, which tells at a half
    inputs=st.integers(1, 100),
    seed=st.integers(0, 999),
    power=st.integers(4, 10),
)
def test_where_steps_are_powers_of_two_they_are_equal(kind: Kind, inputs: int, seed: int, power: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    made = TrainedLayer(inputs, 4, kind)
    with torch.no_grad():
        whole = torch.randint(-127, 128, (4, inputs), generator=draw).float()
        whole[:, 0] = 127.0
        made.weight.copy_(whole / 2**power)
        made.bias.copy_(torch.randint(-500, 500, (4,), generator=draw).float() / made.scale)
        x = torch.randint(-127, 128, (6, inputs), dtype=torch.int8, generator=draw)
        assert torch.equal((made(x.float() / GRID) * made.scale).int(), frozen(made)(x).int())


def test_rounding_lets_the_gradient_through_and_a_half_upwards() -> None:
    x = torch.tensor([-1.5, -0.5, 0.49, 0.5, 2.5], requires_grad=True)
    assert rounded(x).tolist() == [-1.0, 0.0, 0.0, 1.0, 3.0]
    rounded(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None and x.grad.tolist() == [1.0] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_answers_depend_neither_on_the_batch_nor_leave_their_range(kind: Kind) -> None:
    made = frozen(layer(kind, 264, 40, 1, 200.0))
    x = torch.randint(-127, 128, (33, 264), dtype=torch.int8)
    whole = made(x)
    assert whole.dtype == (torch.int32 if kind == "answer" else torch.int8)
    assert int(whole.max()) <= (ANSWER_TOP if kind == "answer" else 127)
    assert int(whole.min()) >= (-ANSWER_TOP if kind == "answer" else 0)
    assert torch.equal(torch.cat([made(x[i : i + 2]) for i in range(0, 33, 2)]), whole)
    if kind == "abs":
        flat = frozen(layer("abs", 264, 40, 1, 1e-9))
        assert torch.equal(flat(x), flat(-x))


def test_a_layer_of_zeros_is_its_bias() -> None:
    made = TrainedLayer(8, 3, "answer")
    with torch.no_grad():
        made.weight.zero_()
        made.bias.copy_(torch.tensor([-1.0, 0.25, 3.0]))
    assert frozen(made)(torch.full((1, 8), 127, dtype=torch.int8)).tolist() == [[-256, 64, 768]]
    assert made(torch.ones(1, 8)).tolist() == [[-1.0, 0.25, 3.0]]


def test_what_is_frozen_has_the_types_and_shapes_that_are_checked() -> None:
    state = layer("relu", 7, 5, 1, 1.0).frozen("a")
    assert {name: (v.dtype, tuple(v.shape)) for name, v in state.items()} == layer_spec("a", 7, 5)
    assert math.prod(state["a.weight"].shape) == 35 and int(state["a.weight"].abs().max()) == 127
