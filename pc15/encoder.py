"""Picture -> tiles -> winners -> records -> bytes.

Each plane is coded one way or several, see `pc15.plan`: by programs of tiles of one size or another, a residual, or
both; whichever costs least is kept.  The same input and options give the same bytes, on every device.

A residual alone, as of photographs, is NumPy and numba.  Tile programs are searched with torch, which is loaded where a
plane is to have some or, as its gradients tell, may be one pattern.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pc15.bitstream.alphabets import check_tables
from pc15.bitstream.header import Header, plane_size, residual_spans, tile_counts
from pc15.bitstream.programs import Programs
from pc15.bitstream.read import check_ids, codebook_of
from pc15.color import rgb_to_ycbcr420
from pc15.config import CodecConfig
from pc15.entropy.tables import find_table, load_table
from pc15.errors import ConfigError, DeviceError
from pc15.images import PictureLike, as_luma, as_planes, several_pictures
from pc15.luma import SAMPLE_ONE, as_q12
from pc15.plan.choose import choose
from pc15.plan.picture import Picture, needs_work
from pc15.plan.plan import plans_of
from pc15.plan.write import Chosen, EncodeResult, finish
from pc15.proc.codebook_ids import find_codebook
from pc15.residual.bits import residual_report
from pc15.runtime.device import checked_device, resolve_device
from pc15.runtime.memory import is_gpu_memory
from pc15.runtime.parallel import check_fork, parallel_map, thread_count, threads
from pc15.runtime.progress import Quiet, progress_bar

if TYPE_CHECKING:
    import torch

    from pc15.hooks.protocol import EncoderHooks

__all__ = ["EncodeResult", "encode", "encode_many", "encode_y", "encode_y_with_hooks", "repack", "search_device"]


def encode_y(img_y: PictureLike, cfg: CodecConfig | None = None) -> EncodeResult:
    """Encode a luma picture.

    Args:
        img_y: [1,1,H,W], [1,H,W] or [H,W] float in [0,1], tensor or array; or a picture as `encode` takes it, of which
            the luma is coded.
        cfg: options; `CodecConfig.preset("balanced")` if None.
    Returns:
        A mapping {"bitstream": bytes, "bpp": bits per pixel of the whole stream, "stats": dict, "tile_map": [TileRec]};
        the map has one such list per grid where there are tiles upon coarse ones, as `EncodeResult.tile_maps` always
        has.
    Raises:
        ImageError: another rank, zero-size, NaN or out of range.
        MissingExtraError: the options ask for tile programs, and torch is not installed.
    """
    check_fork()
    cfg = cfg or CodecConfig.preset("balanced")
    y = as_luma(img_y)
    plane = np.rint(y[0, 0] * np.float32(SAMPLE_ONE)).astype(np.int32)
    return _encode_all([Picture.of([plane], y.shape[3], y.shape[2], search_device(cfg))], cfg)[0]


def _has_programs(cfg: CodecConfig) -> bool:
    """True if tile programs are searched in any case."""
    return any(plan.tile for plan in plans_of(cfg))


def search_device(cfg: CodecConfig) -> str | torch.device:
    """The device that planes are searched on: a residual alone, and one tile beside it, are work for a CPU.

    Raises:
        ConfigError, MissingExtraError: as `resolve_device`.
    """
    device = checked_device(cfg.device)
    return resolve_device(device) if _has_programs(cfg) else "cpu"


def encode_y_with_hooks(img_y: PictureLike, cfg: CodecConfig | None, hooks: EncoderHooks) -> EncodeResult:
    """`encode_y` with hooks narrowing the search; the format stays the same."""
    return encode_y(img_y, (cfg or CodecConfig.preset("balanced")).but(ai=hooks))


def encode(picture: PictureLike, cfg: CodecConfig | None = None) -> EncodeResult:
    """Encode an 8-bit picture: colour as Y, Cb, Cr at 4:2:0, gray as one plane.

    Args:
        picture: uint8 tensor or array, [3,H,W] or [H,W,3] RGB, [1,H,W] or [H,W] gray, of any strides; or a picture of
            Pillow, a path, or a file open in binary mode, coded as the command line does: upright, upon white, as one
            plane where it has no colour.  Where three samples could be channels at either end, a tensor's come first
            and an array's last.
    Returns:
        As `encode_y`; `tile_map` has one list per grid for colour, too.
    Raises:
        ImageError: another shape or type, or a file that cannot be read.
    """
    check_fork()
    return _encode_planes([as_planes(picture)], cfg or CodecConfig.preset("balanced"))[0]


def encode_many(
    pictures: Iterable[PictureLike], cfg: CodecConfig | None = None, *, workers: int | None = None
) -> list[EncodeResult]:
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
    check_fork()
    given = several_pictures(pictures)
    planes = [as_planes(picture, f"picture {i} of {len(given)}") for i, picture in enumerate(given)]
    return _encode_planes(planes, cfg, workers)


def _encode_planes(
    pictures: Sequence[NDArray[np.uint8]], cfg: CodecConfig, workers: int | None = None
) -> list[EncodeResult]:
    """Encode pictures of uint8 planes, [3,H,W] or [1,H,W]."""
    device = search_device(cfg)
    ready = []
    for picture in pictures:
        planes = rgb_to_ycbcr420(picture) if picture.shape[0] == 3 else (picture[0],)
        ready.append(Picture.of([as_q12(p) for p in planes], picture.shape[2], picture.shape[1], device))
    return _encode_all(ready, cfg, workers)


def _encode_all(pictures: list[Picture], cfg: CodecConfig, workers: int | None = None) -> list[EncodeResult]:
    """Encode pictures; the samples of each are let go as soon as it is decided what its stream says."""
    with _explained(), progress_bar("encoding", "tile") as progress, threads(workers) as pool:
        if _has_programs(cfg):
            check_tables(load_table(cfg.table_id), codebook_of(cfg.codebook_id))
        else:
            find_table(cfg.table_id)
            find_codebook(cfg.codebook_id)
        if len(pictures) < 2:
            several = (workers or thread_count()) > 1
            return finish([choose(one, cfg, progress, pool if several else None) for one in pictures])
        if _has_programs(cfg):
            from pc15.plan.together import search_together

            search_together(pictures, cfg, progress)
        progress.unit = "picture"
        progress.reset(total=len(pictures))

        def one(i: int) -> Chosen:
            chosen = choose(pictures[i], cfg, Quiet())
            pictures[i] = Picture.of([], 0, 0)
            return chosen

        every = []
        for chosen in parallel_map(pool, one, range(len(pictures)), only_if=lambda i: needs_work(pictures[i], cfg)):
            every.append(chosen)
            progress.update()
        return finish(every)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Say what to do where a GPU's memory is too small after all."""
    try:
        yield
    except RuntimeError as error:
        if not is_gpu_memory(error):
            raise
        raise DeviceError(
            "the GPU has too little free memory to search this picture; end what else runs there, or encode with "
            "device='cpu': the bytes are the same"
        ) from error


def repack(
    header: Header,
    programs: Sequence[Programs],
    metadata: dict[str, Any] | None = None,
    residuals: Sequence[bytes] = (),
) -> EncodeResult:
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
    check_ids(header)  # what nobody has is refused, even where there is no tile to code with it
    tallies, patterns = [], 0
    for span, payload in zip(residual_spans(header), residuals, strict=False):
        spec, width = header.planes[span.plane], plane_size(header, span.plane)[1]
        told = residual_report(
            payload, span.row_stop - span.row_start, width, spec.residual - 1, spec.tools, span.plane
        )
        tallies.append(told.bits)
        patterns += told.layer_count
    return finish([Chosen(header, programs, residuals, tallies, patterns, metadata)])[0]
