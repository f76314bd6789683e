"""The state's integer scores are the cost that `score_rd_numpy` defines."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pc15 import CodecConfig, score_rd_numpy, seam_penalty_mask
from pc15.bitstream import Header, PlaneSpec
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError, ImageError
from pc15.proc.codebook import load_codebook
from pc15.quant import MSE_SCALE
from pc15.search.backend import product, torch_ops
from pc15.search.backend.product import Product
from pc15.search.backend.protocol import BankTerms, Patterns, TileBatch
from pc15.search.plane_state import PlaneState, SearchTask
from pc15.search.score import SAMPLE_ONE, Scorer, plane_distortion
from pc15.search.windows import W_ONE, seam_q8

TILE = 16


def plane_state(cfg: CodecConfig, height: int = 32, width: int = 48) -> PlaneState:
    """A search that has not begun, over a noisy plane."""
    noise = torch.Generator().manual_seed(1)
    plane = torch.randint(0, SAMPLE_ONE + 1, (height, width), generator=noise, dtype=torch.int32)
    spec = PlaneSpec(tile=cfg.tile, overlap=cfg.overlap, window=0, subsample=0, amp_step=24, dc_step=24)
    header = Header(width=width, height=height, color=0, planes=(spec,))
    task = SearchTask(header, 0, cfg, load_table(cfg.table_id), load_codebook(cfg.codebook_id))
    return PlaneState([plane], task)


def residual(state: PlaneState) -> torch.Tensor:
    noise = torch.Generator().manual_seed(2)
    return torch.randint(-900, 901, state.x.shape, generator=noise, dtype=torch.int32)


def reference_scores(scorer: Scorer, tiles: TileBatch, terms: BankTerms, layer: int) -> torch.Tensor:
    """Scores of all patterns as `sort_keys` has them, [n,K] float32."""
    own = scorer.packed(tiles, round(terms.pixels.shape[1] ** 0.5))
    product, curve = (
        (part.long() @ patterns.long().t()).to(torch.float32)
        for part, patterns in ((own.rows, terms.pixels), (own.weights, terms.energies))
    )
    paid = own.price[:, None] * scorer.costs.rows(layer).to(torch.float32)
    return ((product * product) * terms.scale[own.place]) / curve - paid


@pytest.mark.parametrize(("tile", "overlap"), [(16, 4), (32, 8), (24, 0)])
def test_scores_are_what_an_exact_score_of_a_small_step_says(tile: int, overlap: int) -> None:
    """The slope of D along each pattern is the one that D has when a little of the pattern is drawn."""
    cfg = CodecConfig.preset("oracle", tile=tile, overlap=overlap, lambda_rd=0.05)
    state = plane_state(cfg, 3 * tile, 3 * tile)
    scorer, bank = state.scorer, state.bank
    smooth = torch.nn.functional.avg_pool2d(state.x[:, None].double(), 5, 1, 2)[:, 0]
    x = smooth.round().to(torch.int32)
    e = (residual(state) // 4).to(torch.int32)
    tiles = TileBatch(e, x, state.windows.class_of_tile)
    own = scorer.packed(tiles, bank.side)
    rows = torch.arange(0, bank.rows, bank.rows // 40)[:40]
    slope = (own.rows.double() @ bank.pixels[rows].double().t()) / (bank.rms[rows] + 1e-9)
    blend = state.windows.blend[tiles.cls].double() / W_ONE
    step = 8.0
    for tile_number in range(len(e)):
        patterns = bank.pixels[rows].double().view(-1, tile, tile) / (bank.rms[rows] + 1e-9)[:, None, None]
        moved = [(e[tile_number].double() - sign * step * blend[tile_number] * patterns).round().to(torch.int32)
                 for sign in (1, -1)]  # fmt: skip
        each = torch.full((len(rows),), int(tiles.cls[tile_number]))
        many = x[tile_number].expand(len(rows), -1, -1).contiguous()
        less, more = (scorer.distortion(part.contiguous(), many, each) for part in moved)
        true = (more - less) / step
        likeness = torch.corrcoef(torch.stack([true, slope[tile_number]]))[0, 1]
        assert likeness > 0.97


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seam", [0.0, 0.75])
def test_distortion_is_the_reference_where_tiles_do_not_overlap(alpha: float, seam: float) -> None:
    cfg = CodecConfig.preset("fast", tile=TILE, overlap=0, alpha_mix=alpha, seam_weight=seam)
    state = plane_state(cfg)
    e, cls = residual(state), state.windows.class_of_tile
    found = state.scorer.distortion(e, state.x, cls) / state.windows.area[cls]
    y = state.x.double().numpy() / SAMPLE_ONE
    y_hat = (state.x - e).double().numpy() / SAMPLE_ONE
    expected = score_rd_numpy(y, y_hat, 0.0, alpha_mix=alpha, seam=seam_q8(cfg).numpy() / 256)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0])
def test_a_plane_is_as_wrong_as_its_blocks(alpha: float) -> None:
    noise = np.random.default_rng(5)
    plane, shown = noise.integers(0, SAMPLE_ONE + 1, (2, 43, 61)).astype(np.int32)
    a, b = plane / SAMPLE_ONE, shown / SAMPLE_ONE
    expected = 0.0
    for y in range(0, 43, 8):
        for x in range(0, 61, 8):
            u, v = a[y : y + 8, x : x + 8], b[y : y + 8, x : x + 8]
            luminance = (2 * u.mean() * v.mean() + 0.01**2) / (u.mean() ** 2 + v.mean() ** 2 + 0.01**2)
            covariance = ((u - u.mean()) * (v - v.mean())).mean()
            ssim = luminance * (2 * covariance + 0.03**2) / (u.var() + v.var() + 0.03**2)
            expected += u.size * (alpha * (1 - ssim) + (1 - alpha) * MSE_SCALE * ((u - v) ** 2).mean())
    assert plane_distortion(plane, shown, alpha) == pytest.approx(expected, rel=1e-9)
    square = plane[:8, :8][None] / SAMPLE_ONE, shown[:8, :8][None] / SAMPLE_ONE
    one = float(score_rd_numpy(*square, 0.0, alpha_mix=alpha)[0])  # type: ignore[index]
    assert plane_distortion(plane[:8, :8], shown[:8, :8], alpha) == pytest.approx(64 * one, rel=1e-9)


def test_ssim_blocks_are_weighted_by_the_blend_window() -> None:
    cfg = CodecConfig.preset("fast", tile=TILE, overlap=6, alpha_mix=1.0)
    state = plane_state(cfg, 50, 43)
    e, cls = residual(state), state.windows.class_of_tile
    found = state.scorer.distortion(e, state.x, cls) / state.windows.area[cls]
    y = state.x.double().numpy() / SAMPLE_ONE
    weights = state.windows.blend[cls].double().numpy() / W_ONE
    expected = score_rd_numpy(y, y - e.double().numpy() / SAMPLE_ONE, 0.0, alpha_mix=1.0, weights=weights)
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_a_layers_score_is_what_it_changes_in_the_reference(alpha: float) -> None:
    """J of a tile with the layer, minus J without, plus its bits: for every candidate, in pixels of D."""
    cfg = CodecConfig.preset("fast", tile=TILE, overlap=0, alpha_mix=alpha, lambda_rd=0.02)
    state = plane_state(cfg)
    scorer, bank = state.scorer, state.bank
    tile, rows = torch.tensor([0]), torch.arange(0, bank.rows, bank.rows // 6)
    e, x, cls = residual(state)[tile], state.x[tile], state.windows.class_of_tile[tile]
    d = bank.pixels[rows].to(torch.int32).view(1, -1, TILE, TILE)
    address = scorer.costs.rows(0)[rows][None]
    patterns = Patterns(bank.pixels, rows[None], bank.rms[rows][None])
    change, amp = scorer.exact(e, x, cls, patterns, address, 0)
    y, before = x[0].double().numpy() / SAMPLE_ONE, (x - e)[0].double().numpy() / SAMPLE_ONE
    for k in range(len(rows)):
        level = int(amp[0, k])
        bits = (int(address[0, k]) + int(scorer.costs.amplitudes(0)[int(level < 0), abs(level)])) / 256
        after = before + level * scorer.delta * d[0, k].double().numpy() / float(bank.rms[rows[k]])
        options = {"lambda_rd": cfg.lambda_rd, "alpha_mix": alpha}
        expected = score_rd_numpy(y, after, bits, **options) - score_rd_numpy(y, before, 0.0, **options)
        assert float(change[0, k]) / TILE**2 == pytest.approx(expected, abs=1e-6)


def test_the_parts_of_the_cost_add_up() -> None:
    y, y_hat = np.full((8, 8), 0.5), np.full((8, 8), 0.75)
    assert score_rd_numpy(y, y, 0.0) == 0.0
    assert score_rd_numpy(y, y, 64.0, lambda_rd=0.25) == pytest.approx(0.25)
    assert score_rd_numpy(y, y_hat, 0.0, alpha_mix=0.0) == pytest.approx(MSE_SCALE * 0.0625)
    luminance = (2 * 0.375 + 1e-4) / (0.25 + 0.5625 + 1e-4)
    assert score_rd_numpy(y, y_hat, 0.0, alpha_mix=1.0) == pytest.approx(1 - luminance)


def test_weights_set_the_area_that_bits_are_shared_over() -> None:
    y, half = np.full((16, 16), 0.5), np.zeros((16, 16))
    half[:, :8] = 1.0
    assert score_rd_numpy(y, y, 128.0, lambda_rd=1.0, weights=half) == pytest.approx(1.0)
    wrong = y.copy()
    wrong[:, 8:] = 1.0
    assert score_rd_numpy(y, wrong, 0.0, weights=half) == 0.0


def test_the_seam_mask_makes_errors_at_the_rim_count_more() -> None:
    y, rim, middle = np.zeros((16, 16)), np.zeros((16, 16)), np.zeros((16, 16))
    rim[0, 4:12], middle[8, 4:12] = 0.5, 0.5
    seam = seam_penalty_mask(size=16, overlap=4, power=1.5).numpy().reshape(16, 16)
    plain = score_rd_numpy(y, rim, 0.0, alpha_mix=0.0)
    assert plain == score_rd_numpy(y, middle, 0.0, alpha_mix=0.0)
    assert score_rd_numpy(y, rim, 0.0, alpha_mix=0.0, seam=seam) > plain
    assert score_rd_numpy(y, middle, 0.0, alpha_mix=0.0, seam=seam) == pytest.approx(plain)


def test_one_tile_gives_a_float_and_several_an_array() -> None:
    tiles = np.random.default_rng(3).random((3, 16, 16))
    one = score_rd_numpy(tiles[1], tiles[0], 5.0)
    assert isinstance(one, float)
    many = score_rd_numpy(tiles, tiles[[0, 0, 0]], np.array([5.0, 5.0, 5.0]))
    assert isinstance(many, np.ndarray)
    assert many.shape == (3,)
    assert many[1] == pytest.approx(one)


def test_what_cannot_be_scored_is_refused() -> None:
    y = np.zeros((8, 8))
    for change, error, says in (
        ({"y_hat": np.zeros((9, 9))}, ImageError, r"\[9, 9\]"),
        ({"y": np.zeros((8, 9))}, ImageError, "square"),
        ({"y": np.full((8, 8), np.nan)}, ImageError, "64 values that are not finite"),
        ({"weights": np.zeros((8, 8))}, ImageError, "owns no pixel"),
        ({"seam": np.zeros((4, 4))}, ImageError, r"seam has shape \[1, 4, 4\]"),
        ({"alpha_mix": 1.5}, ConfigError, "alpha_mix 1.5"),
        ({"lambda_rd": -1.0}, ConfigError, "lambda_rd is -1.0"),
    ):
        with pytest.raises(error, match=says):
            score_rd_numpy(**{"y": y, "y_hat": y, "bits": 0.0, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("alpha", "tile", "overlap", "seam"), [(0.7, 16, 4, 0.0), (0.0, 16, 6, 2.0), (1.0, 20, 5, 0.5)]
)
def test_compiled_loops_and_tensor_operations_agree_to_the_last_bit(
    alpha: float, tile: int, overlap: int, seam: float
) -> None:
    cfg = CodecConfig.preset(
        "balanced", tile=tile, overlap=overlap, alpha_mix=alpha, seam_weight=seam, lambda_rd=0.1, search="exhaustive"
    )
    state = plane_state(cfg, 70, 61)
    scorer, bank = state.scorer, state.bank
    plain = Scorer(cfg, bank, state.windows, state.costs, state.spec.amp_step, torch_ops)
    e, x, cls = residual(state), state.x, state.windows.class_of_tile
    tiles = TileBatch(e, x, cls)
    for side in (tile, tile // 2, 7):
        for own, wanted in zip(scorer.packed(tiles, side), plain.packed(tiles, side), strict=True):
            assert own.dtype == wanted.dtype and torch.equal(own, wanted)
    draw = torch.Generator().manual_seed(5)
    for store in (bank.pixels, bank.drawn >> 4):
        rms = store.double().square().mean(dim=1).sqrt()
        at = torch.randint(0, bank.rows, (len(e), 9), generator=draw)
        patterns = Patterns(store, at, torch.where(torch.rand(at.shape, generator=draw) < 0.1, 0.0, rms[at]))
        address = torch.randint(500, 9000, at.shape, generator=draw, dtype=torch.int32)
        for rough in (False, True):
            fast = scorer.exact(e, x, cls, patterns, address, 1, rough=rough)
            slow = plain.exact(e, x, cls, patterns, address, 1, rough=rough)
            assert torch.equal(fast[0], slow[0])
            assert torch.equal(fast[1], slow[1])
    rows = torch.randint(-1, bank.rows, (len(e), 3), generator=draw)
    for drawn in (False, True):
        fast, slow = (one.exact_rows(e, x, cls, rows, 1, drawn=drawn) for one in (scorer, plain))
        assert torch.equal(fast[0], slow[0])
        assert torch.equal(fast[1], slow[1])


@pytest.mark.parametrize("generators", [None, (3, 11, 50)])
def test_screening_keeps_the_best_by_score_and_the_lowest_row_on_a_tie(generators: tuple[int, ...] | None) -> None:
    cfg = CodecConfig.preset("oracle", tile=TILE, overlap=4, lambda_rd=0.05)
    state = plane_state(cfg)
    scorer, bank, e, cls = state.scorer, state.bank, residual(state), state.windows.class_of_tile
    e[2] = e[1]
    e[3] = 0  # nothing to draw: all that is left of a score is its cost
    allowed = None
    usable = torch.ones(len(e), bank.rows, dtype=torch.bool)
    if generators is not None:
        allowed = torch.zeros(len(e), len(bank.start) - 1, dtype=torch.bool)
        allowed[:, list(generators)] = True
        allowed[4, generators[0]] = False
        usable = allowed[:, bank.gen]
    tiles = TileBatch(e, state.x, cls)
    rows = scorer.screen(tiles, 1, 40, allowed)
    score = torch.where(usable, reference_scores(scorer, tiles, bank.terms(False, state.windows.around), 1), -torch.inf)
    assert torch.equal(rows, torch.sort(score, dim=1, descending=True, stable=True).indices[:, :40])


@pytest.mark.parametrize("generators", [None, (32, 12, 49)])
def test_what_passes_coarse_screening_is_ranked_at_full_resolution(generators: tuple[int, ...] | None) -> None:
    cfg = CodecConfig.preset("fast", tile=TILE, overlap=4, search="screened")
    state = plane_state(cfg)
    bank, e, cls = state.bank, residual(state), state.windows.class_of_tile
    e[2] = e[1]
    e[3] = 0
    allowed = None
    if generators is not None:
        allowed = torch.zeros(len(e), len(bank.start) - 1, dtype=torch.bool)
        allowed[:, list(generators)] = True
        allowed[4] = False
    plain = Scorer(cfg, bank, state.windows, state.costs, state.spec.amp_step, torch_ops)
    tiles, around = TileBatch(e, state.x, cls), state.windows.around
    found = state.scorer.screen(tiles, 1, 12, allowed)
    assert torch.equal(found, plain.screen(tiles, 1, 12, allowed))

    usable = torch.ones(len(e), bank.rows, dtype=torch.bool) if allowed is None else allowed[:, bank.gen]

    def best(terms: BankTerms, among: torch.Tensor, keep: int) -> torch.Tensor:
        score = torch.where(among, reference_scores(plain, tiles, terms, 1), float("-inf"))
        return torch.sort(score, dim=1, descending=True, stable=True).indices[:, :keep]

    half, whole = bank.terms(True, around), bank.terms(False, around)
    passed = torch.zeros_like(usable).scatter_(1, best(half, usable, 48), True)
    expected = best(whole, passed & usable & (whole.scale > 0).all(dim=0), 12)
    own = [row for row in range(len(e)) if usable[row].any()]
    assert torch.equal(found[own], expected[own])
    assert (found[4] == -1).all() == (generators is not None)


def test_fewer_candidates_than_asked_for_leave_places_empty() -> None:
    cfg = CodecConfig.preset("fast", tile=TILE, overlap=4)
    state = plane_state(cfg)
    allowed = torch.zeros(len(state.x), len(state.bank.start) - 1, dtype=torch.bool)
    rows = state.scorer.screen(TileBatch(residual(state), state.x, state.windows.class_of_tile), 0, 24, allowed)
    assert torch.equal(rows, torch.full((len(state.x), 24), -1))


@pytest.mark.parametrize("kind", ["_fastest", "_integer", "_floating"])
def test_every_product_is_exact(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind != "_fastest":
        monkeypatch.setattr(product, "_fastest", lambda _length: getattr(product, kind))
    draw = torch.Generator().manual_seed(4)
    pixels = torch.randint(-127, 128, (product.BLOCK + 33, 400), generator=draw, dtype=torch.int8)
    tiles = torch.randint(-127, 128, (5, 400), generator=draw, dtype=torch.int8)
    pixels[7], tiles[1] = 127, -127
    for first, values in Product(pixels).blocks(tiles):
        expected = tiles.long() @ pixels[first : first + product.BLOCK].long().t()
        assert torch.equal(values.long(), expected)


@pytest.mark.parametrize(("tiles", "rows", "length"), [(1, 4096, 256), (1, 100, 1024), (2, 40, 400)])
def test_small_products_take_no_more_time_than_large_ones(tiles: int, rows: int, length: int) -> None:
    """Some libraries fall back to plain loops for them: a tile alone took as long as hundreds together."""
    pixels, many = (torch.ones((n, length), dtype=torch.int8) for n in (4096, 64))
    kind = product._fastest(length)
    small, large = kind(pixels[:rows]), kind(pixels)
    ratios = [product._seconds(small, many[:tiles]) / product._seconds(large, many) for _ in range(5)]
    assert min(ratios) < 3
