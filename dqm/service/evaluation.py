"""Evaluation of windows: the test and its p-value, without any decision.

What comes after p (the maps, the comparison with the last good windows) may fail, in a plugin or in our own
code. The p-value is kept then, and the result says what is missing and why. Only a bundle that was altered on
disk takes everything with it: then p is wrong, too.

Maps take longer than the test, and the first ones of a bundle much longer. When many chambers fail at once,
the verdicts on others must not wait for them: while windows wait, a worker spends at most a quarter of its
time on maps, and the result says so where there are none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from dqm.config import DaemonConfig
from dqm.errors import BundleError, DqmError
from dqm.events import NO_MAPS, EvaluationJob, EvaluationReport, Explanation, RollingJob, RollingResult
from dqm.service.process_log import log_to_stderr
from dqm.stream import identity_of

if TYPE_CHECKING:
    from dqm.reference import Bundle, Evaluation, ReadingPolicy, RollingEvaluator

__all__ = ["EvaluateWindows", "ExplanationBudget", "WindowEvaluator", "prepare_evaluators", "prepare_worker"]

log = structlog.get_logger(__name__)

EXPLANATION_SHARE = 0.25
"""Share of a worker's time that maps may take while windows wait."""

EXPLANATION_SECONDS = 0.25
"""What they may take beyond this share after a time without maps."""

MANY_DEPART = "many windows depart at once, and verdicts come first"
"""Why there are none."""


class ExplanationBudget:
    """How much time of this process explanations may take while windows wait.

    Parameters
    ----------
    clock : callable
        Gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._left = EXPLANATION_SECONDS
        self._at = clock()

    def allows(self) -> bool:
        """Tell whether an explanation may begin."""
        now = self._clock()
        self._left = min(EXPLANATION_SECONDS, self._left + EXPLANATION_SHARE * (now - self._at))
        self._at = now
        return self._left > 0.0

    @contextmanager
    def spend(self) -> Iterator[None]:
        """Count the time of an explanation."""
        begin = self._clock()
        try:
            yield
        finally:
            self._left -= self._clock() - begin


BUDGET = ExplanationBudget()
"""The budget of this process, for all its bundles."""


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
    tell_failure : callable, optional
        Told what has failed after p was known, with the window's job and the exception.
    budget : ExplanationBudget
        For explanations while windows wait.
    """

    def __init__(
        self,
        bundle: Bundle,
        policy: ReadingPolicy | None = None,
        device: str = "cpu",
        *,
        tell_failure: Callable[[str, EvaluationJob, Exception], None] = lambda _what, _job, _error: None,
        budget: ExplanationBudget = BUDGET,
    ) -> None:
        from dqm.reference import Evaluator  # torch: the daemon imports this module and evaluates nothing

        self._bundle = bundle
        self._evaluator = Evaluator(bundle, policy, device)
        self._tell_failure = tell_failure
        self._budget = budget
        self._rolling: dict[int, RollingEvaluator] = {}
        """By the number of permutations; made when it is needed."""

    def evaluate(self, job: EvaluationJob) -> EvaluationReport:
        """Test a window, and explain the result if its p-value is small enough.

        Parameters
        ----------
        job : EvaluationJob
            With the window.

        Returns
        -------
        EvaluationReport
            A remark of the result says so if the explanation failed, and its rolling result has the reason if
            that comparison did.

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
        explanation, remark = self._explain(evaluation, job) if is_wanted else (None, "")
        remarks = tuple(filter(None, [*evaluation.result.remarks, remark]))
        result = replace(evaluation.result, remarks=remarks, rolling=self._compare(job))
        self._bundle.verify()  # again: it was the same from beginning to end
        return EvaluationReport(result, self._bundle.identifier, seconds, explanation)

    def _explain(self, evaluation: Evaluation, job: EvaluationJob) -> tuple[Explanation | None, str]:
        """Give the explanation, or the remark that says why there is none."""
        if job.no_maps:
            return None, NO_MAPS + job.no_maps
        if job.others_wait and not evaluation.is_always_explained and not self._budget.allows():
            return None, NO_MAPS + MANY_DEPART
        try:
            with self._budget.spend():
                return evaluation.find_explanation(), ""
        except BundleError:
            raise
        except Exception as error:  # whatever it is, p is known
            self._tell_failure("no maps", job, error)
            name, why = repr(self._bundle.manifest.statistic), _describe(error)
            return None, NO_MAPS + (why if name in why else f"{why} (statistic {name})")

    def _compare(self, job: EvaluationJob) -> RollingResult | None:
        """Test a window against the last good ones, if the job asks for it."""
        if not isinstance(job.rolling, RollingJob):
            return job.rolling
        from dqm.reference import RollingEvaluator

        n, past = job.rolling.n_permutations, job.rolling.past
        try:
            if n not in self._rolling:
                self._rolling[n] = RollingEvaluator(self._bundle, n)
            return self._rolling[n].evaluate(job.window, past, min_events=job.min_events)
        except BundleError:
            raise
        except Exception as error:  # whatever it is, p is known
            self._tell_failure("no comparison with the last good windows", job, error)
            return RollingResult(len(past), reason=f"the test failed: {_describe(error)}")


@dataclass(frozen=True, slots=True)
class EvaluateWindows:
    """Work of a cluster's worker with one bundle, see `dqm.reference.Task`.

    Parameters
    ----------
    bundle : Path
        Its place on this machine.
    identifier : str
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
        return WindowEvaluator(opened, self.policy, tell_failure=_log_failure).evaluate


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
            evaluators[bundle.identifier] = WindowEvaluator(
                bundle, policy, config.daemon.device, tell_failure=_log_failure
            )

    def evaluate(job: EvaluationJob) -> EvaluationReport:
        try:
            return _find(evaluators, job.bundle).evaluate(job)
        except Exception:  # logged here: the worker knows nothing of windows
            stream, run, seq = identity_of(job.window)
            log.exception("test failed", stream=stream, run=run, seq=seq)
            raise

    return evaluate


def _describe(error: Exception) -> str:
    """Say what was raised; errors of others have a name that says more than their text."""
    words = " ".join(str(error).split())
    if isinstance(error, DqmError):
        return words
    return f"{type(error).__name__}: {words}" if words else type(error).__name__


def _log_failure(what: str, job: EvaluationJob, error: Exception) -> None:
    """Log what has failed after p was known."""
    stream, run, seq = identity_of(job.window)
    log.warning(what, stream=stream, run=run, seq=seq, exc_info=error)


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
