"""A labeller that costs nothing: what it chooses follows from the tile's mean, so that a net can learn it."""

from __future__ import annotations

import random as rng
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from pc15.config import CodecConfig
from pc15.proc.codebook import load_codebook
from pc15.proc.generators import NAMES, load

GENS = tuple(NAMES.index(name) for name in ("EDGE", "STRIPES", "PERLIN"))


def fake_labels(
    tiles: Tensor, cfg: CodecConfig, *, top: int, random: int, rng_seeds: list[int]
) -> list[SimpleNamespace]:
    """Like `label_tiles`: dark tiles get EDGE, others STRIPES, then every tile a PERLIN."""
    assert tiles.dtype == torch.uint8
    assert len(tiles) == len(rng_seeds)
    return [_one(tile, cfg, top, random, seed) for tile, seed in zip(tiles, rng_seeds, strict=True)]


def _one(tile: Tensor, cfg: CodecConfig, top: int, random: int, seed: int) -> SimpleNamespace:
    mean = int(tile.to(torch.int64).sum()) // tile.numel()
    if int(tile.max()) == int(tile.min()):
        return SimpleNamespace(dc=mean // 8, layers=[])
    first = GENS[0] if mean < 128 else GENS[1]
    draw = rng.Random(seed)
    layers = [_layer(first, mean, 0.4, cfg, top, random, draw), _layer(GENS[2], mean, 0.2, cfg, top, random, draw)]
    return SimpleNamespace(dc=mean // 8, layers=layers)


def _layer(gen: int, mean: int, d: float, cfg: CodecConfig, top: int, random: int, draw: rng.Random) -> SimpleNamespace:
    codebook = load_codebook(cfg.codebook_id)
    qv = mean % min(8, codebook.size(gen))
    bits = 12.0
    area = (cfg.tile - cfg.overlap) ** 2
    after = d * 0.5
    tried: list[Any] = []
    for i in range(top + random):
        other = gen if i < top else draw.choice(GENS)
        entry = qv if i == 0 else draw.randrange(codebook.size(other))
        seed_index = draw.randrange(load(other).seeds)
        worse = after if i == 0 else after + d * (0.1 + 0.4 * draw.random())
        tried.append(SimpleNamespace(gen=other, qv_id=entry, seed_index=seed_index, amp=2, d=worse, bits=bits + i % 5))
    return SimpleNamespace(
        gen=gen,
        qv_id=qv,
        offsets=(1,) + (0,) * 5,
        seed_index=0,
        amp=3,
        d_before=d,
        d=after,
        bits=bits,
        rd=after + cfg.lambda_rd * bits / area,
        candidates=tried,
    )
