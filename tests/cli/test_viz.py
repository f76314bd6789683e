"""Montages keep every pixel of every picture and name them; the sheet shows each generator once."""

from __future__ import annotations

import pytest
import torch

from pc15 import viz
from pc15.errors import ConfigError, ImageError
from pc15.proc.registry import list_generators, render


def flat(value: int, H: int, W: int, channels: int | None = None) -> torch.Tensor:
    return torch.full((H, W) if channels is None else (channels, H, W), value, dtype=torch.uint8)


def test_a_montage_keeps_every_pixel_whatever_the_sizes():
    sheet = viz.montage([flat(10, 20, 30), flat(20, 40, 10), flat(30, 5, 5)], columns=2)
    assert sheet.dtype == torch.uint8 and sheet.ndim == 2
    assert [(sheet == v).sum().item() for v in (10, 20, 30)] == [600, 400, 25]
    assert set(sheet.unique().tolist()) == {10, 20, 30, 255}


def test_labels_add_ink_below_and_widen_a_narrow_cell():
    pictures = [flat(99, 16, 16), flat(99, 16, 16)]
    bare, named = viz.montage(pictures), viz.montage(pictures, ["STRIPES_MULTISCALE", "b"])
    assert (named[6:22, 6:22] == 99).all() and (bare[6:22, 6:22] == 99).all()
    assert (named[22:] < 99).any() and not (bare < 99).any()
    assert named.shape[0] > bare.shape[0] and named.shape[1] > bare.shape[1]


def test_one_colour_picture_makes_the_montage_colour():
    red = torch.stack([flat(200, 8, 8), flat(0, 8, 8), flat(0, 8, 8)])
    sheet = viz.montage([red, flat(77, 8, 8)])
    assert sheet.shape[0] == 3
    assert ((sheet[0] == 200) & (sheet[1] == 0)).sum() == 64
    assert (sheet == 77).all(dim=0).sum() == 64


def test_what_is_no_picture_is_named():
    with pytest.raises(ImageError, match=r"picture 1 is torch.float32 \[4, 4\]"):
        viz.montage([flat(0, 4, 4), torch.zeros(4, 4)])
    with pytest.raises(ConfigError, match="1 labels for 2 pictures"):
        viz.montage([flat(0, 4, 4)] * 2, ["a"])
    with pytest.raises(ConfigError, match="needs pictures"):
        viz.montage([])


def test_the_sheet_shows_every_generator(monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []

    def watched(name: str, H: int, W: int) -> torch.Tensor:
        seen.append(name)
        return render(name, H, W)

    monkeypatch.setattr(viz, "render", watched)
    sheet = viz.generator_sheet(size=16, columns=8)
    rows = -(-len(list_generators()) // 8)
    assert seen == list_generators()
    assert sheet.dtype == torch.uint8 and sheet.shape[0] > rows * 16 and sheet.shape[1] > 8 * 16
