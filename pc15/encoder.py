"""Picture -> tiles -> winners -> records -> bytes.

Each plane is coded one way or several: by programs of tiles of one size or another, a residual, or both; whichever
costs least is kept.  The same input and options give the same bytes, on every device.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.alphabets import check_tables
from pc15.bitstream.container import Stream, write_container
from pc15.bitstream.header import (
    COLOR_GRAY,
    COLOR_YCBCR420,
    CRC_BYTES,
    MAX_TILE,
    PAYLOAD_RANS,
    PAYLOAD_RAW,
    SUPERBLOCK,
    WINDOWS,
    Header,
    PlaneSpec,
    ResidualSpan,
    SectionSpan,
    grids_of,
    pack_plane,
    plane_size,
    residual_spans,
    section_spans,
    tile_counts,
    varint,
)
from pc15.bitstream.ports import Writer
from pc15.bitstream.programs import MAX_LAYERS, Programs, TileRec
from pc15.bitstream.read import coded_alike, section_syntax
from pc15.bitstream.sections import code_section, code_sections
from pc15.color import rgb_to_ycbcr420
from pc15.config import CodecConfig, default_overlap
from pc15.dc_surface import surface
from pc15.draw import neutral_level_q12, plane_grid, predict_grid, predict_plane
from pc15.entropy.tables import TableSet, load_table
from pc15.errors import ConfigError, DeviceError, ImageError
from pc15.hooks.protocol import EncoderHooks
from pc15.images import check_luma
from pc15.luma import MIDDLE, SAMPLE_ONE, as_q12
from pc15.proc.codebook import Codebook, load_codebook
from pc15.quant import MSE_SCALE, steps_for
from pc15.residual.bits import residual_bits
from pc15.residual.decode import STEPS
from pc15.residual.enc.encode import LAMBDA, ResidualParams, encode_residual
from pc15.runtime.device import resolve_device
from pc15.runtime.parallel import parallel_map, threads
from pc15.search.bank import SCREEN
from pc15.search.continuous import States
from pc15.search.plane import PlaneEncoder, bands, precisely, search_band, searched_together
from pc15.search.score import plane_distortion
from pc15.search.single_pattern import sketch
from pc15.tiling import TileGridCfg, TileSpec, extract, grid

CHROMA_LAMBDA = 0.5
"""What chroma planes pay per bit, in luma's terms.

