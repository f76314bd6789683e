"""The files that a command reads and writes, and its way on when one of them is bad."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar

from pc15.cli.answer import Answer
from pc15.cli.parser import DONE, FAILED, complain, count
from pc15.errors import ConfigError, Pc15Error
from pc15.paths import is_direct, read_open

STANDARD = Path("-")
"""Name of standard input among sources, and of standard output as a target."""
MAX_STANDARD_BYTES = 1 << 30
"""Most bytes that are read of standard input: as many as a stream's file may have."""


@dataclass(frozen=True)
class Source:
    """A file to work on, and its place below the folder that it was found in: the bare name of one that was named."""

    path: Path
    below: Path


def find_sources(given: Sequence[Path], suffixes: tuple[str, ...]) -> list[Source]:
    """Files as they are named, folders as the files in and below them that have one of the suffixes.

    Hidden files and folders below a folder are left, as `pc15.images.find_images` does.  A folder without such files
    stands for itself, which `each` reports as one that failed; it is an error at once if nothing else was given.
    """
    found: dict[Path, Source] = {}
    for path in given:
        if not path.is_dir():
            found.setdefault(path, Source(path, Path(path.name)))
            continue
        inside = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in suffixes
            and not any(part.startswith(".") for part in file.relative_to(path).parts)
            and file.is_file()
        )
        if not inside:
            if len(given) == 1:
                raise ConfigError(f"no file in {path} ends in {', '.join(suffixes)}")
            found.setdefault(path, Source(path, Path(path.name)))  # fails in its turn
        for file in inside:
            found.setdefault(file, Source(file, file.relative_to(path)))
    return list(found.values())


def name_targets(given: Sequence[Path], sources: Sequence[Source], out: str, suffix: str) -> list[tuple[Path, Path]]:
    """The target of each source: `out` itself for a file that is named alone, else a file in the folder of that name.

    A folder becomes a folder, with its subfolders.  Files of one folder that differ only in their suffix keep it:
    a.png.pc15 and a.jpg.pc15.

    Raises:
        ConfigError: a target that is a source, or that two sources would have.
    """
    folder = len(given) > 1 or given[0].is_dir() or Path(out).is_dir() or out.endswith(("/", os.sep))
    root = STANDARD if is_stdout(out) else Path(out)
    if folder and (root == STANDARD or (root.exists() and not root.is_dir())):
        what = "standard output" if root == STANDARD else "a file"
        inputs = f"there are {len(sources)} inputs" if len(sources) > 1 else "the input is a folder"
        raise ConfigError(f"-o {out} is {what}, but {inputs}; give a folder")
    if not folder:
        pairs = [(source.path, root) for source in sources]
    else:
        bare = Counter((source.path.parent, source.path.stem) for source in sources)
        pairs = []
        for source in sources:
            if source.path == STANDARD:
                raise ConfigError(f"-o {out} is a folder, but standard input has no name; give the name of a file")
            keeps = bare[source.path.parent, source.path.stem] > 1
            name = f"{source.path.name if keeps else source.path.stem}{suffix}"
            pairs.append((source.path, root / source.below.with_name(name)))
    seen: dict[Path, Path] = {}
    for path, target in pairs:
        if target in seen:
            raise ConfigError(f"{seen[target]} and {path} would both become {target}; give them one by one")
        seen[target] = path
        if target != STANDARD and target.resolve() == path.resolve():
            raise ConfigError(f"-o {target} is the input itself; give another name")
    return pairs


def is_stdout(name: str) -> bool:
    """True for `-`, and for a name such as /dev/stdout of what standard output goes to, if that is no plain file."""
    if name == "-":
        return True
    try:
        return is_direct(name) and os.path.samestat(os.stat(name), os.fstat(sys.stdout.fileno()))
    except (OSError, ValueError):  # ValueError: a stream that is no file, as in tests
        return False


def read_standard() -> IO[bytes]:
    """Standard input, whole, up to MAX_STANDARD_BYTES."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError("there is nothing on standard input; pipe a file into it, or give its name in place of -")
    content = read_open(sys.stdin.buffer, MAX_STANDARD_BYTES)
    if len(content) > MAX_STANDARD_BYTES:
        raise ConfigError(f"standard input is over the limit of {MAX_STANDARD_BYTES} bytes; give the name of a file")
    data = io.BytesIO(content)
    data.name = "standard input"
    return data


def opened(path: Path) -> Path | IO[bytes]:
    """A source as pc15's readers take it: its path, or what standard input gives."""
    return read_standard() if path == STANDARD else path


def read_stream(path: Path, *, strict: bool, max_pixels: int | None) -> bytes:
    """The bytes of a stream, from a file, which is checked as by `read_bitstream`, or from standard input."""
    from pc15.bitstream.container import read_bitstream, stream_bytes  # here: help needs no codec

    if path == STANDARD:
        return stream_bytes(read_standard())
    return read_bitstream(path, strict=strict, max_pixels=max_pixels)


