"""Verdict on a window: its quality and everything that belongs to it."""

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
    """Quality of the data in a window; ``Null`` means "not known" and always has a reason."""

    NULL = "Null"
    GOOD = "Good"
    MEDIUM = "Medium"
    BAD = "Bad"


@dataclass(frozen=True, slots=True)
class WindowHeader:
    """A window without its events, as the verdict keeps it.

    Parameters
    ----------
    stream, run, seq, run_type, origin, start, end, n_lost, conditions, is_late, digest
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
    is_late: bool = False
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Verdict on one window, as it is stored and shown.

    Parameters
    ----------
    window : WindowHeader
        The window.
    quality : Quality
        Its quality.
    reason : str
        Reason of the quality, in words for the shift crew; empty only if the quality is ``Good``.
    result : TestResult
        Result of the test.
    bundle : str
        Identifier of the reference bundle; empty if the window was not tested.
    seconds : float
        Wall time of the test, s.
    judged_at : float
        Time of the verdict, Unix seconds.
    warnings : mapping of str to str
        Nuisance parameters that disagree with their measurement, each with a text. They do not change the
        quality, but such a parameter may absorb a fault.
    explanation : Explanation or None
        Explanation of the departure, for a window that is ``Medium`` or ``Bad``; of channels, for every
        window.
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
