"""Worth of each part of the codec: the same pictures coded without it, or with another one, as BD-rates.

A variant differs from another one, its base, by one thing.  Most are options of `CodecConfig`; those of the residual's
encoder (`ResidualParams`, `Parts`) have no option, and are measured on pictures that are nothing but a residual.  All
files are whole streams, decoded as any other but where their contexts are not those of streams.
A further part is a further line of `VARIANTS`.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pc15.bench import ABLATION_LAMBDAS, MAX_BPP
from pc15.bench.codecs import Codec
from pc15.bench.points import Key, Point, PointFile
from pc15.bench.rd import check_ladder_end, find_pictures, measure_all
from pc15.bench.summary import Table, bd_rates
from pc15.config import PROGRAMS, CodecConfig
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError, MissingTableError, UnknownNameError, did_you_mean
from pc15.residual.enc.scratch import Parts
from pc15.residual.intra import MEAN, PLANAR
from pc15.residual.tools import TOOLS

__all__ = ["VARIANTS", "Variant", "ablation_table", "run_ablation"]


_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Variant:
    """One way to code a picture.

    options: of `CodecConfig`, on top of the preset.   parts: fields of `ResidualParams`, for a residual alone.
    base: the variant that this one is compared with; "" for the one that all bases are compared with.
    """

    name: str
    what: str
    base: str = "residual"
    options: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] | None = None

    @property
    def codec(self) -> str:
        """The variant's name in the CSV."""
        return f"pc15-{self.name}"


def _parts(name: str, what: str, **fields: Any) -> Variant:
    return Variant(name, what, parts=fields)


def _tools_but(tool: str) -> dict[str, Any]:
    return {"tools": tuple(name for name in TOOLS if name != tool)}


def _without(tool: str, what: str) -> Variant:
    return Variant(f"no-{tool}", what, options=_tools_but(tool), parts={})


def _programs(name: str, what: str, **options: Any) -> Variant:
    return Variant(name, what, base="programs", options={**PROGRAMS, **options})


VARIANTS = (
    Variant("residual", "the residual alone", base="", parts={}),
    Variant("programs", "tile programs alone", options=PROGRAMS),
    Variant("both", "tile programs, and a residual on top", options={**PROGRAMS, "residual": True}),
    _parts("no-filter", "blocks left as they are", filtered=False),
    _parts("one-context", "decisions predicted by one context each, not by four", contexts="first"),
    _parts("untrained", "contexts that start from nothing", contexts="untrained"),
    _parts("no-angles", "prediction by mean and plane alone", parts=Parts(modes=(PLANAR, MEAN))),
    _parts("mean-only", "prediction by the mean alone", parts=Parts(modes=(MEAN,))),
    _parts("no-prediction", "no prediction from neighbours", parts=Parts(modes=())),
    _parts("one-try", "one prediction coded in full per square", tries=1),
    _parts("eight-tries", "eight of them", tries=8),
    _parts("8-only", "squares of 8 px alone", parts=Parts(smallest=8, largest=8)),
    _parts("16-at-most", "squares of 4 to 16 px", parts=Parts(largest=16)),
    _parts("32-at-most", "squares of 4 to 32 px", parts=Parts(largest=32)),
    _parts("8-at-least", "squares of 8 to 64 px", parts=Parts(smallest=8)),
    _without("sine", "no sine transform of 4x4"),
    _without("wiener", "no Wiener filter in the loop"),
    _without("blend", "predictions not blended with the border"),
    _without("trellis", "one quantizer for all levels"),
    Variant(
        "no-rdoq",
        "levels rounded, not chosen by rate",
        base="no-trellis",
        options=_tools_but("trellis"),
        parts={"parts": Parts(by_rate=False)},
    ),
    _without("patterns", "no patterns in squares"),
    _without("splits", "squares never cut into parts"),
    _without("borders", "modes and signs by the neighbours' modes alone"),
    _parts("one-layer", "one pattern per square", parts=Parts(layers=1)),
    Variant("no-tools", "none of the tools that a header switches on", options={"tools": ()}, parts={}),
    _programs("grid", "the regular grid for a codebook", codebook_id="v15_grid"),
    _programs("plain-tables", "one table for all contexts of a symbol", table_id="plain"),
    _programs("tile16", "tiles of 16 px", tile=16, overlap=4),
    _programs("tile64", "tiles of 64 px", tile=64, overlap=8),
    _programs("auto-tile", "the tile size that costs least", tile=0),
    _programs("coarse64", "tiles upon a coarse grid of 64 px", coarse=64),
    _programs("coarse128", "tiles upon a coarse grid of 128 px", coarse=128),
    Variant("no-coarse", "never upon a coarse grid", base="auto-tile", options={**PROGRAMS, "tile": 0, "coarse": 0}),
    _programs("no-sweeps", "no joint re-fit", sweeps=0),
    _programs("six-sweeps", "six of them", sweeps=6),
    _programs("no-passes", "whole programs not searched again", passes=0),
    _programs("merge", "layers may continue a neighbour's", merge=True),
    _programs("few-candidates", "a shortlist of 4", shortlist=4),
    _programs("psnr", "squared error alone (alpha 0)", alpha_mix=0.0),
)


