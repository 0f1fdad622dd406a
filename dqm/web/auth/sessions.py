"""Who is signed in, in which browser."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock

from dqm.config import Role

__all__ = ["Session", "Sessions"]

_MOST = 1024
_MOST_OF_ONE = 16


@dataclass(frozen=True, slots=True)
class Session:
    """A sign-in.

    Parameters
    ----------
    user : str
        Who.
    credential : str
        By which hash of a password; the session ends when that changes. Empty for users of a provider.
    ends : float
        When, by the monotonic clock.
    role : Role or None
        What a user of a provider may do; None for users with a password, whose file says it.
    id_token : str
        By which the provider knows its sign-in, to end it there as well; a secret.
    """

    user: str
    credential: str = field(repr=False)
    ends: float
    role: Role | None = None
    id_token: str = field(default="", repr=False)


class Sessions:
    """Sign-ins that have not ended, by the hashes of their tokens; may be used from any thread.

    They are in memory only: a restart of the daemon signs everybody out. There are at most 1024, and 16 of
    one user; the oldest are dropped.

    Parameters
    ----------
    seconds : float
        How long a session lasts, s.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self.seconds = seconds
        self._monotonic = monotonic
        self._open: dict[bytes, Session] = {}
        self._lock = Lock()

    def begin(self, user: str, credential: str, role: Role | None = None, id_token: str = "") -> str:
        """Give the token of a new session, see `Session`."""
        token = secrets.token_urlsafe(32)
        now = self._monotonic()
        with self._lock:
            self._open = {key: session for key, session in self._open.items() if session.ends > now}
            own = [key for key, session in self._open.items() if session.user == user]
            oldest = own[: max(0, len(own) + 1 - _MOST_OF_ONE)]
            oldest += list(self._open)[: max(0, len(self._open) + 1 - _MOST)]
            for key in oldest:
                self._open.pop(key, None)
            self._open[_hash(token)] = Session(user, credential, now + self.seconds, role, id_token)
        return token

    def find(self, token: str) -> Session | None:
        """Give the session of a token, unless it has ended."""
        found = self._open.get(_hash(token))
        return found if found and found.ends > self._monotonic() else None

    def all(self) -> tuple[Session, ...]:
        """Give those that have not ended."""
        now = self._monotonic()
        return tuple(session for session in list(self._open.values()) if session.ends > now)

    def end_all(self, user: str) -> int:
        """End all sessions of a user, and say how many there were."""
        with self._lock:
            ended = [key for key, session in self._open.items() if session.user == user]
            for key in ended:
                del self._open[key]
        return len(ended)

    def end(self, token: str) -> Session | None:
        """End a session, and give it if there was one."""
        with self._lock:
            return self._open.pop(_hash(token), None)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
