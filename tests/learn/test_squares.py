"""The codebook of squares: made of pictures, ordered by use, the same every time, and read back as it was drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import pc15
from pc15.errors import ConfigError
from pc15.images import save_image
from pc15.residual.patterns import DRAWN_SIDES, packed, read_books
from pc15learn.cli import main
from pc15learn.codebooks import squares


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Edges, spots and waves, 128x128."""
    path = tmp_path_factory.mktemp("squares") / "one.png"
    edge, dots = (pc15.render(name, 128, 128, {}, device="cpu")[0, 0] for name in ("EDGE", "DOTS"))
    waves = pc15.render("WAVES_DIR", 128, 128, {"freq": 9.0}, device="cpu")[0, 0]
    luma = (0.5 + 0.2 * edge + 0.15 * dots + 0.05 * waves).clamp(0, 1)
    save_image(path, (255 * luma).to(torch.uint8)[None])
    return path


def test_a_codebook_is_made_of_a_picture(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squares, "TRAINED_STEPS", (18,))
    out = tmp_path / "book.npz"
    made = squares.train_squares([picture], out, most=10, random=24, crop=128)
    books, read = read_books(out), squares.read_entries(out)
    for side, book in zip(DRAWN_SIDES, books, strict=True):
        assert 0 < len(book) == len(made[side]) <= squares.ENTRIES[side]
        assert np.array_equal(squares.draw_entries(side, read[side]), book)
    with np.load(out) as table:
        assert all((np.diff(table[f"use_{side}"][:3]) <= 2).all() for side in DRAWN_SIDES)
    assert sum(squares.by_generator(out).values()) == pytest.approx(1)
    assert packed(books).counts.tolist() == [0, *map(len, books)]


def test_an_entry_that_is_not_said_to_be_minus_is_its_negative(picture: Path) -> None:
    some = squares.read_entries(squares.SQUARES_FILE)[16][np.arange(8)]
    turned = squares.SquareEntries(some.gen, some.levels, some.seed, some.anchored, ~some.minus)
    drawn = squares.draw_entries(16, some).astype(int)
    assert np.abs(drawn + squares.draw_entries(16, turned)).max() <= 1  # rounding
    assert not drawn.mean(axis=(1, 2))[~some.anchored].round().any()


def test_no_pictures_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="no pictures"):
        squares.train_squares([], tmp_path / "book.npz")
    out = str(tmp_path / "book.npz")
    assert main(["codebooks", "--squares", "--labels", "x", "--out", out]) != 0
    assert main(["codebooks", "--workers", "2", "--labels", "x", "--out", out]) != 0
    assert capsys.readouterr().err.count("--squares") == 2
