"""The present state of every stream, with its last windows, for page, metrics and groups."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from threading import Lock

from dqm.alarm import PresentState, QualityCeiling
from dqm.errors import InputError
from dqm.events import RunRecord, Verdict
from dqm.export.views import Recent
from dqm.web.timeline import Timeline

__all__ = ["N_RECENT", "StreamStatuses"]

N_RECENT = 24
"""Windows of a stream that the overview shows."""


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
        self._states: dict[str, PresentState] = {}
        self._recent: dict[str, deque[Recent]] = {}
        self.timeline = Timeline()
        self.follow(streams)

    @property
    def version(self) -> int:
        """Grows whenever something changes."""
        return self._version

    @property
    def names(self) -> tuple[str, ...]:
        """The streams."""
        return tuple(self._states)

    def follow(self, streams: Iterable[str]) -> None:
        """Show these streams from now on, in this order; those that stay are as they were."""
        fresh = PresentState(self._clock())
        with self._lock:
            self._states = {name: self._states.get(name, fresh) for name in streams}
            self._recent = {name: self._recent.get(name, deque(maxlen=N_RECENT)) for name in self._states}
            self._version += 1
        self.timeline.follow(self._states)

    def recall(self, verdicts: Sequence[Verdict], stale_seconds: float, silence: str = "") -> None:
        """Add windows from before the daemon started.

        Parameters
        ----------
        verdicts : sequence of Verdict
            Of one of the streams, the oldest first; the last `N_RECENT` count.
        stale_seconds, silence
            As `PresentState.recall` takes them.

        Raises
        ------
        InputError
            If the stream is not one of these.
        """
        verdicts = verdicts[-N_RECENT:]
        if verdicts:
            now = self._clock()
            self._add(verdicts, lambda state: state.recall(verdicts, now, stale_seconds, silence))

    def observe(self, verdict: Verdict) -> None:
        """Show a new verdict; raises `InputError` if its stream is not one of these."""
        self._add([verdict], lambda state: state.observe(verdict))

    def note_run(self, record: RunRecord) -> None:
        """Show that a run began or ended; raises `InputError` if its stream is not one of these."""
        self._change(record.stream, lambda state: state.enter(record))

    def mark_stale(self, name: str, reason: str) -> None:
        """Show that no window has come for too long; raises `InputError` if it is not one of these.

        Parameters
        ----------
        name : str
            The stream.
        reason : str
            Since when there was no window, in words.
        """
        now = self._clock()
        self._change(name, lambda state: state.expire(reason, now))

    def find(self, name: str) -> PresentState:
        """State by its windows alone; raises `InputError` if the stream is not one of these."""
        try:
            return self._states[name]
        except KeyError:
            known = ", ".join(self._states)
            raise InputError(f"no stream {name!r}", fix=f"Known streams: {known}") from None

    def recent(self, name: str) -> tuple[Recent, ...]:
        """Last windows of a stream, the newest last; those before a restart included."""
        with self._lock:
            return tuple(self._recent.get(name, ()))

    def shown(self, ceilings: Mapping[str, QualityCeiling]) -> dict[str, PresentState]:
        """Give the states of all streams beside their alarms, as everybody shows them."""
        with self._lock:
            return {name: state.beside(ceilings.get(name)) for name, state in self._states.items()}

    def _add(self, verdicts: Sequence[Verdict], step: Callable[[PresentState], PresentState]) -> None:
        """Show windows of one stream, and its state after them."""
        name = verdicts[0].window.stream
        with self._lock:
            self._states[name] = step(self.find(name))
            self._recent[name].extend(
                Recent(run=v.window.run, seq=v.window.seq, quality=v.quality) for v in verdicts
            )
            self._version += 1
        for verdict in verdicts:
            self.timeline.note(name, verdict.judged_at, verdict.quality)

    def _change(self, name: str, step: Callable[[PresentState], PresentState]) -> None:
        with self._lock:
            before = self.find(name)
            after = self._states[name] = step(before)
            self._version += after is not before
