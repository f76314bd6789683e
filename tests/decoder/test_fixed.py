"""Integer arithmetic: each function against float64 or exact Python integers, within the error it states."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pc15 import fixed
from pc15.fixed import ONE

TURN = 1 << 32
INT32 = st.integers(-(1 << 31), (1 << 31) - 1)


def ints(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32)


def random_ints(lo: int, hi: int, count: int = 200_000, seed: int = 0) -> Tensor:
    """[count] int32, uniform in [lo, hi)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(lo, hi, (count,), generator=generator, dtype=torch.int64).to(torch.int32)


def wrapped(turns: Tensor) -> Tensor:
    """Difference of two phases in turns, float64, in [-1/2, 1/2)."""
    return (turns.double() / TURN + 0.5) % 1.0 - 0.5


# ---------------------------------------------------------------- turns


@pytest.mark.parametrize(
    ("function", "reference"), [(fixed.sin_turns, torch.sin), (fixed.cos_turns, torch.cos)], ids=["sin", "cos"]
)
def test_sine_and_cosine_stay_within_four_units(
    function: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor]
) -> None:
    turns = random_ints(-(1 << 31), 1 << 31)
    error = function(turns).double() - ONE * reference(turns.double() / TURN * 2 * math.pi)
    assert error.abs().max() <= 4


def test_sine_is_exact_where_it_should_be() -> None:
    quarters = ints(0, 1 << 30, -(1 << 31), -(1 << 30))
    assert fixed.sin_turns(quarters).tolist() == [0, ONE, 0, -ONE]
    assert fixed.cos_turns(quarters).tolist() == [ONE, 0, -ONE, 0]


@given(turns=st.integers(-(1 << 31) + 1, (1 << 31) - 1))
def test_half_a_turn_turns_the_sign(turns: int) -> None:
    at, opposite = ints(turns), ints(fixed.wrap32(turns + (1 << 31)))
    assert torch.equal(fixed.sin_turns(opposite), -fixed.sin_turns(at))


