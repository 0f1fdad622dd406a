"""The time that a judged window covers."""

from __future__ import annotations

from dataclasses import dataclass

from dqm.events import Verdict

__all__ = ["Span", "find_span"]


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a window covers.

    Parameters
    ----------
    start, end : float
        Unix seconds, ``start <= end``; a window without duration covers nothing.
    verdict : Verdict
        Verdict on the window.
    """

    start: float
    end: float
    verdict: Verdict

    @property
    def middle(self) -> float:
        """Moment at which a label or an amendment by time must hold to concern the window, Unix seconds."""
        return (self.start + self.end) / 2


def find_span(verdict: Verdict, judged_before: float | None) -> Span:
    """Find the time that a window covers: its own, or without times from the verdict before it to its own.

    Parameters
    ----------
    verdict : Verdict
        Verdict on the window.
    judged_before : float or None
        When the window before it in this run and stream was judged, Unix seconds; None if there is none. It
        counts only for a window without times.
    """
    window = verdict.window
    end = verdict.judged_at
    if window.start is not None and window.end is not None:
        return Span(window.start, window.end, verdict)
    return Span(min(end, end - verdict.seconds if judged_before is None else judged_before), end, verdict)
