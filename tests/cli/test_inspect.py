"""`pc15 inspect`: the page says what the stream says."""

from __future__ import annotations

import base64
import io
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pc15
from pc15 import CodecConfig, cli, decode, encode, read_bitstream
from pc15.bitstream import plane_size, read_container, residual_spans
from pc15.bitstream.read import read_programs
from pc15.config import PROGRAMS
from pc15.entropy.tables import load_table, save_tables
from pc15.errors import ConfigError
from pc15.images import load_luma, load_rgb
from pc15.inspection import inspect_stream
from pc15.plan.write import tile_bits
from pc15.proc.codebook import Codebook, load_codebook, save_codebook
from pc15.proc.generators import NAMES
from pc15.residual.bits import Square, mode_name, residual_bits, residual_report, square_bits
from pc15.residual.cross import ALL_MODES, FIRST_CROSS
from pc15.residual.decode import read_field
from pc15.stream_map import stream_map
from pc15learn.train_tables import starting_tables

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture(scope="module")
def photo() -> bytes:
    """A residual alone, in colour and in sections, with superblocks that are left out."""
    y, x = torch.meshgrid(torch.arange(150), torch.arange(140), indexing="ij")
    planes = torch.stack([(x * y) % 251, (x * x + y) % 241, (x + 2 * y) % 239]).to(torch.uint8)
    planes[:, :70, :70] = 128
    return encode(planes, CodecConfig.preset("fast", lambda_rd=0.2, section_rows=1, device="cpu"))["bitstream"]


def test_squares_cover_the_plane_and_their_bits_are_the_residuals(photo: bytes) -> None:
    stream = read_container(photo)
    left_out = crossed = 0
    for span, payload in zip(residual_spans(stream.header), stream.residuals, strict=True):
        spec, width = stream.header.planes[span.plane], plane_size(stream.header, span.plane)[1]
        shape = span.row_stop - span.row_start, width
        squares = square_bits(payload or b"", *shape, spec.residual - 1, spec.tools, span.plane)
        covered = np.zeros(shape, np.int64)
        for square in squares:
            covered[square.y : square.y + square.high, square.x : square.x + square.wide] += 1
            left_out += square.mode is None
            crossed += square.mode is not None and square.mode >= FIRST_CROSS
        if payload:
            assert (covered == 1).all()
            everything = residual_bits(payload, *shape, spec.residual - 1, spec.tools, span.plane)
            everything.pop("filter")
            for kind, cost in everything.items():
                assert sum(square.bits.get(kind, 0.0) for square in squares) == pytest.approx(cost, abs=1e-6), kind
    assert left_out > 0 and crossed > 0


PATTERNS_IN_SQUARES = ("patterns_coarse", "patterns_sections", "six_fine")


def drawn_squares(data: bytes) -> list[Square]:
    """Squares of luma that patterns are added to, of a stream with some in each of its sections."""
    stream, found = read_container(data), []
    for span, payload in zip(residual_spans(stream.header), stream.residuals, strict=True):
        if span.plane:
            continue
        spec, width = stream.header.planes[0], plane_size(stream.header, 0)[1]
        what = payload or b"", span.row_stop - span.row_start, width, spec.residual - 1, spec.tools
        squares = square_bits(*what)
        _, used, pixels = residual_report(*what)
        assert sum(len(square.layers) for square in squares) == sum(layers for layers, _ in used.values()) > 0
        assert {gen for square in squares for gen, _, _ in square.layers} == set(used)
        assert sum(square.wide * square.high for square in squares if square.layers) == pixels
        found += [square._replace(y=square.y + span.row_start) for square in squares if square.layers]
    return found


