"""The guides in docs/ do what they say: their code is run as it stands."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml

from pc15 import AiHooks, CodecConfig, decode_y, encode_y
from pc15.bitstream.container import read_container
from pc15.bitstream.read import read_programs
from pc15.cli import main
from pc15.hooks.roles import ROLES
from pc15.images import save_image
from pc15.proc.generators import NAMES
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.sample_data import draw_samples
from pc15learn.schema import read_rows
from pc15learn.tiles import make_tiles
from tests.fake_oracle import FakeOracle

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = CodecConfig.preset("fast", tile=16, overlap=4, residual=False, lambda_rd=0.05, codebook_id="v15_grid")


def blocks(guide: str, language: str) -> list[str]:
    """The fenced blocks of a guide, in order."""
    text = (ROOT / "docs" / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def texture() -> torch.Tensor:
    """Stripes beside a ramp, 48 px, 8-bit values."""
    x = torch.arange(48)
    rows = torch.where(x < 24, 128 + 100 * (x // 2 % 2), 60 + 2 * x)
    return rows.expand(1, 1, 48, 48).float() / 255.0


def generators_used(encoded: Any) -> set[str]:
    return {NAMES[layer.gen] for tile in encoded["tile_map"] for layer in tile.layers}


def hooks_named(stream: bytes) -> Any:
    """What a stream says about its hooks."""
    metadata = read_container(stream).metadata
    return None if metadata is None else metadata["ai"]


@pytest.fixture
def my_hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the guide's module in it, which is the current one."""
    code = blocks("adding-a-hook.md", "python")[0]
    (tmp_path / code.splitlines()[0].removeprefix("# ")).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_hooks", raising=False)
    return tmp_path


def test_the_guides_hook_narrows_an_encode(my_hooks: Path) -> None:
    sys.path.append(str(my_hooks))
    smooth = 0.2 + 0.5 * torch.sin(torch.linspace(0.0, 1.5, 48)).expand(1, 1, 48, 48)
    space: dict[str, Any] = {"y": smooth}
    exec(blocks("adding-a-hook.md", "python")[1], space)
    allowed = {"GRADIENT_LINEAR", "GRADIENT_RADIAL", "BLOB", "EDGE"}
    narrowed = generators_used(encode_y(smooth, PROGRAMS.but(ai=space["SmoothHooks"]())))
    assert narrowed and narrowed <= allowed
    assert not generators_used(encode_y(smooth, PROGRAMS)) <= allowed
    assert hooks_named(space["enc"]["bitstream"]) == {"name": "smooth", "version": "1"}


def test_the_guides_hook_of_photographs_narrows_an_encode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code = blocks("adding-a-hook.md", "python")[2]
    (tmp_path / code.splitlines()[0].removeprefix("# ")).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    save_image("a.png", (texture()[0] * 255).round().to(torch.uint8))
    command = ["encode", "a.png", "-o", "a.pc15", "--preset", "fast", "--hooks", "flat_hooks:FlatHooks"]
    assert main(command) == 0
    assert hooks_named(Path("a.pc15").read_bytes()) == {"name": "flat"}


