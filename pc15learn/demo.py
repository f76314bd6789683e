"""The whole tool in a few minutes on two cores, with nothing but what is installed.

A photo that scikit-learn ships is coded in colour and set beside JPEG at the same bytes; then pieces of such photos
become tiles and squares, labels, nets and their weights, and benchmarks show what those are worth.  The nets see a few
hundred tiles and some thousand squares, so they show how it works, not how well it can.
"""

from __future__ import annotations

import importlib.util
import io
import logging
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pc15.bitstream import write_bitstream
from pc15.color import rgb_to_ycbcr420
from pc15.config import PROGRAMS, CodecConfig
from pc15.decoder import decode
from pc15.encoder import EncodeResult, encode
from pc15.errors import MissingExtraError
from pc15.images import load_rgb, save_image
from pc15.metrics import psnr, ssim
from pc15.report import Report
from pc15learn.bench import Searches, machine, run_bench
from pc15learn.bench_tables import add_summary, table_text
from pc15learn.config import FitConfig
from pc15learn.export import export_weights
from pc15learn.fit import fit_role, trainings
from pc15learn.labels.squares import SquareOptions, label_squares
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.tiles import make_tiles

__all__ = ["run_demo"]

_WARM_UP = 64
_PIECE = 128
_PIECES = 10
_TILES_PER_PIECE = 16
_LABELLED = 400
_BENCHED = 2
_BENCH_SIDE = 160
_LAMBDA = 0.25
_SQUARES_AT = (2.0, 0.5, 0.12)
"""Rates at which squares are labelled."""


