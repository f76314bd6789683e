"""Compiled loops: no file can change without its compiled form, and nothing is compiled twice."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
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
from pc15.runtime.jit import sources_digest, uses_internals
from pc15.runtime.kept import KeptLoop, LazyLoop

TWO_FILES = {
    "__init__.py": "",
    "low.py": "from pc15.runtime.jit import jit_inner\n\nSTEP = 1\n\n@jit_inner()\ndef low(x):\n    return x + STEP\n",
    "high.py": "from pc15.runtime.jit import jit_entry\nfrom loops.low import low\n\n"
    "@jit_entry()\ndef high(x): return low(x)",
}
STREAMS = ["residual", "residual_colour", "residual_sections"]
PIN = ("weave", "balanced", "as it stands")
ASK = "from loops.high import high; print(high(1), sum(high.stats.cache_hits.values()))"
UNTESTED = "import numba; numba.__version__ = '0.99.0'\n"
"""Makes pc15 take the public way through numba, as it does with a version that it does not know."""
ROOT = Path(pc15.__file__).parents[1]
both_ways = pytest.mark.parametrize("way", ["", UNTESTED], ids=["internals", "public"])


def ask(folder: Path, way: str, **env: str) -> list[int]:
    """high(1) in a fresh process, and whether it came from the cache."""
    return [int(word) for word in asked(folder, way, **env).stdout.split()]


def asked(folder: Path, way: str, **env: str) -> subprocess.CompletedProcess[str]:
    code = f"{way}import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]; {ASK}"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder, env=os.environ | env
    )


def write_two_files(folder: Path) -> Path:
    loops = folder / "loops"
    loops.mkdir()
    for name, text in TWO_FILES.items():
        (loops / name).write_text(text)
    return loops


@both_ways
def test_checked_and_unchecked_code_share_no_cache(tmp_path: Path, way: str):
    write_two_files(tmp_path)
    assert ask(tmp_path, way, NUMBA_BOUNDSCHECK="0") == [2, 0]
    assert ask(tmp_path, way, NUMBA_BOUNDSCHECK="1") == [2, 0]


@both_ways
def test_compiling_is_said_once_and_only_when_it_happens(tmp_path: Path, way: str):
    write_two_files(tmp_path)
    heard = f"{way}import logging; logging.basicConfig(level=25, format='%(levelname)s %(message)s')\n"
    first, second = (asked(tmp_path, heard, NUMBA_CACHE_DIR=str(tmp_path / "kept")) for _ in range(2))
    assert first.stderr.count("NOTE compiling loops for their first use") == 1
    assert "compiling" not in second.stderr


@both_ways
def test_a_change_in_another_file_is_compiled(tmp_path: Path, way: str):
    loops = write_two_files(tmp_path)
    assert ask(tmp_path, way) == [2, 0]
    assert ask(tmp_path, way) == [2, 1]
    (loops / "low.py").write_text(TWO_FILES["low.py"].replace("STEP = 1", "STEP = 5"))
    assert ask(tmp_path, way) == [6, 0]


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def zeroed(data: bytes) -> bytes:
    return data[:1000] + bytes(len(data) - 1500) + data[-500:]


@pytest.mark.parametrize(
    ("way", "kind", "harm"),
    [
        ("", ".nbi", cut),
        ("", ".nbc", zeroed),
        (UNTESTED, ".nbi", lambda _: b""),
        (UNTESTED, ".nbc", cut),
    ],
)
def test_a_damaged_cache_is_compiled_anew_and_said_once(
    tmp_path: Path, way: str, kind: str, harm: Callable[[bytes], bytes]
):
    write_two_files(tmp_path)
    kept = {"NUMBA_CACHE_DIR": str(tmp_path / "kept")}
    assert ask(tmp_path, way, **kept) == [2, 0]
    files = list((tmp_path / "kept").rglob(f"*{kind}"))
    for path in files:
        path.write_bytes(harm(path.read_bytes()))
    assert files
    again = asked(tmp_path, way, **kept)
    assert again.stdout.split() == ["2", "0"]
    assert again.stderr.count("is cut short or damaged: compiling it anew") == 1
    assert ask(tmp_path, way, **kept) == [2, 1]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on the size of files")
def test_a_full_cache_disk_stops_nothing(tmp_path: Path):
    write_two_files(tmp_path)
    full = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    ran = asked(tmp_path, full, NUMBA_CACHE_DIR=str(tmp_path / "kept"))
    assert ran.stdout.split() == ["2", "0"]
    assert ran.stderr.count("compiled code cannot be kept") == 1
    assert "set NUMBA_CACHE_DIR" in ran.stderr
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]


@both_ways
def test_a_home_that_cannot_be_written_gets_a_hint(tmp_path: Path, way: str):
    (write_two_files(tmp_path) / "__pycache__").touch()
    (tmp_path / "file").touch()
    none = str(tmp_path / "file" / "below")
    ran = asked(tmp_path, way, NUMBA_CACHE_DIR=none, XDG_CACHE_HOME=none, HOME=none)
    assert ran.stdout.split() == ["2", "0"]
    assert ran.stderr.count("compiled code cannot be kept") == 1


def test_one_module_alone_touches_private_names_of_numba():
    private = re.compile(r"numba\.core|pipeline_class|_nrt|\._cache\b|no_c\w+_wrapper")
    files = [path for package in ("pc15", "pc15learn") for path in (ROOT / package).rglob("*.py")]
    named = [path for path in files if private.search(path.read_text())]
    assert [path.name for path in named] == ["_numba_internals.py"]


@pytest.mark.slow
def test_the_public_way_writes_the_same_bytes_and_reads_the_same_pixels(tmp_path: Path) -> None:
    code = f"""{UNTESTED}
