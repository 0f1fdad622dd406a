"""A window is evaluated, then graded."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from structlog.testing import capture_logs

from dqm.alarm import QualityLimits
from dqm.alarm.verdicts import give_verdict, untested_verdict
from dqm.config import DaemonConfig, load_daemon
from dqm.errors import BundleError, InputError, PluginError
from dqm.events import (
    EvaluationJob,
    Explanation,
    Origin,
    PMethod,
    Quality,
    RollingJob,
    RollingResult,
    Verdict,
    Window,
    WindowCut,
)
from dqm.reference import Bundle, RollingEvaluator, open_bundle
from dqm.reference.explanation import Explainer
from dqm.service.evaluation import (
    MANY_DEPART,
    ExplanationBudget,
    WindowEvaluator,
    prepare_evaluators,
    prepare_worker,
)
from dqm.service.monitor.report_check import find_flaw
from dqm.service.monitor.worker_pool import WorkerPool
from tests.conftest import Once
from tests.reference import channels
from tests.service.small import N_WINDOW, bare_bundle, faulty_events, healthy_events, window_of
from tests.waiting import wait_until

LIMITS = QualityLimits(medium_p=0.02, bad_p=0.01, min_events=20)


@pytest.fixture(scope="module")
def evaluator(bundle: Bundle) -> WindowEvaluator:
    return WindowEvaluator(bundle)


def judge(evaluator: WindowEvaluator, window: Window) -> Verdict:
    """Evaluate a window and grade the result, as the monitor does in two places."""
    report = evaluator.evaluate(EvaluationJob(window, "", LIMITS.medium_p, LIMITS.min_events))
    return give_verdict(
        window,
        report.result,
        LIMITS,
        bundle=report.bundle,
        seconds=report.seconds,
        now=1234.5,
        explanation=report.explanation,
    )


def test_a_healthy_window_is_good(evaluator: WindowEvaluator, bundle: Bundle) -> None:
    verdict = judge(evaluator, window_of())
    assert (verdict.quality, verdict.reason) == (Quality.GOOD, "")
    result = verdict.result
    assert (result.n_data, result.n_expected) == (N_WINDOW, N_WINDOW)
    assert result.p_method is PMethod.EMPIRICAL
    assert result.p is not None
    assert result.p >= LIMITS.medium_p
    assert verdict.bundle == bundle.identifier
    assert verdict.judged_at == 1234.5
    assert 0.0 < verdict.seconds < 60.0


def test_a_faulty_window_is_bad_and_says_why(evaluator: WindowEvaluator) -> None:
    verdict = judge(evaluator, window_of(faulty_events(N_WINDOW, 1)))
    assert verdict.quality is Quality.BAD
    assert verdict.reason.startswith("differs from the reference: p < 1e-15 ")
    assert "(below 0.01)" in verdict.reason
    assert verdict.result.p is not None
    assert verdict.result.p < 0.01


def test_only_what_is_not_good_is_explained(evaluator: WindowEvaluator) -> None:
    assert judge(evaluator, window_of()).explanation is None
    explanation = judge(evaluator, window_of(faulty_events(N_WINDOW, 1))).explanation
    assert explanation is not None
    assert explanation.ranking[0][0] == "b"
    assert explanation.text.startswith("departs mostly in b (")


def test_the_verdict_carries_what_the_window_said(evaluator: WindowEvaluator) -> None:
    window = window_of(stream="s", run=3, seq=9, run_type="beam", origin=Origin.REPLAYED, start=1.0, end=2.0)
    v = judge(evaluator, window)
    assert (v.window.stream, v.window.run, v.window.seq, v.window.run_type) == ("s", 3, 9, "beam")
    assert (v.window.origin, v.window.start, v.window.end) == (Origin.REPLAYED, 1.0, 2.0)


def test_features_are_taken_by_name(evaluator: WindowEvaluator) -> None:
    x = healthy_events(N_WINDOW, 100)
    more = np.column_stack([x[:, 1], np.zeros(N_WINDOW), x[:, 0]])
    turned = judge(evaluator, window_of(more, names=("b", "other", "a")))
    assert turned.result == judge(evaluator, window_of(x)).result


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"n_lost": 2}, "2 windows lost before this one"),
        ({"x": healthy_events(19, 1)}, "19 events, fewer than 20"),
        ({"x": np.empty((0, 2))}, "0 events, fewer than 20"),
        ({"x": healthy_events(61, 1)}, "no null table for windows of 61 events cut by count"),
        (
            {"cut": WindowCut.TIME, "n_expected": 60.0},
            "no null table for windows of 60 events cut by time (calibrated: 60 events cut by count)",
        ),
        ({"names": ("a", "c")}, "features of the reference are missing: b"),
    ],
)
def test_what_cannot_be_known_is_null_with_a_reason(
    evaluator: WindowEvaluator, fields: dict[str, object], reason: str
) -> None:
    verdict = judge(evaluator, window_of(**fields))
    assert verdict.quality is Quality.NULL
    assert verdict.reason.startswith(reason)
    if "n_lost" not in fields:
        assert (verdict.result.p, verdict.result.z) == (None, None)


def test_losses_do_not_hide_a_fault(evaluator: WindowEvaluator) -> None:
    verdict = judge(evaluator, window_of(faulty_events(N_WINDOW, 1), n_lost=2))
    assert (verdict.quality, verdict.window.n_lost) == (Quality.BAD, 2)
    assert verdict.reason.endswith("; 2 windows lost before this one")


def test_same_window_same_numbers(bundle: Bundle, evaluator: WindowEvaluator) -> None:
    again = judge(WindowEvaluator(bundle), window_of())
    assert again.result == judge(evaluator, window_of()).result


@pytest.mark.parametrize(("fields", "n_expected"), [({}, 60.0), ({"n_expected": 55.5}, 55.5)])
def test_a_window_that_was_not_tested_is_null_with_the_reason(
    fields: dict[str, object], n_expected: float
) -> None:
    verdict = untested_verdict(
        window_of(**fields), "the test failed: no luck", LIMITS, rate=None, bundle="b", now=1.0
    )
    assert (verdict.quality, verdict.reason) == (Quality.NULL, "the test failed: no luck")
    assert (verdict.result.n_data, verdict.result.n_expected) == (60, n_expected)
    assert (verdict.result.t, verdict.result.p) == (None, None)


def test_a_bundle_without_table_gives_no_p_value(tmp_path: Path) -> None:
    verdict = judge(WindowEvaluator(bare_bundle(tmp_path / "bare.dqmref")), window_of())
    assert verdict.quality is Quality.NULL
    assert verdict.reason.endswith("(calibrated: none)")


def test_nan_in_a_window_gives_no_p_value(evaluator: WindowEvaluator) -> None:
    x = healthy_events(N_WINDOW, 1)
    x[3, 1] = np.nan
    verdict = judge(evaluator, window_of(x))
    assert verdict.quality is Quality.NULL
    assert "NaN" in verdict.reason or "nan" in verdict.reason


def test_no_window_is_judged_by_a_bundle_that_was_written_to(bundle: Bundle, tmp_path: Path) -> None:
    copied = open_bundle(Path(shutil.copytree(bundle.path, tmp_path / "copy")))
    evaluator = WindowEvaluator(copied)
    assert judge(evaluator, window_of()).quality is Quality.GOOD
    with (copied.path / copied.manifest.centers.name).open("r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"\x5a" * 8)
    with pytest.raises(BundleError, match="was altered while it was in use"):
        judge(evaluator, window_of())


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (PluginError("the statistic 'kernel' gave nothing"), "the statistic 'kernel' gave nothing"),
        (InputError("an odd map"), "an odd map (statistic 'kernel')"),
        (np.linalg.LinAlgError("Singular matrix"), "LinAlgError: Singular matrix (statistic 'kernel')"),
        (MemoryError(), "MemoryError (statistic 'kernel')"),
    ],
)
def test_maps_that_fail_take_no_verdict_away(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, why: str
) -> None:
    window = window_of(faulty_events(N_WINDOW, 1), run=7, seq=3)
    known = judge(WindowEvaluator(bundle), window)
    monkeypatch.setattr(Explainer, "explain", Mock(side_effect=error))
    verdict = judge(WindowEvaluator(bundle), window)
    assert (verdict.quality, verdict.reason) == (Quality.BAD, known.reason)
    assert verdict.explanation is None
    assert verdict.result == replace(known.result, remarks=(*known.result.remarks, f"no maps: {why}"))
    path = tmp_path / "d.toml"
    path.write_text(f'[[streams]]\nname = "chamber-1"\nbundle = "{bundle.path}"\n')
    evaluate = prepare_evaluators(load_daemon(path, environ={}))
    with capture_logs() as logged:
        evaluate(EvaluationJob(window, bundle.identifier, explain_below=0.01))
    (line,) = logged
    assert (line["event"], line["log_level"], line["run"], line["seq"]) == ("no maps", "warning", 7, 3)
    assert line["exc_info"] is error


def test_while_windows_wait_maps_take_a_share_of_the_time(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    evaluator = WindowEvaluator(bundle, budget=ExplanationBudget(lambda: now[0]))
    explain = Explainer.explain

    def explain_slowly(*arguments: Any, **options: Any) -> Explanation | None:
        now[0] += 0.5
        return explain(*arguments, **options)

    monkeypatch.setattr(Explainer, "explain", explain_slowly)
    job = EvaluationJob(window_of(faulty_events(N_WINDOW, 1)), "", LIMITS.medium_p, others_wait=True)
    reports = []
    for _ in range(20):
        now[0] += 0.1  # a test
        reports.append(evaluator.evaluate(job))
    # 0.25 s at the start and a quarter of all time are 1 s in the 3 s that all takes
    assert sum(report.explanation is not None for report in reports) == 2
    told = {report.result.why_no_maps for report in reports if report.explanation is None}
    assert told == {f"no maps: {MANY_DEPART}"}
    assert {report.result.p for report in reports} == {reports[0].result.p}
    assert evaluator.evaluate(replace(job, others_wait=False)).explanation is not None


def test_a_job_may_say_why_no_maps_are_made(evaluator: WindowEvaluator) -> None:
    job = EvaluationJob(window_of(faulty_events(N_WINDOW, 1)), "", LIMITS.medium_p, no_maps="its worker died")
    report = evaluator.evaluate(job)
    assert (report.explanation, report.result.why_no_maps) == (None, "no maps: its worker died")
    healthy = evaluator.evaluate(replace(job, window=window_of()))
    assert healthy.result.why_no_maps == ""


@pytest.mark.parametrize("error", [BundleError("was altered"), KeyboardInterrupt(), SystemExit(1)])
def test_what_ends_a_worker_or_spoils_p_is_no_remark(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(Explainer, "explain", Mock(side_effect=error))
    with pytest.raises(type(error)):
        judge(WindowEvaluator(bundle), window_of(faulty_events(N_WINDOW, 1)))


def test_a_rolling_test_that_fails_leaves_the_result_as_it_is(
    bundle: Bundle, evaluator: WindowEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = window_of(faulty_events(N_WINDOW, 1), seq=3)
    rolling = RollingJob((window_of(seq=1), window_of(seq=2)), 100)
    monkeypatch.setattr(RollingEvaluator, "evaluate", Mock(side_effect=MemoryError()))
    failures: list[str] = []
    failing = WindowEvaluator(bundle, tell_failure=lambda what, _job, _error: failures.append(what))
    report = failing.evaluate(EvaluationJob(window, "", LIMITS.medium_p, LIMITS.min_events, rolling=rolling))
    expected = RollingResult(2, reason="the test failed: MemoryError")
    assert report.result == replace(judge(evaluator, window).result, rolling=expected)
    assert report.explanation is not None
    assert failures == ["no comparison with the last good windows"]


def failing_config(folder: Path, bundle: Bundle) -> DaemonConfig:
    """A daemon whose bundle is altered after it was opened: each test fails."""
    mine = shutil.copytree(bundle.path, folder / "mine")
    path = folder / "d.toml"
    path.write_text(f'[daemon]\ndata_dir = "data"\n[[streams]]\nname = "chamber-1"\nbundle = "{mine}"\n')
    return load_daemon(path, environ={})


def alter_bundle(folder: Path) -> None:
    (array,) = (folder / "mine").glob("pool-*.npy")
    with array.open("ab") as file:
        file.write(b"x")


def test_a_test_that_fails_is_logged_with_its_window(bundle: Bundle, tmp_path: Path) -> None:
    evaluate = prepare_evaluators(failing_config(tmp_path, bundle))
    alter_bundle(tmp_path)
    with capture_logs() as logged, pytest.raises(BundleError):
        evaluate(EvaluationJob(window_of(run=7, seq=3), bundle.identifier, explain_below=0.01))
    (line,) = logged
    assert (line["event"], line["stream"], line["run"], line["seq"]) == ("test failed", "chamber-1", 7, 3)


@pytest.mark.slow
def test_a_worker_logs_as_the_daemon_does(bundle: Bundle, tmp_path: Path) -> None:
    """One line of JSON on the standard error that it shares with the daemon."""
    config = failing_config(tmp_path, bundle)
    stderr = os.dup(2)
    with (tmp_path / "log").open("wb") as log:
        os.dup2(log.fileno(), 2)
        try:
            pool = WorkerPool(
                partial(prepare_worker, config), n_workers=1, n_threads=1, longest_seconds=60.0, key=str
            )
            alter_bundle(tmp_path)
            pool.submit(EvaluationJob(window_of(run=7, seq=3), bundle.identifier, explain_below=0.01))
            wait_until(lambda: bool(pool.finished()), "the test has failed")
            pool.close()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    (line,) = map(json.loads, (tmp_path / "log").read_text().splitlines())
    assert (line["event"], line["level"], line["stream"], line["run"], line["seq"]) == (
        "test failed", "error", "chamber-1", 7, 3,
    )  # fmt: skip
    assert "was altered while it was in use" in line["exception"]


def test_channels_are_shown_healthy_or_not_and_known_bad_ones_count_for_nothing(
    once: Once, tmp_path: Path
) -> None:
    bundle = once("channels-small.dqmref", channels.channel_bundle)
    config = tmp_path / "daemon.toml"
    config.write_text(f'[[streams]]\nname = "one"\nbundle = "{bundle}"\n')
    evaluate = prepare_evaluators(load_daemon(config))
    hits = channels.healthy_hits(np.random.default_rng(1))
    hits[17] = 0.0
    identifier = open_bundle(bundle).identifier
    jobs = {
        name: EvaluationJob(channels.window_of(hits), identifier, LIMITS.medium_p, masked=masked)
        for name, masked in (("all", ()), ("some", (103, 117)))
    }
    reports = {name: evaluate(job) for name, job in jobs.items()}
    assert [find_flaw(job, reports[name]) for name, job in jobs.items()] == ["", ""]
    found = {name: report.result.channels for name, report in reports.items()}
    assert {name: s and (s.n_dead, s.masked) for name, s in found.items()} == {
        "all": (1, ()), "some": (0, (103, 117))
    }  # fmt: skip
    p = {name: report.result.p for name, report in reports.items()}
    assert (p["all"] or 1.0) < 1e-6 < LIMITS.medium_p < (p["some"] or 0.0)
    assert all(report.explanation and report.explanation.occupancy for report in reports.values())
    verdict = give_verdict(
        channels.window_of(hits), reports["all"].result, LIMITS, bundle="", seconds=0.0, now=0.0
    )
    assert verdict.reason.endswith("; 1 channel is dead")
