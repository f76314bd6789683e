"""Loops that choose among scored candidates, compiled for the CPU; see `Backend`."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from pc15.runtime import jit
from pc15.search.backend.protocol import Leads

Array = NDArray[Any]

_entry = partial(jit.jit_entry, error_model="numpy", allocates=False)
_inner = partial(jit.jit_inner, error_model="numpy", allocates=False)


@_inner()
def _insert(costs: Array, j: int, order: Array, used: int) -> int:
    """Let candidate j compete for the lowest so far, those before it winning ties; returns how many there are then."""
    cost, keep = costs[j], len(order)
    if used == keep:
        if not cost < costs[order[keep - 1]]:
            return used
        used -= 1
    at = used
    while at > 0 and cost < costs[order[at - 1]]:
        order[at] = order[at - 1]
        at -= 1
    order[at] = j
    return used + 1


@_inner()
def _insert_set(costs: Array, sets: Array, j: int, order: Array, used: int) -> int:
    """`_insert` of a candidate unless one of its set that is no worse is there; a worse one goes."""
    for at in range(used):
        if sets[order[at]] == sets[j]:
            if costs[order[at]] <= costs[j]:
                return used
            for k in range(at, used - 1):
                order[k] = order[k + 1]
            used -= 1
            break
    return _insert(costs, j, order, used)


@_entry()
def _lowest(cost: Array, order: Array) -> None:
    for i in range(len(cost)):
        used = 0
        for j in range(cost.shape[1]):
            used = _insert(cost[i], j, order[i], used)


def lowest(cost: Tensor, keep: int) -> Tensor:
    order = torch.empty((len(cost), min(keep, cost.shape[1])), dtype=torch.int64)
    if order.numel():
        _lowest(cost.contiguous().numpy(), order.numpy())
    return order


@_entry()
def _pick(
    change: Array, level: Array, rows: Array, bank: Array, order: Array, fields: Array, levels: Array, changes: Array
) -> None:
    keep, columns = order.shape[1], bank.shape[1]
    for i in range(len(change)):
        used = 0
        for j in range(change.shape[1]):
            used = _insert(change[i], j, order[i], used)
        for k in range(keep):
            j = order[i, k]
            levels[i, k], changes[i, k] = level[i, j], change[i, j]
            row, out = max(rows[i, j], 0), fields[i * keep + k]
            for f in range(columns):
                out[f] = bank[row, f]
            out[columns:] = 0


def pick(
    change: Tensor, level: Tensor, rows: Tensor, bank: Tensor, width: int, keep: int
) -> tuple[Tensor, Tensor, Tensor]:
    n, keep = len(change), min(keep, change.shape[1])
    order, levels = torch.empty((2, n, keep), dtype=torch.int64)
    changes, fields = torch.empty((n, keep), dtype=torch.float64), torch.empty((n * keep, width), dtype=torch.int64)
    if order.numel():
        arrays = (each.contiguous().numpy() for each in (change, level, rows, bank))
        _pick(*arrays, order.numpy(), fields.numpy(), levels.numpy(), changes.numpy())
    return fields, levels, changes


@_entry()
def _offered(
    owner: Array, j: Array, change: Array, sets: Array, width: int, layer: int, best_j: Array, depth: Array,
    best: Array, every: Array, kept: Array,
) -> int:  # fmt: skip
    """`Backend.offered`; returns how many are kept.

    Args:
        sets: [S*K].   every: [S*K], written.   kept: [S*width], of which the first are written.
    """
    states, offers, total, first = len(owner), change.shape[1], 0, 0
    while first < states:
        tile, after = owner[first], first
        while after < states and owner[after] == tile:
            after += 1
        found, used = kept[total : total + min(width, (after - first) * offers)], 0
        for s in range(first, after):
            for k in range(offers):
                every[s * offers + k] = j[s] + change[s, k]
                if change[s, k] < 0.0:
                    used = _insert_set(every, sets, s * offers + k, found, used)
        if used and every[found[0]] < best_j[tile]:
            best_j[tile], depth[tile], best[tile] = every[found[0]], layer + 1, found[0]
        total, first = total + used, after
    return total


def offered(
    owner: Tensor,
    j: Tensor,
    change: Tensor,
    sets: Tensor,
    width: int,
    layer: int,
    leads: Leads,
) -> tuple[Tensor, Tensor]:
    every = torch.empty(change.numel(), dtype=torch.float64)
    kept = torch.empty(change.numel(), dtype=torch.int64)
    if not change.numel():
        return every, kept
    arrays = (each.numpy() for each in (owner, j, change.contiguous(), sets.reshape(-1)))
    own = (each.numpy() for each in (*leads, every, kept))
    return every, kept[: _offered(*arrays, width, layer, *own)]
