"""Trained codebooks serve such pictures, come in the order of their use, and are checked when they are read."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import pc15
from pc15.bitstream.alphabets import check_tables
from pc15.config import PROGRAMS, CodecConfig
from pc15.decoder import decode_y
from pc15.encoder import encode_y
from pc15.entropy.tables import load_table, save_tables
from pc15.errors import ConfigError, MissingTableError
from pc15.images import load_luma, luma_tensor
from pc15.metrics import psnr
from pc15.proc.codebook import Codebook, load_codebook, save_codebook
from pc15.proc.generators import NAMES, load
from pc15learn.codebooks.loops import choose_greedily, sift
from pc15learn.codebooks.train import CodebookOptions, train_codebook
from pc15learn.train_tables import CountOptions, TableJob, build_tables, starting_tables, train_tables

GRID = Codebook("few", tuple(entry[::24] for entry in load_codebook("v15_grid").entries))
SMALL: dict[str, Any] = {"crop": 128, "options": CodebookOptions(base="few", entries=200, targets=300, random=8)}
"""A coarser grid and a short training, for speed."""


def save_gray(y: torch.Tensor, path: Path) -> None:
    Image.fromarray((y * 255).round().to(torch.uint8).numpy()).save(path)


def draw_pictures(folder: Path, seed: int, count: int) -> list[Path]:
    """Gray pictures of bars of all directions and widths."""
    rng, paths = np.random.default_rng(seed), []
    for i in range(count):
        params = {"angle_deg": float(rng.uniform(0, 360)), "freq": float(rng.uniform(3.0, 9.0))}
        drawn = pc15.render("WAVES_DIR", 160, 160, params)[0, 0] * 0.3 + 0.5
        paths.append(folder / f"{seed}_{i}.png")
        save_gray(drawn, paths[-1])
    return paths


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A models folder with a codebook `tiny`, trained on bars, and tables of the same name."""
    folder = tmp_path_factory.mktemp("models")
    for name in ("codebooks", "rans", "pictures"):
        (folder / name).mkdir()
    save_codebook(folder / "codebooks" / "few.npz", GRID)
    images = draw_pictures(folder / "pictures", 1, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PC15_MODELS_DIR", str(folder))
        codebook = train_codebook(images, folder / "codebooks" / "tiny.npz", codebook_id="tiny", **SMALL)
        save_tables(folder / "rans" / "tiny.json", starting_tables(codebook, "tiny", load_table("v15_default")))
        yield folder


def cost(y: torch.Tensor, codebook_id: str, candidates: int) -> float:
    """D + lambda * R of a picture."""
    cfg = CodecConfig.preset(
        "fast", **PROGRAMS, lambda_rd=0.5, alpha_mix=0.0, candidates=candidates, codebook_id=codebook_id,
        table_id="tiny", device="cpu",
    )  # fmt: skip
    coded = encode_y(y, cfg)
    return 64 * 10 ** (-psnr(y, decode_y(coded["bitstream"])) / 10) + 0.5 * coded["bpp"]


def test_the_first_entries_serve_such_pictures_best(trained: Path, tmp_path: Path) -> None:
    tiny = load_codebook("tiny")
    assert tiny.weights is not None
    y = luma_tensor(load_luma(draw_pictures(tmp_path, 2, 1)[0]))
    backwards = Codebook("backwards", tuple(entry.flip(0) for entry in tiny.entries), tiny.weights)
    save_codebook(trained / "codebooks" / "backwards.npz", backwards)
    assert cost(y, "tiny", 40) < 0.8 * cost(y, "backwards", 40)


def test_every_generator_stays_and_no_entry_comes_twice(trained: Path) -> None:
    for gen, entry in enumerate(load_codebook("tiny").entries):
        rows = {tuple(row) for row in entry.tolist()}
        assert len(rows) == len(entry)
        assert rows >= {tuple(row) for row in GRID.entries[gen].tolist()}


def test_the_packaged_codebook_gives_the_oracle_enough_to_search() -> None:
    packaged = load_codebook("v15_trained")
    assert packaged.weights is not None
    assert sum(packaged.size(gen) * load(gen).seeds for gen in range(len(NAMES))) >= 1 << 15
    assert all(packaged.size(gen) for gen in range(len(NAMES)))
    check_tables(load_table("v15_trained"), packaged)


def test_tile_programs_take_the_trained_codebook_and_residuals_the_grid() -> None:
    programs = CodecConfig.preset("fast", **PROGRAMS)
    assert (programs.table_id, programs.codebook_id) == ("v15_trained", "v15_trained")
    assert CodecConfig(tile=0, residual=False).codebook_id == CodecConfig(tile=64).codebook_id == "v15_trained"
    photo = CodecConfig.preset("fast")
    assert (photo.table_id, photo.codebook_id) == ("v15_default", "v15_grid")
    assert CodecConfig(tile=256).codebook_id == "v15_grid"
    assert CodecConfig(codebook_id="mine").table_id == "mine"
    assert CodecConfig(tile=64, codebook_id="v15_grid").table_id == "v15_default"


def test_a_part_of_a_codebook_is_the_beginning_of_each_list(trained: Path) -> None:
    tiny = load_codebook("tiny")
    for rows in (1, 100, 1000, 10**6):
        part = tiny.first(rows)
        count = sum(part.size(gen) * load(gen).seeds for gen in range(len(NAMES)))
        assert rows - 16 <= count <= rows or part is tiny
        for own, whole in zip(part.entries, tiny.entries, strict=True):
            assert torch.equal(own, whole[: len(own)])
    assert tiny.first(10**6) is tiny
    assert GRID.first(10) is GRID


def test_training_again_gives_the_same_bytes(trained: Path, tmp_path: Path) -> None:
    images = sorted((trained / "pictures").iterdir())[:2]
    again = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for out in again:
        train_codebook(images, out, codebook_id="x", **SMALL)
    assert again[0].read_bytes() == again[1].read_bytes()


def test_training_wants_pictures_that_are_large_enough(tmp_path: Path) -> None:
    small = tmp_path / "small.png"
    save_gray(torch.zeros(40, 200), small)
    for images, why in [([], "no pictures"), ([small], "96 px a side")]:
        with pytest.raises(ConfigError, match=why):
            train_codebook(images, tmp_path / "x.npz", codebook_id="x")
        with pytest.raises(ConfigError, match="no pictures to count"):
            train_tables([], tmp_path / "x.json")
    assert not (tmp_path / "x.npz").exists()


def test_tables_are_trained_for_a_codebook(trained: Path, tmp_path: Path) -> None:
    job = TableJob(tile=32, overlap=8, lambda_rd=0.5, alpha_mix=0.0, refine=0, color=False)
    images = sorted((trained / "pictures").iterdir())[:3]
    out = trained / "rans" / "counted.json"
    counting = CountOptions(jobs=[job], rounds=1, share=1, workers=1)
    tables = train_tables(images, out, table_id="counted", codebook_id="tiny", like="tiny", counting=counting)
    check_tables(tables, load_codebook("tiny"))
    assert load_table("counted") == tables
    y = luma_tensor(load_luma(images[0]))
    sizes = []
    for table_id in ("counted", "tiny"):
        cfg = CodecConfig.preset(
            "fast", **PROGRAMS, lambda_rd=0.5, alpha_mix=0.0, codebook_id="tiny", table_id=table_id, device="cpu"
        )
        coded = encode_y(y, cfg)
        decode_y(coded["bitstream"])
        sizes.append(len(coded["bitstream"]))
    assert sizes[0] < sizes[1]


def test_plain_tables_know_no_context(trained: Path) -> None:
    codebook, counts = load_codebook("tiny"), {"m0.more.0.0": np.array([9, 1]), "m3.more.2.4": np.array([1, 29])}
    ours, plain = (build_tables(counts, codebook, "x", plain=plain) for plain in (False, True))
    check_tables(plain, codebook)
    assert len({table.freq for name, table in ours.tables.items() if ".more." in name}) > 2
    (freq,) = {table.freq for name, table in plain.tables.items() if ".more." in name}
    assert freq[0] < freq[1]
    assert plain.table("m0.gen.0").freq == plain.table("s4.gen.2").freq
    assert len(plain.table("m0.gen.0").freq) == len(ours.table("m0.gen.0").freq)


@pytest.mark.parametrize("harm", ["cut", "unordered", "too few", "zero"])
def test_a_damaged_codebook_is_named(harm: str, trained: Path) -> None:
    path = trained / "codebooks" / f"bad_{harm.replace(' ', '_')}.npz"
    data = (trained / "codebooks" / "tiny.npz").read_bytes()
    if harm == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        with np.load(trained / "codebooks" / "tiny.npz") as stored:
            arrays = dict(stored)
        weights = arrays["weights"]
        arrays["weights"] = {"unordered": weights[::-1], "too few": weights[1:], "zero": weights * 0}[harm]
        np.savez(path, **arrays)
    with pytest.raises(MissingTableError, match="damaged"):
        load_codebook(path.stem)


def test_sifting_keeps_what_gains_nearly_as_much_as_the_best() -> None:
    rng = np.random.default_rng(3)
    product = rng.integers(-100, 100, (5, 40)).astype(np.float32)
    inverse, price = rng.random(40).astype(np.float32), rng.random(40).astype(np.float32)
    unit = rng.random(5).astype(np.float32)
    unit[4] = 0.0  # gains nothing
    for most in (40, 6):
        rows, gains = np.zeros((5, most), np.int32), np.zeros((5, most), np.float32)
        sift(product, inverse, unit, price, np.float32(0.5), rows, gains, np.empty(40, np.float32))
        net = product**2 * inverse * unit[:, None] - price
        for i in range(4):
            kept = rows[i][rows[i] >= 0]
            assert 0 < len(kept) <= most
            assert net[i, kept].min() >= 0.5 * net[i].max()
            worst = set(range(40)) - set(kept.tolist())
            assert max(net[i, list(worst)]) < (0.5 * net[i].max() if most == 40 else net[i, kept].min())
            assert np.allclose(gains[i, : len(kept)], net[i, kept] + price[kept])
        assert (rows[4] == -1).all()


def test_the_greedy_choice_is_within_its_bound_and_goes_on_when_nothing_is_left() -> None:
    rng = np.random.default_rng(4)
    value = np.where(rng.random((8, 12)) < 0.5, rng.random((8, 12)), 0.0).astype(np.float32)  # entries, targets
    own, target = np.nonzero(value)
    edges = np.searchsorted(own, np.arange(9))
    order, gain = np.zeros(8, np.int64), np.zeros(8)
    count = choose_greedily(edges, target.astype(np.int32), value[own, target], 12, 1e-9, order, gain)
    assert sorted(order[:count].tolist()) == [e for e in range(8) if value[e].any()]
    for size in (1, 2, 3):
        best = max(value[list(some)].max(axis=0).sum() for some in itertools.combinations(range(8), size))
        ours = value[order[:size]].max(axis=0).sum()
        assert ours >= (1 - 1 / math.e) * best
        assert ours == pytest.approx(gain[:size].sum(), rel=1e-5)
    assert gain[0] == pytest.approx(value.sum(axis=1).max(), rel=1e-5)
