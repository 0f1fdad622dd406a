"""Parts of the reference that are made from the code while the site is built.

A page says where they go by a comment such as ``<!-- from the code: metrics -->``, invisible on the forge. It
is replaced by Markdown before Sphinx reads the page. So headings, links and search are as on any other page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from reference_api import describe_http_api, describe_python
from reference_commands import describe_commands
from reference_configuration import describe_collector, describe_daemon, describe_options
from reference_metrics import describe_metrics
from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PLACE = re.compile(r"^<!-- from the code: ([a-z -]+) -->$", re.MULTILINE)
PARTS = {
    "daemon": describe_daemon,
    "collector": describe_collector,
    "options": describe_options,
    "commands": describe_commands,
    "metrics": describe_metrics,
    "http": describe_http_api,
    "python": describe_python,
}


def fill(_app: Sphinx, docname: str, source: list[str]) -> None:
    """Put what the code says into a page; raises `ExtensionError` for a part that does not exist."""

    def make(found: re.Match[str]) -> str:
        if found[1] not in PARTS:
            raise ExtensionError(f"{docname}: no part is called {found[1]!r}; there are {', '.join(PARTS)}")
        return PARTS[found[1]]()

    source[0] = PLACE.sub(make, source[0])


def find_generated(_app: Sphinx, env: BuildEnvironment, *_changes: set[str]) -> list[str]:
    """List the pages with such parts: the code may have changed although the page has not."""
    return [name for name in env.found_docs if PLACE.search(env.doc2path(name).read_text(encoding="utf-8"))]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.connect("source-read", fill)
    app.connect("env-get-outdated", find_generated)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
