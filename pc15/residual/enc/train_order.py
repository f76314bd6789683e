"""Learn the terms of the order of modes, from photographs: `python -m pc15.residual.enc.train_order FOLDER...`.

Pictures are encoded with the tool BORDERS at every anchor step; of every block that is predicted, which terms the
score of each mode is the sum of is noted beside the mode that was chosen, and a multinomial logistic regression fits
them, by Adam.  The models of the table stay as they are: learn them again afterwards, see `train`.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pc15.luma import MIDDLE, as_q12
from pc15.residual.context_models import jit_entry
from pc15.residual.cross import FIRST_CROSS
from pc15.residual.decode import empty_field, level_q4
from pc15.residual.enc.encode import lambda_for
from pc15.residual.enc.plane import PlaneSearch, encode_plane
from pc15.residual.enc.train import crops
from pc15.residual.initial_models import TRAINED_STEPS, start_models
from pc15.residual.intra import PLANAR, ZERO
from pc15.residual.order import BORDERS_FILE, GRADE_SHIFT, ORDERED, TERMS, Order, order, order_modes, terms_of
from pc15.residual.shapes import PARTS, end_above, part_of
from pc15.residual.syntax import SUPER, UNIT, BlockMap, neighbours
from pc15.residual.tools import ALL_TOOLS, CHROMA_TOOLS

Ints = npt.NDArray[Any]

_UNIT = 256.0
"""Scores are in 1/256: sixteen grades of 2^GRADE_SHIFT each."""
assert 16 << GRADE_SHIFT == _UNIT


@jit_entry()
def note_modes(field: BlockMap, rec: Ints, step: int, o: Order, used: Ints, chosen: Ints) -> int:
    """Note the terms of all modes, used [n,ORDERED,4], and the chosen mode of each block that is predicted."""
    rows, cols = field.size.shape
    count, per_super = 0, SUPER // UNIT
    for y in range(rows):
        for x in range(cols):
            log2, cut = int(field.size[y, x]), int(field.cut[y, x])
            inside = (1 << log2 - 2) - 1
            if x & inside or y & inside or not field.on[y // per_super, x // per_super]:
                continue
            for part in range(PARTS[cut]):
                dx, dy, wide, high = part_of(log2, cut, part)
                px, py = 4 * x + dx, 4 * y + dy
                mode = int(field.mode[py >> 2, px >> 2])
                if mode == ZERO or mode >= FIRST_CROSS or count == len(chosen):
                    continue
                left, above, _, _ = neighbours(field, px >> 2, py >> 2)
                end = end_above(rec.shape[1], 4 * x, log2, cut, dx, dy)
                order_modes(rec, px, py, wide, high, end, left, above, step, field.tools, o)
                chosen[count] = mode
                for m in range(ORDERED):
                    a, b, c, d = terms_of(PLANAR + m, left, above, wide, high, o)
                    used[count, m, 0], used[count, m, 1], used[count, m, 2], used[count, m, 3] = a, b, c, d
                count += 1
    return count


def noted(pixels: Ints, step: int, tools: int) -> tuple[Ints, Ints]:
    """Terms, [n,ORDERED,4] int16, and choices, [n] int64 from 0, of the blocks of one picture [h,w] uint8."""
    plane = as_q12(torch.from_numpy(pixels)).numpy()
    target = np.ascontiguousarray(plane[: len(plane) & ~7, : plane.shape[1] & ~7] - MIDDLE)
    gray, rec, (h, w) = np.full_like(target, MIDDLE), np.zeros_like(target), target.shape
    field, unit = empty_field(h, w, tools), level_q4(step, tools)
    encode_plane(target, gray, rec, field, start_models(step, tools), PlaneSearch(unit, lambda_for(step, tools), 2))
    most = field.size.size
    used, chosen = np.zeros((most, ORDERED, 4), np.int16), np.zeros(most, np.int64)
    count = note_modes(field, rec, unit, order(), used, chosen)
    return used[:count].copy(), chosen[:count] - PLANAR


def fit(used: Ints, chosen: Ints, epochs: int = 14, seed: int = 0) -> tuple[Ints, float]:
    """Terms, [TERMS] int16, that make the choices likeliest, and bits per choice."""
    torch.manual_seed(seed)
    terms = torch.zeros(TERMS, requires_grad=True)
    adam = torch.optim.Adam([terms], lr=0.03)
    total = 0.0
    for epoch in range(epochs):
        for group in adam.param_groups:
            group["lr"] = 0.03 if 3 * epoch < 2 * epochs else 0.005
        total = 0.0
        for rows in torch.randperm(len(chosen)).split(4096):
            scores = terms[torch.from_numpy(used[rows.numpy()].astype(np.int64))].sum(2)
            loss = torch.nn.functional.cross_entropy(scores, torch.from_numpy(chosen[rows.numpy()]))
            total += loss.item() * len(rows)
            adam.zero_grad()
            (loss + 2e-6 * terms.square().sum()).backward()  # type: ignore[no-untyped-call]
            adam.step()
        print(f"epoch {epoch + 1}: {total / len(chosen) / np.log(2):.4f} bits a choice", flush=True)
    return np.rint(terms.detach().numpy() * _UNIT).astype(np.int16), total / len(chosen) / float(np.log(2))


def main() -> None:
    """Train on folders of photographs and write the terms into the packaged table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--pictures", type=int, default=75, help="of each folder")
    parser.add_argument("--side", type=int, default=384)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, default=BORDERS_FILE, help="the table (default: the packaged one)")
    args = parser.parse_args()
    pictures = []
    for folder in args.folders:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
        pictures += crops(files, args.pictures, args.side, "L")
    found: list[tuple[Ints, Ints]] = []
    with multiprocessing.get_context("spawn").Pool(args.workers) as processes:
        for step in TRAINED_STEPS:
            own = functools.partial(noted, step=step, tools=ALL_TOOLS & ~CHROMA_TOOLS)
            found += processes.map(own, pictures, chunksize=1)
            print(f"step {step}: {len(pictures)} pictures", flush=True)
    terms, _ = fit(np.concatenate([used for used, _ in found]), np.concatenate([chosen for _, chosen in found]))
    with np.load(BORDERS_FILE, allow_pickle=False) as table:
        np.savez_compressed(args.out, **{**table, "terms": terms})


if __name__ == "__main__":
    main()
