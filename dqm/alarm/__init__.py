"""From p-values to decisions: pure logic, time arrives as an argument."""

from dqm.alarm.quality import QualityLimits, grade, warn
from dqm.alarm.values import (
    Acknowledgement,
    Alarm,
    AlarmChange,
    AlarmState,
    Cause,
    Guidance,
    Mask,
    Priority,
    Shelf,
)

__all__ = [
    "Acknowledgement",
    "Alarm",
    "AlarmChange",
    "AlarmState",
    "Cause",
    "Guidance",
    "Mask",
    "Priority",
    "QualityLimits",
    "Shelf",
    "grade",
    "warn",
]
