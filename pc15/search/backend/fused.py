"""The one switch between tensor operations and loops that do the same in far fewer passes.

Kernels of `triton` on a GPU, loops of `numba_samples` on a CPU.
"""

from __future__ import annotations

import functools
import logging
from types import ModuleType

import torch

from pc15.search.backend import numba_samples

_LOG = logging.getLogger(__name__)


def on_gpu(device: torch.device) -> bool:
    """Whether what lies on a device is worked on in the way of a GPU."""
    return device.type == "cuda"


def kernels_on(device: torch.device) -> ModuleType | None:
    """`pc15.search.backend.triton` for what lies on a GPU; None elsewhere, and without Triton."""
    return _kernels() if on_gpu(device) else None


def loops_on(device: torch.device) -> ModuleType | None:
    """What works on the samples of tiles: `triton` as in `kernels_on`, `numba_samples` on a CPU.

    Both have `look`, `put`, `show` and `contributions`.
    """
    return kernels_on(device) if on_gpu(device) else numba_samples


@functools.cache
def _kernels() -> ModuleType | None:
    """Builds of torch for a GPU bring Triton."""
    try:
        from pc15.search.backend import triton
    except ImportError as error:
        _LOG.info("no Triton (%s): searching in tensor operations, with the same result", error)
        return None
    return triton
