from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from dqm import events
from dqm.alarm import (
    Acknowledgement,
    Alarm,
    AlarmState,
    Cause,
    Guidance,
    PresentState,
    Priority,
    QualityCeiling,
)
from dqm.errors import InputError
from dqm.events import Explanation, Likeness, NuisanceResult, Profiled, Quality, RatioMap, Verdict
from dqm.export import METRICS, SERIES_PER_NUISANCE, SERIES_PER_STREAM, AlarmMetrics, Metrics
from dqm.export.notice_sender import NoticeStatus
from dqm.export.registry import RegistryStatus
from dqm.export.sender_metrics import SenderMetrics
from dqm.stream import Reason, StreamCounts
from tests.verdicts import alter, make_verdict

DOCUMENT = Path(__file__).parents[2] / "docs" / "metrics.md"
NOW = 1_700_000_100.0
BINS = np.arange(20.0)


def ratio_map(feature: str) -> RatioMap:
    """Twenty bins, the learned ratio of which is their number."""
    ones = np.ones(20)
    return RatioMap((feature,), (np.arange(21.0) - 5.0,), 2.0 * ones, ones, ones, 2.0 * BINS)


EXPLANATION = Explanation(
    maps=tuple(ratio_map(f"t_{n}") for n in range(10)),
    pairs=(),
    ranking=tuple((f"t_{n}", 0.3 - 0.03 * n) for n in range(9, -1, -1)),
    likenesses=tuple(Likeness(f"fault {n}", 0.1) for n in range(10)),
)
VERDICT = make_verdict(
    stream="a",
    run=1,
    seq=0,
    quality=Quality.MEDIUM,
    reason="p = 0.005 is below 0.01",
    result=events.TestResult(
        n_data=512,
        n_expected=500.5,
        t=130.25,
        p=0.005,
        z=2.575,
        tau=140.5,
        delta=10.25,
        rate=events.RateResult(
            events.WindowCut.TIME, n_expected=500.5, uncertainty=0.02, live_seconds=10.0, p=0.62, z=0.496
        ),
        rolling=events.RollingResult(10, (1, 0), (1, 9), p=0.25),
        nuisances={"gas": NuisanceResult(0.001, Profiled(0.004, 0.002, 3.5), Profiled(0.002, 0.003, 1.0))},
        channels=events.ChannelSummary(
            n_channels=60,
            n_dead=6,
            n_low=3,
            n_noisy=5,
            n_masked=4,
            worst=tuple(events.ChannelDeparture(40 + n, hits=n, expected=8.0) for n in range(10)),
        ),
    ),
    bundle="3f9a",
    seconds=0.07,
    judged_at=NOW - 30.0,
    n_lost=2,
    warnings={"gas": "gas is 3.5 sigma above what its measurement says"},
    conditions={"trigger": "external"} | {f"hv_{n}": 1200.0 + n for n in range(20)},
    explanation=EXPLANATION,
)
Samples = dict[tuple[str, tuple[str, ...]], float]


class Shown(Metrics):
    """Metrics, and the present states that they show."""

    def __init__(self) -> None:
        super().__init__({"a": ("3f9a",), "b": ("77c0",)}, lambda: NOW, "0.1.0")
        self.states = {name: PresentState(NOW) for name in "ab"}
        self.show_states(lambda: self.states)

    def observe(self, verdict: Verdict) -> None:
        super().observe(verdict)
        self.states[verdict.window.stream] = self.states[verdict.window.stream].observe(verdict)

    def expire(self) -> None:
        self.states["a"] = self.states["a"].expire("no window", NOW)


@pytest.fixture
def metrics() -> Shown:
    made = Shown()
    made.registry.register(AlarmMetrics(Numbers()))
    return made


class Numbers:
    """Alarms of one stream, all of them raised."""

    p_threshold, drift_limit = 0.003, 12.5
    rate_p: float | None = 0.0004
    changed_p = 0.005
    acknowledged: Acknowledgement | None = None
    state = AlarmState.ACTIVE

    def alarms(self) -> tuple[Alarm, ...]:
        told = Guidance("c", "a", "b")
        return tuple(
            Alarm("a", cause, Priority.P2, told, self.state, NOW, NOW - 60.0, "x", self.acknowledged)
            for cause in Cause
        )

    def drift_sums(self) -> dict[str, float]:
        return {"a": 3.5}

    def thresholds(self) -> Numbers:
        return self


SENDERS = SenderMetrics(
    lambda: [NoticeStatus("mail", n_failed=1, failing_since=2.0, reason="x")],
    lambda: RegistryStatus(n_failed=1, n_waiting=1, failing_since=2.0, reason="x"),
)


def families(metrics: Metrics) -> list[Metric]:
    return list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))


def samples(metrics: Metrics) -> Samples:
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items(), reverse=True))): sample.value
        for family in families(metrics)
        for sample in family.samples
    }


