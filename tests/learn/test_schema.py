"""Rows: what is written is read again, what is wrong is named with its line, a torn line is left out."""

from __future__ import annotations

import dataclasses
import json
import logging
from pathlib import Path

import pytest

from pc15.errors import SchemaError
from pc15learn.schema import SCHEMA_VERSION, TileRow, dump, mend, place_of, read_rows, write_rows


def tile_row(**changes: object) -> TileRow:
    row = TileRow(SCHEMA_VERSION, "ab-32-0-8", "a b/é.png", "0" * 64, 0, 8, 32, 8, "train", 0.5, 0.125, 0.0312)
    return dataclasses.replace(row, **changes)  # type: ignore[arg-type]


def test_rows_come_back_as_they_were(tmp_path: Path):
    path, tiles = tmp_path / "rows.jsonl", [tile_row(), tile_row(tile_id="cd-32-8-8", y=8)]
    write_rows(path, tiles)
    assert list(read_rows(path)) == tiles
    assert path.read_bytes() == "".join(dump(row) + "\n" for row in tiles).encode()


def test_lines_are_read_together_as_they_are_one_by_one(tmp_path: Path):
    """Whatever the lines are, rows or errors come as from each line alone."""
    good = dump(tile_row())
    shuffled = json.dumps(dict(reversed(list(json.loads(good).items()))))
    odd = ["", " " + good, good + ",", good[:-1], f"{good},{good}", f"[{good}]", '{"v":1}', '{"a":[{}', '{"c":1}]}',
           good.replace("0.5", "NaN"), good.replace('"v":1', '"v":1.0'), '{"a":' * 9000 + "}"]  # fmt: skip
    path = tmp_path / "rows.jsonl"
    for lines in ([good, shuffled, good], *([good, one, good] for one in odd), [good, odd[7], odd[8], odd[4]]):
        path.write_text("".join(line + "\n" for line in lines))
        together = taken(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pc15learn.schema._TOGETHER", 1)
            assert taken(path) == together
        assert together[0] == tile_row()


def taken(path: Path) -> list[object]:
    """Rows, and the error that ended them."""
    found: list[object] = []
    try:
        found.extend(read_rows(path))
    except SchemaError as error:
        found.append(str(error))
    return found


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
            assert list(read_rows(path)) == [tile_row()]
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
        list(read_rows(path))


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
        list(read_rows(path))
    assert says in str(caught.value)


def test_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(SchemaError, match="cannot read"):
        list(read_rows(tmp_path / "none.jsonl"))
