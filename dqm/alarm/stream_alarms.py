"""One stream of the alarm engine: its alarms, its run, and since when nothing came or was judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from dqm.alarm.rules import StreamRules
from dqm.alarm.run_borders import Activity, is_idle, is_overdue, resume_wait
from dqm.alarm.stored_state import StoredState
from dqm.alarm.transitions import TIMED
from dqm.alarm.values import Mask
from dqm.events import RunRecord

__all__ = ["StreamAlarms"]


@dataclass(slots=True)
class StreamAlarms:
    """Alarms of one stream while the daemon runs; times are Unix seconds.

    Parameters
    ----------
    rules : StreamRules
        Its limits, and who is responsible.
    stored : StoredState
        What a restart brings back: its alarms, and what is kept of its windows.
    last_seen : float
        From when on silence counts: its last window, the begin of its run; see `resume_wait`.
    run : RunRecord, optional
        Its present run, as far as it is known.
    idle_since : float
        When that run ended.
    unjudged_since : float, optional
        Since when no window was judged, though some came.
    has_new_refusal : bool
        Whether a window was refused since the alarms were last looked at.
    masks : list of Mask
        Those that cover it as a whole.
    """

    rules: StreamRules
    stored: StoredState
    last_seen: float
    run: RunRecord | None = None
    idle_since: float = 0.0
    unjudged_since: float | None = None
    has_new_refusal: bool = False
    masks: list[Mask] = field(default_factory=list)

    @property
    def is_idle(self) -> bool:
        """Whether its run has ended: nobody waits for a window."""
        return is_idle(self.run)

    def rest(self, now: float) -> None:
        """Count no time without a judged window while it was idle."""
        if self.unjudged_since is not None:
            self.unjudged_since = now - max(0.0, self.idle_since - self.unjudged_since)

    def resume_wait(self, absent_from: float, now: float, last_window: float | None) -> None:
        """Go on to wait after nobody listened; `last_window`: when it came, if this was not seen."""
        counts_from = self.last_seen
        if last_window is not None:
            begun = 0.0 if self.run is None or self.is_idle else self.run.noted_at
            counts_from = max(last_window, begun)
        self.last_seen = resume_wait(counts_from, absent_from, now, self.rules.stale_seconds)
        if self.unjudged_since is not None:
            limit = self.rules.unjudged_seconds
            self.unjudged_since = resume_wait(self.unjudged_since, absent_from, now, limit)

    @property
    def is_timed(self) -> bool:
        """Whether time alone may change something."""
        return bool(self.masks) or any(
            record.state in TIMED or record.shelf is not None for record in self.stored.alarms.values()
        )

    def is_silent(self, now: float) -> bool:
        """Whether no window has come for too long, while its run goes on."""
        is_long = is_overdue(self.last_seen, now, self.rules.stale_seconds)
        return not self.is_idle and (self.stored.history.silent or is_long)

    def activity(self, now: float) -> Activity:
        """Tell what it does."""
        if self.is_idle:
            return Activity.IDLE
        return Activity.SILENT if self.is_silent(now) else Activity.RUNNING

    def becomes_silent(self, now: float) -> bool:
        """Note silence that begins; tell whether it does."""
        self.last_seen = min(self.last_seen, now)
        if self.stored.history.silent or not self.is_silent(now):
            return False
        self.stored.history.silent = True
        return True

    def becomes_unjudged(self, now: float) -> bool:
        """Tell whether nothing has just been known for too long; silence has an alarm of its own."""
        history = self.stored.history
        if self.unjudged_since is None or history.unjudged.is_long or history.silent or self.is_idle:
            return False
        self.unjudged_since = min(self.unjudged_since, now)
        history.unjudged.is_long = now - self.unjudged_since > self.rules.unjudged_seconds
        return history.unjudged.is_long
