"""Labels: shards that can be stopped, shared out and resumed, and a folder that belongs to one oracle."""

from __future__ import annotations

import base64
import dataclasses
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pc15.config import PROGRAMS, CodecConfig
from pc15.errors import BusyError, ConfigError, ImageError, SchemaError
from pc15.images import save_image
from pc15learn.cli import main
from pc15learn.labels.columns import read_shard
from pc15learn.labels.manifest import ORACLE_VERSION, read_manifest, shard_paths
from pc15learn.labels.read import LabelFolder, load_labels
from pc15learn.labels.write import LabelOptions, LabelsMade, make_labels
from pc15learn.sample_data import make_samples
from pc15learn.schema import TileRow, read_rows, write_rows
from pc15learn.tiles import load_tile_pixels, make_tiles
from tests.fake_oracle import FakeOracle

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "datasets" / "samples"
CFG = CodecConfig.preset("fast", lambda_rd=0.05, device="cpu")


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(3)
    (tmp_path / "in").mkdir()
    for i in range(3):
        low = 40 * i
        picture = torch.randint(low, low + 120, (1, 60, 60), dtype=torch.uint8, generator=generator)
        save_image(tmp_path / "in" / f"p{i}.png", picture)
    make_tiles(tmp_path / "in", tmp_path / "tiles.jsonl", tile=16, overlap=4)
    return tmp_path / "tiles.jsonl"


