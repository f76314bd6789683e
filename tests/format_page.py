"""docs/format.md, made from the docstring of `pc15.bitstream`, which is the format.

python -m tests.format_page             write the page again: `make docs`
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pc15.bitstream

PAGE = Path(__file__).resolve().parent.parent / "docs" / "format.md"
_NOTE = "<!-- Made by `make docs` from the docstring of pc15/bitstream/__init__.py: change that, not this page. -->"


def page() -> str:
    """Markdown of the docstring: underlined lines become headings, indented blocks become code."""
    title, *lines = (inspect.getdoc(pc15.bitstream) or "").splitlines()
    out = [f"# {title.split(',')[0]}", "", _NOTE, "", title]
    block: list[str] = []
    for line in [*lines, "end"]:
        if line.startswith("    ") or (block and not line):
            block.append(line[4:])
            continue
        if block:
            blank = next(n for n, held in enumerate(reversed(block)) if held)
            out += ["```text", *block[: len(block) - blank], "```", *[""] * max(blank, 1)]
            block = []
        if re.fullmatch("-{3,}", line):
            out += [f"## {out.pop()}", ""]
        else:
            out.append(line)
    return "\n".join(out[:-1]).strip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.name}: {len(page().splitlines())} lines")
