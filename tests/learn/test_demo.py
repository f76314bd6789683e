"""The demonstration, small: every step of it, to its report."""

from __future__ import annotations

from pathlib import Path

import pytest

from pc15learn.demo import run_demo
from pc15learn.roles import TRAINING


@pytest.mark.slow
def test_the_demonstration_runs_to_its_report(tmp_path: Path) -> None:
    told = run_demo(tmp_path, tiles=60, side=96)
    assert "PC15" in told and "M1 of baseline" in told and "M4 of baseline" in told
    report = (tmp_path / "demo.html").read_text(encoding="utf-8")
    for title in ("A photo in colour", "Nets", "What hooks are worth", "What they are worth in photographs", "Time"):
        assert title in report
    assert {path.stem for path in (tmp_path / "weights").glob("*.safetensors")} == set(TRAINING)
