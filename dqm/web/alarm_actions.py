"""What the page needs from the rooms that decide: the alarms as they stand, and what people do with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dqm.alarm import Alarm, Cause, Mask, Node, Thresholds

__all__ = ["AlarmActions"]


class AlarmActions(Protocol):
    """Alarms of all streams. Methods may be called from any thread; a change is durable when they return."""

    def alarms(self) -> Sequence[Alarm]:
        """Every stream and cause, configuration order."""

    def masks(self) -> Sequence[Mask]:
        """Masks that are in force or will be."""

    def tree(self) -> Node:
        """Root of the groups."""

    def thresholds(self) -> Thresholds:
        """Numbers that follow from the false-alarm budget."""

    def acknowledge(self, stream: str, cause: Cause, user: str, comment: str) -> None:
        """Take an alarm over; raises `InputError` if there is nothing to acknowledge."""

    def shelve(
        self, stream: str, cause: Cause, user: str, reason: str, until: float | None, one_shot: bool
    ) -> None:
        """Put an alarm aside; raises `InputError` without an end."""

    def unshelve(self, stream: str, cause: Cause, user: str, comment: str) -> None:
        """Take an alarm off its shelf; raises `InputError` if it is on none."""

    def add_mask(
        self,
        streams: str,
        user: str,
        reason: str,
        run_types: tuple[str, ...],
        start: float | None,
        until: float | None,
    ) -> Mask:
        """Suppress the alarms of streams; raises `InputError` if no stream matches."""

    def remove_mask(self, identifier: str, user: str, comment: str) -> None:
        """End a mask; raises `InputError` if there is none of that name."""
