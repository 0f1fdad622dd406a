"""Which alarm an operator must look at first, and which one needs a response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dqm.alarm.values import RAISED, Alarm, AlarmState, Cause

__all__ = ["UNFILTERED", "is_suppressed", "most_urgent_state", "needs_response", "urgency"]

_STATES = (
    AlarmState.DISABLED,
    AlarmState.FILTERED,
    AlarmState.NORMAL,
    AlarmState.MASKED,
    AlarmState.SHELVED,
    AlarmState.ON_DELAYED,
    AlarmState.LATCHED,
    AlarmState.OFF_DELAYED,
    AlarmState.ACTIVE,
)
"""From least to most urgent: above Normal what people have suppressed, below it what the rules suppress."""


UNFILTERED = frozenset({Cause.SILENT, Cause.REFUSED})
"""Causes that do not depend on what the windows show: no type of run filters them."""

_SUPPRESSED = frozenset({AlarmState.MASKED, AlarmState.DISABLED, AlarmState.FILTERED})


def is_suppressed(states: Mapping[Cause, AlarmState]) -> bool:
    """Whether nothing that the windows of a stream show may raise an alarm, and none is raised.

    It is a known problem, work on the detector, a stream that is switched off, or a run whose type does not
    count: the stream asks for nobody, and does not change the quality of its group.
    """
    return all(
        state in _SUPPRESSED or (cause in UNFILTERED and state is AlarmState.NORMAL)
        for cause, state in states.items()
    )


def most_urgent_state(states: Iterable[AlarmState]) -> AlarmState:
    """Give the most urgent of some states; Disabled if there is none."""
    return max(states, key=_STATES.index, default=AlarmState.DISABLED)


def needs_response(alarm: Alarm) -> bool:
    """Return whether somebody must respond: the alarm is raised and nobody has acknowledged it."""
    return alarm.state in RAISED and alarm.acknowledged is None


def urgency(alarm: Alarm) -> tuple[object, ...]:
    """Give the sort key of a list of alarms, the most urgent first.

    Alarms that need a response come first; then by state, priority, age and name.
    """
    since = alarm.raised_at if alarm.raised_at is not None else alarm.since
    return (not needs_response(alarm), -_STATES.index(alarm.state), alarm.priority, since, alarm.stream)
