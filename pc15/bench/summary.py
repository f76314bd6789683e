"""Summaries of a benchmark's points: means at fixed rates, BD-rates, means per setting, plots, CompressAI's JSON.

Everything is read per picture and then averaged, never from pooled errors.  A curve is its Pareto front: points that
cost more for no gain, and lossless ones, are left out.  Values at a rate are linear in log2(bpp) between points;
BD-rates interpolate log2(bpp) by monotone cubics over the qualities that both curves cover, and are refused where
that is less than half of what either covers.
Source of the JSON's layout: J. Begaint et al., "CompressAI", arXiv:2011.03029, its folder `results`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pc15.bench import MIN_OVERLAP, RATES
from pc15.bench.points import Point
from pc15.errors import ConfigError, UnknownNameError, did_you_mean
from pc15.metrics import bd_overlap, bd_rate, pareto_front, quality_at, ssim_db
from pc15.paths import write_atomic
from pc15.report import Report

__all__ = [
    "Bd",
    "Table",
    "bd_rates",
    "bd_tables",
    "choose_reference",
    "compressai_results",
    "gains_table",
    "means_table",
    "report",
    "settings_table",
    "tables",
    "write_compressai",
]

Picture = tuple[str, int, int]
Curves = dict[Picture, list[Point]]

_QUALITIES: dict[str, Callable[[Point], float]] = {
    "PSNR": lambda point: point.psnr_y,
    "SSIM": lambda point: point.ssim,
    "SSIM-dB": lambda point: ssim_db(point.ssim),
}
_ENOUGH = 0.75
"""Share of the pictures that must reach a rate before their mean is shown."""


@dataclass(frozen=True)
class Table:
    """Cells for a terminal and for a page; the first column is text, the others are set right."""

    title: str
    header: list[str]
    rows: list[list[str]]
    notes: tuple[str, ...] = ()


def choose_reference(points: Sequence[Point], asked: str | None, against: Sequence[str]) -> str | None:
    """The codec that the others are compared with; None when there are not two.

    It is the one asked for, else the first of `against` that was measured, else jpeg, else any conventional codec,
    else the first of all.

    Raises:
        UnknownNameError: the one asked for has no points.
    """
    codecs = _codecs(points)
    if asked is not None and asked not in codecs:
        raise UnknownNameError(f"no points of a codec {asked!r}{did_you_mean(asked, codecs)} (there are "
                               f"{', '.join(codecs)})")  # fmt: skip
    if len(codecs) < 2:
        return None
    others = [codec for codec in codecs if not codec.startswith("pc15-")]
    wishes = [asked, *against, "jpeg", *others, *codecs]
    return next(codec for codec in wishes if codec in codecs)


def tables(points: Sequence[Point], reference: str | None) -> list[Table]:
    """The tables that the terminal shows."""
    own = [codec for codec in _codecs(points) if codec.startswith("pc15-")]
    shown = [settings_table(points, own)] if own else []
    shown += [means_table(points, "PSNR"), means_table(points, "SSIM")]
    if reference is not None:
        shown += [gains_table(points, reference), *bd_tables(points, reference)]
    return shown


# ---------------------------------------------------------------------------------------------- means


def settings_table(points: Sequence[Point], codecs: Sequence[str]) -> Table:
    """Mean rate, quality and time of a whole set at each setting."""
    total = len(_pictures(points))
    rows = []
    for (codec, setting), group in _by_setting(points).items():
        if codec in codecs:
            bpp, psnr, ssim, enc_s, dec_s = _means(group)
            cells = [f"{bpp:.4f}", f"{psnr:.2f}", f"{ssim:.4f}", f"{enc_s:.2f}", f"{dec_s:.3f}"]
            rows.append([codec, setting, f"{len(group)}/{total}", *cells])
    header = ["codec", "setting", "pictures", "bpp", "PSNR-Y dB", "SSIM", "encode s", "decode s"]
    return Table("Means per setting", header, rows)


def means_table(points: Sequence[Point], quality: str, rates: Sequence[float] = RATES) -> Table:
    """Mean quality at fixed rates, one row per codec."""
    total, form = len(_pictures(points)), ".2f" if quality == "PSNR" else ".4f"
    rows, seen = [], ""
    for codec in _codecs(points):
        cells = []
        for rate in rates:
            read, ended = _read(_curves(points, codec), quality, rate)
            cells.append(_cell(read, ended, total, lambda values: format(statistics.fmean(values), form)))
        rows.append([codec, *cells])
        seen += " ".join(cells)
    unit = " in dB" if quality == "PSNR" else ""
    title = f"Mean {quality}-Y{unit} at bpp, {_count(total, 'picture')}"
    return Table(title, ["codec", *(f"{rate:g}" for rate in rates)], rows, _legend(seen))


def gains_table(points: Sequence[Point], reference: str, rates: Sequence[float] = RATES) -> Table:
    """Mean PSNR and SSIM minus the reference's at fixed rates, over the pictures that reach the rate with both."""
    base, rows, seen = _curves(points, reference), [], ""
    for codec in _others(points, reference):
        curves, cells = _curves(points, codec), []
        total = len(base.keys() & curves.keys())
        for rate in rates:
            gains, most_ended = [], 0
            count = 0
            for quality in ("PSNR", "SSIM"):
                (mine, my_end), (theirs, their_end) = (_read(each, quality, rate) for each in (curves, base))
                both = sorted(mine.keys() & theirs.keys())
                count, most_ended = len(both), max(most_ended, len((my_end | their_end) & set(both)))
                gains.append(statistics.fmean(mine[key] - theirs[key] for key in both) if both else math.nan)
            if not count or most_ended > (1.0 - _ENOUGH) * total:
                cells.append(f"n/a ({count - most_ended})" + "*" * bool(most_ended))
            else:
                cells.append(f"{gains[0]:+.2f} / {gains[1]:+.3f} ({count})" + "*" * bool(most_ended))
        rows.append([codec, *cells])
        seen += " ".join(cells)
    title = f"Mean PSNR-Y dB / SSIM minus {reference}'s at bpp, over the pictures that reach it with both (count)"
    notes = tuple(note for note in _legend(seen) if note.startswith("*"))
    return Table(title, ["codec", *(f"{rate:g}" for rate in rates)], rows, notes)


