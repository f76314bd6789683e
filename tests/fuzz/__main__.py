"""Feed the decoder what no encoder wrote: it may refuse, or draw, but nothing else.

    python -m tests.fuzz mutation --cases 1000000 --seed 1
    NUMBA_BOUNDSCHECK=1 NUMBA_CACHE_DIR=/tmp/checked python -m tests.fuzz residual --cases 20000 --seed 0

With NUMBA_BOUNDSCHECK=1 compiled loops check every index, and one that is out of bounds ends here as an IndexError;
its own cache folder keeps loops with and without the checks apart.  The same seed gives the same cases, and any of
them can be had alone: `--first 4711 --cases 1`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import time
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from pc15.bitstream import Stream, read_container, write_container
from pc15.bitstream.alphabets import numbered
from pc15.bitstream.container import _crc
from pc15.bitstream.header import CRC_BYTES, PAYLOAD_RAW, residual_count, section_count
from pc15.bitstream.header_bytes import unpack_v15
from pc15.bitstream.read import read_programs
from pc15.bitstream.varints import read_varint
from pc15.cli.info import _described, _tile_map
from pc15.decoder import decode_stream
from pc15.entropy.tables import TableSet
from pc15.errors import BitstreamError
from pc15.residual.context_models import DECODE, MODE, POS, RANS_LOW, STATE, TAPE
from pc15.residual.decode import STEPS, decode_residual
from pc15.residual.tools import ALL_TOOLS, BORDERS, CHROMA_TOOLS, TOOLS
from pc15.residual.wiener import code_loop, loop_models, no_loop, wiener

GOLDEN = Path(__file__).parents[1] / "golden"
LARGEST = 1 << 14
"""Pixels of the corpus's pictures: small ones say as much, sooner."""
MAX_PIXELS = 1 << 16
"""Pixels of a mutated stream: a changed size is drawn, too, but not for seconds."""


@functools.cache
def corpus() -> tuple[bytes, ...]:
    """Golden streams of small pictures, every tool of the format among them."""
    found = [path.read_bytes() for path in sorted(GOLDEN.glob("*.pc15"))]
    return tuple(data for data in found if (h := unpack_v15(data)[0]).width * h.height <= LARGEST)


# ---------------------------------------------------------------- what is done to bytes


