"""From labels to hooks: a tiny fit of each role, its export, and what the encoder makes of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pc15.bitstream.programs import LayerRec, Programs, TileProgram
from pc15.config import CodecConfig
from pc15.errors import ConfigError, HooksError, SchemaError
from pc15.hooks.features import FEATURES, layer_features
from pc15.hooks.learned import AiHooks
from pc15.hooks.roles import ROLES, ParamPredictor, RdPredictor, Selector
from pc15.images import save_image
from pc15.proc.codebook import load_codebook
from pc15.proc.generators import NAMES
from pc15learn.config import FitConfig, TrainConfig, load_config
from pc15learn.fit import fit_role
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.schema import read_rows
from pc15learn.tiles import make_tiles
from tests.fake_oracle import GENS, FakeOracle

pytest.importorskip("lightning")
pytest.importorskip("datasets")

from pc15learn.dataset import EpochSampler, LabelData
from pc15learn.export import export_weights
from pc15learn.label_tensors import to_tensors
from pc15learn.labels.manifest import read_manifest
from pc15learn.labels.read import LabelFolder, residuals
from pc15learn.roles import TRAINING
from pc15learn.roles.rd import isotonic_knots

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labels of a few pictures, dark and light, by a labeller that looks at the mean alone."""
    folder = tmp_path_factory.mktemp("learn")
    (folder / "in").mkdir()
    generator = torch.Generator().manual_seed(3)
    for i in range(6):
        picture = torch.randint(0, 70, (1, 90, 90), dtype=torch.uint8, generator=generator)
        picture[:, :, 45:] += 150
        save_image(folder / "in" / f"p{i}.png", picture)
    make_tiles(folder / "in", folder / "tiles.jsonl", tile=16, overlap=4, val_percent=30, test_percent=0)
    cfg = CodecConfig.preset("fast", lambda_rd=0.05)
    options = LabelOptions(cfg=cfg, shard_size=100, top=4, random=4, device="cpu")
    search = FakeOracle(options.search(list(read_rows(folder / "tiles.jsonl"))), 4, 4)
    make_labels(folder / "tiles.jsonl", folder / "labels", options, search=search)
    return folder / "labels"


def config(labels: Path, out: Path, role: Any, **train: Any) -> FitConfig:
    small = {"hidden": 24, "lr": 3e-3, "batch_size": 32, "max_epochs": 8, **train}
    return FitConfig(role=role, labels=labels, out=out, device="cpu", train=TrainConfig(**small))


