"""Commands and Python that the pages quote are run as they stand, in order, as a reader would; on small pictures."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import pc15.cli
import pc15learn.cli
from pc15.images import save_image
from tests.test_docs import MAINS, PAGES, ROOT, commands, fenced, text_of

TABLES = {"pc15": pc15.cli.COMMANDS, "pc15learn": pc15learn.cli.COMMANDS}
CHAINS = (
    ("docs/tutorial.md", "docs/how-to/encode-and-inspect.md"),
    ("docs/how-to/label-fit-hooks.md", "docs/how-to/share.md"),
    ("docs/how-to/scale-out.md",),
    ("README.md", "docs/toolkit.md", "CONTRIBUTING.md", "docs/adding-a-hook.md", "docs/adding-a-net.md"),
    ("docs/fr/installation.md", "docs/fr/prise-en-main.md", "docs/fr/enchainements.md", "docs/fr/hooks.md"),
)
"""Pages in the order in which they are read, each line in a folder of its own."""

BEFORE = {
    "README.md": ["pc15 encode photo.png -o programs.pc15 --residual off --tile 32 --lambda 0.5"],
    "docs/how-to/encode-and-inspect.md": ["pc15 encode photo.png -o photo.pc15 -q"],
    "docs/how-to/scale-out.md": [  # which goes on where `label` has been tried on one machine
        "pc15learn make-tiles --images photos/ --out tiles.jsonl",
        "pc15learn label --tiles tiles.jsonl --out labels",
    ],
    "docs/toolkit.md": ["pc15learn make-tiles --images photos/ --out tiles.jsonl"],
}
"""Commands for what a page takes as given."""

ELSEWHERE = {
    "docs/measured.md": ("",),
    "tests/cli/test_bench_ablation.py": ("pc15 bench ablation",),
    "tests/cli/test_bench_rd.py": ("pc15 bench rd",),
    "tests/cli/test_bench_speed.py": ("pc15 bench speed",),
    "tests/cli/test_cli.py": ("pc15 encode - -o -",),
    "tests/cli/test_warm.py": ("pc15 warm",),
    "tests/hooks/test_shared.py": ("--hooks hf:", "--hooks mine"),
    "tests/learn/test_codebooks.py": ("codebooks --images", "tables --images", "--tables mine"),
    "tests/learn/test_features.py": ("pc15learn evaluate",),
    "tests/learn/test_fit.py": ("--devices 4", "--logger wandb"),
    "tests/learn/test_guides.py": ("hooks:SmoothHooks", "hooks:FlatHooks", "hooks:Rayures", "linear"),
    "tests/learn/test_labelled.py": ("tables --streams",),
    "tests/learn/test_online.py": ("--online",),
    "tests/learn/test_runner.py": ("--on ray", "ray start"),
    "tests/search/test_codec.py": ("--residual off --lambda",),
    "tests/learn/test_squares.py": ("codebooks --squares",),
    "tests/test_project.py": ("make ", "pip install"),
    ".github/workflows/ci.yml": ("python -m ", "mkdir -p"),
}
"""Parts of commands that need hours, a network, machines, or what a test makes by itself, by where the like is run.

