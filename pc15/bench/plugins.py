"""Codecs of other packages in benchmarks, by the entry points `pc15.codecs`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError
from pc15.plugins import load_plugin

__all__ = ["PluginCodec", "plugin_codec"]


class PluginCodec(Protocol):
    """A codec of 8-bit gray planes to whole files and back.

    settings: its ladder, from small files to large ones.
    """

    settings: Sequence[float]

    def encode(self, plane: npt.NDArray[np.uint8], setting: float) -> bytes:
        """The file of a plane, [h,w]."""
        ...

    def decode(self, data: bytes) -> npt.NDArray[np.uint8]:
        """The plane of a file, [h,w]."""
        ...


@functools.cache
def plugin_codec(name: str) -> PluginCodec:
    """The codec that a package offers under a name.

    Raises:
        ConfigError: it cannot be loaded, or is no such codec.
    """
    found: Any = load_plugin("pc15.codecs", name)
    codec = found() if isinstance(found, type) else found
    missing = [part for part in ("settings", "encode", "decode") if not hasattr(codec, part)]
    if missing or not len(codec.settings):
        raise ConfigError(
            f"codec {name!r} has no {', '.join(missing) or 'setting'}; see pc15.bench.plugins.PluginCodec"
        )
    plugin: PluginCodec = codec
    return plugin
