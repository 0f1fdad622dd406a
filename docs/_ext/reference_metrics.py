"""The table of metrics."""

from __future__ import annotations

from markdown_text import code, table

from dqm.export.metric_table import METRICS, MOST, SERIES_PER_NUISANCE, SERIES_PER_STREAM

__all__ = ["describe_metrics"]


def describe_metrics() -> str:
    """Write the metrics of the daemon, and the most values of each label within a stream."""
    rows = [
        (code(metric.name), metric.kind, ", ".join(map(code, metric.labels)) or "none", metric.text)
        for metric in METRICS
    ]
    bounds = table(("label", "most values in a stream"), [(code(n), str(most)) for n, most in MOST.items()])
    return (
        f"A stream adds at most {SERIES_PER_STREAM} series, and {SERIES_PER_NUISANCE} for each nuisance "
        f"parameter.\n\n{table(('name', 'type', 'labels', 'meaning'), rows)}\n{bounds}"
    )
