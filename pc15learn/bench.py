"""Benchmark of hooks: the same pictures, options and process, with every way to search.

    exhaustive   every candidate scored at full resolution: the reference of all deltas
    screened     all candidates at a quarter of the pixels, the best of them at full resolution
    indexed      the same inside the cells of the bank that are most like the residual: no learning
    heuristic    screened, narrowed to generators by HeuristicHooks
    M1, M1+M2, ...   narrowed to cells, then rows, then an order by learned hooks, as far as there are weights

A hook is worth its name when no other way is both faster and better; the verdict under the table names those that
are.  Means are over pictures (never a pooled error).  The first encode of a process also draws the bank, so one is
made before the clock starts.  bpp is of the whole stream, the hooks' few bytes of metadata included.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.header import MAX_PIXELS
from pc15.config import PROGRAMS, CodecConfig
from pc15.decoder import decode_y
from pc15.encoder import encode_y
from pc15.errors import ConfigError
from pc15.hooks.heuristic import HeuristicHooks
from pc15.hooks.learned import AiHooks
from pc15.hooks.protocol import EncoderHooks
from pc15.hooks.roles import ROLES
from pc15.hooks.weights import HooksWarning, Predictor, Slot
from pc15.images import find_images, load_luma, luma_tensor
from pc15.metrics import ms_ssim, psnr, ssim
from pc15.paths import unicode_name, write_atomic
from pc15.quant import MSE_SCALE
from pc15.report import Report
from pc15.runtime.device import env_summary
from pc15.runtime.notices import bars_hidden

__all__ = ["BenchResult", "Measured", "Method", "methods_of", "run_bench"]

_MS_SSIM_SIDE = 161


@dataclass(frozen=True)
class Measured:
    """One picture by one method at one lambda.

    rd: alpha * (1 - SSIM) + (1 - alpha) * MSE_norm + lambda * bpp, of the whole picture.
    """

    image: str
    method: str
    lambda_rd: float
    seconds: float
    decode_seconds: float
    bpp: float
    psnr: float
    ssim: float
    ms_ssim: float
    rd: float


@dataclass(frozen=True)
class Method:
    """A way to search: its name, the kind of search, its hooks, and how many cells it looks into by itself."""

    name: str
    search: str
    hooks: EncoderHooks | None = None
    cells: int | None = None


@dataclass(frozen=True)
class BenchResult:
    """All measurements, the table of means, and the files written."""

    measured: list[Measured]
    table: list[dict[str, Any]]
    csv: Path
    html: Path
    json: list[Path]


def run_bench(
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    weights: str | Path | None = None,
    cfg: CodecConfig | None = None,
    lambdas: Sequence[float] = (),
    topk: Sequence[int] = (16,),
    limit: int | None = None,
    repeats: int = 1,
) -> BenchResult:
    """Encode pictures with every method and compare.

    Args:
        images: folder or pictures; their luma is coded.
        out: folder of bench.csv, bench.html, bench.txt and one <method>.json each.
        weights: folder of exported weights; None leaves learned hooks out.
        cfg: options that all methods share; the balanced preset, tile programs alone, if None.
        lambdas: rates to measure at; the config's if empty.
        topk: cells that "indexed" and learned hooks keep, one run each; HeuristicHooks keep half as many generators.
        limit: so many pictures, the first by name.
        repeats: encode each so often and take the shortest time, on a machine that others use too.
    Raises:
        ImageError: no picture.
        ConfigError: an option out of range.
    """
    cfg = CodecConfig.preset("balanced", **PROGRAMS) if cfg is None else cfg
    rates = [float(value) for value in lambdas] or [cfg.lambda_rd]
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit} pictures; give at least 1, or leave it out")
    if repeats < 1:
        raise ConfigError(f"repeats is {repeats}; give at least 1")
    if not topk:
        raise ConfigError("topk is empty; give at least one number of cells")
    paths = find_images(images)[:limit]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    methods, notes = methods_of(weights, topk)
    pictures = [(unicode_name(path.name), luma_tensor(load_luma(path))) for path in paths]
    _warm_up(pictures[0][1], cfg, methods)
    measured: list[Measured] = []
    shown: dict[str, Tensor] = {}
    with tqdm(
        total=len(pictures) * len(methods) * len(rates), desc="bench", disable=bars_hidden(), leave=False
    ) as progress:
        for name, y in pictures:
            for lam in rates:
                for method in methods:
                    own = _options(cfg, method).but(lambda_rd=lam)
                    row, y_hat = _measure(name, y, own, method.name, repeats)
                    measured.append(row)
                    if name == pictures[0][0] and lam == rates[0]:
                        shown[f"{method.name}: {row.bpp:.3f} bpp, {row.psnr:.2f} dB, {row.seconds:.1f} s"] = y_hat
                    progress.update()
    table = summary(measured)
    return _write(out, measured, table, cfg, notes, [("original", _bytes(pictures[0][1])), *_as_bytes(shown)])


def methods_of(weights: str | Path | None, topk: Sequence[int]) -> tuple[list[Method], list[str]]:
    """Methods that can be compared with these weights, and notes about what cannot."""
    methods = [Method("exhaustive", "exhaustive"), Method("screened", "screened")]
    notes: list[str] = []
    methods += [Method(_named("indexed", k, topk), "indexed", cells=k) for k in topk]
    methods += [Method(_named("heuristic", k, topk), "screened", HeuristicHooks(max(1, k // 2))) for k in topk]
    if weights is None:
        return methods, ["no weights were given, so learned hooks are left out"]
    folder = Path(weights)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", HooksWarning)
        predictors = [kind(folder / f"{role}.safetensors") for role, kind in ROLES.items()]
    notes += [str(w.message) for w in caught]
    for k in topk:
        for chain in _chains([one for one in predictors if one.ready]):
            name = _named("+".join(one.title for one in chain), k, topk)
            methods.append(Method(name, "screened", AiHooks.of(chain, topk=k)))
    return methods, notes


def _chains(ready: Sequence[Predictor]) -> list[list[Predictor]]:
    """Predictors that go together: slot after slot, each upon the first one of all slots before it."""
    chains, before = [], list[Predictor]()
    for slot in get_args(Slot):
        own = [one for one in ready if one.slot == slot]
        if not own:
            break
        chains += [[*before, one] for one in own]
        before.append(own[0])
    return chains


def _named(name: str, k: int, topk: Sequence[int]) -> str:
    return name if len(topk) == 1 else f"{name} K={k}"


def _warm_up(y: Tensor, cfg: CodecConfig, methods: Sequence[Method]) -> None:
    """Banks, tables and nets are loaded before the clock starts."""
    corner = y[:, :, : 2 * cfg.tile, : 2 * cfg.tile]
    for method in methods:
        encode_y(corner, _options(cfg, method))


def _options(cfg: CodecConfig, method: Method) -> CodecConfig:
    cells = cfg.cells if method.cells is None else method.cells
    return cfg.but(search=method.search, cells=cells, ai=method.hooks)


def _measure(name: str, y: Tensor, cfg: CodecConfig, method: str, repeats: int) -> tuple[Measured, Tensor]:
    seconds = decode_seconds = math.inf
    for _ in range(repeats):
        began = time.perf_counter()
        coded = encode_y(y, cfg)
        middle = time.perf_counter()
        y_hat = decode_y(coded["bitstream"], max_pixels=MAX_PIXELS)
        done = time.perf_counter()
        seconds, decode_seconds = min(seconds, middle - began), min(decode_seconds, done - middle)
    H, W = y.shape[2:]
    similar = ssim(y, y_hat) if min(H, W) >= 11 else math.nan
    multi = ms_ssim(y, y_hat) if min(H, W) >= _MS_SSIM_SIDE else math.nan
    mse = float((y.double() - y_hat.double()).square().mean())
    d = (1.0 - cfg.alpha_mix) * MSE_SCALE * mse + (cfg.alpha_mix * (1.0 - similar) if cfg.alpha_mix else 0.0)
    row = Measured(
        image=name,
        method=method,
        lambda_rd=cfg.lambda_rd,
        seconds=seconds,
        decode_seconds=decode_seconds,
        bpp=coded["bpp"],
        psnr=psnr(y, y_hat),
        ssim=similar,
        ms_ssim=multi,
        rd=d + cfg.lambda_rd * coded["bpp"],
    )
    return row, y_hat


# ---------------------------------------------------------------- tables and files


def summary(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Means over pictures per lambda and method, with what changes against exhaustive search."""
    table: list[dict[str, Any]] = []
    for lam in dict.fromkeys(m.lambda_rd for m in measured):
        groups: dict[str, list[Measured]] = {}
        for m in measured:
            if m.lambda_rd == lam:
                groups.setdefault(m.method, []).append(m)
        base = _means(groups["exhaustive"]) if "exhaustive" in groups else None
        for method, group in groups.items():
            means = _means(group)
            row: dict[str, Any] = {"lambda": lam, "method": method, "pictures": len(group), **means}
            if base is not None:
                row["speed-up"] = base["seconds"] / max(means["seconds"], 1e-9)
                row["dPSNR"] = means["psnr"] - base["psnr"]
                row["dSSIM"] = means["ssim"] - base["ssim"]
                row["dbpp %"] = (means["bpp"] / base["bpp"] - 1.0) * 100.0
                row["dRD %"] = (means["rd"] / base["rd"] - 1.0) * 100.0
            table.append(row)
    return table


