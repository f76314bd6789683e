"""Loops that begin as plain Python: the same results compiled, and no numba before it pays."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pc15
from pc15.bitstream import sections as section_walk
from pc15.bitstream.enc import dc_choice
from pc15.entropy import rans_loops
from pc15.entropy.rans_loops import PLACE, STATE_LOW, STOP, WORDS, pull, push
from pc15.entropy.tables import FlatTables, build_rans_tables
from pc15.runtime.tiered import TieredJit

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
MODULES = rans_loops, section_walk, dc_choice
ALL = [(module, loop) for module in MODULES for loop in vars(module).values() if isinstance(loop, TieredJit)]
count_lists = st.lists(st.lists(st.integers(0, 100), min_size=1, max_size=30), min_size=1, max_size=4)
both = pytest.mark.parametrize("way", ["as_written", "compiled"])


def flat_tables(counts: list[list[int]]) -> FlatTables:
    return FlatTables.of([*build_rans_tables({str(i): c for i, c in enumerate(counts)}).values()])


def ints(values: list[int]) -> np.ndarray:
    return np.asarray(values, np.int64)


@st.composite
def shares(draw: st.DrawFn, symbols: int, parts: int) -> list[int]:
    """Numbers of symbols of each of some parts, which follow each other."""
    cuts = sorted(draw(st.lists(st.integers(0, symbols), min_size=parts - 1, max_size=parts - 1)))
    return [stop - start for start, stop in zip([0, *cuts], [*cuts, symbols], strict=True)]


@given(count_lists, st.data())
def test_symbols_are_coded_alike_both_ways(counts: list[list[int]], data: st.DataObject) -> None:
    flat = flat_tables(counts)
    numbers = ints(data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=60)))
    reach = data.draw(st.sampled_from([0, 0, 1]))  # now and then beyond the alphabet
    symbols = ints([data.draw(st.integers(-reach, len(counts[n]) - 1 + reach)) for n in numbers])
    streams, phases = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    bounds = np.append(0, np.cumsum(data.draw(shares(len(numbers), streams * phases))))
    own = [[i for p in range(phases) for i in range(*bounds[p * streams + s :][:2])] for s in range(streams)]
    coded = []
    for way in ("as_written", "compiled"):
        out, coders = np.zeros(2 * len(numbers), np.uint8), np.zeros((streams, WORDS), np.int64)
        coders[:, :2] = [(STATE_LOW, 2 * end) for end in itertools.accumulate(map(len, own))]
        bad = getattr(push, way)(numbers, symbols, bounds, flat.first, flat.cum, coders.reshape(-1), out)
        coded.append((bad, coders.tolist(), out.tobytes()))
    assert coded[0] == coded[1]
    wrong = [[i for i in one if not 0 <= symbols[i] < len(counts[numbers[i]])] for one in own]
    assert coded[0][0] == next((one[-1] for one in wrong if one), -1)


@given(count_lists, st.binary(max_size=40), st.data())
def test_bytes_are_read_alike_both_ways(counts: list[list[int]], read: bytes, data: st.DataObject) -> None:
    flat = flat_tables(counts)
    numbers = ints(data.draw(st.lists(st.integers(0, len(counts) - 1), max_size=60)))
    streams = data.draw(st.integers(1, 3))
    bounds = np.append(0, np.cumsum(data.draw(shares(len(numbers), streams))))
    stops = np.cumsum(data.draw(shares(len(read), streams)))
    states = data.draw(st.lists(st.integers(STATE_LOW, (STATE_LOW << 8) - 1), min_size=streams, max_size=streams))
    found = []
    for way in ("as_written", "compiled"):
        symbols, coders = np.zeros(len(numbers), np.int64), np.zeros((streams, WORDS), np.int64)
        coders[:, 0], coders[:, PLACE], coders[:, STOP] = states, [0, *stops[:-1]], stops
        tables = flat.first, flat.cum, flat.hints
        end = getattr(pull, way)(numbers, bounds, *tables, coders.reshape(-1), np.frombuffer(read, np.uint8), symbols)
        found.append((end, coders.tolist(), symbols.tolist()))
    assert found[0] == found[1]
    assert all(coder[PLACE] <= stop for coder, stop in zip(found[0][1], stops, strict=True))


@both
@given(st.integers(0, 4), st.integers(1, 4), st.booleans(), st.data())
def test_levels_come_back_from_their_residuals(
    way: str, sections: int, nx: int, first: bool, data: st.DataObject
) -> None:
    size = sections * nx
    row, above = (data.draw(st.lists(st.integers(0, 200), min_size=size, max_size=size)) for _ in range(2))
    above = [] if first else above
    walk = getattr(section_walk._walk_dc, way)
    residuals, levels = np.zeros(size, np.int64), np.zeros(size, np.int64)
    walk(ints(row), residuals, ints(above), nx, 50, 0)
    for at, (level, residual) in enumerate(zip(row, residuals.tolist(), strict=True)):
        column, start = at % nx, at - at % nx
        assert level == section_walk.predict_dc(above[start : start + nx], row[at - 1], column, 50) + residual
    walk(levels, residuals, ints(above), nx, 50, 1)
    assert levels.tolist() == row


def test_a_loop_calls_only_functions_of_its_package() -> None:
    assert len(ALL) == 4
    for module, loop in ALL:
        package = module.__name__.split(".")[:2]
        for function in (loop.plain, *loop._helpers):
            assert function.__module__.split(".")[:2] == package


def test_numba_waits_until_a_process_has_coded_much() -> None:
    shown = []
    for steps in (0, 1 << 20):
        code = (
            "import sys, zlib; from pathlib import Path\n"
            "from pc15.decoder import decode; from pc15.runtime.tiered import TieredJit\n"
            f"TieredJit.steps = {steps}\n"
            f"picture = decode(Path({str(GOLDEN / 'everything.pc15')!r}).read_bytes())\n"
            "print('numba' in sys.modules, zlib.crc32(picture.numpy().tobytes()))"
        )
        root = Path(pc15.__file__).parents[1]
        ran = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
        shown.append(ran.stdout.split())
    assert [loaded for loaded, _ in shown] == ["False", "True"]
    assert shown[0][1] == shown[1][1]
