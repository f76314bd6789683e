"""In-class pictures: the price, to a codec of procedural patterns, of a picture that is one pattern.

The pictures are drawn here, in floating point, by nothing that the codec draws with, at random continuous parameters.
With x, y in [-1, 1] over the picture's side, (cx, cy) a centre, r and theta around it, u and w along and across a
random direction, f in periods per side, and an edge profile from a hard square wave (s -> 0) to a cosine (s = 1),

    P(t; s) = clip(cos(2 pi t) / s, -1, 1),

| class           | v(x, y), from -1 to 1                                                          |
|-----------------|--------------------------------------------------------------------------------|
| stripes         | P(f u / 2 + phase; s)                                                          |
| checkerboard    | sign(cos(2 pi (f u / 2 + phase)) cos(2 pi (f w / 2 + phase')))                 |
| rings           | P(f r / 2 + phase; s)                                                          |
| linear_gradient | clip((u - at) / width, -1, 1)                                                  |
| radial_gradient | 1 - 2 min(r / radius, 1)                                                       |
| spiral          | P(m theta / 2 pi + f r / 2 + phase; s), m arms                                 |
| plaid           | (P(f u / 2 + phase; s) + P(f' w / 2 + phase'; s)) / 2                          |
| sunburst        | P(m theta / 2 pi + phase; s), m rays                                           |

and luma = dark + (light - dark) (v + 1) / 2, the mean of 4 x 4 samples per pixel, rounded to 8 bits.

Each picture is coded with a preset's own options at the lambdas of a ladder that is the same for all, from the largest
down to the first that reaches the wanted SSIM (Gaussian window, 8-bit luma); its result is that file, or else the
one of highest SSIM.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from pc15.bench import INCLASS, INCLASS_LAMBDAS, INCLASS_SSIM
from pc15.bench.points import Key, Point, PointFile
from pc15.bench.rd import executor
from pc15.bitstream.header import MAX_PIXELS, MAX_TILE
from pc15.config import CodecConfig
from pc15.decoder import decode
from pc15.encoder import encode
from pc15.errors import ConfigError, UnknownNameError, did_you_mean
from pc15.metrics import SSIM_WINDOW, psnr, ssim
from pc15.runtime.notices import bars_hidden

__all__ = ["ClassResult", "draw_picture", "run_inclass", "summarise"]

Floats = npt.NDArray[np.float64]

_SAMPLES = 4
_TURN = 2.0 * math.pi


@dataclass(frozen=True)
class _Place:
    """Coordinates of all samples, [S,1] and [1,S], and the picture's own random numbers."""

    x: Floats
    y: Floats
    rng: np.random.Generator

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def along(self) -> tuple[Floats, Floats]:
        """Coordinates u and w along and across a random direction."""
        angle = self.between(0.0, math.pi)
        c, s = math.cos(angle), math.sin(angle)
        return c * self.x + s * self.y, c * self.y - s * self.x

    def around(self, reach: float) -> tuple[Floats, Floats]:
        """Polar coordinates r and theta around a random centre within `reach` of the middle."""
        dx, dy = self.x - self.between(-reach, reach), self.y - self.between(-reach, reach)
        return np.hypot(dx, dy), np.arctan2(dy, dx)


def _profile(t: Floats, s: float) -> Floats:
    return np.clip(np.cos(_TURN * t) / s, -1.0, 1.0)


def _stripes(at: _Place) -> Floats:
    u, _ = at.along()
    return _profile(at.between(2.5, 14.0) / 2.0 * u + at.between(0.0, 1.0), at.between(0.05, 1.0))


def _checkerboard(at: _Place) -> Floats:
    u, w = at.along()
    f = at.between(2.0, 10.0) / 2.0
    waves = np.cos(_TURN * (f * u + at.between(0.0, 1.0))) * np.cos(_TURN * (f * w + at.between(0.0, 1.0)))
    return np.sign(waves)


def _rings(at: _Place) -> Floats:
    r, _ = at.around(0.6)
    return _profile(at.between(2.5, 14.0) / 2.0 * r + at.between(0.0, 1.0), at.between(0.05, 1.0))