Those of docs/measured.md are of pictures that it names; all of them are parsed, in `test_docs`.
"""


def elsewhere(page: str, said: str) -> bool:
    """True for a command that is run by another test."""
    return page in ELSEWHERE or any(part in said for parts in ELSEWHERE.values() for part in parts if part)


IN_GUIDES = {"docs/adding-a-hook.md", "docs/adding-a-net.md", "docs/fr/hooks.md"}
"""Pages whose Python `tests/learn/test_guides.py` runs."""
LIMITS = {
    ("pc15learn", "bench"): ("--repeats", "1"),
    ("pc15learn", "fit"): ("--set", "train.max_epochs=1"),
    ("pc15learn", "push"): ("--dry-run",),
}
"""Options that commands get here: fits take one epoch, times are taken once, nothing is uploaded."""


def picture(number: int) -> torch.Tensor:
    """Bars and a ramp with grain, of which tiles have layers and photographs a residual; uint8 [3,64,80]."""
    grain = torch.randint(-12, 12, (3, 64, 80), generator=torch.Generator().manual_seed(number))
    x = torch.arange(80)
    bars = 128 + 80 * (x // (3 + number) % 2 * 2 - 1)
    return (torch.where(x < 40, bars, 60 + 2 * x) + grain).clamp(0, 255).to(torch.uint8)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as a reader of the pages has it, the current one: a picture, and a folder of two."""
    for number, name in enumerate(("photo.png", "photos/a.png", "photos/deep/b.png")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save_image(tmp_path / name, picture(number))
    for name in ("models/codebooks", "models/rans"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setenv("PC15_MODELS_DIR", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: Path(chain[0]).stem)
def test_what_pages_quote_runs_one_after_the_other(
    chain: Sequence[str], reader: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Commands, and then Python, each block as a program of its own."""
    pytest.importorskip("lightning")
    pytest.importorskip("datasets")
    done = set()
    for page in chain:
        for words in [*map(shlex.split, BEFORE.get(page, [])), *commands(text_of(page))]:
            said = shlex.join(words)
            if said not in done and not elsewhere(page, said):
                code = MAINS[words[0]]([*words[1:], *LIMITS.get((words[0], words[1]), ())])
                assert code == 0, f"{page}: {said}: {capsys.readouterr().err}"
                done.add(said)
        for block in fenced(text_of(page), "python") if page not in IN_GUIDES else ():
            exec(compile(block, page, "exec"), {"__name__": "__main__"})
    assert done


def test_python_of_every_page_is_run_here_or_with_the_guides() -> None:
    quoting = {page for page in PAGES if any(fenced(text_of(page), "python", "py"))}
    assert IN_GUIDES < quoting <= {page for chain in CHAINS for page in chain}


def test_every_page_with_commands_is_read_and_what_is_run_elsewhere_is_there() -> None:
    quoting = [page for page in PAGES if any(commands(text_of(page))) and page not in ELSEWHERE]
    assert sorted(page for chain in CHAINS for page in chain) == quoting
    said = [shlex.join(words) for page in quoting for words in commands(text_of(page))]
    for place, parts in ELSEWHERE.items():
        assert (ROOT / place).is_file() or place.startswith(".github")
        for part in parts:
            assert any(part in one for one in said), f"no page quotes {part}"


def test_every_command_is_quoted_and_most_are_run_as_they_are_quoted() -> None:
    quoted = [(page, words) for page in PAGES for words in commands(text_of(page)) if words[0] in MAINS]
    all_of_them = {(main, name) for main, table in TABLES.items() for name in table}
    assert all_of_them - {tuple(words[:2]) for _, words in quoted} == {("pc15learn", "demo")}  # which is `make demo`
    own = {tuple(words[:2]) for page, words in quoted if not elsewhere(page, shlex.join(words))}
    assert all_of_them - own == {
        ("pc15", "bench"), ("pc15", "warm"), ("pc15learn", "demo"), ("pc15learn", "evaluate")
    }  # fmt: skip


def test_the_reference_has_every_command() -> None:
    for main, table in TABLES.items():
        for name in table:
            parts = pc15.cli.BENCHMARKS if (main, name) == ("pc15", "bench") else [""]
            for part in parts:
                assert f"```{{command-help}} {main} {name} {part}".rstrip() + "\n" in text_of(
                    "docs/reference/commands.md"
                )


def test_the_figure_of_all_generators_is_what_its_command_draws(reader: Path) -> None:
    assert pc15.cli.main(["generators", "--preview", "sheet.png", "-q"]) == 0
    drawn, kept = (
        np.asarray(Image.open(path).convert("L"), int) for path in ("sheet.png", ROOT / "docs/generators.png")
    )
    assert drawn.shape == kept.shape
    h, w = (side // 32 * 32 for side in kept.shape)
    differs = (drawn != kept)[:h, :w].reshape(h // 32, 32, w // 32, 32).mean(axis=(1, 3))
    assert differs.max() < 0.5, "no pattern is another, however letters look, which is Pillow's"
