"""A fit can be stopped, killed, resumed and shared out, and ends as if nothing had happened; or it says why not."""

from __future__ import annotations

import errno
import itertools
import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pc15.config import CodecConfig
from pc15.errors import ConfigError, HooksError, MissingExtraError, Pc15Error, SchemaError
from pc15.hooks.roles import RdPredictor
from pc15.images import save_image
from pc15learn import cli
from pc15learn.config import FitConfig, TrainConfig, load_config, parse_settings
from pc15learn.fit import FitStopped, fit_role
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.schema import read_rows
from pc15learn.tiles import make_tiles
from tests.fake_oracle import FakeOracle

pytest.importorskip("lightning")
pytest.importorskip("datasets")

from pc15learn.bench import BenchResult
from pc15learn.dataset import EpochSampler, LabelData, RankBatches
from pc15learn.export import export_weights
from pc15learn.fit import ranks
from pc15learn.fit.checkpoints import read_checkpoint
from pc15learn.fit.stopping import StopSignals
from pc15learn.roles import TRAINING
from pc15learn.roles.selector import SelectorModule
from pc15learn.tracking import track_bench


def label(folder: Path, pictures: int, seed: int) -> Path:
    """Labels of noisy pictures that are dark to the left, by a labeller that looks at the mean alone."""
    (folder / "in").mkdir(parents=True)
    generator = torch.Generator().manual_seed(seed)
    for i in range(pictures):
        picture = torch.randint(0, 70, (1, 54, 54), dtype=torch.uint8, generator=generator)
        picture[:, :, 27:] += 150
        save_image(folder / "in" / f"p{i}.png", picture)
    make_tiles(folder / "in", folder / "tiles.jsonl", tile=16, overlap=4, val_percent=30, test_percent=0)
    cfg = CodecConfig.preset("fast", lambda_rd=0.05, codebook_id="v15_grid")
    options = LabelOptions(cfg=cfg, shard_size=100, top=4, random=4, device="cpu")
    search = FakeOracle(options.search(list(read_rows(folder / "tiles.jsonl"))), 4, 4)
    make_labels(folder / "tiles.jsonl", folder / "labels", options, search=search)
    return folder / "labels"


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return label(tmp_path_factory.mktemp("fit"), 6, 3)


def config(labels: Path, out: Path, role: str = "selector", **changes: Any) -> FitConfig:
    names = {"hidden": 8, "lr": 3e-3, "batch_size": 50, "max_epochs": 4}
    own = {name: changes.pop(name) for name in list(changes) if name in TrainConfig.__dataclass_fields__}
    return FitConfig(role=role, labels=labels, out=out, device="cpu", train=TrainConfig(**{**names, **own}), **changes)


def weights(checkpoint: Path, folder: Path) -> tuple[bytes, bytes]:
    made = export_weights(checkpoint, folder)
    return made.weights.read_bytes(), made.card.read_bytes()


def progress(checkpoint: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_checkpoint(checkpoint)["pc15_run"]["progress"]
    return found


def at_step(monkeypatch: pytest.MonkeyPatch, role: str, what: Callable[[], None], step: int, place: str) -> None:
    """Do something once in a role's training_step or validation_step, when so many steps are done."""
    kind, done = TRAINING[role], []
    before = getattr(kind, place)

    def hooked(self: Any, *arguments: Any) -> Any:
        if self.global_step == step and not done:
            done.append(True)
            what()
        return before(self, *arguments)

    monkeypatch.setattr(kind, place, hooked)


def send(signum: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), signum)


def die() -> None:
    raise RuntimeError("killed")


# ---------------------------------------------------------------- stopped and resumed


