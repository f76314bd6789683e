"""Codebooks: qv_id + offsets <-> parameter levels, one frozen list of level vectors per generator.

A layer names an entry (`qv_id`) and, when it pays, a signed step per parameter (`offsets`), so that the search may
start from a coarse bank and end on the finest level, or in large tiles on the finest sub-level.  `v15_grid` is the
regular grid that the generators themselves declare; any other id is a file, `<PC15_MODELS_DIR>/codebooks/<id>.npz`
or packaged beside this module.  A trained one weighs its entries, the most useful of each generator first, so that a
search may make do with a part of them.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from pc15.errors import MissingTableError
from pc15.paths import file_stamp, read_bounded, write_atomic
from pc15.proc.codebook_ids import FINE_CLASSES, FINE_MAX, GRID_ID, OFFSET_MAX, find_codebook, offset_reach
from pc15.proc.generators import NAMES, load
from pc15.runtime.memo import cached_method
from pc15.runtime.tensors import torch

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FINE_CLASSES",
    "FINE_MAX",
    "GRID_ID",
    "OFFSET_MAX",
    "Codebook",
    "load_codebook",
    "offset_reach",
    "save_codebook",
]

Numbers: TypeAlias = "Tensor | npt.NDArray[Any]"
_WEIGHTS = "weights"  # among the generators' names in a file, which are upper case
_MAX_WEIGHT = (1 << 31) - 1  # what `save_codebook` writes
_MAX_BYTES, _MAX_ARRAY_BYTES = 1 << 25, 1 << 22  # of a file, and of an array in it; a trained one has 200,000 of all
# What zipfile, zlib and NumPy raise on damaged files, found by flipping bits.
_DAMAGE = (
    OSError, ValueError, LookupError, EOFError, NotImplementedError, RuntimeError, OverflowError, TypeError,
    SyntaxError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError,
)  # fmt: skip


class Codebook:
    """Level vectors of every generator, by `qv_id`, and how useful each is.

    Args:
        id: its name in streams.
        entries: of each generator, [E, n_params] int32 levels, as tensors or arrays; an empty one switches it off.
        weights: of each generator, [E] int64, how useful each entry is, falling; None if nobody knows.
    """

    def __init__(self, id: str, entries: Sequence[Numbers], weights: Sequence[Numbers] | None = None) -> None:
        self.id, self._entries, self._weights = id, tuple(entries), None if weights is None else tuple(weights)

    @functools.cached_property
    def entries(self) -> tuple[Tensor, ...]:
        """Levels of each generator's entries as tensors; who reads a stream asks `sizes` alone, and needs no torch."""
        return tuple(map(_tensor, self._entries))

    @functools.cached_property
    def weights(self) -> tuple[Tensor, ...] | None:
        """Weights of each generator's entries as tensors."""
        return None if self._weights is None else tuple(map(_tensor, self._weights))

    def size(self, gen: int) -> int:
        """Number of entries of a generator."""
        return len(self._entries[gen])

    @functools.cached_property
    def sizes(self) -> npt.NDArray[np.int64]:
        """[G] number of entries of every generator."""
        return np.asarray([self.size(gen) for gen in range(len(self._entries))], np.int64)

    def first(self, rows: int) -> Codebook:
        """The most useful entries, `rows` candidates of a bank at most; all of them if they aren't weighed.

        An entry counts once per seed index of its generator.  Entries keep their `qv_id`.
        """
        if self.weights is None:
            return self
        draws = torch.tensor([load(gen).seeds for gen in range(len(NAMES))])
        gens = torch.repeat_interleave(torch.tensor([len(entry) for entry in self.entries]))
        weights = torch.cat(self.weights)
        order = torch.sort(weights // draws[gens], descending=True, stable=True).indices
        chosen = order[torch.cumsum(draws[gens[order]], 0) <= rows]
        counts = torch.bincount(gens[chosen], minlength=len(NAMES)).tolist()
        if len(chosen) == len(order):
            return self
        return Codebook(
            self.id,
            tuple(entry[:count] for entry, count in zip(self.entries, counts, strict=True)),
            tuple(weight[:count] for weight, count in zip(self.weights, counts, strict=True)),
        )

    def levels(self, gen: int, qv_id: Tensor, offsets: Tensor, fine: int = 0) -> Tensor:
        """Sub-levels that an entry and its offsets stand for, [B, n_params] int32; ranges clamp, periods wrap.

        Args:
            qv_id: [B] int.   offsets: [B, >= n_params] int, further columns are ignored.
            fine: `fine_bits` of the tile; with 0, sub-levels are levels.
        """
        base = self.starts(gen, fine, qv_id.device)[qv_id.long()]
        return self.clamp(gen, base + offsets[:, : base.shape[1]], fine)

    @cached_method
    def starts(self, gen: int, fine: int, device: torch.device) -> Tensor:
        """Sub-levels of every entry of a generator, [E, n_params] int32."""
        entries, generator = self.entries[gen].to(device), load(gen)
        if not fine:
            return entries
        shifts = torch.tensor([p.shift(fine) for p in generator.params], dtype=torch.int32, device=device)
        extra = [p.coarse_levels[0] << p.shift(fine) for p in generator.extra]
        added = torch.tensor(extra, dtype=torch.int32, device=device)
        return torch.cat([entries << shifts, added.expand(len(entries), -1)], dim=1)

    def offsets_to(self, gen: int, levels: Tensor, fine: int) -> Tensor:
        """The offsets that lead from every entry to given sub-levels, [B, E, n_params] int64, for [B, n_params].

        The shorter way around a period; some may lie beyond `offset_reach`.
        """
        ways = levels[:, None].long() - self.starts(gen, fine, levels.device).long()
        for i, p in enumerate(load(gen).params_at(fine)):
            if p.periodic:
                whole = p.levels << p.shift(fine)
                ways[..., i] = (ways[..., i] + whole // 2) % whole - whole // 2
        return ways

    @staticmethod
    def clamp(gen: int, levels: Tensor, fine: int = 0) -> Tensor:
        """Bring sub-levels back into range: periodic parameters wrap, the others stop at their ends."""
        if not load(gen).params_at(fine):
            return levels
        first, last, periodic = _spans(gen, fine, levels.device)
        clamped = torch.minimum(torch.maximum(levels, first), last)
        return torch.where(periodic, levels.remainder(last + 1), clamped).to(torch.int32)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of every level, in order."""
        digest = hashlib.sha256()
        for name, entry in zip(NAMES, self.entries, strict=True):
            digest.update(f"{name}:{tuple(entry.shape)}".encode())
            digest.update(entry.numpy().astype("<i4").tobytes())
        return digest.hexdigest()


def _tensor(numbers: Numbers) -> Tensor:
    return torch.from_numpy(numbers) if isinstance(numbers, np.ndarray) else numbers


@functools.cache
def _spans(gen: int, fine: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """First and last sub-level of each parameter, and whether it is periodic."""
    params = load(gen).params_at(fine)
    first, last = torch.tensor([p.span(fine) for p in params], device=device).unbind(1)
    return first, last, torch.tensor([p.periodic for p in params], device=device)


def load_codebook(codebook_id: str) -> Codebook:
    """The codebook of that id: `$PC15_MODELS_DIR/codebooks/<id>.npz` when it is there, else the packaged one.

    Raises:
        MissingTableError: neither `PC15_MODELS_DIR` nor the package has it, or the file is damaged.
    """
    place = find_codebook(codebook_id)
    if place is None:
        return _grid_codebook()
    return _kept(codebook_id, place, *file_stamp(place))


@functools.cache
def _grid_codebook() -> Codebook:
    return Codebook(GRID_ID, tuple(_grid(gen) for gen in range(len(NAMES))))


@functools.lru_cache(maxsize=8)
def _kept(codebook_id: str, path: Path, *stamp: int) -> Codebook:
    """A file as it was read; its stamp is there so that one that changed is read again."""
    return _read(codebook_id, path)


def save_codebook(path: Path, codebook: Codebook) -> None:
    """Write a codebook as the .npz that `load_codebook` reads."""
    arrays: dict[str, Any] = {n: e.numpy().astype("<i2") for n, e in zip(NAMES, codebook.entries, strict=True)}
    if codebook.weights is not None:
        arrays[_WEIGHTS] = torch.cat(codebook.weights).numpy().astype("<i4")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_atomic(path, buffer.getvalue())


def _grid(gen: int) -> npt.NDArray[np.int32]:
    """Every combination of a generator's coarse levels, the last parameter running fastest."""
    axes = [p.coarse_levels for p in load(gen).params]
    return np.array(list(itertools.product(*axes)), np.int32).reshape(-1, len(axes))


def _read(codebook_id: str, path: Path) -> Codebook:
    entries = []
    try:
        stored = _arrays(read_bounded(path, _MAX_BYTES))
        for gen, name in enumerate(NAMES):
            params = load(gen).params
            entry = stored[name] if name in stored else np.zeros((0, len(params)), "<i4")
            if entry.ndim != 2 or entry.shape[1] != len(params):
                raise ValueError(f"{name} has shape {entry.shape}, this build's has {len(params)} parameters")
            limits = np.array([p.levels for p in params])
            if ((entry < 0) | (entry >= limits)).any():
                raise ValueError(f"{name} has levels out of range")
            entries.append(entry.astype(np.int32))
        weights = _read_weights(stored[_WEIGHTS], entries) if _WEIGHTS in stored else None
    except _DAMAGE as error:
        why = " ".join(str(error).split())[:200]
        raise MissingTableError(f"codebook {codebook_id!r} in {path} is damaged: {why}; make it anew") from error
    return Codebook(codebook_id, entries, weights)


def _arrays(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of whole numbers in the bytes of an .npz, by name; others are left where they are.

    What the archive says of sizes is held against a limit and against each other before anything is unpacked.

    Raises:
        ValueError and others of _DAMAGE: an array that is not what it says, of another type, or too large.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name not in NAMES and name != _WEIGHTS:
                continue
            if name in found:
                raise ValueError(f"{name} is there twice")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or member.flag_bits & 1:
                raise ValueError(f"{name} is packed in a way that NumPy does not write")
            if member.file_size > _MAX_ARRAY_BYTES:
                raise ValueError(f"{name} has {member.file_size} bytes, over the limit of {_MAX_ARRAY_BYTES}")
            with archive.open(member) as file:
                found[name] = _array(name, file.read(_MAX_ARRAY_BYTES + 1))
    return found


def _array(name: str, data: bytes) -> npt.NDArray[Any]:
    file = io.BytesIO(data)
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }.get(np.lib.format.read_magic(file))
    if read_header is None:
        raise ValueError(f"{name} is no array of version 1 or 2")
    shape, fortran, dtype = read_header(file)
    if dtype.kind not in "iu" or len(shape) > 2:
        raise ValueError(f"{name} holds {dtype} of shape {shape}, not whole numbers")
    if math.prod(shape) * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"{name} has {len(data) - file.tell()} bytes for an array of shape {shape}")
    return np.frombuffer(data, dtype, offset=file.tell()).reshape(shape, order="F" if fortran else "C")


def _read_weights(stored: npt.NDArray[Any], entries: list[npt.NDArray[Any]]) -> list[npt.NDArray[np.int64]]:
    sizes = [len(entry) for entry in entries]
    if stored.shape != (sum(sizes),) or (stored < 1).any() or (stored > _MAX_WEIGHT).any():
        raise ValueError(f"its weights have shape {stored.shape} and type {stored.dtype}, or one is below 1")
    weights = np.split(stored.astype(np.int64), np.cumsum(sizes)[:-1])
    if any((weight[1:] > weight[:-1]).any() for weight in weights):
        raise ValueError("the entries of a generator aren't in the order of their weights")
    return weights
