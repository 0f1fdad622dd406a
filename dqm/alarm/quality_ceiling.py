"""How good a stream may be called beside its alarms: no quality contradicts a condition that holds.

The quality of a window is what its own tests say. A stream is as good as its last window, but ``Good`` only
while no condition of its alarms holds, whether the alarm is raised, shelved or delayed. If windows are
refused or not judged, nothing is known of the data that come; other conditions are signs of a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dqm.alarm.quality import BEST_TO_WORST
from dqm.alarm.transitions import AlarmRecord
from dqm.alarm.values import Cause
from dqm.events import Quality

__all__ = ["QualityCeiling", "find_ceiling"]

_NOT_KNOWN = frozenset({Cause.SILENT, Cause.REFUSED, Cause.UNJUDGED})
"""Causes that say that nothing is known of the present; others say that something is wrong."""


@dataclass(frozen=True, slots=True)
class QualityCeiling:
    """What the alarms of a stream say of its quality.

    Parameters
    ----------
    best : Quality
        The best that the stream may be called.
    reason : str
        The condition that says so, in words; empty if `best` is Good.
    since : float
        Since when, Unix seconds.
    """

    best: Quality
    reason: str
    since: float


def find_ceiling(alarms: Mapping[Cause, AlarmRecord]) -> QualityCeiling:
    """Say what the alarms of a stream allow.

    Parameters
    ----------
    alarms : mapping of Cause to AlarmRecord
        All alarms of the stream.

    Returns
    -------
    QualityCeiling
        Of the conditions that hold, that of the first of the worst.
    """
    holding = [
        QualityCeiling(Quality.NULL if cause in _NOT_KNOWN else Quality.MEDIUM, record.text, record.changed)
        for cause, record in alarms.items()
        if record.condition
    ]
    if not holding:
        return QualityCeiling(Quality.GOOD, "", max(record.changed for record in alarms.values()))
    return min(holding, key=lambda each: (-BEST_TO_WORST.index(each.best), each.since))
