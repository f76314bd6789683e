"""Memory that runs out: one typed error, whoever asked for it."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator
from typing import Any

from pc15.errors import ResourceError


@contextlib.contextmanager
def memory_checked(doing: str) -> Iterator[None]:
    """Turn memory that NumPy, torch or Python cannot have into one error; also a decorator.

    Args:
        doing: what needs it, for the message.
    Raises:
        ResourceError: there is not enough memory.
    """
    try:
        yield
    except ResourceError:
        raise
    except MemoryError as error:
        raise _ran_out(doing, error) from error
    except RuntimeError as error:  # torch has no type of its own for a CPU's memory
        if not re.search("out of memory|can't allocate memory|not enough memory", str(error)):
            raise
        raise _ran_out(doing, error) from error


def is_gpu_memory(error: RuntimeError) -> bool:
    """True for what torch raises when a GPU's memory runs out."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(error, torch.cuda.OutOfMemoryError)


def _ran_out(doing: str, error: Exception) -> ResourceError:
    why = str(error).strip().splitlines()
    return ResourceError(
        f"{doing} needs more memory than there is{f' ({why[0][:120]})' if why else ''}; "
        "set a smaller max_pixels to refuse such pictures, or use a larger machine"
    )
