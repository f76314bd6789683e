"""`dis` and `asm`: streams as JSON that people edit."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pc15 import cli
from pc15.assembly import asm, dis
from pc15.bitstream.read import read_programs
from pc15.decoder import decode
from pc15.errors import BitstreamError, ConfigError, MissingTableError

GOLDEN = sorted((Path(__file__).resolve().parents[1] / "golden").glob("*.pc15"))
PLAIN = dis((GOLDEN[0].parent / "gen_stripes.pc15").read_bytes())
MERGED = dis((GOLDEN[0].parent / "merge_few.pc15").read_bytes())
RESIDUAL = dis((GOLDEN[0].parent / "residual.pc15").read_bytes())


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_golden_stream_comes_back_byte_for_byte(path: Path) -> None:
    data = path.read_bytes()
    assert asm(json.loads(json.dumps(dis(data)))) == data


def first_layer(content: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The first tile of the luma that has a layer of its own, and that layer."""
    for n, tile in enumerate(content["planes"][0]["tiles"]):
        if tile["layers"] and "generator" in tile["layers"][0]:
            return n, tile["layers"][0]
    raise AssertionError("no layer")


def test_an_edit_changes_what_it_names_and_nothing_else() -> None:
    content = copy.deepcopy(PLAIN)
    n, layer = first_layer(content)
    layer["amp"] += 1
    content["metadata"] = {"edited": True}
    data = asm(content)
    header, programs, metadata, _ = read_programs(data)
    assert metadata == {"edited": True}
    assert programs[0].records()[n].layers[0].amp == layer["amp"]
    content["metadata"], layer["amp"] = None, layer["amp"] - 1
    assert asm(content) == asm(PLAIN)
    assert decode(data).shape == (1, header.height, header.width)


def test_a_layer_can_be_written_by_its_parameters() -> None:
    content = copy.deepcopy(PLAIN)
    n, layer = first_layer(content)
    wanted = {**layer["parameters"]}
    for name in ("entry", "offsets"):
        del layer[name]
    again = dis(asm(content))["planes"][0]["tiles"][n]["layers"][0]
    assert again["parameters"] == wanted
    layer["parameters"] = {"angle_deg": 90.0}
    layer["generator"] = "STRIPES"
    again = dis(asm(content))["planes"][0]["tiles"][n]["layers"][0]
    assert again["generator"] == "STRIPES" and abs(again["parameters"]["angle_deg"] - 90.0) < 6


