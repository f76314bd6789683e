"""Planes without layers are the same in NumPy as where torch draws them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from pc15.bitstream import Header, PlaneSpec
from pc15.bitstream.header import tile_counts
from pc15.bitstream.programs import Programs
from pc15.draw import predict_plane
from pc15.flat import flat_plane, is_flat
from pc15.proc.codebook import load_codebook
from pc15.quant import dc_levels

CODEBOOK = load_codebook("v15_grid")
CPU = torch.device("cpu")


def spec(tile: int, overlap: int, dc_step: int = 30) -> PlaneSpec:
    """Tiles of a luma plane."""
    return PlaneSpec(tile=tile, overlap=overlap, window=0, subsample=0, amp_step=20, dc_step=dc_step)


@pytest.mark.parametrize(
    ("width", "height", "own", "under"),
    [
        (1, 1, spec(4, 0), None),
        (16, 16, spec(16, 4), None),
        (97, 1, spec(16, 5, 4), spec(64, 0, 42)),
        (1, 97, spec(8, 7, 42), None),
        (130, 61, spec(32, 31), spec(256, 24)),
        (200, 130, spec(4, 3, 12), spec(48, 7, 12)),
        (300, 40, spec(1024, 1023), None),
    ],
)
def test_a_plane_without_layers_is_the_same_with_and_without_torch(
    width: int, height: int, own: PlaneSpec, under: PlaneSpec | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, rng = Header(width, height, 0, (dataclasses.replace(own, under=under),)), np.random.default_rng(width)
    programs = []
    for which, grid in enumerate(header.grids):
        programs.append(Programs.empty(int(np.prod(tile_counts(header, which)))))
        programs[-1].dc[:] = rng.integers(0, dc_levels(grid.spec.dc_step), programs[-1].tiles)
    assert is_flat(programs)
    expected = predict_plane(programs, header, 0, CODEBOOK, CPU).numpy()
    for pixels in (1, 1 << 20):  # a row at a time, and all at once
        monkeypatch.setattr("pc15.flat._ROWS_PIXELS", pixels)
        drawn = flat_plane(programs, header, 0)
        assert drawn.dtype == np.int32 and np.array_equal(drawn, expected)


def test_one_layer_anywhere_is_not_flat() -> None:
    coarse, fine = Programs.empty(2), Programs.empty(9)
    assert is_flat([coarse, fine]) and is_flat([])
    coarse.count[1] = 1
    assert not is_flat([coarse, fine])
