"""Benchmark of hooks: the same pictures, options and process, with every way to search.

    exhaustive   the whole bank at full resolution, for every layer and again in the second search, with a beam of two:
                 the reference of all that follows
    screened     all candidates at a quarter of the pixels, the best of them at full resolution; the second search
                 chooses from what the first listed, if the options say so, with the beam that they name
    indexed      the same inside the cells of the bank that are most like the residual: no learning
    heuristic    screened, narrowed to generators by HeuristicHooks
    M1, M1+M2, ...   narrowed to cells, then rows, then an order by learned hooks, as far as there are weights

A hook is worth its name when no other way is both faster and better: time against BD-rate over several rates says
whether, and the verdict may be no.  BD-rates are per picture.  Times are medians of repeats in one process, in turn,
hooks included.  The first encode of a process also draws the bank, so one is made before the clock starts.  bpp is of
the whole stream, the hooks' few bytes of metadata included.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.header import MAX_PIXELS
from pc15.config import PRESETS, PROGRAMS, CodecConfig
from pc15.config_files import baseline_weights
from pc15.decoder import decode_y
from pc15.encoder import EncodeResult, encode_many, encode_y
from pc15.errors import ConfigError
from pc15.hooks.heuristic import HeuristicHooks
from pc15.hooks.learned import AiHooks
from pc15.hooks.protocol import EncoderHooks
from pc15.hooks.roles import ROLES
from pc15.hooks.roles.selector import CELLS
from pc15.hooks.roles.squares import SquareGuide
from pc15.hooks.weights import HooksWarning, Predictor, Slot
from pc15.images import find_images, load_luma, luma_tensor
from pc15.metrics import ms_ssim, psnr, ssim
from pc15.paths import unicode_name, write_atomic
from pc15.quant import MSE_SCALE
from pc15.report import Report
from pc15.runtime.device import env_summary
from pc15.runtime.notices import bars_hidden
from pc15learn.bench_tables import Measured, add_summary, front, summary, table_text, verdict

__all__ = ["BenchResult", "Method", "Searches", "methods_of", "run_bench"]

_MS_SSIM_SIDE = 161


@dataclass(frozen=True)
class Method:
    """A way to search: its name, how options change, and its hooks, which may have been fitted."""

    name: str
    changes: Mapping[str, Any]
    hooks: EncoderHooks | None = None
    learned: bool = False


@dataclass(frozen=True)
class Searches:
    """Choice of the methods that are compared.

    weights: folders of exported weights, or "baseline" for those that come with pc15.
    topk: cells that learned hooks keep of every layer, one run each, "indexed" four times as many, HeuristicHooks half
        as many generators; each one's own number if empty.
    presets: names of presets to compare as well; with any, exhaustive search with the whole beam, too.
    photographs: compare searches of the residual's squares, in place of those of tile programs: all presets, and hooks
        upon the oracle's.
    """

    weights: Sequence[str | Path] = ()
    topk: Sequence[int] = ()
    presets: Sequence[str] = ()
    photographs: bool = False


@dataclass(frozen=True)
class BenchResult:
    """All measurements, the means per rate, the front over all rates, and the files written."""

    measured: list[Measured]
    table: list[dict[str, Any]]
    front: list[dict[str, Any]]
    csv: Path
    html: Path
    json: list[Path]


def run_bench(
    images: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    searches: Searches | None = None,
    cfg: CodecConfig | None = None,
    lambdas: Sequence[float] = (),
    limit: int | None = None,
    repeats: int = 1,
    together: bool = False,
) -> BenchResult:
    """Encode pictures with every method and compare.

    Args:
        images: folder or pictures; their luma is coded.
        out: folder of bench.csv, bench.html, bench.txt and one <method>.json each.
        searches: what is compared; those that need no weights if None.
        cfg: options that all methods share; the balanced preset, tile programs alone, if None.
        lambdas: rates to measure at; the config's if empty.  BD-rates need two, and are worth a look from four on.
        limit: so many pictures, the first by name.
        repeats: encode each so often and take the median time, on a machine that others use too.
        together: encode all pictures in one call, their luma in whole bytes, which is what keeps a GPU busy; each one's
            time is its share.
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
    paths = find_images(images)[:limit]
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    methods, notes = methods_of(Searches() if searches is None else searches, cfg)
    pictures = [(unicode_name(path.name), luma_tensor(load_luma(path))) for path in paths]
    _warm_up([y for _, y in (pictures if together else pictures[:1])], cfg, methods)
    measured: list[Measured] = []
    shown: dict[str, Tensor] = {}
    groups = [pictures] if together else [[one] for one in pictures]
    with tqdm(
        total=len(groups) * len(methods) * len(rates) * repeats, desc="bench", disable=bars_hidden(), leave=False
    ) as progress:
        for group in groups:
            for lam in rates:
                rows = _in_turn(group, cfg.but(lambda_rd=lam), methods, repeats, progress)
                measured += [row for row, _ in rows]
                if group is groups[0] and lam == rates[0]:
                    first = rows[: len(methods)]
                    shown |= {f"{m.method}: {m.bpp:.3f} bpp, {m.psnr:.2f} dB, {m.seconds:.1f} s": y for m, y in first}
    return _write(out, measured, cfg, notes, [("original", _bytes(pictures[0][1])), *_as_bytes(shown)])