A compromise of what luma loses and what PSNR over all planes, weighted 6:1:1, and CIEDE2000 gain on photographs.
"""

_LOG = logging.getLogger(__name__)

AUTO_TILES = (8, 16, 32, 64, 128, 256)
"""Tile sides, px, that the encoder chooses among where there is to be no residual."""
_FIRST = 2  # of them is tried first

_BEYOND = 0.7
"""Share that one tile over the whole plane may leave of what the base of tiles leaves, if it is to lie under them."""
_TILE_BITS = 2  # of a tile that changes nothing
_COARSE_LAYERS = 2  # of coarse tiles that are searched beyond the bank: of more, smaller tiles draw what is left

WHOLE_BITS = 160
"""A plane that costs less, or a flat one would in squared error, is not looked at as one pattern: that takes more."""

_SECTION_TILES = 1 << 14  # tiles from which a plane is cut into sections of its own accord,
_SECTION_SUPERBLOCKS = 1 << 11  # or superblocks without tiles: 8 megapixels, of which a residual holds 60 bytes each
_TOGETHER = 1 << 24  # samples of many planes that are searched together

# ---------------------------------------------------------------- planes


class _Plan(NamedTuple):
    """A way to code a plane.

    tile: px, 0 for a residual alone.   coarse: px, of the grid under the tiles, 0 for none.   refined: by a residual.
    """

    tile: int
    coarse: int
    refined: bool


@dataclass(eq=False)
class _Coded:
    """One plane, coded.

    programs: of each of its grids.
    residuals: payload of each section of the residual.   tallies: bits of each by kind.
    cost: bits, and what is wrong with the plane in what a bit may cost: squared error, or D where programs are alone,
    as they are searched by it.   squared: the same by squared error in any case.   bits: of both.   All are 0 if there
    is nothing to compare them with.
    """

    spec: PlaneSpec
    programs: Sequence[Programs]
    residuals: list[bytes]
    tallies: list[dict[str, float]]
    cost: float
    squared: float
    bits: float


class _Rows(NamedTuple):
    """Pixel rows of a plane, coded.

    payload, tally: of their residual, if they have one.   squared, wrong: squared error, and D where that is what the
    programs are searched by, in what a bit may cost; 0 if there is nothing to compare them with.
    """

    payload: bytes
    tally: dict[str, float]
    squared: float
    wrong: float


def plane_config(cfg: CodecConfig, chroma: bool) -> CodecConfig:
    """Options of one plane: chroma is coded by squared error alone and has its own price of bits."""
    return cfg.but(lambda_rd=cfg.lambda_rd * CHROMA_LAMBDA, alpha_mix=0.0, ai=None) if chroma else cfg


def plan_header(width: int, height: int, cfg: CodecConfig) -> Header:
    """The header of a gray picture whose tile size is not left open."""
    (plan,) = _plans(cfg)
    return _header((_plane_spec(cfg, plan, chroma=False),), width, height, cfg)


def _plane_spec(cfg: CodecConfig, plan: _Plan, chroma: bool) -> PlaneSpec:
    tile, residual = plan.tile, 1 + residual_step(cfg.lambda_rd) if plan.refined else 0
    if not tile:
        return PlaneSpec(0, 0, 0, int(chroma), 0, 0, residual=residual)
    overlap = cfg.overlap if tile == cfg.tile else default_overlap(tile)
    amp, dc = steps_for(cfg.lambda_rd, cfg.alpha_mix, float((tile - overlap) ** 2))
    param = 0
    if cfg.window_param is not None:
        param = round(cfg.window_param * (256 if cfg.window == "tukey" else 4))
    return PlaneSpec(
        tile=tile, overlap=overlap, window=WINDOWS.index(cfg.window), subsample=int(chroma),
        amp_step=amp, dc_step=dc, window_param=param, residual=residual,
        under=_plane_spec(cfg, _Plan(plan.coarse, 0, False), chroma) if plan.coarse else None,
    )  # fmt: skip


@dataclass(eq=False)
class _Picture:
    """A picture on its way: Q12 planes [h,w], one or Y, Cb, Cr.

    known: programs of each plane that are known already, by their tile size and that of the coarse grid under them, 0
        for none; of a coarse grid itself by 0 and its tile size.
    """

    planes: list[Tensor]
    width: int
    height: int
    known: list[dict[tuple[int, int], Programs]]

    @classmethod
    def of(cls, planes: list[Tensor], width: int, height: int) -> _Picture:
        return cls(planes, width, height, [{} for _ in planes])

    def grid(self, index: int, cfg: TileGridCfg) -> TileSpec:
        """The tiles of a plane."""
        return grid(self.planes[index].shape[0], self.planes[index].shape[1], cfg)


@dataclass(eq=False)
class _Chosen:
    """All that the stream of a picture will say.

    programs: of each of the header's grids.   residuals, tallies: as in `_Coded`, of all planes.
    """

    header: Header
    programs: Sequence[Programs]
    residuals: Sequence[bytes]
    tallies: Sequence[Mapping[str, float]]
    metadata: dict[str, Any] | None


def _choose(
    picture: _Picture,
    cfg: CodecConfig,
    tables: TableSet,
    codebook: Codebook,
    progress: tqdm[Any],
    pool: ThreadPoolExecutor | None = None,
) -> _Chosen:
    """Decide on each plane of a picture.

    Args:
        pool: threads that sections of a residual may be shared out to.
    """
    width, height = picture.width, picture.height
    coded: list[_Coded] = []
    section_rows: int | None = None
    for i in range(len(picture.planes)):
        own = plane_config(cfg, chroma=i > 0)
        coder = _PlaneCoder(picture, i, section_rows, own, tables, codebook, progress, picture.known[i], pool)
        coded.append(coder.choose())
        section_rows = _header((coded[0].spec,) * len(picture.planes), width, height, cfg).section_rows
    return _Chosen(
        _header(tuple(one.spec for one in coded), width, height, cfg),
        [programs for one in coded for programs in one.programs],
        [payload for one in coded for payload in one.residuals],
        [tally for one in coded for tally in one.tallies],
        {"ai": cfg.ai.describe()} if cfg.ai is not None else None,
    )


def _search_together(
    pictures: Sequence[_Picture], cfg: CodecConfig, tables: TableSet, codebook: Codebook, progress: tqdm[Any]
) -> None:
    """Search the programs of all pictures' planes that a plan asks for in any case, as many at a time as fit."""
    room = _TOGETHER
    for index in range(3):
        own = plane_config(cfg, chroma=index > 0)
        for plan in _plans(own):
            if not (plan.tile and own.tile):  # where the size is open, others are compared with it
                continue
            spec = _plane_spec(own, plan, chroma=index > 0)
            if spec.under is not None:
                room = _search_step(
                    pictures, index, (0, plan.coarse), spec.under, room, own, tables, codebook, progress
                )
            room = _search_step(pictures, index, plan[:2], spec, room, own, tables, codebook, progress)


