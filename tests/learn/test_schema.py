"""Rows: what is written is read again, what is wrong is named with its line, a torn line is left out."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest
import torch

from pc15.errors import SchemaError
from pc15.proc.generators import NAMES
from pc15learn.schema import (
    SCHEMA_VERSION,
    CandidateRow,
    LabelRow,
    LayerRow,
    TileRow,
    check,
    dump,
    features_of,
    mend,
    pixels_from_text,
    pixels_to_text,
    place_of,
    read_rows,
    write_rows,
)

EDGE = NAMES.index("EDGE")


def tile_row(**changes: object) -> TileRow:
    row = TileRow(SCHEMA_VERSION, "ab-32-0-8", "a b/é.png", "0" * 64, 0, 8, 32, 8, "train", 0.5, 0.125, 0.0312)
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def label_row(**changes: object) -> LabelRow:
    tried = CandidateRow([EDGE, 3], [1, 2], [0, 0], [2, -3], [0.25, 0.5], [10.5, 11.0])
    layer = LayerRow(EDGE, 1, [0, 1, -1], [5, 6, 7], 0, 2, 0.75, 0.25, 10.5, 0.26, tried)
    pixels = pixels_to_text(torch.arange(16, dtype=torch.uint8).view(4, 4))
    row = LabelRow(SCHEMA_VERSION, "ab-4-0-0", "val", 4, pixels, 12, [layer])
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def test_rows_come_back_as_they_were(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    tiles, labels = [tile_row(), tile_row(tile_id="cd-32-8-8", y=8)], [label_row(), label_row(layers=[])]
    write_rows(path, tiles)
    assert list(read_rows(path, TileRow)) == tiles
    write_rows(path, labels)
    assert list(read_rows(path, LabelRow)) == labels
    assert path.read_bytes() == "".join(dump(row) + "\n" for row in labels).encode()


def test_pixels_come_back_as_they_were():
    tile = torch.randint(0, 256, (32, 32), dtype=torch.uint8)
    assert torch.equal(pixels_from_text(pixels_to_text(tile), 32), tile)
    with pytest.raises(SchemaError, match="1024 bytes for a tile of 16x16"):
        pixels_from_text(pixels_to_text(tile), 16)
    with pytest.raises(SchemaError, match="base64"):
        pixels_from_text("!!", 16)


def test_a_tile_id_says_where_its_tile_is():
    assert place_of("0123456789abcdef-32-0-24") == ("0123456789abcdef", 0, 24)
    for wrong in ("", "ab-32-0", "ab-32-0-24-1", "ab-32-0-x"):
        with pytest.raises(SchemaError, match="no tile id"):
            place_of(wrong)


def test_a_torn_last_line_is_left_out_and_can_be_mended(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [tile_row(), tile_row(y=24)])
    whole = path.read_bytes()
    for cut in (1, 20):
        path.write_bytes(whole[:-cut])
        with caplog.at_level(logging.WARNING):
            caplog.clear()
            assert list(read_rows(path, TileRow)) == [tile_row()]
        assert "unfinished line" in caplog.text
        assert mend(path) > 0
        assert path.read_bytes() == whole[: whole.index(b"\n") + 1]
        assert mend(path) == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"v": 99}, "version 99"),
        ({"split": "trian"}, "split 'trian'"),
        ({"tile": 2}, "tile 2"),
        ({"y": -1}, "out of range"),
        ({"mean": "x"}, "mean is 'x'; a number is expected"),
        ({"y": 1.5}, "y is 1.5; a whole number"),
        ({"y": True}, "y is True; a whole number"),
    ],
)
def test_a_bad_tile_row_is_named_with_its_line(tmp_path: Path, change: dict[str, object], says: str):
    path = tmp_path / "rows.jsonl"
    path.write_text(dump(tile_row()) + "\n" + json.dumps({**dataclasses.asdict(tile_row()), **change}) + "\n")
    with pytest.raises(SchemaError, match=says):
        list(read_rows(path, TileRow))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "rows.jsonl:1: not JSON"),
        ("[]", "an object is expected, not list"),
        (dump(tile_row()).replace('"split"', '"spilt"'), "unknown key 'spilt'; did you mean split?"),
        (dump(tile_row()).replace('"y":0,', ""), "key 'y' is missing"),
    ],
)
def test_what_is_no_row_is_refused(tmp_path: Path, line: str, says: str):
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(SchemaError) as caught:
        list(read_rows(path, TileRow))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"gen": 999}, "gen is 999"),
        ({"params": [1]}, "1 params for EDGE"),
        ({"params": [5, 6, 999]}, "softness has level 999"),
        ({"offsets": [0, 0, 9]}, "beyond"),
        ({"d": float("nan")}, "not finite"),
        ({"candidates": CandidateRow([1], [], [], [], [], [])}, "candidate lists"),
        ({"candidates": CandidateRow([99], [0], [0], [0], [0.0], [0.0])}, "no generator"),
    ],
)
def test_a_bad_layer_is_refused(change: dict[str, object], says: str):
    layer = dataclasses.replace(label_row().layers[0], **change)  # type: ignore[arg-type]
    with pytest.raises(SchemaError, match=says):
        check(label_row(layers=[layer]))


def test_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(SchemaError, match="cannot read"):
        list(read_rows(tmp_path / "none.jsonl", TileRow))


def test_rows_fit_the_features_of_a_datasets_reader(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    if not hasattr(datasets, "load_dataset"):
        pytest.skip("the datasets library is not installed")
    datasets.disable_progress_bars()
    path = tmp_path / "rows.jsonl"
    rows = [label_row(), label_row(layers=[])]
    write_rows(path, rows)
    read = datasets.load_dataset(
        "json", data_files=str(path), features=features_of(LabelRow), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert list(read) == [dataclasses.asdict(row) for row in rows]