def test_the_command_line_takes_the_guides_hook(my_hooks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_image("a.png", (texture()[0] * 255).round().to(torch.uint8))
    command = ["encode", "a.png", "-o", "a.pc15", "--preset", "fast", "--tile", "16", "--overlap", "4", "--hooks"]
    assert main([*command, "my_hooks:SmoothHooks"]) == 0
    assert hooks_named(Path("a.pc15").read_bytes()) == {"name": "smooth", "version": "1"}
    (my_hooks / "broken.py").write_text("import no_such_module\n")
    (my_hooks / "half.py").write_text("class Half:\n    def selects(self, view): ...\n    def describe(self): ...\n")
    (my_hooks / "needy.py").write_text(
        "from my_hooks import SmoothHooks\nclass Needy(SmoothHooks):\n    def __init__(self, k): ...\nlater = 3\n"
    )
    capsys.readouterr()
    for spec, says in [
        ("my_hooks:SmothHooks", "has no class 'SmothHooks'; did you mean SmoothHooks?"),
        ("my_hook:SmoothHooks", "there is no module 'my_hook'; did you mean my_hooks?"),
        ("pc15.hooks.heuristics:HeuristicHooks", "did you mean pc15.hooks.heuristic?"),
        ("broken:Hooks", "needs a module that is missing: No module named 'no_such_module'"),
        ("half:Half", "has no method select, cells, propose, rank; did you mean selects?; hooks have"),
        ("needy:Needy", "cannot be made without arguments"),
        ("needy:later", "later is int, not a class"),
        ("my hooks:", "is no folder"),
    ]:
        assert main([*command, spec]) == 2
        assert says in capsys.readouterr().err


def test_the_french_guides_hook_draws_stripes_and_waves_alone(my_hooks: Path) -> None:
    code = blocks("fr/hooks.md", "python")[0]
    (my_hooks / code.splitlines()[0].removeprefix("# ")).write_text(code)
    save_image("a.png", (texture()[0] * 255).round().to(torch.uint8))
    options = ["--preset", "fast", "--tile", "16", "--overlap", "4", "--residual", "off", "--codebook", "v15_grid"]
    command = ["encode", "a.png", "-o", "a.pc15", *options, "--hooks", "mes_hooks:Rayures"]
    assert main(command) == 0
    stream = Path("a.pc15").read_bytes()
    assert hooks_named(stream) == {"name": "rayures", "version": "1"}
    used = {NAMES[layer.gen] for record in read_programs(stream)[1][0].records() for layer in record.layers}
    assert used and all(name.startswith(("STRIPES", "WAVES")) for name in used)


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """Labels of tiles of 16 px by the regular grid, whose bank is drawn in a second."""
    for i, name in enumerate(("cloth", "pond", "wall")):
        save_image(tmp_path / f"{i}.png", draw_samples(64)[name])
    make_tiles(tmp_path, tmp_path / "tiles.jsonl", tile=16, overlap=4, limit=6, val_percent=40, test_percent=0)
    options = LabelOptions(cfg=PROGRAMS, top=4, random=4, device="cpu")
    search = FakeOracle(options.search(list(read_rows(tmp_path / "tiles.jsonl"))), 4, 4)
    make_labels(tmp_path / "tiles.jsonl", tmp_path / "labels", options, search=search)
    return tmp_path / "labels"


def test_the_guides_net_is_fitted_exported_and_asked(
    labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightning")
    pytest.importorskip("datasets")
    from pc15learn.bench import Searches, methods_of
    from pc15learn.config import load_config
    from pc15learn.export import export_weights
    from pc15learn.fit import fit_role
    from pc15learn.roles import TRAINING

    codes, (lines,) = blocks("adding-a-net.md", "python"), blocks("adding-a-net.md", "diff")
    for code in codes:
        path = code.splitlines()[0].removeprefix("# ")
        module = ModuleType(path.removesuffix(".py").replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, path, "exec"), module.__dict__)
    space: dict[str, Any] = {}
    exec("\n".join(re.findall(r"^\+(from .*)$", lines, re.MULTILINE)), space)
    added = re.findall(r'^\+    "(\w+)": (\w+),$', lines, re.MULTILINE)
    for (role, name), table in zip(added, (ROLES, TRAINING), strict=True):
        monkeypatch.setitem(table, role, space[name])
    config = tmp_path / "linear.yaml"
    config.write_text(blocks("adding-a-net.md", "yaml")[0])
    train = {**yaml.safe_load(config.read_text())["train"], "batch_size": 16, "max_epochs": 3}
    cfg = load_config(config, labels=labels, out=tmp_path, device="cpu", train=train)
    fitted = fit_role(cfg)
    assert 0 < fitted.metrics["val/loss"] < 20
    made = export_weights(fitted.checkpoint, tmp_path / "weights")
    hooks = AiHooks.from_folder(tmp_path / "weights")
    assert made.weights.name == "linear.safetensors"
    assert hooks is not None and hooks.selector is not None and hooks.selector.ready and hooks.selector.role == "linear"
    coded = encode_y(texture(), PROGRAMS.but(ai=hooks))
    assert hooks_named(coded["bitstream"])["name"] == "linear"
    assert decode_y(coded["bitstream"]).shape == (1, 1, 48, 48)
    assert encode_y(texture(), PROGRAMS.but(ai=hooks))["bitstream"] == coded["bitstream"]
    assert "M5" in [method.name for method in methods_of(Searches([tmp_path / "weights"]), PROGRAMS)[0]]
