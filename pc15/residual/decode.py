"""A payload of the residual -> picture: the decoder's functions, their checks, and how planes are padded.

The picture is prediction + residual, clamped to [0, 1] and filtered.  A payload is empty when every superblock is off;
otherwise it is one rANS stream: two raw bits for the deblocking's strength, with that tool the filter of `wiener`, then
the superblocks (see `syntax`).
"""

from __future__ import annotations

import decimal
import functools
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.errors import BitstreamError, ConfigError
from pc15.residual.context_models import (
    BROKEN,
    DECODE,
    HALF,
    MODE,
    OUTSIDE,
    POS,
    RANS_LOW,
    STATE,
    TAPE,
    UNKNOWN,
    jit_entry,
    pull,
)
from pc15.residual.cross import WAYS
from pc15.residual.deblock import deblock
from pc15.residual.initial_models import Contexts, start_models
from pc15.residual.patterns import patterns_for
from pc15.residual.reconstruct import SAMPLE_ONE, Canvas, work
from pc15.residual.syntax import PAD, RIM, SUPER, UNIT, BlockMap
from pc15.residual.tools import ALL_TOOLS, BORDERS, CROSS, PATTERNS, TRELLIS, WIENER
from pc15.residual.tree import read_plane
from pc15.residual.wiener import Loop, code_loop, loop_models, no_loop, wiener

Ints = npt.NDArray[Any]

SAMPLE_LIMIT = 1 << 15
"""Largest magnitude of a prediction or a residual, luma 8.0: keeps every transform inside its integers."""
STEPS = 80
STATE_BYTES = 4


def level_q4(index: int, tools: int) -> int:
    """Width in 1/16 of a Q12 sample of what fields count levels in: a step, or with the tool `trellis` half of one."""
    return step_q4(index + 8) if tools & TRELLIS else step_q4(index)


@functools.cache
def step_q4(index: int) -> int:
    """Width of a quantizer step in 1/16 of a Q12 sample: 2^(16 - index/8), rounded once."""
    with decimal.localcontext(decimal.Context(prec=30)):
        return int((Decimal(1 << 16) / (Decimal(2).ln() * index / 8).exp()).to_integral_value())


def decode_residual(
    payload: bytes,
    prediction: Ints,
    step: int,
    tools: int = 0,
    contexts: Contexts = "mixed",
    guides: Ints | None = None,
) -> Ints:
    """The picture, [h,w] int32 Q12 in [0, 4096], of a prediction [h,w] and a payload made with the same step and tools.

    Args:
        contexts: as the payload was made with, "mixed" in streams.
        guides: [k,h,w] int16, with the tool CROSS, see `cross.guides_of`; others than the payload was made with change
            the picture, but not how the payload is read.
    Raises:
        BitstreamError: the payload is cut, too long or damaged.
        ConfigError: the prediction is no plane of integers, the step or the tools are out of range, or the guides do
            not fit them.
    """
    base = checked_plane("prediction", prediction)
    check_step(step)
    check_tools(tools)
    h, w = base.shape
    seen = checked_guides(guides, h, w, tools)
    if not payload:
        return np.clip(base, 0, SAMPLE_ONE)
    return finished(_decoded(payload, pad_edges(base), *padded_size(h, w), step, tools, contexts, seen), h, w)


def decode_flat(
    payload: bytes,
    h: int,
    w: int,
    level: int,
    step: int,
    tools: int,
    table: npt.NDArray[np.uint8],
    guides: Ints | None = None,
) -> Ints:
    """`decode_residual` upon a prediction that is `level` everywhere, Q12, with every sample looked up; [h,w] uint8.

    Almost all of it without the GIL: many threads decode at once.

    Args:
        payload: not empty.   table: [4097] uint8, what the samples 0..4096 become.   guides: as of `decode_residual`.
    Raises:
        BitstreamError: the payload is cut, too long or damaged.
    """
    H, W = padded_size(h, w)
    seen = checked_guides(guides, h, w, tools)
    picture = _decoded(payload, np.full((1, W), level, np.int32), H, W, step, tools, guides=seen)
    pixels = np.empty((h, w), np.uint8)
    _look_up(picture, table, pixels)
    return pixels


