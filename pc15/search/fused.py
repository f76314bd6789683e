"""The one switch between tensor operations and the kernels of `gpu`, which do the same in far fewer launches."""

from __future__ import annotations

import functools
import logging
from types import ModuleType

import torch

_LOG = logging.getLogger(__name__)


def on_gpu(device: torch.device) -> bool:
    """Whether what lies on a device is worked on in the way of a GPU."""
    return device.type == "cuda"


def kernels_on(device: torch.device) -> ModuleType | None:
    """`pc15.search.gpu` for what lies on a GPU; None elsewhere, and without Triton."""
    return _kernels() if on_gpu(device) else None


@functools.cache
def _kernels() -> ModuleType | None:
    """Builds of torch for a GPU bring Triton."""
    try:
        from pc15.search import gpu
    except ImportError as error:
        _LOG.info("no Triton (%s): searching in tensor operations, with the same result", error)
        return None
    return gpu
