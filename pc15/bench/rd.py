"""Rate and distortion of PC15 and of conventional codecs on the same pictures, by one protocol.

Each picture becomes 8-bit BT.601 luma and is coded as one gray plane; the rate is the whole file.  PSNR and Gaussian
SSIM have data range 255.  In colour it is RGB that goes in and comes out; measured are PSNR over its channels, PSNR of
Y, and of Cb and Cr at 4:2:0, their mean at 6:1:1 in dB, SSIM of Y, and the mean CIEDE2000 difference.  Perceptual
qualities are MS-SSIM and visual information fidelity of luma.  A codec is walked up its ladder of settings until a
point passes `max_bpp`.
"""

from __future__ import annotations

import functools
import logging
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pc15.bench import LAMBDAS, MAX_BPP, Anchor
from pc15.bench.codecs import Codec, coders, conventional, own, warm_up
from pc15.bench.points import ColorPoint, Key, Point, PointFile, kind_of, read_points
from pc15.color import rgb_to_ycbcr420
from pc15.errors import ConfigError, ImageError, Pc15Error, UnknownNameError, did_you_mean
from pc15.images import find_images, load_luma, load_rgb
from pc15.metrics import MS_SSIM_SIDE, SSIM_WINDOW, ciede2000, ms_ssim, psnr, ssim
from pc15.paths import unicode_name
from pc15.perceptual import vif, vif_is_there
from pc15.runtime.notices import bars_hidden

