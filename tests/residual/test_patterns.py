"""Patterns in squares: the packaged codebook, its syntax, how layers are drawn, and what the decoder refuses."""

from __future__ import annotations

from fractions import Fraction
from math import isqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from pc15.errors import BitstreamError, MissingTableError
from pc15.residual.bits import filter_decisions
from pc15.residual.context_models import ENCODE, FILL, MODE, TAPE, rans_bytes
from pc15.residual.contexts import MAX_LAYERS
from pc15.residual.decode import decode_residual, empty_field, read_field
from pc15.residual.enc.encode import ResidualParams, encode_residual
from pc15.residual.enc.scratch import Parts
from pc15.residual.initial_models import start_models
from pc15.residual.intra import MODES
from pc15.residual.patterns import (
    DRAWN_SIDES,
    SQUARES_FILE,
    Patterns,
    add_layer,
    digest,
    layers_of,
    no_patterns,
    patterns_for,
    read_books,
    squares,
)
from pc15.residual.reconstruct import Canvas, work
from pc15.residual.syntax import MAX_AMOUNT, RIM, ROOM, BlockMap
from pc15.residual.tools import PATTERNS
from pc15.residual.tree import write_plane
from pc15.residual.wiener import no_loop
from pc15learn.codebooks.squares import draw_entries, read_entries

SHA256 = "58931013245391e8e69c12032105db5765507e97b9684e1e7fddcaa64c0966b8"


def test_the_packaged_codebook_is_the_one_that_streams_name() -> None:
    assert digest(read_books(SQUARES_FILE)) == SHA256


@pytest.mark.parametrize(("side", "book"), [*zip(DRAWN_SIDES, read_books(SQUARES_FILE), strict=True)])
def test_generators_draw_the_packaged_patterns(side: int, book: np.ndarray) -> None:
    entries = read_entries(SQUARES_FILE)[side]
    some = np.arange(0, len(book), 1 if side < 32 else 8)
    assert np.array_equal(draw_entries(side, entries[some]), book[some])
    assert (np.abs(book).max(axis=(1, 2)) == 127).all()
    assert len(np.unique(book.reshape(len(book), -1), axis=0)) == len(book)


@njit
def added(entry: int, amount: int, log2: int, step: int, patterns: Patterns, pred: np.ndarray) -> None:
    add_layer(entry, amount, log2, step, patterns, pred)


@settings(max_examples=60, deadline=None)
@given(
    log2=st.integers(3, 6), entry=st.integers(0, 126), amount=st.integers(-MAX_AMOUNT, MAX_AMOUNT),
    step=st.sampled_from((70, 1000, 8192, 65536)),
)  # fmt: skip
def test_a_layer_is_its_amount_of_steps_of_a_pattern_of_unit_norm(log2: int, entry: int, amount: int, step: int):
    n, pattern = 1 << log2, read_books(SQUARES_FILE)[log2 - 3][entry].astype(int)
    before = np.arange(64 * 64, dtype=np.int32).reshape(64, 64) % 4096
    pred = before.copy()
    added(entry, amount, log2, step, squares(), pred)
    norm = Fraction(isqrt(int((pattern**2).sum()) << 20), 1024)
    wanted = [[Fraction(amount * step * int(p), 16) / norm for p in row] for row in pattern]
    for y, x in np.ndindex(n, n):
        exact = min(1 << 15, max(-(1 << 15), wanted[y][x]))
        assert abs(pred[y, x] - before[y, x] - exact) < Fraction(6, 10) + abs(exact) / 1000
    pred[:n, :n] = before[:n, :n]
    assert np.array_equal(pred, before)


def written(field: BlockMap, step: int) -> bytes:
    """The payload of a field, without a filter."""
    io = np.zeros(TAPE + 8 * ROOM, np.int64)
    io[MODE], io[FILL] = ENCODE, TAPE
    stack, around = np.zeros((20, 3), np.int64), np.zeros(38 * RIM, np.int32)
    rec = np.zeros((4 * field.size.shape[0], 4 * field.size.shape[1]), np.int32)
    on = Canvas(rec, rec, 200, work(), no_patterns())
    assert write_plane(start_models(step, PATTERNS), io, field, on, 0, field.on.size, 0, stack, around) == field.on.size
    head = filter_decisions(0, no_loop((1, 1)), 0)
    return rans_bytes(np.concatenate((head, io[TAPE : io[FILL]]))).tobytes()


