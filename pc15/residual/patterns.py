"""Patterns that squares of 8x8 and more may add to their prediction: the codebook, and how a layer is drawn.

The codebook `v15_squares` holds for each size of square up to 1,023 patterns, the most useful first.  Generators drew
them once, with their own integer code (`pc15learn.codebooks.squares`), and what they drew is packaged: so a picture is
decoded without the generators and what they need, and a test draws all of them again.  A pattern is int8, zero where it
should leave the prediction alone, and of any norm; a layer's amount is its norm in quantizer steps:

    prediction += amount * step * pattern / norm(pattern)

so that an amount is to a pattern what a level is to a cosine.
"""

from __future__ import annotations

import functools
import hashlib
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pc15.errors import MissingTableError
from pc15.residual.context_models import I64, jit_inner
from pc15.residual.contexts import RANK_BITS
from pc15.residual.shapes import SIZES
from pc15.residual.syntax import SUPER, UNIT, BlockMap
from pc15.residual.tools import PATTERNS, TRELLIS

Ints = npt.NDArray[Any]

SQUARES_FILE = Path(__file__).with_name("v15_squares.npz")
DRAWN_SIDES = (8, 16, 32, 64)
"""Sides of squares that have a codebook, px."""
DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
"""Errors that NumPy raises of files that are missing or damaged."""
MAX_ENTRIES = (1 << RANK_BITS) - 1
SCALE_BITS = 28
MAX_LAYER = 1 << 15
"""Largest magnitude of what a layer adds, Q12: luma 8.0."""


class Patterns(NamedTuple):
    """Codebooks of all sizes in one row, for compiled loops.

    pixels: int8, pattern after pattern.   scale: int64, 2^SCALE_BITS / norm, per pattern.
    counts, first, start: [SIZES] int64, per log2 size - 2: patterns, the first one's place in `scale`, and in `pixels`.
    """

    pixels: Ints
    scale: Ints
    counts: Ints
    first: Ints
    start: Ints