Edit = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("base", "edit", "says"),
    [
        (PLAIN, lambda c: c.update(pc15_asm=2), "this build reads form 1"),
        (PLAIN, lambda c: c.pop("width"), "the stream has no width"),
        (PLAIN, lambda c: c.update(width="64"), "width is '64', not a whole number"),
        (PLAIN, lambda c: c.update(widht=64), "a field 'widht' that is not known; did you mean width?"),
        (PLAIN, lambda c: c.update(height=True), "height is True, not a whole number"),
        (PLAIN, lambda c: c.update(color="grey"), "no color 'grey'; did you mean gray?"),
        (PLAIN, lambda c: c.update(color="ycbcr420"), "there are 1 planes"),
        (PLAIN, lambda c: c.update(width=2000), "its grid has"),
        (PLAIN, lambda c: c.update(seed=-1), "seed is -1"),
        (PLAIN, lambda c: c.update(planes=[1]), "plane 0 is 1, not an object"),
        (PLAIN, lambda c: c["planes"][0].update(window="han"), "plane 0: no window 'han'; did you mean hann?"),
        (PLAIN, lambda c: c["planes"][0].update(overlap=999), "overlap of plane 0"),
        (PLAIN, lambda c: c["planes"][0]["tiles"][0].update(dc=-1), "plane 0, tile 0: dc is -1; give 0 to"),
        (PLAIN, lambda c: c["planes"][0]["tiles"][0].update(at=[5, 5]), "it stands in the place of [0, 0]"),
        (PLAIN, lambda c: c["planes"][0]["tiles"][0].update(layers=[{}] * 17), "at most 16 can be coded"),
        (PLAIN, lambda c: first_layer(c)[1].update(generator="STRIPE"), "did you mean STRIPES?"),
        (PLAIN, lambda c: first_layer(c)[1].update(entry=10**9), "entry is 1000000000; of STRIPES"),
        (PLAIN, lambda c: first_layer(c)[1].update(amp=0), "amp is 0; give a whole number"),
        (PLAIN, lambda c: first_layer(c)[1].update(amp=10**6), "amp is 1000000"),
        (PLAIN, lambda c: first_layer(c)[1].update(offsets=[99]), "offsets are [99]; give"),
        (PLAIN, lambda c: first_layer(c)[1].update(seed_index=1), "seed_index is 1"),
        (PLAIN, lambda c: first_layer(c)[1]["parameters"].update(freq=1.0), "leave entry and offsets out"),
        (PLAIN, lambda c: first_layer(c)[1].pop("entry"), "has no entry; give one with its offsets"),
        (PLAIN, lambda c: c.update(metadata={"a": float("nan")}), "metadata is not JSON"),
        (
            PLAIN,
            lambda c: first_layer(c)[1].update(entry=None, offsets=None, parameters={"frq": 1}),
            "has no parameter 'frq'; did you mean freq?",
        ),
        (
            MERGED,
            lambda c: c["planes"][0]["tiles"][0].update(
                layers=[{"continues": {"side": "left", "layer": 0}, "amp": 1}]
            ),
            "layer 0 of tile 0 continues a layer that is not there",
        ),
        (
            MERGED,
            lambda c: c["planes"][0]["tiles"][0].update(layers=[{"continues": {"side": "topp", "layer": 0}, "amp": 1}]),
            "no side 'topp'; did you mean top?",
        ),
        (RESIDUAL, lambda c: c["planes"][0]["residual"].update(sections=["!"]), "section 0 is no base64"),
        (RESIDUAL, lambda c: c["planes"][0]["residual"].update(sections=[]), "has 0 sections; its size asks for"),
        (RESIDUAL, lambda c: c["planes"][0]["residual"].update(step=80), "step is 80; give 0 to 79"),
        (RESIDUAL, lambda c: c["planes"][0]["residual"].update(step=3), "cannot be read with this size, step"),
        (RESIDUAL, lambda c: c["planes"][0]["residual"].update(tools=["sin"]), "no tool 'sin'; did you mean sine?"),
        (RESIDUAL, lambda c: c["planes"][0]["residual"].update(tools=[["sine"]]), "no tool ['sine']"),
        (RESIDUAL, lambda c: c["planes"][0]["residual"].update(tools=[{}]), "no tool {}"),
    ],
)  # fmt: skip
def test_a_bad_edit_is_refused_where_it_stands(base: dict[str, Any], edit: Edit, says: str) -> None:
    content = copy.deepcopy(base)
    edit(content)
    with pytest.raises(ConfigError, match=re.escape(says)):
        asm(content)


def test_tables_that_are_not_there_are_named() -> None:
    with pytest.raises(MissingTableError, match="nobody"):
        asm({**copy.deepcopy(PLAIN), "tables": "nobody"})


def test_a_damaged_stream_is_not_taken_apart() -> None:
    data = bytearray(GOLDEN[0].read_bytes())
    data[-1] ^= 1
    with pytest.raises(BitstreamError):
        dis(bytes(data))


def test_the_commands_write_json_and_a_stream(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream, text, back = GOLDEN[0], tmp_path / "a.json", tmp_path / "b.pc15"
    assert cli.main(["dis", str(stream), "-o", str(text)]) == 0
    assert cli.main(["asm", str(text), "-o", str(back)]) == 0
    assert back.read_bytes() == stream.read_bytes()
    assert f"{back}: {len(back.read_bytes())} bytes" in capsys.readouterr().out
    text.write_text("{")
    assert cli.main(["asm", str(text), "-o", str(back)]) == 2
    assert "a.json is not JSON" in capsys.readouterr().err
