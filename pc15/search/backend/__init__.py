"""Steps of the search, by what runs them: `protocol.Backend` describes each of them, `backend_of` chooses."""

from __future__ import annotations

import functools
import logging

import torch

from pc15.search.backend import numba_ops, torch_ops
from pc15.search.backend.protocol import Backend

_LOG = logging.getLogger(__name__)


def backend_of(device: torch.device) -> Backend:
    """The implementation for tensors of a device."""
    return _on_cuda() if device.type == "cuda" else numba_ops


@functools.cache
def _on_cuda() -> Backend:
    """Builds of torch for a GPU bring Triton."""
    try:
        from pc15.search.backend.triton import ops
    except ImportError as error:
        _LOG.info("no Triton (%s): searching in tensor operations, with the same result", error)
        return torch_ops
    return ops
