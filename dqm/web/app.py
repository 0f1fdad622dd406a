"""The page and its API, to be mounted beside metrics and health."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route

from dqm.errors import DqmError
from dqm.web.api import API, create_api
from dqm.web.auth.authenticator import Authenticator
from dqm.web.auth.login import ask_to_sign_in, login_routes
from dqm.web.pages import page_routes
from dqm.web.problems import BusyError, NotSignedInError, describe_problem
from dqm.web.queries import Queries
from dqm.web.render import render, serve_file
from dqm.web.sse import ChangeFeed

__all__ = ["site_handlers", "site_routes", "tell_problem"]


def site_routes(
    queries: Queries, authenticator: Authenticator, monotonic: Callable[[], float] = time.monotonic
) -> list[BaseRoute]:
    """Make all routes of page and API.

    Parameters
    ----------
    queries : Queries
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
    return [
        *page_routes(queries),
        *login_routes(queries, authenticator),
        Route("/static/{name}", serve_file),
        Route("/events", ChangeFeed(queries, monotonic).listen),
        Mount(API, create_api(queries, site_handlers(queries))),
    ]


def site_handlers(queries: Queries) -> Mapping[Any, Callable[[Request, Exception], Response]]:
    """Make the handlers of what goes wrong, see `tell_problem`.

    Parameters
    ----------
    queries : Queries
        What is shown.

    Returns
    -------
    mapping
        By kind of exception.
    """

    def tell(request: Request, error: Exception) -> Response:
        return tell_problem(queries, request, error)

    kinds = (DqmError, ValidationError, RequestValidationError, HTTPException, Exception)
    return dict.fromkeys(kinds, tell)


def tell_problem(queries: Queries, request: Request, error: Exception) -> Response:
    """Tell what went wrong: problem+json for programs, a page for people.

    Parameters
    ----------
    queries : Queries
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
        return ask_to_sign_in(queries, request, error)
    headers = {"Retry-After": str(error.seconds)} if isinstance(error, BusyError) else {}
    if isinstance(error, NotSignedInError) and "sec-fetch-site" not in request.headers:
        headers["WWW-Authenticate"] = 'Basic realm="dqm", charset="UTF-8"'  # a browser would ask by itself
    if is_page:
        answer = render(queries, request, "error.html", problem.status, problem=problem)
        answer.headers.update(headers)
        return answer
    return JSONResponse(problem.model_dump(), problem.status, headers, "application/problem+json")
