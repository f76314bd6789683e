"""Labels are read back as what they were made from, and codebooks and tables are made of them, the same every time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pc15
from pc15.bitstream import Stream, write_bitstream, write_container
from pc15.bitstream.alphabets import check_tables
from pc15.bitstream.programs import Programs, TileProgram
from pc15.config import PROGRAMS, CodecConfig
from pc15.decoder import decode_y
from pc15.encoder import encode_y, repack
from pc15.entropy.tables import load_table, save_tables
from pc15.errors import ConfigError, SchemaError
from pc15.images import load_luma, luma_tensor, save_image
from pc15.luma import as_q12
from pc15.metrics import psnr
from pc15.plan.plan import plan_header
from pc15.proc.codebook import Codebook, load_codebook, save_codebook
from pc15.search.label import lone_scorer
from pc15learn import cli
from pc15learn.codebooks.train import CodebookOptions, train_codebook, train_codebook_on_labels
from pc15learn.labels.manifest import MANIFEST, Oracle, shard_paths
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.schema import read_rows
from pc15learn.tiles import make_tiles
from pc15learn.train_tables import (
    build_tables,
    count_labels,
    flat_tables,
    starting_tables,
    tables_from_labels,
    tables_from_streams,
)
from tests.fake_oracle import FakeOracle

pytest.importorskip("datasets")

from pc15learn.labels.read import LabelFolder, open_together, residuals

FEW = Codebook("few", tuple(entry[::24] for entry in load_codebook("v15_grid").entries))
SMALL = CodebookOptions(base="few", entries=200, targets=300, random=8)
CFG = CodecConfig.preset("fast", **PROGRAMS, search="exhaustive", alpha_mix=0.0, codebook_id="few", device="cpu")


def bars(seed: int) -> torch.Tensor:
    """A gray picture of bars, [1,100,120] uint8."""
    rng = np.random.default_rng(seed)
    params = {"angle_deg": float(rng.uniform(0, 360)), "freq": float(rng.uniform(3.0, 9.0))}
    return ((pc15.render("WAVES_DIR", 100, 120, params)[0] * 0.3 + 0.5) * 255).round().to(torch.uint8)


def label(folder: Path, name: str, cfg: CodecConfig = CFG, limit: int | None = None, **tiles: Any) -> Path:
    """Cut and label the folder's pictures; all of them are for training unless it is said otherwise."""
    where = folder / f"{name}.jsonl"
    options = {"tile": 32, "overlap": 8, "val_percent": 0, "test_percent": 0, **tiles}
    make_tiles(folder / "pictures", where, **options)
    own = LabelOptions(cfg=cfg, limit=limit, device="cpu", top=6, random=1, shard_size=40)
    return make_labels(where, folder / name, own).folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A models folder with a codebook and tables `few`, pictures, and their labels at two rates."""
    folder = tmp_path_factory.mktemp("labelled")
    for name in ("codebooks", "rans", "pictures"):
        (folder / name).mkdir()
    save_codebook(folder / "codebooks" / "few.npz", FEW)
    save_tables(folder / "rans" / "few.json", starting_tables(FEW, "few", load_table("v15_default")))
    for seed in range(4):
        save_image(folder / "pictures" / f"{seed}.png", bars(seed))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PC15_MODELS_DIR", str(folder))
        label(folder, "low", CFG.but(lambda_rd=4.0))
        label(folder, "high", CFG.but(lambda_rd=0.25))
        yield folder


# ---------------------------------------------------------------- reading


def test_residuals_are_what_the_search_saw(made: Path) -> None:
    folder = LabelFolder.open(made / "low")
    (rate,) = folder.rates
    scorer, seed = lone_scorer(folder.cfg(rate)), folder.cfg(rate).seed
    seen = ended = tiles = layers = 0
    for batch in folder.train_batches():
        x, count = as_q12(batch.pixels), np.diff(batch.layer_start)
        tiles, layers = tiles + int((count < 12).sum()), layers + int(count.sum())
        how = {"steps": rate.steps, "seed": seed, "codebook": folder.codebook}
        for layer, at, left in residuals(batch.pixels, batch.programs(folder.codebook), max_layers=12, **how):
            distortion = scorer.distortion(left, x[at], torch.zeros_like(at)) / scorer.windows.area[0]
            for tile, d in zip(at.tolist(), distortion.tolist(), strict=True):
                own = batch.layer["d0"][batch.layer_start[tile] : batch.layer_start[tile + 1]]
                if layer < len(own):
                    assert d == pytest.approx(own[layer], rel=1e-6, abs=1e-7)
                elif len(own):
                    assert d < own[-1]
                seen, ended = seen + 1, ended + (layer == len(own))
    assert ended == tiles
    assert seen == ended + layers


def test_pictures_come_with_their_tiles_on_the_grid(made: Path) -> None:
    pictures = list(LabelFolder.open(made / "low").pictures())
    assert [(one.ny, one.nx, one.programs.tiles) for one in pictures] == [(4, 5, 20)] * 4
    assert len({one.name for one in pictures}) == 4


# ---------------------------------------------------------------- codebooks


def cost(y: torch.Tensor, codebook_id: str) -> float:
    """D + lambda * R of a picture that is searched with the first entries of a codebook alone."""
    cfg = CFG.but(candidates=40, lambda_rd=0.5, codebook_id=codebook_id, table_id="mine")
    coded = encode_y(y, cfg)
    return 64 * 10 ** (-psnr(y, decode_y(coded["bitstream"])) / 10) + 0.5 * coded["bpp"]


def test_a_codebook_from_labels_puts_first_what_serves_such_pictures(made: Path, tmp_path: Path) -> None:
    out, labels = made / "codebooks" / "mine.npz", [made / "low", made / "high"]
    codebook = train_codebook_on_labels(labels, out, codebook_id="mine", options=SMALL)
    train_codebook_on_labels(labels, tmp_path / "again.npz", codebook_id="mine", options=SMALL)
    assert out.read_bytes() == (tmp_path / "again.npz").read_bytes()
    assert codebook.weights is not None
    save_tables(made / "rans" / "mine.json", starting_tables(codebook, "mine", load_table("v15_default")))
    backwards = Codebook("backwards", tuple(entry.flip(0) for entry in codebook.entries), codebook.weights)
    save_codebook(made / "codebooks" / "backwards.npz", backwards)
    save_image(tmp_path / "new.png", bars(99))
    y = luma_tensor(load_luma(tmp_path / "new.png"))
    assert cost(y, "mine") < 0.8 * cost(y, "backwards")


def test_codebooks_do_not_need_every_tile(made: Path, tmp_path: Path) -> None:
    some = label(made, "some", limit=30)
    codebook = train_codebook_on_labels([some], tmp_path / "x.npz", codebook_id="x", options=SMALL)
    assert sum(map(len, codebook.entries)) > sum(map(len, FEW.entries))
    with pytest.raises(SchemaError, match="lacks tiles of 4 of 4 pictures .*make tiles without --limit"):
        tables_from_labels([some], tmp_path / "x.json", table_id="x")


def test_codebooks_are_of_small_tiles(made: Path, tmp_path: Path) -> None:
    make_tiles(made / "pictures", tmp_path / "t.jsonl", tile=64, overlap=16, val_percent=0, test_percent=0)
    options = LabelOptions(cfg=CFG.but(codebook_id="v15_grid"), top=4, random=2, device="cpu")
    search = FakeOracle(options.search(list(read_rows(tmp_path / "t.jsonl"))))
    make_labels(tmp_path / "t.jsonl", tmp_path / "l", options, search=search)
    for train, given in (
        (train_codebook_on_labels, [tmp_path / "l"]),
        (lambda *args, **options: train_codebook(*args, tile=64, **options), [made / "pictures" / "0.png"]),
    ):
        with pytest.raises(ConfigError, match="at most 32 px, not of 64"):
            train(given, tmp_path / "x.npz", codebook_id="x")


# ---------------------------------------------------------------- tables


def write_streams(folder: LabelFolder, out: Path, table_id: str) -> list[Path]:
    """Streams of the programs of a folder's pictures."""
    out.mkdir(exist_ok=True)
    header = dataclasses.replace(plan_header(120, 100, folder.cfg(folder.rates[0])), table_id=table_id)
    paths = []
    for one in folder.pictures():
        paths.append(out / f"{folder.path.name}-{one.name}.pc15")
        write_bitstream(paths[-1], repack(header, [one.programs])["bitstream"])
    return paths


