"""Who is asking, and what they may do: every HTTP request passes here first.

Reading needs no login on the loopback; from elsewhere it does. Whatever changes something needs a user who
has proved who they are: by a password, for a session of a browser or with each request of a program (Basic),
or to a reverse proxy that is believed.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import BoundedSemaphore, Lock
from typing import Literal

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dqm.config import WebSection
from dqm.errors import DqmError
from dqm.web.auth.rate_limit import Backoff, TokenBucket
from dqm.web.auth.sessions import Sessions
from dqm.web.auth.users import UserFile, normalise
from dqm.web.problems import (
    BusyError,
    ForeignRequestError,
    NobodyMayChangeError,
    NotSignedInError,
)
from dqm.web.security import SESSION_COOKIE, check_origin

__all__ = ["LOGIN", "LOGOUT", "AuthMiddleware", "Authenticator", "Principal", "principal_of"]

log = structlog.get_logger(__name__)

LOGIN, LOGOUT = "/login", "/logout"

_OPEN = ("/healthz", LOGIN, LOGOUT)
_READING = ("GET", "HEAD")
_PRINCIPAL = "dqm.principal"
_FREE_FAILURES, _LONGEST_WAIT_SECONDS = 5, 300.0
_FREE_FAILURES_OF_USER, _LONGEST_WAIT_OF_USER_SECONDS = 10, 60.0
_MOST_WAITING = 8
_MOST_VERIFIED = 64
_LONGEST_NAME = 64

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Count = Callable[[str], None]
Audit = Callable[[float, str, str, str, str], None]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking.

    Parameters
    ----------
    address : str
        From where, as far as it is known.
    is_local : bool
        Whether from this host, and not through a proxy.
    is_secure : bool
        Whether by https.
    way : str
        How users sign in here: ``password``, ``proxy`` or ``none``.
    user : str
        Who has proved to be asking; empty if nobody has.
    has_session : bool
        Whether it is known by a session, which can be ended.
    """

    address: str
    is_local: bool
    is_secure: bool
    way: Literal["password", "proxy", "none"]
    user: str = ""
    has_session: bool = False

    @property
    def may_read(self) -> bool:
        """Whether everything may be shown."""
        return bool(self.user) or self.is_local


