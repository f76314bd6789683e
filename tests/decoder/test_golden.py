"""Golden streams decode to the same pixels whatever draws them.

`python -m tests.golden.make` writes them; a change that breaks one of these tests changes the format.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pc15 import decoder, draw, fixed
from pc15.bitstream import unpack_v15
from pc15.bitstream.read import read_programs
from pc15.decoder import decode_stream
from pc15.proc.generators import NAMES, load

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "tests" / "golden"
GOLDEN: dict[str, list[str]] = json.loads((FOLDER / "golden.json").read_text(encoding="utf-8"))

registry = importlib.import_module("pc15.proc.registry")


def hashes(name: str, device: torch.device | str = "cpu") -> list[str]:
    decoded = decode_stream((FOLDER / f"{name}.pc15").read_bytes(), device=device)
    return [hashlib.sha256(plane.cpu().numpy().tobytes()).hexdigest() for plane in decoded.planes]


def in_a_fresh_process(code: str, **env: str) -> str:
    """What a new interpreter prints."""
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_there_are_enough_small_streams() -> None:
    streams = sorted(path.stem for path in FOLDER.glob("*.pc15"))
    assert streams == sorted(GOLDEN)
    assert len(streams) >= 60
    assert sum((FOLDER / f"{name}.pc15").stat().st_size for name in streams) < 150_000


def test_they_cover_generators_tiles_and_forms() -> None:
    headers, generators = [], set()
    for name in GOLDEN:
        header, programs, _, damage = read_programs((FOLDER / f"{name}.pc15").read_bytes())
        assert not damage
        headers.append(header)
        for plane in programs:
            generators |= {layer.gen for record in plane.records() for layer in record.layers}
    assert generators == set(range(len(NAMES)))
    specs = [spec for header in headers for spec in header.planes]
    assert {spec.tile for spec in specs} >= {8, 16, 24, 32, 48, 64, 128}
    assert any(spec.overlap == 0 for spec in specs)
    assert any(spec.overlap % 2 for spec in specs)
    assert {spec.window for spec in specs} == {0, 1, 2}
    assert {(header.width, header.height) for header in headers} >= {(1, 1), (97, 1), (33, 33), (65, 47)}
    for feature in ("color", "payload_fmt", "section_rows", "has_metadata", "hooks"):
        assert any(getattr(header, feature) for header in headers), feature
    assert len({header.seed for header in headers}) >= 3


@pytest.mark.parametrize("threads", [1, 2])
def test_they_decode_with_any_number_of_threads(threads: int) -> None:
    """With two, one stream of each tile size stands for those of single generators: it has all of them."""
    some = [name for name in GOLDEN if threads == 1 or not name.startswith("gen_")]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert {name: hashes(name) for name in some} == {name: GOLDEN[name] for name in some}
    finally:
        torch.set_num_threads(before)


def test_they_decode_with_the_plainest_instructions() -> None:
    code = (
        "import torch, runpy, sys; print(torch.backends.cpu.get_cpu_capability())\n"
        "sys.argv = ['make', '--hashes']; runpy.run_module('tests.golden.make', run_name='__main__')"
    )
    used, found = in_a_fresh_process(code, ATEN_CPU_CAPABILITY="default", OMP_NUM_THREADS="1").splitlines()
    assert used in ("DEFAULT", "NO AVX")
    assert json.loads(found) == GOLDEN


def test_they_decode_without_the_toolkits_libraries() -> None:
    """Only the decoder is loaded: neither what pc15learn needs, nor the encoder, nor the hooks."""
    code = (
        "import sys, json\n"
        "for name in ('lightning', 'wandb', 'datasets', 'sklearn'): sys.modules[name] = None\n"
        "sys.argv = ['make', '--hashes']\n"
        "from tests.golden.make import hashes, names\n"
        "found = {name: hashes(name) for name in names() if name.startswith(('size', 'colour', 'tile_16'))}\n"
        "above = 'pc15.search', 'pc15.encode', 'pc15.plan', 'pc15.hooks', 'pc15learn'\n"
        "below = [m for m in sys.modules if m.startswith(above)]\n"
        "print(json.dumps([found, below]))"
    )
    found, below = json.loads(in_a_fresh_process(code))
    assert found
    assert all(GOLDEN[name] == planes for name, planes in found.items())
    assert below == []


def test_they_decode_in_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pattern at a time, and one band of tiles at a time."""
    monkeypatch.setattr(registry, "_DRAW_PIXELS", 1)
    monkeypatch.setattr(draw, "_BAND_PIXELS", 1)
    some = [name for name in GOLDEN if not name.startswith("gen_") or name in ("gen_stripes", "gen_worley")]
    assert {name: hashes(name) for name in some} == {name: GOLDEN[name] for name in some}


@pytest.mark.gpu
def test_they_decode_on_the_gpu(device: torch.device) -> None:
    assert {name: hashes(name, device) for name in GOLDEN} == GOLDEN


@pytest.mark.slow
@pytest.mark.skipif(
    not any(shutil.which(c) for c in ("c++", "g++", "clang++", os.environ.get("CXX", "c++"))),
    reason="torch.compile needs a C++ compiler, and none is on the PATH",
)
def test_they_decode_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole patterns fused by torch.compile, and the rounding around them."""
    subset = [NAMES.index(name) for name in ("PERLIN", "EDGE")]
    for gen in subset:  # names of torch are looked up when they are first used, which Dynamo does not follow
        hashes(f"gen_{NAMES[gen].lower()}")
    for name in ("_sine_table", "_exp_table", "_atan_table"):  # constants: Dynamo looks through functools.cache
        table = getattr(fixed, name)(torch.device("cpu"))
        monkeypatch.setattr(fixed, name, lambda device, table=table: table)
    compiled = {
        gen: dataclasses.replace(load(gen), draw=torch.compile(load(gen).draw, fullgraph=True, dynamic=False))
        for gen in subset
    }
    monkeypatch.setattr(registry, "load", lambda gen: compiled.get(gen) or load(gen))
    for module, name in ((draw, "contribution"), (decoder, "to_pixels")):
        monkeypatch.setattr(module, name, torch.compile(getattr(module, name), fullgraph=True))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    try:
        for gen in subset:
            name = f"gen_{NAMES[gen].lower()}"
            assert hashes(name) == GOLDEN[name], name
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= len(subset) + 2
    finally:
        torch._dynamo.reset()


def test_headers_read_back() -> None:
    for name in GOLDEN:
        data = (FOLDER / f"{name}.pc15").read_bytes()
        header, size = unpack_v15(data)
        assert 0 < size < len(data)
        assert len(header.planes) == len(GOLDEN[name])