def test_sawtooth_and_triangle_span_the_range_and_wrap() -> None:
    turns = ints(0, 1 << 30, (1 << 31) - 1, -(1 << 31), -(1 << 30), -1)
    assert fixed.saw_turns(turns).tolist() == [-ONE, -ONE // 2, -1, 0, ONE // 2, ONE - 1]
    assert fixed.triangle_turns(turns).tolist() == [ONE, 0, 2 - ONE, -ONE, 0, ONE - 2]


@pytest.mark.parametrize("reach", [20, ONE, 1 << 19, (1 << 24) - 1])
def test_arctangent_stays_within_its_bound_in_every_direction(reach: int) -> None:
    x, y = random_ints(-reach, reach + 1, seed=1), random_ints(-reach, reach + 1, seed=2)
    angle = fixed.atan2_turns(y, x).double() / TURN - torch.atan2(y.double(), x.double()) / (2 * math.pi)
    known = (x != 0) | (y != 0)
    assert wrapped(angle * TURN)[known].abs().max() <= 2.0**-14


def test_arctangent_of_the_axes_and_of_the_origin() -> None:
    x, y = ints(0, 5, 0, -5, 0), ints(0, 0, 5, 0, -5)
    assert fixed.atan2_turns(y, x).tolist() == [0, 0, 1 << 30, -(1 << 31), -(1 << 30)]


# ---------------------------------------------------------------- roots, exponentials


def test_square_root_is_the_exact_floor_around_every_square() -> None:
    roots = torch.arange(1, 1 << 15, dtype=torch.int64)
    for offset in (-1, 0, 1):
        n = (roots * roots + offset).clamp(0, fixed.ISQRT_MAX - 1)
        assert torch.equal(fixed.isqrt(n.to(torch.int32)), torch.tensor([math.isqrt(v) for v in n.tolist()]).int())


@given(n=st.integers(0, fixed.ISQRT_MAX - 1))
def test_square_root_is_the_exact_floor(n: int) -> None:
    assert fixed.isqrt(ints(n)).item() == math.isqrt(n)


@given(root=st.integers(1, (1 << 26) - 1), offset=st.integers(-1, 1))
def test_the_long_square_root_is_exact_too(root: int, offset: int) -> None:
    n = root * root + offset
    assert fixed.isqrt64(torch.tensor([n])).item() == math.isqrt(n)


@pytest.mark.parametrize(("reach", "far"), [(45_875, False), (45_875, True), ((1 << 24) - 1, True)])
def test_distance_is_within_its_step(reach: int, far: bool) -> None:
    x, y = random_ints(-reach, reach + 1, seed=3), random_ints(-reach, reach + 1, seed=4)
    error = fixed.hypot(x, y, far=far).double() - torch.hypot(x.double(), y.double())
    assert error.abs().max() <= 4


def test_near_and_far_distances_are_the_same_integers() -> None:
    x, y = random_ints(-45_875, 45_876, seed=5), random_ints(-45_875, 45_876, seed=6)
    assert torch.equal(fixed.hypot(x, y), fixed.hypot(x, y, far=True))


def test_exponential_stays_within_five_units_and_ends_at_zero() -> None:
    x = torch.arange(0, 12 * ONE, dtype=torch.int32)
    value = fixed.exp_neg(x)
    assert (value.double() - ONE * torch.exp(-x.double() / ONE)).abs().max() <= 5
    assert value[0] == ONE and value[-1] == 0 and (value.diff() <= 0).all()
    assert fixed.exp_neg(ints((1 << 31) - 8)).item() == 0


# ---------------------------------------------------------------- products and quotients


@given(data=st.data(), b=st.integers(1, (1 << 31) - 1))
def test_floor_division_is_exact(data: st.DataObject, b: int) -> None:
    a = data.draw(st.integers(max(-(1 << 31), -(b << 21) + 1), min((1 << 31) - 1, (b << 21) - 1)))
    assert fixed.floor_div(ints(a), ints(b)).item() == a // b


def test_floor_division_is_exact_next_to_every_multiple() -> None:
    b, q = random_ints(1, 1 << 12, seed=7), random_ints(-(1 << 19), 1 << 19, seed=8)
    for offset in (-1, 0, 1):
        a = q * b + offset  # below 2**31 in size
        assert torch.equal(fixed.floor_div(a, b), torch.div(a, b, rounding_mode="floor"))


@given(a=st.integers(1 - (1 << 17), (1 << 17) - 1), b=st.integers(1 << 10, 1 << 20))
def test_quotient_is_the_floored_ratio(a: int, b: int) -> None:
    assert fixed.div(ints(a), ints(b)).item() == (a * ONE) // b


@given(a=st.integers(1 - (1 << 17), (1 << 17) - 1), b=st.integers(-ONE, ONE))
def test_product_is_rounded_to_nearest(a: int, b: int) -> None:
    assert fixed.mul(ints(a), ints(b)).item() == math.floor(a * b / ONE + 0.5)


@given(a=st.integers(1 - (1 << 24), (1 << 24) - 1), b=st.integers(-(1 << 15), 1 << 15))
def test_far_products_are_the_integers_of_near_ones(a: int, b: int) -> None:
    far = fixed.mul_far(ints(a), ints(b)).item()
    assert far == (a * b + fixed.HALF) // ONE
    if abs(a) * abs(b) < (1 << 31) - fixed.HALF:
        assert far == fixed.mul(ints(a), ints(b)).item()


@given(a=st.integers(-ONE, ONE), b=st.integers(-ONE, ONE), t=st.integers(0, ONE))
def test_interpolation_ends_at_its_ends_and_stays_between(a: int, b: int, t: int) -> None:
    ends = fixed.lerp(ints(a, a), ints(b, b), ints(0, ONE))
    assert ends.tolist() == [a, b]
    assert min(a, b) <= fixed.lerp(ints(a), ints(b), ints(t)).item() <= max(a, b)


# ---------------------------------------------------------------- steps


@pytest.mark.parametrize(
    ("function", "reference"),
    [
        (fixed.smoothstep, lambda t: t * t * (3 - 2 * t)),
        (fixed.fade, lambda t: t**3 * (6 * t * t - 15 * t + 10)),
    ],
    ids=["smoothstep", "fade"],
)
def test_steps_follow_their_polynomial(
    function: Callable[[Tensor], Tensor], reference: Callable[[Tensor], Tensor]
) -> None:
    t = torch.arange(0, ONE + 1, dtype=torch.int32)
    step = function(t)
    assert (step.double() - ONE * reference(t.double() / ONE)).abs().max() <= 6
    assert step[0] == 0 and step[-1] == ONE and step.min() == 0 and step.max() == ONE


@pytest.mark.parametrize("width", [100, 1_024, ONE, 3 * ONE])
def test_soft_sign_is_odd_monotone_and_saturates(width: int) -> None:
    d = torch.arange(-4 * ONE, 4 * ONE + 1, 16, dtype=torch.int32)
    value = fixed.soft_sign(d, ints(width))
    t = (d.double() / width).clamp(-1, 1)
    assert (value.double() - ONE * (3 * t - t**3) / 2).abs().max() <= 12
    assert (value.diff() >= -1).all() and (value + value.flip(0)).abs().max() <= 8
    assert value.max() <= ONE and value[-1] >= ONE - 4


# ---------------------------------------------------------------- hash


def test_each_input_bit_flips_half_of_the_output_bits() -> None:
    x = random_ints(-(1 << 31), 1 << 31, count=4_096, seed=9)
    plain = fixed.hash32(x)
    for bit in range(32):
        changed = plain ^ fixed.hash32(x ^ fixed.wrap32(1 << bit))
        flips = torch.stack([(changed >> b) & 1 for b in range(32)]).double().mean(dim=1)
        assert flips.min() > 0.45 and flips.max() < 0.55  # 0.5 +- 6 sigma of 4,096 trials


def test_no_two_inputs_share_a_hash() -> None:
    assert fixed.hash32(torch.arange(0, 1 << 16, dtype=torch.int32)).unique().numel() == 1 << 16


def test_neighbouring_cells_and_seeds_are_not_alike() -> None:
    ix, iy = (
        torch.arange(-128, 128, dtype=torch.int32).view(1, -1),
        torch.arange(-128, 128, dtype=torch.int32).view(-1, 1),
    )
    field = fixed.signed_unit(fixed.hash_cell(ix, iy, ints(1))).double() / ONE
    other = fixed.signed_unit(fixed.hash_cell(ix, iy, ints(2))).double() / ONE
    assert abs(field.mean()) < 0.02 and abs(field.var() - 1 / 3) < 0.02
    for a, b in [(field[1:], field[:-1]), (field[:, 1:], field[:, :-1]), (field, other)]:
        assert abs((a * b).mean() * 3) < 0.03


@given(h=INT32)
def test_a_hash_becomes_a_value_in_range(h: int) -> None:
    assert -ONE <= fixed.signed_unit(ints(h)).item() < ONE
    assert 0 <= fixed.unit(ints(h)).item() < ONE


@given(value=st.integers(-(1 << 40), 1 << 40))
def test_wrapping_keeps_the_low_32_bits(value: int) -> None:
    wrapped_value = fixed.wrap32(value)
    assert -(1 << 31) <= wrapped_value < 1 << 31 and (wrapped_value - value) % TURN == 0


# ---------------------------------------------------------------- the same integers everywhere


def test_tables_and_functions_give_the_integers_of_the_format() -> None:
    turns = torch.arange(-(1 << 31), 1 << 31, 9_999_991, dtype=torch.int64).to(torch.int32)
    x = torch.arange(0, 11 * ONE, 97, dtype=torch.int32)
    parts = [
        fixed.sin_turns(turns),
        fixed.exp_neg(x),
        fixed.atan2_turns(x - 5 * ONE, x.flip(0) - 5 * ONE),
        fixed.hash32(turns),
    ]
    assert zlib.crc32(torch.cat(parts).numpy().astype("<i4").tobytes()) == 1368340428  # changes only with the format
