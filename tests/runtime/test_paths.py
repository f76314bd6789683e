"""Folders, the environment, and files that are written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pc15 import paths
from pc15.errors import ConfigError
from pc15.paths import PathsConfig, write_atomic


def test_folders_follow_from_the_base_and_appear_on_demand(tmp_path: Path) -> None:
    cfg = PathsConfig(base=tmp_path / "run", dataset_images=str(tmp_path / "photos"))
    assert not cfg.base.exists()
    assert cfg.ensure() is cfg and cfg.ensure() is cfg
    assert (cfg.artifacts, cfg.cache) == (tmp_path / "run/artifacts", tmp_path / "run/.cache")
    assert cfg.labels == tmp_path / "run/artifacts/labels"
    assert cfg.artifacts.is_dir() and cfg.cache.is_dir() and cfg.labels.is_dir()
    assert cfg.dataset_images == tmp_path / "photos" and not cfg.dataset_images.exists()


def test_labels_may_lie_elsewhere(tmp_path: Path) -> None:
    cfg = PathsConfig(base=tmp_path, labels_dir=tmp_path / "elsewhere", artifacts_subdir="out/a").ensure()
    assert cfg.labels == tmp_path / "elsewhere" and cfg.labels.is_dir()
    assert (tmp_path / "out/a").is_dir() and not (tmp_path / "out/a/labels").exists()


@pytest.mark.parametrize("subdir", ["", "/abs", "../out", "a/../../b"])
def test_a_subdir_that_leaves_the_base_is_refused(subdir: str) -> None:
    with pytest.raises(ConfigError, match="not a folder below base"):
        PathsConfig(base="run", artifacts_subdir=subdir)


def test_a_file_in_the_way_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_bytes(b"")
    with pytest.raises(ConfigError, match="artifacts: a file stands in its way"):
        PathsConfig(base=tmp_path).ensure()


def test_models_dir_is_none_until_it_is_set_and_must_exist(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PC15_MODELS_DIR", raising=False)
    assert paths.models_dir() is None
    monkeypatch.setenv("PC15_MODELS_DIR", str(tmp_path))
    assert paths.models_dir() == tmp_path
    monkeypatch.setenv("PC15_MODELS_DIR", str(tmp_path / "missing"))
    with pytest.raises(ConfigError, match="PC15_MODELS_DIR is .*missing"):
        paths.models_dir()


def test_the_cache_follows_its_variable_then_xdg_then_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PC15_CACHE_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert paths.cache_dir() == tmp_path / "own"
    monkeypatch.delenv("PC15_CACHE_DIR")
    assert paths.cache_dir() == tmp_path / "xdg" / "pc15"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert paths.cache_dir() == tmp_path / ".cache" / "pc15"
    assert not (tmp_path / ".cache").exists()


@pytest.mark.parametrize(("value", "allowed"), [("1", True), ("Yes", True), ("0", False), ("", False)])
def test_cpu_tests_are_allowed_by_their_variable(monkeypatch: pytest.MonkeyPatch, value: str, allowed: bool) -> None:
    monkeypatch.setenv("PC15_ALLOW_CPU_TESTS", value)
    assert paths.allow_cpu_tests() is allowed


def test_a_variable_that_is_neither_yes_nor_no_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PC15_ALLOW_CPU_TESTS", "maybe")
    with pytest.raises(ConfigError, match="set it to 1 or 0"):
        paths.allow_cpu_tests()


@pytest.mark.parametrize("module", ["pc15", "pc15.paths", "pc15.runtime.device"])
def test_reading_a_light_module_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules, 'numpy' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert ran.stdout.split() == ["False", "False"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    write_atomic(target, b"first")
    target.chmod(0o640)
    write_atomic(str(target), b"second")
    assert target.read_bytes() == b"second"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["out.bin"]


@pytest.mark.parametrize("fails", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_file_and_no_litter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str
) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, fails, full)
    with pytest.raises(OSError, match="No space left"):
        write_atomic(target, b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_a_missing_folder_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomic(tmp_path / "missing" / "out.bin", b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and /dev")
def test_links_are_followed_and_devices_survive(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "link.bin"
    link.symlink_to(tmp_path / "real" / "out.bin")
    write_atomic(link, b"data")
    assert link.is_symlink() and (tmp_path / "real" / "out.bin").read_bytes() == b"data"
    write_atomic(os.devnull, b"data")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
