"""DC levels: the base that all layers lie upon, chosen first and moved after every re-fit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pc15.bitstream.enc.dc_choice import choose_dc
from pc15.bitstream.sections import dc_contexts
from pc15.dc_surface import SHARE_BITS
from pc15.luma import SAMPLE_ONE
from pc15.quant import step_q15
from pc15.search.plane_state import PlaneState


def first_dc_levels(state: PlaneState) -> Tensor:
    """DC level of each tile: its weighted mean, or a cheaper level beside it when that pays; [N] int64."""
    windows, cfg, beside = state.windows, state.cfg, state.beside
    own = windows.blend[windows.class_of_tile]
    total = (own.to(torch.int64) * state.goal).sum(dim=(1, 2)).cpu().to(torch.float64)
    weight = own.sum(dim=(1, 2), dtype=torch.int64).cpu().to(torch.float64)
    step = step_q15(state.spec.dc_step) / 8.0  # Q12
    ideal = (total / weight / torch.full_like(total, step)).numpy()
    unit = state.scorer.mse_weight + cfg.alpha_mix * 8.0
    unit *= (step / SAMPLE_ONE) ** 2
    costs = np.asarray([state.costs.dc(c) for c in range(3)]).reshape(-1) * state.bit_price
    price = unit * windows.area[windows.class_of_tile].cpu().numpy()
    levels, top = np.zeros(len(ideal), np.int64), state.syntax.dc_top
    levels[: state.own.start] = beside.above.dc
    for part in state.stacks:
        nx = part.grid.nx
        for start in range(max(part.tiles.start, state.own.start), part.tiles.stop, nx):
            above = levels[start - nx : start] if (start - part.tiles.start) % part.grid.count else levels[:0]
            row = slice(start, start + nx)
            choose_dc(levels[row], ideal[row], price[row], above, dc_contexts(above, nx), costs, top // 2, top)
    return torch.from_numpy(levels).to(state.x.device)


def refit_dc(state: PlaneState) -> None:
    """Move each knot of the base, by a step but for an only one, where that gains more than two bits' worth."""
    step, top = step_q15(state.spec.dc_step) * 2.0**-15, float(state.syntax.dc_top)
    reach = torch.cat(
        [
            torch.full((part.planes * part.grid.count,), 1.0 if part.grid.count > 1 else top, dtype=torch.float64)
            for part in state.stacks
        ]
    ).to(state.x.device)
    for mine in state.knots:
        gradient, norm = (part.to(torch.float64) for part in state.bases.slopes(state.canvas.rest(), mine))
        gradient, norm = gradient * 2.0 ** (-12 - 2 * SHARE_BITS), norm * 2.0 ** (-4 * SHARE_BITS)
        move = (gradient / (norm * step).clamp(min=1e-9)).round().clamp(-reach, reach)
        new = state.tiles.dc + move.to(torch.int64)
        gain = (gradient * move * (2.0 * step) - norm * (move * step).square()) * state.scorer.mse_weight
        wins = mine & (gain > 2.0 * state.cfg.lambda_rd) & (new >= 0) & (new < state.syntax.dc_top)
        if bool(wins.any()):
            state.set_dc(torch.where(wins, new, state.tiles.dc))