def write_standard(data: bytes) -> None:
    """Write to standard output, and nothing else: what is said goes to stderr then."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def wanted_pairs(pairs: Sequence[tuple[Path, Path]], tally: Tally, *, skip_existing: bool) -> list[tuple[Path, Path]]:
    """Sources and targets that are to be worked on; those that --skip-existing leaves as they are go to the tally."""
    wanted = []
    for source, target in pairs:
        if skip_existing and target != STANDARD and target.is_file():
            tally.skipped(source, target)
        else:
            wanted.append((source, target))
    return wanted


_In = TypeVar("_In")
_Out = TypeVar("_Out")


def each(
    pairs: Sequence[tuple[Path, Path]],
    one: Callable[[Path, Path], _Out],
    tally: Tally,
    told: Callable[[Path, Path, _Out], None],
    jobs: int = 1,
) -> int:
    """Work on every source, so many at a time; a bad one is reported and the others are still done.

    Args:
        one: the work of a source and its target, on a thread of its own if there are several jobs.
        told: says what came of it, in order.
    """
    from pc15.runtime.parallel import parallel_map, threads  # here: help needs no torch

    def tried(pair: tuple[Path, Path]) -> _Out | Exception:
        try:
            _check_file(pair[0])
            return one(*pair)
        except BrokenPipeError:
            raise
        except _FAILURES as error:
            return error

    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(threads(jobs)) if jobs > 1 else None
        found = parallel_map(pool, tried, pairs, only_if=lambda _: True)
        for (source, target), result in zip(pairs, found, strict=True):
            with tally.of(source, target):
                if isinstance(result, Exception):
                    raise result
                told(source, target, result)
    return tally.close()


def each_together(
    pairs: Sequence[tuple[Path, Path]],
    load: Callable[[Path, Path], _In],
    work: Callable[[list[_In]], list[_Out]],
    save: Callable[[Path, Path, _In, _Out], None],
    most: int,
    tally: Tally,
) -> int:
    """`each` for work that is done on `most` sources at a time; if that fails, on each of them alone."""
    for start in range(0, len(pairs), most):
        batch: list[tuple[Path, Path, _In]] = []
        for source, target in pairs[start : start + most]:
            with tally.of(source, target):
                _check_file(source)
                batch.append((source, target, load(source, target)))
        if not batch:
            continue
        try:
            done: list[_Out] | None = work([item for _, _, item in batch])
        except _FAILURES:
            done = None
        for i, (source, target, item) in enumerate(batch):
            with tally.of(source, target):
                save(source, target, item, work([item])[0] if done is None else done[i])
    return tally.close()


def _check_file(source: Path) -> None:
    if source.is_dir():
        raise ConfigError(f"there is no file to read in {source}")


def _one_line(name: str) -> str:
    """A name without what ends a line or moves a terminal's cursor: a name must not look like a result."""
    return "".join(ascii(c)[1:-1] if c < " " or "\x7f" <= c < "\xa0" else c for c in name)


_FAILURES = (Pc15Error, OSError, UnicodeError)
"""Reasons for which one file fails and the others go on; UnicodeError: a name that this system cannot say."""


class Tally:
    """The answer to a command on files: a row for each, failures with their reasons, and totals at the end.

    Args:
        noun: of a file.   total: how many there are, those included that are skipped.
        targets: where results go: what is said goes beside standard output, if that is one of them.
    """

    def __init__(self, answer: Answer, noun: str, total: int, targets: Iterable[Path] = ()) -> None:
        self.answer, self._noun, self._total = answer, noun, total
        self._began = time.perf_counter()
        self._skipped = self._failed = 0
        self._sums: dict[str, int] = {}
        if STANDARD in targets:
            answer.beside_data()
        answer.begin_list("files")

    @contextlib.contextmanager
    def of(self, source: Path, target: Path) -> Iterator[None]:
        """Work on one source; a failure is counted and reported."""
        try:
            yield
        except BrokenPipeError:
            raise
        except _FAILURES as error:
            named = str(source) in str(error) or str(target) in str(error)
            complain(str(error) if named else f"{source}: {error}")
            self.answer.row("files", {"source": str(source), "error": str(error)})
            self._failed += 1

    def done(self, source: Path, target: Path, said: str, sums: Mapping[str, int], **fields: Any) -> None:
        """A file that is done.

        Args:
            said: for people, behind the target's name.
            sums: whole numbers of it that are added up over all files.   fields: more of it.
        """
        name = "standard output" if target == STANDARD else _one_line(str(target))
        row = {"source": str(source), "target": str(target), **sums, **fields}
        self.answer.row("files", row, f"{name}: {said}")
        for key, number in sums.items():
            self._sums[key] = self._sums.get(key, 0) + number

    def skipped(self, source: Path, target: Path) -> None:
        """A file whose target was there already."""
        self.answer.row("files", {"source": str(source), "target": str(target), "skipped": True})
        self._skipped += 1

    def close(self) -> int:
        """Totals, and the exit code of the command."""
        seconds = time.perf_counter() - self._began
        done = self._total - self._skipped - self._failed
        total: dict[str, Any] = {"files": self._total, "done": done}
        total |= {"skipped": self._skipped, "failed": self._failed, **self._sums, "seconds": round(seconds, 3)}
        bits = 8 * self._sums.get("bytes", 0)
        if pixels := self._sums.get("pixels", 0):
            total["bpp"] = bits / pixels
        self.answer.put(total=total)
        if self._total > 1:
            said = [count(done, self._noun)] + [f"{self._skipped} skipped"] * (self._skipped > 0)
            said += [f"{pixels / 1e6:.1f} megapixels, {bits // 8} bytes, {bits / pixels:.4f} bpp"] if pixels else []
            self.answer.say(f"{', '.join(said)}, {seconds:.1f} s")
        if self._failed and self._total > 1:
            complain(f"{self._failed} of {self._total} failed, the others are done")
        return FAILED if self._failed else DONE
