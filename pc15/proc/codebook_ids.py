"""The ids of codebooks, where their files lie, and the steps around entries: all that a stream without tiles asks.

`pc15.proc.codebook` reads the files; it needs torch.
"""

from __future__ import annotations

import re
from pathlib import Path

from pc15.errors import MissingTableError
from pc15.paths import model_file, models_dir

GRID_ID = "v15_grid"
OFFSET_MAX = 4
"""Offsets are signed level steps in [-OFFSET_MAX, OFFSET_MAX]."""
FINE_CLASSES = 15
"""Magnitude classes of the sub-level steps of large tiles: class c has |step| in [2**(c-1), 2**c), class 0 is 0."""
FINE_MAX = (1 << (FINE_CLASSES - 1)) - 1
"""Offsets of large tiles are signed sub-level steps in [-FINE_MAX, FINE_MAX]."""


def offset_reach(fine: int) -> int:
    """Largest offset in tiles of that many `fine_bits`."""
    return FINE_MAX if fine else OFFSET_MAX


def find_codebook(codebook_id: str) -> Path | None:
    """The file of a codebook: `$PC15_MODELS_DIR/codebooks/<id>.npz` where it is there, else the packaged one.

    None for the regular grid, which has no file.
    Raises:
        MissingTableError: no id of a codebook, or neither `PC15_MODELS_DIR` nor the package has it.
    """
    if codebook_id == GRID_ID:
        return None
    if not re.fullmatch(r"[a-z0-9_-]{1,32}", codebook_id):
        raise MissingTableError(f"{codebook_id!r} is no codebook id (lower case, digits, _ and -, at most 32)")
    packaged = Path(__file__).with_name(f"{codebook_id}.npz")
    place = model_file("codebooks", packaged)
    if not place.exists():
        models = models_dir()
        looked = f"{models / 'codebooks' / packaged.name} and {packaged}" if models else packaged
        raise MissingTableError(
            f"no codebook {codebook_id!r}: looked for {looked}; set PC15_MODELS_DIR to where it lies"
        )
    return place
