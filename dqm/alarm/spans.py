"""The time that a judged window covers."""

from __future__ import annotations

from dataclasses import dataclass

from dqm.events import Verdict

__all__ = ["Span"]


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
