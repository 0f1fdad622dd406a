"""State of the targets that get alarms and sign-offs, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from dqm.export.families import counter, gauge
from dqm.export.notice_sender import NoticeStatus
from dqm.export.registry import RegistryStatus

__all__ = ["SenderMetrics"]

_Family = CounterMetricFamily | GaugeMetricFamily


class SenderMetrics(Collector):
    """Families of what is sent to people and to a run registry.

    Parameters
    ----------
    notices : callable
        State of each target that gets alarms; may be called from any thread.
    registry : callable
        State of the run registry; None if there is none.
    """

    def __init__(
        self,
        notices: Callable[[], Iterable[NoticeStatus]],
        registry: Callable[[], RegistryStatus | None],
    ) -> None:
        self._notices = notices
        self._registry = registry

    def collect(self) -> Iterable[_Family]:
        """All families, for the registry of Prometheus."""
        return [*self._collect_notices(), *self._collect_registry()]

    def _collect_notices(self) -> Iterable[_Family]:
        total = counter("dqm_notices_total")
        failing = gauge("dqm_notify_failing_timestamp_seconds")
        for status in self._notices():
            total.add_metric([status.target, "sent"], status.n_sent)
            total.add_metric([status.target, "failed"], status.n_failed)
            if status.failing_since is not None:
                failing.add_metric([status.target], status.failing_since)
        return total, failing

    def _collect_registry(self) -> Iterable[_Family]:
        total = counter("dqm_registry_sends_total")
        waiting = gauge("dqm_registry_waiting")
        failing = gauge("dqm_registry_failing_timestamp_seconds")
        status = self._registry()
        if status is not None:
            total.add_metric(["sent"], status.n_sent)
            total.add_metric(["failed"], status.n_failed)
            waiting.add_metric([], status.n_waiting)
            if status.failing_since is not None:
                failing.add_metric([], status.failing_since)
        return total, waiting, failing
