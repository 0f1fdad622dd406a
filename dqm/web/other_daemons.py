"""Other daemons on the page: each is asked for its overview every few seconds, and its answer is bounded.

Nothing is asked while a page is made, so that a slow peer delays nobody. A peer may be of an earlier or later
version: only the needed part of its answer is read, and an invalid answer is a problem of this peer only.
Peers of a peer are not shown: two daemons may show each other.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dqm.alarm import Priority
from dqm.config import PeerSection, read_secret
from dqm.events import Quality
from dqm.export.answers import PLAIN, read_plain

__all__ = ["FRESH_SECONDS", "OtherDaemonStatus", "OtherDaemons"]

ASK_SECONDS = 5.0
"""Time from one answer to the next question."""

ANSWER_SECONDS = 10.0
"""Longest time for an answer as a whole."""

FRESH_SECONDS = 30.0
"""An answer that is older than this is not the present state of a peer."""

_LARGEST_ANSWER_BYTES = 32_000_000
_MOST_ALARMS = 5

_Text = Annotated[str, StringConstraints(max_length=2000)]


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class PeerAlarm(_Answer):
    """An alarm of a peer that somebody must respond to."""

    stream: _Text
    text: _Text
    priority: Priority


class _Tree(_Answer):
    quality: Quality
    idle: bool = False


class OtherDaemonOverview(_Answer):
    """The part of a peer's overview that is read."""

    version: _Text
    notice: _Text = ""
    qualities: dict[Quality, Annotated[int, Field(ge=0)]]
    n_idle: Annotated[int, Field(ge=0)] = 0
    tree: _Tree
    needs_response: tuple[PeerAlarm, ...] = ()


@dataclass(frozen=True, slots=True)
class OtherDaemonStatus:
    """What is known of a peer.

    Parameters
    ----------
    name, url : str
        As configured.
    overview : OtherDaemonOverview or None
        What it said last; None if it has never answered.
    answered_at : float or None
        When it said this, Unix seconds.
    problem : str
        Why its last answer cannot be used; empty if it can.
    """

    name: str
    url: str
    overview: OtherDaemonOverview | None = None
    answered_at: float | None = None
    problem: str = "not asked yet"


class OtherDaemons:
    """Asks other daemons, each in a thread of its own; `statuses` may be called from any thread.

    Parameters
    ----------
    sections : sequence of PeerSection
        Whom to ask.
    clock : callable
        Unix time, s.

    Raises
    ------
    ConfigError
        If a password cannot be read.
    """

    def __init__(self, sections: Sequence[PeerSection], clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._statuses = {section.name: OtherDaemonStatus(section.name, section.url) for section in sections}
        self._logins = {section.name: _read_login(section) for section in sections}
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to ask."""
        for name in self._statuses:
            thread = threading.Thread(target=self._go_on, args=(name,), name=f"dqm-peer-{name}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """Stop asking; does not wait for answers."""
        self._stopping.set()

    def statuses(self) -> tuple[OtherDaemonStatus, ...]:
        """Give what is known of each, in the order of the configuration."""
        return tuple(self._statuses.values())

    def _go_on(self, name: str) -> None:
        with httpx.Client(auth=self._logins[name], follow_redirects=False) as client:
            while not self._stopping.is_set():
                self._statuses[name] = self._ask(client, self._statuses[name])
                self._stopping.wait(ASK_SECONDS)

    def _ask(self, client: httpx.Client, status: OtherDaemonStatus) -> OtherDaemonStatus:
        """Ask a peer once; give what is known about it then."""
        try:
            overview = _read_overview(client, f"{status.url}/api/v1/overview")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return replace(status, problem=_describe(error))
        return replace(status, overview=overview, answered_at=self._clock(), problem="")


def _read_login(section: PeerSection) -> httpx.BasicAuth | None:
    if section.user is None or section.password_file is None:
        return None
    password = read_secret(section.password_file, f"the password for the peer {section.name}")
    return httpx.BasicAuth(section.user, password)


def _read_overview(client: httpx.Client, url: str) -> OtherDaemonOverview:
    """Read the answer of a peer; raises if it does not come in time, is too large, or is something else."""
    with client.stream("GET", url, headers=PLAIN, timeout=ANSWER_SECONDS) as answer:
        if answer.status_code in (401, 403):
            raise ValueError("it needs a user who may read: set user and password_file of this peer")
        answer.raise_for_status()
        content = read_plain(answer, most_bytes=_LARGEST_ANSWER_BYTES, seconds=ANSWER_SECONDS)
    overview = OtherDaemonOverview.model_validate_json(content)
    return overview.model_copy(update={"needs_response": overview.needs_response[: _MOST_ALARMS + 1]})


def _describe(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"its answer is not that of a dqm daemon: {place or 'as a whole'}: {first['msg']}"
    if isinstance(error, httpx.HTTPStatusError):
        return f"it answers {error.response.status_code}"
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
