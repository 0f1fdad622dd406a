"""What the daemon shows to other programs: metrics, reports, quality flags, Grafana; it decides nothing."""

from dqm.export.alarm_metrics import AlarmMetrics
from dqm.export.annotator import Annotator
from dqm.export.grafana import Grafana
from dqm.export.metric_table import METRICS, SERIES_PER_NUISANCE, SERIES_PER_STREAM, SIGN_INS, Metric
from dqm.export.metrics import Metrics
from dqm.export.views import BundleFacts, describe_bundle

__all__ = [
    "METRICS",
    "SERIES_PER_NUISANCE",
    "SERIES_PER_STREAM",
    "SIGN_INS",
    "AlarmMetrics",
    "Annotator",
    "BundleFacts",
    "Grafana",
    "Metric",
    "Metrics",
    "describe_bundle",
]
