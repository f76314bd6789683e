"""The project's texts: links that lead somewhere, commands that parse, pages that are up to date."""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

import pc15.cli
import pc15learn.cli
from tests import format_page

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MAINS = {"pc15": pc15.cli.main, "pc15learn": pc15learn.cli.main}


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def fenced(text: str, *languages: str) -> Iterator[str]:
    """Fenced blocks of some languages, wherever they are indented."""
    for indent, language, block in re.findall(r"(?ms)^([ ]*)```(\w*)\n(.*?)^\1```$", text):
        if language in languages:
            yield re.sub(f"(?m)^{indent}", "", block)


def inline(text: str) -> Iterator[str]:
    """Code in backticks within running text, one line each."""
    prose = re.sub(r"(?ms)^[ ]*```.*?^[ ]*```$", "", text)
    for code in re.findall(r"`([^`]+)`", prose):
        yield " ".join(code.split())


def commands(text: str) -> Iterator[list[str]]:
    """Commands of shell blocks, word by word, without what sets the environment."""
    for block in fenced(text, "sh", "bash", "console"):
        for line in block.replace("\\\n", "").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"[A-Z0-9_]+=.*", words[0]):
                words = words[1:]
            ends = [i for i, word in enumerate(words) if word in ("|", "<", ">")]  # what the shell does with it
            words = words[: min(ends, default=len(words))]
            if words:
                yield words


class _Parsed(BaseException):
    """Raised once a command's words have been understood, in place of running it."""


@pytest.fixture
def only_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`pc15` and `pc15learn` stop once their words are parsed."""
    parse = argparse.ArgumentParser.parse_known_args

    def parse_and_stop(self: argparse.ArgumentParser, args: Any = None, namespace: Any = None) -> Any:
        found, unknown = parse(self, args, namespace)
        if namespace is None and " " not in self.prog:  # of the whole command, not of one of its subcommands
            raise _Parsed(found, unknown)
        return found, unknown

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_and_stop)


def unknown_words(words: Sequence[str]) -> list[str]:
    """Words of a command of `pc15` or `pc15learn` that its parser does not know."""
    try:
        MAINS[words[0]](words[1:])
    except _Parsed as parsed:
        unknown: list[str] = parsed.args[1]
        return unknown
    raise AssertionError(f"{shlex.join(words)} was not parsed")


def options_of(words: Sequence[str]) -> set[str]:
    """Flags of a subcommand, from its own help.

    Raises:
        AssertionError: there is no such subcommand.
    """
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown), pytest.raises(SystemExit) as left:
        MAINS[words[0]]([*words[1:], "--help"])
    assert left.value.code == 0, f"no command {shlex.join(words)}"
    return set(re.findall(r"--[a-z][\w-]*", shown.getvalue()))


# ---------------------------------------------------------------- links


def anchors(page: Path) -> set[str]:
    """Names that headings of a page have in links, as Markdown viewers make them."""
    prose = re.sub(r"(?ms)^[ ]*```.*?^[ ]*```$", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"(?m)^#+ +(.+?) *$", prose)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_relative_link_leads_somewhere(page: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        assert target.exists(), f"{page} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{page} links to {link}, a heading that is not there"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_files_that_a_page_names_exist(page: str) -> None:
    """Paths in backticks, as seen from the project's root."""
    for code in inline(text_of(page)):
        if re.fullmatch(r"(pc15|pc15learn|tests|configs|docs|datasets|checkpoints)(/[\w.-]+)+/?", code):
            assert (ROOT / code).exists(), f"{page} names {code}"


@pytest.mark.parametrize("page", [page for page in PAGES if page != "README.md"])
def test_every_page_can_be_reached_from_the_readme(page: str) -> None:
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        here = ahead.pop()
        if here in seen or here.suffix != ".md" or not here.is_file():
            continue
        seen.add(here)
        links = re.findall(r"\]\(([^)\s#]+)(?:#[^)\s]*)?\)", here.read_text(encoding="utf-8"))
        ahead += [(here.parent / link).resolve() for link in links if "://" not in link]
    assert ROOT / page in seen


