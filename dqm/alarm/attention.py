"""How a stream is shown on the big screen: what matters most about it, and which streams come first."""

from __future__ import annotations

from enum import StrEnum

from dqm.alarm.run_borders import Activity
from dqm.alarm.urgency import needs_response
from dqm.alarm.values import Alarm
from dqm.events import Quality

__all__ = ["StreamSign", "attention", "find_sign"]


class StreamSign(StrEnum):
    """What matters most about a stream; those that need somebody first."""

    ALARM = "alarm"
    """An alarm needs a response."""
    BAD = "Bad"
    MEDIUM = "Medium"
    STALE = "stale"
    """Windows are missing, and somebody knows it."""
    NULL = "Null"
    MASKED = "masked"
    """Its alarms are suppressed: see `is_suppressed`."""
    GOOD = "Good"
    IDLE = "idle"
    """Its run has ended."""


_ORDER = tuple(StreamSign)
_QUIET = frozenset({StreamSign.MASKED, StreamSign.GOOD, StreamSign.IDLE})


def find_sign(
    quality: Quality, alarm: Alarm | None, activity: Activity, *, is_suppressed: bool = False
) -> StreamSign:
    """Say what matters most about a stream.

    Parameters
    ----------
    quality : Quality
        As good as it may be called beside its alarms.
    alarm : Alarm or None
        Its most urgent alarm; None if all are Normal.
    activity : Activity
        Whether windows are expected, and come.
    is_suppressed : bool
        Whether its alarms are, as of `dqm.alarm.urgency.is_suppressed`.
    """
    if alarm is not None and needs_response(alarm):
        return StreamSign.ALARM
    if activity is Activity.IDLE:
        return StreamSign.IDLE
    if is_suppressed:
        return StreamSign.MASKED
    return StreamSign.STALE if activity is Activity.SILENT else StreamSign(quality.value)


def attention(sign: StreamSign, since: float) -> tuple[int, float] | None:
    """Give the sort key of a list of streams that somebody should look at, the worst first.

    Parameters
    ----------
    sign : StreamSign
        Of the stream.
    since : float
        Since when its quality is what it is, Unix seconds: of two alike, the one that changed last is first.

    Returns
    -------
    tuple or None
        None if nobody needs to look at it.
    """
    return None if sign in _QUIET else (_ORDER.index(sign), -since)
