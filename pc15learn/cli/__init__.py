"""The command `pc15learn`: from pictures to tiles, labels, nets and weights, and to codebooks and tables.

One module per command, see `pc15.cli.program`.
Exit codes: 0 done, 1 a file or the disk failed, 2 wrong usage or input, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

from pc15.cli.program import Program
from pc15.errors import Pc15Error

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "make-tiles": "cut pictures into tiles and write where they lie, one JSON line each",
    "label": "label tiles by exhaustive search: what it chooses for each layer, and what else it could have",
    "verify": "derive a sample of labels again, from their pixels and the manifest, and compare them bit for bit",
    "show": "show labels as a page: tiles, what each layer drew, and the candidates with their costs",
    "features": "compute once what nets see of labels and are fitted to, for sets that do not fit into memory",
    "fit": "fit one net to labels, or to an oracle that searches photographs, as a config says",
    "evaluate": "say what nets lose on the val split of one set, whatever each was fitted to",
    "export": "write a checkpoint's net as safetensors with the YAML card that the encoder checks",
    "push": "upload weights or labels to the Hugging Face Hub, in the form that its users expect",
    "bench": "compare searches with and without hooks on the same pictures: time against BD-rate, and a verdict",
    "codebooks": "train a codebook: the patterns that layers of training pictures gain most from",
    "tables": "train rANS tables for a codebook: count the symbols of training pictures' programs",
    "demo": "show the whole tool in a few minutes: encode a photo, then tiles, labels, fits, weights, benchmark",
}
"""Line of `pc15learn --help` about each command: the first sentence of its docstring, which is not loaded for that."""

main = Program(
    name="pc15learn",
    package="pc15learn.cli",
    description="Train the search of the PC15 image codec: tiles, labels, nets, hooks, benchmarks.",
    epilog="first steps:\n"
    "  pc15learn make-tiles --images photos/ --out tiles.jsonl\n"
    "  pc15learn label --tiles tiles.jsonl --out labels\n"
    "  pc15learn fit --config selector --labels labels\n\n"
    "exit codes: 0 done, 1 a file or the disk failed, 2 wrong usage or input, 130 interrupted, 143 terminated",
    commands=COMMANDS,
    usage=(Pc15Error,),
    interrupted="interrupted; what was finished stays, and the same command goes on from there",
    extra="learn",
).main