def label(tiles: Path, out: Path, *, search: Any = None, cfg: CodecConfig = CFG, **options: Any) -> Any:
    own = LabelOptions(**{"cfg": cfg, "shard_size": 20, "top": 4, "random": 2, "device": "cpu", **options})
    search = FakeOracle(cfg.but(tile=16, overlap=4)) if search is None else search
    return make_labels(tiles, out, own, search=search)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def rows_of(folder: Path) -> list[dict[str, Any]]:
    oracle = read_manifest(folder)
    return [row for path in shard_paths(folder) for row in read_shard(path, oracle).to_pylist()]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_every_tile_is_labelled_once_and_carries_its_pixels(tiles: Path, tmp_path: Path, kind: Any):
    made = label(tiles, tmp_path / "out", format=kind)
    rows, found = list(read_rows(tiles)), rows_of(made.folder)
    assert [row["tile_id"] for row in found] == [row.tile_id for row in rows]
    assert [row["split"] for row in found] == [row.split for row in rows]
    assert made.tiles == made.labelled == len(rows)
    assert made.shards == made.done == -(-len(rows) // 20)
    assert b"".join(row["pixels"] for row in found) == load_tile_pixels(rows, tmp_path).numpy().tobytes()
    layer = found[0]["layers"][0]
    assert len(layer["candidates"]) == 6
    assert found[0]["lambda_rd"] == CFG.lambda_rd
    assert layer["rd"] == pytest.approx(layer["d"] + CFG.lambda_rd * layer["bits"] / 144)


def test_both_formats_hold_the_same_rows(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "a")
    label(tiles, tmp_path / "b", format="jsonl")
    a, b = rows_of(tmp_path / "a"), rows_of(tmp_path / "b")
    for one, other in zip(a, b, strict=True):
        assert {k: v for k, v in one.items() if k != "layers"} == {k: v for k, v in other.items() if k != "layers"}
        for x, y in zip(one["layers"], other["layers"], strict=True):
            assert [c["qv"] for c in x["candidates"]] == [c["qv"] for c in y["candidates"]]
            assert x["d"] == pytest.approx(y["d"], abs=1e-7)


def test_labels_of_the_first_schema_are_read(tiles: Path, tmp_path: Path):
    """JSONL with lists of candidates, parameters beside offsets and a manifest of one rate."""
    label(tiles, tmp_path / "new", limit=5)
    out = tmp_path / "old"
    out.mkdir()
    oracle = read_manifest(tmp_path / "new")
    facts = {**oracle.facts, "schema": 1, "steps": {"amp": 3, "dc": 2}}
    facts["options"] = {**facts["options"], "lambda_rd": 0.05}
    del facts["rates"]
    old = type(oracle)(facts)
    (out / "labels.json").write_text(json.dumps({"oracle": facts, "fingerprint": old.fingerprint}))
    lines = []
    for path in shard_paths(tmp_path / "new"):
        for row in read_shard(path, oracle).to_pylist():
            row["pixels"] = base64.b64encode(row["pixels"]).decode()
            row |= {"v": 1, "tile": 16}
            del row["lambda_rd"]
            for layer in row["layers"]:
                layer["offsets"] = layer["offsets"][:3]
                layer["params"] = [1, 2, 3]
                layer["candidates"] = {name: [c[name] for c in layer["candidates"]] for name in layer["candidates"][0]}
            lines.append(json.dumps(row))
    (out / "labels-00000.jsonl").write_text("\n".join(lines) + "\n")
    assert rows_of(out) == rows_of(tmp_path / "new")
    folder = LabelFolder.open(out)
    assert [rate.steps for rate in folder.rates] == [(3, 2)]
    assert sum(len(batch.dc) for batch in folder.batches("reading")) == 5


def test_stopped_anywhere_it_ends_with_the_same_bytes(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "whole")
    calls = 0

    def stopping(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:  # the first is of a ramp, the second of the first shard,
            until = time.monotonic() + 60.0
            while not list((tmp_path / "out").glob("labels-*.parquet")) and time.monotonic() < until:
                time.sleep(0.01)  # which is written meanwhile
            raise KeyboardInterrupt
        return FakeOracle(CFG.but(tile=16, overlap=4))(*args)

    with pytest.raises(KeyboardInterrupt):
        label(tiles, tmp_path / "out", search=stopping)
    there = len(shard_paths(tmp_path / "out"))
    assert 0 < there < 4  # others were on their way
    made = label(tiles, tmp_path / "out")
    assert made.done == made.shards - there
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert label(tiles, tmp_path / "out").done == 0


def test_a_damaged_shard_is_made_again(tiles: Path, tmp_path: Path):
    made = label(tiles, tmp_path / "out")
    before = contents(made.folder)
    path = shard_paths(made.folder)[1]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(SchemaError, match="damaged"):
        rows_of(made.folder)
    assert label(tiles, tmp_path / "out").done == 1
    assert contents(made.folder) == before


def test_shard_size_does_not_change_the_labels(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "a")
    label(tiles, tmp_path / "b", shard_size=7)
    assert rows_of(tmp_path / "a") == rows_of(tmp_path / "b")


def test_parts_make_the_whole(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "whole", lambdas=(0.5, 0.05))
    counts = [label(tiles, tmp_path / "out", lambdas=(0.5, 0.05), part=(i, 3)).done for i in (2, 0, 1)]
    assert sum(counts) == len(shard_paths(tmp_path / "whole")) and min(counts) > 0
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_every_tile_is_labelled_at_every_rate(tiles: Path, tmp_path: Path):
    made = label(tiles, tmp_path / "out", lambdas=(2.0, 0.5))
    found, count = rows_of(made.folder), made.tiles
    assert (made.rates, len(found), made.labelled) == (2, 2 * count, 2 * count)
    assert sorted({row["lambda_rd"] for row in found}) == [0.5, 2.0]
    assert len({(row["tile_id"], row["lambda_rd"]) for row in found}) == 2 * count
    folder = LabelFolder.open(made.folder)
    coarse, fine = folder.rates
    assert coarse.lambda_rd == 2.0 and coarse.steps != fine.steps
    assert {batch.rate for batch in folder.batches("reading")} == {coarse, fine}


def test_a_set_grows_with_its_tiles(tiles: Path, tmp_path: Path):
    whole = tiles.read_bytes()
    lines = whole.splitlines(keepends=True)
    tiles.write_bytes(b"".join(lines[:30]))
    label(tiles, tmp_path / "out", lambdas=(0.5, 0.05))
    tiles.write_bytes(whole)
    grown = label(tiles, tmp_path / "out", lambdas=(0.5, 0.05))
    assert grown.done == grown.shards - 2  # the last shard of each rate was not full
    label(tiles, tmp_path / "at once", lambdas=(0.5, 0.05))
    assert contents(tmp_path / "out") == contents(tmp_path / "at once")
    tiles.write_bytes(b"".join(lines[1:]))
    with pytest.raises(SchemaError, match="not the first"):
        label(tiles, tmp_path / "out", lambdas=(0.5, 0.05))


def test_a_folder_keeps_to_one_oracle(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "out")
    with pytest.raises(SchemaError, match="another oracle .different: rates"):
        label(tiles, tmp_path / "out", cfg=CFG.but(lambda_rd=0.1))
    with pytest.raises(SchemaError, match="different: options.alpha_mix"):
        label(tiles, tmp_path / "out", cfg=CFG.but(alpha_mix=0.1))
    with pytest.raises(SchemaError, match="different: top"):
        label(tiles, tmp_path / "out", top=5)
    with pytest.raises(SchemaError, match="not the first"):
        label(tiles, tmp_path / "out", limit=10)
    manifest = tmp_path / "out" / "labels.json"
    stored = json.loads(manifest.read_text())
    stored["oracle"]["top"] = 5
    manifest.write_text(json.dumps(stored))
    with pytest.raises(SchemaError, match="was edited"):
        read_manifest(tmp_path / "out")
    manifest.unlink()
    with pytest.raises(SchemaError, match="no labels.json"):
        label(tiles, tmp_path / "out")


def test_of_two_runs_at_once_one_claims_the_folder(tiles: Path, tmp_path: Path):
    def second(*args: Any) -> Any:
        with pytest.raises(SchemaError, match="another oracle"):
            label(tiles, tmp_path / "out", top=3)
        return FakeOracle(CFG.but(tile=16, overlap=4))(*args)

    label(tiles, tmp_path / "out", search=second)


def test_two_runs_of_one_part_are_refused(tiles: Path, tmp_path: Path):
    oracle = FakeOracle(CFG.but(tile=16, overlap=4))

    def second(*args: Any) -> Any:
        with pytest.raises(BusyError, match="being written by another"):
            label(tiles, tmp_path / "out")
        label(tiles, tmp_path / "out", part=(1, 2))
        return oracle(*args)

    label(tiles, tmp_path / "out", search=second)
    label(tiles, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_the_fingerprint_does_not_depend_on_the_device(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "a", device="cpu")
    label(tiles, tmp_path / "b", device="auto")
    assert read_manifest(tmp_path / "a").fingerprint == read_manifest(tmp_path / "b").fingerprint


def test_a_limit_takes_tiles_from_all_over(tiles: Path, tmp_path: Path):
    made = label(tiles, tmp_path / "out", limit=25)
    rows = rows_of(made.folder)
    assert len(rows) == made.tiles == 25
    assert len({row["tile_id"].split("-")[0] for row in rows}) == 3


@pytest.mark.parametrize("fault", ["gone", "changed"])
def test_a_picture_that_cannot_be_read_fails_alone(tiles: Path, tmp_path: Path, fault: str):
    picture = tmp_path / "in" / "p1.png"
    good = picture.read_bytes()
    picture.unlink()
    if fault == "changed":
        save_image(picture, torch.zeros((1, 60, 60), dtype=torch.uint8))
    made = label(tiles, tmp_path / "out")
    rows = list(read_rows(tiles))
    lost = sum(row.image == "in/p1.png" for row in rows)
    assert (made.left_out, made.labelled) == (lost, len(rows) - lost)
    said = [json.loads(line) for line in (tmp_path / "out" / "failures.jsonl").read_text().splitlines()]
    assert {row["image"] for row in said} == {"in/p1.png"} and len(said) == lost
    assert ("has changed" if fault == "changed" else "cannot read") in said[0]["error"]
    assert sum(len(batch.dc) for batch in LabelFolder.open(made.folder).batches("reading")) == len(rows) - lost
    picture.write_bytes(good)
    again = label(tiles, tmp_path / "out")
    assert again.left_out == 0 and not (tmp_path / "out" / "failures.jsonl").exists()
    label(tiles, tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_rows_lead_to_urls_and_absolute_paths_only_for_whoever_allows_it(
    tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    far = tmp_path / "far.jsonl"
    write_rows(far, [dataclasses.replace(row, image=str(tmp_path / row.image)) for row in read_rows(tiles)])
    with pytest.raises(ImageError, match="pass --anywhere"):
        label(far, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    allowed = label(far, tmp_path / "out", anywhere=True)
    assert (allowed.left_out, allowed.labelled) == (0, allowed.tiles)
    monkeypatch.setenv("PC15_ANY_PLACE", "1")
    assert label(far, tmp_path / "again").labelled == allowed.tiles
    with pytest.raises(ImageError, match="pass --anywhere"):
        label(far, tmp_path / "no", anywhere=False)


def test_the_command_line_has_a_switch_for_it(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[bool | None] = []

    def made(tiles: Path, out: Path, options: LabelOptions) -> LabelsMade:
        asked.append(options.anywhere)
        return LabelsMade(out, 0, 1, 0, 0, 0, 0)

    monkeypatch.setattr("pc15learn.labels.write.make_labels", made)
    for more in ([], ["--anywhere"]):
        assert main(["label", "--tiles", str(tiles), "--out", str(tmp_path / "out"), *more]) == 0
    assert asked == [None, True]


@pytest.mark.parametrize("name", ["with [brackets]", "a::b", "ünïcode # ?"])
def test_folders_of_any_name_are_read(tiles: Path, tmp_path: Path, name: str):
    made = label(tiles, tmp_path / name)
    label(tiles, tmp_path / "w")  # what "[..]" would match as a pattern
    rows = load_labels(made.folder)
    assert len(rows) == made.tiles
    assert sum(len(batch.dc) for batch in LabelFolder.open(made.folder).batches("reading")) == made.tiles


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_hugging_face_loads_the_folder(tiles: Path, tmp_path: Path, kind: Any):
    datasets = pytest.importorskip("datasets")
    made = label(tiles, tmp_path / "out", format=kind)
    rows = datasets.load_dataset(str(made.folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert len(rows) == made.tiles
    assert rows.features["layers"].feature["candidates"].feature["qv"].dtype == "uint16"
    assert rows[0]["layers"][0]["gen"] == rows_of(made.folder)[0]["layers"][0]["gen"]


def test_hugging_face_tells_sets_of_one_folder_name_apart(tiles: Path, tmp_path: Path):
    """One cache, two folders called `labels`: what was loaded first is not shown for the other."""
    datasets = pytest.importorskip("datasets")
    few, every = label(tiles, tmp_path / "few" / "labels", limit=2), label(tiles, tmp_path / "every" / "labels")
    for made in (few, every):
        rows = datasets.load_dataset(str(made.folder), split="train", cache_dir=str(tmp_path / "cache"))
        assert len(rows) == made.tiles
    assert few.tiles < every.tiles


def test_the_card_of_a_folder_keeps_its_words_and_takes_the_sets_name(tiles: Path, tmp_path: Path):
    page = label(tiles, tmp_path / "out").folder / "README.md"
    own = page.read_text()
    words = own.replace("# Tiles of", "# My tiles of")
    before = re.sub("config_name: .*", "config_name: default", words)  # as earlier releases named all of them,
    page.write_text(before.replace("dataset_info:\n  config_name: default\n", "dataset_info:\n"))  # and once alone
    label(tiles, tmp_path / "out")
    assert page.read_text() == words
    page.write_text(named := re.sub("config_name: .*", "config_name: mine", words))
    label(tiles, tmp_path / "out")
    assert page.read_text() == named


@pytest.mark.parametrize(
    "bad",
    [
        {"limit": 0}, {"top": 0}, {"random": -1}, {"shard_size": 0}, {"format": "csv"}, {"part": (2, 2)},
        {"part": (0, 0)}, {"lambdas": (1.0, 1.0)}, {"on": "moon"}, {"workers": 0},
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(tiles: Path, tmp_path: Path, bad: dict[str, Any]):
    with pytest.raises(ConfigError):
        label(tiles, tmp_path / "out", **bad)


def test_no_tiles_is_an_error_that_says_what_to_do(tmp_path: Path):
    (tmp_path / "tiles.jsonl").write_text("")
    with pytest.raises(SchemaError, match="run make-tiles first"):
        label(tmp_path / "tiles.jsonl", tmp_path / "out")
    with pytest.raises(SchemaError, match="run pc15learn label"):
        shard_paths(tmp_path)


def test_the_command_says_how_fast_it_was(tiles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = ["label", "--tiles", str(tiles), "--out", str(tmp_path / "out"), "--limit", "6", "--device", "cpu"]
    command += ["--codebook", "v15_grid", "--lambda", "2,0.5", "--top", "4", "--random", "2"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "6 tiles at 2 rates in 2 shards" in said
    assert "tiles/s" in said and "searching" in said
    (tmp_path / "in" / "p0.png").unlink()
    assert main([*command[:4], str(tmp_path / "other"), *command[5:]]) == 1


def test_killed_at_random_moments_it_ends_with_the_same_bytes(tiles: Path, tmp_path: Path, kills: int):
    """The command, with two workers, killed without warning again and again: twice, or as often as --kills says."""
    options = ["--tiles", str(tiles), "--codebook", "v15_grid", "--shard-size", "4", "--device", "cpu", "--top", "4"]
    command = [sys.executable, "-m", "pc15learn", "label", *options, "--limit", "40"]
    command += ["--lambda", "1,0.5,0.25,0.1,0.05"] if kills > 2 else []
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    whole, out = tmp_path / "whole", tmp_path / "out"
    begun = time.monotonic()
    subprocess.run([*command, "--out", str(whole)], env=env, check=True, capture_output=True)
    took = time.monotonic() - begun
    draw, hit, caught = np.random.default_rng(5), 0, []
    while hit < kills:
        process = subprocess.Popen(
            [*command, "--workers", "2", "--out", str(out)], env=env, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        time.sleep(float(draw.uniform(0.3, 1.0)) * took)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            hit += 1
            caught.append(len(list(out.glob("labels-*.parquet"))))
        else:  # it was faster: begin again
            assert seen(out) == contents(whole)
            shutil.rmtree(out)
        process.wait()
    print(f"{hit} kills, with {caught} of {len(shard_paths(whole))} shards there")
    subprocess.run([*command, "--out", str(out)], env=env, check=True, capture_output=True)
    assert seen(out) == contents(whole)


def seen(folder: Path) -> dict[str, bytes]:
    """What a killed run leaves for others to see."""
    return {name: data for name, data in contents(folder).items() if not name.startswith(".")}


@pytest.fixture
def small_disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder that takes the manifest and the card but not every shard, and what gives it room again.

    It lies on a file system that is full, if the parameter says so, or no file may be longer than a shard's beginning.
    """
    resource = pytest.importorskip("resource")
    out = tmp_path / "out"
    out.mkdir()
    if request.param:
        made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(out)], capture_output=True)
        if made.returncode:
            pytest.skip("mounting takes more rights than there are")
        try:
            yield out, lambda: subprocess.run(["mount", "-o", "remount,size=8m", str(out)], check=True)
        finally:
            subprocess.run(["umount", str(out)], check=True)
        return
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 10, before[1]))
    try:
        yield out, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("small_disk", "workers"), [(True, 1), (False, 1), (False, 2)], indirect=["small_disk"], ids=str
)
def test_a_full_disk_is_one_error_and_nothing_half_written(
    tiles: Path, tmp_path: Path, small_disk: tuple[Path, Callable[[], None]], workers: int
):
    out, make_room = small_disk
    given = {"shard_size": 40, "random": 30}
    with pytest.raises(OSError, match="shards that are done are whole, the same command goes on") as caught:
        label(tiles, out, workers=workers, **given)
    assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
    assert str(out / "labels-0000") in str(caught.value) and "\n" not in str(caught.value)
    make_room()
    label(tiles, tmp_path / "whole", **given)
    there, whole = contents(out), contents(tmp_path / "whole")
    assert 2 <= len(there) < len(whole) and there.items() <= whole.items()
    label(tiles, out, **given)
    assert contents(out) == whole


def test_pictures_are_read_once_for_all_rates(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import pc15learn.labels.write as write

    read: list[str] = []

    def noted(rows: list[TileRow], folder: Path, **options: Any) -> torch.Tensor:
        read.extend({row.image for row in rows})
        return load_tile_pixels(rows, folder, **options)

    monkeypatch.setattr(write, "load_tile_pixels", noted)
    made = label(tiles, tmp_path / "out", shard_size=1000, lambdas=(4.0, 2.0, 1.0, 0.5))
    assert (made.shards, sorted(read)) == (4, ["in/p0.png", "in/p1.png", "in/p2.png"])


def test_the_oracle_answers_as_its_version_says(tmp_path: Path) -> None:
    """What differs here is another oracle: raise ORACLE_VERSION and run `python -m pc15learn.sample_data`."""
    again = make_samples(tmp_path / "samples")
    for made, kept in zip(shard_paths(again / "labels"), shard_paths(SAMPLES / "labels"), strict=True):
        assert made.read_bytes() == kept.read_bytes()
    assert read_manifest(SAMPLES / "labels").facts["oracle"] == ORACLE_VERSION
    assert read_manifest(again / "labels").fingerprint == read_manifest(SAMPLES / "labels").fingerprint


def test_the_bank_s_patterns_beside_its_own_are_what_the_decoder_draws():
    """Labels of a store that is filled at once, on demand, and that is too small, are the same."""
    import pc15.search.single_steps as single_steps
    from pc15.search.candidates import fill_single_steps
    from pc15.search.label import TileOracle

    cfg = CodecConfig.preset("oracle", **PROGRAMS, device="cpu").but(
        tile=8, overlap=2, codebook_id="v15_grid", lambda_rd=0.02
    )
    draw = torch.randint(0, 256, (40, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    oracle = TileOracle(cfg, top=4, random=2)
    oracle.scorer.bank.__dict__.pop("single_steps", None)
    first, again = oracle(draw), oracle(draw)
    oracle.scorer.bank.__dict__.pop("single_steps")
    fill_single_steps(oracle.scorer.bank, oracle.codebook, 8, cfg.seed)
    filled = oracle(draw)
    oracle.scorer.bank.__dict__.pop("single_steps")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single_steps, "cache_bytes", lambda device: 40 * 128)
        few = oracle(draw)
    oracle.scorer.bank.__dict__.pop("single_steps")
    assert first.offsets.any()
    for other in (again, filled, few):
        assert np.array_equal(first.offsets, other.offsets)
        assert all(np.array_equal(first.tried[name], other.tried[name]) for name in first.tried)
        assert all(np.array_equal(first.layer[name], other.layer[name]) for name in first.layer)
