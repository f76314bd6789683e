"""Nothing that a stream says is taken as an index unchecked: the fuzzer finds no way out of bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pc15.bitstream import read_container
from pc15.errors import BitstreamError
from tests.fuzz.__main__ import KINDS, changed, corpus, mended, run

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("residual", "wiener")])
def test_a_stream_that_no_encoder_wrote_is_refused_or_drawn(kind: str) -> None:
    """Some hundred cases of each kind; `python -m tests.fuzz all --cases 1000000` tries more."""
    ends = run(kind, 500, seed=0)
    assert min(ends.values()) > 50, "a kind that is always refused, or never, finds nothing"


def test_cases_are_the_same_each_time() -> None:
    first, again = (changed(np.random.default_rng((3, 4)), corpus()[7]) for _ in range(2))
    assert first == again != corpus()[7]


def test_mended_streams_pass_their_checksums() -> None:
    for data in corpus():
        assert mended(data) == data
    passed = 0
    for case in range(200):
        rng = np.random.default_rng(case)
        data = corpus()[int(rng.integers(len(corpus())))]
        flipped = bytearray(data)
        flipped[-5] ^= 1 << int(rng.integers(8))  # the last chunk's last byte
        with pytest.raises(BitstreamError):
            read_container(bytes(flipped))
        try:
            read_container(mended(bytes(flipped)))
        except BitstreamError as error:
            assert "metadata" in str(error) or "byte" in str(error)
        else:
            passed += 1
    assert passed > 150


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cases"), [("residual", 20000), ("wiener", 2000)])
def test_nothing_reaches_out_of_bounds(kind: str, cases: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    checked = tmp_path_factory.getbasetemp() / "checked"
    ran = subprocess.run(
        [sys.executable, "-m", "tests.fuzz", kind, "--cases", str(cases)],
        cwd=ROOT,
        env=os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(checked)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert f"{kind}: {cases} cases" in ran.stdout
