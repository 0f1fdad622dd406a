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
]


class Quality(StrEnum):
    """What a window says of the detector; ``Null`` means "not known" and always has a reason."""

    NULL = "Null"
    GOOD = "Good"
    MEDIUM = "Medium"
    BAD = "Bad"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided on one window, as it is stored and shown.

    Parameters
    ----------
    stream, run, seq : str, int, int
        Identity of the window.
    quality : Quality
        The decision.
    reason : str
        Why, in words for the shift crew; never empty unless the quality is ``Good``.
    result : TestResult
        Numbers behind the decision.
    bundle : str
        Identifier of the reference bundle that judged it; empty if none did.
    seconds : float
        Wall time the test took.
    judged_at : float
        When the decision was taken, Unix seconds.
    warnings : mapping of str to str
        Nuisance parameters that disagree with their measurement, each with the disagreement in words; no
        data-quality alarm, but a fault can hide there.
    explanation : Explanation or None
        Where and why, of a window that is ``Medium`` or ``Bad``.
    run_type, origin, start, end, n_lost, conditions
        As in `Window`.
    """

    stream: str
    run: int
    seq: int
    quality: Quality
    reason: str
    result: TestResult
    bundle: str
    seconds: float
    judged_at: float
    run_type: str = ""
    origin: Origin = Origin.LIVE
    start: float | None = None
    end: float | None = None
    n_lost: int = 0
    warnings: Mapping[str, str] = field(default_factory=dict)
    conditions: Mapping[str, Condition] = field(default_factory=dict)
    explanation: Explanation | None = None