__all__ = ["Target", "find_pictures", "measure_all", "run_rd"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Target:
    """A file, and what its rows call it: its path below the folder that was named."""

    path: Path
    name: str
    width: int
    height: int

    @property
    def key(self) -> tuple[str, int, int]:
        return self.name, self.width, self.height


@dataclass(frozen=True, kw_only=True)
class RdOptions:
    """Options of `run_rd`.

    Args:
        presets: presets of PC15; each becomes a codec `pc15-<preset>`.
        against: conventional codecs, see `codecs`; those that are not there are left out with a notice.
        anchors: a CSV of the same columns as the output, whose curves stand beside those of it.
        reference: a codec that must be among them all.
        lambdas: PC15's ladder.
        max_bpp: where a ladder is left.
        workers: processes; times are only comparable with one.
        force: measure rows again that the output holds.
        color: pictures are RGB, and points are of colour.   vvenc: path of VVenC's program.
        perceptual: points also have MS-SSIM and VIF.
        codec: further fields of CodecConfig.
    Raises:
        ConfigError: a number that cannot be.
    """

    presets: Sequence[str] = ("balanced",)
    against: Sequence[Anchor | str] = ()
    anchors: str | Path | None = None
    reference: str | None = None
    lambdas: Sequence[float] = LAMBDAS
    max_bpp: float = MAX_BPP
    workers: int = 1
    force: bool = False
    color: bool = False
    perceptual: bool = False
    vvenc: str | Path | None = None
    codec: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_ladder_end(self.max_bpp, self.workers)
        if self.presets and not self.lambdas:
            raise ConfigError("no lambda to measure at; give some, such as 4,1,0.25")


def check_ladder_end(max_bpp: float, workers: int) -> None:
    """Refuse a rate at which no ladder can be left, and no processes.

    Raises:
        ConfigError: that.
    """
    if not (math.isfinite(max_bpp) and max_bpp > 0):
        raise ConfigError(f"max_bpp is {max_bpp}; give bits per pixel above 0, such as {MAX_BPP}")
    if workers < 1:
        raise ConfigError(f"workers is {workers}; give 1 or more processes")


def run_rd(images: Sequence[str | Path], out: str | Path, options: RdOptions) -> list[Point]:
    """Measure what `out`, a CSV, does not hold yet, each row written as it comes.

    Args:
        images: files and folders.
        out: the CSV; rows of the same picture, size, codec and setting are not measured again.
    Returns:
        Every point that `out` and the anchors hold of these pictures, also of codecs that were measured earlier.
    Raises:
        ConfigError, UnknownNameError: an option that cannot be; nothing was measured.
        ImageError: a picture that cannot be read, or is too small; nothing was measured.
        SchemaError: `out` or the anchors are something else than such a CSV.
        MissingExtraError: what measures VIF is not installed; nothing was measured.
    """
    if options.perceptual:
        vif_is_there()
    color, reference = options.color, options.reference
    codecs = [own(preset, options.lambdas, color, **options.codec) for preset in dict.fromkeys(options.presets)]
    codecs += conventional(options.against, color, options.vvenc)
    if not codecs and options.anchors is None:
        raise ConfigError("no codec to measure; give presets, codecs to compare with, or anchors")
    pictures = find_pictures(images, *((MS_SSIM_SIDE, "MS-SSIM") if options.perceptual else (SSIM_WINDOW, "SSIM")))
    kind = kind_of(color, options.perceptual)
    given = _anchors(options.anchors, pictures, color) if options.anchors is not None else []
    every = [Key(*p.key, c.name, f"{s:g}") for p in pictures for c in codecs for s in c.settings]
    redo = every if options.force else []
    with PointFile(out, redo, kind) as file:
        known = dict.fromkeys([*(c.name for c in codecs), *(p.codec for p in [*given, *file.points.values()])])
        if reference is not None and reference not in known:
            raise UnknownNameError(
                f"no codec {reference!r} to compare with{did_you_mean(reference, known)} (there are {', '.join(known)})"
            )
        tasks = [(picture, codec) for picture in pictures for codec in codecs]
        measure_all(tasks, file, options.max_bpp, options.workers, perceptual=options.perceptual)
        wanted = {picture.key for picture in pictures}
        points = [point for point in file.points.values() if point.picture in wanted]
    measured = {(point.picture, point.codec) for point in points}
    return points + [point for point in given if (point.picture, point.codec) not in measured]


def find_pictures(images: Sequence[str | Path], side: int = SSIM_WINDOW, metric: str = "SSIM") -> list[Target]:
    """All pictures, opened once, so that a bad one is known before hours of work.

    Args:
        side: least side that what will be measured takes, px.   metric: its name.
    """
    found: dict[Path, str] = {}
    for given in map(Path, images):
        for path in find_images(given):
            found.setdefault(path, unicode_name(path.relative_to(given).as_posix() if given.is_dir() else path.name))
    if not found:
        find_images([])  # says so
    pictures: dict[str, Target] = {}
    for path, name in found.items():
        if name in pictures:
            raise ConfigError(f"{pictures[name].path} and {path} would both be {name} in the CSV; rename one of them")
        height, width = load_luma(path).shape[1:]
        if min(height, width) < side:
            raise ImageError(f"{path} has {width}x{height} pixels; {metric} needs {side}x{side}, leave it out")
        pictures[name] = Target(path, name, width, height)
    return list(pictures.values())


def _anchors(path: str | Path, pictures: Sequence[Target], color: bool) -> list[Point]:
    """The rows of a CSV that are about these pictures."""
    points, wanted = read_points(path), {picture.key for picture in pictures}
    if points and isinstance(points[0], ColorPoint) != color:
        raise ConfigError(f"{path} is of {'luma' if color else 'colour'}, unlike what is measured")
    known = {point.picture for point in points}
    lacking = [picture for picture in pictures if picture.key not in known]
    if len(lacking) == len(pictures):
        name, width, height = pictures[0].key
        example = "{} {}x{}".format(*points[0].picture) if points else "no row at all"
        raise ConfigError(f"{path} holds none of the pictures: one is {name} {width}x{height}, there is {example}")
    if lacking:
        _LOG.warning("%s lacks %d of %d pictures, such as %s", path, len(lacking), len(pictures), lacking[0].name)
    return [point for point in points if point.picture in wanted]


# ---------------------------------------------------------------------------------------------- measuring


class _Walk:
    """One codec on its way up its ladder with one picture."""

    def __init__(self, picture: Target, codec: Codec) -> None:
        self.picture, self.codec, self._rung = picture, codec, 0

    def next(self, points: dict[Key, Point], max_bpp: float) -> float | None:
        """The first setting without a point, or None at the top."""
        while self._rung < len(self.codec.settings):
            setting = self.codec.settings[self._rung]
            point = points.get(Key(*self.picture.key, self.codec.name, f"{setting:g}"))
            if point is None:
                return setting
            self._rung = len(self.codec.settings) if point.bpp > max_bpp else self._rung + 1
        return None


def measure_all(
    tasks: Sequence[tuple[Target, Codec]], file: PointFile, max_bpp: float, workers: int, *, perceptual: bool = False
) -> None:
    """Add to the file every point that it lacks."""
    waiting = deque(_Walk(picture, codec) for picture, codec in tasks)
    running: dict[Future[Point], _Walk] = {}
    try:
        with (
            executor(workers) as pool,
            tqdm(total=len(waiting), desc="rate and distortion", unit="curve", disable=bars_hidden()) as bar,
        ):
            while waiting or running:
                while waiting and len(running) < workers:
                    walk = waiting.popleft()
                    setting = walk.next(file.points, max_bpp)
                    if setting is None:
                        bar.update()
                    else:
                        running[pool.submit(_measure, walk.picture, walk.codec, setting, perceptual)] = walk
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    file.add(future.result())
                    waiting.appendleft(running.pop(future))
    except BrokenProcessPool as error:
        raise Pc15Error(
            f"a process died while measuring; {file.path} keeps what was done, run again to go on, "
            "with fewer workers if memory is short"
        ) from error


class _Here(Executor):
    """Executor that runs a task at once, in this process."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


def executor(workers: int) -> Executor:
    """Run tasks in that many processes of one thread each, or a single one's at once in this process."""
    return ProcessPoolExecutor(workers, get_context("spawn"), _single_thread) if workers > 1 else _Here()


def _single_thread() -> None:
    torch.set_num_threads(1)


_warm_up = functools.cache(warm_up)


def _measure(picture: Target, codec: Codec, setting: float, perceptual: bool = False) -> Point:
    """One row; a process's first point with a codec is preceded by a small picture that no clock sees."""
    _warm_up(codec)
    u8: Tensor = load_rgb(picture.path) if codec.color else load_luma(picture.path)[0]
    encoded, decoded = coders(codec, setting)
    began = time.perf_counter()
    data = encoded(u8)
    coded = time.perf_counter()
    u8_hat = decoded(data).cpu()
    done = time.perf_counter()
    planes, planes_hat = (rgb_to_ycbcr420(p) if codec.color else (p,) for p in (u8, u8_hat))
    y, y_hat = planes[0], planes_hat[0]
    in_db = [float(psnr(a, b, 255)) for a, b in zip(planes, planes_hat, strict=True)]
    qualities: dict[str, Any] = {"psnr_y": round(in_db[0], 4), "ssim": round(ssim(y, y_hat, 255), 6)}
    if codec.color:
        qualities |= {
            "psnr_rgb": round(psnr(u8, u8_hat, 255), 4),
            "psnr_cb": round(in_db[1], 4),
            "psnr_cr": round(in_db[2], 4),
            "psnr_611": round((6 * in_db[0] + in_db[1] + in_db[2]) / 8, 4),
            "ciede2000": round(ciede2000(u8, u8_hat, 255), 5),
        }
    if perceptual:
        qualities |= {"ms_ssim": round(ms_ssim(y, y_hat, 255), 6), "vif": round(vif(y, y_hat, 255), 5)}
    return kind_of(codec.color, perceptual)(
        *picture.key, codec.name, f"{setting:g}", len(data),
        bpp=round(8.0 * len(data) / y.numel(), 6), enc_s=round(coded - began, 5), dec_s=round(done - coded, 5),
        **qualities,
    )  # fmt: skip
