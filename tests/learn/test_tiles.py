"""make-tiles: the same rows whenever and however often it runs, and no picture in two splits."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import re
import sys
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from pc15.errors import BusyError, ConfigError, ImageError, SchemaError
from pc15.grids import TileGridCfg, grid
from pc15.images import load_luma, save_image
from pc15.locks import sole_writer
from pc15.tiling import extract
from pc15learn.schema import read_rows
from pc15learn.tiles import load_tile_pixels, make_tiles, split_of


def pictures(folder: Path, count: int = 4, side: int = 70) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(5)
    for i in range(count):
        size = (1, side + i, side)
        save_image(folder / f"p{i}.png", torch.randint(0, 256, size, dtype=torch.uint8, generator=generator))
    return folder


def test_rows_are_the_grid_of_every_picture(tmp_path: Path):
    out = tmp_path / "data" / "tiles.jsonl"
    made = make_tiles(pictures(tmp_path / "in"), out, tile=32, overlap=8)
    rows = list(read_rows(out))
    assert made.rows == len(rows)
    assert made.cut == 4
    first = [row for row in rows if row.image == "../in/p1.png"]
    assert [(row.y, row.x) for row in first] == grid(71, 70, TileGridCfg(32, 8)).starts
    assert len({row.tile_id for row in rows}) == len(rows)
    luma = load_luma(tmp_path / "in" / "p1.png")[0]
    cut = load_tile_pixels(first, out.parent)
    assert torch.equal(cut, extract(luma, grid(71, 70, TileGridCfg(32, 8))))
    assert first[0].mean == pytest.approx(float(cut[0].float().mean() / 255), abs=1e-4)
    assert first[0].std == pytest.approx(float(cut[0].float().std(unbiased=False) / 255), abs=1e-4)


def test_a_picture_is_in_one_split_by_its_bytes(tmp_path: Path):
    folder = pictures(tmp_path / "in", 12, 40)
    make_tiles(folder, tmp_path / "tiles.jsonl")
    seen: dict[str, set[str]] = {}
    for row in read_rows(tmp_path / "tiles.jsonl"):
        seen.setdefault(row.sha256, set()).add(row.split)
        assert row.sha256 == hashlib.sha256((folder / Path(row.image).name).read_bytes()).hexdigest()
    assert len(seen) == 12
    assert all(len(splits) == 1 for splits in seen.values())
    shares = [split_of(hashlib.sha256(str(i).encode()).hexdigest()) for i in range(2000)]
    assert 0.07 < shares.count("val") / 2000 < 0.13
    assert 0.07 < shares.count("test") / 2000 < 0.13


def test_stopped_anywhere_it_ends_with_the_same_bytes(tmp_path: Path):
    folder = pictures(tmp_path / "in")
    out = tmp_path / "tiles.jsonl"
    make_tiles(folder, out)
    whole = out.read_bytes()
    lines = whole.splitlines(keepends=True)
    for cut in (0, 1, len(lines[0]), len(lines[0]) + 5, len(whole) // 2, len(whole) - 3, len(whole)):
        out.write_bytes(whole[:cut])
        make_tiles(folder, out)
        assert out.read_bytes() == whole, f"cut at {cut}"


def test_pictures_added_later_are_appended_even_after_a_stop(tmp_path: Path):
    folder = pictures(tmp_path / "in")
    out = tmp_path / "tiles.jsonl"
    make_tiles(folder, out)
    whole = out.read_bytes()
    out.write_bytes(whole[:-200])
    save_image(folder / "a-new.png", torch.full((1, 40, 40), 9, dtype=torch.uint8))
    made = make_tiles(folder, out)
    assert out.read_bytes().startswith(whole)
    rows = list(read_rows(out))
    assert len({row.tile_id for row in rows}) == len(rows) == made.rows
    assert make_tiles(folder, out).cut == 0


def test_a_copy_of_a_picture_counts_once(tmp_path: Path):
    folder = pictures(tmp_path / "in", 1)
    (folder / "copy.png").write_bytes((folder / "p0.png").read_bytes())
    assert make_tiles(folder, tmp_path / "tiles.jsonl").kept == 1


def test_two_at_once_do_not_write_one_file(tmp_path: Path):
    folder, out = pictures(tmp_path / "in"), tmp_path / "new" / "tiles.jsonl"
    out.parent.mkdir()
    with sole_writer(out), pytest.raises(BusyError, match="tiles.jsonl is being written by another process"):
        make_tiles(folder, out)
    assert make_tiles(folder, out).cut == 4
    assert [path.name for path in out.parent.iterdir()] == ["tiles.jsonl"]


def test_other_options_for_the_same_file_are_refused(tmp_path: Path):
    folder, out = pictures(tmp_path / "in"), tmp_path / "tiles.jsonl"
    make_tiles(folder, out, tile=32, overlap=8)
    with pytest.raises(SchemaError, match="overlap 8, not 32 and 4"):
        make_tiles(folder, out, tile=32, overlap=4)
    with pytest.raises(SchemaError, match="other rows"):
        make_tiles(folder, out, tile=32, overlap=8, limit=2)


def test_limit_and_stride_choose_the_same_tiles_every_time(tmp_path: Path):
    folder = pictures(tmp_path / "in", 2, 150)
    a, b = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert make_tiles(folder, a, limit=3).rows == 6
    make_tiles(folder, b, limit=3)
    assert a.read_bytes() == b.read_bytes()
    make_tiles(folder, tmp_path / "c.jsonl", stride=48)
    assert {row.x for row in read_rows(tmp_path / "c.jsonl")} == {0, 48, 96}
    make_tiles(folder, tmp_path / "d.jsonl", stride=16)
    assert {row.x for row in read_rows(tmp_path / "d.jsonl")} == {*range(0, 118, 16), 118}


def test_a_picture_that_cannot_be_read_is_left_out_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = pictures(tmp_path / "in", 1)
    (folder / "bad.png").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING):
        made = make_tiles(folder, tmp_path / "tiles.jsonl")
    assert (made.cut, made.skipped) == (1, 1)
    assert "bad.png" in caplog.text
    (folder / "p0.png").unlink()
    with pytest.raises(ImageError, match="none of 1 pictures"):
        make_tiles(folder, tmp_path / "none.jsonl")


def test_a_picture_that_changed_is_noticed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder, out = pictures(tmp_path / "in", 1), tmp_path / "tiles.jsonl"
    make_tiles(folder, out)
    save_image(folder / "p0.png", torch.zeros(1, 70, 70, dtype=torch.uint8))
    now = hashlib.sha256((folder / "p0.png").read_bytes()).hexdigest()
    with pytest.raises(ImageError, match="has changed since its tiles were cut") as raised:
        load_tile_pixels(list(read_rows(out)), out.parent)
    assert now[:6] not in str(raised.value), "a row may name any file: what is in it is not told"
    with caplog.at_level(logging.WARNING):
        make_tiles(folder, out)
    assert "p0.png has changed since" in caplog.text and "into another file" in caplog.text


@pytest.mark.parametrize("bad", [{"tile": 2}, {"overlap": 40}, {"stride": 0}, {"limit": 0}, {"val_percent": 100}])
def test_options_out_of_range_are_refused(tmp_path: Path, bad: dict[str, int]):
    with pytest.raises(ConfigError):
        make_tiles(pictures(tmp_path / "in", 1), tmp_path / "tiles.jsonl", **bad)  # type: ignore[arg-type]


def test_a_small_picture_is_one_tile_with_repeated_edges(tmp_path: Path):
    save_image(tmp_path / "in.png", torch.full((1, 5, 7), 100, dtype=torch.uint8))
    make_tiles(tmp_path / "in.png", tmp_path / "tiles.jsonl", tile=32)
    rows = list(read_rows(tmp_path / "tiles.jsonl"))
    assert load_tile_pixels(rows, tmp_path).eq(100).all()
    assert rows[0].std == 0.0


def test_pictures_may_lie_behind_a_url(tmp_path: Path):
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    for path in sorted(pictures(tmp_path / "in", 2).iterdir()):
        memory.pipe_file(f"/pc15-test/{path.name}", path.read_bytes())
    out = tmp_path / "tiles.jsonl"
    try:
        make_tiles("memory://pc15-test", out)
        rows = list(read_rows(out))
        assert rows[0].image == "memory://pc15-test/p0.png"
        make_tiles(tmp_path / "in", tmp_path / "local.jsonl")
        local = list(read_rows(tmp_path / "local.jsonl"))
        assert torch.equal(load_tile_pixels(rows, tmp_path, anywhere=True), load_tile_pixels(local, tmp_path))
        with pytest.raises(ImageError, match="pass --anywhere"):
            load_tile_pixels(rows, tmp_path)
    finally:
        memory.rm("/pc15-test", recursive=True)


def served(folder: Path) -> ThreadingHTTPServer:
    """A web server of a folder on this machine, running."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.mark.parametrize(
    "address",
    [
        "file://{0}/PICS",
        "local://{0}/PICS/",
        "zip://PICS::{0}/a.zip",
        "simplecache::file://{0}/PICS",
        "http://{1}/PICS/",
    ],
)
def test_every_kind_of_url_leads_to_its_pictures(tmp_path: Path, address: str):
    pytest.importorskip("fsspec")
    if address.startswith("http"):
        pytest.importorskip("aiohttp")
    folder = pictures(tmp_path / "PICS" / "deep", 2)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "h.png").write_bytes(b"no picture")
    (folder / "._p0.png").write_bytes(b"AppleDouble")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in folder.glob("p*.png"):
            archive.write(path, f"PICS/deep/{path.name}")
    server = served(tmp_path)
    try:
        url = address.format(tmp_path, f"127.0.0.1:{server.server_port}")
        made = make_tiles(url, tmp_path / "out" / "tiles.jsonl")
        assert (made.cut, made.skipped) == (2, 0)
        rows = list(read_rows(tmp_path / "out" / "tiles.jsonl"))
        assert rows[0].image == url.replace("PICS/", "PICS").replace("PICS", "PICS/deep/p0.png")
        assert torch.equal(
            load_tile_pixels(rows, tmp_path, anywhere=True)[0], load_luma(folder / "p0.png")[0, :32, :32]
        )
    finally:
        server.shutdown()
        server.server_close()


def test_a_url_that_leads_nowhere_is_a_typed_error(tmp_path: Path):
    pytest.importorskip("fsspec")
    for url in (f"file://{tmp_path}/none", f"zip://in::{tmp_path}/none.zip", "nosuch://a/b"):
        with pytest.raises(ImageError, match=re.escape(url)):
            make_tiles(url, tmp_path / "tiles.jsonl")


@pytest.mark.skipif(sys.platform != "linux", reason="names that are not UTF-8")
def test_a_name_that_no_row_can_hold_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    folder = pictures(tmp_path / "in", 2)
    os.rename(os.fsencode(folder / "p0.png"), os.fsencode(folder) + b"/p\xe9.png")
    made = make_tiles(folder, tmp_path / "tiles.jsonl")
    assert (made.cut, made.skipped) == (1, 1)
    assert "no name in UTF-8" in caplog.text
    assert make_tiles(folder, tmp_path / "tiles.jsonl").kept == 1
