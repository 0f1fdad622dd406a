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
from dqm.web.api import API, api_routes
from dqm.web.auth.authenticator import Authenticator
from dqm.web.login import ask_to_sign_in, login_routes
from dqm.web.openapi import describe_api
from dqm.web.pages import page_routes
from dqm.web.problems import BusyError, NotSignedInError, describe_problem
from dqm.web.queries import Site
from dqm.web.render import render, serve_file
from dqm.web.sse import ChangeFeed

__all__ = ["site_handlers", "site_routes", "tell_problem"]


def site_routes(
    site: Site, authenticator: Authenticator, monotonic: Callable[[], float] = time.monotonic
) -> list[BaseRoute]:
    """Make all routes of page and API.

    Parameters
    ----------
    site : Site
        What is shown.
    authenticator : Authenticator
        Where people sign in.
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
        *login_routes(site, authenticator),
        Route("/static/{name}", serve_file),
        Route("/events", ChangeFeed(site, monotonic).listen),
        Route(f"{API}/openapi.json", lambda _request: JSONResponse(description)),
        *api_routes(site),
    ]


def site_handlers(site: Site) -> Mapping[Any, Callable[[Request, Exception], Response]]:
    """Make the handlers of what goes wrong, see `tell_problem`.

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
        return tell_problem(site, request, error)

    return dict.fromkeys((DqmError, ValidationError, HTTPException, Exception), tell)


def tell_problem(site: Site, request: Request, error: Exception) -> Response:
    """Tell what went wrong: problem+json for programs, a page for people.

    Parameters
    ----------
    site : Site
        What is shown.
    request : Request
        What was asked.
    error : Exception
        Why it is not answered.

    Returns
    -------
    Response
        Whoever has to sign in first is led to where that is done.
    """
    problem = describe_problem(error)
    is_page = "text/html" in request.headers.get("accept", "") and not request.scope["path"].startswith(API)
    if is_page and isinstance(error, NotSignedInError):
        return ask_to_sign_in(site, request, error)
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, BusyError) else {}
    if isinstance(error, NotSignedInError) and "sec-fetch-site" not in request.headers:
        headers["WWW-Authenticate"] = 'Basic realm="dqm", charset="UTF-8"'  # a browser would ask by itself
    if is_page:
        answer = render(site, request, "error.html", problem.status, problem=problem)
        answer.headers.update(headers)
        return answer
    return JSONResponse(problem.model_dump(), problem.status, headers, "application/problem+json")
