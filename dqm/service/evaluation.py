"""Evaluation of windows: the test and its p-value, without any decision."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dqm.config import DaemonConfig
from dqm.errors import BundleError
from dqm.events import EvaluationJob, EvaluationReport, RollingJob, RollingResult
from dqm.service.process_log import log_to_stderr
from dqm.stream import identity_of

if TYPE_CHECKING:
    from dqm.reference import Bundle, ReadingPolicy, RollingEvaluator

__all__ = ["EvaluateWindows", "WindowEvaluator", "prepare_evaluators", "prepare_worker"]

log = structlog.get_logger(__name__)


class WindowEvaluator:
    """Evaluates windows against one bundle.

    Parameters
    ----------
    bundle : Bundle
        Calibrated reference.
    policy : ReadingPolicy, optional
        What to do without a usable measurement of a nuisance parameter.
    device : str
        Where windows are tested, "cpu" or "cuda".
    """

    def __init__(self, bundle: Bundle, policy: ReadingPolicy | None = None, device: str = "cpu") -> None:
        from dqm.reference import Evaluator  # torch: the daemon imports this module and evaluates nothing

        self._bundle = bundle
        self._evaluator = Evaluator(bundle, policy, device)
        self._rolling: dict[int, RollingEvaluator] = {}
        """By the number of permutations; made when it is needed."""

    def evaluate(self, job: EvaluationJob) -> EvaluationReport:
        """Test a window, and explain the result if its p-value is small enough.

        Parameters
        ----------
        job : EvaluationJob
            With the window.

        Raises
        ------
        BundleError
            If the bundle was altered on disk since it was opened.
        """
        self._bundle.verify()
        begin = time.perf_counter()
        evaluation = self._evaluator.evaluate(
            job.window, min_events=job.min_events, tests_nan=job.tests_nan, masked=job.masked
        )
        seconds = time.perf_counter() - begin
        p = evaluation.result.p
        is_wanted = evaluation.is_always_explained or (p is not None and p < job.explain_below)
        explanation = evaluation.find_explanation() if is_wanted else None
        result = replace(evaluation.result, rolling=self._compare(job))
        self._bundle.verify()  # again: it was the same from beginning to end
        return EvaluationReport(result, self._bundle.identifier, seconds, explanation)

    def _compare(self, job: EvaluationJob) -> RollingResult | None:
        """Test a window against the last good ones, if the job asks for it."""
        if not isinstance(job.rolling, RollingJob):
            return job.rolling
        from dqm.reference import RollingEvaluator

        n = job.rolling.n_permutations
        if n not in self._rolling:
            self._rolling[n] = RollingEvaluator(self._bundle, n)
        return self._rolling[n].evaluate(job.window, job.rolling.past, min_events=job.min_events)


@dataclass(frozen=True, slots=True)
class EvaluateWindows:
    """Work of a cluster's worker with one bundle, see `dqm.reference.Task`.

    Parameters
    ----------
    bundle : Path Its place on this machine. identifier : str
        Of the bundle.
    policy : ReadingPolicy
        What to do without a usable measurement of a nuisance parameter.
    """

    bundle: Path
    identifier: str
    policy: ReadingPolicy

    def prepare(self, bundle: Path, /) -> Callable[[EvaluationJob], EvaluationReport]:
        """Open the bundle where the worker has it; raises `BundleError` if it is another one."""
        from dqm.reference import open_bundle

        opened = open_bundle(bundle)
        opened.check_identifier(self.identifier)
        return WindowEvaluator(opened, self.policy).evaluate


def prepare_evaluators(config: DaemonConfig) -> Callable[[EvaluationJob], EvaluationReport]:
    """Set up the evaluation with all bundles; streams with the same bundle share an evaluator.

    Parameters
    ----------
    config : DaemonConfig
        With the streams.

    Returns
    -------
    callable
        Evaluates a window with the bundle that its job names; logs what it raises.

    Raises
    ------
    BundleError
        If a bundle cannot be used.
    """
    from dqm.reference import ReadingPolicy, open_bundle

    policy = ReadingPolicy(config.nuisances.max_age_seconds, config.nuisances.unmeasured)
    evaluators: dict[str, WindowEvaluator] = {}
    paths = [reference.bundle for stream in config.streams for reference in stream.ordered_references]
    for path in dict.fromkeys(paths):
        bundle = open_bundle(path)
        if bundle.identifier not in evaluators:
            evaluators[bundle.identifier] = WindowEvaluator(bundle, policy, config.daemon.device)

    def evaluate(job: EvaluationJob) -> EvaluationReport:
        try:
            return _find(evaluators, job.bundle).evaluate(job)
        except Exception:  # logged here: the worker knows nothing of windows
            stream, run, seq = identity_of(job.window)
            log.exception("test failed", stream=stream, run=run, seq=seq)
            raise

    return evaluate


def _find(evaluators: Mapping[str, WindowEvaluator], bundle: str) -> WindowEvaluator:
    if bundle not in evaluators:
        raise BundleError(
            f"bundle {bundle} has been replaced since the configuration was read",
            fix="Reload the daemon, with 'systemctl reload' or SIGHUP",
        )
    return evaluators[bundle]


def prepare_worker(config: DaemonConfig) -> Callable[[EvaluationJob], EvaluationReport]:
    """Set up a worker process: the daemon's log, and `prepare_evaluators`."""
    log_to_stderr()
    return prepare_evaluators(config)