def changed(rng: np.random.Generator, data: bytes) -> bytes:
    """One to three changes at random places: a bit, a byte, a run lost, doubled, or taken from somewhere else."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        at, length = int(rng.integers(len(out) + 1)), int(rng.integers(1, 9))
        kind = rng.integers(6)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << int(rng.integers(8))
        elif kind == 1 and at < len(out):
            out[at] = int(rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))]))
        elif kind == 2:
            del out[at : at + length]
        elif kind == 3:
            out[at:at] = out[at : at + length]
        elif kind == 4:
            out[at:at] = rng.bytes(length)
        else:
            start = int(rng.integers(len(out) + 1))
            out[at : at + length] = out[start : start + length]
    return bytes(out)


def mended(data: bytes) -> bytes:
    """A stream whose header has the right CRC, and so have all chunks that its lengths still find."""
    end = _header_end(data)
    if end is None:
        return data
    head = data[:end] + zlib.crc32(data[:end]).to_bytes(CRC_BYTES, "big")
    rest = data[end + CRC_BYTES :]
    with contextlib.suppress(BitstreamError):
        header, _ = unpack_v15(head, max_pixels=MAX_PIXELS)
        chunks, lengths, at = section_count(header) + residual_count(header) + header.has_metadata, [], 0
        while len(lengths) < min(chunks, len(rest)):
            length, at = read_varint(rest, at, "a length")
            lengths.append(length)
        out = bytearray(rest[:at])
        for index, length in enumerate(lengths):
            chunk = rest[at : at + length]
            out += chunk + _crc(int.from_bytes(head[-CRC_BYTES:], "big"), index, chunk)
            at += length + CRC_BYTES
        rest = bytes(out) + rest[at:]
    return head + rest


def _header_end(data: bytes) -> int | None:
    """Where the CRC of a header lies, as its fields say, whatever the CRC; None if they cannot be read."""
    seen: list[bytes] = []

    def note(fields: bytes) -> int:
        seen.append(bytes(fields))
        return 0

    with mock.patch("pc15.bitstream.header_bytes.zlib.crc32", note), contextlib.suppress(BitstreamError):
        unpack_v15(data)
    return len(seen[0]) if seen else None


# ---------------------------------------------------------------- kinds of cases


def residual(rng: np.random.Generator) -> None:
    """A residual of random bytes: half of the decisions it makes are as likely as in real ones."""
    h, w = (int(side) for side in rng.integers(1, 100, 2))
    payload = bytes([rng.integers(1, 256)]) + rng.bytes(int(rng.integers(3, 240)))
    tools = sum(bit for bit in TOOLS.values() if rng.random() < 0.5)
    tools &= ~BORDERS if tools & CHROMA_TOOLS else ALL_TOOLS
    guides = rng.integers(0, 4081, (rng.integers(1, 3), h, w)).astype(np.int16) if tools & CHROMA_TOOLS else None
    below, step = np.full((h, w), rng.integers(0, 4097), np.int32), int(rng.integers(STEPS))
    decode_residual(payload, below, step, tools, guides=guides)


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


def mutation(rng: np.random.Generator) -> None:
    """A golden stream, changed as a whole."""
    _open(rng, changed(rng, _one(rng)))


def repaired(rng: np.random.Generator) -> None:
    """A golden stream, changed, whose CRCs and lengths are right again: what a checksum does not stop."""
    _open(rng, mended(changed(rng, _one(rng))))


def payload(rng: np.random.Generator) -> None:
    """Payloads of a golden stream, changed or made up, in a container that is right."""
    stream = read_container(_one(rng))

    def made(old: bytes | None) -> bytes:
        kind = rng.integers(4)
        if kind == 0:
            return old or b""
        return rng.bytes(int(rng.integers(40))) if kind == 1 else changed(rng, old or b"\0")

    sections, residuals = ([made(old) for old in part] for part in (stream.sections, stream.residuals))
    _open(rng, write_container(Stream(stream.header, [*sections], stream.metadata, [], [*residuals])))


def symbols(rng: np.random.Generator) -> None:
    """Programs of random symbols: RAW sections, each symbol one that its table has, many of them the likely ones."""
    width, height = (int(side) for side in rng.integers(1, 80, 2))
    header = replace(unpack_v15(_one(rng))[0], payload_fmt=PAYLOAD_RAW, width=width, height=height, has_metadata=False)
    sections, residuals = [b"\0\0" * (1 << 15)] * section_count(header), [b""] * residual_count(header)
    with mock.patch("pc15.bitstream.read.RawReader", functools.partial(_Guesser, rng)):
        _open(rng, write_container(Stream(header, [*sections], residuals=[*residuals])))


class _Guesser:
    """Hands out symbols that no bytes hold: of every table one that it has."""

    decoding = True
    sections = 1

    def __init__(self, rng: np.random.Generator, tables: TableSet, data: bytes) -> None:
        self._rng, self._sizes = rng, numbered(tables).sizes
        self._ones = rng.random() * 0.9  # how often a symbol is 1: a layer, a merged one, one that is refined

    def code(self, kind: str, numbers: np.ndarray, symbols: object, ends: object = None) -> np.ndarray:
        sizes = self._sizes[numbers]
        one = self._rng.random(len(numbers)) < self._ones
        return np.where(one, np.minimum(1, sizes - 1), self._rng.integers(0, sizes)).astype(np.int64)

    def finish(self) -> None:
        """Nothing is left over."""


KINDS: dict[str, Callable[[np.random.Generator], None]] = {
    "residual": residual,
    "wiener": wiener_filter,
    "mutation": mutation,
    "repaired": repaired,
    "payload": payload,
    "symbols": symbols,
}


def _one(rng: np.random.Generator) -> bytes:
    return corpus()[int(rng.integers(len(corpus())))]


def _open(rng: np.random.Generator, data: bytes) -> None:
    """Open a stream strictly, leniently, or as `pc15 info` does."""
    way = ("strict", "lenient", "info")[int(rng.integers(3))]
    if way == "info":
        inspected(data)
        return
    decoded = decode_stream(data, strict=way == "strict", max_pixels=MAX_PIXELS)
    header = decoded.header
    assert decoded.planes[0].shape == (header.height, header.width)
    assert way == "lenient" or not decoded.damage


def inspected(data: bytes) -> None:
    """Make all that `pc15 info --tiles` says of a stream."""
    header, programs, metadata, damage = read_programs(data, strict=False, max_pixels=MAX_PIXELS)
    _described(data, header, programs, metadata, damage)
    _tile_map(header, programs)


def run(kind: str, cases: int, seed: int, first: int = 0) -> dict[str, int]:
    """Try so many cases; returns how many were drawn and how many refused.

    Raises:
        AssertionError: naming the case, if one ended in anything but a picture or a BitstreamError.
    """
    ends = {"drawn": 0, "refused": 0}
    for case in range(first, first + cases):
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
    """Try cases of one kind, or of all."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[*KINDS, "all"])
    parser.add_argument("--cases", type=int, default=20_000, help="of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    args = parser.parse_args()
    logging.getLogger("pc15").setLevel(logging.ERROR)  # what is concealed
    for kind in KINDS if args.kind == "all" else [args.kind]:
        began = time.perf_counter()
        ends = run(kind, args.cases, args.seed, args.first)
        print(
            f"{kind}: {args.cases} cases from seed {args.seed}, {ends['drawn']} drawn, {ends['refused']} refused, "
            f"{time.perf_counter() - began:.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
