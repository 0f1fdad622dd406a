"""Alarms for Prometheus, collected when it scrapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from dqm.alarm import RAISED, Alarm, needs_response
from dqm.export.families import gauge

__all__ = ["AlarmMetrics", "AlarmNumbers"]


class _Limits(Protocol):
    @property
    def p_threshold(self) -> float:
        """p-value below which a window counts."""

    @property
    def rate_p(self) -> float | None:
        """p-value of the number of events below which a window counts; None if it is not watched."""

    @property
    def changed_p(self) -> float:
        """p-value against the last good windows below which a window counts; 0 if none is compared."""

    @property
    def drift_limit(self) -> float | None:
        """Limit of the drift statistic; None if drift is not watched."""


class AlarmNumbers(Protocol):
    """Alarms and their numbers; methods may be called from any thread."""

    def alarms(self) -> Sequence[Alarm]:
        """Every alarm."""

    def drift_sums(self) -> Mapping[str, float]:
        """Drift statistic of each stream."""

    def thresholds(self) -> _Limits:
        """Limits from the false-alarm budget."""


class AlarmMetrics(Collector):
    """Families of the alarms.

    Parameters
    ----------
    alarms : AlarmNumbers
        Alarms to show.
    """

    def __init__(self, alarms: AlarmNumbers) -> None:
        self._alarms = alarms

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All families, for the registry."""
        state = gauge("dqm_alarm_state")
        active = gauge("dqm_alarm_active")
        raised = gauge("dqm_alarm_raised_timestamp_seconds")
        for alarm in self._alarms.alarms():
            labels = [alarm.stream, alarm.cause.value]
            state.add_metric([*labels, alarm.state.value], 1.0)
            active.add_metric([*labels, alarm.priority.value], float(needs_response(alarm)))
            if alarm.state in RAISED and alarm.raised_at is not None:
                raised.add_metric(labels, alarm.raised_at)
        drift = gauge("dqm_alarm_drift_statistic")
        for stream, value in self._alarms.drift_sums().items():
            drift.add_metric([stream], value)
        limits = self._alarms.thresholds()
        limit = gauge("dqm_alarm_drift_limit")
        threshold = gauge("dqm_alarm_p_threshold")
        threshold.add_metric([], limits.p_threshold)
        if limits.drift_limit is not None:
            limit.add_metric([], limits.drift_limit)
        rate = gauge("dqm_alarm_rate_p_threshold")
        if limits.rate_p:
            rate.add_metric([], limits.rate_p)
        changed = gauge("dqm_alarm_changed_p_threshold")
        if limits.changed_p:
            changed.add_metric([], limits.changed_p)
        return [state, active, raised, drift, limit, threshold, rate, changed]