def _search_step(
    pictures: Sequence[_Picture],
    index: int,
    key: tuple[int, int],
    spec: PlaneSpec,
    room: int,
    cfg: CodecConfig,
    tables: TableSet,
    codebook: Codebook,
    progress: tqdm[Any],
) -> int:
    """Search one grid of all pictures' planes number `index`, where what lies under it is known.

    Args:
        key: what it is known as from then on.   room: samples that are searched together, at most.
    Returns:
        The room, or less where that was too much for a GPU.
    """
    options, cut = _options(cfg, spec), TileGridCfg(size=spec.tile, overlap=spec.overlap)
    waiting = [one for one in pictures if index < len(one.planes)]
    waiting = [one for one in waiting if searched_together(one.grid(index, cut), options)]
    if spec.under is not None:
        waiting = [one for one in waiting if (0, spec.under.tile) in one.known[index]]
    while waiting:
        total = itertools.accumulate(one.planes[index].numel() for one in waiting)
        batch = waiting[: max(1, sum(1 for samples in total if samples <= room))]
        header = _header((spec,) * len(batch[0].planes), batch[0].width, batch[0].height, cfg)
        goals, seen = [one.planes[index] for one in batch], []
        if spec.under is not None:
            below, seen = [one.known[index][0, spec.under.tile] for one in batch], goals
            goals = [_goal(*pair, spec, codebook, cfg.seed) for pair in zip(seen, below, strict=True)]
        try:
            found = _search(goals, header, index, options, tables, codebook, progress, seen)
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
            room = sum(plane.numel() for plane in goals) // 2
            _LOG.warning("too little GPU memory for %d pictures at once: half as many", len(batch))
            continue
        for one, programs in zip(batch, found, strict=True):
            one.known[index][key] = programs
        waiting = waiting[len(batch) :]
    return room


def _search(
    planes: Sequence[Tensor],
    header: Header,
    index: int,
    cfg: CodecConfig,
    tables: TableSet,
    codebook: Codebook,
    progress: tqdm[Any],
    pictures: Sequence[Tensor],
) -> list[Programs]:
    """Programs of planes that are searched together; nothing else of the search is left when it ends."""
    encoder = PlaneEncoder(planes, header, index, cfg, tables, codebook, cfg.ai, pictures=pictures)
    progress.reset(total=len(encoder.x))
    found = encoder.run(progress)
    assert found is not None, "there is no limit"
    return found


def _options(cfg: CodecConfig, spec: PlaneSpec) -> CodecConfig:
    """Options of the search of one grid."""
    return cfg.but(tile=spec.tile, overlap=spec.overlap, coarse=0)


def _goal(plane: Tensor, below: Programs, spec: PlaneSpec, codebook: Codebook, seed: int) -> Tensor:
    """What the tiles of a plane are to draw upon its coarse grid, [h,w] int32 Q12."""
    assert spec.under is not None, "there is a coarse grid"
    coarse = predict_grid(below, (plane.shape[0], plane.shape[1]), spec.under, seed, codebook, plane.device)
    return (plane - coarse + neutral_level_q12(spec)).clamp_(0, SAMPLE_ONE)


def _beyond_base(plane: Tensor, cut: TileGridCfg) -> Tensor:
    """What the surface through the means of tiles leaves of a plane, [h,w] int32 Q12."""
    tiles = grid(plane.shape[0], plane.shape[1], cut)
    samples = extract(plane, tiles).flatten(1)
    means = torch.div(samples.sum(dim=1, dtype=torch.int64), samples.shape[1], rounding_mode="floor").to(torch.int32)
    return plane - surface(means, tiles, 0).plane


def _plans(cfg: CodecConfig) -> list[_Plan]:
    """The ways that a plane is always tried."""
    if not cfg.tile:
        return [_Plan(0, 0, True) if cfg.residual else _Plan(AUTO_TILES[_FIRST], 0, False)]
    return [
        _Plan(0, 0, True) if cfg.residual and not cfg.max_layers else _Plan(cfg.tile, cfg.coarse or 0, cfg.residual)
    ]


def _is_open(plane: Tensor, cfg: CodecConfig) -> bool:
    """Whether other tiles, or one over the whole plane, may be better than what is tried first."""
    if cfg.tile or not cfg.max_layers:
        return False
    return not cfg.residual or SCREEN < max(plane.shape) <= MAX_TILE