@dataclass(frozen=True, kw_only=True)
class AblationOptions:
    """Options of `run_ablation`.

    Args:
        variants: names, none for all; their bases are measured, too.
        preset: what every variant is a change of.
        lambdas: the ladder, at least two.
        max_bpp: where it is left.
        workers: processes.
        force: measure rows again that the output holds.
        device: where tile programs are searched.
    Raises:
        ConfigError: a number that cannot be.
    """

    variants: Sequence[str] = ()
    preset: str = "balanced"
    lambdas: Sequence[float] = ABLATION_LAMBDAS
    max_bpp: float = MAX_BPP
    workers: int = 1
    force: bool = False
    device: str = "auto"

    def __post_init__(self) -> None:
        check_ladder_end(self.max_bpp, self.workers)
        if len(set(self.lambdas)) < 2:
            raise ConfigError(f"lambdas are {list(self.lambdas)}; a curve needs two or more")


def run_ablation(images: Sequence[str | Path], out: str | Path, options: AblationOptions) -> list[Point]:
    """Measure what `out`, a CSV as of `run_rd`, does not hold yet, each row written as it comes.

    Args:
        images: files and folders.
    Returns:
        Every point of these pictures and variants.
    Raises:
        ConfigError, UnknownNameError: an option that cannot be; nothing was measured.
        ImageError: a picture that cannot be read, or is too small.
        SchemaError: `out` is something else than such a CSV.
    """
    settings = tuple(sorted(set(options.lambdas), reverse=True))
    chosen = _chosen(options.variants)
    codecs = []
    for variant in chosen:
        cfg = CodecConfig.preset(options.preset, **{"device": options.device, **variant.options})
        for lam in settings:
            cfg.but(lambda_rd=lam)  # says so if it cannot be
        codecs.append(Codec(variant.codec, settings, cfg, variant.parts))
    pictures = find_pictures(images)
    redo = [Key(*p.key, c.name, f"{s:g}") for p in pictures for c in codecs for s in settings] if options.force else []
    with PointFile(out, redo) as file:
        measure_all([(p, c) for p in pictures for c in codecs], file, options.max_bpp, options.workers)
        wanted, names = {picture.key for picture in pictures}, {codec.name for codec in codecs}
        return [point for point in file.points.values() if point.picture in wanted and point.codec in names]


def _chosen(names: Sequence[str]) -> list[Variant]:
    """Variants by name with all their bases, in the order of `VARIANTS`; for no names all whose tables are there."""
    known = {variant.name: variant for variant in VARIANTS}
    wanted = set(names or (name for name, variant in known.items() if _at_hand(variant)))
    for name in names:
        if name not in known:
            raise UnknownNameError(f"no variant {name!r}{did_you_mean(name, known)} (there are {', '.join(known)})")
        while name:
            wanted.add(name)
            name = known[name].base
    return [variant for variant in VARIANTS if variant.name in wanted]


def _at_hand(variant: Variant) -> bool:
    """True if the variant's tables can be loaded; a notice if not."""
    table_id = variant.options.get("table_id")
    try:
        if table_id is not None:
            load_table(table_id)
    except MissingTableError as error:
        _LOG.warning("%s is left out: %s", variant.name, error)
        return False
    return True


def ablation_table(points: Sequence[Point]) -> Table:
    """BD-rate of each measured variant against its base: means over the pictures where the curves overlap enough."""
    measured = {point.codec for point in points}
    header = ["variant", "against", "PSNR", "overlap", "pictures", "SSIM", "overlap", "pictures", "encode"]
    rows = []
    for variant in VARIANTS:
        if not variant.base or variant.codec not in measured:
            continue
        base = f"pc15-{variant.base}"
        row = [f"{variant.name}: {variant.what}", variant.base]
        found = bd_rates(points, variant.codec, base)
        for quality in ("PSNR", "SSIM"):
            per_picture = found[quality].values()
            kept = [bd.percent for bd in per_picture if bd.percent is not None]
            row += [
                f"{statistics.fmean(kept):+.1f}" if kept else "-",
                f"{100 * statistics.fmean(bd.overlap for bd in per_picture):.0f} %" if per_picture else "-",
                f"{len(kept)} of {len(per_picture)}",
            ]
        rows.append([*row, _seconds(points, variant.codec, base)])
    note = "Percent; positive: more bits than the base for the same quality. Encode: time, as a multiple of the base's."
    return Table("BD-rate of what is left out or changed", header, rows, (note,))


def _seconds(points: Sequence[Point], codec: str, base: str) -> str:
    """Time to encode as a multiple of the base's, over the points that both have."""
    mine, theirs = ({(p.picture, p.setting): p.enc_s for p in points if p.codec == name} for name in (codec, base))
    both = mine.keys() & theirs.keys()
    total = sum(theirs[key] for key in both)
    return f"{sum(mine[key] for key in both) / total:.2f}" if total else "-"
