"""The search of the programs of one plane, or of many at once: tile after tile, layer after layer.

A plane starts as the surface through its DC levels.  Then, layer after layer, every tile gets the one pattern that
lowers D + lambda * R of the *blended* picture most, until none pays.  Tiles that overlap take turns, so that each sees
what its neighbours draw; sweeps then re-fit amplitudes and DC jointly, and passes search whole programs again with a
beam.  Merging searches them once more, from the top left on, so that layers may continue what a neighbour draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.bitstream.enc.dc_choice import choose_dc
from pc15.bitstream.header import WINDOWS, Header, grids_of, section_spans
from pc15.bitstream.programs import MAX_LAYERS, MAX_PARAMS, Programs
from pc15.bitstream.read import section_syntax
from pc15.bitstream.sections import dc_contexts
from pc15.config import CodecConfig
from pc15.dc_surface import SHARE_BITS
from pc15.draw import amplitude_q15, draw_tiles
from pc15.entropy.tables import TableSet
from pc15.hooks.protocol import EncoderHooks
from pc15.luma import SAMPLE_ONE
from pc15.proc.codebook import Codebook
from pc15.proc.registry import coefficient
from pc15.proc.spec import FINE_ABOVE
from pc15.quant import step_q15
from pc15.runtime.device import free_memory
from pc15.search.backend import backend_of
from pc15.search.backend.protocol import Backend, Patterns
from pc15.search.bank import get_bank
from pc15.search.blend_state import Canvas
from pc15.search.candidates import Layers, draw_layers
from pc15.search.climb import States
from pc15.search.continuous import FEW_TILES, ContinuousSearch
from pc15.search.cost import AMP_SEARCHED, Costs
from pc15.search.dc_surfaces import Bases
from pc15.search.merge import Neighbours, neighbours, waves
from pc15.search.refine import Found, Moves, Trials, address_q8, best_layers, draw_moves, first_steps
from pc15.search.score import Scorer
from pc15.search.windows import Windows
from pc15.tiling import TileGridCfg, TileSpec, axis_weights, extract, stacks

_BAND = 1 << 23  # samples of tiles that are searched at once
_BESIDE = 4  # and as many rows at least, in strides
_TRIAL_BYTES = 100  # of memory per pixel that a layer's moves are drawn in
_OUTLOOK = 3  # layers that the search of one tile hopes for, each as good as the last


@dataclass(eq=False)
class _Tiles:
    """What the tiles of a plane have chosen so far, on the search's device; [N, L] each.

    fields: [N, L, ..] as in `Layers`.   plain: whether no layer has offsets.
    source: as `Programs.source`.   root: where the layer's pattern starts, tile * L + layer.
    """

    dc: Tensor
    count: Tensor
    fields: Tensor
    amp: Tensor
    source: Tensor
    root: Tensor
    plain: bool = True

    @classmethod
    def of_dc(cls, dc: Tensor) -> _Tiles:
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

    def programs(self, params: Tensor, fine: int) -> Programs:
        """As the bitstream wants them; offsets of parameters that a generator does not have are cleared."""
        dc, count, fields, amp, source = (
            part.cpu() for part in (self.dc, self.count, self.fields, self.amp, self.source)
        )
        _, gen, qv, seed = fields[..., :4].permute(2, 0, 1).contiguous()
        offsets = torch.where(torch.arange(MAX_PARAMS) < params.cpu()[gen].unsqueeze(2), fields[..., 4:], 0)
        return Programs(
            dc.numpy(), count.numpy(), gen.numpy(), qv.numpy(), seed.numpy(), amp.numpy(), offsets.numpy(),
            source.numpy(), fine,
        )  # fmt: skip


@dataclass(eq=False)
class Beside:
    """What lies beside a band of a plane's tile rows, in the samples that are searched with it.

    above: programs of the rows over it, which stay as they are.   below: rows under it that are to come: of them only
    DC levels are guessed.
    """

    above: Programs
    below: int


class PlaneEncoder:
    """Searches the programs of a plane, or of many planes together: on a GPU, one alone leaves it idle.

    What it finds for a plane does not depend on the others.

    Args:
        planes: [h,w] int32 Q12 each.
        header: of a picture that plane number `index` is one of.
        cfg: options; `lambda_rd` and `alpha_mix` are already the plane's own.  `merge` is for one plane alone.
        layers: as `detect_single_pattern` suggests them for the only tile.
        pictures: [h,w] int32 Q12 each, what is to be seen in the end, where programs are to draw something else as
            they lie upon others.
        beside: if the plane is but a band of one and what overlaps it.
    """

    def __init__(
        self,
        planes: Sequence[Tensor],
        header: Header,
        index: int,
        cfg: CodecConfig,
        tables: TableSet,
        codebook: Codebook,
        hooks: EncoderHooks | None,
        layers: Sequence[Sequence[States]] = (),
        beside: Beside | None = None,
        pictures: Sequence[Tensor] = (),
    ) -> None:
        self.planes, self.cfg, self.codebook, self.hooks = planes, cfg, codebook, hooks
        self.spec, self.section_rows = header.planes[index], header.section_rows
        cut = TileGridCfg(size=self.spec.tile, overlap=self.spec.overlap)
        self.stacks = stacks([(plane.shape[0], plane.shape[1]) for plane in planes], cut)
        assert len(planes) == 1 or not cfg.merge, "neighbours are looked for in one plane"
        device = planes[0].device
        few = cfg.candidates if cfg.tile <= FINE_ABOVE else 0
        self.bank = get_bank(cfg.tile, codebook.first(few) if few else codebook, cfg.seed, device)
        own = grids_of(header, index).stop - 1
        self.syntax = section_syntax(header, next(s for s in section_spans(header) if s.grid == own), codebook)
        self.costs = Costs(tables, self.syntax, self.bank)
        self.windows = Windows.joined([(self._windows_of(part.grid, device), part.planes) for part in self.stacks])
        self.ops = backend_of(device)
        self.scorer = Scorer(cfg, self.bank, self.windows, self.costs, self.spec.amp_step, self.ops)
        few_tiles = len(planes) == 1 and searched_off_grid(self.stacks[0].grid)
        self.precise = ContinuousSearch(self.scorer, codebook, layers) if few_tiles else None
        self.x = self._extracted(pictures or planes)
        self.goal = self._extracted(planes) if pictures else self.x
        self.beside = Beside(Programs.empty(0), 0) if beside is None else beside
        assert len(planes) == 1 or beside is None, "bands are searched one at a time"
        self.own = range(self.beside.above.tiles, len(self.x) - self.beside.below * self.stacks[0].grid.nx)
        self.groups = [torch.tensor(group, device=device) for group in self._turns() if group]
        self.knots = self._knots().to(device)

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

    def _turns(self) -> list[list[int]]:
        """Tiles of all planes that do not overlap, as groups that take turns."""
        out: list[list[int]] = []
        for part in self.stacks:
            own = turn_groups(part.grid)
            out += [[] for _ in own[len(out) :]]
            for start in range(part.tiles.start, part.tiles.stop, part.grid.count):
                for group, more in zip(out, own, strict=False):
                    group += [start + tile for tile in more if start + tile in self.own]
        return out

    def _knots(self) -> Tensor:
        """[4,N] bool: every other tile of its row and column, so that what their DC levels add does not overlap."""
        out = []
        for part in self.stacks:
            row, col = torch.arange(part.grid.ny)[:, None] % 2, torch.arange(part.grid.nx) % 2
            own = [((row == turn // 2) & (col == turn % 2)).reshape(-1) for turn in range(4)]
            out.append(torch.stack(own).repeat(1, part.planes))
        turns = torch.cat(out, dim=1)
        turns[:, : self.own.start] = turns[:, self.own.stop :] = False
        return turns

    # ------------------------------------------------------------ the picture so far

    def _put_above(self) -> None:
        """Show the rows above a band."""
        above = self.beside.above
        part = [above], self.spec.tile, self.spec.amp_step, self.cfg.seed, self.codebook
        drawn = draw_tiles(*part, self.x.device)
        for group in turn_groups(self.stacks[0].grid):
            own = torch.tensor([i for i in group if i < above.tiles], dtype=torch.int64, device=self.x.device)
            self.canvas.put(own, drawn[own])

    def _set_dc(self, dc: Tensor) -> None:
        self.tiles.dc = dc
        self.canvas.set_base(self.bases.draw(dc))

    def _contribution(self, layers: Layers, amp: Tensor) -> Tensor:
        """What layers add to their tiles' samples, as the decoder computes it; [B,T,T] int32 Q12."""
        at: Tensor | None = None
        if layers.plain and self.bank.drawn is not None:
            store, power, at = self.bank.drawn, self.bank.drawn_rms, layers.row
        else:
            store, power = draw_layers(layers, self.bank, self.codebook, self.cfg.tile, self.cfg.seed)
        return self.ops.contributions(store, power, at, amp, step_q15(self.spec.amp_step), self.cfg.tile)

    # ------------------------------------------------------------ the search

    def run(self, progress: tqdm[Any], limit: float = math.inf) -> list[Programs] | None:
        """Search whole planes; `progress` advances by their tiles.

        Args:
            limit: squared error, Q24, that all is to stay below; None is returned once three layers more, each as good
                as the last, would not bring it there, unless a sketch of the plane has come true.
        """
        with self.ops.reserved_threads():
            return self._run(progress, limit)

    def _run(self, progress: tqdm[Any], limit: float) -> list[Programs] | None:
        """`run`, with the threads reserved."""
        self.bases = Bases(self.stacks, self.spec.dc_step, self.x.device)
        self.canvas = Canvas(self.planes, self.stacks, self.windows)
        self.tiles = _Tiles.of_dc(self._choose_dc())
        self._set_dc(self.tiles.dc)
        if self.beside.above.tiles:
            self._put_above()
        self._refit_dc()
        done = progress.n
        active = torch.zeros(len(self.x), dtype=torch.bool, device=self.x.device)
        active[self.own.start : self.own.stop] = True
        left = math.inf if math.isinf(limit) else self._squared_error()
        for layer in range(self.cfg.max_layers):
            for group in self.groups:
                self._add_layer(group[active[group]], layer, active)
            progress.update(done + len(self.own) - int(active.sum()) - progress.n)
            if not (math.isinf(limit) or (self.precise is not None and self.precise.found)):
                before, left = left, self._squared_error()
                if left * min(1.0, left / max(before, 1.0)) ** _OUTLOOK > limit:
                    return None
            if not bool(active.any()):
                break
        for turn in range(self.cfg.sweeps + self.cfg.passes):
            if turn < self.cfg.passes and self.precise is None:  # which finds more than a bank has
                for group in self.groups:
                    self._search_again(group)
            last = turn == self.cfg.sweeps + self.cfg.passes - 1
            if turn > self.cfg.passes and self._alone and not (last and self.cfg.refine):
                continue
            refine = self.cfg.refine if last else 0
            for group, moves in zip(self.groups, self._moves(refine), strict=True):
                self._refit(group, refine, moves)
            self._refit_dc()
        if self.cfg.merge and len(self.x) > 1:
            for wave in waves(self.stacks[0].grid):
                self._merge(torch.tensor(wave, device=self.x.device))
            self._refit_dc()
        progress.update(done + len(self.own) - progress.n)
        return self._programs()

    def _programs(self) -> list[Programs]:
        """Those of each plane."""
        every = self.tiles.programs(self.costs.params, self.costs.fine)
        if len(self.planes) == 1:
            return [every.rows(self.own.start, self.own.stop)]
        found: dict[int, Programs] = {}
        for part in self.stacks:
            starts = range(part.tiles.start, part.tiles.stop, part.grid.count)
            found |= {i: every.rows(at, at + part.grid.count) for i, at in zip(part.members, starts, strict=True)}
        return [found[i] for i in range(len(self.planes))]

    @property
    def _alone(self) -> bool:
        """Whether there is one tile of at most one layer: nothing around it changes, once it is fitted."""
        return len(self.x) == 1 and int(self.tiles.count[0]) <= 1

    def _squared_error(self) -> float:
        return float(self.canvas.rest().to(torch.int64).square().sum())

    def _choose_dc(self) -> Tensor:
        """DC level of each tile: its weighted mean, or a cheaper level beside it when that pays; [N] int64."""
        own = self.windows.own[self.windows.of]
        total = (own.to(torch.int64) * self.goal).sum(dim=(1, 2)).cpu().to(torch.float64)
        weight = own.sum(dim=(1, 2), dtype=torch.int64).cpu().to(torch.float64)
        step = step_q15(self.spec.dc_step) / 8.0  # Q12
        ideal = (total / weight / torch.full_like(total, step)).numpy()
        unit = self.scorer.mse_weight + self.cfg.alpha_mix * 8.0
        unit *= (step / SAMPLE_ONE) ** 2
        costs = np.asarray([self.costs.dc(c) for c in range(3)]).reshape(-1) * (self.cfg.lambda_rd / 256.0)
        price = unit * self.windows.area[self.windows.of].cpu().numpy()
        levels, top = np.zeros(len(ideal), np.int64), self.syntax.dc_top
        levels[: self.own.start] = self.beside.above.dc
        for part in self.stacks:
            nx = part.grid.nx
            for start in range(max(part.tiles.start, self.own.start), part.tiles.stop, nx):
                above = levels[start - nx : start] if (start - part.tiles.start) % part.grid.count else levels[:0]
                row = slice(start, start + nx)
                choose_dc(levels[row], ideal[row], price[row], above, dc_contexts(above, nx), costs, top // 2, top)
        return torch.from_numpy(levels).to(self.x.device)

    def _add_layer(self, tiles: Tensor, layer: int, active: Tensor) -> None:
        """Give each of the tiles its best next layer, or leave it out from now on."""
        if not len(tiles):
            return
        e = self.canvas.look(tiles)
        cls = self.windows.of[tiles]
        found = best_layers(self.scorer, self.codebook, self.hooks, e, self.x[tiles], cls, layer, precise=self.precise)
        pays = found.change[:, 0] < 0
        active[tiles] = pays
        won = torch.nonzero(pays).flatten()
        if len(won):
            self._put_layer(tiles[won], layer, found.layers.pick(won), found.amp[won, 0])

    def _put_layer(self, tiles: Tensor, layer: int, layers: Layers, amp: Tensor) -> None:
        """Make a layer the last of each of the tiles."""
        self.tiles.put(tiles, layer, layers, amp)
        self.canvas.add(tiles, self._contribution(layers, amp))

    def _by_count(self, group: Tensor) -> tuple[Tensor, Tensor]:
        """Tiles and their numbers of layers, so that those that have a layer are the first ones."""
        counts, order = torch.sort(self.tiles.count[group], descending=True, stable=True)
        return group[order], counts

    def _refit(self, group: Tensor, refine: int, moves: dict[int, Moves]) -> None:
        """Amplitudes, and with `refine` offsets, of each tile again, the rest as it is; drop layers that do not pay.

        Args:
            moves: what a descent tries first of layers, by their number, as far as that is drawn already.
        """
        group, counts = self._by_count(group)
        having = np.bincount(counts.cpu().numpy(), minlength=1)[::-1].cumsum()[::-1].tolist()  # so many layers or more
        most = len(having) - 1
        e, x, cls = self.canvas.look(group), self.x[group], self.windows.of[group]
        amps = self.tiles.amp[group].t().contiguous()  # [L,n]
        fields = self.tiles.fields[group].transpose(0, 1).contiguous()
        for layer in range(most - 1, -1, -1):
            own = slice(having[layer + 1])
            tiles, left, place = group[own], e[own], cls[own]
            layers = found = Layers(fields[layer, own], self.tiles.plain)
            before = self._contribution(layers, amps[layer, own])
            self.canvas.show(left, place, before, 1)  # what is left without the layer
            trials = Trials(self.scorer, self.codebook, left, x[own], place, layer)
            change, amp = trials.score(layers)
            if self.precise is not None:
                found, change, amp = trials.polish(self.precise, found, change, amp)
            found, change, amp = trials.descend(found, change, amp, refine, moves.pop(layer, None))
            amp = torch.mul(amp, change < 0, out=amps[layer, own])
            after = self._contribution(found, amp)
            self.canvas.add(tiles, after, before)
            self.canvas.show(left, place, after, -1)
            if found is not layers:
                fields[layer, own] = found.fields
                self.tiles.plain = self.tiles.plain and found.plain
        self.tiles.replace(group, fields.transpose(0, 1), amps.t())

    def _moves(self, refine: int) -> list[dict[int, Moves]]:
        """What a descent tries first of each layer number of each group, as tiles are now, all drawn in one go.

        Only where a call costs far more than what it draws; not if it does not fit into memory.
        """
        nothing: list[dict[int, Moves]] = [{} for _ in self.groups]
        if not (self.ops.draws_ahead and refine and self.precise is None):
            return nothing
        total = int(self.tiles.count.sum())
        if total * _TRIAL_BYTES * self.cfg.tile**2 > free_memory(self.x.device) // 2:
            return nothing
        tiles = torch.cat([self._by_count(group)[0] for group in self.groups])
        turn = torch.cat([torch.full_like(group, i) for i, group in enumerate(self.groups)])
        each = torch.arange(MAX_LAYERS, device=tiles.device)
        at, layer = torch.nonzero(each < self.tiles.count[tiles, None], as_tuple=True)
        step = 1 << first_steps(self.scorer, refine)[0]
        drawn = draw_moves(self.scorer, self.codebook, self.tiles.layers(tiles[at], layer), step)
        place, most = turn[at] * MAX_LAYERS + layer, int(self.tiles.count.max())
        for i, moves in enumerate(nothing):
            for number in range(most):
                moves[number] = drawn.pick(torch.nonzero(place == i * MAX_LAYERS + number).flatten())
        return nothing

    def _refit_dc(self) -> None:
        """Move each knot of the base, by a step but for an only one, where that gains more than two bits' worth."""
        step, top = step_q15(self.spec.dc_step) * 2.0**-15, float(self.syntax.dc_top)
        reach = torch.cat(
            [
                torch.full((part.planes * part.grid.count,), 1.0 if part.grid.count > 1 else top, dtype=torch.float64)
                for part in self.stacks
            ]
        ).to(self.x.device)
        for mine in self.knots:
            gradient, norm = (part.to(torch.float64) for part in self.bases.slopes(self.canvas.rest(), mine))
            gradient, norm = gradient * 2.0 ** (-12 - 2 * SHARE_BITS), norm * 2.0 ** (-4 * SHARE_BITS)
            move = (gradient / (norm * step).clamp(min=1e-9)).round().clamp(-reach, reach)
            new = self.tiles.dc + move.to(torch.int64)
            gain = (gradient * move * (2.0 * step) - norm * (move * step).square()) * self.scorer.mse_weight
            wins = mine & (gain > 2.0 * self.cfg.lambda_rd) & (new >= 0) & (new < self.syntax.dc_top)
            if bool(wins.any()):
                self._set_dc(torch.where(wins, new, self.tiles.dc))

    def _search_again(self, group: Tensor) -> None:
        """Search each tile's whole program anew with a beam, its neighbours as they are; keep the better one."""
        cls, x = self.windows.of[group], self.x[group]
        e = self.canvas.look(group)
        old_j = self.scorer.distortion(e, x, cls) + self._program_bits(group) * (self.cfg.lambda_rd / 256.0)
        self.canvas.show(e, cls, self.canvas.samples(group), 1)
        new_j, trail = self._beam(e, x, cls)
        better = new_j < old_j
        tiles = group[better]
        if not len(tiles):
            return
        self.tiles.clear(tiles)
        self.canvas.put(tiles, torch.zeros_like(e[: len(tiles)]))
        for layer, (has, layers, amp) in enumerate(trail):
            at = torch.nonzero(better & has).flatten()
            if len(at):
                self._put_layer(group[at], layer, layers.pick(at), amp[at])

    def _merge(self, tiles: Tensor) -> None:
        """Choose each tile's program anew among its own layers and its neighbours', continued; keep the better one."""
        cls, x = self.windows.of[tiles], self.x[tiles]
        e = self.canvas.look(tiles)
        left = e.clone()
        self.canvas.show(left, cls, self.canvas.samples(tiles), 1)
        price = self.cfg.lambda_rd / 256.0
        every = self.tiles
        old_bits = self._program_bits(tiles) + self.costs.merges(0)[2] * every.count[tiles]
        old_j = self.scorer.distortion(e, x, cls) + old_bits * price
        pool = every.every()
        near = neighbours(
            tiles,
            every.count,
            every.root,
            every.amp,
            pool,
            self.stacks[0].grid,
            self.section_rows,
            self.codebook,
            self.cfg.seed,
        )
        found = _Tiles.of_dc(every.dc[tiles])
        bits = torch.zeros(len(tiles), dtype=torch.int64, device=tiles.device)
        samples = torch.zeros_like(left)
        at = torch.arange(len(tiles), device=tiles.device)
        for layer in range(self.cfg.max_layers):
            change, which, amp, cost = self._next_layer(near, pool, at, left[at], x[at], cls[at], layer)
            pays = torch.nonzero(change < 0).flatten()
            at, which, amp = at[pays], which[pays], amp[pays]
            if not len(at):
                break
            bits[at] += cost[pays]
            start = near.root[at, which]
            found.put(at, layer, pool.pick(start), amp)
            found.source[at, layer], found.root[at, layer] = near.source[at, which], start
            added = self._scaled(near, at, which, amp)
            near.patterns.rms[at, which] = 0.0  # once is enough
            samples[at] += added
            left[at] -= (self.windows.own[cls[at]] * added + (1 << 15)) >> 16
        new_j = self.scorer.distortion(left, x, cls) + bits * price
        better = torch.nonzero(new_j < old_j).flatten()
        wins = tiles[better]
        found.root = torch.where(found.source > 0, found.root, every.root[tiles])
        for name in ("count", "fields", "amp", "source", "root"):
            getattr(every, name)[wins] = getattr(found, name)[better]
        self.canvas.put(wins, samples[better])

    def _next_layer(
        self, near: Neighbours, pool: Layers, at: Tensor, e: Tensor, x: Tensor, cls: Tensor, layer: int
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The layer that suits each of the tiles `at` [n] best: (change of J, which, amplitude, bits / 256), all [n].

        Of its amplitudes, the one that suits the tile and the one it has had.
        """
        address, changes, own_flag = self.costs.merges(layer)
        price, plain = self.cfg.lambda_rd / 256.0, self.costs.amplitudes(layer)
        source, before = near.source[at], near.amp[at]
        layers = pool.pick(near.root[at].flatten())
        own = address_q8(self.scorer, layers, layer).view(source.shape) + own_flag
        side, number = (source - 1).clamp(min=0) // MAX_LAYERS, (source - 1).clamp(min=0) % MAX_LAYERS
        other = address[side, number] + self.costs.one_more(layer, self.cfg.max_layers)
        cost = torch.where(source > 0, other, own)
        patterns = Patterns(near.patterns.store, near.patterns.at[at], near.patterns.rms[at])
        change, amp = self.scorer.exact(e, x, cls, patterns, cost, layer)
        first = plain[(amp < 0).long(), amp.abs()]

        def amp_cost(amp: Tensor, before: Tensor, source: Tensor) -> Tensor:
            more = (amp.abs() - before.abs()).clamp(-AMP_SEARCHED, AMP_SEARCHED) + AMP_SEARCHED
            turned = ((amp < 0) != (before < 0)).long()
            return torch.where(source > 0, changes[more, turned], plain[(amp < 0).long(), amp.abs()])

        change = change + (amp_cost(amp, before, source) - first) * price
        which = self.ops.lowest(change, 1)
        change, amp, before, cost, source = (
            part.gather(1, which)[:, 0] for part in (change, amp, before, cost, source)
        )
        which = which[:, 0]
        usable = torch.isfinite(change)
        same = self._scaled(near, at, which, torch.where(usable, before, 0))
        rest = e - ((self.windows.own[cls] * same + (1 << 15)) >> 16)
        kept_bits, bits = (cost + amp_cost(level, before, source) for level in (before, amp))
        kept = self.scorer.distortion(rest, x, cls) - self.scorer.distortion(e, x, cls) + kept_bits * price
        keep = usable & (kept < change)
        return (
            torch.where(keep, kept, change), which, torch.where(keep, before, amp), torch.where(keep, kept_bits, bits)
        )  # fmt: skip

    def _scaled(self, near: Neighbours, at: Tensor, which: Tensor, amp: Tensor) -> Tensor:
        """What one of each tile's layers adds to its samples at amplitude levels [n]; [n,T,T] int32 Q12."""
        row = near.patterns.at[at, which]
        factor = coefficient(amplitude_q15(amp, self.spec.amp_step), near.rms[row])
        return (factor.view(-1, 1, 1) * near.drawn[row] + (1 << 16)) >> 17

    def _program_bits(self, group: Tensor) -> Tensor:
        """Cost of the tiles' layers as the search counts it, [n] float64 in 1/256 bit."""
        most, layer = self.cfg.max_layers, torch.arange(self.cfg.max_layers, device=group.device)
        address, amplitudes = self.costs.stacked(most)
        fields, amp = self.tiles.fields[group, :most], self.tiles.amp[group, :most]
        bits = address[layer, fields[..., 0]] + amplitudes[layer, (amp < 0).long(), amp.abs()]
        if not self.tiles.plain:
            bits += self.costs.offset_cost(fields[..., 4:], fields[..., 1])
        return torch.where(layer < self.tiles.count[group, None], bits, 0).sum(dim=1).to(torch.float64)

    def _beam(self, bare: Tensor, x: Tensor, cls: Tensor) -> tuple[Tensor, list[tuple[Tensor, Layers, Tensor]]]:
        """Best program of each tile from its DC alone: (J [n], per layer (has it [n], layer, amplitude))."""
        n, width, device = len(bare), self.cfg.beam, bare.device
        best = Leaders(self.scorer.distortion(bare, x, cls), self.ops)
        owner = torch.arange(n, device=device)  # state -> tile, ascending
        e, j, of = bare, best.j.clone(), cls
        steps: list[tuple[Found, Tensor]] = []  # per layer, what was found for each state, and what of that was kept
        for layer in range(self.cfg.max_layers):
            x_of = x if not layer else x[owner]
            found = best_layers(self.scorer, self.codebook, self.hooks, e, x_of, of, layer, width)
            j, kept = best.offered(owner, j, found.change, width, layer)
            if not len(kept):
                break
            steps.append((found, kept))
            parent = torch.div(kept, found.change.shape[1], rounding_mode="floor")
            e, j, owner = e[parent], j[kept], owner[parent]
            of = cls[owner]
            added = self._contribution(found.layers.pick(kept), found.amp.reshape(-1)[kept])
            self.canvas.show(e, of, added, -1)
        trail = []
        at = best.offer
        for layer in range(len(steps) - 1, -1, -1):
            found, _ = steps[layer]
            has = best.depth > layer
            now = torch.where(has, at, 0)
            trail.append((has, found.layers.pick(now), found.amp.reshape(-1)[now]))
            if layer:
                parent = torch.div(now, found.change.shape[1], rounding_mode="floor")
                at = torch.where(has, steps[layer - 1][1][parent], at)
        return best.j, trail[::-1]


class Leaders:
    """The best states of all so far of tiles, as a beam moves on; all [n].

    j: of the best state, at first of none.   depth: its layers.   offer: which offer made the last of them.
    """

    def __init__(self, j: Tensor, ops: Backend) -> None:
        self._ops = ops
        self.j, self.depth, self.offer = j, *(torch.zeros(len(j), dtype=torch.int64, device=j.device) for _ in range(2))

    def offered(self, owner: Tensor, j: Tensor, change: Tensor, width: int, layer: int) -> tuple[Tensor, Tensor]:
        """`Backend.offered` of states [S], whose best move on in place."""
        return self._ops.offered(owner, j, change, width, layer, self.j, self.depth, self.offer)


def searched_off_grid(grid: TileSpec) -> bool:
    """Whether there are so few tiles, and so large, that each is searched beyond the bank."""
    return grid.cfg.size > FINE_ABOVE and grid.count <= FEW_TILES


def searched_together(grid: TileSpec, cfg: CodecConfig) -> bool:
    """Whether a plane may be searched beside others, with the same result as alone."""
    return not cfg.merge and not searched_off_grid(grid) and len(bands(grid, cfg)) == 1


def bands(grid: TileSpec, cfg: CodecConfig) -> list[range]:
    """Tile rows that are searched at once: a plane's memory would grow with it otherwise."""
    most = max(_BESIDE * grid.cfg.size // grid.cfg.stride, _BAND // (grid.nx * grid.cfg.size**2))
    rows = grid.ny if cfg.merge else min(most, grid.ny)
    return [range(start, min(start + rows, grid.ny)) for start in range(0, grid.ny, rows)]


def search_band(
    plane: Tensor,
    grid: TileSpec,
    rows: range,
    above: Programs,
    header: Header,
    index: int,
    cfg: CodecConfig,
    tables: TableSet,
    codebook: Codebook,
    progress: tqdm[Any],
    picture: Tensor | None = None,
) -> Programs:
    """Search some tile rows of a plane [H,W] as `PlaneEncoder` does a whole one.

    Args:
        above: programs of all rows before them, in order.   picture: [H,W], see `PlaneEncoder`.
    """
    near = -(-grid.cfg.size // grid.cfg.stride) - 1  # rows that overlap one
    first, last = max(0, rows.start - near), min(grid.ny, rows.stop + near)
    part = slice(grid.ys[first], min(grid.ys[last - 1] + grid.cfg.size, grid.H))
    seen = [] if picture is None else [picture[part]]
    beside = Beside(above.rows(first * grid.nx, rows.start * grid.nx), last - rows.stop)
    encoder = PlaneEncoder([plane[part]], header, index, cfg, tables, codebook, cfg.ai, beside=beside, pictures=seen)
    found = encoder.run(progress)
    assert found is not None, "there is no limit"
    return found[0]


def turn_groups(grid: TileSpec) -> list[list[int]]:
    """Tiles that do not overlap, as groups that take turns: the greedy colouring of each axis, combined."""

    def colours(starts: Sequence[int]) -> list[int]:
        ends: list[int] = []
        out = []
        for start in starts:
            colour = next((c for c, end in enumerate(ends) if end <= start), len(ends))
            ends[colour:] = [start + grid.cfg.size, *ends[colour + 1 :]]
            out.append(colour)
        return out

    rows, cols = colours(grid.ys), colours(grid.xs)
    groups: dict[tuple[int, int], list[int]] = {}
    for r, row in enumerate(rows):
        for c, col in enumerate(cols):
            groups.setdefault((row, col), []).append(r * grid.nx + c)
    return [groups[key] for key in sorted(groups)]
