"""The files that a command reads and writes, and its way on when one of them is bad."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pc15.cli.parser import DONE, FAILED, complain
from pc15.errors import ConfigError, Pc15Error


def find_sources(given: Sequence[Path], suffixes: tuple[str, ...]) -> list[Path]:
    """Files as they are named, folders as the files in and below them that have one of the suffixes."""
    found: list[Path] = []
    for path in given:
        inside = (
            sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            if path.is_dir()
            else [path]
        )
        if not inside:
            raise ConfigError(f"no file in {path} ends in {', '.join(suffixes)}")
        found += [p for p in inside if p not in found]
    return found


def name_targets(inputs: Sequence[Path], given: str, suffix: str) -> list[tuple[Path, Path]]:
    """The target of each source: `given` itself for a single one, or a file in the folder of that name."""
    out = Path(given)
    folder = len(inputs) > 1 or out.is_dir() or given.endswith(("/", os.sep))
    if folder and out.exists() and not out.is_dir():
        raise ConfigError(f"-o {out} is a file, but there are {len(inputs)} inputs; give a folder")
    pairs = [(source, out / f"{source.stem}{suffix}" if folder else out) for source in inputs]
    seen: dict[Path, Path] = {}
    for source, target in pairs:
        if target in seen:
            raise ConfigError(f"{seen[target]} and {source} would both become {target}; give them one by one")
        seen[target] = source
        if target.resolve() == source.resolve():
            raise ConfigError(f"-o {target} is the input itself; give another name")
    return pairs


_In = TypeVar("_In")
_Out = TypeVar("_Out")


def each(pairs: Sequence[tuple[Path, Path]], one: Callable[[Path, Path], None]) -> int:
    """Work on one source after the other; a bad one is reported and the others are still done."""
    tally = _Tally()
    for source, target in pairs:
        with tally.of(source, target):
            one(source, target)
    return tally.result(len(pairs))


def each_together(
    pairs: Sequence[tuple[Path, Path]],
    load: Callable[[Path], _In],
    work: Callable[[list[_In]], list[_Out]],
    save: Callable[[Path, _In, _Out], None],
    most: int,
) -> int:
    """`each` for work that is done on `most` sources at a time; if that fails, on each of them alone."""
    tally = _Tally()
    for start in range(0, len(pairs), most):
        batch: list[tuple[Path, Path, _In]] = []
        for source, target in pairs[start : start + most]:
            with tally.of(source, target):
                batch.append((source, target, load(source)))
        try:
            done: list[_Out] | None = work([item for _, _, item in batch])
        except (Pc15Error, OSError):
            done = None
        for i, (source, target, item) in enumerate(batch):
            with tally.of(source, target):
                save(target, item, work([item])[0] if done is None else done[i])
    return tally.result(len(pairs))


class _Tally:
    """Count of failures; each is reported with its reason."""

    def __init__(self) -> None:
        self._failed = 0

    @contextlib.contextmanager
    def of(self, source: Path, target: Path) -> Iterator[None]:
        """Work on one source; a failure is counted and reported."""
        try:
            yield
        except BrokenPipeError:
            raise
        except (Pc15Error, OSError) as error:
            named = str(source) in str(error) or str(target) in str(error)
            complain(str(error) if named else f"{source}: {error}")
            self._failed += 1

    def result(self, total: int) -> int:
        """The exit code of the command."""
        if self._failed and total > 1:
            complain(f"{self._failed} of {total} failed, the others are done")
        return FAILED if self._failed else DONE
