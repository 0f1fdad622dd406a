"""Who may ask, and what a browser may do with the answer.

A browser on the operator's machine reaches the daemon for any site that it visits. Three checks keep such
sites out: the ``Host`` must be an address or a name of this machine (a name of their own that resolves to it
is refused), a request that changes something must come from our own page (``Sec-Fetch-Site`` or ``Origin``),
and a form must carry the token of a cookie that only our page can read. Programs that send neither are not
browsers: they must send JSON, which no form of another site can.
"""

from __future__ import annotations

import hmac
import ipaddress
import json
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dqm.web.models import Problem
from dqm.web.problems import ForeignRequestError, MalformedError, TooLargeError, UnreadableError

__all__ = [
    "SESSION_COOKIE",
    "JsonRequest",
    "OwnHost",
    "SecurityHeaders",
    "check_origin",
    "form_token",
    "has_own_name",
    "new_token",
    "read_form",
    "remember",
]

_ALWAYS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",  # without a referrer a browser hides the origin of our own forms too
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_NOTHING = "default-src 'none'; frame-ancestors 'none'"
# plotly.js sets style attributes; neither it nor we need style elements, inline scripts or eval
_PAGE = (
    "default-src 'none'; script-src 'self'; style-src 'self'; style-src-attr 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_TOKEN_COOKIE = "dqm_token"  # noqa: S105 - its name, not its value
SESSION_COOKIE = "dqm_session"
_TOKEN_FIELD = "token"  # noqa: S105 - its name, not its value
_OWN_NAME = "dqm.own_name"
_MOST_BYTES = 16_384
_MOST_DIGITS = 20
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


class SecurityHeaders:
    """Adds headers to every response, errors included; HTML may load nothing but from here.

    Redirects within the application lose scheme and host: behind a proxy the browser knows others.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_page = headers.get("content-type", "").startswith("text/html")
                headers.update(_ALWAYS | {"Content-Security-Policy": _PAGE if is_page else _NOTHING})
                headers.setdefault("Cache-Control", "no-store")
                if "location" in headers:
                    headers["Location"] = _without_own_address(headers["Location"], scope)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class OwnHost:
    """Answers only requests to an address or a name of this machine, or to a configured name.

    A page of another site whose name resolves to this machine is refused. Exempt paths are answered, but not
    as from this machine, see `has_own_name`.

    Parameters
    ----------
    app : ASGI application
        The application to protect.
    exempt : sequence of str
        Paths that are not protected, because programs may know the machine by yet another name.
    names : sequence of str
        Further names, in small letters.
    """

    def __init__(self, app: ASGIApp, exempt: Sequence[str] = (), names: Sequence[str] = ()) -> None:
        self._app = app
        self._exempt = frozenset(exempt)
        own = {"localhost", socket.gethostname().lower(), socket.getfqdn().lower()}
        self._names = frozenset({*own, *names})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        app = self._app
        if scope["type"] == "http":
            found = _HOST.fullmatch(Headers(scope=scope).get("host", ""))
            host = found[1].strip("[]").lower() if found else ""
            scope[_OWN_NAME] = self._is_own(host)
            if not scope[_OWN_NAME] and scope["path"] not in self._exempt:
                app = JSONResponse(_foreign_host(host), 421, media_type="application/problem+json")
        await app(scope, receive, send)

    def _is_own(self, host: str) -> bool:
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return host in self._names
        return True


def has_own_name(request: Request) -> bool:
    """Whether a request was sent to an address or a name of this machine, as `OwnHost` has found."""
    return bool(request.scope.get(_OWN_NAME, False))


def check_origin(headers: Headers) -> None:
    """Refuse changes that another site has asked for.

    Parameters
    ----------
    headers : Headers
        Of the request.

    Raises
    ------
    ForeignRequestError
        If it comes from a browser but not from our own page.
    """
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    is_foreign = site is not None and site != "same-origin"
    is_foreign |= origin is not None and origin.partition("://")[2] != headers.get("host")
    if is_foreign:
        raise ForeignRequestError(
            "another site asked for this change",
            where="Origin" if site is None else "Sec-Fetch-Site",
            fix="Use the daemon's own page, or the command line",
        )


def new_token() -> str:
    """Make a token for the forms of a browser."""
    return secrets.token_urlsafe(24)


def form_token(request: Request) -> str:
    """Token for the forms of a page: that of the browser's cookie, or a new one (see `remember`)."""
    return request.cookies.get(_TOKEN_COOKIE) or new_token()


def remember(response: Response, token: str, *, is_secure: bool) -> None:
    """Set the cookie with the token of our forms."""
    response.set_cookie(_TOKEN_COOKIE, token, httponly=True, samesite="strict", secure=is_secure)


async def read_form(request: Request) -> Mapping[str, str]:
    """Read the fields of one of our own forms; the authenticator has checked where it comes from.

    Parameters
    ----------
    request : Request
        A POST.

    Returns
    -------
    mapping of str to str
        Fields that were filled in, without the token.

    Raises
    ------
    ForeignRequestError, TooLargeError, UnreadableError
        If it is not one of our forms.
    """
    _check_type(request, "application/x-www-form-urlencoded")
    fields = dict(parse_qsl((await _read(request)).decode(errors="replace"), max_num_fields=32))
    token = fields.pop(_TOKEN_FIELD, "")
    expected = request.cookies.get(_TOKEN_COOKIE, "")
    if not expected or not hmac.compare_digest(token.encode(), expected.encode()):
        raise ForeignRequestError(
            "the form carries no valid token",
            where="form",
            fix="Reload the page and send the form again; the browser must accept cookies of this page",
        )
    return fields


class JsonRequest(Request):
    """A request of a program: its body must say that it is JSON, and must be short.

    The authenticator has checked where it comes from. `body` and `json` raise `TooLargeError`,
    `UnreadableError` and `MalformedError`.
    """

    async def body(self) -> bytes:
        """Read the body, once."""
        if not hasattr(self, "_body"):
            _check_type(self, "application/json")
            self._body = await _read(self)
        return self._body

    async def json(self) -> Any:
        """Parse the body, once."""
        if not hasattr(self, "_json"):
            body = await self.body()
            try:
                self._json = json.loads(body, parse_int=_read_integer)
            except (ValueError, RecursionError) as error:
                raise MalformedError(f"not JSON: {error}", where="body", fix="Send a JSON object") from None
        return self._json


def _read_integer(digits: str) -> int | float:
    """Read an integer; one of thousands of digits, which Python does not read, is larger than any field."""
    return int(digits) if len(digits) <= _MOST_DIGITS else float(digits)


def _without_own_address(location: str, scope: Scope) -> str:
    """Make a redirect to this application one to a path; two slashes would be another host."""
    own = f"{scope['scheme']}://{Headers(scope=scope).get('host', '')}"
    rest = location.removeprefix(own)
    return f"/{rest.lstrip('/')}" if rest != location and rest.startswith("/") else location


def _foreign_host(host: str) -> dict[str, object]:
    problem = Problem(
        title="Misdirected Request",
        status=421,
        detail=f"the page is not served under the name {host!r}",
        where="Host",
        fix="Use an address of the machine, its own name, or one of [web] names",
    )
    return problem.model_dump()


def _check_type(request: Request, expected: str) -> None:
    found = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if found != expected:
        raise UnreadableError(f"content type {found!r}", where="Content-Type", fix=f"Send {expected}")


async def _read(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _MOST_BYTES:
            raise TooLargeError(f"more than {_MOST_BYTES} bytes", where="body", fix="Send less")
    return bytes(body)
