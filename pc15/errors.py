"""Every error that pc15 and pc15learn raise on purpose; all of them are a `Pc15Error`.

A message says what is wrong, which value, where, and what to do next.  Catch `Pc15Error` to catch them all; each
class also derives from the built-in a caller would expect (`ValueError`, `ImportError`, ...).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from numbers import Integral

__all__ = [
    "BitstreamError",
    "BusyError",
    "ConfigError",
    "DeviceError",
    "HooksError",
    "ImageError",
    "MissingExtraError",
    "MissingTableError",
    "Pc15Error",
    "ResourceError",
    "SchemaError",
    "UnknownNameError",
    "checked_max_pixels",
    "did_you_mean",
    "shown",
]


class Pc15Error(Exception):
    """Base of every error raised on purpose."""


class ConfigError(Pc15Error, ValueError):
    """An option is out of range or contradicts another one."""


class ImageError(Pc15Error, ValueError):
    """A picture or a tensor that cannot be coded: not an image, wrong rank, NaN, out of range, too large."""


class UnknownNameError(Pc15Error, LookupError):
    """A name that is not registered; the message offers the nearest one."""


class BitstreamError(Pc15Error, ValueError):
    """Bytes that are not a valid stream: wrong magic, truncated, damaged, or beyond a limit."""


class MissingTableError(BitstreamError):
    """The stream names a table or codebook that this machine does not have."""


class BusyError(Pc15Error, RuntimeError):
    """A file or folder that another process is writing."""


class HooksError(Pc15Error, ValueError):
    """Weights that are missing, damaged, or made for another codec version."""


class SchemaError(Pc15Error, ValueError):
    """A row of tiles.jsonl or of the labels that does not follow its schema."""


class DeviceError(Pc15Error, RuntimeError):
    """A GPU that cannot do what it is asked to: no driver, or too little memory."""


class ResourceError(Pc15Error, MemoryError):
    """More memory is needed than this machine has."""


class MissingExtraError(Pc15Error, ImportError):
    """An optional dependency is not installed; the message has its install line."""


def shown(value: object) -> str:
    """A wrong value in a message, cut short: it may be of any size."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python prints
        text = f"a number of {value.bit_length()} bits" if isinstance(value, int) else type(value).__name__
    return text if len(text) <= 80 else f"{text[:77]}..."


def checked_max_pixels(value: object) -> int:
    """The limit of a picture's pixels, an argument of all readers, as an int.

    Raises:
        ConfigError: not a whole number from 1 up.
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ConfigError(f"max_pixels is {shown(value)}; give a whole number of pixels from 1 up, or None")
    return int(value)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean STRIPES?"` for the nearest known name, or `""` when none is near."""
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]}?" if near else ""