def test_tables_from_labels_are_those_of_streams_that_say_the_same(made: Path, tmp_path: Path) -> None:
    folders = [made / "low", made / "high"]
    streams = [path for folder in folders for path in write_streams(LabelFolder.open(folder), tmp_path / "s", "few")]
    outs = [tmp_path / f"{i}.json" for i in range(3)]
    for out in outs[:2]:
        tables_from_labels(folders, out, table_id="x", like="v15_default")
    tables_from_streams(streams, outs[2], table_id="x", like="v15_default")
    assert len({out.read_bytes() for out in outs}) == 1


def test_counted_tables_cost_less_than_flat_ones_do(made: Path, tmp_path: Path) -> None:
    folders = [made / "low", made / "high"]
    save_tables(made / "rans" / "flat.json", flat_tables(FEW, "flat"))
    tables_from_labels(folders, made / "rans" / "counted.json", table_id="counted")
    for folder in map(LabelFolder.open, folders):
        flat, counted = (
            sum(path.stat().st_size for path in write_streams(folder, tmp_path / name, name))
            for name in ("flat", "counted")
        )
        assert counted < 0.8 * flat


def test_every_rate_and_tile_size_that_labels_have_fills_its_tables(made: Path, tmp_path: Path) -> None:
    small = label(made, "small", CFG.but(lambda_rd=0.25), tile=16, overlap=4)
    counts = [count_labels(LabelFolder.open(made / name)) for name in ("low", "high", "small")]
    rates = [{name.split(".")[0] for name in own if ".more." in name} for own in counts]
    assert [len(own) for own in rates] == [1, 1, 1]
    assert len(set.union(*rates)) == 3
    assert {next(iter(own))[0] for own in rates} == {"m", "s"}
    tables = tables_from_labels([made / "low", small], tmp_path / "x.json", table_id="x")
    check_tables(tables, FEW)


