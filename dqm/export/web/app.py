"""The page and its API, to be mounted beside metrics and health."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from dqm.errors import DqmError
from dqm.export.web.api import API, api_routes
from dqm.export.web.openapi import describe_api
from dqm.export.web.pages import page_routes
from dqm.export.web.problems import describe_problem
from dqm.export.web.pulse import Pulse
from dqm.export.web.render import render, serve_file
from dqm.export.web.site import Site

__all__ = ["site_handlers", "site_routes"]


def site_routes(site: Site, monotonic: Callable[[], float] = time.monotonic) -> list[BaseRoute]:
    """Make all routes of page and API.

    Parameters
    ----------
    site : Site
        What is shown.
    monotonic : callable
        Seconds that never go back.

    Returns
    -------
    list of BaseRoute
        For an application with `site_handlers`.
    """
    description = describe_api(site.version)
    return [
        *page_routes(site),
        Route("/static/{name}", serve_file),
        Route("/events", Pulse(site, monotonic).listen),
        Route(f"{API}/openapi.json", lambda _request: JSONResponse(description)),
        *api_routes(site),
    ]


def site_handlers(site: Site) -> Mapping[Any, Callable[[Request, Exception], Response]]:
    """Make the handlers of what goes wrong: problem+json for programs, a page for people.

    Parameters
    ----------
    site : Site
        What is shown.

    Returns
    -------
    mapping
        By kind of exception.
    """

    def tell(request: Request, error: Exception) -> Response:
        problem = describe_problem(error)
        if "text/html" in request.headers.get("accept", "") and not request.url.path.startswith(API):
            return render(site, request, "error.html", problem.status, problem=problem)
        return JSONResponse(problem.model_dump(), problem.status, media_type="application/problem+json")

    return dict.fromkeys((DqmError, ValidationError, HTTPException, Exception), tell)
