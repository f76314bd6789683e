"""An oracle that costs nothing: what it chooses follows from the tile's mean, so that a net can learn it."""

from __future__ import annotations

import random as rng
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_PARAMS
from pc15.config import CodecConfig
from pc15.proc.codebook import load_codebook
from pc15.proc.generators import NAMES, load
from pc15.search.label import LAYER_TYPES, TRIED_TYPES, TileLabels

GENS = tuple(NAMES.index(name) for name in ("EDGE", "STRIPES", "PERLIN"))


@dataclass(frozen=True)
class FakeOracle:
    """In place of `TileOracle`: dark tiles get EDGE, others STRIPES, then every tile a PERLIN, flat ones nothing."""

    cfg: CodecConfig
    top: int = 4
    random: int = 2

    def __call__(self, tiles: Tensor, seeds: Sequence[int]) -> TileLabels:
        assert tiles.dtype == torch.uint8
        assert len(tiles) == len(seeds)
        found = [self._one(tile, seed) for tile, seed in zip(tiles, seeds, strict=True)]
        layers = [layer for _, own in found for layer in own]
        tried = [one for layer in layers for one in layer["tried"]]
        counts = [len(own) for _, own in found]
        return TileLabels(
            dc=np.array([dc for dc, _ in found], np.int32),
            layer_start=np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]),
            layer={name: np.array([layer[name] for layer in layers], kind) for name, kind in LAYER_TYPES.items()},
            offsets=np.array([[1] + [0] * (MAX_PARAMS - 1) for _ in layers], np.int16).reshape(-1, MAX_PARAMS),
            tried_start=np.arange(len(layers) + 1, dtype=np.int64) * (self.top + self.random),
            tried={name: np.array([one[name] for one in tried], kind) for name, kind in TRIED_TYPES.items()},
        )

    def _one(self, tile: Tensor, seed: int) -> tuple[int, list[dict[str, Any]]]:
        mean = int(tile.to(torch.int64).sum()) // tile.numel()
        if int(tile.max()) == int(tile.min()):
            return mean // 8, []
        draw = rng.Random(seed)
        first = GENS[0] if mean < 128 else GENS[1]
        return mean // 8, [self._layer(first, mean, 0.4, draw), self._layer(GENS[2], mean, 0.2, draw)]

    def _layer(self, gen: int, mean: int, d0: float, draw: rng.Random) -> dict[str, Any]:
        codebook = load_codebook(self.cfg.codebook_id)
        qv, bits, after = mean % min(8, codebook.size(gen)), 12.0, d0 * 0.5
        area = (self.cfg.tile - self.cfg.overlap) ** 2
        tried: list[dict[str, Any]] = []
        for i in range(self.top + self.random):
            other = gen if i < self.top else draw.choice(GENS)
            entry = qv if i == 0 else draw.randrange(codebook.size(other))
            seed = draw.randrange(load(other).seeds)
            d = after if i == 0 else after + d0 * (0.1 + 0.4 * draw.random())
            tried.append({"gen": other, "qv": entry, "seed": seed, "amp": 2, "d": d, "bits": bits + i % 5})
        rd = after + self.cfg.lambda_rd * bits / area
        layer = {"gen": gen, "qv": qv, "seed": 0, "amp": 3, "d0": d0, "d": after, "bits": bits, "rd": rd}
        return {**layer, "tried": tried}
