"""Options of encoding: one frozen, checked set of them, and three presets chosen by measurement.

Options that the decoder needs travel in the header; all others only steer the encoder's search.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import InitVar, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from pc15.errors import ConfigError, UnknownNameError, did_you_mean, shown
from pc15.residual.tools import TOOLS

if TYPE_CHECKING:
    from pc15.hooks.protocol import EncoderHooks

Search = Literal["exhaustive", "screened", "indexed"]
Preset = Literal["fast", "balanced", "oracle"]
PayloadFormat = Literal["rans", "raw"]
WindowName = Literal["hann", "tukey", "kaiser"]

_PHOTO: dict[str, Any] = {"tile": 0, "overlap": 8, "lambda_rd": 0.5, "residual": True}
PRESETS: dict[Preset, dict[str, Any]] = {
    "fast": {
        **_PHOTO, "search": "screened", "shortlist": 6, "refine": 0, "passes": 0, "sweeps": 1, "tries": 1,
        "tools": tuple(name for name in TOOLS if name not in ("trellis", "splits")),
    },
    "balanced": {
        **_PHOTO, "search": "screened", "shortlist": 8, "beam": 8, "recall": 64, "refine": 0, "passes": 1, "sweeps": 2,
        "tries": 4,
    },
    "oracle": {**_PHOTO, "search": "exhaustive", "shortlist": 24, "refine": 1, "passes": 1, "sweeps": 2, "tries": 8},
}  # fmt: skip

PROGRAMS: dict[str, Any] = {"tile": 32, "overlap": 8, "residual": False}
"""Options on top of a preset that leave tile programs alone to code a picture: what labels, hooks and searches are
studied with."""


@dataclass(frozen=True, kw_only=True)
class CodecConfig:
    """Options of `encode` and `encode_y`.

    Args:
        tile: tile side, px, 4..1024; 0 (or "auto", which becomes 0) is the encoder's choice for each plane: with
            `residual` that alone, without it tiles of the size from 8 to 256 px that costs least, searched from 32 px
            on; or, where a glance says that a plane of 33 to 1024 px may be one pattern, one tile over all of it if
            that costs less, with or without a residual.
        coarse: tile side, px, above `tile` and up to 1024, of a coarse grid that the tiles are drawn upon; 0 for none.
            None is the encoder's choice where it has that of the tiles without a residual, and none elsewhere.
        overlap: px shared by neighbouring tiles, 0..tile-1.
        lambda_rd: price of one bit per pixel in units of D; smaller is better and larger.
        alpha_mix: share of 1 - SSIM in D, the rest is MSE_norm; 0 optimises PSNR alone.
        seed: the stream's global seed, 0..2^32-1; noise patterns depend on it.
        window: cross-fade between tiles; `window_param` is Tukey's alpha or Kaiser's beta, None its default.
        max_layers: most layers of one tile, 0..16.
        search: "exhaustive" scores every candidate of the bank at full resolution; "screened" scores all at a quarter
            of the pixels, and the best of them at full resolution; "indexed" does so for the cells of the bank alone
            that are most like what is left of a tile.  The shortlist is then scored exactly.
        cells: cells of the bank that "indexed" looks into, of up to 8,192.
        candidates: the bank's most useful candidates that are considered in tiles of up to 32 px; 0 for all, as for
            larger tiles and for codebooks that weren't trained.
        shortlist: candidates per tile and layer that are scored exactly.
        beam: hypotheses kept per tile while a whole program is searched again.
        recall: candidates of each layer, 0..256, that a tile's second search remembers of the first and chooses from;
            0 to search the bank again, which is slower.
        refine: rounds of steepest descent over every layer's offsets at the end; 0 keeps to codebook entries.
        passes: how often every tile's whole program is searched again, its neighbours known.
        sweeps: joint re-fits of amplitudes and DC over overlapping tiles.
        merge: let layers continue patterns of neighbouring tiles: slower, and smaller where patterns are larger than
            tiles are.
        seam_weight: extra weight of errors at a tile's rim, 0 for none.
        residual: code what the tiles leave as transform coefficients; with max_layers 0 there are no tiles then.
        tries: most predictions per square that the residual's search codes in full, 1..8: more is slower and smaller.
        tools: coding tools of the residual by name, see `pc15.residual.tools`, as a sequence or "a,b"; "none" for none.
        payload_fmt: "rans", or "raw" symbols for debugging.
        section_rows: tile rows per independently decodable section; 0 chooses.
        table_id, codebook_id: which frozen tables and codebook to code with; "auto" becomes the trained ones for
            programs of tiles of up to 128 px, the regular grid for larger ones and where a residual alone is likely.
        rans_id: another word for table_id, which it answers too.
        device: "cpu", "cuda" or "auto" (CUDA when there is one).
        ai: hooks that narrow the search; see `pc15.hooks`.
    Raises:
        ConfigError: an option out of range; the message names it, its value and the range.
    """

    tile: int = 256
    coarse: int | None = None
    overlap: int = 24
    lambda_rd: float = 0.015
    alpha_mix: float = 0.7
    seed: int = 1234
    window: WindowName = "hann"
    window_param: float | None = None
    max_layers: int = 12
    search: Search = "screened"
    cells: int = 256
    candidates: int = 0
    shortlist: int = 24
    beam: int = 2
    recall: int = 0
    refine: int = 1
    passes: int = 0
    sweeps: int = 2
    merge: bool = False
    seam_weight: float = 0.0
    residual: bool = True
    tries: int = 3
    tools: tuple[str, ...] = tuple(TOOLS)
    payload_fmt: PayloadFormat = "rans"
    section_rows: int = 0
    table_id: str = "auto"
    codebook_id: str = "auto"
    device: str = "auto"
    rans_id: InitVar[str | None] = None
    ai: EncoderHooks | None = field(default=None, compare=False)

    def __post_init__(self, rans_id: str | None) -> None:
        if rans_id is not None:
            if self.table_id not in ("auto", rans_id):
                raise ConfigError(f"table_id {self.table_id!r} and rans_id {rans_id!r} are two words for one thing")
            object.__setattr__(self, "table_id", rans_id)
        for name, low, high in _RANGES:
            value = getattr(self, name)
            if name == "tile" and value in (0, "auto"):
                object.__setattr__(self, "tile", 0)
                continue
            whole = isinstance(low, int)
            if not is_number(value, whole=whole) or not low <= value <= high:
                number = "a whole number" if whole else "a number"
                raise ConfigError(f"{name} is {shown(value)}; give {number} from {low} to {high}")
            object.__setattr__(self, name, int(value) if whole else float(value))
        for name in ("merge", "residual"):
            if not _is_flag(value := getattr(self, name)):
                raise ConfigError(f"{name} is {shown(value)}; give True or False")
            object.__setattr__(self, name, bool(value))
        object.__setattr__(self, "tools", _tools(self.tools))
        for name in ("table_id", "codebook_id", "device"):
            if not isinstance(value := getattr(self, name), str):
                raise ConfigError(f"{name} is {shown(value)}; give text")
        self._check_coarse()
        for name, auto in zip(("table_id", "codebook_id"), self._usual_ids(), strict=True):
            if getattr(self, name) == "auto":
                object.__setattr__(self, name, auto)
        if self.tile and self.overlap >= self.tile:
            raise ConfigError(f"overlap is {self.overlap} px, not below the tile's {self.tile}; give a smaller overlap")
        for name, choices in (("search", Search), ("payload_fmt", PayloadFormat), ("window", WindowName)):
            value, known = getattr(self, name), get_args(choices)
            if value not in known:
                near = did_you_mean(value[:80], known) if isinstance(value, str) else ""
                raise ConfigError(f"{name} is {shown(value)}; choose one of {', '.join(known)}{near}")
        self._check_window()
        object.__setattr__(self, "rans_id", self.table_id)

    def _check_window(self) -> None:
        value = self.window_param
        if value is None:
            return
        if self.window == "hann":
            raise ConfigError("window_param goes with window='tukey' (alpha) or 'kaiser' (beta), hann has none")
        low, high = _WINDOW_PARAMS[self.window]
        if not is_number(value) or not low <= value <= high:
            raise ConfigError(f"window_param of {self.window} is {shown(value)}; give a number from {low} to {high}")
        object.__setattr__(self, "window_param", float(value))

    def _check_coarse(self) -> None:
        if is_number(self.coarse, whole=True):
            object.__setattr__(self, "coarse", int(self.coarse))  # type: ignore[arg-type]
        if self.coarse is None or (type(self.coarse) is int and self.coarse == 0):
            return
        if not self.tile:
            raise ConfigError(
                f"coarse is {shown(self.coarse)} while the tile size is left open; give the tile size too, or leave "
                "coarse None for the encoder to choose"
            )
        if type(self.coarse) is not int or not self.tile < self.coarse <= _RANGES[0][2]:
            raise ConfigError(
                f"coarse is {shown(self.coarse)}; give 0, or a whole number above the tile's {self.tile} and up to "
                f"{_RANGES[0][2]}"
            )

    def _usual_ids(self) -> tuple[str, str]:
        """Tables and codebook that go with what else is asked for; tables of another codebook are named like it."""
        codebook_id = self.codebook_id
        if codebook_id == "auto":
            trained = self.tile <= _TRAINED_TILE if self.tile else not self.residual
            codebook_id = "v15_trained" if trained else "v15_grid"
        return ("v15_default" if codebook_id == "v15_grid" else codebook_id), codebook_id

    @classmethod
    def preset(cls, /, name: str, **changes: Any) -> CodecConfig:
        """A preset by name, with options changed: `CodecConfig.preset("fast", lambda_rd=0.1)`.

        `quality`, 0..100, may stand for `lambda_rd`: see `pc15.quant.quality_lambda`.
        """
        if (quality := changes.pop("quality", None)) is not None:
            if "lambda_rd" in changes:
                raise ConfigError("quality and lambda_rd are two words for one thing; give one of them")
            from pc15.quant import quality_lambda  # here: help texts can do without

            changes["lambda_rd"] = quality_lambda(quality)
        if not isinstance(name, str):
            raise ConfigError(f"preset is {shown(name)}; give text, one of {', '.join(PRESETS)}")
        if name not in PRESETS:
            raise UnknownNameError(
                f"no preset {shown(name)}{did_you_mean(name[:80], PRESETS)} (there are {', '.join(PRESETS)})"
            )
        known = [*(f.name for f in fields(cls)), "rans_id"]
        if unknown := sorted(set(changes) - set(known)):
            near = did_you_mean(unknown[0][:80], known)
            raise ConfigError(f"CodecConfig has no option {shown(unknown[0])}{near}")
        options: dict[str, Any] = {}
        if is_number(changes.get("tile"), whole=True) and "overlap" not in changes:
            options["overlap"] = default_overlap(int(changes["tile"]))
        return cls(**{**PRESETS[name], **options, **changes})  # type: ignore[index]

    def but(self, **changes: Any) -> CodecConfig:
        """The same with some options changed, checked again."""
        if changes.get("rans_id") is not None:
            changes.setdefault("table_id", "auto")
        return replace(self, **{"rans_id": None, **changes})


def _is_flag(value: object) -> bool:
    """True for a bool, NumPy's too, which is not loaded for that."""
    kind = type(value)
    return kind is bool or (kind.__module__ == "numpy" and kind.__name__ in ("bool", "bool_"))


