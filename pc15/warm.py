"""Preparation of a first use, done ahead and kept on disk: loops compiled for this machine, and banks of patterns.

A picture is coded in every way that a preset may choose, and decoded; it is small, so that nearly all of the time goes
into what is prepared.  Without torch there are photographs alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pc15.bitstream import read_container, residual_spans
from pc15.config import PRESETS, CodecConfig
from pc15.config_files import baseline_weights
from pc15.decoder import decode, decode_many
from pc15.encoder import encode, encode_many
from pc15.errors import ConfigError
from pc15.residual.bits import residual_bits
from pc15.runtime.notices import compiled
from pc15.runtime.tensors import has_torch
from pc15.search.sizes import SCREEN

if TYPE_CHECKING:
    from pc15.hooks.learned import AiHooks

_Bytes = npt.NDArray[np.uint8]

__all__ = ["WARM_TILES", "Warmed", "warm"]

WARM_TILES = (32,)
"""Tile sides, in px, of the banks that are drawn: those of hooks and of `--tile 32`."""
_SIDE = 136
"""Two superblocks and a bit of a third: every loop of the residual has a rim to meet."""
_PATTERN = SCREEN + 32
"""Larger than what is searched as it is: how gradients run is looked at first."""


@dataclass(frozen=True)
class Warmed:
    """A part of the work that is done: what it was for, seconds, and how many loops had to be compiled."""

    what: str
    seconds: float
    compiled: int


def warm(tiles: Sequence[int] = WARM_TILES, *, device: str = "auto") -> Iterator[Warmed]:
    """Prepare what coding pictures needs, part by part.

    Args:
        tiles: sides of tiles whose banks are drawn, 4..1024 px; none: what needs no bank, as the presets do.  Without
            torch no bank is drawn.
        device: that tile programs will be searched on.
    Raises:
        ConfigError: a tile size out of range, or twice.
    """
    if len(set(tiles)) < len(tiles):
        raise ConfigError(f"tiles are {', '.join(map(str, tiles))}; give each size once")
    # checked before anything is worked on
    programs = [CodecConfig.preset("balanced", tile=tile, residual=False, device=device) for tile in tiles]
    colour = _photo()
    gray = np.ascontiguousarray(colour[:1])
    streams: list[bytes] = []

    def encode_photos() -> None:
        for preset in PRESETS:
            cfg = CodecConfig.preset(preset, lambda_rd=0.25, device="cpu")
            streams.extend(one["bitstream"] for one in encode_many([colour, gray], cfg))
        streams.append(encode(colour, CodecConfig.preset("fast", section_rows=1, device="cpu"))["bitstream"])

    def decode_photos() -> None:
        decode_many(streams, output="numpy")
        for stream in streams:
            decode(stream, output="numpy")
        told = read_container(streams[1])  # where bits went, as `pc15 info` says
        ((span, payload), spec) = (
            next(zip(residual_spans(told.header), told.residuals, strict=True)),
            told.header.planes[0],
        )
        residual_bits(payload or b"", span.row_stop, told.header.width, spec.residual - 1, spec.tools)

    def encode_patterns() -> None:
        y, x = np.mgrid[:_PATTERN, :_PATTERN]
        stripes = 0.5 + 0.5 * np.sin((x + 0.6 * y) * 0.35)
        decode(encode(_as_pixels(stripes[None]), CodecConfig.preset("balanced", device="cpu"))["bitstream"])

    yield _timed("encoding photographs", encode_photos)
    yield _timed("decoding photographs", decode_photos)
    if not has_torch():
        return
    yield _timed("pictures of one pattern", encode_patterns)
    for cfg in programs:
        yield _timed(f"tile programs of {cfg.tile} px", lambda cfg=cfg: _code_programs(colour, cfg))  # type: ignore[misc]


def _code_programs(picture: _Bytes, cfg: CodecConfig) -> None:
    """Tile programs alone, in every way to search them, with merged layers, and with a residual upon them."""
    ways: list[dict[str, Any]] = [{}, {"search": "exhaustive"}, {"search": "indexed"}, {"ai": _hooks()}]
    for changes in (*ways, {"merge": True}, {"residual": True}):
        decode(encode(picture[:1], cfg.but(**changes))["bitstream"])
    decode(encode(picture, cfg)["bitstream"])


def _hooks() -> AiHooks | None:
    """Those of `--hooks baseline`."""
    from pc15.hooks.learned import AiHooks  # here: it takes torch

    return AiHooks.from_folder(baseline_weights())


def _timed(what: str, work: Callable[[], None]) -> Warmed:
    before, began = len(compiled), time.perf_counter()
    work()
    return Warmed(what, time.perf_counter() - began, len(compiled) - before)


def _photo() -> _Bytes:
    """A colour picture with edges, texture and flat places, uint8 [3,h,w], that does not look like one pattern."""
    y, x = np.mgrid[:_SIDE, :_SIDE] / 16.0
    rings, waves = np.sin(3.0 * np.hypot(x - 3.0, y - 5.0)), np.sin(2.3 * x + 1.1 * y) * np.cos(0.7 * y)
    ramp = (x + y) / (2.0 * _SIDE / 16.0) * 2.0 - 1.0
    picture = np.stack([0.6 * rings + 0.4 * np.sign(waves), waves, ramp]) * 0.35 + 0.5
    picture += np.random.default_rng(1).normal(0.0, 0.12, picture.shape)
    picture[:, : _SIDE // 3] = picture[:, : _SIDE // 3].mean(axis=(1, 2), keepdims=True)
    return _as_pixels(picture)


def _as_pixels(picture: npt.NDArray[np.float64]) -> _Bytes:
    return np.round(picture.clip(0.0, 1.0) * 255.0).astype(np.uint8)
