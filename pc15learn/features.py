"""Labels -> features: what nets see and what they are fitted to, computed once, for sets larger than memory.

    out/features.json            whose labels they are
    out/features-00000.npy       the rows of a shard of labels, a record each: inputs and targets
    out/features-00000.of.npy    of the same rows: split, picture, whether a layer pays
    out/features-00000.json      written last: which labels the two were made of, and the names of the pictures

A fit that is given labels computes the same in memory; one that is given this folder maps its files, and reads of the
disk what a batch needs.  Rows and their order, and so the weights, are the same either way.  Every shard follows from
its labels alone: a run that was stopped goes on, and several share the work.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pc15.errors import ConfigError, SchemaError
from pc15.hooks.inputs import INPUT_VERSION, NUMBERS, PIXELS, NetInputs
from pc15.locks import sole_writer
from pc15.paths import replacing, write_atomic
from pc15.search.windows import regions_of
from pc15learn.label_tensors import LabelTensors, RowDrawer
from pc15learn.labels.manifest import Oracle, shard_paths
from pc15learn.labels.read import LabelFolder
from pc15learn.runner.run import Place, run
from pc15learn.runner.tasks import Clock, Report, Task

__all__ = ["FeatureFolder", "FeaturesMade", "in_order", "is_features", "make_features"]

_MANIFEST = "features.json"
_OF = np.dtype([("split", "u1"), ("picture", "<u4"), ("pays", "?")])
_INPUTS = tuple(part.name for part in fields(NetInputs))
_PER_ROW = ("gain", "pays")
_PER_CANDIDATE = {"rows": "<i4", "behind": "<f4", "bits": "<f4", "norms": "<f4"}

Array = npt.NDArray[Any]


def _record(candidates: int, weights: int) -> np.dtype[Any]:
    """A row with its candidates and weights of regions: what a batch needs of it lies together on the disk."""
    return np.dtype(
        [
            ("error", "i1", (PIXELS,)),
            ("picture", "i1", (PIXELS,)),
            ("weights", "i1", (weights,)),
            ("place", "u1"),
            ("price", "<f4"),
            ("numbers", "i1", (NUMBERS,)),
            ("pays", "?"),
            ("gain", "<f4"),
            *((name, kind, (candidates,)) for name, kind in _PER_CANDIDATE.items()),
        ]
    )


# ---------------------------------------------------------------- written


@dataclass(frozen=True)
class FeaturesMade:
    """Account of `make_features`: shards in all and those done now, rows of these, seconds of work by stage."""

    folder: Path
    shards: int
    done: int
    rows: int
    seconds: dict[str, float]


def make_features(
    labels: str | Path, out: str | Path, *, workers: int = 1, on: Place = "local", part: tuple[int, int] = (0, 1)
) -> FeaturesMade:
    """Compute features and targets of all labels of a folder.

    Args:
        labels: folder that `make_labels` wrote, to the end.
        out: folder of the features; continued, and mended where labels were added or made again.
        workers, on: who does the work, see `LabelOptions`.   part: (i, n) does the shards with number i modulo n.
    Raises:
        ConfigError: an option out of range.
        SchemaError: labels that are not finished or do not follow the schema, or a folder of other labels' features.
        BusyError: another run is making the same part.
    """
    number, parts = part
    if parts < 1 or not 0 <= number < parts:
        raise ConfigError(f"part is {number}/{parts}; give I/N with 0 <= I < N")
    folder, out = LabelFolder.open(labels), Path(out)
    folder.check_whole()
    paths = shard_paths(folder.path)
    out.mkdir(parents=True, exist_ok=True)
    _claim(out, folder.oracle, len(paths))
    tasks = [
        Task(i, 1, (path.resolve(), _stem(out.resolve(), i)))
        for i, path in enumerate(paths)
        if i % parts == number and not _is_there(path, _stem(out, i))
    ]
    rows, seconds = 0, dict[str, float]()
    with sole_writer(out / f"features-part-{number}-of-{parts}"):
        for report in run(tasks, _Job(folder.path.resolve()), workers=workers, on=on, what="features", unit="shard"):
            rows += int(report.seconds["rows"])
            for stage in ("drawing", "writing"):
                seconds[stage] = seconds.get(stage, 0.0) + report.seconds[stage]
    return FeaturesMade(out, len(paths), len(tasks), rows, seconds)


def _claim(out: Path, oracle: Oracle, shards: int) -> None:
    """Write the manifest, or see that the one there is of the same oracle.

    Raises:
        SchemaError: it is of another, or the folder holds something else.
    """
    path = out / _MANIFEST
    if path.exists():
        there = _manifest(out)[0]
        if there.fingerprint != oracle.fingerprint:
            differs = ", ".join(name for name in there.differences(oracle) if not name.startswith("tiles"))
            raise SchemaError(f"{out} holds features of other labels (different: {differs}); use another --out")
    elif any(out.glob("labels*")):
        raise SchemaError(f"{out} holds labels; give features a folder of their own")
    text = {"inputs": INPUT_VERSION, "oracle": oracle.facts, "shards": shards}
    write_atomic(path, (json.dumps(text, sort_keys=True, indent=1) + "\n").encode())


def _stem(out: Path, number: int) -> Path:
    return out / f"features-{number:05d}"


def _parts(stem: Path) -> tuple[Path, Path, Path]:
    """Files of records, of what rows are of, and of what says that both are there."""
    one, other, seal = (stem.with_name(f"{stem.name}{end}") for end in (".npy", ".of.npy", ".json"))
    return one, other, seal


def _is_there(labels: Path, stem: Path) -> bool:
    """Test whether a shard's features are done, and of these labels."""
    records, of, seal = _parts(stem)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        stored = json.loads(seal.read_text(encoding="utf-8"))
        return bool(stored["labels"] == _digest(labels) and records.exists() and of.exists())
    return False


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class _Job:
    """Computes features of a folder's shards.  `gpus`: none are needed."""

    labels: Path
    gpus: float = 0.0

    def start(self, number: int, workers: int) -> _Maker:
        if workers > 1:
            torch.set_num_threads(max(1, torch.get_num_threads() // workers))
        return _Maker(LabelFolder.open(self.labels))


class _Maker:
    """Features of one shard at a time, from labels to files."""

    def __init__(self, folder: LabelFolder) -> None:
        facts = folder.oracle.facts
        self._folder, self._draw = folder, RowDrawer(folder)
        self._candidates = int(facts["top"]) + int(facts["random"])
        self._weights = 4 * regions_of(folder.tile) ** 2

    def __call__(self, task: Task) -> Report:
        labels, stem = task.data
        clock = Clock()
        made = [some for batch in self._folder.shard_batches(labels) if (some := self._draw(batch)) is not None]
        names: dict[str, int] = {}
        of = [_of(some, split, picture, names) for some, split, picture in made]
        rows = np.concatenate([self._records(one, labels) for one, _, _ in made]) if made else self._none()
        clock.lap("drawing", own=True)
        records, beside, seal = _parts(stem)
        seal.unlink(missing_ok=True)
        _save(records, rows)
        _save(beside, np.concatenate(of) if of else np.zeros(0, _OF))
        told = {
            "labels": _digest(labels), "pictures": list(names), "rows": len(rows),
            "candidates": max((one.rows.shape[1] for one, _, _ in made), default=1),
        }  # fmt: skip
        write_atomic(seal, (json.dumps(told, sort_keys=True) + "\n").encode())
        clock.lap("writing", own=True)
        return Report(task.index, task.items, {**clock.seconds(), "rows": float(len(rows))})

    def _none(self) -> Array:
        return np.zeros(0, _record(self._candidates, self._weights))

    def _records(self, rows: LabelTensors, labels: Path) -> Array:
        """Rows as records.

        Raises:
            SchemaError: a value that is not finite.
        """
        for name in ("gain", "bits", "behind", "norms"):
            if not bool(getattr(rows, name).isfinite().all()):
                raise SchemaError(f"{labels}: a value that {name!r} is made of is not finite; label again")
        found = np.zeros(len(rows), _record(self._candidates, self._weights))
        wide = rows.widened(self._candidates)
        for name in _INPUTS:
            found[name] = getattr(rows.inputs, name).numpy()
        for name in (*_PER_ROW, *_PER_CANDIDATE):
            found[name] = getattr(wide, name).numpy()
        return found


def _of(rows: LabelTensors, split: Array, picture: Array, names: dict[str, int]) -> Array:
    """Origin of rows; names of pictures are numbered as they come."""
    found = np.zeros(len(rows), _OF)
    found["split"], found["pays"] = split, rows.pays.numpy()
    found["picture"] = [names.setdefault(name, len(names)) for name in picture.tolist()]
    return found


def _save(path: Path, rows: Array) -> None:
    with replacing(path) as file:
        np.save(file, rows, allow_pickle=False)


# ---------------------------------------------------------------- read


def is_features(folder: Path) -> bool:
    """Test whether a folder holds features rather than labels."""
    return (folder / _MANIFEST).exists()


def _manifest(folder: Path) -> tuple[Oracle, int]:
    """The oracle of the labels, and the number of shards.

    Raises:
        SchemaError: damaged, or of another version.
    """
    path = folder / _MANIFEST
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        oracle, shards, version = Oracle(dict(stored["oracle"])), int(stored["shards"]), stored["inputs"]
    except OSError as error:
        raise SchemaError(f"no {_MANIFEST} in {folder} ({error.strerror or error}); run pc15learn features") from error
    except (ValueError, KeyError, TypeError) as error:
        raise SchemaError(f"{path} is damaged ({error}); make the features again") from error
    if version != INPUT_VERSION:
        raise SchemaError(f"{path} has inputs of version {version}, this build's are {INPUT_VERSION}; make them again")
    return oracle, shards


@dataclass(frozen=True, eq=False)
class FeatureFolder:
    """Features of a folder of labels, mapped: rows are read when they are asked for.

    labels: the folder, of which only the manifest is left here.   records: rows of each shard, see `_record`.
    split, picture, pays: [N], of all rows; pictures are numbered.   candidates: most that a row has.
    """

    labels: LabelFolder
    records: list[Array]
    split: Array
    picture: Array
    pays: Array
    candidates: int

    @classmethod
    def open(cls, path: str | Path) -> FeatureFolder:
        """Map a folder's files.

        Raises:
            SchemaError: there are none, they are damaged or not finished, or of another build.
        """
        path = Path(path)
        oracle, shards = _manifest(path)
        labels = LabelFolder.of(path, oracle)
        names: dict[str, int] = {}
        records, of, candidates = [], [], 1
        for number in range(shards):
            rows, own, told = _opened(_stem(path, number))
            own = own.copy()
            numbers = np.array([names.setdefault(name, len(names)) for name in told["pictures"]], np.uint32)
            own["picture"] = numbers[own["picture"]] if len(own) else own["picture"]
            records.append(rows)
            of.append(own)
            candidates = max(candidates, int(told["candidates"]))
        whole = np.concatenate(of) if of else np.zeros(0, _OF)
        return cls(labels, records, whole["split"].astype(np.int64), whole["picture"].astype(np.int64), whole["pays"],
                   candidates)  # fmt: skip

    def __len__(self) -> int:
        return len(self.split)

    @cached_property
    def _ends(self) -> Array:
        return np.cumsum([len(rows) for rows in self.records], dtype=np.int64)

    def rows(self, index: Array) -> LabelTensors:
        """Some of the rows, by their numbers [n]."""
        index = np.asarray(index, np.int64)
        order = np.argsort(index, kind="stable")  # so that the disk is read forwards
        shard = np.searchsorted(self._ends, index[order], side="right")
        own = np.empty(len(index), self.records[0].dtype)
        for number in np.unique(shard):
            at = order[shard == number]
            first = self._ends[number] - len(self.records[number])
            own[at] = self.records[number][index[at] - first]

        def column(name: str) -> torch.Tensor:
            values = own[name][:, : self.candidates] if name in _PER_CANDIDATE else own[name]
            return torch.from_numpy(np.ascontiguousarray(values))

        inputs = NetInputs(*(column(name).to(torch.int64) if name == "place" else column(name) for name in _INPUTS))
        return LabelTensors(
            inputs, column("pays"), column("gain"), column("rows").to(torch.int64), column("behind"), column("bits"),
            column("norms"),
        )  # fmt: skip


def _opened(stem: Path) -> tuple[Array, Array, dict[str, Any]]:
    """A shard's records, mapped, what they are of, and what was told of them.

    Raises:
        SchemaError: not there, or damaged.
    """
    records, of, seal = _parts(stem)
    if not seal.exists():
        raise SchemaError(f"{seal} is not there: features were not finished; run the same pc15learn features again")
    try:
        told = dict(json.loads(seal.read_text(encoding="utf-8")))
        rows, own = np.load(records, mmap_mode="r", allow_pickle=False), np.load(of, allow_pickle=False)
        width = rows.dtype["rows"].shape[0]
        sound = (
            rows.dtype == _record(width, rows.dtype["weights"].shape[0])
            and own.dtype == _OF
            and rows.shape == own.shape == (int(told["rows"]),)
            and 1 <= int(told["candidates"]) <= width
            and int(own["picture"].max(initial=0)) < max(1, len(told["pictures"]))
        )
    except (OSError, ValueError, KeyError, TypeError, IndexError, EOFError) as error:
        raise SchemaError(f"{stem}.npy is damaged ({error}); delete {seal.name} and make the features again") from error
    if not sound:
        raise SchemaError(f"{stem}.npy does not fit {seal.name}; delete that and make the features again")
    return rows, own, told


def in_order(values: Sequence[int] | Array) -> list[int]:
    """The different ones of some numbers, as they come first."""
    found, first = np.unique(np.asarray(values), return_index=True)
    ordered: list[int] = found[np.argsort(first)].tolist()
    return ordered
