"""A residual plane <-> bytes: the two public functions, their checks, and how planes are padded.

The picture is prediction + residual, clamped to [0, 1] and deblocked.  A payload is empty when every superblock is
off; otherwise it is one rANS stream: two raw bits for the filter's strength, then the superblocks (see `syntax`).
"""

from __future__ import annotations

import decimal
import functools
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.errors import BitstreamError, ConfigError
from pc15.residual.context_models import (
    BROKEN,
    DECODE,
    ENCODE,
    FILL,
    HALF,
    I64,
    KIND_SHIFT,
    MODE,
    OUTSIDE,
    POS,
    RANS_LOW,
    STATE,
    TAPE,
    jit_entry,
    pull,
    rans_bytes,
)
from pc15.residual.deblock import STRENGTHS, deblock
from pc15.residual.enc.rdo import ALL_PARTS, ROOM, Parts, encode_plane
from pc15.residual.initial_models import Contexts, start_models
from pc15.residual.intra import ZERO
from pc15.residual.reconstruct import SAMPLE_ONE, decode_plane, work
from pc15.residual.syntax import KIND_NAMES, PAD, RAW_FILTER, RIM, SUPER, UNIT, Field, write_plane

Ints = npt.NDArray[Any]

SAMPLE_LIMIT = 1 << 15
"""Largest magnitude of a prediction or a residual, luma 8.0: keeps every transform inside its integers."""
STEPS = 80
STATE_BYTES = 4
LAMBDA = 0.10
"""Lambda in units of the squared step, per bit: of 0.10, 0.12, 0.15, 0.18 the best, by 0.3 % of the bytes to 0.12."""


@dataclass(frozen=True)
class ResidualParams:
    """How a residual plane is coded.

    step: quantizer index, 0 (coarsest, 1.0 of luma) to 79 (about a quarter of an 8-bit level).
    lam: squared error in Q12 that one bit is worth; None takes LAMBDA * step^2.
    tries: predictions that are coded in full per square, at most; 1 to 8: more is slower and smaller.
    filtered: whether the deblocking filter may be used.
    parts: what else may be used; all of it, but in studies.
    contexts: how decisions are predicted; anything but "mixed" makes a payload that only `decode_residual` reads, told
        the same: for studies.
    """

    step: int
    lam: float | None = None
    tries: int = 3
    filtered: bool = True
    parts: Parts = ALL_PARTS
    contexts: Contexts = "mixed"

    def __post_init__(self) -> None:
        _check_step(self.step)
        if self.lam is not None and not self.lam >= 0.0:
            raise ConfigError(f"lambda is {self.lam}; give 0 or more, or None for the usual one")
        if not 1 <= self.tries <= 8:
            raise ConfigError(f"tries is {self.tries}; choose 1 to 8")

    @property
    def rate_weight(self) -> float:
        """Squared error in Q12 per bit."""
        return lambda_for(self.step) if self.lam is None else float(self.lam)


@dataclass(frozen=True, eq=False)
class ResidualCode:
    """A coded residual: bytes, the picture that a decoder makes of them ([h,w] int32 Q12), and counts."""

    payload: bytes
    reconstruction: Ints
    stats: dict[str, Any]


@functools.cache
def step_q4(index: int) -> int:
    """Width of a quantizer step in 1/16 of a Q12 sample: 2^(16 - index/8), rounded once."""
    with decimal.localcontext(decimal.Context(prec=30)):
        return int((Decimal(1 << 16) / (Decimal(2).ln() * index / 8).exp()).to_integral_value())


def lambda_for(step: int) -> float:
    """Squared error in Q12 that a bit is worth at a step."""
    return LAMBDA * (step_q4(step) / 16.0) ** 2


def encode_residual(target: Ints, prediction: Ints, params: ResidualParams) -> ResidualCode:
    """Code what a prediction leaves of a picture.

    Args:
        target: [h,w] integers, picture - prediction, Q12 (1.0 = 4096).
        prediction: [h,w] integers, Q12, what the decoder has before the residual.
    Returns:
        the payload, and the picture that `decode_residual` makes of it.
    Raises:
        ConfigError: shapes or types do not fit, or a value is beyond SAMPLE_LIMIT.
    """
    goal, base = _plane("target", target), _plane("prediction", prediction)
    if goal.shape != base.shape:
        raise ConfigError(f"target is {goal.shape}, prediction {base.shape}; give planes of one shape")
    h, w = goal.shape
    padded, below = _pad(goal), _pad(base)
    step, lam = step_q4(params.step), params.rate_weight
    field, drawn = empty_field(*padded.shape), np.zeros_like(padded)
    models = start_models(params.step, params.contexts)
    tape = encode_plane(padded, below, drawn, field, step, lam, models, params.tries, params.parts)
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
    picture = _finished(picture, h, w)
    tape = np.concatenate((_filter_decisions(best), tape))
    payload = rans_bytes(tape).tobytes()
    return ResidualCode(payload, picture, _stats(field, len(payload), tape, best))


