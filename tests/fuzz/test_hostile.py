"""A stream's claims cost no more than its bytes can hold: typed errors or right pictures, soon and in little memory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pc15
from pc15.bitstream import (
    DEFAULT_MAX_PIXELS,
    FREE_PIXELS,
    MAX_PIXELS,
    PIXELS_PER_BYTE,
    Header,
    pack_v15,
    pixel_limit,
    unpack_v15,
)
from pc15.bitstream.container import MOST_NAMED, read_container, stream_bytes, write_container
from pc15.bitstream.read import read_programs
from pc15.cli import main
from pc15.decoder import decode_many, decode_stream
from pc15.errors import BitstreamError, ConfigError, ImageError, Pc15Error, ResourceError
from pc15.images import load_luma, load_rgb, picture_bytes
from tests.fuzz.hostile import every, flat, programs, spec, streams

ROOT = Path(__file__).resolve().parents[2]
STREAMS = dict(streams())
SECONDS, MEBIBYTES = 1.0, 300


def test_every_way_to_open_a_hostile_stream_ends_soon_and_in_little_memory(tmp_path: Path) -> None:
    """In one fresh process, in each of five ways; the peak is of all of them together, beyond imports."""
    pytest.importorskip("resource")
    files = [tmp_path / f"{name}.pc15" for name in STREAMS]
    for path in files:
        path.write_bytes(STREAMS[path.stem])
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.hostile", *map(str, files)],
        cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    first = {name: i for i, (name, *_) in reversed([*enumerate(lines)])}
    base = lines[first[files[0].stem] - 1][-1]
    tried = [line for line in lines if line[0] in STREAMS]
    assert len(tried) == 5 * len(STREAMS)
    slow = [line for line in tried if line[4] > SECONDS]
    assert slow == []
    heaviest = max(tried, key=lambda line: line[-1])
    assert heaviest[-1] - base < MEBIBYTES, heaviest
    ends = {end for _, _, _, end, *_ in tried}
    assert ends == {"drawn", "BitstreamError", "OSError", "DecompressionBombError"}
    drawn = {name for name, _, way, end, *_ in tried if end == "drawn" and way == "strict"}
    assert drawn >= {"colour_allowed", "gray_allowed", "row_of_few", "row_of_flat", "column_of_few", "square_of_few"}


# ---------------------------------------------------------------- pixels


def test_the_limit_of_pixels_follows_the_bytes_unless_the_caller_names_one() -> None:
    assert pixel_limit(None, 10) == FREE_PIXELS
    assert pixel_limit(None, 1000) == 1000 * PIXELS_PER_BYTE
    assert pixel_limit(None, 1 << 30) == DEFAULT_MAX_PIXELS
    assert pixel_limit(np.int64(7), 1 << 30) == 7
    for wrong in (0, -1, True, 1e6, "9", float("nan")):
        with pytest.raises(ConfigError, match="max_pixels is"):
            pc15.decode(STREAMS["gray_allowed"], max_pixels=wrong)  # type: ignore[arg-type]


def test_metadata_and_what_follows_the_end_vouch_for_no_pixels() -> None:
    padded = replace(read_container(flat(6000, 0)), metadata={"a": "x" * 6000})
    padded = replace(padded, header=replace(padded.header, has_metadata=True))
    for data, strict in ((write_container(padded), True), (flat(6000, 0) + bytes(6000), False)):
        for read in (decode_stream, read_programs):
            with pytest.raises(BitstreamError, match="bytes tell 36000000 pixels, over the limit of 16777216"):
                read(data, strict=strict)
        assert decode_stream(data, strict=strict, max_pixels=6000**2).planes[0].shape == (6000, 6000)


def test_every_entry_takes_max_pixels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small, large = flat(40, 1), flat(4200, 0)
    path, png = tmp_path / "large.pc15", str(tmp_path / "back.png")
    path.write_bytes(large)
    calls = (
        lambda data, **limit: pc15.decode(data, **limit),
        lambda data, **limit: pc15.decode_y(data, **limit),
        lambda data, **limit: decode_stream(data, **limit),
        lambda data, **limit: decode_stream(data, strict=False, **limit),
        lambda data, **limit: decode_many([data], **limit),
        lambda data, **limit: read_programs(data, **limit),
    )
    for call in calls:
        call(small)
        call(large, max_pixels=MAX_PIXELS)
        with pytest.raises(BitstreamError, match="40x40 is 1600 pixels, over the limit of 1599; raise max_pixels"):
            call(small, max_pixels=1599)
        with pytest.raises(BitstreamError, match="over the limit of 16777216"):
            call(large)
    for words in (["decode", str(path), "-o", png], ["decode", str(path), "-o", png, "--lenient"], ["info", str(path)],
                  ["metrics", str(path), str(path)]):  # fmt: skip
        assert main(words) == 1
        assert "over the limit of 16777216" in capsys.readouterr().err
        if words[0] != "metrics":
            assert main([*words, "--max-pixels", "18000000"]) == 0
        for wrong in ("0", "-3", "many", "1.5"):
            with pytest.raises(SystemExit):
                main([*words, "--max-pixels", wrong])


class Parts(io.RawIOBase):
    """A file without a buffer, which gives 64 bytes at a time; without an end if there is no data."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data, self.given = data, 0

    def read(self, size: int = -1) -> bytes:
        assert 0 <= size <= 1001, "all of it is asked for at once"
        part = b"PC15" * 16 if self.data is None else self.data[self.given : self.given + 64]
        self.given += len(part[:size])
        return part[:size]

    def isatty(self) -> bool:
        return False

    @property
    def buffer(self) -> Parts:
        """What standard input is read by."""
        return self


