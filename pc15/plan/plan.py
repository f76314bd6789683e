"""Ways to code a plane: tile sizes, a coarse grid, a residual, and the header that each would have."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

from numpy.typing import NDArray

from pc15.bitstream.header import (
    COLOR_GRAY,
    COLOR_YCBCR420,
    MAX_TILE,
    PAYLOAD_RANS,
    PAYLOAD_RAW,
    SUPERBLOCK,
    WINDOWS,
    Header,
    PlaneSpec,
    grids_of,
    tile_counts,
)
from pc15.config import LEAST_LAMBDA, CodecConfig, default_overlap
from pc15.luma import SAMPLE_ONE
from pc15.quant import MSE_SCALE, steps_for
from pc15.residual.decode import STEPS
from pc15.residual.enc.encode import relative_lambda
from pc15.residual.tools import BORDERS, CHROMA_TOOLS, SPLITS, tools_of
from pc15.search.sizes import SCREEN

__all__ = [
    "AUTO_TILES",
    "FIRST_TILE_PX",
    "Plan",
    "grid_options",
    "header_of",
    "is_open",
    "plan_header",
    "plane_config",
    "plane_spec",
    "plans_of",
    "residual_lambda",
    "residual_step",
]

CHROMA_LAMBDA = 0.5
"""Price of a bit in chroma planes, as a share of luma's.

A compromise of what luma loses and what PSNR over all planes, weighted 6:1:1, and CIEDE2000 gain on photographs.
"""

AUTO_TILES = (8, 16, 32, 64, 128, 256)
"""Tile sides, px, that the encoder chooses among where there is to be no residual."""

FIRST_TILE_PX = 32
"""The one of `AUTO_TILES` that is tried first."""

TILES_PER_SECTION = 1 << 14
"""Tiles from which a plane is cut into sections of its own accord."""

SUPERBLOCKS_PER_SECTION = 1 << 11
"""Superblocks from which a plane without tiles is: 8 megapixels, of which a residual holds 60 bytes each."""


class Plan(NamedTuple):
    """A way to code a plane.

    tile: px, 0 for a residual alone.   coarse: px, of the grid under the tiles, 0 for none.   refined: by a residual.
    """

    tile: int
    coarse: int
    refined: bool


def plane_config(cfg: CodecConfig, chroma: bool) -> CodecConfig:
    """Options of one plane: chroma is coded by squared error alone and has its own price of bits."""
    lam = max(cfg.lambda_rd * CHROMA_LAMBDA, LEAST_LAMBDA)
    return cfg.but(lambda_rd=lam, alpha_mix=0.0, ai=None) if chroma else cfg


def plan_header(width: int, height: int, cfg: CodecConfig) -> Header:
    """The header of a gray picture whose tile size is not left open."""
    (plan,) = plans_of(cfg)
    return header_of((plane_spec(cfg, plan, chroma=False),), width, height, cfg)


def plane_spec(cfg: CodecConfig, plan: Plan, chroma: bool) -> PlaneSpec:
    """Spec of a plane that is coded by this plan.

    Chroma, a tenth of the bytes, does without the search for splits, and is predicted from luma rather than by borders.
    """
    tile, left_out = plan.tile, SPLITS | BORDERS if chroma else CHROMA_TOOLS
    tools = tools_of(cfg.tools) & ~left_out if plan.refined else 0
    residual = 1 + residual_step(cfg.lambda_rd, tools) if plan.refined else 0
    if not tile:
        return PlaneSpec(0, 0, 0, int(chroma), 0, 0, residual=residual, tools=tools)
    overlap = cfg.overlap if tile == cfg.tile else default_overlap(tile)
    amp, dc = steps_for(cfg.lambda_rd, cfg.alpha_mix, float((tile - overlap) ** 2))
    param = 0
    if cfg.window_param is not None:
        param = round(cfg.window_param * (256 if cfg.window == "tukey" else 4))
    return PlaneSpec(
        tile=tile, overlap=overlap, window=WINDOWS.index(cfg.window), subsample=int(chroma),
        amp_step=amp, dc_step=dc, window_param=param, residual=residual, tools=tools,
        under=plane_spec(cfg, Plan(plan.coarse, 0, False), chroma) if plan.coarse else None,
    )  # fmt: skip


def plans_of(cfg: CodecConfig) -> list[Plan]:
    """Plans that are always tried."""
    if not cfg.tile:
        return [Plan(0, 0, True) if cfg.residual else Plan(FIRST_TILE_PX, 0, False)]
    return [Plan(0, 0, True) if cfg.residual and not cfg.max_layers else Plan(cfg.tile, cfg.coarse or 0, cfg.residual)]


def is_open(plane: NDArray[Any], cfg: CodecConfig) -> bool:
    """Tell if other tiles, or one over the whole plane, may be better than what is tried first."""
    if cfg.tile or not cfg.max_layers:
        return False
    return not cfg.residual or SCREEN < max(plane.shape) <= MAX_TILE


def grid_options(cfg: CodecConfig, spec: PlaneSpec) -> CodecConfig:
    """Options of the search of one grid."""
    return cfg.but(tile=spec.tile, overlap=spec.overlap, coarse=0)


def header_of(specs: tuple[PlaneSpec, ...], width: int, height: int, cfg: CodecConfig) -> Header:
    """Header of a picture whose planes have these specs; subsampling follows from their number."""
    color = COLOR_YCBCR420 if len(specs) == 3 else COLOR_GRAY
    header = Header(
        width=width, height=height, color=color,
        planes=tuple(_subsampled(spec, int(i > 0)) for i, spec in enumerate(specs)), seed=cfg.seed,
        table_id=cfg.table_id, codebook_id=cfg.codebook_id,
        payload_fmt=PAYLOAD_RAW if cfg.payload_fmt == "raw" else PAYLOAD_RANS, section_rows=cfg.section_rows,
    )  # fmt: skip
    if cfg.section_rows:
        return header
    across, rows, most = -(-width // SUPERBLOCK), -(-height // SUPERBLOCK), SUPERBLOCKS_PER_SECTION
    if specs[0].tile:
        (rows, across), most = tile_counts(header, grids_of(header, 0).stop - 1), TILES_PER_SECTION
    most //= across
    return header if rows <= most else replace(header, section_rows=max(1, most))


def _subsampled(spec: PlaneSpec, subsample: int) -> PlaneSpec:
    under = None if spec.under is None else replace(spec.under, subsample=subsample)
    return replace(spec, subsample=subsample, under=under)


def residual_step(lambda_rd: float, tools: int) -> int:
    """Index of the residual's quantizer step that suits lambda."""
    step = math.sqrt(residual_lambda(lambda_rd) / relative_lambda(tools))
    return min(STEPS - 1, max(0, round(8 * math.log2(SAMPLE_ONE / step))))


def residual_lambda(lambda_rd: float) -> float:
    """Squared error in Q12 that a bit of the residual may cost; SSIM's share of D counts like MSE, as in `quant`."""
    return lambda_rd / MSE_SCALE * float(SAMPLE_ONE**2)
