"""Lower the residual's loops, which travel with the package: `python -m pc15.lower`, after any change of them.

See `runtime.lowered`.  The loops are those, for the kinds of arguments, that `warm` makes use of.
"""

from __future__ import annotations

from pathlib import Path

import pc15.residual
from pc15.runtime import lowered
from pc15.warm import warm

__all__ = ["lower"]


def lower() -> Path:
    """Lower the loops of photographs anew, and write them beside their sources; returns the file."""
    lowered.noted = {}
    for _ in warm((), device="cpu"):
        pass
    return lowered.write(Path(pc15.residual.__file__).parent, lowered.noted)


if __name__ == "__main__":
    made = lower()
    print(f"{made.name}: {made.stat().st_size:,} bytes")
