"""Bars of progress: on a terminal, and never where they are unwanted."""

from __future__ import annotations

__all__ = ["bars_hidden", "hide_bars"]


class _Bars:
    """Whether this process may draw bars."""

    hidden = False


def hide_bars(*, hidden: bool = True) -> None:
    """Draw no more bars in this process, as `--quiet` asks; or draw them again."""
    _Bars.hidden = hidden


def bars_hidden() -> bool | None:
    """The argument `disable` of tqdm: True for no bar, None for a bar where stderr is a terminal."""
    return True if _Bars.hidden else None
