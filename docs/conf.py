"""How Sphinx makes the site: the repository is its source, so that links are true here and on the forge."""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "dqm"
author = "the authors of dqm"
version = release = version_of("dqm")
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "generated_reference",
    "executed_notebook",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/notebook.ipynb",
    "dashboards/runbook.md",
    "systemd/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
]
exclude_patterns = ["docs/_build", "docs/_ext", "docs/_static"]

html_theme = "furo"
html_title = f"dqm {release}"
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["tables.css", "print.css"]
html_theme_options = {"top_of_page_buttons": []}

myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
add_module_names = False
autodoc_typehints = "none"  # docstrings say types and shapes
autodoc_member_order = "bysource"
autodoc_use_type_comments = False
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

FORWARD = (
    '<!doctype html><meta charset="utf-8"><title>dqm</title>'
    '<meta http-equiv="refresh" content="0; url={page}"><a href="{page}">dqm</a>\n'
)
"""What leads a reader who opens the folder to its first page."""


def write_front_page(app: Sphinx, error: Exception | None) -> None:
    """Write ``index.html`` at the top, which leads to the first page."""
    if error is None and app.builder.name == "html":
        page = f"{root_doc}.html"
        (Path(app.outdir) / "index.html").write_text(FORWARD.format(page=page), encoding="utf-8")


def setup(app: Sphinx) -> None:
    """Register what this file adds to Sphinx."""
    app.connect("build-finished", write_front_page)
