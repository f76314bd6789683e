"""datasets/samples: small pictures that the project draws itself, with their tiles and labels.

    python -m pc15learn.sample_data [folder]

So that tests, CI and a first look need no other data.  Run it again when the codebook or the oracle changes.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pc15.config import PROGRAMS, CodecConfig
from pc15.images import save_image
from pc15.proc.registry import render
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.tiles import make_tiles

__all__ = ["draw_samples", "make_samples"]

SIDE = 128
_TILES_PER_PICTURE = 8
_LABELLED = 24
_LAMBDA = 0.5

Mix = tuple[str, dict[str, float], tuple[float, float, float]]
"""A pattern, its parameters, and how much of it red, green and blue take, as shares of the full range."""

_PICTURES: dict[str, tuple[Mix, ...]] = {
    "dusk": (
        ("GRADIENT_LINEAR", {"angle_deg": 90.0}, (0.25, 0.10, -0.15)),
        ("EDGE", {"angle_deg": 80.0, "offset": 0.35, "softness": 0.1}, (-0.15, -0.12, -0.10)),
        ("SPOT", {}, (0.20, 0.16, 0.05)),
        ("PERLIN", {"cells": 6.0}, (0.05, 0.05, 0.06)),
    ),
    "cloth": (
        ("PLAID", {}, (0.20, 0.08, 0.05)),
        ("STRIPES", {"freq": 11.0, "angle_deg": 45.0}, (0.06, 0.06, 0.06)),
        ("GRADIENT_RADIAL", {}, (0.10, 0.10, 0.14)),
    ),
    "stones": (
        ("VORONOI_CELLS", {}, (0.15, 0.14, 0.12)),
        ("VALUE_NOISE", {}, (0.10, 0.10, 0.09)),
        ("GRADIENT_LINEAR", {"angle_deg": 30.0}, (0.10, 0.10, 0.10)),
    ),
    "pond": (
        ("RINGS", {}, (0.06, 0.10, 0.14)),
        ("WAVES_DIR", {}, (0.04, 0.06, 0.08)),
        ("BLOB", {}, (0.15, 0.20, 0.10)),
        ("GRADIENT_LINEAR", {"angle_deg": 100.0}, (-0.10, -0.05, 0.10)),
    ),
    "wall": (
        ("BRICK", {}, (0.16, 0.10, 0.08)),
        ("TURBULENCE", {}, (0.06, 0.05, 0.05)),
        ("EDGE", {"angle_deg": 20.0, "offset": -0.2, "softness": 0.5}, (0.14, 0.12, 0.10)),
    ),
}


def draw_samples(side: int = SIDE) -> dict[str, Tensor]:
    """The pictures by name, uint8 [3,side,side]."""
    drawn = {}
    for number, (name, mixes) in enumerate(_PICTURES.items()):
        picture = torch.full((3, side, side), 0.5)
        for pattern, params, shares in mixes:
            picture += torch.tensor(shares).view(3, 1, 1) * render(pattern, side, side, params, seed=number)[0]
        drawn[name] = (picture.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8)
    return drawn


def make_samples(folder: str | Path) -> Path:
    """Write pictures, tiles.jsonl and labels/ anew; returns the folder."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in draw_samples().items():
        save_image(folder / f"{name}.png", picture)
    tiles, labels = folder / "tiles.jsonl", folder / "labels"
    tiles.unlink(missing_ok=True)
    shutil.rmtree(labels, ignore_errors=True)
    make_tiles(folder, tiles, limit=_TILES_PER_PICTURE, val_percent=30, test_percent=0)
    oracle = CodecConfig.preset("fast", **PROGRAMS, search="exhaustive", lambda_rd=_LAMBDA)
    options = LabelOptions(cfg=oracle, limit=_LABELLED, top=8, random=4, shard_size=12, format="jsonl", device="cpu")
    make_labels(tiles, labels, options)
    return folder


def main(argv: Sequence[str]) -> int:
    """Write the samples where the argument says, or to datasets/samples."""
    print(make_samples(argv[0] if argv else "datasets/samples"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
