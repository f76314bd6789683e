"""Features: a fit that reads them of the disk is the fit that has all of its labels in memory."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pc15.config import CodecConfig
from pc15.errors import ConfigError, HooksError, SchemaError
from pc15.images import save_image
from pc15learn.cli import main
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.schema import read_rows
from pc15learn.tiles import make_tiles
from tests.fake_oracle import FakeOracle

pytest.importorskip("lightning")
pytest.importorskip("datasets")

from pc15learn.config import FitConfig, TrainConfig
from pc15learn.dataset import LabelData
from pc15learn.export import export_weights
from pc15learn.features import FeatureFolder, make_features
from pc15learn.fit import fit_role
from pc15learn.fit.evaluate import evaluate_checkpoint
from pc15learn.label_tensors import LabelTensors, from_labels
from pc15learn.labels.read import LabelFolder


def label(folder: Path, *, lambdas: tuple[float, ...] = (0.5, 0.05)) -> Path:
    """Labels of noisy pictures of both splits at some rates, in several shards."""
    if not folder.exists():
        (folder / "in").mkdir(parents=True)
        generator = torch.Generator().manual_seed(3)
        for i in range(5):
            picture = torch.randint(0, 70, (1, 54, 54), dtype=torch.uint8, generator=generator)
            picture[:, :, 27:] += 150
            save_image(folder / "in" / f"p{i}.png", picture)
        make_tiles(folder / "in", folder / "tiles.jsonl", tile=16, overlap=4, val_percent=30, test_percent=0)
    cfg = CodecConfig.preset("fast", codebook_id="v15_grid")
    options = LabelOptions(cfg=cfg, lambdas=lambdas, shard_size=40, top=4, random=4, device="cpu")
    search = FakeOracle(options.search(list(read_rows(folder / "tiles.jsonl"))), 4, 3)
    make_labels(folder / "tiles.jsonl", folder / "labels", options, search=search)
    return folder / "labels"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label(tmp_path_factory.mktemp("features") / "made")


@pytest.fixture(scope="module")
def features(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_features(labels, tmp_path_factory.mktemp("features") / "out").folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def equal(a: LabelTensors, b: LabelTensors) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)[1:]]
    pairs += [(getattr(a.inputs, f.name), getattr(b.inputs, f.name)) for f in dataclasses.fields(a.inputs)]
    return all(x.dtype == y.dtype and torch.equal(x, y) for x, y in pairs)


def test_rows_are_those_that_labels_give_in_their_order(labels: Path, features: Path) -> None:
    mapped, drawn = FeatureFolder.open(features), list(from_labels(LabelFolder.open(labels)))
    whole = LabelTensors.joined([rows for rows, _, _ in drawn])
    assert whole.rows.shape[1] == mapped.candidates == 7  # of eight that there is room for
    assert len(mapped.records) > 2 and all(isinstance(rows, np.memmap) for rows in mapped.records)
    assert equal(mapped.rows(np.arange(len(mapped))), whole)
    order = np.random.default_rng(1).permutation(len(mapped))[:50]
    assert equal(mapped.rows(order), whole.pick(torch.from_numpy(order)))
    assert np.array_equal(mapped.split, np.concatenate([split for _, split, _ in drawn]))
    names = np.concatenate([names for _, _, names in drawn])
    assert len(set(zip(names, mapped.picture.tolist(), strict=True))) == len(set(names)) == 5


def test_batches_are_those_of_the_labels(labels: Path, features: Path) -> None:
    ours, theirs = (LabelData(folder, batch_size=64) for folder in (features, labels))
    for data in (ours, theirs):
        data.setup()
    assert ours.counts == theirs.counts and equal(ours.held_back, theirs.held_back)
    for own, other in (
        (ours.train_dataloader(), theirs.train_dataloader()),
        (ours.val_dataloader(), theirs.val_dataloader()),
    ):
        pairs = list(zip(own, other, strict=True))
        assert len(pairs) > 1 and all(equal(a, b) for a, b in pairs)


def test_a_fit_of_features_ends_with_the_weights_of_one_of_labels(labels: Path, features: Path, tmp_path: Path) -> None:
    def fit(source: Path, out: str, epochs: int, **options: Any) -> bytes:
        train = TrainConfig(hidden=8, batch_size=64, max_epochs=epochs, lr=3e-3)
        cfg = FitConfig(role="selector", labels=source, out=tmp_path / out, device="cpu", train=train)
        return export_weights(fit_role(cfg, **options).checkpoint, tmp_path / "weights").weights.read_bytes()

    assert fit(features, "a", 2) == fit(labels, "b", 2)
    for out in ("c", "d"):
        fit(labels, out, 1)
    assert fit(features, "c", 2, resume=True) == fit(labels, "d", 2, resume=True)


def test_a_fit_of_many_labels_says_that_features_could_be_drawn_before(
    labels: Path, features: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        LabelData(labels, batch_size=8).setup()
        assert "pc15learn features" not in caplog.text
        monkeypatch.setattr("pc15learn.dataset._LONG_TO_DRAW", 1)
        LabelData(features, batch_size=8).setup()
        assert "pc15learn features" not in caplog.text
        LabelData(labels, batch_size=8).setup()
    assert f"pc15learn features {labels} --out DIR --jobs N" in caplog.text


def test_shards_are_made_once_by_whoever_and_again_where_labels_changed(
    labels: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    for part in ("1/2", "0/2"):
        assert main(["features", str(labels), "--out", str(out), "--part", part]) == 0
    assert "us a row: drawing" in capsys.readouterr().out
    assert contents(out) == contents(features)
    assert make_features(labels, out).done == 0
    for name in ("features-00001.json", "features-00002.npy"):  # as a run that was killed leaves them
        (out / name).unlink()
    with pytest.raises(SchemaError, match="features were not finished; run the same pc15learn features again"):
        FeatureFolder.open(out)
    assert make_features(labels, out).done == 2
    assert contents(out) == contents(features)


def test_labels_that_were_added_are_computed_and_no_others(tmp_path: Path) -> None:
    out = tmp_path / "out"
    label(tmp_path / "made")
    tiles = tmp_path / "made" / "tiles.jsonl"
    whole = tiles.read_bytes()
    tiles.write_bytes(b"".join(whole.splitlines(keepends=True)[:60]))
    shutil.rmtree(tmp_path / "made" / "labels")
    made = make_features(label(tmp_path / "made"), out)
    assert made.done == made.shards == 4
    tiles.write_bytes(whole)
    grown = make_features(label(tmp_path / "made"), out)
    assert 0 < grown.done < grown.shards
    again = make_features(tmp_path / "made" / "labels", tmp_path / "again")
    assert again.done == again.shards == grown.shards
    assert contents(out) == contents(tmp_path / "again")


def test_what_is_no_folder_of_features_of_such_labels_is_refused(
    labels: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SchemaError, match="features of other labels .different: rates"):
        make_features(label(tmp_path / "other", lambdas=(1.0,)), shutil.copytree(features, tmp_path / "out"))
    with pytest.raises(SchemaError, match="holds labels; give features a folder of their own"):
        make_features(labels, labels)
    with pytest.raises(ConfigError, match="part is 2/2"):
        make_features(labels, tmp_path / "new", part=(2, 2))
    few = shutil.copytree(labels, tmp_path / "few")
    (few / "labels-00001.parquet").unlink()
    with pytest.raises(SchemaError, match="run the same pc15learn label again"):
        make_features(few, tmp_path / "new")
    assert main(["features", str(tmp_path / "none"), "--out", str(tmp_path / "new")]) == 2
    assert "no labels.json" in capsys.readouterr().err


@pytest.mark.parametrize("fault", ["cut", "other", "pickled", "numbers", "version"])
def test_damaged_features_are_named(fault: str, features: Path, tmp_path: Path) -> None:
    out = shutil.copytree(features, tmp_path / "out")
    records, of = out / "features-00001.npy", out / "features-00001.of.npy"
    says = "features-00001.npy"
    if fault == "cut":
        records.write_bytes(records.read_bytes()[:-9])
    elif fault == "other":
        np.save(records, np.zeros(3))
    elif fault == "pickled":
        np.save(records, np.array([{}]), allow_pickle=True)
    elif fault == "numbers":
        own = np.load(of)
        own["picture"] = 99
        np.save(of, own)
    else:
        text = (out / "features.json").read_text()
        (out / "features.json").write_text(text.replace('"inputs": ', '"inputs": 9'))
        says = "inputs of version 9"
    with pytest.raises(SchemaError, match=says):
        FeatureFolder.open(out)


def test_values_that_are_not_finite_are_named(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pc15learn.features as features

    before = features.RowDrawer.__call__

    def spoilt(self: Any, batch: Any) -> Any:
        made = before(self, batch)
        made[0].gain[3] = torch.inf
        return made

    monkeypatch.setattr(features.RowDrawer, "__call__", spoilt)
    with pytest.raises(SchemaError, match="'gain' is made of is not finite; label again"):
        make_features(labels, tmp_path / "out")


def test_a_net_is_evaluated_on_its_own_set_as_it_was_fitted_and_on_any_other(
    labels: Path, features: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = TrainConfig(hidden=8, batch_size=64, max_epochs=1, temperature=0.1)
    cfg = FitConfig(role="rd", labels=labels, out=tmp_path, device="cpu", train=train)
    fitted = fit_role(cfg)
    assert fitted.per_second > 0
    for own in (labels, features):
        found = evaluate_checkpoint(fitted.checkpoint, own, batch_size=64, device="cpu")
        assert found == pytest.approx(fitted.metrics, rel=1e-5)
    other = label(tmp_path / "other", lambdas=(2.0,))
    command = ["evaluate", str(fitted.checkpoint), str(fitted.best), "--labels", str(other), "--device", "cpu"]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert said.count("val/loss") == 2 and f"{fitted.metrics['val/loss']:.4f}" not in said
    text = (features / "features.json").read_text()
    strange = shutil.copytree(features, tmp_path / "strange")
    codec = LabelFolder.open(labels).oracle.facts["codec"]
    (strange / "features.json").write_text(text.replace(codec, "0" * len(codec)))
    with pytest.raises(SchemaError, match="other generators"):
        evaluate_checkpoint(fitted.checkpoint, strange, device="cpu")
    with pytest.raises(HooksError, match="no such|cannot read"):
        evaluate_checkpoint(tmp_path / "none.ckpt", labels, device="cpu")
