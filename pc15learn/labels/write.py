"""tiles.jsonl -> labels: what the exhaustive search chooses for each tile, and what else it could have chosen.

    out/labels.json          which oracle made them: options, codebook, tables, code; a folder holds one oracle's labels
    out/labels-00000.jsonl   one `LabelRow` per tile, `shard_size` tiles per file

Every shard depends on its tiles alone, so a run that was stopped goes on and ends with the same bytes.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pc15._version import __version__
from pc15.config import PROGRAMS, CodecConfig
from pc15.entropy.tables import load_table
from pc15.errors import ConfigError, SchemaError
from pc15.hooks.weights import codec_fingerprint
from pc15.paths import write_atomic
from pc15.proc.codebook import Codebook, load_codebook
from pc15.proc.generators import load
from pc15.proc.spec import fine_bits
from pc15.quant import steps_for
from pc15.runtime.device import resolve_device
from pc15learn.schema import (
    SCHEMA_VERSION,
    CandidateRow,
    LabelRow,
    LayerRow,
    TileRow,
    check,
    dump,
    pixels_to_text,
    read_rows,
)
from pc15learn.shards import Shard, Workers, plan, run_shards
from pc15learn.tiles import load_tile_pixels

if TYPE_CHECKING:
    from pc15.search.label import TileLabel

__all__ = [
    "MANIFEST",
    "LabelsMade",
    "Oracle",
    "make_labels",
    "oracle_of",
    "quantizer_steps",
    "read_manifest",
    "shard_paths",
]

ORACLE_VERSION = 1
"""Raised by one with every change of what the oracle answers: what it draws, what bits cost, how it searches.

