"""What holds for the project as a whole: its configs, its data folders, its texts and its set-up."""

from __future__ import annotations

import ast
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

from pc15.config_files import baseline_weights, find_config
from pc15.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pc15", "pc15learn")


def project_files() -> list[Path]:
    """Files that are tracked, or would be: what .gitignore names is left out."""
    git = shutil.which("git")
    if git is None or not (ROOT / ".git").exists():
        pytest.skip("needs a git checkout")
    listed = subprocess.run(
        [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return sorted(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


@pytest.mark.parametrize(
    "path", sorted((ROOT / "configs").rglob("*.yaml")), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_every_yaml_loads(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text(encoding="utf-8")), dict)


@pytest.mark.parametrize("folder", ["datasets", "checkpoints"])
def test_data_folders_hold_no_python(folder: str) -> None:
    """With a .py in it, datasets/ would shadow the library of that name."""
    assert list((ROOT / folder).rglob("*.py")) == []


def test_no_file_names_a_registry_or_a_machine() -> None:
    hosts = ["pypi" + ".org", "python" + "hosted", "download." + "pytorch", "--index" + "-url http"]
    places = ["/home/" + r"\w", "/root" + "/", "/Users/" + r"\w", "/work" + "/", r"[A-Z]:\\\\?Users"]
    banned = re.compile("|".join([re.escape(host) for host in hosts] + [r"(?<![\w.~])" + p for p in places]))
    for path in project_files():
        data = path.read_bytes()
        if b"\0" in data:
            continue
        found = banned.search(data.decode("utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)} holds {found[0]!r}"


def test_files_are_small_enough_for_git() -> None:
    large = [path.name for path in project_files() if path.stat().st_size > 5 * 2**20]
    assert large == []


def test_only_paths_reads_the_environment() -> None:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path == ROOT / "pc15" / "paths.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
                assert name not in ("environ", "getenv"), (
                    f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', '?')} reads the environment; "
                    "ask pc15.paths instead"
                )


def test_the_version_is_one_literal() -> None:
    """The build reads it without importing the package, and so does the release check."""
    text = (ROOT / "pc15" / "_version.py").read_text(encoding="utf-8")
    assert len(re.findall(r'^__version__ = "\d+\.\d+\.\d+[^"]*"$', text, re.MULTILINE)) == 1


def test_constraints_are_exact_pins() -> None:
    lines = (ROOT / "configs" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [line for line in lines if line and not line.startswith("#")]
    assert "torch==2.13.0" in pins
    for pin in pins:
        assert re.fullmatch(r'[a-z0-9-]+==[\w.]+( ; python_version >= "3\.\d+")?', pin), pin
    names = [pin.split("==")[0] for pin in pins]
    assert names == sorted(set(names))


def test_all_that_make_installs_is_pinned() -> None:
    lines = (ROOT / "configs" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned, seen = {line.split("==")[0] for line in lines}, set[tuple[str, tuple[str, ...]]]()

    def walk(name: str, extras: set[str]) -> None:
        for text in metadata.requires(name) or []:
            needed = Requirement(text)
            asked = [{"extra": extra} for extra in extras | {""}]
            if needed.marker is not None and not any(needed.marker.evaluate(one) for one in asked):
                continue
            key = re.sub(r"[-_.]+", "-", needed.name).lower(), tuple(sorted(needed.extras))
            if key not in seen and not key[0].startswith(("nvidia-", "cuda-")):
                seen.add(key)
                with contextlib.suppress(metadata.PackageNotFoundError):  # not every installation has everything
                    walk(needed.name, set(needed.extras))

    walk("pc15", {"all"})
    assert {name for name, _ in seen} - {"pc15"} <= pinned


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_lists_its_targets() -> None:
    shown = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    for target in ("demo", "test", "lint", "types", "golden", "docs", "clean"):
        assert f"make {target} " in shown


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_an_old_python_gets_one_clear_line(tmp_path: Path) -> None:
    old = tmp_path / "python2"
    old.write_text(
        f"#!{sys.executable}\nimport sys\nsys.version_info, sys.version = (3, 8, 0), '3.8.0 (x)'\n"
        "sys.executable = 'python2'\nexec(sys.argv[2])\n"
    )
    old.chmod(0o755)
    for python, says in [
        (old, "python2 is Python 3.8.0, and pc15 needs 3.11 or newer"),
        ("no-such", "no 'no-such'"),
    ]:
        ran = subprocess.run(
            ["make", "lint", f"PYTHON={python}", f"VENV={tmp_path / 'venv'}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert ran.returncode != 0
        assert f"error: {says}" in ran.stderr
        assert "Traceback" not in ran.stderr
        assert not (tmp_path / "venv").exists()


def test_a_wheel_carries_the_configs_where_names_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("setuptools", minversion="77")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("configs", "checkpoints"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    for package in PACKAGES:
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").touch()
        shutil.copy(ROOT / package / "py.typed", tmp_path / package)
    shutil.copy(ROOT / "pc15" / "_version.py", tmp_path / "pc15")
    ran = subprocess.run(
        [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "build_py", "--build-lib", "built"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert all((tmp_path / "built" / package / "py.typed").is_file() for package in PACKAGES)
    built = tmp_path / "built" / "pc15" / "configs"
    texts = {path.relative_to(built): path.read_text() for path in built.rglob("*.yaml")}
    own = ROOT / "configs"
    assert texts == {path.relative_to(own): path.read_text() for path in own.rglob("*.yaml")}
    monkeypatch.setattr("pc15.config_files._PLACES", (built.parent,))
    weights = {path.name: path.read_bytes() for path in baseline_weights().iterdir()}
    assert weights == {path.name: path.read_bytes() for path in (ROOT / "checkpoints" / "baseline").iterdir()}
    assert find_config("selector", "learn") == built / "learn" / "selector.yaml"
    monkeypatch.setattr("pc15.config_files._PLACES", (tmp_path / "built",))
    with pytest.raises(ConfigError, match="install pc15 again"):
        find_config("selector", "learn")


def test_an_sdist_carries_what_its_wheel_is_built_of(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77")
    for name in ("pyproject.toml", "README.md", "MANIFEST.in"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("configs", "checkpoints"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__", "*.ckpt"))
    (tmp_path / "pc15").mkdir()
    shutil.copy(ROOT / "pc15" / "_version.py", tmp_path / "pc15")
    ran = subprocess.run(
        [sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "sdist"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    (archive,) = (tmp_path / "dist").iterdir()
    with tarfile.open(archive) as files:
        held = {name.partition("/")[2] for name in files.getnames()}
    needed = [*(ROOT / "configs").rglob("*.*"), *(ROOT / "checkpoints" / "baseline").iterdir()]
    assert {path.relative_to(ROOT).as_posix() for path in needed if path.suffix != ".pyc"} <= held


def test_type_checkers_of_others_take_the_annotations(tmp_path: Path) -> None:
    """As PEP 561 wants it: a package that is installed says that it has types."""
    pytest.importorskip("mypy")
    (tmp_path / "theirs.py").write_text(
        "from pc15.errors import Pc15Error\nfrom pc15.seed import tile_seed\n"
        "right: int = tile_seed(1, 2)\nwrong: str = tile_seed(1, 2)\n"
    )
    for package in PACKAGES:
        (tmp_path / "site" / package).mkdir(parents=True)
        for name in ("__init__.py", "errors.py", "seed.py", "py.typed"):
            if (ROOT / package / name).is_file():
                shutil.copy(ROOT / package / name, tmp_path / "site" / package)
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", "--cache-dir", "cache", "theirs.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, env=env,
    )  # fmt: skip
    assert "theirs.py:4: error: Incompatible types in assignment" in ran.stdout, ran.stdout
    assert "py.typed" not in ran.stdout


# ---------------------------------------------------------------- the house


KERNELS = {"jit", "jit_entry", "jit_inner", "_entry", "_inner"}
"""Decorators of compiled loops, which take no objects."""


def test_files_hold_one_idea_and_functions_take_few_parameters() -> None:
    long, wide = [], []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
            if len(text.splitlines()) > 500:
                long.append(name)
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.FunctionDef) and not any(kernel(one) for one in node.decorator_list):
                    taken = [one.arg for one in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                    if len(set(taken) - {"self", "cls"}) > 8:
                        wide.append(f"{name}:{node.name}")
    assert long == []
    assert wide == []


def kernel(decorator: ast.expr) -> bool:
    """True for a decorator that compiles a loop."""
    name = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (name.attr if isinstance(name, ast.Attribute) else getattr(name, "id", "")) in KERNELS


# ---------------------------------------------------------------- CI


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="a source distribution has no workflows")
def test_ci_runs_on_what_the_project_says_that_it_supports() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]
    versions = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert jobs["test"]["strategy"]["matrix"]["python"] == versions
    others = {"ubuntu-24.04-arm", "macos-latest", "windows-latest"}
    assert set(jobs["platforms"]["strategy"]["matrix"]["os"]) == others
    assert others < set(jobs["light"]["strategy"]["matrix"]["os"])
    lines = [step.get("run", "") for step in jobs["prerelease"]["steps"]]
    assert any("--pre --upgrade numba" in line for line in lines)
    for job in ("platforms", "prerelease"):
        words = " ".join(step.get("run", "") for step in jobs[job]["steps"]).split()
        named = [word for word in words if word.startswith("tests/")]
        assert named and all((ROOT / path).exists() for path in named)


@pytest.mark.skipif(not (ROOT / ".github").is_dir(), reason="a source distribution has no workflows")
def test_ci_keeps_the_report_of_the_tests_rd_plots_and_the_site() -> None:
    steps = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]["test"][
        "steps"
    ]
    (kept,) = [step["with"]["path"].split() for step in steps if "upload-artifact" in step.get("uses", "")]
    assert kept == ["build/pytest-report.xml", "build/rd*", "build/site"]
    made = " ".join([*(step.get("run", "") for step in steps), *(str(step.get("env", "")) for step in steps)])
    assert "--junitxml=build/pytest-report.xml" in made and "--html build/rd.html" in made
    assert "make docs" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")  # which builds the site


def test_docstrings_begin_with_a_noun_or_a_verb() -> None:
    crooked = re.compile(r'"""(What|Whether|Of|As|How) ')
    assert [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        for line in path.read_text(encoding="utf-8").splitlines()
        if crooked.search(line)
    ] == []
