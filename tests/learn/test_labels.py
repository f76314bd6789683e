"""Labels: shards that can be stopped and resumed, and a folder that belongs to one oracle."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from pc15.config import CodecConfig
from pc15.errors import ConfigError, MissingExtraError, SchemaError
from pc15.images import save_image
from pc15learn.labels import write as labels_module
from pc15learn.labels.write import ORACLE_VERSION, make_labels, read_manifest, shard_paths
from pc15learn.sample_data import make_samples
from pc15learn.schema import LabelRow, TileRow, pixels_from_text, read_rows
from pc15learn.shards import plan, run_shards
from pc15learn.tiles import load_tile_pixels, make_tiles
from tests.fake_oracle import fake_labels

SAMPLES = Path(__file__).resolve().parents[2] / "datasets" / "samples"
CFG = CodecConfig.preset("fast", lambda_rd=0.05, device="cpu")  # with a GPU, tasks would ask for a share of it


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


def label(tiles: Path, out: Path, **options: Any) -> Any:
    return make_labels(tiles, out, CFG, **{"shard_size": 20, "top": 4, "random": 2, "label": fake_labels, **options})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_every_tile_is_labelled_once_and_carries_its_pixels(tiles: Path, tmp_path: Path):
    made = label(tiles, tmp_path / "out")
    rows = list(read_rows(tiles, TileRow))
    found = [row for path in shard_paths(made.folder) for row in read_rows(path, LabelRow)]
    assert [row.tile_id for row in found] == [row.tile_id for row in rows]
    assert [row.split for row in found] == [row.split for row in rows]
    assert made.tiles == len(rows)
    assert made.shards == made.done == -(-len(rows) // 20)
    pixels = torch.stack([pixels_from_text(row.pixels, row.tile) for row in found])
    assert torch.equal(pixels, load_tile_pixels(rows, tmp_path))
    layer = found[0].layers[0]
    assert len(layer.candidates.gen) == 6
    assert layer.params != [] and len(layer.params) == len(layer.offsets)
    assert layer.rd == pytest.approx(layer.d + CFG.lambda_rd * layer.bits / 144)


def test_stopped_anywhere_it_ends_with_the_same_bytes(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "whole")
    calls = 0

    def stopping(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return fake_labels(*args, **options)

    with pytest.raises(KeyboardInterrupt):
        label(tiles, tmp_path / "out", label=stopping)
    assert len(shard_paths(tmp_path / "out")) == 1
    made = label(tiles, tmp_path / "out")
    assert made.done == made.shards - 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
    assert label(tiles, tmp_path / "out").done == 0


def test_shard_size_does_not_change_the_labels(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "a")
    label(tiles, tmp_path / "b", shard_size=7)
    a, b = (b"".join(path.read_bytes() for path in shard_paths(tmp_path / name)) for name in "ab")
    assert a == b


def test_a_folder_keeps_to_one_oracle(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "out")
    with pytest.raises(SchemaError, match="another oracle .different: options.lambda_rd"):
        make_labels(tiles, tmp_path / "out", CFG.but(lambda_rd=0.1), shard_size=20, top=4, random=2, label=fake_labels)
    with pytest.raises(SchemaError, match="different: top"):
        label(tiles, tmp_path / "out", top=5)
    with pytest.raises(SchemaError, match="tiles.count"):
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


def test_the_fingerprint_does_not_depend_on_the_device(tiles: Path, tmp_path: Path):
    label(tiles, tmp_path / "a", device="cpu")
    label(tiles, tmp_path / "b", device="auto")
    assert read_manifest(tmp_path / "a").fingerprint == read_manifest(tmp_path / "b").fingerprint


def test_a_limit_takes_tiles_from_all_over(tiles: Path, tmp_path: Path):
    made = label(tiles, tmp_path / "out", limit=25)
    rows = [row for path in shard_paths(made.folder) for row in read_rows(path, LabelRow)]
    assert len(rows) == made.tiles == 25
    assert len({row.tile_id.split("-")[0] for row in rows}) == 3


@pytest.mark.parametrize("bad", [{"limit": 0}, {"top": 0}, {"random": -1}, {"shard_size": 0}, {"workers": "threads"}])
def test_options_out_of_range_are_refused(tiles: Path, tmp_path: Path, bad: dict[str, Any]):
    with pytest.raises(ConfigError):
        label(tiles, tmp_path / "out", **bad)


def test_no_tiles_is_an_error_that_says_what_to_do(tmp_path: Path):
    (tmp_path / "tiles.jsonl").write_text("")
    with pytest.raises(SchemaError, match="run make-tiles first"):
        label(tmp_path / "tiles.jsonl", tmp_path / "out")
    with pytest.raises(SchemaError, match="run pc15learn label"):
        shard_paths(tmp_path)


def test_shards_cut_the_whole_and_write_what_is_missing(tmp_path: Path):
    shards = plan(10, 4, tmp_path, "s")
    assert [(s.start, s.stop, s.path.name) for s in shards] == [
        (0, 4, "s-00000.jsonl"), (4, 8, "s-00001.jsonl"), (8, 10, "s-00002.jsonl"),
    ]  # fmt: skip
    shards[1].path.write_bytes(b"there")
    assert run_shards(shards, lambda shard: b"%d" % shard.index) == 2
    assert [s.path.read_bytes() for s in shards] == [b"0", b"there", b"2"]
    assert plan(0, 4, tmp_path, "s") == []


def test_without_ray_the_message_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        run_shards(plan(1, 1, tmp_path, "s"), lambda shard: b"", workers="ray")


def test_on_ray_every_shard_is_a_task(tiles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A stand-in for Ray: tasks run when they are waited for, in an order of its own."""
    ray: Any = ModuleType("ray")
    options: list[dict[str, Any]] = []

    class Task:
        def __init__(self, work: Any) -> None:
            self.work = work

        def remote(self, shard: Any) -> tuple[Any, Any]:
            return self.work, shard

    def remote(**given: Any) -> Any:
        options.append(given)
        return Task

    ray.remote = remote
    ray.is_initialized = lambda: True
    ray.wait = lambda waiting, num_returns: ([waiting[-1]], waiting[:-1])
    ray.get = lambda reference: reference[0](reference[1])
    monkeypatch.setitem(sys.modules, "ray", ray)
    label(tiles, tmp_path / "inline")
    made = label(tiles, tmp_path / "ray", workers="ray")
    assert made.done == made.shards
    assert contents(tmp_path / "ray") == contents(tmp_path / "inline")
    assert options == [{"num_gpus": 0.0, "max_retries": 3}]


def test_the_real_labeller_is_the_default():
    assert labels_module.make_labels.__kwdefaults__["label"] is None


def test_the_oracle_answers_as_its_version_says(tmp_path: Path) -> None:
    """What differs here is another oracle: raise ORACLE_VERSION and run `python -m pc15learn.sample_data`."""
    again = make_samples(tmp_path / "samples")
    for made, kept in zip(shard_paths(again / "labels"), shard_paths(SAMPLES / "labels"), strict=True):
        assert made.read_bytes() == kept.read_bytes()
    assert read_manifest(SAMPLES / "labels").facts["oracle"] == ORACLE_VERSION
    assert read_manifest(again / "labels").fingerprint == read_manifest(SAMPLES / "labels").fingerprint