def test_max_pixels_holds_for_paths_open_files_and_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small, path = flat(40, 1), tmp_path / "small.pc15"
    path.write_bytes(small)
    for call in (pc15.decode, pc15.decode_y, decode_stream, lambda data, **limit: decode_many([data], **limit)):
        for given in (path, str(path), io.BytesIO(small), bytearray(small)):
            with pytest.raises(BitstreamError, match="40x40 is 1600 pixels, over the limit of 1599"):
                call(given, max_pixels=1599)
        call(path, max_pixels=1600)
    out = str(tmp_path / "a.png")
    pictured = picture_bytes(torch.full((1, 40, 40), 9, dtype=torch.uint8), "PNG")
    for words, data in (
        (["decode", "-", "-o", out], small),
        (["info", "-"], small),
        (["metrics", "-", str(path)], small),
        (["metrics", "-", str(path)], pictured),
        (["encode", "-", "-o", str(tmp_path / "b.pc15"), "--preset", "fast"], pictured),
    ):
        for most, code in (("1599", 1), ("1600", 0)):
            monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
            assert main([*words, "--max-pixels", most]) == code, words
        assert "1599" in capsys.readouterr().err


def test_open_files_are_read_to_their_end_but_no_further_than_a_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("pc15.picture_files._MAX_BYTES", "pc15.cli.files.MAX_STANDARD_BYTES"):
        monkeypatch.setattr(name, 1000)
    stream = flat(40, 1)
    picture = picture_bytes(torch.randint(0, 256, (1, 20, 20), dtype=torch.uint8), "PNG")
    assert 64 < len(picture) <= 1000
    assert torch.equal(load_luma(Parts(picture)), load_luma(io.BytesIO(picture)))
    assert stream_bytes(Parts(stream), max_bytes=1000) == stream
    with pytest.raises(BitstreamError, match="over the limit of 1000 bytes"):
        stream_bytes(Parts(), max_bytes=1000)
    with pytest.raises(ImageError, match="over the limit of 1000 bytes"):
        load_luma(Parts())
    for command in (["info", "-"], ["decode", "-", "-o", "-"], ["encode", "-", "-o", "-"], ["metrics", "-", "a.png"]):
        monkeypatch.setattr("sys.stdin", Parts())
        assert main(command) != 0
        assert "standard input is over the limit of 1000 bytes" in capsys.readouterr().err


