"""`pc15 bench speed` says what it timed, and writes it down."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import pytest
import torch

from pc15 import cli, render
from pc15.bench import processes, speed
from pc15.errors import Pc15Error
from pc15.images import save_image


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    save_image(tmp_path / "photo.png", ((render("WOOD", 48, 70)[0] + 1) * 127).to(torch.uint8))
    return tmp_path / "photo.png"


def test_stages_and_wholes_are_timed(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_RANDOM_ROWS", 5000)
    monkeypatch.setattr(speed, "_CEILING_SHAPES", {"cpu": ((64, 512), (512, 512))})
    monkeypatch.setattr(speed, "_COPIED", {"cpu": 1 << 22})
    out = photo.with_name("speed.csv")
    arguments = ["--presets", "fast", "--repeats", "1", "--device", "cpu", "--out", str(out)]
    assert cli.main(["bench", "speed", "--images", str(photo), *arguments]) == 0
    shown = capsys.readouterr().out
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    stages = [
        "integer product alone",
        "copy alone",
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
    assert float(rows[0]["share"]) == float(rows[1]["share"]) == 1.0 and all(float(r["share"]) > 0 for r in rows[2:7])
    assert "fast: 6 tiles" in rows[4]["note"] and "tile programs" in rows[7]["note"]


def test_timings_come_as_json(photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    row = speed.Timing("encode", 0.5, 2.0, "pictures/s", None, 3.0, "")
    monkeypatch.setattr(speed, "run_speed", lambda *_, **__: [row])
    assert cli.main(["bench", "speed", "--images", str(photo), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["machine"]["threads"] >= 1 and content["timings"][0]["seconds"] == 0.5


def test_commands_are_timed_as_processes(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["bench", "speed", "--images", str(photo), "--presets", "fast", "--repeats", "1", "--processes"]
    assert cli.main([*command, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["timings"]
    assert [row["stage"] for row in rows] == ["pc15 encode", "pc15 decode", "pc15 info"]
    for row in rows:
        assert row["seconds"] > 0.05 and row["rate"] == pytest.approx(48 * 70 / row["seconds"] / 1e6)
        assert 20 < row["peak_mib"] < 2000
    photo.write_bytes(photo.read_bytes()[:-200])
    assert cli.main([*command, "--device", "cpu"]) != 0
    assert "photo.png" in capsys.readouterr().err


def test_a_command_that_fails_is_named(photo: Path) -> None:
    with pytest.raises(Pc15Error, match="a.pc15: no such file|cannot read stream"):
        processes._process("info", [str(photo.with_name("a.pc15"))])


def test_a_curve_is_over_the_size_of_the_picture(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_alone", lambda work, *arguments: work(*arguments))  # four processes take their time
    out = photo.with_name("curve.csv")
    arguments = ["--presets", "fast", "--device", "cpu", "--curve", "0.003", "--out", str(out)]
    assert cli.main(["bench", "speed", "--images", str(photo), *arguments]) == 0
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["stage"] for row in rows] == ["encode", "decode"] * 2
    assert all("66 x 45" in row["note"] for row in rows) and "tile programs" in rows[2]["note"]
    assert all(float(row["seconds"]) > 0 and float(row["peak_mib"]) > 1 for row in rows)
    assert "66 x 45" in capsys.readouterr().out
    assert cli.main(["bench", "speed", "--images", str(photo), "--curve", "0"]) == 2
    assert "megapixels" in capsys.readouterr().err


def test_a_point_has_a_process_of_its_own() -> None:
    assert speed._alone(os.getpid) != os.getpid()


def test_a_picture_grows_by_repeating_itself() -> None:
    u8 = torch.arange(6, dtype=torch.uint8).view(1, 2, 3)
    big = speed.grown(u8, 54)
    assert big.shape == (1, 6, 9)
    assert torch.equal(big[:, 2:4, 3:6], u8) and torch.equal(speed.grown(u8, 6), u8)


def test_wrong_usage_is_refused_before_anything_is_timed(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "_ceiling", None)
    assert cli.main(["bench", "speed", "--images", str(photo), "--repeats", "0"]) == 2
    assert cli.main(["bench", "speed", "--images", str(photo), "--presets", "fats"]) != 0
    assert "did you mean fast?" in capsys.readouterr().err
    arguments = ["--presets", "fats", "--curve", "0.1"]
    assert cli.main(["bench", "speed", "--images", str(photo), *arguments]) != 0
    assert "did you mean fast?" in capsys.readouterr().err
