"""Summaries of a benchmark's points: means at fixed rates, BD-rates, means per setting, plots, CompressAI's JSON.

Everything is read per picture and then averaged, never from pooled errors.  A curve is its Pareto front: points that
cost more for no gain, and lossless ones, are left out.  Values at a rate are linear in log2(bpp) between points;
BD-rates interpolate log2(bpp) by monotone cubics over the qualities that both curves cover, and are refused where
that is less than half of what either covers.  CIEDE2000, of which less is better, is read as its negative.  Curves that
others published are means over a set of pictures, and are compared with means per setting.
Source of the JSON's layout: J. Begaint et al., "CompressAI", arXiv:2011.03029, its folder `results`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pc15.bench import MIN_OVERLAP, RATES
from pc15.bench.points import COLOR_COLUMNS, COLUMNS, ColorPoint, Point, write_points
from pc15.errors import ConfigError, SchemaError, UnknownNameError, did_you_mean
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
    "curves_table",
    "gains_table",
    "means_table",
    "read_curve",
    "report",
    "settings_table",
    "tables",
    "write_compressai",
    "write_results",
]

Picture = tuple[str, int, int]
Curves = dict[Picture, list[Point]]

Qualities = Mapping[str, Callable[[Any], float]]

_LUMA: Qualities = {
    "PSNR": lambda point: point.psnr_y,
    "SSIM": lambda point: point.ssim,
    "SSIM-dB": lambda point: ssim_db(point.ssim),
}
_COLOR: Qualities = {
    "PSNR-RGB": lambda point: point.psnr_rgb,
    "PSNR-6:1:1": lambda point: point.psnr_611,
    "SSIM-Y": lambda point: point.ssim,
    "CIEDE2000": lambda point: -point.ciede2000,
}
_COMPONENTS: Qualities = {
    "PSNR-Y": lambda point: point.psnr_y,
    "PSNR-Cb": lambda point: point.psnr_cb,
    "PSNR-Cr": lambda point: point.psnr_cr,
}
_QUALITIES = {**_LUMA, **_COLOR, **_COMPONENTS}
_ENOUGH = 0.75
"""Share of the pictures that must reach a rate before their mean is shown."""


@dataclass(frozen=True)
class Curve:
    """Rate and PSNR that others published of a codec: means over a set of pictures, by rising rate."""

    name: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]


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


def tables(points: Sequence[Point], reference: str | None, curves: Sequence[Curve] = ()) -> list[Table]:
    """The tables that the terminal shows."""
    own = [codec for codec in _codecs(points) if codec.startswith("pc15-")]
    shown = [settings_table(points, own)] if own else []
    shown += [means_table(points, quality) for quality in _shown(points)]
    if reference is not None:
        shown += [gains_table(points, reference), *bd_tables(points, reference)]
    return shown + ([curves_table(points, curves)] if curves else [])


def _in_color(points: Sequence[Point]) -> bool:
    return bool(points) and isinstance(points[0], ColorPoint)


def _shown(points: Sequence[Point]) -> list[str]:
    """Qualities that means are shown of."""
    return list(_COLOR) if _in_color(points) else ["PSNR", "SSIM"]


# ---------------------------------------------------------------------------------------------- means


def settings_table(points: Sequence[Point], codecs: Sequence[str]) -> Table:
    """Mean rate, quality and time of a whole set at each setting."""
    total, names = len(_pictures(points)), _columns(points)
    forms = {"bpp": ".4f", "ssim": ".4f", "enc_s": ".2f", "dec_s": ".3f"}
    rows = []
    for (codec, setting), group in _by_setting(points).items():
        if codec in codecs:
            cells = [format(mean, forms.get(name, ".2f")) for name, mean in zip(names, _means(group), strict=True)]
            rows.append([codec, setting, f"{len(group)}/{total}", *cells])
    header = ["codec", "setting", "pictures", *(_HEADINGS[name] for name in names)]
    return Table("Means per setting", header, rows)


def means_table(points: Sequence[Point], quality: str, rates: Sequence[float] = RATES) -> Table:
    """Mean quality at fixed rates, one row per codec."""
    in_db, difference = quality.startswith("PSNR"), quality == "CIEDE2000"
    total, form = len(_pictures(points)), ".2f" if in_db or difference else ".4f"
    rows, seen = [], ""

    def shown(values: Iterable[float]) -> str:
        return format((-1.0 if difference else 1.0) * statistics.fmean(values), form)

    for codec in _codecs(points):
        cells = []
        for rate in rates:
            read, ended = _read(_curves(points, codec), quality, rate)
            cells.append(_cell(read, ended, total, shown))
        rows.append([codec, *cells])
        seen += " ".join(cells)
    unit, name = " in dB" if in_db else "", quality if quality in _COLOR else f"{quality}-Y"
    title = f"Mean {name}{unit} at bpp, {_count(total, 'picture')}"
    return Table(title, ["codec", *(f"{rate:g}" for rate in rates)], rows, _legend(seen))


def gains_table(points: Sequence[Point], reference: str, rates: Sequence[float] = RATES) -> Table:
    """Mean PSNR and SSIM minus the reference's at fixed rates, over the pictures that reach the rate with both."""
    base, rows, seen = _curves(points, reference), [], ""
    qualities = ("PSNR-RGB", "SSIM-Y") if _in_color(points) else ("PSNR", "SSIM")
    for codec in _others(points, reference):
        curves, cells = _curves(points, codec), []
        total = len(base.keys() & curves.keys())
        for rate in rates:
            gains, most_ended = [], 0
            count = 0
            for quality in qualities:
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
    psnr = "PSNR-RGB" if _in_color(points) else "PSNR-Y"
    title = f"Mean {psnr} dB / SSIM minus {reference}'s at bpp, over the pictures that reach it with both (count)"
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