@pytest.fixture(scope="module")
def exported(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    out = tmp_path_factory.mktemp("fitted")
    weights = {}
    for role, epochs in (("selector", 8), ("params", 4), ("rd", 2)):
        fitted = fit_role(config(labels, out, role, max_epochs=epochs))
        weights[role] = export_weights(fitted.checkpoint, out / "weights").weights
    return weights


# ---------------------------------------------------------------- data


def test_labels_become_one_row_per_tile_and_layer(labels: Path):
    oracle = read_manifest(labels)
    data = to_tensors(LabelFolder.open(labels))
    assert data.features.shape == (len(data), FEATURES)
    assert len(data) == 2 * oracle.facts["tiles"]["count"]
    assert set(data.gen.tolist()) <= set(GENS)
    assert torch.equal(torch.unique(data.owner), torch.arange(len(data)))
    assert len(data.c_gen) == 8 * len(data)
    assert not (set(data.picture[data.held_back == 0].tolist()) & set(data.picture[data.held_back == 1].tolist()))


def test_the_first_residual_is_the_tile_without_its_dc():
    tile = torch.full((1, 16, 16), 100, dtype=torch.uint8)
    layer = LayerRec(NAMES.index("STRIPES"), 0, (0, 0, 0, 0), 0, 3)
    programs = Programs.from_records([TileProgram(12, (layer, layer))])
    found = list(residuals(tile, programs, steps=(6, 20), seed=1, codebook=load_codebook("v15_grid")))
    assert [number for number, _, _ in found] == [0, 1]
    assert found[0][2].unique().numel() == 1
    assert found[1][2].unique().numel() > 1
    assert layer_features(found[1][2], 1).shape == (1, FEATURES)


def test_batches_follow_from_seed_and_epoch_alone():
    sampler = EpochSampler(50, 7)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    other = EpochSampler(50, 7)
    other.set_epoch(1)
    assert list(other) == second
    assert sorted(second) == list(range(50))


def test_a_single_picture_cannot_be_split(labels: Path, tmp_path: Path):
    save_image(tmp_path / "p.png", torch.randint(0, 256, (1, 60, 60), dtype=torch.uint8))
    make_tiles(tmp_path / "p.png", tmp_path / "tiles.jsonl", tile=16, overlap=4)
    options = LabelOptions(top=2, random=0, device="cpu")
    search = FakeOracle(options.search(list(read_rows(tmp_path / "tiles.jsonl"))), 2, 0)
    make_labels(tmp_path / "tiles.jsonl", tmp_path / "labels", options, search=search)
    with pytest.raises(SchemaError, match="one picture"):
        LabelData(tmp_path / "labels", "selector").setup()


def test_pictures_lend_a_validation_split_where_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for i in range(3):
        save_image(tmp_path / f"p{i}.png", torch.randint(0, 256, (1, 60, 60), dtype=torch.uint8))
    make_tiles(tmp_path, tmp_path / "tiles.jsonl", tile=16, overlap=4, val_percent=0, test_percent=0)
    options = LabelOptions(top=2, random=0, device="cpu")
    search = FakeOracle(options.search(list(read_rows(tmp_path / "tiles.jsonl"))), 2, 0)
    make_labels(tmp_path / "tiles.jsonl", tmp_path / "labels", options, search=search)
    data = LabelData(tmp_path / "labels", "selector")
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert "lent" in caplog.text
    assert data.counts["train_items"] > data.counts["val_items"] > 0


def test_isotonic_knots_rise_and_fit():
    rng = np.random.default_rng(0)
    predicted = rng.normal(size=500)
    knots = isotonic_knots(predicted, np.exp(predicted))
    assert knots["x"] == sorted(set(knots["x"]))
    assert knots["y"] == sorted(knots["y"])
    assert len(knots["x"]) <= 64
    fitted = np.interp(predicted, knots["x"], knots["y"])
    assert np.abs(fitted - np.exp(predicted)).mean() < 0.1
    flat = isotonic_knots(np.ones(5), np.arange(5.0))
    assert flat["y"] == [2.0, 2.0]


# ---------------------------------------------------------------- fit, export, hooks


def test_every_role_has_a_training_and_a_config():
    assert list(TRAINING) == list(ROLES)
    for role, predictor in ROLES.items():
        assert (predictor.role, TRAINING[role].role) == (role, role)
        assert (ROOT / "configs" / "learn" / f"{role}.yaml").is_file()
    assert len({predictor.title for predictor in ROLES.values()}) == len(ROLES)


def test_fitted_hooks_have_learned_what_the_oracle_does(exported: dict[str, Path], labels: Path):
    selector = Selector(exported["selector"], strict=True)
    data = to_tensors(LabelFolder.open(labels))
    best = selector.logits(data.features).argmax(dim=1)
    assert (best == data.gen).float().mean() > 0.9
    params = ParamPredictor(exported["params"], strict=True)
    allowed = torch.nn.functional.one_hot(data.gen, len(NAMES)).bool()
    _, qv, _, _ = params.best(data.features, allowed, 8)
    assert (qv == data.qv[:, None]).any(dim=1).float().mean() > 0.5
    described = AiHooks(selector, params, RdPredictor(exported["rd"], strict=True)).describe()
    assert described["name"] == "selector+params+rd"


def test_a_card_tells_where_its_weights_come_from(exported: dict[str, Path], labels: Path):
    card = yaml.safe_load(exported["rd"].with_suffix(".yaml").read_text())
    oracle = read_manifest(labels)
    assert card["oracle"]["fingerprint"] == oracle.fingerprint
    assert card["lambda_rd"] == 0.05
    assert card["training_set"]["train_items"] > card["training_set"]["val_items"] > 0
    assert {"val/loss", "val/gain_error", "val/bits_error"} <= set(card["metrics"])
    assert card["calibration"]["gain"]["x"] == sorted(card["calibration"]["gain"]["x"])


def test_the_same_fit_gives_the_same_weights(exported: dict[str, Path], labels: Path, tmp_path: Path):
    again = export_weights(fit_role(config(labels, tmp_path, "selector")).checkpoint, tmp_path / "weights")
    assert again.weights.read_bytes() == exported["selector"].read_bytes()
    assert again.card.read_bytes() == exported["selector"].with_suffix(".yaml").read_bytes()


def test_a_resumed_fit_ends_like_one_in_one_go(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from pc15learn.roles.selector import SelectorModule

    whole = export_weights(fit_role(config(labels, tmp_path / "a", "selector")).checkpoint, tmp_path / "wa")
    after = SelectorModule.on_train_epoch_start

    def stop_in_the_third(self: Any) -> None:
        after(self)
        if self.current_epoch == 2:
            raise RuntimeError("stopped")

    monkeypatch.setattr(SelectorModule, "on_train_epoch_start", stop_in_the_third)
    with pytest.raises(RuntimeError, match="stopped"):
        fit_role(config(labels, tmp_path / "b", "selector"))
    monkeypatch.undo()
    resumed = fit_role(config(labels, tmp_path / "b", "selector"), resume=True)
    assert export_weights(resumed.checkpoint, tmp_path / "wb").weights.read_bytes() == whole.weights.read_bytes()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path):
    with pytest.raises(HooksError, match="run pc15learn fit first"):
        export_weights(tmp_path / "none.ckpt", tmp_path)
    (tmp_path / "bad.ckpt").write_bytes(b"not a checkpoint")
    with pytest.raises(HooksError, match="no checkpoint"):
        export_weights(tmp_path / "bad.ckpt", tmp_path)
    torch.save({"a": 1}, tmp_path / "other.ckpt")
    with pytest.raises(HooksError, match="no checkpoint"):
        export_weights(tmp_path / "other.ckpt", tmp_path)


# ---------------------------------------------------------------- configs


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "learn").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_learn_config_is_valid(path: Path):
    cfg = load_config(path)
    assert cfg.role == path.stem
    assert cfg.name == path.stem


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "codec").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_codec_config_is_its_preset(path: Path):
    assert CodecConfig(**yaml.safe_load(path.read_text())) == CodecConfig.preset(path.stem)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("role: selecter\nlabels: x", "did you mean selector"),
        ("role: selector", "has no 'labels'"),
        ("role: selector\nlabel: x", "unknown key label; did you mean labels"),
        ("role: selector\nlabels: x\ntrain: {learning_rate: 1}", "unknown key train.learning_rate"),
        ("role: selector\nlabels: x\ntrain: {lr: fast}", "train.lr is 'fast'"),
        ("role: selector\nlabels: x\ntrain: {max_epochs: 0}", "train.max_epochs is 0"),
        ("role: selector\nlabels: x\ntrain: 3", "train is 3"),
        ("role: selector\nlabels: x\nlogger: wand", "did you mean wandb"),
        ("role: selector\nlabels: x\ndevices: 0", "devices is 0"),
        ("[1, 2]", "holds no keys"),
        ("{", "not YAML"),
    ],
)
def test_a_wrong_config_is_named(tmp_path: Path, text: str, says: str):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "c.yaml")
    assert says in str(caught.value)


def test_options_can_be_changed_on_top_of_a_config():
    cfg = load_config(ROOT / "configs/learn/selector.yaml", labels="elsewhere", logger=None, train={"max_epochs": 2})
    assert cfg.labels == Path("elsewhere")
    assert cfg.train.max_epochs == 2
    with pytest.raises(ConfigError, match="cannot read"):
        load_config("nowhere.yaml")
