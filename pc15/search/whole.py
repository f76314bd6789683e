"""Whether a plane may be one pattern, or two on top of each other: a glance, before the search that would find them.

That search takes seconds, and on a photograph it finds nothing.  So the plane is reduced to a few dozen boxes a side;
the best starts there (from the bank, the spectrum and where gradients point) climb a little, then others on what the
winner leaves.  At this resolution two layers draw more than 0.96 of the variance of most pictures of one pattern, and
of most photographs a third to two thirds.  Where even the plane's cheapest code
leaves much of the variance, less will do.

Integers and elementwise arithmetic as in `precise`: the same answer on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.proc.codebook import Codebook
from pc15.proc.registry import gen_id
from pc15.proc.spec import fine_bits
from pc15.search.bank import SCREEN, get_bank
from pc15.search.precise import Climber, leading, resolution, spectrum_peaks, turning, view_of

LEFT = 0.07
"""Share of the variance that may be left: climbing on at higher resolutions will still take most of it."""

_HALF = 0.4  # share that the first layer must draw: the second of two hardly draws more than the first
_SPECTRUM = 128  # px
_ANALYSED = ("STRIPES", "CHECKER", "RINGS", "SPIRAL", "SUNBURST")  # what starts from analysis and not from the bank
_STARTS = 384  # of each of them
_LEADERS = 3  # of the bank, and of the analysis, that may climb
_CLIMBERS = 4
_RAYS = 8


def may_be_programs(plane: Tensor, codebook: Codebook, seed: int, left: float) -> bool:
    """Whether a search for one tile over the whole plane may pay.

    Args:
        plane: [h,w] int32 Q12, its longer side above SCREEN px.
        left: squared error that the plane's best code without programs is worth, bits included, as a share of the
            squared error around its mean.
    """
    h, w = plane.shape
    tile = max(h, w)
    mean = torch.div(plane.sum(dtype=torch.int64), h * w, rounding_mode="floor")
    linear = torch.zeros((tile, tile), dtype=torch.int64, device=plane.device)
    quad = torch.zeros_like(linear)
    linear[:h, :w], quad[:h, :w] = (plane - mean) << 16, 1 << 16
    climber = Climber(get_bank(tile, codebook, seed, plane.device), codebook, fine_bits(tile), seed)
    peaks = spectrum_peaks(view_of(linear, quad, _SPECTRUM))
    side, slow = resolution(peaks)
    small = view_of(linear, quad, SCREEN)
    turns = turning(small)
    many = bool(turns) and turns[0][2] > _RAYS  # they meet in what coarse boxes blur
    view = view_of(linear, quad, side // 2 if slow and not many else side)
    energy, least = view.energy, max(LEFT, left)
    rest = energy
    analysed = [gen_id(name) for name in _ANALYSED]
    for layer in range(2):
        if layer:
            peaks, turns = spectrum_peaks(view), turning(small)
        rows = climber.rows(small)
        states = leading(climber.starting(view, (), climber.entries(rows, _LEADERS), most=0), _LEADERS, each=1)
        states += leading(climber.starting(view, peaks, {}, turns, most=_STARTS, only=analysed), _LEADERS, each=1)
        one = 1 << climber.fine
        states = [climber.climb(view, s, one, 2, 4) for s in leading(states, _CLIMBERS, each=2)]
        if not states:
            return False
        best = climber.climb(view, leading(states, 1)[0], one, 6, 2)
        rest -= float(best.gain)
        if rest <= least * energy:
            return True
        if rest > (1.0 - _HALF * (1.0 - least)) * energy:
            return False
        view = climber.without(view, best)
        small = climber.without(small, climber.again(small, [best])[0])
    return False
