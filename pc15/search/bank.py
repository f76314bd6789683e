"""Every candidate, drawn once by the decoder's own code: int8 rows that one matrix product scores.

Row k is entry qv[k] of generator gen[k] under seed index seed[k]; its pixels are the pattern without its mean,
stretched so that the largest is +-127.  For tiles of up to SCREEN pixels a side the unstretched patterns are kept
too, so that a winner need not be drawn again.  Larger tiles are all represented by one bank of SCREEN x SCREEN,
box-averaged from twice that.  A bank depends on the tile size, the codebook and the stream's seed, not
on windows or pictures; it is kept in memory and, drawn once, on disk.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.errors import ConfigError
from pc15.fixed import floor_div, isqrt64
from pc15.paths import cache_dir
from pc15.proc.codebook import Codebook
from pc15.proc.coords import tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import RMS_FLOOR, draw_levels, mean_rms
from pc15.runtime.memo import cached_method
from pc15.runtime.notices import bars_hidden, say_once
from pc15.search.backend import backend_of
from pc15.search.backend.product import Product
from pc15.search.backend.protocol import BankTerms
from pc15.search.bank_store import ArrayKind, load_arrays, store_arrays
from pc15.search.expansion import energy_terms
from pc15.search.single_steps import SingleSteps
from pc15.search.sizes import SCREEN
from pc15.search.windows import Surroundings

_KEEP = 2  # banks in memory at once
_DRAW_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Bank:
    """All candidates of one tile size.

    pixels: [K, S*S] int8.   gen, qv, seed: [K] int64.   start: G+1 offsets, generator g has rows start[g]:start[g+1].
    rms: [K] float64, RMS of the int8 pixels.   side: S.
    drawn: [K, S*S] int16, the patterns without their mean, Q14, as the decoder draws them, 0 if flat; None where S is
        less than the tile's side.
    name: of the bank on disk, different for all different banks.
    drawn_rms: [K] int32, the RMS of `drawn`, Q14.
    """

    drawn: Tensor | None
    drawn_rms: Tensor
    pixels: Tensor
    gen: Tensor
    qv: Tensor
    seed: Tensor
    start: tuple[int, ...]
    rms: Tensor
    side: int
    name: str

    @property
    def rows(self) -> int:
        """Number of candidates."""
        return int(self.gen.shape[0])

    @functools.cached_property
    def draws(self) -> Tensor:
        """[G] int64: seed indices, hence rows, per codebook entry of each generator."""
        return torch.tensor([load(gen).seeds for gen in range(len(NAMES))], device=self.gen.device)

    @functools.cached_property
    def params(self) -> Tensor:
        """[G] int64: parameters of each generator."""
        return torch.tensor([len(load(gen).params) for gen in range(len(NAMES))], device=self.gen.device)

    def row_of(self, gen: Tensor, qv: Tensor, seed: Tensor) -> Tensor:
        """Row of an entry under a seed index, [B] int64."""
        return self._first[gen] + qv * self.draws[gen] + seed

    @functools.cached_property
    def _first(self) -> Tensor:
        return torch.tensor(self.start, device=self.gen.device)

    @functools.cached_property
    def address(self) -> Tensor:
        """[K,4] int64: row, generator, entry and seed index of every row."""
        return torch.stack([torch.arange(self.rows, device=self.gen.device), self.gen, self.qv, self.seed], dim=1)

    @functools.cached_property
    def single_steps(self) -> SingleSteps:
        """Patterns of all rows with one parameter moved by one level; of a bank at the tiles' own resolution."""
        return SingleSteps(self.params[self.gen], self.side * self.side)

    @functools.cached_property
    def halved(self) -> Tensor:
        """[K, (S/2)^2] int8: the same patterns at half the side, each stretched to +-127 again; S must be even."""
        half = self.side // 2
        parts = []
        for chunk in self.pixels.split(_DRAW_ROWS):
            summed = chunk.view(-1, half, 2, half, 2).to(torch.int32).sum(dim=(2, 4)).to(torch.int32)
            parts.append(stretch(summed.view(-1, half * half)))
        return torch.cat(parts)

    @property
    def seen(self) -> Tensor | None:
        """The patterns as nets see tiles, [K,256] int8 of 16 boxes a side; None of tiles that they cannot see."""
        return (
            {SCREEN: self.halved, SCREEN // 2: self.pixels}.get(self.side)
            if self.side in (SCREEN, SCREEN // 2)
            else None
        )

    @cached_method
    def terms(self, half: bool, around: Surroundings) -> BankTerms:
        """Terms of scores, of all candidates; at half the side, if asked."""
        return terms_of(self.halved if half else self.pixels, around)

    @cached_method
    def product(self, half: bool, gen: int | None = None) -> Product:
        """The candidates of one generator, or all, ready to be multiplied; at half the side, if asked."""
        return Product((self.halved if half else self.pixels)[self._rows_of(gen)])

    @cached_method
    def energy_product(self, half: bool, around: Surroundings, gen: int | None = None) -> Product:
        """Their energies, likewise."""
        return Product(self.terms(half, around).energies[self._rows_of(gen)])

    def _rows_of(self, gen: int | None) -> slice:
        return slice(None) if gen is None else slice(self.start[gen], self.start[gen + 1])

    @classmethod
    def of_parts(cls, tile: int, codebook: Codebook, parts: _Parts, name: str) -> Bank:
        """From the patterns of all rows, in order."""
        gens, qvs, seeds, start = [], [], [], [0]
        for gen in range(len(NAMES)):
            count, draws = codebook.size(gen), load(gen).seeds
            gens.append(torch.full((count * draws,), gen))
            qvs.append(torch.arange(count).repeat_interleave(draws))
            seeds.append(torch.arange(draws).repeat(count))
            start.append(start[-1] + count * draws)
        device = parts.pixels.device
        gen_of, qv_of, seed_of = (torch.cat(part).to(device) for part in (gens, qvs, seeds))
        return cls(
            drawn=parts.drawn,
            drawn_rms=parts.rms[:, 1].to(torch.int32),
            pixels=parts.pixels,
            gen=gen_of,
            qv=qv_of,
            seed=seed_of,
            start=tuple(start),
            rms=parts.rms[:, 0].contiguous(),
            side=screen_side(tile),
            name=name,
        )


def terms_of(pixels: Tensor, around: Surroundings) -> BankTerms:
    """Terms of scores, of patterns [K,S*S] int8."""
    terms = energy_terms(around, math.isqrt(pixels.shape[1]), pixels.device)
    return BankTerms(pixels, *backend_of(pixels.device).energies(pixels, terms))


def stretch(d: Tensor) -> Tensor:
    """Patterns ready for a product: int32 rows scaled so that the largest magnitude becomes 127, int8; flat ones 0."""
    peak = d.abs().amax(dim=1, keepdim=True).clamp(min=1)
    return floor_div(2 * 127 * d + peak, 2 * peak).to(torch.int8)


def screen_side(tile: int) -> int:
    """Side, px, of the resolution that a tile is screened at."""
    return min(tile, SCREEN)


@functools.cache
def _code_version() -> str:
    """Hash of everything that decides what a pattern looks like."""
    package = Path(__file__).resolve().parent.parent
    sources = [package / "fixed.py", package / "seed.py", Path(__file__), *sorted((package / "proc").rglob("*.py"))]
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.name.encode() + source.read_bytes())
    return digest.hexdigest()


_LOADED: OrderedDict[tuple[int, int, str, str], Bank] = OrderedDict()


def get_bank(tile: int, codebook: Codebook, seed: int, device: torch.device) -> Bank:
    """The bank of a tile size, from memory, from disk, or drawn now.

    Banks on disk are mapped, not read: processes share them and load what they touch.
    """
    tile = min(tile, SCREEN + 1)  # all above SCREEN share one
    key = (tile, seed, codebook.fingerprint, str(device))
    if key in _LOADED:
        _LOADED.move_to_end(key)
        return _LOADED[key]
    name = hashlib.sha256(f"{tile}/{seed}/{codebook.fingerprint}/{_code_version()}".encode()).hexdigest()[:32]
    bank = Bank.of_parts(tile, codebook, _stored(tile, codebook, seed, device, name), name)
    _LOADED[key] = bank
    while len(_LOADED) > _KEEP:
        _LOADED.popitem(last=False)
    return bank


@dataclass(frozen=True, eq=False)
class _Parts:
    """Arrays of a bank that lie on disk.

    drawn, pixels: as in `Bank`; where there is no `drawn`, no array.   rms: [K,2] float64: of `pixels`, and of `drawn`,
        a whole number.
    """

    drawn: Tensor | None
    pixels: Tensor
    rms: Tensor

    def to(self, device: torch.device) -> _Parts:
        drawn = None if self.drawn is None else self.drawn.to(device)
        return _Parts(drawn, self.pixels.to(device), self.rms.to(device))


def _stored(tile: int, codebook: Codebook, seed: int, device: torch.device, name: str) -> _Parts:
    """The parts of exactly these candidates: mapped from the disk cache, after being drawn into it if need be."""
    side = screen_side(tile)
    rows = sum(codebook.size(gen) * load(gen).seeds for gen in range(len(NAMES)))
    kinds = {"pixels": ArrayKind("i1", (rows, side * side)), "rms": ArrayKind("<f8", (rows, 2))}
    if side == tile:
        kinds["drawn"] = ArrayKind("<i2", (rows, side * side))
    found: dict[str, Any] | None = None
    try:
        folder = cache_dir() / "banks"
        found = load_arrays(folder, name, kinds)
        if found is None:
            store_arrays(folder, name, kinds, _draw(tile, codebook, seed, device))
            found = load_arrays(folder, name, kinds)
    except (OSError, ConfigError) as error:
        say_once(
            "banks",
            "banks stay in memory only, and are drawn anew at every start, which takes seconds: their cache cannot be "
            "written (%s); set PC15_CACHE_DIR to a folder that can",
            error,
        )
    if found is None:
        drawn = list(_draw(tile, codebook, seed, device))
        found = {part: np.concatenate([chunk[part] for chunk in drawn]) for part in kinds}
    parts = {part: torch.from_numpy(array) for part, array in found.items()}
    return _Parts(parts.get("drawn"), parts["pixels"], parts["rms"]).to(device)


def _draw(tile: int, codebook: Codebook, seed: int, device: torch.device) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Draw all candidates, some at a time, the parts of each by name; drawn on `device`, handed out on the CPU."""
    side = screen_side(tile)
    fine = side if side == tile else 2 * side
    at = tile_grid(fine, device=device)
    total = sum(codebook.size(gen) * load(gen).seeds for gen in range(len(NAMES)))
    hidden = bars_hidden() if total * fine * fine > 1 << 24 else True
    with tqdm(total=total, desc="drawing the bank", unit="pattern", disable=hidden, leave=False) as bar:
        for gen in range(len(NAMES)):
            draws = load(gen).seeds
            qv = torch.arange(codebook.size(gen), device=device).repeat_interleave(draws)
            seeds = torch.arange(draws, device=device).repeat(codebook.size(gen))
            nothing = torch.zeros((1, 8), dtype=torch.int32, device=device)
            for i in range(0, len(qv), _DRAW_ROWS):
                part = slice(i, i + _DRAW_ROWS)
                levels = codebook.levels(gen, qv[part], nothing)
                d = centred(draw_levels(gen, levels, seeds[part], at, seed))
                if fine > side:
                    d = d.view(-1, side, 2, side, 2).sum(dim=(2, 4)) >> 2
                d = d.clamp(-32767, 32767).reshape(-1, side * side).to(torch.int32)
                pixels = stretch(d)
                power = torch.div((d * d).sum(dim=1, dtype=torch.int64), d.shape[1], rounding_mode="floor")
                rms = torch.stack([pixels.to(torch.float64).square().mean(dim=1).sqrt(), isqrt64(power).double()], 1)
                chunk = {"pixels": pixels, "rms": rms} | ({"drawn": d.to(torch.int16)} if side == tile else {})
                yield {part: rows.cpu().numpy() for part, rows in chunk.items()}
                bar.update(len(d))


def centred(drawn: Tensor) -> Tensor:
    """Drawn patterns [B,h,w] without their mean; 0 where they are flat."""
    mean, rms = mean_rms(drawn)
    return torch.where((rms >= RMS_FLOOR).view(-1, 1, 1), drawn - mean.view(-1, 1, 1), 0)
