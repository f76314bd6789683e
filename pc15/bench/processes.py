"""Times of the commands as processes: how long whoever types `pc15 decode` waits, from start to end.

Each picture is encoded, decoded and described by processes of their own, one after the other; a first round, which does
not count, fills the caches.  Times are the shortest of several.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pc15.bench.speed import Timing
from pc15.config import CodecConfig
from pc15.errors import ConfigError, Pc15Error
from pc15.images import find_images, read_luma

__all__ = ["run_processes"]


def run_processes(
    images: Sequence[str | Path],
    *,
    presets: Sequence[str] = ("fast", "balanced", "oracle"),
    device: str = "auto",
    repeats: int = 3,
    limit: int | None = None,
) -> list[Timing]:
    """Time `pc15 encode`, `decode` and `info` of pictures as they are, in colour if they have some.

    Args:
        images: pictures, or folders of them.   repeats: how often everything is timed.   limit: so many pictures.
    Raises:
        ConfigError: repeats or limit below 1.   UnknownNameError: no such preset.   ImageError: no picture.
        Pc15Error: a command failed; its last line.
    """
    if repeats < 1 or (limit is not None and limit < 1):
        raise ConfigError(f"repeats is {repeats} and limit {limit}; give at least 1")
    for preset in presets:
        CodecConfig.preset(preset)
    pictures = find_images(list(images))[:limit]
    pixels = statistics.fmean(read_luma(picture).size for picture in pictures)
    where = [] if device == "auto" else ["--device", device]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        stream, back = Path(folder) / "a.pc15", Path(folder) / "a.png"
        for preset in presets:
            spent: dict[str, list[tuple[float, float]]] = {"encode": [], "decode": [], "info": []}
            for picture in pictures:
                for command, words in (
                    ("encode", [str(picture), "-o", str(stream), "--preset", preset, *where]),
                    ("decode", [str(stream), "-o", str(back), *where]),
                    ("info", [str(stream)]),
                ):
                    _process(command, words)
                    tries = [_process(command, words) for _ in range(repeats)]
                    spent[command].append((min(s for s, _ in tries), max(mib for _, mib in tries)))
            for command, found in spent.items():
                seconds, peak = statistics.fmean(s for s, _ in found), max(mib for _, mib in found)
                note = f"{preset}, {len(pictures)} pictures"
                rate = pixels / seconds / 1e6
                rows.append(Timing(f"pc15 {command}", seconds, rate, "megapixels/s", None, peak, note))
    return rows


_COMMAND = """
import sys
from pc15.cli import main
code = main(sys.argv[1:])
try:
    print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM:")))
except OSError:
    print("nan")
sys.exit(code)
"""
"""A process like that of `pc15`, which then says its peak of memory, KiB: a parent is told of its own, too."""


def _process(command: str, words: Sequence[str]) -> tuple[float, float]:
    """Seconds and peak memory, MiB, of a command."""
    began = time.perf_counter()
    ran = subprocess.run([sys.executable, "-c", _COMMAND, command, *words, "-q"], capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if ran.returncode:
        said = ran.stderr.strip().splitlines()
        raise Pc15Error(said[-1] if said else f"pc15 {command} ended with code {ran.returncode}")
    return seconds, float(ran.stdout) / 1024
