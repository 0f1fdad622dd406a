"""Sends sign-offs to a run registry in a separate thread; nothing waits for the registry.

Nothing is queued. The thread asks the store again and again which sign-offs the registry has not taken, and
sends them. What the registry has taken is noted in the store at once. So a registry that does not answer
costs no memory, and a restart forgets nothing. If a run has several sign-offs, only the last is sent. If the
daemon is killed between the two steps, a sign-off is sent twice, with the same version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import httpx
import structlog

from dqm.config import RegistrySection, read_secret
from dqm.errors import ConfigError, RegistryError, StoreError
from dqm.events.finite import dump_json
from dqm.export.certified_run import registry_record
from dqm.export.woken_thread import RetryPause, WokenThread
from dqm.store import CertificationStore

__all__ = ["HttpRegistry", "RegistrySender", "RegistryStatus", "RunRegistry"]

log = structlog.get_logger(__name__)

_MOST_AT_ONCE = 32
_LOOK_SECONDS = 60.0
"""How often unsent sign-offs are looked for without a new one."""

_SUCCESS = range(200, 300)
_AWAY = frozenset({401, 403, 407, 408, 429, *range(500, 600)})
"""Answers after which the next sign-off would fail as well."""


class RunRegistry(Protocol):
    """Takes sign-offs."""

    def send(self, record: Mapping[str, Any]) -> None:
        """Send a sign-off; raises `RegistryError` if it was not taken."""


class HttpRegistry:
    """A registry that takes a POST of JSON.

    Parameters
    ----------
    section : RegistrySection
        Its address, and the file with the token.

    Raises
    ------
    ConfigError
        If the token cannot be read.
    """

    def __init__(self, section: RegistrySection) -> None:
        self._section = section
        self._headers()

    def send(self, record: Mapping[str, Any]) -> None:
        """Send a sign-off; raises `RegistryError` if the registry does not say that it has taken it."""
        try:
            with (
                httpx.Client(timeout=self._section.timeout_seconds, trust_env=False) as client,
                # only the status of the answer is read: the other side decides its length
                client.stream(
                    "POST", self._section.url, content=dump_json(record), headers=self._headers()
                ) as answer,
            ):
                status, reason = answer.status_code, answer.reason_phrase
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RegistryError(f"no answer: {error or type(error).__name__}", is_away=True) from None
        except ConfigError as error:
            raise RegistryError(str(error), is_away=True) from None
        if status not in _SUCCESS:
            raise RegistryError(f"it answers {status} {reason}", is_away=status in _AWAY)

    def _headers(self) -> dict[str, str]:
        """Read the token anew each time: it may be renewed while the daemon runs."""
        headers = {"Content-Type": "application/json"}
        if self._section.token_file is not None:
            token = read_secret(self._section.token_file, "the token of the registry")
            headers["Authorization"] = f"Bearer {token}"
        return headers


@dataclass(frozen=True, slots=True)
class RegistryStatus:
    """State of the registry.

    Parameters
    ----------
    n_sent, n_failed : int
        Sign-offs that it has taken, and tries that failed.
    n_waiting : int
        Sign-offs that it has not taken, after the last look.
    failing_since : float or None
        When the first of the tries failed since it last took all, Unix seconds; None: it takes them.
    reason : str
        Why the last try failed; empty if it did not.
    """

    n_sent: int = 0
    n_failed: int = 0
    n_waiting: int = 0
    failing_since: float | None = None
    reason: str = ""


class RegistrySender:
    """Sends what is signed.

    Parameters
    ----------
    registry : RunRegistry
        Takes the sign-offs.
    store : CertificationStore
        Has them, and keeps which were taken.
    clock : callable
        Unix time, s.
    created_by : str
        Name and version of the program.
    """

    def __init__(
        self, registry: RunRegistry, store: CertificationStore, clock: Callable[[], float], created_by: str
    ) -> None:
        self.status = RegistryStatus()
        self._registry = registry
        self._store = store
        self._clock = clock
        self._created_by = created_by
        self._n_refused: Counter[int] = Counter()
        self._pause = RetryPause()
        self._thread = WokenThread("registry", self._work, self._note_end)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Say that something was signed; returns at once and may be called from any thread."""
        self._thread.wake()

    def stop(self) -> None:
        """End the thread; what is not sent yet is sent by the next daemon."""
        self._thread.stop()

    def send_unsent(self) -> float:
        """Send what the registry has not taken, at most so many at once; give how long to wait, s."""
        try:
            unsent = self._store.unsent()
            # those refused least often come first: one that is never taken does not delay the others
            self._n_refused = Counter({each: self._n_refused[each] for each in unsent})
            chosen = sorted(unsent, key=lambda each: (self._n_refused[each], each))[:_MOST_AT_ONCE]
            n_taken = self._send(chosen)
        except StoreError as error:
            self._note_failure(str(error))
            return self._pause.note_failure()
        self.status = replace(self.status, n_waiting=len(unsent) - n_taken)
        if n_taken < len(chosen):
            return self._pause.note_failure()
        self._note_health()
        return 0.0 if self.status.n_waiting else _LOOK_SECONDS

    def _work(self) -> None:
        wait = 0.0
        while self._thread.sleep(wait):
            wait = self.send_unsent()

    def _note_end(self) -> None:
        self._note_failure("its thread has ended by an error: restart the daemon")

    def _send(self, chosen: list[int]) -> int:
        """Send sign-offs one after the other; give how many were taken."""
        n_taken = 0
        for identifier in chosen:
            if self._thread.is_stopping:
                break
            signed = self._store.sign_off(identifier)
            record = registry_record(signed, self._store.journal(signed.run), self._created_by)
            try:
                self._registry.send(record)
            except RegistryError as error:
                self._n_refused[identifier] += 1
                self._note_failure(f"run {signed.run}: {error}")
                if error.is_away:
                    break
                continue
            self._store.note_sent(signed, self._clock())
            n_taken += 1
            self.status = replace(self.status, n_sent=self.status.n_sent + 1)
            log.info("a sign-off was sent to the registry", run=signed.run, version=identifier)
        return n_taken

    def _note_health(self) -> None:
        self._pause.note_success()
        if self.status.failing_since is not None:
            log.info("the registry takes sign-offs again")
        self.status = replace(self.status, failing_since=None, reason="")

    def _note_failure(self, reason: str) -> None:
        status = self.status
        since = self._clock() if status.failing_since is None else status.failing_since
        self.status = replace(status, n_failed=status.n_failed + 1, failing_since=since, reason=reason)
        log.warning("sign-offs are not sent to the registry; trying again", why=reason)