def test_the_names_are_these(metrics: Shown) -> None:
    metrics.show_broken_end(lambda: 1.0)
    metrics.registry.register(SENDERS)
    metrics.observe(VERDICT)
    assert sorted({name for name, _ in samples(metrics)}) == [
        "dqm_alarm_active",
        "dqm_alarm_changed_p_threshold",
        "dqm_alarm_drift_limit",
        "dqm_alarm_drift_statistic",
        "dqm_alarm_p_threshold",
        "dqm_alarm_raised_timestamp_seconds",
        "dqm_alarm_rate_p_threshold",
        "dqm_alarm_state",
        "dqm_broken_end_timestamp_seconds",
        "dqm_build_info",
        "dqm_channels",
        "dqm_cluster_threads",
        "dqm_condition",
        "dqm_density_ratio",
        "dqm_duplicate_windows_total",
        "dqm_feature_share",
        "dqm_late_windows_total",
        "dqm_likeness",
        "dqm_lost_windows_total",
        "dqm_missing_windows",
        "dqm_notices_total",
        "dqm_notify_failing_timestamp_seconds",
        "dqm_nuisance_measured",
        "dqm_nuisance_pull",
        "dqm_nuisance_value",
        "dqm_nuisance_warning",
        "dqm_progress_age_seconds",
        "dqm_queue_windows",
        "dqm_refused_messages_total",
        "dqm_registry_failing_timestamp_seconds",
        "dqm_registry_sends_total",
        "dqm_registry_waiting",
        "dqm_reordered_windows_total",
        "dqm_sequence_gaps_total",
        "dqm_sign_ins_total",
        "dqm_skipped_windows_total",
        "dqm_store_failures_total",
        "dqm_stream_idle",
        "dqm_stream_info",
        "dqm_test_seconds_bucket",
        "dqm_test_seconds_count",
        "dqm_test_seconds_sum",
        "dqm_window_age_seconds",
        "dqm_window_delta",
        "dqm_window_events",
        "dqm_window_expected_events",
        "dqm_window_p_value",
        "dqm_window_quality",
        "dqm_window_rate_p_value",
        "dqm_window_rate_z_score",
        "dqm_window_rolling_p_value",
        "dqm_window_rolling_windows",
        "dqm_window_statistic",
        "dqm_window_tau",
        "dqm_window_z_score",
        "dqm_windows_total",
        "dqm_worst_channel_number",
        "dqm_worst_channel_ratio",
    ]


def test_what_is_shown_is_what_the_table_says(metrics: Shown) -> None:
    metrics.observe(VERDICT)
    metrics.registry.register(SENDERS)
    shown = {}
    for family in families(metrics):
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        shown[name] = (family.type, labels, family.documentation)
    assert shown == {metric.name: (metric.kind, {*metric.labels}, metric.text) for metric in METRICS}


def test_the_document_has_the_table() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [
        (metric.name, metric.kind, ", ".join(metric.labels) or "none", metric.text) for metric in METRICS
    ]
    assert f"at most {SERIES_PER_STREAM} series, and {SERIES_PER_NUISANCE} more" in DOCUMENT.read_text()


def test_a_stream_adds_exactly_so_many_series(metrics: Shown) -> None:
    metrics.observe(VERDICT)
    of_a = [labels for _, labels in samples(metrics) if "a" in labels]
    assert sum("gas" in labels for labels in of_a) == SERIES_PER_NUISANCE == 4
    assert len(of_a) == SERIES_PER_STREAM + SERIES_PER_NUISANCE
    assert SERIES_PER_STREAM == 241


def test_channels_are_counted_and_the_worst_are_shown_by_rank(metrics: Shown) -> None:
    metrics.observe(VERDICT)
    shown = samples(metrics)
    kinds = {"dead": 6, "low": 3, "noisy": 5, "masked": 4}
    assert {kind: shown["dqm_channels", ("a", kind)] for kind in kinds} == kinds
    assert shown["dqm_worst_channel_number", ("a", "3")] == 42
    assert shown["dqm_worst_channel_ratio", ("a", "3")] == 0.25
    metrics.expire()
    assert not any("channel" in name for name, _ in samples(metrics))


def test_a_stream_is_not_good_beside_an_alarm(metrics: Shown) -> None:
    metrics.observe(alter(VERDICT, quality=Quality.GOOD))
    good = metrics.states["a"]
    metrics.states["a"] = good.beside(QualityCeiling(Quality.NULL, "2 windows refused", NOW))
    shown = samples(metrics)
    assert [shown["dqm_window_quality", ("a", quality)] for quality in Quality] == [1.0, 0.0, 0.0, 0.0]
    assert ("dqm_window_p_value", ("a",)) not in shown
    assert shown["dqm_windows_total", ("a", "Good")] == 1.0, "the window itself is Good"
    metrics.states["a"] = good
    assert samples(metrics)["dqm_window_quality", ("a", "Good")] == 1.0