def _read(curves: Curves, quality: str, rate: float) -> tuple[dict[Picture, float], set[Picture]]:
    """Quality at a rate of each picture that reaches it, and the pictures whose points end below it."""
    read: dict[Picture, float] = {}
    ended: set[Picture] = set()
    for picture, curve in curves.items():
        rates, values = _front(curve, quality)
        value = quality_at(rates, values, rate)
        if not math.isnan(value):
            read[picture] = value
            if rates[-1] < rate:
                ended.add(picture)
    return read, ended


def _cell(read: dict[Picture, float], ended: set[Picture], total: int, shown: Callable[[Iterable[float]], str]) -> str:
    star = "*" if ended else ""
    if len(read) < _ENOUGH * total:
        return f"n/a ({len(read)})"
    if len(ended) > (1.0 - _ENOUGH) * total:
        return f"n/a ({len(read) - len(ended)})*"
    return shown(read.values()) + (f" ({len(read)})" if len(read) < total else "") + star


def _legend(cells: str) -> tuple[str, ...]:
    notes = []
    if "(" in cells:
        notes.append("(n): only n pictures reach that rate, the easier ones, so such a mean is too high; n/a: over a "
                     "quarter of them do not")  # fmt: skip
    if "*" in cells:
        notes.append("*: the points of some pictures end below that rate, and their best one counts")
    return tuple(notes)


# ---------------------------------------------------------------------------------------------- BD-rate


@dataclass(frozen=True)
class Bd:
    """BD-rate of one picture by one quality, in percent, None where refused, and how far the curves overlap."""

    percent: float | None
    overlap: float


def bd_rates(points: Sequence[Point], codec: str, reference: str) -> dict[str, dict[Picture, Bd]]:
    """BD-rates per quality and picture; negative is fewer bits than the reference.

    Pictures that only one of the codecs has are left out.
    """
    mine, base = _curves(points, codec), _curves(points, reference)
    found: dict[str, dict[Picture, Bd]] = {quality: {} for quality in _QUALITIES}
    for picture in mine:
        if picture in base:
            for quality, per_picture in found.items():
                per_picture[picture] = _bd(_front(base[picture], quality), _front(mine[picture], quality))
    return found