def _linear_gradient(at: _Place) -> Floats:
    u, _ = at.along()
    return np.clip((u - at.between(-0.3, 0.3)) / at.between(0.6, 1.5), -1.0, 1.0)


def _radial_gradient(at: _Place) -> Floats:
    r, _ = at.around(0.5)
    return 1.0 - 2.0 * np.minimum(r / at.between(0.5, 1.6), 1.0)


def _spiral(at: _Place) -> Floats:
    r, theta = at.around(0.4)
    arms = int(at.rng.integers(1, 5)) * int(at.rng.choice([-1, 1]))
    wave = arms * theta / _TURN + at.between(1.5, 8.0) / 2.0 * r + at.between(0.0, 1.0)
    return _profile(wave, at.between(0.05, 1.0))


def _plaid(at: _Place) -> Floats:
    u, w = at.along()
    s = at.between(0.05, 1.0)
    one = _profile(at.between(2.0, 10.0) / 2.0 * u + at.between(0.0, 1.0), s)
    return (one + _profile(at.between(2.0, 10.0) / 2.0 * w + at.between(0.0, 1.0), s)) / 2.0


def _sunburst(at: _Place) -> Floats:
    _, theta = at.around(0.5)
    rays = int(at.rng.integers(5, 21))
    return _profile(rays * theta / _TURN + at.between(0.0, 1.0), at.between(0.05, 1.0))


_DRAW: dict[str, Callable[[_Place], Floats]] = {
    "stripes": _stripes,
    "checkerboard": _checkerboard,
    "rings": _rings,
    "linear_gradient": _linear_gradient,
    "radial_gradient": _radial_gradient,
    "spiral": _spiral,
    "plaid": _plaid,
    "sunburst": _sunburst,
}


def draw_picture(name: str, index: int, size: int = 512, seed: int = 0) -> torch.Tensor:
    """Picture number `index` of a class, uint8 [1,size,size]; the same parameters at every size.

    Raises:
        UnknownNameError: no such class.
    """
    if name not in _DRAW:
        raise UnknownNameError(f"no class {name!r}{did_you_mean(name, _DRAW)} (there are {', '.join(_DRAW)})")
    rng = np.random.default_rng([seed, list(_DRAW).index(name), index])
    dark, light = float(rng.uniform(0.05, 0.35)), float(rng.uniform(0.65, 0.95))
    fine = (2.0 * np.arange(size * _SAMPLES) + 1.0) / (size * _SAMPLES) - 1.0
    v = _DRAW[name](_Place(fine[None, :], fine[:, None], rng))
    mean = v.reshape(size, _SAMPLES, size, _SAMPLES).mean(axis=(1, 3))
    luma = dark + (light - dark) * (mean + 1.0) / 2.0
    return torch.from_numpy(np.rint(luma * 255.0).astype(np.uint8)).unsqueeze(0)


@dataclass(frozen=True)
class ClassResult:
    """Each picture's best file of a class, in summary.

    reached: share of pictures with the wanted SSIM.   seconds: median time of one encode.
    """

    name: str
    pictures: int
    bytes_median: float
    bytes_max: int
    ssim_min: float
    ssim_median: float
    reached: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class InclassOptions:
    """Options of `run_inclass`.

    Args:
        classes: some of `INCLASS`.   count: pictures of each.   size: px, side of the pictures.
        seed: of the pictures' parameters.   lambdas: the ladder.   force: measure again what the output holds.
        workers: processes of one thread each; the rows and their order are the same, but for the times.
    Raises:
        UnknownNameError, ConfigError: an option that cannot be.
    """

    classes: Sequence[str] = INCLASS
    count: int = 20
    size: int = 512
    seed: int = 0
    lambdas: Sequence[float] = INCLASS_LAMBDAS
    preset: str = "balanced"
    device: str = "auto"
    workers: int = 1
    force: bool = False

    def __post_init__(self) -> None:
        for name in self.classes:
            if name not in _DRAW:
                raise UnknownNameError(f"no class {name!r}{did_you_mean(name, _DRAW)} (there are {', '.join(_DRAW)})")
        if not SSIM_WINDOW <= self.size <= MAX_TILE:
            raise ConfigError(f"size is {self.size}; give {SSIM_WINDOW} to {MAX_TILE} px, what one tile can be")
        if self.count < 1 or self.workers < 1 or not self.lambdas:
            given = f"count is {self.count}, workers {self.workers}, with {len(self.lambdas)} lambdas"
            raise ConfigError(f"{given}; give at least 1 of each")


