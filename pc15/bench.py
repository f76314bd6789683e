"""Rate and distortion of PC15 and of conventional codecs on the same lumas, by one protocol.

Each picture becomes 8-bit BT.601 luma and is coded as one gray plane; the rate is the whole file.  PSNR and Gaussian
SSIM are per picture, means are over pictures (never a pooled error).  A codec is walked up a ladder of settings until
a point passes `max_bpp`.  Values at a given rate are read per picture, linearly in log2(bpp) between points of that
picture, and only where its points reach; BD-rates are refused under half an overlap.
"""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import astuple, dataclass, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor
from tqdm import tqdm

from pc15.config import CodecConfig
from pc15.decode import decode_y
from pc15.encode import encode_y
from pc15.errors import ConfigError, Pc15Error
from pc15.images import find_images, load_luma, luma_tensor
from pc15.metrics import bd_rate, psnr, ssim
from pc15.paths import write_atomic

Anchor = Literal["jpeg", "webp", "avif", "jpeg2000"]

RATES = (0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0)
"""bpp at which the table of means is read."""

LAMBDAS = (8.0, 4.0, 2.0, 1.0, 0.5, 0.25)

_QUALITIES: dict[Anchor, tuple[float, ...]] = {
    "jpeg": (1, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 30, 38, 48, 58, 68, 77, 85, 91),
    "webp": (0, 1, 2, 3, 5, 8, 12, 17, 23, 30, 38, 47, 57, 67, 75, 80, 86, 92),
    "avif": (0, 4, 8, 12, 16, 21, 26, 31, 36, 41, 46, 51, 56, 62, 68, 75, 82, 90),
    "jpeg2000": (0.02, 0.028, 0.04, 0.055, 0.075, 0.105, 0.15, 0.21, 0.3, 0.42, 0.6, 0.85, 1.15, 1.6, 2.2),
}


@dataclass(frozen=True)
class Point:
    """One picture at one setting of one codec; sizes in px, times in s."""

    image: str
    width: int
    height: int
    codec: str
    setting: str
    bytes: int
    bpp: float
    psnr_y: float
    ssim: float
    enc_s: float
    dec_s: float


def run_rd(
    images: Sequence[str | Path],
    out: str | Path,
    *,
    presets: Sequence[str] = ("balanced",),
    against: Sequence[Anchor] = (),
    lambdas: Sequence[float] = LAMBDAS,
    max_bpp: float = 1.5,
    workers: int = 1,
    **options: Any,
) -> list[Point]:
    """Measure every picture with every codec and write the points to `out`, a CSV.

    Args:
        images: files and folders.
        presets: presets of PC15; each becomes a codec `pc15-<preset>`.
        against: conventional codecs, through Pillow.
        lambdas: PC15's ladder.   options: further fields of CodecConfig.
        workers: processes; times are only comparable with one.
    """
    for name in against:
        if name not in get_args(Anchor):
            raise ConfigError(f"no codec {name!r} to compare with; choose among {', '.join(get_args(Anchor))}")
        if name != "jpeg" and not features.check({"jpeg2000": "jpg_2000"}.get(name, name)):
            raise ConfigError(f"this Pillow was built without {name}; leave it out, or install a full build of Pillow")
    configs = [CodecConfig.preset(preset, **options) for preset in presets]
    paths = find_images(images)
    tasks = [
        (path, preset, cfg, tuple(sorted(lambdas, reverse=True)), max_bpp)
        for path in paths
        for preset, cfg in [*zip(presets, configs, strict=True), *((name, None) for name in against)]
    ]
    points: list[Point] = []
    with tqdm(total=len(tasks), desc="rate and distortion", unit="curve", disable=None) as bar:
        for curve in _map(tasks, workers):
            points += curve
            bar.update()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(f.name for f in fields(Point))
    writer.writerows(astuple(point) for point in points)
    write_atomic(out, text.getvalue().encode())
    return points


def _map(tasks: Sequence[Any], workers: int) -> Iterator[list[Point]]:
    if workers <= 1:
        yield from map(_curve, tasks)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), _single_thread) as pool:
        yield from pool.map(_curve, tasks)


def _single_thread() -> None:
    torch.set_num_threads(1)


def _curve(task: tuple[Path, Any, CodecConfig | None, tuple[float, ...], float]) -> list[Point]:
    """All points of one picture by one codec."""
    path, name, cfg, lambdas, max_bpp = task
    u8 = load_luma(path)[0]
    points = []
    for setting in lambdas if cfg is not None else _QUALITIES[name]:
        if cfg is not None:
            point = _point(path, u8, f"pc15-{name}", setting, *_pc15(cfg.but(lambda_rd=setting)))
        else:
            point = _point(path, u8, name, setting, *_anchor(name, setting))
        points.append(point)
        if point.bpp > max_bpp:
            break
    return points


Encoder = Callable[[Tensor], bytes]
Decoder = Callable[[bytes], Tensor]


def _pc15(cfg: CodecConfig) -> tuple[Encoder, Decoder]:
    def encoded(u8: Tensor) -> bytes:
        data: bytes = encode_y(luma_tensor(u8), cfg)["bitstream"]
        return data

    return encoded, lambda data: decode_y(data, device=cfg.device)[0, 0]