def run_demo(out: str | Path, *, tiles: int = _LABELLED, side: int | None = None) -> str:
    """Run everything; returns the closing text: a table and where the report lies.

    Args:
        out: folder of all that it makes.
        tiles: how many are labelled.
        side: crop of the photo that is coded; None for all of it.
    Raises:
        MissingExtraError: scikit-learn or Lightning is not installed.
    """
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("pc15learn").setLevel(logging.ERROR)
    photos = sample_photos()
    clock = _Clock()
    page = Report("PC15: a demonstration", f"Made by `pc15learn demo`; {machine()}.")

    photo = photos["china"] if side is None else photos["china"][:, :side, :side]
    piece = photo[:, :_WARM_UP, :_WARM_UP]
    decode(encode(piece, CodecConfig.preset("balanced"))["bitstream"])
    clock.done("compiled the loops, which only a first run after an installation has to, and tried them on a corner")
    lines = _code_photo(photo, out, page)
    clock.done("coded a photo in colour, and JPEG at the same bytes")

    for folder in ("images", "bench"):
        (out / folder).mkdir(exist_ok=True)
    for name, picture in photos.items():
        if name == "china":
            for i, piece in enumerate(pieces(picture, _BENCHED, _BENCH_SIDE)):
                save_image(out / "bench" / f"{name}-{i}.png", piece)
            continue
        for i, piece in enumerate(pieces(picture, _PIECES, _PIECE)):
            save_image(out / "images" / f"{name}-{i:02d}.png", piece)
    made = make_tiles(out / "images", out / "tiles.jsonl", limit=_TILES_PER_PIECE, val_percent=20, test_percent=0)
    clock.done(f"cut {made.rows} tiles")
    oracle = CodecConfig.preset("fast", **PROGRAMS, search="exhaustive", lambda_rd=_LAMBDA)
    options = LabelOptions(cfg=oracle, limit=tiles, top=24, random=8, device="cpu")
    labelled = make_labels(out / "tiles.jsonl", out / "labels", options)
    clock.done(f"labelled {labelled.tiles} of them by exhaustive search")

    squares = label_squares(
        [out / "images"], out / "squares", SquareOptions(lambdas=_SQUARES_AT, limit=max(2, tiles // 20))
    )
    clock.done(f"labelled {squares.rows} squares of {squares.pictures} pieces by the oracle's own search")

    metrics = []
    for role, kind in trainings().items():
        labels = squares.folder if role == "squares" else out / "labels"
        fitted = fit_role(
            FitConfig(role=role, labels=labels, out=out / "checkpoints", device="cpu", train=kind.demo), overwrite=True
        )
        export_weights(fitted.checkpoint, out / "weights", name=f"demo-{role}")
        metrics.append([role, *[f"{name} {value:.4f}" for name, value in sorted(fitted.metrics.items())][:3]])
        clock.done(f"fitted and exported {role}")
    bench = run_bench(
        out / "bench",
        out / "report",
        searches=Searches([out / "weights", "baseline"]),
        cfg=CodecConfig.preset("fast", **PROGRAMS, lambda_rd=_LAMBDA),
    )
    photographs = run_bench(
        out / "bench",
        out / "photographs",
        searches=Searches([out / "weights", "baseline"], photographs=True),
        cfg=CodecConfig.preset("balanced", lambda_rd=_LAMBDA),
    )
    clock.done(
        f"compared searches on {_BENCHED} pieces of a photo that no net has seen, as programs and as photographs"
    )

    width = max(len(row) for row in metrics)
    padded = [row + [""] * (width - len(row)) for row in metrics]
    page.section("Nets", f"Fitted to {labelled.tiles} tiles, and to {squares.rows} squares; on pictures held back.")
    page.table(["net", *[""] * (width - 1)], padded)
    page.section(
        "What hooks are worth",
        "Means over pieces of the photo above, which no net has seen: nets of a minute, and those that come with pc15.",
    )
    add_summary(page, bench.measured)
    page.section("What they are worth in photographs", "M4 upon the oracle's search of squares, and the presets.")
    add_summary(page, photographs.measured)
    page.section("Time").table(["step", "s"], [[what, f"{spent:.1f}"] for what, spent in clock.steps])
    path = page.write(out / "demo.html")
    tables = [table_text(bench.table), "", table_text(photographs.table)]
    return "\n".join([*lines, "", *tables, "", f"{path}: the report; {bench.html}: the benchmark"])


class _Clock:
    """Says what was done and how long it took."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float]] = []
        self._last = time.perf_counter()

    def done(self, what: str) -> None:
        now = time.perf_counter()
        self.steps.append((what, now - self._last))
        print(f"{now - self._last:6.1f} s  {what}", flush=True)
        self._last = now


def sample_photos() -> dict[str, Tensor]:
    """Photos of installed packages, uint8 [3,H,W]: scikit-learn's two, scikit-image's where they lie on disk."""
    try:
        from sklearn.datasets import load_sample_image
    except ImportError as error:
        raise MissingExtraError("the demo needs scikit-learn; install it with: pip install 'pc15[learn]'") from error
    photos = {name: load_sample_image(f"{name}.jpg") for name in ("china", "flower")}
    found = {n: torch.from_numpy(np.ascontiguousarray(p.transpose(2, 0, 1))) for n, p in photos.items()}
    # scikit-image's loaders may download; only what lies in its package is taken.
    spec = importlib.util.find_spec("skimage")
    for place in spec.submodule_search_locations or [] if spec else []:
        for name in ("astronaut", "coffee", "chelsea"):
            path = Path(place) / "data" / f"{name}.png"
            if path.is_file():
                found[name] = load_rgb(path)
    return found


def pieces(picture: Tensor, count: int, side: int) -> list[Tensor]:
    """At most `count` square pieces spread over a picture, uint8 [3,side,side]."""
    H, W = picture.shape[1:]
    places = [(y, x) for y in range(0, H - side + 1, side) for x in range(0, W - side + 1, side)]
    count = min(count, len(places))
    chosen = [places[i * len(places) // count] for i in range(count)]
    return [picture[:, y : y + side, x : x + side] for y, x in chosen]


def _code_photo(photo: Tensor, out: Path, page: Report) -> list[str]:
    """Code a photo in colour; returns lines for the terminal."""
    began = time.perf_counter()
    coded = encode(photo, CodecConfig.preset("balanced"))
    middle = time.perf_counter()
    stream = coded["bitstream"]
    decoded = decode(stream)
    done = time.perf_counter()
    write_bitstream(out / "china.pc15", stream)
    save_image(out / "china.png", decoded)
    jpeg, quality = jpeg_of(photo, len(stream))
    shown = torch.from_numpy(np.asarray(Image.open(io.BytesIO(jpeg)).convert("RGB")).transpose(2, 0, 1).copy())
    pixels = photo.shape[1] * photo.shape[2]
    rows = []
    for name, picture, size in (("PC15", decoded, len(stream)), (f"JPEG, quality {quality}", shown, len(jpeg))):
        y, y_hat = rgb_to_ycbcr420(photo)[0], rgb_to_ycbcr420(picture)[0]
        quality_db, similar = psnr(y, y_hat, data_range=255), ssim(y, y_hat, data_range=255)
        rows.append([name, str(size), f"{8 * size / pixels:.3f}", f"{quality_db:.2f}", f"{similar:.4f}"])
    times = f"Encoded in {middle - began:.1f} s, decoded in {done - middle:.2f} s."
    page.section("A photo in colour", f"{made_of(coded)} {times}")
    header = ["codec", "bytes", "bpp", "PSNR-Y", "SSIM-Y"]
    page.table(header, rows)
    page.pictures([("original", photo), (f"PC15, {len(stream)} bytes", decoded), (f"JPEG, {len(jpeg)} bytes", shown)])
    return [
        "  ".join(cell.ljust(18 if i == 0 else 8) for i, cell in enumerate(row)).rstrip() for row in [header, *rows]
    ]


def made_of(coded: EncodeResult) -> str:
    """A sentence on what a stream consists of."""
    layers = coded.stats["layers"]
    refined = any(kind.startswith("residual") for kind in coded.stats["bits_by_kind"])
    if not layers:
        return f"{'A residual alone' if refined else 'Flat tiles'}: no pattern was worth its bits here."
    return f"A program of {layers} patterns{' and a residual' if refined else ''}."


def jpeg_of(photo: Tensor, most_bytes: int) -> tuple[bytes, int]:
    """The best JPEG of at most so many bytes and its quality, or the smallest if none is that small."""
    image = Image.fromarray(photo.permute(1, 2, 0).contiguous().numpy())
    best: tuple[bytes, int] | None = None
    for quality in range(1, 96):
        buffer = io.BytesIO()
        image.save(buffer, format="JPEG", quality=quality, optimize=True)
        if best is not None and len(buffer.getvalue()) > most_bytes:
            break
        best = buffer.getvalue(), quality
    assert best is not None
    return best