def test_pillow_s_own_limit_is_the_decoder_s_where_somebody_has_set_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    import pc15.pil  # noqa: F401

    large = flat(4200, 0)
    with pytest.raises(OSError, match="over the limit of 16777216"):
        Image.open(io.BytesIO(large)).load()
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000_000)
    assert Image.open(io.BytesIO(large)).getpixel((4199, 4199)) == 128
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert Image.open(io.BytesIO(large)).getpixel((4199, 4199)) == 128


def test_a_picture_beyond_pillow_s_limit_is_encoded_for_whoever_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    paths = [tmp_path / f"a{suffix}" for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp", ".ppm")]
    for path in paths:
        Image.new("RGB", (60, 50), (9, 90, 200)).save(path)
    expected = [load_rgb(path) for path in paths]
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow refuses 3,000 px even to open
    for path, picture in zip(paths, expected, strict=True):
        out = path.with_suffix(".pc15")
        assert main(["encode", str(path), "-o", str(out), "--preset", "fast"]) == 1
        assert "--max-pixels" in capsys.readouterr().err
        assert main(["encode", str(path), "-o", str(out), "--preset", "fast", "--max-pixels", "3000"]) == 0
        assert main(["metrics", str(path), str(out), "--max-pixels", "3000"]) == 0
        assert torch.equal(load_rgb(path, max_pixels=3000), picture)
        assert load_luma(path, max_pixels=3000).shape == (1, 50, 60)
        with pytest.raises(pc15.Pc15Error, match="too large"):
            load_rgb(path, max_pixels=1500)
        capsys.readouterr()
    broken = tmp_path / "no.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(pc15.Pc15Error, match="not an image"):
        load_rgb(broken, max_pixels=3000)


# ---------------------------------------------------------------- tiles, sections, layers


@pytest.mark.parametrize("name", ["tiles_2p24_empty", "tiles_of_few_pixels", "two_grids", "raw_tiles"])
def test_tiles_that_the_bytes_cannot_hold_are_refused_before_anything_is_made_for_them(name: str) -> None:
    for strict, says in ((True, "cannot hold"), (False, "tiles are lost")):
        tracemalloc.start()
        began = time.process_time()
        with pytest.raises(BitstreamError, match=says):
            decode_stream(STREAMS[name], strict=strict, max_pixels=MAX_PIXELS)
        assert time.process_time() - began < 0.5
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
        tracemalloc.stop()


def test_no_stream_that_an_encoder_wrote_is_too_short_for_its_tiles() -> None:
    """The cheapest tiles there are: all alike, without layers."""
    for tile, overlap in ((4, 0), (16, 8), (32, 8), (64, 16), (256, 24)):
        data = programs(40 * tile, 30 * tile, spec(tile, overlap), lambda ny, nx: np.zeros((ny, nx), np.int64))
        decode_stream(data, max_pixels=MAX_PIXELS)


def test_lost_sections_cost_time_in_proportion_to_their_number(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("ERROR", "pc15")  # pytest's own records of 4,000 warnings would be most of the time

    def seconds(rows: int) -> float:
        data = pack_v15(Header(1, rows, 0, (spec(4, 3),), section_rows=1)) + b"\5" * 60
        began = time.process_time()
        decoded = decode_stream(data, strict=False)
        assert decoded.planes[0].unique().tolist() == [128]
        return time.process_time() - began

    seconds(100)
    assert seconds(4000) < 0.5


def test_of_thousands_of_lost_sections_the_first_are_named() -> None:
    data = pack_v15(Header(3, 2000, 0, (spec(4, 3),), section_rows=1)) + bytes(20_000)
    damage = decode_stream(data, strict=False).damage
    assert len(damage) == 1 + MOST_NAMED + 1 and damage[1].startswith("section 0 of ")
    assert damage[-1].endswith("fail their CRCs") and "further sections" in damage[-1]


def test_a_section_lost_between_sound_ones_takes_the_nearest_rows_dc() -> None:

    from pc15.bitstream import Header
    from pc15.bitstream.header import SectionSpan
    from pc15.bitstream.programs import Programs
    from pc15.bitstream.read import conceal

    header = Header(4, 12 * 4, 0, (spec(4, 0),), section_rows=1)
    own = Programs.empty(12)
    own.dc[:] = np.arange(12) + 1
    lost = [SectionSpan(0, row, row + 1) for row in (0, 1, 4, 5, 6, 9, 11)]
    for span in lost:
        own.dc[span.row_start] = 0
    conceal([own], lost, header)
    assert own.dc.tolist() == [3, 3, 3, 4, 4, 4, 8, 8, 9, 9, 11, 11]


def test_a_row_of_tiles_draws_the_same_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for width, height, own, share in (
        (200, 60, spec(48, 40), 1),
        (90, 150, spec(32, 8), 3),
        (130, 131, spec(64, 63), 7),
    ):
        data = programs(width, height, own, every(share))
        whole = pc15.decode(data)
        for pixels in (1, 1 << 13, 1 << 16):
            with monkeypatch.context() as changed:
                changed.setattr("pc15.draw._BAND_PIXELS", pixels)
                changed.setattr("pc15.flat._ROWS_PIXELS", pixels)
                assert torch.equal(pc15.decode(data), whole)
        with monkeypatch.context() as changed:
            changed.setattr("pc15.draw._SPARSE", 1 << 20)  # never tile by tile
            assert torch.equal(pc15.decode(data), whole)


def test_all_layers_of_large_tiles_are_drawn_without_asking() -> None:
    for width, height, tile in ((1024, 1024, 1024), (70, 60, 1024), (1024, 1024, 512)):
        data = programs(width, height, spec(tile, 0), lambda ny, nx: np.full((ny, nx), 16))
        assert pc15.decode(data).shape == (1, height, width)


def test_layers_that_cost_more_than_the_picture_explains_are_drawn_for_whoever_asks() -> None:
    data = programs(420, 256, spec(256, 255), every(1))
    layers = unpack_v15(data)[0]
    assert layers.width * layers.height < 1 << 18
    assert pc15.decode(data).shape == (1, 256, 420)  # 165 layers of 65,536 samples are few enough
    busy = STREAMS["row_of_busy"]
    with pytest.raises(BitstreamError, match=r"asks for \d+ samples of layers on 1907712 pixels, .* pass max"):
        pc15.decode(busy)
    with pytest.raises(BitstreamError, match="samples of layers"):
        decode_many([busy])
    with pytest.raises(BitstreamError, match="samples of layers"):
        pc15.decode(busy, max_pixels=2_000_000)


# ---------------------------------------------------------------- memory


@pytest.mark.parametrize(
    "error", [MemoryError("no"), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9")]
)
def test_memory_that_runs_out_is_a_typed_error(error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
                                               capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    def fail(*_: object, **__: object) -> None:
        raise error

    data = STREAMS["gray_allowed"]
    (tmp_path / "a.pc15").write_bytes(data)
    monkeypatch.setattr("pc15.decoder._plane_pixels", fail)
    for call in (pc15.decode, pc15.decode_y, decode_stream, lambda data: decode_many([data])):
        with pytest.raises(ResourceError, match="decoding needs more memory than there is") as caught:
            call(data)
        assert isinstance(caught.value, MemoryError)
        assert isinstance(caught.value, Pc15Error)
    assert main(["decode", str(tmp_path / "a.pc15"), "-o", str(tmp_path / "a.png")]) == 1
    assert "more memory than there is" in capsys.readouterr().err


def test_other_runtime_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("pc15.decoder._plane_pixels", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        pc15.decode(STREAMS["gray_allowed"])