def _bd(base: tuple[list[float], list[float]], mine: tuple[list[float], list[float]]) -> Bd:
    if len(base[0]) < 2 or len(mine[0]) < 2:
        return Bd(None, 0.0)
    overlap = bd_overlap(base[1], mine[1])
    return Bd(None if overlap < MIN_OVERLAP else bd_rate(*base, *mine, min_overlap=MIN_OVERLAP)[0], overlap)


def bd_tables(points: Sequence[Point], reference: str) -> list[Table]:
    """One table of all codecs, then one of all pictures per codec."""
    rows, notes, per_codec = [], [], []
    for codec in _others(points, reference):
        found = bd_rates(points, codec, reference)
        row, refusals = [codec], []
        for quality, rates in found.items():
            kept = [bd for bd in rates.values() if bd.percent is not None]
            row += [*_centre(kept), _overlap([bd.overlap for bd in rates.values()]), f"{len(kept)} of {len(rates)}"]
            refused = [f"{name[0]} ({_percent(bd.overlap)})" for name, bd in rates.items() if bd.percent is None]
            if refused:
                refusals.append(f"{codec}, {quality}: {len(refused)} of {len(rates)} refused, under "
                                f"{_percent(MIN_OVERLAP)} overlap: {', '.join(refused)}")  # fmt: skip
        rows.append(row)
        notes += refusals
        per_codec.append(_per_picture(codec, reference, found, refusals))
    header = ["codec"]
    for quality in _QUALITIES:
        header += [f"{quality} mean", "median", "overlap", "pictures"]
    legend = "Percent; negative is fewer bits than the reference. Overlap is the mean over all pictures."
    return [Table(f"BD-rate against {reference}", header, rows, (legend, *notes)), *per_codec]


def _per_picture(codec: str, reference: str, found: dict[str, dict[Picture, Bd]], refusals: Sequence[str]) -> Table:
    header, rows = ["picture"], []
    for quality in found:
        header += [f"{quality} %", "overlap"]
    for picture in sorted(found["PSNR"]):
        row = [picture[0]]
        for rates in found.values():
            bd = rates[picture]
            row += ["refused" if bd.percent is None else f"{bd.percent:+.1f}", _percent(bd.overlap)]
        rows.append(row)
    for place, name in enumerate(("mean", "median")):
        row = [name]
        for rates in found.values():
            kept = [bd for bd in rates.values() if bd.percent is not None]
            row += [_centre(kept)[place], _overlap([bd.overlap for bd in rates.values()]) if place == 0 else ""]
        rows.append(row)
    return Table(f"BD-rate of {codec} against {reference}, per picture", header, rows, tuple(refusals))


def _centre(kept: Sequence[Bd]) -> list[str]:
    """Mean and median."""
    values = [bd.percent for bd in kept if bd.percent is not None]
    return [f"{f(values):+.1f}" if values else "-" for f in (statistics.fmean, statistics.median)]


def _overlap(shares: Sequence[float]) -> str:
    return _percent(statistics.fmean(shares)) if shares else "-"


def _percent(share: float) -> str:
    return f"{math.floor(100.0 * share)} %"  # rounded down: 49.9 % is refused


# ---------------------------------------------------------------------------------------------- JSON and page


def compressai_results(points: Sequence[Point], codec: str) -> dict[str, Any]:
    """One codec in the layout of CompressAI's result files, so that its plot tool overlays it.

    Means per setting, by rising rate; settings that not every picture has, and lossless ones, are left out.
    """
    curve = _common(points, codec)
    names = ("bpp", "psnr-y", "ssim", "encoding_time", "decoding_time")
    count = _count(len(_curves(points, codec)), "picture")
    return {
        "name": codec,
        "description": f"{codec} on 8-bit luma, whole files, means over {count} per setting",
        "results": {name: [round(row[i], 6) for row in curve] for i, name in enumerate(names)},
    }


