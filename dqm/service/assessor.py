"""One window, one verdict: the test, the p-value and the quality, put together."""

from __future__ import annotations

import time
from collections.abc import Callable

from dqm.alarm import QualityLimits, grade, warn
from dqm.events import TestResult, Verdict, Window
from dqm.reference import Bundle, Judge, ReadingPolicy

__all__ = ["Assessor"]


class Assessor:
    """Turns windows into verdicts by one bundle.

    Parameters
    ----------
    bundle : Bundle
        Calibrated reference.
    limits : QualityLimits
        What p-values mean.
    clock : callable
        Unix time in seconds, stamped on verdicts.
    policy : ReadingPolicy, optional
        What to do without a usable measurement of a nuisance parameter.
    device : str
        Where windows are tested, "cpu" or "cuda".
    """

    def __init__(
        self,
        bundle: Bundle,
        limits: QualityLimits,
        clock: Callable[[], float] = time.time,
        policy: ReadingPolicy | None = None,
        device: str = "cpu",
    ) -> None:
        self.bundle = bundle
        self._judge = Judge(bundle, policy, device)
        self._limits = limits
        self._clock = clock

    def assess(self, window: Window) -> Verdict:
        """Test a window and decide on it."""
        begin = time.perf_counter()
        result = self._judge.judge(window)
        return self._decide(window, result, time.perf_counter() - begin)

    def give_up(self, window: Window, reason: str) -> Verdict:
        """Decide on a window whose test could not be finished: ``Null``, with the reason."""
        n_expected = float(len(window.x)) if window.n_expected is None else window.n_expected
        return self._decide(window, TestResult(len(window.x), n_expected, reason=reason), 0.0)

    def _decide(self, window: Window, result: TestResult, seconds: float) -> Verdict:
        quality, reason = grade(result, window.n_lost, self._limits)
        return Verdict(
            stream=window.stream,
            run=window.run,
            seq=window.seq,
            quality=quality,
            reason=reason,
            result=result,
            bundle=self.bundle.identifier,
            seconds=seconds,
            judged_at=self._clock(),
            run_type=window.run_type,
            origin=window.origin,
            start=window.start,
            end=window.end,
            n_lost=window.n_lost,
            warnings=warn(result, self._limits),
        )
