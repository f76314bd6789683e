"""Speed of each stage, against the ceiling of the machine: the command behind every figure of speed.

Stages of the search are timed by themselves on a picture's own tiles, `encode` and `decode` as a whole.  The ceiling
of the product is the fastest exact integer matrix product that is found in the same run, so that shares compare
between machines and between hours of a machine that others use too.  Times are the shortest of several.
`run_curve` is about size instead: time and peak memory of one picture repeated until it has so many pixels, each in a
process of its own, since a process does not forget its peak.
"""

from __future__ import annotations

import csv
import functools
import io
import math
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pc15.bitstream.header import MAX_PIXELS
from pc15.bitstream.header_bytes import unpack_v15
from pc15.config import PROGRAMS, CodecConfig
from pc15.decoder import Decoded, decode_many, decode_stream
from pc15.encoder import EncodeResult, encode, encode_many
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError
from pc15.images import find_images, load_luma
from pc15.luma import as_q12
from pc15.metrics import psnr
from pc15.paths import write_atomic
from pc15.plan.plan import plan_header
from pc15.proc.codebook import load_codebook
from pc15.runtime.device import resolve_device
from pc15.search.backend import backend_of
from pc15.search.backend.product import Product
from pc15.search.backend.protocol import Candidates, TileBatch, TileTerms
from pc15.search.candidates import bank_patterns
from pc15.search.plane_state import PlaneState, SearchTask

__all__ = ["Timing", "grown", "run_curve", "run_speed", "write_csv"]

_CEILING_SHAPES = {"cpu": ((256, 4096), (4096, 4096)), "cuda": ((4096, 4096), (4096, 1 << 16))}
"""Tiles and candidates of the products that the ceiling is the fastest of: results that stay in the cache, or not."""
_CEILING_REPEATS = 10
"""Times that they are timed more often than all else: they take milliseconds."""
_MULTIPLY = "random search", "product", "screening"
"""Stages whose ceiling that is."""
_COPIED = {"cpu": 1 << 27, "cuda": 1 << 30}
"""Bytes of the copy that is the other ceiling: more than any cache holds."""
_RANDOM_TILES = {"cpu": 256, "cuda": 4096}
_RANDOM_ROWS = 1 << 17
_ENERGIES = 64  # of tiles of 32 px, in both cases
_WARM_PIXELS = 128 * 96
_DECODED_TOGETHER = {"cpu": 16, "cuda": 384}
"""Streams decoded at once, about so many."""


@dataclass(frozen=True)
class Timing:
    """One stage of one configuration, means over the pictures.

    seconds: of one picture, or of one call of a stage.   rate: in `unit`.
    share: of the ceiling measured in the same run, which is the integer product for what multiplies, the fastest of
    several looks, and the copy for exact scores, whose floor is to read every pattern once; None where there is none.
    peak_mib: of the process, or of the GPU's allocator.   note: what the stage ran on.
    """

    stage: str
    seconds: float
    rate: float
    unit: str
    share: float | None
    peak_mib: float
    note: str


def run_speed(
    images: Sequence[str | Path],
    *,
    presets: Sequence[str] = ("fast", "balanced", "oracle"),
    device: str = "auto",
    repeats: int = 3,
    limit: int | None = None,
) -> list[Timing]:
    """Time the stages on pictures' luma.

    Args:
        images: pictures, or folders of them.   repeats: how often everything is timed.   limit: so many pictures.
    Raises:
        ConfigError: repeats or limit below 1.   UnknownNameError: no such preset.   ImageError: no picture.
    """
    if repeats < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"repeats is {repeats} and limit {limit}; give at least 1")
    where = resolve_device(device)
    ways = [(preset, *_ways(preset, str(where))) for preset in presets]
    pictures = [load_luma(path) for path in find_images(list(images))[:limit]]
    clock = _Clock(where, repeats)
    first, copy = _ceiling(clock), _copy(clock)
    rows = [_random_search(clock, keep, first.rate) for keep in (1, 64)]
    ceiling = first
    for preset, plain, tiles in ways:
        ceiling = max(ceiling, _ceiling(clock), key=lambda timing: timing.rate)  # a machine may be slow for a while
        rows += _stages(clock, pictures[0], preset, tiles, first.rate, copy.rate)
        for name, own in ((f"{preset}, tile programs", tiles), (preset, plain)):
            rows += _whole(clock, pictures, name, own)
            rows += _together(clock, pictures, name, own) if len(pictures) > 1 else []
    scale = first.rate / ceiling.rate
    of_best = [replace(row, share=row.share * scale) if row.share and row.stage in _MULTIPLY else row for row in rows]
    return [ceiling, copy, *of_best]


