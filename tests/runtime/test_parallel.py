"""Threads: work in order, torch's operations alone where there is little to do, and everything as it was afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import pc15.decoder as decoder_module
from pc15.errors import ConfigError
from pc15.runtime.parallel import parallel_map, single_thread, threads

GOLDEN = Path(__file__).resolve().parents[1] / "golden"


@pytest.fixture
def two_threads() -> Iterator[None]:
    usual = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(usual)


def test_results_come_in_order_and_only_chosen_items_leave_the_calling_thread(two_threads: None) -> None:
    with threads(2) as pool:
        found = [*parallel_map(pool, lambda i: (i, threading.get_ident()), range(6), only_if=lambda i: i % 2 == 1)]
    assert [i for i, _ in found] == [*range(6)]
    assert [where == threading.get_ident() for _, where in found] == [True, False] * 3
    assert torch.get_num_threads() == 2


def test_no_workers_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"), threads(0):
        pass


@pytest.mark.parametrize("few", [True, False])
def test_torch_works_alone_on_little_and_gets_its_threads_back(two_threads: None, few: bool) -> None:
    with pytest.raises(ZeroDivisionError), single_thread(only_if=few):
        assert torch.get_num_threads() == (1 if few else 2)
        raise ZeroDivisionError
    assert torch.get_num_threads() == 2


def test_a_small_picture_is_decoded_on_one_thread(two_threads: None, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, usual = [], decoder_module.resolve_device

    def watched(name: str | torch.device) -> torch.device:
        seen.append(torch.get_num_threads())
        return usual(name)

    monkeypatch.setattr(decoder_module, "resolve_device", watched)
    decoder_module.decode((GOLDEN / "tile_32.pc15").read_bytes())
    assert seen == [1]
    assert torch.get_num_threads() == 2