import hashlib, json, pathlib
from pc15.bitstream import read_container
from pc15.decoder import decode_stream
from pc15.residual.bits import residual_report
from pc15.runtime.jit import uses_internals
from tests.golden import encoded
written = encoded.digest(*{PIN})
sha = lambda plane: hashlib.sha256(plane.numpy().tobytes()).hexdigest()
streams = {{name: pathlib.Path(f"tests/golden/{{name}}.pc15").read_bytes() for name in {STREAMS}}}
decoded = {{name: [sha(plane) for plane in decode_stream(data).planes] for name, data in streams.items()}}
stream = read_container(streams["residual"])
spec, payload = stream.header.planes[0], stream.residuals[0]
report = residual_report(payload, stream.header.height, stream.header.width, spec.residual - 1, spec.tools)
print(json.dumps([uses_internals(), written, decoded, sum(report.bits.values()) / 8, len(payload)]))"""
    # a third less to compile, the same bytes; and numba runs what would travel with the package
    env = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "0"}
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT, env=env)
    internal, written, decoded, priced, size = json.loads(ran.stdout)
    pins, golden = (json.loads((ROOT / "tests/golden" / f"{name}.json").read_text()) for name in ("encoded", "golden"))
    assert not internal and written == pins[", ".join(PIN)]
    assert decoded == {name: golden[name] for name in STREAMS}
    assert size - 4 <= priced <= size
    assert len({path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("*.nbi")}) > 1, "a folder per digest"


@pytest.mark.parametrize(
    ("version", "tested"),
    [
        ("0.62.1", False),
        ("0.63.0", True),
        ("0.69.9", True),
        ("0.70.0rc1", False),
        ("1.0", False),
        ("unknown", False),
    ],
)
def test_only_versions_that_are_tested_are_taken_apart(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, version: str, tested: bool
):
    monkeypatch.setattr(numba, "__version__", version)
    with caplog.at_level("INFO", "pc15"):
        assert uses_internals.__wrapped__() is tested
    assert (f"numba {version}" in caplog.text) is not tested


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
    return {name: value for name, value in vars(module).items() if isinstance(value, Dispatcher | LazyLoop)}


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
        if isinstance(loop, KeptLoop) and loop.signatures
    ]
    assert seen
    for loop in seen:
        assert len(loop.signatures) == 1, (loop.__name__, loop.signatures)