def test_nuisance_parameters_are_shown_until_the_stream_is_stale(metrics: Shown) -> None:
    names = ("value", "measured", "pull", "warning")
    metrics.observe(VERDICT)
    shown = samples(metrics)
    assert [shown[f"dqm_nuisance_{name}", ("a", "gas")] for name in names] == [0.004, 0.001, 3.5, 1.0]
    free = NuisanceResult(None, Profiled(0.004, 0.002, None), Profiled(0.002, 0.003, None))
    metrics.observe(alter(VERDICT, result=replace(VERDICT.result, nuisances={"gas": free}), warnings={}))
    shown = samples(metrics)
    assert [shown.get((f"dqm_nuisance_{name}", ("a", "gas"))) for name in names] == [0.004, None, None, 0.0]
    metrics.expire()
    assert not any(name.startswith("dqm_nuisance") for name, _ in samples(metrics))


def test_an_anomalous_window_is_explained_until_the_next_that_is_not(metrics: Shown) -> None:
    metrics.observe(VERDICT)
    shown = samples(metrics)
    assert shown["dqm_density_ratio", ("a", "t_9", "-5")] == 0.0
    assert shown["dqm_density_ratio", ("a", "t_9", "7")] == 12.0
    assert ("dqm_density_ratio", ("a", "t_1", "-5")) not in shown  # ranked ninth
    assert shown["dqm_feature_share", ("a", "t_9")] == pytest.approx(0.03)
    assert shown["dqm_likeness", ("a", "fault 3")] == 0.1
    assert shown["dqm_condition", ("a", "hv_7")] == 1207.0
    assert ("dqm_condition", ("a", "trigger")) not in shown
    metrics.observe(alter(VERDICT, seq=1, quality=Quality.GOOD, explanation=None))
    names = {name for name, _ in samples(metrics)}
    assert not names & {"dqm_density_ratio", "dqm_feature_share", "dqm_likeness"}
    assert "dqm_condition" in names


@pytest.mark.parametrize(
    ("state", "acknowledged", "must_respond", "is_raised"),
    [
        (AlarmState.NORMAL, None, 0.0, False),
        (AlarmState.ON_DELAYED, None, 0.0, False),
        (AlarmState.ACTIVE, None, 1.0, True),
        (AlarmState.ACTIVE, Acknowledgement("ada", "on it", NOW), 0.0, True),
        (AlarmState.LATCHED, None, 1.0, True),
        (AlarmState.OFF_DELAYED, None, 1.0, True),
        (AlarmState.SHELVED, None, 0.0, False),
        (AlarmState.MASKED, None, 0.0, False),
    ],
)
def test_an_alarm_asks_for_a_response_while_it_is_raised_and_nobody_has_taken_it(
    state: AlarmState, acknowledged: Acknowledgement | None, must_respond: float, is_raised: bool
) -> None:
    metrics, numbers = Metrics({"a": ("3f9a",)}, lambda: NOW, "0.1.0"), Numbers()
    numbers.state, numbers.acknowledged = state, acknowledged
    metrics.registry.register(AlarmMetrics(numbers))
    shown = samples(metrics)
    assert shown["dqm_alarm_active", ("a", "P2", "differs")] == must_respond
    assert shown.get(("dqm_alarm_raised_timestamp_seconds", ("a", "drift"))) == (
        NOW - 60.0 if is_raised else None
    )
    states = [labels for name, labels in shown if name == "dqm_alarm_state" and "drift" in labels]
    assert states == [("a", state.value, "drift")]
    assert shown["dqm_alarm_drift_statistic", ("a",)] == 3.5
    assert shown["dqm_alarm_drift_limit", ()] == 12.5
    assert shown["dqm_alarm_p_threshold", ()] == 0.003
    assert shown["dqm_alarm_rate_p_threshold", ()] == 0.0004
    assert shown["dqm_alarm_changed_p_threshold", ()] == 0.005


def test_a_stream_without_verdict_has_no_numbers(metrics: Shown) -> None:
    shown = samples(metrics)
    assert shown["dqm_window_quality", ("b", "Null")] == 1.0
    assert shown["dqm_windows_total", ("b", "Good")] == 0.0
    assert not any(name in ("dqm_window_p_value", "dqm_window_age_seconds") for name, _ in shown)


