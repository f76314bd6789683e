"""Loops share their work out among the threads that torch would use, and give them back."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pc15.search.backend import numba_scores


@pytest.fixture(params=[1, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """That many for torch, and so for loops."""
    usual = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(usual)


def test_a_crew_does_everything_once_and_gives_torch_its_threads_back(threads: int) -> None:
    done = torch.zeros(100, dtype=torch.int64)

    def work(start: int, stop: int, step: int) -> None:
        assert torch.get_num_threads() == 1
        done[start:stop] += step

    with numba_scores.crew() as size:
        assert size == threads
        with numba_scores.crew() as inside:
            assert inside == threads
        numba_scores.share_out(work, 100, 2)
    assert torch.equal(done, torch.full((100,), 2))
    numba_scores.share_out(work, 100, 3)
    assert torch.equal(done, torch.full((100,), 5))
    assert torch.get_num_threads() == threads
    with pytest.raises(ZeroDivisionError):
        numba_scores.share_out(lambda start, _stop: 1 // start, 100)
    assert torch.get_num_threads() == threads
