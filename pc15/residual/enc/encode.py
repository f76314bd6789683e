"""A picture and a prediction -> a payload of the residual: the encoder's function and its options."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.errors import ConfigError
from pc15.residual.bits import bits_by_kind, filter_decisions
from pc15.residual.context_models import I64, jit_entry, rans_bytes
from pc15.residual.deblock import STRENGTHS, deblock
from pc15.residual.decode import (
    check_step,
    check_tools,
    checked_guides,
    checked_plane,
    empty_field,
    finished,
    level_q4,
    pad_edges,
    step_q4,
)
from pc15.residual.enc.gate import SquareChoice
from pc15.residual.enc.plane import PlaneSearch, encode_plane
from pc15.residual.enc.scratch import ALL_PARTS, Parts
from pc15.residual.enc.wiener_fit import fit_loop
from pc15.residual.initial_models import Contexts, start_models
from pc15.residual.intra import ZERO
from pc15.residual.patterns import layer_count
from pc15.residual.reconstruct import SAMPLE_ONE
from pc15.residual.syntax import SUPER, UNIT, BlockMap
from pc15.residual.tools import TRELLIS, WIENER
from pc15.residual.wiener import no_loop
from pc15.runtime.progress import Progress

Ints = npt.NDArray[Any]

LAMBDA = 0.10
"""Lambda in units of the squared step, per bit: of 0.10, 0.12, 0.15, 0.18 the best, by 0.3 % of the bytes to 0.12."""
TRELLIS_LAMBDA = 0.067
"""And with the tool `trellis`."""


@dataclass(frozen=True)
class ResidualParams:
    """Options of coding a residual plane.

    step: quantizer index, 0 (coarsest, 1.0 of luma) to 79 (about a quarter of an 8-bit level).
    lam: squared error in Q12 that one bit is worth; None takes LAMBDA * step^2.
    tries: predictions that are coded in full per square, at most; 1 to 8: more is slower and smaller.
    tools: bits of the coding tools that are used, see `tools`; a decoder is told the same.
    filtered: whether the deblocking filter may be used.
    parts: what else may be used; all of it, but in studies.
    contexts: how decisions are predicted; anything but "mixed" makes a payload that only `decode_residual` reads, told
        the same: for studies.
    choice: ways to code squares that a hook lets be left out; None tries all.
    progress: told of superblocks that are searched.
    """

    step: int
    lam: float | None = None
    tries: int = 3
    tools: int = 0
    filtered: bool = True
    parts: Parts = ALL_PARTS
    contexts: Contexts = "mixed"
    choice: SquareChoice | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        check_step(self.step)
        check_tools(self.tools)
        if self.tools & TRELLIS and not self.parts.by_rate:
            raise ConfigError("levels on a trellis are chosen by rate; leave the tool trellis out to have them rounded")
        if self.lam is not None and not self.lam >= 0.0:
            raise ConfigError(f"lambda is {self.lam}; give 0 or more, or None for the usual one")
        if not 1 <= self.tries <= 8:
            raise ConfigError(f"tries is {self.tries}; choose 1 to 8")

    @property
    def rate_weight(self) -> float:
        """Squared error in Q12 per bit."""
        return lambda_for(self.step, self.tools) if self.lam is None else float(self.lam)


@dataclass(frozen=True, eq=False)
class ResidualCode:
    """A coded residual: bytes, the picture that a decoder makes of them ([h,w] int32 Q12), and counts."""

    payload: bytes
    reconstruction: Ints
    stats: dict[str, Any]


def lambda_for(step: int, tools: int) -> float:
    """Squared error in Q12 that a bit is worth at a step."""
    return relative_lambda(tools) * (step_q4(step) / 16.0) ** 2


def relative_lambda(tools: int) -> float:
    """Lambda in units of the squared step, per bit."""
    return TRELLIS_LAMBDA if tools & TRELLIS else LAMBDA


def encode_residual(
    target: Ints,
    prediction: Ints,
    params: ResidualParams,
    guides: Ints | None = None,
    pool: ThreadPoolExecutor | None = None,
) -> ResidualCode:
    """Code what a prediction leaves of a picture.

    Args:
        target: [h,w] integers, picture - prediction, Q12 (1.0 = 4096).
        prediction: [h,w] integers, Q12, what the decoder has before the residual.
        guides: [k,h,w] int16, with the tool CROSS, see `cross.guides_of`.
        pool: a thread of it may help; the bytes are the same.
    Returns:
        the payload, and the picture that `decode_residual` makes of it.
    Raises:
        ConfigError: shapes or types do not fit, or a value is beyond SAMPLE_LIMIT.
    """
    goal, base = checked_plane("target", target), checked_plane("prediction", prediction)
    if goal.shape != base.shape:
        raise ConfigError(f"target is {goal.shape}, prediction {base.shape}; give planes of one shape")
    h, w = goal.shape
    seen = checked_guides(guides, h, w, params.tools)
    padded, below = pad_edges(goal), pad_edges(base)
    step, lam = step_q4(params.step), params.rate_weight
    unit = level_q4(params.step, params.tools)
    field, drawn = empty_field(len(padded), padded.shape[1], params.tools, guides=seen), np.zeros_like(padded)
    models = start_models(params.step, params.tools, params.contexts)
    search = PlaneSearch(unit, lam, params.tries, params.parts, choice=params.choice, progress=params.progress)
    tape = encode_plane(padded, below, drawn, field, models, search, pool)
    if not field.on.any():
        return ResidualCode(b"", np.clip(base, 0, SAMPLE_ONE), _stats(field, 0, tape[:0], 0))
    drawn += below
    goal += base
    least, best, picture = -1, 0, drawn
    for strength in range(len(STRENGTHS) if params.filtered else 1):
        filtered = deblock(drawn, field, step, strength)
        error = _squared_error(filtered, goal)
        if least < 0 or error < least:
            least, best, picture = error, strength, filtered
    loop = no_loop(field.on.shape)
    if params.tools & WIENER:
        loop, picture = fit_loop(picture, goal, lam)
    picture = finished(picture, h, w)
    tape = np.concatenate((filter_decisions(best, loop, params.tools), tape))
    payload = rans_bytes(tape).tobytes()
    return ResidualCode(payload, picture, _stats(field, len(payload), tape, best))


@jit_entry()
def _squared_error(picture: Ints, goal: Ints) -> int:
    """Sum of squared errors of a padded picture once clamped, over the goal [h,w]."""
    total = 0
    for y in range(goal.shape[0]):
        for x in range(goal.shape[1]):
            error = min(max(I64(picture[y, x]), 0), SAMPLE_ONE) - goal[y, x]
            total += error * error
    return total


def _stats(field: BlockMap, size: int, tape: Ints, strength: int) -> dict[str, Any]:
    """Counts for reports: bytes, binary decisions, their bits, share of area per block size and mode class, levels."""
    on = np.repeat(np.repeat(field.on, SUPER // UNIT, 0), SUPER // UNIT, 1)[
        : field.size.shape[0], : field.size.shape[1]
    ]
    area = np.bincount(field.size[on > 0], minlength=7)[2:]
    return {
        "bytes": size,
        "decisions": len(tape),
        "bits_by_kind": bits_by_kind(tape) if size else {},
        "filter": strength,
        "superblocks_on": int(field.on.sum()),
        "superblocks": field.on.size,
        "share_of_size": {4 << i: round(int(n) / field.size.size, 4) for i, n in enumerate(area)},
        "share_zero_mode": round(float((field.mode == ZERO).mean()), 4),
        "share_uncoded": round(float((field.active == 0).mean()), 4),
        "patterns": layer_count(field),
        "share_drawn": round(float((field.layers > 0).mean()), 4),
        "levels": int(np.count_nonzero(field.level)),
    }
