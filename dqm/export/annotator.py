"""Alarms as annotations in Grafana, written by a thread: the daemon's loop never waits for Grafana."""

from __future__ import annotations

import html
import threading
from collections import deque
from collections.abc import Iterable

import structlog

from dqm.alarm import RAISED, AlarmChange
from dqm.errors import GrafanaError, escape_text
from dqm.export.grafana import Annotation, Grafana

__all__ = ["Annotator"]

log = structlog.get_logger(__name__)

CAPACITY = 256
RETRY_SECONDS = 15.0
STOP_SECONDS = 6.0
OPEN = "open"
"""Tag of annotations whose alarm is still raised; after a restart the daemon finds them by it."""


class Annotator:
    """Writes a region from the time when an alarm is raised to the time when it ends.

    A separate thread writes. While Grafana does not answer, the last changes are kept and written later. If
    there are too many, the oldest are dropped and counted.

    Parameters
    ----------
    grafana : Grafana
        Server to write to; closed at the end.
    capacity : int
        Most changes that wait to be written.
    retry_seconds : float
        Pause after a failure.

    Attributes
    ----------
    n_written, n_failed, n_dropped : int
        Annotations written, attempts that failed, changes that were given up.
    """

    def __init__(
        self, grafana: Grafana, capacity: int = CAPACITY, retry_seconds: float = RETRY_SECONDS
    ) -> None:
        self.n_written = self.n_failed = self.n_dropped = 0
        self._grafana = grafana
        self._capacity = capacity
        self._retry_seconds = retry_seconds
        self._waiting: deque[AlarmChange] = deque()
        self._stopping = False
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="annotator", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def observe(self, changes: Iterable[AlarmChange]) -> None:
        """Take changes to be written; returns at once and may be called from any thread.

        Parameters
        ----------
        changes : iterable of AlarmChange
            In their order; those that neither raise nor end an alarm are ignored.
        """
        with self._news:
            for change in changes:
                if (change.before in RAISED) == (change.alarm.state in RAISED):
                    continue
                if len(self._waiting) >= self._capacity:
                    self._waiting.popleft()
                    self.n_dropped += 1
                    log.warning("annotation dropped", reason="too many wait for Grafana")
                self._waiting.append(change)
            self._news.notify()

    def stop(self) -> None:
        """Write what waits, if Grafana answers, and end the thread; takes a few seconds at most."""
        with self._news:
            self._stopping = True
            self._news.notify()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        self._grafana.close()

    def _work(self) -> None:
        while (change := self._next()) is not None:
            if not self._try(change):
                with self._news:
                    self._waiting.appendleft(change)
                    if self._news.wait_for(lambda: self._stopping, self._retry_seconds):
                        self._give_up_rest()
                        return

    def _next(self) -> AlarmChange | None:
        """Wait for a change; None at the end, when no change is left."""
        with self._news:
            self._news.wait_for(lambda: self._waiting or self._stopping)
            return self._waiting.popleft() if self._waiting else None

    def _try(self, change: AlarmChange) -> bool:
        """Write a change; False if it must be tried again."""
        try:
            self._write(change)
        except GrafanaError as error:
            self.n_failed += 1
            log.warning("annotation failed", error=str(error), stream=change.alarm.stream)
            if error.is_final:
                self.n_dropped += 1
            return error.is_final
        self.n_written += 1
        return True

    def _give_up_rest(self) -> None:
        self.n_dropped += len(self._waiting)
        log.warning("annotations not written", n=len(self._waiting))

    def _write(self, change: AlarmChange) -> None:
        """Open or close a region. Grafana is asked first, so writing a change twice does no harm."""
        alarm = change.alarm
        tags = ("dqm", f"stream:{alarm.stream}", f"cause:{alarm.cause.value}")
        started = change.time if alarm.raised_at is None else alarm.raised_at
        opened = self._grafana.find_annotations((*tags, OPEN))
        if alarm.state in RAISED:
            if not opened:
                labels = (*tags, alarm.priority.value, OPEN)
                self._grafana.write_annotation(Annotation(started, started, labels, _text(change)))
            return
        for one in opened or [Annotation(started, change.time, tags, _text(change))]:
            closed = Annotation(
                one.start,
                change.time,
                tuple(tag for tag in one.tags if tag != OPEN),
                one.text + _farewell(change),
                one.identifier,
            )
            self._grafana.write_annotation(closed)


def _text(change: AlarmChange) -> str:
    """Say what is seen and what to do, as HTML, which Grafana shows."""
    alarm = change.alarm
    parts = (f"{alarm.stream} {alarm.cause.value}: {alarm.text}", alarm.guidance.action)
    return "<br>".join(html.escape(escape_text(part)) for part in parts if part)


def _farewell(change: AlarmChange) -> str:
    """Say who ended the alarm, if it did not end by itself."""
    if not change.user:
        return ""
    words = f"{change.alarm.state.value} by {change.user}: {change.comment}".rstrip(": ")
    return f"<br>{html.escape(escape_text(words))}"
