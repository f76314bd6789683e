"""Curves and results as files that others read and write: CompressAI's JSON, and the points of a release.

Curves that others published are means over a set of pictures.
Source of the layout: J. Begaint et al., "CompressAI", arXiv:2011.03029, its folder `results`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pc15.bench.grouping import HEADINGS, codecs_of, columns, common_means, counted, curves_of, in_color
from pc15.bench.points import Point, write_points
from pc15.errors import SchemaError
from pc15.paths import write_atomic

__all__ = ["Curve", "compressai_results", "read_curve", "write_compressai", "write_results"]

_JSON_NAMES = {name: name.replace("_", "-") for name in HEADINGS}
_JSON_NAMES |= {"enc_s": "encoding_time", "dec_s": "decoding_time"}


@dataclass(frozen=True)
class Curve:
    """Rate and PSNR that others published of a codec: means over a set of pictures, by rising rate."""

    name: str
    bpp: tuple[float, ...]
    psnr: tuple[float, ...]


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


def compressai_results(points: Sequence[Point], codec: str) -> dict[str, Any]:
    """One codec in the layout of CompressAI's result files, so that its plot tool overlays it.

    Means per setting, by rising rate; settings that not every picture has, and lossless ones, are left out.
    """
    curve, names = common_means(points, codec), [_JSON_NAMES[name] for name in columns(points)]
    count = counted(len(curves_of(points, codec)), "picture")
    what = "8-bit RGB" if in_color(points) else "8-bit luma"
    return {
        "name": codec,
        "description": f"{codec} on {what}, whole files, means over {count} per setting",
        "results": {name: [round(row[i], 6) for row in curve] for i, name in enumerate(names)},
    }


def write_compressai(points: Sequence[Point], path: str | Path) -> list[Path]:
    """Write one file per codec, as CompressAI reads them: `path`, or path-codec.json each if there are several."""
    path, written = Path(path), []
    path.parent.mkdir(parents=True, exist_ok=True)
    codecs = codecs_of(points)
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
    codecs = sorted(codecs_of(points), key=lambda codec: (not codec.startswith("pc15-"), codec))
    order = {codec: i for i, codec in enumerate(codecs)}
    rows = sorted(points, key=lambda point: (order[point.codec], point.picture, point.bpp, point.setting))
    written = [write_points(rows, folder / f"{name}.csv")]
    for codec in order:
        path = folder / f"{name}-{codec}.json"
        write_atomic(path, (json.dumps(compressai_results(points, codec), indent=1, allow_nan=False) + "\n").encode())
        written.append(path)
    return written
