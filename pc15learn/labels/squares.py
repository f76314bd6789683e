"""Photographs -> labels of squares: what the residual's search tried in each square, what it saved, whether it paid.

The search is the encoder's own, of the luma alone.  A row is one square of 8 to 64 px at one rate that the search has
met, whether the tree of squares kept it or not.

    out/squares.json                    the options of the search, and the codebook
    out/squares-<sha256>.parquet        all squares of one picture, at all rates; 16 digits of the picture's own hash
    out/README.md                       the dataset card: `datasets.load_dataset(out)` reads the folder

A shard depends on its picture and the options alone, so a run that was stopped goes on, and pictures may be added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pc15.config import CodecConfig
from pc15.errors import ConfigError, ImageError, SchemaError
from pc15.images import find_images, load_luma, luma_tensor
from pc15.locks import sole_writer
from pc15.luma import MIDDLE, as_q12
from pc15.paths import unicode_name, write_atomic
from pc15.plan.plan import residual_lambda, residual_step
from pc15.residual.decode import empty_field, level_q4, pad_edges
from pc15.residual.enc.gate import INPUTS
from pc15.residual.enc.pattern_search import FEATURES
from pc15.residual.enc.plane import PlaneSearch, encode_plane
from pc15.residual.enc.scratch import CUTS, FIRST, LEFT, NOTED_TRIES, PLACED, RECORD, SEEN, TRIED
from pc15.residual.initial_models import start_models
from pc15.residual.patterns import SQUARES_FILE, digest, layers_at, read_books
from pc15.residual.tools import CHROMA_TOOLS, tools_of
from pc15learn.labels.columns import FORMATS, card_of, pa, set_name, write_shard
from pc15learn.runner.run import run
from pc15learn.runner.tasks import Report, Task
from pc15learn.tiles import split_of

__all__ = ["SquareOptions", "SquaresMade", "label_squares"]

SQUARES_VERSION = 4
"""Raised by one with every change of what the residual's search tries or what a row says of it."""
MANIFEST = "squares.json"

Array = npt.NDArray[Any]

_TRY = pa.struct([("entry", pa.int16()), ("layer", pa.int8()), ("saved", pa.float32())])
_DRAWN = pa.struct([("entry", pa.int16()), ("amount", pa.int16())])
_SCHEMA = pa.schema(
    [
        ("picture", pa.string()), ("split", pa.string()), ("lambda", pa.float64()), ("step", pa.float32()),
        ("y", pa.int32()), ("x", pa.int32()), ("side", pa.int16()),
        ("first", pa.float32()), ("bits", pa.float32()), ("saved", pa.float32()), ("halves", pa.list_(pa.float32(), 4)),
        ("more", pa.float32()), ("cut", pa.float32()),
        ("tried", pa.list_(_TRY)), ("kept", pa.bool_()), ("drawn", pa.list_(_DRAWN)),
        ("left", pa.list_(pa.float32(), FEATURES)), ("inputs", pa.list_(pa.int8(), INPUTS)),
    ]
)  # fmt: skip
_ABOUT = """# PC15: labels of squares

A row is one square of a photograph's luma at one rate, as the residual's search of PC15 met it.

- `picture`, `split`: the picture's SHA-256, and its split, train, val or test, by picture
- `lambda`, `step`: the price of a bit, and the quantizer's step, in 1/16 of luma / 4096
- `y`, `x`, `side`: the square, px
- `first`: J of the square by its likeliest prediction, in bits; `bits`: by the best one; `saved`: by how much the
  patterns that were tried lower that, 0 where none pays
- `halves`: J of two halves, one above the other, as they are and perhaps cut again, then the same of halves side by
  side; -1 where that was not near the best so far; `more`: what predictions but the likeliest one save in the parts of
  the best of these, 0 where no cut was the best so far
- `cut`: J of the four quarters instead, -1 where that was not tried
- `tried`: the patterns that were coded in full, in order, at most {tries}: entry of the side's codebook, layer, and
  what each saves against `bits`
- `kept`: the picture's coding has this square with patterns; `drawn`: entries and amounts of these
- `left`: what the best prediction left, its lowest frequencies along the scan, in steps
- `inputs`: what a net that says which ways are worth trying sees of the square, see `pc15.residual.enc.gate`

Squares of {pictures} pictures.
"""


