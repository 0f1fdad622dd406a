"""Values between the monitor and the workers that evaluate windows."""

from __future__ import annotations

from dataclasses import dataclass

from dqm.events.explanation import Explanation
from dqm.events.result import RollingResult, TestResult
from dqm.events.window import Window

__all__ = ["EvaluationJob", "EvaluationReport", "RollingJob"]


@dataclass(frozen=True, slots=True)
class RollingJob:
    """What a window is compared with beside its bundle.

    Parameters
    ----------
    past : tuple of Window
        The last good windows, oldest first.
    n_permutations : int
        Divisions of their events.
    """

    past: tuple[Window, ...]
    n_permutations: int


@dataclass(frozen=True, slots=True)
class EvaluationJob:
    """A window to be evaluated.

    Parameters
    ----------
    window : Window
        An admitted window.
    bundle : str
        Identifier of the reference bundle that it is tested against.
    explain_below : float
        The result is explained only if its p-value is below this.
    min_events : int
        The shape of a window with fewer events is not tested.
    tests_nan : bool
        Whether events may have NaN: the share of these is tested, and the shape of the others.
    masked : tuple of int
        Channels that count for nothing.
    rolling : RollingJob, RollingResult or None
        Test against the last good windows; or its result, if it is already known that there is no p; None in
        streams that have no such test.
    others_wait : bool
        Whether windows wait that no worker has yet. Then a worker spends no more than a share of its time on
        explanations.
    no_maps : str
        Why the result is not explained although its p-value is small; empty if it is.
    """

    window: Window
    bundle: str
    explain_below: float
    min_events: int = 0
    tests_nan: bool = False
    masked: tuple[int, ...] = ()
    rolling: RollingJob | RollingResult | None = None
    others_wait: bool = False
    no_maps: str = ""


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Result of the evaluation of a window.

    Parameters
    ----------
    result : TestResult
        Statistic and p-value, or the reason why there is none.
    bundle : str
        Identifier of the reference bundle.
    seconds : float
        Wall time of the test, s.
    explanation : Explanation or None
        Explanation, if the p-value is below `explain_below`.
    """

    result: TestResult
    bundle: str
    seconds: float
    explanation: Explanation | None = None