def run_inclass(out: str | Path, options: InclassOptions) -> list[Point]:
    """Measure what `out`, a CSV, does not hold yet, a picture's rows written as it is done; all of these pictures.

    Raises:
        UnknownNameError, ConfigError: a preset or device that cannot be; nothing was measured.
        SchemaError: `out` is something else than such a CSV.
    """
    cfg = CodecConfig.preset(options.preset, device=options.device)
    ladder = sorted(set(options.lambdas), reverse=True)
    pictures = [
        _Picture(name, index, options.size, options.seed, options.preset)
        for name in options.classes
        for index in range(options.count)
    ]
    every = [picture.key(lam) for picture in pictures for lam in ladder]
    with (
        PointFile(out, every if options.force else []) as file,
        executor(options.workers) as pool,
        tqdm(total=len(pictures), desc="in-class", unit="picture", disable=bars_hidden()) as bar,
    ):
        waiting = deque(pictures)
        running: deque[Future[list[Point]]] = deque()
        while waiting or running:
            while waiting and len(running) < options.workers:
                picture = waiting.popleft()
                known = [file.points.get(picture.key(lam)) for lam in ladder]
                running.append(pool.submit(_climb_down, picture, ladder, known, cfg))
            for point in running.popleft().result():
                file.add(point)
            bar.update()
        return [file.points[key] for key in every if key in file.points]


@dataclass(frozen=True)
class _Picture:
    """A picture, and with which preset it is coded."""

    name: str
    index: int
    size: int
    seed: int
    preset: str

    def key(self, lam: float) -> Key:
        image = f"{self.name}/{self.seed}/{self.index:03d}"
        return Key(image, self.size, self.size, f"pc15-{self.preset}", f"{lam:g}")


def _climb_down(
    picture: _Picture, ladder: Sequence[float], known: Sequence[Point | None], cfg: CodecConfig
) -> list[Point]:
    """Measure the points that are missing, down to the first that is good enough."""
    found = []
    for lam, point in zip(ladder, known, strict=True):
        if point is None:
            u8 = draw_picture(picture.name, picture.index, picture.size, picture.seed)
            point = _measure(picture.key(lam), u8, cfg.but(lambda_rd=lam))
            found.append(point)
        if point.ssim >= INCLASS_SSIM:
            break
    return found


def _measure(key: Key, picture: torch.Tensor, cfg: CodecConfig) -> Point:
    began = time.perf_counter()
    data = encode(picture, cfg)["bitstream"]
    coded = time.perf_counter()
    back = decode(data, max_pixels=MAX_PIXELS).cpu()
    done = time.perf_counter()
    return Point(
        *key, len(data), bpp=round(8.0 * len(data) / picture.numel(), 6),
        psnr_y=round(psnr(picture, back, 255), 4), ssim=round(ssim(picture, back, 255), 6),
        enc_s=round(coded - began, 5), dec_s=round(done - coded, 5),
    )  # fmt: skip


def summarise(points: Sequence[Point], wanted: float = INCLASS_SSIM) -> list[ClassResult]:
    """One result per class, in the order of the points."""
    pictures: dict[str, list[Point]] = {}
    for point in points:
        pictures.setdefault(point.image, []).append(point)
    classes: dict[str, list[Point]] = {}
    for name, files in pictures.items():
        enough = [p for p in files if p.ssim >= wanted]
        best = min(enough, key=lambda p: (p.bytes, -p.ssim)) if enough else max(files, key=lambda p: p.ssim)
        classes.setdefault(name.partition("/")[0], []).append(best)
    return [
        ClassResult(
            name=name,
            pictures=len(best),
            bytes_median=median(p.bytes for p in best),
            bytes_max=max(p.bytes for p in best),
            ssim_min=min(p.ssim for p in best),
            ssim_median=median(p.ssim for p in best),
            reached=sum(p.ssim >= wanted for p in best) / len(best),
            seconds=median(p.enc_s for p in best),
        )
        for name, best in classes.items()
    ]