def test_a_verdict_is_shown(metrics: Shown) -> None:
    metrics.observe(VERDICT)
    shown = samples(metrics)
    assert shown["dqm_window_statistic", ("a",)] == 130.25
    assert shown["dqm_window_p_value", ("a",)] == 0.005
    assert shown["dqm_window_z_score", ("a",)] == 2.575
    assert shown["dqm_window_age_seconds", ("a",)] == 30.0
    assert shown["dqm_window_events", ("a",)] == 512
    assert shown["dqm_window_expected_events", ("a",)] == 500.5
    assert [shown["dqm_window_quality", ("a", quality)] for quality in Quality] == [0, 0, 1, 0]
    assert shown["dqm_windows_total", ("a", "Medium")] == 1
    assert shown["dqm_stream_info", ("a", "3f9a")] == 1
    assert shown["dqm_build_info", ("0.1.0",)] == 1


def test_numbers_that_become_unknown_disappear(metrics: Shown) -> None:
    metrics.observe(VERDICT)
    few = events.TestResult(n_data=3, n_expected=500.0, reason="too few events")
    metrics.observe(alter(VERDICT, seq=1, quality=Quality.NULL, result=few))
    shown = samples(metrics)
    assert ("dqm_window_p_value", ("a",)) not in shown
    assert shown["dqm_window_events", ("a",)] == 3


def test_a_stale_stream_is_null_until_its_next_verdict(metrics: Shown) -> None:
    metrics.observe(VERDICT)
    metrics.expire()
    shown = samples(metrics)
    assert shown["dqm_window_quality", ("a", "Null")] == 1
    assert ("dqm_window_p_value", ("a",)) not in shown
    assert shown["dqm_window_age_seconds", ("a",)] == 30.0
    assert shown["dqm_windows_total", ("a", "Null")] == 0
    metrics.observe(alter(VERDICT, seq=1))
    assert samples(metrics)["dqm_window_p_value", ("a",)] == 0.005


def test_counters_add_up(metrics: Shown) -> None:
    for seq in range(3):
        metrics.observe(alter(VERDICT, seq=seq))
    metrics.count_duplicate("a")
    metrics.show_arrivals("a", StreamCounts(n_gaps=3, n_missing=2, n_reordered=4, n_late=1))
    metrics.refuse(Reason.FRAMES.value)
    metrics.set_queue(5)
    shown = samples(metrics)
    assert shown["dqm_lost_windows_total", ("a",)] == 6
    assert shown["dqm_duplicate_windows_total", ("a",)] == 1
    arrivals = ("sequence_gaps_total", "missing_windows", "reordered_windows_total", "late_windows_total")
    assert [shown[f"dqm_{name}", ("a",)] for name in arrivals] == [3, 2, 4, 1]
    assert shown["dqm_refused_messages_total", ("frames",)] == 1
    assert shown["dqm_refused_messages_total", ("version",)] == 0
    assert shown["dqm_queue_windows", ()] == 5


def test_a_loop_that_stands_still_grows_old() -> None:
    now = [NOW]
    metrics = Metrics({}, lambda: now[0], "0.1.0")
    now[0] += 40.0
    assert samples(metrics)["dqm_progress_age_seconds", ()] == 40.0
    metrics.note_progress()
    assert samples(metrics)["dqm_progress_age_seconds", ()] == 0.0
    now[0] -= 3600.0  # the clock was set back
    assert samples(metrics)["dqm_progress_age_seconds", ()] == 0.0


def test_test_times_fill_a_histogram(metrics: Shown) -> None:
    for seconds in (0.01, 0.07, 0.3, 100.0):
        metrics.observe(alter(VERDICT, seconds=seconds))
    shown = samples(metrics)
    buckets = [("0.01", 1), ("0.05", 1), ("0.1", 2), ("0.5", 3), ("30.0", 3), ("+Inf", 4)]
    assert [(edge, shown["dqm_test_seconds_bucket", (edge,)]) for edge, _ in buckets] == buckets
    assert shown["dqm_test_seconds_count", ()] == 4
    assert shown["dqm_test_seconds_sum", ()] == pytest.approx(100.38)


def test_a_clock_that_goes_back_gives_no_negative_age() -> None:
    metrics = Metrics({"a": ("3f9a",)}, lambda: VERDICT.judged_at - 5.0, "0.1.0")
    metrics.show_states(lambda: {"a": PresentState(NOW).observe(VERDICT)})
    assert samples(metrics)["dqm_window_age_seconds", ("a",)] == 0.0


def test_labels_are_bounded(metrics: Shown) -> None:
    with pytest.raises(InputError, match="stream 'c' is not shown"):
        metrics.observe(alter(VERDICT, stream="c"))
    with pytest.raises(InputError, match="stream 'c' is not shown"):
        metrics.count_duplicate("c")
    with pytest.raises(InputError, match="'whim' is not a reason"):
        metrics.refuse("whim")


def test_promtool_finds_no_fault(metrics: Shown, require_program: Callable[[str], Path]) -> None:
    metrics.observe(VERDICT)
    command = [str(require_program("promtool")), "check", "metrics"]
    done = subprocess.run(command, input=generate_latest(metrics.registry), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