class Authenticator:
    """Finds out who is asking, and admits the request or not; safe to use from several threads.

    Parameters
    ----------
    section : WebSection
        As configured.
    users : UserFile, optional
        Users with passwords.
    count : callable
        Called with the outcome of each check of a password, one of `dqm.export.SIGN_INS`.
    audit : callable
        Called with time, user, action, target and comment of each sign-in and sign-out; may raise
        `StoreError`.
    clock : callable
        Unix time, s.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(
        self,
        section: WebSection | None = None,
        users: UserFile | None = None,
        count: Count = lambda _outcome: None,
        audit: Audit = lambda *_row: None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._section = section or WebSection()
        self._users = users
        self._count, self._audit, self._clock = count, audit, clock
        self.sessions = Sessions(3600.0 * self._section.session_hours, monotonic)
        self._changes = TokenBucket(self._section.changes_per_minute, monotonic)
        self._addresses = Backoff(_FREE_FAILURES, _LONGEST_WAIT_SECONDS, monotonic)
        self._names = Backoff(_FREE_FAILURES_OF_USER, _LONGEST_WAIT_OF_USER_SECONDS, monotonic)
        self._waiting = BoundedSemaphore(_MOST_WAITING)
        self._verifying = Lock()  # one at a time: at most one core and 64 MiB
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, str] = OrderedDict()

    @property
    def names(self) -> tuple[str, ...]:
        """Names the page is served under, besides those of this machine."""
        return self._section.names

    async def admit(self, request: Request) -> None:
        """Find out who is asking, see `principal_of`; raises `DqmError` if they may not ask for this."""
        path, is_reading = request.scope["path"], request.method in _READING  # url.path trusts Host
        if not is_reading:
            check_origin(request.headers)
        principal = request.scope[_PRINCIPAL] = self._recognise(request)
        is_open = path in _OPEN or path.startswith("/static/")
        is_open |= path == "/metrics" and self._section.metrics == "open" and is_reading
        if is_open:
            return
        if not principal.user and self._users and "authorization" in request.headers:
            name, password = _read_basic(request.headers["authorization"])
            user, _ = await run_in_threadpool(self.check_password, name, password, principal.address)
            principal = request.scope[_PRINCIPAL] = replace(principal, user=user)
        if is_reading and not principal.may_read:
            raise NotSignedInError("reading from other hosts needs a user", fix=_advice(principal))
        if not is_reading:
            self._check_change(principal)

    def check_password(self, name: str, password: str, address: str) -> tuple[str, str]:
        """Give the user whose password this is, and its hash.

        Parameters
        ----------
        name, password : str
            As given.
        address : str
            From where.

        Returns
        -------
        tuple of str and str
            The user and the hash; a secret.

        Raises
        ------
        BusyError
            After too many failures, of this user or from this address, or while too many wait.
        NotSignedInError
            If the password is wrong, or there is no such user; which of the two is not said.
        """
        if self._users is None:
            raise NobodyMayChangeError("no users are configured", where="[web] users", fix=_HOW_TO_BEGIN)
        name = normalise(name.strip())
        digest = hmac.digest(self._key, f"{name}\0{password}".encode(), "sha256")
        known = self._users.find(name)
        if known is not None and self._verified.get(digest) == known:
            return name, known
        with self._attempt(name, address):
            fitting = self._users.verify(name, password)
        if fitting is None:
            self._count("refused")
            # a name that is not known may be a password in the wrong field
            log.warning("sign-in refused", user=name if known else "not known", address=address)
            raise NotSignedInError("wrong name or password", fix="Try again, or ask for a new password")
        self._names.forget(name)
        self._addresses.take_back(_network(address))
        self._count("accepted")
        self._verified[digest] = fitting
        if len(self._verified) > _MOST_VERIFIED:
            self._verified.popitem(last=False)
        return name, fitting

    def sign_in(self, name: str, password: str, address: str) -> str:
        """Give the token of a new session; raises as `check_password`, and `StoreError`."""
        user, credential = self.check_password(name, password, address)
        self._audit(self._clock(), user, "sign-in", address, "")
        return self.sessions.begin(user, credential)

    def sign_out(self, principal: Principal, token: str) -> None:
        """End a session; raises `StoreError`."""
        self.sessions.end(token)
        if principal.user:
            self._audit(self._clock(), principal.user, "sign-out", principal.address, "")

    def _recognise(self, request: Request) -> Principal:
        """Find out who is asking, as far as it costs nothing."""
        peer = _read_address(request.client.host if request.client else "")
        is_proxy = peer is not None and any(peer in network for network in self._section.proxies)
        address = self._forwarded(request.headers, peer) if is_proxy else peer
        scheme = request.headers.get("x-forwarded-proto", "") if is_proxy else request.scope["scheme"]
        way: Literal["password", "proxy", "none"] = "proxy" if self._section.proxy_header else "none"
        principal = Principal(
            address=str(address or "unknown"),
            is_local=peer is not None and peer.is_loopback and not is_proxy,
            is_secure=scheme == "https",
            way="password" if self._users else way,
        )
        named = self._named_by_proxy(request.headers) if is_proxy else ""
        if named:
            return replace(principal, user=named)
        session = self.sessions.find(request.cookies.get(SESSION_COOKIE, ""))
        if session and session.credential == self._credential(session.user):
            return replace(principal, user=session.user, has_session=True)
        return principal

    def _credential(self, user: str) -> str:
        """Give what a session of this user depends on; differs from all before if there is no such user."""
        known = self._users.find(user) if self._users else None
        return known or secrets.token_hex()

    def _named_by_proxy(self, headers: Headers) -> str:
        if self._section.proxy_header is None:
            return ""
        found = [value.strip() for value in headers.getlist(self._section.proxy_header)]
        if not any(found):
            return ""
        name = found[0].encode("latin-1", "replace").decode(errors="replace")
        if len(found) > 1 or len(name) > _LONGEST_NAME or not name.isprintable():
            raise ForeignRequestError(
                "the proxy names no one user", where=self._section.proxy_header, fix="Correct the proxy"
            )
        return normalise(name)

    def _forwarded(self, headers: Headers, peer: Address | None) -> Address | None:
        """Give the address that the proxies were asked from: the last that is none of theirs."""
        chain = ",".join(headers.getlist("x-forwarded-for")).split(",")
        for text in reversed(chain):
            address = _read_address(text.strip())
            if address is None:
                break
            if not any(address in network for network in self._section.proxies):
                return address
        return peer

    def _check_change(self, principal: Principal) -> None:
        if not principal.user and principal.way == "none":
            raise NobodyMayChangeError(
                "nobody may change anything: no users are configured", where="[web]", fix=_HOW_TO_BEGIN
            )
        if not principal.user:
            raise NotSignedInError("a change needs a user", fix=_advice(principal))
        wait = self._changes.take(principal.user)
        if wait > 0.0:
            raise BusyError(f"{principal.user} has changed too much in a minute", wait)

    @contextmanager
    def _attempt(self, name: str, address: str) -> Iterator[None]:
        """Let few try at once, and nobody who has failed too often; counts as a failure until it is none."""
        network = _network(address)
        wait = max(self._names.wait(name), self._addresses.wait(network))
        if wait > 0.0:
            self._count("throttled")
            raise BusyError("too many failed sign-ins", wait)
        if not self._waiting.acquire(blocking=False):
            self._count("throttled")
            raise BusyError("too many sign in at once", 2.0)
        try:
            self._names.fail(name)
            self._addresses.fail(network)
            with self._verifying:
                yield
        finally:
            self._waiting.release()


class AuthMiddleware:
    """Passes on the requests that the authenticator admits, with the `Principal` in their scope.

    Parameters
    ----------
    app : ASGI application
        The application to protect.
    authenticator : Authenticator
        Decides which requests are admitted.
    respond : callable
        Makes the response to a request that is not admitted.
    """

    def __init__(
        self, app: ASGIApp, authenticator: Authenticator, respond: Callable[[Request, Exception], Response]
    ) -> None:
        self._app = app
        self._authenticator = authenticator
        self._respond = respond

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        app = self._app
        if scope["type"] == "http":
            request = Request(scope)
            try:
                await self._authenticator.admit(request)
            except DqmError as error:
                app = await run_in_threadpool(self._respond, request, error)
        await app(scope, receive, send)


_HOW_TO_BEGIN = (
    "Run 'dqm users add NAME --file users.toml' beside the configuration, set users = \"users.toml\" "
    "in its table [web], and start the daemon again"
)


def principal_of(request: Request) -> Principal:
    """Give whoever is asking, after they were let in; nobody if they were not."""
    nobody = Principal("unknown", is_local=False, is_secure=False, way="none")
    principal: Principal = request.scope.get(_PRINCIPAL, nobody)
    return principal


def _advice(principal: Principal) -> str:
    if principal.way == "password":
        return "Sign in; programs by Basic authentication, 'dqm alarms' by --user and DQM_PASSWORD"
    return "Come in through the reverse proxy" if principal.way == "proxy" else _HOW_TO_BEGIN


def _read_basic(header: str) -> tuple[str, str]:
    """Name and password of Basic authentication."""
    kind, _, credentials = header.partition(" ")
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except ValueError:
        text = ""
    name, colon, password = text.partition(":")
    if kind.lower() != "basic" or not colon:
        raise NotSignedInError(
            "not Basic authentication", where="Authorization", fix="Send name and password"
        )
    return name, password


def _read_address(text: str) -> Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return address.ipv4_mapped  # of a socket that listens at both
    return address


def _network(address: str) -> str:
    """Whom failures are counted against: an IPv4 address, or the network one IPv6 host may choose from."""
    found = _read_address(address)
    if isinstance(found, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return address
