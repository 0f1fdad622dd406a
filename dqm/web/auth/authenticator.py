"""Who is asking, and what they may do: every HTTP request passes here first.

Reading needs no login on the loopback; from elsewhere it does. A change needs an authenticated user: by a
password, for a session of a browser or with each request of a program (Basic); by a provider of OpenID
Connect; or by a trusted reverse proxy. Which role a change needs is decided in `dqm.web.auth.roles`.
"""

from __future__ import annotations

import base64
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from threading import BoundedSemaphore, Lock

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from dqm.config import Role, WebSection
from dqm.errors import DqmError
from dqm.web.auth.accounts import Accounts
from dqm.web.auth.oidc import Identity, OidcProvider
from dqm.web.auth.principal import READING, Principal, Way, keep_principal
from dqm.web.auth.proxies import network_of, read_source
from dqm.web.auth.rate_limit import Backoff, TokenBucket
from dqm.web.auth.roles import role_of_groups
from dqm.web.auth.sessions import Session, Sessions
from dqm.web.auth.users import UserFile, normalise
from dqm.web.problems import (
    BusyError,
    NobodyMayChangeError,
    NotSignedInError,
    RoleMissingError,
)
from dqm.web.security import SESSION_COOKIE, check_origin, has_own_name

__all__ = ["HEALTH", "LOGIN", "LOGOUT", "PROVIDER", "RETURN", "AuthMiddleware", "Authenticator"]

log = structlog.get_logger(__name__)

HEALTH = "/healthz"
LOGIN = "/login"
LOGOUT = "/logout"
PROVIDER = "/login/provider"
"""Where a sign-in at the provider begins."""

RETURN = "/login/provider/return"
"""Where the provider sends the browser afterwards."""

_OPEN = (LOGIN, LOGOUT, PROVIDER, RETURN)
_FREE_FAILURES = 5
_LONGEST_WAIT_SECONDS = 300.0
_FREE_FAILURES_OF_USER = 10
_LONGEST_WAIT_OF_USER_SECONDS = 60.0
_MOST_WAITING = 8
_MOST_VERIFIED = 64

Count = Callable[[str], None]
Audit = Callable[[float, str, str, str, str], None]


class Authenticator:
    """Finds out who is asking, and admits the request or not; safe to use from several threads.

    Parameters
    ----------
    section : WebSection
        As configured.
    users : UserFile, optional
        Users with passwords.
    provider : OidcProvider, optional
        Where users sign in by OpenID Connect.
    count : callable
        Called with the outcome of each check of a password and of each sign-in at the provider, one of
        `dqm.export.SIGN_INS`.
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
        provider: OidcProvider | None = None,
    ) -> None:
        self._section = section or WebSection()
        self._users = users
        self.provider = provider
        self._count = count
        self._audit = audit
        self._clock = clock
        self.sessions = Sessions(3600.0 * self._section.session_hours, monotonic)
        self.accounts = Accounts(users, self.sessions)
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
        path = request.scope["path"]  # url.path trusts Host
        is_reading = request.method in READING
        if not is_reading:
            check_origin(request.headers)
        principal = keep_principal(request, self._recognise(request))
        is_open = path in _OPEN or path.startswith("/static/")
        is_open |= path == "/metrics" and self._section.metrics == "open" and is_reading
        if is_open:
            return
        if not principal.user and self._users and "authorization" in request.headers:
            name, password = _read_basic(request.headers["authorization"])
            user, _ = await run_in_threadpool(self.check_password, name, password, principal.address)
            principal = keep_principal(request, replace(principal, user=user, role=self._users.role(user)))
        if path == HEALTH and is_reading:
            return
        if principal.user and principal.role is None:
            raise RoleMissingError(
                f"{principal.user} is in no group that may read", where="[web] roles", fix=_HOW_TO_MAP
            )
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
            # an unknown name may be a password in the wrong field
            log.warning("sign-in refused", user=name if known else "not known", address=address)
            raise NotSignedInError("wrong name or password", fix="Try again, or ask for a new password")
        self._names.forget(name)
        self._addresses.take_back(network_of(address))
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

    def sign_in_at_provider(self, identity: Identity, address: str) -> str:
        """Give the token of a new session.

        Parameters
        ----------
        identity : Identity
            As the provider has told it.
        address : str
            From where.

        Returns
        -------
        str
            The token.

        Raises
        ------
        RoleMissingError
            If the user's groups give no role.
        StoreError
            If the sign-in cannot be written to the audit.
        """
        role = role_of_groups(identity.groups, self._section)
        if role is None:
            self._count("refused")
            log.warning("sign-in refused: no group with a role", user=identity.name, address=address)
            raise RoleMissingError(
                f"{identity.name} is in no group that may sign in", where="[web] roles", fix=_HOW_TO_MAP
            )
        self._audit(self._clock(), identity.name, "sign-in", address, "at the provider")
        self._addresses.take_back(network_of(address))
        self._count("accepted")
        return self.sessions.begin(identity.name, "", role, identity.id_token)

    def sign_out(self, principal: Principal, token: str) -> Session | None:
        """End a session and give it; raises `StoreError`."""
        ended = self.sessions.end(token)
        if principal.user:
            self._audit(self._clock(), principal.user, "sign-out", principal.address, "")
        return ended

    def check_address(self, address: str) -> None:
        """Refuse an address from which too many sign-ins have failed; raises `BusyError`."""
        wait = self._addresses.wait(network_of(address))
        if wait > 0.0:
            self._count("throttled")
            raise BusyError("too many failed sign-ins", wait)

    def count_failure(self, address: str) -> None:
        """Count a sign-in at the provider that failed."""
        self._addresses.fail(network_of(address))
        self._count("refused")

    def _recognise(self, request: Request) -> Principal:
        """Find out who is asking, as far as this needs no check of a password."""
        source = read_source(request, self._section)
        address = source.address
        is_here = address is not None and address.is_loopback and not source.is_proxied
        principal = Principal(
            address=str(address or "unknown"),
            is_local=is_here and has_own_name(request),
            is_secure=source.is_secure,
            ways=self._ways,
        )
        if source.user:
            return replace(principal, user=source.user, role=source.role)
        session = self.sessions.find(request.cookies.get(SESSION_COOKIE, ""))
        role = self._role_of(session) if session else None
        if session and role:
            return replace(principal, user=session.user, role=role, has_session=True)
        return principal

    @property
    def _ways(self) -> tuple[Way, ...]:
        found: dict[Way, object] = {
            "password": self._users,
            "provider": self.provider,
            "proxy": self._section.proxy_header,
        }
        return tuple(way for way, exists in found.items() if exists)

    def _role_of(self, session: Session) -> Role | None:
        """Present role of whoever has a session; None if the session is over."""
        if session.role is not None:
            return session.role
        if self._users is None or session.credential != self._users.find(session.user):
            return None
        return self._users.role(session.user)

    def _check_change(self, principal: Principal) -> None:
        if not principal.user and not principal.ways:
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
        """Limit simultaneous attempts and failures; an attempt counts as a failure until it succeeds."""
        network = network_of(address)
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


_HOW_TO_MAP = "Ask whoever runs the daemon to give one of your groups a role in its table [web.roles]"


def _advice(principal: Principal) -> str:
    if "password" in principal.ways:
        return "Sign in; programs by Basic authentication, 'dqm alarms' by --user and DQM_PASSWORD"
    if "provider" in principal.ways:
        return "Sign in on the page; programs need a user of their own: [web] users"
    return "Come in through the reverse proxy" if principal.ways else _HOW_TO_BEGIN


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