def _anchor(name: Anchor, quality: float) -> tuple[Encoder, Decoder]:
    options: dict[str, Any] = {"quality": int(quality)}
    if name == "jpeg":
        options["optimize"] = True
    elif name == "webp":
        options["method"] = 6
    elif name == "jpeg2000":
        options = {"quality_mode": "rates", "quality_layers": [8.0 / quality], "irreversible": True, "no_jp2": True}

    def encoded(u8: Tensor) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(u8.numpy()).save(buffer, {"jpeg2000": "JPEG2000"}.get(name, name.upper()), **options)
        return buffer.getvalue()

    def decoded(data: bytes) -> Tensor:
        with Image.open(io.BytesIO(data)) as image:
            return luma_tensor(torch.from_numpy(np.asarray(image.convert("L")).copy()))[0, 0]

    return encoded, decoded


def _point(path: Path, u8: Tensor, codec: str, setting: float, encoded: Encoder, decoded: Decoder) -> Point:
    began = time.perf_counter()
    data = encoded(u8)
    coded = time.perf_counter()
    y_hat = decoded(data)
    done = time.perf_counter()
    y = luma_tensor(u8)[0, 0]
    height, width = u8.shape
    return Point(
        image=path.name, width=width, height=height, codec=codec, setting=f"{setting:g}", bytes=len(data),
        bpp=round(8.0 * len(data) / u8.numel(), 6), psnr_y=round(psnr(y, y_hat), 4), ssim=round(ssim(y, y_hat), 6),
        enc_s=round(coded - began, 5), dec_s=round(done - coded, 5),
    )  # fmt: skip


# ---------------------------------------------------------------- summaries


def _curves(points: Sequence[Point], codec: str) -> dict[str, list[Point]]:
    curves: dict[str, list[Point]] = {}
    for point in points:
        if point.codec == codec:
            curves.setdefault(point.image, []).append(point)
    return {image: sorted(curve, key=lambda p: p.bpp) for image, curve in curves.items()}


def _at(curve: Sequence[Point], bpp: float, quality: str) -> float | None:
    """A curve's quality at a rate, or None where its points do not reach."""
    front: list[Point] = []
    for point in curve:
        if not front or getattr(point, quality) > getattr(front[-1], quality):
            front.append(point)
    rates = [math.log2(p.bpp) for p in front]
    at = math.log2(bpp)
    if not rates or not rates[0] <= at <= rates[-1]:
        return None
    return float(np.interp(at, rates, [getattr(p, quality) for p in front]))


def means_text(points: Sequence[Point], rates: Sequence[float] = RATES) -> str:
    """Table of mean PSNR-Y and SSIM at given rates; `(n)`: only n pictures reach it."""
    codecs = sorted({p.codec for p in points})
    lines = ["| codec | " + " | ".join(f"{r:g} bpp" for r in rates) + " |", "|---" * (len(rates) + 1) + "|"]
    for codec in codecs:
        curves = _curves(points, codec)
        cells = []
        for rate in rates:
            both = [(_at(c, rate, "psnr_y"), _at(c, rate, "ssim")) for c in curves.values()]
            reached = [(p, s) for p, s in both if p is not None and s is not None]
            if not reached:
                cells.append("-")
                continue
            cell = f"{sum(p for p, _ in reached) / len(reached):.2f} / {sum(s for _, s in reached) / len(reached):.3f}"
            cells.append(cell if len(reached) == len(curves) else f"{cell} ({len(reached)})")
        lines.append(f"| {codec} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def bd_text(points: Sequence[Point], reference: str) -> str:
    """Table of mean BD-rates against one codec, over the pictures where the curves overlap by half."""
    codecs = sorted({p.codec for p in points} - {reference})
    against = _curves(points, reference)
    lines = [f"| codec | BD-rate PSNR vs {reference} | BD-rate SSIM | pictures | mean overlap |", "|---" * 5 + "|"]
    for codec in codecs:
        rates: dict[str, list[float]] = {"psnr_y": [], "ssim": []}
        shares: list[float] = []
        for image, curve in _curves(points, codec).items():
            if image not in against:
                continue
            for quality, found in rates.items():
                try:
                    percent, share = bd_rate(
                        [p.bpp for p in against[image]], [getattr(p, quality) for p in against[image]],
                        [p.bpp for p in curve], [getattr(p, quality) for p in curve],
                    )  # fmt: skip
                except Pc15Error:
                    continue
                found.append(percent)
                shares.append(share)
        cells = [f"{sum(v) / len(v):+.1f} %" if v else "refused" for v in rates.values()]
        share_text = f"{100 * sum(shares) / len(shares):.0f} %" if shares else "under 50 %"
        lines.append(f"| {codec} | {cells[0]} | {cells[1]} | {len(rates['psnr_y'])} | {share_text} |")
    return "\n".join(lines)


def lambda_text(points: Sequence[Point]) -> str:
    """Table of means per codec and setting: what a whole set costs and gives at each lambda or quality."""
    lines = ["| codec | setting | bpp | PSNR-Y dB | SSIM | encode s | decode s |", "|---" * 7 + "|"]
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.codec, point.setting), []).append(point)
    for (codec, setting), group in groups.items():
        mean = [sum(getattr(p, f) for p in group) / len(group) for f in ("bpp", "psnr_y", "ssim", "enc_s", "dec_s")]
        text = f"{mean[0]:.4f} | {mean[1]:.2f} | {mean[2]:.3f} | {mean[3]:.2f} | {mean[4]:.3f}"
        lines.append(f"| {codec} | {setting} | {text} |")
    return "\n".join(lines)
