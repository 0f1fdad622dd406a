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
from dqm.web.certification_pages import certification_routes
from dqm.web.compare_pages import compare_routes
from dqm.web.pages import page_routes
from dqm.web.problems import BusyError, NotSignedInError, describe_problem
from dqm.web.queries import Queries
from dqm.web.render import prepare_files, render, serve_file
from dqm.web.sse import ChangeFeed
from dqm.web.user_pages import user_routes

__all__ = ["create_routes", "error_handlers", "respond_to_error"]


def create_routes(
    queries: Queries, authenticator: Authenticator, monotonic: Callable[[], float] = time.monotonic
) -> list[BaseRoute]:
    """Make the routes of the pages and the API.

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
        For an application with `error_handlers`.
    """
    prepare_files()
    return [
        *page_routes(queries),
        *certification_routes(queries),
        *compare_routes(queries),
        *login_routes(queries, authenticator),
        *user_routes(queries, authenticator.accounts),
        Route("/static/{name}", serve_file),
        Route("/events", ChangeFeed(queries, monotonic).listen),
        Mount(API, create_api(queries, authenticator.accounts, error_handlers(queries))),
    ]


def error_handlers(queries: Queries) -> Mapping[Any, Callable[[Request, Exception], Response]]:
    """Make the handlers of errors, see `respond_to_error`.

    Parameters
    ----------
    queries : Queries
        What is shown.

    Returns
    -------
    mapping
        By kind of exception.
    """

    def respond(request: Request, error: Exception) -> Response:
        return respond_to_error(queries, request, error)

    kinds = (DqmError, ValidationError, RequestValidationError, HTTPException, Exception)
    return dict.fromkeys(kinds, respond)


def respond_to_error(queries: Queries, request: Request, error: Exception) -> Response:
    """Say what went wrong: problem+json for programs, a page for people.

    Parameters
    ----------
    queries : Queries
        What is shown.
    request : Request
        The request.
    error : Exception
        Why it failed.

    Returns
    -------
    Response
        Browsers that must sign in first are sent to the page for it.
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