def _unsettled(picture: _Picture, cfg: CodecConfig) -> bool:
    """Whether there is more to a picture than programs that are known already."""
    for i, (plane, known) in enumerate(zip(picture.planes, picture.known, strict=True)):
        own = plane_config(cfg, chroma=i > 0)
        if _is_open(plane, own) or any(plan.refined or plan[:2] not in known for plan in _plans(own)):
            return True
    return False


@dataclass(eq=False)
class _PlaneCoder:
    """Codes plane number `index` of a picture one way or another.

    section_rows: as the luma plane has settled it, None before.   cfg: the plane's own options.
    known: as `_Picture.known`, of this plane by these options.   pool: as of `_choose`.
    """

    picture: _Picture
    index: int
    section_rows: int | None
    cfg: CodecConfig
    tables: TableSet
    codebook: Codebook
    progress: tqdm[Any]
    known: dict[tuple[int, int], Programs]
    pool: ThreadPoolExecutor | None

    @property
    def plane(self) -> Tensor:
        """[h,w] int32 Q12."""
        return self.picture.planes[self.index]

    @property
    def open(self) -> bool:
        """Whether there is a choice."""
        return _is_open(self.plane, self.cfg)

    def choose(self) -> _Coded:
        """The plane as it costs least."""
        if not self.open:
            return self.best(_plans(self.cfg))
        side = max(self.plane.shape)
        patterned = SCREEN < side <= MAX_TILE  # one tile may lie over all of it
        if self.cfg.residual:
            found = self.best(_plans(self.cfg))
            return self._whole(found) if patterned else found
        # ways are compared after a quick search each
        options = self.cfg.but(passes=0, sweeps=min(1, self.cfg.sweeps), refine=0)
        quick = self if options == self.cfg else replace(self, cfg=options, known={})
        rough = quick._other_sizes(quick.best(_plans(self.cfg)))
        found = rough if quick is self else self.best([_Plan(rough.spec.tile, 0, False)])
        layers: list[list[States]] = []
        if self.cfg.coarse is None:
            layers = self._beyond_tiles() if patterned else []
            rough = quick._upon_whole(quick._upon_larger(rough), layers)
        found = self._whole(found) if patterned else found
        if rough.spec.under is not None:
            found = self.best([_Plan(rough.spec.tile, rough.spec.under.tile, False)], found, layers)
        return found

    def _whole(self, found: _Coded) -> _Coded:
        """What there is, or one tile over the whole plane if a glance says that it may cost less, and it does."""
        layers = self.sketched(found.squared)
        refined = sorted({False, self.cfg.residual})
        return self.best([_Plan(max(self.plane.shape), 0, r) for r in refined], found, layers) if layers else found

    def _other_sizes(self, found: _Coded, coarse: int = 0) -> _Coded:
        """From a tile size to smaller ones as long as that gains; if it never does, to larger ones.

        Args:
            coarse: px, of the grid under them.
        """
        tile, largest = found.spec.tile, coarse or max(self.plane.shape)
        for sizes in ([s for s in AUTO_TILES[::-1] if s < tile], [s for s in AUTO_TILES if s > tile]):
            before = found
            for size in sizes:
                one = self.best([_Plan(size, coarse, False)], found) if size < largest else found
                if one is found:
                    break
                found = one
            if found is not before:
                break
        return found

    def _upon_larger(self, found: _Coded) -> _Coded:
        """What there is, or its tiles upon a coarse grid of larger ones that have been searched, if that costs less."""
        tile = found.spec.tile
        for size in sorted(size for size, coarse in self.known if not coarse and size > tile):
            if self._promises(size, found):
                if not self.cfg.merge:  # layers are merged within sections, which may have other rows now
                    self.known[0, size] = self.known[size, 0]
                found = self.best([_Plan(tile, size, False)], found)
        return found

    def _upon_whole(self, found: _Coded, layers: Sequence[Sequence[States]]) -> _Coded:
        """What there is, or tiles upon one over the whole plane, of these layers roughly, if that costs less."""
        if not layers:
            return found
        side = max(self.plane.shape)
        one = self.best([_Plan(found.spec.tile, side, False)], found, layers)
        return found if one is found else self._other_sizes(one, side)

    def _promises(self, coarse: int, found: _Coded) -> bool:
        """Whether tiles of a size cost less than what there is, if the base of smaller ones is added but no layers."""
        one = self.best([_Plan(coarse, 0, False)])
        size, price = (self.plane.shape[0], self.plane.shape[1]), residual_lambda(self.cfg.lambda_rd)
        drawn = predict_grid(one.programs[0], size, one.spec, self.cfg.seed, self.codebook, self.plane.device)
        cut = TileGridCfg(size=found.spec.tile, overlap=found.spec.overlap)
        left = float(_beyond_base(self.plane - drawn, cut).to(torch.int64).square().sum()) / price
        return one.bits + left + _TILE_BITS * found.programs[-1].tiles < found.squared

    def _beyond_tiles(self) -> list[list[States]]:
        """Layers of one tile over the whole plane, if they draw much of what the base of tiles leaves."""
        rest = _beyond_base(
            self.plane, TileGridCfg(size=AUTO_TILES[_FIRST], overlap=default_overlap(AUTO_TILES[_FIRST]))
        )
        return sketch(rest, self.codebook, self.cfg.seed, _BEYOND)

    def best(
        self, plans: Sequence[_Plan], found: _Coded | None = None, layers: Sequence[Sequence[States]] = ()
    ) -> _Coded:
        """The cheapest of what there is and of plans, a tie to the first.

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

    def _header(self, plan: _Plan) -> Header:
        """As it would be with the plane coded so; the other planes matter to nothing here."""
        spec = _plane_spec(self.cfg, plan, chroma=self.index > 0)
        header = _header((spec,) * len(self.picture.planes), self.picture.width, self.picture.height, self.cfg)
        return header if self.section_rows is None else replace(header, section_rows=self.section_rows)

    def _programs(self, plan: _Plan, limit: float, layers: Sequence[Sequence[States]]) -> list[Programs] | None:
        """Programs of the plane's grids; None if their cost would be above the limit."""
        if not plan.tile:
            return [Programs.empty(0)]
        header, below = self._header(plan), []
        if plan.coarse:
            coarse = self.known.get((0, plan.coarse))
            if coarse is None:
                alone = self._header(_Plan(plan.coarse, 0, False))
                alone = replace(alone, section_rows=header.section_rows)
                coarse = self._search(alone, math.inf, layers, [], _COARSE_LAYERS)
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

    def sketched(self, cost: float) -> list[list[States]]:
        """Layers of one tile over the whole plane, if it is worth its time now that `cost` can be had."""
        if cost < WHOLE_BITS:
            return []
        samples = self.plane.to(torch.int64)
        total, square = int(samples.sum()), int((samples * samples).sum())
        energy = (square - total * total / self.plane.numel()) / residual_lambda(self.cfg.lambda_rd)
        if energy <= WHOLE_BITS:
            return []
        return sketch(self.plane, self.codebook, self.cfg.seed, (cost - WHOLE_BITS) / energy)  # layers cost as much

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
        spec, goal, seen = header.planes[self.index], self.plane, []
        if below:
            goal, seen = _goal(goal, below[0], spec, self.codebook, self.cfg.seed), [self.plane]
        own, tiles = _options(self.cfg, spec), plane_grid(header, grids_of(header, self.index).stop - 1)
        if precisely(tiles):
            own = own.but(max_layers=min(own.max_layers, most))
        frozen = header, self.index, own, self.tables, self.codebook
        if len(rows := bands(tiles, own)) > 1:
            self.progress.reset(total=tiles.count)
            done = Programs.empty(0)
            for band in rows:
                part = search_band(goal, tiles, band, done, *frozen, self.progress, *seen)
                done = Programs.joined([done, part]) if done.tiles else part
            return done
        encoder = PlaneEncoder([goal], *frozen, self.cfg.ai, layers, pictures=seen)
        self.progress.reset(total=len(encoder.x))
        found = encoder.run(self.progress, limit * residual_lambda(self.cfg.lambda_rd))
        return None if found is None else found[0]

    def _code(self, programs: Sequence[Programs], header: Header) -> _Coded:
        """The plane by these programs and, if the header says so, a residual; what it costs only if that matters."""
        spec = header.planes[self.index]
        spans = [span for span in residual_spans(header) if span.plane == self.index]
        drawn = None
        if spec.tile and (self.open or spans):
            drawn = predict_plane(programs, header, self.index, self.codebook, self.plane.device).cpu().numpy()
        parts = spans or [ResidualSpan(self.index, 0, len(self.plane))] * self.open
        rows = [
            *parallel_map(
                self.pool, lambda span: self._rows(span, spec, drawn), parts, only_if=lambda _: len(parts) > 1
            )
        ]
        residuals, tallies = (
            [one.payload for one in rows if spec.residual],
            [one.tally for one in rows if spec.residual],
        )
        squared, wrong = sum(one.squared for one in rows), sum(one.wrong for one in rows)
        bits = 0.0
        if self.open:
            bits += 8.0 * sum(map(len, residuals))
            bits += 8.0 * (len(pack_plane(spec)) - len(pack_plane(replace(spec, under=None))))
            first = grids_of(header, self.index).start
            for span in section_spans(header):
                if header.grids[span.grid].plane == self.index:
                    own = programs[span.grid - first]
                    payload = _section(header, span, own, self.tables, self.codebook).rans_bytes()
                    framing = CRC_BYTES + len(varint(len(payload))) if header.grids[span.grid].coarse else 0
                    bits += 8.0 * (len(payload) + framing)  # all plans but those of a residual alone frame one grid
        cost = bits + (squared if self.cfg.residual else wrong)
        return _Coded(spec, programs, residuals, tallies, cost, bits + squared, bits)

    def _rows(self, span: ResidualSpan, spec: PlaneSpec, drawn: NDArray[np.int32] | None) -> _Rows:
        """Pixel rows upon what programs draw of the plane, [h,w] Q12, or middle grey."""
        part, price = slice(span.row_start, span.row_stop), residual_lambda(self.cfg.lambda_rd)
        payload, tally, squared, wrong = b"", {}, 0.0, 0.0
        goal = self.plane[part].cpu().numpy()
        picture = np.full_like(goal, MIDDLE) if drawn is None else drawn[part]
        if spec.residual:
            params = ResidualParams(spec.residual - 1, price, self.cfg.tries)
            code = encode_residual(goal - picture, picture, params)
            payload, tally, picture = code.payload, code.stats["bits_by_kind"], code.reconstruction
        if self.open:
            error = goal.astype(np.int64) - picture
            squared = float((error * error).sum()) / price
            if not self.cfg.residual:
                wrong = plane_distortion(goal, picture, self.cfg.alpha_mix) / self.cfg.lambda_rd
        return _Rows(payload, tally, squared, wrong)


