"""Templates, and the files that they link or contain; the page adds its own of both kinds."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dqm.alarm import needs_response
from dqm.errors import escape_text
from dqm.events.finite import dump_json
from dqm.export.words import FILTERS

__all__ = ["FILES", "make_environment", "read_file", "template_text"]

FILES = {
    "page.css": ("dqm.export", "static/page.css", "text/css"),
    "charts.css": ("dqm.export", "static/charts.css", "text/css"),
    "charts.js": ("dqm.export", "static/charts.js", "text/javascript"),
    "plotly.min.js": ("plotly", "package_data/plotly.min.js", "text/javascript"),
}
"""Files of reports and pages: name, package and path within it, content type."""

_STYLE_NAME = re.compile(r'getElementById\("([0-9a-f]{64})"\)')


@cache
def read_file(package: str, path: str) -> bytes:
    """Read a file of an installed package."""
    return files(package).joinpath(path).read_bytes()


def make_environment(*packages: str) -> Environment:
    """Set up templates.

    Parameters
    ----------
    *packages : str
        Packages whose ``templates`` are searched, in this order; those of reports come last.

    Returns
    -------
    Environment
        Every variable is escaped, including invisible characters; a missing variable is an error.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package) for package in (*packages, "dqm.export")]),
        autoescape=True,
        finalize=_show,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    plotly = read_file(*FILES["plotly.min.js"][:2]).decode()
    environment.filters.update(FILTERS)
    environment.tests["needing_response"] = needs_response
    environment.policies["json.dumps_function"] = dump_json
    environment.globals["inline"] = _inline
    environment.globals["plotly_styles"] = sorted(set(_STYLE_NAME.findall(plotly)))
    return environment


def template_text(template: str, /, **context: Any) -> str:
    """Fill in a template of a report.

    Parameters
    ----------
    template : str
        Its file.
    **context
        Its variables.

    Returns
    -------
    str
        HTML; every variable is escaped.
    """
    return _report_templates().get_template(template).render(**context)


def _show(value: Any) -> Any:
    """Remove characters that are invisible or change the order in which text is read."""
    return escape_text(value, keep="\n\t") if type(value) is str else value


@cache
def _report_templates() -> Environment:
    return make_environment()


def _inline(name: str) -> Markup:
    """Give the content of a file for a page without links; it cannot end the element that contains it."""
    content = read_file(*FILES[name][:2]).decode()
    return Markup(content.replace("</script", "<\\/script"))  # noqa: S704 - our own files