def is_number(value: object, *, whole: bool = False) -> bool:
    """True for a finite real number of Python or NumPy that is no truth value."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral if whole else numbers.Real):
        return False
    return isinstance(value, numbers.Rational) or math.isfinite(value)


def _tools(given: object) -> tuple[str, ...]:
    """Names of tools in the order of `TOOLS`."""
    found = [name.strip() for name in given.split(",")] if isinstance(given, str) else given
    if found == ["none"]:
        found = []
    if not isinstance(found, list | tuple | set | frozenset):
        raise ConfigError(f"tools are {shown(given)}; give names of {', '.join(TOOLS)}, or 'none'")
    for name in found:
        if not isinstance(name, str) or name not in TOOLS:
            raise UnknownNameError(
                f"no tool {shown(name)}{did_you_mean(str(name)[:80], TOOLS)} (there are {', '.join(TOOLS)}, or none)"
            )
    return tuple(name for name in TOOLS if name in found)


def default_overlap(tile: int) -> int:
    """Overlap, px, that goes with a tile size unless another is asked for."""
    return min(8, tile // 4)


_TRAINED_TILE = 128
"""Largest tile, px, that the trained codebook is taken for; larger ones find their parameters by climbing."""

_WINDOW_PARAMS = {"tukey": (1 / 256, 255 / 256), "kaiser": (0.25, 63.75)}
"""Ends of what the header's byte holds: Tukey's alpha in 1/256, Kaiser's beta in 1/4, neither of them 0."""

LEAST_LAMBDA = 1e-6
"""The smallest price of a bit; below it, nothing is left to save."""

_RANGES: tuple[tuple[str, int | float, int | float], ...] = (
    ("tile", 4, 1024),
    ("overlap", 0, 1023),
    ("lambda_rd", LEAST_LAMBDA, 1e6),
    ("alpha_mix", 0.0, 1.0),
    ("seed", 0, (1 << 32) - 1),
    ("max_layers", 0, 16),
    ("candidates", 0, 1 << 20),
    ("cells", 1, 8192),
    ("shortlist", 1, 1024),
    ("beam", 1, 16),
    ("recall", 0, 256),
    ("refine", 0, 8),
    ("passes", 0, 8),
    ("sweeps", 0, 16),
    ("tries", 1, 8),
    ("seam_weight", 0.0, 16.0),
    ("section_rows", 0, 65535),
)
