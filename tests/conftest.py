"""What all tests share: one thread, no files in the user's cache, GPU tests that skip without a GPU.

Without a GPU, Triton's kernels run in its interpreter.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from pc15.paths import allow_cpu_tests

if not torch.cuda.is_available() and importlib.util.find_spec("triton") is not None:
    os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels ask for it when they are defined

# The same examples on every run and every machine; slow CI machines are not a failure.
settings.register_profile("pc15", deadline=None, derandomize=True, database=None, max_examples=50)
settings.load_profile("pc15")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=2, help="SIGKILLs at random moments in the test of labels")


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    """How often the test of labels that are killed kills."""
    return int(request.config.getoption("--kills"))


def pytest_configure() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)  # long ones first: no worker waits at the end
    if torch.cuda.is_available() or allow_cpu_tests():
        return
    skip = pytest.mark.skip(reason="no CUDA; PC15_ALLOW_CPU_TESTS=1 runs it on the CPU")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Banks go to this run's temporary folder, which its workers share, unless PC15_CACHE_DIR is set."""
    if "PC15_CACHE_DIR" in os.environ:
        yield
        return
    base = Path(tmp_path_factory.getbasetemp())
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["PC15_CACHE_DIR"] = str(run / "pc15-cache")
    yield
    del os.environ["PC15_CACHE_DIR"]


@pytest.fixture
def few_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches beyond the bank begin at few points: for tests of what is chosen and said, not of how well it fits."""
    from pc15.search.climb import Climber

    monkeypatch.setitem(Climber.starting.__kwdefaults__, "most", 300)


@pytest.fixture
def device() -> torch.device:
    """CUDA where there is one, else the CPU (which a test marked gpu reaches by PC15_ALLOW_CPU_TESTS=1)."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
