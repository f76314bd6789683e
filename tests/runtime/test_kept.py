"""Kept loops: machine code that runs without numba, is compiled once, and is never trusted when it is not whole."""

from __future__ import annotations

import decimal
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import pc15
from pc15.residual.context_models import COST, COST_ONE, SQUASH, STRETCH, STRETCH_MAX, STRETCH_ONE

ROOT = Path(pc15.__file__).parents[1]
LOOPS = """
from typing import NamedTuple
import numpy as np
from pc15.runtime.jit import kept_entry, lazy_inner

class Pair(NamedTuple):
    values: object
    step: int

@lazy_inner(allocates=False)
def double(x):
    return 2 * x + STEP

@kept_entry(allocates=False)
def fill(pair, table, scale, upward):
    total = 0.0
    for i in range(pair.values.shape[0]):
        for j in range(pair.values.shape[1]):
            value = double(table[j]) + pair.step * i
            pair.values[i, j] = value if upward else -value
            total += scale * value
    return total

@kept_entry(allocates=True)
def made(n):
    return np.arange(n).sum()

@kept_entry(allocates=False)
def rooted(x):
    return np.sqrt(x) + float(np.sqrt(np.float32(x)))

@kept_entry(allocates=False)
def waved(x):
    return np.sin(x)

STEP = 1
"""
ASK = """
import json, sys
import numpy as np
from loops.all import Pair, fill, made, rooted, waved
from pc15.runtime.notices import compiled
out = np.zeros((2, 3), np.int32)
wide = np.zeros((4, 6), np.int32)
table = np.arange(3)
totals = [
    fill(Pair(out, 10), table, 0.5, True),
    fill(Pair(wide[::2, ::2], 10), table, 0.5, False),
]
print(json.dumps([out.tolist(), wide[::2, ::2].tolist(), totals, "numba" in sys.modules] + MADE))
"""
RIGHT = [[[1, 3, 5], [11, 13, 15]], [[-1, -3, -5], [-11, -13, -15]], [24.0, 24.0]]


@pytest.fixture
def folder(package: Callable[[str], Path]) -> Path:
    """A package with two loops, and a cache of its own."""
    return package(LOOPS)


def asked(folder: Path, made: str = "[]", **env: str) -> subprocess.CompletedProcess[str]:
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]; MADE = []\n{ASK.replace('MADE', made)}"
    own = os.environ | {"NUMBA_CACHE_DIR": str(folder / "kept")} | env
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own)


def files(folder: Path) -> list[Path]:
    return sorted((folder / "kept" / "loops").glob("*.loop"))


def test_machine_code_is_kept_and_needs_no_numba_until_something_changes(folder: Path) -> None:
    assert json.loads(asked(folder).stdout) == [*RIGHT, True]
    assert len(files(folder)) == 2, "a file for each kind of arguments: contiguous and strided"
    times = [path.stat().st_mtime_ns for path in files(folder)]
    assert json.loads(asked(folder).stdout) == [*RIGHT, False]
    assert [path.stat().st_mtime_ns for path in files(folder)] == times

    cut, changed = files(folder)
    cut.write_bytes(cut.read_bytes()[:500])
    changed.write_bytes(changed.read_bytes()[:-9] + b"machine!!")
    again = asked(folder)
    assert json.loads(again.stdout) == [*RIGHT, True]
    assert again.stderr.count("is cut short or damaged: compiling it anew") == 1
    assert json.loads(asked(folder).stdout) == [*RIGHT, False]

    (folder / "loops" / "all.py").write_text(LOOPS.replace("STEP = 1", "STEP = 3"))
    assert json.loads(asked(folder).stdout)[0] == [[3, 5, 7], [13, 15, 17]]
    assert len(files(folder)) == 2, "what is out of date is written over"


def test_code_is_kept_in_one_place_whether_python_keeps_bytecode_there_or_not(folder: Path) -> None:
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]\n{ASK.replace('MADE', '[]')}"
    found = []
    for unwritten in ("1", "", ""):
        own = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
        own |= {"PYTHONDONTWRITEBYTECODE": unwritten}
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own)
        found.append(json.loads(ran.stdout)[3])
    assert found == [True, False, False], "the first compiles"
    assert len([*(folder / "loops" / "__pycache__").glob("*.loop")]) == 2


def test_two_installations_that_share_a_cache_do_not_compile_anew_in_turns(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder / "loops", other / "loops")
    (other / "loops" / "all.py").write_text(LOOPS.replace("STEP = 1", "STEP = 3"))
    shared = {"NUMBA_CACHE_DIR": str(folder / "kept")}
    asked(folder, **shared), asked(other, **shared)
    assert json.loads(asked(folder, **shared).stdout) == [*RIGHT, False]
    assert json.loads(asked(other, **shared).stdout)[3] is False


def test_what_needs_numba_s_runtime_and_what_checks_bounds_is_run_by_numba(folder: Path) -> None:
    assert json.loads(asked(folder, "[int(made(5))]", NUMBA_BOUNDSCHECK="1").stdout) == [*RIGHT, True, 10]
    assert files(folder) == []
    assert json.loads(asked(folder, "[int(made(5))]").stdout) == [*RIGHT, True, 10]
    assert len(files(folder)) == 2, "made has none"


def test_square_roots_need_no_numba(folder: Path) -> None:
    assert json.loads(asked(folder, "[rooted(2.25), 'numba' in sys.modules]").stdout) == [*RIGHT, True, 3.0, True]
    assert json.loads(asked(folder, "[rooted(2.25), 'numba' in sys.modules]").stdout) == [*RIGHT, False, 3.0, False]


def test_what_machine_code_alone_cannot_do_is_tried_once_and_then_numba_keeps_it(folder: Path) -> None:
    first, later = (json.loads(asked(folder, "[waved(0.0), compiled]").stdout) for _ in range(2))
    assert first[4] == later[4] == 0.0
    assert any("waved" in name for name in first[5]) and later[5] == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_machine_code_of_another_processor_is_left_alone_and_a_full_disk_stops_nothing(folder: Path) -> None:
    code = f"""import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]
import pc15.runtime.kept as kept
kept.host = lambda: {{"processor": "another"}}
{ASK.replace("MADE", "[]")}
import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
kept.host = lambda: {{"processor": "a third"}}
fill._ready.clear()
fill(Pair(out, 10), table, 0.5, True)"""
    own = os.environ | {"NUMBA_CACHE_DIR": str(folder / "kept")}
    asked(folder)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=own)
    assert json.loads(ran.stdout) == [*RIGHT, True]
    assert ran.stderr.count("compiled code cannot be kept") == 1
    assert len(files(folder)) == 4


def test_tables_of_the_context_models_are_their_definitions_rounded() -> None:
    with decimal.localcontext(decimal.Context(prec=30)):
        for i in range(0, 4096, 5):
            p = (Decimal(i) + Decimal("0.5")) / 4096
            z = int(((p / (1 - p)).ln() * STRETCH_ONE).to_integral_value(decimal.ROUND_HALF_EVEN))
            assert max(-STRETCH_MAX, min(STRETCH_MAX, z)) == STRETCH[i]
            assert int(-p.ln() / Decimal(2).ln() * COST_ONE) == COST[i]
        for z in range(-2048, 2048, 5):
            p = 65536 / (1 + (Decimal(-z) / STRETCH_ONE).exp())
            assert max(24, min(65536 - 24, int(p.to_integral_value(decimal.ROUND_HALF_EVEN)))) == SQUASH[z + 2048]
    assert np.array_equal(STRETCH, -STRETCH[::-1])
