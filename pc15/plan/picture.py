"""A picture on its way to a stream: its planes in Q12, and the programs that are known already."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pc15.bitstream.programs import Programs
from pc15.bitstream.read import codebook_of
from pc15.config import CodecConfig
from pc15.entropy.tables import TableSet, load_table
from pc15.plan.plan import is_open, plane_config, plans_of
from pc15.runtime.progress import Progress
from pc15.runtime.tensors import load_torch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from pc15.proc.codebook import Codebook

__all__ = ["Picture", "PlaneTask", "needs_work"]


@dataclass(eq=False)
class Picture:
    """A picture on its way: Q12 planes [h,w] int32, one or Y, Cb, Cr.

    known: programs of each plane that are known already, by their tile size and that of the coarse grid under them, 0
        for none; of a coarse grid itself by 0 and its tile size.
    device: where programs are searched.
    """

    planes: list[NDArray[np.int32]]
    width: int
    height: int
    known: list[dict[tuple[int, int], Programs]]
    device: str | torch.device = "cpu"
    _tensors: dict[int, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, planes: list[NDArray[np.int32]], width: int, height: int, device: str | torch.device = "cpu"
    ) -> Picture:
        """A picture of which no programs are known."""
        return cls(planes, width, height, [{} for _ in planes], device)

    def tensor(self, index: int) -> Tensor:
        """A plane where programs are searched, [h,w] int32 Q12."""
        if index not in self._tensors:
            self._tensors[index] = (
                load_torch("the search of tile programs").from_numpy(self.planes[index]).to(self.device)
            )
        return cast("Tensor", self._tensors[index])


@dataclass(frozen=True, eq=False)
class PlaneTask:
    """Everything that coding plane number `index` needs beside the picture.

    cfg: the plane's own options.   progress: of the tiles searched.
    pool: threads that sections of a residual may be shared out to.
    """

    index: int
    cfg: CodecConfig
    progress: Progress
    pool: ThreadPoolExecutor | None = None

    @property
    def tables(self) -> TableSet:
        """Tables that programs are coded with, read when they are first asked for."""
        return load_table(self.cfg.table_id)

    @property
    def codebook(self) -> Codebook:
        """The codebook that programs name, likewise."""
        return codebook_of(self.cfg.codebook_id)


def needs_work(picture: Picture, cfg: CodecConfig) -> bool:
    """Tell if there is more to a picture than programs that are known already."""
    for i, (plane, known) in enumerate(zip(picture.planes, picture.known, strict=True)):
        own = plane_config(cfg, chroma=i > 0)
        if is_open(plane, own) or any(plan.refined or plan[:2] not in known for plan in plans_of(own)):
            return True
    return False
