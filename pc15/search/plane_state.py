"""State of a search that its passes share: the task, the tiles of all planes, and the picture so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pc15.bitstream.header import WINDOWS, Header, PlaneSpec, grids_of, section_spans
from pc15.bitstream.programs import Programs
from pc15.bitstream.read import section_syntax
from pc15.blend_weights import axis_weights
from pc15.config import CodecConfig
from pc15.draw import draw_tiles
from pc15.entropy.tables import TableSet
from pc15.grids import TileGridCfg, TileSpec, stacks
from pc15.proc.codebook import Codebook
from pc15.proc.spec import FINE_ABOVE
from pc15.quant import step_q15
from pc15.search.backend import backend_of
from pc15.search.backend.protocol import DrawnLayers, TileBatch
from pc15.search.bank import get_bank
from pc15.search.blend_state import Canvas
from pc15.search.candidates import Layers, draw_layers
from pc15.search.climb import States
from pc15.search.continuous import ContinuousSearch, searched_off_grid
from pc15.search.cost import Costs
from pc15.search.dc_surfaces import DcSurfaces
from pc15.search.recall import Recall
from pc15.search.refine import LayerSearch, OnScored
from pc15.search.score import Scorer
from pc15.search.tile_programs import TilePrograms
from pc15.search.turns import turn_groups, turns_of_knots, turns_of_tiles
from pc15.search.windows import Windows
from pc15.tiling import extract


@dataclass(frozen=True, eq=False)
class SearchTask:
    """Everything but samples that the search of one grid of tiles needs.

    header: of a picture that plane number `index` is one of; the grid is the plane's finest.
    cfg: the grid's own options: `lambda_rd` and `alpha_mix` are the plane's, `merge` is for one plane alone, `ai` has
        the hooks that are asked.
    """

    header: Header
    index: int
    cfg: CodecConfig
    tables: TableSet
    codebook: Codebook

    @property
    def spec(self) -> PlaneSpec:
        """Spec of the plane."""
        return self.header.planes[self.index]


@dataclass(eq=False)
class Beside:
    """Tile rows beside a band of a plane, in the samples that are searched with it.

    above: programs of the rows over it, which stay as they are.   below: number of rows under it that are to come: of
    them only DC levels are guessed.
    """

    above: Programs
    below: int


class PlaneState:
    """A plane, or many planes together, on the way to programs.

    x: [N,T,T] int32 Q12, what is to be seen of all tiles in the end.   goal: the same, of what they are to draw.
    own: numbers of the tiles that are searched: all, or those of a band.
    groups: tiles that are searched at once, [n] int64 each.   knots: [4,N] bool, DC levels that move at once.
    on_scored: told of all candidates that are scored exactly; see `OnScored`.
    recall: what tiles remember for their second search, if they are to.
    tiles: programs so far.   canvas: the picture so far, blended.   bases: the surfaces through DC levels.

    Args:
        planes: [h,w] int32 Q12 each.
        detected: as `detect_single_pattern` suggests layers of the only tile.
        pictures: [h,w] int32 Q12 each, what is to be seen in the end, where programs are to draw something else as
            they lie upon others.
        beside: if the plane is but a band of one and what overlaps it.
    """

    tiles: TilePrograms
    on_scored: OnScored | None = None

    def __init__(
        self,
        planes: Sequence[Tensor],
        task: SearchTask,
        detected: Sequence[Sequence[States]] = (),
        beside: Beside | None = None,
        pictures: Sequence[Tensor] = (),
    ) -> None:
        cfg, device = task.cfg, planes[0].device
        self.planes, self.task, self.cfg, self.spec, self.codebook = planes, task, cfg, task.spec, task.codebook
        assert len(planes) == 1 or not cfg.merge, "neighbours are looked for in one plane"
        assert len(planes) == 1 or beside is None, "bands are searched one at a time"
        cut = TileGridCfg(size=self.spec.tile, overlap=self.spec.overlap)
        self.stacks = stacks([(plane.shape[0], plane.shape[1]) for plane in planes], cut)
        few = cfg.candidates if cfg.tile <= FINE_ABOVE else 0
        codebook = task.codebook.first(few) if few else task.codebook
        self.bank = get_bank(cfg.tile, codebook, cfg.seed, device)
        grid = grids_of(task.header, task.index).stop - 1
        span = next(s for s in section_spans(task.header) if s.grid == grid)
        self.syntax = section_syntax(task.header, span, task.codebook)
        self.costs = Costs(task.tables, self.syntax, self.bank)
        self.windows = Windows.joined([(self._windows_of(part.grid, device), part.planes) for part in self.stacks])
        self.ops = backend_of(device)
        self.scorer = Scorer(cfg, self.bank, self.windows, self.costs, self.spec.amp_step, self.ops)
        off_grid = len(planes) == 1 and searched_off_grid(self.stacks[0].grid)
        self.continuous = ContinuousSearch(self.scorer, task.codebook, detected) if off_grid else None
        self.x = self._extracted(pictures or planes)
        self.goal = self._extracted(planes) if pictures else self.x
        self.beside = Beside(Programs.empty(0), 0) if beside is None else beside
        self.own = range(self.beside.above.tiles, len(self.x) - self.beside.below * self.stacks[0].grid.nx)
        self.groups = [torch.tensor(group, device=device) for group in turns_of_tiles(self.stacks, self.own)]
        self.knots = turns_of_knots(self.stacks, self.own).to(device)
        self.recall = Recall(len(self.x), cfg.max_layers, cfg.recall, device) if cfg.recall and cfg.passes else None

    def _extracted(self, planes: Sequence[Tensor]) -> Tensor:
        """All tiles of planes, [N,T,T] int32 Q12."""
        return torch.cat([extract(planes[i], part.grid) for part in self.stacks for i in part.members])

    def _windows_of(self, grid: TileSpec, device: torch.device) -> Windows:
        window = (WINDOWS[self.spec.window], self.spec.window_params())
        wy, wx = (
            axis_weights(length, grid.cfg, *window).to(device)  # type: ignore[arg-type]
            for length in (grid.H, grid.W)
        )
        return Windows.of_grid(wy, wx, self.cfg, blended=True)

    # ------------------------------------------------------------ the picture so far

    def begin(self, dc: Tensor) -> None:
        """Show the base through DC levels [N] int64, no layers, and the rows above a band."""
        self.bases = DcSurfaces(self.stacks, self.spec.dc_step, self.x.device)
        self.canvas = Canvas(self.planes, self.stacks, self.windows)
        self.tiles = TilePrograms.of_dc(dc)
        self.set_dc(dc)
        above = self.beside.above
        if not above.tiles:
            return
        drawn = draw_tiles([above], self.spec.tile, self.spec.amp_step, self.cfg.seed, self.codebook, self.x.device)
        for group in turn_groups(self.stacks[0].grid):
            own = torch.tensor([i for i in group if i < above.tiles], dtype=torch.int64, device=self.x.device)
            self.canvas.put(own, drawn[own])

    def set_dc(self, dc: Tensor) -> None:
        """Give all tiles other DC levels, [N] int64."""
        self.tiles.dc = dc
        self.canvas.set_base(self.bases.draw(dc))

    def put_layer(self, tiles: Tensor, layer: int, layers: Layers, amp: Tensor) -> None:
        """Make a layer the last of each of the tiles, and show it."""
        self.tiles.put(tiles, layer, layers, amp)
        self.canvas.add(tiles, self.contribution(layers, amp))

    def contribution(self, layers: Layers, amp: Tensor) -> Tensor:
        """Samples that layers add to their tiles, as the decoder computes them; [B,T,T] int32 Q12."""
        return self.ops.contributions(self._drawn(layers, amp), self.cfg.tile)

    def without(self, e: Tensor, of: Tensor, cls: Tensor, layers: Layers, amp: Tensor) -> Tensor:
        """Some of the residuals e, [m,T,T] int32 Q12, each less what a layer of its own shows; [n,T,T].

        Args:
            of: [n] int64, which of e.   cls: [n] class of each tile.   layers: n.   amp: [n], their levels.
        """
        return self.ops.without(e, of, cls, self.windows.blend, self._drawn(layers, amp))

    def _drawn(self, layers: Layers, amp: Tensor) -> DrawnLayers:
        """Layers of amplitude levels `amp`, from the bank where it has them drawn."""
        step = step_q15(self.spec.amp_step)
        if layers.plain and self.bank.drawn is not None:
            return DrawnLayers(self.bank.drawn, self.bank.drawn_rms, layers.row, amp, step)
        drawn = draw_layers(layers, self.bank, self.codebook, self.cfg.tile, self.cfg.seed)
        return DrawnLayers(*drawn, None, amp, step)

    # ------------------------------------------------------------ what passes ask

    @property
    def layer_search(self) -> LayerSearch:
        """Search of a tile's next layer, with hooks and beyond the bank where this state has either."""
        return LayerSearch(self.scorer, self.codebook, self.cfg.ai, self.continuous, self.on_scored)

    def batch(self, tiles: Tensor) -> TileBatch:
        """Tiles [n] as they are left now."""
        return TileBatch(self.canvas.look(tiles), self.x[tiles], self.windows.class_of_tile[tiles])

    @property
    def bit_price(self) -> float:
        """J of 1/256 bit."""
        return self.cfg.lambda_rd / 256.0

    @property
    def settled_by_one_fit(self) -> bool:
        """True for one tile of at most one layer: nothing around it changes, once it is fitted."""
        return len(self.x) == 1 and int(self.tiles.count[0]) <= 1

    def squared_error(self) -> float:
        """Squared error of all planes, Q24."""
        return float(self.canvas.rest().to(torch.int64).square().sum())

    def program_bits(self, group: Tensor) -> Tensor:
        """Cost of the tiles' layers as the search counts it, [n] float64 in 1/256 bit."""
        most, layer = self.cfg.max_layers, torch.arange(self.cfg.max_layers, device=group.device)
        address, amplitudes = self.costs.stacked(most)
        fields, amp = self.tiles.fields[group, :most], self.tiles.amp[group, :most]
        bits = address[layer, fields[..., 0]] + amplitudes[layer, (amp < 0).long(), amp.abs()]
        if not self.tiles.plain:
            bits += self.costs.offset_cost(fields[..., 4:], fields[..., 1])
        return torch.where(layer < self.tiles.count[group, None], bits, 0).sum(dim=1).to(torch.float64)

    def programs(self) -> list[Programs]:
        """Programs of each plane; of a band, its own rows'."""
        every = self.tiles.programs(self.costs.params, self.costs.fine)
        if len(self.planes) == 1:
            return [every.rows(self.own.start, self.own.stop)]
        found: dict[int, Programs] = {}
        for part in self.stacks:
            starts = range(part.tiles.start, part.tiles.stop, part.grid.count)
            found |= {i: every.rows(at, at + part.grid.count) for i, at in zip(part.members, starts, strict=True)}
        return [found[i] for i in range(len(self.planes))]
