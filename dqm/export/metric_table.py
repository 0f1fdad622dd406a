"""Every metric the daemon shows: its name, type, meaning and labels, in one table."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from dqm.alarm import Cause
from dqm.events import Quality

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
"""What may come of a sign-in, as it is counted."""


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table.

    Parameters
    ----------
    name : str
        Name as exported, with ``_total`` or ``_info`` where the kind asks for it.
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
        "Test statistic t of the last window; absent if unknown.",
    ),
    Metric(
        "dqm_window_tau",
        "gauge",
        ("stream",),
        "t before the nuisance parameters' share is taken off; absent if unknown.",
    ),
    Metric(
        "dqm_window_delta",
        "gauge",
        ("stream",),
        "Share of the nuisance parameters, tau - t; absent if unknown.",
    ),
    Metric(
        "dqm_nuisance_value",
        "gauge",
        ("stream", "nuisance"),
        "Nuisance parameter fitted to the last window without anomaly, in its own unit.",
    ),
    Metric(
        "dqm_nuisance_measured",
        "gauge",
        ("stream", "nuisance"),
        "Its measurement by slow control; absent if it was fitted without.",
    ),
    Metric(
        "dqm_nuisance_pull",
        "gauge",
        ("stream", "nuisance"),
        "Distance of both in standard deviations of healthy windows; absent without measurement.",
    ),
    Metric(
        "dqm_nuisance_warning",
        "gauge",
        ("stream", "nuisance"),
        "1 if that distance is beyond its limit, 0 otherwise.",
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
        "dqm_window_quality",
        "gauge",
        ("stream", "quality"),
        "1 for the present quality of the stream, 0 for the others.",
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
        "Events the reference was scaled to for the last window.",
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
        "Windows lost before those judged: dropped by senders, or left out of their numbers.",
    ),
    Metric(
        "dqm_duplicate_windows_total",
        "counter",
        ("stream",),
        "Windows received again after their verdict; dropped.",
    ),
    Metric(
        "dqm_sequence_gaps_total",
        "counter",
        ("stream",),
        "Times that numbers of windows were left out.",
    ),
    Metric(
        "dqm_missing_windows",
        "gauge",
        ("stream",),
        "Windows left out without a word that have not come since.",
    ),
    Metric(
        "dqm_reordered_windows_total",
        "counter",
        ("stream",),
        "Windows that came after one of their run with a larger number.",
    ),
    Metric(
        "dqm_late_windows_total",
        "counter",
        ("stream",),
        "Windows that came after one of a later run.",
    ),
    Metric(
        "dqm_skipped_windows_total",
        "counter",
        ("stream",),
        "Windows given up untested because the daemon could not keep up.",
    ),
    Metric(
        "dqm_stream_info",
        "gauge",
        ("stream", "bundle"),
        "Reference bundle of the stream.",
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
        "Messages that broke the wire format; dropped.",
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
        "Probability of a known fault; only while the last window is Medium or Bad.",
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
        "1 for the present state of each alarm; other states have no series.",
    ),
    Metric(
        "dqm_alarm_active",
        "gauge",
        ("stream", "cause", "priority"),
        "1 if somebody must respond to the alarm: it is raised and nobody has acknowledged or shelved it.",
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
        "Sum of significances that catches slow deterioration.",
    ),
    Metric(
        "dqm_alarm_drift_limit",
        "gauge",
        (),
        "Where that sum alarms, by the false-alarm budget; absent if it is not watched.",
    ),
    Metric(
        "dqm_alarm_p_threshold",
        "gauge",
        (),
        "p-value below which a window counts towards an alarm, by the false-alarm budget.",
    ),
    Metric(
        "dqm_queue_windows",
        "gauge",
        (),
        "Windows that wait for their test.",
    ),
    Metric(
        "dqm_store_failures_total",
        "counter",
        (),
        "Failed attempts to store verdicts or alarms; they are repeated, and nothing is received meanwhile.",
    ),
    Metric(
        "dqm_sign_ins_total",
        "counter",
        ("outcome",),
        "Names and passwords given on the page or by the API, by what came of them.",
    ),
    Metric(
        "dqm_progress_age_seconds",
        "gauge",
        (),
        "Time since the daemon's loop last came round.",
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
