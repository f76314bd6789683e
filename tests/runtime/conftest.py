"""What tests of compiled loops share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def package(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a package `loops` with one module, `all`, into a folder, which it answers with."""

    def write(text: str) -> Path:
        (tmp_path / "loops").mkdir()
        (tmp_path / "loops" / "__init__.py").write_text("")
        (tmp_path / "loops" / "all.py").write_text(text)
        return tmp_path

    return write
