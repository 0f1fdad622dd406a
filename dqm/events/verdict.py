"""What is decided on a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dqm.events.explanation import Explanation
from dqm.events.result import TestResult
from dqm.events.window import Condition, Origin

__all__ = [
    "Quality",
    "Verdict",
    "WindowHeader",
]


class Quality(StrEnum):
    """What a window says of the detector; ``Null`` means "not known" and always has a reason."""

    NULL = "Null"
    GOOD = "Good"
    MEDIUM = "Medium"
    BAD = "Bad"


@dataclass(frozen=True, slots=True)
class WindowHeader:
    """All of a window but its events: what a verdict keeps of it.

    Parameters
    ----------
    stream, run, seq, run_type, origin, start, end, n_lost, conditions
        As in `Window`.
    """

    stream: str
    run: int
    seq: int
    run_type: str = ""
    origin: Origin = Origin.LIVE
    start: float | None = None
    end: float | None = None
    n_lost: int = 0
    conditions: Mapping[str, Condition] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided on one window, as it is stored and shown.

    Parameters
    ----------
    window : WindowHeader
        The window.
    quality : Quality
        The decision.
    reason : str
        Why, in words for the shift crew; never empty unless the quality is ``Good``.
    result : TestResult
        Numbers behind the decision.
    bundle : str
        Identifier of the reference bundle that the window was tested against; empty if there was none.
    seconds : float
        Wall time of the test.
    judged_at : float
        When the decision was taken, Unix seconds.
    warnings : mapping of str to str
        Nuisance parameters that disagree with their measurement, each with the disagreement in words. They
        do not change the quality, but a fault can hide there.
    explanation : Explanation or None
        Where and why, of a window that is ``Medium`` or ``Bad``.
    """

    window: WindowHeader
    quality: Quality
    reason: str
    result: TestResult
    bundle: str
    seconds: float
    judged_at: float
    warnings: Mapping[str, str] = field(default_factory=dict)
    explanation: Explanation | None = None
