"""The present state of a stream: what its windows and the borders of its runs say of this moment.

Page, metrics and groups read this state and nothing else. These are the rules:

========================================  ==================================================================
what happens                              what is known of the present afterwards
========================================  ==================================================================
window of the present run                 its quality, its numbers
window of the present run after its end   nothing, as before; it is the last window all the same
window of an earlier run                  as before: it says nothing of the present
another run begins                        nothing until its first window: quality and numbers belong to a run
run ends, or goes on after its end        nothing until the next window
no window for too long                    nothing until the next window of the present run
daemon starts again                       what its last windows say, if they are not older than that and the
                                          stream was not silent; nothing until the next window otherwise
alarm whose condition holds               no better quality than the alarm allows; no numbers beside ``Null``
========================================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dqm.alarm.quality_ceiling import QualityCeiling
from dqm.alarm.run_borders import belongs_to, describe_run, follow_run, is_idle, is_overdue
from dqm.events import Quality, RunRecord, Verdict

__all__ = ["NEVER_SEEN", "PresentState"]

NEVER_SEEN = "no window since the daemon started"
"""Why nothing is known of a stream at first."""


@dataclass(frozen=True, slots=True)
class PresentState:
    """One stream at one moment.

    Parameters
    ----------
    since : float
        When this quality began, Unix seconds.
    quality : Quality
        ``Null`` while nothing is known.
    reason : str
        Why, in words; empty only if ``Good``.
    is_known : bool
        Whether the numbers of the last window say something of the present.
    newest : Verdict or None
        Of the last window, whatever its run; a window that came after the next run had begun does not count.
    explained : str
        What the last window that was explained looks like; empty once a window that is not ``Null`` has no
        explanation, or a run begins.
    run : RunRecord or None
        Run that the stream is in, or was in last; None if none is known.
    """

    since: float
    quality: Quality = Quality.NULL
    reason: str = NEVER_SEEN
    is_known: bool = False
    newest: Verdict | None = None
    explained: str = ""
    run: RunRecord | None = None

    @property
    def last(self) -> Verdict | None:
        """The last window of the present run; None before the first."""
        newest = self.newest
        return newest if newest is not None and belongs_to(newest.window, self.run) else None

    @property
    def known(self) -> Verdict | None:
        """The last window, if its numbers say something of the present."""
        return self.newest if self.is_known else None

    def find_bundle(self, bundles: Sequence[str]) -> str:
        """Give the bundle that judged the last window, if it is one of these; else the first of them."""
        judged = "" if self.newest is None else self.newest.bundle
        return judged if judged in bundles else next(iter(bundles), "")

    def observe(self, verdict: Verdict) -> PresentState:
        """Give the state after a verdict."""
        if not belongs_to(verdict.window, self.run):
            return self
        explained = self.explained
        if verdict.explanation is not None:
            explained = verdict.explanation.text
        elif verdict.quality is not Quality.NULL:
            explained = ""
        seen = replace(self, newest=verdict, explained=explained)
        if is_idle(self.run):
            return seen
        goes_on = self.last is not None and self.quality is verdict.quality
        return replace(
            seen,
            quality=verdict.quality,
            reason=verdict.reason,
            is_known=True,
            since=self.since if goes_on else verdict.judged_at,
        )

    def recall(
        self, verdicts: Sequence[Verdict], now: float, stale_seconds: float, silence: str = ""
    ) -> PresentState:
        """Give the state after windows from before the daemon started.

        An old window says nothing of now, also where the stream is not silent because nobody listened.

        Parameters
        ----------
        verdicts : sequence of Verdict
            The last ones of the stream, the oldest first.
        now : float
            Unix seconds.
        stale_seconds : float
            Age from which a window says nothing of now, s.
        silence : str
            Why the stream is silent, as `AlarmEngine.silent_streams` says it; empty if it is not.
        """
        state = self
        for verdict in verdicts:
            state = state.observe(verdict)
        if not verdicts or not (silence or is_overdue(verdicts[-1].judged_at, now, stale_seconds)):
            return state
        return state.expire(silence or NEVER_SEEN, min(now, verdicts[-1].judged_at + stale_seconds))

    def enter(self, run: RunRecord) -> PresentState:
        """Give the state after the border of a run; that of a run before the present one changes nothing."""
        if follow_run(self.run, run) is not run:
            return self
        was_idle = is_idle(self.run)
        is_other = self.last is None or self.last.window.run != run.run
        state = replace(self, run=run, explained="" if is_other else self.explained)
        if is_other or was_idle or is_idle(run):
            reason = describe_run(run)
            if not is_idle(run):
                reason += "; no window of it yet" if is_other else "; no window since"
            state = replace(state, quality=Quality.NULL, reason=reason, is_known=False)
        return replace(state, since=run.noted_at) if is_other or was_idle is not is_idle(run) else state

    def expire(self, reason: str, now: float) -> PresentState:
        """Give the state when no window has come for too long, with the reason in words."""
        if self.reason == reason and not self.is_known:
            return self
        since = self.since if self.quality is Quality.NULL else now
        return replace(self, quality=Quality.NULL, reason=reason, is_known=False, since=since)

    def beside(self, ceiling: QualityCeiling | None) -> PresentState:
        """Give the state beside the alarms of the stream: only ``Good`` may contradict them."""
        if ceiling is None or self.quality is not Quality.GOOD:
            return self
        return replace(
            self,
            quality=ceiling.best,
            reason=ceiling.reason,
            is_known=self.is_known and ceiling.best is not Quality.NULL,
            since=max(self.since, ceiling.since),
        )
