"""Models that are handed on: published folders, plugins of other packages, the Hugging Face Hub."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import huggingface_hub
import pytest
import torch
import yaml
from huggingface_hub import constants

import pc15learn.cli
from pc15 import AiHooks, CodecConfig, cli
from pc15.bench.codecs import coders, conventional
from pc15.cli.hooks import hooks_of
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError, HooksError, SchemaError, UnknownNameError
from pc15.hooks.hub import fetch_hooks
from pc15.hooks.roles import ROLES
from pc15.proc.codebook import load_codebook
from pc15.publish import MANIFEST, publish_models, verify_models
from pc15learn.hub import hub_folder, push
from tests.hooks.test_hooks import HIDDEN, write

# ---------------------------------------------------------------- published folders


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of untrained weights of two roles."""
    folder = tmp_path_factory.mktemp("weights")
    for role in ("selector", "rd"):
        write(folder / f"{role}.safetensors", role, ROLES[role].make_net(hidden=HIDDEN).frozen())
    return folder


def test_a_published_folder_is_complete_and_the_same_each_time(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    assert cli.main(["publish-models", str(out), "--weights", str(weights), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert publish_models(again, weights=weights)["files"] == said["files"]
    for name, facts in said["files"].items():
        data = (out / name).read_bytes()
        assert data == (again / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert {"rans/v15_default.json", "rans/v15_trained.json", "codebooks/v15_trained.npz"} <= said["files"].keys()
    assert {"weights/selector.safetensors", "weights/rd.yaml", "residual/v15_default.npz"} <= said["files"].keys()
    for preset in ("fast", "balanced", "oracle"):
        options = yaml.safe_load((out / "configs" / f"{preset}.yaml").read_text())
        options = {name: tuple(value) if isinstance(value, list) else value for name, value in options.items()}
        assert CodecConfig(**options) == CodecConfig.preset(preset)
    assert cli.main(["publish-models", str(out), "--verify"]) == 0
    assert "all as the manifest says" in capsys.readouterr().out


def test_tables_and_codebooks_are_found_in_a_published_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, codebook = load_table("v15_trained"), load_codebook("v15_trained")
    publish_models(tmp_path)
    (tmp_path / "rans" / "elsewhere.json").write_bytes((tmp_path / "rans" / "v15_trained.json").read_bytes())
    monkeypatch.setenv("PC15_MODELS_DIR", str(tmp_path))
    assert load_codebook("v15_trained").fingerprint == codebook.fingerprint
    assert load_table("v15_trained").tables.keys() == table.tables.keys()


def test_a_folder_that_was_changed_is_not_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    publish_models(tmp_path)
    name = tmp_path / "configs" / "fast.yaml"
    whole = name.read_bytes()
    for data, says in ((whole + b"\n", "is not what the manifest says"), (None, "fast.yaml cannot be read")):
        name.unlink() if data is None else name.write_bytes(data)
        assert cli.main(["publish-models", str(tmp_path), "--verify"]) == 1
        assert says in capsys.readouterr().err
    publish_models(tmp_path)
    assert name.read_bytes() == whole, "published again, it is whole again"
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SchemaError, match=r"notes.txt, which the manifest does not list"):
        verify_models(tmp_path)
    with pytest.raises(ConfigError, match=r"notes.txt, which is none of these files"):
        publish_models(tmp_path)
    (tmp_path / MANIFEST).write_text(json.dumps({"files": {"../outside": {}}}))
    with pytest.raises(SchemaError, match="has no manifest.json"):
        verify_models(tmp_path)


def test_weights_without_a_card_are_not_published(tmp_path: Path) -> None:
    (tmp_path / "m1.safetensors").write_bytes(b"")
    with pytest.raises(HooksError, match="has no card m1.yaml"):
        publish_models(tmp_path / "out", weights=tmp_path)


# ---------------------------------------------------------------- plugins

PLUGIN = '''
import numpy as np
from pc15 import HeuristicHooks

class Mine(HeuristicHooks):
    """Four generators per tile."""
    def __init__(self):
        super().__init__(topk=4)

class Halved:
    """A codec that keeps the high half of each sample."""
    settings = (1.0, 2.0)
    def encode(self, plane, setting):
        return np.array(plane.shape, "<u2").tobytes() + (plane >> 4).tobytes()
    def decode(self, data):
        return np.frombuffer(data[4:], np.uint8).reshape(np.frombuffer(data[:4], "<u2")) << 4

broken = object()
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package that offers hooks and codecs."""
    (tmp_path / "plugin_of_a_test.py").write_text(PLUGIN)
    info = tmp_path / "plugin_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[pc15.hooks]\nmine = plugin_of_a_test:Mine\ngone = plugin_of_a_test:Gone\nodd = plugin_of_a_test:broken\n"
        "[pc15.codecs]\nhalved = plugin_of_a_test:Halved\nodd = plugin_of_a_test:broken\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("package")
def test_hooks_of_a_package_are_found_by_name() -> None:
    hooks = hooks_of("mine")
    assert type(hooks).__name__ == "Mine" and hooks is not None and hooks.describe()["name"] == "heuristic"
    for name, says in (
        ("mime", "did you mean mine?"),
        ("gone", "of plugin-of-a-test cannot be loaded from plugin_of_a_test:Gone"),
        ("odd", "the plugin is object, not a class"),
    ):
        with pytest.raises(ConfigError, match=re.escape(says)):
            hooks_of(name)


@pytest.mark.usefixtures("package")
def test_a_codec_of_a_package_is_measured_by_name() -> None:
    (codec,) = conventional(["halved"])
    assert (codec.name, codec.settings) == ("halved", (1.0, 2.0))
    encoded, decoded = coders(codec, 1.0)
    plane = torch.arange(48, dtype=torch.uint8).view(6, 8) * 5
    assert torch.equal(decoded(encoded(plane)), plane >> 4 << 4)
    with pytest.raises(UnknownNameError, match="did you mean halved?"):
        conventional(["halve"])
    with pytest.raises(ConfigError, match="codec 'odd' has no settings, encode, decode"):
        conventional(["odd"])


# ---------------------------------------------------------------- the Hub


@pytest.mark.parametrize("roles", [["selector"], ["selector", "rd"]])
def test_weights_go_to_the_hub_and_come_back(
    roles: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own, out = tmp_path / "own", tmp_path / "hub" / "0123abc"
    own.mkdir()
    for role in roles:
        write(own / f"{role}.safetensors", role, ROLES[role].make_net(hidden=HIDDEN).frozen())
    assert pc15learn.cli.main(["push", "org/name", "--weights", str(own), "--out", str(out), "--dry-run"]) == 0
    assert "nothing was uploaded" in capsys.readouterr().out
    folder = out if len(roles) == 1 else out / "selector"
    assert json.loads((folder / "config.json").read_text())["role"] == "selector"
    assert (folder / "model.safetensors").read_bytes() == (own / "selector.safetensors").read_bytes()
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: pc15") and "--hooks hf:org/name" in card and "| selector |" in card

    asked = []
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, **options: asked.append((name, options)) or str(out)
    )
    hooks = hooks_of("hf:org/name@v2")
    assert isinstance(hooks, AiHooks) and hooks.selector is not None and hooks.selector.ready
    assert (hooks.rd_predictor is not None) == ("rd" in roles)
    assert asked[0][0] == "org/name" and asked[0][1]["revision"] == "v2"
    assert all("safetensors" in name or "config.json" in name for name in asked[0][1]["allow_patterns"])


def test_a_repository_of_the_hub_is_a_folder_of_weights_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC15_CACHE_DIR", str(tmp_path / "cache"))
    own, out = tmp_path / "own", tmp_path / "hub"
    own.mkdir()
    for role in ("selector", "rd"):
        write(own / f"{role}.safetensors", role, ROLES[role].make_net(hidden=HIDDEN).frozen())
    assert pc15learn.cli.main(["push", "org/name", "--weights", str(own), "--out", str(out), "--dry-run"]) == 0
    hooks = hooks_of(str(out))
    assert isinstance(hooks, AiHooks) and hooks.selector is not None and hooks.rd_predictor is not None
    assert hooks.describe() == AiHooks.from_folder(str(own)).describe()  # type: ignore[union-attr]
    (out / "rd" / "model.safetensors").unlink()
    hooks = hooks_of(str(out))
    assert isinstance(hooks, AiHooks) and hooks.rd_predictor is None, "what lay there before is gone"


def test_without_a_network_the_hub_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HooksError, match="hf:org/name is not kept here and the Hub cannot be reached"):
        fetch_hooks("hf:org/name")
    with pytest.raises(ConfigError, match="is not of the form hf:org/name"):
        fetch_hooks("hf:name")
    with pytest.raises(HooksError, match="org/name cannot be written: .*; log in with"):
        push(tmp_path, "org/name", kind="model")


def test_what_is_no_repository_of_ours_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    with pytest.raises(HooksError, match="holds no model.safetensors with a config.json"):
        fetch_hooks("hf:org/name")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    for text, says in (("{", "is no card"), ('{"a": 1}', "is no card"), ('{"role": "cat"}', "role 'cat'")):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(HooksError, match=says):
            fetch_hooks("hf:org/name")
    (tmp_path / "empty").mkdir()
    with pytest.raises(HooksError, match="no .safetensors file"):
        hub_folder(tmp_path / "empty", tmp_path / "out", repo="org/name")
