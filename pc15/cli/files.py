"""Which files a command reads and writes, and how it goes on when one of them is bad."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

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
    """Where each source's result goes: `given` itself for a single one, or a file in the folder of that name."""
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


def each(pairs: Sequence[tuple[Path, Path]], one: Callable[[Path, Path], None]) -> int:
    """Do one after the other; a bad one is reported and the others are still done."""
    failed = 0
    for source, target in pairs:
        try:
            one(source, target)
        except BrokenPipeError:
            raise
        except (Pc15Error, OSError) as error:
            named = str(source) in str(error) or str(target) in str(error)
            complain(str(error) if named else f"{source}: {error}")
            failed += 1
    if failed and len(pairs) > 1:
        complain(f"{failed} of {len(pairs)} failed, the others are done")
    return FAILED if failed else DONE
