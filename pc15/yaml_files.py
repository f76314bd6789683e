"""YAML of options and cards, from anybody: bounded in size, in depth and in what its aliases unfold to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pc15.errors import ConfigError
from pc15.paths import read_bounded

MAX_YAML_BYTES = 1 << 20
_MAX_VALUES = 1 << 17
_MAX_DEPTH = 32
# What PyYAML's safe loader raises on texts such as `!!timestamp x`, `!!int ""`, `0x_` or ten thousand brackets.
_NOT_YAML = (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, OverflowError, RecursionError)


class _ShallowLoader(yaml.SafeLoader):
    """The safe loader, stopped at a depth: the scanner's work is a square of the brackets open at once."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self._depth > _MAX_DEPTH:
            raise yaml.YAMLError(f"nested deeper than {_MAX_DEPTH}")
        self._depth += 1
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file.

    Raises:
        OSError: the file cannot be read.   ConfigError: it is too large, or not YAML of plain values.
    """
    return parse_yaml(read_bounded(path, MAX_YAML_BYTES), str(path))


def parse_yaml(text: bytes | str, name: str) -> Any:
    """Plain values of a text, bytes of which are UTF-8.

    Args:
        name: of the text, for messages.
    Raises:
        ConfigError: it is not YAML of plain values.
    """
    try:
        value = yaml.load(text.decode("utf-8") if isinstance(text, bytes) else text, _ShallowLoader)
    except _NOT_YAML as error:
        raise ConfigError(f"{name} is not YAML: {' '.join(str(error).split())[:200]}") from error
    _check_size(name, value)
    return value


def _check_size(name: str, value: Any) -> None:
    """Refuse values that a few aliases make endless, before anybody prints or compares them."""
    waiting, seen = [(value, 1)], 0
    while waiting:
        part, depth = waiting.pop()
        seen += 1
        inner = [*part.keys(), *part.values()] if isinstance(part, dict) else part if isinstance(part, list) else []
        if seen + len(waiting) + len(inner) > _MAX_VALUES or depth > _MAX_DEPTH:
            raise ConfigError(
                f"{name} unfolds to more than {_MAX_VALUES} values, or deeper than {_MAX_DEPTH}; it is no file of ours"
            )
        waiting += [(one, depth + 1) for one in inner]
