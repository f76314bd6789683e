"""tiles.jsonl -> labels: what the exhaustive search chooses for each tile, and what else it could have chosen.

    out/labels.json             which oracle made them: options, rates, codebook, tables, code
    out/labels-00000.parquet    the labels of `shard_size` tiles at one rate, a row each
    out/README.md               the dataset card: `datasets.load_dataset(out)` reads the folder
    out/failures.jsonl          tiles that could not be labelled, if any: their picture is gone, or has changed

Every shard depends on its tiles and its rate alone, whoever labels it, so a run that was stopped goes on and ends with
the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pc15.config import PROGRAMS, CodecConfig
from pc15.errors import ConfigError, ImageError, SchemaError
from pc15.locks import sole_writer
from pc15.paths import any_place, write_atomic
from pc15.runtime.device import resolve_device
from pc15.search.label import TileLabels, TileOracle
from pc15learn.labels.columns import FORMATS, Format, card, set_name, shard_facts, table_of, write_shard
from pc15learn.labels.manifest import STEM, Oracle, claim, oracle_of, tiles_digest
from pc15learn.runner.run import Place, run
from pc15learn.runner.tasks import Clock, Report, Task
from pc15learn.schema import TileRow, read_rows
from pc15learn.tiles import by_picture, load_tile_pixels, resolve_image

__all__ = ["LabelJob", "LabelOptions", "LabelsMade", "make_labels", "rng_seed"]

SHARD_TILES = 8192
"""Tiles of a shard: some 20 MB, and enough to keep a GPU busy."""

_log = logging.getLogger(__name__)

Searcher = Callable[[Tensor, Sequence[int]], TileLabels]
"""`TileOracle`, or what stands in for it."""

_SET_NAME = re.compile(rb"^((?:- |  )config_name: )(default|tiles-[0-9a-f]{12})$", re.MULTILINE)
"""The name in a dataset card that is ours to change,"""
_NAMELESS = re.compile(rb"^dataset_info:\n(?=  features:)", re.MULTILINE)
"""and where cards of earlier releases lack it."""
_GROUPS = 2
"""Groups of tiles whose pixels are kept: shards in flight are of one, or of one and the next."""


@dataclass(frozen=True, kw_only=True)
class LabelOptions:
    """Options of labelling a set of tiles.

    Args:
        cfg: options of the search; the oracle preset if None.  Its tile and overlap are those of the tiles.
        lambdas: prices of a bit; every tile is labelled at each.  Empty for the configuration's own.
        limit: label so many tiles, spread over all pictures by hash; None for all.
        top, random: candidates kept per layer: the best, and some drawn at random from the bank.
        shard_size: tiles per file.   format: "parquet", or "jsonl" to be read by eye.
        device: "cpu", "cuda" or "auto"; the labels are the same.
        workers: processes that share the work on this machine, each with a GPU of its own where there are several; or
            actors on Ray, where 0 is one per GPU.   on: "local" or "ray".
        anywhere: let rows name URLs and absolute paths; None: as PC15_ANY_PLACE says here, which is no by default.
        part: (i, n) does the shards with number i modulo n, so that n runs on any machines share the work.
    Raises:
        ConfigError: an option out of range.
    """

    cfg: CodecConfig | None = None
    lambdas: Sequence[float] = ()
    limit: int | None = None
    top: int = 32
    random: int = 16
    shard_size: int = SHARD_TILES
    format: Format = "parquet"
    device: str = "auto"
    workers: int = 1
    on: Place = "local"
    anywhere: bool | None = None
    part: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        for name, low in (("top", 1), ("random", 0), ("shard_size", 1)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ConfigError(f"{name} is {value!r}; give a whole number of at least {low}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit} tiles; give at least 1, or leave it out")
        if self.format not in FORMATS:
            raise ConfigError(f"format is {self.format!r}; choose one of {', '.join(FORMATS)}")
        number, parts = self.part
        if parts < 1 or not 0 <= number < parts:
            raise ConfigError(f"part is {number}/{parts}; give I/N with 0 <= I < N")
        if len(set(self.lambdas)) < len(self.lambdas):
            raise ConfigError(f"lambdas are {', '.join(map(str, self.lambdas))}; give each once")

    def search(self, rows: Sequence[TileRow]) -> CodecConfig:
        """Options of the search of these tiles."""
        base = CodecConfig.preset("oracle", **PROGRAMS) if self.cfg is None else self.cfg
        return base.but(tile=rows[0].tile, overlap=rows[0].overlap, ai=None, device=str(resolve_device(self.device)))


@dataclass(frozen=True)
class LabelsMade:
    """Account of what `make_labels` did.

    folder, tiles, rates, shards: of the whole set.   done: shards labelled now, and `labelled` rows in them.
    left_out: tiles that could not be labelled.   seconds: by stage, of all workers: `planning` (tiles.jsonl read and
    shared out), `reading` and `writing`, the host's own work; `waiting` and `searching`; `wall` from the first shard's
    beginning to the last one's end, after workers had loaded what they share.
    """

    folder: Path
    tiles: int
    rates: int
    shards: int
    done: int
    labelled: int
    left_out: int
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Rows labelled in a second of the wall clock."""
        return self.labelled / max(self.seconds.get("wall", 0.0), 1e-9)