def _ways(preset: str, device: str) -> tuple[CodecConfig, CodecConfig]:
    """A preset as it stands, and with tile programs alone."""
    return CodecConfig.preset(preset, device=device), CodecConfig.preset(preset, **PROGRAMS, device=device)


@dataclass(frozen=True)
class _Clock:
    device: torch.device
    repeats: int

    def best(self, work: Callable[[], Any]) -> float:
        """Seconds of the fastest run, after one that does not count."""
        work()
        return min(self.once(work) for _ in range(self.repeats))

    def once(self, work: Callable[[], Any]) -> float:
        self._wait()
        began = time.perf_counter()
        work()
        self._wait()
        return time.perf_counter() - began

    def peak_mib(self) -> float:
        """Most memory held so far, MiB."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 2**20
        try:  # getrusage would count what a parent process held when it started this one
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))
        except (OSError, StopIteration):
            return self._usage_mib()

    @staticmethod
    def _usage_mib() -> float:
        try:
            import resource
        except ImportError:  # Windows
            return float("nan")
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _ceiling(clock: _Clock) -> Timing:
    """The int8 product alone, of the shape that suits it best."""
    found = []
    for n, rows in _CEILING_SHAPES[clock.device.type]:
        draw = torch.Generator().manual_seed(1)
        a, b = (
            torch.randint(-127, 128, (count, 1024), generator=draw, dtype=torch.int8).to(clock.device)
            for count in (n, rows)
        )
        ways: list[Callable[[], Any]] = [functools.partial(_multiplied, Product(b), a)]
        if clock.device.type == "cpu":  # the product that torch offers by this name, where ours is another
            ways.append(functools.partial(torch._int_mm, a, b.t()))
        often = replace(clock, repeats=_CEILING_REPEATS * clock.repeats)
        seconds = min(often.best(way) for way in ways)
        found.append((a.numel() * rows / seconds, seconds, f"int8, {n} x 1024 x {rows}"))
    rate, seconds, note = max(found)
    return Timing("integer product alone", seconds, rate, "candidate pixels/s", 1.0, clock.peak_mib(), note)


def _copy(clock: _Clock) -> Timing:
    """Memory copied: each byte is read and written."""
    source = torch.ones(_COPIED[clock.device.type], dtype=torch.uint8, device=clock.device)
    target = torch.empty_like(source)
    seconds = clock.best(lambda: target.copy_(source))
    rate, note = 2 * len(source) / seconds, f"{len(source) >> 20} MiB"
    return Timing("copy alone", seconds, rate, "bytes/s", 1.0, clock.peak_mib(), note)


def _multiplied(product: Product, tiles: Tensor) -> None:
    for _ in product.blocks(tiles):
        pass


def _random_search(clock: _Clock, keep: int, ceiling: float) -> Timing:
    """Screening of a large bank of noise: the best `keep` of each tile."""
    draw, n = torch.Generator().manual_seed(2), _RANDOM_TILES[clock.device.type]
    tiles, rows = (
        torch.randint(-127, 128, (count, 1024), generator=draw, dtype=torch.int8).to(clock.device)
        for count in (n, _RANDOM_ROWS)
    )
    weights, energies = (
        torch.randint(1, 128, (count, _ENERGIES), generator=draw, dtype=torch.int8).to(clock.device)
        for count in (n, _RANDOM_ROWS)
    )
    scale, bits = (torch.rand(shape, generator=draw).to(clock.device) for shape in ((2, _RANDOM_ROWS), _RANDOM_ROWS))
    place, price = torch.zeros(n, dtype=torch.int64, device=clock.device), torch.rand(n, generator=draw)
    candidates = Candidates(Product(rows), Product(energies), scale, bits)
    own = TileTerms(tiles, weights, place, price.to(clock.device))

    def search() -> None:
        backend_of(clock.device).best_of(n, keep, clock.device).compete(None, candidates, own, 0)

    seconds = clock.best(search)
    share = tiles.numel() * _RANDOM_ROWS / seconds / ceiling
    note = f"best {keep} of {_RANDOM_ROWS} random candidates of 1024 px, {n} tiles"
    return Timing("random search", seconds, n / seconds, "tile layers/s", share, clock.peak_mib(), note)


def _stages(clock: _Clock, u8: Tensor, preset: str, cfg: CodecConfig, ceiling: float, copy: float) -> list[Timing]:
    """Product, screening and exact scores of the first layer of all tiles."""
    height, width = u8.shape[1:]
    plane = as_q12(u8[0], clock.device)
    header = plan_header(width, height, cfg)
    tables, codebook = load_table(cfg.table_id), load_codebook(cfg.codebook_id)
    state = PlaneState([plane], SearchTask(header, 0, cfg, tables, codebook))
    scorer, bank, cls = state.scorer, state.bank, state.windows.class_of_tile
    e = state.x - (state.x.sum(dim=(1, 2), keepdim=True) // state.x[0].numel())
    n = len(e)
    tiles = TileBatch(e, state.x, cls)
    packed = scorer.packed(tiles).rows
    product = bank.product(scorer._half)
    multiplied = clock.best(functools.partial(_multiplied, product, packed))
    screened = clock.best(lambda: scorer.screen(tiles, 0, cfg.shortlist, None))
    rows = scorer.screen(tiles, 0, cfg.shortlist, None)
    patterns = bank_patterns(bank, rows, codebook, cfg.tile, cfg.seed)
    cost = scorer.costs.rows(0)[rows.clamp(min=0)]
    scored = clock.best(lambda: scorer.exact(e, state.x, cls, patterns, cost, 0))
    work = n * bank.rows * packed.shape[1]
    note = f"{preset}: {n} tiles, {bank.rows} candidates of {packed.shape[1]} px"
    peak, few = clock.peak_mib(), f"{preset}: {rows.shape[1]} a tile"
    least = rows.numel() * patterns.store.shape[1] * patterns.store.element_size() / scored  # bytes/s
    return [
        Timing("product", multiplied, work / multiplied, "candidate pixels/s", work / multiplied / ceiling, peak, note),
        Timing("screening", screened, n / screened, "tile layers/s", work / screened / ceiling, peak, note),
        Timing("exact scores", scored, rows.numel() / scored, "candidates/s", least / copy, peak, few),
    ]


def _decoded(stream: bytes, device: str) -> Decoded:
    """A stream of our own, redrawn, whatever its size."""
    return decode_stream(stream, device=device, max_pixels=MAX_PIXELS)


def _whole(clock: _Clock, pictures: Sequence[Tensor], name: str, cfg: CodecConfig) -> list[Timing]:
    """Encoding and decoding from pixels to bytes and back."""
    encoded, decoded, sizes, quality = [], [], [], []
    for picture in pictures:
        stream: bytes = encode(picture, cfg)["bitstream"]
        encoded.append(min(clock.once(functools.partial(encode, picture, cfg)) for _ in range(clock.repeats)))
        decoded.append(clock.best(functools.partial(_decoded, stream, str(clock.device))))
        sizes.append(8 * len(stream) / picture.numel())
        quality.append(psnr(picture, _decoded(stream, "cpu").planes[0][None], data_range=255))
    pixels = statistics.fmean(picture.numel() for picture in pictures)
    note = f"{name}, {len(pictures)} pictures, {statistics.fmean(sizes):.4f} bpp, {statistics.fmean(quality):.2f} dB"
    return [
        Timing(what, seconds, pixels / seconds / 1e6, "megapixels/s", None, clock.peak_mib(), note)
        for what, seconds in (("encode", statistics.fmean(encoded)), ("decode", statistics.fmean(decoded)))
    ]


def _together(clock: _Clock, pictures: Sequence[Tensor], name: str, cfg: CodecConfig) -> list[Timing]:
    """Encoding and decoding of all pictures at once; seconds are of one picture."""
    found: list[EncodeResult] = []

    def encoded() -> None:
        found[:] = encode_many(pictures, cfg)

    seconds = clock.best(encoded) / len(pictures)
    rows = [Timing("encode together", seconds, 1.0 / seconds, "pictures/s", None, clock.peak_mib(), name)]
    streams = [one["bitstream"] for one in found] * max(1, _DECODED_TOGETHER[clock.device.type] // len(pictures))
    pixels = statistics.fmean(picture.shape[1] * picture.shape[2] for picture in pictures)
    seconds = clock.best(
        functools.partial(decode_many, streams, device=str(clock.device), max_pixels=MAX_PIXELS)
    ) / len(streams)
    note = f"{name}, {len(streams)} streams"
    return [
        *rows,
        Timing("decode together", seconds, pixels / seconds / 1e6, "megapixels/s", None, clock.peak_mib(), note),
    ]


def run_curve(
    image: str | Path,
    megapixels: Sequence[float],
    *,
    presets: Sequence[str] = ("fast",),
    device: str = "auto",
) -> list[Timing]:
    """Time and peak memory of encoding and decoding over the size of the picture, residual alone and tile programs.

    Args:
        image: the picture whose luma is repeated and cropped.   megapixels: sizes, 10^6 px.
    Raises:
        ConfigError: a size that is no number above 0, or beyond what a stream holds.
        UnknownNameError: no such preset.   ImageError: no picture.
    """
    for size in megapixels:
        if not 0 < size * 1e6 <= MAX_PIXELS:
            raise ConfigError(f"{size} megapixels; give sizes above 0 and up to {MAX_PIXELS / 1e6:.0f}")
    where = str(resolve_device(device))
    ways = [(preset, *_ways(preset, where)) for preset in presets]
    path = find_images([image])[0]
    rows = []
    for preset, plain, tiles in ways:
        for name, cfg in ((preset, plain), (f"{preset}, tile programs", tiles)):
            for size in megapixels:
                encoded, streams = _alone(_encode_point, path, size, cfg, name)
                rows += [encoded, _alone(_decode_point, streams, cfg, name)]
    return rows


def grown(u8: Tensor, pixels: int) -> Tensor:
    """A picture [C,h,w] repeated and cropped to about so many pixels of the same shape."""
    h, w = u8.shape[1:]
    width = max(1, round(math.sqrt(pixels * w / h)))
    height = max(1, round(pixels / width))
    return u8.repeat(1, -(-height // h), -(-width // w))[:, :height, :width].contiguous()


def _alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """Result of work(*arguments) in a process that does nothing else."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _encode_point(path: Path, megapixels: float, cfg: CodecConfig, name: str) -> tuple[Timing, list[bytes]]:
    """Encode a small picture, which loads what any picture needs, and then a large one; both streams."""
    clock = _Clock(torch.device(cfg.device), 1)
    own = load_luma(path)
    found = [encode(grown(own, _WARM_PIXELS), cfg)["bitstream"]]
    picture, start = grown(own, round(megapixels * 1e6)), clock.peak_mib()
    seconds = clock.once(lambda: found.append(encode(picture, cfg)["bitstream"]))
    return _point(clock, "encode", seconds, start, picture.shape[2], picture.shape[1], name), found


def _decode_point(streams: list[bytes], cfg: CodecConfig, name: str) -> Timing:
    clock = _Clock(torch.device(cfg.device), 1)
    warm, stream = streams
    header = unpack_v15(stream)[0]
    _decoded(warm, cfg.device)
    start = clock.peak_mib()
    seconds = clock.once(functools.partial(_decoded, stream, cfg.device))
    return _point(clock, "decode", seconds, start, header.width, header.height, name)


def _point(clock: _Clock, stage: str, seconds: float, start: float, width: int, height: int, name: str) -> Timing:
    peak, pixels = clock.peak_mib(), width * height
    note = f"{name}, {width} x {height}, {start:.0f} MiB before"
    return Timing(stage, seconds, pixels / seconds / 1e6, "megapixels/s", None, peak, note)


def write_csv(timings: Sequence[Timing], path: Path) -> None:
    """A row per timing, atomically."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [field.name for field in fields(Timing)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(timing) for timing in timings)
    write_atomic(path, text.getvalue().encode())
