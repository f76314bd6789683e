"""Objects that other packages offer by entry points: hooks for `--hooks NAME`, codecs for `pc15 bench --against NAME`.

A package says in its pyproject.toml what it offers, and is found once it is installed:

    [project.entry-points."pc15.hooks"]
    mine = "my_package.hooks:MyHooks"            # a class, see `pc15.hooks.protocol.EncoderHooks`

    [project.entry-points."pc15.codecs"]
    other = "my_package.codec:OTHER"             # an object, see `pc15.bench.plugins.PluginCodec`
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal

from pc15.errors import ConfigError

__all__ = ["Group", "load_plugin", "plugin_names"]

Group = Literal["pc15.hooks", "pc15.codecs"]


def plugin_names(group: Group) -> list[str]:
    """Names that installed packages offer, sorted; nothing of them is imported."""
    return sorted({point.name for point in entry_points(group=group)})


def load_plugin(group: Group, name: str) -> Any:
    """The object of that name.

    Raises:
        ConfigError: two packages offer it, or it cannot be imported; says which package.
    """
    points = [point for point in entry_points(group=group) if point.name == name]
    places = sorted({point.value for point in points})
    if len(places) != 1:
        offered = " and ".join(f"{_package(point)} ({point.value})" for point in points) or "no package"
        raise ConfigError(f"{offered} offer {name!r} as {group}; there has to be one: uninstall the others")
    try:
        return points[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{name!r} of {_package(points[0])} cannot be loaded from {places[0]}: {error}") from error


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "a package without a name"
