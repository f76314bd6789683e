"""The command `pc15`: pictures to streams and back, what is in streams, benchmarks, and what a machine has.

One module per command, see `pc15.cli.program`.  Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

from pc15.cli.program import Group, Program

__all__ = ["BENCHMARKS", "COMMANDS", "main"]

COMMANDS = {
    "encode": "describe pictures as programs of procedural patterns, one .pc15 stream each",
    "decode": "redraw pictures from .pc15 streams; the pixels are the same on every machine and device",
    "info": "say what streams hold: their headers, where their bytes and bits go, and which patterns they are made of",
    "inspect": "show a stream as a page of HTML: its picture, where its bits lie, and what each tile and square says",
    "dis": "take a stream apart into JSON that can be edited: header, tile programs by name, residual as base64",
    "asm": "put a stream together from JSON of `pc15 dis`, edited or written by hand",
    "generators": "list the patterns that pictures are made of, with their parameters, or describe one of them",
    "metrics": "compare the luma of two pictures of the same size; either may be a .pc15 stream",
    "bench": "measure the codec, by one protocol for all",
    "publish-models": "write tables, codebooks, models, weights and presets to a folder, with a manifest of SHA-256",
    "warm": "compile the loops that coding needs and draw the patterns that it searches, ahead of the first picture",
    "env": "say what this machine is, for a bug report or a benchmark",
}
"""Line of `pc15 --help` about each command: the first sentence of its docstring, which is not loaded for that."""

BENCHMARKS = {
    "speed": "time the search, stage by stage, and encoding and decoding as wholes",
    "inclass": "measure what a picture costs that is one pattern: drawn in floating point, coded as the preset does",
    "sheet": "draw a picture beside itself as several codecs leave it at the same number of bytes",
    "ablation": "measure what each part of the codec is worth: BD-rates with it taken out or changed",
    "rd": "measure rate and distortion of PC15, and of conventional codecs beside it, on luma or in colour",
}

main = Program(
    name="pc15",
    package="pc15.cli",
    description="PC15 codes a picture as a program of procedural patterns; it redraws to the same pixels anywhere.",
    epilog="first steps:\n"
    "  pc15 encode photo.png -o photo.pc15 --lambda 0.25\n"
    "  pc15 info photo.pc15\n"
    "  pc15 decode photo.pc15 -o back.png\n"
    "  pc15 metrics photo.png photo.pc15\n\n"
    "exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted",
    commands=COMMANDS,
    groups={
        "bench": Group(
            description="Measure the codec, by one protocol for all.",
            epilog="examples:\n  pc15 bench rd --images photos/ --against jpeg --out rd.csv\n\n"
            "`pc15 bench rd --help` has its options",
            commands=BENCHMARKS,
            noun="benchmark",
        )
    },
).main