@pytest.mark.parametrize("name", PATTERNS_IN_SQUARES)
def test_what_is_said_of_a_residual_takes_reading_it_once(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, read = GOLDEN / f"{name}.pc15", []

    def counted(*what: Any) -> Any:
        read.append(what[0])
        return read_field(*what)

    monkeypatch.setattr("pc15.residual.bits.read_field", counted)
    assert cli.main(["info", str(source), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["squares"]["layers"] > 0 and told["bits_by_kind"]["residual pattern"] > 0
    assert read == [part for part in read_container(source.read_bytes()).residuals if part]


@pytest.mark.parametrize("name", PATTERNS_IN_SQUARES)
def test_the_map_is_tinted_where_patterns_lie_and_nowhere_else(name: str, tmp_path: Path) -> None:
    source, target = GOLDEN / f"{name}.pc15", tmp_path / "new" / "map.png"
    data = source.read_bytes()
    squares = drawn_squares(data)
    assert cli.main(["info", str(source), "--map", str(target)]) == 0
    with Image.open(target) as opened:
        pixels = np.array(opened.convert("RGB")).astype(int)
    header = read_container(data).header
    left = pixels[8 : 8 + 2 * header.height, 8 : 8 + 2 * header.width]
    coloured = (left.max(axis=2) != left.min(axis=2))[::2, ::2]
    drawn = np.zeros((header.height, header.width), bool)
    for square in squares:
        drawn[square.y : square.y + square.high, square.x : square.x + square.wide] = True
    inner = np.zeros_like(drawn)
    layers = Counter(NAMES[gen] for square in squares for gen, _, _ in square.layers)
    named = sorted(layers, key=lambda name: (-layers[name], name))[:7]
    for square in squares:  # outlines are no measure of a tint, nor is white, which the rarest are tinted with
        inner[square.y + 1 : square.y + square.high, square.x + 1 : square.x + square.wide] = (
            NAMES[square.layers[0][0]] in named
        )
    assert inner.any()
    assert not coloured[~drawn].any()
    assert coloured[inner].all()
    first = stream_map(data)
    assert first.tobytes() == stream_map(data).tobytes()


def test_the_page_names_the_patterns_of_squares() -> None:
    data = (GOLDEN / "patterns_fine.pc15").read_bytes()
    _, told = parts(inspect_stream(data, "patterns"))
    squares = drawn_squares(data)
    said = told["planes"][0]
    assert len(said["layers"]) == len(squares)
    for (number, layers), square in zip(said["layers"].items(), squares, strict=True):
        assert said["squares"][int(number)][:4] == [square.x, square.y, square.wide, square.high]
        assert layers == [[NAMES[gen], entry, amount] for gen, entry, amount in square.layers]


@pytest.mark.parametrize("name", ["merge_few", "coarse_sections", "coarse_merge", "tile_128"])
def test_bits_of_tiles_are_those_of_their_sections(name: str) -> None:
    data = (GOLDEN / f"{name}.pc15").read_bytes()
    header, programs, _, _ = read_programs(data)
    tiles = tile_bits(header, programs, load_table(header.table_id), load_codebook(header.codebook_id))
    assert [len(own) for own in tiles] == [part.tiles for part in programs]
    total = sum(sum(bits.values()) for own in tiles for bits in own)
    stream = read_container(data)
    spent = 8 * sum(len(section or b"") for section in stream.sections)
    assert 0 < spent - total <= 33 * len(stream.sections), "four bytes and a bit of the coder's own each"
    for own, part in zip(tiles, programs, strict=True):
        for bits, count in zip(own, part.count.tolist(), strict=True):
            assert count == 0 or {"amp", "merge"} & set(bits), bits
            assert count > 0 or set(bits) <= {"merge", "dc", "more"}, bits


def parts(page: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The pictures of a page by name, and its data."""
    images = dict(re.findall(r'<img id="(\w+)"[^>]*base64,([^"]+)"', page))
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    return {name: base64.b64decode(data) for name, data in images.items()}, json.loads(found[1])


def test_the_page_holds_the_picture_its_bits_and_its_squares(photo: bytes) -> None:
    page = inspect_stream(photo, "<photo> & co")
    images, data = parts(page)
    assert "&lt;photo&gt; &amp; co" in page and "<photo>" not in page
    assert torch.equal(load_rgb(io.BytesIO(images["picture"])), decode(photo))
    assert set(images) == {"picture", "bits"}
    bright = load_luma(io.BytesIO(images["bits"]))[0].float()
    assert bright[:60, :60].mean() + 50 < bright[80:].mean(), "noise costs more than a flat corner"
    assert [plane["size"] for plane in data["planes"]] == [[150, 140], [75, 70], [75, 70]]
    luma = data["planes"][0]
    assert all(row[4] < len(luma["modes"]) and len(row) % 2 == 0 for row in luma["squares"])
    assert not re.search(r'(src|href)="(?!data:)', page) and "http" not in page, "no network is needed"
    assert page == inspect_stream(photo, "<photo> & co")


def test_tiles_are_told_with_their_patterns() -> None:
    data = (GOLDEN / "coarse_merge.pc15").read_bytes()
    images, told = parts(inspect_stream(data, "merged"))
    assert set(images) == {"picture", "bits", "programs"}
    coarse, fine = told["planes"][0]["grids"]
    assert (coarse["name"], fine["name"]) == ("coarse tile", "tile")
    layers = [layer for tile in fine["tiles"] for layer in tile["layers"]]
    assert any("continues" in layer for layer in layers) and any("parameters" in layer for layer in layers)
    assert len(fine["tiles"]) == len(fine["xs"]) * len(fine["ys"])


def test_every_mode_has_a_name_of_its_own() -> None:
    names = [mode_name(mode) for mode in range(ALL_MODES)]
    assert len(set(names)) == ALL_MODES
    assert (names[0], names[11], names[27]) == ("zero", "from the left", "from the top")


def test_the_command_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream, page = GOLDEN / "residual.pc15", tmp_path / "page.html"
    assert cli.main(["inspect", str(stream), "--out", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == inspect_stream(read_bitstream(stream), "residual.pc15")
    assert f"{page}: a page of " in capsys.readouterr().out
    (tmp_path / "bad.pc15").write_bytes(stream.read_bytes()[:-5])
    assert cli.main(["inspect", str(tmp_path / "bad.pc15"), "--out", str(page)]) == 1


def test_candidates_are_told_of_what_was_coded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a small codebook; what a tile was given is among them where it was searched like that."""
    for name in ("codebooks", "rans"):
        (tmp_path / name).mkdir()
    grid = load_codebook("v15_grid")
    few = [entry[:: max(1, len(entry) // 6)] for entry in grid.entries]
    save_codebook(tmp_path / "codebooks" / "few.npz", Codebook("few", few))
    save_tables(tmp_path / "rans" / "few.json", starting_tables(Codebook("few", few), "few", load_table("v15_default")))
    monkeypatch.setenv("PC15_MODELS_DIR", str(tmp_path))
    waves = pc15.render("WAVES_DIR", 40, 56, {"freq": 5.0, "angle_deg": 30.0})[0]
    original = (128 + 90 * waves).round().to(torch.uint8)
    options = {**PROGRAMS, "tile": 16, "overlap": 4, "lambda_rd": 0.2}
    cfg = CodecConfig.preset("fast", **options, codebook_id="few", table_id="few", device="cpu")
    data = encode(original, cfg)["bitstream"]
    told = parts(inspect_stream(data, "waves", original=original, lambda_rd=0.2))[1]["planes"][0]["grids"][0]["tiles"]
    plain = parts(inspect_stream(data, "waves"))[1]["planes"][0]["grids"][0]["tiles"]
    assert [{k: v for k, v in tile.items() if k != "candidates"} for tile in told] == plain
    first = [tile["candidates"][0] for tile in told if tile["candidates"]]
    assert len(first) > len(told) // 2
    for layer in first:
        assert 1 <= len(layer) <= 5 and all(one["bits"] > 0 and one["amp"] for one in layer)
    chosen = [(t["layers"][0].get("generator"), t["candidates"][0]) for t in told if t["layers"] and t["candidates"]]
    assert any(name in [one["generator"] for one in layer] for name, layer in chosen)
    with pytest.raises(ConfigError, match="the original has 56x39 px, the stream 56x40"):
        inspect_stream(data, "waves", original=original[:, :39])
    with pytest.raises(ConfigError, match="luma has none"):
        inspect_stream((GOLDEN / "residual.pc15").read_bytes(), "photo", original=original)
