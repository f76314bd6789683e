"""Notebooks run from their first cell to their last, as code; `make docs` runs them in a kernel, with pictures."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "docs" / "notebooks").glob("*.ipynb"))


def cells(path: Path) -> list[str]:
    """The code of a notebook, magics left out."""
    content = json.loads(path.read_text(encoding="utf-8"))
    code = ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]
    return [re.sub(r"(?m)^( *)[%!].*$", r"\1pass", cell) for cell in code]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_without_outputs_and_installs_first(path: Path) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    code = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert '%pip install --quiet "{SOURCE}"' in "".join(code[0]["source"])


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    for i, cell in enumerate(cells(path)):
        exec(compile(ast.parse(cell), f"{path.name}, cell {i}", "exec"), names)
    assert list(tmp_path.glob(f"pc15-{path.stem.replace('_', '-')}/photos/*.png"))


def test_there_are_three() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["inspect", "quick_start", "toolkit"]