def bd_rates(
    points: Sequence[Point], codec: str, reference: str, qualities: Iterable[str] | None = None
) -> dict[str, dict[Picture, Bd]]:
    """BD-rates per quality and picture; negative is fewer bits than the reference.

    Pictures that only one of the codecs has are left out.
    """
    mine, base = _curves(points, codec), _curves(points, reference)
    usual = _COLOR if _in_color(points) else _LUMA
    found: dict[str, dict[Picture, Bd]] = {quality: {} for quality in (usual if qualities is None else qualities)}
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
    """One table of all codecs, in colour another one by component, then one of all pictures per codec."""
    if not _in_color(points):
        return _bd_tables(points, reference, list(_LUMA), "")
    first, *rest = _bd_tables(points, reference, list(_COLOR), "")
    return [first, _bd_tables(points, reference, list(_COMPONENTS), ", by component")[0], *rest]


def _bd_tables(points: Sequence[Point], reference: str, qualities: Sequence[str], by: str) -> list[Table]:
    rows, notes, per_codec = [], [], []
    for codec in _others(points, reference):
        found = bd_rates(points, codec, reference, qualities)
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
    for quality in qualities:
        header += [f"{quality} mean", "median", "overlap", "pictures"]
    legend = "Percent; negative is fewer bits than the reference. Overlap is the mean over all pictures."
    return [Table(f"BD-rate against {reference}{by}", header, rows, (legend, *notes)), *per_codec]


def _per_picture(codec: str, reference: str, found: dict[str, dict[Picture, Bd]], refusals: Sequence[str]) -> Table:
    header, rows = ["picture"], []
    for quality in found:
        header += [f"{quality} %", "overlap"]
    for picture in sorted(next(iter(found.values()))):
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


def read_curve(path: str | Path, *, color: bool) -> Curve:
    """The curve of a result file of CompressAI's layout: of PSNR over RGB, or where it has it of luma.

    Raises:
        SchemaError: another file, or one without that PSNR.
    """
    keys = ("psnr-rgb", "psnr") if color else ("psnr-y",)
    try:
        text = Path(path).read_text(encoding="utf-8")
        given = json.loads(text)
        results = given["results"]
        key = next(key for key in keys if key in results)
        rows = sorted((float(b), float(q)) for b, q in zip(results["bpp"], results[key], strict=True))
        name = str(given.get("name") or Path(path).stem)
    except StopIteration:
        raise SchemaError(
            f"{path} has no {keys[0]}; {'give results in RGB' if color else 'compare in colour, by --color'}"
        ) from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise SchemaError(f"{path} is not a result file in CompressAI's layout: {error!r}") from error
    if len(rows) < 2 or not all(b > 0 and math.isfinite(b) and math.isfinite(q) for b, q in rows):
        raise SchemaError(f"{path} needs two points or more, of rates above 0")
    return Curve(name, tuple(b for b, _ in rows), tuple(q for _, q in rows))


def curves_table(points: Sequence[Point], curves: Sequence[Curve]) -> Table:
    """BD-rate of means per setting against curves that others published, with the overlap of each."""
    quality = "PSNR-RGB" if _in_color(points) else "PSNR-Y"
    place = _columns(points).index("psnr_rgb" if _in_color(points) else "psnr_y")
    rows = []
    for codec in _codecs(points):
        means, row = _common(points, codec), [codec]
        mine = pareto_front([mean[0] for mean in means], [mean[place] for mean in means])
        for curve in curves:
            bd = _bd(pareto_front(curve.bpp, curve.psnr), mine)
            row.append(f"{'refused' if bd.percent is None else f'{bd.percent:+.1f}'} ({_percent(bd.overlap)})")
        rows.append(row)
    title = f"BD-rate in {quality} against published means of the set, percent (overlap)"
    note = f"Refused under {_percent(MIN_OVERLAP)} overlap. It is the same comparison only on the same set of pictures."
    return Table(title, ["codec", *(curve.name for curve in curves)], rows, (note,))


