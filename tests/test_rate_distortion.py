"""The benchmark measures whole files, reads curves only where they reach, and writes what it prints."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from pc15 import render
from pc15.bench import Point, bd_text, means_text, run_rd
from pc15.errors import ConfigError
from pc15.images import save_image


def _picture(folder: Path) -> Path:
    y = render("RINGS", 48, 48, {"freq": 3.0})[0]
    save_image(folder / "rings.png", ((y + 1.0) * 127.5).round().to(torch.uint8))
    return folder / "rings.png"


def test_points_are_whole_files_at_rising_rates(tmp_path: Path) -> None:
    points = run_rd(
        [_picture(tmp_path)], tmp_path / "rd.csv", presets=["fast"], against=["jpeg"], lambdas=[4.0, 0.5],
        max_bpp=64.0, tile=16, device="cpu",
    )  # fmt: skip
    own = [p for p in points if p.codec == "pc15-fast"]
    assert [p.setting for p in own] == ["4", "0.5"] and own[0].bytes < own[1].bytes
    assert all(p.bpp == pytest.approx(8 * p.bytes / 48**2, abs=1e-6) for p in points)
    with (tmp_path / "rd.csv").open() as file:
        assert [row["bytes"] for row in csv.DictReader(file)] == [str(p.bytes) for p in points]


def _point(codec: str, bpp: float, quality: float) -> Point:
    return Point("a.png", 8, 8, codec, "1", 1, bpp, quality, quality / 100, 0.0, 0.0)


def test_means_are_read_between_points_and_never_beyond_them() -> None:
    text = means_text([_point("x", 0.1, 20.0), _point("x", 0.4, 24.0)], rates=(0.05, 0.2, 0.5))
    assert text.splitlines()[-1] == "| x | - | 22.00 / 0.220 | - |"


def test_half_the_bits_at_every_quality_is_minus_fifty_percent() -> None:
    rates = (0.1, 0.2, 0.4, 0.8)
    points = [_point("ref", r, 20 + i) for i, r in enumerate(rates)]
    points += [_point("half", r / 2, 20 + i) for i, r in enumerate(rates)]
    assert "| half | -50.0 % | -50.0 % | 1 | 100 % |" in bd_text(points, "ref")


def test_an_unknown_codec_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="bpg"):
        run_rd([tmp_path], tmp_path / "rd.csv", against=["bpg"])  # type: ignore[list-item]
