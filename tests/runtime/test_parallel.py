"""Loops share their work out among the threads that torch would use, and give them back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pc15.runtime.parallel import parallel_range, reserved_threads


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """That many for torch, and so for loops."""
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(usual)


def test_reserved_threads_do_everything_once_and_gives_torch_its_threads_back(threads: int) -> None:
    done = torch.zeros(100, dtype=torch.int64)

    def work(start: int, stop: int, step: int) -> None:
        assert torch.get_num_threads() == 1
        done[start:stop] += step

    with reserved_threads() as size:
        assert size == threads
        with reserved_threads() as inside:
            assert inside == threads
        parallel_range(work, 100, 2)
    assert torch.equal(done, torch.full((100,), 2))
    parallel_range(work, 100, 3)
    assert torch.equal(done, torch.full((100,), 5))
    assert torch.get_num_threads() == threads
    with pytest.raises(ZeroDivisionError):
        parallel_range(lambda start, _stop: 1 // start, 100)
    assert torch.get_num_threads() == threads
