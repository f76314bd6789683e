"""Second searches that choose from what the first has listed, and the weights that lie in the repository."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pc15.config import PROGRAMS, CodecConfig
from pc15.decoder import decode_y
from pc15.encoder import encode_y
from pc15.errors import ConfigError
from pc15.hooks.learned import AiHooks
from pc15.search.recall import Recall

BASELINE = Path(__file__).resolve().parents[2] / "checkpoints" / "baseline"


def plane(height: int, width: int) -> torch.Tensor:
    """A soft picture with an edge, stripes and some noise, [1,1,h,w] in [0,1]."""
    y, x = torch.arange(height)[:, None], torch.arange(width)[None, :]
    grain = torch.randint(-9, 10, (height, width), generator=torch.Generator().manual_seed(3))
    values = torch.where(x + y < width, 90 + x, 160 + 40 * ((x - y) // 5 % 2)) + grain
    return values.clamp(0, 255).float()[None, None] / 255.0


def test_a_tile_remembers_each_row_once() -> None:
    recall = Recall(5, 3, 4, torch.device("cpu"))
    assert recall.of(torch.arange(5)).tolist() == [[-1]] * 5
    recall.note(torch.tensor([1, 3]), 0, torch.tensor([[9, 2, 5, -1, 77], [4, 4, 0, 1, 8]]))
    recall.note(torch.tensor([3]), 2, torch.tensor([[1, 6]]))
    assert recall.of(torch.tensor([3, 0, 1])).tolist() == [[6, 4, 1, 0], [-1] * 4, [9, 5, 2, -1]]


def test_what_is_remembered_makes_streams_that_repeat_and_hardly_cost_more() -> None:
    picture = plane(72, 96)
    cfg = CodecConfig.preset("balanced", **{**PROGRAMS, "tile": 16, "overlap": 4}, lambda_rd=0.25, search="exhaustive")
    coded = encode_y(picture, cfg)
    assert coded["bitstream"] == encode_y(picture, cfg)["bitstream"]
    assert coded.stats["layers"] > 0
    costs = []
    for one in (coded, encode_y(picture, cfg.but(recall=0, beam=2))):
        error = (decode_y(one["bitstream"]) - picture).square().mean()
        costs.append(float(error) * 64 + 0.25 * 8 * len(one["bitstream"]) / picture.numel())
    assert costs[0] < 1.05 * costs[1]


@pytest.mark.parametrize("recall", [-1, 257, 1.5, True])
def test_a_number_of_candidates_out_of_range_is_refused(recall: object) -> None:
    with pytest.raises(ConfigError, match="recall"):
        CodecConfig(recall=recall)  # type: ignore[arg-type]


def test_the_baseline_weights_fit_this_build_and_find_nearly_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AiHooks, "describe", lambda _self: {})  # a hundred bytes, much of so small a stream
    hooks = AiHooks.from_folder(BASELINE)
    assert hooks is not None and hooks.selector is not None and hooks.selector.ready
    picture = plane(88, 88)
    cfg = CodecConfig.preset("balanced", **PROGRAMS, lambda_rd=0.5)
    costs = []
    for one in (encode_y(picture, cfg.but(ai=hooks)), encode_y(picture, cfg)):
        error = (decode_y(one["bitstream"]) - picture).square().mean()
        costs.append(float(error) * 64 + 0.5 * 8 * len(one["bitstream"]) / picture.numel())
    assert costs[0] < 1.05 * costs[1]
