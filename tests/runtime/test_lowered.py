"""Loops that travel with their package: those of today's sources, on any machine, and never trusted beyond that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import pc15.residual
from pc15.runtime import lowered
from pc15.runtime.machine import object_code

ROOT = Path(pc15.__file__).parents[1]
RESIDUAL = Path(pc15.residual.__file__).parent
LOOPS = """
from pc15.runtime.jit import kept_entry, lazy_inner

@lazy_inner(allocates=False)
def more(x):
    return x + STEP

@kept_entry(allocates=False)
def added(values):
    total = 0
    for i in range(values.shape[0]):
        total += more(values[i])
    return total

STEP = 1
"""
ASK = """
import json, logging, pathlib, sys
import numpy as np
logging.basicConfig(level=logging.INFO, format="%(message)s")
from pc15.runtime import lowered
if WRITES:
    lowered.noted = {}
from loops.all import added
print(json.dumps([added(np.arange(4)), "numba" in sys.modules]))
if WRITES:
    lowered.write(pathlib.Path(sys.modules["loops"].__file__).parent, lowered.noted)
"""


@pytest.fixture
def folder(package: Callable[[str], Path]) -> Path:
    """A package with a loop."""
    return package(LOOPS)


def fresh(code: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """Run code in a process for which nothing has been compiled before."""
    env = os.environ | {"NUMBA_CACHE_DIR": str(cache)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=env)


def asked(folder: Path, name: str, *, writes: bool = False) -> tuple[list[object], str]:
    """(sum, was numba loaded), and what was said."""
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]\n{ASK.replace('WRITES', str(writes))}"
    ran = fresh(code, folder / name)
    return json.loads(ran.stdout), ran.stderr


def test_a_loop_travels_and_is_never_trusted_beyond_its_sources(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    package = folder / "loops"
    archive, source = package / lowered.ARCHIVE, package / "all.py"
    assert asked(folder, "one", writes=True)[0] == [10, True]
    assert asked(folder, "two")[0] == [10, False], "numba is not loaded"
    data = archive.read_bytes()

    def found() -> lowered.Lowered | None:
        caplog.clear()
        lowered._about.cache_clear()
        with caplog.at_level("INFO", "pc15"):
            return lowered.shipped(package, "loops.all.added", ("<i8 1 C 1 1",))

    given = found()
    assert given is not None and given.returns == "int64" and given.function in given.text
    assert lowered.write(package, {"loops.all.added-0.ll": given}).read_bytes() != data
    archive.write_bytes(data)
    source.write_text(LOOPS.replace("STEP = 1", "STEP = 3"))
    assert found() is None and "is of other sources: its loops are made anew" in caplog.text
    source.write_bytes(LOOPS.replace("\n", "\r\n").encode())  # as some checkouts have it
    assert found() == given
    for cut in (data[: len(data) // 2], data[:200] + bytes(40) + data[240:], b""):
        archive.write_bytes(cut)
        assert found() is None and "cannot be read" in caplog.text
    archive.unlink()
    assert found() is None and not caplog.records

    source.write_text(LOOPS)
    name = lowered.name_of("loops.all.added", ("<i8 1 C 1 1",))
    lowered.write(package, {name: given._replace(text=given.text.replace("define", "describe"))})
    answer, said = asked(folder, "three")  # as an older LLVM takes it
    assert answer == [10, True] and "loops.all.added is lowered anew" in said


def test_the_same_loops_are_the_same_file(folder: Path) -> None:
    loop = lowered.Lowered("define", "f", "none")
    one = lowered.write(folder / "loops", {"a.ll": loop, "b.ll": loop, "c.ll": lowered.Lowered("", "", "none")})
    data = one.read_bytes()
    assert lowered.write(folder / "loops", {"b.ll": loop, "a.ll": loop}).read_bytes() == data


def test_what_travels_is_of_these_sources_and_of_no_machine() -> None:
    with zipfile.ZipFile(RESIDUAL / lowered.ARCHIVE) as archive:
        about = json.loads(archive.read("about.json"))
        assert about["contents"] == lowered.contents_digest(RESIDUAL), "write it again: python -m pc15.lower"
        assert sorted(about["loops"]) == sorted(name for name in archive.namelist() if name.endswith(".ll"))
        for name in about["loops"]:
            text = archive.read(name).decode()
            assert "target " not in text and "llvm.x86" not in text and "/" + "home" not in text


def test_photographs_decode_where_there_is_no_numba(tmp_path: Path) -> None:
    names = ["residual", "residual_colour", "residual_sections", "borders", "cross"]
    code = f"""
import sys; sys.modules["numba"] = None
import hashlib, json, pathlib
from pc15.decoder import decode_stream
read = lambda name: pathlib.Path(f"tests/golden/{{name}}.pc15").read_bytes()
sha = lambda plane: hashlib.sha256(plane.numpy().tobytes()).hexdigest()
print(json.dumps({{name: [sha(plane) for plane in decode_stream(read(name)).planes] for name in {names}}}))"""
    golden = json.loads((ROOT / "tests/golden/golden.json").read_text())
    assert json.loads(fresh(code, tmp_path).stdout) == {name: golden[name] for name in names}


@pytest.mark.slow
def test_all_that_photographs_need_travels() -> None:
    code = """
import json, sys
from pc15.runtime.kept import KeptLoop
from pc15.runtime.lowered import name_of
from pc15.warm import warm
for _ in warm(()):
    pass
modules = [module for name, module in sys.modules.items() if name.startswith("pc15.residual")]
loops = {loop for module in modules for loop in vars(module).values() if isinstance(loop, KeptLoop)}
called = [(f"{l.__module__}.{l.__qualname__}", kinds) for l in loops for kinds, run in l._ready.items() if run]
print(json.dumps([name_of(*one) for one in called]))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    needed = json.loads(ran.stdout)
    assert len(needed) > 10 and set(needed) <= lowered._about(RESIDUAL).keys(), "write it again: python -m pc15.lower"


def test_nonsense_is_no_machine_code() -> None:
    with pytest.raises(RuntimeError):
        object_code("define nothing")
