"""Cells of a bank: every row lies in one, they are the same whenever they are made, and all of them are the bank."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from pc15.config import CodecConfig
from pc15.decoder import decode_y
from pc15.encoder import encode_y
from pc15.errors import ConfigError
from pc15.proc.codebook import Codebook, load_codebook
from pc15.search import cells as made_of
from pc15.search.backend.protocol import TileBatch, TileTerms
from pc15.search.bank import Bank, get_bank
from pc15.search.cells import Cells, nearest
from pc15.search.label import lone_scorer
from pc15.search.windows import Surroundings

FEW = Codebook("few", tuple(entry[::12] for entry in load_codebook("v15_grid").entries))
CPU = torch.device("cpu")
SEARCH = CodecConfig.preset(
    "fast", tile=16, overlap=4, residual=False, max_layers=2, lambda_rd=0.2, codebook_id="v15_grid", device="cpu"
)


AROUND = Surroundings.of(SEARCH, blended=True)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return get_bank(16, FEW, 0, CPU)


@pytest.fixture
def uncached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(made_of, "cache_dir", lambda: tmp_path)
    return tmp_path / "banks"


def explained(pixels: Tensor, centroids: Tensor) -> Tensor:
    """Share of each pattern that each centroid explains, [K,C]."""
    unit, wide = (p.double() / p.double().norm(dim=1, keepdim=True).clamp(min=1e-9) for p in (pixels, centroids))
    return (unit @ wide.t()).square()


def test_every_row_lies_in_the_cell_it_is_most_like(bank: Bank, uncached: Path) -> None:
    assert bank.seen is not None
    cells = Cells.of_bank(bank, bank.seen, AROUND)
    assert len(cells) == max(1, min(8192, bank.rows // 8))
    members = cells.rows_as(bank.terms(False, AROUND))
    assert torch.equal(members.rows.sort().values, torch.arange(bank.rows))
    assert members.start[0] == 0 and members.start[-1] == bank.rows
    assert torch.equal(members.terms.pixels, bank.seen[members.rows])
    for c in range(len(cells)):
        own = members.rows[members.start[c] : members.start[c + 1]]
        assert (cells.of[own] == c).all() and torch.equal(own, own.sort().values)
    share = explained(bank.seen, cells.centroids.pixels)
    own, best = share.gather(1, cells.of[:, None])[:, 0], share.amax(dim=1)
    assert torch.allclose(own, best, atol=1e-6)
    random = explained(bank.seen, bank.seen[torch.arange(len(cells)) * 7 % bank.rows]).amax(dim=1)
    assert own.mean() > random.mean() + 0.02  # k-means gathers better than any rows would


def test_cells_are_the_same_made_again_and_read_again(
    bank: Bank, uncached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bank.seen is not None
    made, read = (Cells.of_bank(bank, bank.seen, AROUND) for _ in range(2))
    for path in sorted(uncached.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    again = Cells.of_bank(bank, bank.seen, AROUND)
    monkeypatch.setattr(made_of, "store_arrays", lambda *_: (_ for _ in ()).throw(OSError("full")))
    elsewhere = Cells.of_centroids(bank, made.centroids.pixels, bank.seen, AROUND)
    for other in (read, again):
        assert torch.equal(other.centroids.pixels, made.centroids.pixels) and torch.equal(other.of, made.of)
    assert torch.equal(elsewhere.of, made.of)  # the same by the same centroids, kept or not


def test_a_pattern_and_its_negative_are_one(bank: Bank) -> None:
    assert bank.seen is not None
    centroids = bank.seen[:: bank.rows // 40][:40]
    flipped = torch.where(torch.arange(40)[:, None] % 2 == 0, centroids, -centroids)
    assert torch.equal(nearest(bank.seen, centroids), nearest(bank.seen, flipped))
    assert torch.equal(nearest(bank.seen, centroids), nearest(-bank.seen, centroids))
    twice = torch.cat([centroids, centroids])
    assert int(nearest(bank.seen, twice).max()) < 40  # of equal ones the first


def test_centroids_that_are_given_may_be_flat_or_get_no_row(bank: Bank, uncached: Path) -> None:
    assert bank.seen is not None
    centroids = torch.cat([torch.zeros((3, 256), dtype=torch.int8), bank.seen[:30]])
    cells = Cells.of_centroids(bank, centroids, bank.seen, AROUND)
    sizes = cells.rows_as(bank.terms(False, AROUND)).start.diff()
    assert int(sizes.sum()) == bank.rows and not sizes[1:3].any()
    assert (cells.centroids.scale[:, :3] == 0).all()
    everywhere = torch.ones((17, 16), dtype=torch.int8)
    everywhere[:, 8:] = 0
    own = TileTerms(bank.seen[3:20], everywhere, torch.zeros(17, dtype=torch.int64), torch.zeros(17))
    found = cells.index(own, 4)
    assert found.shape == (17, 4) and (found >= 0).all()
    assert (found == cells.of[3:20, None]).any(dim=1).float().mean() > 0.9


def test_cells_can_be_looked_at_at_another_resolution(bank: Bank, uncached: Path) -> None:
    assert bank.seen is not None
    cells = Cells.of_bank(bank, bank.seen, AROUND)
    whole, half = (cells.rows_as(bank.terms(small, AROUND)) for small in (False, True))
    assert cells.rows_as(bank.terms(True, AROUND)) is half
    assert torch.equal(half.rows, whole.rows) and torch.equal(half.terms.pixels, bank.halved[half.rows])


def noise(n: int) -> Tensor:
    return (torch.randn((n, 16, 16), generator=torch.Generator().manual_seed(5)) * 300).to(torch.int32)


def tiles_of(e: Tensor) -> TileBatch:
    return TileBatch(e, e + 2000, torch.zeros(len(e), dtype=torch.int64))


def test_all_cells_are_the_exhaustive_search_and_more_cells_are_no_worse() -> None:
    tiles = tiles_of(noise(12))
    rows = {count: lone_scorer(SEARCH.but(search="indexed", cells=count)).screen(tiles, 0, 40, None)
            for count in (1, 8, 8192)}  # fmt: skip
    every = lone_scorer(SEARCH.but(search="exhaustive")).screen(tiles, 0, 40, None)
    assert torch.equal(rows[8192], every)
    found = [(few == every[:, :1]).any(dim=1).sum() for few in rows.values()]
    assert found[0] <= found[1] <= found[2] == 12
    assert (rows[1] == -1).any()


def test_streams_of_all_cells_are_those_of_the_exhaustive_search() -> None:
    x = torch.arange(40)
    y = torch.where(x < 20, 128 + 100 * (x // 2 % 2), 60 + 2 * x).expand(1, 1, 40, 40).float() / 255.0
    every, few, exhaustive = (
        encode_y(y, SEARCH.but(**changes))
        for changes in (
            {"search": "indexed", "cells": 8192}, {"search": "indexed", "cells": 4}, {"search": "exhaustive"}
        )
    )  # fmt: skip
    assert every["bitstream"] == exhaustive["bitstream"]
    assert few["bitstream"] == encode_y(y, SEARCH.but(search="indexed", cells=4))["bitstream"]
    assert few.stats["layers"] > 0 and decode_y(few["bitstream"]).shape == y.shape


@pytest.mark.parametrize("cells", [0, 8193, 1.5, True])
def test_a_number_of_cells_out_of_range_is_refused(cells: object) -> None:
    with pytest.raises(ConfigError, match="cells"):
        CodecConfig(cells=cells)  # type: ignore[arg-type]
