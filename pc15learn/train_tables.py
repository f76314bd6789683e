"""Frozen rANS tables from what the encoder chooses on a training set: encode, count symbols, build, again.

Choice and price depend on each other, so a few rounds are run, each with the tables of the one before; the first
starts from flat ones.  Streams that are there already, or labels, are counted once as they are: a round that somebody
else has encoded.  Rare contexts borrow from the same symbol's counts at all rates and tile sizes.  The result depends
only on the pictures, the options and the code: workers may come and go, counts are sums.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.alphabets import Syntax, alphabets
from pc15.bitstream.container import read_bitstream
from pc15.bitstream.header import MAX_PIXELS, Header, plane_grid, section_spans
from pc15.bitstream.ports import Writer
from pc15.bitstream.programs import Programs
from pc15.bitstream.read import read_programs, section_syntax
from pc15.bitstream.sections import code_section
from pc15.color import rgb_to_ycbcr420
from pc15.config import CodecConfig
from pc15.encoder import encode
from pc15.entropy.tables import PRECISION, RansTable, TableSet, build_rans_tables, load_table, save_tables
from pc15.errors import ConfigError
from pc15.images import load_rgb
from pc15.paths import ready_to_write
from pc15.proc.codebook import Codebook, load_codebook, save_codebook
from pc15.proc.generators import NAMES
from pc15.runtime.notices import bars_hidden
from pc15learn.labels.read import LabelFolder, open_together

Counts = dict[str, npt.NDArray[np.int64]]

BORROW = 24.0
"""Symbols' worth of the pooled distribution that every table starts from."""
LEAN = 200.0
"""Symbols' worth of the tables that training began with, where they mean the same."""
_CONTEXTUAL = frozenset(("dc", "more", "gen", "refined", "offset", "amp"))
"""Kinds of symbols that have a table per context."""
_OF_ENTRIES = ("gen", "qv")
"""Kinds of symbols that mean something else with another codebook."""


@dataclass(frozen=True, kw_only=True)
class TableJob:
    """Options of encoding a picture: tile and overlap, px; lambda, alpha, rounds of refinement; colour or luma;
    whether layers may continue a neighbour's."""

    tile: int
    overlap: int
    lambda_rd: float
    alpha_mix: float
    refine: int
    color: bool
    merge: bool = False


JOBS: tuple[TableJob, ...] = tuple(
    TableJob(
        tile=tile,
        overlap=overlap,
        lambda_rd=0.06 * 4.0**step,
        alpha_mix=alpha,
        refine=int(alpha > 0.0),
        color=tile == 32 and step % 2 == 0,
    )
    for tile, overlap in ((32, 8), (16, 4), (64, 16), (128, 16))
    for step in range(5)
    for alpha in ((0.0, 0.7) if tile == 32 else (0.0,))
    if tile < 64 or step % 2 == 0
) + tuple(
    TableJob(tile=32, overlap=8, lambda_rd=lam, alpha_mix=0.0, refine=0, color=False, merge=True) for lam in (1.0, 4.0)
)
"""Every table family, at every rate class or every other one, and merged layers."""


