"""The present state of every stream: its quality, since when, its last window and those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from threading import Lock

from dqm.alarm import belongs_to, find_run_border, is_idle, is_overdue
from dqm.errors import InputError
from dqm.events import Quality, RunRecord, Verdict
from dqm.web.timeline import Timeline

__all__ = ["N_RECENT", "RecentWindow", "StreamStatus", "StreamStatuses"]

N_RECENT = 24
"""Windows of a stream that the overview shows."""


@dataclass(frozen=True, slots=True)
class RecentWindow:
    """One of the last windows of a stream.

    Parameters
    ----------
    run, seq : int
        Its identity within the stream.
    quality : Quality
        What was decided.
    """

    run: int
    seq: int
    quality: Quality


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """One stream at one moment, as its windows and runs show it; alarms may say more (`dqm.alarm.Standing`).

    Parameters
    ----------
    name : str
        The stream.
    quality : Quality
        ``Null`` before the first window and when the stream is stale.
    reason : str
        Why, in words; empty only if ``Good``.
    since : float
        When this quality began, Unix seconds.
    last : Verdict or None
        Of the last window of the present run, without its explanation; None before the first.
    recent : tuple of RecentWindow
        The last windows, the newest last; those before a restart included.
    explained : str
        What the last window that was explained looks like; empty once a window that is not ``Null`` has no
        explanation, or a run begins.
    run : RunRecord or None
        Run that the stream is in, or was in last; None if none is known.
    """

    name: str
    quality: Quality
    reason: str
    since: float
    last: Verdict | None = None
    recent: tuple[RecentWindow, ...] = ()
    explained: str = ""
    run: RunRecord | None = None


@dataclass(slots=True)
class _Stream:
    quality: Quality
    reason: str
    since: float
    last: Verdict | None = None
    explained: str = ""
    run: RunRecord | None = None
    recent: deque[RecentWindow] = field(default_factory=lambda: deque(maxlen=N_RECENT))


class StreamStatuses:
    """The present state of all streams; its methods may be called from any thread.

    Parameters
    ----------
    streams : iterable of str
        Names of the streams, in the order to be shown.
    clock : callable
        Unix time, s.

    Attributes
    ----------
    timeline : Timeline
        Their qualities over the last hours.
    """

    def __init__(self, streams: Iterable[str], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = Lock()
        self._version = 0
        self._streams: dict[str, _Stream] = {}
        self.timeline = Timeline()
        self.follow(streams)

    @property
    def version(self) -> int:
        """Grows whenever something changes."""
        return self._version

    @property
    def names(self) -> tuple[str, ...]:
        """The streams."""
        return tuple(self._streams)

    def follow(self, streams: Iterable[str]) -> None:
        """Show these streams from now on, in this order; those that stay are as they were."""
        reason = "no window since the daemon started"
        now = self._clock()
        with self._lock:
            before = self._streams
            self._streams = {name: before.get(name) or _Stream(Quality.NULL, reason, now) for name in streams}
            self._version += 1
        self.timeline.follow(self._streams)

    def recall(self, verdicts: Iterable[Verdict], stale_seconds: float) -> None:
        """Add windows from before the daemon started.

        Parameters
        ----------
        verdicts : iterable of Verdict
            Of one of the streams, the oldest first.
        stale_seconds : float
            For how long it may be without a window: an older one says nothing of the present.

        Raises
        ------
        InputError
            If the stream is not one of these.
        """
        now = self._clock()
        for verdict in verdicts:
            self.observe(verdict)
            if is_overdue(verdict.judged_at, now, stale_seconds):
                reason = f"no window for more than {stale_seconds:g} s"
                self.mark_stale(verdict.window.stream, reason, verdict.judged_at + stale_seconds)

    def observe(self, verdict: Verdict) -> None:
        """Show a new verdict; raises `InputError` if its stream is not one of these."""
        with self._lock:
            stream = self._find(verdict.window.stream)
            stream.recent.append(_recent(verdict))
            self.timeline.note(verdict.window.stream, verdict.judged_at, verdict.quality)
            self._version += 1
            if not belongs_to(verdict.window, stream.run):
                return
            if not is_idle(stream.run):
                if stream.last is None or stream.quality is not verdict.quality:
                    stream.since = verdict.judged_at
                stream.quality, stream.reason = verdict.quality, verdict.reason
            if verdict.explanation is not None:
                stream.explained = verdict.explanation.text
            elif verdict.quality is not Quality.NULL:
                stream.explained = ""
            if verdict.explanation is not None:  # maps are large, and read from the store
                verdict = replace(verdict, explanation=None)
            stream.last = verdict

    def note_run(self, record: RunRecord) -> None:
        """Show that a run began or ended; raises `InputError` if its stream is not one of these.

        Parameters
        ----------
        record : RunRecord
            What has changed; a run before the present one is passed over.
        """
        with self._lock:
            stream = self._find(record.stream)
            last_run = None if stream.last is None else stream.last.window.run
            border = find_run_border(stream.run, record, last_run)
            if border is None:
                return
            stream.run = record
            if border.is_other:
                stream.last, stream.explained = None, ""
            if border.reason:
                stream.quality, stream.reason = Quality.NULL, border.reason
            if border.turns:
                stream.since = record.noted_at
            self._version += 1

    def mark_stale(self, name: str, reason: str, since: float | None = None) -> None:
        """Show a stream as ``Null`` until its next window; raises `InputError` if it is not one of these.

        Parameters
        ----------
        name : str
            The stream.
        reason : str
            Since when there was no window, in words.
        since : float, optional
            When it became stale, Unix seconds; default: now.
        """
        with self._lock:
            stream = self._find(name)
            if stream.reason != reason:
                if stream.quality is not Quality.NULL:
                    stream.since = self._clock() if since is None else since
                stream.quality, stream.reason = Quality.NULL, reason
                self._version += 1

    def find(self, name: str) -> StreamStatus:
        """One stream; raises `InputError` if it is not one of these."""
        with self._lock:
            return _freeze(name, self._find(name))

    def streams(self) -> tuple[StreamStatus, ...]:
        """All streams at one moment."""
        with self._lock:
            return tuple(_freeze(name, stream) for name, stream in self._streams.items())

    def _find(self, name: str) -> _Stream:
        try:
            return self._streams[name]
        except KeyError:
            raise InputError(
                f"no stream {name!r}", fix=f"Known streams: {', '.join(self._streams)}"
            ) from None


def _recent(verdict: Verdict) -> RecentWindow:
    return RecentWindow(verdict.window.run, verdict.window.seq, verdict.quality)


def _freeze(name: str, stream: _Stream) -> StreamStatus:
    return StreamStatus(
        name,
        stream.quality,
        stream.reason,
        stream.since,
        stream.last,
        tuple(stream.recent),
        stream.explained,
        stream.run,
    )
