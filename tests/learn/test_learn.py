"""From labels to hooks: a tiny fit of each role, its export, and what the encoder makes of it."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from pc15.bitstream.programs import LayerRec, Programs, TileProgram
from pc15.config import CodecConfig
from pc15.decoder import decode_y
from pc15.encoder import encode_y
from pc15.errors import ConfigError, HooksError, SchemaError
from pc15.hooks.inputs import INPUT_VERSION, PIXELS
from pc15.hooks.learned import AiHooks
from pc15.hooks.roles import ROLES, Selector
from pc15.images import save_image
from pc15.proc.codebook import load_codebook
from pc15.proc.generators import NAMES
from pc15.search.cells import Cells
from pc15.search.label import lone_scorer
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
from pc15learn.label_tensors import LabelTensors, from_labels
from pc15learn.labels.manifest import read_manifest
from pc15learn.labels.read import LabelFolder, residuals
from pc15learn.roles import TRAINING

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
    cfg = CodecConfig.preset("fast", lambda_rd=0.05, codebook_id="v15_grid")
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
    for role, epochs in (("selector", 8), ("params", 4), ("rd", 4)):
        fitted = fit_role(config(labels, out, role, max_epochs=epochs))
        weights[role] = export_weights(fitted.checkpoint, out / "weights").weights
    return weights


# ---------------------------------------------------------------- data


def whole(labels: Path) -> LabelTensors:
    """All rows of a folder."""
    return LabelTensors.joined([rows for rows, _, _ in from_labels(LabelFolder.open(labels))])


def test_labels_become_one_row_per_tile_and_layer_that_was_searched(labels: Path):
    folder = LabelFolder.open(labels)
    data, count = whole(labels), read_manifest(labels).facts["tiles"]["count"]
    assert len(data) == 3 * count  # two layers, and a third that does not pay
    assert int(data.pays.sum()) == 2 * count
    assert data.inputs.error.shape == (len(data), PIXELS) and data.inputs.error.dtype == torch.int8
    bank = lone_scorer(folder.cfg(folder.rates[0])).bank
    assert set(bank.gen[data.rows[data.pays]].flatten().tolist()) <= set(GENS)
    best = data.behind[data.pays].min(dim=1)
    assert not best.values.any() and not best.indices.any()  # the fake oracle puts its choice first
    assert (data.gain[data.pays] > 0).all() and not data.gain[~data.pays].any()
    assert (data.rows[~data.pays] == -1).all() and (data.behind >= 0).all()
    assert data.bits[data.pays].gt(0).all()
    part = data.pick(torch.tensor([4, 0]))
    assert torch.equal(part.rows[1], data.rows[0]) and torch.equal(part.inputs.error[0], data.inputs.error[4])


def test_no_picture_is_in_two_splits(labels: Path):
    data = LabelData(labels)
    data.setup()
    split, names = (
        np.concatenate(parts) for parts in list(zip(*from_labels(LabelFolder.open(labels)), strict=True))[1:]
    )
    assert not set(names[split == 0]) & set(names[split == 1])
    assert len(data.held_back) == int((split == 1).sum()) == data.counts["val_items"]


def test_the_first_residual_is_the_tile_without_its_dc():
    tile = torch.full((1, 16, 16), 100, dtype=torch.uint8)
    layer = LayerRec(NAMES.index("STRIPES"), 0, (0, 0, 0, 0), 0, 3)
    programs = Programs.from_records([TileProgram(12, (layer, layer))])
    found = list(residuals(tile, programs, steps=(6, 20), seed=1, codebook=load_codebook("v15_grid")))
    assert [number for number, _, _ in found] == [0, 1]
    assert found[0][2].unique().numel() == 1
    assert found[1][2].unique().numel() > 1


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


def test_many_items_are_shuffled_some_blocks_of_neighbours_at_a_time(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pc15learn.dataset._BLOCK", 4)
    monkeypatch.setattr("pc15learn.dataset._TOGETHER", 20)
    sampler = EpochSampler(90, 7)
    first = list(sampler)
    assert list(sampler) == first and sorted(first) == list(range(90))
    parts = [first[i : i + 20] for i in range(0, 90, 20)]
    assert all(len({item // 4 for item in part}) <= 7 for part in parts)  # a last block of two shifts what follows
    assert parts[0] != sorted(parts[0]) and parts[0][:4] != list(range(parts[0][0], parts[0][0] + 4))
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_a_single_picture_cannot_be_split(labels: Path, tmp_path: Path):
    save_image(tmp_path / "p.png", torch.randint(0, 256, (1, 60, 60), dtype=torch.uint8))
    make_tiles(tmp_path / "p.png", tmp_path / "tiles.jsonl", tile=16, overlap=4)
    options = LabelOptions(cfg=CodecConfig.preset("fast", codebook_id="v15_grid"), top=2, random=0, device="cpu")
    search = FakeOracle(options.search(list(read_rows(tmp_path / "tiles.jsonl"))), 2, 0)
    make_labels(tmp_path / "tiles.jsonl", tmp_path / "labels", options, search=search)
    with pytest.raises(SchemaError, match="one picture"):
        LabelData(tmp_path / "labels").setup()


def test_pictures_lend_a_validation_split_where_there_is_none(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    for i in range(3):
        save_image(tmp_path / f"p{i}.png", torch.randint(0, 256, (1, 60, 60), dtype=torch.uint8))
    make_tiles(tmp_path, tmp_path / "tiles.jsonl", tile=16, overlap=4, val_percent=0, test_percent=0)
    options = LabelOptions(cfg=CodecConfig.preset("fast", codebook_id="v15_grid"), top=2, random=0, device="cpu")
    search = FakeOracle(options.search(list(read_rows(tmp_path / "tiles.jsonl"))), 2, 0)
    make_labels(tmp_path / "tiles.jsonl", tmp_path / "labels", options, search=search)
    data = LabelData(tmp_path / "labels")
    with caplog.at_level(logging.WARNING):
        data.setup()
    assert "lent" in caplog.text
    assert data.counts["train_items"] > data.counts["val_items"] > 0


# ---------------------------------------------------------------- fit, export, hooks


def test_every_role_has_a_training_and_a_config():
    assert list(TRAINING) == list(ROLES)
    for role, predictor in ROLES.items():
        assert (predictor.role, TRAINING[role].role) == (role, role)
        assert (ROOT / "configs" / "learn" / f"{role}.yaml").is_file()
    assert len({predictor.title for predictor in ROLES.values()}) == len(ROLES)


def test_fitted_hooks_have_learned_what_the_oracle_does(exported: dict[str, Path], labels: Path):
    data = whole(labels)
    paid = data.pick(data.pays.nonzero().flatten())
    selector = Selector(exported["selector"], strict=True)
    folder = LabelFolder.open(labels)
    scorer = lone_scorer(folder.cfg(folder.rates[0]))
    bank = scorer.bank
    assert bank.seen is not None
    cells = Cells.of_centroids(bank, selector.centroids, bank.seen, scorer.windows.around)
    chosen = selector.cells(paid.inputs, cells, 64, -math.inf)
    assert (chosen == cells.of[paid.rows[:, :1]]).any(dim=1).float().mean() > 0.5  # of 8,192 cells
    searched = selector.cells(data.inputs, cells, 1, 0.0)[:, 0] >= 0
    assert (searched == data.pays).float().mean() > 0.72  # two of three rows pay
    described = AiHooks(*exported.values(), strict=True).describe()
    assert described["name"] == "selector+params+rd"


def test_fits_make_nets_better_than_they_began(exported: dict[str, Path], labels: Path, tmp_path: Path):
    for role, metric in (("selector", "val/hit_at_16"), ("params", "val/hit_at_16"), ("rd", "val/hit_at_8")):
        begun = fit_role(config(labels, tmp_path, role, max_epochs=1, lr=1e-8)).metrics
        card = yaml.safe_load(exported[role].with_suffix(".yaml").read_text())
        assert card["metrics"]["val/loss"] < begun["val/loss"], role
        assert card["metrics"][metric] >= begun[metric], role


def test_fitted_hooks_steer_an_encode_that_decodes_and_repeats(exported: dict[str, Path]):
    y = torch.rand((1, 1, 40, 40), generator=torch.Generator().manual_seed(1)) * 0.2
    y[..., 20:] += 0.6
    cfg = CodecConfig.preset(
        "fast", tile=16, overlap=4, residual=False, codebook_id="v15_grid", lambda_rd=0.05, max_layers=2, device="cpu"
    )
    for roles in (("selector",), ("selector", "params"), ("selector", "params", "rd")):
        made = [encode_y(y, cfg.but(ai=AiHooks(*(exported[role] for role in roles), strict=True))) for _ in range(2)]
        assert made[0]["bitstream"] == made[1]["bitstream"]
        assert decode_y(made[0]["bitstream"]).shape == y.shape


def test_a_card_tells_where_its_weights_come_from(exported: dict[str, Path], labels: Path):
    card = yaml.safe_load(exported["rd"].with_suffix(".yaml").read_text())
    oracle = read_manifest(labels)
    assert card["oracle"]["fingerprint"] == oracle.fingerprint
    assert card["rates"] == [0.05]
    assert card["input_version"] == INPUT_VERSION
    assert card["training_set"]["train_items"] > card["training_set"]["val_items"] > 0
    assert {"val/loss", "val/hit_at_8", "val/behind"} <= set(card["metrics"])
    assert "normalisation" not in card


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
        ("role: selector\nlabels: x\nonline: 1", "online is 1; give true or false"),
        ("role: selector\nlabels: x\nlambdas: []", "lambdas is []"),
        ("role: selector\nlabels: x\nlambdas: 0.5", "lambdas is 0.5"),
        ("role: selector\nlabels: x\nlambdas: [0.5, 0]", "lambdas is 0"),
        ("role: selector\nlabels: x\ntrain: {items: 0}", "train.items is 0"),
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


def test_packaged_configs_go_by_their_names():
    for role in ROLES:
        assert load_config(role) == load_config(ROOT / f"configs/learn/{role}.yaml")
    with pytest.raises(ConfigError, match="no config 'selecter'; did you mean selector"):
        load_config("selecter")
