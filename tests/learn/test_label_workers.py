"""Labels by several workers, one of which dies, are those of this process, byte for byte."""

from __future__ import annotations

import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pc15.config import CodecConfig
from pc15.images import save_image
from pc15.search.label import TileLabels
from pc15learn.labels.write import LabelOptions, make_labels
from pc15learn.tiles import make_tiles
from tests.fake_oracle import FakeOracle


@dataclass(frozen=True)
class Dying:
    """An oracle whose first shard ends its process."""

    mark: Path
    oracle: FakeOracle

    def __call__(self, tiles: Tensor, seeds: Any) -> TileLabels:
        if len(tiles) > 1:  # not the tile that a worker begins with
            with contextlib.suppress(FileExistsError):
                self.mark.touch(exist_ok=False)
                os.kill(os.getpid(), signal.SIGKILL)
        return self.oracle(tiles, seeds)


@pytest.mark.slow
def test_labels_by_ray_are_those_of_this_process_though_an_actor_dies(tmp_path: Path, cluster: Any) -> None:
    check_labels(tmp_path, "ray")


def test_labels_by_processes_are_those_of_this_process_though_one_dies(tmp_path: Path) -> None:
    check_labels(tmp_path, "local")


def check_labels(folder: Path, on: Any) -> None:
    (folder / "in").mkdir()
    save_image(folder / "in" / "a.png", torch.arange(60 * 60).view(1, 60, 60).to(torch.uint8))
    make_tiles(folder / "in", folder / "tiles.jsonl", tile=16, overlap=4)
    cfg = CodecConfig.preset("fast", codebook_id="v15_grid", tile=16, overlap=4, residual=False)
    oracle = FakeOracle(cfg, 4, 2)
    own = {"cfg": cfg, "shard_size": 4, "top": 4, "random": 2, "device": "cpu"}
    whole = make_labels(folder / "tiles.jsonl", folder / "whole", LabelOptions(**own), search=oracle)
    made = make_labels(
        folder / "tiles.jsonl", folder / "out", LabelOptions(**own, workers=2, on=on),
        search=Dying(folder / "killed", oracle),
    )  # fmt: skip
    assert (folder / "killed").exists() and made.done == whole.done > 4
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == {
        path.name: path.read_bytes() for path in whole.folder.iterdir()
    }