_CORNER = 128  # px, of a photograph
_EXHAUSTIVE_BEAM = 2  # as wide as a second search through the whole bank can be at a bearable price


def methods_of(searches: Searches, cfg: CodecConfig) -> tuple[list[Method], list[str]]:
    """Methods that are compared, and notes about what cannot be."""
    if searches.photographs:
        return _methods_of_squares(searches)
    weights, topk = searches.weights, searches.topk
    whole = {"search": "exhaustive", "recall": 0}
    methods = [
        Method("exhaustive", {**whole, "beam": min(cfg.beam, _EXHAUSTIVE_BEAM)}),
        Method("screened", {"search": "screened"}),
    ]
    counts: list[int | None] = list(topk) or [None]
    for k in counts:
        cells = {} if k is None else {"cells": min(4 * k, CELLS)}
        methods.append(Method(_named("indexed", k, topk), {"search": "indexed", **cells}))
    for k in counts:
        hooks = HeuristicHooks() if k is None else HeuristicHooks(max(1, k // 2))
        methods.append(Method(_named("heuristic", k, topk), {"search": "screened"}, hooks))
    if searches.presets and cfg.beam > _EXHAUSTIVE_BEAM:
        methods.append(Method(f"exhaustive, beam {cfg.beam}", whole))
    for name in searches.presets:
        CodecConfig.preset(name)  # says which there are
        methods.append(Method(f"preset {name}", {**PRESETS[name], **PROGRAMS}))  # type: ignore[index]
    if not weights:
        return methods, ["no weights were given, so learned hooks are left out"]
    notes: list[str] = []
    for folder in weights:
        title = f" of {Path(folder).name}" if len(weights) > 1 else ""
        folder = baseline_weights() if str(folder) == "baseline" else Path(folder)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HooksWarning)
            tiles = {role: kind for role, kind in ROLES.items() if role != SquareGuide.role}
            there = {role: kind for role, kind in tiles.items() if (folder / f"{role}.safetensors").exists()}
            predictors = [kind(folder / f"{role}.safetensors") for role, kind in there.items()]
        notes += [str(w.message) for w in caught]
        if not there:
            notes.append(f"no weights in {folder}, so learned hooks are left out")
        for k in counts:
            options = {} if k is None else {"topk": k}
            for chain in _chains([one for one in predictors if one.ready]):
                name = _named("+".join(one.title for one in chain) + title, k, topk)
                methods.append(Method(name, {"search": "screened"}, AiHooks.of(chain, **options), learned=True))
    return methods, notes


def _methods_of_squares(searches: Searches) -> tuple[list[Method], list[str]]:
    """Methods for photographs, and notes: exhaustive search is the oracle's."""
    methods = [Method("exhaustive", PRESETS["oracle"])]
    methods += [Method(f"preset {name}", PRESETS[name]) for name in PRESETS if name != "oracle"]
    methods.append(Method("heuristic", PRESETS["oracle"], HeuristicHooks()))
    notes: list[str] = []
    for folder in searches.weights:
        title = f" of {Path(folder).name}" if len(searches.weights) > 1 else ""
        folder = baseline_weights() if str(folder) == "baseline" else Path(folder)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", HooksWarning)
            guide = SquareGuide(folder / f"{SquareGuide.role}.safetensors")
        notes += [str(w.message) for w in caught]
        if guide.ready:
            methods.append(Method(f"{guide.title}{title}", PRESETS["oracle"], AiHooks(squares=guide), learned=True))
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


def _named(name: str, k: int | None, topk: Sequence[int]) -> str:
    return name if len(topk) < 2 else f"{name} K={k}"


def _warm_up(pictures: Sequence[Tensor], cfg: CodecConfig, methods: Sequence[Method]) -> None:
    """Banks, tables and nets are loaded before the clock starts."""
    y = pictures[0]
    corner = y[:, :, : 2 * cfg.tile or _CORNER, : 2 * cfg.tile or _CORNER]
    for method in methods:
        encode_y(corner, _options(cfg, method))
    _encoded(pictures, _options(cfg, methods[0]))  # after an installation a corner alone leaves loops to be compiled


def _options(cfg: CodecConfig, method: Method) -> CodecConfig:
    return cfg.but(**{**method.changes, "lambda_rd": cfg.lambda_rd, "alpha_mix": cfg.alpha_mix}, ai=method.hooks)


def _in_turn(
    group: Sequence[tuple[str, Tensor]],
    cfg: CodecConfig,
    methods: Sequence[Method],
    repeats: int,
    progress: tqdm[Any],
) -> list[tuple[Measured, Tensor]]:
    """Some pictures, together, at one rate by every method, all of them once, then all again, and what each shows."""
    seconds: dict[str, list[float]] = {method.name: [] for method in methods}
    coded: dict[str, list[EncodeResult]] = {}
    for _ in range(repeats):
        for method in methods:
            own, began = _options(cfg, method), time.perf_counter()
            coded[method.name] = _encoded([y for _, y in group], own)
            seconds[method.name].append((time.perf_counter() - began) / len(group))
            progress.update()
    rows = []
    for i, (name, y) in enumerate(group):
        for method in methods:
            one, began = coded[method.name][i], time.perf_counter()
            y_hat = decode_y(one.bitstream, max_pixels=MAX_PIXELS)
            took = time.perf_counter() - began, statistics.median(seconds[method.name])
            rows.append((_measured(name, y, y_hat, cfg, method, one.bpp, took), y_hat))
    return rows


def _encoded(pictures: Sequence[Tensor], cfg: CodecConfig) -> list[EncodeResult]:
    return [encode_y(y, cfg) for y in pictures] if len(pictures) < 2 else encode_many(map(_bytes, pictures), cfg)


def _measured(
    name: str, y: Tensor, y_hat: Tensor, cfg: CodecConfig, method: Method, bpp: float, took: tuple[float, float]
) -> Measured:
    H, W = y.shape[2:]
    similar = ssim(y, y_hat) if min(H, W) >= 11 else math.nan
    multi = ms_ssim(y, y_hat) if min(H, W) >= _MS_SSIM_SIDE else math.nan
    mse = float((y.double() - y_hat.double()).square().mean())
    d = (1.0 - cfg.alpha_mix) * MSE_SCALE * mse + (cfg.alpha_mix * (1.0 - similar) if cfg.alpha_mix else 0.0)
    return Measured(
        image=name,
        method=method.name,
        lambda_rd=cfg.lambda_rd,
        seconds=took[1],
        decode_seconds=took[0],
        bpp=bpp,
        psnr=psnr(y, y_hat),
        ssim=similar,
        ms_ssim=multi,
        rd=d + cfg.lambda_rd * bpp,
        learned=method.learned,
    )


# ---------------------------------------------------------------- files


def _write(
    out: Path,
    measured: list[Measured],
    cfg: CodecConfig,
    notes: Sequence[str],
    pictures: Sequence[tuple[str, Tensor]],
) -> BenchResult:
    table, over_rates = summary(measured), front(measured)
    names = [field.name for field in fields(Measured)]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(m) for m in measured)
    write_atomic(out / "bench.csv", buffer.getvalue().encode())
    said = [*([table_text(over_rates)] if len(over_rates) > 1 else []), verdict(measured), table_text(table)]
    write_atomic(out / "bench.txt", ("\n\n".join(said) + "\n").encode())
    files = []
    for method in dict.fromkeys(m.method for m in measured):
        path = out / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', method.replace('+', '-').replace('=', ''))}.json"
        text = json.dumps(compressai_results(method, table, cfg), indent=2, allow_nan=True)
        write_atomic(path, (text + "\n").encode())
        files.append(path)
    page = _page(measured, cfg, notes, pictures)
    return BenchResult(measured, table, over_rates, out / "bench.csv", page.write(out / "bench.html"), files)


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
    cfg: CodecConfig,
    notes: Sequence[str],
    pictures: Sequence[tuple[str, Tensor]],
) -> Report:
    count = len({m.image for m in measured})
    about = f"{count} pictures, luma, tile {cfg.tile}, overlap {cfg.overlap}, alpha {cfg.alpha_mix:g}; {machine()}."
    page = Report("PC15: searches compared", about)
    page.section("Over all rates", " ".join(["Against exhaustive search, means over pictures.", *notes]))
    add_summary(page, measured)
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


def _cell(value: object) -> object:
    return f"{value:.4f}" if isinstance(value, float) else value


def _bytes(y: Tensor) -> Tensor:
    return (y[0, 0] * 255.0).round().to(torch.uint8)


def _as_bytes(shown: dict[str, Tensor]) -> list[tuple[str, Tensor]]:
    return [(name, _bytes(y)) for name, y in shown.items()]
