"""Nothing that a stream says is taken as an index unchecked: the fuzzer finds no way out of bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.__main__ import KINDS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_no_stream_reaches_out_of_bounds(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    checked = tmp_path_factory.getbasetemp() / "checked"
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", kind, "--cases", "20000"],
        cwd=ROOT,
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(checked)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert f"{kind}: 20000 cases" in ran.stdout
