"""Learn where the adaptive models start, from photographs: `python -m pc15.residual.enc.train FOLDER...`.

Every picture is encoded at every anchor step; what a counter has become by the end, weighed by how often it was used,
is where it starts next time, once more in a second round.  How fast it may leave that place follows from how far the
pictures disagree: a counter whose chance p differs by a variance v starts as if it had been used p(1-p)/v times.
Between the anchors the decoder interpolates, so the file holds one table per anchor.
With --chroma the planes learnt from are Cb and Cr, predicted from luma and Cb as they are coded at half the price; with
--splits only what that tool adds is learnt, upon the packaged tables of the others; with --borders at first that alone,
and then everything once more.
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

from pc15.color import rgb_to_ycbcr420
from pc15.luma import MIDDLE, as_q12, to_pixels
from pc15.residual.context_models import HALF_CONTEXT
from pc15.residual.contexts import CONTEXTS, parts_like_squares
from pc15.residual.cross import guides_of
from pc15.residual.decode import empty_field, level_q4
from pc15.residual.enc.encode import ResidualParams, encode_residual, lambda_for
from pc15.residual.enc.plane import PlaneSearch, encode_plane
from pc15.residual.enc.scratch import Parts
from pc15.residual.initial_models import (
    START_FILES,
    TRAINED_STEPS,
    flat_models,
    models_without,
    ready,
    replace_part,
    save_trained,
)
from pc15.residual.patterns import Patterns
from pc15.residual.syntax import BlockMap
from pc15.residual.tools import ALL_TOOLS, BORDERS, CHROMA_TOOLS, CROSS, SPLITS, TRELLIS, tools_of

Ints = npt.NDArray[Any]

LUMA_STEP = 4
"""Luma's quantizer step is so many indices below chroma's, whose bits cost half as much."""
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


def crops(files: Sequence[Path], count: int, side: int, mode: str) -> list[Ints]:
    """Middle squares of `count` pictures spread over a list, in a mode of Pillow, uint8 [side, side, ...]."""
    count = min(count, len(files))
    found = []
    for path in [files[i * len(files) // count] for i in range(count)]:
        with Image.open(path) as picture:
            pixels = np.array(picture.convert(mode))
        top, left = (max(0, length - side) // 2 for length in pixels.shape[:2])
        found.append(pixels[top : top + side, left : left + side])
    return found


def ends_of(pixels: Ints, step: int, start: Ints, tools: int) -> list[Ints]:
    """Models at the end of the planes of one picture that are learnt from: luma, or of an RGB one Cb and Cr."""
    if pixels.ndim == 2:
        return [models_after(as_q12(torch.from_numpy(pixels)).numpy(), step, start, tools & ~CHROMA_TOOLS)]
    luma, *chroma = rgb_to_ycbcr420(torch.from_numpy(pixels).permute(2, 0, 1).contiguous())
    before = [_coded(luma, ResidualParams(max(0, step - LUMA_STEP), tries=1))]  # about what a decoder has will do
    params, ends = ResidualParams(step, tries=1, tools=tools), []
    for plane in chroma:
        guides = guides_of(before, 0, len(plane))
        ends.append(models_after(as_q12(plane).numpy(), step, start, tools, guides))
        before.append(_coded(plane, params, guides))
    return ends


def _coded(u8: torch.Tensor, params: ResidualParams, guides: Ints | None = None) -> Ints:
    """A plane [h,w] uint8 as a decoder has it, coded without a prediction."""
    target = as_q12(u8).numpy() - MIDDLE
    code = encode_residual(target, np.full_like(target, MIDDLE), params, guides)
    pixels: Ints = to_pixels(torch.from_numpy(code.reconstruction)).numpy()
    return pixels


def learnt(
    plane: Ints, step: int, start: Ints, tools: int, guides: Ints | None = None, patterns: Patterns | None = None
) -> tuple[Ints, BlockMap]:
    """Models at the end of one plane, coded without a prediction from tiles, and how it was coded."""
    models = ready(start.copy())
    # Uses are forgotten, so that what a counter says at the end comes from this picture.
    models[:CONTEXTS, 1][models[:CONTEXTS, 1] <= MOST_TRUST] = 0
    target = np.ascontiguousarray(plane[: len(plane) & ~7, : plane.shape[1] & ~7] - MIDDLE)
    gray, rec, (h, w) = np.full_like(target, MIDDLE), np.zeros_like(target), target.shape
    seen = None if guides is None else np.ascontiguousarray(guides[:, :h, :w])
    field, unit, lam = empty_field(h, w, tools, guides=seen), level_q4(step, tools), lambda_for(step, tools)
    encode_plane(
        target,
        gray,
        rec,
        field,
        models,
        PlaneSearch(unit, lam, 2, Parts(thorough=patterns is not None), patterns=patterns),
    )
    return models, field


def models_after(plane: Ints, step: int, start: Ints, tools: int, guides: Ints | None = None) -> Ints:
    """The first result of `learnt`."""
    return learnt(plane, step, start, tools, guides)[0]


def seeded(models: Ints) -> Ints:
    """The same models with those of parts of squares as those of squares are."""
    contexts, sets = parts_like_squares()
    models[contexts[:, 0]] = models[contexts[:, 1]]
    models[len(models) - 1 - sets[:, 0]] = models[len(models) - 1 - sets[:, 1]]
    return models


def train(
    pictures: list[Ints], rounds: int = 2, workers: int = 1, tools: int = ALL_TOOLS, adds: int | None = None
) -> Ints:
    """Tables for TRAINED_STEPS, [anchors, C + S, 4] int32, from pictures as of `ends_of`.

    adds: SPLITS to learn only what that adds, BORDERS in the first round alone; None for everything.
    """
    tables = []
    with multiprocessing.get_context("spawn").Pool(workers) as processes:
        for step in TRAINED_STEPS:
            start = flat_models() if adds is None else models_without(adds, step, tools)
            start = seeded(start) if adds == SPLITS else start
            for number in range(rounds):
                after = functools.partial(ends_of, step=step, start=start, tools=tools)
                found = pool(start, [end for ends in processes.map(after, pictures, chunksize=1) for end in ends])
                if adds is None or (adds == BORDERS and number):
                    start = found
                else:
                    replace_part(start, adds, found)
            tables.append(start)
            print(f"step {step}: {len(pictures)} pictures, {rounds} rounds", flush=True)
    return np.stack(tables)


def main() -> None:
    """Train on folders of photographs and write the packaged table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--exclude", type=Path, help="file with the names of pictures to leave out, one per line")
    parser.add_argument("--pictures", type=int, default=150, help="of each folder")
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--tools",
        default="all",
        help="A,B: coding tools to train with, or none (default: all, splits and borders only to learn those)",
    )
    parser.add_argument("--chroma", action="store_true", help="learn where planes with guides start")
    parser.add_argument("--splits", action="store_true", help="learn what the tool splits adds")
    parser.add_argument("--borders", action="store_true", help="learn all with the tool borders, but its terms")
    parser.add_argument("--out", type=Path, help="the table (default: the packaged one for the tools)")
    args = parser.parse_args()
    left_out = set(args.exclude.read_text(encoding="utf-8").split()) if args.exclude else set()
    pictures = []
    for folder in args.folders:
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
        kept = [path for path in files if path.name not in left_out]
        pictures += crops(kept, args.pictures, args.side, "RGB" if args.chroma else "L")
    every = (
        ALL_TOOLS & ~CROSS if args.borders else ALL_TOOLS & ~BORDERS if args.splits else ALL_TOOLS & ~(SPLITS | BORDERS)
    )
    tools = every if args.tools == "all" else 0 if args.tools == "none" else tools_of(args.tools.split(","))
    adds = BORDERS if args.borders else SPLITS if args.splits else None
    own = adds or (CROSS if args.chroma else tools & TRELLIS)
    save_trained(train(pictures, args.rounds, args.workers, tools, adds), own, args.out or START_FILES[own])


if __name__ == "__main__":
    main()
