"""What nets see: whole numbers that follow from the tile, the rate and the layer alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pc15.blend_weights import axis_weights
from pc15.config import CodecConfig
from pc15.grids import TileGridCfg
from pc15.hooks.inputs import NUMBERS, PIXELS, NetInputs, net_inputs
from pc15.search.backend.protocol import TileBatch
from pc15.search.expansion import expansion_of
from pc15.search.label import lone_scorer
from pc15.search.windows import Windows


def seen(e: Tensor, x: Tensor, *, lambda_rd: float = 0.5, layer: int = 0, alpha: float = 0.7) -> NetInputs:
    """Inputs of lone tiles."""
    side = e.shape[1]
    cfg = CodecConfig.preset("fast", tile=side, overlap=side // 4, lambda_rd=lambda_rd)
    wide = axis_weights(side, TileGridCfg(size=side, overlap=side // 4))
    windows = Windows.of_grid(wide, wide, cfg, blended=False)
    expansions = (expansion_of(windows, weight, share, lambda_rd) for weight, share in ((19.2, alpha), (1.0, 0.0)))
    return net_inputs(TileBatch(e, x, torch.zeros(len(e), dtype=torch.int64)), *expansions, layer)


def tiles(n: int, side: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(side)
    e = (torch.randn(n, side, side, generator=draw) * 300).to(torch.int32)
    return e, torch.randint(0, 4096, (n, side, side), generator=draw, dtype=torch.int32)


@pytest.mark.parametrize("side", [16, 32, 48, 64])
def test_tiles_of_every_size_become_16_boxes_a_side(side: int) -> None:
    e, x = tiles(5, side)
    whole = seen(e, x)
    assert len(whole) == 5 and whole.price.dtype == torch.float32
    for part, width in ((whole.error, PIXELS), (whole.picture, PIXELS), (whole.numbers, NUMBERS)):
        assert part.shape == (5, width) and part.dtype == torch.int8
    assert whole.error.abs().amax(dim=1).min() > 32  # the range is used
    for i in range(5):
        alone, among = seen(e[i : i + 1], x[i : i + 1]), whole.pick(torch.tensor([i]))
        for name in NetInputs.__dataclass_fields__:
            assert torch.equal(getattr(alone, name), getattr(among, name)), name


def test_the_price_follows_lambda_and_the_layer_its_numbers() -> None:
    e, x = tiles(4, 32)
    cheap, dear = seen(e, x, lambda_rd=0.25), seen(e, x, lambda_rd=4.0)
    assert torch.allclose(dear.price, cheap.price * 16)
    assert (dear.numbers[:, 0] - cheap.numbers[:, 0]).tolist() == [64] * 4  # four doublings, in sixteenths
    assert torch.equal(dear.error, cheap.error)
    first, second, later, last = (seen(e, x, layer=layer).numbers for layer in (0, 1, 2, 40))
    assert torch.equal(first[:, :5], last[:, :5])
    assert [n[0, 5:8].tolist() for n in (first, second, later, last)] == [
        [0, 64, 0],
        [8, 0, 64],
        [16, 0, 0],
        [120, 0, 0],
    ]


def test_a_brighter_picture_looks_the_same_and_a_negative_residual_negative() -> None:
    e, x = tiles(4, 32)
    assert torch.equal(seen(e, x // 2).picture, seen(e, x // 2 + 1500).picture)
    plus, minus = seen(e, x, alpha=0.0), seen(-e, x, alpha=0.0)
    assert (plus.error.int() + minus.error.int()).abs().max() <= 1
    assert torch.equal(plus.price, minus.price)


def test_flat_tiles_have_inputs_too() -> None:
    flat = torch.zeros((2, 16, 16), dtype=torch.int32)
    made = seen(flat, flat + 7)
    assert not made.error.any() and not made.picture.any()
    assert made.price.isfinite().all()
    none = seen(flat[:0], flat[:0])
    assert none.error.shape == (0, PIXELS) and none.numbers.shape == (0, NUMBERS)


def test_the_encoder_shows_nets_what_a_fit_shows_them() -> None:
    """Inputs of a scorer are those that labels get; small tiles have none."""
    e, x = tiles(3, 16)
    batch = TileBatch(e, x, torch.zeros(3, dtype=torch.int64))
    cfg = CodecConfig.preset("fast", tile=16, codebook_id="v15_grid")
    found = [lone_scorer(cfg.but(search=search)).inputs(batch, 1) for search in ("exhaustive", "screened")]
    assert found[0] is not None and found[1] is not None
    for name in NetInputs.__dataclass_fields__:
        assert torch.equal(getattr(found[0], name), getattr(found[1], name)), name
    assert lone_scorer(CodecConfig.preset("fast", tile=8, codebook_id="v15_grid")).inputs(batch, 1) is None