def decode_residual(payload: bytes, prediction: Ints, step: int, contexts: Contexts = "mixed") -> Ints:
    """The picture, [h,w] int32 Q12 in [0, 4096], of a prediction [h,w] and a payload made with the same step.

    `contexts` as the payload was made with, "mixed" in streams.

    Raises:
        BitstreamError: the payload is cut, too long or damaged.
        ConfigError: the prediction is no plane of integers, or the step is out of range.
    """
    base = _plane("prediction", prediction)
    _check_step(step)
    if not payload:
        return np.clip(base, 0, SAMPLE_ONE)
    h, w = base.shape
    return _finished(_decoded(payload, _pad(base), *_padded(h, w), step, contexts), h, w)


def decode_flat(payload: bytes, h: int, w: int, level: int, step: int, table: npt.NDArray[np.uint8]) -> Ints:
    """`decode_residual` upon a prediction that is `level` everywhere, Q12, with every sample looked up; [h,w] uint8.

    Almost all of it without the GIL: many threads decode at once.

    Args:
        payload: not empty.   table: [4097] uint8, what the samples 0..4096 become.
    Raises:
        BitstreamError: the payload is cut, too long or damaged.
    """
    H, W = _padded(h, w)
    picture = _decoded(payload, np.full((1, W), level, np.int32), H, W, step)
    pixels = np.empty((h, w), np.uint8)
    _look_up(picture, table, pixels)
    return pixels


def residual_bits(payload: bytes, h: int, w: int, step: int) -> dict[str, float]:
    """Where the bits of a payload of a plane [h,w] went: by what a decision is about, the sum of -log2 of its chance.

    The sum is the payload's size to within four bytes, of which three and a fraction are the coder's own.

    Raises:
        BitstreamError: the payload is cut, too long or damaged.
        ConfigError: the step is out of range.
    """
    _check_step(step)
    if not payload:
        return {}
    field, strength = read_field(payload, h, w, step)
    tapes = [_filter_decisions(strength)]
    io, done = np.zeros(TAPE + 8 * ROOM, np.int64), 0
    models, stack, around = start_models(step), np.zeros((20, 3), np.int64), np.zeros(38 * RIM, np.int32)
    while done < field.on.size:  # written again, for the chances of all decisions
        io[MODE], io[FILL] = ENCODE, TAPE
        done = write_plane(models, io, field, done, ROOM, stack, around)
        tapes.append(io[TAPE : io[FILL]].copy())
    return _bits_by_kind(np.concatenate(tapes))