def _header(specs: tuple[PlaneSpec, ...], width: int, height: int, cfg: CodecConfig) -> Header:
    """Planes of one size and subsampling each: chroma's are the same but for their subsampling."""
    color = COLOR_YCBCR420 if len(specs) == 3 else COLOR_GRAY
    header = Header(
        width=width, height=height, color=color,
        planes=tuple(_subsampled(spec, int(i > 0)) for i, spec in enumerate(specs)), seed=cfg.seed,
        table_id=cfg.table_id, codebook_id=cfg.codebook_id,
        payload_fmt=PAYLOAD_RAW if cfg.payload_fmt == "raw" else PAYLOAD_RANS, section_rows=cfg.section_rows,
    )  # fmt: skip
    if cfg.section_rows:
        return header
    across, rows, most = -(-width // SUPERBLOCK), -(-height // SUPERBLOCK), _SECTION_SUPERBLOCKS
    if specs[0].tile:
        (rows, across), most = tile_counts(header, grids_of(header, 0).stop - 1), _SECTION_TILES
    most //= across
    return header if rows <= most else replace(header, section_rows=max(1, most))


def _subsampled(spec: PlaneSpec, subsample: int) -> PlaneSpec:
    under = None if spec.under is None else replace(spec.under, subsample=subsample)
    return replace(spec, subsample=subsample, under=under)


def _section(header: Header, span: SectionSpan, programs: Programs, tables: TableSet, codebook: Codebook) -> Writer:
    """The symbols of one section, written."""
    writer, nx = Writer(tables), tile_counts(header, span.grid)[1]
    code_section(writer, section_syntax(header, span, codebook), programs.rows(span.row_start * nx, span.row_stop * nx))
    return writer


def _written(chosen: Sequence[_Chosen]) -> list[list[tuple[bytes, dict[str, float]]]]:
    """The sections of each picture and the bits of each by kind, those of all pictures written together."""
    there = [(i, span) for i, one in enumerate(chosen) for span in section_spans(one.header)]
    written: list[tuple[bytes, dict[str, float]]] = [(b"", {})] * len(there)
    for syntax, tables, group in coded_alike([(chosen[i].header, span) for i, span in there]):
        parts = []
        for i, span in (there[place] for place in group):
            parts.append(chosen[i].programs[span.grid].rows(span.row_start * syntax.nx, span.row_stop * syntax.nx))
        writer = Writer(tables, len(group))
        code_sections(writer, syntax, parts)
        raw = chosen[there[group[0]][0]].header.payload_fmt == PAYLOAD_RAW
        payloads = [writer.raw_bytes()] if raw else writer.payloads()
        for place, payload, tally in zip(group, payloads, writer.tallies(), strict=True):
            written[place] = payload, tally
    sections: list[list[tuple[bytes, dict[str, float]]]] = [[] for _ in chosen]
    for (i, _), own in zip(there, written, strict=True):
        sections[i].append(own)
    return sections


def _finish(chosen: Sequence[_Chosen]) -> list[dict[str, Any]]:
    """Pictures -> bytes, with the statistics that people ask for."""
    written = _written(chosen)
    with _uncollected():
        return [_result(one, sections) for one, sections in zip(chosen, written, strict=True)]


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Python looks for no cycles meanwhile.

    There are none among thousands of records per picture, but so many new objects would have it look through all that
    a process holds, time and again: four times the work of making them.
    """
    usual = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if usual:
            gc.enable()


def _result(chosen: _Chosen, sections: Sequence[tuple[bytes, Mapping[str, float]]]) -> dict[str, Any]:
    header, programs = chosen.header, chosen.programs
    bits: dict[str, float] = {}
    for span, (_, tally) in zip(section_spans(header), sections, strict=True):
        for kind, cost in tally.items():
            kind = f"coarse {kind}" if header.grids[span.grid].coarse else kind
            bits[kind] = bits.get(kind, 0.0) + cost
    for tally in chosen.tallies:
        for kind, cost in tally.items():
            bits[f"residual {kind}"] = bits.get(f"residual {kind}", 0.0) + cost
    payloads: list[bytes | None] = [payload for payload, _ in sections]
    data = write_container(Stream(header, payloads, chosen.metadata, residuals=list(chosen.residuals)))
    records: list[list[TileRec]] = [part.records() for part in programs]
    stats = {
        "bytes": len(data),
        "bits_by_kind": bits,
        "tiles": sum(part.tiles for part in programs),
        "layers": int(sum(int(part.count.sum()) for part in programs)),
    }
    bpp = 8.0 * len(data) / (header.width * header.height)
    return {"bitstream": data, "bpp": bpp, "stats": stats, "tile_map": records[0] if len(records) == 1 else records}


def residual_step(lambda_rd: float) -> int:
    """Index of the residual's quantizer step that suits lambda."""
    step = math.sqrt(residual_lambda(lambda_rd) / LAMBDA)
    return min(STEPS - 1, max(0, round(8 * math.log2(SAMPLE_ONE / step))))


def residual_lambda(lambda_rd: float) -> float:
    """Squared error in Q12 that a bit of the residual may cost; SSIM's share of D counts like MSE, as in `quant`."""
    return lambda_rd / MSE_SCALE * float(SAMPLE_ONE**2)


def encode_y(img_y: Tensor, cfg: CodecConfig | None = None) -> dict[str, Any]:
    """Encode a luma picture.

    Args:
        img_y: [1,1,H,W] float in [0,1].
        cfg: options; `CodecConfig.preset("balanced")` if None.
    Returns:
        {"bitstream": bytes, "bpp": bits per pixel of the whole stream, "stats": dict, "tile_map": [TileRec]}; the map
        has one such list per grid where there are tiles upon coarse ones.
    Raises:
        ImageError: another rank, zero-size, NaN or out of range.
    """
    cfg = cfg or CodecConfig.preset("balanced")
    y = check_luma(img_y)
    device = _search_device(cfg)
    plane = (y[0, 0].to(device) * float(SAMPLE_ONE)).round().to(torch.int32)
    return _encode_all([_Picture.of([plane], y.shape[3], y.shape[2])], cfg)[0]


def _search_device(cfg: CodecConfig) -> torch.device:
    """Where planes are searched: a residual alone, and what one tile may draw beside it, are work for a CPU."""
    device = resolve_device(cfg.device)
    return device if any(plan.tile for plan in _plans(cfg)) else torch.device("cpu")


def encode_y_with_hooks(img_y: Tensor, cfg: CodecConfig | None, hooks: EncoderHooks) -> dict[str, Any]:
    """`encode_y` with hooks narrowing the search; the format stays the same."""
    return encode_y(img_y, (cfg or CodecConfig.preset("balanced")).but(ai=hooks))


def encode(picture: Tensor, cfg: CodecConfig | None = None) -> dict[str, Any]:
    """Encode an 8-bit picture: colour as Y, Cb, Cr at 4:2:0, gray as one plane.

    Args:
        picture: uint8 [3,H,W] RGB or [1,H,W] gray.
    Returns:
        As `encode_y`; `tile_map` has one list per grid for colour, too.
    Raises:
        ImageError: another shape or type.
    """
    return encode_many([picture], cfg)[0]


def encode_many(
    pictures: Sequence[Tensor], cfg: CodecConfig | None = None, *, workers: int | None = None
) -> list[dict[str, Any]]:
    """`encode` of several pictures: the same bytes, sooner.

    The programs of many pictures' tiles are searched together, which is what keeps a GPU busy, and written together;
    what else is much work is done a picture per thread.

    Args:
        pictures: as `encode` takes them, of any sizes; all are held at once, at 20 times their size on a GPU.
        workers: threads; as many as torch uses if None.
    Raises:
        ImageError: a picture of another shape or type; it says which one.   ConfigError: workers below 1.
    """
    cfg = cfg or CodecConfig.preset("balanced")
    for i, picture in enumerate(pictures):
        if picture.dim() != 3 or picture.shape[0] not in (1, 3) or picture.dtype != torch.uint8 or not picture.numel():
            which = f"picture {i} of {len(pictures)} is" if len(pictures) > 1 else "encode got"
            raise ImageError(
                f"{which} {picture.dtype} of shape {list(picture.shape)}; give uint8 [3,H,W] or [1,H,W], "
                "or a float luma to encode_y"
            )
    device = _search_device(cfg)
    ready = []
    for picture in pictures:
        planes = rgb_to_ycbcr420(picture) if picture.shape[0] == 3 else (picture[0],)
        ready.append(_Picture.of([as_q12(p, device) for p in planes], picture.shape[2], picture.shape[1]))
    return _encode_all(ready, cfg, workers)


def _encode_all(pictures: list[_Picture], cfg: CodecConfig, workers: int | None = None) -> list[dict[str, Any]]:
    """Encode pictures; the samples of each are let go as soon as it is decided what its stream says."""
    bar = tqdm(total=0, desc="encoding", unit="tile", disable=None, leave=False)
    with _explained(), bar as progress, threads(workers) as pool:
        tables, codebook = load_table(cfg.table_id), load_codebook(cfg.codebook_id)
        check_tables(tables, codebook)
        if len(pictures) < 2:
            return _finish([_choose(one, cfg, tables, codebook, progress, pool) for one in pictures])
        _search_together(pictures, cfg, tables, codebook, progress)
        progress.unit = "picture"
        progress.reset(total=len(pictures))
        quiet = tqdm(disable=True)

        def one(i: int) -> _Chosen:
            chosen = _choose(pictures[i], cfg, tables, codebook, quiet)
            pictures[i] = _Picture.of([], 0, 0)
            return chosen

        every = []
        for chosen in parallel_map(pool, one, range(len(pictures)), only_if=lambda i: _unsettled(pictures[i], cfg)):
            every.append(chosen)
            progress.update()
        return _finish(every)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What to do where a GPU's memory is too small after all."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise DeviceError(
            "the GPU has too little free memory to search this picture; end what else runs there, or encode with "
            "device='cpu': the bytes are the same"
        ) from error


