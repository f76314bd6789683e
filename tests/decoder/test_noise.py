"""Noise: in range, without seams, its own for every seed, the same far away; nearest points as brute force has them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pc15.fixed import FRAC, ONE
from pc15.proc import noise
from pc15.proc.coords import tile_grid

Noise = Callable[[Tensor, Tensor, Tensor], Tensor]


def seeds(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int32).view(-1, 1, 1)


def axis(start: int, stop: int, step: int) -> Tensor:
    return torch.arange(start, stop, step, dtype=torch.int32)


def field(function: Noise, span: int = 40, step: int = 997, seed: int = 5) -> Tensor:
    """Noise over `span` cells squared around the origin, real-valued."""
    p = axis(-span * ONE // 2, span * ONE // 2, step)
    return function(p.view(1, 1, -1), p.view(1, -1, 1), seeds(seed)).double() / ONE


def turbulence(px: Tensor, py: Tensor, seed: Tensor) -> Tensor:
    return noise.octaves(px, py, seed, 3, folded=True)


def ridges(px: Tensor, py: Tensor, seed: Tensor) -> Tensor:
    return noise.octaves(px, py, seed, 3, ridged=True)


def clouds(px: Tensor, py: Tensor, seed: Tensor) -> Tensor:
    return noise.octaves(px, py, seed, 3)


def nearest(px: Tensor, py: Tensor, seed: Tensor) -> Tensor:
    return noise.worley(px, py, seed, torch.full_like(seed, ONE // 2)).f1


SMOOTH: dict[str, Noise] = {
    "value": noise.value_noise,
    "perlin": noise.perlin_noise,
    "clouds": clouds,
    "turbulence": turbulence,
    "ridges": ridges,
    "worley": nearest,
}


@pytest.mark.parametrize("name", SMOOTH)
def test_noise_fills_its_range_and_never_leaves_it(name: str) -> None:
    values = field(SMOOTH[name])
    assert values.min() >= -1 and values.max() <= 1
    assert values.max() - values.min() > 0.8 and values.std() > 0.15


@pytest.mark.parametrize("name", ["value", "perlin", "clouds"])
def test_symmetric_noise_has_no_mean(name: str) -> None:
    assert abs(field(SMOOTH[name], span=100).mean()) < 0.02


def test_gradient_noise_rarely_passes_seven_tenths() -> None:
    assert (field(noise.perlin_noise, span=100).abs() > 0.7).double().mean() < 2e-3


def test_gradient_noise_is_zero_at_lattice_points() -> None:
    p = axis(-50 * ONE, 50 * ONE, ONE)
    assert not noise.perlin_noise(p.view(1, 1, -1), p.view(1, -1, 1), seeds(1, 2, 3)).any()


def test_value_noise_passes_through_its_lattice_values() -> None:
    p = axis(-50 * ONE, 50 * ONE, ONE)
    values = noise.value_noise(p.view(1, 1, -1), p.view(1, -1, 1), seeds(4))
    zero = torch.zeros_like(p)
    assert torch.equal(
        values,
        noise.lattice_values(p.view(1, 1, -1), p.view(1, -1, 1), seeds(4), zero.view(1, 1, -1), zero.view(1, -1, 1)),
    )
    assert values.unique().numel() > 8_000  # of 10,000 draws from 32,768 values


@pytest.mark.parametrize("name", SMOOTH)
def test_there_is_no_seam_at_lattice_lines(name: str) -> None:
    """A step of 1/256 cell changes the value as little across a lattice line as anywhere else."""
    p, q = axis(-6 * ONE, 6 * ONE, ONE // 256), axis(-6 * ONE, 6 * ONE, 1_234)
    along = SMOOTH[name](p.view(1, 1, -1), q.view(1, -1, 1), seeds(7, 8)).diff(dim=2).abs()
    down = SMOOTH[name](q.view(1, 1, -1), p.view(1, -1, 1), seeds(7, 8)).diff(dim=1).abs()
    crossing = (p[1:] >> FRAC) != (p[:-1] >> FRAC)
    limit = 24 * ONE // 256  # three octaves of ridges rise by up to 24 per cell
    for change in (along, down.transpose(1, 2)):
        assert change.max() <= limit
        assert change[..., crossing].max() <= change[..., ~crossing].max()


@pytest.mark.parametrize("name", SMOOTH)
def test_every_seed_is_a_pattern_of_its_own(name: str) -> None:
    p = axis(0, 20 * ONE, 900)
    values = SMOOTH[name](p.view(1, 1, -1), p.view(1, -1, 1), seeds(0, 1, 2, 3, 1 << 30)).double().flatten(1)
    values = values - values.mean(dim=1, keepdim=True)
    values = values / values.norm(dim=1, keepdim=True)
    alike = values @ values.T - torch.eye(len(values))
    assert alike.abs().max() < 0.5  # half-jittered points share their lattice; the others are below 0.1


def test_random_values_show_no_rows_and_columns() -> None:
    """Hashing columns and rows apart must not leave a plaid: no correlation around any rectangle of cells."""
    i = axis(-256, 256, 1)
    column, row = (
        noise.column_hashes(i.view(1, -1), seeds(3)[0], 0, (0,))[0],
        noise.row_hashes(i.view(-1, 1), seeds(3)[0], 0, (0,))[0],
    )
    h = column * row
    for bits in (h, h << 11):  # what values and gradients are made of
        sign = torch.where(bits < 0, -1.0, 1.0).double()
        for dx, dy in [(1, 0), (0, 1), (3, 5)]:
            moved = torch.roll(sign, (dy, dx), (0, 1))
            assert abs((sign * moved).mean()) < 0.01  # 5 sigma of 262,144 cells
        around = sign * torch.roll(sign, 1, 0) * torch.roll(sign, 1, 1) * torch.roll(sign, (1, 1), (0, 1))
        assert abs(around.mean()) < 0.01
        assert sign.mean(dim=0).abs().max() < 0.25 and sign.mean(dim=1).abs().max() < 0.25


@pytest.mark.parametrize("name", SMOOTH)
def test_far_and_near_grids_agree(name: str) -> None:
    cells, seed = torch.full((2, 1, 1), 700, dtype=torch.int32), seeds(1, 2)
    near, far = (
        SMOOTH[name](*noise.positions(at, cells, seed), seed)
        for at in (tile_grid(32), tile_grid(32, x0=16, y0=-640, h=672))
    )
    assert torch.equal(near[:, :, 16:], far[:, 640:, :16])


def test_stretch_widens_cells_and_keeps_their_area() -> None:
    at, cells = tile_grid(64), torch.full((1, 1, 1), 1_024, dtype=torch.int32)
    px, py = noise.positions(at, cells, seeds(0), torch.full((1, 1, 1), 4 * ONE, dtype=torch.int32))
    wide, high = (px[0, 0, -1] - px[0, 0, 0]).item(), (py[0, -1, 0] - py[0, 0, 0]).item()
    assert high == pytest.approx(4 * wide, rel=0.01)
    assert wide * high == pytest.approx((63 / 32 * 4 * ONE) ** 2, rel=0.01)


def test_octaves_under_two_pixels_per_cell_fade_out() -> None:
    at, seed = tile_grid(32), seeds(1, 2, 3)
    cells = torch.full((3, 1, 1), 16 << 7, dtype=torch.int32)  # 16 cells, 2 pixels each: the second octave has one
    px, py = noise.positions(at, cells, seed)
    step = noise.cells_per_pixel(at, cells)
    one, two = (noise.octaves(px, py, seed, n, step=step).double().flatten(1) for n in (1, 2))
    for a, b in zip(one, two, strict=True):
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.999


# ---------------------------------------------------------------- cellular noise


def brute_force(px: Tensor, py: Tensor, seed: Tensor, jitter: int, reach: int) -> Tensor:
    """Distances to all points of the cells from -reach to reach, sorted; [h, w, n] float64, in cells."""
    cells = range(-reach, reach + 1)
    column_x, column_y = noise.column_hashes, noise.row_hashes
    ix, iy = px >> FRAC, py >> FRAC
    distances = []
    for ox in cells:
        for oy in cells:
            astray = [
                ((column_x(ix, seed, salt, (ox,))[0] * column_y(iy, seed, salt, (oy,))[0]) >> 20).double() / 4096
                for salt in (0, 1)
            ]
            dx = ix + ox + 0.5 + astray[0] * jitter / ONE - px.double() / ONE
            dy = iy + oy + 0.5 + astray[1] * jitter / ONE - py.double() / ONE
            distances.append(torch.hypot(dx, dy)[0])
    return torch.stack(distances, dim=-1).sort(dim=-1).values


@pytest.mark.parametrize("jitter", [0, ONE // 4, ONE * 6 // 10])
def test_worley_finds_the_two_nearest_of_all_points(jitter: int) -> None:
    p = axis(-4 * ONE, 4 * ONE, 777)
    px, py, seed = p.view(1, 1, -1), p.view(1, -1, 1), seeds(11)
    found = noise.worley(px, py, seed, seeds(jitter))
    expected = brute_force(px, py, seed, jitter, reach=2)
    assert (found.f1[0].double() / ONE - expected[..., 0]).abs().max() < 2e-3
    assert (found.f2[0].double() / ONE - expected[..., 1]).abs().max() < 2e-3


def test_points_anywhere_in_their_cells_are_still_nearly_always_found() -> None:
    p = axis(-20 * ONE, 20 * ONE, 1_777)
    px, py, seed = p.view(1, 1, -1), p.view(1, -1, 1), seeds(12)
    missed = (
        noise.worley(px, py, seed, seeds(ONE)).f1[0].double() / ONE - brute_force(px, py, seed, ONE, reach=2)[..., 0]
    )
    assert (missed > 2e-3).double().mean() < 1e-3


def test_the_nearest_point_is_never_farther_than_the_next() -> None:
    p = axis(-20 * ONE, 20 * ONE, 1_001)
    cells = noise.worley(p.view(1, 1, -1), p.view(1, -1, 1), seeds(1, 2), seeds(0, ONE))
    assert (cells.f1 <= cells.f2).all() and cells.f1.min() >= 0


def test_a_cell_has_one_shade_and_its_neighbour_the_next() -> None:
    p = axis(0, 4 * ONE, 128)
    cells = noise.worley(p.view(1, 1, -1), p.view(1, -1, 1), seeds(6), seeds(ONE * 7 // 10))
    assert cells.shade.unique().numel() < 40  # about 25 points are near the square of 16 cells
    assert cells.shade.min() >= -ONE and cells.shade.max() <= ONE
    shade, other = cells.shade[0], cells.next_shade[0]
    changes = shade[:, 1:] != shade[:, :-1]
    swapped = (shade[:, 1:] == other[:, :-1]) | (other[:, 1:] == shade[:, :-1])
    assert swapped[changes].double().mean() > 0.95  # the rest are corners where three cells meet


def test_near_points_miss_none_within_their_reach() -> None:
    p = axis(-3 * ONE, 3 * ONE, 1_111)
    px, py, seed = p.view(1, 1, -1), p.view(1, -1, 1), seeds(13)
    points: set[tuple[int, int]] = set()
    seen: dict[tuple[int, int], set[tuple[int, int]]] = {}
    for dx, dy, _ in noise.near_points(px, py, seed):
        for j, y in enumerate(p.tolist()):
            for i, x in enumerate(p.tolist()):
                point = (x + int(dx[0, j, i]), y + int(dy[0, j, i]))
                points.add(point)
                seen.setdefault((x, y), set()).add(point)
    for (x, y), own in seen.items():
        within = {(a, b) for a, b in points if (a - x) ** 2 + (b - y) ** 2 < noise.REACH**2}
        assert within <= own
