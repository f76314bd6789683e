"""Programs of all tiles of a search as they stand, on the search's device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.bitstream.programs import MAX_LAYERS, MAX_PARAMS, Programs
from pc15.search.candidates import Layers


@dataclass(eq=False)
class TilePrograms:
    """DC levels and layers of N tiles, int64; L = MAX_LAYERS places each, those beyond its count 0.

    dc, count: [N].   fields: [N, L, ..] as in `Layers`.   amp: [N, L] signed level.
    source: [N, L], as `Programs.source`.   root: [N, L], where the layer's pattern starts, tile * L + layer.
    plain: no layer has offsets.
    """

    dc: Tensor
    count: Tensor
    fields: Tensor
    amp: Tensor
    source: Tensor
    root: Tensor
    plain: bool = True

    @classmethod
    def of_dc(cls, dc: Tensor) -> TilePrograms:
        """Programs without layers."""
        n, device = len(dc), dc.device
        amp, source = (torch.zeros((n, MAX_LAYERS), dtype=torch.int64, device=device) for _ in range(2))
        root = torch.arange(n * MAX_LAYERS, device=device).view(n, MAX_LAYERS)
        fields = torch.zeros((n, MAX_LAYERS, 4 + MAX_PARAMS), dtype=torch.int64, device=device)
        return cls(dc, torch.zeros(n, dtype=torch.int64, device=device), fields, amp, source, root)

    def layers(self, tiles: Tensor, layer: int | Tensor) -> Layers:
        """One layer of each of the tiles."""
        return Layers(self.fields[tiles, layer], self.plain)

    def every(self) -> Layers:
        """[N * L] all layers, of tile after tile."""
        return Layers(self.fields.flatten(0, 1), self.plain)

    def put(self, tiles: Tensor, layer: int, layers: Layers, amp: Tensor) -> None:
        """Set one layer of each of the tiles and make it the last."""
        self.fields[tiles, layer], self.amp[tiles, layer], self.count[tiles] = layers.fields, amp, layer + 1
        self.plain = self.plain and layers.plain

    def clear(self, tiles: Tensor) -> None:
        """Take all layers out of each of the tiles."""
        for part in (self.count, self.fields, self.amp):
            part[tiles] = 0

    def replace(self, tiles: Tensor, fields: Tensor, amp: Tensor) -> None:
        """Give each of the tiles other layers, [n, L, ..], those of amplitude 0 left out."""
        order = torch.sort((amp == 0).to(torch.uint8), dim=1, stable=True).indices
        amp = amp.gather(1, order)
        used = amp != 0
        moved = fields.gather(1, order[:, :, None].expand(-1, -1, fields.shape[2]))
        self.fields[tiles], self.amp[tiles], self.count[tiles] = moved * used[:, :, None], amp, used.sum(dim=1)

    def by_count(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Sort tiles [n] by their number of layers, most first: (tiles, numbers of layers)."""
        counts, order = torch.sort(self.count[group], descending=True, stable=True)
        return group[order], counts

    def programs(self, params: Tensor, fine: int) -> Programs:
        """Convert to the bitstream's form; offsets of parameters that a generator does not have are cleared."""
        dc, count, fields, amp, source = (
            part.cpu() for part in (self.dc, self.count, self.fields, self.amp, self.source)
        )
        _, gen, qv, seed = fields[..., :4].permute(2, 0, 1).contiguous()
        offsets = torch.where(torch.arange(MAX_PARAMS) < params.cpu()[gen].unsqueeze(2), fields[..., 4:], 0)
        return Programs(
            dc.numpy(), count.numpy(), gen.numpy(), qv.numpy(), seed.numpy(), amp.numpy(), offsets.numpy(),
            source.numpy(), fine,
        )  # fmt: skip
