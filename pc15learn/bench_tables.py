"""Tables of a benchmark of hooks: means per rate, the front of time against BD-rate, a verdict that may be no."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pc15.metrics import bd_overlap, bd_rate, pareto_front
from pc15.report import Report

__all__ = ["Measured", "add_summary", "front", "summary", "table_cells", "table_text", "verdict"]

REFERENCE = "exhaustive"
"""Method that all others are compared with."""

_LEAST_OVERLAP = 0.5
_SAME = 0.05  # percent of BD-rate that are no difference


@dataclass(frozen=True)
class Measured:
    """One picture by one method at one lambda.

    seconds: of encoding, hooks included, the median of all repeats.
    rd: alpha * (1 - SSIM) + (1 - alpha) * MSE_norm + lambda * bpp, of the whole picture.
    learned: by hooks that were fitted.
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
    learned: bool = False

    @property
    def distortion(self) -> float:
        """D, what the search itself weighs against bits."""
        return self.rd - self.lambda_rd * self.bpp


# ---------------------------------------------------------------- means per rate


def summary(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Means over pictures per lambda and method, with what changes against exhaustive search."""
    table: list[dict[str, Any]] = []
    for lam in dict.fromkeys(m.lambda_rd for m in measured):
        groups = _by_method([m for m in measured if m.lambda_rd == lam])
        base = _means(groups[REFERENCE]) if REFERENCE in groups else None
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


def _by_method(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    groups: dict[str, list[Measured]] = {}
    for m in measured:
        groups.setdefault(m.method, []).append(m)
    return groups


# ---------------------------------------------------------------- over all rates

_QUALITIES: dict[str, Callable[[Measured], float]] = {
    "BD-PSNR %": lambda m: m.psnr,
    "BD-SSIM %": lambda m: m.ssim,
    "BD-RD %": lambda m: -m.distortion,
}


def front(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Per method: mean seconds, how many times faster than exhaustive search, and what it costs.

    BD-rates are percent of the bits at equal PSNR, SSIM and D, per picture and then their mean; they are left out where
    there are fewer than two rates, or curves that share too little.  "front" says that no other method is both faster
    and better by BD-RD.
    """
    groups = _by_method(measured)
    if REFERENCE not in groups:
        return []
    base = groups[REFERENCE]
    table = []
    for method, group in groups.items():
        row: dict[str, Any] = {"method": method, "learned": any(m.learned for m in group), **_means(group)}
        row["speed-up"] = _means(base)["seconds"] / max(row["seconds"], 1e-9)
        for name, quality in _QUALITIES.items():
            if (found := _bd(base, group, quality)) is not None:
                row[name] = found
        table.append(row)
    for row in table:
        row["front"] = "BD-RD %" in row and not any(
            other["seconds"] < row["seconds"] and other.get("BD-RD %", math.inf) < row["BD-RD %"] for other in table
        )
    return table


def _bd(base: Sequence[Measured], mine: Sequence[Measured], quality: Callable[[Measured], float]) -> float | None:
    found = []
    for image in dict.fromkeys(m.image for m in base):
        curves = []
        for group in (base, mine):
            own = [m for m in group if m.image == image]
            curves.append(pareto_front([m.bpp for m in own], [quality(m) for m in own]))
        (rate_a, quality_a), (rate_b, quality_b) = curves
        if min(len(rate_a), len(rate_b)) < 2 or bd_overlap(quality_a, quality_b) < _LEAST_OVERLAP:
            return None
        found.append(bd_rate(rate_a, quality_a, rate_b, quality_b, min_overlap=_LEAST_OVERLAP)[0])
    return sum(found) / len(found)


def verdict(measured: Sequence[Measured]) -> str:
    """Which searches are worth their time, and what each learned one gains over exhaustive and over plain search."""
    table = front(measured)
    if not any("BD-RD %" in row for row in table):
        return _verdict_of_one_rate(summary(measured))
    best = ", ".join(row["method"] for row in table if row["front"])
    said = [f"No other search is both faster and better than: {best}."]
    for row in table:
        if not row["learned"] or "BD-RD %" not in row:
            continue
        cost = ", ".join(f"{row[name]:+.2f} % by {name[3:-2]}" for name in _QUALITIES if name in row)
        text = f"{row['method']} is {row['speed-up']:.1f} times as fast as exhaustive search, at {cost} of the bits"
        plain = [
            other
            for other in table
            if not other["learned"] and other.get("BD-RD %", math.inf) <= row["BD-RD %"] + _SAME
        ]
        if not plain:
            said.append(f"{text}; no search without learning is as good: it wins.")
            continue
        fastest = min(plain, key=lambda other: float(other["seconds"]))
        share = fastest["seconds"] / max(row["seconds"], 1e-9)
        than = f"{fastest['method']}, the fastest search without learning that is no worse"
        said.append(f"{text}; {share:.2f} times as fast as {than}: it {'wins' if share > 1.0 else 'loses'}.")
    return "\n".join(said)


def _verdict_of_one_rate(table: Sequence[dict[str, Any]]) -> str:
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


# ---------------------------------------------------------------- tables

_COLUMNS: dict[str, str] = {
    "method": "",
    "lambda": "g",
    "seconds": ".2f",
    "speed-up": ".1f",
    "BD-PSNR %": "+.2f",
    "BD-SSIM %": "+.2f",
    "BD-RD %": "+.2f",
    "bpp": ".4f",
    "psnr": ".2f",
    "ssim": ".4f",
    "rd": ".4f",
    "dPSNR": "+.2f",
    "dSSIM": "+.4f",
    "dbpp %": "+.1f",
    "dRD %": "+.2f",
}
_OVER_RATES = ("method", "seconds", "speed-up", *_QUALITIES)


def table_cells(table: Sequence[dict[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Header and formatted cells of `summary` or of `front`, whose means over rates say nothing."""
    wanted = _COLUMNS if table and "lambda" in table[0] else _OVER_RATES
    names = [name for name in wanted if any(name in row for row in table)]
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


def add_summary(page: Report, measured: Sequence[Measured]) -> None:
    """Tables, the verdict, and plots."""
    table, over_rates = summary(measured), front(measured)
    if any("BD-RD %" in row for row in over_rates):
        page.table(*table_cells(over_rates))
    page.text(verdict(measured))
    if any("BD-RD %" in row for row in over_rates):
        page.section("Seconds against BD-rate", "Lower left is better; BD-rate by the D that searches weigh.")
        places = {row["method"]: [(row["seconds"], row["BD-RD %"])] for row in over_rates if "BD-RD %" in row}
        page.plot(places, x="seconds per picture", y="BD-rate, %", log_x=True, lines=False)
    page.section("Means over pictures per rate", "Deltas are against exhaustive search.").table(*table_cells(table))
    by_method: dict[str, list[tuple[float, float]]] = {}
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in table:
        by_method.setdefault(row["method"], []).append((row["seconds"], row["rd"]))
        curves.setdefault(row["method"], []).append((row["bpp"], row["psnr"]))
    page.section("Seconds against RD", "Lower left is better.")
    page.plot(by_method, x="seconds per picture", y="RD", log_x=True, lines=False)
    page.section("Rate against PSNR").plot(curves, x="bits per pixel", y="PSNR-Y, dB", log_x=True)
