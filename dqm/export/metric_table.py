"""Table of all metrics of the daemon: name, type, labels and meaning."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dqm.alarm import Cause
from dqm.events import MAX_NAMED_CHANNELS, Quality

__all__ = [
    "METRICS",
    "MOST",
    "SERIES_PER_NUISANCE",
    "SERIES_PER_STREAM",
    "SIGN_INS",
    "TEST_SECONDS_BUCKETS",
    "Metric",
]

TEST_SECONDS_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper edges of the histogram of test times, s."""

SIGN_INS = ("accepted", "refused", "throttled")
"""Outcomes of a sign-in that are counted."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Parameters
    ----------
    name : str
        Name as exported, with ``_total`` or ``_info`` if the kind needs it.
    kind : str
        Prometheus type.
    labels : tuple of str
        Label names.
    text : str
        Help text.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    text: str


METRICS = (
    Metric(
        "dqm_window_statistic",
        "gauge",
        ("stream",),
        "Test statistic t of the last window, or a lower bound far from the reference; absent if unknown.",
    ),
    Metric(
        "dqm_window_tau",
        "gauge",
        ("stream",),
        "Statistic before the share of the nuisance parameters is subtracted, tau; absent if unknown.",
    ),
    Metric(
        "dqm_window_delta",
        "gauge",
        ("stream",),
        "Share of the nuisance parameters, Delta = tau - t; absent if unknown.",
    ),
    Metric(
        "dqm_nuisance_value",
        "gauge",
        ("stream", "nuisance"),
        "Nuisance parameter as fitted to the last window without anomaly, in its own unit.",
    ),
    Metric(
        "dqm_nuisance_measured",
        "gauge",
        ("stream", "nuisance"),
        "Measurement of the nuisance parameter by slow control; absent if it was fitted without one.",
    ),
    Metric(
        "dqm_nuisance_pull",
        "gauge",
        ("stream", "nuisance"),
        "Fitted minus measured value, in standard deviations of healthy windows; absent without measurement.",
    ),
    Metric(
        "dqm_nuisance_warning",
        "gauge",
        ("stream", "nuisance"),
        "1 if the pull is beyond its limit, 0 otherwise.",
    ),
    Metric(
        "dqm_window_p_value",
        "gauge",
        ("stream",),
        "p-value of the last window; absent if unknown.",
    ),
    Metric(
        "dqm_window_z_score",
        "gauge",
        ("stream",),
        "p-value of the last window in Gaussian sigmas; absent if unknown.",
    ),
    Metric(
        "dqm_channels",
        "gauge",
        ("stream", "kind"),
        "Channels that are dead, low, noisy or masked in the last window; absent if it has none.",
    ),
    Metric(
        "dqm_worst_channel_number",
        "gauge",
        ("stream", "rank"),
        "Number of the channel that departs most (rank 1) to tenth most; absent if none departs.",
    ),
    Metric(
        "dqm_worst_channel_ratio",
        "gauge",
        ("stream", "rank"),
        "Hits of that channel over its expected hits.",
    ),
    Metric(
        "dqm_window_quality",
        "gauge",
        ("stream", "quality"),
        "1 for the current quality of the stream, 0 for the others.",
    ),
    Metric(
        "dqm_window_age_seconds",
        "gauge",
        ("stream",),
        "Time since the last verdict; absent before the first.",
    ),
    Metric(
        "dqm_window_events",
        "gauge",
        ("stream",),
        "Events in the last window.",
    ),
    Metric(
        "dqm_window_expected_events",
        "gauge",
        ("stream",),
        "Events that the reference predicts for the last window.",
    ),
    Metric(
        "dqm_window_rate_p_value",
        "gauge",
        ("stream",),
        "Two-sided p-value of the number of events in the last window; absent if nothing is expected of it.",
    ),
    Metric(
        "dqm_window_rate_z_score",
        "gauge",
        ("stream",),
        "The same in Gaussian sigmas, negative for too few events; absent if nothing is expected.",
    ),
    Metric(
        "dqm_window_rolling_p_value",
        "gauge",
        ("stream",),
        "p-value of the last window against the last good ones before it; absent if it was not compared.",
    ),
    Metric(
        "dqm_window_rolling_windows",
        "gauge",
        ("stream",),
        "Good windows that there were to compare the last window with; absent without a rolling reference.",
    ),
    Metric(
        "dqm_windows_total",
        "counter",
        ("stream", "quality"),
        "Windows judged.",
    ),
    Metric(
        "dqm_lost_windows_total",
        "counter",
        ("stream",),
        "Windows lost: dropped by their sender, or missing in the numbers, before a window that was judged.",
    ),
    Metric(
        "dqm_duplicate_windows_total",
        "counter",
        ("stream",),
        "Windows received again; not judged again.",
    ),
    Metric(
        "dqm_sequence_gaps_total",
        "counter",
        ("stream",),
        "Gaps in the numbers of windows.",
    ),
    Metric(
        "dqm_missing_windows",
        "gauge",
        ("stream",),
        "Windows missing in the numbers that no sender reported as dropped and that have not come later.",
    ),
    Metric(
        "dqm_reordered_windows_total",
        "counter",
        ("stream",),
        "Windows that came after a window of the same run with a larger number.",
    ),
    Metric(
        "dqm_late_windows_total",
        "counter",
        ("stream",),
        "Windows of a run that came after another run had begun.",
    ),
    Metric(
        "dqm_skipped_windows_total",
        "counter",
        ("stream",),
        "Windows not tested because the daemon could not keep up.",
    ),
    Metric(
        "dqm_stream_info",
        "gauge",
        ("stream", "bundle"),
        "Reference bundle that judged the last window; before it, the first of the stream.",
    ),
    Metric(
        "dqm_stream_idle",
        "gauge",
        ("stream",),
        "1 after the end of the stream's run, until another begins: no window is expected; 0 otherwise.",
    ),
    Metric(
        "dqm_test_seconds",
        "histogram",
        (),
        "Wall time of a test.",
    ),
    Metric(
        "dqm_refused_messages_total",
        "counter",
        ("reason",),
        "Messages and peers that were refused.",
    ),
    Metric(
        "dqm_density_ratio",
        "gauge",
        ("stream", "feature", "bin"),
        "Learned density ratio in a bin, by its lower edge; only while the last window is Medium or Bad.",
    ),
    Metric(
        "dqm_feature_share",
        "gauge",
        ("stream", "feature"),
        "Share of the departure that a feature carries; only while the last window is Medium or Bad.",
    ),
    Metric(
        "dqm_likeness",
        "gauge",
        ("stream", "fault"),
        "Probability that the window looks like a known fault; only while the last window is Medium or Bad.",
    ),
    Metric(
        "dqm_condition",
        "gauge",
        ("stream", "condition"),
        "Numeric condition of the last window, such as a voltage set point, in its own unit.",
    ),
    Metric(
        "dqm_alarm_state",
        "gauge",
        ("stream", "cause", "state"),
        "1 for the current state of each alarm; other states have no series.",
    ),
    Metric(
        "dqm_alarm_active",
        "gauge",
        ("stream", "cause", "priority"),
        "1 if somebody must respond: the alarm is raised and nobody has acknowledged it; 0 otherwise.",
    ),
    Metric(
        "dqm_alarm_raised_timestamp_seconds",
        "gauge",
        ("stream", "cause"),
        "When the alarm was raised; only while it is.",
    ),
    Metric(
        "dqm_alarm_drift_statistic",
        "gauge",
        ("stream",),
        "Sum of significances, which finds windows that get worse slowly; the logarithm of the evidence of "
        "the present run with drift_test = run.",
    ),
    Metric(
        "dqm_alarm_drift_limit",
        "gauge",
        (),
        "Limit of the drift statistic, from the false-alarm budget; absent if drift is not watched.",
    ),
    Metric(
        "dqm_alarm_p_threshold",
        "gauge",
        (),
        "p-value below which a window counts towards an alarm, from the false-alarm budget.",
    ),
    Metric(
        "dqm_alarm_rate_p_threshold",
        "gauge",
        (),
        "p-value of the number of events below which a window counts; absent if the number is not watched.",
    ),
    Metric(
        "dqm_alarm_changed_p_threshold",
        "gauge",
        (),
        "p-value against the last good windows below which a window counts; absent if none is compared.",
    ),
    Metric(
        "dqm_queue_windows",
        "gauge",
        (),
        "Windows that wait for their test.",
    ),
    Metric(
        "dqm_cluster_threads",
        "gauge",
        (),
        "Threads of a Dask cluster that test windows; 0 without one, and while it is away.",
    ),
    Metric(
        "dqm_store_failures_total",
        "counter",
        (),
        "Failed attempts to use the store; they are repeated, and nothing is received meanwhile.",
    ),
    Metric(
        "dqm_broken_end_timestamp_seconds",
        "gauge",
        (),
        "When a daemon ended by an abort, a kill or a power cut; absent if not within 24 hours.",
    ),
    Metric(
        "dqm_sign_ins_total",
        "counter",
        ("outcome",),
        "Sign-ins by name and password on the page or the API, by outcome.",
    ),
    Metric(
        "dqm_notices_total",
        "counter",
        ("target", "outcome"),
        "Messages about alarms, by target and outcome: sent, or failed, which is tried again.",
    ),
    Metric(
        "dqm_notify_failing_timestamp_seconds",
        "gauge",
        ("target",),
        "Since when the target has taken no message about alarms; absent if it takes them.",
    ),
    Metric(
        "dqm_registry_sends_total",
        "counter",
        ("outcome",),
        "Sign-offs of runs for the run registry, by outcome: sent, or failed, which is tried again.",
    ),
    Metric(
        "dqm_registry_waiting",
        "gauge",
        (),
        "Sign-offs that the run registry has not taken; absent without a registry.",
    ),
    Metric(
        "dqm_registry_failing_timestamp_seconds",
        "gauge",
        (),
        "Since when the run registry has not taken all sign-offs; absent if it takes them.",
    ),
    Metric(
        "dqm_progress_age_seconds",
        "gauge",
        (),
        "Time since the daemon's loop last made a round.",
    ),
    Metric(
        "dqm_build_info",
        "gauge",
        ("version",),
        "Version of dqm.",
    ),
)

MOST = {
    "stream": 1,
    "quality": len(Quality),
    "cause": len(Cause),
    "feature": 8,
    "bin": 16,
    "fault": 8,
    "condition": 16,
    "kind": 4,
    "rank": MAX_NAMED_CHANNELS,
}
"""Most values of a label within a stream; further ones are not shown. Others follow from these."""

SERIES_PER_NUISANCE = sum("nuisance" in metric.labels for metric in METRICS)
"""Most series one nuisance parameter adds to its stream's."""

SERIES_PER_STREAM = sum(
    math.prod(MOST.get(label, 1) for label in metric.labels)
    for metric in METRICS
    if "stream" in metric.labels and "nuisance" not in metric.labels
)
"""Most series one stream adds to a scrape, nuisance parameters aside."""
