"""Pins of what the encoder writes: the SHA-256 of streams of three drawn pictures, coded in each of its ways.

    python -m tests.golden.encoded          write encoded.json again, after a deliberate change of what is written

A refactoring changes none of them.  A better search changes many, and says so in CHANGELOG.md.
"""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

INDEX = Path(__file__).with_name("encoded.json")
PRESETS = ("fast", "balanced", "oracle")
PROGRAMS = {"tile": 32, "residual": False, "max_layers": 4}
WAYS: dict[str, dict[str, Any]] = {
    "as it stands": {},
    "lower rate": {"lambda_rd": 4.0},
    "programs": PROGRAMS,
    "tiles of 16": {**PROGRAMS, "tile": 16, "lambda_rd": 0.25},
    "tiles of 8": {**PROGRAMS, "tile": 8},
    "tiles of 8, overlapping less": {**PROGRAMS, "tile": 8, "overlap": 2, "lambda_rd": 1.0},
    "chosen size": {"tile": 0, "residual": False, "max_layers": 1, "lambda_rd": 2.0},
    "coarse": {**PROGRAMS, "tile": 16, "coarse": 48},
    "merge": {**PROGRAMS, "merge": True, "window": "tukey"},
    "sections": {**PROGRAMS, "section_rows": 1, "residual": True, "seam_weight": 0.5},
    "heuristic hooks": {**PROGRAMS, "hooks": 8},
}
_ONE_PRESET = {"tiles of 16", "tiles of 8", "tiles of 8, overlapping less", "coarse", "sections", "chosen size"}
_ONE_PICTURE = {"chosen size", "coarse"}
"""Ways that are pinned with `balanced` alone, or for the scene alone, for the time they take."""


def _pattern(name: str, h: int, w: int, **params: float) -> Tensor:
    """A pattern as [h,w] float32 in [-1,1]; its values come from integers."""
    import pc15

    drawn: Tensor = pc15.render(name, h, w, params, device="cpu")
    return drawn[0, 0]


@functools.cache
def pictures() -> dict[str, Tensor]:
    """Drawn pictures, uint8 [1,H,W] or [3,H,W]."""
    import torch

    h, w = 72, 104
    ground = 0.5 + 0.2 * _pattern("GRADIENT_LINEAR", h, w, angle_deg=30.0)
    waves = _pattern("WAVES_DIR", h, w, freq=5.0, angle_deg=20.0)
    edge = _pattern("EDGE", h, w, angle_deg=70.0)
    noise = _pattern("PERLIN", h, w)
    spots = _pattern("DOTS", h, w)
    scene = ground + 0.25 * torch.where(edge > 0, waves, 0.4 * noise)
    weave = 0.45 + 0.35 * _pattern("PLAID", h, w, angle_deg=10.0) + 0.05 * noise
    colour = torch.stack((scene, 0.8 * ground + 0.1 * spots, 0.5 + 0.3 * edge + 0.05 * waves))
    planes = {"scene": scene[None], "weave": weave[None], "colour": colour[:, :56, :72]}
    return {name: (p.clamp(0, 1) * 255).round().to(torch.uint8) for name, p in planes.items()}


def cases() -> list[tuple[str, str, str]]:
    """Every pinned (picture, preset, way)."""
    return [
        (picture, preset, way)
        for picture in ("scene", "weave", "colour")
        for preset in PRESETS
        for way, options in WAYS.items()
        if (way not in _ONE_PRESET or preset == "balanced")
        and (way not in _ONE_PICTURE or picture == "scene")
        and not (picture == "colour" and preset != "oracle" and options.get("tile") == 32)
    ]


def digest(picture: str, preset: str, way: str) -> str:
    """SHA-256 of the stream."""
    import pc15

    options = dict(WAYS[way])
    hooks = options.pop("hooks", None)
    if hooks is not None:
        options["ai"] = pc15.HeuristicHooks(topk=hooks)
    cfg = pc15.CodecConfig.preset(preset, device="cpu", **options)
    return hashlib.sha256(pc15.encode(pictures()[picture], cfg)["bitstream"]).hexdigest()


def main() -> None:
    pins = {f"{picture}, {preset}, {way}": digest(picture, preset, way) for picture, preset, way in cases()}
    INDEX.write_text(json.dumps(pins, indent=1) + "\n", encoding="utf-8")
    print(f"{INDEX.name}: {len(pins)} streams")


if __name__ == "__main__":
    main()
