"""From p-values to decisions: pure logic, time arrives as an argument."""

from dqm.alarm.quality import QualityLimits, grade, warn

__all__ = ["QualityLimits", "grade", "warn"]
