"""Compiled loops: no file can change without its compiled form, and nothing is compiled twice."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

import pc15.bitstream
import pc15.entropy
import pc15.residual
import pc15.search
import pc15learn.codebooks
from pc15.residual.decode import decode_residual
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.runtime.jit import sources_digest

TWO_FILES = {
    "__init__.py": "",
    "low.py": "from pc15.runtime.jit import jit_inner\n\nSTEP = 1\n\n@jit_inner()\ndef low(x):\n    return x + STEP\n",
    "high.py": "from pc15.runtime.jit import jit_entry\nfrom loops.low import low\n\n"
    "@jit_entry()\ndef high(x): return low(x)",
}
ASK = "from loops.high import high; print(high(1), sum(high.stats.cache_hits.values()))"


def ask(folder: Path) -> list[int]:
    """high(1) in a fresh process, and whether it came from the cache."""
    root = str(Path(pc15.__file__).parents[1])
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {root!r}]; {ASK}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder)
    return [int(word) for word in done.stdout.split()]


def test_a_change_in_another_file_is_compiled(tmp_path: Path):
    loops = tmp_path / "loops"
    loops.mkdir()
    for name, text in TWO_FILES.items():
        (loops / name).write_text(text)
    assert ask(tmp_path) == [2, 0]
    assert ask(tmp_path) == [2, 1]
    (loops / "low.py").write_text(TWO_FILES["low.py"].replace("STEP = 1", "STEP = 5"))
    assert ask(tmp_path) == [6, 0]


def test_the_digest_sees_every_file_of_a_folder(tmp_path: Path):
    for name, text in TWO_FILES.items():
        (tmp_path / name).write_text(text)
    digests = {sources_digest(tmp_path)}
    for name in TWO_FILES:
        (tmp_path / name).write_text(TWO_FILES[name] + "# changed\n")
        sources_digest.cache_clear()
        digests.add(sources_digest(tmp_path))
    assert len(digests) == 4


def modules() -> list[ModuleType]:
    """Every module of the packages that have compiled loops, but kernels of a GPU, which need Triton."""
    packages = (pc15.bitstream, pc15.entropy, pc15.residual, pc15.search, pc15learn.codebooks)
    names = [m.name for p in packages for m in pkgutil.walk_packages(p.__path__, f"{p.__name__}.")]
    return [importlib.import_module(name) for name in names if ".backend.triton" not in name]


def package(module: str) -> str:
    """The package just below the topmost one: `pc15.residual` of `pc15.residual.enc.rdo`."""
    return ".".join(module.split(".")[:2])


def loops(module: ModuleType) -> dict[str, Any]:
    return {name: value for name, value in vars(module).items() if isinstance(value, Dispatcher)}


@pytest.mark.parametrize("module", modules(), ids=lambda module: module.__name__)
def test_compiled_loops_keep_to_their_package(module: ModuleType):
    for name, loop in loops(module).items():
        assert package(loop.__module__) == package(module.__name__), name


def test_there_are_loops_to_look_at():
    assert {package(m.__name__) for m in modules() if loops(m)} >= {
        "pc15.residual",
        "pc15.search",
        "pc15learn.codebooks",
    }


def test_no_loop_of_the_residual_is_compiled_for_two_sets_of_types():
    y, x = np.mgrid[:72, :80]
    picture = (2000 + 9 * x + 5 * y + 400 * (x > y)).astype(np.int32)
    code = encode_residual(picture - 2048, np.full_like(picture, 2048), ResidualParams(24))
    decode_residual(code.payload, np.full_like(picture, 2048), 24)
    seen = [
        loop
        for module in modules()
        if package(module.__name__) == "pc15.residual"
        for loop in loops(module).values()
        if loop.signatures
    ]
    assert seen
    for loop in seen:
        assert len(loop.signatures) == 1, (loop.__name__, loop.signatures)