def test_another_codebook_takes_from_labels_what_does_not_name_its_entries(made: Path, tmp_path: Path) -> None:
    backwards = Codebook("half", tuple(entry[: max(1, len(entry) // 2)] for entry in FEW.entries))
    save_codebook(made / "codebooks" / "half.npz", backwards)
    own, other = (
        tables_from_labels([made / "high"], tmp_path / f"{name}.json", table_id="x", codebook_id=name)
        for name in ("few", "half")
    )
    check_tables(other, backwards)
    bare = build_tables({}, backwards, "x")
    for name, table in other.tables.items():
        if ".gen." in name or ".qv." in name:
            assert table == bare.table(name)
        else:
            assert table == own.table(name)


# ---------------------------------------------------------------- what does not go together


def test_labels_of_different_oracles_are_not_mixed(made: Path, tmp_path: Path) -> None:
    small = label(made, "other-tile", tile=16, overlap=4)
    with pytest.raises(SchemaError, match=r"different: options.overlap, options.tile\); label both with"):
        train_codebook_on_labels([made / "low", small], tmp_path / "x.npz", codebook_id="x")
    slow = label(made, "other-search", CFG.but(refine=1))
    for train in (train_codebook_on_labels, tables_from_labels):
        names = {"codebook_id": "x"} if train is train_codebook_on_labels else {"table_id": "x"}
        with pytest.raises(SchemaError, match="low and .*other-search hold .*different: options.refine"):
            train([made / "low", slow], tmp_path / "x", **names)  # type: ignore[operator]
        with pytest.raises(SchemaError, match="hold the same labels; name one of them"):
            train([made / "low", made / "low"], tmp_path / "x", **names)  # type: ignore[operator]
        with pytest.raises(ConfigError, match="no labels to train on"):
            train([], tmp_path / "x", **names)  # type: ignore[operator]
    assert not (tmp_path / "x").exists()


def test_labels_that_are_not_finished_are_not_trained_on(made: Path, tmp_path: Path) -> None:
    for path in (made / "low" / MANIFEST, *shard_paths(made / "low")[:-1]):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    with pytest.raises(SchemaError, match="labels 40 of 80 tiles; run the same pc15learn label again"):
        tables_from_labels([tmp_path], tmp_path / "x.json", table_id="x")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codec": "0"}, "other generators than this build"),
        ({"codebook": {"id": "few", "fingerprint": "0"}}, "another codebook 'few' than this build's"),
        ({"options": {"tiles": 32}}, "options of another build"),
    ],
)
def test_labels_of_another_build_are_refused(change: dict[str, Any], says: str, made: Path, tmp_path: Path) -> None:
    oracle = Oracle({**LabelFolder.open(made / "low").oracle.facts, **change})
    (tmp_path / MANIFEST).write_text(json.dumps({"oracle": oracle.facts, "fingerprint": oracle.fingerprint}))
    with pytest.raises(SchemaError, match=says):
        opened = open_together([tmp_path], tiles_differ=True)[0]
        opened.cfg(opened.rates[0])


def test_pictures_that_are_held_back_are_not_trained_on(made: Path, tmp_path: Path) -> None:
    held = label(made, "held", val_percent=0, test_percent=99)
    with pytest.raises(SchemaError, match="no picture in the train split.*--val-percent 0"):
        tables_from_labels([held], tmp_path / "x.json", table_id="x")


def test_streams_have_to_hold_programs_of_one_codebook(made: Path, tmp_path: Path) -> None:
    few, grid, none = (tmp_path / f"{name}.pc15" for name in ("few", "grid", "none"))
    header, flat = plan_header(40, 40, CFG), Programs.from_records([TileProgram(3)] * 4)
    write_bitstream(few, repack(header, [flat])["bitstream"])
    header = dataclasses.replace(header, codebook_id="v15_grid", table_id="v15_default")
    write_bitstream(grid, repack(header, [flat])["bitstream"])
    header = plan_header(40, 40, CFG.but(residual=True, max_layers=0))
    write_bitstream(none, write_container(Stream(header, [], residuals=[b"unread"])))
    for streams, says in (
        ([few, grid], "few.pc15 is of codebook 'few', .*grid.pc15 of 'v15_grid'"),
        ([none], "no tile programs; encode with --residual off"),
        ([], "no tile programs"),
    ):
        with pytest.raises(ConfigError, match=says):
            tables_from_streams(streams, tmp_path / "x.json", table_id="x")
    tables_from_streams([few], tmp_path / "x.json", table_id="x")


# ---------------------------------------------------------------- the commands


def test_commands_make_a_codebook_and_its_tables_from_labels(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = ["--labels", str(made / "low"), str(made / "high")]
    book, tables = made / "codebooks" / "own.npz", made / "rans" / "own.json"
    size = ["--base", "few", "--entries", "50", "--targets", "100", "--random", "2"]
    assert cli.main(["codebooks", *labels, "--out", str(book), *size]) == 0
    assert cli.main(["tables", *labels, "--codebook", "own", "--like", "few", "--out", str(tables)]) == 0
    assert "own.npz: " in (said := capsys.readouterr().out) and "own.json: " in said
    check_tables(load_table("own"), load_codebook("own"))
    write_streams(LabelFolder.open(made / "low"), tmp_path / "streams", "few")
    counted = tmp_path / "counted.json"
    assert cli.main(["tables", "--streams", str(tmp_path / "streams"), "--out", str(counted)]) == 0
    assert "counted.json: " in capsys.readouterr().out
    given = ["--tiles", str(made / "low.jsonl"), "--out", str(tmp_path / "again"), "--limit", "2", "--device", "cpu"]
    assert cli.main(["label", *given, "--preset", "fast", "--codebook", "own", "--top", "4"]) == 0
    again = LabelFolder.open(tmp_path / "again")
    assert again.cfg(again.rates[0]).table_id == "own"


@pytest.mark.parametrize("command", ["codebooks", "tables"])
def test_commands_take_one_source_and_the_options_that_go_with_it(
    command: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, labels, images = ["--out", str(tmp_path / "x")], ["--labels", str(made / "low")], ["--images", str(made)]
    for sources, says in (([], "required"), ([*labels, *images], "not allowed with")):
        with pytest.raises(SystemExit):
            cli.main([command, *sources, *out])
        assert says in capsys.readouterr().err
    assert cli.main([command, *labels, *out, "--crop", "64"]) == 2
    assert "--crop says how pictures are searched" in capsys.readouterr().err
