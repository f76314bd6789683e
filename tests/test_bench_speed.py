"""`pc15 bench speed` says what it timed, and writes it down."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch

from pc15 import cli, render
from pc15.bench import speed
from pc15.images import save_image


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save_image(tmp_path / "photo.png", ((render("WOOD", 48, 70)[0] + 1) * 127).to(torch.uint8))
    return tmp_path / "photo.png"


def test_stages_and_wholes_are_timed(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_RANDOM_ROWS", 5000)
    out, js = photo.with_name("speed.csv"), photo.with_name("speed.json")
    arguments = ["--presets", "fast", "--repeats", "1", "--device", "cpu", "--out", str(out), "--json", str(js)]
    assert cli.main(["bench", "speed", "--images", str(photo), *arguments]) == 0
    shown = capsys.readouterr().out
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    stages = [
        "integer product alone",
        "random search",
        "random search",
        "product",
        "screening",
        "exact scores",
        "encode",
        "decode",
        "encode",
        "decode",
    ]
    assert [row["stage"] for row in rows] == stages
    assert all(stage in shown for stage in stages)
    assert all(float(row["seconds"]) > 0 and float(row["rate"]) > 0 for row in rows)
    assert float(rows[0]["share"]) == 1.0 and float(rows[1]["share"]) > 0
    assert "fast: 6 tiles" in rows[3]["note"] and "tile programs" in rows[6]["note"]
    content = json.loads(js.read_text())
    assert content["machine"]["threads"] >= 1 and len(content["timings"]) == len(rows)


def test_wrong_usage_is_refused(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "speed", "--images", str(photo), "--repeats", "0"]) == 2
    assert cli.main(["bench", "speed", "--images", str(photo), "--presets", "fats"]) != 0
    assert "did you mean fast?" in capsys.readouterr().err