def repack(
    header: Header,
    programs: Sequence[Programs],
    metadata: dict[str, Any] | None = None,
    residuals: Sequence[bytes] = (),
) -> dict[str, Any]:
    """Code programs that were decoded, edited or made by hand; see `encode_y` for what comes back.

    Args:
        programs: of each of `Header.grids`.
        residuals: payloads of the residual's sections, as many as the header asks for.
    Raises:
        ConfigError: programs that do not fit the header's grids.
    """
    if len(programs) != len(header.grids):
        raise ConfigError(f"there are programs of {len(programs)} grids of tiles; the header has {len(header.grids)}")
    for i, part in enumerate(programs):
        if part.tiles != math.prod(tile_counts(header, i)):
            where = f"plane {header.grids[i].plane}" + ", coarse," * header.grids[i].coarse
            raise ConfigError(f"{where} has {part.tiles} programs for {math.prod(tile_counts(header, i))} tiles")
    load_table(header.table_id)  # what nobody has is refused, even where there is no tile to code with it
    load_codebook(header.codebook_id)
    tallies = [
        residual_bits(payload, span.row_stop - span.row_start, plane_size(header, span.plane)[1],
                      header.planes[span.plane].residual - 1)
        for span, payload in zip(residual_spans(header), residuals, strict=False)
    ]  # fmt: skip
    return _finish([_Chosen(header, programs, residuals, tallies, metadata)])[0]