A test labels `datasets/samples` again and compares the bytes, so that no such change goes unnoticed; changes that
leave the answers alone leave labels that were begun before them usable.
"""
MANIFEST = "labels.json"
_STEM = "labels"
_log = logging.getLogger(__name__)

Labeller = Callable[..., "Sequence[TileLabel]"]
"""`pc15.search.label.label_tiles`, or what stands in for it."""


@dataclass(frozen=True)
class LabelsMade:
    """What `make_labels` did: the folder, tiles in it, shards in it, shards done now."""

    folder: Path
    tiles: int
    shards: int
    done: int


@dataclass(frozen=True)
class Oracle:
    """What decides a label, as plain JSON, and the SHA-256 of that."""

    facts: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(_canonical(self.facts).encode()).hexdigest()

    def differences(self, other: Oracle) -> list[str]:
        """Names of the facts that differ, as `options.tile`."""
        return _differences(self.facts, other.facts)


def make_labels(
    tiles: str | Path,
    out: str | Path,
    cfg: CodecConfig | None = None,
    *,
    limit: int | None = None,
    device: str = "auto",
    top: int = 32,
    random: int = 16,
    shard_size: int = 256,
    workers: Workers = "inline",
    label: Labeller | None = None,
) -> LabelsMade:
    """Label tiles by exhaustive search.

    Args:
        tiles: a tiles.jsonl.
        out: folder of the labels; continued if the same oracle began it.
        cfg: options of the search; the oracle preset if None.  Its tile and overlap are those of the tiles.
        limit: label so many tiles, spread over all pictures by hash; None for all.
        device: "cpu", "cuda" or "auto"; the labels are the same.
        top, random: candidates kept per layer: the best, and some drawn at random from the bank.
        shard_size: tiles per file.
        workers: "inline", or "ray" for several GPUs or machines.
        label: the labeller; `pc15.search.label.label_tiles` if None.
    Raises:
        ConfigError: an option out of range.
        SchemaError: tiles of several sizes, or a folder with another oracle's labels.
        ImageError: a picture is gone or has changed.
    """
    for name, value, low in (("top", top, 1), ("random", random, 0), ("shard_size", shard_size, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < low:
            raise ConfigError(f"{name} is {value!r}; give a whole number of at least {low}")
    tiles, out = Path(tiles), Path(out)
    rows = _chosen(list(read_rows(tiles, TileRow)), limit, tiles)
    base = CodecConfig.preset("oracle", **PROGRAMS) if cfg is None else cfg
    cfg = base.but(tile=rows[0].tile, overlap=rows[0].overlap, ai=None, device=str(resolve_device(device)))
    oracle = oracle_of(cfg, rows, top=top, random=random, shard_size=shard_size)
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, oracle)
    shards = plan(len(rows), shard_size, out, _STEM)
    work = functools.partial(_label_shard, rows=rows, folder=tiles.parent, cfg=cfg, top=top, random=random, label=label)
    gpus = 1.0 if cfg.device.startswith("cuda") else 0.0
    done = run_shards(shards, work, workers=workers, gpus_per_task=gpus, what="labelling")
    return LabelsMade(out, len(rows), len(shards), done)


def _chosen(rows: list[TileRow], limit: int | None, path: Path) -> list[TileRow]:
    """The tiles to label, in the order of the file."""
    if not rows:
        raise SchemaError(f"{path} holds no tiles; run make-tiles first")
    if len({(row.tile, row.overlap) for row in rows}) > 1:
        raise SchemaError(f"{path} mixes tile sizes; make one tiles.jsonl per size")
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit} tiles; give at least 1, or leave it out")
    if limit is None or limit >= len(rows):
        return rows
    ranked = sorted(range(len(rows)), key=lambda i: hashlib.sha256(rows[i].tile_id.encode()).digest())
    return [rows[i] for i in sorted(ranked[:limit])]


def oracle_of(cfg: CodecConfig, rows: Sequence[TileRow], *, top: int, random: int, shard_size: int) -> Oracle:
    """What decides the labels of these tiles."""
    codebook, tables = load_codebook(cfg.codebook_id), load_table(cfg.table_id)
    options = {f.name: getattr(cfg, f.name) for f in dataclasses.fields(cfg) if f.name not in ("ai", "device")}
    ids = hashlib.sha256("\n".join(f"{row.tile_id} {row.split}" for row in rows).encode()).hexdigest()
    return Oracle(
        {
            "schema": SCHEMA_VERSION,
            "version": __version__,
            "oracle": ORACLE_VERSION,
            "codec": codec_fingerprint(codebook),
            "codebook": {"id": codebook.id, "fingerprint": codebook.fingerprint},
            "tables": {"id": cfg.table_id, "fingerprint": tables.fingerprint()},
            "options": options,
            "steps": dict(zip(("amp", "dc"), quantizer_steps(cfg), strict=True)),
            "top": top,
            "random": random,
            "shard_size": shard_size,
            "tiles": {"count": len(rows), "sha256": ids},
        }
    )


def quantizer_steps(cfg: CodecConfig) -> tuple[int, int]:
    """Indices of amplitude and DC step that the encoder derives from the options."""
    return steps_for(cfg.lambda_rd, cfg.alpha_mix, float((cfg.tile - cfg.overlap) ** 2))


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _claim(out: Path, oracle: Oracle) -> None:
    """Write the manifest, or check that the one there is of the same oracle."""
    path = out / MANIFEST
    if not path.exists():
        if any(out.glob(f"{_STEM}-*.jsonl")):
            raise SchemaError(f"{out} holds labels but no {MANIFEST}; move them away, or choose another --out")
        text = {"oracle": oracle.facts, "fingerprint": oracle.fingerprint}
        write_atomic(path, (json.dumps(text, sort_keys=True, indent=1) + "\n").encode())
        return
    there = read_manifest(out)
    if there.fingerprint != oracle.fingerprint:
        differs = ", ".join(there.differences(oracle)) or "its own text"
        raise SchemaError(
            f"{out} holds labels of another oracle (different: {differs}); "
            "use the same options and code, or another --out"
        )


def _differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of the facts that differ."""
    names: list[str] = []
    for key in sorted(a.keys() | b.keys()):
        if isinstance(a.get(key), dict) and isinstance(b.get(key), dict):
            names += _differences(a[key], b[key], f"{prefix}{key}.")
        elif a.get(key) != b.get(key):
            names.append(f"{prefix}{key}")
    return names