def empty_field(
    H: int, W: int, tools: int, levels: tuple[int, int] | None = None, guides: Ints | None = None
) -> BlockMap:
    """A field of a padded plane of which nothing is known yet; `levels` is the size of its levels, see `BlockMap`."""
    units, supers = (H // UNIT, W // UNIT), (-(-H // SUPER), -(-W // SUPER))
    mode, size, active, layers, cut = (np.zeros(units, np.uint8) for _ in range(5))
    entry, amount = (np.zeros(units if tools & PATTERNS else (1, 1), np.int16) for _ in range(2))
    level, on = np.zeros(levels or (H, W), np.int32), np.zeros(supers, np.uint8)
    seen = np.zeros((0, H, W), np.int16) if guides is None else guides
    return BlockMap(level, mode, size, active, on, tools, layers, entry, amount, seen, cut)


def read_field(
    payload: bytes, h: int, w: int, step: int, tools: int, plane: int = 0
) -> tuple[BlockMap, int, Loop, Ints]:
    """All that a payload of a plane [h,w] says: the padded plane's field, the deblocking's strength, and the filter.

    And the residual [H,W] int32 before both filters, upon 0: by that alone, with the tool BORDERS, the payload is read.

    Args:
        plane: its number among the picture's, which tells how many guides it has with the tool CROSS.
    """
    check_tools(tools)
    H, W = padded_size(h, w)
    guides = checked_guides(np.zeros((plane, h, w), np.int16) if tools & CROSS else None, h, w, tools)
    field = empty_field(H, W, tools, guides=guides)
    drawn, strength, loop = _read(payload, np.zeros((1, W), np.int32), field, step)
    return field, strength, loop, drawn


def _decoded(
    payload: bytes,
    below: Ints,
    H: int,
    W: int,
    step: int,
    tools: int,
    contexts: Contexts = "mixed",
    guides: Ints | None = None,
) -> Ints:
    """The padded picture, [H,W] int32 Q12, filtered but not clamped again, that a payload makes of a prediction."""
    field = empty_field(H, W, tools, levels=(SUPER, SUPER), guides=guides)
    picture, strength, loop = _read(payload, below, field, step, contexts)
    picture += below
    return wiener(deblock(picture, field, step_q4(step), strength, out=picture), loop)


def _read(
    payload: bytes, below: Ints, field: BlockMap, step: int, contexts: Contexts = "mixed"
) -> tuple[Ints, int, Loop]:
    """Fill a field from a payload; returns the residual [H,W] int32 upon a prediction, and as `read_field`.

    below: [H,W] int32 Q12, or [1,W] if all rows are alike.
    """
    size = len(payload)
    if size < STATE_BYTES:
        raise BitstreamError(f"residual of {size} bytes is cut: it starts with {STATE_BYTES} bytes of state")
    data = np.frombuffer(payload, np.uint8).astype(np.int64)
    io = np.concatenate((np.zeros(TAPE, np.int64), data))
    io[STATE], io[POS], io[MODE] = int.from_bytes(payload[:STATE_BYTES], "big"), TAPE + STATE_BYTES, DECODE
    if io[STATE] < RANS_LOW:
        raise BitstreamError(f"residual starts at state {io[STATE]:#x}, below 2^24: it is damaged")
    strength = pull.py_func(io, HALF) << 1 | pull.py_func(io, HALF)  # as Python: no compiled loop for two bits
    loop = no_loop(field.on.shape)
    if field.tools & WIENER:
        code_loop(loop_models(), io, loop)
    units_down, units_across = field.size.shape
    drawn = np.empty((units_down * UNIT, units_across * UNIT), np.int32)
    models = start_models(step, field.tools, contexts)
    stack, around = np.zeros((20, 3), np.int64), np.zeros(38 * RIM, np.int32)
    unit, patterns = level_q4(step, field.tools), patterns_for(field.tools)
    read_plane(models, io, field, Canvas(below, drawn, unit, work(), patterns), stack, around)
    if io[BROKEN] == OUTSIDE:
        raise BitstreamError(f"residual of {size} bytes puts a level outside its block: it is damaged")
    if io[BROKEN] == UNKNOWN:
        raise BitstreamError(f"residual of {size} bytes names a pattern that its codebook lacks: it is damaged")
    if io[BROKEN]:
        raise BitstreamError(f"residual of {size} bytes ran out before its last superblock: it is cut or damaged")
    if io[STATE] != RANS_LOW or io[POS] != len(io):
        raise BitstreamError(
            f"residual ends at state {io[STATE]:#x} with {len(io) - io[POS]} of {size} bytes unread, not at "
            f"{RANS_LOW:#x} with none: it is damaged, or made for another step or size"
        )
    return drawn, int(strength), loop


def finished(picture: Ints, h: int, w: int) -> Ints:
    """A filtered, padded picture, clamped and cropped."""
    return np.ascontiguousarray(np.clip(picture[:h, :w], 0, SAMPLE_ONE))


@jit_entry()
def _look_up(picture: Ints, table: Ints, pixels: Ints) -> None:
    """pixels [h,w] = table [4097] of the samples of a padded picture, clamped."""
    h, w = pixels.shape
    for y in range(h):
        samples, line = picture[y], pixels[y]
        for x in range(w):
            line[x] = table[min(max(samples[x], 0), SAMPLE_ONE)]


def checked_plane(name: str, plane: Ints) -> Ints:
    """A plane as [h,w] int32, checked."""
    array = np.asarray(plane)
    if array.ndim != 2 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"{name} is {array.dtype} of shape {array.shape}; give integers as [h, w]")
    low, high = int(array.min()), int(array.max())
    if low < -SAMPLE_LIMIT or high > SAMPLE_LIMIT:
        raise ConfigError(f"{name} reaches from {low} to {high}; keep within {SAMPLE_LIMIT} of 0 (Q12: 4096 is 1.0)")
    return array.astype(np.int32)


