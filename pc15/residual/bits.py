"""Where the bits of a residual went, by what its decisions are about: for reports."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import ENCODE, FILL, HALF, KIND_SHIFT, MODE, TAPE, jit_entry
from pc15.residual.decode import check_step, check_tools, read_field
from pc15.residual.initial_models import start_models
from pc15.residual.patterns import generators_of_squares, layers_of
from pc15.residual.syntax import KIND_NAMES, RAW_FILTER, RIM, ROOM, write_plane
from pc15.residual.tools import PATTERNS, WIENER
from pc15.residual.wiener import LOOP_ROOM, Loop, code_loop, loop_models

Ints = npt.NDArray[Any]


def residual_bits(payload: bytes, h: int, w: int, step: int, tools: int, plane: int = 0) -> dict[str, float]:
    """Where the bits of a payload of a plane [h,w] went: by what a decision is about, the sum of -log2 of its chance.

    `plane` is its number among the picture's, as of `read_field`.

    The sum is the payload's size to within four bytes, of which three and a fraction are the coder's own.

    Raises:
        BitstreamError: the payload is cut, too long or damaged.
        ConfigError: the step or the tools are out of range.
    """
    check_step(step)
    check_tools(tools)
    if not payload:
        return {}
    field, strength, loop = read_field(payload, h, w, step, tools, plane)
    tapes = [filter_decisions(strength, loop, tools)]
    io, done = np.zeros(TAPE + 8 * ROOM, np.int64), 0
    models, stack, around = start_models(step, tools), np.zeros((20, 3), np.int64), np.zeros(38 * RIM, np.int32)
    while done < field.on.size:  # written again, for the chances of all decisions
        io[MODE], io[FILL] = ENCODE, TAPE
        done = write_plane(models, io, field, done, ROOM, stack, around)
        tapes.append(io[TAPE : io[FILL]].copy())
    return bits_by_kind(np.concatenate(tapes))


def residual_layers(
    payload: bytes, h: int, w: int, step: int, tools: int, plane: int = 0
) -> tuple[dict[int, tuple[int, int]], int]:
    """Patterns in a payload of a plane [h,w]: by generator's id (layers, pixels of their squares), and pixels drawn.

    Raises:
        BitstreamError: the payload is cut, too long or damaged.
        ConfigError: the step or the tools are out of range.
    """
    check_step(step)
    check_tools(tools)
    used: dict[int, tuple[int, int]] = {}
    if not payload or not tools & PATTERNS:
        return used, 0
    field, _, _ = read_field(payload, h, w, step, tools, plane)
    generators = generators_of_squares()
    for s, entry, _ in layers_of(field):
        gen = int(generators[s - 1][entry])
        layers, area = used.get(gen, (0, 0))
        used[gen] = layers + 1, area + (16 << 2 * s)
    return used, 16 * int(np.count_nonzero(field.layers))


def filter_decisions(strength: int, loop: Loop, tools: int) -> Ints:
    """Decisions about filters: the deblocking's strength, two, and if the tools have one the filter of `wiener`."""
    io = np.zeros(TAPE + 2 + (LOOP_ROOM + loop.on.size if tools & WIENER else 0), np.int64)
    io[MODE], io[FILL] = ENCODE, TAPE + 2
    io[TAPE : TAPE + 2] = [RAW_FILTER << KIND_SHIFT | HALF << 1 | bit for bit in (strength >> 1, strength & 1)]
    if tools & WIENER:
        code_loop(loop_models(), io, loop)
    return io[TAPE : io[FILL]]


def bits_by_kind(tape: Ints) -> dict[str, float]:
    """Information of the decisions by what they are about, in bits."""
    sums = np.zeros(len(KIND_NAMES))
    _tally(tape, _information(), sums)
    found: dict[str, float] = {}
    for name, total in zip(KIND_NAMES, sums.tolist(), strict=True):
        found[name] = found.get(name, 0.0) + total
    return found


@functools.cache
def _information() -> Ints:
    """Bits of an outcome whose chance is i/65536; [65536] float64, of which the first is never asked for."""
    return np.append(0.0, 16.0 - np.log2(np.arange(1.0, 65536.0)))


@jit_entry()
def _tally(tape: Ints, information: Ints, sums: Ints) -> None:
    """Add the information of decisions up, by their kind."""
    for i in range(len(tape)):
        one = tape[i] >> 1 & 65535
        sums[tape[i] >> KIND_SHIFT] += information[one if tape[i] & 1 else 65536 - one]
