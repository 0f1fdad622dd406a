"""Signing in and out in a browser."""

from __future__ import annotations

from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dqm.web.auth.authenticator import LOGIN, LOGOUT, Authenticator, principal_of
from dqm.web.problems import BusyError, NobodyMayChangeError, NotSignedInError, describe_problem
from dqm.web.queries import Queries
from dqm.web.render import render
from dqm.web.security import SESSION_COOKIE, new_token, read_form, remember

__all__ = ["ask_to_sign_in", "login_routes"]


def login_routes(queries: Queries, authenticator: Authenticator) -> list[Route]:
    """Make the routes for signing in and out.

    Parameters
    ----------
    queries : Queries
        What is shown.
    authenticator : Authenticator
        Where people sign in.

    Returns
    -------
    list of Route
        For the application.
    """

    def show(request: Request) -> Response:
        return _show(queries, request, request.query_params.get("next", "/"))

    async def sign_in(request: Request) -> Response:
        fields = await read_form(request)
        principal, after = principal_of(request), fields.get("next", "/")
        name, password = fields.get("user", ""), fields.get("password", "")
        try:
            session = await run_in_threadpool(authenticator.sign_in, name, password, principal.address)
        except (BusyError, NotSignedInError, NobodyMayChangeError) as error:
            return await run_in_threadpool(_show, queries, request, after, error)
        response = RedirectResponse(_own_path(after), 303)
        remember(response, new_token(), is_secure=principal.is_secure)
        response.set_cookie(
            SESSION_COOKIE,
            session,
            max_age=int(authenticator.sessions.seconds),
            httponly=True,
            samesite="strict",
            secure=principal.is_secure,
        )
        return response

    async def sign_out(request: Request) -> Response:
        await read_form(request)
        token = request.cookies.get(SESSION_COOKIE, "")
        await run_in_threadpool(authenticator.sign_out, principal_of(request), token)
        response = RedirectResponse("/", 303)
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
        return response

    return [
        Route(LOGIN, show),
        Route(LOGIN, sign_in, methods=["POST"]),
        Route(LOGOUT, sign_out, methods=["POST"]),
    ]


def ask_to_sign_in(queries: Queries, request: Request, error: NotSignedInError) -> Response:
    """Lead a browser to where one signs in, and back afterwards.

    Parameters
    ----------
    queries : Queries
        What is shown.
    request : Request
        What was asked.
    error : NotSignedInError
        Why it needs a user.

    Returns
    -------
    Response
        What a form has asked for is not done afterwards: its page is shown again.
    """
    if request.method in ("GET", "HEAD"):
        query = request.scope["query_string"].decode("latin-1")
        here = request.scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"{LOGIN}?next={quote(here, safe='/')}", 303)
    _, _, page = request.headers.get("referer", "").partition("://")[2].partition("?")[0].partition("/")
    return _show(queries, request, f"/{page}", error)


def _show(queries: Queries, request: Request, after: str, error: Exception | None = None) -> Response:
    problem = describe_problem(error) if error else None
    trouble = ". ".join(filter(None, [problem.detail, problem.fix])) if problem else ""
    status = problem.status if problem else 200
    response = render(queries, request, "login.html", status, after=_own_path(after), trouble=trouble)
    if isinstance(error, BusyError):
        response.headers["Retry-After"] = str(error.seconds)
    return response


def _own_path(address: str) -> str:
    """Give an address to go on to, if it is a page of ours."""
    is_own = address.startswith("/") and not address.startswith(("//", "/log"))
    return address if is_own and address.isprintable() and "\\" not in address else "/"
