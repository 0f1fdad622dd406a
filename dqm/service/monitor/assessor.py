"""One window, one verdict: the test, the p-value and the quality, put together."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from dqm.alarm import ANOMALOUS, QualityLimits, grade, warn
from dqm.config import DaemonConfig
from dqm.events import TestResult, Verdict, Window, WindowHeader
from dqm.reference import Bundle, Evaluator, ReadingPolicy, open_bundle

__all__ = ["Assessor", "decide", "null_verdict", "prepare_assessors"]


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
        self._judge = Evaluator(bundle, policy, device)
        self._limits = limits
        self._clock = clock

    def assess(self, window: Window) -> Verdict:
        """Test a window, decide on it, and explain what is not good."""
        self.bundle.verify()
        begin = time.perf_counter()
        evaluation = self._judge.evaluate(window)
        seconds = time.perf_counter() - begin
        bundle = self.bundle.identifier
        verdict = decide(window, evaluation.result, self._limits, bundle, self._clock(), seconds)
        if verdict.quality in ANOMALOUS:
            verdict = replace(verdict, explanation=evaluation.explanation())
        self.bundle.verify()  # again: it was the same from beginning to end
        return verdict

    def give_up(self, window: Window, reason: str) -> Verdict:
        """Decide on a window whose test could not be finished: ``Null``, with the reason."""
        return null_verdict(window, reason, self._limits, self.bundle.identifier, self._clock())


def prepare_assessors(
    config: DaemonConfig, limits: Mapping[str, QualityLimits], clock: Callable[[], float] = time.time
) -> dict[str, Assessor]:
    """Set up one for each stream; streams that share bundle and limits share it.

    Parameters
    ----------
    config : DaemonConfig
        With the streams.
    limits : mapping of str to QualityLimits
        What p-values mean in each of them.
    clock : callable
        Unix time in seconds.

    Returns
    -------
    dict of str to Assessor
        By stream.

    Raises
    ------
    BundleError
        If a bundle cannot be used.
    """
    policy = ReadingPolicy(config.nuisances.max_age_seconds, config.nuisances.unmeasured)
    bundles: dict[Path, Bundle] = {}
    shared: dict[tuple[Path, QualityLimits], Assessor] = {}
    found = {}
    for stream in config.streams:
        if stream.bundle not in bundles:
            bundles[stream.bundle] = open_bundle(stream.bundle)
        key = stream.bundle, limits[stream.name]
        if key not in shared:
            shared[key] = Assessor(bundles[stream.bundle], key[1], clock, policy, config.daemon.device)
        found[stream.name] = shared[key]
    return found


def null_verdict(window: Window, reason: str, limits: QualityLimits, bundle: str, now: float) -> Verdict:
    """Decide on a window that was not tested: ``Null``, with the reason.

    Parameters
    ----------
    window : Window
        Any window.
    reason : str
        Why, for the shift crew.
    limits : QualityLimits
        Of its stream.
    bundle : str
        Identifier of the reference that would have judged it.
    now : float
        Unix time, s.
    """
    n_expected = float(len(window.x)) if window.n_expected is None else window.n_expected
    result = TestResult(len(window.x), n_expected, reason=reason)
    return decide(window, result, limits, bundle, now, seconds=0.0)


def decide(
    window: Window, result: TestResult, limits: QualityLimits, bundle: str, now: float, seconds: float
) -> Verdict:
    """From what a test gave to a verdict.

    Parameters
    ----------
    window : Window
        As received.
    result : TestResult
        Outcome of its test.
    limits : QualityLimits
        What p-values mean.
    bundle : str
        Identifier of the reference that judged it.
    now : float
        Unix time, s.
    seconds : float
        What the test took.
    """
    quality, reason = grade(result, window.n_lost, limits)
    return Verdict(
        window=WindowHeader(
            stream=window.stream,
            run=window.run,
            seq=window.seq,
            run_type=window.run_type,
            origin=window.origin,
            start=window.start,
            end=window.end,
            n_lost=window.n_lost,
            conditions=window.conditions,
        ),
        quality=quality,
        reason=reason,
        result=result,
        bundle=bundle,
        seconds=seconds,
        judged_at=now,
        warnings=warn(result, limits),
    )
