"""Packages that not every installation has, and the extra of pc15 that each comes with.

The base, NumPy, numba and Pillow, codes and decodes photographs.  Everything else is imported where it is used, and who
lacks it is told what to install.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pc15.errors import MissingExtraError

__all__ = ["EXTRA_OF", "missing", "needed_for"]

EXTRA_OF = {
    "huggingface_hub": "learn",
    "imagecodecs": "bench",
    "torchmetrics": "bench",
    "torch": "programs",
    "safetensors": "programs",
    "datasets": "learn",
    "fsspec": "learn",
    "lightning": "learn",
    "pyarrow": "learn",
    "sklearn": "learn",
    "tensorboard": "track",
    "wandb": "track",
    "ray": "ray",
}
"""The extra that each optional package, by the name of its module, is installed with."""


def missing(what: str, error: ModuleNotFoundError, whole: str | None = None) -> MissingExtraError | None:
    """The error that says which extra `what` needs; None if the module that is missing comes with none.

    Args:
        whole: the extra that all of its kind need, which holds that of programs.
    """
    module = (error.name or "").split(".")[0]
    if module not in EXTRA_OF:
        return None
    extra = whole if whole and EXTRA_OF[module] == "programs" else EXTRA_OF[module]
    return MissingExtraError(
        f'{what} needs {module}, which is not installed; install it with: pip install "pc15[{extra}]"'
    )


@contextlib.contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Import optional packages inside, for something that a message can name.

    Raises:
        MissingExtraError: one is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        told = missing(what, error)
        if told is None:
            raise
        raise told from error
