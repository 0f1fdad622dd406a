"""What a monitor with one faulty chamber shows, metric by metric, for a Prometheus to scrape."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from dqm.alarm.values import AlarmState, Cause
from dqm.events import Quality

GOOD, FAULTY = "chamber-1", "chamber-2"
RAISED_AT = 1_700_000_000.0

DAEMON = {
    "dqm_alarm_p_threshold": ((), {(): 0.002}),
    "dqm_alarm_drift_limit": ((), {(): 6.5}),
    "dqm_queue_windows": ((), {(): 2.0}),
    "dqm_progress_age_seconds": ((), {(): 0.1}),
    "dqm_build_info": (("version",), {("0.1.0",): 1.0}),
}
FAULT = {
    "dqm_alarm_raised_timestamp_seconds": (("stream", "cause"), {(FAULTY, "differs"): RAISED_AT}),
    "dqm_density_ratio": (
        ("stream", "feature", "bin"),
        {(FAULTY, f, f"{10 * b:.6g}"): 0.5 + 0.1 * b for f in ("t_1", "theta") for b in range(16)},
    ),
    "dqm_feature_share": (("stream", "feature"), {(FAULTY, "t_1"): 0.25, (FAULTY, "theta"): 0.75}),
    "dqm_likeness": (("stream", "fault"), {(FAULTY, "lowered cathode voltage"): 0.92}),
}
STREAM = {
    "dqm_window_statistic": (140.0, 400.0),
    "dqm_window_tau": (150.0, 410.0),
    "dqm_window_delta": (10.0, 10.0),
    "dqm_window_p_value": (0.4, 1e-5),
    "dqm_window_z_score": (0.25, 4.3),
    "dqm_window_age_seconds": (1.0, 2.0),
    "dqm_window_events": (500.0, 480.0),
    "dqm_window_expected_events": (500.0, 500.0),
    "dqm_alarm_drift_statistic": (0.5, 5.0),
}
COUNTERS = ("dqm_lost_windows", "dqm_duplicate_windows", "dqm_skipped_windows")


class Exposition(Collector):
    """Two streams, the second faulty once `alarmed` is set; counters grow with time."""

    def __init__(self) -> None:
        self.alarmed = False
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._begin = time.monotonic()

    def collect(self) -> Iterable[Metric]:
        n = float(int(10 * (time.monotonic() - self._begin)))
        for name, (labels, values) in (DAEMON | FAULT if self.alarmed else DAEMON).items():
            yield _gauge(name, labels, values)
        for name, pair in STREAM.items():
            yield _gauge(name, ("stream",), {(s,): v for s, v in zip((GOOD, FAULTY), pair, strict=True)})
        yield from self._collect_labelled()
        yield from _collect_counters(n)

    def _collect_labelled(self) -> Iterable[Metric]:
        streams = (GOOD, FAULTY)
        seen = {GOOD: Quality.GOOD, FAULTY: Quality.BAD if self.alarmed else Quality.GOOD}
        yield _gauge(
            "dqm_window_quality",
            ("stream", "quality"),
            {(s, q.value): float(seen[s] is q) for s in streams for q in Quality},
        )
        alarms = {(s, c): s == FAULTY and c is Cause.DIFFERS and self.alarmed for s in streams for c in Cause}
        yield _gauge(
            "dqm_alarm_active",
            ("stream", "cause", "priority"),
            {(s, c.value, "P1"): float(active) for (s, c), active in alarms.items()},
        )
        yield _gauge(
            "dqm_alarm_state",
            ("stream", "cause", "state"),
            {
                (s, c.value, (AlarmState.ACTIVE if active else AlarmState.NORMAL).value): 1.0
                for (s, c), active in alarms.items()
            },
        )
        yield _gauge("dqm_stream_info", ("stream", "bundle"), {(s, "3f9a77c0"): 1.0 for s in streams})
        yield _gauge(
            "dqm_condition", ("stream", "condition"), {(s, "strip_voltage_v"): -1200.0 for s in streams}
        )
        for name in ("value", "measured", "pull", "warning"):
            yield _gauge(f"dqm_nuisance_{name}", ("stream", "nuisance"), {(s, "gas"): 0.5 for s in streams})


def _collect_counters(n: float) -> Iterable[Metric]:
    judged = CounterMetricFamily("dqm_windows", "Windows judged.", labels=("stream", "quality"))
    for stream in (GOOD, FAULTY):
        for quality in Quality:
            judged.add_metric([stream, quality.value], n)
    yield judged
    for name in COUNTERS:
        family = CounterMetricFamily(name, name, labels=("stream",))
        for stream in (GOOD, FAULTY):
            family.add_metric([stream], 0.0)
        yield family
    refused = CounterMetricFamily("dqm_refused_messages", "Refused.", labels=("reason",))
    refused.add_metric(["version"], 0.0)
    yield refused
    seconds = HistogramMetricFamily("dqm_test_seconds", "Wall time of a test.")
    seconds.add_metric([], [("0.05", n), ("0.1", 2 * n), ("+Inf", 2 * n)], 0.1 * n)
    yield seconds


def _gauge(name: str, labels: tuple[str, ...], values: dict[tuple[str, ...], float]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, name, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
