"""labels.json: whose labels a folder holds, and of which tiles.

A folder holds the labels of one oracle: the same options, codebook, tables and code, at one or several rates.  Its
tiles may be added to, at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pc15._version import __version__
from pc15.config import CodecConfig
from pc15.entropy.tables import load_table
from pc15.errors import SchemaError
from pc15.hooks.weights import codec_fingerprint
from pc15.paths import write_atomic
from pc15.proc.codebook import load_codebook
from pc15.quant import steps_for
from pc15learn.schema import TileRow

__all__ = [
    "MANIFEST", "ORACLE_VERSION", "Oracle", "Rate", "claim", "oracle_of", "quantizer_steps", "read_manifest",
    "shard_paths", "tiles_digest",
]  # fmt: skip

MANIFEST = "labels.json"
STEM = "labels"
ORACLE_VERSION = 3
"""Raised by one with every change of what the oracle answers: what it draws, what bits cost, how it searches.

A test labels `datasets/samples` again and compares the bytes, so that no such change goes unnoticed; changes that
leave the answers alone leave labels that were begun before them usable.
"""
LABELS_SCHEMA = 2
"""Version of the labels' columns: 1 was JSONL of one rate with lists of candidates, and is still read."""


@dataclass(frozen=True)
class Rate:
    """A price of a bit, and the indices of amplitude and DC step that the encoder derives from it."""

    lambda_rd: float
    amp: int
    dc: int

    @property
    def steps(self) -> tuple[int, int]:
        """Indices of amplitude and DC step."""
        return self.amp, self.dc


@dataclass(frozen=True)
class Oracle:
    """Everything that decides a label, as plain JSON, and which tiles are labelled."""

    facts: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the facts, but for the tiles, which can be added to."""
        whole = self.schema == 1
        facts = {name: value for name, value in self.facts.items() if whole or name != "tiles"}
        return hashlib.sha256(_canonical(facts).encode()).hexdigest()

    @property
    def schema(self) -> int:
        """Version of the columns."""
        return int(self.facts["schema"])

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Every tile is labelled at each of them."""
        if self.schema == 1:
            return (Rate(float(self.facts["options"]["lambda_rd"]), **self.facts["steps"]),)
        return tuple(Rate(**one) for one in self.facts["rates"])

    def differences(self, other: Oracle) -> list[str]:
        """Names of the facts that differ, as `options.tile`."""
        return _differences(self.facts, other.facts)


def quantizer_steps(cfg: CodecConfig) -> tuple[int, int]:
    """Indices of amplitude and DC step that the encoder derives from the options."""
    return steps_for(cfg.lambda_rd, cfg.alpha_mix, float((cfg.tile - cfg.overlap) ** 2))


def oracle_of(
    cfg: CodecConfig, lambdas: Sequence[float], rows: Sequence[TileRow], *, top: int, random: int, shard_size: int
) -> Oracle:
    """Everything that decides the labels of these tiles at these rates; the configuration's own rate does not count."""
    codebook, tables = load_codebook(cfg.codebook_id), load_table(cfg.table_id)
    left = ("ai", "device", "lambda_rd", "tools", "tries")  # tools and tries are the residual's, and there is none
    rates = []
    for lambda_rd in lambdas:
        amp, dc = quantizer_steps(cfg.but(lambda_rd=lambda_rd))
        rates.append(dataclasses.asdict(Rate(lambda_rd, amp, dc)))
    facts = {
        "schema": LABELS_SCHEMA,
        "version": __version__,
        "oracle": ORACLE_VERSION,
        "codec": codec_fingerprint(codebook),
        "codebook": {"id": codebook.id, "fingerprint": codebook.fingerprint},
        "tables": {"id": cfg.table_id, "fingerprint": tables.fingerprint()},
        "options": {f.name: getattr(cfg, f.name) for f in dataclasses.fields(cfg) if f.name not in left},
        "rates": rates,
        "top": top,
        "random": random,
        "shard_size": shard_size,
        "tiles": {"count": len(rows), "sha256": tiles_digest(rows)},
    }
    return Oracle(json.loads(_canonical(facts)))  # as it is read back: a tuple is a list


def tiles_digest(rows: Iterable[TileRow]) -> str:
    """SHA-256 of which tiles these are, in their order."""
    return hashlib.sha256("\n".join(f"{row.tile_id} {row.split}" for row in rows).encode()).hexdigest()


def claim(out: Path, oracle: Oracle, rows: Sequence[TileRow]) -> None:
    """Write the manifest, or check that the one there is of the same oracle and of the first of these tiles.

    Raises:
        SchemaError: the folder holds other labels.
    """
    path = out / MANIFEST
    if not path.exists():
        if any(out.glob(f"{STEM}-*")):
            raise SchemaError(f"{out} holds labels but no {MANIFEST}; move them away, or choose another --out")
        if _write_new(path, _text(oracle)):
            return  # else another run was faster
    there = read_manifest(out)
    if there.fingerprint != oracle.fingerprint:
        differs = ", ".join(name for name in there.differences(oracle) if not name.startswith("tiles")) or "its text"
        raise SchemaError(
            f"{out} holds labels of another oracle (different: {differs}); "
            "use the same options and code, or another --out"
        )
    if there.facts["tiles"] == oracle.facts["tiles"]:
        return
    count = there.facts["tiles"]["count"]
    if count > len(rows) or tiles_digest(rows[:count]) != there.facts["tiles"]["sha256"]:
        raise SchemaError(
            f"{out} holds labels of {count} tiles that are not the first {count} of the {len(rows)} to label; tiles "
            "can be added behind those that are labelled, for any others use another --out"
        )
    write_atomic(path, _text(oracle))


def _text(oracle: Oracle) -> bytes:
    text = {"oracle": oracle.facts, "fingerprint": oracle.fingerprint}
    return (json.dumps(text, sort_keys=True, indent=1) + "\n").encode()


def _write_new(path: Path, data: bytes) -> bool:
    """Write a file whole unless one is there; returns whether it was written."""
    own = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    write_atomic(own, data)
    try:
        os.link(own, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links
        with contextlib.suppress(FileNotFoundError):
            os.replace(own, path)
        return True
    finally:
        own.unlink(missing_ok=True)
    return True


def read_manifest(folder: str | Path) -> Oracle:
    """The oracle that made a folder's labels.

    Raises:
        SchemaError: no manifest, or a damaged one.
    """
    path = Path(folder) / MANIFEST
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        oracle = Oracle(dict(stored["oracle"]))
        sound = stored["fingerprint"] == oracle.fingerprint and bool(oracle.rates)
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
        SchemaError: there is none, or there are some of both formats.
    """
    folder = Path(folder)
    names = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [p for p in names if p.name.startswith(f"{STEM}-") and p.suffix in (".parquet", ".jsonl")]
    if not found:
        raise SchemaError(f"no {STEM}-*.parquet or {STEM}-*.jsonl in {folder}; run pc15learn label")
    if len({path.suffix for path in found}) > 1:
        raise SchemaError(f"{folder} holds Parquet and JSONL labels; keep one of them")
    return found


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _differences(a: dict[str, Any], b: dict[str, Any], prefix: str = "") -> list[str]:
    """Names of the facts that differ."""
    names: list[str] = []
    for key in sorted(a.keys() | b.keys()):
        if isinstance(a.get(key), dict) and isinstance(b.get(key), dict):
            names += _differences(a[key], b[key], f"{prefix}{key}.")
        elif a.get(key) != b.get(key):
            names.append(f"{prefix}{key}")
    return names
