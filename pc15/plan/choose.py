"""Choice among the ways to code a plane: whichever costs least is kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pc15.bitstream.header import (
    CRC_BYTES,
    MAX_TILE,
    Header,
    PlaneSpec,
    ResidualSpan,
    grids_of,
    residual_spans,
    section_spans,
)
from pc15.bitstream.header_bytes import pack_plane
from pc15.bitstream.programs import MAX_LAYERS, Programs
from pc15.bitstream.varints import varint
from pc15.config import CodecConfig
from pc15.errors import ConfigError
from pc15.luma import MIDDLE, to_pixels
from pc15.plan.picture import Picture, PlaneTask
from pc15.plan.plan import (
    AUTO_TILES,
    Plan,
    header_of,
    is_open,
    plane_config,
    plane_spec,
    plans_of,
    residual_lambda,
)
from pc15.plan.write import Chosen, write_section
from pc15.residual.cross import guides_of
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.syntax import SUPER
from pc15.residual.tools import CROSS, tools_of
from pc15.runtime.notices import say_once
from pc15.runtime.parallel import parallel_map
from pc15.runtime.progress import Progress
from pc15.runtime.tensors import has_torch
from pc15.search.coherence import is_coherent, is_sum_of_waves, may_be_pattern
from pc15.search.sizes import SCREEN

if TYPE_CHECKING:
    from torch import Tensor

    from pc15.hooks.squares import SquareChoice
    from pc15.search.climb import States

__all__ = ["choose"]

MOST_LEFT_BY_WHOLE = 0.7
"""Share that one tile over the whole plane may leave of what the base of tiles leaves, if it is to lie under them."""

BITS_PER_EMPTY_TILE = 2
"""Bits of a tile that changes nothing."""

COARSE_LAYERS_BEYOND_BANK = 2
"""Layers of coarse tiles that are searched beyond the bank: of more, smaller tiles draw what is left."""

LEAST_BITS_OF_WHOLE = 160
"""A plane that costs less, or a flat one would in squared error, is not looked at as one pattern: that takes more."""

NO_PATTERNS = (
    "a plane looks like one pattern, which is not looked for without torch: it is coded as a photograph; "
    'to code patterns, pip install "pc15[programs]"'
)
"""Notice, given once where torch is missing and gradients speak for a pattern.  Where a plane is only too cheap for
them to rule one out, as many chroma planes of photographs are, nothing is said: see docs/decisions/0007-light.md."""


NOT_ASKED = (
    "the hooks are about tile programs, of which a photograph has none: they change nothing; for a picture of programs "
    "alone give --tile 32 --residual off, for the search of photographs hooks that answer `squares`"
)
"""Notice, given once."""


@dataclass(eq=False)
class Coded:
    """One plane, coded.

    programs: of each of its grids.
    residuals: payload of each section of the residual.   tallies: bits of each by kind.
    patterns: how many the residual's squares add.   about: how hooks that narrowed its search describe themselves.
    cost: J / lambda, in bits: rate + distortion / lambda.  The distortion is D for programs alone, the search's own
        measure, else squared error.
    squared: the same by squared error in any case.   bits: the rate alone.
    All three are 0 if there is nothing to compare them with.
    pixels: [h,w] uint8, what a decoder makes of it, if planes after it may be predicted from that; else None.
    """

    spec: PlaneSpec
    programs: Sequence[Programs]
    residuals: list[bytes]
    tallies: list[dict[str, float]]
    patterns: int
    cost: float
    squared: float
    bits: float
    pixels: NDArray[np.uint8] | None
    about: Mapping[str, Any] | None


class CodedRows(NamedTuple):
    """Pixel rows of a plane, coded.

    payload, tally, patterns, about: of their residual, if they have one.
    squared, wrong: squared error / lambda, and D / lambda where programs are searched by D, in bits; 0 if there is
        nothing to compare them with.
    pixels: as of `Coded`.
    """

    payload: bytes
    tally: dict[str, float]
    patterns: int
    squared: float
    wrong: float
    pixels: NDArray[np.uint8] | None
    about: Mapping[str, Any] | None


def choose(
    picture: Picture,
    cfg: CodecConfig,
    progress: Progress,
    pool: ThreadPoolExecutor | None = None,
) -> Chosen:
    """Decide on each plane of a picture.

    Args:
        pool: threads that sections of a residual may be shared out to.
    """
    width, height = picture.width, picture.height
    coded: list[Coded] = []
    section_rows: int | None = None
    for i in range(len(picture.planes)):
        own = plane_config(cfg, chroma=i > 0)
        task = PlaneTask(i, own, progress, pool)
        before = [one.pixels for one in coded if one.pixels is not None]
        coded.append(PlaneCoder(picture, task, section_rows, picture.known[i], before).choose())
        section_rows = header_of((coded[0].spec,) * len(picture.planes), width, height, cfg).section_rows
    programs = [part for one in coded for part in one.programs]
    # what hooks did not steer costs no bytes to say
    hooks: Mapping[str, Any] | None = coded[0].about
    if cfg.ai is not None and any(part.tiles for part in programs):
        hooks = cfg.ai.describe()
    elif cfg.ai is not None and hooks is None:
        say_once("hooks", NOT_ASKED)
    return Chosen(
        header_of(tuple(one.spec for one in coded), width, height, cfg),
        programs,
        [payload for one in coded for payload in one.residuals],
        [tally for one in coded for tally in one.tallies],
        sum(one.patterns for one in coded),
        {"ai": dict(hooks)} if hooks else None,
    )


@dataclass(eq=False)
class PlaneCoder:
    """Codes one plane of a picture one way or another.

    section_rows: as the luma plane has settled it, None before.
    known: as `Picture.known`, of this plane by these options.
    before: pixels of the planes before it, [h,w] uint8, as a decoder has them; none if it is not predicted from them.
    """

    picture: Picture
    task: PlaneTask
    section_rows: int | None
    known: dict[tuple[int, int], Programs]
    before: Sequence[NDArray[np.uint8]] = ()

    @property
    def index(self) -> int:
        """Number of the plane."""
        return self.task.index

    @property
    def cfg(self) -> CodecConfig:
        """The plane's own options."""
        return self.task.cfg

    @property
    def plane(self) -> NDArray[np.int32]:
        """[h,w] int32 Q12."""
        return self.picture.planes[self.index]

    @property
    def tensor(self) -> Tensor:
        """The same where programs are searched."""
        return self.picture.tensor(self.index)

    @property
    def guiding(self) -> bool:
        """Tell if planes after this one may be predicted from it."""
        followed = self.index + 1 < len(self.picture.planes)
        return followed and self.cfg.residual and tools_of(self.cfg.tools) & CROSS > 0

    @property
    def open(self) -> bool:
        """Tell if there is a choice."""
        return is_open(self.plane, self.cfg)

    def choose(self) -> Coded:
        """The plane, coded as it costs least."""
        if not self.open:
            return self.best(plans_of(self.cfg))
        side = max(self.plane.shape)
        patterned = SCREEN < side <= MAX_TILE  # one tile may lie over all of it
        if self.cfg.residual:
            found = self.best(plans_of(self.cfg))
            return self._whole(found) if patterned else found
        # ways are compared after a quick search each
        options = self.cfg.but(passes=0, sweeps=min(1, self.cfg.sweeps), refine=0)
        quick = self if options == self.cfg else replace(self, task=replace(self.task, cfg=options), known={})
        rough = quick._other_sizes(quick.best(plans_of(self.cfg)))
        found = rough if quick is self else self.best([Plan(rough.spec.tile, 0, False)])
        layers: list[list[States]] = []
        if self.cfg.coarse is None:
            layers = self._beyond_tiles() if patterned else []
            rough = quick._upon_whole(quick._upon_larger(rough), layers)
        found = self._whole(found) if patterned else found
        if rough.spec.under is not None:
            found = self.best([Plan(rough.spec.tile, rough.spec.under.tile, False)], found, layers)
        return found

    def _whole(self, found: Coded) -> Coded:
        """The best so far, or one tile over the whole plane if a glance says that it may cost less, and it does."""
        layers = self.detected_layers(found.squared)
        refined = sorted({False, self.cfg.residual})
        return self.best([Plan(max(self.plane.shape), 0, r) for r in refined], found, layers) if layers else found

    def _other_sizes(self, found: Coded, coarse: int = 0) -> Coded:
        """The best of other tile sizes: smaller ones as long as that gains; if it never does, larger ones.

        Args:
            coarse: px, of the grid under them.
        """
        tile, largest = found.spec.tile, coarse or max(self.plane.shape)
        for sizes in ([s for s in AUTO_TILES[::-1] if s < tile], [s for s in AUTO_TILES if s > tile]):
            before = found
            for size in sizes:
                one = self.best([Plan(size, coarse, False)], found) if size < largest else found
                if one is found:
                    break
                found = one
            if found is not before:
                break
        return found

    def _upon_larger(self, found: Coded) -> Coded:
        """The best so far, or its tiles upon a coarse grid of larger ones already searched, if that costs less."""
        tile = found.spec.tile
        for size in sorted(size for size, coarse in self.known if not coarse and size > tile):
            if self._promises(size, found):
                if not self.cfg.merge:  # layers are merged within sections, which may have other rows now
                    self.known[0, size] = self.known[size, 0]
                found = self.best([Plan(tile, size, False)], found)
        return found

    def _upon_whole(self, found: Coded, layers: Sequence[Sequence[States]]) -> Coded:
        """The best so far, or tiles upon one over the whole plane, of these layers roughly, if that costs less."""
        if not layers:
            return found
        side = max(self.plane.shape)
        one = self.best([Plan(found.spec.tile, side, False)], found, layers)
        return found if one is found else self._other_sizes(one, side)

    def _promises(self, coarse: int, found: Coded) -> bool:
        """Quick bound: would a coarse grid and smaller tiles without layers upon it cost less than the best so far?"""
        from pc15.plan.tiles import error_upon_coarse

        one = self.best([Plan(coarse, 0, False)])
        left = error_upon_coarse(self.tensor, one.programs[0], one.spec, found.spec, self.task)
        left /= residual_lambda(self.cfg.lambda_rd)
        return one.bits + left + BITS_PER_EMPTY_TILE * found.programs[-1].tiles < found.squared

    def _beyond_tiles(self) -> list[list[States]]:
        """Layers of one tile over the whole plane, if they draw much of what the base of tiles leaves."""
        from pc15.plan.tiles import layers_of_rest

        return layers_of_rest(self.tensor, self.task, MOST_LEFT_BY_WHOLE)

    def best(self, plans: Sequence[Plan], found: Coded | None = None, layers: Sequence[Sequence[States]] = ()) -> Coded:
        """The cheapest of the best so far and of plans, a tie to the first.

        Plans of one tile size share their programs.  Where there is something already, a search for them is given up
        as soon as nothing cheaper is in sight.  `layers` are suggestions for a plane of one tile.
        """
        limit = math.inf if found is None else found.squared
        for plan in plans:
            if (programs := self._programs(plan, limit, layers)) is not None:
                one = self._code(programs, self._header(plan))
                found = one if found is None or one.cost < found.cost else found
        assert found is not None, "there is always a tile size to try"
        return found

    def _header(self, plan: Plan) -> Header:
        """Header for this plane coded by `plan`.

        The other planes are assumed alike; callers read only this plane's fields.
        """
        spec = plane_spec(self.cfg, plan, chroma=self.index > 0)
        header = header_of((spec,) * len(self.picture.planes), self.picture.width, self.picture.height, self.cfg)
        return header if self.section_rows is None else replace(header, section_rows=self.section_rows)

    def _programs(self, plan: Plan, limit: float, layers: Sequence[Sequence[States]]) -> list[Programs] | None:
        """Programs of the plane's grids; None if their cost would be above the limit."""
        if not plan.tile:
            return [Programs.empty(0)]
        header, below = self._header(plan), []
        if plan.coarse:
            coarse = self.known.get((0, plan.coarse))
            if coarse is None:
                alone = self._header(Plan(plan.coarse, 0, False))
                alone = replace(alone, section_rows=header.section_rows)
                coarse = self._search(alone, math.inf, layers, [], COARSE_LAYERS_BEYOND_BANK)
                assert coarse is not None, "there is no limit"
                self.known[0, plan.coarse] = coarse
            below, layers = [coarse], []
        own = self.known.get(plan[:2])
        if own is None:
            own = self._search(header, limit, layers, below)
        if own is None:
            return None
        self.known[plan[:2]] = own
        return [*below, own]

    def detected_layers(self, cost: float) -> list[list[States]]:
        """Layers of one tile over the whole plane, if it is worth its time now that `cost` can be had."""
        if cost < LEAST_BITS_OF_WHOLE:
            return []
        samples = self.plane.astype(np.int64)
        total, square = int(samples.sum()), int((samples * samples).sum())
        energy = (square - total * total / self.plane.size) / residual_lambda(self.cfg.lambda_rd)
        if energy <= LEAST_BITS_OF_WHOLE:
            return []
        most = (cost - LEAST_BITS_OF_WHOLE) / energy  # layers cost as much
        if not may_be_pattern(self.plane, most):
            return []
        if not has_torch():
            if is_coherent(self.plane) or is_sum_of_waves(self.plane):
                say_once("pattern", NO_PATTERNS)
            return []
        from pc15.plan.tiles import layers_of_plane

        return layers_of_plane(self.tensor, self.task, most)

    def _search(
        self,
        header: Header,
        limit: float,
        layers: Sequence[Sequence[States]],
        below: Sequence[Programs],
        most: int = MAX_LAYERS,
    ) -> Programs | None:
        """Programs of the tiles that the header says; None if their cost would be above the limit.

        Args:
            below: those of the coarse grid, if the tiles lie upon one.   most: layers of tiles that are searched beyond
                the bank.
        """
        from pc15.plan.tiles import search_tiles

        price = residual_lambda(self.cfg.lambda_rd)
        return search_tiles(self.tensor, header, self.task, limit * price, layers, below, most)

    def _code(self, programs: Sequence[Programs], header: Header) -> Coded:
        """The plane by these programs and, if the header says so, a residual; what it costs only if that matters."""
        spec = header.planes[self.index]
        spans = [span for span in residual_spans(header) if span.plane == self.index]
        drawn = None
        if spec.tile and (self.open or spans):
            from pc15.plan.tiles import drawn_plane

            drawn = drawn_plane(programs, header, self.task, self.tensor.device)
        parts = spans or [ResidualSpan(self.index, 0, len(self.plane))] * self.open
        many = len(parts) > 1  # else the one there is may have a thread to help it
        helped = None if many else self.task.pool
        if spec.residual:
            self.task.progress.unit = "superblock"
            across = -(-self.plane.shape[1] // SUPER)
            self.task.progress.reset(total=across * sum(-((one.row_start - one.row_stop) // SUPER) for one in parts))
        work = parallel_map(
            self.task.pool, lambda span: self._rows(span, spec, drawn, helped), parts, only_if=lambda _: many
        )
        rows = [*work]
        residuals = [one.payload for one in rows if spec.residual]
        tallies = [one.tally for one in rows if spec.residual]
        patterns = sum(one.patterns for one in rows)
        squared, wrong = sum(one.squared for one in rows), sum(one.wrong for one in rows)
        bits = 0.0
        if self.open:
            bits += 8.0 * sum(map(len, residuals))
            bits += 8.0 * (len(pack_plane(spec)) - len(pack_plane(replace(spec, under=None))))
            first = grids_of(header, self.index).start
            for span in section_spans(header):
                if header.grids[span.grid].plane == self.index:
                    own = programs[span.grid - first]
                    payload = write_section(header, span, own, self.task.tables, self.task.codebook).rans_bytes()
                    framing = CRC_BYTES + len(varint(len(payload))) if header.grids[span.grid].coarse else 0
                    bits += 8.0 * (len(payload) + framing)  # all plans but those of a residual alone frame one grid
        cost = bits + (squared if self.cfg.residual else wrong)
        shown = [one.pixels for one in rows if one.pixels is not None]
        pixels = np.concatenate(shown) if shown else None
        about = next((one.about for one in rows if one.about), None)
        return Coded(spec, programs, residuals, tallies, patterns, cost, bits + squared, bits, pixels, about)

    def _rows(
        self, span: ResidualSpan, spec: PlaneSpec, drawn: NDArray[np.int32] | None, pool: ThreadPoolExecutor | None
    ) -> CodedRows:
        """Pixel rows upon what programs draw of the plane, [h,w] Q12, or middle grey."""
        part, price = slice(span.row_start, span.row_stop), residual_lambda(self.cfg.lambda_rd)
        payload, tally, patterns, squared, wrong, choice = b"", {}, 0, 0.0, 0.0, None
        goal = self.plane[part]
        picture = np.full_like(goal, MIDDLE) if drawn is None else drawn[part]
        if spec.residual:
            choice = self._asked(goal - picture, goal, price)
            params = ResidualParams(
                spec.residual - 1, price, self.cfg.tries, spec.tools, choice=choice, progress=self.task.progress
            )
            guides = guides_of(self.before, *part.indices(len(self.plane))[:2]) if spec.tools & CROSS else None
            code = encode_residual(goal - picture, picture, params, guides, pool)
            payload, tally, picture = code.payload, code.stats["bits_by_kind"], code.reconstruction
            patterns = code.stats["patterns"]
        if self.open:
            error = goal.astype(np.int64) - picture
            squared = float((error * error).sum()) / price
            if not self.cfg.residual:
                from pc15.plan.tiles import distortion

                wrong = distortion(goal, picture, self.cfg)
        pixels = to_pixels(picture) if self.guiding else None
        return CodedRows(payload, tally, patterns, squared, wrong, pixels, choice.about if choice else None)

    def _asked(self, wanted: NDArray[np.int32], picture: NDArray[np.int32], price: float) -> SquareChoice | None:
        """A hook's opinion of which ways to code squares are worth trying."""
        ask = getattr(self.cfg.ai, "squares", None)
        if ask is None:
            return None
        from pc15.hooks.squares import SquareChoice, SquareView

        choice: object = ask(SquareView(wanted, picture, price, self.cfg.tries, self.cfg.tools))
        if choice is None or isinstance(choice, SquareChoice):
            return choice
        raise ConfigError(f"squares of the hooks answers with {type(choice).__name__}; give a SquareChoice, or None")
