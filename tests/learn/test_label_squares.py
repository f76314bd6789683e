"""Labels of squares: what the residual's search tried, as the encoder's own streams bear out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pc15.bitstream.read import read_container
from pc15.config import CodecConfig
from pc15.encoder import encode_y
from pc15.errors import ConfigError, SchemaError
from pc15.hooks.learned import AiHooks
from pc15.images import load_luma, save_image
from pc15learn import cli
from pc15learn.sample_data import draw_samples

pq = pytest.importorskip("pyarrow.parquet")
from pc15learn.labels.squares import SquareOptions, label_squares  # noqa: E402

RATES = (1.0, 0.1)
BALANCED = CodecConfig.preset("balanced", device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, picture in list(draw_samples(112).items())[:2]:
        save_image(folder / f"{name}.png", picture)
    return folder


@pytest.fixture(scope="module")
def labelled(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labels") / "squares"
    made = label_squares([photos], out, SquareOptions(cfg=BALANCED, lambdas=RATES))
    assert (made.pictures, made.done, made.left_out) == (2, 2, 0) and made.rows > 100
    return out


def test_what_is_kept_is_what_the_encoder_writes(photos: Path, labelled: Path) -> None:
    kept: dict[float, int] = dict.fromkeys(RATES, 0)
    for shard in labelled.glob("*.parquet"):
        for row in pq.read_table(shard).to_pylist():
            assert row["kept"] == bool(row["drawn"])
            kept[row["lambda"]] += len(row["drawn"])
    for rate in RATES:
        cfg = BALANCED.but(lambda_rd=rate, max_layers=0)
        layers = [encode_y(load_luma(path), cfg).stats["layers"] for path in sorted(photos.iterdir())]
        assert kept[rate] == sum(layers)
    assert sum(kept.values()) > 0


def test_rows_say_what_was_tried_and_what_it_saved(labelled: Path) -> None:
    rows = [row for shard in labelled.glob("*.parquet") for row in pq.read_table(shard).to_pylist()]
    assert {row["side"] for row in rows} >= {8, 16, 32}
    for row in rows:
        assert row["x"] % row["side"] == 0 == row["y"] % row["side"]
        best = max([one["saved"] for one in row["tried"]], default=0.0)
        assert row["saved"] == pytest.approx(max(best, 0.0), abs=1e-3 * row["bits"])
        assert np.isfinite(row["left"]).all() and len(row["left"]) == 64
        assert len(row["inputs"]) == 128 and any(row["inputs"])
        most = row["bits"] - row["saved"] + 12  # and a flag
        assert row["first"] >= row["bits"] and row["more"] >= 0
        for once, best in (row["halves"][:2], row["halves"][2:]):
            assert once == best == -1 or (row["side"] < 64 and 0 < best <= once < 1.25 * most)
    assert any(max(row["halves"]) > 0 for row in rows) and any(row["cut"] > 0 for row in rows)
    assert any(row["more"] > 0 for row in rows) and any(row["first"] > row["bits"] for row in rows)
    paid = [row for row in rows if row["saved"] > 0]
    assert 0 < len(paid) < len(rows) // 2
    assert all(row["saved"] > 0 for row in rows if row["kept"])


def test_a_folder_is_gone_on_with_and_ends_in_the_same_bytes(photos: Path, labelled: Path) -> None:
    before = {path.name: path.read_bytes() for path in labelled.iterdir()}
    (shard, _) = sorted(labelled.glob("*.parquet"))
    shard.unlink()
    made = label_squares([photos], labelled, SquareOptions(cfg=BALANCED, lambdas=RATES, workers=2))
    assert (made.pictures, made.done) == (2, 1)
    assert {path.name: path.read_bytes() for path in labelled.iterdir()} == before
    with pytest.raises(SchemaError, match=r"another search \(different: lambdas, tools, tries\)"):
        label_squares([photos], labelled, SquareOptions(cfg=CodecConfig.preset("fast")))
    with pytest.raises(ConfigError, match="patterns"):
        SquareOptions(cfg=BALANCED.but(tools="none"))


def test_the_folder_is_a_data_set(labelled: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = datasets.load_dataset(str(labelled), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows[0]["left"]) == 64
    assert len(rows) == sum(pq.read_table(shard).num_rows for shard in labelled.glob("*.parquet"))


def test_sets_of_one_name_are_not_taken_for_each_other(photos: Path, labelled: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    (tmp_path / "squares").mkdir()
    one = SquareOptions(cfg=BALANCED, lambdas=RATES[:1], limit=1)
    made = label_squares([photos], tmp_path / "squares", one)
    for folder in (labelled, tmp_path / "squares"):
        rows = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == made.rows


def test_a_net_is_fitted_to_them_exported_and_asked(photos: Path, labelled: Path, tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    given = ["fit", "--config", "squares", "--labels", str(labelled), "--out", str(tmp_path), "--device", "cpu"]
    assert cli.main([*given, "--max-epochs", "2", "--batch-size", "256"]) == 0
    assert cli.main([*given, "--max-epochs", "3", "--batch-size", "256", "--resume"]) == 0
    checkpoint, weights = str(tmp_path / "squares" / "best.ckpt"), tmp_path / "weights"
    assert cli.main(["evaluate", checkpoint, "--labels", str(labelled)]) == 0
    assert cli.main(["export", "--ckpt", checkpoint, "--out", str(weights)]) == 0
    hooks = AiHooks.from_folder(weights)
    assert hooks is not None and hooks.guide is not None and hooks.guide.ready
    luma = load_luma(sorted(photos.iterdir())[0])
    streams = {encode_y(luma, BALANCED.but(max_layers=0, ai=hooks))["bitstream"] for _ in range(2)}
    assert len(streams) == 1
    about = read_container(streams.pop()).metadata
    assert about is not None and about["ai"]["name"] == "squares" and set(about["ai"]) == {"name", "sha256"}


def test_what_cannot_be_fitted_is_refused(
    photos: Path, labelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("lightning")
    given = ["fit", "--config", "squares", "--out", str(tmp_path / "out")]
    assert cli.main([*given, "--online", str(photos)]) == 2
    assert "leave --online out" in capsys.readouterr().err
    assert cli.main([*given, "--labels", str(tmp_path / "none")]) == 2
    assert "give a folder that pc15learn label --squares wrote" in capsys.readouterr().err
    facts = json.loads((labelled / "squares.json").read_bytes())
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "squares.json").write_text(json.dumps({**facts, "version": 1}))
    assert cli.main([*given, "--labels", str(tmp_path / "old")]) == 2
    assert "is of version 1, this build has 4; label again" in capsys.readouterr().err
    (tmp_path / "old" / "squares.json").write_text(json.dumps(facts))
    assert cli.main([*given, "--labels", str(tmp_path / "old")]) == 2
    assert "has no squares" in capsys.readouterr().err


def test_the_command_leaves_out_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(b"no picture")
    save_image(tmp_path / "in" / "b.png", torch.full((3, 64, 64), 90, dtype=torch.uint8))
    given = ["label", "--squares", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--preset", "fast"]
    assert cli.main([*given, "--lambda", "1"]) == 1
    assert "squares of 1 pictures; 1 of them labelled now" in capsys.readouterr().out
    (failure,) = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    assert json.loads(failure)["picture"].endswith("a.png")
    assert cli.main([*given, "--top", "4"]) == 2
    assert "--top is about tiles" in capsys.readouterr().err
