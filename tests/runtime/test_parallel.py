"""Threads: work in order, torch's operations alone where there is little to do, and everything as it was afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
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
    assert set(seen) == {1}
    assert torch.get_num_threads() == 2


FORK = """
import os, sys, torch
torch.set_num_threads(2)
from pc15 import CodecConfig, decode, encode
from pc15.errors import DeviceError
picture = torch.arange(3 * 300 * 300).remainder(256).byte().view(3, 300, 300)
cfg = CodecConfig.preset("fast", residual=False, max_layers=0, tile=16, device="cpu")
stream = encode(picture, cfg)["bitstream"]
want = decode(stream)
for fewer in (False, True):
    child = os.fork()
    if not child:
        said = []
        if fewer: torch.set_num_threads(1)
        for work in (lambda: encode(picture, cfg)["bitstream"] == stream, lambda: torch.equal(decode(stream), want)):
            try: said.append(str(work()))
            except DeviceError as error: said.append(str(error).partition(":")[0])
        print(*said, sep="\\n", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(torch.equal(decode(stream), want))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_fork_after_threads_is_told_so_instead_of_hanging() -> None:
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    ran = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=100, check=True, env=env)
    told = "this process was forked from one that had used threads, which do not survive a fork"
    assert ran.stdout.splitlines() == [told, told, "True", "True", "True"]
