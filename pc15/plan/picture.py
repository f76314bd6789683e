"""A picture on its way to a stream: its planes in Q12, and the programs that are known already."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.header import PlaneSpec
from pc15.bitstream.programs import Programs
from pc15.config import CodecConfig
from pc15.draw import neutral_level_q12, predict_grid
from pc15.entropy.tables import TableSet
from pc15.luma import SAMPLE_ONE
from pc15.plan.plan import is_open, plane_config, plans_of
from pc15.proc.codebook import Codebook
from pc15.tiling import TileGridCfg, TileSpec, grid

__all__ = ["Picture", "PlaneTask", "goal_upon_coarse", "needs_work"]


@dataclass(eq=False)
class Picture:
    """A picture on its way: Q12 planes [h,w], one or Y, Cb, Cr.

    known: programs of each plane that are known already, by their tile size and that of the coarse grid under them, 0
        for none; of a coarse grid itself by 0 and its tile size.
    """

    planes: list[Tensor]
    width: int
    height: int
    known: list[dict[tuple[int, int], Programs]]

    @classmethod
    def of(cls, planes: list[Tensor], width: int, height: int) -> Picture:
        """A picture of which no programs are known."""
        return cls(planes, width, height, [{} for _ in planes])

    def grid(self, index: int, cfg: TileGridCfg) -> TileSpec:
        """The tiles of a plane."""
        return grid(self.planes[index].shape[0], self.planes[index].shape[1], cfg)


@dataclass(frozen=True, eq=False)
class PlaneTask:
    """Everything that coding plane number `index` needs beside the picture.

    cfg: the plane's own options.   progress: bar of the tiles searched.
    pool: threads that sections of a residual may be shared out to.
    """

    index: int
    cfg: CodecConfig
    tables: TableSet
    codebook: Codebook
    progress: tqdm[Any]
    pool: ThreadPoolExecutor | None = None


def goal_upon_coarse(plane: Tensor, below: Programs, spec: PlaneSpec, task: PlaneTask) -> Tensor:
    """Samples that the tiles of a plane are to draw upon its coarse grid, [h,w] int32 Q12."""
    assert spec.under is not None, "there is a coarse grid"
    coarse = predict_grid(
        below, (plane.shape[0], plane.shape[1]), spec.under, task.cfg.seed, task.codebook, plane.device
    )
    return (plane - coarse + neutral_level_q12(spec)).clamp_(0, SAMPLE_ONE)


def needs_work(picture: Picture, cfg: CodecConfig) -> bool:
    """Tell if there is more to a picture than programs that are known already."""
    for i, (plane, known) in enumerate(zip(picture.planes, picture.known, strict=True)):
        own = plane_config(cfg, chroma=i > 0)
        if is_open(plane, own) or any(plan.refined or plan[:2] not in known for plan in plans_of(own)):
            return True
    return False
