"""The search of a plane, by two threads where there are two, with the same bytes by one.

A superblock can be chosen as soon as what it touches is drawn: in the row above, one superblock further to the right.
So two rows are searched at a time, the lower one behind the upper one.  Prices come from models that learn: those of a
row begin as they are after AHEAD superblocks of the row above it, and then learn from its own; to know the rest of the
row above would save 0.05 % of J.  What is written is learnt from in order, superblock after superblock, as in decoders.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from pc15.residual.context_models import ENCODE, FILL, MODE, TAPE
from pc15.residual.enc.gate import SquareChoice, make_gate
from pc15.residual.enc.rdo import search_row
from pc15.residual.enc.scratch import ALL_PARTS, THOROUGH, Parts, scratch
from pc15.residual.patterns import Patterns, patterns_for
from pc15.residual.reconstruct import Canvas, work
from pc15.residual.syntax import RIM, ROOM, SUPER, UNIT, BlockMap
from pc15.residual.tools import TRELLIS
from pc15.residual.tree import write_plane
from pc15.runtime.progress import Progress

Ints = npt.NDArray[Any]

AHEAD = 2
"""Superblocks by which a row is behind the one above: what lies above to the right is drawn."""
_TURNS = 12
"""Times per row that a thread tells how far it has come: each costs a tenth of a millisecond."""


@dataclass(frozen=True, eq=False)
class PlaneSearch:
    """Options of the search of a plane.

    step: Q4.   lam: squared error in Q12 per bit.   tries: predictions coded in full per square.   parts: means to use.
    record: [n, RECORD] float32, receives what squares of 8 to 64 px were like, for training.
    patterns: codebook; None for the packaged one.
    choice: what a hook lets be left out; None for nothing.
    progress: told of superblocks that are searched.
    """

    step: int
    lam: float
    tries: int
    parts: Parts = ALL_PARTS
    record: Ints | None = None
    patterns: Patterns | None = None
    choice: SquareChoice | None = None
    progress: Progress | None = None


def encode_plane(
    target: Ints, below: Ints, rec: Ints, field: BlockMap, m: Ints, search: PlaneSearch,
    pool: ThreadPoolExecutor | None = None,
) -> Ints:  # fmt: skip
    """Choose and code every superblock of a padded plane.

    Args:
        target: [H,W] int32 Q12, the residual wanted.   below: [H,W] int32 Q12, what it is added to.
        rec: [H,W] int32, receives the one that is coded.   m: models, which learn on the way.
        pool: a thread of it is a second one, if it is free; not where squares are recorded, which is done in order.
    Returns:
        the decisions, [n] int64, as in an `io` from TAPE on.
    """
    rows = _Rows(target, below, rec, field, m, search)
    second = pool.submit(rows.work) if pool is not None and search.record is None and len(field.on) > 1 else None
    rows.work(alone=second is None)
    if second is not None and not second.cancel():
        second.result()
    return rows.tape()


class _Rows:
    """Rows of superblocks of a plane that threads share out: each takes the next one that nobody has begun."""

    def __init__(self, target: Ints, below: Ints, rec: Ints, field: BlockMap, m: Ints, search: PlaneSearch) -> None:
        self._planes, self._field, self._models, self._search = (target, below, rec), field, m, search
        self._down, self._across = field.on.shape
        self._news = threading.Condition()
        self._begun = 0
        self._failure: BaseException | None = None
        self._done = [0] * self._down  # superblocks of each row
        # what is written is marked as it is in decoders, a step at a time: not where the search looks at it
        small = ("mode", "size", "active", "on", "layers", "entry", "amount", "cut")
        self._copy = field._replace(**{name: np.zeros_like(getattr(field, name)) for name in small})
        self._small, self._written = small, 0
        self._tape: list[Ints] = []
        patterns = patterns_for(field.tools) if search.patterns is None else search.patterns
        self._patterns, self._canvas = patterns, Canvas(below, rec, search.step, work(), patterns)
        self._io, self._stack, self._around = (
            _empty_io(2 * ROOM),
            np.zeros((20, 3), np.int64),
            np.zeros(38 * RIM, np.int32),
        )

    def work(self, alone: bool = False) -> None:
        """Search rows until all are begun; if alone, nobody waits for news of one."""
        search, (target, below, rec) = self._search, self._planes
        models = np.empty_like(self._models)
        wide = 2 * search.step if self._field.tools & TRELLIS else search.step
        gate = make_gate(search.choice, *target.shape)
        tries, parts = search.tries, search.parts
        if search.choice is not None and search.choice.tries is not None:
            tries, parts = min(tries, search.choice.tries), replace(parts, thorough=parts.thorough or tries >= THOROUGH)
        space = scratch(tries, parts, self._field.tools, wide, self._patterns, gate, search.record)
        run = search_row.bound(
            target, below, rec, self._field, search.step, search.lam, models, _empty_io(ROOM),
            np.zeros((20, 3), np.int64), space, work(), self._patterns,
        )  # fmt: skip
        turn = self._across if alone else -(-self._across // _TURNS)
        try:
            while (y := self._begin(models)) is not None:
                for first in range(0, self._across, turn):
                    stop = min(first + turn, self._across)
                    self._wait(y - 1, stop - 1 + AHEAD)
                    run(first, stop, y)
                    self._tell(y, stop)
        except BaseException as error:
            with self._news:
                self._failure = error
                self._news.notify_all()
            raise

    def tape(self) -> Ints:
        """All decisions, once all rows are searched."""
        self._write(self._field.on.size)
        return np.concatenate(self._tape)

    def _begin(self, models: Ints) -> int | None:
        """Take the next row, and the models that it begins with; None if there is none."""
        with self._news:
            y, self._begun = self._begun, self._begun + 1
        if y >= self._down:
            return None
        if y:
            self._wait(y - 2, self._across)
            self._wait(y - 1, AHEAD)
            self._write((y - 1) * self._across + min(AHEAD, self._across))
        models[:] = self._models
        return y

    def _wait(self, y: int, count: int) -> None:
        """Wait until so many superblocks of a row are drawn, or all."""
        count = min(count, self._across)
        with self._news:
            self._news.wait_for(lambda: y < 0 or self._done[y] >= count or self._failure is not None)
            if self._failure is not None:
                raise self._failure

    def _tell(self, y: int, count: int) -> None:
        with self._news:
            if self._search.progress is not None:
                self._search.progress.update(count - self._done[y])
            self._done[y] = count
            self._news.notify_all()

    def _write(self, stop: int) -> None:
        """Write superblocks up to number `stop`, which are chosen; one thread at a time comes here, row after row."""
        tall = SUPER // UNIT
        for name in self._small:
            scale = 1 if name == "on" else tall
            rows = slice(self._written // self._across * scale, -(-stop // self._across) * scale)
            getattr(self._copy, name)[rows] = getattr(self._field, name)[rows]
        while self._written < stop:
            self._io[FILL] = TAPE
            self._written = write_plane(
                self._models, self._io, self._copy, self._canvas, self._written, stop, ROOM, self._stack, self._around
            )
            self._tape.append(self._io[TAPE : self._io[FILL]].copy())


def _empty_io(room: int) -> Ints:
    """An `io` to write into, see `context_models`."""
    io = np.empty(TAPE + room, np.int64)
    io[:TAPE], io[FILL], io[MODE] = 0, TAPE, ENCODE
    return io
