"""Sends notices of alarms to one target in a separate thread, so that evaluation never waits for it.

The thread repeats these steps. It asks what is due (`dqm.alarm.find_notices`), waits a moment so that alarms
which come together share a message, asks again, and sends. Nothing is queued. While a target does not answer,
the thread asks what is due before each try, so a message is never out of date and memory is bounded. When a
target has taken a message, this is stored at once. If the daemon is killed between the two, the target is
told twice. In the other order, it might never be told.

A try has a deadline. A try that misses it goes on, because a thread cannot be ended. There is no other try
until it has ended. If it succeeds after all, the message counts as sent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from dqm.alarm import Alarm, Cause, LastNotice, Notice, NoticeRules, find_notices, note_sent
from dqm.errors import NoticeError, StoreError
from dqm.export.notice_text import NoticeMessage, NoticeWriter
from dqm.export.woken_thread import RetryPause, WokenThread
from dqm.store import NoticeStore

__all__ = ["Deliverer", "NoticeSender", "NoticeStatus", "NoticeTiming", "send_within"]

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 5.0
"""How often the thread looks for reminders and hours that begin, if no alarm changes."""


Key = tuple[str, Cause]


class Deliverer(Protocol):
    """Takes messages."""

    def send(self, message: NoticeMessage) -> None:
        """Send a message; raises `NoticeError` if it was not taken."""


@dataclass(frozen=True, slots=True)
class NoticeTiming:
    """How fast a target is told.

    Parameters
    ----------
    collect_seconds : float
        Alarms that come within this time share a message, s.
    pause_seconds : float
        Least time between two messages, s.
    deadline_seconds : float
        A try that takes longer has failed, s.
    """

    collect_seconds: float
    pause_seconds: float
    deadline_seconds: float


@dataclass(frozen=True, slots=True)
class NoticeStatus:
    """State of a target.

    Parameters
    ----------
    target : str
        Its name.
    n_sent, n_failed : int
        Messages that it has taken, and tries that failed.
    failing_since : float or None
        When the first of the tries failed since it last took a message, Unix seconds; None: it takes them.
    reason : str
        Why the last try failed; empty if it did not.
    """

    target: str
    n_sent: int = 0
    n_failed: int = 0
    failing_since: float | None = None
    reason: str = ""


class NoticeSender:
    """Tells one target.

    Parameters
    ----------
    name : str
        Name of the target.
    target : Deliverer
        Takes the messages.
    rules : NoticeRules
        What it is told of.
    timing : NoticeTiming
        How fast.
    writer : NoticeWriter
        Writes the messages.
    store : NoticeStore
        Keeps what it was told.
    alarms : callable
        All alarms as they stand; may be called from any thread.
    clock : callable
        Unix time, s.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """

    def __init__(
        self,
        name: str,
        target: Deliverer,
        *,
        rules: NoticeRules,
        timing: NoticeTiming,
        writer: NoticeWriter,
        store: NoticeStore,
        alarms: Callable[[], Iterable[Alarm]],
        clock: Callable[[], float],
    ) -> None:
        self.status = NoticeStatus(name)
        self._target = target
        self._rules = rules
        self._timing = timing
        self._writer = writer
        self._store = store
        self._alarms = alarms
        self._clock = clock
        self._since = store.begin(name, clock())
        self._told = store.sent(name)
        self._is_saved = True
        self._attempt: _Attempt | None = None
        self._pause = RetryPause()
        self._thread = WokenThread(f"notice-{name}", self._work, self._note_end)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Say that an alarm has changed; returns at once and may be called from any thread."""
        self._thread.wake()

    def stop(self) -> None:
        """End the thread; what is not told yet is told by the next daemon."""
        self._thread.stop()

    def _note_end(self) -> None:
        self._note_failure(NoticeError("its thread has ended by an error: restart the daemon"))

    def _work(self) -> None:
        wait = 0.0
        while self._thread.sleep(wait):
            wait = _LOOK_SECONDS
            if not self._find():
                continue
            if not self._thread.sleep(self._timing.collect_seconds, until_woken=False):
                return
            notices = self._find()
            if notices and not self._thread.sleep(self._tell(notices), until_woken=False):
                return

    def _find(self) -> list[Notice]:
        self._finish_late()
        if not self._is_saved:
            self._save(self._told)
        return find_notices(
            self._alarms(), self._told, since=self._since, rules=self._rules, now=self._clock()
        )

    def _finish_late(self) -> None:
        """Take over the result of a try that missed its deadline."""
        attempt = self._attempt
        if attempt is not None and attempt.is_done:
            self._attempt = None
            if attempt.error is None:
                self._note_sent(attempt.notices)

    def _tell(self, notices: Sequence[Notice]) -> float:
        """Try once; give how long to wait, s."""
        if self._attempt is not None:  # it has missed its deadline, and has not ended yet
            return self._pause.seconds
        try:
            self._deliver(notices)
        except NoticeError as error:
            self._note_failure(error)
            return self._pause.note_failure()
        self._note_sent(notices)
        return self._timing.pause_seconds

    def _deliver(self, notices: Sequence[Notice]) -> None:
        message = self._writer.write(notices, self._alarms(), self._clock())
        attempt = _Attempt(self._target, message, notices)
        if not attempt.run(self._timing.deadline_seconds):
            self._attempt = attempt
            raise NoticeError(f"no answer within {self._timing.deadline_seconds:g} s")
        if attempt.error is not None:
            raise attempt.error

    def _note_sent(self, notices: Sequence[Notice]) -> None:
        now = self._clock()
        status = self.status
        self._pause.note_success()
        if status.failing_since is not None:
            log.info("notices are taken again", target=status.target)
        self.status = NoticeStatus(status.target, status.n_sent + 1, status.n_failed)
        self._told |= (told := note_sent(notices, now))
        self._save(told if self._is_saved else self._told)
        log.info("told", target=status.target, notices=len(notices))

    def _save(self, told: Mapping[Key, LastNotice]) -> None:
        """Store what was told; if that fails, it is tried again at the next look."""
        try:
            self._store.keep(self.status.target, told)
        except StoreError as error:
            self._is_saved = False
            log.warning("what was told is not stored yet", target=self.status.target, why=str(error))
        else:
            self._is_saved = True

    def _note_failure(self, error: NoticeError) -> None:
        now = self._clock()
        status = self.status
        since = now if status.failing_since is None else status.failing_since
        self.status = NoticeStatus(status.target, status.n_sent, status.n_failed + 1, since, error.what)
        log.warning("notice not sent; trying again", target=status.target, why=error.what)


def send_within(target: Deliverer, message: NoticeMessage, seconds: float) -> None:
    """Send one message; raises `NoticeError` if it was not taken in time."""
    attempt = _Attempt(target, message, ())
    if not attempt.run(seconds):
        raise NoticeError(f"no answer within {seconds:g} s")
    if attempt.error is not None:
        raise attempt.error


class _Attempt:
    """One try, in a thread that is left alone when the deadline is missed."""

    def __init__(self, target: Deliverer, message: NoticeMessage, notices: Sequence[Notice]) -> None:
        self.notices = notices
        self.error: NoticeError | None = None
        self._target = target
        self._message = message
        self._done = threading.Event()

    @property
    def is_done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._done.is_set()

    def run(self, seconds: float) -> bool:
        """Begin, and wait for the end; False if it is not there in time."""
        threading.Thread(target=self._send, name="notice-try", daemon=True).start()
        return self._done.wait(seconds)

    def _send(self) -> None:
        try:
            self._target.send(self._message)
        except NoticeError as error:
            self.error = error
        finally:
            self._done.set()
