"""From p-values to decisions: pure logic, time arrives as an argument."""

from dqm.alarm.board import Board
from dqm.alarm.budget import smallest_supported_p
from dqm.alarm.quality import QualityLimits, describe_p, grade, warn
from dqm.alarm.rules import Rules, StreamRules, Timing, alarm_rules
from dqm.alarm.thresholds import Thresholds, derive_thresholds, quality_limits
from dqm.alarm.tree import Leaf, Node
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
    "Board",
    "Cause",
    "Guidance",
    "Leaf",
    "Mask",
    "Node",
    "Priority",
    "QualityLimits",
    "Rules",
    "Shelf",
    "StreamRules",
    "Thresholds",
    "Timing",
    "alarm_rules",
    "derive_thresholds",
    "describe_p",
    "grade",
    "quality_limits",
    "smallest_supported_p",
    "warn",
]