def flat_tables(codebook: Codebook, table_id: str) -> TableSet:
    """Tables to begin with: magnitudes fall off, generators by their number of entries, all else equal."""
    counts: dict[str, list[int]] = {}
    for name, size in alphabets(codebook).items():
        kind = _kind(name)
        if name.startswith("merge."):
            counts[name] = _flat_merge(name, size)
        elif kind == "amp":
            counts[name] = [int(10000 * 0.6 ** (i // 2)) + 1 for i in range(size)]
        elif kind == "dc":
            counts[name] = [int(10000 * 0.85**i) + 1 for i in range(size)]
        elif kind == "gen":
            counts[name] = [1 + sum(_use(codebook, gen)) for gen in range(size)]
        elif kind == "qv":
            counts[name] = _use(codebook, NAMES.index(name.split(".")[2])) or [1]
        elif kind == "refined":
            counts[name] = [3, 1]
        else:
            counts[name] = [1] * size
    return TableSet(table_id, 1, build_rans_tables(counts))


def _use(codebook: Codebook, gen: int) -> list[int]:
    """Expected uses of each entry of a generator."""
    return [1] * codebook.size(gen) if codebook.weights is None else codebook.weights[gen].tolist()


def starting_tables(codebook: Codebook, table_id: str, like: TableSet) -> TableSet:
    """Tables to begin with where others, of another codebook, are at hand: theirs, but for what names an entry."""
    flat = flat_tables(codebook, table_id).tables
    return TableSet(
        table_id,
        1,
        {
            name: RansTable(name, like.tables[name].freq) if _shared_with(like, name, len(own.freq)) else own
            for name, own in flat.items()
        },
    )


def _shared_with(like: TableSet, name: str, size: int) -> bool:
    """True if a table of that name would mean the same for another codebook."""
    return _kind(name) not in _OF_ENTRIES and name in like.tables and len(like.tables[name].freq) == size


def _kind(name: str) -> str:
    return name.split(".")[1] if "." in name else name


def _flat_merge(name: str, size: int) -> list[int]:
    """Counts of merged layers to begin with: rare where little is; near neighbours, like layers, like amplitudes."""
    _, kind, which = name.split(".") if name.count(".") == 2 else (*name.split("."), "0")
    if kind == "mode":
        return [60, 1, 1, 2]
    if kind == "is":
        return [[24, 1], [1, 1], [1, 9]][int(which) - 1]
    if kind == "side":
        return [6, 6, 1, 1]
    if kind == "layer":
        return [int(1000 * 0.4 ** abs(k - int(which))) + 1 for k in range(size)]
    return [int(1000 * 0.6 ** (i // 2)) // (1 + 5 * (i % 2)) + 1 for i in range(size)]


def count_stream(data: bytes) -> Counts:
    """Counts of each symbol of each table in a stream."""
    header, programs, _, _ = read_programs(data, max_pixels=MAX_PIXELS)
    return _count_planes(header, programs)


def _count_planes(header: Header, programs: Sequence[Programs]) -> Counts:
    """The same of what a stream says of its tiles."""
    codebook = load_codebook(header.codebook_id)
    sections = []
    for span in section_spans(header):
        nx = plane_grid(header, span.grid).nx
        part = programs[span.grid].rows(span.row_start * nx, span.row_stop * nx)
        sections.append((section_syntax(header, span, codebook), part))
    return _count(sections, load_table(header.table_id))


def count_labels(folder: LabelFolder) -> Counts:
    """Counts of each symbol in streams of a folder's programs, one section per picture of the train split.

    Raises:
        SchemaError: as `LabelFolder.pictures`.
    """
    tile, codebook = folder.tile, folder.codebook
    sections = [
        (Syntax.of(one.ny, one.nx, tile, *one.rate.steps, False, codebook), one.programs) for one in folder.pictures()
    ]
    return _count(sections, flat_tables(codebook, "any"))


def _count(sections: Iterable[tuple[Syntax, Programs]], tables: TableSet) -> Counts:
    """Counts of each symbol of each table; `tables` are any of the sections' codebook."""
    counts: Counts = {}
    for syntax, programs in sections:
        writer = Writer(tables)
        code_section(writer, syntax, programs)
        _add(counts, writer.counts())
    return counts


def _add(counts: Counts, more: Counts) -> None:
    for name, seen in more.items():
        counts[name] = counts[name] + seen if name in counts else seen


def build_tables(
    counts: Counts,
    codebook: Codebook,
    table_id: str,
    version: int = 1,
    like: TableSet | None = None,
    plain: bool = False,
) -> TableSet:
    """Frozen tables from counts; a table that was rarely used leans on its likes at other rates and sizes.

    Where `like`, tables of any codebook, has a table that doesn't name entries, that is leant on instead.
    `plain`: all contexts of a symbol share one distribution, to study what they are worth.
    """
    sizes = alphabets(codebook)
    flat = flat_tables(codebook, table_id)
    shared = _symbol if plain else _pool
    pooled: dict[str, npt.NDArray[np.float64]] = {}
    for name, size in sizes.items():
        prior = np.asarray(flat.table(name).freq, np.float64)
        # what a trained codebook knows of its entries' use is worth a symbol each
        worth = float(size) if _kind(name) == "qv" and codebook.weights is not None else min(64.0, size)
        total = pooled.setdefault(shared(name), prior / prior.sum() * worth)
        pooled[shared(name)] = total + counts.get(name, np.zeros(size))
    final: dict[str, list[int]] = {}
    for name, size in sizes.items():
        pool, seen = pooled[shared(name)], np.zeros(size) if plain else counts.get(name, np.zeros(size))
        own = seen + pool / pool.sum() * BORROW * max(1.0, size / 64.0)
        if like is not None and not plain and _shared_with(like, name, size):
            own = seen + np.asarray(like.table(name).freq) / (1 << PRECISION) * LEAN
        final[name] = np.maximum(1, np.round(own * 4096)).astype(np.int64).tolist()
    return TableSet(table_id, version, build_rans_tables(final))


def _symbol(name: str) -> str:
    """Name of what a table's symbols mean, whatever the context: tile size, rate, layer, neighbours."""
    family, kind, *rest = *name.split("."), ""
    if family == "merge" or kind not in _CONTEXTUAL:
        return f"qv.{rest[0]}" if kind == "qv" else name
    return kind


def _pool(name: str) -> str:
    """Tables that mean the same at another rate or tile size; chroma keeps to itself, and so do merged layers."""
    family, _, rest = name.partition(".")
    if family == "merge":
        return name
    return f"{'c' if family[:1] == 'c' and family != 'raw' else ''}.{rest}" if rest else name


def _count_crop(task: tuple[str, TableJob, str, str, int]) -> Counts:
    path, job, table_id, codebook_id, crop = task
    torch.set_num_threads(1)
    picture = middle(load_rgb(path), crop)
    picture = picture if job.color else rgb_to_ycbcr420(picture)[0].unsqueeze(0)
    cfg = CodecConfig.preset(
        "fast", tile=job.tile, overlap=job.overlap, lambda_rd=job.lambda_rd, alpha_mix=job.alpha_mix,
        refine=job.refine, merge=job.merge, shortlist=16, candidates=0, residual=False, device="cpu",
        table_id=table_id, codebook_id=codebook_id,
    )  # fmt: skip
    return count_stream(encode(picture, cfg)["bitstream"])


def middle(picture: Tensor, crop: int) -> Tensor:
    """The square of `crop` px in the middle of a picture [C,H,W], or what there is of it."""
    top, left = max(0, (picture.shape[1] - crop) // 2), max(0, (picture.shape[2] - crop) // 2)
    return picture[:, top : top + crop, left : left + crop]


@dataclass(frozen=True, kw_only=True)
class CountOptions:
    """Options of encoding pictures to count them.

    Args:
        jobs: encodings to choose from; each picture takes part in `share` of them, the next picture in the next ones.
        rounds: encode-and-count rounds, all but the last with one job per picture; from flat tables three settle.
        crop: px, side of the square that is used.
        workers: processes.
    Raises:
        ConfigError: fewer than one round or share.
    """

    jobs: Sequence[TableJob] = JOBS
    rounds: int = 3
    share: int = 4
    crop: int = 256
    workers: int = 2

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.share < 1:
            raise ConfigError(f"tables need a round and a share: got {self.rounds} and {self.share}")


def train_tables(
    images: Sequence[Path],
    out: Path,
    *,
    table_id: str = "v15_default",
    codebook_id: str = "v15_grid",
    like: str | None = None,
    plain: bool = False,
    counting: CountOptions | None = None,
) -> TableSet:
    """Train tables on the middle of each picture and write them to `out` (JSON).

    Args:
        images: training pictures, never test pictures.
        like: tables to begin with, of any codebook; None for flat ones.
        plain: no contexts, to study what they are worth; see `build_tables`.
    Raises:
        ConfigError: no pictures.   MissingTableError: no such codebook, or no such tables to begin with.
    """
    if not images:
        raise ConfigError("no pictures to count; name files or folders that hold some")
    ready_to_write(out)
    counting = counting or CountOptions()
    codebook = load_codebook(codebook_id)
    begun = load_table(like) if like else None
    tables = starting_tables(codebook, "round0", begun) if begun else flat_tables(codebook, "round0")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("rans", "codebooks"):
            (Path(folder) / name).mkdir()
        save_codebook(Path(folder) / "codebooks" / f"{codebook_id}.npz", codebook)
        for turn in range(counting.rounds):
            save_tables(Path(folder) / "rans" / f"round{turn}.json", tables)
            last = turn == counting.rounds - 1
            tasks = [
                (str(image), job, f"round{turn}", codebook_id, counting.crop)
                for i, image in enumerate(images)
                for job in _shared(counting.jobs, i, counting.share if last else 1)
            ]
            counts: Counts = {}
            with ProcessPoolExecutor(counting.workers, get_context("spawn"), _start, (folder,)) as pool:
                done = pool.map(_count_crop, tasks, chunksize=4)
                for part in tqdm(
                    done, total=len(tasks), desc=f"round {turn + 1} of {counting.rounds}", disable=bars_hidden()
                ):
                    _add(counts, part)
            name = table_id if last else f"round{turn + 1}"
            tables = build_tables(counts, codebook, name, like=begun, plain=plain)
    save_tables(out, tables)
    return tables


def tables_from_labels(
    labels: Sequence[Path],
    out: Path,
    *,
    table_id: str,
    codebook_id: str | None = None,
    like: str | None = None,
    plain: bool = False,
) -> TableSet:
    """Count what labels chose, build tables and write them to `out` (JSON).

    Every tile of a picture has to be labelled, as contexts are what its neighbours chose; the train split counts.
    Labels know luma alone and merge nothing: of the rest there is no more than what tables begin with.

    Args:
        labels: folders that `make_labels` wrote, of one oracle, at several lambdas or tile sizes.
        codebook_id, like, plain: as `tables_from_streams`.
    Raises:
        ConfigError: no labels.   SchemaError: folders that do not go together, or lack tiles.
        MissingTableError: no such codebook, or no such tables to lean on.
    """
    ready_to_write(out)
    counts: Counts = {}
    folders = open_together(labels, tiles_differ=True)
    for folder in folders:
        _add(counts, count_labels(folder))
    return _save_counted(out, counts, folders[0].codebook, table_id, codebook_id, like, plain)


def tables_from_streams(
    streams: Sequence[Path],
    out: Path,
    *,
    table_id: str,
    codebook_id: str | None = None,
    like: str | None = None,
    plain: bool = False,
) -> TableSet:
    """Count what streams say of their tiles, build tables and write them to `out` (JSON).

    Args:
        streams: files of training pictures, never test pictures, all of one codebook.
        codebook_id: what the tables are for; None for the streams' own.  Of streams of another one all is counted but
            generators and entries, whose use is then the codebook's own weights.
        like: tables to lean on where little was counted, of any codebook.
        plain: no contexts, to study what they are worth; see `build_tables`.
    Raises:
        ConfigError: no streams, of several codebooks, or none with tile programs.
        BitstreamError: a damaged one.   MissingTableError: no such codebook, or no such tables to lean on.
    """
    ready_to_write(out)
    counts: Counts = {}
    known: dict[str, Path] = {}
    for stream in tqdm(streams, desc="counting", unit="stream", disable=bars_hidden()):
        header, programs, _, _ = read_programs(read_bitstream(stream), max_pixels=MAX_PIXELS)
        known.setdefault(header.codebook_id, stream)
        if len(known) > 1:
            (one, first), (other, here) = known.items()
            raise ConfigError(f"{first} is of codebook {one!r}, {here} of {other!r}; count those of one codebook")
        _add(counts, _count_planes(header, programs))
    if not counts:
        raise ConfigError(f"{len(streams)} streams hold no tile programs; encode with --residual off --tile 32")
    return _save_counted(out, counts, load_codebook(*known), table_id, codebook_id, like, plain)


def _save_counted(
    out: Path,
    counts: Counts,
    counted: Codebook,
    table_id: str,
    codebook_id: str | None,
    like: str | None,
    plain: bool,
) -> TableSet:
    """Build and write tables from counts of programs of the codebook `counted`."""
    codebook = counted if codebook_id is None else load_codebook(codebook_id)
    if codebook.id != counted.id:
        counts = {name: seen for name, seen in counts.items() if _kind(name) not in _OF_ENTRIES}
    tables = build_tables(counts, codebook, table_id, like=load_table(like) if like else None, plain=plain)
    save_tables(out, tables)
    return tables


def _shared(jobs: Sequence[TableJob], picture: int, share: int) -> list[TableJob]:
    """Jobs of one picture: `share` of them, far apart in the list."""
    share = min(share, len(jobs))
    return [jobs[(picture + k * len(jobs) // share) % len(jobs)] for k in range(share)]


def _start(models: str) -> None:
    """A worker reads the tables of this round from their folder."""
    from pc15.paths import set_models_dir

    set_models_dir(models)
