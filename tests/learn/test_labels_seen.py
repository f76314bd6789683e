"""`pc15learn verify` and `show`: labels derived again, and looked at."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from pc15 import CodecConfig
from pc15.errors import ConfigError, SchemaError
from pc15.images import save_image
from pc15learn.cli import main
from pc15learn.labels.manifest import Oracle
from pc15learn.labels.read import LabelFolder, load_labels
from pc15learn.labels.verify import verify_labels
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.tiles import make_tiles
from tests.fake_oracle import FakeOracle

LABELS = Path(__file__).resolve().parents[2] / "datasets" / "samples" / "labels"


def test_the_samples_are_derived_again(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(LABELS), "--sample", "20%", "--device", "cpu"]) == 0
    assert re.search(r"labels: [1-9]\d* of \d+ labels derived again, all equal", capsys.readouterr().out)


def test_a_label_that_was_changed_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(LABELS, tmp_path / "labels")
    path = folder / "labels-00000.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    number = next(i for i, row in enumerate(rows) if row["layers"])
    rows[number]["layers"][0]["amp"] += 1
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert verify_labels(folder, share=1.0, device="cpu").wrong == [rows[number]["tile_id"]]
    assert main(["verify", str(folder), "--sample", "1.0", "--device", "cpu"]) == 1
    assert rows[number]["tile_id"] in capsys.readouterr().err


def test_labels_that_were_replaced_under_their_date_are_read_again(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = shutil.copytree(LABELS, tmp_path / "labels")
    path = folder / "labels-00000.jsonl"
    first, was = load_labels(folder), path.stat()
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(reversed(lines)))
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    assert path.stat().st_size == was.st_size
    again = load_labels(folder)
    assert again["tile_id"][: len(lines)] == first["tile_id"][: len(lines)][::-1]


def test_labels_of_another_oracle_are_not_compared(tmp_path: Path) -> None:
    folder = shutil.copytree(LABELS, tmp_path / "labels")
    with pytest.raises(ConfigError, match="share is 0"):
        verify_labels(folder, share=0.0)
    stored = json.loads((folder / "labels.json").read_text())
    stored["oracle"]["oracle"] = 1
    stored["fingerprint"] = Oracle(stored["oracle"]).fingerprint
    (folder / "labels.json").write_text(json.dumps(stored))
    with pytest.raises(SchemaError, match="labelled by oracle 1"):
        verify_labels(folder)


def test_a_page_shows_tiles_layers_and_candidates(tmp_path: Path) -> None:
    page, again = tmp_path / "new" / "page.html", tmp_path / "again.html"
    assert main(["show", str(LABELS), "--out", str(page), "--tiles", "3"]) == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<section>") == 3
    assert text.count("data:image/png;base64,") >= 3 * 4 and "class='best'" in text
    main(["show", str(LABELS), "--out", str(again), "--tiles", "3"])
    assert again.read_bytes() == page.read_bytes()
    assert main(["show", str(LABELS), "--out", str(again), "--tiles", "0"]) == 2


def test_labels_without_any_layer_are_read_shown_and_refused_by_a_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flat").mkdir()
    for shade in (40, 90, 140, 190):
        save_image(tmp_path / "flat" / f"{shade}.png", torch.full((1, 20, 20), shade, dtype=torch.uint8))
    make_tiles(tmp_path / "flat", tmp_path / "tiles.jsonl", tile=16, overlap=4, val_percent=50, test_percent=0)
    cfg = CodecConfig.preset("fast", tile=16, overlap=4, residual=False, codebook_id="v15_grid")
    options = LabelOptions(cfg=cfg, top=4, random=2, device="cpu")
    make_labels(tmp_path / "tiles.jsonl", tmp_path / "labels", options, search=FakeOracle(options.cfg))
    (batch,) = LabelFolder.open(tmp_path / "labels").batches("labels")
    assert len(batch.pixels) == 16 and len(batch.offsets) == 0
    assert main(["show", str(tmp_path / "labels"), "--out", str(tmp_path / "page.html")]) == 0
    pytest.importorskip("lightning")
    words = ["fit", "--config", "selector", "--labels", str(tmp_path / "labels"), "--out", str(tmp_path / "made")]
    assert main(words) == 2
    assert "no tile with a layer: none paid for its bits" in capsys.readouterr().err
