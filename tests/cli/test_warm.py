"""`pc15 warm`: after it, a first picture compiles nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pc15 import cli
from pc15.errors import ConfigError
from pc15.warm import warm

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_after_it_a_fresh_process_compiles_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["warm", "--tiles", "none", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert [step["what"] for step in said["steps"]] == [
        "encoding photographs",
        "decoding photographs",
        "pictures of one pattern",
    ]
    assert said["compiled"] == sum(step["compiled"] for step in said["steps"])
    code = (
        "import sys; from pc15 import cli; from pc15.runtime.notices import compiled\n"
        "photo, stream, back = sys.argv[1:]\n"
        "assert cli.main(['encode', photo, '-o', stream, '--quality', '70']) == 0\n"
        "assert cli.main(['decode', stream, '-o', back]) == 0\n"
        "assert cli.main(['info', stream, '-q']) == 0\n"
        "print(compiled)"
    )
    files = [str(ROOT / "datasets" / "samples" / "cloth.png"), str(tmp_path / "a.pc15"), str(tmp_path / "back.png")]
    ran = subprocess.run([sys.executable, "-c", code, *files], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ran.stdout.splitlines()[-1] == "[]", ran.stderr
    assert "compiling" not in ran.stderr


@pytest.mark.parametrize("tiles", [[16, 16], [3]])
def test_sizes_that_cannot_be_are_refused_before_any_work(tiles: list[int]) -> None:
    with pytest.raises(ConfigError, match="give each size once|whole number from 4"):
        next(warm(tiles))
