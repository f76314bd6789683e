"""Summaries of a benchmark's points: means at fixed rates, BD-rates, means per setting, plots.

Everything is read per picture and then averaged, never from pooled errors.  A curve is its Pareto front: points that
cost more for no gain, and lossless ones, are left out.  Values at a rate are linear in log2(bpp) between points;
BD-rates interpolate log2(bpp) by monotone cubics over the qualities that both curves cover, and are refused where
that is less than half of what either covers.  CIEDE2000, of which less is better, is read as its negative.  Curves that
others published are means over a set of pictures, and are compared with means per setting.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pc15.bench import MIN_OVERLAP, RATES
from pc15.bench.exchange import Curve
from pc15.bench.grouping import (
    COLOR,
    COMPONENTS,
    HEADINGS,
    LUMA,
    Curves,
    Picture,
    by_setting,
    codecs_of,
    columns,
    common_means,
    counted,
    curves_of,
    front,
    in_color,
    means,
    others,
    perceptual_qualities,
    pictures_of,
)
from pc15.bench.points import Point
from pc15.errors import UnknownNameError, did_you_mean
from pc15.metrics import bd_overlap, bd_rate, pareto_front, quality_at
from pc15.report import Report

__all__ = [
    "Bd",
    "Table",
    "bd_rates",
    "bd_tables",
    "choose_reference",
    "curves_table",
    "gains_table",
    "means_table",
    "report",
    "settings_table",
    "tables",
]

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
    codecs = codecs_of(points)
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
    own = [codec for codec in codecs_of(points) if codec.startswith("pc15-")]
    shown = [settings_table(points, own)] if own else []
    shown += [means_table(points, quality) for quality in _shown(points)]
    if reference is not None:
        shown += [gains_table(points, reference), *bd_tables(points, reference)]
    return shown + ([curves_table(points, curves)] if curves else [])


def _shown(points: Sequence[Point]) -> list[str]:
    """Qualities that means are shown of."""
    usual = [*(COLOR if in_color(points) else LUMA), *perceptual_qualities(points)]
    return list(dict.fromkeys(quality.removesuffix("-dB") for quality in usual))


# ---------------------------------------------------------------------------------------------- means


def settings_table(points: Sequence[Point], codecs: Sequence[str]) -> Table:
    """Mean rate, quality and time of a whole set at each setting."""
    total, names = len(pictures_of(points)), columns(points)
    forms = {"bpp": ".4f", "ssim": ".4f", "ms_ssim": ".4f", "vif": ".4f", "enc_s": ".2f", "dec_s": ".3f"}
    rows = []
    for (codec, setting), group in by_setting(points).items():
        if codec in codecs:
            row = zip(names, means(group, names), strict=True)
            cells = [format(mean, forms.get(name, ".2f")) for name, mean in row]
            rows.append([codec, setting, f"{len(group)}/{total}", *cells])
    header = ["codec", "setting", "pictures", *(HEADINGS[name] for name in names)]
    return Table("Means per setting", header, rows)


def means_table(points: Sequence[Point], quality: str, rates: Sequence[float] = RATES) -> Table:
    """Mean quality at fixed rates, one row per codec."""
    in_db, difference = quality.startswith("PSNR"), quality == "CIEDE2000"
    total, form = len(pictures_of(points)), ".2f" if in_db or difference else ".4f"
    rows, seen = [], ""

    def shown(values: Iterable[float]) -> str:
        return format((-1.0 if difference else 1.0) * statistics.fmean(values), form)

    for codec in codecs_of(points):
        cells = []
        for rate in rates:
            read, ended = _read(curves_of(points, codec), quality, rate)
            cells.append(_cell(read, ended, total, shown))
        rows.append([codec, *cells])
        seen += " ".join(cells)
    unit, name = " in dB" if in_db else "", quality if quality in COLOR else f"{quality}-Y"
    title = f"Mean {name}{unit} at bpp, {counted(total, 'picture')}"
    return Table(title, ["codec", *(f"{rate:g}" for rate in rates)], rows, _legend(seen))


def gains_table(points: Sequence[Point], reference: str, rates: Sequence[float] = RATES) -> Table:
    """Mean PSNR and SSIM minus the reference's at fixed rates, over the pictures that reach the rate with both."""
    base, rows, seen = curves_of(points, reference), [], ""
    qualities = ("PSNR-RGB", "SSIM-Y") if in_color(points) else ("PSNR", "SSIM")
    for codec in others(points, reference):
        curves, cells = curves_of(points, codec), []
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
    psnr = "PSNR-RGB" if in_color(points) else "PSNR-Y"
    title = f"Mean {psnr} dB / SSIM minus {reference}'s at bpp, over the pictures that reach it with both (count)"
    notes = tuple(note for note in _legend(seen) if note.startswith("*"))
    return Table(title, ["codec", *(f"{rate:g}" for rate in rates)], rows, notes)


