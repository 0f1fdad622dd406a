"""What comes back from another machine: reports that can be, and what else a worker may give."""

from __future__ import annotations

import pickle
import re
from dataclasses import dataclass, replace

import numpy as np
import pytest

from dqm.events import (
    EvaluationJob,
    EvaluationReport,
    Explanation,
    NanResult,
    PMethod,
    RatioMap,
    RollingJob,
    RollingResult,
    TestResult,
)
from dqm.service.monitor.report_check import find_flaw
from tests.service.small import N_WINDOW, window_of

NAN = float("nan")
JOB = EvaluationJob(window_of(), "3f9a", explain_below=0.01)
RESULT = TestResult(
    N_WINDOW, float(N_WINDOW), 1.0, 0.5, p_low=0.4, p_high=0.6, p_method=PMethod.EMPIRICAL, z=0.0
)
REPORT = EvaluationReport(RESULT, "3f9a", 0.01)
COUNTS = np.ones((2, 3))
MAP = RatioMap(("a", "b"), (np.arange(3.0), np.arange(4.0)), COUNTS, COUNTS, COUNTS, COUNTS)
EXPLAINED = replace(REPORT, explanation=Explanation((), (MAP,), (("a", 1.0),)))
KNOWN = RollingResult(0, reason="too few")
PAST = replace(JOB, rolling=RollingJob((JOB.window,), 100))


@dataclass(frozen=True)
class Imitation:
    result: TestResult = RESULT
    bundle: str = "3f9a"
    seconds: float = 0.01
    explanation: None = None


def result(**changed: object) -> EvaluationReport:
    return replace(REPORT, result=replace(RESULT, **changed))  # type: ignore[arg-type]


def explained(**changed: object) -> EvaluationReport:
    broken = replace(MAP, **changed)  # type: ignore[arg-type]
    return replace(REPORT, explanation=Explanation((), (broken,), ()))


@pytest.mark.parametrize(
    ("job", "report"),
    [
        (JOB, REPORT),
        (JOB, EXPLAINED),
        (JOB, EvaluationReport(TestResult(N_WINDOW, 60.0, reason="the fit did not converge"), "3f9a", 0.01)),
        (JOB, result(t=None, p=1e-15, p_low=1e-15, p_high=1e-15, p_method=PMethod.OUTSIDE, z=7.9)),
        (JOB, result(nan=NanResult("a", 0.1, 0.0, 6, 1e-5))),
        (PAST, result(rolling=RollingResult(1, reason="too few"))),
        (replace(JOB, rolling=KNOWN), result(rolling=KNOWN)),
    ],
)
def test_a_report_that_can_be_has_no_flaw(job: EvaluationJob, report: EvaluationReport) -> None:
    assert find_flaw(job, pickle.loads(pickle.dumps(report))) == ""  # noqa: S301 - our own


@pytest.mark.parametrize(
    ("outcome", "flaw"),
    [
        (None, "gave NoneType, which is no report"),
        (b"\xff" * 100_000, "gave bytes, which is no report"),
        (Imitation(), "gave Imitation, which is no report"),
        (replace(REPORT, result="nonsense"), "result: .*not str"),  # type: ignore[arg-type]
        (replace(REPORT, result="x" * 100_000), "result: .*not str"),  # type: ignore[arg-type]
        (replace(REPORT, bundle="another"), "of bundle another, not 3f9a"),
        (replace(REPORT, seconds=NAN), "seconds = nan"),
        (replace(REPORT, explanation="maps"), "explanation: .*not str"),  # type: ignore[arg-type]
        (result(p="0.5"), r"result\.p: .*not str"),
        (result(p=7.0), "p = 7"),
        (result(p=-0.1), "p = -0.1"),
        (result(p=NAN), "p = nan"),
        (result(p=None), "neither p nor a reason"),
        (result(z=None), "p without its interval"),
        (result(z=NAN), "z = nan"),
        (result(p_high=1.1), "p_high = 1.1"),
        (result(p_method="tail"), r"result\.p_method: .*not str"),
        (result(t=NAN), "t = nan"),
        (result(n_data=N_WINDOW + 1), f"of {N_WINDOW + 1} events, not {N_WINDOW}"),
        (result(n_expected=float("inf")), "n_expected = inf"),
        (result(remarks=(1,)), r"result\.remarks\.0: .*not int"),
        (result(nuisances={"gain": 1.0}), r"result\.nuisances\.gain: .*not float"),
        (result(nan=NanResult("a", 0.1, 0.0, 6, 2.0)), r"nan\.p = 2"),
        (result(rolling=RollingResult(1, reason="late")), "its rolling result is not that of the job"),
        (explained(data=np.ones((3, 3))), r"the map of \('a', 'b'\)"),
        (explained(fitted=COUNTS.astype(object)), "the map of"),
        (explained(edges=(np.arange(3.0),)), "the map of"),
        (explained(data=[[1.0]]), r"data: .*not list"),
    ],
)
def test_what_cannot_be_the_report_is_described_in_a_line(outcome: object, flaw: str) -> None:
    found = find_flaw(JOB, outcome)
    assert re.search(flaw, found), found
    assert len(found) <= 200


def test_a_rolling_result_is_of_the_windows_that_were_sent() -> None:
    assert "not of 1 windows" in find_flaw(PAST, REPORT)
    assert "not of 1 windows" in find_flaw(PAST, result(rolling=RollingResult(2, reason="late")))
    assert r"rolling.p = 1.5" in find_flaw(PAST, result(rolling=RollingResult(1, p=1.5)))