def random_field(seed: int, h: int = 128, w: int = 192) -> BlockMap:
    """Squares of one size per superblock, layers of any number, entry and amount, and no levels."""
    rng = np.random.default_rng(seed)
    field = empty_field(h, w, PATTERNS)
    for y in range(0, h // 4, 16):
        for x in range(0, w // 4, 16):
            field.on[y // 16, x // 16] = 1
            log2 = int(rng.integers(3, 7))
            units = 1 << log2 - 2
            field.size[y : y + 16, x : x + 16] = log2
            for v in range(y, y + 16, units):
                for u in range(x, x + 16, units):
                    field.mode[v : v + units, u : u + units] = rng.integers(MODES)
                    count = int(rng.integers(MAX_LAYERS + 1))
                    field.layers[v : v + units, u : u + units] = count
                    for i in range(count):
                        entry = rng.integers(patterns_for(PATTERNS).counts[log2 - 2])
                        amount = int(rng.choice([1, 2, 14, 15, 16, 100, MAX_AMOUNT])) * int(rng.choice([-1, 1]))
                        field.entry[v + (i >> 1), u + (i & 1)], field.amount[v + (i >> 1), u + (i & 1)] = entry, amount
    return field


@pytest.mark.parametrize("seed", range(4))
def test_layers_are_read_as_they_were_written(seed: int) -> None:
    field = random_field(seed)
    found, _, _, _ = read_field(written(field, 20), 128, 192, 20, PATTERNS)
    assert layers_of(found) == layers_of(field)
    assert len(layers_of(field)) > 10
    for part in ("mode", "size", "layers", "active"):
        assert np.array_equal(getattr(found, part), getattr(field, part))


def test_an_entry_that_the_codebook_lacks_is_damage() -> None:
    field = random_field(1)
    side = int(np.argmin(patterns_for(PATTERNS).counts[1:])) + 1
    field.on[:], field.size[:], field.layers[:] = 1, side + 2, 0
    field.layers[: 1 << side, : 1 << side] = 1
    for entry, fine in ((int(patterns_for(PATTERNS).counts[side]) - 1, True), (1022, False)):
        field.entry[0, 0], field.amount[0, 0] = entry, 3
        payload = written(field, 20)
        if fine:
            decode_residual(payload, np.full((128, 192), 2048, np.int32), 20, PATTERNS)
        else:
            with pytest.raises(BitstreamError, match="codebook lacks"):
                decode_residual(payload, np.full((128, 192), 2048, np.int32), 20, PATTERNS)


def test_a_drawn_pattern_is_coded_as_a_layer_of_it() -> None:
    pattern = read_books(SQUARES_FILE)[1][3].astype(float)
    picture = np.full((64, 64), 2048, np.int32)
    picture[16:32, 32:48] += np.rint(pattern / np.sqrt((pattern**2).sum()) * 4096).astype(np.int32)
    grey, shares = np.full_like(picture, 2048), []
    for layers in (0, 1):
        params = ResidualParams(20, tools=PATTERNS, parts=Parts(layers=layers))
        code = encode_residual(picture - grey, grey, params)
        assert np.array_equal(decode_residual(code.payload, grey, 20, PATTERNS), code.reconstruction)
        shares.append((code.stats["share_drawn"], len(code.payload)))
    assert shares[0][0] == 0 and shares[1][0] > 0
    assert shares[1][1] < shares[0][1]


def test_a_damaged_codebook_says_so(tmp_path: Path) -> None:
    path = tmp_path / "book.npz"
    with pytest.raises(MissingTableError, match="missing or damaged"):
        read_books(path)
    path.write_bytes(SQUARES_FILE.read_bytes()[:5000])
    with pytest.raises(MissingTableError, match="missing or damaged"):
        read_books(path)
    np.savez(path, **{f"pixels_{side}": np.zeros((1, side, side), np.int16) for side in DRAWN_SIDES})
    with pytest.raises(MissingTableError, match="another version"):
        read_books(path)
