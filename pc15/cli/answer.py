"""A command's answer: lines for people, or one JSON object, which grows as the work does."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

__all__ = ["Answer"]


class Answer:
    """Results of a command on standard output, in one of two forms.

    With `as_json` that is one object: `put` adds fields to it, `row` entries to a list that is its next field, and
    `say` nothing.  Rows are written as they come and never held, so a list may be as long as it likes.  Otherwise `say`
    and the `text` of rows are lines; `quiet` leaves them out.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self._to: TextIO | None = None
        self._begun = False
        self._list: str | None = None
        self._empty = True

    def beside_data(self) -> None:
        """Leave standard output to the data that a command writes there; what is said goes to stderr."""
        self._to = sys.stderr

    def say(self, text: str) -> None:
        """A line, or several, for people."""
        if not (self.as_json or self.quiet):
            self._write(f"{text}\n")

    def put(self, **fields: Any) -> None:
        """Fields of the object: plain JSON values."""
        if self.as_json:
            for name, value in fields.items():
                self._end_list()
                self._begin(name)
                self._write(json.dumps(_finite(value), indent=2).replace("\n", "\n  "))

    def row(self, name: str, fields: Mapping[str, Any], text: str | None = None) -> None:
        """An entry of the list `name`, which ends when another field follows; `text` for people."""
        if not self.as_json:
            if text is not None:
                self.say(text)
            return
        if self._list != name:
            self.begin_list(name)
        self._write(("\n    " if self._empty else ",\n    ") + json.dumps(_finite(fields)))
        self._empty = False

    def begin_list(self, name: str) -> None:
        """Begin a list, which may stay empty."""
        if self.as_json:
            self._end_list()
            self._begin(name)
            self._list, self._empty = name, True
            self._write("[")

    def close(self) -> None:
        """End the object, also after an error: what was written is valid JSON then."""
        if self._begun:
            self._end_list()
            self._write("\n}\n")
            self._begun = False

    def _begin(self, name: str) -> None:
        self._write((",\n  " if self._begun else "{\n  ") + json.dumps(name) + ": ")
        self._begun = True

    def _end_list(self) -> None:
        if self._list is not None:
            self._write("]" if self._empty else "\n  ]")
            self._list = None

    def _write(self, text: str) -> None:
        print(text, end="", file=self._to or sys.stdout, flush=text.endswith("\n"))


def _finite(value: Any) -> Any:
    """The same value with null in place of what JSON has no number for."""
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return value
