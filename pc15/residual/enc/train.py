"""Learn where the adaptive models start, from photographs: `python -m pc15.residual.enc.train FOLDER...`.

Every picture is encoded at every anchor step; what a counter has become by the end, weighed by how often it was used,
is where it starts next time, once more in a second round.  How fast it may leave that place follows from how far the
pictures disagree: a counter whose chance p differs by a variance v starts as if it had been used p(1-p)/v times.
Between the anchors the decoder interpolates, so the file holds one table per anchor.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from pc15.luma import MIDDLE, as_q12
from pc15.residual.context_models import HALF_CONTEXT
from pc15.residual.decode import empty_field, step_q4
from pc15.residual.enc.encode import lambda_for
from pc15.residual.enc.rdo import encode_plane
from pc15.residual.initial_models import START_FILE, TRAINED_STEPS, flat_models, ready, save_trained
from pc15.residual.patterns import Patterns
from pc15.residual.syntax import CONTEXTS, Field
from pc15.residual.tools import ALL_TOOLS, tools_of

Ints = npt.NDArray[Any]

MOST_TRUST = 60
"""A counter never starts as if it had been used more often than this."""


def pool(before: Ints, after: list[Ints]) -> Ints:
    """One set of starting models from those at the end of many pictures, [C + S, 4] int32."""
    ends = np.stack(after).astype(np.float64)  # [pictures, C + S, 4]
    start = before.copy()
    uses = ends[:, :CONTEXTS, 1]
    # A counter that was hardly used says little: it weighs at most what a well used one does.
    weight = np.minimum(uses, 60.0)
    total = weight.sum(axis=0)
    p = np.clip(ends[:, :CONTEXTS, 0] / 65536.0, 2.0**-12, 1.0 - 2.0**-12)
    logit = np.log(p / (1.0 - p))
    used = total > 0
    mean = np.where(used, (weight * logit).sum(axis=0) / np.maximum(total, 1e-9), 0.0)
    p_mean = 1.0 / (1.0 + np.exp(-mean))
    spread = (weight * (p - p_mean) ** 2).sum(axis=0) / np.maximum(total, 1e-9)
    noise = p_mean * (1.0 - p_mean)
    trust = np.clip(noise / np.maximum(spread, 1e-6) - 1.0, 1.0, MOST_TRUST)
    trust = np.minimum(trust, 1.0 + total / 8.0)
    learnt = used & (np.arange(CONTEXTS) != HALF_CONTEXT)
    start[:CONTEXTS, 0][learnt] = np.clip(np.rint(p_mean * 65536), 32, 65504)[learnt]
    start[:CONTEXTS, 1][learnt] = np.rint(trust)[learnt]
    start[CONTEXTS:] = np.rint(ends[:, CONTEXTS:].mean(axis=0))
    return start


def crops(files: Sequence[Path], count: int, side: int) -> list[Ints]:
    """Middle squares of the luma of `count` pictures spread over a list, [side, side] int32 Q12."""
    planes = []
    count = min(count, len(files))
    for path in [files[i * len(files) // count] for i in range(count)]:
        with Image.open(path) as picture:
            luma = torch.from_numpy(np.array(picture.convert("L")))
        top, left = (max(0, length - side) // 2 for length in luma.shape)
        planes.append(as_q12(luma[top : top + side, left : left + side]).numpy())
    return planes


def learnt(plane: Ints, step: int, start: Ints, tools: int, patterns: Patterns | None = None) -> tuple[Ints, Field]:
    """What models become on one picture, coded without a prediction, and how it was coded."""
    models = ready(start.copy())
    # Uses are forgotten, so that what a counter says at the end comes from this picture.
    models[:CONTEXTS, 1][models[:CONTEXTS, 1] <= MOST_TRUST] = 0
    target = np.ascontiguousarray(plane[: len(plane) & ~7, : plane.shape[1] & ~7] - MIDDLE)
    gray, rec, field = (
        np.full_like(target, MIDDLE),
        np.zeros_like(target),
        empty_field(len(target), target.shape[1], tools),
    )
    encode_plane(target, gray, rec, field, step_q4(step), lambda_for(step), models, 2, patterns=patterns)
    return models, field


def models_after(plane: Ints, step: int, start: Ints, tools: int) -> Ints:
    """The first result of `learnt`."""
    return learnt(plane, step, start, tools)[0]


def train(planes: list[Ints], rounds: int = 2, workers: int = 1, tools: int = ALL_TOOLS) -> Ints:
    """Tables for TRAINED_STEPS, [anchors, C + S, 4] int32."""
    tables = []
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        for step in TRAINED_STEPS:
            start = flat_models()
            for _ in range(rounds):
                after = functools.partial(models_after, step=step, start=start, tools=tools)
                start = pool(start, processes.map(after, planes, chunksize=1))
            tables.append(start)
            print(f"step {step}: {len(planes)} pictures, {rounds} rounds", flush=True)
    return np.stack(tables)


def main() -> None:
    """Train on folders of photographs and write the packaged table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--exclude", type=Path, help="file with the names of pictures to leave out, one per line")
    parser.add_argument("--pictures", type=int, default=150, help="of each folder")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--tools", default="all", help="A,B: coding tools to train with, or none (default: all)")
    parser.add_argument("--out", type=Path, default=START_FILE, help="the table (default: the packaged one)")
    args = parser.parse_args()
    left_out = set(args.exclude.read_text(encoding="utf-8").split()) if args.exclude else set()
    planes = []
    for folder in args.folders:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
        planes += crops([path for path in files if path.name not in left_out], args.pictures, args.side)
    tools = ALL_TOOLS if args.tools == "all" else 0 if args.tools == "none" else tools_of(args.tools.split(","))
    save_trained(train(planes, workers=args.workers, tools=tools), args.out)


if __name__ == "__main__":
    main()