@pytest.mark.parametrize(
    ("role", "signum", "step", "place", "done"),
    [
        ("selector", signal.SIGTERM, 1, "training_step", (0, 2)),
        ("selector", signal.SIGINT, 7, "training_step", (1, 0)),
        ("selector", signal.SIGTERM, 16, "validation_step", (2, 0)),
        ("rd", signal.SIGTERM, 0, "training_step", (0, 1)),
    ],
)
def test_a_signal_saves_and_the_resumed_fit_ends_like_one_in_one_go(
    role: str, signum: int, step: int, place: str, done: tuple[int, int], labels: Path, tmp_path: Path
) -> None:
    size = {"batch_size": 200, "max_epochs": 2} if role == "rd" else {"batch_size": 50}
    whole = fit_role(config(labels, tmp_path / "whole", role, **size))
    cfg = config(labels, tmp_path / "stopped", role, **size)
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, role, send(signum), step, place)
        with pytest.raises(FitStopped, match="last.ckpt holds .* the same command with --resume") as stopped:
            fit_role(cfg)
    assert (stopped.value.signum, stopped.value.exit_code) == (signum, 128 + signum)
    stood = progress(cfg.folder / "last.ckpt")
    assert (stood["epochs"], stood["batch"]) == done
    resumed = fit_role(cfg, resume=True)
    assert weights(resumed.checkpoint, tmp_path / "a") == weights(whole.checkpoint, tmp_path / "b")
    assert resumed.best is not None and whole.best is not None
    assert weights(resumed.best, tmp_path / "a") == weights(whole.best, tmp_path / "b")
    assert resumed.metrics == whole.metrics


def test_a_fit_that_is_killed_has_the_epoch_or_the_minutes_before(labels: Path, tmp_path: Path) -> None:
    whole = weights(fit_role(config(labels, tmp_path / "whole")).checkpoint, tmp_path)
    for minutes, done in ((10.0, (2, 0)), (0.0, (2, 3))):
        cfg = config(labels, tmp_path / str(minutes), save_minutes=minutes)
        with pytest.MonkeyPatch.context() as patch:
            at_step(patch, "selector", die, 19, "training_step")
            with pytest.raises(RuntimeError, match="killed"):
                fit_role(cfg)
        stood = progress(cfg.folder / "last.ckpt")
        assert (stood["epochs"], stood["batch"]) == done
        assert weights(fit_role(cfg, resume=True).checkpoint, tmp_path) == whole


