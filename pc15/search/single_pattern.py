"""Detection of planes that are one pattern, or a few on top of each other, and roughly which: before the search.

That search takes seconds, and on a photograph it finds nothing.  So where only a good match could win, most photographs
are out by how their gradients run (`coherence`).  Any other plane is reduced to a few dozen boxes a side; the best
starts there (from the bank, the spectrum and where gradients point) climb a little, then others on what the winner
leaves.  At this resolution two layers draw nearly all of most pictures of one pattern, and far less of most
photographs.  Where even the plane's cheapest code leaves much of the variance, less will do, if it is the plane's
variance and not that of its boxes.

Sums of stripes and waves are told by their spectrum, and taken apart wave after wave.

The layers found are where `continuous` begins.

Integers and elementwise arithmetic as in `climb`: the same answer on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pc15.proc.codebook import Codebook
from pc15.proc.registry import gen_id
from pc15.proc.spec import fine_bits
from pc15.runtime.parallel import single_thread
from pc15.search.analysis import resolution, spectrum_peaks, turning
from pc15.search.bank import get_bank
from pc15.search.climb import Climber, States, leading
from pc15.search.coherence import is_sum_of_waves, may_be_pattern
from pc15.search.sizes import SCREEN
from pc15.search.view import View, view_of

LEFT = 0.07
"""Share of the variance that may be left: climbing on at higher resolutions will still take most of it."""

_HALF = 0.4
"""Share that the first layer must draw: the second of two hardly draws more than the first."""

_BEGINS = 0.2
"""Share of the needed gain that the best start of a picture of one pattern draws before it climbs: a larger one saves
time on photographs and loses patterns whose starts are poor."""

_BEGINS_SLOW = 0.38
"""The same where waves are slow, as they are in photographs."""

_ROUGH_CYCLES = 3.0
"""Waves per tile; starts for slower ones are compared at half the resolution, a quarter of the time."""

_SPECTRUM_SIDE = 128
"""Boxes a side that the spectrum is taken at: half of a search's, as only its strongest waves matter here."""

_ANALYSED = ("STRIPES", "CHECKER", "RINGS", "SPIRAL", "SUNBURST")
"""Generators that are started from analysis and not from the bank."""

_STARTS = 384
"""Starts of each of them; a search takes up to twenty times as many."""

_LEADERS = 3
"""Starts of the bank, and as many of the analysis, that may climb."""

_CLIMBERS = 4
"""Starts that climb, of all leaders."""

_STRAIGHT = ("STRIPES", "WAVES_DIR")
"""Generators of what runs in one direction, of which many may lie upon each other."""

_MOST_SUMMANDS = 6
_WORTH = 0.02
"""Share of what is left that a further one of them must draw."""

_LEFT_BY_SUM = 0.12
"""Share of the variance that all of them may leave, before their edges are climbed to at the plane's own resolution."""

_RAYS = 8
"""Arms around a centre beyond which they meet in what coarse boxes blur: then the resolution is not halved."""


def detect_single_pattern(plane: Tensor, codebook: Codebook, seed: int, left: float) -> list[list[States]]:
    """The layers, roughly, of one tile over the whole plane if a search for them may pay; else none.

    Args:
        plane: [h,w] int32 Q12, its longer side above SCREEN px.
        left: squared error that the plane's best code without programs is worth, bits included, as a share of the
            squared error around its mean.
    Returns:
        Of each layer single states of several generators, best first, in sub-levels of a tile as long as the longer
        side.
    """
    return pattern_layers(plane, codebook, seed, left) if may_be_pattern(plane.cpu().numpy(), left) else []


def pattern_layers(plane: Tensor, codebook: Codebook, seed: int, left: float) -> list[list[States]]:
    """`detect_single_pattern` of a plane that `coherence.may_be_pattern` has not ruled out."""
    h, w = plane.shape
    tile = max(h, w)
    mean = torch.div(plane.sum(dtype=torch.int64), h * w, rounding_mode="floor")
    linear = torch.zeros((tile, tile), dtype=torch.int64, device=plane.device)
    quad = torch.zeros_like(linear)
    linear[:h, :w], quad[:h, :w] = (plane - mean) << 16, 1 << 16
    climber = Climber(get_bank(tile, codebook, seed, plane.device), codebook, fine_bits(tile), seed)
    fine = view_of(linear, quad, _SPECTRUM_SIDE)
    if is_sum_of_waves(plane.cpu().numpy()):
        with single_thread(only_if=True):
            summands = _summands(climber, fine)
        if len(summands) > 1:
            return [[state] for state in summands]
    peaks = spectrum_peaks(fine)
    side, slow = resolution(peaks)
    small = view_of(linear, quad, SCREEN)
    turns = turning(small)
    many = bool(turns) and turns[0][2] > _RAYS
    slow = slow and not many
    view = view_of(linear, quad, side // 2 if slow else side)
    rough = view
    if slow and peaks and peaks[0][0] <= _ROUGH_CYCLES:
        rough = view_of(linear, quad, view.side // 2)
    energy, least = view.energy, max(LEFT, left)
    detail = float((linear >> 16).square().sum()) * 2.0**8 - energy  # what this resolution does not show
    rest = energy
    found: list[list[States]] = []
    analysed = [gen_id(name) for name in _ANALYSED]
    for layer in range(2):
        if layer:
            peaks, turns = spectrum_peaks(view), turning(small)
        rows = climber.rows(small)
        states = leading(climber.starting(view, (), climber.entries(rows, _LEADERS), most=0), _LEADERS, each=1)
        begun = leading(climber.starting(rough, peaks, {}, turns, most=_STARTS, only=analysed), _LEADERS, each=1)
        states += climber.again(view, begun)
        needed = (1.0 - least) * (_BEGINS_SLOW if slow else _BEGINS) if layer == 0 else 0.0
        if max((float(s.gain) for s in states), default=0.0) <= needed * energy:
            return []
        one = 1 << climber.fine
        states = [climber.climb(view, s, one, 2, 4) for s in leading(states, _CLIMBERS, each=2)]
        best = climber.climb(view, leading(states, 1)[0], one, 6, 2)
        rest -= float(best.gain)
        found.append([best, *(s for s in leading(states, _LEADERS, each=1) if s.gen != best.gen)])
        if rest <= LEFT * energy or rest + detail <= left * (energy + detail):
            return found
        if rest > (1.0 - _HALF * (1.0 - least)) * energy:
            return []
        view = rough = climber.without(view, best)
        small = climber.without(small, climber.again(small, [best])[0])
    return []


def _summands(climber: Climber, view: View) -> list[States]:
    """Stripes and waves that add up to a view, each found in what those before it leave; none if they do not."""
    one, straight, found = 1 << climber.fine, [gen_id(name) for name in _STRAIGHT], list[States]()
    most = _LEFT_BY_SUM * view.energy
    for _ in range(_MOST_SUMMANDS):
        begun = climber.starting(view, spectrum_peaks(view), {}, only=straight, most=_STARTS)
        if not begun:
            break
        states = [climber.climb(view, s, one, 6, 1) for s in leading(begun, _CLIMBERS, each=2)]
        best = climber.climb(view, leading(states, 1)[0], max(1, one // 4), 8, 1)
        if float(best.gain) < _WORTH * view.energy:
            break
        found.append(best)
        view = climber.without(view, best)
    return found if view.energy <= most else []
