"""From models to HTML: the templates, and the files they link."""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dqm.export.desk import needs_response
from dqm.export.web.door import visitor_of
from dqm.export.web.security import form_token, remember
from dqm.export.web.site import Site
from dqm.export.web.words import FILTERS

__all__ = ["FILES", "render", "serve_file", "template_text"]

FILES = {
    "page.css": ("dqm.export.web", "static/page.css", "text/css"),
    "charts.css": ("dqm.export.web", "static/charts.css", "text/css"),
    "page.js": ("dqm.export.web", "static/page.js", "text/javascript"),
    "charts.js": ("dqm.export.web", "static/charts.js", "text/javascript"),
    "plotly.min.js": ("plotly", "package_data/plotly.min.js", "text/javascript"),
}
"""Files that pages link: name, package and path within it, content type."""

_STYLE_NAME = re.compile(r'getElementById\("([0-9a-f]{64})"\)')
_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


@cache
def _read(name: str) -> bytes:
    package, path, _ = FILES[name]
    return files(package).joinpath(path).read_bytes()


@cache
def _pack(name: str) -> bytes:
    return gzip.compress(_read(name), compresslevel=6, mtime=0)


@cache
def _address(name: str) -> str:
    """Address that changes with the content, so that browsers may keep it."""
    return f"/static/{name}?v={hashlib.sha256(_read(name)).hexdigest()[:12]}"


def _inline(name: str) -> Markup:
    """Content of a file, for a page that must not link any; nothing in it can end the element it is in."""
    return Markup(_read(name).decode().replace("</script", "<\\/script"))  # noqa: S704 - our own files


@lru_cache
def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("dqm.export.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(FILTERS)
    environment.tests["calling"] = needs_response
    environment.globals["static"] = _address
    environment.globals["inline"] = _inline
    environment.globals["plotly_styles"] = sorted(set(_STYLE_NAME.findall(_read("plotly.min.js").decode())))
    return environment


def template_text(template: str, /, **context: Any) -> str:
    """Fill in a template.

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
    return _templates().get_template(template).render(**context)


def render(site: Site, request: Request, template: str, /, status: int = 200, **context: Any) -> Response:
    """Answer with a page.

    Parameters
    ----------
    site : Site
        What is shown.
    request : Request
        Whom to answer.
    template : str
        Its file.
    status : int
        HTTP status.
    **context
        Variables of the template.

    Returns
    -------
    Response
        With the cookie of our forms.
    """
    token, visitor = form_token(request), visitor_of(request)
    last = [stream.last for stream in site.situation.streams()] if visitor.may_read else []
    text = template_text(
        template,
        now=site.clock(),
        version=site.version,
        here=request.url.path,
        token=token,
        visitor=visitor,
        origins=sorted({verdict.origin for verdict in last if verdict} - {"live"}),
        **context,
    )
    response = HTMLResponse(text, status)
    remember(response, token, is_secure=visitor.is_secure)
    return response


def serve_file(request: Request) -> Response:
    """Answer with one of `FILES`."""
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404, f"no file {name!r}")
    headers = _FOR_EVER | {"Vary": "Accept-Encoding"}
    media_type = FILES[name][2]
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(_pack(name), headers=headers | {"Content-Encoding": "gzip"}, media_type=media_type)
    return Response(_read(name), headers=headers, media_type=media_type)
