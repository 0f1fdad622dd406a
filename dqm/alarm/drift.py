"""Slow deterioration: the sum of the significances of many windows, and since when it grows."""

from __future__ import annotations

from dataclasses import dataclass, field

from pydantic import ConfigDict

from dqm.alarm.onset import INTERVAL, describe_between

__all__ = ["Drift"]

MOST_STEPS = 32
"""Most steps of the descent that are kept; there are hardly ever ten."""


@dataclass(slots=True)
class Drift:
    """One-sided cumulative sum of Z, ``S = max(0, S + Z - reference_z)``.

    It drifts once S exceeds the limit and until S is back at 0. S does not grow beyond the limit, so that
    an end is seen as soon after a long deterioration as after a short one.

    The sum without the bound at 0 is the log likelihood of a change after a window, up to a factor. So it
    most likely came after its lowest point, where S was 0 last. It may have come after any other window at
    which the sum was little higher: from an earlier step of the descent to the lowest point to the window at
    which S left that height.

    Parameters
    ----------
    sum : float
        S, from 0 to the limit.
    windows : int
        Windows since S left 0.
    since : tuple of int, or None
        Run and number of the first of them; None if an earlier version did not note it.
    is_drifting : bool
        Whether it has exceeded the limit since.
    steps : list of (int, int, float)
        Run and number of windows at which the sum was lower than at all before them, and how much higher it
        was than at its lowest point, which is the last of them.
    until : tuple of int, or None
        Run and number of the window at which S became too large for a later change; None if it is not yet.

    References
    ----------
    Page (1954), doi:10.1093/biomet/41.1-2.100. Hinkley (1971), doi:10.1093/biomet/58.3.509.
    """

    sum: float = 0.0
    windows: int = 0
    since: tuple[int, int] | None = None
    is_drifting: bool = False
    steps: list[tuple[int, int, float]] = field(default_factory=list)
    until: tuple[int, int] | None = None

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    def add(
        self,
        z: float,
        *,
        limit: float,
        reference_z: float,
        largest_z: float,
        window: tuple[int, int] | None = None,
    ) -> None:
        """Add a window.

        Parameters
        ----------
        z : float
            Its significance; plus and minus infinity are taken as `largest_z`.
        limit : float
            Where it alarms.
        reference_z, largest_z : float
            As in `dqm.alarm.budget`.
        window : tuple of int, optional
            Run and number of the window.
        """
        total = self.sum + min(max(z, -largest_z), largest_z) - reference_z
        margin = INTERVAL / (4.0 * reference_z)  # twice the log likelihood of a shift by 2 reference_z
        if total <= 0.0:
            self.sum = 0.0
            self.windows = 0
            self.since = None
            self.is_drifting = False
            self.until = None
            self._descend(-total, margin, window)
            return
        if not self.windows:
            self.since = window
        if total <= margin:
            self.until = None
        elif self.until is None:
            self.until = window
        self.is_drifting = self.is_drifting or total > limit
        self.sum = min(total, limit)
        self.windows += 1

    def _descend(self, by: float, margin: float, window: tuple[int, int] | None) -> None:
        """Note a new lowest point."""
        near = [(run, seq, height + by) for run, seq, height in self.steps if height + by <= margin]
        self.steps = [*near, *([] if window is None else [(*window, 0.0)])][-MOST_STEPS:]

    def describe_since(self) -> str:
        """Say since when: ``since run 16, between windows 3 and 9``; empty if that is not known."""
        if self.since is None:
            return ""
        first = self.steps[0][:2] if self.steps else self.since
        return describe_between(self.since, first, self.until or self.since)
