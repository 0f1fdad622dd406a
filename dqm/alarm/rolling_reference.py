"""Which windows of a stream the next one is compared with: the last good ones, chosen by their verdicts.

A window enters when the next one is judged, and only if it, the one before and the one after are sound. So a
window that departs does not enter, and neither do its neighbours, which may have a part of the same fault.
Nothing enters while an alarm of the stream is raised. After a sudden change that stays, nothing enters until
a person accepts the new state. What has entered depends on the order of the verdicts and of what people do,
and on nothing else. This reference follows slow changes, so it decides on sudden ones only; what "good" is
stays with the frozen reference, whose verdicts decide what enters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from dqm.alarm.transitions import AlarmRecord
from dqm.alarm.urgency import needs_response
from dqm.alarm.values import RAISED, Alarm, AlarmState, Cause
from dqm.events import Quality, Verdict, WindowHeader

__all__ = ["MOST_EVENTS", "RollingAlarmState", "RollingReference", "look_at_alarms", "may_accept_change"]

MOST_EVENTS = 50_000
"""Events of a window and those before it together, at most: a test holds a few arrays of 300 functions at all
of them, 120 MB each."""

Number = tuple[int, int]
"""Run and number of a window."""


@dataclass(frozen=True, slots=True)
class RollingAlarmState:
    """What the alarms of a stream mean for its rolling reference.

    Parameters
    ----------
    freezes : bool
        Whether an alarm is raised for which nothing may enter.
    accepted_at : float or None
        When somebody last acknowledged a sudden change, or accepted the state after it, Unix seconds: this
        state is the one to compare with. None if nobody did.
    """

    freezes: bool = False
    accepted_at: float | None = None


def look_at_alarms(alarms: Mapping[Cause, AlarmRecord], accepted_at: float | None) -> RollingAlarmState:
    """Say what the alarms of one stream mean for its rolling reference; `accepted_at` as there."""
    freezes = any(
        alarm.state in RAISED and not (cause is Cause.CHANGED and alarm.acknowledged is not None)
        for cause, alarm in alarms.items()
    )
    return RollingAlarmState(freezes, accepted_at)


@dataclass(frozen=True, slots=True)
class RollingReference:
    """The last good windows of a stream, by their numbers.

    Parameters
    ----------
    windows : tuple of (int, int)
        Run and number of each that has entered, oldest first.
    candidate : tuple of (int, int), or None
        The last window, if it enters as soon as the next one is sound.
    bundle, run_type : str
        Of all these windows; others begin it anew.
    last : tuple of (int, int), or None
        Last window that was judged.
    is_after_sound : bool
        Whether that window was sound, or there was none.
    accepted_at : float or None
        Change that was accepted last, as in `RollingAlarmState`: it has begun anew then.
    """

    windows: tuple[Number, ...] = ()
    candidate: Number | None = None
    bundle: str = ""
    run_type: str = ""
    last: Number | None = None
    is_after_sound: bool = True
    accepted_at: float | None = None

    @property
    def held(self) -> tuple[Number, ...]:
        """Windows whose events are needed: those that have entered, and the candidate."""
        return self.windows if self.candidate is None else (*self.windows, self.candidate)

    def find_past(self, window: WindowHeader, bundle: str, n_windows: int) -> tuple[tuple[Number, ...], str]:
        """Say what a window is compared with.

        Parameters
        ----------
        window : WindowHeader
            The window.
        bundle : str
            Identifier of the bundle that judges it.
        n_windows : int
            Windows that it takes.

        Returns
        -------
        windows : tuple of (int, int)
            Those that there are.
        reason : str
            Why it is not compared with them; empty if it is.
        """
        if self._is_behind(window):
            return (), f"window {window.seq} of run {window.run} came after a later one"
        windows = self.windows if self._is_alike(window, bundle) else ()
        reason = f"{len(windows)} of {n_windows} good windows before it" if len(windows) < n_windows else ""
        return windows, reason

    def add(
        self, verdict: Verdict, *, n_windows: int, least_p: float, alarms: RollingAlarmState
    ) -> RollingReference:
        """Give what the next window is compared with.

        Parameters
        ----------
        verdict : Verdict
            On the window that was judged last.
        n_windows : int
            Most windows.
        least_p : float
            A window whose p against the windows before it is smaller has changed.
        alarms : RollingAlarmState
            After this window.
        """
        window = verdict.window
        if self._is_behind(window):
            return self
        number = (window.run, window.seq)
        before = self
        if not self._is_alike(window, verdict.bundle):
            before = RollingReference()
        elif alarms.accepted_at != self.accepted_at:
            before = RollingReference(is_after_sound=self.is_after_sound)
        before = replace(
            before,
            bundle=verdict.bundle,
            run_type=window.run_type,
            last=number,
            accepted_at=alarms.accepted_at,
        )
        if alarms.freezes or not _is_sound(verdict, least_p):
            return replace(before, candidate=None, is_after_sound=False)
        return replace(
            before,
            windows=before.held[-n_windows:],
            candidate=number if before.is_after_sound else None,
            is_after_sound=True,
        )

    def _is_alike(self, window: WindowHeader, bundle: str) -> bool:
        return self.last is None or (self.bundle, self.run_type) == (bundle, window.run_type)

    def _is_behind(self, window: WindowHeader) -> bool:
        """Whether a later window was judged before this one."""
        is_same_run = self.last is not None and self.last[0] == window.run
        return window.is_late or (is_same_run and self.last is not None and window.seq <= self.last[1])


def may_accept_change(alarm: Alarm) -> bool:
    """Whether a change may be accepted beside its alarm; to acknowledge the alarm accepts it, too."""
    return alarm.cause is Cause.CHANGED and alarm.state is not AlarmState.NORMAL and not needs_response(alarm)


def _is_sound(verdict: Verdict, least_p: float) -> bool:
    """Whether a window is sound in every respect."""
    rolling = verdict.result.rolling
    has_changed = rolling is not None and rolling.p is not None and rolling.p < least_p
    return verdict.quality is Quality.GOOD and not verdict.warnings and not has_changed