def _read(curves: Curves, quality: str, rate: float) -> tuple[dict[Picture, float], set[Picture]]:
    """Quality at a rate of each picture that reaches it, and the pictures whose points end below it."""
    read: dict[Picture, float] = {}
    ended: set[Picture] = set()
    for picture, curve in curves.items():
        rates, values = front(curve, quality)
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
    mine, base = curves_of(points, codec), curves_of(points, reference)
    usual = [*(COLOR if in_color(points) else LUMA), *perceptual_qualities(points)]
    found: dict[str, dict[Picture, Bd]] = {quality: {} for quality in (usual if qualities is None else qualities)}
    for picture in mine:
        if picture in base:
            for quality, per_picture in found.items():
                per_picture[picture] = _bd(front(base[picture], quality), front(mine[picture], quality))
    return found


def _bd(base: tuple[list[float], list[float]], mine: tuple[list[float], list[float]]) -> Bd:
    if len(base[0]) < 2 or len(mine[0]) < 2:
        return Bd(None, 0.0)
    overlap = bd_overlap(base[1], mine[1])
    return Bd(None if overlap < MIN_OVERLAP else bd_rate(*base, *mine, min_overlap=MIN_OVERLAP)[0], overlap)


def bd_tables(points: Sequence[Point], reference: str) -> list[Table]:
    """One table of all codecs, in colour another one by component, then one of all pictures per codec."""
    perceptual = perceptual_qualities(points)
    if not in_color(points):
        return _bd_tables(points, reference, [*LUMA, *perceptual], "")
    first, *rest = _bd_tables(points, reference, [*COLOR, *perceptual], "")
    return [first, _bd_tables(points, reference, list(COMPONENTS), ", by component")[0], *rest]


def _bd_tables(points: Sequence[Point], reference: str, qualities: Sequence[str], by: str) -> list[Table]:
    rows, notes, per_codec = [], [], []
    for codec in others(points, reference):
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


def curves_table(points: Sequence[Point], curves: Sequence[Curve]) -> Table:
    """BD-rate of means per setting against curves that others published, with the overlap of each."""
    quality = "PSNR-RGB" if in_color(points) else "PSNR-Y"
    place = columns(points).index("psnr_rgb" if in_color(points) else "psnr_y")
    rows = []
    for codec in codecs_of(points):
        measured, row = common_means(points, codec), [codec]
        mine = pareto_front([mean[0] for mean in measured], [mean[place] for mean in measured])
        for curve in curves:
            bd = _bd(pareto_front(curve.bpp, curve.psnr), mine)
            row.append(f"{'refused' if bd.percent is None else f'{bd.percent:+.1f}'} ({_percent(bd.overlap)})")
        rows.append(row)
    title = f"BD-rate in {quality} against published means of the set, percent (overlap)"
    note = f"Refused under {_percent(MIN_OVERLAP)} overlap. It is the same comparison only on the same set of pictures."
    return Table(title, ["codec", *(curve.name for curve in curves)], rows, (note,))


# ---------------------------------------------------------------------------------------------- the page


def report(points: Sequence[Point], reference: str | None, curves: Sequence[Curve] = ()) -> Report:
    """The page: plots of the means, all tables, and plots of every picture."""
    codecs, pictures = codecs_of(points), sorted(pictures_of(points))
    colored, names = in_color(points), columns(points)
    what = "8-bit RGB" if colored else "8-bit BT.601 luma coded as one gray plane"
    page = Report(
        "PC15: rate and distortion",
        f"{counted(len(pictures), 'picture')}, {what}, whole files; measured per picture, then averaged.",
    )
    page.section("Means per setting", "Settings that every picture has.")
    first = ("psnr_rgb", "PSNR-RGB, dB") if colored else ("psnr_y", "PSNR-Y, dB")
    for column, title in (first, ("ssim", "SSIM")):
        place = names.index(column)
        series = {codec: [(row[0], row[place]) for row in common_means(points, codec)] for codec in codecs}
        if column == first[0]:
            series |= {curve.name: list(zip(curve.bpp, curve.psnr, strict=True)) for curve in curves}
        page.plot(series, x="bits per pixel", y=title, log_x=True)
    shown = [means_table(points, quality) for quality in _shown(points)]
    if reference is not None:
        of_all = 2 if colored else 1
        shown = [*bd_tables(points, reference)[:of_all], *shown, gains_table(points, reference)]
        shown += bd_tables(points, reference)[of_all:]
    shown += [curves_table(points, curves)] if curves else []
    for table in [*shown, settings_table(points, codecs)]:
        page.section(table.title).table(table.header, table.rows)
        for note in table.notes:
            page.text(note)
    for picture in pictures:
        page.section("{}, {}x{}".format(*picture))
        for quality, name in ((("PSNR-RGB" if colored else "PSNR"), first[1]), ("SSIM", "SSIM")):
            fronts = {codec: front(curves_of(points, codec).get(picture, []), quality) for codec in codecs}
            page.plot(
                {codec: list(zip(*ends, strict=True)) for codec, ends in fronts.items()},
                x="bits per pixel", y=name, log_x=True,
            )  # fmt: skip
    return page