def checked_guides(guides: Ints | None, h: int, w: int, tools: int) -> Ints | None:
    """Guides of a plane [h,w], checked and padded as it is; None without the tool CROSS."""
    if guides is None and not tools & CROSS:
        return None
    most = len(WAYS) - 1
    if guides is None or not tools & CROSS:
        raise ConfigError("a plane with the tool cross, and no other, needs the planes before it as guides")
    if guides.dtype != np.int16 or guides.ndim != 3 or guides.shape[1:] != (h, w) or not 1 <= len(guides) <= most:
        raise ConfigError(
            f"guides are {guides.dtype} of shape {guides.shape}; give 1 to {most} planes of int16 as [k, {h}, {w}]"
        )
    return np.ascontiguousarray(np.pad(guides, ((0, 0), (0, -h % PAD), (0, -w % PAD)), mode="edge"))


def padded_size(h: int, w: int) -> tuple[int, int]:
    """Size of a plane with both sides rounded up to multiples of PAD."""
    return h + -h % PAD, w + -w % PAD


def pad_edges(plane: Ints) -> Ints:
    """Repeat the last row and column until both sides are multiples of PAD."""
    h, w = plane.shape
    return np.ascontiguousarray(np.pad(plane, ((0, -h % PAD), (0, -w % PAD)), mode="edge"))


def check_step(step: int) -> None:
    if not isinstance(step, int | np.integer) or isinstance(step, bool) or not 0 <= step < STEPS:
        raise ConfigError(f"quantizer step index is {step!r}; choose 0 (coarsest) to {STEPS - 1}")


def check_tools(tools: int) -> None:
    if not isinstance(tools, int) or isinstance(tools, bool) or tools & ~ALL_TOOLS:
        raise ConfigError(f"tools are {tools!r}; give bits of {ALL_TOOLS}, which `tools_of` makes of names")
    if tools & CROSS and tools & BORDERS:
        raise ConfigError("tools are cross and borders together; a plane that is predicted from others has one of them")
