"""`decode` in a fresh process loads the decoder alone, and compiled code only where a residual needs it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BELOW = ("encoder", "config", "search", "hooks", "bitstream.enc", "residual.enc")
"""Modules of `pc15` that no decoder needs."""
FORBIDDEN = (*(f"pc15.{name}" for name in BELOW), "pc15learn")


def is_below(module: str) -> bool:
    """True for a forbidden module and for everything in a forbidden package."""
    return any(module == name or module.startswith(f"{name}.") for name in FORBIDDEN)


def loaded_by_decoding(golden: str) -> list[str]:
    """Modules that a new process has loaded once it has decoded a golden stream."""
    path = ROOT / "tests" / "golden" / f"{golden}.pc15"
    code = (
        "import json, sys; from pathlib import Path; from pc15 import decode\n"
        f"decode(Path({str(path)!r}).read_bytes())\n"
        "print(json.dumps(list(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    modules: list[str] = json.loads(ran.stdout)
    return modules


@pytest.mark.parametrize("golden", ["residual_tiles", "residual_colour", "coarse_residual"])
def test_decoding_tiles_and_a_residual_loads_nothing_of_the_encoder(golden: str) -> None:
    modules = loaded_by_decoding(golden)
    assert "pc15.residual.decode" in modules
    assert [module for module in modules if is_below(module)] == []


@pytest.mark.parametrize("golden", ["tile_32", "colour", "merge_colour", "coarse_luma"])
def test_decoding_without_a_residual_loads_no_numba(golden: str) -> None:
    modules = loaded_by_decoding(golden)
    assert "pc15.draw" in modules
    assert [module for module in modules if module.split(".")[0] == "numba" or is_below(module)] == []


def imported_by(module: str) -> set[str]:
    """Names of modules that a file imports, wherever in it."""
    path = ROOT.joinpath(*module.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if is_module(name)}


def is_module(name: str) -> bool:
    """True for the name of a module of this project."""
    path = ROOT.joinpath(*name.split("."))
    return name.split(".")[0] in ("pc15", "pc15learn") and (path.is_dir() or path.with_suffix(".py").is_file())


def test_no_import_of_the_decoder_leads_to_the_encoder() -> None:
    """Also imports inside functions, which a process may not have reached."""
    seen, waiting = set[str](), ["pc15.decoder"]
    while waiting:
        module = waiting.pop()
        if module in seen or module == "pc15":  # the root imports its names on first use
            continue
        seen.add(module)
        for name in imported_by(module):
            assert not is_below(name), f"{module} imports {name}"
            waiting += [name, name.rpartition(".")[0]]
    assert {"pc15.draw", "pc15.bitstream.read", "pc15.residual.decode"} <= seen
