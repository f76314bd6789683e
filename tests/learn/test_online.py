"""The oracle in the training loop: what it shows a net follows from seed, epoch and batch alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from pc15.errors import ConfigError
from pc15.images import save_image
from pc15learn.sample_data import draw_samples
from pc15learn.tiles import split_of

pytest.importorskip("lightning")
pytest.importorskip("datasets")

from pc15learn import online
from pc15learn.config import FitConfig, TrainConfig
from pc15learn.dataset import LabelData
from pc15learn.export import export_weights
from pc15learn.fit import fit_role
from pc15learn.label_tensors import LabelTensors
from pc15learn.online import Crops, OnlineLabels


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops of 48 px in tiles of 16 px by the regular grid."""
    programs = {"tile": 16, "overlap": 4, "codebook_id": "v15_grid", "max_layers": 2, "beam": 1, "passes": 0}
    monkeypatch.setattr(online, "PROGRAMS", {**online.PROGRAMS, **programs})
    monkeypatch.setattr(online, "_SIDE", 48)
    monkeypatch.setattr(online, "_HELD_BACK", 1)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of both splits."""
    import hashlib

    folder = tmp_path_factory.mktemp("photos")
    wanted = {"train": 2, "val": 1}
    pictures = draw_samples(80)
    for i in range(400):
        path = folder / f"{i}.png"
        picture = pictures[list(pictures)[i % len(pictures)]].clone()
        picture[0, 0, 0] = i % 256
        save_image(path, picture)
        split = split_of(hashlib.sha256(path.read_bytes()).hexdigest())
        if wanted.get(split, 0):
            wanted[split] -= 1
        else:
            path.unlink()
        if not any(wanted.values()):
            break
    return folder


def equal(a: LabelTensors, b: LabelTensors) -> bool:
    return all(torch.equal(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a)[1:]) and all(
        torch.equal(getattr(a.inputs, f.name), getattr(b.inputs, f.name)) for f in dataclasses.fields(a.inputs)
    )


def batches(labels: OnlineLabels, epoch: int = 0, start: int = 0, **options: Any) -> list[LabelTensors]:
    stream: Any = labels.loader(8, 24, **options).dataset
    stream.set_epoch(epoch)
    stream.start_at(start)
    return list(stream)


def test_batches_repeat_by_seed_and_epoch_and_go_on_where_they_stopped(photos: Path) -> None:
    labels = OnlineLabels(photos, (0.5, 0.25), seed=3, device="cpu")
    first, again = batches(labels), batches(OnlineLabels(photos, (0.5, 0.25), seed=3, device="cpu"))
    assert len(first) == 3 and all(len(batch) == 8 for batch in first)
    assert all(equal(a, b) for a, b in zip(first, again, strict=True))
    assert all(equal(a, b) for a, b in zip(batches(labels, start=1), first[1:], strict=True))
    assert not equal(batches(labels, epoch=1)[0], first[0])
    assert not equal(batches(OnlineLabels(photos, (0.5, 0.25), seed=4, device="cpu"))[0], first[0])
    shared = [batches(labels, rank=rank, ranks=2) for rank in (0, 1)]
    assert [len(share) for share in shared] == [3, 3] and len(shared[0][0]) == 4
    assert not equal(shared[0][0], shared[1][0])


def test_a_batch_of_more_rows_than_a_draw_has_is_drawn_in_several(photos: Path) -> None:
    labels = OnlineLabels(photos, (0.5,), seed=3, device="cpu")
    size = 2 * max(len(labels.draw("train", 0, seed, labels.together)) for seed in range(4)) + 1
    first, again = (list(labels.loader(size, size)) for _ in range(2))
    assert [len(batch) for batch in first] == [size] and equal(first[0], again[0])


def test_rows_are_what_the_oracle_found(photos: Path) -> None:
    labels = OnlineLabels(photos, (4.0, 0.25), seed=3, device="cpu")
    dear, cheap = (labels.draw("train", rate, 5, 1) for rate in (0, 1))
    for rows in (dear, cheap):
        assert (rows.gain[rows.pays] > 0).all() and not rows.gain[~rows.pays].any()
        assert not rows.behind[rows.pays].amin(dim=1).any()
        assert torch.equal(rows.inputs.numbers[:, 6] == 64, rows.inputs.numbers[:, 5] == 0)  # of layer 0
    assert cheap.pays.any() and cheap.pays.float().mean() > dear.pays.float().mean()
    assert cheap.inputs.price.median() < dear.inputs.price.median()
    held = labels.validation()
    assert equal(held, labels.validation()) and held.pays.device.type == "cpu"


def test_crops_are_turned_and_mirrored_squares_of_all_pictures(photos: Path) -> None:
    pictures = [torch.full((20, 30), 7, dtype=torch.uint8), torch.arange(16 * 16).view(16, 16).to(torch.uint8)]
    crops = Crops(pictures, 16, torch.device("cpu")).draw(90, 1)
    assert crops.shape == (90, 16, 16)
    flat = (crops == 7).all(dim=(1, 2))
    assert 20 < int(flat.sum()) < 70
    square = pictures[1]
    ways = [way.rot90(k) for way in (square, square.t()) for k in range(4)]
    seen = [[torch.equal(crop, way) for way in ways] for crop in crops[~flat]]
    assert all(any(one) for one in seen)
    assert sum(any(one[k] for one in seen) for k in range(8)) >= 4
    assert torch.equal(Crops(pictures, 16, torch.device("cpu")).draw(90, 1), crops)
    assert OnlineLabels(photos, (0.5,), device="cpu").pictures == 3


def test_a_fit_by_an_oracle_resumes_to_the_same_weights_and_exports(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pc15learn.roles.rd import RdModule

    def cfg(name: str) -> FitConfig:
        train = TrainConfig(hidden=8, batch_size=8, items=24, max_epochs=2)
        return FitConfig(role="rd", labels=photos, online=True, lambdas=(0.5,), out=tmp_path, name=name, device="cpu",
                         train=train, save_minutes=0.0)  # fmt: skip

    whole = export_weights(fit_role(cfg("net")).checkpoint, tmp_path / "a")
    before = RdModule.training_step

    def stopped(self: Any, *given: Any) -> Any:
        if self.global_step == 4:
            raise RuntimeError("stopped")
        return before(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(RdModule, "training_step", stopped)
        (tmp_path / "b").mkdir()
        with pytest.raises(RuntimeError, match="stopped"):
            fit_role(dataclasses.replace(cfg("net"), out=tmp_path / "b"))
    resumed = fit_role(dataclasses.replace(cfg("net"), out=tmp_path / "b"), resume=True)
    again = export_weights(resumed.checkpoint, tmp_path / "c")
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    assert again.card.read_bytes() == whole.card.read_bytes()


def test_photographs_that_do_not_do_are_named(tmp_path: Path) -> None:
    save_image(tmp_path / "small.png", torch.zeros((1, 8, 8), dtype=torch.uint8))
    with pytest.raises(ConfigError, match="no picture of 48 px or more for the train split"):
        LabelData(tmp_path, online=True, device="cpu")
    with pytest.raises(ConfigError, match="no rate to search at"):
        OnlineLabels(tmp_path, (), device="cpu")