@dataclass(frozen=True, kw_only=True)
class SquareOptions:
    """Options of labelling squares.

    Args:
        cfg: options of the search; the oracle preset if None.   lambdas: prices of a bit; the config's if empty.
        workers: processes that share the pictures.   limit: so many pictures, the first by name.
    Raises:
        ConfigError: an option out of range, or a search without patterns.
    """

    cfg: CodecConfig | None = None
    lambdas: Sequence[float] = ()
    workers: int = 1
    limit: int | None = None

    def __post_init__(self) -> None:
        if self.cfg is None:
            object.__setattr__(self, "cfg", CodecConfig.preset("oracle"))
        if "patterns" not in self.search.tools:
            raise ConfigError("labels of squares are of patterns; leave the tool patterns among --tools")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit} pictures; give at least 1, or leave it out")
        for value in self.rates:
            self.search.but(lambda_rd=value)

    @property
    def search(self) -> CodecConfig:
        assert self.cfg is not None
        return self.cfg

    @property
    def rates(self) -> tuple[float, ...]:
        """Prices of a bit."""
        return tuple(self.lambdas) or (self.search.lambda_rd,)

    def facts(self) -> dict[str, Any]:
        """All that rows depend on but the picture."""
        return {
            "version": SQUARES_VERSION, "lambdas": list(self.rates), "tries": self.search.tries,
            "tools": list(self.search.tools), "codebook": digest(read_books(SQUARES_FILE)),
        }  # fmt: skip


@dataclass(frozen=True)
class SquaresMade:
    """Counts of a run: pictures in the folder, labelled now, rows written now, and pictures left out."""

    folder: Path
    pictures: int
    done: int
    rows: int
    left_out: int


def label_squares(images: Sequence[Path], out: Path, options: SquareOptions) -> SquaresMade:
    """Label the squares of pictures; a folder that is there is gone on with.

    Raises:
        ImageError: no picture.
        SchemaError: the folder holds labels of another search.
        BusyError: another process writes there.
    """
    paths = find_images(images)[: options.limit]
    out.mkdir(parents=True, exist_ok=True)
    with sole_writer(out):
        _claim(out / MANIFEST, options.facts())
        job = SquareJob(out, options.rates, options.search)
        tasks = [Task(i, 1, str(path)) for i, path in enumerate(paths)]
        before = set(out.glob("squares-*.parquet"))
        reports = list(run(tasks, job, workers=options.workers, what="labelling squares", unit="picture"))
        made = set(out.glob("squares-*.parquet")) - before
        _write_card(out, options)
    failed = [row for report in sorted(reports, key=lambda one: one.index) for row in report.left_out]
    if failed:
        write_atomic(out / "failures.jsonl", "".join(json.dumps(row) + "\n" for row in failed).encode())
    else:
        (out / "failures.jsonl").unlink(missing_ok=True)
    rows = sum(pa.parquet.read_metadata(shard).num_rows for shard in made)
    return SquaresMade(out, len(before | made), len(made), rows, len(failed))


def _write_card(out: Path, options: SquareOptions) -> None:
    """README.md, with a name of its own for every other set."""
    names = sorted(path.name for path in out.glob("squares-*.parquet"))
    about = _ABOUT.format(tries=NOTED_TRIES, pictures=len(names))
    card = card_of(_SCHEMA, "squares-*.parquet", about, set_name("squares", {**options.facts(), "shards": names}))
    write_atomic(out / "README.md", card.encode())


