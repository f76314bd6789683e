"""Labels derived again: whether a folder still says what this build's oracle answers, on this device."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute
import torch
from tqdm import tqdm

from pc15.errors import ConfigError, SchemaError
from pc15.runtime.notices import bars_hidden
from pc15.search.label import TileOracle
from pc15learn.labels.columns import jsonl_lines, read_shard, table_of
from pc15learn.labels.manifest import ORACLE_VERSION, Rate, shard_paths
from pc15learn.labels.read import LabelFolder
from pc15learn.labels.write import rng_seed

__all__ = ["Verified", "verify_labels"]

_TOGETHER = 1024


@dataclass
class Verified:
    """Rows of a folder, how many were derived again, and ids of those that came out otherwise."""

    rows: int = 0
    checked: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Tile:
    """Tile, as far as a row of labels says it."""

    tile_id: str
    split: str


def verify_labels(folder: str | Path, *, share: float = 0.01, device: str = "auto") -> Verified:
    """Derive a sample of a folder's labels again and compare them with what is stored.

    Args:
        share: of the rows, in (0, 1], chosen by hash; one of each shard at least.
        device: "cpu", "cuda" or "auto".
    Raises:
        ConfigError: a share out of range.
        SchemaError: no labels, damaged ones, or of an oracle that this build does not have.
    """
    if not 0.0 < share <= 1.0:
        raise ConfigError(f"share is {share}; give more than 0 and at most 1")
    opened, found = LabelFolder.open(folder), Verified()
    facts = opened.oracle.facts
    if facts.get("oracle") != ORACLE_VERSION or opened.oracle.schema == 1:
        raise SchemaError(f"{folder} was labelled by oracle {facts.get('oracle')}, this build's is {ORACLE_VERSION}")
    oracles: dict[Rate, TileOracle] = {}
    for path in tqdm(shard_paths(folder), desc="deriving again", unit="shard", disable=bars_hidden(), leave=False):
        table = read_shard(path, opened.oracle)
        found.rows += len(table)
        chosen = table.take(_sample(table, share))
        for rate in opened.rates:
            own = chosen.filter(pa.compute.equal(chosen.column("lambda_rd"), rate.lambda_rd))
            if rate not in oracles:
                cfg = opened.cfg(rate).but(device=device)
                oracles[rate] = TileOracle(cfg, top=facts["top"], random=facts["random"])
            for start in range(0, len(own), _TOGETHER):
                part = own.slice(start, _TOGETHER)
                found.wrong += _wrong(part, oracles[rate], opened.tile, rate, exact=path.suffix == ".parquet")
                found.checked += len(part)
    return found


def _sample(table: pa.Table, share: float) -> list[int]:
    """Rows to derive again, in order."""
    ids = table.column("tile_id").to_pylist()
    ranks = [hashlib.sha256(f"verify {name}".encode()).digest() for name in ids]
    count = min(len(ids), max(1, round(share * len(ids))))
    return sorted(sorted(range(len(ids)), key=ranks.__getitem__)[:count])


def _wrong(stored: pa.Table, oracle: TileOracle, tile: int, rate: Rate, *, exact: bool) -> list[str]:
    """Ids of the rows that the oracle answers otherwise."""
    rows = [_Tile(*pair) for pair in zip(*(stored.column(c).to_pylist() for c in ("tile_id", "split")), strict=True)]
    pixels = np.frombuffer(b"".join(stored.column("pixels").to_pylist()), np.uint8).reshape(-1, tile, tile)
    labels = oracle(torch.from_numpy(pixels.copy()), [rng_seed(row.tile_id) for row in rows])
    again = table_of(rows, pixels, labels, rate.lambda_rd)
    if exact:
        pairs = zip(stored.to_pylist(), again.to_pylist(), strict=True)
    else:  # JSONL holds seven decimals
        lines = ([json.loads(line) for line in jsonl_lines(t)] for t in (stored, again))
        pairs = zip(*lines, strict=True)
    return [row.tile_id for row, (one, other) in zip(rows, pairs, strict=True) if one != other]
