"""What travels between the monitor and the workers that evaluate windows."""

from __future__ import annotations

from dataclasses import dataclass

from dqm.events.explanation import Explanation
from dqm.events.result import TestResult
from dqm.events.window import Window

__all__ = ["EvaluationJob", "EvaluationReport"]


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """A window to be evaluated.

    Parameters
    ----------
    window : Window
        As it was admitted.
    explain_below : float
        The result is explained if its p-value is smaller: nobody looks at the maps of other windows.
    """

    window: Window
    explain_below: float


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """What the evaluation of a window gave.

    Parameters
    ----------
    result : TestResult
        Statistic and p-value, or why there is none.
    bundle : str
        Identifier of the reference that the window was tested against.
    seconds : float
        Wall time of the test.
    explanation : Explanation or None
        Where the window departs from the reference, if that was asked for.
    """

    result: TestResult
    bundle: str
    seconds: float
    explanation: Explanation | None = None
