"""Every candidate, drawn once by the decoder's own code: int8 rows that one matrix product scores.

Row k is entry qv[k] of generator gen[k] under seed index seed[k]; its pixels are the pattern without its mean,
stretched so that the largest is +-127.  For tiles of up to SCREEN pixels a side the unstretched patterns are kept
too, so that a winner need not be drawn again.  Larger tiles are all represented by one bank of SCREEN x SCREEN,
box-averaged from twice that.  A bank depends on the tile size, the codebook and the stream's seed,
not on windows or pictures; it is kept in memory and, drawn once, on disk.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pc15.fixed import floor_div, isqrt64
from pc15.paths import cache_dir, write_atomic
from pc15.proc.codebook import Codebook
from pc15.proc.coords import tile_grid
from pc15.proc.generators import NAMES, load
from pc15.proc.registry import RMS_FLOOR, draw_levels, mean_rms
from pc15.search.product import Product

_LOG = logging.getLogger(__name__)

SCREEN = 32
"""Side, px, of the resolution that large tiles are screened at."""

_KEEP = 2  # banks in memory at once
_DRAW_ROWS = 2048


@dataclass(frozen=True, eq=False)
class Bank:
    """All candidates of one tile size.

    pixels: [K, S*S] int8.   gen, qv, seed: [K] int64.   start: G+1 offsets, generator g has rows start[g]:start[g+1].
    side: S.
    drawn: [K, S*S] int16, the patterns without their mean, Q14, as the decoder draws them, 0 if flat; None where S is
        less than the tile's side.
    """

    drawn: Tensor | None
    pixels: Tensor
    gen: Tensor
    qv: Tensor
    seed: Tensor
    start: tuple[int, ...]
    side: int

    @functools.cached_property
    def rms(self) -> Tensor:
        """[K] float64, RMS of the int8 pixels."""
        return torch.cat([part.to(torch.float64).square().mean(dim=1).sqrt() for part in self.pixels.split(_DRAW_ROWS)])

    @functools.cached_property
    def drawn_rms(self) -> Tensor:
        """[K] int32, RMS of `drawn`, Q14."""
        assert self.drawn is not None, "large tiles are drawn anew"
        parts = []
        for chunk in self.drawn.split(_DRAW_ROWS):
            wide = chunk.to(torch.int32)
            power = torch.div((wide * wide).sum(dim=1, dtype=torch.int64), wide.shape[1], rounding_mode="floor")
            parts.append(isqrt64(power).to(torch.int32))
        return torch.cat(parts)

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
        return torch.tensor(self.start, device=gen.device)[gen] + qv * self.draws[gen] + seed

    @functools.cached_property
    def halved(self) -> Tensor:
        """[K, (S/2)^2] int8: the same patterns at half the side, each stretched to +-127 again; S must be even."""
        half = self.side // 2
        parts = []
        for chunk in self.pixels.split(_DRAW_ROWS):
            summed = chunk.view(-1, half, 2, half, 2).to(torch.int32).sum(dim=(2, 4)).to(torch.int32)
            parts.append(_stretch(summed.view(-1, half * half)))
        return torch.cat(parts)

    @functools.cache  # noqa: B019 - as long as the bank itself
    def product(self, half: bool, gen: int | None = None) -> Product:
        """The candidates of one generator, or all, ready to be multiplied; at half the side, if asked."""
        rows = slice(None) if gen is None else slice(self.start[gen], self.start[gen + 1])
        return Product((self.halved if half else self.pixels)[rows])

    @classmethod
    def of_rows(cls, tile: int, codebook: Codebook, rows: Tensor) -> Bank:
        """From what the disk keeps of all rows in order, [K, S*S]: `drawn`, or of large tiles `pixels`."""
        gens, qvs, seeds, start = [], [], [], [0]
        for gen in range(len(NAMES)):
            count, draws = codebook.size(gen), load(gen).seeds
            gens.append(torch.full((count * draws,), gen))
            qvs.append(torch.arange(count).repeat_interleave(draws))
            seeds.append(torch.arange(draws).repeat(count))
            start.append(start[-1] + count * draws)
        gen_of, qv_of, seed_of = (torch.cat(parts).to(rows.device) for parts in (gens, qvs, seeds))
        drawn = rows if rows.dtype == torch.int16 else None
        pixels = rows if drawn is None else torch.cat([_stretch(p.to(torch.int32)) for p in rows.split(_DRAW_ROWS)])
        return cls(drawn, pixels, gen_of, qv_of, seed_of, tuple(start), screen_side(tile))


def _stretch(d: Tensor) -> Tensor:
    """int32 rows scaled so that the largest magnitude becomes 127, int8; flat rows stay 0."""
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
    """The bank of a tile size, from memory, from disk, or drawn now."""
    tile = min(tile, SCREEN + 1)  # all above SCREEN share one
    key = (tile, seed, codebook.fingerprint, str(device))
    if key in _LOADED:
        _LOADED.move_to_end(key)
        return _LOADED[key]
    bank = Bank.of_rows(tile, codebook, _rows(tile, codebook, seed, device).to(device))
    _LOADED[key] = bank
    while len(_LOADED) > _KEEP:
        _LOADED.popitem(last=False)
    return bank


def _rows(tile: int, codebook: Codebook, seed: int, device: torch.device) -> Tensor:
    """What `Bank.of_rows` takes, from the disk cache if it holds exactly these candidates."""
    name = hashlib.sha256(f"{tile}/{seed}/{codebook.fingerprint}/{_code_version()}".encode()).hexdigest()[:32]
    path = cache_dir() / "banks" / f"{name}.npy"
    side = screen_side(tile)
    rows = sum(codebook.size(gen) * load(gen).seeds for gen in range(len(NAMES)))
    if path.is_file():
        try:
            stored = np.load(path, allow_pickle=False)
            if stored.shape == (rows, side * side) and stored.dtype == (np.int16 if side == tile else np.int8):
                return torch.from_numpy(stored)
            _LOG.warning("bank cache %s holds %s %s; drawing it anew", path, stored.dtype, stored.shape)
        except (OSError, ValueError, EOFError) as error:
            _LOG.warning("bank cache %s cannot be read (%s); drawing it anew", path, error)
    drawn = _draw(tile, codebook, seed, device)
    _store(path, drawn)
    return drawn


def _store(path: Path, drawn: Tensor) -> None:
    buffer = io.BytesIO()
    np.save(buffer, drawn.numpy(), allow_pickle=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, buffer.getvalue())
    except OSError as error:
        _LOG.warning("the bank stays in memory only: %s cannot be written (%s)", path, error)


def _draw(tile: int, codebook: Codebook, seed: int, device: torch.device) -> Tensor:
    side = screen_side(tile)
    fine = side if side == tile else 2 * side
    at = tile_grid(fine, device=device)
    parts = []
    total = sum(codebook.size(gen) * load(gen).seeds for gen in range(len(NAMES)))
    hidden = None if total * fine * fine > 1 << 24 else True
    with tqdm(total=total, desc="drawing the bank", unit="pattern", disable=hidden, leave=False) as bar:
        for gen in range(len(NAMES)):
            draws = load(gen).seeds
            qv = torch.arange(codebook.size(gen), device=device).repeat_interleave(draws)
            seeds = torch.arange(draws, device=device).repeat(codebook.size(gen))
            nothing = torch.zeros((1, 8), dtype=torch.int32, device=device)
            for i in range(0, len(qv), _DRAW_ROWS):
                part = slice(i, i + _DRAW_ROWS)
                levels = codebook.levels(gen, qv[part], nothing)
                drawn = draw_levels(gen, levels, seeds[part], at, seed)
                mean, rms = mean_rms(drawn)
                d = torch.where((rms >= RMS_FLOOR).view(-1, 1, 1), drawn - mean.view(-1, 1, 1), 0)
                if fine == side:
                    parts.append(d.clamp(-32767, 32767).to(torch.int16).flatten(1).cpu())
                else:
                    d = d.view(-1, side, 2, side, 2).sum(dim=(2, 4)) >> 2
                    parts.append(_stretch(d.to(torch.int32).flatten(1)).cpu())
                bar.update(len(d))
    return torch.cat(parts)