def empty_field(H: int, W: int, levels: tuple[int, int] | None = None) -> Field:
    """A field of a padded plane of which nothing is known yet; `levels` is the size of its levels, see `Field`."""
    units, supers = (H // UNIT, W // UNIT), (-(-H // SUPER), -(-W // SUPER))
    mode, size, active = (np.zeros(units, np.uint8) for _ in range(3))
    return Field(np.zeros(levels or (H, W), np.int32), mode, size, active, np.zeros(supers, np.uint8))


def read_field(payload: bytes, h: int, w: int, step: int) -> tuple[Field, int]:
    """All that a payload of a plane [h,w] says: the padded plane's field, and the filter's strength."""
    H, W = _padded(h, w)
    field = empty_field(H, W)
    _, strength = _read(payload, np.zeros((1, W), np.int32), field, step)
    return field, strength


def _decoded(payload: bytes, below: Ints, H: int, W: int, step: int, contexts: Contexts = "mixed") -> Ints:
    """The padded picture, [H,W] int32 Q12, filtered but not clamped again, that a payload makes of a prediction."""
    field = empty_field(H, W, levels=(SUPER, SUPER))
    picture, strength = _read(payload, below, field, step, contexts)
    picture += below
    return deblock(picture, field, step_q4(step), strength, out=picture)


def _read(payload: bytes, below: Ints, field: Field, step: int, contexts: Contexts = "mixed") -> tuple[Ints, int]:
    """Fill a field from a payload; returns the residual [H,W] int32 upon a prediction, and the filter's strength.

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
    units_down, units_across = field.size.shape
    drawn, models = np.empty((units_down * UNIT, units_across * UNIT), np.int32), start_models(step, contexts)
    stack, around = np.zeros((20, 3), np.int64), np.zeros(38 * RIM, np.int32)
    decode_plane(models, io, field, below, drawn, step_q4(step), stack, around, work())
    if io[BROKEN] == OUTSIDE:
        raise BitstreamError(f"residual of {size} bytes puts a level outside its block: it is damaged")
    if io[BROKEN]:
        raise BitstreamError(f"residual of {size} bytes ran out before its last superblock: it is cut or damaged")
    if io[STATE] != RANS_LOW or io[POS] != len(io):
        raise BitstreamError(
            f"residual ends at state {io[STATE]:#x} with {len(io) - io[POS]} of {size} bytes unread, not at "
            f"{RANS_LOW:#x} with none: it is damaged, or made for another step or size"
        )
    return drawn, int(strength)


def _filter_decisions(strength: int) -> Ints:
    """The filter's strength as two decisions."""
    return np.array([RAW_FILTER << KIND_SHIFT | HALF << 1 | bit for bit in (strength >> 1, strength & 1)], np.int64)


def _bits_by_kind(tape: Ints) -> dict[str, float]:
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


def _finished(picture: Ints, h: int, w: int) -> Ints:
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


@jit_entry()
def _squared_error(picture: Ints, goal: Ints) -> int:
    """Sum of squared errors of a padded picture once clamped, over the goal [h,w]."""
    total = 0
    for y in range(goal.shape[0]):
        for x in range(goal.shape[1]):
            error = min(max(I64(picture[y, x]), 0), SAMPLE_ONE) - goal[y, x]
            total += error * error
    return total


def _stats(field: Field, size: int, tape: Ints, strength: int) -> dict[str, Any]:
    """Counts for reports: bytes, binary decisions, their bits, share of area per block size and mode class, levels."""
    on = np.repeat(np.repeat(field.on, SUPER // UNIT, 0), SUPER // UNIT, 1)[
        : field.size.shape[0], : field.size.shape[1]
    ]
    area = np.bincount(field.size[on > 0], minlength=7)[2:]
    return {
        "bytes": size,
        "decisions": len(tape),
        "bits_by_kind": _bits_by_kind(tape) if size else {},
        "filter": strength,
        "superblocks_on": int(field.on.sum()),
        "superblocks": field.on.size,
        "share_of_size": {4 << i: round(int(n) / field.size.size, 4) for i, n in enumerate(area)},
        "share_zero_mode": round(float((field.mode == ZERO).mean()), 4),
        "share_uncoded": round(float((field.active == 0).mean()), 4),
        "levels": int(np.count_nonzero(field.level)),
    }


def _plane(name: str, plane: Ints) -> Ints:
    """A plane as [h,w] int32, checked."""
    array = np.asarray(plane)
    if array.ndim != 2 or array.size == 0 or not np.issubdtype(array.dtype, np.integer):
        raise ConfigError(f"{name} is {array.dtype} of shape {array.shape}; give integers as [h, w]")
    low, high = int(array.min()), int(array.max())
    if low < -SAMPLE_LIMIT or high > SAMPLE_LIMIT:
        raise ConfigError(f"{name} reaches from {low} to {high}; keep within {SAMPLE_LIMIT} of 0 (Q12: 4096 is 1.0)")
    return array.astype(np.int32)


def _padded(h: int, w: int) -> tuple[int, int]:
    """Size of a plane with both sides rounded up to multiples of PAD."""
    return h + -h % PAD, w + -w % PAD


def _pad(plane: Ints) -> Ints:
    """Repeat the last row and column until both sides are multiples of PAD."""
    h, w = plane.shape
    return np.ascontiguousarray(np.pad(plane, ((0, -h % PAD), (0, -w % PAD)), mode="edge"))


def _check_step(step: int) -> None:
    if not isinstance(step, int | np.integer) or isinstance(step, bool) or not 0 <= step < STEPS:
        raise ConfigError(f"quantizer step index is {step!r}; choose 0 (coarsest) to {STEPS - 1}")
