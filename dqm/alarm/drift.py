"""Slow deterioration: the significances of many windows, summed."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import ConfigDict

__all__ = ["Drift"]


@dataclass(slots=True)
class Drift:
    """One-sided cumulative sum of Z, ``S = max(0, S + Z - reference_z)``.

    It drifts once S exceeds the limit and until S is back at 0. S does not grow beyond the limit, so that
    an end is seen as soon after a long deterioration as after a short one.

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

    References
    ----------
    Page (1954), doi:10.1093/biomet/41.1-2.100.
    """

    sum: float = 0.0
    windows: int = 0
    since: tuple[int, int] | None = None
    is_drifting: bool = False

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
        if total <= 0.0:
            self.sum, self.windows, self.since, self.is_drifting = 0.0, 0, None, False
            return
        if not self.windows:
            self.since = window
        self.is_drifting = self.is_drifting or total > limit
        self.sum = min(total, limit)
        self.windows += 1