def test_a_second_signal_does_not_wait(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def twice() -> None:
        send(signal.SIGINT)()
        send(signal.SIGINT)()
        raise AssertionError("it went on")

    at_step(monkeypatch, "selector", twice, 10, "training_step")
    with pytest.raises(FitStopped, match="holds 1 of 4 epochs, 8 steps"):
        fit_role(config(labels, tmp_path))


def test_two_fits_do_not_write_to_one_folder(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fcntl")
    cfg = config(labels, tmp_path, max_epochs=1)
    refused: list[str] = []

    def again() -> None:
        with pytest.raises(ConfigError, match="another fit is writing to .*selector; .*--name") as caught:
            fit_role(cfg, overwrite=True)
        refused.append(str(caught.value))

    at_step(monkeypatch, "selector", again, 3, "training_step")
    fit_role(cfg)
    assert len(refused) == 1
    fit_role(cfg, overwrite=True)


def test_signals_are_as_before_once_a_fit_has_ended(labels: Path, tmp_path: Path) -> None:
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    fit_role(config(labels, tmp_path, max_epochs=1))
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def test_the_command_says_what_is_kept_and_where_it_goes_on(
    labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    given = command(labels, tmp_path, "train.max_epochs=3")
    for signum in (signal.SIGTERM, signal.SIGINT):
        with pytest.MonkeyPatch.context() as patch:
            at_step(patch, "selector", send(signum), 9 if signum == signal.SIGTERM else 12, "training_step")
            assert cli.main([*given, "--resume"]) == 128 + signum
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"pc15learn: error: stopped by {signal.Signals(signum).name}; {tmp_path / 'ck'}")
    assert "no " in caplog.text and "this fit begins at the beginning" in caplog.text
    assert "going on from" in caplog.text and "1 of 3 epochs and batch 2 of the next, 10 steps" in caplog.text
    assert cli.main([*given, "--resume"]) == 0
    assert cli.main([*given, "--resume"]) == 0
    assert "nothing left to do: all 3 epochs are done; raise train.max_epochs" in caplog.text
    assert "val/loss" in capsys.readouterr().out


def command(labels: Path, folder: Path, *settings: str) -> list[str]:
    """A fit of M1 from a config of its own."""
    (folder / "c.yaml").write_text("role: selector\nlabels: x\ntrain: {hidden: 8, batch_size: 50, max_epochs: 4}\n")
    own = ["--labels", str(labels), "--out", str(folder / "ck"), "--device", "cpu"]
    return ["fit", "--config", str(folder / "c.yaml"), *own, *(["--set", *settings] if settings else [])]


# ---------------------------------------------------------------- longer, shorter, early


def rates(cfg: FitConfig, monkeypatch: pytest.MonkeyPatch, **options: Any) -> list[float]:
    """The learning rate of every step of a fit."""
    found: list[float] = []
    before = SelectorModule.training_step

    def noted(self: Any, *arguments: Any) -> Any:
        found.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return before(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(SelectorModule, "training_step", noted)
        fit_role(cfg, **options)
    return found


def test_the_learning_rate_of_a_longer_fit_does_not_climb(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = rates(config(labels, tmp_path, max_epochs=2), monkeypatch)
    second = rates(config(labels, tmp_path, max_epochs=6), monkeypatch, resume=True)
    assert len(first) == 16 and len(second) == 32
    assert max(second) <= first[-1]
    assert second[-1] == pytest.approx(0.02 * 3e-3, rel=0.1)


def test_a_fit_that_is_stopped_and_made_longer_meets_the_longer_schedule(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = rates(config(labels, tmp_path / "long", max_epochs=6), monkeypatch)
    cfg = config(labels, tmp_path / "grown")
    with monkeypatch.context() as patch:
        at_step(patch, "selector", send(signal.SIGTERM), 15, "training_step")
        with pytest.raises(FitStopped):
            fit_role(cfg)
    grown = rates(config(labels, tmp_path / "grown", max_epochs=6), monkeypatch, resume=True)
    assert len(grown) == 32
    assert all(b <= a for a, b in itertools.pairwise(grown))
    assert grown[0] == grown[4] < long[16 + 4]  # kept until the longer one is below it
    assert grown[-8:] == pytest.approx(long[-8:])


def test_best_is_the_least_loss_and_patience_ends_a_fit(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    before = SelectorModule.add_to_mean
    losses = iter([5.0, 3.0, 4.0, 4.0, 4.0, 4.0, 4.0])
    current: list[float] = []

    def made_up(self: Any, name: str, values: torch.Tensor, weight: torch.Tensor | None = None) -> None:
        if name == "val/cells":  # val/loss is the sum of these two
            if not self._sums:
                current[:] = [next(losses)]
            values = torch.full_like(values, current[0])
        elif name == "val/pays_loss":
            values = torch.zeros_like(values)
        before(self, name, values, weight)

    monkeypatch.setattr(SelectorModule, "add_to_mean", made_up)
    fitted = fit_role(config(labels, tmp_path, max_epochs=9, patience=2))
    assert fitted.best is not None
    assert progress(fitted.checkpoint)["epochs"] == 4
    best = read_checkpoint(fitted.best)
    assert (best["pc15"]["metrics"]["val/loss"], best["global_step"]) == (3.0, 16)
    assert progress(fitted.best) | {"step": 0} == progress(fitted.checkpoint) | {"step": 0, "epochs": 2}
    again = fit_role(config(labels, tmp_path, max_epochs=9, patience=2), resume=True)
    assert again.metrics["val/loss"] == 4.0
    assert "no better for 2 epochs; raise train.patience" in caplog.text
    more = fit_role(config(labels, tmp_path, max_epochs=9, patience=5), resume=True)
    assert progress(more.checkpoint)["epochs"] == 7
    assert read_checkpoint(fitted.best)["global_step"] == 16


# ---------------------------------------------------------------- refused


@pytest.fixture(scope="module")
def fitted(labels: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The out folder of a fit of M1."""
    out = tmp_path_factory.mktemp("fitted")
    fit_role(config(labels, out, max_epochs=1, name="net"))
    return out


@pytest.mark.parametrize(
    ("changes", "resume", "says"),
    [
        ({}, False, "last.ckpt is there, .*--resume goes on from it, --overwrite begins again, --name"),
        ({"hidden": 9}, True, "train.hidden is 9, but .*last.ckpt was begun with 8; put it back, or .*--name"),
        ({"lr": 1e-4}, True, "train.lr is 0.0001, but .* 0.003"),
        ({"seed": 5}, True, "train.seed is 5, but .* 1234"),
        ({"role": "rd"}, True, "last.ckpt is of role 'selector', not 'rd'"),
    ],
)
def test_another_fit_does_not_take_a_checkpoint(
    changes: dict[str, Any], resume: bool, says: str, labels: Path, fitted: Path
) -> None:
    before = (fitted / "net" / "last.ckpt").read_bytes()
    with pytest.raises(ConfigError, match=says) as caught:
        fit_role(config(labels, fitted, **{"max_epochs": 2, "name": "net", **changes}), resume=resume)
    assert "\n" not in str(caught.value)
    assert (fitted / "net" / "last.ckpt").read_bytes() == before


def test_other_labels_do_not_go_on(fitted: Path, tmp_path: Path) -> None:
    other = label(tmp_path / "other", 3, 4)
    with pytest.raises(ConfigError, match="holds other labels than .*last.ckpt was begun with"):
        fit_role(config(other, fitted, max_epochs=2, name="net"), resume=True)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "flipped", "other", "first validation"])
def test_a_damaged_checkpoint_is_refused_in_one_line(damage: str, labels: Path, fitted: Path, tmp_path: Path) -> None:
    data = bytearray((fitted / "net" / "last.ckpt").read_bytes())
    path = tmp_path / "net" / "last.ckpt"
    path.parent.mkdir()
    for at in range(100, len(data), len(data) // 7) if damage == "flipped" else ():
        data[at] ^= 255
    path.write_bytes({"cut": data[:2000], "empty": b"", "text": b"hello"}.get(damage, bytes(data)))
    if damage == "other":
        torch.save({"state_dict": {}}, path)
    if damage == "first validation":
        stored = read_checkpoint(path)
        del stored["pc15_run"]
        torch.save(stored, path)
    with pytest.raises(HooksError, match="last.ckpt") as caught:
        fit_role(config(labels, tmp_path, max_epochs=2, name="net"), resume=True)
    assert "\n" not in str(caught.value)


def test_overwriting_is_said_and_leaves_no_best_of_before(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = config(labels, tmp_path, max_epochs=1)
    fit_role(cfg)
    with pytest.raises(ConfigError, match="give one of them"):
        fit_role(cfg, resume=True, overwrite=True)
    at_step(monkeypatch, "selector", send(signal.SIGTERM), 2, "training_step")
    with pytest.raises(FitStopped):
        fit_role(cfg, overwrite=True)
    assert [path.name for path in sorted(cfg.folder.iterdir())] == ["last.ckpt"]
    assert progress(cfg.folder / "last.ckpt")["step"] == 3


def test_weights_of_before_the_first_validation_can_be_exported(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_step(monkeypatch, "rd", send(signal.SIGTERM), 2, "training_step")
    with pytest.raises(FitStopped):
        fit_role(config(labels, tmp_path, "rd"))
    made = export_weights(tmp_path / "rd" / "last.ckpt", tmp_path / "weights")
    assert RdPredictor(made.weights, strict=True).ready


def test_a_role_may_need_facts_that_only_a_validation_finds(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RdPredictor, "card_extra", ("calibration",))
    monkeypatch.setattr(
        RdPredictor, "card_problem", classmethod(lambda _, card: None if "calibration" in card else "no calibration")
    )
    at_step(monkeypatch, "rd", send(signal.SIGTERM), 2, "training_step")
    with pytest.raises(FitStopped):
        fit_role(config(labels, tmp_path, "rd"))
    with pytest.raises(HooksError, match="before the first validation .*calibration.*--resume until an epoch ends"):
        export_weights(tmp_path / "rd" / "last.ckpt", tmp_path / "weights")


def test_a_full_disk_leaves_the_checkpoint_before(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = command(labels, tmp_path)
    assert cli.main([*given, "--max-epochs", "1"]) == 0
    old = {path: path.read_bytes() for path in (tmp_path / "ck" / "selector").iterdir()}

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pc15.paths.os.fsync", full)
        assert cli.main([*given, "--resume"]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device; the checkpoint before is as it was, go on from it with --resume" in error
    assert {path: path.read_bytes() for path in (tmp_path / "ck" / "selector").iterdir()} == old
    assert cli.main([*given, "--resume"]) == 0


def test_a_fit_that_diverges_says_so_and_keeps_the_net_before(labels: Path, tmp_path: Path) -> None:
    cfg = config(labels, tmp_path)

    def spoil(name: str) -> Callable[[Any, Any, Any], None]:
        def spoilt(self: Any, *_: Any) -> None:
            if self.current_epoch == 2 and name == "weights":
                next(self.parameters()).data.fill_(math.nan)

        return spoilt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SelectorModule, "on_train_batch_start", spoil("weights"))
        with pytest.raises(ConfigError, match=r"diverged in epoch 3: val/loss is nan; .*0.003; .*last.ckpt"):
            fit_role(cfg)
        assert progress(cfg.folder / "last.ckpt")["epochs"] == 2
        hasty = config(labels, tmp_path, save_minutes=0.0)
        with pytest.raises(ConfigError, match="diverged in epoch 3: weights are not finite"):
            fit_role(hasty, resume=True)
    assert math.isfinite(fit_role(cfg, resume=True).metrics["val/loss"])


@pytest.mark.parametrize("name", ["gain", "bits", "behind"])
def test_labels_that_are_not_finite_are_named(
    name: str, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = LabelData.setup

    def spoilt(self: LabelData, stage: str | None = None) -> None:
        before(self, stage)
        getattr(self.held_back, name).view(-1)[0] = math.inf

    monkeypatch.setattr(LabelData, "setup", spoilt)
    with pytest.raises(SchemaError, match=f"'{name}' is made of is not finite"):
        fit_role(config(labels, tmp_path, "rd"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--device", "cuda"], "torch finds no CUDA"),
        (["--precision", "16"], "precision 16 needs a GPU"),
        (["--num-nodes", "2"], "needs MASTER_ADDR, MASTER_PORT, NODE_RANK"),
        (["--set", "train.lr"], "give KEY=VALUE"),
        (["--set", "lr=1"], "unknown key lr; did you mean train.lr?"),
        (["--set", "train.device=cpu"], "unknown key train.device; did you mean device?"),
        (["--set", "train.hiden=4"], "did you mean train.hidden?"),
        (["--set", "zz=4"], "unknown key zz; keys: role, labels,"),
        (["--set", "train.lr=fast"], "train.lr is 'fast'; give a number from"),
        (["--set", "train.lr="], "train.lr gets no value"),
        (["--set", "name={"], "the value is not YAML"),
        (["--set", "name=7"], "name is 7; give text"),
        (["--set", "labels=[1]"], "labels is [1]; give text"),
        (["--name", "../up"], "name is '../up'; give the name of a folder in"),
        (["--set", "train.patience=-1"], "train.patience is -1"),
        (["--set", "precision=64"], "precision is 64; choose one of 32, bf16, 16"),
    ],
)
def test_a_wrong_option_is_one_line_and_code_2(
    options: list[str], says: str, labels: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "cuda" in options and torch.cuda.is_available():
        pytest.skip("there is CUDA")
    assert cli.main([*command(labels, tmp_path), *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("pc15learn: error: ") and error.count("\n") == 1
    assert says in error


def test_settings_count_more_than_options_and_reach_any_key(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("role: rd\nlabels: x\ntrain: {lr: 1e-4, hidden: 3}\n")
    assert load_config(tmp_path / "c.yaml").train.lr == 1e-4  # YAML takes 1e-4 for text
    cfg = load_config(
        tmp_path / "c.yaml", **parse_settings(["train.lr=1e-3", "precision=16", "name='7'", "train.lr=2e-3"])
    )
    assert (cfg.train.lr, cfg.train.hidden, cfg.precision, cfg.name) == (2e-3, 3, "16", "7")
    assert FitConfig(**{**cfg.as_dict(), "train": TrainConfig(**cfg.as_dict()["train"])}) == cfg


def test_mixed_precision_fits(labels: Path, tmp_path: Path) -> None:
    for role in ("selector", "rd"):
        plain = fit_role(config(labels, tmp_path, role, max_epochs=1, batch_size=500))
        mixed = fit_role(
            config(labels, tmp_path, role, max_epochs=1, batch_size=500, name="b", precision="bf16"), overwrite=True
        )
        assert mixed.metrics["val/loss"] == pytest.approx(plain.metrics["val/loss"], rel=0.05)
        assert mixed.metrics != plain.metrics


# ---------------------------------------------------------------- several processes


@pytest.mark.parametrize(("count", "size", "ranks"), [(50, 8, 3), (49, 8, 4), (7, 8, 2), (33, 8, 2), (34, 16, 3)])
def test_ranks_share_the_batches_of_one_process(count: int, size: int, ranks: int) -> None:
    sampler = EpochSampler(count, 7)
    sampler.set_epoch(3)
    shares = [list(RankBatches(sampler, size, rank=rank, ranks=ranks)) for rank in range(ranks)]
    assert {len(share) for share in shares} == {len(RankBatches(sampler, size, ranks=ranks))}
    together = [[i for share in step for i in share] for step in zip(*shares, strict=True)]
    assert sorted(i for batch in together for i in batch) == list(range(count))
    assert min(len(batch) for share in shares for batch in share) > 0
    alone = list(RankBatches(sampler, size))
    assert [sorted(batch) for batch in together[:-1]] == [sorted(batch) for batch in alone[: len(together) - 1]]
    assert all(max(map(len, step)) - min(map(len, step)) <= 1 for step in zip(*shares, strict=True))


def test_a_pass_can_begin_in_its_middle_and_the_next_is_whole() -> None:
    batches = RankBatches(EpochSampler(20, 7), 6)
    whole = list(batches)
    batches.start_at(2)
    assert list(batches) == whole[2:]
    assert list(batches) == whole
    with pytest.raises(ConfigError, match="3 processes cannot share batches of 2 of 20 items"):
        RankBatches(EpochSampler(20, 7), 2, ranks=3)


def test_two_processes_fit_what_one_does(labels: Path, tmp_path: Path) -> None:
    options = {"batch_size": 301, "max_epochs": 2, "hidden": 8}
    one = fit_role(config(labels, tmp_path / "one", "rd", **options))
    two = fit_role(config(labels, tmp_path / "two", "rd", devices=2, **options))
    assert two.metrics.keys() == one.metrics.keys() == {"val/loss", "val/hit_at_8", "val/behind"}
    for name, value in one.metrics.items():
        assert two.metrics[name] == pytest.approx(value, rel=0.01)
    assert two.best is not None and two.best.exists()
    assert progress(two.checkpoint)["step"] == progress(one.checkpoint)["step"]


def worker(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str) -> None:
    """Let ranks run this instead of a fit."""
    (folder / "some_rank.py").write_text(f"import json, os, pathlib, signal, sys, time\n{source}")
    monkeypatch.setattr(ranks, "_WORKER", "some_rank")
    monkeypatch.setattr(ranks, "_GRACE_S", 0.2)
    monkeypatch.setenv("PYTHONPATH", str(folder))


TELL = (
    "\ndef tell(**told):\n    (pathlib.Path(sys.argv[1]) / f'told-{sys.argv[2]}.json').write_text(json.dumps(told))\n"
)


@pytest.mark.parametrize(
    ("source", "error", "says"),
    [
        (
            "if sys.argv[2] == '1': os.kill(os.getpid(), 9)\ntime.sleep(60)",
            Pc15Error,
            "rank 1 of .*2 ended by SIGKILL; .*--resume",
        ),
        ("if sys.argv[2] == '1': sys.exit('no memory')\ntime.sleep(60)", Pc15Error, "rank 1 .* with code 1: no memory"),
        (
            TELL + "tell(error='train is empty', type='SchemaError', at=int(sys.argv[2]))\nsys.exit(1)",
            SchemaError,
            "train is empty",
        ),
        (TELL + "tell(error='disk full', errno=28, type='OSError', at=1)\nsys.exit(1)", OSError, "disk full"),
    ],
)
def test_a_rank_that_fails_ends_the_others_and_is_named(
    source: str, error: type[Exception], says: str, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker(monkeypatch, tmp_path, source)
    with pytest.raises(error, match=says) as caught:
        ranks.run_ranks(config(labels, tmp_path, devices=2), StopSignals(), resume=False)
    assert type(caught.value) is error


def test_a_signal_reaches_every_rank_once(labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = (
        f"{TELL}seen = []\nsignal.signal(15, lambda *_: seen.append(1))\n"
        "if sys.argv[2] == '1': os.kill(os.getppid(), 15)\n"
        "while not seen: time.sleep(0.01)\n"
        "time.sleep(0.2)\ntell(stopped=f'{len(seen)} kept', signum=15, at=1)\nsys.exit(143)"
    )
    worker(monkeypatch, tmp_path, source)
    with StopSignals() as stop, pytest.raises(FitStopped, match="stopped by SIGTERM; 1 kept") as caught:
        ranks.run_ranks(config(labels, tmp_path, devices=2), stop, resume=False)
    assert caught.value.exit_code == 143


def test_processes_that_torchrun_started_have_to_be_as_many_as_devices(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="started 4 processes, but --devices 2 and --num-nodes 1 make 2"):
        fit_role(config(labels, tmp_path, devices=2))


# ---------------------------------------------------------------- loggers


def test_metrics_go_to_csv(labels: Path, tmp_path: Path) -> None:
    fit_role(config(labels, tmp_path, max_epochs=2, logger="csv"))
    (written,) = (tmp_path / "selector" / "csv").glob("*/metrics.csv")
    header, *rows = written.read_text().splitlines()
    assert {"epoch", "step", "val/loss", "train/loss"} <= set(header.split(","))
    assert len(rows) >= 2


def test_a_logger_that_is_missing_has_its_install_line(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning.pytorch.loggers as loggers

    def missing(*_: Any, **__: Any) -> None:
        raise ModuleNotFoundError("tensorboard")

    monkeypatch.setattr(loggers, "TensorBoardLogger", missing)
    for name in ("tensorboard", "wandb"):
        monkeypatch.setitem(__import__("sys").modules, "wandb", None)
        with pytest.raises(MissingExtraError, match=rf"{name}; install it with: pip install 'pc15\[track\]'"):
            fit_role(config(labels, tmp_path, logger=name))


@pytest.fixture
def wandb_disabled(monkeypatch: pytest.MonkeyPatch) -> Any:
    """wandb, told by the user's environment to do nothing."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    for name in ("WANDB_PROJECT", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    return wandb


def test_wandb_obeys_its_environment_and_gets_config_tables_and_weights(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb_disabled: Any
) -> None:
    asked: list[dict[str, Any]] = []
    logged: list[Any] = []
    begin = wandb_disabled.init

    def init(**options: Any) -> Any:
        asked.append(options)
        run = begin(**options)
        for name in ("log_artifact", "log"):
            monkeypatch.setattr(run, name, lambda what, *_, **__: logged.append(what), raising=False)
        return run

    monkeypatch.setattr(wandb_disabled, "init", init)
    monkeypatch.setattr(SelectorModule, "tables", lambda _: {"made_up": (["name", "count"], [["a", 1]])})
    fitted = fit_role(config(labels, tmp_path, max_epochs=1, logger="wandb"))
    monkeypatch.setenv("WANDB_PROJECT", "mine")
    fit_role(config(labels, tmp_path, "rd", max_epochs=1, batch_size=500, logger="wandb"))
    assert [(one["project"], one["name"], one.get("mode")) for one in asked] == [
        ("pc15", "selector", None),
        ("mine", "rd", None),
    ]
    assert not list(tmp_path.glob("*/wandb"))  # a run that is disabled writes nothing
    artifacts = [one for one in logged if isinstance(one, wandb_disabled.Artifact)]
    assert [(one.name, sorted(one.manifest.entries)) for one in artifacts] == [
        ("pc15-selector", ["selector.safetensors", "selector.yaml"]),
        ("pc15-rd", ["rd.safetensors", "rd.yaml"]),
    ]
    tables = {name: table for one in logged if isinstance(one, dict) for name, table in one.items() if "/" not in name}
    assert tables["made_up"].data == [["a", 1]]
    assert read_checkpoint(fitted.checkpoint)["pc15_run"]["progress"]["tracked"] is not None


def test_wandb_that_refuses_is_one_line(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb_disabled: Any
) -> None:
    def refuse(**_: Any) -> None:
        raise wandb_disabled.errors.UsageError("No API key configured.\nUse wandb login")

    monkeypatch.setattr(wandb_disabled, "init", refuse)
    with pytest.raises(ConfigError, match="wandb: No API key configured; run wandb login, set WANDB_MODE=offline"):
        fit_role(config(labels, tmp_path, logger="wandb"))


def test_a_benchmark_goes_to_wandb_with_its_curves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wandb_disabled: Any
) -> None:
    logged: list[Any] = []
    begin = wandb_disabled.init

    def init(**options: Any) -> Any:
        run = begin(**options)
        for name in ("log_artifact", "log"):
            monkeypatch.setattr(run, name, logged.append, raising=False)
        return run

    monkeypatch.setattr(wandb_disabled, "init", init)
    for name in ("bench.csv", "bench.html", "M1.json"):
        (tmp_path / name).write_text("x")
    table = [
        {"method": method, "bpp": bpp, "psnr": 30.0 + bpp, "ssim": 0.9}
        for method in ("exhaustive", "M1")
        for bpp in (1, 2)
    ]
    track_bench(BenchResult([], table, [], tmp_path / "bench.csv", tmp_path / "bench.html", [tmp_path / "M1.json"]))
    told, artifact = logged
    assert set(told) == {"means", "curve/psnr", "curve/ssim"}
    assert len(told["means"].data) == 4
    assert sorted(artifact.manifest.entries) == ["M1.json", "bench.csv", "bench.html"]