def _claim(path: Path, facts: dict[str, Any]) -> None:
    """Write the manifest, or check that it is of the same search.

    Raises:
        SchemaError: it is of another one, or cannot be read.
    """
    if not path.exists():
        write_atomic(path, (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode())
        return
    try:
        known = json.loads(path.read_bytes())
    except ValueError as error:
        raise SchemaError(f"{path} is not JSON: {error}; take another folder") from error
    if known != facts:
        names = known.keys() | facts.keys() if isinstance(known, dict) else facts.keys()
        other = [name for name in sorted(names) if not isinstance(known, dict) or known.get(name) != facts.get(name)]
        raise SchemaError(f"{path} is of another search (different: {', '.join(other)}); take another folder")


@dataclass(frozen=True)
class SquareJob:
    """Makes workers that label pictures; on the CPU alone, where the residual is coded.

    out: folder.   rates: prices of a bit.   cfg: of the search.
    """

    out: Path
    rates: tuple[float, ...]
    cfg: CodecConfig
    gpus: float = 0.0

    def start(self, number: int, workers: int) -> SquareJob:
        """A worker; the job is all that it needs."""
        return self

    def __call__(self, task: Task) -> Report:
        path = Path(task.data)
        try:
            digest_of = hashlib.sha256(path.read_bytes()).hexdigest()
            shard = self.out / f"squares-{digest_of[:16]}.parquet"
            if shard.exists():
                return Report(task.index, 1)
            luma = luma_tensor(load_luma(path))[0, 0]
        except (OSError, ImageError) as error:
            return Report(task.index, 1, left_out=[{"picture": unicode_name(str(path)), "error": str(error)}])
        plane = as_q12((luma * 255.0).round().to(torch.uint8), torch.device("cpu")).numpy()
        tables = [squares_of(plane, self.cfg.but(lambda_rd=value), digest_of) for value in self.rates]
        table = pa.concat_tables(tables)
        write_shard(table, shard, FORMATS[0], {"picture": digest_of, "rows": len(table)})
        return Report(task.index, 1)


def squares_of(plane: Array, cfg: CodecConfig, picture: str) -> pa.Table:
    """Rows of a plane [h,w] int32 Q12 at one rate, in the order in which the search met its squares."""
    tools = tools_of(cfg.tools) & ~CHROMA_TOOLS
    goal = pad_edges(plane.astype(np.int32) - MIDDLE)
    below, drawn = np.full_like(goal, MIDDLE), np.zeros_like(goal)
    step, lam = residual_step(cfg.lambda_rd, tools), residual_lambda(cfg.lambda_rd)
    field = empty_field(len(goal), goal.shape[1], tools)
    record = np.zeros((goal.size // 32, RECORD), np.float32)  # of 8 px and more there are 85/64 per 64 px at most
    search = PlaneSearch(level_q4(step, tools), lam, cfg.tries, record=record)
    encode_plane(goal, below, drawn, field, start_models(step, tools), search)
    rows = record[record[:, 0] > 0]
    side = (1 << rows[:, 0].astype(np.int64)).astype(np.int16)
    x, y = (rows[:, PLACED + k].astype(np.int64) for k in range(2))
    per_bit = rows[:, 1]
    bits = rows[:, PLACED + 2] / per_bit
    halves, more, cut = rows[:, CUTS : CUTS + 4], rows[:, CUTS + 4], rows[:, 4]
    halves, cut = (np.where(own > 0, own, np.float32(-1.0)) for own in (halves / per_bit[:, None], cut / per_bit))
    layers = [layers_at(field, int(u) >> 2, int(v) >> 2, int(n)) for u, v, n in zip(x, y, side, strict=True)]
    return pa.table(
        [
            pa.array([picture] * len(rows)), pa.array([split_of(picture)] * len(rows)),
            pa.array(np.full(len(rows), cfg.lambda_rd)), pa.array(rows[:, 2]),
            pa.array(y.astype(np.int32)), pa.array(x.astype(np.int32)), pa.array(side),
            pa.array(rows[:, FIRST] / per_bit), pa.array(bits),
            pa.array((rows[:, PLACED + 2] - rows[:, LEFT - 1]) / per_bit),
            pa.FixedSizeListArray.from_arrays(pa.array(halves.reshape(-1)), 4), pa.array(more / per_bit), pa.array(cut),
            _tried(rows, bits), pa.array([bool(own) for own in layers]),
            pa.array([[{"entry": e, "amount": a} for e, a in own] for own in layers], pa.list_(_DRAWN)),
            pa.FixedSizeListArray.from_arrays(pa.array(rows[:, LEFT:PLACED].reshape(-1)), FEATURES),
            pa.FixedSizeListArray.from_arrays(pa.array(rows[:, SEEN:FIRST].astype(np.int8).reshape(-1)), INPUTS),
        ],
        schema=_SCHEMA,
    )  # fmt: skip


def _tried(rows: Array, bits: Array) -> pa.Array:
    count = np.minimum(rows[:, TRIED - 1].astype(np.int64), NOTED_TRIES)
    tries = rows[:, TRIED:SEEN].reshape(len(rows), NOTED_TRIES, 3)
    there = np.arange(NOTED_TRIES) < count[:, None]
    saved = bits[:, None] - tries[:, :, 2] / rows[:, 1:2]
    values = pa.StructArray.from_arrays(
        [
            pa.array(tries[:, :, 0][there].astype(np.int16)), pa.array(tries[:, :, 1][there].astype(np.int8)),
            pa.array(saved[there].astype(np.float32)),
        ],
        fields=list(_TRY),
    )  # fmt: skip
    return pa.ListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(count)]).astype(np.int32)), values)
