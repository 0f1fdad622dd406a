"""Families of metrics, named and described by the table."""

from __future__ import annotations

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from dqm.export.metric_table import METRICS

__all__ = ["TABLE", "counter", "gauge"]

TABLE = {metric.name: metric for metric in METRICS}


def gauge(name: str) -> GaugeMetricFamily:
    """Begin a family of gauges that the table has."""
    metric = TABLE[name]
    return GaugeMetricFamily(metric.name, metric.text, labels=metric.labels)


def counter(name: str) -> CounterMetricFamily:
    """Begin a family of counters that the table has."""
    metric = TABLE[name]
    return CounterMetricFamily(metric.name, metric.text, labels=metric.labels)
