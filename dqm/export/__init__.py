"""What the daemon shows: metrics and health over HTTP; it decides nothing."""

from dqm.export.alarm_metrics import AlarmMetrics
from dqm.export.annotator import Annotator
from dqm.export.grafana import Grafana
from dqm.export.http import HttpServer, create_app
from dqm.export.metrics import Metrics
from dqm.export.table import METRICS, SERIES_PER_NUISANCE, SERIES_PER_STREAM, Metric

__all__ = [
    "METRICS",
    "SERIES_PER_NUISANCE",
    "SERIES_PER_STREAM",
    "AlarmMetrics",
    "Annotator",
    "Grafana",
    "HttpServer",
    "Metric",
    "Metrics",
    "create_app",
]