def read_manifest(folder: str | Path) -> Oracle:
    """Which oracle made a folder's labels.

    Raises:
        SchemaError: no manifest, or a damaged one.
    """
    path = Path(folder) / MANIFEST
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        oracle = Oracle(dict(stored["oracle"]))
        sound = stored["fingerprint"] == oracle.fingerprint
    except OSError as error:
        raise SchemaError(f"no {MANIFEST} in {folder} ({error.strerror or error}); run pc15learn label") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{path} is damaged ({error}); label into another folder") from error
    if not sound:
        raise SchemaError(f"{path} was edited: its fingerprint does not fit; label into another folder")
    return oracle


def shard_paths(folder: str | Path) -> list[Path]:
    """The label files of a folder, in order.

    Raises:
        SchemaError: there is none.
    """
    found = sorted(Path(folder).glob(f"{_STEM}-*.jsonl"))
    if not found:
        raise SchemaError(f"no {_STEM}-*.jsonl in {folder}; run pc15learn label")
    return found


def _label_shard(
    shard: Shard,
    *,
    rows: list[TileRow],
    folder: Path,
    cfg: CodecConfig,
    top: int,
    random: int,
    label: Labeller | None,
) -> bytes:
    """The bytes of one shard's file."""
    if label is None:
        from pc15.search.label import label_tiles

        label = label_tiles
    own = rows[shard.start : shard.stop]
    pixels = load_tile_pixels(own, folder)
    labels = label(pixels, cfg, top=top, random=random, rng_seeds=[rng_seed(row.tile_id) for row in own])
    codebook = load_codebook(cfg.codebook_id)
    lines = []
    for row, tile, found in zip(own, pixels, labels, strict=True):
        made = label_row(row, tile, found, codebook)
        check(made)
        lines.append(dump(made) + "\n")
    return "".join(lines).encode("utf-8")


def rng_seed(tile_id: str) -> int:
    """Seed of a tile's random candidates, in [0, 2**31): from its name alone, so shards do not matter."""
    return int.from_bytes(hashlib.sha256(tile_id.encode()).digest()[:4], "big") >> 1


def label_row(row: TileRow, pixels: Tensor, found: TileLabel, codebook: Codebook) -> LabelRow:
    """The search's answer as a row."""
    return LabelRow(
        v=SCHEMA_VERSION,
        tile_id=row.tile_id,
        split=row.split,
        tile=row.tile,
        pixels=pixels_to_text(pixels),
        dc=int(found.dc),
        layers=[_layer_row(layer, codebook, fine_bits(row.tile)) for layer in found.layers],
    )


def _layer_row(layer: Any, codebook: Codebook, fine: int) -> LayerRow:
    count = len(load(layer.gen).params_at(fine))
    steps = [int(step) for step in layer.offsets[:count]]
    given = torch.tensor([steps], dtype=torch.int64).view(1, count)
    levels = codebook.levels(layer.gen, torch.tensor([layer.qv_id]), given, fine)[0].tolist()
    tried = layer.candidates
    return LayerRow(
        gen=int(layer.gen),
        qv=int(layer.qv_id),
        offsets=steps,
        params=[int(level) for level in levels],
        seed=int(layer.seed_index),
        amp=int(layer.amp),
        d0=_rounded(layer.d_before),
        d=_rounded(layer.d),
        bits=_rounded(layer.bits),
        rd=_rounded(layer.rd),
        candidates=CandidateRow(
            gen=[int(c.gen) for c in tried],
            qv=[int(c.qv_id) for c in tried],
            seed=[int(c.seed_index) for c in tried],
            amp=[int(c.amp) for c in tried],
            d=[_rounded(c.d) for c in tried],
            bits=[_rounded(c.bits) for c in tried],
        ),
    )


def _rounded(value: float) -> float:
    """To seven decimals: finer than any gain that counts, and short in JSON."""
    return round(float(value), 7)
