"""The sender of a request, as far as it is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from starlette.requests import Request

from dqm.config import Role
from dqm.web.auth.roles import NEEDED

__all__ = ["READING", "Principal", "Way", "keep_principal", "principal_of"]

READING = ("GET", "HEAD")
"""Methods of requests that change nothing."""

_PRINCIPAL = "dqm.principal"

Way = Literal["password", "provider", "proxy"]
"""How users sign in: with a password, at a provider of OpenID Connect, or to a reverse proxy."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking.

    Parameters
    ----------
    address : str
        From where, as far as it is known.
    is_local : bool
        Whether from this host, not through a proxy, and under a name of this host.
    is_secure : bool
        Whether by https.
    ways : tuple of str
        How users sign in here; empty if nobody can.
    user : str
        Who has proved to be asking; empty if nobody has.
    role : Role or None
        What the user may do; None if nothing, or without a user.
    has_session : bool
        Whether it is known by a session, which can be ended.
    """

    address: str
    is_local: bool
    is_secure: bool
    ways: tuple[Way, ...]
    user: str = ""
    role: Role | None = None
    has_session: bool = False

    @property
    def may_read(self) -> bool:
        """Whether everything may be shown."""
        return self.role is not None or self.is_local

    def may(self, action: str) -> bool:
        """Whether an action of `NEEDED` is allowed."""
        return self.role is not None and self.role.includes(NEEDED[action])


def keep_principal(request: Request, principal: Principal) -> Principal:
    """Set the principal that `principal_of` gives."""
    request.scope[_PRINCIPAL] = principal
    return principal


def principal_of(request: Request) -> Principal:
    """Give the sender of an admitted request; nobody if it was not admitted."""
    nobody = Principal("unknown", is_local=False, is_secure=False, ways=())
    principal: Principal = request.scope.get(_PRINCIPAL, nobody)
    return principal