def make_labels(
    tiles: str | Path, out: str | Path, options: LabelOptions | None = None, *, search: Searcher | None = None
) -> LabelsMade:
    """Label tiles by exhaustive search.

    Args:
        tiles: a tiles.jsonl.
        out: folder of the labels; continued if the same oracle began it, and extended if tiles came behind the others.
        search: what labels tiles in place of `TileOracle`, at any rate; in this process alone.
    Raises:
        ConfigError: an option out of range.
        SchemaError: tiles of several sizes, or a folder with another oracle's labels or of other tiles.
        BusyError: another run is labelling the same part of the folder.
        ImageError: a row names a URL or an absolute path, and `anywhere` does not allow it.
    """
    options, begun = LabelOptions() if options is None else options, time.thread_time()
    tiles, out = Path(tiles), Path(out)
    anywhere = any_place() if options.anywhere is None else options.anywhere
    rows = _chosen(list(read_rows(tiles)), options.limit, tiles)
    for picture in by_picture(rows):
        resolve_image(picture[0], tiles.parent, anywhere=anywhere)  # refused before anything is made of any of them
    cfg = options.search(rows)
    lambdas = tuple(float(value) for value in options.lambdas) or (cfg.lambda_rd,)
    shared = {"top": options.top, "random": options.random, "shard_size": options.shard_size}
    oracle = oracle_of(cfg, lambdas, rows, **shared)
    out.mkdir(parents=True, exist_ok=True)
    claim(out, oracle, rows)
    _write_card(out, oracle, options.format, rows)
    shards = _plan(rows, lambdas, options, out, tiles.parent, anywhere)
    missing = [shard for shard in shards if not _is_there(shard, oracle.fingerprint)]
    own = [shard for shard in missing if shard.index % options.part[1] == options.part[0]]
    if len(missing) < len(shards):
        _log.info("%d of %d shards are there already", len(shards) - len(missing), len(shards))
    planning = time.thread_time() - begun
    with sole_writer(out / "{}-part-{}-of-{}".format(STEM, *options.part)):
        done = _label(own, LabelJob(cfg, oracle, options.format, search), options)
    done.seconds["planning"] = planning
    left_out = _write_failures(out, done.left_out, options.part)
    return LabelsMade(out, len(rows), len(lambdas), len(shards), len(own), done.labelled, left_out, done.seconds)


@dataclass
class _Done:
    """Work so far: rows labelled, rows that say what was left out, seconds by stage."""

    labelled: int = 0
    left_out: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


def _label(shards: Sequence[LabelShard], job: LabelJob, options: LabelOptions) -> _Done:
    """Have shards labelled, by whom the options say."""
    tasks = [Task(shard.index, len(shard.rows), shard) for shard in shards]
    done, first, last = _Done(), float("inf"), 0.0
    for report in run(tasks, job, workers=options.workers, on=options.on, what="labelling"):
        for stage, spent in report.seconds.items():
            if stage not in ("begun", "ended"):
                done.seconds[stage] = done.seconds.get(stage, 0.0) + spent
        first, last = min(first, report.seconds["begun"]), max(last, report.seconds["ended"])
        done.labelled += report.items - len(report.left_out)
        done.left_out += report.left_out
    done.seconds["wall"] = max(0.0, last - first)
    return done


def _chosen(rows: list[TileRow], limit: int | None, path: Path) -> list[TileRow]:
    """The tiles to label, in the order of the file."""
    if not rows:
        raise SchemaError(f"{path} holds no tiles; run make-tiles first")
    if len({(row.tile, row.overlap) for row in rows}) > 1:
        raise SchemaError(f"{path} mixes tile sizes; make one tiles.jsonl per size")
    if limit is None or limit >= len(rows):
        return rows
    ranked = sorted(range(len(rows)), key=lambda i: hashlib.sha256(rows[i].tile_id.encode()).digest())
    return [rows[i] for i in sorted(ranked[:limit])]


# ---------------------------------------------------------------- shards