# ---------------------------------------------------------------------------------------------- JSON and page


def compressai_results(points: Sequence[Point], codec: str) -> dict[str, Any]:
    """One codec in the layout of CompressAI's result files, so that its plot tool overlays it.

    Means per setting, by rising rate; settings that not every picture has, and lossless ones, are left out.
    """
    curve, names = _common(points, codec), [_JSON_NAMES[name] for name in _columns(points)]
    count = _count(len(_curves(points, codec)), "picture")
    what = "8-bit RGB" if _in_color(points) else "8-bit luma"
    return {
        "name": codec,
        "description": f"{codec} on {what}, whole files, means over {count} per setting",
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


def write_results(points: Sequence[Point], folder: str | Path, name: str) -> list[Path]:
    """Write the points of a release to a folder: name.csv, of all pictures by their names, and means as JSON.

    Returns:
        the files: the CSV, then name-codec.json for each codec, as `compressai_results`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    order = {codec: i for i, codec in enumerate(sorted(_codecs(points), key=lambda c: (not c.startswith("pc15-"), c)))}
    rows = sorted(points, key=lambda point: (order[point.codec], point.picture, point.bpp, point.setting))
    written = [write_points(rows, folder / f"{name}.csv")]
    for codec in order:
        path = folder / f"{name}-{codec}.json"
        write_atomic(path, (json.dumps(compressai_results(points, codec), indent=1, allow_nan=False) + "\n").encode())
        written.append(path)
    return written


def report(points: Sequence[Point], reference: str | None, curves: Sequence[Curve] = ()) -> Report:
    """The page: plots of the means, all tables, and plots of every picture."""
    codecs, pictures = _codecs(points), sorted(_pictures(points))
    in_color, names = _in_color(points), _columns(points)
    what = "8-bit RGB" if in_color else "8-bit BT.601 luma coded as one gray plane"
    page = Report(
        "PC15: rate and distortion",
        f"{_count(len(pictures), 'picture')}, {what}, whole files; measured per picture, then averaged.",
    )
    page.section("Means per setting", "Settings that every picture has.")
    first = ("psnr_rgb", "PSNR-RGB, dB") if in_color else ("psnr_y", "PSNR-Y, dB")
    for column, title in (first, ("ssim", "SSIM")):
        place = names.index(column)
        series = {codec: [(row[0], row[place]) for row in _common(points, codec)] for codec in codecs}
        if column == first[0]:
            series |= {curve.name: list(zip(curve.bpp, curve.psnr, strict=True)) for curve in curves}
        page.plot(series, x="bits per pixel", y=title, log_x=True)
    shown = [means_table(points, quality) for quality in _shown(points)]
    if reference is not None:
        of_all = 2 if in_color else 1
        shown = [*bd_tables(points, reference)[:of_all], *shown, gains_table(points, reference)]
        shown += bd_tables(points, reference)[of_all:]
    shown += [curves_table(points, curves)] if curves else []
    for table in [*shown, settings_table(points, codecs)]:
        page.section(table.title).table(table.header, table.rows)
        for note in table.notes:
            page.text(note)
    for picture in pictures:
        page.section("{}, {}x{}".format(*picture))
        for quality, name in ((("PSNR-RGB" if in_color else "PSNR"), first[1]), ("SSIM", "SSIM")):
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


_HEADINGS = {
    "bpp": "bpp", "psnr_y": "PSNR-Y dB", "ssim": "SSIM", "enc_s": "encode s", "dec_s": "decode s",
    "psnr_rgb": "PSNR-RGB dB", "psnr_cb": "Cb dB", "psnr_cr": "Cr dB", "psnr_611": "6:1:1 dB", "ciede2000": "CIEDE2000",
}  # fmt: skip
_JSON_NAMES = {name: name.replace("_", "-") for name in _HEADINGS}
_JSON_NAMES |= {"enc_s": "encoding_time", "dec_s": "decoding_time"}


def _columns(points: Sequence[Point]) -> list[str]:
    """What is averaged of points, rate first."""
    return [name for name in (COLOR_COLUMNS if _in_color(points) else COLUMNS) if name in _HEADINGS]


def _means(group: Sequence[Point]) -> tuple[float, ...]:
    """Means of `_columns`."""
    return tuple(statistics.fmean(getattr(point, name) for point in group) for name in _columns(group))


def _common(points: Sequence[Point], codec: str) -> list[tuple[float, ...]]:
    """The means of the settings that all of a codec's pictures have, by rising rate, without lossless ones."""
    total = len(_curves(points, codec))
    groups = [group for (name, _), group in _by_setting(points).items() if name == codec and len(group) == total]
    return sorted(means for means in map(_means, groups) if all(map(math.isfinite, means)))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
