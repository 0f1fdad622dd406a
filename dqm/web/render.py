"""Answers with pages, and with the files that pages link."""

from __future__ import annotations

import gzip
import hashlib
from functools import cache
from typing import Any

from jinja2 import Environment
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from dqm.export import rendering
from dqm.web.auth.principal import principal_of
from dqm.web.auth.roles import NEEDED
from dqm.web.queries import Queries
from dqm.web.security import form_token, remember

__all__ = ["FILES", "prepare_files", "render", "serve_file"]

FILES = rendering.FILES | {
    "page.js": ("dqm.web", "static/page.js", "text/javascript"),
    "wall.css": ("dqm.web", "static/wall.css", "text/css"),
}
"""Files that pages link: name, package and path within it, content type."""

_FOR_EVER = {"Cache-Control": "public, max-age=31536000, immutable"}


def render(
    queries: Queries, request: Request, template: str, /, status: int = 200, **context: Any
) -> Response:
    """Answer with a page.

    Parameters
    ----------
    queries : Queries
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
    token = form_token(request)
    principal = principal_of(request)
    last = [state.last for state in queries.present().values()] if principal.may_read else []
    text = (
        _templates()
        .get_template(template)
        .render(
            now=queries.clock(),
            version=queries.version,
            here=request.scope["path"],
            token=token,
            principal=principal,
            needed=NEEDED,
            origins=sorted({verdict.window.origin for verdict in last if verdict} - {"live"}),
            **context,
        )
    )
    response = HTMLResponse(text, status)
    remember(response, token, is_secure=principal.is_secure)
    return response


async def serve_file(request: Request) -> Response:
    """Answer with one of `FILES`; all answers share one copy of the file, see `prepare_files`."""
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404, f"no file {name!r}")
    headers = _FOR_EVER | {"Vary": "Accept-Encoding"}
    media_type = FILES[name][2]
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(_pack(name), headers=headers | {"Content-Encoding": "gzip"}, media_type=media_type)
    return Response(_read(name), headers=headers, media_type=media_type)


def prepare_files() -> None:
    """Read and compress `FILES`, once: that takes long, and many may ask at the same time."""
    for name in FILES:
        _pack(name)


def _read(name: str) -> bytes:
    return rendering.read_file(*FILES[name][:2])


@cache
def _pack(name: str) -> bytes:
    return gzip.compress(_read(name), compresslevel=6, mtime=0)


@cache
def _address(name: str) -> str:
    """Address that changes with the content, so that browsers may keep it."""
    return f"/static/{name}?v={hashlib.sha256(_read(name)).hexdigest()[:12]}"


@cache
def _templates() -> Environment:
    environment = rendering.make_environment("dqm.web")
    environment.globals["static"] = _address
    return environment