_MEANS = ("seconds", "decode_seconds", "bpp", "psnr", "ssim", "ms_ssim", "rd")


def _means(group: Sequence[Measured]) -> dict[str, float]:
    return {name: sum(float(getattr(m, name)) for m in group) / len(group) for name in _MEANS}


_COLUMNS: dict[str, str] = {
    "method": "",
    "lambda": "g",
    "seconds": ".2f",
    "speed-up": ".1f",
    "bpp": ".4f",
    "psnr": ".2f",
    "ssim": ".4f",
    "rd": ".4f",
    "dPSNR": "+.2f",
    "dSSIM": "+.4f",
    "dbpp %": "+.1f",
    "dRD %": "+.2f",
}


def table_cells(table: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and formatted cells."""
    names = [name for name in _COLUMNS if any(name in row for row in table)]
    return names, [[format(row[name], _COLUMNS[name]) if name in row else "" for name in names] for row in table]


def table_text(table: Sequence[dict[str, Any]]) -> str:
    """The table in columns of plain text."""
    header, cells = table_cells(table)
    widths = [max(len(row[i]) for row in [header, *cells]) for i in range(len(header))]
    lines = []
    for row in [header, *cells]:
        padded = [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _write(
    out: Path,
    measured: list[Measured],
    table: list[dict[str, Any]],
    cfg: CodecConfig,
    notes: Sequence[str],
    pictures: Sequence[tuple[str, Tensor]],
) -> BenchResult:
    names = [field.name for field in fields(Measured)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(m) for m in measured)
    write_atomic(out / "bench.csv", buffer.getvalue().encode())
    write_atomic(out / "bench.txt", (table_text(table) + "\n").encode())
    files = []
    for method in dict.fromkeys(m.method for m in measured):
        path = out / f"{method.replace('+', '-').replace(' ', '_').replace('=', '')}.json"
        text = json.dumps(compressai_results(method, table, cfg), indent=2, allow_nan=True)
        write_atomic(path, (text + "\n").encode())
        files.append(path)
    page = _page(measured, table, cfg, notes, pictures)
    return BenchResult(measured, table, out / "bench.csv", page.write(out / "bench.html"), files)


def compressai_results(method: str, table: Sequence[dict[str, Any]], cfg: CodecConfig) -> dict[str, Any]:
    """One curve in the layout of CompressAI's result files, so that its plot tool overlays it."""
    rows = sorted((row for row in table if row["method"] == method), key=lambda row: float(row["bpp"]))
    columns = {"psnr-y": "psnr", "ssim-y": "ssim", "ms-ssim-y": "ms_ssim", "bpp": "bpp"}
    times = {"encoding_time": "seconds", "decoding_time": "decode_seconds"}
    return {
        "name": f"pc15-{method}",
        "description": f"PC15, {method}, tile {cfg.tile}, overlap {cfg.overlap}, alpha {cfg.alpha_mix:g}",
        "results": {key: [row[name] for row in rows] for key, name in {**columns, **times}.items()},
    }


def _page(
    measured: Sequence[Measured],
    table: Sequence[dict[str, Any]],
    cfg: CodecConfig,
    notes: Sequence[str],
    pictures: Sequence[tuple[str, Tensor]],
) -> Report:
    count = len({m.image for m in measured})
    about = f"{count} pictures, luma, tile {cfg.tile}, overlap {cfg.overlap}, alpha {cfg.alpha_mix:g}; {machine()}."
    page = Report("PC15: searches compared", about)
    page.section("Means over pictures", "Deltas are against exhaustive search. " + " ".join(notes))
    add_summary(page, table)
    page.section("The first picture").pictures(pictures)
    page.section("Every measurement")
    header = [field.name for field in fields(Measured)]
    page.table(header, [[_cell(getattr(m, name)) for name in header] for m in measured])
    return page


def machine() -> str:
    """Versions, threads and processor, in a phrase."""
    env = env_summary()
    return (
        f"pc15 {env['pc15']}, torch {env['torch']}, {env['threads']} threads, "
        f"{env['cuda_device'] or env['cpu_capability']}"
    )


def add_summary(page: Report, table: Sequence[dict[str, Any]]) -> None:
    """The table of means, the verdict, and both plots."""
    page.table(*table_cells(table))
    page.text(verdict(table))
    by_method: dict[str, list[tuple[float, float]]] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in table:
        by_method.setdefault(row["method"], []).append((row["seconds"], row["rd"]))
        curves.setdefault(row["method"], []).append((row["bpp"], row["psnr"]))
    page.section("Seconds against RD", "Lower left is better.")
    page.plot(by_method, x="seconds per picture", y="RD", log_x=True, lines=False)
    page.section("Rate against PSNR").plot(curves, x="bits per pixel", y="PSNR-Y, dB", log_x=True)


def _cell(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value


def verdict(table: Sequence[dict[str, Any]]) -> str:
    """Per lambda, the ways to search that no other one beats in both seconds and RD."""
    sentences = []
    for lam in dict.fromkeys(row["lambda"] for row in table):
        rows = [row for row in table if row["lambda"] == lam]
        best = [
            row["method"]
            for row in rows
            if not any(o["seconds"] < row["seconds"] and o["rd"] < row["rd"] for o in rows)
        ]
        sentences.append(f"At lambda {lam:g} no other way is both faster and better than: {', '.join(best)}.")
    return " ".join(sentences)


def _bytes(y: Tensor) -> Tensor:
    return (y[0, 0] * 255.0).round().to(torch.uint8)


def _as_bytes(shown: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(name, _bytes(y)) for name, y in shown.items()]
