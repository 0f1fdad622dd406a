"""Signing in and out in a browser."""

from __future__ import annotations

from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from dqm.errors import DqmError
from dqm.web.auth.authenticator import LOGIN, LOGOUT, PROVIDER, RETURN, Authenticator
from dqm.web.auth.oidc import OidcProvider
from dqm.web.auth.principal import principal_of
from dqm.web.problems import (
    BusyError,
    NobodyMayChangeError,
    NotSignedInError,
    ProviderError,
    RoleMissingError,
    describe_problem,
)
from dqm.web.queries import Queries
from dqm.web.render import render
from dqm.web.security import SESSION_COOKIE, new_token, read_form, remember

__all__ = ["ask_to_sign_in", "login_routes"]

_BEGUN_COOKIE = "dqm_sign_in"
_LONGEST_QUERY = 1000
"""Longest address to go on to that is remembered while the browser is at the provider."""


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
        principal = principal_of(request)
        after = fields.get("next", "/")
        name, password = fields.get("user", ""), fields.get("password", "")
        try:
            session = await run_in_threadpool(authenticator.sign_in, name, password, principal.address)
        except (BusyError, NotSignedInError, NobodyMayChangeError) as error:
            return await run_in_threadpool(_show, queries, request, after, error)
        response = RedirectResponse(_own_path(after), 303)
        _begin_session(response, request, session, authenticator.sessions.seconds)
        return response

    async def sign_out(request: Request) -> Response:
        await read_form(request)
        token = request.cookies.get(SESSION_COOKIE, "")
        ended = await run_in_threadpool(authenticator.sign_out, principal_of(request), token)
        address = None
        if ended and ended.id_token and authenticator.provider:
            address = await authenticator.provider.end_address(ended.id_token, f"{_own_address(request)}/")
        response: Response = RedirectResponse("/", 303)
        if address:
            response = await run_in_threadpool(_go_on, queries, request, "signed-out.html", address)
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="strict")
        return response

    routes = [
        Route(LOGIN, show),
        Route(LOGIN, sign_in, methods=["POST"]),
        Route(LOGOUT, sign_out, methods=["POST"]),
    ]
    if authenticator.provider:
        routes += _provider_routes(queries, authenticator, authenticator.provider)
    return routes


def _provider_routes(queries: Queries, authenticator: Authenticator, provider: OidcProvider) -> list[Route]:
    """Make the routes for signing in at a provider."""

    async def begin(request: Request) -> Response:
        after = request.query_params.get("next", "/")
        try:
            authenticator.check_address(principal_of(request).address)
            begun = await provider.begin(
                f"{_own_address(request)}{RETURN}", _own_path(after)[:_LONGEST_QUERY]
            )
        except (BusyError, ProviderError) as error:
            return await run_in_threadpool(_show, queries, request, after, error)
        response = RedirectResponse(begun.address, 303)
        response.set_cookie(
            _BEGUN_COOKIE,
            begun.cookie,
            max_age=begun.seconds,
            path=PROVIDER,
            httponly=True,
            samesite="lax",  # the provider's page sends the browser back, with this cookie
            secure=principal_of(request).is_secure,
        )
        return response

    async def end(request: Request) -> Response:
        address = principal_of(request).address
        try:
            authenticator.check_address(address)
            identity, after = await provider.finish(request, request.cookies.get(_BEGUN_COOKIE, ""))
            session = await run_in_threadpool(authenticator.sign_in_at_provider, identity, address)
        except DqmError as error:
            if isinstance(error, NotSignedInError):
                authenticator.count_failure(address)
            response = await run_in_threadpool(_show, queries, request, "/", error)
        else:
            # the session comes with what our own page asks for, not with a redirect that another site began
            response = await run_in_threadpool(_go_on, queries, request, "signed-in.html", _own_path(after))
            _begin_session(response, request, session, authenticator.sessions.seconds)
        response.delete_cookie(_BEGUN_COOKIE, path=PROVIDER, httponly=True, samesite="lax")
        return response

    return [Route(PROVIDER, begin), Route(RETURN, end)]


def ask_to_sign_in(
    queries: Queries, request: Request, error: NotSignedInError | RoleMissingError
) -> Response:
    """Send a browser to the page for signing in, and back afterwards.

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
        The change of a form is not made afterwards: its page is shown again.
    """
    if request.method in ("GET", "HEAD"):
        query = request.scope["query_string"].decode("latin-1")
        here = request.scope["path"] + (f"?{query}" if query else "")
        return RedirectResponse(f"{LOGIN}?next={quote(here, safe='/')}", 303)
    _, _, page = request.headers.get("referer", "").partition("://")[2].partition("?")[0].partition("/")
    return _show(queries, request, f"/{page}", error)


def _begin_session(response: Response, request: Request, session: str, seconds: float) -> None:
    """Set the cookie of a session, and a new token for its forms."""
    is_secure = principal_of(request).is_secure
    remember(response, new_token(), is_secure=is_secure)
    response.set_cookie(
        SESSION_COOKIE, session, max_age=int(seconds), httponly=True, samesite="strict", secure=is_secure
    )


def _own_address(request: Request) -> str:
    """Scheme and host under which the browser knows this page; the host has been checked."""
    scheme = "https" if principal_of(request).is_secure else "http"
    return f"{scheme}://{request.headers['host']}"


def _show(queries: Queries, request: Request, after: str, error: Exception | None = None) -> Response:
    problem = describe_problem(error) if error else None
    trouble = ". ".join(filter(None, [problem.detail, problem.fix])) if problem else ""
    status = problem.status if problem else 200
    response = render(queries, request, "login.html", status, after=_own_path(after), trouble=trouble)
    if isinstance(error, BusyError):
        response.headers["Retry-After"] = str(error.seconds)
    return response


def _go_on(queries: Queries, request: Request, template: str, address: str) -> Response:
    """Show a page that goes to the next page by itself."""
    return render(queries, request, template, address=address)


def _own_path(address: str) -> str:
    """Give an address to go on to, if it is a page of ours."""
    is_own = address.startswith("/") and not address.startswith(("//", "/log"))
    return address if is_own and address.isprintable() and "\\" not in address else "/"
