"""The GPU's kernels compute what the CPU's loops do, to the last bit; TRITON_INTERPRET=1 runs them without a GPU."""

from __future__ import annotations

import os

import pytest
import torch

from pc15.search import kernels
from pc15.search.screen import key_rows

pytest.importorskip("triton")
if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
    pytest.skip("no CUDA; TRITON_INTERPRET=1 runs Triton's kernels on the CPU", allow_module_level=True)

from pc15.search import gpu

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize(("side", "m", "keep"), [(4, 1, 1), (8, 9, 4), (13, 21, 21), (16, 17, 3), (32, 12, 5)])
def test_ranking_again(side: int, m: int, keep: int, device: torch.device) -> None:
    draw = torch.Generator().manual_seed(side)
    n, rows, classes, length = 7, 40, 3, side * side
    pixels = torch.randint(-127, 128, (rows, length), generator=draw, dtype=torch.int8)
    pixels[3], pixels[6] = 0, pixels[5]
    candidates = torch.stack([torch.randperm(rows, generator=draw)[:m] for _ in range(n)])
    candidates[torch.rand(candidates.shape, generator=draw) < 0.2] = -1
    packed = torch.randint(-127, 128, (n, length), generator=draw, dtype=torch.int8)
    packed[1] = 0  # nothing to draw: all that is left of a score is its cost
    quad = torch.randint(0, 1 << 20, (classes, length), generator=draw)
    cls = torch.randint(0, classes, (n,), generator=draw)
    price, bits = torch.rand(n, generator=draw), torch.rand(rows, generator=draw) * 4000
    bits[6] = bits[5]
    tensors = (candidates, packed, pixels, quad, cls, price, bits)
    expected = torch.empty((n, keep), dtype=torch.int64)
    kernels.rank_again(0, n, *(t.numpy() for t in tensors), expected.numpy())
    keys = gpu.rank_again(*(t.to(device) for t in tensors))
    assert torch.equal(key_rows(keys.topk(keep, dim=1).values).cpu(), expected)