def packed(books: list[Ints]) -> Patterns:
    """Codebooks [E,n,n] int8 of the sizes DRAWN_SIDES, as loops take them."""
    counts, first, start = (np.zeros(SIZES, np.int64) for _ in range(3))
    scale: list[int] = []
    at = 0
    for s, book in enumerate(books, 1):
        counts[s], first[s], start[s] = len(book), len(scale), at
        at += book.size
        squares = (book.astype(np.int64) ** 2).sum(axis=(1, 2))
        # the norm to 1/1024 of a pattern's unit, rounded down: integers alone
        scale += [(1 << SCALE_BITS + 10) // max(1, math.isqrt(int(square) << 20)) for square in squares]
    pixels = np.concatenate([book.reshape(-1) for book in books]) if at else np.zeros(1, np.int8)
    return Patterns(pixels, np.array(scale or [0], np.int64), counts, first, start)


@functools.cache
def squares() -> Patterns:
    """The packaged codebook.

    Raises:
        MissingTableError: it is missing or damaged.
    """
    return packed(read_books(SQUARES_FILE))


def read_books(path: Path) -> list[Ints]:
    """Patterns [E,n,n] int8 of each of DRAWN_SIDES in a file.

    Raises:
        MissingTableError: it is missing or damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as table:
            books = [np.ascontiguousarray(table[f"pixels_{side}"]) for side in DRAWN_SIDES]
    except DAMAGE as error:
        raise MissingTableError(f"codebook of patterns {path.name} is missing or damaged: {error}") from error
    for side, book in zip(DRAWN_SIDES, books, strict=True):
        if book.dtype != np.int8 or book.ndim != 3 or book.shape[1:] != (side, side) or len(book) > MAX_ENTRIES:
            raise MissingTableError(f"codebook of patterns {path.name} is for another version; reinstall pc15")
    return books


@functools.cache
def generators_of_squares() -> tuple[Ints, ...]:
    """Id of the generator that drew each pattern of the packaged codebook, [E] per side."""
    with np.load(SQUARES_FILE, allow_pickle=False) as table:
        return tuple(table[f"gen_{side}"].astype(np.int64) for side in DRAWN_SIDES)


def digest(books: list[Ints]) -> str:
    """SHA-256 of all patterns, by which a codebook is known."""
    found = hashlib.sha256()
    for book in books:
        found.update(np.asarray(book.shape, ">i4").tobytes() + book.tobytes())
    return found.hexdigest()


@functools.cache
def no_patterns() -> Patterns:
    """A codebook without entries."""
    return packed([np.zeros((0, side, side), np.int8) for side in DRAWN_SIDES])


def patterns_for(tools: int) -> Patterns:
    """The codebook that streams of these tools use: an empty one if none."""
    return squares() if tools & PATTERNS else no_patterns()


@jit_inner()
def names_unknown(field: BlockMap, x: int, y: int, log2: int, patterns: Patterns) -> bool:
    """True if the square of side 2^log2 at unit (x, y) names an entry that its codebook lacks."""
    for layer in range(field.layers[y, x]):
        if field.entry[y + (layer >> 1), x + (layer & 1)] >= patterns.counts[log2 - 2]:
            return True
    return False


@jit_inner()
def layer_step(unit: int, tools: int) -> int:
    """Width of the step that amounts are in, Q4, from that of what levels are in: with the tool TRELLIS half steps.

    There it is 27/32 of a step, about 2^(-1/4): a trellis has so much wider steps at the same price of a bit.
    """
    return (27 * unit) >> 4 if tools & TRELLIS else unit


@jit_inner()
def add_layer(entry: int, amount: int, log2: int, step: int, patterns: Patterns, pred: Ints) -> None:
    """pred [>=n,>=n] int32 Q12 += amount * step (Q4) of an entry, rounded."""
    n, s = 1 << log2, log2 - 2
    factor = amount * step * patterns.scale[patterns.first[s] + entry] >> 4  # 2^SCALE_BITS of a sample
    at = patterns.start[s] + (entry << 2 * log2)
    half = I64(1) << SCALE_BITS - 1
    for v in range(n):
        line, row = pred[v], patterns.pixels[at + v * n : at + v * n + n]
        for u in range(n):
            more = (factor * row[u] + half) >> SCALE_BITS
            line[u] += min(MAX_LAYER, max(-MAX_LAYER, more))


@jit_inner()
def add_layers(field: BlockMap, x: int, y: int, log2: int, step: int, patterns: Patterns, pred: Ints) -> None:
    """Add all patterns of the square at unit (x, y) to pred."""
    for layer in range(field.layers[y, x]):
        v, u = y + (layer >> 1), x + (layer & 1)
        add_layer(I64(field.entry[v, u]), I64(field.amount[v, u]), log2, step, patterns, pred)


def layers_at(field: BlockMap, x: int, y: int, side: int) -> list[tuple[int, int]]:
    """Entry and amount of each pattern of the square of `side` px at unit (x, y); none if there is no such square."""
    per_super = SUPER // UNIT
    if not field.on[y // per_super, x // per_super] or 1 << int(field.size[y, x]) != side:
        return []
    at = [(y + (layer >> 1), x + (layer & 1)) for layer in range(int(field.layers[y, x]))]
    return [(int(field.entry[place]), int(field.amount[place])) for place in at]


def layer_count(field: BlockMap) -> int:
    """Number of patterns of a field."""
    return int(np.ldexp(field.layers.astype(np.float64), 4 - 2 * field.size.astype(np.int64)).sum())


def layers_of(field: BlockMap) -> list[tuple[int, int, int]]:
    """All patterns of a field: log2 size - 2, entry, amount."""
    found = []
    for y, x in zip(*np.nonzero(field.layers), strict=True):
        s = int(field.size[y, x]) - 2
        v, u = int(y) & ((1 << s) - 1), int(x) & ((1 << s) - 1)
        if v < 2 and u < 2 and 2 * v + u < field.layers[y, x]:
            found.append((s, int(field.entry[y, x]), int(field.amount[y, x])))
    return found