@dataclass(frozen=True)
class LabelShard:
    """Tiles to label at one rate, and the file that their labels go to.

    group: number of the tiles, the same at every rate.
    folder: that the rows' paths begin at.   anywhere: whether they may lead to URLs and begin at the root.
    """

    index: int
    group: int
    path: Path
    lambda_rd: float
    rows: tuple[TileRow, ...]
    folder: Path
    anywhere: bool

    def facts(self, fingerprint: str, left_out: int) -> dict[str, Any]:
        """Metadata of the file; without tiles left out, the same whenever and wherever it is made."""
        return {
            "oracle": fingerprint, "shard": self.index, "lambda_rd": self.lambda_rd, "tiles": len(self.rows),
            "sha256": tiles_digest(self.rows), "left_out": left_out,
        }  # fmt: skip


def _plan(
    rows: Sequence[TileRow], lambdas: Sequence[float], options: LabelOptions, out: Path, folder: Path, anywhere: bool
) -> list[LabelShard]:
    """All shards: the first tiles at every rate, then the next; tiles that are added later only add shards."""
    size, folder, shards = options.shard_size, folder.resolve(), list[LabelShard]()
    for start in range(0, len(rows), size):
        own = tuple(rows[start : start + size])
        for lambda_rd in lambdas:
            path = out.resolve() / f"{STEM}-{len(shards):05d}.{options.format}"
            shards.append(LabelShard(len(shards), start // size, path, lambda_rd, own, folder, anywhere))
    return shards


def _is_there(shard: LabelShard, fingerprint: str) -> bool:
    """Test whether a shard is done, all of it; one that tiles were left out of is tried again."""
    if not shard.path.exists():
        return False
    if shard.path.suffix == ".jsonl":
        return shard.path.read_bytes().count(b"\n") == len(shard.rows)
    return shard_facts(shard.path) == shard.facts(fingerprint, 0)


def _write_card(out: Path, oracle: Oracle, kind: Format, rows: Sequence[TileRow]) -> None:
    """README.md beside the shards; of one that is there, the name of the set alone, which more tiles change."""
    path, facts = out / "README.md", oracle.facts
    name = set_name("tiles", {"oracle": oracle.fingerprint, "tiles": tiles_digest(rows), "format": kind})
    if path.exists():
        before = path.read_bytes()
        ours = b"- config_name: default\n" in before
        after = _NAMELESS.sub(b"dataset_info:\n  config_name: default\n", before) if ours else before
        after = _SET_NAME.sub(rb"\g<1>" + name.encode(), after)
        if after != before:
            write_atomic(path, after)
        return
    about = (
        f"# Tiles of {facts['options']['tile']} px, labelled by exhaustive search\n\n"
        f"Each row is a tile of luma and the program that the search found for it at a price of a bit: layers with "
        f"generator, entry, seed, offsets, amplitude, D without and with it (`d0`, `d`), bits and RD cost; and for "
        f"each layer up to {facts['top']} best and {facts['random']} random candidates.\n\n"
        f"- rates (`lambda_rd`): {', '.join(str(rate.lambda_rd) for rate in oracle.rates)}\n"
        f"- codebook: {facts['codebook']['id']}, tables: {facts['tables']['id']}\n"
        f"- made by `pc15learn label`, version {facts['version']}; all options are in `labels.json`\n\n"
        "`split` says which pictures are held back: train, val or test.\n"
    )
    write_atomic(path, card(kind, facts["options"]["tile"], about, name).encode())


def _write_failures(out: Path, failures: list[dict[str, Any]], part: tuple[int, int]) -> int:
    """failures.jsonl of this run, one row per tile; none is there if all went well."""
    path = out / ("failures.jsonl" if part[1] == 1 else f"failures-{part[0]}-of-{part[1]}.jsonl")
    if not failures:
        path.unlink(missing_ok=True)
        return 0
    ordered = sorted(failures, key=lambda row: (row["shard"], row["tile_id"]))
    write_atomic(path, "".join(json.dumps(row, sort_keys=True) + "\n" for row in ordered).encode())
    for picture in sorted({row["image"]: row["error"] for row in ordered}.items()):
        _log.warning("left out: %s: %s", *picture)
    return len({row["tile_id"] for row in ordered})


def rng_seed(tile_id: str) -> int:
    """Seed of a tile's random candidates, in [0, 2**31): from its name alone, so shards do not matter."""
    return int.from_bytes(hashlib.sha256(tile_id.encode()).digest()[:4], "big") >> 1


# ---------------------------------------------------------------- the work


@dataclass(frozen=True)
class LabelJob:
    """Needs of a worker to begin.

    search: in place of the oracle.
    """

    cfg: CodecConfig
    oracle: Oracle
    format: Format
    search: Searcher | None = None

    @property
    def gpus(self) -> float:
        """GPUs that a worker takes."""
        return 1.0 if self.cfg.device.startswith("cuda") else 0.0

    def start(self, number: int, workers: int) -> ShardLabeller:
        """Load bank and codebook, on the worker's own device.

        Raises:
            SchemaError: this machine's build is another oracle.
        """
        cfg = self.cfg
        if cfg.device.startswith("cuda"):
            cfg = cfg.but(device=f"cuda:{number % max(1, torch.cuda.device_count())}" if workers > 1 else cfg.device)
        elif workers > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
        facts = self.oracle.facts
        here = oracle_of(
            cfg, [rate.lambda_rd for rate in self.oracle.rates], (), top=facts["top"], random=facts["random"],
            shard_size=facts["shard_size"],
        )  # fmt: skip
        if here.fingerprint != self.oracle.fingerprint:
            differs = ", ".join(name for name in here.differences(self.oracle) if not name.startswith("tiles"))
            raise SchemaError(f"a worker's build is another oracle (different: {differs}); install the same everywhere")
        return ShardLabeller(self, cfg)


class ShardLabeller:
    """Labels shards, from pictures to files; while one is searched, others are read and written."""

    def __init__(self, job: LabelJob, cfg: CodecConfig) -> None:
        self._job, self._cfg = job, cfg
        self._oracles: dict[float, Searcher] = {}
        self._searching, self._choosing = threading.Lock(), threading.Lock()
        self._groups: dict[int, _Group] = {}
        ramp = _ramp(cfg.tile)
        for rate in job.oracle.rates:  # once, so that kernels are compiled and tables made before the clock runs
            table_of([_Ramp()], ramp.numpy(), self._oracle(rate.lambda_rd)(ramp, [0]), rate.lambda_rd)

    def _oracle(self, lambda_rd: float) -> Searcher:
        if self._job.search is not None:
            return self._job.search
        if lambda_rd not in self._oracles:
            facts = self._job.oracle.facts
            made = TileOracle(self._cfg.but(lambda_rd=lambda_rd), top=facts["top"], random=facts["random"])
            self._oracles[lambda_rd] = made
        return self._oracles[lambda_rd]

    def __call__(self, task: Task) -> Report:
        shard: LabelShard = task.data
        clock = Clock()
        tiles = self._group(shard.group).read(shard)
        clock.lap("reading", own=True)
        with self._searching:
            clock.lap("waiting")
            labels = self._oracle(shard.lambda_rd)(tiles.pixels, tiles.seeds)
            clock.lap("searching")
        table = table_of(tiles.rows, tiles.pixels.numpy(), labels, shard.lambda_rd)
        facts = shard.facts(self._job.oracle.fingerprint, len(tiles.lost))
        write_shard(table, shard.path, self._job.format, facts)
        clock.lap("writing", own=True)
        left_out = [
            {"shard": shard.index, "image": row.image, "error": error, "tile_id": row.tile_id}
            for row, error in tiles.lost
        ]
        return Report(task.index, task.items, clock.seconds(), left_out)

    def _group(self, number: int) -> _Group:
        """Tiles of that number; the last few groups are kept, for shards of the same tiles at other rates."""
        with self._choosing:
            if number not in self._groups:
                self._groups[number] = _Group()
                while len(self._groups) > _GROUPS:
                    self._groups.pop(next(iter(self._groups)))
            return self._groups[number]


@dataclass(frozen=True, eq=False)
class _Tiles:
    """The tiles of a shard that can be read, their pixels [n,T,T] uint8, and seeds of their random candidates.

    lost: tiles that cannot be read, and why.
    """

    rows: list[TileRow]
    pixels: Tensor
    seeds: list[int]
    lost: list[tuple[TileRow, str]]


class _Group:
    """Tiles that are read once, whichever rate asks first; the others wait."""

    def __init__(self) -> None:
        self._reading = threading.Lock()
        self._tiles: _Tiles | None = None

    def read(self, shard: LabelShard) -> _Tiles:
        with self._reading:
            if self._tiles is None:
                self._tiles = _read(shard)
            return self._tiles


def _read(shard: LabelShard) -> _Tiles:
    """The tiles of a shard, from their pictures."""
    found: list[TileRow] = []
    lost: list[tuple[TileRow, str]] = []
    side = shard.rows[0].tile
    pixels = torch.empty((len(shard.rows), side, side), dtype=torch.uint8)
    for picture in by_picture(shard.rows):
        own = slice(len(found), len(found) + len(picture))
        try:
            pixels[own] = load_tile_pixels(picture, shard.folder, anywhere=shard.anywhere)
        except ImageError as error:
            lost += [(row, str(error)) for row in picture]
            continue
        found += picture
    return _Tiles(found, pixels[: len(found)], [rng_seed(row.tile_id) for row in found], lost)


@dataclass(frozen=True)
class _Ramp:
    """The tile of `_ramp`, as a row of labels names it."""

    tile_id: str = "ramp"
    split: str = "train"


def _ramp(tile: int) -> Tensor:
    """A tile to begin with, uint8 [1,T,T]."""
    along = torch.arange(tile) * 255 // (tile - 1)
    return along.to(torch.uint8).expand(1, tile, tile).contiguous()
