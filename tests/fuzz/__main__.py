"""Feed the decoder what no encoder wrote: it may refuse, or draw, but nothing else.

    NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=/tmp/checked python -m tests.fuzz residual --cases 20000 --seed 0

With NUMBA_BOUNDSCHECK=1 compiled loops check every index, and one that is out of bounds ends here as an IndexError;
its own cache folder keeps loops with and without the checks apart.  The same seed gives the same cases.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np

from pc15.errors import BitstreamError
from pc15.residual.context_models import DECODE, MODE, POS, RANS_LOW, STATE, TAPE
from pc15.residual.decode import STEPS, decode_residual
from pc15.residual.tools import ALL_TOOLS
from pc15.residual.wiener import code_loop, loop_models, no_loop, wiener


def residual(rng: np.random.Generator) -> None:
    """A residual of random bytes: half of the decisions it makes are as likely as in real ones."""
    h, w = (int(side) for side in rng.integers(1, 100, 2))
    payload = bytes([rng.integers(1, 256)]) + rng.bytes(int(rng.integers(3, 240)))
    tools = int(rng.integers(ALL_TOOLS + 1))
    decode_residual(payload, np.full((h, w), rng.integers(0, 4097), np.int32), int(rng.integers(STEPS)), tools)


def wiener_filter(rng: np.random.Generator) -> None:
    """A filter read from random bytes, which may run out, upon a picture: what it says is never out of bounds."""
    rows, cols = (int(side) for side in rng.integers(1, 3, 2))
    picture = rng.integers(-600, 4700, (64 * rows - 8 * int(rng.integers(8)), 64 * cols - 8 * int(rng.integers(8))))
    data = rng.bytes(int(rng.integers(4, 400)))
    io = np.concatenate((np.zeros(TAPE, np.int64), np.frombuffer(data, np.uint8).astype(np.int64)))
    io[STATE], io[POS], io[MODE] = max(RANS_LOW, int.from_bytes(data[:4], "big")), TAPE + 4, DECODE
    loop = no_loop((rows, cols))
    code_loop(loop_models(), io, loop)
    wiener(picture.astype(np.int32), loop)


KINDS: dict[str, Callable[[np.random.Generator], None]] = {"residual": residual, "wiener": wiener_filter}


def run(kind: str, cases: int, seed: int) -> dict[str, int]:
    """Try so many cases; returns how many were drawn and how many refused.

    Raises:
        AssertionError: naming the case, if one ended in anything but a picture or a BitstreamError.
    """
    ends = {"drawn": 0, "refused": 0}
    for case in range(cases):
        try:
            KINDS[kind](np.random.default_rng((seed, case)))
        except BitstreamError:
            ends["refused"] += 1
        except Exception as error:
            raise AssertionError(f"case {case} of {kind} with seed {seed}: {error!r}") from error
        else:
            ends["drawn"] += 1
    return ends


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    ends = run(args.kind, args.cases, args.seed)
    print(f"{args.kind}: {args.cases} cases from seed {args.seed}, {ends['drawn']} drawn, {ends['refused']} refused")


if __name__ == "__main__":
    main()