@pytest.mark.parametrize(("page", "to"), [("docs/measured.md", "docs/peers.md"), ("docs/peers.md", "docs/measured.md")])
def test_figures_and_facts_of_peers_point_to_each_other(page: str, to: str) -> None:
    assert f"]({Path(to).name})" in text_of(page)


def test_what_peers_do_not_have_is_linked_to_how_it_is_done_here() -> None:
    rows = [line.split(" | ")[1] for line in text_of("docs/peers.md").splitlines() if line.startswith("| ")]
    quoting = [cell for cell in rows if "`" in cell]
    assert len(quoting) >= 5 and all("](" in cell for cell in quoting)


# ---------------------------------------------------------------- pages


def test_the_readme_is_one_page() -> None:
    text = text_of("README.md")
    assert len(text.splitlines()) <= 170
    assert "make test" in text and "make demo" in text


@pytest.mark.parametrize("page", [page for page in PAGES if page != "CHANGELOG.md"])
def test_pages_name_the_python_that_the_project_needs(page: str) -> None:
    needs = tomllib.loads(text_of("pyproject.toml"))["project"]["requires-python"].removeprefix(">=")
    assert set(re.findall(r"Python (3\.\d+)", text_of(page))) <= {needs}


def test_the_page_of_the_format_is_up_to_date() -> None:
    assert format_page.PAGE.read_text(encoding="utf-8") == format_page.page(), "run `make docs`"


def test_the_citation_names_the_version() -> None:
    cited = yaml.safe_load(text_of("CITATION.cff"))
    assert cited["version"] == pc15.__version__
    assert f"## {pc15.__version__}" in text_of("CHANGELOG.md")


# ---------------------------------------------------------------- commands


@pytest.mark.parametrize("page", PAGES)
def test_quoted_commands_parse(page: str, only_parsed: None) -> None:
    targets = re.findall(r"(?m)^([a-z]+):", text_of("Makefile"))
    for words in commands(text_of(page)):
        said = shlex.join(words)
        if words[0] in MAINS:
            assert unknown_words(words) == [], f"{page}: {said}"
        elif words[0] == "make":
            assert set(words[1:]) <= set(targets), f"{page}: {said}"
        elif "-m" in words and Path(words[0]).name == "python":
            assert importlib.util.find_spec(words[words.index("-m") + 1]) is not None, f"{page}: {said}"
        if "pytest" in words:
            assert all((ROOT / word).exists() for word in words if word.startswith("tests/")), f"{page}: {said}"


@pytest.mark.parametrize("page", PAGES)
def test_commands_within_sentences_name_what_there_is(page: str, only_parsed: None) -> None:
    """A sentence may leave out a command's files, so only its subcommand and its options count."""
    for code in inline(text_of(page)):
        try:
            words = shlex.split(code)
        except ValueError:
            continue
        if words[:1] == ["pytest"]:
            assert all((ROOT / word).exists() for word in words[1:] if "/" in word), f"{page}: {code}"
        if len(words) < 2 or words[0] not in MAINS or not re.fullmatch(r"[a-z-]+", words[1]):
            continue
        flags = [word for word in words if word.startswith("--")]
        depth = 3 if words[1] == "bench" and words[0] == "pc15" and len(words) > 2 else 2
        options = options_of(words[:depth])
        assert set(flags) <= options, f"{page}: {code}"


@pytest.mark.parametrize("page", PAGES)
def test_quoted_python_compiles_and_imports_what_there_is(page: str) -> None:
    for block in fenced(text_of(page), "python", "py"):
        if re.search(r"\A(#.*\n)*[ ]", block):  # lines to put into a file that is there
            continue
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("pc15", "pc15learn"):
                module = importlib.import_module(str(node.module))
                for name in node.names:
                    assert hasattr(module, name.name), f"{page}: from {node.module} import {name.name}"
