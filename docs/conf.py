"""How Sphinx builds the site: `make docs`.  Pages are Markdown, the reference comes from docstrings."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pc15 import __version__

project = "PC15"
author = "the PC15 authors"
project_copyright = author
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_title = f"PC15 {__version__}"
html_show_sourcelink = html_copy_source = False
html_last_updated_fmt = None  # the same content gives the same site
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
myst_links_external_new_tab = False
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 300
nb_execution_raise_on_error = True
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_default_options = {"members": True, "show-inheritance": False}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
suppress_warnings = [
    "docutils",  # docstrings are plain text, and their lists and stars are not always reStructuredText
    "myst.xref_missing",  # links to files beside docs/, which tests follow
    "mystnb.unknown_mime_type",
    "ref.python",  # names that several classes have
    "ref.ref",  # docstrings that Lightning hands on
]


class CommandHelp(Directive):
    """The --help of a command: `{command-help} pc15 encode`."""

    has_content: ClassVar[bool] = False
    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        import pc15.cli
        import pc15learn.cli

        program, *words = self.arguments[0].split()
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown), contextlib.suppress(SystemExit):
            {"pc15": pc15.cli.main, "pc15learn": pc15learn.cli.main}[program]([*words, "--help"])
        return [nodes.literal_block(shown.getvalue(), shown.getvalue(), language="text")]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.add_directive("command-help", CommandHelp)