def write_compressai(points: Sequence[Point], path: str | Path) -> list[Path]:
    """Write one file per codec, as CompressAI reads them: `path`, or path-codec.json each if there are several."""
    path, written = Path(path), []
    path.parent.mkdir(parents=True, exist_ok=True)
    codecs = _codecs(points)
    for codec in codecs:
        target = path if len(codecs) == 1 else path.with_name(f"{path.stem}-{codec}{path.suffix}")
        write_atomic(target, (json.dumps(compressai_results(points, codec), indent=2, allow_nan=False) + "\n").encode())
        written.append(target)
    return written


def report(points: Sequence[Point], reference: str | None) -> Report:
    """The page: plots of the means, all tables, and plots of every picture."""
    codecs, pictures = _codecs(points), sorted(_pictures(points))
    page = Report(
        "PC15: rate and distortion",
        f"{_count(len(pictures), 'picture')}, 8-bit BT.601 luma coded as one gray plane, whole files; "
        "PSNR and Gaussian SSIM per picture, then averaged.",
    )
    page.section("Means per setting", "Settings that every picture has.")
    for place, name in ((1, "PSNR-Y, dB"), (2, "SSIM")):
        series = {codec: [(row[0], row[place]) for row in _common(points, codec)] for codec in codecs}
        page.plot(series, x="bits per pixel", y=name, log_x=True)
    shown = [means_table(points, "PSNR"), means_table(points, "SSIM")]
    if reference is not None:
        shown = [*bd_tables(points, reference)[:1], *shown, gains_table(points, reference)]
        shown += bd_tables(points, reference)[1:]
    for table in [*shown, settings_table(points, codecs)]:
        page.section(table.title).table(table.header, table.rows)
        for note in table.notes:
            page.text(note)
    for picture in pictures:
        page.section("{}, {}x{}".format(*picture))
        for quality, name in (("PSNR", "PSNR-Y, dB"), ("SSIM", "SSIM")):
            fronts = {codec: _front(_curves(points, codec).get(picture, []), quality) for codec in codecs}
            page.plot(
                {codec: list(zip(*front, strict=True)) for codec, front in fronts.items()},
                x="bits per pixel", y=name, log_x=True,
            )  # fmt: skip
    return page


# ---------------------------------------------------------------------------------------------- points, grouped


def _codecs(points: Sequence[Point]) -> list[str]:
    """PC15's first, each kind in the order of its first point."""
    found = dict.fromkeys(point.codec for point in points)
    return sorted(found, key=lambda codec: not codec.startswith("pc15-"))


def _others(points: Sequence[Point], reference: str) -> list[str]:
    codecs = _codecs(points)
    if reference not in codecs:
        raise ConfigError(f"no points of {reference!r}{did_you_mean(reference, codecs)}")
    return [codec for codec in codecs if codec != reference]


def _pictures(points: Sequence[Point]) -> set[Picture]:
    return {point.picture for point in points}


def _curves(points: Sequence[Point], codec: str) -> Curves:
    curves: Curves = {}
    for point in points:
        if point.codec == codec:
            curves.setdefault(point.picture, []).append(point)
    return curves


def _front(curve: Sequence[Point], quality: str) -> tuple[list[float], list[float]]:
    return pareto_front([point.bpp for point in curve], [_QUALITIES[quality](point) for point in curve])


def _by_setting(points: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    groups: dict[tuple[str, str], list[Point]] = {}
    for point in points:
        groups.setdefault((point.codec, point.setting), []).append(point)
    return groups


def _means(group: Sequence[Point]) -> tuple[float, ...]:
    """Means of bpp, PSNR, SSIM, seconds to encode and to decode."""
    rows = [(p.bpp, p.psnr_y, p.ssim, p.enc_s, p.dec_s) for p in group]
    return tuple(statistics.fmean(column) for column in zip(*rows, strict=True))


def _common(points: Sequence[Point], codec: str) -> list[tuple[float, ...]]:
    """The means of the settings that all of a codec's pictures have, by rising rate, without lossless ones."""
    total = len(_curves(points, codec))
    groups = [group for (name, _), group in _by_setting(points).items() if name == codec and len(group) == total]
    return sorted(means for means in map(_means, groups) if math.isfinite(means[1]))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
