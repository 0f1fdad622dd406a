"""What the daemon writes into its log of windows and alarms."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from dqm.alarm import AlarmChange
from dqm.events import RunRecord, Verdict
from dqm.export import Annotator

__all__ = ["announce", "log_run", "log_verdict"]

log = structlog.get_logger(__name__)


def announce(annotator: Annotator | None, wake: Callable[[], None], changes: Sequence[AlarmChange]) -> None:
    """Log the changes of alarms, annotate them, and wake the threads that tell people."""
    wake()
    if annotator is not None:
        annotator.observe(changes)
    for change in changes:
        alarm = change.alarm
        log.warning(
            "alarm",
            stream=alarm.stream,
            cause=alarm.cause.value,
            before=change.before.value,
            state=alarm.state.value,
            what=alarm.text,
            action=change.action,
            user=change.user,
        )


def log_verdict(verdict: Verdict) -> None:
    """Log what was decided on a window."""
    log.info(
        "judged",
        stream=verdict.window.stream,
        run=verdict.window.run,
        seq=verdict.window.seq,
        quality=verdict.quality.value,
        p=verdict.result.p,
        rate_p=verdict.result.rate.p if verdict.result.rate else None,
        reason=verdict.reason,
        warnings=list(verdict.warnings.values()),
    )


def log_run(record: RunRecord) -> None:
    """Log that a run began or ended."""
    log.info(
        "run",
        stream=record.stream,
        run=record.run,
        run_type=record.run_type,
        began_at=record.began_at,
        ended_at=record.ended_at,
        why=record.why,
    )
