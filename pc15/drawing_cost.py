"""Cost of drawing a stream's programs, and the most of it that a few bytes may ask for."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pc15.bitstream.header import Header, plane_size, tile_counts
from pc15.bitstream.programs import MAX_LAYERS, Programs
from pc15.errors import BitstreamError

__all__ = ["check_drawing_cost", "drawing_cost"]

_WEIGHT_COST = 8  # samples that are drawn in the time that a tile's weight in a column or row takes
_FREE_SAMPLES = 5 << 22  # of layers: a tile of 1024 px has 16 of them, and may be larger than its picture
_SAMPLES_PER_BYTE = 1 << 13  # of layers; a merged layer of 32 px in half a byte has a quarter of that
_MOST_LAYERS_OVER = 64
"""Samples of layers that a pixel which a caller vouches for may cost: 16 layers, of four tiles that overlap there."""


def drawing_cost(programs: Sequence[Programs], header: Header) -> int:
    """Samples that drawing all layers of a stream takes, and the weights to blend their tiles with."""
    cost = 0
    for which, own in enumerate(programs):
        if layers := int(own.count.sum()):
            tile = header.grids[which].spec.tile
            cost += layers * tile**2 + _WEIGHT_COST * sum(tile_counts(header, which)) * tile
    return cost


def check_drawing_cost(programs: Sequence[Programs], header: Header, size: int, max_pixels: int | None) -> None:
    """Refuse a stream whose few bytes ask for far more drawing than its picture's size explains.

    Layers of large tiles that overlap nearly whole cost a million samples for a pixel or two.

    Args:
        size: of the stream, bytes.   max_pixels: as the caller of `decode` gave it.
    Raises:
        BitstreamError: drawing would take more samples than the bytes, the picture or the caller vouch for.
    """
    pixels = sum(math.prod(plane_size(header, plane)) for plane in range(len(header.planes)))
    if max_pixels is None:
        most = max(_FREE_SAMPLES, MAX_LAYERS * pixels + _SAMPLES_PER_BYTE * size)
    else:
        most = _MOST_LAYERS_OVER * max_pixels
    if (cost := drawing_cost(programs, header)) > most:
        raise BitstreamError(
            f"a stream of {size} bytes asks for {cost} samples of layers on {pixels} pixels, over the limit of {most}; "
            f"if the source is trusted, pass max_pixels of {-(-cost // _MOST_LAYERS_OVER)} or more"
        )
