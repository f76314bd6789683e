"""`pc15 generators`: the table of patterns."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pc15.cli.parser import DONE, Parser, columns, count

if TYPE_CHECKING:
    from torch import Tensor


EXAMPLES = (
    "generators",
    "generators STRIPES",
    "generators --preview sheet.png",
)


def run(args: argparse.Namespace) -> int:
    """List the patterns that pictures are made of, with their parameters, or describe one of them.

    Entries are the codebook's parameter vectors, seeds the variants of a random pattern; the encoder's bank holds
    every combination of both.
    """
    from pc15.images import save_image
    from pc15.paths import ready_to_write
    from pc15.proc.codebook import GRID_ID, load_codebook
    from pc15.proc.generators import NAMES, load
    from pc15.proc.registry import gen_id

    if args.preview is not None:
        ready_to_write(args.preview)
    codebook = load_codebook(GRID_ID)
    rows: list[tuple[str, ...]]
    if args.name is not None:
        name = args.name.upper()
        gen = gen_id(name)
        generator = load(gen)
        args.answer.row("generators", _described(gen, name, codebook.size(gen)))
        args.answer.say(f"{name}, generator {gen}: {generator.summary}")
        args.answer.say(f"{codebook.size(gen)} entries in {GRID_ID}, {count(generator.seeds, 'seed')}")
        rows = [("parameter", "from", "to", "levels", "in the codebook", "unit", "")]
        for p in generator.params:
            notes = ", ".join(note for note, on in (("logarithmic", p.log), ("periodic", p.periodic)) if on)
            rows.append((p.name, f"{p.lo:g}", f"{p.hi:g}", str(p.levels), str(p.coarse), p.unit or p.kind, notes))
        args.answer.say(columns(rows, right=(1, 2, 3, 4)))
    else:
        rows = [("id", "name", "entries", "seeds", "parameters")]
        for gen, name in enumerate(NAMES):
            generator = load(gen)
            args.answer.row("generators", _described(gen, name, codebook.size(gen)))
            params = ", ".join(f"{p.name} {p.lo:g}..{p.hi:g} {p.unit or p.kind}" for p in generator.params)
            rows.append((str(gen), name, str(codebook.size(gen)), str(generator.seeds), params))
        args.answer.say(columns(rows, right=(0, 2, 3)))
    if args.preview is not None:
        save_image(args.preview, _preview(args.name.upper() if args.name is not None else None))
        args.answer.put(preview=str(args.preview))
        args.answer.say(f"drawn on {args.preview}")
    return DONE


def add_arguments(add: Parser) -> None:
    """The command's arguments."""
    add.add_argument("name", nargs="?", metavar="NAME", help="describe this one (default: a table of all)")
    add.add_argument(
        "--preview", type=Path, metavar="FILE", help="also draw them, or the one's parameters, as a picture"
    )


def _described(gen: int, name: str, entries: int) -> dict[str, Any]:
    """A generator as plain JSON values."""
    from pc15.proc.generators import load

    generator = load(gen)
    params = [
        {"name": p.name, "from": p.lo, "to": p.hi, "levels": p.levels, "coarse": p.coarse, "unit": p.unit or p.kind}
        | {"logarithmic": p.log, "periodic": p.periodic}
        for p in generator.params
    ]
    about = {"id": gen, "name": name, "summary": generator.summary}
    return {**about, "entries": entries, "seeds": generator.seeds, "parameters": params}


def _preview(name: str | None) -> Tensor:
    """All generators at their defaults, or one with each parameter low, in the middle and high; uint8 planes."""
    from pc15.images import to_u8
    from pc15.proc.registry import get, render
    from pc15.viz import generator_sheet, montage

    if name is None:
        return generator_sheet()
    pictures, labels = [], []
    for p in get(name).params:
        for level in (0, p.levels // 2, p.levels - 1):
            value = float(p.value(level))
            pictures.append(to_u8(render(name, 96, 96, {p.name: value})[0, 0] * 0.5 + 0.5))
            labels.append(f"{p.name} {value:g}")
    if not pictures:
        pictures, labels = [to_u8(render(name, 96, 96)[0, 0] * 0.5 + 0.5)], [name]
    return montage(pictures, labels, columns=3)
